"""Users set on one node hold on all, through restarts; clients of one node hear of writes made on another."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import redis

from tests.live.group import Group, Node
from tests.live.load import eventually

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]
_PASSWORD = b"two words, \xff\x00 and a\nline"


def _logs_in(node: Node, name: str, password: bytes) -> bool:
    with node.client() as client:
        try:
            return bool(client.execute_command("AUTH", name, password))
        except redis.AuthenticationError:
            return False
        except redis.RedisError:
            return False


def _users(client: redis.Redis) -> set[str]:
    return {entry["user"] for entry in client.client_list()}


def test_users_hold_everywhere_and_survive(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        follower = next(node for node in group.nodes if node is not group.leader())
        with follower.client() as client:
            assert client.execute_command("ACL", "SETUSER", "bob", "on", b">" + _PASSWORD, "~app:*", "+@all")
        for node in group.nodes:
            eventually(partial(_logs_in, node, "bob", _PASSWORD), "bob may log in on every node")
            assert not _logs_in(node, "bob", b"wrong")
        with group.leader().client() as client:
            client.execute_command("AUTH", "bob", _PASSWORD)
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set("other", 1)
            assert client.set("app:1", 1)
        for node in group.nodes:
            node.kill()
        for node in group.nodes:
            node.start()
        eventually(lambda: all(_logs_in(node, "bob", _PASSWORD) for node in group.nodes), "bob survives a restart", 20)
        bob = follower.client()
        bob.execute_command("AUTH", "bob", _PASSWORD)
        assert "bob" in _users(bob)
        with group.leader().client() as client:
            assert client.execute_command("ACL", "DELUSER", "bob") == 1
        eventually(lambda: not any(_logs_in(node, "bob", _PASSWORD) for node in group.nodes), "bob is gone everywhere")
        with follower.client() as client:
            eventually(lambda: "bob" not in _users(client), "bob's connection is closed")
        digests = {digest for _, digest in group.digests()}
        assert len(digests) == 1


def test_a_follower_tells_its_clients_of_writes_made_elsewhere(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        leader = group.leader()
        follower = next(node for node in group.nodes if node is not leader)
        reader = follower.client(protocol=3)
        told: list[list[bytes]] = []
        connection = reader.connection_pool.get_connection()
        try:
            connection._parser.set_invalidation_push_handler(told.append)
            connection.send_command("CLIENT", "TRACKING", "ON")
            assert connection.read_response() == b"OK"
            connection.send_command("GET", "k")
            assert connection.read_response() is None
            with leader.client() as writer:
                writer.set("k", 1)

            def heard() -> bool:
                connection.send_command("PING")
                connection.read_response()
                return told != []

            eventually(heard, "the follower's client hears of the leader's write")
            assert told[0] == [b"invalidate", [b"k"]]
        finally:
            connection.disconnect()
