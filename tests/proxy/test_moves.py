"""Slots that move, nodes that die or hang, while clients go on: nothing is lost, nothing runs twice."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

import pytest
import redis

from durakv.keyspace.slots import slot_of
from tests.live.group import free_ports
from tests.proxy.cluster import HOST, RANGES, ProxyProcess, Raw, RedisCluster, available, eventually

pytestmark = pytest.mark.live


@pytest.fixture
def fresh(tmp_path):
    if not available():
        pytest.skip("redis-server is not on the PATH")
    with RedisCluster(tmp_path) as made:
        yield made


def owner(cluster: RedisCluster, key: str):
    slot = slot_of(key.encode())
    return next(n for n, (first, last) in zip(cluster.masters, RANGES, strict=True) if first <= slot <= last)


def move_slot(cluster: RedisCluster, slot: int, source, target) -> None:
    """The cluster protocol's own dance, key by key."""
    here, there = source.client(), target.client()
    there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.name(source))
    here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.name(target))
    while True:
        keys = here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 3)
        if not keys:
            break
        here.execute_command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
        time.sleep(0.005)
    for node in (target, source, *cluster.masters):
        node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", cluster.name(target))


class Adders:
    """Clients that increment counters of one slot; counts what they were told."""

    def __init__(self, proxy: ProxyProcess, tag: str, count: int = 4) -> None:
        self.stop = threading.Event()
        self.told: list[dict[str, int]] = [{} for _ in range(count)]
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(proxy, tag, n)) for n in range(count)]
        for t in self.threads:
            t.start()

    def _run(self, proxy, tag, n):
        own = proxy.client(single_connection_client=True)
        i = 0
        try:
            while not self.stop.is_set():
                i += 1
                keys = [f"{{{tag}}}{n}:{(i + j) % 40}" for j in range(8)]
                batch = own.pipeline(transaction=i % 3 == 0)
                for key in keys:
                    batch.incr(key)
                batch.mget(keys)
                replies = batch.execute()
                for key, reply in zip(keys, replies[:-1], strict=True):
                    self.told[n][key] = self.told[n].get(key, 0) + 1
                    assert reply == self.told[n][key], (key, reply, self.told[n][key])
                assert replies[-1] == [str(self.told[n][key]).encode() for key in keys]
        except (redis.RedisError, OSError, AssertionError) as e:
            self.errors.append(e)

    def join(self) -> dict[str, int]:
        self.stop.set()
        for t in self.threads:
            t.join(30)
        assert self.errors == []
        return {key: count for told in self.told for key, count in told.items()}


def test_a_slot_moves_under_load_and_back(fresh):
    with ProxyProcess([fresh.masters[2].port]) as proxy:
        tag = "moving"
        slot = slot_of(tag.encode())
        source = owner(fresh, tag)
        target = next(node for node in fresh.masters if node is not source)
        adders = Adders(proxy, tag)
        time.sleep(0.2)
        for _ in range(2):
            move_slot(fresh, slot, source, target)
            time.sleep(0.1)
            move_slot(fresh, slot, target, source)
            time.sleep(0.1)
        told = adders.join()
        assert len(told) == 160
        client = proxy.client()
        assert {key: int(client.get(key)) for key in told} == told
        facts = client.info("proxy")
        assert facts["proxy_redirections_moved_total"] > 0
        assert facts["proxy_requests_unknown_total"] == 0


def test_blocking_and_subscribed_clients_follow_a_slot(fresh):
    with ProxyProcess([fresh.masters[0].port]) as proxy:
        tag = "moving"
        slot = slot_of(tag.encode())
        source = owner(fresh, tag)
        target = next(node for node in fresh.masters if node is not source)
        got = []
        waiter = threading.Thread(target=lambda: got.append(proxy.client().blpop("{moving}q", timeout=15)))
        waiter.start()
        sub = proxy.client().pubsub()
        sub.execute_command("SSUBSCRIBE", "{moving}news")
        assert sub.parse_response(block=True)[0] == b"ssubscribe"
        time.sleep(0.2)
        move_slot(fresh, slot, source, target)
        client = proxy.client()
        client.rpush("{moving}q", "x")
        waiter.join(10)
        assert got == [(b"{moving}q", b"x")]
        eventually(lambda: client.execute_command("SPUBLISH", "{moving}news", "hello") == 1)
        assert sub.parse_response(block=True) == [b"smessage", b"{moving}news", b"hello"]
        sub.close()


def test_a_master_dies_and_its_replica_takes_over(fresh):
    with ProxyProcess([node.port for node in fresh.nodes], "--retry-timeout-ms", "20000") as proxy:
        client = proxy.client()
        key = "bar"
        assert owner(fresh, key) is fresh.nodes[0]
        client.set(key, "0")
        assert client.wait(1, 2000) == 1
        stop = threading.Event()
        ok, unknown, errors, reads = [], [], [], []

        def writer():
            own = proxy.client()
            while not stop.is_set():
                try:
                    ok.append(own.incr(key))
                except redis.ResponseError as e:
                    (unknown if str(e).startswith("UNKNOWN") else errors).append(str(e))

        def reader():
            own = proxy.client()
            while not stop.is_set():
                reads.append(own.get(key))

        threads = [threading.Thread(target=writer) for _ in range(3)] + [threading.Thread(target=reader)]
        for t in threads:
            t.start()
        time.sleep(0.3)
        fresh.nodes[0].kill()
        before = len(ok)
        eventually(lambda: len(ok) > before + 50, 20)
        stop.set()
        for t in threads:
            t.join(25)
        # Each writer had at most one request out when the connection broke, and no read was ever refused.
        assert errors == []
        assert len(unknown) <= 3
        assert None not in reads
        # An acknowledged increment runs once: values told differ, save those the asynchronous replica never saw.
        final = int(client.get(key))
        assert final <= len(ok) + len(unknown)
        assert client.get("foo") is None


def test_a_hung_node_ends_the_wait_with_the_truth(fresh):
    options = ("--answer-timeout-ms", "500", "--retry-timeout-ms", "800")
    with ProxyProcess([node.port for node in fresh.masters], *options) as proxy:
        client = proxy.client()
        # Slot of the third master, which has no replica: nobody takes over.
        key = "foo"
        node = owner(fresh, key)
        assert node is fresh.masters[2]
        client.set(key, "1")
        assert node.process is not None
        subscribers = [proxy.client().pubsub() for _ in range(3)]
        for sub in subscribers:
            sub.subscribe("news")
            assert sub.get_message(timeout=5)["type"] == "subscribe"
        node.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(redis.ResponseError, match=r"UNKNOWN the connection to .* broke with this request out"):
                client.incr(key)
            with pytest.raises(redis.ResponseError) as read:
                client.get(key)
            assert "send it again" in str(read.value) or "CLUSTERDOWN" in str(read.value)
            # Other groups are served all the while, and whoever listened to the hung node listens to another.
            assert client.set("bar", "1") is True
            others = [n.client() for n in fresh.masters[:2]]
            eventually(lambda: sum(n.pubsub_numsub("news")[0][1] for n in others) == 3)
        finally:
            node.process.send_signal(signal.SIGCONT)
        eventually(lambda: int(client.get(key)) in (1, 2))
        eventually(lambda: client.set(key, "5"))
        client.publish("news", "hello")
        for sub in subscribers:
            assert eventually(lambda sub=sub: sub.get_message(timeout=1))["data"] == b"hello"
            sub.close()


def test_reads_from_replicas(fresh):
    with ProxyProcess([fresh.masters[0].port], "--refresh-ms", "200") as proxy:
        client = proxy.client(single_connection_client=True)
        client.set("bar", "1")
        assert client.wait(1, 2000) == 1
        replica, leader = fresh.replica.client(), fresh.nodes[0].client()

        def gets(node):
            return node.info("commandstats").get("cmdstat_get", {}).get("calls", 0)

        client.get("bar")
        assert gets(replica) == 0
        client.execute_command("READONLY")
        eventually(lambda: client.get("bar") == b"1" and gets(replica) >= 10)
        before = gets(leader)
        for _ in range(20):
            assert client.get("bar") == b"1"
        assert gets(leader) == before
        # Groups without a replica answer from their leader, and writes go there.
        assert client.get("foo") is None
        assert client.set("bar", "2") is True
        fresh.replica.kill()
        for _ in range(30):
            assert client.get("bar") in (b"1", b"2")
        assert gets(leader) > before
        client.execute_command("READWRITE")
        assert client.get("bar") == b"2"


def test_a_proxy_that_starts_before_its_cluster(tmp_path):
    if not available():
        pytest.skip("redis-server is not on the PATH")
    ports = free_ports(6)
    cluster = RedisCluster(tmp_path, ports=ports[:4])
    seeds = [node.port for node in cluster.masters]
    with ProxyProcess(seeds, "--retry-timeout-ms", "15000", port=ports[4]) as proxy:
        impatient = ProxyProcess(seeds[:1], "--retry-timeout-ms", "100", port=ports[5])
        with impatient, pytest.raises(redis.RedisError, match="nothing was executed, send it again"):
            impatient.client(protocol=2).set("a", "1")
        got = []
        writer = threading.Thread(target=lambda: got.append(proxy.client().set("a", "1")))
        writer.start()
        with cluster:
            writer.join(15)
            assert got == [True]


def test_subscribers_and_caching_clients_survive_their_node(fresh):
    with ProxyProcess([node.port for node in fresh.nodes], "--retry-timeout-ms", "20000") as proxy:
        client = proxy.client()
        with contextlib.ExitStack() as stack:
            subscribers = [stack.enter_context(Raw(proxy.port)) for _ in range(6)]
            for n, raw in enumerate(subscribers):
                raw.send(f"SUBSCRIBE news mine{n}", "PSUBSCRIBE n*")
                assert raw.lines(18)[-1] == b":3"
            caching = stack.enter_context(Raw(proxy.port))
            caching.hello3()
            client.set("bar", "1")
            caching.send("CLIENT TRACKING ON", "GET bar")
            assert caching.lines(3) == [b"+OK", b"$1", b"1"]
            # Some of the subscribers are on this node, the others are not.
            fresh.nodes[0].kill()
            assert caching.lines(4) == [b">2", b"$10", b"invalidate", b"_"]
            eventually(lambda: client.set("bar", "2"), 20)
            for n in range(6):
                # One node's subscribers at least: PUBLISH counts those of the node it went to.
                eventually(lambda n=n: client.pubsub_numsub(f"mine{n}") == [(f"mine{n}".encode(), 1)], 20)
            client.publish("news", "still here")
            for raw in subscribers:
                lines = raw.lines(7 + 9)
                assert lines.count(b"still here") == 2 and lines.count(b"message") == lines.count(b"pmessage") == 1
