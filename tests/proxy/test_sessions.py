"""What belongs to one connection: transactions, watched keys, blocking, subscriptions, tracking, databases, RESP3."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import redis

from tests.proxy.cluster import Raw, eventually

pytestmark = pytest.mark.live


@pytest.fixture
def raw(proxy):
    with Raw(proxy.port) as found:
        yield found


@pytest.fixture
def raw3(proxy):
    with Raw(proxy.port) as found:
        found.hello3()
        yield found


def test_transactions(client):
    batch = client.pipeline(transaction=True)
    batch.set("{t}a", 1).incr("{t}a").lpush("{t}l", "x").mget("{t}a", "{t}b").get("{t}a")
    assert batch.execute() == [True, 2, 1, [b"2", None], b"2"]


def test_a_command_fails_in_a_transaction_and_the_others_do_not(client):
    batch = client.pipeline(transaction=True)
    batch.set("{t}a", "x").incr("{t}a").set("{t}b", "y")
    replies = batch.execute(raise_on_error=False)
    assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] is True


def test_transactions_are_atomic(proxy, client):
    stop = threading.Event()
    torn = []

    def reader():
        own = proxy.client()
        while not stop.is_set():
            a, b = own.mget("{t}a", "{t}b")
            if a != b:
                torn.append((a, b))

    threads = [threading.Thread(target=reader) for _ in range(3)]
    client.mset({"{t}a": 0, "{t}b": 0})
    for t in threads:
        t.start()
    for i in range(300):
        client.pipeline(transaction=True).set("{t}a", i).set("{t}b", i).execute()
    stop.set()
    for t in threads:
        t.join()
    assert torn == []


def test_what_aborts_a_transaction(raw):
    raw.send("MULTI", "SET a 1", "SET b 2", "EXEC")
    assert raw.lines(4) == [b"+OK", b"+QUEUED", b"-CROSSSLOT Keys in request don't hash to the same slot",
                            b"-EXECABORT Transaction discarded because of previous errors."]  # fmt: skip
    raw.send("MULTI", "NOSUCH", "EXEC", "GET a")
    lines = raw.lines(4)
    assert lines[1].startswith(b"-ERR unknown command") and lines[2].startswith(b"-EXECABORT") and lines[3] == b"$-1"
    raw.send("MULTI", "FLUSHALL", "EXEC")
    assert b"cannot be part of a transaction" in raw.lines(3)[1]
    raw.send("MULTI", "MULTI", "SET a 1", "DISCARD", "GET a", "EXEC", "DISCARD", "MULTI", "EXEC")
    raw.send("MULTI", "PING", "EXEC")
    assert raw.lines(13) == [
        b"+OK", b"-ERR MULTI calls can not be nested", b"+QUEUED", b"+OK", b"$-1", b"-ERR EXEC without MULTI",
        b"-ERR DISCARD without MULTI", b"+OK", b"*0", b"+OK", b"+QUEUED", b"*1", b"+PONG",
    ]  # fmt: skip


def test_what_may_wait_does_not_in_a_transaction(raw, client):
    raw.send("MULTI", "SET {t}a 1", "XREAD BLOCK 0 STREAMS {t}s $", "EXEC")
    assert raw.lines(6)[:5] == [b"+OK", b"+QUEUED", b"+QUEUED", b"*2", b"+OK"]


def test_watch(proxy, client):
    other = proxy.client()
    with client.pipeline() as batch:
        batch.watch("w")
        other.set("w", "1")
        batch.multi()
        batch.set("w", "2")
        with pytest.raises(redis.WatchError):
            batch.execute()
    assert client.get("w") == b"1"
    with client.pipeline() as batch:
        batch.watch("w")
        batch.watch("w")
        assert batch.get("w") == b"1"
        batch.multi()
        batch.set("w", "2")
        assert batch.execute() == [True]
    assert other.get("w") == b"2"
    with client.pipeline() as batch:
        batch.watch("w")
        other.set("w", "3")
        batch.unwatch()
        batch.multi()
        batch.set("w", "4")
        assert batch.execute() == [True]


def test_watched_counters_lose_no_increment(proxy, client):
    client.set("n", 0)

    def one(batch):
        n = int(batch.get("n"))
        batch.multi()
        batch.set("n", n + 1)

    def add():
        own = proxy.client()
        for _ in range(25):
            own.transaction(one, "n")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert client.get("n") == b"100"


def test_watch_in_another_slot_is_refused(raw):
    raw.send("WATCH a", "WATCH b", "MULTI", "SET b 1", "EXEC")
    lines = raw.lines(5)
    assert lines[0] == b"+OK" and lines[1].startswith(b"-CROSSSLOT") and lines[4].startswith(b"-CROSSSLOT")
    raw.send("WATCH a", "MULTI", "WATCH a", "EXEC")
    assert raw.lines(4)[2] == b"-ERR WATCH inside MULTI is not allowed"


def test_blocking(proxy, client):
    got = []

    def wait():
        own = proxy.client()
        got.append(own.blpop("q", timeout=10))
        got.append(own.get("after"))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    client.set("after", "1")
    assert got == []
    client.rpush("q", "x")
    thread.join(5)
    assert got == [(b"q", b"x"), b"1"]
    began = time.monotonic()
    assert client.blpop("q", timeout=0.2) is None
    assert 0.15 < time.monotonic() - began < 2
    assert client.xread({"s": "$"}, block=100) in ([], {}, None)
    assert client.bzpopmin("z", timeout=0.05) is None
    assert client.execute_command("BLMPOP", "0.05", "1", "q", "LEFT") is None


def test_blocked_clients_do_not_hold_others(proxy, client):
    waiting = [Raw(proxy.port) for _ in range(20)]
    for w in waiting:
        w.send("BLPOP nothing 0")
    began = time.monotonic()
    for i in range(50):
        client.set(f"y{i}", "1")
    assert time.monotonic() - began < 5
    for w in waiting:
        w.__exit__()
    # A client that leaves while it waits must not take an element with it.
    time.sleep(0.3)
    client.rpush("nothing", "kept")
    time.sleep(0.1)
    assert client.lrange("nothing", 0, -1) == [b"kept"]


def test_requests_behind_a_blocking_one_wait_for_it(raw, client):
    raw.send("BLPOP q 0", "SET order 2", "GET order")
    client.set("order", "1")
    time.sleep(0.1)
    assert client.get("order") == b"1"
    client.rpush("q", "v")
    assert raw.lines(8) == [b"*2", b"$1", b"q", b"$1", b"v", b"+OK", b"$1", b"2"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_channels_and_patterns(proxy, client, protocol):
    own = proxy.client(protocol=protocol)
    sub = own.pubsub(ignore_subscribe_messages=False)
    sub.subscribe("a", "b")
    sub.psubscribe("p*")
    told = [sub.get_message(timeout=5) for _ in range(3)]
    assert [(t["type"], t["channel"], t["data"]) for t in told] == [
        ("subscribe", b"a", 1), ("subscribe", b"b", 2), ("psubscribe", b"p*", 3),
    ]  # fmt: skip
    client.publish("a", "1")
    client.publish("pq", "2")
    client.publish("c", "3")
    found = [sub.get_message(timeout=5) for _ in range(2)]
    assert sorted((m["type"], m["channel"], m["data"]) for m in found) == [
        ("message", b"a", b"1"), ("pmessage", b"pq", b"2"),
    ]  # fmt: skip
    assert client.pubsub_numsub("a", "zz") == [(b"a", 1), (b"zz", 0)]
    assert client.pubsub_numpat() == 1
    assert set(client.pubsub_channels()) == {b"a", b"b"}
    sub.unsubscribe("a")
    assert sub.get_message(timeout=5)["data"] == 2
    sub.unsubscribe()
    sub.punsubscribe()
    assert [sub.get_message(timeout=5)["data"] for _ in range(2)] == [1, 0]
    sub.close()
    eventually(lambda: client.pubsub_numpat() == 0)


def test_sharded_channels_of_several_slots(proxy, client, raw):
    raw.send("SSUBSCRIBE a b c")
    lines = raw.lines(18)
    assert sorted(line[1:] for line in lines if line.startswith(b":")) == [b"1", b"2", b"3"]
    for name in "abc":
        assert client.execute_command("SPUBLISH", name, f"to {name}") == 1
    lines = raw.lines(21)
    assert sorted(line for line in lines if line.startswith(b"to ")) == [b"to a", b"to b", b"to c"]
    raw.send("SUNSUBSCRIBE", "PING")
    lines = raw.lines(16 + 3)
    assert lines[-1] == b"+PONG" and lines.count(b"sunsubscribe") == 3


def test_a_resp2_subscriber_may_not_do_everything(raw):
    raw.send("SUBSCRIBE a", "GET x", "PING hi", "UNSUBSCRIBE a", "GET x", "UNSUBSCRIBE")
    lines = raw.lines(6 + 1 + 5 + 6 + 1 + 5)
    assert lines[6].startswith(b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE")
    assert lines[7:12] == [b"*2", b"$4", b"pong", b"$2", b"hi"]
    assert lines[18] == b"$-1"
    assert lines[19:] == [b"*3", b"$11", b"unsubscribe", b"$-1", b":0"]


def test_a_resp3_subscriber_may(raw3, client):
    own = raw3
    own.send("SUBSCRIBE a", "SET x 1", "GET x", "PING")
    assert own.lines(10) == [b">3", b"$9", b"subscribe", b"$1", b"a", b":1", b"+OK", b"$1", b"1", b"+PONG"]
    client.publish("a", "m")
    assert own.lines(7) == [b">3", b"$7", b"message", b"$1", b"a", b"$1", b"m"]


def test_tracking(raw, client):
    own = raw
    own.send("CLIENT TRACKING ON")
    assert own.lines(1)[0].startswith(b"-ERR the proxy sends invalidations to RESP3 clients only")
    own.hello3()
    own.send("CLIENT TRACKING ON NONSENSE")
    assert own.lines(1)[0].startswith(b"-ERR syntax")
    client.mset({"a": 1, "b": 2, "c": 3})
    own.send("CLIENT TRACKING ON", "GET a", "GET b")
    assert own.lines(5) == [b"+OK", b"$1", b"1", b"$1", b"2"]
    client.set("c", 4)
    client.set("b", 5)
    assert own.lines(6) == [b">2", b"$10", b"invalidate", b"*1", b"$1", b"b"]
    own.send("CLIENT TRACKING OFF", "GET a")
    assert own.lines(3) == [b"+OK", b"$1", b"1"]
    client.set("a", 6)
    own.send("CLIENT TRACKING ON BCAST PREFIX k", "PING")
    assert own.lines(2) == [b"+OK", b"+PONG"]
    for key in ("k1", "k2", "k3", "other"):
        client.set(key, "v")
    lines = own.lines(18)
    assert sorted(line for line in lines if line.startswith(b"k")) == [b"k1", b"k2", b"k3"]


def test_opt_in_tracking(raw3, client):
    own = raw3
    client.mset({"a": 1, "b": 2})
    own.send("CLIENT CACHING YES", "CLIENT TRACKING ON OPTIN", "GET a", "CLIENT CACHING YES", "GET b")
    lines = own.lines(7)
    assert lines[0].startswith(b"-ERR CLIENT CACHING") and lines[1:] == [b"+OK", b"$1", b"1", b"+OK", b"$1", b"2"]
    client.mset({"a": 3, "b": 4})
    assert own.lines(6)[5] == b"b"


def test_reply_off_and_skip(raw):
    raw.send("CLIENT REPLY OFF", "SET a 1", "PING", "CLIENT REPLY ON", "GET a", "CLIENT REPLY SKIP", "SET a 2", "GET a")
    assert raw.lines(5) == [b"+OK", b"$1", b"1", b"$1", b"2"]


def test_select_is_the_nodes_decision(raw):
    raw.send("SELECT 0", "SELECT 1", "SELECT x", "SELECT -1", "SET a 1")
    lines = raw.lines(5)
    assert lines[0] == b"+OK" and lines[1].startswith(b"-ERR") and lines[4] == b"+OK"
    assert lines[2:4] == [b"-ERR value is not an integer or out of range", b"-ERR DB index is out of range"]


def test_hello_tells_of_the_proxy(client3, raw):
    facts = client3.execute_command("HELLO", "3")
    facts = {k if isinstance(k, bytes) else k.encode(): v for k, v in facts.items()}
    assert facts[b"proto"] == 3 and facts[b"mode"] in (b"standalone", "standalone")
    assert facts[b"id"] == client3.client_id()
    own = raw
    own.send("HELLO 4", "HELLO 3 NONSENSE", "HELLO 2 SETNAME me", "CLIENT GETNAME", "RESET", "CLIENT GETNAME")
    lines = own.lines(2)
    assert lines[0].startswith(b"-NOPROTO") and lines[1].startswith(b"-ERR Syntax error in HELLO")
    own.send("QUIT")
    rest = own.file.read().split(b"\r\n")
    assert b"me" in rest and b"+RESET" in rest and rest[-2] == b"+OK"


def test_wait_counts_the_replica_of_the_group_that_was_written(proxy, client):
    own = proxy.client(single_connection_client=True)
    # Slot 5061 is of the first master, the one that has a replica; 12182 of one without.
    own.set("bar", "1")
    assert own.wait(1, 2000) == 1
    own.set("foo", "1")
    assert own.wait(1, 100) == 0
    assert proxy.client().wait(0, 100) >= 0


def test_quit_and_eof_answer_what_was_asked(proxy):
    with Raw(proxy.port) as own:
        own.send("SET a 1", "GET a", "QUIT", "SET a 2")
        assert own.file.read() == b"+OK\r\n$1\r\n1\r\n+OK\r\n"
    with Raw(proxy.port) as own:
        own.send("GET a", "MGET a b c", "PING")
        own.socket.shutdown(socket.SHUT_WR)
        assert own.file.read() == b"$1\r\n1\r\n*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n+PONG\r\n"
