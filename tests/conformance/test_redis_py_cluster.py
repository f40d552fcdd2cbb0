"""RedisCluster, redis-py's cluster client, against a group that speaks the cluster protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from tests.conformance.conftest import eventually
from tests.live.group import Group, Node

# From the leader's death to the client's next acknowledged write: a second of silence, an election, redirects.
_OUTAGE_MAX_S = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Group(tmp_path_factory.mktemp("cluster"), 3, ["--cluster-enabled", "yes"]) as group:
        yield group


def connect(group: Group, node: Node | None = None) -> Any:
    """A cluster client that knows one node, a follower unless told otherwise."""
    leader = group.leader()
    first = node or next(n for n in group.nodes if n is not leader and n.process is not None)
    node_class: Any = ClusterNode
    return RedisCluster(
        startup_nodes=[node_class("127.0.0.1", first.port)], decode_responses=True, socket_timeout=10,
        retry=Retry(ConstantBackoff(0.05), 100),
    )  # fmt: skip


def _has(client: Any, key: str, value: bytes) -> bool:
    return bool(client.get(key) == value)


def test_followers_redirect_with_moved(cluster: Group) -> None:
    leader = cluster.leader()
    with leader.client() as client:
        assert client.set("foo", "bar") is True
    for node in cluster.nodes:
        if node is leader:
            continue
        with node.client() as client:
            for command in (["SET", "foo", "bar"], ["GET", "foo"], ["BLPOP", "foo", 0]):
                with pytest.raises(redis.exceptions.MovedError) as moved:
                    client.execute_command(*command)
                assert (moved.value.slot_id, moved.value.host, moved.value.port) == (12182, "127.0.0.1", leader.port)
            with pytest.raises(redis.exceptions.MovedError):
                client.pipeline().set("foo", "bar").execute()
            client.execute_command("READONLY")
            eventually(partial(_has, client, "foo", b"bar"), "READONLY serves reads from the node itself")
            client.execute_command("READWRITE")
            with pytest.raises(redis.exceptions.MovedError):
                client.get("foo")


def test_commands_are_routed(cluster: Group) -> None:
    with connect(cluster) as r:
        for i in range(200):
            assert r.set(f"k{i}", i) is True
        assert [r.get(f"k{i}") for i in range(200)] == [str(i) for i in range(200)]
        assert r.mset({"{tag}a": 1, "{tag}b": 2}) is True
        assert r.mget("{tag}a", "{tag}b", "{tag}c") == ["1", "2", None]
        assert r.mget_nonatomic("k1", "k2", "k3") == ["1", "2", "3"]
        assert r.hset("h", mapping={"f": "v"}) == 1 and r.hgetall("h") == {"f": "v"}
        with r.pipeline() as p:
            for i in range(100):
                p.incr(f"n{i % 10}")
            assert p.execute()[-1] == 10
        assert set(r.scan_iter(match="k*", count=50)) == {f"k{i}" for i in range(200)}
        assert r.dbsize() >= 210
        assert r.cluster_keyslot("foo") == 12182


def test_keys_of_different_slots_are_refused(cluster: Group) -> None:
    with cluster.leader().client() as client:
        text = "^CROSSSLOT Keys in request don't hash to the same slot$|^Keys in request don't hash to the same slot$"
        for command in (["MGET", "a", "b"], ["MSET", "a", "1", "b", "2"], ["RENAME", "a", "b"], ["SUNION", "a", "b"]):
            with pytest.raises(redis.ResponseError, match=text):
                client.execute_command(*command)
        with pytest.raises(redis.ResponseError, match="slot"):
            client.pipeline().set("a", 1).set("b", 1).execute()
        assert client.exists("a") == 0
        with pytest.raises(redis.ResponseError, match="SELECT is not allowed in cluster mode"):
            client.execute_command("SELECT", 1)


def test_topology_commands_agree(cluster: Group) -> None:
    leader = cluster.leader()
    ids: set[str] = set()
    for node in cluster.nodes:
        with node.client(decode_responses=True) as client:
            slots = client.execute_command("CLUSTER SLOTS")
            (at,) = slots if isinstance(slots, dict) else [(row[0], row[1]) for row in slots]
            assert at == (0, 16383)
            nodes = client.execute_command("CLUSTER NODES")
            assert {int(address.rpartition(":")[2].partition("@")[0]) for address in nodes} == {
                n.port for n in cluster.nodes
            }
            masters = [address for address, facts in nodes.items() if "master" in facts["flags"]]
            assert [address.partition("@")[0] for address in masters] == [f"127.0.0.1:{leader.port}"]
            ids.add(client.execute_command("CLUSTER MYID"))
            assert client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"
            assert len(client.execute_command("CLUSTER SHARDS")) == 1
    assert len(ids) == 3


def test_the_client_works_on_after_the_leader_is_killed(cluster: Group) -> None:
    with connect(cluster) as r:
        acked: dict[str, str] = {}
        for i in range(100):
            assert r.set(f"before:{i}", i) is True
            acked[f"before:{i}"] = str(i)
        victim = cluster.leader()
        victim.kill()
        began = time.monotonic()
        number = 0
        while number < 100:
            try:
                # A retried SET of the same value is harmless, so UNKNOWN may be tried again.
                if r.set(f"after:{number}", number) is True:
                    acked[f"after:{number}"] = str(number)
                    number += 1
            except redis.RedisError:
                assert time.monotonic() - began < _OUTAGE_MAX_S, "the client never recovered"
                time.sleep(0.02)
        assert {key: r.get(key) for key in acked} == acked
        victim.start()
        eventually(lambda: _answers(victim), "the killed node is back")
    assert len({digest for _, digest in cluster.digests()}) == 1


def _answers(node: Node) -> bool:
    try:
        with node.client() as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
