"""A sorted set: scores by member, and (score, member) pairs in sorted blocks. [compiled]

Order is by score, then by member bytes. A block holds some hundred pairs: inserting moves only its pointers, and a
rank is the sum of the lengths of the blocks before it, kept for groups of blocks. How pairs are cut into blocks is
never visible. Its scores and its members are two lists: a search looks at scores alone, and nothing is kept per pair.
There is no minus zero: a listpack cannot hold one, and whether a sorted set is a listpack must not change a score.
Rule: every mutator journals its inverse. ``entries_max`` and ``value_size_max`` are zset-max-listpack-entries and
-value; they decide only the encoding's name.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import ClassVar, Final, TypeAlias

from durakv.keyspace.journal import steps
from durakv.keyspace.values.packed import netstring
from durakv.keyspace.values.touched import Touched

Pair: TypeAlias = tuple[float, bytes]

_UNDO_SCORE: Final = 1
_UNDO_PACKED: Final = 2

# A block is cut in two above the first size and joined with a neighbour below the second.
_BLOCK_MAX: Final = 1024
_BLOCK_MIN: Final = 128
_BLOCK_BUILT: Final = 512
# Blocks are counted in groups of 64.
_GROUP_BITS: Final = 6


def _position(scores: list[float], members: list[bytes], score: float, member: bytes) -> int:
    """How many of the sorted pairs come before (score, member); members count only where scores are equal."""
    low, high = 0, len(scores)
    while low < high:
        middle = (low + high) >> 1
        other = scores[middle]
        if other < score or (other == score and members[middle] < member):
            low = middle + 1
        else:
            high = middle
    return low


class ZSet:
    """``orders[i]`` are the scores of block i, ``names[i]`` its members; ``last_scores[i]`` and ``last_names[i]`` its
    greatest pair. ``packed``: small enough so far to be called a listpack.

    ``counts`` are the numbers of pairs in each group of blocks; empty until the next look at them.
    """

    __slots__ = ("counts", "last_names", "last_scores", "names", "orders", "packed", "scores", "tracker")

    kind: ClassVar[bytes] = b"zset"
    entries_max: Final = 128
    value_size_max: Final = 64

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self.orders: list[list[float]] = []
        self.names: list[list[bytes]] = []
        self.last_scores: list[float] = []
        self.last_names: list[bytes] = []
        self.counts: list[int] = []
        self.packed = True
        # See touched.
        self.tracker: Touched | None = None

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
        return self._before(score, member)

    def below(self, score: float) -> int:
        """How many scores are < ``score``."""
        return self._before(score, b"")

    def through(self, score: float) -> int:
        """How many scores are <= ``score``."""
        if score == math.inf:
            return len(self.scores)
        return self._before(math.nextafter(score, math.inf), b"")

    def lex_below(self, member: bytes) -> int:
        """How many members are < ``member``, given that all scores are equal."""
        names = self.names
        low, high = 0, len(names)
        while low < high:
            middle = (low + high) // 2
            if self.last_names[middle] < member:
                low = middle + 1
            else:
                high = middle
        if low == len(names):
            return len(self.scores)
        return self._start_of(low) + bisect_left(names[low], member)

    def slice(self, start: int, stop: int) -> list[Pair]:
        """Pairs of rank ``start`` up to, not including, ``stop``; 0 <= start, stop <= length."""
        if start >= stop:
            return []
        orders = self.orders
        names = self.names
        number, at = self._holding(start)
        first = start - at
        out: list[Pair] = list(zip(orders[number][first : stop - at], names[number][first : stop - at], strict=True))
        at += len(names[number])
        while at < stop:
            number += 1
            out.extend(zip(orders[number][: stop - at], names[number][: stop - at], strict=True))
            at += len(names[number])
        return out

    def members(self, start: int, stop: int) -> list[bytes]:
        """slice() without the scores."""
        if start >= stop:
            return []
        names = self.names
        number, at = self._holding(start)
        out = names[number][start - at : stop - at]
        at += len(names[number])
        while at < stop:
            number += 1
            out.extend(names[number][: stop - at])
            at += len(names[number])
        return out

    def encoding(self) -> bytes:
        """The name OBJECT ENCODING shows. Source: t_zset.c zsetAdd(), zsetTypeCreate()."""
        return b"listpack" if self.packed else b"skiplist"

    def canonical(self) -> bytes:
        """Content as bytes, equal for equal content whatever the order of insertion."""
        out: list[bytes] = []
        for score, member in self.slice(0, len(self.scores)):
            out.append(netstring(member))
            out.append(netstring(repr(score).encode()))
        return b"".join(out)

    def copy(self) -> ZSet:
        """An independent sorted set with the same content and encoding."""
        twin = ZSet()
        twin.scores = self.scores.copy()
        twin.orders = [block.copy() for block in self.orders]
        twin.names = [block.copy() for block in self.names]
        twin.last_scores = self.last_scores.copy()
        twin.last_names = self.last_names.copy()
        twin.packed = self.packed
        return twin

    # -- writing --------------------------------------------------------------------------------------------------

    def set(self, member: bytes, score: float) -> None:
        """Add ``member`` or change its score; ``score`` is not NaN, and minus zero becomes zero."""
        score += 0.0
        old = self.scores.get(member)
        if old is not None:
            self._take(old, member)
        elif self.packed and (len(self.scores) >= ZSet.entries_max or len(member) > ZSet.value_size_max):
            self.unpack()
        self.scores[member] = score
        self._place(score, member)
        steps.append((self, _UNDO_SCORE, member, old))
        tracker = self.tracker
        if tracker is not None:
            if old is None:
                tracker.fresh(member)
            else:
                tracker.updated(member)

    def remove(self, member: bytes) -> bool:
        """Remove one member; False when it was not there."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        self._take(score, member)
        steps.append((self, _UNDO_SCORE, member, score))
        if self.tracker is not None:
            self.tracker.updated(member)
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
        for i in range(0, len(pairs), _BLOCK_BUILT):
            block = pairs[i : i + _BLOCK_BUILT]
            self.orders.append([pair[0] for pair in block])
            self.names.append([pair[1] for pair in block])
            last = block[len(block) - 1]
            self.last_scores.append(last[0])
            self.last_names.append(last[1])
        self.packed = len(scores) <= ZSet.entries_max
        if self.packed:
            for member in scores:
                if len(member) > ZSet.value_size_max:
                    self.packed = False
                    break

    def expect(self, count: int, size_max: int) -> None:
        """Say that one command brings ``count`` members of up to ``size_max`` bytes; too many end a listpack."""
        if self.packed and (count > ZSet.entries_max or size_max > ZSet.value_size_max):
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
        if self.tracker is not None:
            # It comes back as the last one, also where only its score is put back.
            self.tracker.fresh(a)
        if now is not None:
            self._take(now, a)
        if b is not None:
            self.scores[a] = b
            self._place(b, a)

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _start_of(self, number: int) -> int:
        """Rank of the first pair of block ``number``."""
        if not self.counts:
            self._count()
        group = number >> _GROUP_BITS
        return sum(self.counts[:group]) + sum(map(len, self.names[group << _GROUP_BITS : number]))

    def _count(self) -> None:
        names = self.names
        size = 1 << _GROUP_BITS
        self.counts = [sum(map(len, names[first : first + size])) for first in range(0, len(names), size)]

    def _holding(self, rank: int) -> tuple[int, int]:
        """(number, rank of its first pair) of the block with the pair of this rank, which exists."""
        names = self.names
        number = len(names) - 1
        at = len(self.scores) - len(names[number])
        if rank >= at:
            return number, at
        if not self.counts:
            self._count()
        counts = self.counts
        at = 0
        group = 0
        while at + counts[group] <= rank:
            at += counts[group]
            group += 1
        number = group << _GROUP_BITS
        while at + len(names[number]) <= rank:
            at += len(names[number])
            number += 1
        return number, at

    def _before(self, score: float, member: bytes) -> int:
        """How many pairs are < (score, member)."""
        number = _position(self.last_scores, self.last_names, score, member)
        if number == len(self.names):
            return len(self.scores)
        return self._start_of(number) + _position(self.orders[number], self.names[number], score, member)

    def _place(self, score: float, member: bytes) -> None:
        lasts = self.last_scores
        if not lasts:
            self.orders.append([score])
            self.names.append([member])
            lasts.append(score)
            self.last_names.append(member)
            return
        number = _position(lasts, self.last_names, score, member)
        if number == len(lasts):
            number -= 1
            order = self.orders[number]
            order.append(score)
            self.names[number].append(member)
            lasts[number] = score
            self.last_names[number] = member
        else:
            order = self.orders[number]
            names = self.names[number]
            position = _position(order, names, score, member)
            order.insert(position, score)
            names.insert(position, member)
        if self.counts:
            self.counts[number >> _GROUP_BITS] += 1
        if len(order) > _BLOCK_MAX:
            self._split(number)

    def _take(self, score: float, member: bytes) -> None:
        number = _position(self.last_scores, self.last_names, score, member)
        order = self.orders[number]
        names = self.names[number]
        position = _position(order, names, score, member)
        del order[position]
        del names[position]
        if self.counts:
            self.counts[number >> _GROUP_BITS] -= 1
        if len(order) < _BLOCK_MIN and len(self.orders) > 1:
            self._join(number)
        elif not order:
            self.orders.clear()
            self.names.clear()
            self.last_scores.clear()
            self.last_names.clear()
            self.counts = []
        elif position == len(order):
            self._note_last(number)

    def _note_last(self, number: int) -> None:
        order = self.orders[number]
        at = len(order) - 1
        self.last_scores[number] = order[at]
        self.last_names[number] = self.names[number][at]

    def _split(self, number: int) -> None:
        self.counts = []
        order = self.orders[number]
        names = self.names[number]
        half = len(order) // 2
        self.orders.insert(number + 1, order[half:])
        self.names.insert(number + 1, names[half:])
        # The greatest pair goes to the second half.
        self.last_scores.insert(number + 1, self.last_scores[number])
        self.last_names.insert(number + 1, self.last_names[number])
        del order[half:]
        del names[half:]
        self._note_last(number)

    def _join(self, number: int) -> None:
        """Merge a small block with a neighbour; there are at least two."""
        left = number - 1 if number else 0
        self.counts = []
        self.orders[left].extend(self.orders[left + 1])
        self.names[left].extend(self.names[left + 1])
        del self.orders[left + 1]
        del self.names[left + 1]
        del self.last_scores[left + 1]
        del self.last_names[left + 1]
        self._note_last(left)
        if len(self.orders[left]) > _BLOCK_MAX:
            self._split(left)
