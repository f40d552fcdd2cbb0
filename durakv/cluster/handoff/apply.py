"""Applying the items of a handoff: guards first, then the change; the same on every node of a group.

An item says what its proposer believed; a guard that finds otherwise makes it a no-op with a reason. That is what makes
changes of leaders, duplicates and late messages harmless: nothing is undone, for nothing wrong is ever done.
Rule: the only place that changes a State or moves slots. It looks at the item, the state, the staged and the live keys,
and at nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.cluster.handoff import entries
from durakv.cluster.handoff.entries import Item, Op, chained, counts_digest
from durakv.cluster.handoff.state import (
    ABORTED,
    CANCELLED,
    ENDED,
    EXPORT,
    EXPORTING,
    FENCED,
    FORCED,
    IMPORT,
    IMPORTING,
    MOVED,
    NONE,
    OWNED,
    PHASE_NAMES,
    Record,
    State,
)
from durakv.keyspace import journal
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.slots import slot_of
from durakv.keyspace.staging import Area, Staging, payload_value

# -- what became of the serving of a migration's slots
SAME: Final = 0
# They are this group's now,
GAINED: Final = 1
# they are the peer's: clients get MOVED,
LOST: Final = 2
# nobody serves them until the target has decided,
STOPPED: Final = 3
# and this group serves them on.
RESUMED: Final = 4

FLUSHED: Final = b"data was flushed"


class Outcome:
    """What became of an item. ``done``: it took effect; otherwise ``reason`` says why not.

    ``serving`` is one of the constants above, for the slots of ``record``; ``keys`` how many went live or away.
    """

    __slots__ = ("done", "keys", "mid", "reason", "record", "serving", "verb")

    def __init__(self, verb: bytes, mid: bytes) -> None:
        self.verb = verb
        self.mid = mid
        self.done = True
        self.reason = b""
        self.record: Record | None = None
        self.serving = SAME
        self.keys = 0


class Refused(Exception):
    """A guard does not hold. ``content``: what came in is at fault, not when it came."""

    def __init__(self, reason: str, *, content: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.content = content


class _Apply:
    """One item under way."""

    __slots__ = ("index", "item", "ks", "now_ms", "outcome", "staging", "state")

    def __init__(
        self, state: State, staging: Staging, ks: Keyspace, item: Item, now_ms: int, index: int, outcome: Outcome
    ) -> None:
        self.state = state
        self.staging = staging
        self.ks = ks
        self.item = item
        self.now_ms = now_ms
        self.index = index
        self.outcome = outcome

    # -- guards -----------------------------------------------------------------------------------------------------

    def known(self, role: int, phase: int) -> Record:
        """The record, in this role and phase."""
        record = self.state.records.get(self.item.mid)
        if record is None or record.role != role:
            raise Refused("the migration is not known here")
        if record.phase != phase:
            raise Refused(f"the migration is {PHASE_NAMES[record.phase]}, not {PHASE_NAMES[phase]}")
        self.outcome.record = record
        return record

    def set_all(self, record: Record, own: int, epochs_up: int) -> None:
        """What the group is to every slot of the record, under its base epoch plus ``epochs_up``."""
        for first, last, epoch in record.runs:
            self.state.set_own(first, last, own, epoch + epochs_up)

    def end(self, record: Record, result: int, reason: bytes) -> None:
        """The record has its result."""
        record.phase = ENDED
        record.result = result
        record.reason = reason
        record.ended_ms = self.now_ms

    # -- the source's log -------------------------------------------------------------------------------------------

    def export_begin(self) -> None:
        state, item = self.state, self.item
        if state.find(item.mid) is not None:
            raise Refused("a migration of this id is known")
        if item.peer == state.group:
            raise Refused("a group cannot export to itself")
        for first, last, epoch in item.runs:
            for slot in range(first, last + 1):
                if state.own[slot] != OWNED:
                    raise Refused(f"slot {slot} is {PHASE_NAMES[state.own[slot]]}, not owned")
                if state.epochs[slot] != epoch:
                    raise Refused(f"slot {slot} is at epoch {state.epochs[slot]}, not {epoch}")
        for record in state.records.values():
            if record.role == IMPORT and record.result == MOVED and record.overlaps(item.runs):
                # Until then its source's operator could still take the slots back, at an epoch of the next owner's.
                raise Refused("the source of these slots has not confirmed their move yet; try again")
        record = Record(item.mid, EXPORT, item.peer, self.index, item.runs)
        record.began_ms = self.now_ms
        state.records[item.mid] = record
        self.outcome.record = record
        self.set_all(record, EXPORTING, 0)

    def fence(self) -> None:
        record = self.known(EXPORT, EXPORTING)
        record.phase = FENCED
        record.session = self.item.session
        record.f_index = self.index
        record.fenced_ms = self.now_ms
        self.set_all(record, FENCED, 0)
        self.outcome.serving = STOPPED

    def unfence(self) -> None:
        record = self.known(EXPORT, FENCED)
        self.set_all(record, OWNED, 0)
        self.end(record, ABORTED, self.item.reason)
        self.state.finish(record)
        self.outcome.serving = RESUMED

    def release(self) -> None:
        record = self.known(EXPORT, FENCED)
        record.keys = self.outcome.keys = self.staging.release(record.slots())
        self.set_all(record, NONE, 1)
        self.end(record, MOVED, b"")
        self.state.finish(record)
        self.outcome.serving = LOST

    def export_cancel(self) -> None:
        record = self.known(EXPORT, EXPORTING)
        self.set_all(record, OWNED, 0)
        self.end(record, CANCELLED, self.item.reason)
        self.state.finish(record)

    def force_abort(self) -> None:
        record = self.known(EXPORT, FENCED)
        self.set_all(record, OWNED, 2)
        self.end(record, FORCED, b"taken back by an operator")
        self.state.finish(record)
        self.outcome.serving = RESUMED

    # -- the target's log -------------------------------------------------------------------------------------------

    def import_begin(self) -> None:
        state, item = self.state, self.item
        record = state.records.get(item.mid)
        if record is not None:
            record = self.known(IMPORT, IMPORTING)
            if (record.peer, record.order, record.runs) != (item.peer, item.order, item.runs):
                raise Refused("the migration was begun with other facts")
            if item.session <= record.session:
                raise Refused("the session is not newer than the one that is staged")
        else:
            self._may_import(item)
            record = Record(item.mid, IMPORT, item.peer, item.order, item.runs)
            record.began_ms = self.now_ms
            state.records[item.mid] = record
            for first, last, _ in item.runs:
                state.set_own(first, last, IMPORTING)
        record.session = item.session
        record.seq = 0
        record.chain = entries.NO_DIGEST
        record.trouble = b""
        self.staging.open(item.mid, record.slots())
        self.outcome.record = record

    def _may_import(self, item: Item) -> None:
        state = self.state
        if state.find(item.mid) is not None or item.peer == state.group:
            raise Refused("a migration of this id has ended, or is no import")
        for first, last, epoch in item.runs:
            for slot in range(first, last + 1):
                if state.own[slot] != NONE:
                    raise Refused(f"slot {slot} is {PHASE_NAMES[state.own[slot]]} here")
                if epoch < state.epochs[slot]:
                    raise Refused(f"slot {slot} is known here at the later epoch {state.epochs[slot]}")
                if (epoch, item.order) <= (state.decided_epoch[slot], state.decided_order[slot]):
                    raise Refused(f"a migration of slot {slot} as late as this one was decided")

    def import_batch(self) -> None:
        item = self.item
        record = self.known(IMPORT, IMPORTING)
        if item.session != record.session or item.seq != record.seq + 1:
            raise Refused("the batch is not the next one of the session")
        found = self._checked(record)
        carry_out(self.staging.changing(item.mid), found)
        record.seq = item.seq
        record.chain = chained(record.chain, item.ops)

    def _checked(self, record: Record) -> list[tuple[Op, object]]:
        """All operations and their values before the first one is carried out."""
        found: list[tuple[Op, object]] = []
        try:
            for op in entries.ops_of(self.item.ops, len(self.ks.dbs)):
                value = None
                if op.kind != entries.WIPE and not record.covers(slot_of(op.key)):
                    raise Refused(f"a key of slot {slot_of(op.key)} does not belong here", content=True)
                if op.kind == entries.PUT:
                    value = payload_value(op.payload)
                found.append((op, value))
        except (RdbError, ValueError) as error:
            raise Refused(f"a batch cannot be read: {error}", content=True) from None
        return found

    def activate(self) -> None:
        item, state = self.item, self.state
        record = self.known(IMPORT, IMPORTING)
        if item.session != record.session:
            raise Refused("another session is staged")
        if item.seq != record.seq:
            raise Refused("batches of the session are missing")
        if item.digest != record.chain:
            raise Refused("the stream's digest differs", content=True)
        if item.counts != counts_digest(self.staging.areas[item.mid].counts(record.slots())):
            raise Refused("the numbers of keys differ", content=True)
        record.keys = self.outcome.keys = self.staging.activate(item.mid, record.slots())
        record.f_index = item.f_index
        record.fenced_ms = item.time_ms
        # What had expired at the source by its fence must not come back.
        self.ks.log_ms = max(self.ks.log_ms, item.time_ms)
        self.ks.now_ms = max(self.ks.now_ms, item.time_ms)
        self.set_all(record, OWNED, 1)
        self.end(record, MOVED, b"")
        state.decide(record)
        self.outcome.serving = GAINED

    def abort(self) -> None:
        item, state = self.item, self.state
        record = state.records.get(item.mid)
        if record is None:
            if state.find(item.mid) is not None or state.moved_away(item.runs):
                raise Refused("the migration has been decided")
            if item.peer == state.group:
                raise Refused("the migration is none into this group")
            # A tombstone: this group never heard of it, and will not hear of it any more.
            record = Record(item.mid, IMPORT, item.peer, item.order, item.runs)
            record.began_ms = self.now_ms
            state.records[item.mid] = record
            self.outcome.record = record
        else:
            record = self.known(IMPORT, IMPORTING)
            abandon(state, self.staging, record)
        self.end(record, ABORTED, item.reason)
        state.decide(record)

    def import_forget(self) -> None:
        self.state.finish(self.known(IMPORT, ENDED))

    def yield_slots(self) -> None:
        state = self.state
        record = self.known(IMPORT, ENDED)
        if record.result != MOVED:
            raise Refused("the migration was not activated")
        record.keys = self.outcome.keys = self.staging.release(record.slots())
        self.set_all(record, NONE, 2)
        self.end(record, FORCED, b"the source's operator took the slots back")
        state.finish(record)
        self.outcome.serving = LOST


def carry_out(area: Area, found: list[tuple[Op, object]]) -> None:
    """Operations on staged keys, with the values they carry."""
    for op, value in found:
        if op.kind == entries.PUT:
            area.put(op.db, op.key, value, op.at_ms)
        elif op.kind == entries.DELETE:
            area.delete(op.db, op.key)
        else:
            area.wipe(op.db)


def abandon(state: State, staging: Staging, record: Record) -> None:
    """Take an import's slots and staged keys away; its record stays."""
    staging.discard(record.mid)
    for first, last, _ in record.runs:
        state.set_own(first, last, NONE)


_VERBS: Final[dict[bytes, Callable[[_Apply], None]]] = {
    entries.EXPORT_BEGIN: _Apply.export_begin,
    entries.FENCE: _Apply.fence,
    entries.UNFENCE: _Apply.unfence,
    entries.RELEASE: _Apply.release,
    entries.EXPORT_CANCEL: _Apply.export_cancel,
    entries.FORCE_ABORT: _Apply.force_abort,
    entries.IMPORT_BEGIN: _Apply.import_begin,
    entries.IMPORT_BATCH: _Apply.import_batch,
    entries.ACTIVATE: _Apply.activate,
    entries.ABORT: _Apply.abort,
    entries.IMPORT_FORGET: _Apply.import_forget,
    entries.YIELD: _Apply.yield_slots,
}


def apply(state: State, staging: Staging, ks: Keyspace, argv: list[bytes], now_ms: int, index: int) -> Outcome:
    """Apply one item, in log order; ``now_ms`` is its entry's time, ``index`` its entry's place in the log.

    Raises ValueError for an item this version does not know: the node has to stop before it differs from others.
    """
    item = entries.decode(argv)
    outcome = Outcome(item.verb, item.mid)
    state.applied = index
    state.moved = True
    try:
        _VERBS[item.verb](_Apply(state, staging, ks, item, now_ms, index, outcome))
    except Refused as refused:
        outcome.done = False
        outcome.reason = refused.reason.encode()
        outcome.record = state.find(item.mid)
        state.refused += 1
        state.last_refusal = item.verb + b": " + outcome.reason
        if refused.content and outcome.record is not None:
            outcome.record.trouble = outcome.reason
    else:
        if outcome.record is not None:
            outcome.record.updated_ms = now_ms
    # What was staged is never undone.
    journal.steps.clear()
    return outcome


def flushed(state: State, staging: Staging, now_ms: int) -> list[Record]:
    """FLUSHALL or FLUSHDB was applied on this group: what it was about to take over is refused. Returns the records.

    Call it in apply, on every node, after the command; not while ``state.may_flush()`` says no.
    """
    out: list[Record] = []
    for record in state.active(IMPORT):
        if record.phase != IMPORTING:
            continue
        abandon(state, staging, record)
        record.phase = ENDED
        record.result = ABORTED
        record.reason = FLUSHED
        record.ended_ms = record.updated_ms = now_ms
        state.decide(record)
        out.append(record)
    return out
