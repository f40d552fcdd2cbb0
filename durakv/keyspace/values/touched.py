"""Which elements of a large collection differ from what its checkpoint rows say. [compiled]

A collection has one of these only while it is stored element by element; who changes an element notes it here, also
when a change is undone, and who writes the changes down (checkpoint/capture.py) starts afresh with ``clear()``.
Rule: notes names of elements, never values: what is written is their state at that time. ``kid`` names the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durakv.keyspace.values.streamgroup import Group

# An element that is there again, or for the first time: it comes after all others.
FRESH: Final = 1
# An element that may have changed and stays at its place, or one that is gone.
UPDATED: Final = 2


class Touched:
    """For hashes and sorted sets. ``marks`` by element, in the order in which fresh ones came."""

    __slots__ = ("kid", "marks", "next_order", "whole")

    def __init__(self, kid: int, next_order: int) -> None:
        self.kid = kid
        self.next_order = next_order
        self.marks: dict[bytes, int] = {}
        self.whole = False

    def fresh(self, element: bytes) -> None:
        """The element was not there before this change."""
        self.marks.pop(element, None)
        self.marks[element] = FRESH

    def updated(self, element: bytes) -> None:
        """The element changed, or went."""
        if element not in self.marks:
            self.marks[element] = UPDATED

    def clear(self) -> None:
        """All is written."""
        self.marks = {}


class TouchedPlaces:
    """For sets. ``places`` that hold another member than the rows say; ``length`` of the set as the rows have it.
    ``gone``: members that went, and may be back.
    """

    __slots__ = ("gone", "kid", "length", "places", "whole")

    def __init__(self, kid: int, length: int) -> None:
        self.kid = kid
        self.length = length
        self.places: dict[int, None] = {}
        self.gone: dict[bytes, None] = {}
        self.whole = False

    def clear(self, length: int) -> None:
        """All is written."""
        self.places = {}
        if self.gone:
            self.gone = {}
        self.length = length


class TouchedEnds:
    """For lists: rows hold positions ``stored_head`` up to, not including, ``stored_tail``. An element keeps its
    position when others come or go at the ends; the list now begins at ``head``.

    What lies from ``core_head`` up to ``core_tail`` was never popped since, so only ``places`` there may differ.
    ``whole``: elements moved in the middle, all have to be written again.
    """

    __slots__ = ("core_head", "core_tail", "head", "kid", "places", "stored_head", "stored_tail", "whole")

    def __init__(self, kid: int, head: int, length: int) -> None:
        self.kid = kid
        self.head = head
        self.stored_head = head
        self.stored_tail = head + length
        self.core_head = head
        self.core_tail = head + length
        self.places: dict[int, None] = {}
        self.whole = False

    def pushed_left(self, count: int) -> None:
        """``count`` elements came before the head."""
        self.head -= count

    def popped_left(self) -> None:
        """The head went."""
        self.head += 1
        if self.head > self.core_head:
            self.core_head = self.head

    def popped_right(self, length: int) -> None:
        """The tail went; ``length`` elements are left."""
        if self.head + length < self.core_tail:
            self.core_tail = self.head + length

    def replaced(self, position: int) -> None:
        """The element at ``position``, counted from the head, is another one."""
        self.places[self.head + position] = None

    def clear(self, length: int) -> None:
        """All is written."""
        self.stored_head = self.core_head = self.head
        self.stored_tail = self.core_tail = self.head + length
        self.places = {}


class TouchedGroup:
    """For one consumer group whose rows exist: its cursor, consumers by name, pending entries by id."""

    __slots__ = ("consumers", "cursor", "pending")

    def __init__(self) -> None:
        self.cursor = False
        self.consumers: dict[bytes, None] = {}
        self.pending: dict[int, None] = {}

    def clear(self) -> None:
        """All is written."""
        self.cursor = False
        self.consumers = {}
        self.pending = {}


class TouchedStream:
    """For streams: first ids of nodes; ``groups`` by name: those that went, and whether one is there says the stream.

    A group without a tracker of its own has no rows yet. ``gone``: ids in nodes that went and were not the first one;
    ``rewound``: the last id was set back, so new entries need not have greater ids than old ones. ``head``: last id,
    greatest deleted id and entries added when the rows were written, None until that is known.
    """

    __slots__ = ("gone", "groups", "head", "kid", "nodes", "rewound", "whole")

    def __init__(self, kid: int) -> None:
        self.kid = kid
        self.nodes: dict[int, None] = {}
        self.groups: dict[bytes, list[Group]] = {}
        self.gone: dict[int, None] = {}
        self.rewound = False
        self.head: tuple[int, int, int] | None = None
        self.whole = False

    def made(self, name: bytes) -> None:
        """There is a group of that name again, or for the first time."""
        self.groups.setdefault(name, [])

    def removed(self, name: bytes, group: Group) -> None:
        """``group`` is not in the stream any more."""
        self.groups.setdefault(name, []).append(group)

    def clear(self, last_id: int, max_deleted_id: int, entries_added: int) -> None:
        """All is written."""
        self.nodes = {}
        self.groups = {}
        if self.gone:
            self.gone = {}
        self.rewound = False
        self.head = (last_id, max_deleted_id, entries_added)


class TouchedChunks:
    """For large strings, which have nowhere to keep one: kept by key. ``length`` is what the rows hold, in bytes;
    ``text`` the string itself where it cannot change in place.
    """

    __slots__ = ("kid", "length", "text")

    def __init__(self, kid: int, length: int, text: bytes | None = None) -> None:
        self.kid = kid
        self.length = length
        self.text = text
