"""Nodes join, are promoted, lead and leave while clients write."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import redis

from tests.live.group import Group, Node, free_ports
from tests.live.load import Writer, eventually, missing

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]


def newcomer(group: Group, node_id: int, base: Path) -> Node:
    """A node that is to join the group, not started yet."""
    (port,) = free_ports(1)
    return Node(
        node_id, port, base / f"n{node_id}",
        ["--node-id", str(node_id), "--cluster-id", group.cluster_id, "--join", "yes", "--enable-debug-command", "yes"],
    )  # fmt: skip


def members(node: Node) -> dict[int, tuple[str, str]]:
    """id -> (kind, role), as the node sees the group."""
    with node.client() as client:
        out = {}
        for row in client.execute_command("CLUSTER", "MEMBERS"):
            facts = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))
            out[int(facts[b"id"])] = (facts[b"kind"].decode(), facts[b"role"].decode())
        return out


def command(node: Node, *words: object) -> object:
    """One command through a fresh connection."""
    with node.client() as client:
        return client.execute_command(*words)


def _leads_after_transfer(group: Group, target: Node) -> bool:
    """A transfer is given up when its target is slow, so it is asked for again."""
    leader = group.leader()
    if leader is not target:
        try:
            command(leader, "CLUSTER", "TRANSFER", target.node_id)
        except redis.RedisError:
            return False
    return leader is target


def test_a_node_joins_leads_and_another_leaves(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        founders = list(group.nodes)
        writer = Writer(founders[2], "w")
        eventually(lambda: len(writer.acked) > 50, "the writer writes")

        fourth = newcomer(group, 4, tmp_path)
        leader = group.leader()
        follower = next(node for node in founders if node is not leader)
        address = f"127.0.0.1:{fourth.port}@{fourth.port + 10000}"
        with pytest.raises(redis.ResponseError, match=f"needs the leader; ask 127.0.0.1:{leader.port}"):
            command(follower, "CLUSTER", "ADDNODE", 4, address)
        with pytest.raises(redis.ResponseError, match="expected host:port"):
            command(leader, "CLUSTER", "ADDNODE", 4, "nonsense")
        assert command(leader, "CLUSTER", "ADDNODE", 4, address) in (b"OK", True)
        assert members(leader)[4][0] == "learner"
        fourth.start()
        group.nodes.append(fourth)
        eventually(lambda: members(group.leader()).get(4, ("", ""))[0] == "voter", "the learner is promoted by itself")

        eventually(lambda: _leads_after_transfer(group, fourth), "the newcomer leads")
        assert members(fourth) == {
            1: ("voter", "follower"), 2: ("voter", "follower"), 3: ("voter", "follower"), 4: ("voter", "leader"),
        }  # fmt: skip

        leaver = founders[0]
        assert command(fourth, "CLUSTER", "REMOVENODE", 1) in (b"OK", True)
        assert leaver.process is not None
        assert leaver.process.wait(15) == 0, leaver.log_text()
        leaver.process = None
        group.nodes.remove(leaver)
        assert "no longer a member" in leaver.log_text()
        assert 1 not in members(fourth)
        with pytest.raises(redis.ResponseError, match="1"):
            command(fourth, "CLUSTER", "REMOVENODE", 1)

        written = len(writer.acked)
        eventually(lambda: len(writer.acked) > written + 50, "the writer goes on")
        writer.finish()
        assert missing(group.leader(), writer.acked) == []
        assert len({digest for _, digest in group.digests()}) == 1

        # Two of three suffice, with the newcomer as one of them.
        founders[1].kill()
        survivor = group.leader()
        assert command(survivor, "SET", "after", "1") in (b"OK", True)
        assert missing(survivor, writer.acked) == []


def test_the_leader_can_be_removed(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        old = group.leader()
        assert command(old, "SET", "k", "v") in (b"OK", True)
        try:
            assert command(old, "CLUSTER", "REMOVENODE", old.node_id) in (b"OK", True)
        except redis.RedisError as e:
            # It may be gone, or no longer lead, before it can say so; but it must not say that nothing happened.
            if not isinstance(e, redis.ConnectionError) and not str(e).startswith("UNKNOWN"):
                raise
        assert old.process is not None
        assert old.process.wait(15) == 0, old.log_text()
        old.process = None
        group.nodes.remove(old)
        new = group.leader()
        assert old.node_id not in members(new)
        assert command(new, "GET", "k") == b"v"
        assert command(new, "SET", "k", "w") in (b"OK", True)
        assert len({digest for _, digest in group.digests()}) == 1


def test_a_joining_node_that_has_lost_its_data_is_refused(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        victim = next(node for node in group.nodes if node is not group.leader())
        victim.kill()
        shutil.rmtree(victim.directory)
        victim.start()
        assert victim.process is not None
        assert victim.process.wait(15) != 0
        victim.process = None
        assert "add it again under a new node id" in victim.log_text()
        leader = group.leader()
        with pytest.raises(redis.ResponseError, match="already a member"):
            command(leader, "CLUSTER", "ADDNODE", victim.node_id, f"127.0.0.1:{victim.port}")
        assert members(leader)[victim.node_id][0] == "voter", "a refused change changes nothing"

        # The way the refusal names: out, and back in as another node.
        assert command(leader, "CLUSTER", "REMOVENODE", victim.node_id) in (b"OK", True)
        successor = newcomer(group, 9, tmp_path)
        assert command(leader, "CLUSTER", "ADDNODE", 9, f"127.0.0.1:{successor.port}") in (b"OK", True)
        group.nodes.remove(victim)
        for n in range(20):
            assert command(leader, "SET", "n", n) in (b"OK", True)
            assert members(leader)[9][0] == "learner", "a node nobody has heard of must not vote"
            time.sleep(0.02)
        successor.start()
        group.nodes.append(successor)
        eventually(lambda: members(group.leader()).get(9, ("", ""))[0] == "voter", "the successor is promoted")
        assert len({digest for _, digest in group.digests()}) == 1


def test_a_node_that_was_down_while_it_was_removed_stops_when_it_returns(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        leader = group.leader()
        absent = next(node for node in group.nodes if node is not leader)
        absent.kill()
        assert command(leader, "CLUSTER", "REMOVENODE", absent.node_id) in (b"OK", True)
        group.nodes.remove(absent)
        for _ in range(2):
            absent.start()
            assert absent.process is not None
            assert absent.process.wait(15) == 0, absent.log_text()
        absent.process = None
        assert absent.log_text().count("no longer a member") == 2
        assert command(leader, "SET", "k", "v") in (b"OK", True)
        assert absent.node_id not in members(group.leader())
