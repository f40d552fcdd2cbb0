"""The client's connection: made when needed, made again with pauses, dropped when quiet, and never trusted blindly."""

from __future__ import annotations

from itertools import pairwise

import pytest

from durakv.witness import wire
from durakv.witness.exchange import OVERDUE_MS
from durakv.witness.store import Trace
from durakv.witness.tcp import IDLE_MS, RETRY_MAX_MS, TcpLink
from raft.codec import encode
from raft.messages import Message, WitnessVoteResp
from tests.witness.fakes import FakeClock, FakeNetwork, FakeStream
from tests.witness.places import WITNESS, key, vote


class Dialler:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.answers: list[Message] = []
        self.troubles: list[str] = []
        self.link = TcpLink(
            self.network, self.clock, "w", 7400, key(), 1, "tcp://w:7400", self.answers.append, self.troubles.append
        )
        self.version = 0

    def opened(self) -> FakeStream:
        stream = FakeStream()
        self.network.dialled[-1].on_open(stream)
        return stream

    def asked(self, stream: FakeStream) -> list[tuple[int, bytes]]:
        """(number, message) of the questions written, after the HELLO of the first time."""
        frames = wire.FrameReader(1 << 20).feed(bytes(stream.out))
        stream.out.clear()
        return [wire.numbered(payload) for kind, payload in frames if kind == wire.QUESTION]

    def answer(self, number: int, *, granted: bool = True) -> None:
        self.version += 1
        trace = Trace(b"i" * 16, self.version, b"%08d" % self.version, self.version, b"%08d" % self.version, 124)
        reply = encode(WitnessVoteResp(1, WITNESS, 1, 2, granted, False))
        self.network.dialled[-1].on_data(wire.answer_reply(number, trace, reply))


@pytest.fixture
def dialler() -> Dialler:
    return Dialler()


def test_nothing_is_dialled_before_the_first_question(dialler: Dialler):
    dialler.clock.run(60_000)
    assert dialler.network.dialled == []
    dialler.link.send(vote(1, 2, (1, 0)))
    assert len(dialler.network.dialled) == 1 and dialler.link.sent == 0
    stream = dialler.opened()
    assert bytes(stream.out).startswith(wire.hello(key(), 1))
    [(number, message)] = dialler.asked(stream)
    assert message == encode(vote(1, 2, (1, 0)))
    dialler.answer(number)
    assert len(dialler.answers) == 1 and dialler.link.bytes == 124 and dialler.troubles == []


def test_a_witness_out_of_reach_is_dialled_with_longer_pauses_and_reported_once(dialler: Dialler):
    dialled_at: list[int] = []
    for _ in range(400):
        dialler.link.send(vote(1, 2, (1, 0)))
        if len(dialler.network.dialled) > len(dialled_at):
            dialled_at.append(dialler.clock.monotonic_ns() // 1_000_000)
            dialler.network.dialled[-1].on_close(ConnectionRefusedError("refused"))
        dialler.clock.run(25)
    pauses = [after - before for before, after in pairwise(dialled_at)]
    assert pauses[0] < 150 and max(pauses) <= RETRY_MAX_MS + 50 and pauses == sorted(pauses)
    assert len(dialled_at) < 20
    assert dialler.troubles == [f"witness {WITNESS} at tcp://w:7400 cannot be reached: refused"]


def test_nobody_dials_for_a_question_nobody_repeats(dialler: Dialler):
    dialler.link.send(vote(1, 2, (1, 0)))
    for _ in range(200):
        if not dialler.network.dialled:
            break
        dialler.network.dialled.pop().on_close(ConnectionRefusedError("refused"))
        dialler.clock.run(1000)
    assert dialler.network.dialled == []
    dialler.link.send(vote(1, 3, (1, 0)))
    assert len(dialler.network.dialled) == 1


def test_a_question_on_its_way_is_asked_again_on_the_next_connection(dialler: Dialler):
    dialler.link.send(vote(1, 2, (1, 0)))
    first = dialler.asked(dialler.opened())
    dialler.network.dialled[-1].on_close(ConnectionResetError("reset"))
    dialler.clock.run(100)
    second = dialler.asked(dialler.opened())
    assert first == second
    dialler.answer(second[0][0])
    assert len(dialler.answers) == 1 and dialler.troubles[-1] == ""


def test_an_answered_question_is_not(dialler: Dialler):
    dialler.link.send(vote(1, 2, (1, 0)))
    [(number, _)] = dialler.asked(dialler.opened())
    dialler.answer(number)
    dialler.network.dialled[-1].on_close(None)
    dialler.clock.run(5000)
    assert len(dialler.network.dialled) == 1 and dialler.troubles == []


def test_a_hung_witness_is_hung_up_on(dialler: Dialler):
    dialler.link.send(vote(1, 2, (1, 0)))
    stream = dialler.opened()
    dialler.clock.run(OVERDUE_MS + 1)
    assert stream.ended and len(dialler.troubles) == 1 and "no answer within" in dialler.troubles[0]
    dialler.network.dialled[-1].on_close(None)
    assert len(dialler.troubles) == 1
    dialler.link.send(vote(1, 3, (1, 0)))
    dialler.clock.run(100)
    assert len(dialler.network.dialled) == 2


def test_a_quiet_connection_is_dropped_without_a_word(dialler: Dialler):
    dialler.link.send(vote(1, 2, (1, 0)))
    stream = dialler.opened()
    [(number, _)] = dialler.asked(stream)
    dialler.answer(number)
    dialler.clock.run(IDLE_MS - 100)
    assert not stream.ended
    dialler.clock.run(1300)
    assert stream.ended and dialler.troubles == []
    dialler.link.send(vote(1, 3, (1, 0)))
    assert len(dialler.network.dialled) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        wire.frame(wire.ANSWER, b"short"),
        wire.request(wire.CREATED, 1),
        wire.answer_reply(77, Trace(b"i" * 16, 1, b"t" * 8, 1, b"t" * 8, 1),
                          encode(WitnessVoteResp(1, WITNESS, 1, 2, True, False))),
        wire.answer_reply(1, Trace(b"i" * 16, 1, b"t" * 8, 1, b"t" * 8, 1),
                          encode(WitnessVoteResp(1, WITNESS, 2, 2, True, False))),
        wire.answer_reply(1, Trace(b"i" * 16, 1, b"t" * 8, 1, b"t" * 8, 1), b"?"),
    ],
)  # fmt: skip
def test_a_witness_that_is_none_is_hung_up_on_and_reported(dialler: Dialler, data: bytes):
    dialler.link.send(vote(1, 2, (1, 0)))
    stream = dialler.opened()
    dialler.network.dialled[-1].on_data(data)
    assert stream.ended and dialler.answers == []


def test_an_answer_that_comes_over_an_old_connection_is_not_heard(dialler: Dialler):
    dialler.link.send(vote(1, 2, (1, 0)))
    [(number, _)] = dialler.asked(dialler.opened())
    old = dialler.network.dialled[-1]
    dialler.clock.run(OVERDUE_MS + 1)
    dialler.clock.run(200)
    dialler.network.dialled.append(old)
    dialler.answer(number)
    assert dialler.answers == []


def test_closing_in_the_middle_of_dialling(dialler: Dialler):
    dialler.link.send(vote(1, 2, (1, 0)))
    dialler.link.close()
    assert dialler.opened().ended
    dialler.network.dialled[-1].on_close(None)
    dialler.clock.run(10_000)
    assert len(dialler.network.dialled) == 1 and dialler.troubles == []


def test_closing_from_within_an_answer(dialler: Dialler):
    made = TcpLink(
        dialler.network, dialler.clock, "w", 7400, key(), 1, "w", lambda _: made.close(), dialler.troubles.append
    )
    made.send(vote(1, 2, (1, 0)))
    stream = dialler.opened()
    [(number, _)] = dialler.asked(stream)
    made.send(vote(1, 3, (1, 0)))
    dialler.answer(number)
    assert stream.ended
    dialler.clock.run(10_000)
    assert len(dialler.network.dialled) == 1
