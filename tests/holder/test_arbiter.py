"""``durakv arbiter`` as a person and a kernel treat it: three of them are a config holder of their own."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from durakv.cli.arbiter import ArbiterError, create_now, replace_now, status_of
from durakv.holder.client import HolderClient
from raft.primary_backup.messages import Outcome
from raft.primary_backup.types import ShardConfig
from tests.holder.holder_world import CLUSTER, SHARD
from tests.holder.real import Arbiter, Loop, free_ports, refused, run

pytestmark = [pytest.mark.live, pytest.mark.slow]


class Holder:
    def __init__(self, base: Path) -> None:
        ports = free_ports(4)
        self.members = dict(zip((1, 2, 9, 10), ports, strict=True))
        self.arbiters = {i: Arbiter(base / f"a{i}", i, self.members) for i in self.members}
        self.loop = Loop()
        addresses = {i: ("127.0.0.1", port) for i, port in self.members.items()}
        self.client = HolderClient(
            self.loop.clock, self.loop.network, CLUSTER, 4, addresses, self.loop.answered, timeout_ms=1500
        )  # fmt: skip

    def settled(self) -> ShardConfig:
        """What is in force, asked until a member leads."""
        deadline = time.monotonic() + 20
        while True:
            answer = self.loop.ask(self.client, self.loop.read())
            if answer.outcome == Outcome.OK:
                assert answer.config is not None
                return answer.config
            assert time.monotonic() < deadline, self.client.health().trouble
            self.loop.pass_s(0.05)

    def close(self) -> None:
        self.client.close()
        self.loop.close()
        for one in self.arbiters.values():
            if one.process is not None:
                one.end()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    made = Holder(tmp_path)
    for i in (1, 2, 9):
        made.arbiters[i].create("--members", "1,2,9")
        made.arbiters[i].start()
    yield made
    made.close()


def test_killed_members_forget_nothing_and_one_is_replaced(holder: Holder):
    loop, client = holder.loop, holder.client
    deadline = time.monotonic() + 20
    while loop.ask(client, loop.create()).outcome != Outcome.OK:
        assert time.monotonic() < deadline
    config = holder.settled()
    for node in (1, 2):
        answer = loop.ask(client, loop.cas(node, config))
        while answer.outcome == Outcome.UNKNOWN:
            answer = loop.ask(client, loop.cas(node, holder.settled()))
        assert answer.outcome == Outcome.OK and answer.config is not None, answer.reason
        leader = client.health().leader
        holder.arbiters[leader].end()
        config = holder.settled()
        assert config.epoch == answer.config.epoch and client.health().leader != leader
        holder.arbiters[leader].start()
    assert (config.primary, config.isr) == (2, (2,))

    # Member 9 loses its disk; another takes its place.
    holder.arbiters[9].end()
    config = holder.settled()
    leader = client.health().leader
    holder.arbiters[10].create("--join")
    holder.arbiters[10].start()
    replace_now(f"127.0.0.1:{holder.members[leader]}", CLUSTER.hex(), 9, 10)
    report = status_of(f"127.0.0.1:{holder.members[10]}")
    assert report["voters"] == [1, 2, 10] and report["member"] == 10
    other = 3 - leader
    holder.arbiters[other].end()
    assert holder.settled() == config
    code, text = run("status", f"127.0.0.1:{holder.members[leader]}")
    assert code == 0 and json.loads(text)["leader"] == leader
    assert json.loads(text)["shard_count"] == 1
    assert json.loads(text)["shards"] == [
        {"shard": SHARD, "epoch": config.epoch, "primary": 2, "isr": [2], "learners": list(config.learners),
         "min_isr": 1, "forced_epoch": 0},
    ]  # fmt: skip
    with pytest.raises(ArbiterError, match="none of the holder's members"):
        replace_now(f"127.0.0.1:{holder.members[leader]}", CLUSTER.hex(), 77, 9)
    code, text = holder.arbiters[leader].end(signal.SIGTERM)
    assert code == 0 and "event=stopped exit code 0" in text


def test_wrong_starts_say_in_one_line_what_is_wrong(tmp_path: Path):
    port, other = free_ports(2)
    one = Arbiter(tmp_path / "a", 1, {1: port})
    one.create("--members", "1")
    one.start()
    try:
        start = (str(one.directory), CLUSTER.hex(), "1")
        code, text = refused(*start, f"1=127.0.0.1:{other}")
        assert code == 73 and "in use by another process" in text
        code, text = refused(str(tmp_path / "none"), CLUSTER.hex(), "1", f"1=127.0.0.1:{other}")
        assert code == 70 and "holds no member" in text
        two = Arbiter(tmp_path / "b", 1, {1: port})
        two.create("--members", "1")
        code, text = refused(str(two.directory), CLUSTER.hex(), "1", f"1=127.0.0.1:{port}")
        assert code == 1 and "another process does" in text
        code, text = refused(str(two.directory), bytes(16).hex(), "1", f"1=127.0.0.1:{other}")
        assert code == 70 and "is of member 1 of cluster" in text
        for arguments, text in (
            ((one.directory, CLUSTER.hex(), 1, "1"), "holds a member of a config holder already"),
            ((two.directory, CLUSTER.hex(), 1, "2,3"), "is none of the holder's members"),
            ((two.directory, CLUSTER.hex(), 1, "1,x"), "is no member's id"),
            ((two.directory, CLUSTER.hex(), 1, ""), "or --join"),
            ((two.directory, "xyz", 1, "1"), "32 hex digits"),
        ):
            with pytest.raises(ArbiterError, match=text):
                create_now(str(arguments[0]), *arguments[1:])
        for at, text in ((f"127.0.0.1:{other}", "gave no answer"), ("nonsense", "host:port")):
            with pytest.raises(ArbiterError, match=text):
                status_of(at)
        # A lone member leads at once.
        report = status_of(f"127.0.0.1:{port}")
        assert (report["role"], report["shards"]) == ("leader", [])
    finally:
        one.end()
