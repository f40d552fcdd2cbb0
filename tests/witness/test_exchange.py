"""Which question is on its way, what is reported when, and that nobody is led back in time."""

from __future__ import annotations

import pytest

from durakv.witness.errors import STATE_LOST
from durakv.witness.exchange import OVERDUE_MS, Exchange
from durakv.witness.store import Trace
from raft.messages import Message, WitnessAppend, WitnessAppendResp, WitnessVote, WitnessVoteResp
from tests.witness.fakes import FakeCarrier, FakeClock
from tests.witness.places import WITNESS, append, key, vote


class Desk:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.carrier = FakeCarrier()
        self.answers: list[Message] = []
        self.troubles: list[str] = []
        self.exchange = Exchange(
            self.clock, key(), 1, "tcp://w:1", self.carrier, self.answers.append, self.troubles.append
        )
        self.version = 1

    def on_way(self) -> list[Message]:
        return [question.message for question in self.exchange.on_way.values()]

    def answer(self, place: int = -1, trace: Trace | None = None) -> None:
        question = self.carrier.carried[place]
        asked = question.message
        reply: Message
        if isinstance(asked, WitnessVote):
            reply = WitnessVoteResp(1, WITNESS, 1, asked.term, True, asked.pre)
        else:
            assert isinstance(asked, WitnessAppend)
            reply = WitnessAppendResp(1, WITNESS, 1, asked.term, True, asked.last_log_subterm, asked.index)
        self.version += 1
        before, after = self.version - 1, self.version
        made = trace or Trace(b"i", before, b"%d" % before, after, b"%d" % after, 99)
        self.exchange.answered(question.number, reply, made)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_one_question_of_a_kind_is_on_its_way_and_the_newest_waits(desk: Desk):
    votes = [vote(1, term, (1, 0)) for term in range(1, 5)]
    for message in votes:
        desk.exchange.ask(message)
    assert desk.on_way() == [votes[0]]
    desk.exchange.ask(vote(1, 9, (1, 0), pre=True))
    desk.exchange.ask(append(1, 9, (9, 1), (1, WITNESS)))
    assert len(desk.on_way()) == 3
    desk.answer(0)
    assert votes[3] in desk.on_way() and votes[1] not in desk.on_way() and votes[2] not in desk.on_way()
    assert desk.exchange.sent == 4 and desk.exchange.answered_count == 1 and desk.exchange.state_bytes == 99


def test_a_question_asked_again_while_it_is_on_its_way_is_not_sent_again(desk: Desk):
    for _ in range(5):
        desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.answer()
    assert desk.exchange.sent == 1 and desk.exchange.waiting == {}
    # Asked again after the answer it is a new question.
    desk.exchange.ask(vote(1, 2, (1, 0)))
    assert desk.exchange.sent == 2


def test_asking_the_one_on_its_way_again_withdraws_what_waited(desk: Desk):
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.exchange.ask(vote(1, 3, (1, 0)))
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.answer()
    assert desk.exchange.sent == 1


def test_a_broken_connection_brings_back_what_was_on_its_way_unless_something_newer_waits(desk: Desk):
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.exchange.ask(append(1, 2, (2, 1), (1, WITNESS)))
    desk.exchange.ask(vote(1, 3, (1, 0)))
    desk.carrier.open = False
    desk.exchange.scattered()
    assert desk.on_way() == []
    desk.carrier.open = True
    desk.exchange.pump()
    assert sorted(type(m).__name__ for m in desk.on_way()) == ["WitnessAppend", "WitnessVote"]
    assert [m.term for m in desk.on_way() if isinstance(m, WitnessVote)] == [3]
    with pytest.raises(ValueError, match="not on its way"):
        desk.answer(0)


def test_a_question_that_waited_too_long_for_a_connection_is_forgotten(desk: Desk):
    desk.carrier.open = False
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.clock.run(OVERDUE_MS + 1)
    desk.exchange.ask(append(1, 2, (2, 1), (1, WITNESS)))
    desk.exchange.forget_old()
    desk.carrier.open = True
    desk.exchange.pump()
    assert [type(m) for m in desk.on_way()] == [WitnessAppend]


def test_a_question_that_is_overdue_is_reported_once_and_again_to_the_carrier(desk: Desk):
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.clock.run(OVERDUE_MS - 1)
    assert desk.carrier.overdue == 0
    desk.clock.run(2)
    assert desk.carrier.overdue == 1 and len(desk.troubles) == 1 and "within 2000 ms" in desk.troubles[0]
    desk.clock.run(OVERDUE_MS)
    assert desk.carrier.overdue == 2 and len(desk.troubles) == 1
    desk.answer()
    assert desk.troubles[1:] == [""]
    desk.clock.run(10 * OVERDUE_MS)
    assert desk.carrier.overdue == 2


def test_a_later_question_has_its_own_time(desk: Desk):
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.clock.run(OVERDUE_MS / 2)
    desk.answer()
    desk.exchange.ask(vote(1, 3, (1, 0)))
    desk.clock.run(OVERDUE_MS * 0.75)
    assert desk.carrier.overdue == 0
    desk.clock.run(OVERDUE_MS / 2)
    assert desk.carrier.overdue == 1


def test_trouble_is_told_at_each_change_and_its_end_too(desk: Desk):
    for term in (2, 3, 4):
        desk.exchange.ask(vote(1, term, (1, 0)))
        desk.exchange.failed(desk.carrier.carried[-1].number, "no space")
    assert len(desk.troubles) == 1 and "no space" in desk.troubles[0]
    desk.exchange.ask(vote(1, 5, (1, 0)))
    desk.exchange.lost(desk.carrier.carried[-1].number, "gone")
    assert desk.troubles[1].startswith(STATE_LOST) and len(desk.troubles) == 2
    desk.exchange.ask(vote(1, 6, (1, 0)))
    desk.answer()
    assert desk.troubles[2:] == [""]


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (Trace(b"j", 2, b"2", 2, b"2", 9), "another creation"),
        (Trace(b"i", 1, b"1", 2, b"2", 9), "went back from version 2 to 1"),
        (Trace(b"i", 2, b"x", 3, b"y", 9), "version 2 is not the one"),
    ],
)
def test_a_state_of_an_earlier_time_or_another_creation_is_never_believed_again(desk: Desk, trace: Trace, reason: str):
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.answer(trace=Trace(b"i", 1, b"1", 2, b"2", 9))
    desk.exchange.ask(vote(1, 3, (1, 0)))
    desk.exchange.ask(vote(1, 4, (1, 0)))
    desk.answer(trace=trace)
    assert len(desk.answers) == 1
    assert len(desk.troubles) == 1 and desk.troubles[0].startswith(STATE_LOST) and reason in desk.troubles[0]
    sent = desk.exchange.sent
    desk.exchange.ask(vote(1, 5, (1, 0)))
    assert desk.exchange.sent == sent
    desk.exchange.trouble("")
    assert len(desk.troubles) == 1


def test_an_answer_to_something_else_is_refused(desk: Desk):
    for reply in (
        WitnessAppendResp(1, WITNESS, 1, 2, True, 0, 0), WitnessVoteResp(1, WITNESS, 1, 2, True, True),
        WitnessVoteResp(2, WITNESS, 1, 2, True, False), WitnessVoteResp(1, WITNESS, 3, 2, True, False),
        WitnessVoteResp(1, 3, 1, 2, True, False), vote(1, 2, (1, 0)),
    ):  # fmt: skip
        desk.exchange.ask(vote(1, 2, (1, 0)))
        with pytest.raises(ValueError, match="does not answer"):
            desk.exchange.answered(desk.carrier.carried[-1].number, reply, Trace(b"i", 1, b"1", 1, b"1", 9))
    assert desk.answers == []


def test_nothing_is_said_after_close(desk: Desk):
    desk.exchange.ask(vote(1, 2, (1, 0)))
    desk.exchange.close()
    desk.answer()
    desk.exchange.failed(1, "x")
    desk.clock.run(10 * OVERDUE_MS)
    assert (desk.answers, desk.troubles, desk.carrier.overdue) == ([], [], 0)
