"""In front of durakv itself: one group of three nodes, whose leader changes and whose nodes die."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from tests.live.group import Group
from tests.proxy.cluster import ProxyProcess, eventually

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture(params=["yes", "no"])
def group(request, tmp_path):
    with Group(tmp_path, 3, ["--cluster-enabled", request.param]) as made:
        made.clustered = request.param == "yes"
        yield made


def test_plain_clients_of_a_group(group):
    with ProxyProcess([node.port for node in group.nodes], "--retry-timeout-ms", "15000") as proxy:
        client = proxy.client()
        assert client.mset({f"k{i}": i for i in range(50)}) is True
        assert client.mget([f"k{i}" for i in range(50)]) == [str(i).encode() for i in range(50)]
        assert client.dbsize() == 50
        assert set(client.scan_iter(count=7)) == {f"k{i}".encode() for i in range(50)}
        assert client.pipeline(transaction=True).incr("k1").get("k1").execute() == [2, b"2"]
        client.rpush("{q}l", "x")
        assert client.blpop("{q}l", timeout=1) == (b"{q}l", b"x")
        with client.pipeline() as batch:
            batch.watch("k2")
            client.set("k2", "changed")
            batch.multi()
            batch.set("k2", "mine")
            with pytest.raises(redis.WatchError):
                batch.execute()
        sub = proxy.client(protocol=3).pubsub(ignore_subscribe_messages=True)
        sub.subscribe("news")
        eventually(lambda: client.publish("news", "hi") == 1)
        eventually(lambda: (sub.get_message(timeout=1) or {}).get("data") == b"hi")
        sub.close()
        own = proxy.client(single_connection_client=True)
        own.set("k3", "durable")
        assert own.wait(1, 2000) >= 1
        third = proxy.client(db=0)
        assert third.get("k3") == b"durable"
        third = proxy.client(db=3)
        if group.clustered:
            with pytest.raises(redis.ResponseError, match="SELECT is not allowed in cluster mode"):
                third.get("k3")
        else:
            third.set("k3", "of the third")
            assert (client.get("k3"), third.get("k3")) == (b"durable", b"of the third")
            third.flushdb()
            assert client.get("k3") == b"durable"
        sha = client.script_load("return redis.call('incr', KEYS[1])")
        assert client.evalsha(sha, 1, "n") == 1

        stop = threading.Event()
        ok, unknown, errors = [], [], []

        def add():
            mine = proxy.client()
            while not stop.is_set():
                try:
                    ok.append(mine.incr("n"))
                except redis.ResponseError as e:
                    (unknown if str(e).startswith("UNKNOWN") else errors).append(str(e))

        threads = [threading.Thread(target=add) for _ in range(3)]
        for t in threads:
            t.start()
        time.sleep(0.3)
        group.leader().kill()
        before = len(ok)
        eventually(lambda: len(ok) > before + 30, 20)
        stop.set()
        for t in threads:
            t.join(20)
        assert errors == []
        assert len(unknown) <= 6
        final = int(client.get("n"))
        # Acknowledged increments survive and none runs twice.
        assert 1 + len(ok) <= final <= 1 + len(ok) + len(unknown)
        assert len(set(ok)) == len(ok)


def test_leadership_is_handed_over_without_errors(tmp_path):
    with Group(tmp_path, 3) as group, ProxyProcess([group.nodes[0].port], "--retry-timeout-ms", "15000") as proxy:
        client = proxy.client()
        stop = threading.Event()
        told, errors = [], []

        def add():
            mine = proxy.client()
            while not stop.is_set():
                try:
                    told.append(mine.incr("n"))
                except redis.RedisError as e:
                    errors.append(str(e))

        threads = [threading.Thread(target=add) for _ in range(3)]
        for t in threads:
            t.start()
        for _ in range(3):
            time.sleep(0.3)
            leader = group.leader()
            target = next(node for node in group.nodes if node is not leader)
            leader.client().execute_command("CLUSTER", "TRANSFER", target.node_id)
        time.sleep(0.3)
        stop.set()
        for t in threads:
            t.join(20)
        definite = [e for e in errors if not e.startswith("UNKNOWN")]
        assert definite == []
        assert len(told) <= int(client.get("n")) <= len(told) + len(errors)
        assert len(set(told)) == len(told)
