"""The target's side of slot handoffs, on the leader: stage what comes, decide once, say so as often as asked.

All that matters is in the log: a new leader goes on from the number of batches its state says are in. A decision is
told only after it was applied, hence committed. Rule: "not known here" is never an answer to a source that is fenced:
the tombstone is committed first. It must not know the log, the network or the clock: see actions.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.cluster.handoff import actions, entries, messages
from durakv.cluster.handoff.actions import Actions, Limits, Notice
from durakv.cluster.handoff.apply import LOST, Outcome
from durakv.cluster.handoff.entries import Session, counts_digest
from durakv.cluster.handoff.messages import Message
from durakv.cluster.handoff.state import ABORTED, ENDED, IMPORT, IMPORTING, MOVED, Record, State
from durakv.keyspace.staging import Staging

_NEVER: Final = -1
_NO_MEMORY: Final = b"the target is out of memory for the staged keys"


class Import:
    """What the leader remembers of one import beside its record; losing it costs time only."""

    __slots__ = ("digest", "gone", "heard_ms", "peer", "proposed", "proposed_ms", "queried_ms", "session")

    def __init__(self, peer: int, now_ms: int) -> None:
        self.peer = peer
        # Batches of this session are proposed up to this one.
        self.session: Session = (0, 0)
        self.proposed = 0
        # The source's DIGEST, until it can be compared.
        self.digest: Message | None = None
        # The source has ended it, so that it needs no confirmation of what is decided here.
        self.gone = False
        self.heard_ms = now_ms
        self.queried_ms = _NEVER
        # When each verb was last proposed.
        self.proposed_ms: dict[bytes, int] = {}


class Imports:
    """All imports of the group, on its leader. ``headroom_bytes()``: how much more may be staged, negative: none."""

    def __init__(
        self, state: State, staging: Staging, limits: Limits, actions_: Actions, headroom_bytes: Callable[[], int]
    ) -> None:
        self.state = state
        self.staging = staging
        self.limits = limits
        self.actions = actions_
        self.headroom_bytes = headroom_bytes
        self.imports: dict[bytes, Import] = {}
        self.leading = False

    # -- leadership -------------------------------------------------------------------------------------------------

    def lead(self, now_ms: int) -> None:
        """This node leads: go on with every import."""
        self.leading = True
        self.imports = {record.mid: Import(record.peer, now_ms) for record in self.state.active(IMPORT)}

    def retire(self) -> None:
        """This node leads no longer."""
        self.leading = False
        self.imports = {}

    # -- messages ---------------------------------------------------------------------------------------------------

    def message(self, sender: int, message: Message, now_ms: int) -> None:
        """From the leader of group ``sender``."""
        record = self.state.find(message.mid)
        if not self.leading or (record is not None and (record.role != IMPORT or record.peer != sender)):
            return
        mine = self.imports.get(message.mid)
        if mine is not None:
            mine.heard_ms = now_ms
        kind = message.kind
        if kind == messages.STATUS:
            self._status(record, message.status, now_ms)
        elif record is not None and record.phase == ENDED:
            self._tell(record)
        elif kind == messages.PREPARE:
            self._prepare(sender, record, message, now_ms)
        elif kind == messages.RESOLVE:
            self._resolve(sender, message, now_ms)
        elif record is None or message.session != record.session:
            return
        elif kind == messages.BATCH:
            self._batch(record, message, now_ms)
        elif kind == messages.DIGEST:
            self._mine(record.mid, record.peer, now_ms).digest = message
            self._compare(record, now_ms)

    def _prepare(self, sender: int, record: Record | None, message: Message, now_ms: int) -> None:
        argv = entries.import_begin(message.mid, sender, message.order, message.session, message.runs)
        if record is not None and message.session <= record.session:
            if message.session == record.session:
                # Asked whether this side still gets on. It has no effect, and is answered once it is committed: a
                # leader that has lost its quorum is not to be trusted with a fence.
                self._propose_once(self._mine(message.mid, sender, now_ms), argv, now_ms)
            return
        staged = self.staging.areas.get(message.mid)
        room = self.headroom_bytes() + (0 if staged is None else staged.weight_bytes())
        if message.estimate_bytes > room:
            self._refuse(sender, message.mid, message.session, _NO_MEMORY, lasting=True)
            return
        mine = self._mine(message.mid, sender, now_ms)
        if mine.session < message.session:
            mine.session, mine.proposed = message.session, 0
            mine.proposed_ms.pop(entries.IMPORT_BEGIN, None)
        self._propose_once(mine, argv, now_ms)

    def _batch(self, record: Record, message: Message, now_ms: int) -> None:
        if message.seq <= record.seq:
            self._ack(record)
            return
        if self.headroom_bytes() < 0:
            self._abort(record, _NO_MEMORY, now_ms)
            return
        mine = self._mine(record.mid, record.peer, now_ms)
        if mine.session != record.session:
            mine.session, mine.proposed = record.session, record.seq
        proposed = max(mine.proposed, record.seq)
        # One that was proposed and is not in after a while is taken for lost.
        if message.seq == record.seq + 1 and self._due(mine, entries.IMPORT_BATCH, now_ms):
            proposed = record.seq
        if message.seq != proposed + 1:
            return
        mine.proposed = message.seq
        mine.proposed_ms[entries.IMPORT_BATCH] = now_ms
        self.actions.proposals.append(entries.import_batch(record.mid, record.session, message.seq, message.ops))

    def _told(self, record: Record) -> Message | None:
        """The source's DIGEST of the session that is staged, once all batches it speaks of are in."""
        mine = self.imports.get(record.mid)
        told = None if mine is None else mine.digest
        if told is None or told.session != record.session or told.seq > record.seq:
            return None
        return told

    def _compare(self, record: Record, now_ms: int) -> None:
        """Activate once all the source told is in and is what it told."""
        told = self._told(record)
        if told is None:
            return
        mine = self._mine(record.mid, record.peer, now_ms)
        if not self._due(mine, entries.ACTIVATE, now_ms):
            return
        counts = counts_digest(self.staging.areas[record.mid].counts(record.slots()))
        if told.seq < record.seq or told.digest != record.chain or told.counts != counts:
            self._alarm(record, "what was staged is not what the source sent")
            self._abort(record, b"the digests differ", now_ms)
            return
        argv = entries.activate(
            record.mid, record.session, told.f_index, told.time_ms, told.seq, told.digest, told.counts
        )
        self._propose_once(mine, argv, now_ms)

    def _resolve(self, sender: int, message: Message, now_ms: int) -> None:
        record = self.state.find(message.mid)
        if record is None and self.state.moved_away(message.runs):
            # Activated so long ago that the record is gone: only that can have raised the epochs.
            self._decided(sender, message.mid, MOVED, b"")
            return
        if record is not None and self._told(record) is not None:
            # All of it is here and only the decision is missing: the better one is as quick.
            self._compare(record, now_ms)
            return
        mine = self._mine(message.mid, sender, now_ms)
        argv = entries.abort(message.mid, sender, message.order, message.runs, message.reason)
        self._propose_once(mine, argv, now_ms)

    def _status(self, record: Record | None, status: int, now_ms: int) -> None:
        if record is None or record.mid not in self.state.records or status == messages.ACTIVE:
            return
        mine = self._mine(record.mid, record.peer, now_ms)
        if record.phase == IMPORTING:
            mine.gone = True
            self._abort(record, b"the source has given up", now_ms)
        elif status == messages.FORCED and record.result == MOVED:
            self._propose_once(mine, entries.yield_slots(record.mid), now_ms)
        else:
            self._propose_once(mine, entries.import_forget(record.mid), now_ms)

    # -- the log ----------------------------------------------------------------------------------------------------

    def applied(self, outcome: Outcome, now_ms: int) -> None:
        """A handoff item of the log was applied here."""
        if not self.leading:
            return
        verb, record = outcome.verb, outcome.record
        mine = self.imports.get(outcome.mid)
        if mine is not None and verb != entries.IMPORT_BATCH:
            mine.proposed_ms.pop(verb, None)
        if record is None or record.role != IMPORT:
            if verb == entries.IMPORT_BEGIN and mine is not None:
                del self.imports[outcome.mid]
                self._refuse(mine.peer, outcome.mid, mine.session, outcome.reason)
            elif verb == entries.ABORT and mine is not None:
                del self.imports[outcome.mid]
            return
        if verb in {entries.IMPORT_FORGET, entries.YIELD}:
            if outcome.done:
                self.imports.pop(record.mid, None)
                if outcome.serving == LOST:
                    self._alarm(record, "slots were given back: their source's operator had taken them")
        elif record.mid not in self.state.records:
            # Something late for a migration that needs nothing any more.
            self.imports.pop(record.mid, None)
        elif record.phase == ENDED:
            mine = self._mine(record.mid, record.peer, now_ms)
            if mine.gone and record.result == ABORTED:
                self._propose_once(mine, entries.import_forget(record.mid), now_ms)
            else:
                self._tell(record)
        elif verb == entries.IMPORT_BEGIN:
            self._ack(record)
        elif verb == entries.IMPORT_BATCH:
            self._batch_applied(record, outcome, now_ms)
        elif verb == entries.ACTIVATE and record.trouble:
            self._alarm(record, record.trouble.decode())
            self._abort(record, record.trouble, now_ms)

    def _batch_applied(self, record: Record, outcome: Outcome, now_ms: int) -> None:
        if record.trouble:
            self._alarm(record, record.trouble.decode())
            self._abort(record, record.trouble, now_ms)
            return
        mine = self._mine(record.mid, record.peer, now_ms)
        if not outcome.done:
            # Another leader's, or one of a session that ended: what this one proposed may have gone by as well.
            mine.proposed = record.seq
        self._ack(record)
        self._compare(record, now_ms)

    def flushed(self, records: list[Record]) -> None:
        """FLUSHALL or FLUSHDB has ended these imports."""
        if self.leading:
            for record in records:
                self._tell(record)

    def tick(self, now_ms: int) -> None:
        """Time has passed; a few times a second will do."""
        for record in self.state.active(IMPORT) if self.leading else ():
            mine = self._mine(record.mid, record.peer, now_ms)
            patience_ms = self.limits.retry_ms if record.phase == ENDED else self.limits.query_after_ms
            if now_ms - max(mine.heard_ms, mine.queried_ms) >= patience_ms:
                mine.queried_ms = now_ms
                message = Message(messages.QUERY, record.mid)
                message.order, message.runs = record.order, record.runs
                self._send(record.peer, message)
            if record.phase == IMPORTING:
                self._compare(record, now_ms)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _mine(self, mid: bytes, peer: int, now_ms: int) -> Import:
        mine = self.imports.get(mid)
        if mine is None:
            mine = Import(peer, now_ms)
            self.imports[mid] = mine
        return mine

    def _propose_once(self, mine: Import, argv: list[bytes], now_ms: int) -> None:
        """Unless it is under way; what was not applied after a while is taken for lost."""
        if self._due(mine, argv[0], now_ms):
            mine.proposed_ms[argv[0]] = now_ms
            self.actions.proposals.append(argv)

    def _due(self, mine: Import, verb: bytes, now_ms: int) -> bool:
        last_ms = mine.proposed_ms.get(verb, _NEVER)
        return last_ms == _NEVER or now_ms - last_ms >= self.limits.retry_ms

    def _abort(self, record: Record, reason: bytes, now_ms: int) -> None:
        argv = entries.abort(record.mid, record.peer, record.order, record.runs, reason)
        self._propose_once(self._mine(record.mid, record.peer, now_ms), argv, now_ms)

    def _ack(self, record: Record) -> None:
        message = Message(messages.ACK, record.mid)
        message.session, message.seq = record.session, record.seq
        self._send(record.peer, message)

    def _refuse(self, group: int, mid: bytes, session: Session, reason: bytes, *, lasting: bool = False) -> None:
        message = Message(messages.REFUSED, mid)
        message.session, message.reason, message.status = session, reason, 1 if lasting else 0
        self._send(group, message)

    def _tell(self, record: Record) -> None:
        self._decided(record.peer, record.mid, ABORTED if record.result != MOVED else MOVED, record.reason)

    def _decided(self, group: int, mid: bytes, result: int, reason: bytes) -> None:
        message = Message(messages.DECIDED, mid)
        message.result, message.reason = result, reason
        self._send(group, message)

    def _alarm(self, record: Record, text: str) -> None:
        self.actions.notices.append(Notice(actions.ALARM, record.mid, record.runs, text=text))

    def _send(self, group: int, message: Message) -> None:
        self.actions.messages.append((group, message))
