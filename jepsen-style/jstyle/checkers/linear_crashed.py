"""What a search must know of crashed calls: how many of each kind there are, and when using one can help at all.

Where every call of a partition tells at most one state from all others, a crashed call is worth using only while an
open call looks for the state it gives: were the next call that acts a blind one, the use could be left out.

Rule: nothing here walks the history; ``linear_search`` tells it what begins and ends.
"""

from __future__ import annotations

from jstyle.checkers.models import BLIND, SHARP, State
from jstyle.checkers.partition import Partition


def crashed_kinds(part: Partition, kinds: list[int]) -> dict[int, list[int]]:
    """The crashed calls by kind, each list in order of invocation."""
    found: dict[int, list[int]] = {}
    for number, end in enumerate(part.ends):
        if end < 0:
            found.setdefault(kinds[number], []).append(number)
    return found


class Group:
    """Crashed calls of one kind. ``unit`` is one use, as added to a configuration; ``gives`` the state after it."""

    __slots__ = ("available", "gives", "kind", "members", "shift", "table", "unit")

    def __init__(self, kind: int, table: dict[int, int], members: list[int], shift: int) -> None:
        self.kind = kind
        self.table = table
        self.members = members
        self.shift = shift
        self.unit = 1 << shift
        self.available = 0
        self.gives: State = None


class Watch:
    """Which states are looked for: by open calls now (``wanted``), and by any call from now on (``ahead``).

    ``sights`` is empty when some call tells more than one state from the others; then everything counts as wanted.
    """

    __slots__ = ("ahead", "sights", "wanted")

    def __init__(self, part: Partition) -> None:
        self.wanted: dict[State, int] = {}
        self.ahead: dict[State, int] = {}
        self.sights: list[State] = []
        if -1 not in part.ends:
            return
        sights = [part.model.sight(step) for step in part.steps]
        if SHARP in sights:
            return
        self.sights = sights
        for sight in sights:
            if sight is not BLIND:
                self.ahead[sight] = self.ahead.get(sight, 0) + 1

    def begins(self, number: int) -> None:
        """A call, crashed or not, can act from now on."""
        if self.sights:
            sight = self.sights[number]
            self.wanted[sight] = self.wanted.get(sight, 0) + 1

    def ends(self, number: int) -> bool:
        """A call returned; whether it was the last that looked for its state."""
        if not self.sights or self.sights[number] is BLIND:
            return False
        sight = self.sights[number]
        self.wanted[sight] -= 1
        self.ahead[sight] -= 1
        return self.ahead[sight] == 0
