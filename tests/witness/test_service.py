"""The process's service with a network of lists and a simulated disk: strangers, the greedy, the sick disk."""

from __future__ import annotations

import errno
import json
from random import Random

import pytest

from durakv.witness import caller as callers
from durakv.witness import service as services
from durakv.witness import wire
from durakv.witness.service import DirectoryLockedError, WitnessService
from jstyle.sim.disk import SimDisk
from raft.codec import decode, encode
from raft.messages import Append, Message, WitnessVoteResp
from tests.witness.fakes import FakeClock, FakeNetwork, FakeRng, FakeStream, lane_disk
from tests.witness.places import CLUSTER, WITNESS, append, key, vote

DIR = "/witness"


class Served:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.disk: SimDisk = lane_disk(self.clock)
        self.network = FakeNetwork()
        self.events: list[str] = []
        self.fatal: list[OSError] = []
        self.service = WitnessService(
            self.clock, FakeRng(), self.disk, self.network, DIR, self.events.append, self.fatal.append
        )
        assert self.service.open("127.0.0.1", 7400) == 7400

    def call(self) -> Peer:
        assert self.network.factory is not None
        return Peer(self, self.network.factory())

    def create(self, group: int = 1) -> None:
        peer = self.call()
        peer.say(wire.hello(key(group), 0) + wire.request(wire.CREATE, 5))
        assert peer.frames() == [(wire.CREATED, 5, b"")]
        peer.leave()

    def files(self) -> list[str]:
        return sorted(self.disk.names)


class Peer:
    def __init__(self, served: Served, handler) -> None:
        self.served = served
        self.handler = handler
        self.stream = FakeStream()
        handler.on_open(self.stream)

    def say(self, data: bytes) -> None:
        self.handler.on_data(data)
        self.served.clock.run(50)

    def leave(self) -> None:
        self.handler.on_close(None)

    def frames(self) -> list[tuple[int, int, bytes]]:
        found = wire.FrameReader(wire.REPLY_BYTES_MAX).feed(bytes(self.stream.out))
        self.stream.out.clear()
        return [(kind, *wire.numbered(payload)) for kind, payload in found]

    def ask(self, message: Message, number: int = 1) -> list[tuple[int, int, bytes]]:
        self.say(wire.request(wire.QUESTION, number, encode(message)))
        return self.frames()


@pytest.fixture
def served() -> Served:
    return Served()


def granted(frames: list[tuple[int, int, bytes]]) -> bool:
    [(kind, number, rest)] = frames
    assert kind == wire.ANSWER
    reply = decode(wire.read_answer(number.to_bytes(8, "little") + rest)[2])
    assert isinstance(reply, WitnessVoteResp)
    return reply.granted


def test_a_conversation(served: Served):
    served.create()
    one, two = served.call(), served.call()
    one.say(wire.hello(key(), 1))
    two.say(wire.hello(key(), 2))
    assert granted(one.ask(vote(1, 2, (1, 0)), 7))
    assert not granted(two.ask(vote(2, 2, (1, 0)), 7))
    assert served.service.answered == 2 and not one.stream.ended


def test_a_request_in_single_bytes(served: Served):
    served.create()
    peer = served.call()
    for byte in wire.hello(key(), 1) + wire.request(wire.QUESTION, 1, encode(vote(1, 2, (1, 0)))):
        peer.handler.on_data(bytes([byte]))
    served.clock.run(50)
    assert granted(peer.frames())


def test_states_of_one_process_do_not_mix(served: Served):
    served.create(1)
    served.create(2)
    peer = served.call()
    peer.say(wire.hello(key(1), 1))
    assert granted(peer.ask(vote(1, 9, (1, 0))))
    beside = served.call()
    beside.say(wire.hello(key(2), 1))
    assert granted(beside.ask(vote(1, 2, (1, 0), group=2)))


def test_an_unknown_witness_is_a_lost_one(served: Served):
    peer = served.call()
    peer.say(wire.hello(key(7), 1))
    [(kind, number, text)] = peer.ask(vote(1, 2, (1, 0), group=7), 3)
    assert (kind, number) == (wire.LOST, 3) and b"there is no state" in text
    assert served.files() == [] and any("state lost" in event for event in served.events)


HELLO = wire.hello(key(), 1)
HOSTILE = {
    "noise": b"GET / HTTP/1.1\r\n\r\n",
    "a huge frame": b"\xff\xff\xff\x7f" + bytes(5),
    "a frame above the limit": wire.frame(wire.HELLO, bytes(513)),
    "a wrong checksum": HELLO[:-1] + b"x",
    "another protocol": wire.frame(wire.HELLO, b"DKPEER1\x00" + bytes(40)),
    "a short HELLO": wire.frame(wire.HELLO, b"DKWITP1\x00"),
    "witness 0": wire.frame(wire.HELLO, b"DKWITP1\x00" + CLUSTER + bytes(24)),
    "a question before HELLO": wire.request(wire.QUESTION, 1, encode(vote(1, 2, (1, 0)))),
    "a creation before HELLO": wire.request(wire.CREATE, 1),
    "a status without its word": wire.request(wire.STATUS, 1),
    "no number": HELLO + wire.frame(wire.QUESTION, b"123"),
    "an empty message": HELLO + wire.request(wire.QUESTION, 1),
    "an unknown message": HELLO + wire.request(wire.QUESTION, 1, b"\xc8" + bytes(40)),
    "a message cut short": HELLO + wire.request(wire.QUESTION, 1, encode(vote(1, 2, (1, 0)))[:-1]),
    "a message between nodes": HELLO + wire.request(
        wire.QUESTION, 1, encode(Append(1, 1, WITNESS, 2, 0, 0, 0, 0, 0, []))),
    "an answer": HELLO + wire.request(wire.QUESTION, 1, encode(WitnessVoteResp(1, 1, WITNESS, 2, True, False))),
    "another group's question": HELLO + wire.request(wire.QUESTION, 1, encode(vote(1, 2, (1, 0), group=2))),
    "another node's question": HELLO + wire.request(wire.QUESTION, 1, encode(vote(2, 2, (1, 0)))),
    "too many members": HELLO + wire.request(
        wire.QUESTION, 1, encode(append(1, 2, (2, 1), tuple(range(1, 50))))),
    "a creator's question": wire.hello(key(), 0) + wire.request(wire.QUESTION, 1, encode(vote(1, 2, (1, 0)))),
    "HELLO twice": HELLO + HELLO,
    "an answer's frame": HELLO + wire.request(wire.ANSWER, 1),
    "an unknown frame": HELLO + wire.request(99, 1),
    "a creation with more": HELLO + wire.request(wire.CREATE, 1, b"more"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(HOSTILE))
def test_a_caller_who_says_something_else_is_cut_off_and_nothing_changes(served: Served, what: str):
    served.create()
    before = served.files()
    peer = served.call()
    peer.say(HOSTILE[what])
    assert peer.stream.ended and peer.frames() == []
    assert any(event.startswith("refused ") and "127.0.0.1" in event for event in served.events)
    peer.leave()
    assert served.files() == before
    good = served.call()
    good.say(HELLO)
    assert granted(good.ask(vote(1, 2, (1, 0))))


def test_random_bytes_and_damaged_frames_change_nothing(served: Served):
    served.create()
    random = Random(5)
    good = HELLO + wire.request(wire.QUESTION, 1, encode(vote(1, 2, (1, 0))))
    before = {name: bytes(inode.data) for name, inode in served.disk.names.items()}
    for turn in range(400):
        peer = served.call()
        if turn % 2:
            data = bytearray(good)
            data[random.randrange(4, len(data))] ^= 1 << random.randrange(8)
        else:
            data = bytearray(random.randbytes(random.randrange(1, 300)))
        peer.handler.on_data(bytes(data))
        peer.leave()
    served.clock.run(1000)
    assert {name: bytes(inode.data) for name, inode in served.disk.names.items()} == before
    assert served.fatal == []


def test_refusals_do_not_fill_the_log(served: Served):
    for _ in range(500):
        peer = served.call()
        peer.handler.on_data(b"x" * 100)
        peer.leave()
    assert len(served.events) == 20
    served.clock.run(11_000)
    assert served.events[-1] == "refused 480 more callers in 10 s"


def test_a_greedy_caller_is_cut_off(served: Served):
    served.create()
    peer = served.call()
    peer.handler.on_data(HELLO)
    for number in range(callers.OPEN_MAX + 1):
        peer.handler.on_data(wire.request(wire.QUESTION, number, encode(vote(1, 2 + number, (1, 0)))))
    assert peer.stream.ended
    served.clock.run(100)
    assert peer.stream.out == b""


def test_a_caller_who_does_not_read_is_cut_off(served: Served):
    served.create()
    peer = served.call()
    peer.say(HELLO)
    peer.stream.unread = callers.UNREAD_BYTES_MAX + 1
    peer.ask(vote(1, 2, (1, 0)))
    assert peer.stream.ended


def test_silent_callers_are_cut_off_strangers_sooner(served: Served):
    served.create()
    stranger, known = served.call(), served.call()
    known.say(HELLO)
    served.clock.run(callers.HELLO_MS + 1100)
    assert stranger.stream.ended and not known.stream.ended
    served.clock.run(callers.IDLE_MS + 1100)
    assert known.stream.ended


def test_only_so_many_callers(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(services, "CALLERS_MAX", 3)
    peers = [served.call() for _ in range(4)]
    assert [peer.stream.ended for peer in peers] == [False, False, False, True]
    peers[0].leave()
    assert not served.call().stream.ended


def test_only_so_many_states(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(services, "STATES_MAX", 2)
    served.disk.open(f"{DIR}/LOCK", create=True)
    served.create(1)
    served.create(2)
    peer = served.call()
    peer.say(wire.hello(key(3), 0) + wire.request(wire.CREATE, 1))
    [(kind, _, text)] = peer.frames()
    assert kind == wire.REFUSED and b"keeps 2 states already" in text


def test_a_created_id_is_not_created_again(served: Served):
    served.create()
    peer = served.call()
    peer.say(wire.hello(key(), 0) + wire.request(wire.CREATE, 4))
    [(kind, number, text)] = peer.frames()
    assert (kind, number) == (wire.EXISTS, 4) and b"once, ever" in text


def test_a_full_disk_refuses_and_a_failed_sync_ends_the_process(served: Served):
    served.create()
    peer = served.call()
    peer.say(HELLO)
    original = served.disk.change
    failing = {"create": errno.ENOSPC}

    def change(kind: str, path: str) -> None:
        if kind in failing:
            raise OSError(failing[kind], "simulated", path)
        original(kind, path)

    served.disk.change = change  # type: ignore[method-assign]
    [(kind, _, text)] = peer.ask(vote(1, 2, (1, 0)))
    assert kind == wire.REFUSED and b"simulated" in text and served.fatal == []
    failing.clear()
    assert granted(peer.ask(vote(1, 2, (1, 0))))
    failing["fsync_dir"] = errno.EIO
    assert peer.ask(vote(1, 3, (1, 0))) == []
    assert len(served.fatal) == 1 and "sync failed" in str(served.fatal[0])
    assert peer.stream.ended and served.network.factory is None


def test_a_directory_has_one_process(served: Served):
    with pytest.raises(DirectoryLockedError, match="in use by another witness process"):
        WitnessService(
            served.clock, FakeRng(), served.disk, FakeNetwork(), DIR, served.events.append, served.fatal.append
        ).open("127.0.0.1", 1)


def test_the_status(served: Served):
    served.create(1)
    served.create(2)
    peer = served.call()
    peer.say(HELLO)
    peer.ask(append(1, 2, (2, 1), (1, WITNESS)))
    served.disk.open(f"{DIR}/{key(2).name()}/1.st").pwrite(b"?", 20)
    asking = served.call()
    asking.say(wire.request(wire.STATUS, 8, wire.STATUS_MAGIC))
    [(kind, number, text)] = asking.frames()
    assert (kind, number) == (wire.REPORT, 8)
    report = json.loads(text)
    assert (report["states"], report["answered"], report["callers"], report["directory"]) == (2, 1, 2, DIR)
    good, bad = report["groups"]
    assert (good["group"], good["witness_id"], good["answered"], good["trouble"]) == (1, WITNESS, 1, "")
    assert good["replication_set"] == [1, WITNESS] and good["last_log"] == [2, 1] and good["bytes"] == 140
    assert bad["group"] == 2 and "damaged" in bad["trouble"] and bad["bytes"] == 0
    assert report["bytes"] == 140


def test_nobody_is_answered_after_close(served: Served):
    served.create()
    peer = served.call()
    peer.say(HELLO)
    peer.handler.on_data(wire.request(wire.QUESTION, 1, encode(vote(1, 2, (1, 0)))))
    served.service.close()
    served.clock.run(100)
    assert peer.frames() == [] and peer.stream.ended
