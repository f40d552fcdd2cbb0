"""Where each slot is served: by this group, or by another one this node has heard of. [compiled]

Rule: what this group owns is replicated state (cluster/handoff/state.py) and decides; what is known of other groups is
a hint for redirections. It must not know how hints travel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.cluster.redirect import DOWN, NOT_SERVED
from durakv.cluster.redirect import moved as moved_text
from durakv.keyspace.slots import SLOTS

if TYPE_CHECKING:
    from durakv.cluster.handoff.hub import Handoff
    from durakv.cluster.handoff.state import State
    from durakv.engine.engine import Engine

# A cluster with one group, and the epoch of slots since a group was founded.
ONLY_GROUP: Final = 1
FIRST_EPOCH: Final = 1
ALL_SLOTS: Final = ((0, SLOTS - 1, FIRST_EPOCH),)
# The group of a newcomer that has not read anything of its log.
UNKNOWN_GROUP: Final = 0

Whereabouts = Callable[[int], tuple[str, int] | None]


class Places:
    """``serves[slot]`` is 1 while this group executes commands on the slot."""

    def __init__(self, handoff: Handoff) -> None:
        self.handoff = handoff
        # Both stay the same objects whatever becomes of their content.
        self.state: State = handoff.state
        self.serves: bytearray = handoff.state.serves
        # Host and port of the leader of the group that is known to own a slot.
        self.elsewhere: Whereabouts = _unknown

    def unknown(self) -> None:
        """This node joins a group; which slots are the group's it has to read first."""
        self.handoff.begin(UNKNOWN_GROUP, ())

    def found(self, group: int, slots: list[tuple[int, int]]) -> None:
        """The group's slots when it was founded, as its log begins."""
        self.handoff.begin(group, tuple((first, last, FIRST_EPOCH) for first, last in slots))

    def is_known(self) -> bool:
        """Whether the group's slots are known."""
        return self.state.group != UNKNOWN_GROUP

    def is_as_founded(self) -> bool:
        """Whether the log has said nothing of slots since the group was founded."""
        return self.state.applied == 0


def moved(engine: Engine, slot: int) -> str:
    """The redirection of a client that asks for ``slot``, or that nobody is known to serve it."""
    if engine.places.handoff.claims(slot):
        # A fenced one too: its leader lets clients wait until it is decided whose it will be.
        for member in engine.consensus.view().members:
            if member.node_id == engine.leader_id:
                return moved_text(slot, member.client_host, member.client_port)
        return DOWN
    there = engine.places.elsewhere(slot)
    return NOT_SERVED if there is None else moved_text(slot, there[0], there[1])


def _unknown(slot: int) -> tuple[str, int] | None:
    return None
