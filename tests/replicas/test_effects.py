"""What replicas are sent makes a stock server equal, frame by frame, whatever commands led there.

A follower applies the log of random programs and writes down what changes at random moments; the commands of each frame
go to a redis-server, whose whole content must then be the follower's. Now and then the server begins anew with a file
made of the checkpoint, as a replica does.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from durakv.rdb.writer import RdbWriter
from durakv.replicas.effects import Effects
from durakv.replicas.rdb_rows import export_rows
from tests.checkpoint.follower import Follower
from tests.commands.campaign.programs import TYPES, Maker
from tests.engine.rig import TABLE, Client, Rig
from tests.rdb.stock import stock
from tests.replicas.programs import KINDS, program
from tests.replicas.stocks import Pipe, Target, assert_equal, held, saved

pytestmark = pytest.mark.live

_KNOWN = frozenset(name for row in TABLE.all for name in [row.name.split("|")[0].upper().encode()])
_LEFT_OUT = (b"DEBUG", b"SHUTDOWN", b"RESET", b"QUIT", b"CLIENT", b"HELLO", b"AUTH", b"CONFIG", b"SUBSCRIBE",
             b"MONITOR")  # fmt: skip
# The stock server's own clock must not reach any deadline.
_LATER_NS = 3_000_000_000_000_000_000
_REDIS_7_0 = 10
# Of the commands that end a frame, after which all is compared.
_FRAMES_SHARE = 0.15


class Replica:
    """A stock server that is sent what a follower writes down."""

    def __init__(self, client, directory: Path) -> None:
        self.client = client
        self.directory = directory
        self.pipe = Pipe(client.connection_pool.connection_kwargs["port"])
        self.frames = 0
        self.begin()

    def begin(self) -> None:
        """The stream from here on is a new one."""
        self.effects = Effects(self._frame, field_deadlines=False)

    def _frame(self, index: int, data: bytes) -> None:
        self.index = index
        self.frames += bool(data)
        self.pipe.apply(data)

    def begin_with_file(self, follower: Follower) -> None:
        """Lose everything, load what the checkpoint has."""
        target = Target()
        writer = RdbWriter(target, _REDIS_7_0)
        exported = export_rows(follower.kv, writer, _REDIS_7_0, {}, keys=True, functions=True)
        writer.finish()
        assert exported.index == follower.capture.index
        (self.directory / "dump.rdb").write_bytes(bytes(target.data))
        self.client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        self.pipe.apply(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
        self.begin()

    def check(self, follower: Follower) -> None:
        assert self.index == follower.capture.index
        assert_equal(held(follower.applier.ks), saved(self.client, self.directory))
        programs = follower.applier.ks.programs
        assert programs is not None
        listed = self.client.execute_command("FUNCTION", "LIST", "WITHCODE")
        theirs = {row[b"library_name"]: row[b"library_code"] for row in listed}
        assert theirs == {name: library.code for name, library in programs.libraries.items()}


def _run(replica: Replica, steps, dice: Random) -> None:
    rig = Rig()
    rig.clock.now_ns += _LATER_NS
    clients: dict[int, Client] = {}
    follower = Follower()
    replica.client.flushall()
    replica.client.execute_command("FUNCTION", "FLUSH")
    replica.begin()
    replica.effects.database(0)
    follower.capture.listener = replica.effects
    answer: object = None
    while True:
        try:
            number, words = steps.send(answer)
        except StopIteration:
            break
        client = clients.get(number)
        if client is None or client.closed:
            client = clients[number] = Client(rig)
        rig.pass_ms(dice.choice((0, 0, 1, 20)))
        client.send(words)
        rig.settle()
        replies = client.got()
        answer = replies[0] if replies else None
        if dice.random() < _FRAMES_SHARE:
            _catch_up(rig, follower)
            follower.write_down(commit=True)
            follower.capture.listener = replica.effects
            replica.check(follower)
            if dice.random() < 0.05:
                replica.begin_with_file(follower)
                follower.capture.listener = replica.effects
                replica.index = follower.capture.index
                replica.check(follower)
            elif dice.random() < 0.05:
                follower.restart()
                follower.capture.listener = replica.effects
    _catch_up(rig, follower)
    follower.write_down(commit=True)
    if replica.effects._out or follower.capture.index:
        replica.check(follower)


def _catch_up(rig: Rig, follower: Follower) -> None:
    for entry in rig.consensus.committed[follower.applier.applied :]:
        follower.apply(entry)


def _campaign(kind: str, seed: int, length: int):
    for number, words in Maker(kind, _KNOWN).program(seed, length):
        if words[0].upper() not in _LEFT_OUT:
            yield number, [bytes(word) for word in words]


def _large(kind: str, dice: Random, length: int):
    made = program(kind, dice, length)
    answer = None
    while True:
        try:
            words = made.send(answer)
        except StopIteration:
            return
        answer = yield 0, words


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("stock")
    with stock("redis-server", directory, "--proto-max-bulk-len", "1gb") as client:
        made = Replica(client, directory)
        yield made
        made.pipe.close()


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "pubsub"])
def test_commands_of_a_type(replica: Replica, kind: str) -> None:
    before = replica.frames
    _run(replica, _campaign(kind, 1, 100), Random(f"effects {kind}"))
    assert replica.frames > before + 4


@pytest.mark.parametrize("kind", KINDS)
def test_large_values(replica: Replica, kind: str) -> None:
    before = replica.frames
    dice = Random(f"large {kind}")
    _run(replica, _large(kind, dice, 200), dice)
    assert replica.frames > before + 8
