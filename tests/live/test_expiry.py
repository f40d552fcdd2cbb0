"""Keys expire on every node alike, read or not, and what one client saw expired nobody sees again."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.live.group import Group, Node
from tests.live.load import eventually

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]
_UNREAD = 5000


def digest_of(node: Node) -> bytes:
    """The node's state digest."""
    with node.client() as client:
        flat = client.execute_command("DEBUG", "STATE")
        state = dict(zip(flat[::2], flat[1::2], strict=True)) if isinstance(flat, list) else flat
        return bytes(state[b"digest"])


def _gone(client: redis.Redis, key: str) -> bool:
    return client.get(key) is None


def _answers(node: Node) -> bool:
    try:
        with node.client() as client:
            return client.get("probe") is None
    except redis.RedisError:
        return False


def test_unread_keys_are_removed_on_all_nodes(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        leader = group.leader()
        empty = digest_of(leader)
        for at, node in enumerate(group.nodes):
            with node.client() as client, client.pipeline(transaction=False) as p:
                for n in range(at, _UNREAD, 3):
                    p.set(f"k{n}", n, px=300 + n % 200)
                assert all(p.execute())
        with leader.client() as client:
            eventually(lambda: client.dbsize() == 0, "keys nobody reads are removed")
            assert client.info("stats")["expired_keys"] == _UNREAD
        assert {digest for _, digest in group.digests()} == {empty}
        for node in group.nodes:
            assert "internal-error" not in node.log_text()


def test_nodes_agree_while_keys_expire_and_are_refreshed(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        nodes = group.nodes
        clients = [node.client() for node in nodes]
        deadline = time.monotonic() + 3
        n = 0
        while time.monotonic() < deadline:
            n += 1
            client, key = clients[n % 3], f"k{n % 40}"
            what = n % 7
            if what in (0, 1):
                client.set(key, n, px=1 + n % 90)
            elif what == 2:
                client.get(key)
            elif what == 3:
                client.persist(key)
            elif what == 4:
                client.incr(f"n{n % 11}")
                client.pexpire(f"n{n % 11}", 50)
            elif what == 5:
                client.set(key, n, nx=True, px=40)
            else:
                client.exists(key, f"k{(n + 1) % 40}")
        for client in clients:
            client.close()
        assert n > 200, "hardly anything was written: nothing was tested"
        assert len({digest for _, digest in group.digests()}) == 1


def test_an_expired_key_never_comes_back(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        for turn in range(3):
            leader = group.leader()
            others = [node for node in group.nodes if node is not leader]
            with leader.client() as client, others[0].client() as far:
                with client.pipeline(transaction=False) as p:
                    for n in range(50):
                        p.set(f"{turn}:{n}", n, px=100 + n)
                    p.execute()
                eventually(partial(_gone, client, f"{turn}:0"), "the key expires")
                seen_gone = [n for n in range(50) if far.get(f"{turn}:{n}") is None]
            leader.kill()
            new = group.leader()
            assert 0 in seen_gone
            with new.client() as client:
                for n in seen_gone:
                    assert client.get(f"{turn}:{n}") is None, f"{turn}:{n} came back"
                    assert client.set(f"{turn}:{n}", "new", nx=True) is True
            leader.start()
            eventually(partial(_answers, leader), "the killed node is back")
        assert len({digest for _, digest in group.digests()}) == 1
