"""The elements of a long list: blocks of a few thousand, so that its middle is as near as its ends. [compiled]

A deque finds an element by walking over all its nodes of 64 from the nearer end, which for the middle of a million
elements are thousands; here the walk is over some hundred blocks.
Rule: behaves as the deque it takes the place of, for what ListValue asks of one. No block is empty but the only one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

# A full block; one that elements were put into may hold twice as many.
_BLOCK: Final = 2048
# A list that grows beyond this many elements is divided.
UNDIVIDED_MAX: Final = 8192


class Blocks:
    """Elements in order; ``length`` is how many."""

    __slots__ = ("blocks", "length")

    def __init__(self, elements: Iterable[bytes]) -> None:
        self.blocks: deque[deque[bytes]] = deque()
        self.length = 0
        source = iter(elements)
        while True:
            block = deque(islice(source, _BLOCK))
            if not block:
                break
            self.blocks.append(block)
            self.length += len(block)
        if not self.blocks:
            self.blocks.append(deque())

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.blocks)

    def __reversed__(self) -> Iterator[bytes]:
        return chain.from_iterable(map(reversed, reversed(self.blocks)))

    def copy(self) -> Blocks:
        """An independent one with the same elements."""
        return Blocks(self)

    def count(self, element: bytes) -> int:
        """How often it occurs."""
        found = 0
        for block in self.blocks:
            found += block.count(element)
        return found

    def index(self, element: bytes) -> int:
        """Where it occurs first. Raises ValueError where it does not."""
        before = 0
        for block in self.blocks:
            if element in block:
                return before + block.index(element)
            before += len(block)
        raise ValueError("not in the list")

    # -- ends ---------------------------------------------------------------------------------------------------------

    def append(self, element: bytes) -> None:
        """Put it behind the tail."""
        block = self.blocks[-1]
        if len(block) >= _BLOCK:
            block = deque()
            self.blocks.append(block)
        block.append(element)
        self.length += 1

    def appendleft(self, element: bytes) -> None:
        """Put it before the head."""
        block = self.blocks[0]
        if len(block) >= _BLOCK:
            block = deque()
            self.blocks.appendleft(block)
        block.appendleft(element)
        self.length += 1

    def extend(self, elements: list[bytes]) -> None:
        """Put them behind the tail in order."""
        for element in elements:
            self.append(element)

    def extendleft(self, elements: list[bytes]) -> None:
        """Put them before the head one by one."""
        for element in elements:
            self.appendleft(element)

    def pop(self) -> bytes:
        """Take the tail. Raises IndexError when empty."""
        block = self.blocks[-1]
        element = block.pop()
        self.length -= 1
        if not block and self.length:
            self.blocks.pop()
        return element

    def popleft(self) -> bytes:
        """Take the head. Raises IndexError when empty."""
        block = self.blocks[0]
        element = block.popleft()
        self.length -= 1
        if not block and self.length:
            self.blocks.popleft()
        return element

    # -- middle -------------------------------------------------------------------------------------------------------

    def place(self, position: int) -> tuple[int, int]:
        """Number of the block an existing ``position`` is in, and the place there; of the length: behind the last."""
        blocks = self.blocks
        if 2 * position <= self.length:
            number = 0
            for block in blocks:
                size = len(block)
                if position < size:
                    return number, position
                position -= size
                number += 1
            return number - 1, position + len(blocks[-1])
        number = len(blocks) - 1
        behind = self.length - position
        for block in reversed(blocks):
            size = len(block)
            if behind <= size:
                return number, size - behind
            behind -= size
            number -= 1
        raise IndexError("list index out of range")

    def _existing(self, position: int) -> tuple[int, int]:
        if position < 0:
            position += self.length
        if not 0 <= position < self.length:
            raise IndexError("list index out of range")
        return self.place(position)

    def __getitem__(self, position: int) -> bytes:
        number, at = self._existing(position)
        return self.blocks[number][at]

    def __setitem__(self, position: int, element: bytes) -> None:
        number, at = self._existing(position)
        self.blocks[number][at] = element

    def __delitem__(self, position: int) -> None:
        number, at = self._existing(position)
        block = self.blocks[number]
        del block[at]
        self.length -= 1
        if not block and self.length:
            del self.blocks[number]

    def insert(self, position: int, element: bytes) -> None:
        """Put it before the one at ``position``, 0 to length."""
        number, at = self.place(position)
        block = self.blocks[number]
        block.insert(at, element)
        self.length += 1
        if len(block) >= 2 * _BLOCK:
            second = deque(islice(block, _BLOCK, None))
            for _ in range(len(second)):
                block.pop()
            self.blocks.insert(number + 1, second)

    def part(self, start: int, count: int) -> list[bytes]:
        """So many elements from ``start`` on; all exist."""
        number, at = self.place(start)
        out: list[bytes] = []
        blocks = self.blocks
        while count > 0:
            block = blocks[number]
            taken = list(islice(block, at, at + count)) if at or count < len(block) else list(block)
            count -= len(taken)
            out = taken if not out else out + taken
            number += 1
            at = 0
        return out


Items = deque[bytes] | Blocks


def items_of(elements: list[bytes]) -> Items:
    """What holds the elements of a list: a deque, or blocks for many."""
    return deque(elements) if len(elements) <= UNDIVIDED_MAX else Blocks(elements)
