"""Workloads whose keys are in slots of several groups: the same work under keys with hash tags.

A transaction stays within one slot, as it must; which one is drawn for each. Everything else puts a key into the slot
that its own name chooses. Rule: what is asked and how answers are read is the plain workload's.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final
from zlib import crc32

from jstyle.sim.groups import TAGS
from jstyle.sim.workloads.action import Action, Workload
from jstyle.sim.workloads.append import Appends
from jstyle.sim.workloads.collections import Sets
from jstyle.sim.workloads.expiry import Expiries
from jstyle.sim.workloads.register import Registers, UniqueRegisters
from jstyle.sim.workloads.sums import Counters

# The key of the one set, which its operations do not name.
THE_SET: Final = "s"


def tagged(name: str) -> str:
    """The key under the tag that its name chooses."""
    return f"{{{TAGS[crc32(name.encode()) % len(TAGS)]}}}{name}"


class SlotAppends(Appends):
    """Transactions, each within one slot."""

    # There are as many lists as tags at any time.
    epoch_ops = 60

    def __init__(self) -> None:
        self._tag = TAGS[0]

    def named(self, name: str) -> str:
        """See Workload."""
        return f"{{{self._tag}}}{name}"

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        self._tag = random.choice(TAGS)
        return super().draw(random, unique, turn)


class SlotRegisters(Registers):
    """Registers, also compared and set through WATCH."""

    def named(self, name: str) -> str:
        """See Workload."""
        return tagged(name)


class SlotUniqueRegisters(UniqueRegisters):
    """Two hot keys."""

    def named(self, name: str) -> str:
        """See Workload."""
        return tagged(name)


class SlotSets(Sets):
    """One growing set."""

    def named(self, name: str) -> str:
        """See Workload."""
        return tagged(name)


class SlotCounters(Counters):
    """Numbers that must add up."""

    def named(self, name: str) -> str:
        """See Workload."""
        return tagged(name)


class SlotExpiries(Expiries):
    """Keys with deadlines."""

    def named(self, name: str) -> str:
        """See Workload."""
        return tagged(name)


SLOTTED: Final[dict[str, Callable[[], Workload]]] = {
    "append": SlotAppends,
    "counter": SlotCounters,
    "expiry": SlotExpiries,
    "register": SlotRegisters,
    "set": SlotSets,
    "unique-register": SlotUniqueRegisters,
}
