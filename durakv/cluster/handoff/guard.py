"""Whether a command may run, as far as slots go: looks at the keys it names and at what the group serves. [compiled]

Rule: pure and replicated only, so that every node of a group judges alike; scripts and units of the log ask here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.cluster.handoff.state import State
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.commands.table import Row

# What these change has no key that they name: nothing of a fenced slot may change.
WHOLE: Final = ("flushdb", "flushall", "swapdb", "replicaof", "slaveof")
FLUSH_SLOT: Final = "cluster|flushslot"
# No slot.
NONE: Final = -1
_DIGITS_MAX: Final = 5
FENCE_HOLDS: Final = (
    "TRYAGAIN slots of this group are on their way to another one, and nothing of them may change meanwhile; send it "
    "again"
)
# The same on every node: a script may keep what it was told.
FOREIGN_KEY: Final = "ERR Script attempted to access a non local key in a cluster node"


def on_its_way(slot: int) -> str:
    """The definite error of a command on a fenced slot."""
    return f"TRYAGAIN slot {slot} is on its way to another group; send it again"


def slot_refused(state: State, row: Row, argv: list[bytes]) -> int:
    """A slot among those of a command's keys that the group does not serve, or NONE."""
    serves = state.serves
    if row.key_at > 0:
        slot = slot_of(argv[row.key_at])
        return NONE if serves[slot] else slot
    if row.key_at < 0:
        for key in row.keys(argv):
            slot = slot_of(key)
            if not serves[slot]:
                return slot
    elif row.name == FLUSH_SLOT:
        slot = named_slot(argv)
        if slot != NONE and not serves[slot]:
            return slot
    return NONE


def named_slot(argv: list[bytes]) -> int:
    """The slot that CLUSTER FLUSHSLOT names; NONE when the command itself will refuse it."""
    text = argv[2]
    if not text.isdigit() or len(text) > _DIGITS_MAX or int(text) >= SLOTS:
        return NONE
    return int(text)


def check_script(state: State, row: Row, argv: list[bytes]) -> None:
    """Judge a command that a script calls, whose keys nobody may have declared. Raises CommandError."""
    if row.key_at == 0 and row.name in WHOLE:
        if not state.may_flush():
            raise CommandError(FENCE_HOLDS)
    elif slot_refused(state, row, argv) != NONE:
        raise CommandError(FOREIGN_KEY)
