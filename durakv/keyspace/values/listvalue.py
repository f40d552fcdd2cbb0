"""A list: a deque of elements, or blocks of them when it is long, cheap at both ends. [compiled]

Rule: every mutator journals its inverse, and the inverse restores order exactly. It knows neither keys nor time; who
empties it removes its key. ``listpack_size`` is list-max-listpack-size: -1 to -5 limit bytes, above zero it limits
elements; it decides only the encoding's name.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, ClassVar, Final

from durakv.keyspace.journal import steps
from durakv.keyspace.values.blocks import UNDIVIDED_MAX, Blocks, Items, items_of
from durakv.keyspace.values.packed import LISTPACK_OVERHEAD, netstring, packed_size, packed_total
from durakv.keyspace.values.touched import TouchedEnds

_UNDO_PUSH_LEFT: Final = 1
_UNDO_PUSH_RIGHT: Final = 2
_UNDO_POP_LEFT: Final = 3
_UNDO_POP_RIGHT: Final = 4
_UNDO_SET: Final = 5
_UNDO_INSERT: Final = 6
_UNDO_REPLACED: Final = 7
_UNDO_QUICK: Final = 8

# A range of at most so many elements, so far from both ends, is cheaper read one by one.
_FEW: Final = 32
_FAR: Final = 1000

# Bytes per node for list-max-listpack-size -1 to -5. Source: quicklist.c optimization_level.
_NODE_SIZES: Final[list[int]] = [4096, 8192, 16384, 32768, 65536]
# A limit on elements still ends a listpack at this many bytes. Source: quicklist.c SIZE_SAFETY_LIMIT.
_SAFE_SIZE: Final = 8192


class ListValue:
    """``size`` is what the elements take as one listpack, in bytes; ``quick`` says the encoding is quicklist.

    ``tracker``: see touched.
    """

    __slots__ = ("items", "quick", "size", "tracker")

    kind: ClassVar[bytes] = b"list"
    listpack_size: ClassVar[int] = -2

    def __init__(self) -> None:
        self.items: Items = deque()
        self.size = LISTPACK_OVERHEAD
        self.quick = False
        self.tracker: TouchedEnds | None = None

    def __len__(self) -> int:
        return len(self.items)

    # -- reading --------------------------------------------------------------------------------------------------

    def at(self, position: int) -> bytes | None:
        """The element at ``position``, negative from the end; None outside."""
        n = len(self.items)
        if not -n <= position < n:
            return None
        return self.items[position]

    def range(self, start: int, stop: int) -> list[bytes]:
        """Elements ``start`` to ``stop``, both included and both within the list."""
        items = self.items
        if isinstance(items, Blocks):
            return items.part(start, stop - start + 1)
        n = len(items)
        if stop - start < _FEW and min(start, n - 1 - stop) > _FAR:
            # An iterator steps over every element before the first, an index over blocks of them.
            return [items[i] for i in range(start, stop + 1)]
        if start <= n - 1 - stop:
            return list(islice(items, start, stop + 1))
        # Nearer to the tail: skipping from there is shorter.
        out = list(islice(reversed(items), n - 1 - stop, n - start))
        out.reverse()
        return out

    def encoding(self) -> bytes:
        """The name OBJECT ENCODING shows.

        A quicklist becomes a listpack again when half a node would hold it all; upstream also asks that it occupy one
        node, which depends on where earlier elements were pushed. Source: t_list.c listTypeTryConvertQuicklist().
        """
        return b"quicklist" if self.quick else b"listpack"

    def canonical(self) -> bytes:
        """Content as bytes, in order."""
        return b"".join([netstring(item) for item in self.items])

    def copy(self) -> ListValue:
        """An independent list with the same content and encoding."""
        twin = ListValue()
        twin.items = self.items.copy()
        twin.size = self.size
        twin.quick = self.quick
        return twin

    # -- writing --------------------------------------------------------------------------------------------------

    def push_left(self, elements: list[bytes]) -> None:
        """Put ``elements`` before the head one by one, so that the last ends up first."""
        if not self.quick:
            self.grow(elements)
        elif len(self.items) > UNDIVIDED_MAX:
            self._divide()
        if len(elements) == 1:
            self.items.appendleft(elements[0])
        else:
            self.items.extendleft(elements)
        if self.tracker is not None:
            self.tracker.pushed_left(len(elements))
        self.size += packed_size(elements[0]) if len(elements) == 1 else packed_total(elements)
        steps.append((self, _UNDO_PUSH_LEFT, len(elements), None))

    def push_right(self, elements: list[bytes]) -> None:
        """Put ``elements`` after the tail, in order."""
        if not self.quick:
            self.grow(elements)
        elif len(self.items) > UNDIVIDED_MAX:
            self._divide()
        self.items.extend(elements)
        self.size += packed_size(elements[0]) if len(elements) == 1 else packed_total(elements)
        steps.append((self, _UNDO_PUSH_RIGHT, len(elements), None))

    def pop_left(self) -> bytes:
        """Remove and return the head of a list that is not empty."""
        item = self.items.popleft()
        if self.tracker is not None:
            self.tracker.popped_left()
        self.size -= packed_size(item)
        steps.append((self, _UNDO_POP_LEFT, item, None))
        if self.quick:
            self._shrink()
        return item

    def pop_right(self) -> bytes:
        """Remove and return the tail of a list that is not empty."""
        item = self.items.pop()
        if self.tracker is not None:
            self.tracker.popped_right(len(self.items))
        self.size -= packed_size(item)
        steps.append((self, _UNDO_POP_RIGHT, item, None))
        if self.quick:
            self._shrink()
        return item

    def set(self, position: int, element: bytes) -> None:
        """Replace the element at an existing ``position``."""
        if not self.quick:
            self.grow([element])
        items = self.items
        old = items[position]
        items[position] = element
        if self.tracker is not None:
            self.tracker.replaced(position if position >= 0 else len(items) + position)
        self.size += packed_size(element) - packed_size(old)
        steps.append((self, _UNDO_SET, position, old))
        if self.quick:
            self._shrink()

    def insert(self, position: int, element: bytes) -> None:
        """Put ``element`` before the one at ``position``, 0 to length. The caller has called grow()."""
        self.items.insert(position, element)
        self._moved()
        self.size += packed_size(element)
        steps.append((self, _UNDO_INSERT, position, None))

    def remove(self, count: int, element: bytes) -> int:
        """Remove the first ``count`` elements equal to ``element``, from the tail if negative, all if 0; how many."""
        old = self.items
        present = old.count(element)
        if present == 0:
            return 0
        left = min(abs(count), present) if count else present
        removed = left
        kept: deque[bytes] = deque()
        if count < 0:
            for item in reversed(old):
                if left and item == element:
                    left -= 1
                else:
                    kept.appendleft(item)
        else:
            for item in old:
                if left and item == element:
                    left -= 1
                else:
                    kept.append(item)
        self.items = kept if len(kept) <= UNDIVIDED_MAX else Blocks(kept)
        self._moved()
        steps.append((self, _UNDO_REPLACED, old, self.size))
        self.size -= removed * packed_size(element)
        if self.quick:
            self._shrink()
        return removed

    def trim(self, from_left: int, from_right: int) -> None:
        """Drop that many elements at each end; together at most the length."""
        items = self.items
        if from_left + from_right >= len(items) or from_left + from_right > len(items) // 2:
            # Fewer stay than go: build what stays.
            steps.append((self, _UNDO_REPLACED, items, self.size))
            self.items = items_of(self.range(from_left, len(items) - from_right - 1))
            self._moved()
            self.size = LISTPACK_OVERHEAD + packed_total(list(self.items))
        else:
            for _ in range(from_left):
                item = items.popleft()
                if self.tracker is not None:
                    self.tracker.popped_left()
                self.size -= packed_size(item)
                steps.append((self, _UNDO_POP_LEFT, item, None))
            for _ in range(from_right):
                item = items.pop()
                if self.tracker is not None:
                    self.tracker.popped_right(len(items))
                self.size -= packed_size(item)
                steps.append((self, _UNDO_POP_RIGHT, item, None))
        if self.quick:
            self._shrink()

    def grow(self, elements: list[bytes]) -> None:
        """Become a quicklist if a listpack with ``elements`` would be too large. Source: listTypeTryConvertListpack."""
        if self.quick:
            return
        size = self.size
        for element in elements:
            size += len(element)
        limit = self.listpack_size
        if limit < 0:
            too_large = size > _NODE_SIZES[min(-limit, 5) - 1]
        else:
            too_large = size > _SAFE_SIZE or len(self.items) + len(elements) > max(limit, 1)
        if too_large:
            self.quick = True
            steps.append((self, _UNDO_QUICK, False, None))

    def _divide(self) -> None:
        if not isinstance(self.items, Blocks):
            self.items = Blocks(self.items)

    def _moved(self) -> None:
        """Elements changed their positions."""
        if self.tracker is not None:
            self.tracker.whole = True

    def _shrink(self) -> None:
        limit = self.listpack_size
        if limit < 0:
            if self.size > _NODE_SIZES[min(-limit, 5) - 1] // 2:
                return
        elif len(self.items) > max(limit, 1) // 2:
            return
        self.quick = False
        steps.append((self, _UNDO_QUICK, True, None))

    # -- undo -----------------------------------------------------------------------------------------------------

    def undo(self, op: int, a: Any, b: Any) -> None:
        """Revert one journal step."""
        items = self.items
        self._moved()
        if op == _UNDO_PUSH_LEFT:
            for _ in range(a):
                self.size -= packed_size(items.popleft())
        elif op == _UNDO_PUSH_RIGHT:
            for _ in range(a):
                self.size -= packed_size(items.pop())
        elif op == _UNDO_POP_LEFT:
            items.appendleft(a)
            self.size += packed_size(a)
        elif op == _UNDO_POP_RIGHT:
            items.append(a)
            self.size += packed_size(a)
        elif op == _UNDO_SET:
            self.size += packed_size(b) - packed_size(items[a])
            items[a] = b
        elif op == _UNDO_INSERT:
            self.size -= packed_size(items[a])
            del items[a]
        elif op == _UNDO_REPLACED:
            self.items = a
            self.size = b
        else:
            assert op == _UNDO_QUICK
            self.quick = a
