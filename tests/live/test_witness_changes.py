"""Members replaced online around a witness: what docs/witness.md says of changing a group, with real processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.live.group import Group, Node, Witness, free_ports
from tests.live.load import Writer, eventually, going_on, missing
from tests.live.test_membership import members, newcomer
from tests.live.witnessed import QUICK, all_back, done, info, pinned, refused

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def kinds(node: Node) -> dict[int, str]:
    """id -> kind, as the node sees the group."""
    return {node_id: kind for node_id, (kind, _) in members(node).items()}


def join(group: Group, node_id: int, base: Path) -> Node:
    """Add a full node online and wait until it votes."""
    node = newcomer(group, node_id, base)
    node.directives += QUICK
    done(group.leader(), "CLUSTER", "ADDNODE", node_id, f"127.0.0.1:{node.port}")
    node.start()
    group.nodes.append(node)
    eventually(lambda: kinds(group.leader()).get(node_id) == "voter", f"node {node_id} votes", 20)
    return node


def new_witness(group: Group, node_id: int, base: Path) -> Witness:
    """A witness process that no group knows yet; it takes the place of the group's."""
    if group.witness is not None:
        group.witness.kill()
    (port,) = free_ports(1)
    group.witness = Witness(node_id, base / f"w{node_id}", port)
    group.witness.start()
    return group.witness


def test_a_dead_node_is_replaced_while_the_other_is_pinned(tmp_path: Path) -> None:
    with Group(tmp_path, 2, QUICK, witness="tcp") as group:
        leader = all_back(group)
        dead = group.other(leader)
        dead.kill()
        shutil.rmtree(dead.directory)
        group.nodes.remove(dead)
        writer = Writer(leader, "w")
        going_on([writer], 20, "the survivor takes writes")
        eventually(lambda: pinned(leader), "the witness stands in")
        text = refused(leader, "CLUSTER", "REMOVENODE", dead.node_id)
        assert "two full nodes" in text and "CLUSTER ADDNODE" in text
        third = join(group, 4, tmp_path)
        done(leader, "CLUSTER", "REMOVENODE", dead.node_id)
        assert all_back(group) is leader
        assert kinds(leader) == {leader.node_id: "voter", 3: "witness", 4: "voter"}
        going_on([writer], 20, "writes go on")
        leader.kill()
        assert group.leader() is third
        writer.finish()
        assert missing(third, writer.acked) == []


def test_the_witness_is_replaced(tmp_path: Path) -> None:
    with Group(tmp_path, 2, QUICK, witness="tcp") as group:
        leader = all_back(group)
        writer = Writer(leader, "w")
        going_on([writer], 20, "writes")
        second = new_witness(group, 4, tmp_path)
        assert "REMOVENODE 3" in refused(leader, "CLUSTER", "ADDWITNESS", 4, second.address)
        done(leader, "CLUSTER", "REMOVENODE", 3)
        assert "witness_id" not in info(leader)
        assert "invalid witness address" in refused(leader, "CLUSTER", "ADDWITNESS", 4, "http://nowhere")
        assert "already a member" in refused(leader, "CLUSTER", "ADDWITNESS", 1, second.address)
        done(leader, "CLUSTER", "ADDWITNESS", 4, second.address)
        assert all_back(group) is leader
        facts = info(leader)
        assert (facts["witness_id"], facts["witness_address"]) == ("4", second.address)
        # Its state lives on under the spent id: never again.
        done(leader, "CLUSTER", "REMOVENODE", 4)
        assert "another id" in refused(leader, "CLUSTER", "ADDWITNESS", 4, second.address)
        done(leader, "CLUSTER", "ADDWITNESS", 5, second.address)
        survivor = group.other(all_back(group))
        writer.finish()
        leader.kill()
        assert group.leader() is survivor
        done(survivor, "SET", "k", "v")
        assert missing(survivor, writer.acked) == []
        text = refused(survivor, "CLUSTER", "REMOVENODE", 5)
        assert f"stands in for node {leader.node_id}" in text, text


def test_three_nodes_become_two_and_a_witness_and_three_again(tmp_path: Path) -> None:
    with Group(tmp_path, 3, QUICK) as group:
        leader = group.leader()
        writer = Writer(leader, "w")
        going_on([writer], 20, "writes")
        witness = new_witness(group, 4, tmp_path)
        done(leader, "CLUSTER", "ADDWITNESS", 4, witness.address)
        leaver = next(node for node in group.nodes if node is not leader)
        done(leader, "CLUSTER", "REMOVENODE", leaver.node_id)
        assert leaver.process is not None
        assert leaver.process.wait(15) == 0, leaver.log_text()
        leaver.process = None
        group.nodes.remove(leaver)
        assert all_back(group) is leader
        other = group.other(leader)
        other.kill()
        going_on([writer], 20, "one of two takes writes")
        assert pinned(leader)
        other.start()
        assert all_back(group) is leader
        join(group, 5, tmp_path)
        assert all_back(group) is leader
        done(leader, "CLUSTER", "REMOVENODE", 4)
        witness.kill()
        assert sorted(kinds(leader).values()) == ["voter"] * 3
        writer.finish()
        leader.kill()
        assert missing(group.leader(), writer.acked) == []
