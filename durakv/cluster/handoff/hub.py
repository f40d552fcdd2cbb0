"""All of slot handoff on one node, behind one door: replicated state, staged keys, and the leader's drivers.

On every node, in apply: ``apply`` for items, ``flushed`` and ``changed`` for what other entries did. On the leader:
``receive``, ``tick``, orders; and after every call into this object ``take``, whose yield the host carries out. For
the gate: ``verdict``. For checkpoints: ``changes``, ``all_of_it``, ``take_rows``.
Rule: puts the pieces together and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.cluster.handoff import apply as applying
from durakv.cluster.handoff.actions import Actions, Limits, Notice
from durakv.cluster.handoff.apply import Outcome
from durakv.cluster.handoff.entries import Runs
from durakv.cluster.handoff.exports import Exports
from durakv.cluster.handoff.messages import of_bytes
from durakv.cluster.handoff.state import FENCED, IMPORT, IMPORTING, NONE, Record, State
from durakv.cluster.handoff.target import Imports
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.staging import Staging

# -- verdicts of the gate
ADMIT: Final = 0
# The command waits: its slot is fenced, or may be.
PARK: Final = 1
# The slot is not this group's.
ELSEWHERE: Final = 2

# Names of aux rows. A change is a name and what the row holds now.
Change = tuple[bytes, bytes]
STATE_ROW: Final = b"slots"
FINISHED_ROW: Final = b"moves"


class Handoff:
    """``owned``: what the group owns when its log begins. ``clock_ms``: Unix time that never steps back.

    ``headroom_bytes``: see Imports. Everything here is called from one thread.
    """

    def __init__(
        self,
        ks: Keyspace,
        group: int,
        owned: Runs,
        cluster_id: bytes,
        clock_ms: Callable[[], int],
        headroom_bytes: Callable[[], int],
        limits: Limits | None = None,
    ) -> None:
        self.ks = ks
        self.cluster_id = cluster_id
        self.clock_ms = clock_ms
        self.limits = limits or Limits()
        self.state = State(group, owned)
        self.staging = Staging(ks)
        self.actions = Actions()
        self.exports = Exports(self.state, ks, self.limits, self.actions)
        self.imports = Imports(self.state, self.staging, self.limits, self.actions, headroom_bytes)
        # As it is before the log has said anything.
        self._pristine = self.state.to_bytes()
        self._pristine_finished = self.state.finished_to_bytes()
        self._judge()

    def begin(self, group: int, owned: Runs) -> None:
        """Which group this is, and what it owned when its log began; the log has said nothing of slots yet."""
        self.state.from_bytes(State(group, owned).to_bytes())
        self._pristine = self.state.to_bytes()
        self._judge()

    def _judge(self) -> None:
        """Units of the log look at their slots from the first item on, and where the group does not own all slots."""
        self.ks.guarded = self.state.applied != 0 or 0 in self.state.serves

    # -- in apply, on every node --------------------------------------------------------------------------------------

    def apply(self, argv: list[bytes], now_ms: int, index: int) -> Outcome:
        """Apply an item of the log; see apply.apply(). The leader's drivers hear of it."""
        outcome = applying.apply(self.state, self.staging, self.ks, argv, now_ms, index)
        self.ks.guarded = True
        if self.exports.leading:
            clock_ms = self.clock_ms()
            self.exports.applied(outcome, clock_ms)
            self.imports.applied(outcome, clock_ms)
        return outcome

    def flushed(self, databases: list[int], now_ms: int) -> list[Record]:
        """A unit has emptied these databases, and no other: imports end (the records), exports pass it on.

        To be called behind the unit, before ``changed`` for its keys, those that went included. ``now_ms`` is log time.
        """
        ended = applying.flushed(self.state, self.staging, now_ms)
        self.imports.flushed(ended)
        self.exports.changed([], databases, self.clock_ms())
        return ended

    def changed(self, keys: list[tuple[int, bytes]]) -> None:
        """An entry, or a unit of it, was applied and changed these keys: (database, key).

        To be called before anything else of another entry is, and before ``tick`` or ``receive``.
        """
        if self.exports.drivers:
            self.exports.changed(keys, [], self.clock_ms())

    def listens(self) -> bool:
        """Whether ``changed`` has to be called at all."""
        return bool(self.exports.drivers)

    # -- leadership, messages, time -----------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        """This node leads under ``term``, and has applied an entry of that term."""
        clock_ms = self.clock_ms()
        self.exports.lead(term, clock_ms)
        self.imports.lead(clock_ms)

    def retire(self) -> None:
        """This node leads no longer; what had gathered is void."""
        self.exports.retire()
        self.imports.retire()
        self.actions.take()

    def receive(self, blob: bytes) -> None:
        """A message from the leader of another group. Raises ValueError: it is refused, the text says why."""
        sender, message = of_bytes(blob, self.cluster_id, self.state.group)
        clock_ms = self.clock_ms()
        self.exports.message(sender, message, clock_ms)
        self.imports.message(sender, message, clock_ms)

    def tick(self) -> None:
        """Time has passed; every few milliseconds while ``busy()``, in the next turn when it ``wants_turn()``."""
        clock_ms = self.clock_ms()
        self.exports.tick(clock_ms)
        self.imports.tick(clock_ms)

    def wants_turn(self) -> bool:
        """Whether there is something to send, so that ``tick`` should be called in the next turn of the loop."""
        return self.exports.wants_turn()

    def busy(self) -> bool:
        """Whether this leader has migrations under way."""
        return self.exports.leading and bool(self.state.records)

    def take(self) -> tuple[list[Notice], list[list[bytes]], list[tuple[int, bytes]]]:
        """What is to be done, in this order: notices, items to propose, (group, message) to send to its leader."""
        notices, proposals, messages = self.actions.take()
        group = self.state.group
        blobs = [(to, message.to_bytes(self.cluster_id, group, to)) for to, message in messages]
        return notices, proposals, blobs

    # -- the gate -----------------------------------------------------------------------------------------------------

    def verdict(self, slot: int) -> int:
        """What becomes of a command on ``slot`` here, were this node its group's leader."""
        if self.state.serves[slot]:
            return PARK if self.exports.held[slot] else ADMIT
        return PARK if self.state.own[slot] == FENCED else ELSEWHERE

    def claims(self, slot: int) -> bool:
        """Whether the group is the slot's owner as far as it knows, fenced or not."""
        return self.state.own[slot] not in {NONE, IMPORTING}

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        """Aux rows that differ from what the last call said."""
        out: list[Change] = []
        if self.state.moved:
            out.append((STATE_ROW, self.state.to_bytes()))
        if self.state.finished_moved:
            out.append((FINISHED_ROW, self.state.finished_to_bytes()))
        return out

    def all_of_it(self) -> list[Change]:
        """Every aux row, for a checkpoint that begins with nothing."""
        return [(STATE_ROW, self.state.to_bytes()), (FINISHED_ROW, self.state.finished_to_bytes())]

    @staticmethod
    def owns_row(name: bytes) -> bool:
        """Whether an aux row is one of these."""
        return name in {STATE_ROW, FINISHED_ROW}

    def take_rows(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Become what the rows of a checkpoint say; without any, what a group is before its log begins.

        Its keys are in the keyspace by now; those of slots that are still coming in are staged. Raises ValueError.
        """
        self.retire()
        found = dict(rows)
        self.state.from_bytes(found.get(STATE_ROW, self._pristine))
        self.state.finished_from_bytes(found.get(FINISHED_ROW, self._pristine_finished))
        self.staging.clear()
        for record in self.state.active(IMPORT):
            if record.phase == IMPORTING:
                self.staging.stash(record.mid, record.slots())
        self._judge()

    def canonical(self) -> bytes:
        """For the state digest; empty as long as the log has said nothing of slots."""
        if not self.state.applied:
            return b""
        return self.state.canonical() + self.staging.canonical()
