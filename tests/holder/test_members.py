"""What a member refuses: wrong callers, wrong files, a disk that fails; and where members are said to be."""

from __future__ import annotations

from unittest import mock

import pytest

from durakv.holder import wire
from durakv.holder.address import format_members, parse_members
from durakv.holder.member import VISITORS_MAX
from durakv.holder.visitor import HELLO_MS
from durakv.storage.errors import DirectoryLocked, DirectoryUnusable, IdentityError
from jstyle.sim.atlas import MODES, Atlas
from jstyle.sim.disk_faults import DiskFaults, FaultOptions
from jstyle.sim.guard import no_real_world
from jstyle.sim.net import HostNetwork
from raft.codec import encode
from raft.messages import Heartbeat
from raft.primary_backup.messages import Outcome
from tests.holder.holder_histories import founded, led
from tests.holder.holder_world import CLUSTER, MEMBERS, PORT


def test_addresses_of_members():
    members = parse_members(["9=[::1]:27000", "1=10.0.0.1:27000"])
    assert list(members.items()) == [(1, ("10.0.0.1", 27000)), (9, ("::1", 27000))]
    assert format_members(members) == ["1=10.0.0.1:27000", "9=[::1]:27000"]
    for texts, why in (
        (["1"], "names no member"), (["x=h:1"], "names no member"), (["0=h:1"], "names no member"),
        (["1=h"], "not host:port"), (["1=h:0"], "not a port"), (["1=h:1", "1=g:2"], "listed twice"),
        ([], "0 members"), ([f"{i}=h:1" for i in range(1, 9)], "8 members"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            parse_members(texts)


class Stranger:
    """Dials a member and says bytes."""

    def __init__(self, world, data: bytes) -> None:
        self.data = data
        self.heard = b""
        self.closed = False
        HostNetwork(world.fabric, "m4").connect("m9", PORT, self, 500)

    def on_open(self, stream) -> None:
        if self.data:
            stream.write(self.data)

    def on_data(self, data: bytes) -> None:
        self.heard += data

    def on_close(self, error) -> None:
        self.closed = True


def hello(cluster: bytes = CLUSTER, kind: int = wire.AS_CALLER, from_id: int = 4, to_id: int = 9) -> bytes:
    return wire.Hello(cluster, kind, from_id, to_id).frame()


MEMBER = hello(kind=wire.AS_MEMBER, from_id=1)
GOOD = Heartbeat(1, 1, 9, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 10, "frame"),
        (wire.request(wire.CALL, 1), "did not say who it is"),
        (wire.frame(wire.HELLO, b"x"), "wrong length"),
        (hello()[:-1] + b"\xff", "checksum"),
        (hello(cluster=bytes(15) + b"x"), "belongs to cluster"),
        (hello(to_id=2), "looks for member 2"),
        (hello(kind=wire.AS_MEMBER, from_id=9), "none of the others"),
        (hello(kind=wire.AS_MEMBER, from_id=5), "none of the others"),
        (hello() + wire.request(wire.CALL, 1, b"no call"), "call"),
        (hello() + wire.request(99, 1), "kind 99"),
        (hello() + wire.frame(wire.CALL, b""), "without a number"),
        (hello() + wire.request(wire.REPLACE, 1, b"x"), "wrong length"),
        (hello() + wire.frame(wire.RAFT, encode(GOOD)), "kind 1"),
        (hello(bytes(16), wire.AS_STRANGER, 0, 0) + wire.request(wire.CALL, 1, b""), "from a stranger"),
        (MEMBER + wire.frame(wire.RAFT, encode(Heartbeat(1, 2, 9, 1, 0, 0, 0))), "from 2"),
        (MEMBER + wire.frame(wire.RAFT, encode(GOOD)[:-1]), "malformed"),
        (MEMBER + wire.request(wire.STATUS, 1), "from a member"),
    ],
)  # fmt: skip
def test_a_wrong_caller_is_cut_off(data: bytes, why: str):
    with no_real_world():
        world = led()
        stranger = Stranger(world, data)
        world.run(300)
        assert stranger.closed and stranger.heard == b""
        assert any(why in text for text in world.machines[9].events), world.machines[9].events


def test_silent_and_too_many_callers_are_cut_off():
    with no_real_world():
        world = led()
        silent = Stranger(world, b"")
        world.run(HELLO_MS - 1000)
        assert not silent.closed
        world.run(1500)
        assert silent.closed
        asked = Stranger(world, hello(bytes(16), wire.AS_STRANGER, 0, 0) + wire.request(wire.STATUS, 7))
        world.run(HELLO_MS + 1000)
        assert not asked.closed and b'"member": 9' in asked.heard
        many = [Stranger(world, hello()) for _ in range(VISITORS_MAX)]
        world.run(500)
        assert 0 < sum(one.closed for one in many) < 10
        assert any("callers already" in text for text in world.machines[9].events)


def test_a_directory_is_one_process_and_one_member():
    world = led()
    machine = world.machines[9]
    machine.boots = 2
    with pytest.raises(DirectoryLocked, match="in use by another process"):
        machine.start()
    machine.crash()
    machine.disk.unlink("/data/holder/member")
    with pytest.raises(IdentityError, match="a new id"):
        world.run(3000)


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_disk_that_fails_ends_the_process_before_anything_is_promised(kind):
    with no_real_world():
        world = founded()
        leader = world.leader()
        fatal: list[OSError] = []
        leader.member._lane._on_fatal = fatal.append
        options = FaultOptions(write_eio=1.0) if kind == "write" else FaultOptions(fsync_eio=1.0)
        for machine in (world.machines[i] for i in MEMBERS):
            machine.disk.faults = DiskFaults(machine.disk, machine.id, world.random, options, Atlas(1, [1], MODES[0]))
            machine.member._lane._on_fatal = fatal.append
        seen = leader.member.register.shard(3)
        answer = world.ask(4, world.change(4, seen))
        assert answer.outcome == Outcome.UNKNOWN
        assert len(fatal) >= 2 and leader.member.register.shard(3) == seen


def test_a_full_volume_is_met_at_the_start_and_said():
    world = led()
    machine = world.machines[9]
    machine.crash()
    faults = DiskFaults(machine.disk, 9, world.random, FaultOptions(), Atlas(1, [1], MODES[0]))
    machine.disk.faults = faults
    faults.full = True
    with pytest.raises(DirectoryUnusable, match="free some space"):
        world.run(3000)


def test_a_voter_without_an_address_is_named():
    world = led()
    machine = world.machines[9]
    machine.crash()
    with mock.patch.dict(MEMBERS):
        del MEMBERS[2]
        assert world.run(5000, lambda: machine.boots == 2 and machine.alive())
    assert any("member 2 has no address" in text for text in machine.events)
