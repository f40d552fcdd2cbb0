"""The source's side of one slot handoff, on the leader: what to send, what to propose, when to fence.

A driver is made from the replicated record and holds nothing that a new leader would miss: it begins a session of its
own, streams the keys, fences when the rest is small, says when all is told, and then asks the target until it knows
what that has decided. It never decides. Rule: everything sent comes from applied state; a fence, once it may have been
logged, is left only by the target's word. It must not know the log, the network or the clock: see actions.py.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from durakv.cluster.handoff import actions, entries, messages
from durakv.cluster.handoff.entries import Session
from durakv.cluster.handoff.messages import Message
from durakv.cluster.handoff.state import ABORTED, EXPORTING, FENCED, MOVED, ONGOING, Record
from durakv.cluster.handoff.stream import Stream, estimated_bytes

if TYPE_CHECKING:
    from durakv.cluster.handoff.exports import Exports

# -- stages of a driver
PREPARING: Final = "preparing"
SCANNING: Final = "scanning"
CATCHING_UP: Final = "catching-up"
# The fence is proposed; it may be in the log.
FENCING: Final = "fencing"
# It is applied: the rest goes out,
DRAINING: Final = "draining"
# and all was told.
TOLD: Final = "told"

NOT_CONVERGING: Final = b"not converging"
NO_ANSWER: Final = b"the target does not answer"
_NEVER: Final = -1
# Patience with a silent target doubles this often.
_VAIN_MAX: Final = 3


class Sent:
    """A batch on its way."""

    __slots__ = ("at_ms", "ops", "seq")

    def __init__(self, seq: int, ops: bytes, at_ms: int) -> None:
        self.seq = seq
        self.ops = ops
        self.at_ms = at_ms


class Export:
    """The driver of one migration. ``stage`` is for people; ``decision`` is the target's, as far as it is known."""

    def __init__(self, exports: Exports, record: Record, session: Session, now_ms: int) -> None:
        self.exports = exports
        self.record = record
        self.session = session
        self.stream = Stream(exports.ks, record.slots())
        self.stage = PREPARING
        self.decision = ONGOING
        self.reason = b""
        self.trouble = b""
        # An operator wants no more of it; nothing can come of it.
        self.cancelling = False
        self.hopeless = False
        self.unacked: deque[Sent] = deque()
        self.unacked_bytes = 0
        self.acked = 0
        # When the target was last heard, and when it last got on.
        self.heard_ms = _NEVER
        self.moved_ms = now_ms
        self.begun_ms = now_ms
        # Since when bringing the target level would take too long.
        self.behind_ms = _NEVER
        # Since when it would not.
        self.near_ms = _NEVER
        # When this leader saw the fence applied.
        self.fenced_ms = _NEVER
        self.estimate_bytes = estimated_bytes(exports.ks, self.stream.slots)
        self.rtt_ms = 0
        self.rate_bytes_s = 0
        self.delay_ms = 0
        # The next answer tells how long one takes.
        self._probing = False
        # How often, in a row, batches were sent again for nothing.
        self._vain = 0
        # When what may have to be repeated was last done.
        self._prepared_ms = _NEVER
        self._resent_ms = now_ms
        self._proposed_ms = _NEVER
        self._told_ms = _NEVER
        self._resolved_ms = _NEVER
        if record.phase == FENCED:
            self.fenced_ms = now_ms
            self.hopeless = self.estimate_bytes > exports.limits.fenced_bytes_max

    # -- events -----------------------------------------------------------------------------------------------------

    def on_message(self, message: Message, now_ms: int) -> None:
        """From the target's leader."""
        kind = message.kind
        if kind == messages.DECIDED:
            self._decided(message.result, message.reason, now_ms)
        elif message.session == self.session and kind in {messages.ACK, messages.REFUSED}:
            self.heard_ms = now_ms
            if kind == messages.ACK:
                self._acked(message.seq, now_ms)
            else:
                self.trouble = message.reason
                self.hopeless = self.hopeless or message.status != 0
        # A target may acknowledge many batches at once; those that take their place go turn by turn.
        self._advance(now_ms, pump=False)

    def fenced(self, now_ms: int) -> None:
        """FENCE is applied, this leader's or an earlier one's: the keys stay as they are from now on.

        Nothing is sent before the next turn: what the same entry changed before its fence may not be told here yet.
        """
        if self.stage != PREPARING:
            self.stage = DRAINING
        self.moved_ms = self.fenced_ms = now_ms
        self._proposed_ms = _NEVER
        self.throttle(0)

    def go_on(self, now_ms: int) -> None:
        """Do whatever can be done now, and send what one turn may take."""
        self._advance(now_ms, pump=True)

    def _advance(self, now_ms: int, *, pump: bool) -> None:
        if self.decision != ONGOING:
            self._act(now_ms)
            return
        if self.stage == PREPARING:
            self._prepare(now_ms)
            return
        if self.stage in {SCANNING, CATCHING_UP}:
            if self.cancelling:
                self._give_up(b"cancelled", now_ms)
                return
            if now_ms - self.heard_ms >= self.exports.limits.prepare_ms_max:
                self._give_up(NO_ANSWER, now_ms)
                return
        if pump:
            self._pump(now_ms)
        self._repeat(now_ms)
        if self.stage == SCANNING and self.stream.scanned:
            self.stage = CATCHING_UP
        if self.stage == CATCHING_UP:
            self._consider_fence(now_ms)
        elif self.stage == FENCING:
            if self._due(self._proposed_ms, now_ms):
                self._propose_fence(now_ms)
        elif self.record.phase == FENCED:
            self._tell(now_ms)

    # -- the stream -------------------------------------------------------------------------------------------------

    def _prepare(self, now_ms: int) -> None:
        if self.record.phase == EXPORTING:
            if self.cancelling:
                self._give_up(b"cancelled", now_ms)
                return
            if self.hopeless or now_ms - self.begun_ms >= self.exports.limits.prepare_ms_max:
                self._give_up(self.trouble or NO_ANSWER, now_ms)
                return
        elif self._out_of_patience(now_ms):
            self._resolve(now_ms)
        if self.hopeless or not self._due(self._prepared_ms, now_ms):
            return
        self._prepared_ms = now_ms
        message = Message(messages.PREPARE, self.record.mid)
        message.session = self.session
        message.order, message.runs = self.record.order, self.record.runs
        message.estimate_bytes = self.estimate_bytes
        self._send(message)

    def _acked(self, seq: int, now_ms: int) -> None:
        if self.stage == PREPARING:
            self.stage = SCANNING if self.record.phase == EXPORTING else DRAINING
            self.rtt_ms = max(0, now_ms - self._prepared_ms)
            self.moved_ms = self._resent_ms = now_ms
        if self._probing:
            # What was measured before may be of a time when the target stood still.
            self._probing = False
            self.rtt_ms = max(0, now_ms - self._prepared_ms)
        if seq <= self.acked or seq > self.stream.seq:
            return
        self.acked = seq
        self._vain = 0
        done = 0
        # Something was under way at least since then.
        since_ms = max(self.moved_ms, self.unacked[0].at_ms)
        while self.unacked and self.unacked[0].seq <= seq:
            sent = self.unacked.popleft()
            self.unacked_bytes -= len(sent.ops)
            done += len(sent.ops)
            self.rtt_ms = (self.rtt_ms + max(0, now_ms - sent.at_ms) + 1) // 2
        # What the way can carry shows only when much is sent, so less than before says little.
        rate = done * 1000 // max(1, now_ms - since_ms)
        self.rate_bytes_s = max(rate, self.rate_bytes_s * 7 // 8, 1)
        self.moved_ms = self._resent_ms = now_ms

    def _pump(self, now_ms: int) -> None:
        """Send batches while the window has room, as many as one turn may take."""
        limits = self.exports.limits
        turn_bytes = 0
        while self.unacked_bytes < limits.window_bytes and turn_bytes < limits.turn_bytes:
            ops = self.stream.batch(limits.batch_bytes)
            if not ops:
                return
            sent = Sent(self.stream.seq, ops, now_ms)
            if not self.unacked:
                self._resent_ms = now_ms
            self.unacked.append(sent)
            self.unacked_bytes += len(ops)
            turn_bytes += len(ops)
            self._send_batch(sent)

    def wants_turn(self) -> bool:
        """Whether there is something to send for which the window has room."""
        if self.stage == PREPARING or self.decision != ONGOING:
            return False
        if self.stage in {SCANNING, CATCHING_UP} and self._proposed_ms != _NEVER:
            # It is being given up; until the log says so there is nothing to do, and that may take any time.
            return False
        if self.stream.complete():
            return self.stage == DRAINING
        return self.unacked_bytes < self.exports.limits.window_bytes

    def _repeat(self, now_ms: int) -> None:
        """Send again what was not acknowledged in time, from the first on."""
        if not self.unacked or now_ms - self._resent_ms < self.exports.limits.retry_ms << self._vain:
            return
        self._resent_ms = now_ms
        self._vain = min(self._vain + 1, _VAIN_MAX)
        for sent in self.unacked:
            self._send_batch(sent)

    def _send_batch(self, sent: Sent) -> None:
        message = Message(messages.BATCH, self.record.mid)
        message.session, message.seq, message.ops = self.session, sent.seq, sent.ops
        self._send(message)

    # -- before the fence -------------------------------------------------------------------------------------------

    def drain_ms(self) -> int:
        """How long it would take to bring the target level now."""
        backlog = self.unacked_bytes + self.stream.backlog_bytes()
        return self.rtt_ms + (backlog * 1000 // self.rate_bytes_s if self.rate_bytes_s else 0)

    def remaining_bytes(self) -> int:
        """Known and not acknowledged; what the scan has yet to visit is not known."""
        return self.unacked_bytes + self.stream.backlog_bytes()

    def _consider_fence(self, now_ms: int) -> None:
        limits = self.exports.limits
        trusted = self.heard_ms >= 0 and now_ms - self.heard_ms <= limits.election_timeout_ms
        if self.drain_ms() <= limits.pause_ms_max:
            self.behind_ms = _NEVER
            if self.near_ms == _NEVER:
                self.near_ms = now_ms
            self.throttle(0)
            if trusted and self._near_enough(now_ms) and self.exports.may_fence(self, now_ms):
                self._propose_fence(now_ms)
                return
        elif self.behind_ms == _NEVER:
            self.behind_ms = now_ms
            self.near_ms = _NEVER
        else:
            self._fall_behind(now_ms - self.behind_ms, now_ms)
        if not trusted or (self.drain_ms() > limits.pause_ms_max and not self.unacked):
            # A word from the target, whatever its batches do; without any, only that tells how far it is.
            if self._due(self._prepared_ms, now_ms):
                self._prepared_ms = now_ms
                self._probing = not self.unacked
                message = Message(messages.PREPARE, self.record.mid)
                message.session, message.order, message.runs = self.session, self.record.order, self.record.runs
                self._send(message)

    def _near_enough(self, now_ms: int) -> bool:
        """Whether waiting would make the pause no shorter, or was tried for long enough."""
        limits = self.exports.limits
        return self.drain_ms() - self.rtt_ms <= limits.drain_ms_aimed or now_ms - self.near_ms >= limits.aim_for_ms

    def _fall_behind(self, behind_ms: int, now_ms: int) -> None:
        """It has been too much for so long: slow the writers down, and if that does not help, give up."""
        limits = self.exports.limits
        if behind_ms >= limits.give_up_after_ms:
            self._give_up(NOT_CONVERGING, now_ms)
        elif behind_ms >= limits.throttle_after_ms:
            step = 1 + limits.throttle_ms_max * (behind_ms - limits.throttle_after_ms) // limits.give_up_after_ms
            self.throttle(max(self.delay_ms, step))

    def throttle(self, delay_ms: int) -> None:
        """Slow writers of these slots down; 0: no longer."""
        if delay_ms != self.delay_ms:
            self.delay_ms = delay_ms
            self.exports.notice(actions.THROTTLE, self.record, delay_ms=delay_ms)

    def _propose_fence(self, now_ms: int) -> None:
        if self.stage != FENCING:
            self.stage = FENCING
            self.exports.hold(self.record, held=True)
            self.exports.notice(actions.PARK, self.record)
        self._proposed_ms = now_ms
        self._propose(entries.fence(self.record.mid, self.session))

    def _give_up(self, reason: bytes, now_ms: int) -> None:
        """Before the fence this side may."""
        if self._due(self._proposed_ms, now_ms):
            self._proposed_ms = now_ms
            self._propose(entries.export_cancel(self.record.mid, reason))

    # -- after the fence --------------------------------------------------------------------------------------------

    def _tell(self, now_ms: int) -> None:
        """All of the session, once there is nothing more of it; then ask for the decision."""
        if self.stream.complete():
            self.stage = TOLD
            if self._due(self._told_ms, now_ms):
                self._told_ms = now_ms
                message = Message(messages.DIGEST, self.record.mid)
                message.session = self.session
                message.f_index, message.time_ms = self.record.f_index, self.record.fenced_ms
                message.seq, message.digest = self.stream.seq, self.stream.digest
                message.counts = self.stream.counts()
                self._send(message)
        if self._out_of_patience(now_ms):
            self._resolve(now_ms)

    def _out_of_patience(self, now_ms: int) -> bool:
        limits = self.exports.limits
        if self.cancelling or self.hopeless or now_ms - self.moved_ms >= limits.resolve_after_ms:
            return True
        return now_ms - self.fenced_ms >= limits.fenced_ms_max

    def _resolve(self, now_ms: int) -> None:
        if not self._due(self._resolved_ms, now_ms):
            return
        self._resolved_ms = now_ms
        message = Message(messages.RESOLVE, self.record.mid)
        message.order, message.runs = self.record.order, self.record.runs
        message.reason = b"cancelled" if self.cancelling else self.trouble or b"the source got no answer in time"
        self._send(message)

    def _decided(self, result: int, reason: bytes, now_ms: int) -> None:
        if self.decision == ONGOING and result in {MOVED, ABORTED}:
            self.decision = result
            self.reason = reason
            self._proposed_ms = _NEVER

    def _act(self, now_ms: int) -> None:
        """Follow the target's decision; a fence that is still under way comes first."""
        if not self._due(self._proposed_ms, now_ms):
            return
        self._proposed_ms = now_ms
        mid = self.record.mid
        if self.record.phase == FENCED:
            self._propose(entries.release(mid) if self.decision == MOVED else entries.unfence(mid, self.reason))
        elif self.decision == ABORTED:
            self._propose(entries.export_cancel(mid, self.reason))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _due(self, last_ms: int, now_ms: int) -> bool:
        return last_ms == _NEVER or now_ms - last_ms >= self.exports.limits.retry_ms

    def _send(self, message: Message) -> None:
        self.exports.actions.messages.append((self.record.peer, message))

    def _propose(self, argv: list[bytes]) -> None:
        self.exports.actions.proposals.append(argv)
