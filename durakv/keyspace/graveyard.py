"""Large values that nobody can reach any more, taken apart a little at a time. [compiled]

Freeing ten million elements takes a good part of a second, in which nobody is served. What was deleted is put here
instead, and the node's upkeep takes away some elements now and then.
Rule: no part of replicated state, and whatever somebody else still refers to is left alone: a renamed value, or one
that an undone unit puts back. It must not know keys or commands.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Final

from durakv.keyspace import journal
from durakv.keyspace.values.blocks import Blocks
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamnode import Node
from durakv.keyspace.values.zset import ZSet

# Smaller ones are gone faster than they could be kept.
_LARGE: Final = 2048
# A node of a stream is packed: freeing it takes about as long as so many elements.
_NODE_COST: Final = 16


class Graveyard:
    """``held``: values and the containers they are made of, the one that is taken apart last."""

    def __init__(self) -> None:
        self.held: list[object] = [object()]
        # What a reference count says of something only ``held`` has; it depends on how this module is run.
        self._alone = self._owners()
        self.held.clear()
        # Values that were taken apart completely.
        self.freed = 0

    def bury(self, value: object) -> None:
        """The value has left its key, or will have when its unit ends. Constant time."""
        if type(value) is bytes:
            return
        if _elements(value) >= _LARGE:
            self.held.append(value)

    def bury_whole(self, container: object, size: int) -> None:
        """So has a whole container of ``size`` things in all."""
        if size >= _LARGE:
            self.held.append(container)

    def dig(self, elements_max: int) -> bool:
        """Take about so many elements away; False when nothing is left. Never inside a unit."""
        held = self.held
        if held:
            # The last unit has ended, so nothing will be put back.
            journal.steps.clear()
        left = elements_max
        while held and left > 0:
            if self._owners() != self._alone:
                held.pop()
                continue
            left -= self._dig_last(left)
        return len(held) > 0

    def _owners(self) -> int:
        return sys.getrefcount(self.held[-1])

    def _dig_last(self, left: int) -> int:
        held = self.held
        last = held[-1]
        if isinstance(last, list):
            return self._dig_list(last, left)
        if isinstance(last, dict):
            return self._dig_dict(last, left)
        if isinstance(last, deque):
            return self._dig_deque(last, left)
        parts = _parts(last)
        held.pop()
        held += parts
        self.freed += 1
        return 1

    def _dig_list(self, last: list[Any], left: int) -> int:
        if not last:
            self.held.pop()
            return 1
        if type(last[-1]) in (bytes, int, tuple):
            count = min(left, len(last))
            del last[len(last) - count :]
            return count
        return self._gone(last.pop())

    def _dig_dict(self, last: dict[Any, Any], left: int) -> int:
        if not last:
            self.held.pop()
            return 1
        dug = 0
        while last and dug < left:
            _, value = last.popitem()
            count = self._gone(value)
            dug += count
            if count == 0:
                # It lies on top now.
                break
        return dug

    def _dig_deque(self, last: deque[Any], left: int) -> int:
        if not last:
            self.held.pop()
            return 1
        if isinstance(last[-1], deque):
            self.held.append(last.pop())
            return 1
        count = min(left, len(last))
        for _ in range(count):
            last.pop()
        return count

    def _gone(self, value: object) -> int:
        """Something that was in a container: as many elements as freeing it takes away, 0 for what is buried too."""
        if value is None or type(value) is bytes:
            return 1
        if isinstance(value, (list, dict)):
            # Of another container.
            self.held.append(value)
            return 0
        if isinstance(value, Node):
            return _NODE_COST
        count = _elements(value)
        if count >= _LARGE:
            self.held.append(value)
            return 0
        return count + 1


def _elements(value: object) -> int:
    if isinstance(value, Hash):
        return len(value.fields)
    if isinstance(value, ListValue):
        return len(value.items)
    if isinstance(value, SetValue):
        return len(value.members)
    if isinstance(value, ZSet):
        return len(value.scores)
    if isinstance(value, Stream):
        return len(value.nodes) * _NODE_COST
    return 0


def _parts(value: object) -> list[object]:
    """The containers a value is made of."""
    if isinstance(value, Hash):
        return [value.fields] if value.deadlines is None else [value.fields, value.deadlines.at_ms]
    if isinstance(value, ListValue):
        items = value.items
        return [items.blocks] if isinstance(items, Blocks) else [items]
    if isinstance(value, SetValue):
        return [value.positions, value.members]
    if isinstance(value, ZSet):
        return [value.last_names, value.names, value.orders, value.scores]
    if isinstance(value, Stream):
        return [value.nodes]
    return []
