"""What an operator of a group with a witness meets: stopping a pinned node, min-data-copies, a witness that lost its
state, and directives that are refused.
"""

from __future__ import annotations

import shutil
import signal
import threading
from pathlib import Path

import pytest
import redis

from durakv.cli.client import Unreachable
from tests.live.group import Group, Node
from tests.live.load import Writer, eventually, going_on, missing
from tests.live.test_shutdown import ended
from tests.live.witnessed import QUICK, all_back, command, done, info, pinned, refused

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_pinned_node_is_not_stopped_by_mistake(tmp_path: Path) -> None:
    with Group(tmp_path, 2, QUICK, witness="tcp") as group:
        leader = all_back(group)
        other = group.other(leader)
        other.kill()
        done(leader, "SET", "k", "v")
        eventually(lambda: pinned(leader), "the witness stands in")
        text = refused(leader, "SHUTDOWN")
        assert f"for node {other.node_id}" in text and "SHUTDOWN FORCE" in text
        assert refused(leader, "SHUTDOWN", "NOW") == text
        assert "unpin" in refused(leader, "CLUSTER", "TRANSFER", other.node_id)
        with leader.client() as client, pytest.raises(redis.ConnectionError):
            client.execute_command("SHUTDOWN", "FORCE")
        assert ended(leader) == 0
        assert "level=warning" in leader.log_text() and "start it first" in leader.log_text()
        leader.start()
        assert group.leader() is leader

        # Told to stop while the other catches up: it waits for it and hands over.
        other.start()
        eventually(lambda: info(leader)["connected_slaves"] == "1", "the other is back", 20)
        assert leader.process is not None
        leader.process.send_signal(signal.SIGTERM)
        assert ended(leader) == 0
        assert leader.log_text().count("start it first") == 1, "it stopped without handing over"
        assert group.leader() is other
        assert command(other, "GET", "k") == b"v"


def blocked(node: Node) -> bool:
    """Whether a client waits there."""
    with node.client() as client:
        return bool(client.info("clients")["blocked_clients"] == 1)


def test_clients_while_one_copy_is_left_and_two_are_wanted(tmp_path: Path) -> None:
    with Group(tmp_path, 2, [*QUICK, "--min-data-copies", "2"], witness="file") as group:
        leader = all_back(group)
        other = group.other(leader)
        popped: list[object] = []
        with leader.client() as waiting, leader.client() as watching:
            thread = threading.Thread(target=lambda: popped.append(waiting.blpop(["list"], 60)), daemon=True)
            thread.start()
            done(leader, "SET", "watched", "1")
            watching.execute_command("WATCH", "watched")
            eventually(lambda: blocked(leader), "the client waits")
            writer = Writer(leader, "w")
            going_on([writer], 20, "writes with two copies")
            other.kill()
            eventually(lambda: pinned(leader), "the witness stands in")
            acked = list(writer.acked)
            text = refused(leader, "SET", "k", "v")
            assert text.startswith("NOREPLICAS") and "min-data-copies" in text
            assert command(leader, "GET", acked[-1]) == acked[-1].encode(), "reads go on"
            eventually(lambda: len(writer.refused) > 3, "the writer is refused")
            writer.finish()
            assert writer.acked == acked, "a write was acknowledged with one copy"
            done(leader, "CONFIG", "SET", "min-data-copies", "1")
            done(leader, "SET", "k", "v")
            done(leader, "CONFIG", "SET", "min-data-copies", "2")
            other.start()
            assert all_back(group) is leader
            done(leader, "SET", "k", "w")
            # Who waited or watched all along has noticed nothing.
            watching.execute_command("MULTI")
            watching.execute_command("SET", "watched", "2")
            assert watching.execute_command("EXEC") is not None
            assert command(leader, "RPUSH", "list", "item") == 1
            thread.join(10)
            assert popped == [(b"list", b"item")]
        assert missing(leader, acked) == []
        assert missing(leader, writer.refused) == writer.refused, "a write that was refused has happened"

        assert "stays always" in refused(leader, "CONFIG", "SET", "appendfsync", "everysec")
        assert other.stop() == 0
        other.directives = [*other.directives, "--appendfsync", "everysec"]
        other.start()
        assert ended(other) == 1
        assert "set appendfsync always" in other.log_text()


def test_a_witness_that_lost_its_state_says_so_and_is_replaced(tmp_path: Path) -> None:
    with Group(tmp_path, 2, [*QUICK, "--cluster-enabled", "yes"], witness="tcp") as group:
        witness = group.witness
        assert witness is not None
        leader = all_back(group)
        done(leader, "SET", "k", "v")
        # Clients that follow the group's nodes never hear of it.
        assert str(command(leader, "CLUSTER", "NODES")).count("127.0.0.1:") == 2
        for view in ("NODES", "SHARDS", "SLOTS"):
            assert str(witness.port) not in str(command(leader, "CLUSTER", view))
        assert "cluster_witness_id" in str(command(leader, "CLUSTER", "INFO"))
        # The disk of the witness is lost; its process comes back with an empty one.
        witness.kill()
        shutil.rmtree(witness.directory)
        witness.start()
        other = group.other(leader)
        other.kill()
        eventually(lambda: lost(leader), "the loss is told")
        text = info(leader)["witness_trouble"]
        assert "CLUSTER REMOVENODE 3" in text and "CLUSTER ADDWITNESS" in text
        assert "WITNESS_STATE_LOST" in leader.log_text()
        # Nobody leads with it: what it forgot may have been a promise.
        with leader.client() as client, pytest.raises(redis.RedisError):
            client.set("k", "alone")
        other.start()
        now = group.leader()
        done(now, "CLUSTER", "REMOVENODE", 3)
        done(now, "CLUSTER", "ADDWITNESS", 4, witness.address)
        now = all_back(group)
        assert info(now)["witness_trouble"] == ""
        gone = group.other(now)
        gone.kill()
        done(now, "SET", "k", "alone")
        eventually(lambda: pinned(now), "the new witness stands in")


def lost(node: Node) -> bool:
    """Whether the node has noticed that the witness's state is gone."""
    try:
        return info(node).get("witness_trouble", "").startswith("WITNESS_STATE_LOST")
    except Unreachable:
        return False
