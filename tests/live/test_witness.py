"""Two full nodes and a witness: any one of them may fail, no acknowledged write is lost, and at rest nobody asks it."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import redis

from tests.live.group import Group
from tests.live.load import Writer, eventually, going_on, missing
from tests.live.witnessed import QUICK, all_back, asked, done, info, pinned

pytestmark = [
    pytest.mark.live,
    # redis-py does not close the socket of a connection that was refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("kind", ["tcp", "file"])
def test_full_nodes_fail_in_turns_and_no_acknowledged_write_is_lost(tmp_path: Path, kind: str) -> None:
    with Group(tmp_path, 2, QUICK, witness=kind) as group:
        writers = [Writer(node, f"w{node.node_id}") for node in group.nodes]
        going_on(writers, 30, "both nodes take writes")
        for _ in range(2):
            leader = group.leader()
            survivor = group.other(leader)
            leader.kill()
            (through,) = [writer for writer in writers if writer.node is survivor]
            going_on([through], 30, "the survivor takes writes")
            assert pinned(survivor)
            assert info(survivor)["newest_write_copies"] == "1"
            leader.start()
            assert all_back(group) is survivor
            going_on(writers, 30, "both nodes take writes again")
        for writer in writers:
            writer.finish()
        for writer in writers:
            assert missing(group.leader(), writer.acked) == []
        assert len({digest for _, digest in group.digests()}) == 1


def test_at_rest_the_witness_is_not_asked_and_not_missed(tmp_path: Path) -> None:
    with Group(tmp_path, 2, QUICK, witness="tcp") as group:
        assert group.witness is not None
        leader = all_back(group)
        writers = [Writer(node, f"w{node.node_id}") for node in group.nodes]
        going_on(writers, 20, "both nodes take writes")
        before = asked(group)
        time.sleep(1.2)
        killed_at = time.monotonic()
        group.witness.kill()
        time.sleep(1.2)
        for writer in writers:
            writer.finish()
        assert asked(group) == before
        assert info(leader)["replication_set"] == "1,2"
        assert info(leader)["witness_trouble"] == ""
        for writer in writers:
            assert writer.unknown == [] and writer.refused == []
            times = [at for at in writer.acked_at if at > killed_at - 0.5]
            gap = max(later - earlier for earlier, later in itertools.pairwise(times))
            # Less than an election timeout: nobody has noticed.
            assert gap < 0.5, f"no write was acknowledged for {gap:.2f} s"
        # Without it the other full node is needed, and there.
        done(leader, "CLUSTER", "TRANSFER", group.other(leader).node_id)
        eventually(lambda: group.leader() is not leader, "leadership moves without the witness")
        assert missing(group.leader(), [key for writer in writers for key in writer.acked]) == []


def test_only_the_pinned_node_leads_until_the_other_is_in_step(tmp_path: Path) -> None:
    with Group(tmp_path, 2, QUICK, witness="tcp") as group:
        leader = all_back(group)
        stale = group.other(leader)
        stale.kill()
        eventually(lambda: pinned(leader), "the witness stands in")
        done(leader, "SET", "k", "after")
        # It alone restarts: the witness knows it.
        leader.kill()
        leader.start()
        assert group_leads(group, leader)
        with leader.client() as client:
            assert client.get("k") == b"after"
        done(leader, "SET", "k", "later")
        # The stale one alone must not lead, however long it tries.
        leader.kill()
        stale.start()
        with pytest.raises(AssertionError, match="no leader within"):
            group.leader(2.0)
        with stale.client() as client, pytest.raises(redis.RedisError):
            client.set("k", "lost")
        leader.start()
        assert all_back(group) is leader
        with stale.client() as client:
            assert client.get("k") == b"later"
        assert len({digest for _, digest in group.digests()}) == 1


def group_leads(group: Group, node: object) -> bool:
    """Whether the node leads within the usual time."""
    return group.leader() is node


def test_four_nodes_and_a_witness_outlive_two(tmp_path: Path) -> None:
    with Group(tmp_path, 4, QUICK, witness="tcp") as group:
        leader = all_back(group)
        followers = [node for node in group.nodes if node is not leader]
        writer = Writer(leader, "w")
        going_on([writer], 20, "writes")
        followers[0].kill()
        going_on([writer], 20, "writes with three of four")
        followers[1].kill()
        going_on([writer], 20, "writes with two of four and the witness")
        assert not pinned(leader), "another node could still be elected with the witness's vote"
        writer.finish()
        leader.kill()
        leader.start()
        survivor = group.leader()
        assert missing(survivor, writer.acked) == []
        done(survivor, "SET", "after", "1")
