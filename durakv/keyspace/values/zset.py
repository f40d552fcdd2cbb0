"""A sorted set: scores by member, and (score, member) pairs in sorted blocks. [compiled]

Order is by score, then by member bytes. A block holds some hundred pairs: inserting moves only its pointers, and a
rank is the sum of the lengths of the blocks before it. How pairs are cut into blocks is never visible.
There is no minus zero: a listpack cannot hold one, and whether a sorted set is a listpack must not change a score.
Rule: every mutator journals its inverse. ``entries_max`` and ``value_size_max`` are zset-max-listpack-entries and
-value; they decide only the encoding's name.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import ClassVar, Final, TypeAlias

from durakv.keyspace.journal import steps
from durakv.keyspace.values.packed import netstring

Pair: TypeAlias = tuple[float, bytes]

_UNDO_SCORE: Final = 1
_UNDO_PACKED: Final = 2

# A block is cut in two above the first size and joined with a neighbour below the second.
_BLOCK_MAX: Final = 1024
_BLOCK_MIN: Final = 128
_BLOCK_BUILT: Final = 512


class ZSet:
    """``lasts[i]`` is the greatest pair of ``blocks[i]``; ``packed``: small enough so far to be called a listpack."""

    __slots__ = ("blocks", "lasts", "packed", "scores")

    kind: ClassVar[bytes] = b"zset"
    entries_max: ClassVar[int] = 128
    value_size_max: ClassVar[int] = 64

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.blocks: list[list[Pair]] = []
        self.lasts: list[Pair] = []
        self.packed = True

    def __len__(self) -> int:
        return len(self.scores)

    # -- reading --------------------------------------------------------------------------------------------------

    def score(self, member: bytes) -> float | None:
        """The score of ``member`` or None."""
        return self.scores.get(member)

    def rank(self, member: bytes) -> int:
        """How many pairs come before ``member``'s; -1 when it is not there."""
        score = self.scores.get(member)
        if score is None:
            return -1
        return self._before((score, member))

    def below(self, score: float) -> int:
        """How many scores are < ``score``."""
        return self._before((score, b""))

    def through(self, score: float) -> int:
        """How many scores are <= ``score``."""
        if score == math.inf:
            return len(self.scores)
        return self._before((math.nextafter(score, math.inf), b""))

    def lex_below(self, member: bytes) -> int:
        """How many members are < ``member``, given that all scores are equal."""
        blocks = self.blocks
        low, high = 0, len(blocks)
        while low < high:
            middle = (low + high) // 2
            if self.lasts[middle][1] < member:
                low = middle + 1
            else:
                high = middle
        if low == len(blocks):
            return len(self.scores)
        block = blocks[low]
        before = self._start_of(low)
        low, high = 0, len(block)
        while low < high:
            middle = (low + high) // 2
            if block[middle][1] < member:
                low = middle + 1
            else:
                high = middle
        return before + low

    def slice(self, start: int, stop: int) -> list[Pair]:
        """Pairs of rank ``start`` up to, not including, ``stop``; 0 <= start, stop <= length."""
        if start >= stop:
            return []
        blocks = self.blocks
        size = len(self.scores)
        # Walk to the first block from the nearer end.
        if start <= size // 2:
            number = 0
            at = 0
            while at + len(blocks[number]) <= start:
                at += len(blocks[number])
                number += 1
        else:
            number = len(blocks) - 1
            at = size - len(blocks[number])
            while at > start:
                number -= 1
                at -= len(blocks[number])
        out = blocks[number][start - at : stop - at]
        at += len(blocks[number])
        while at < stop:
            number += 1
            out.extend(blocks[number][: stop - at])
            at += len(blocks[number])
        return out

    def encoding(self) -> bytes:
        """The name OBJECT ENCODING shows. Source: t_zset.c zsetAdd(), zsetTypeCreate()."""
        return b"listpack" if self.packed else b"skiplist"

    def canonical(self) -> bytes:
        """Content as bytes, equal for equal content whatever the order of insertion."""
        out: list[bytes] = []
        for block in self.blocks:
            for score, member in block:
                out.append(netstring(member))
                out.append(netstring(repr(score).encode()))
        return b"".join(out)

    def copy(self) -> ZSet:
        """An independent sorted set with the same content and encoding."""
        twin = ZSet()
        twin.scores = self.scores.copy()
        twin.blocks = [block.copy() for block in self.blocks]
        twin.lasts = self.lasts.copy()
        twin.packed = self.packed
        return twin

    # -- writing --------------------------------------------------------------------------------------------------

    def set(self, member: bytes, score: float) -> None:
        """Add ``member`` or change its score; ``score`` is not NaN, and minus zero becomes zero."""
        score += 0.0
        old = self.scores.get(member)
        if old is not None:
            self._take((old, member))
        elif self.packed and (len(self.scores) >= self.entries_max or len(member) > self.value_size_max):
            self.unpack()
        self.scores[member] = score
        self._place((score, member))
        steps.append((self, _UNDO_SCORE, member, old))

    def remove(self, member: bytes) -> bool:
        """Remove one member; False when it was not there."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        self._take((score, member))
        steps.append((self, _UNDO_SCORE, member, score))
        return True

    def fill(self, scores: dict[bytes, float]) -> None:
        """Take over ``scores`` as the content of a new, empty sorted set that no key holds yet."""
        assert not self.scores
        for member, score in scores.items():
            if score == 0.0:
                scores[member] = 0.0
        self.scores = scores
        pairs: list[Pair] = [(score, member) for member, score in scores.items()]
        pairs.sort()
        self.blocks = [pairs[i : i + _BLOCK_BUILT] for i in range(0, len(pairs), _BLOCK_BUILT)]
        self.lasts = [block[-1] for block in self.blocks]
        self.packed = len(scores) <= self.entries_max
        if self.packed:
            for member in scores:
                if len(member) > self.value_size_max:
                    self.packed = False
                    break

    def expect(self, count: int, size_max: int) -> None:
        """Say that one command brings ``count`` members of up to ``size_max`` bytes; too many end a listpack."""
        if self.packed and (count > self.entries_max or size_max > self.value_size_max):
            self.unpack()

    def unpack(self) -> None:
        """From now on a skiplist."""
        self.packed = False
        steps.append((self, _UNDO_PACKED, None, None))

    def undo(self, op: int, a: bytes | None, b: float | None) -> None:
        """Revert one journal step."""
        if op == _UNDO_PACKED:
            self.packed = True
            return
        assert op == _UNDO_SCORE
        assert a is not None
        now = self.scores.pop(a, None)
        if now is not None:
            self._take((now, a))
        if b is not None:
            self.scores[a] = b
            self._place((b, a))

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _start_of(self, number: int) -> int:
        """Rank of the first pair of block ``number``."""
        blocks = self.blocks
        if number <= len(blocks) // 2:
            return sum(map(len, blocks[:number]))
        return len(self.scores) - sum(map(len, blocks[number:]))

    def _before(self, bound: Pair) -> int:
        """How many pairs are < ``bound``."""
        number = bisect_left(self.lasts, bound)
        if number == len(self.blocks):
            return len(self.scores)
        return self._start_of(number) + bisect_left(self.blocks[number], bound)

    def _place(self, pair: Pair) -> None:
        lasts = self.lasts
        if not lasts:
            self.blocks.append([pair])
            lasts.append(pair)
            return
        number = bisect_left(lasts, pair)
        if number == len(lasts):
            number -= 1
            block = self.blocks[number]
            block.append(pair)
            lasts[number] = pair
        else:
            block = self.blocks[number]
            insort(block, pair)
        if len(block) > _BLOCK_MAX:
            self._split(number)

    def _take(self, pair: Pair) -> None:
        number = bisect_left(self.lasts, pair)
        block = self.blocks[number]
        position = bisect_left(block, pair)
        del block[position]
        if len(block) < _BLOCK_MIN and len(self.blocks) > 1:
            self._join(number)
        elif not block:
            self.blocks.clear()
            self.lasts.clear()
        elif position == len(block):
            self.lasts[number] = block[-1]

    def _split(self, number: int) -> None:
        block = self.blocks[number]
        half = len(block) // 2
        upper = block[half:]
        del block[half:]
        self.blocks.insert(number + 1, upper)
        self.lasts[number] = block[-1]
        self.lasts.insert(number + 1, upper[-1])

    def _join(self, number: int) -> None:
        """Merge a small block with a neighbour; there are at least two."""
        left = number - 1 if number else 0
        merged = self.blocks[left]
        merged.extend(self.blocks[left + 1])
        del self.blocks[left + 1]
        del self.lasts[left + 1]
        self.lasts[left] = merged[-1]
        if len(merged) > _BLOCK_MAX:
            self._split(left)
