"""Real nodes that forget their log behind a checkpoint: restarts, snapshots for the late, kills at any moment."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
import redis

from tests.live.group import Group, Node
from tests.live.load import Pipeliner, Writer, eventually, going_on, missing
from tests.live.test_membership import command, members, newcomer

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]

_OFTEN = [
    "--segment-size", "1mb", "--log-follower-keep", "0", "--checkpoint-interval", "1", "--checkpoint-bytes", "256kb",
    "--reserve-size", "0",
]  # fmt: skip
_LOG_BYTES_MAX = 6 << 20


def number(node: Node, name: str) -> int:
    """A number of INFO persistence; -1 while the node does not answer."""
    try:
        with node.client() as client:
            return int(client.info("persistence")[name])
    except redis.RedisError:
        return -1


def restarted(node: Node) -> None:
    """Kill a node, start it and wait until it answers."""
    node.kill()
    node.start()
    eventually(lambda: number(node, "checkpoints_enabled") == 1, "the node answers again")


def fill(node: Node, name: str, megabytes: int) -> None:
    """Strings and one large value of each type."""
    with node.client() as client:
        for start in range(0, megabytes * 1000, 500):
            pipe = client.pipeline(transaction=False)
            for n in range(start, start + 500):
                pipe.set(f"{name}:{n % 3000}", f"{n}" * 250)
            pipe.hset(f"{name}:hash", mapping={f"f{start}.{n}": n for n in range(40)})
            pipe.hdel(f"{name}:hash", f"f{start}.3", f"f{start - 500}.4")
            pipe.zadd(f"{name}:zset", {f"m{start}.{n}": n for n in range(40)})
            pipe.rpush(f"{name}:list", *range(40))
            pipe.lpop(f"{name}:list", 7)
            pipe.sadd(f"{name}:set", *range(start, start + 40))
            pipe.spop(f"{name}:set", 5)
            for n in range(20):
                pipe.xadd(f"{name}:stream", {"n": n})
            pipe.append(f"{name}:text", "x" * 20_000)
            pipe.execute()
        group = f"g{client.xlen(f'{name}:stream')}"
        client.xgroup_create(f"{name}:stream", group, "0")
        client.xreadgroup(group, "c", {f"{name}:stream": ">"}, count=30)


def materialiser(node: Node) -> psutil.Process:
    """The process that makes the node's checkpoints; a node that has just begun starts it a little later."""
    assert node.process is not None
    server = psutil.Process(node.process.pid)
    eventually(lambda: len(server.children()) == 1, "the node has a materialiser")
    return server.children()[0]


def test_a_follower_whose_log_ends_too_early_gets_a_snapshot(tmp_path: Path) -> None:
    with Group(tmp_path, 3, _OFTEN) as group:
        leader = group.leader()
        fill(leader, "before", 2)
        late = next(node for node in group.nodes if node is not leader)
        last = group.digests()[0][0]
        late.kill()
        fill(leader, "after", 8)
        eventually(lambda: number(leader, "log_first_index") > last + 1, "the leader forgets its log")
        eventually(lambda: number(leader, "log_held_bytes") < _LOG_BYTES_MAX, "its log is short")
        late.start()
        eventually(lambda: number(late, "snapshots_installed") == 1, "the snapshot is installed")
        assert len({digest for _, digest in group.digests()}) == 1
        # What came by snapshot is as good as what came by log: it survives, goes on, and leads.
        fill(leader, "later", 1)
        restarted(late)
        assert len({digest for _, digest in group.digests()}) == 1
        eventually(lambda: _led_by(group, late), "it leads")
        fill(late, "led", 1)
        assert len({digest for _, digest in group.digests()}) == 1
        assert all("Traceback" not in node.log_text() for node in group.nodes)


def _led_by(group: Group, node: Node) -> bool:
    leader = group.leader()
    if leader is not node:
        try:
            command(leader, "CLUSTER", "TRANSFER", node.node_id)
        except redis.RedisError:
            return False
    return leader is node


def test_a_newcomer_starts_from_a_snapshot(tmp_path: Path) -> None:
    with Group(tmp_path, 3, _OFTEN) as group:
        leader = group.leader()
        fill(leader, "k", 5)
        eventually(lambda: number(leader, "log_first_index") > 1, "the leader forgets its log")
        fourth = newcomer(group, 4, tmp_path)
        fourth.directives += _OFTEN
        command(leader, "CLUSTER", "ADDNODE", 4, f"127.0.0.1:{fourth.port}@{fourth.port + 10000}")
        fourth.start()
        group.nodes.append(fourth)
        eventually(lambda: members(group.leader()).get(4, ("", ""))[0] == "voter", "the newcomer is promoted")
        assert number(fourth, "snapshots_installed") == 1
        assert len({digest for _, digest in group.digests()}) == 1


def test_kills_of_nodes_and_materialisers_lose_nothing(tmp_path: Path) -> None:
    with Group(tmp_path, 3, _OFTEN) as group:
        acked: list[str] = []
        for turn in range(6):
            victim = group.nodes[turn % 3]
            loads: list[Pipeliner | Writer] = [
                Pipeliner(victim, f"p{turn}", 16), Writer(group.nodes[(turn + 1) % 3], f"w{turn}")
            ]  # fmt: skip
            going_on(loads, 30, "the writers write")
            if turn % 2:
                materialiser(victim).send_signal(signal.SIGKILL)
                going_on(loads, 30, "they write on")
                assert victim.process is not None
                assert victim.process.poll() is None
            victim.kill()
            for load in loads:
                load.finish()
                acked += load.acked
            restarted(victim)
            group.leader()
        assert missing(group.leader(), acked) == []
        assert len({digest for _, digest in group.digests()}) == 1
        restarted(group.nodes[0])
        assert len({digest for _, digest in group.digests()}) == 1


def test_the_log_stays_short_and_a_start_reads_the_checkpoint(tmp_path: Path) -> None:
    with Group(tmp_path, 1, [*_OFTEN, "--appendfsync", "no"]) as group:
        node = group.nodes[0]
        for turn in range(5):
            fill(node, f"t{turn % 2}", 4)
            eventually(lambda: number(node, "log_held_bytes") < _LOG_BYTES_MAX, "the log is short again")
            before = group.digests()
            if turn % 2:
                assert node.stop() == 0
            else:
                # Only the last checkpoint's index is sure then, and what the log has behind it.
                node.kill()
            node.start()
            group.leader()
            assert group.digests()[0][1] == before[0][1]
        assert number(node, "log_first_index") > 1
        assert number(node, "checkpoint_index") > 1
