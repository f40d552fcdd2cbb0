"""Questions to a witness and what came of them, whatever carries them: order, counters, trouble, and no going back.

Rule: the only place that decides which question is on its way, which answer is handed on and what trouble is reported.
One question of a kind is on its way at a time, the newest other one waits, older ones are forgotten: whoever asked
asks again while it matters. An answer that shows the state of an earlier time, or of another creation, means that the
state was lost and put back: nothing of that witness is handed on any more. It must not know what the messages decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from durakv.witness.errors import lost_text
from durakv.witness.parts import StateKey
from durakv.witness.store import Trace, check_question
from durakv.world.ports import Clock
from raft.codec import encode
from raft.messages import Message, WitnessAppend, WitnessAppendResp, WitnessVote, WitnessVoteResp

# How long a question may be on its way, or wait for a connection.
OVERDUE_MS: Final = 2000
_NS_PER_MS: Final = 1_000_000


class Question:
    """One question; ``number`` is its own on this link, ``data`` its bytes."""

    __slots__ = ("asked_ns", "data", "kind", "message", "number")

    def __init__(self, number: int, kind: int, message: Message, data: bytes, asked_ns: int) -> None:
        self.number = number
        self.kind = kind
        self.message = message
        self.data = data
        self.asked_ns = asked_ns


class Carrier(Protocol):
    """What brings questions to the witness."""

    def ready(self) -> bool:
        """Whether a question could leave now. When not, the carrier sees to it, and calls pump() then."""

    def carry(self, question: Question) -> None:
        """Bring it there; answered(), failed(), lost() or scattered() follows, perhaps before this returns."""

    def on_overdue(self) -> None:
        """The question that left first has been on its way for OVERDUE_MS; said again each OVERDUE_MS."""


def kind_of(message: Message) -> int:
    """Appends, votes and pre-votes do not wait for each other."""
    if isinstance(message, WitnessAppend):
        return 0
    assert isinstance(message, WitnessVote), "check_question() lets only questions pass"
    return 2 if message.pre else 1


class Exchange:
    """The state of one link. Single-threaded; ``close()`` ends all callbacks."""

    def __init__(
        self, clock: Clock, key: StateKey, node_id: int, where: str, carrier: Carrier,
        on_answer: Callable[[Message], None], on_trouble: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.key = key
        self.where = where
        self.sent = 0
        self.answered_count = 0
        self.state_bytes = 0
        self.closed = False
        self.on_way: dict[int, Question] = {}
        self.waiting: dict[int, Question] = {}
        self._clock = clock
        self._node_id = node_id
        self._carrier = carrier
        self._on_answer = on_answer
        self._on_trouble = on_trouble
        self._trouble = ""
        self._number = 0
        self._watching = False
        # Of the newest answer: nothing older is believed.
        self._newest: Trace | None = None
        # Why no answer of this witness is ever handed on again.
        self._gone_back = ""

    # -- questions ---------------------------------------------------------------------------------------------------

    def ask(self, message: Message) -> None:
        """See WitnessLink.send(). Raises ValueError for what is no question of this node to this witness."""
        check_question(self.key, message)
        if message.from_ != self._node_id:
            raise ValueError(f"a question of node {message.from_} on the link of node {self._node_id}")
        if self.closed or self._gone_back:
            return
        kind, data = kind_of(message), encode(message)
        on_way = self.on_way.get(kind)
        if on_way is not None and on_way.data == data:
            self.waiting.pop(kind, None)
            return
        self._number += 1
        self.waiting[kind] = Question(self._number, kind, message, data, self._clock.monotonic_ns())
        self.pump()

    def pump(self) -> None:
        """Let leave what can leave."""
        for kind in list(self.waiting):
            if self.closed or not self._carrier.ready():
                return
            if kind in self.on_way:
                continue
            question = self.waiting.pop(kind, None)
            if question is not None:
                self._leave(question)

    def _leave(self, question: Question) -> None:
        question.asked_ns = self._clock.monotonic_ns()
        self.on_way[question.kind] = question
        self.sent += 1
        if not self._watching:
            self._watching = True
            self._clock.call_later(OVERDUE_MS, self._watch)
        self._carrier.carry(question)

    def forget_old(self) -> None:
        """Drop what has waited too long for a connection: it would be asked again if anybody still wanted to know."""
        oldest_ns = self._clock.monotonic_ns() - OVERDUE_MS * _NS_PER_MS
        for kind in list(self.waiting):
            if self.waiting[kind].asked_ns < oldest_ns:
                del self.waiting[kind]

    def scattered(self) -> None:
        """The connection broke: what was on its way waits again, unless something newer does."""
        for kind, question in self.on_way.items():
            self.waiting.setdefault(kind, question)
        self.on_way.clear()

    def _watch(self) -> None:
        self._watching = False
        if self.closed or not self.on_way:
            return
        now_ns = self._clock.monotonic_ns()
        left_ns = min(q.asked_ns for q in self.on_way.values()) + OVERDUE_MS * _NS_PER_MS - now_ns
        self._watching = True
        if left_ns > 0:
            self._clock.call_later(left_ns / _NS_PER_MS, self._watch)
            return
        self._clock.call_later(OVERDUE_MS, self._watch)
        self.trouble(f"witness {self.key.witness_id} at {self.where} gives no answer within {OVERDUE_MS} ms")
        self._carrier.on_overdue()

    # -- answers -----------------------------------------------------------------------------------------------------

    def answered(self, number: int, reply: Message, trace: Trace) -> None:
        """A question's answer came. Raises ValueError when it is no answer to it."""
        if self.closed:
            return
        question = self._done(number)
        if question is None:
            raise ValueError(f"an answer to question {number}, which is not on its way")
        self._check_reply(question, reply)
        if not self._gone_back:
            self._check_time(trace)
        if self._gone_back:
            self.waiting.clear()
            return
        self.answered_count += 1
        self.state_bytes = trace.state_bytes
        self.trouble("")
        self._on_answer(reply)
        self.pump()

    def failed(self, number: int, reason: str) -> None:
        """No answer this time."""
        if not self.closed and self._done(number) is not None:
            self.trouble(f"witness {self.key.witness_id} at {self.where} gives no answer: {reason}")
            self.pump()

    def lost(self, number: int, reason: str) -> None:
        """The witness, or its store, says that the state cannot be believed."""
        if not self.closed and self._done(number) is not None:
            self.trouble(lost_text(self.key.witness_id, self.where, reason))
            self.pump()

    def trouble(self, text: str) -> None:
        """Report a change of what is wrong; "" is nothing. A witness that went back in time stays in trouble."""
        text = self._gone_back or text
        if text != self._trouble and not self.closed:
            self._trouble = text
            self._on_trouble(text)

    def close(self) -> None:
        """No callback comes after this."""
        self.closed = True
        self.on_way.clear()
        self.waiting.clear()

    def _done(self, number: int) -> Question | None:
        for kind, question in self.on_way.items():
            if question.number == number:
                del self.on_way[kind]
                return question
        return None

    def _check_reply(self, question: Question, reply: Message) -> None:
        asked = question.message
        if isinstance(asked, WitnessVote):
            fits = isinstance(reply, WitnessVoteResp) and reply.pre == asked.pre
        else:
            fits = isinstance(reply, WitnessAppendResp)
        if not fits or (reply.group, reply.from_, reply.to) != (asked.group, asked.to, asked.from_):
            raise ValueError(f"{type(reply).__name__} does not answer {type(asked).__name__}")

    def _check_time(self, trace: Trace) -> None:
        newest = self._newest
        reason = ""
        if newest is not None:
            if trace.incarnation != newest.incarnation:
                reason = "its state is of another creation than before"
            elif trace.version < newest.new_version:
                reason = f"its state went back from version {newest.new_version} to {trace.version}"
            elif trace.version == newest.new_version and trace.token != newest.new_token:
                reason = f"its state's version {trace.version} is not the one it was before"
        self._newest = trace
        if reason:
            self._gone_back = lost_text(self.key.witness_id, self.where, reason)
            self.trouble(self._gone_back)
