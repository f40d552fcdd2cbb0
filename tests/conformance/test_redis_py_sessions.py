"""What ties a redis-py client to others over several nodes: WATCH, blocking pops and pub/sub."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import WatchError

from tests.conformance.conftest import DEADLINE_S, Site, eventually


class Call(threading.Thread):
    """One blocking call in a thread of its own; ``result()`` waits for it, no longer than the deadline."""

    def __init__(self, client: Any, *command: object) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.command = command
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            reply = self.client.execute_command(*self.command)
            self.outcome = list(reply) if isinstance(reply, tuple) else reply
        except redis.RedisError as e:
            self.outcome = e

    def result(self) -> object:
        self.join(DEADLINE_S)
        assert not self.is_alive(), f"{self.command} was never answered"
        return self.outcome


@contextlib.contextmanager
def pinned(site: Site, name: str, at: str = "node") -> Iterator[Any]:
    """A client that keeps to one connection, known to the server by ``name``."""
    with site.client(getattr(site, at), decode_responses=True, client_name=name) as pool, pool.client() as client:
        client.ping()
        yield client


def parked(site: Site, key: str, count: int) -> None:
    """Wait until ``count`` requests are parked; INFO counts a node's blocked clients."""

    def total() -> bool:
        blocked = 0
        for node in site.group.nodes:
            with node.client() as client:
                blocked += int(client.info("clients")["blocked_clients"])
        return blocked >= count

    eventually(total, f"{count} clients wait for {key}")


def test_watch_lets_an_undisturbed_transaction_pass(site: Site, r: Any) -> None:
    r.set("k", 1)
    with r.pipeline() as p:
        p.watch("k", "absent")
        value = int(p.get("k"))
        p.multi()
        p.set("k", value + 1).get("k")
        assert p.execute() == [True, "2"]
    with r.pipeline() as p:
        p.watch("k")
        r.get("k")
        r.set("unrelated", 1)
        p.multi()
        p.incr("k")
        assert p.execute() == [3]


@pytest.mark.parametrize("where", ["node", "leader", "other"])
def test_watch_aborts_on_a_conflicting_writer(site: Site, r: Any, where: str) -> None:
    r.set("k", 1)
    with site.client(getattr(site, where)) as rival, r.pipeline() as p:
        p.watch("k")
        assert p.get("k") == "1"
        rival.set("k", 1)  # the same value is a change all the same
        p.multi()
        p.set("k", "mine")
        with pytest.raises(WatchError):
            p.execute()
        assert r.get("k") == "1"
        # The aborted EXEC forgot the keys.
        p.multi()
        p.set("k", "later")
        assert p.execute() == [True]


def test_watch_of_keys_that_appear_vanish_or_expire(site: Site, r: Any) -> None:
    for number, (before, change) in enumerate([
        (["DEL", "k"], ["SET", "k", "1"]),
        (["SET", "k", "1"], ["DEL", "k"]),
        (["SET", "k", "1"], ["FLUSHALL"]),
        (["SET", "k", "1"], ["RENAME", "k", "l"]),
        (["SET", "k", "1"], ["PEXPIRE", "k", "1"]),
        (["SET", "k", "1"], ["EXPIRE", "k", "1000"]),
    ]):  # fmt: skip
        with pinned(site, f"watch{number}") as mine, site.client(site.other) as rival:
            mine.execute_command(*before)
            mine.execute_command("WATCH", "k")
            rival.execute_command(*change)
            mine.execute_command("MULTI")
            mine.execute_command("SET", "result", number)
            assert mine.execute_command("EXEC") is None, change
    assert r.get("result") is None


def test_unwatch_and_discard_forget(site: Site, r: Any) -> None:
    for forget in (["UNWATCH"], ["MULTI", "DISCARD"]):
        with pinned(site, "forget") as mine:
            mine.execute_command("WATCH", "k")
            r.incr("k")
            for command in forget:
                mine.execute_command(command)
            mine.execute_command("MULTI")
            mine.execute_command("GET", "k")
            assert mine.execute_command("EXEC") == [r.get("k")]


def test_optimistic_increments_lose_nothing(site: Site, r: Any) -> None:
    rounds, workers = 15, 4

    def work(number: int) -> None:
        node = site.group.nodes[number % len(site.group.nodes)]
        with site.client(node) as client:
            for _ in range(rounds):
                client.transaction(_increment, "n")

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert r.get("n") == str(rounds * workers)


def _increment(p: Any) -> None:
    value = int(p.get("n") or 0)
    p.multi()
    p.set("n", value + 1)


def test_select_inside_an_aborted_transaction_changes_nothing(site: Site, r: Any) -> None:
    with pinned(site, "select") as mine:
        mine.execute_command("WATCH", "k")
        r.incr("k")
        mine.execute_command("MULTI")
        mine.execute_command("SELECT", 4)
        assert mine.execute_command("EXEC") is None
        mine.set("where", "here")
    assert r.get("where") == "here"


def test_select_inside_a_transaction_stays(site: Site, r: Any) -> None:
    with pinned(site, "select") as mine:
        mine.execute_command("MULTI")
        mine.execute_command("SET", "a", "0")
        mine.execute_command("SELECT", 4)
        mine.execute_command("SET", "a", "4")
        assert mine.execute_command("EXEC") in ([True, True, True], ["OK", "OK", "OK"])
        assert mine.get("a") == "4"
    assert r.get("a") == "0"


@pytest.mark.parametrize("pusher", ["leader", "node", "other"])
def test_a_blocked_pop_is_served_from_any_node(site: Site, r: Any, pusher: str) -> None:
    with pinned(site, "waiter") as waiter, site.client(getattr(site, pusher)) as push:
        call = Call(waiter, "BLPOP", "none", "q", 0)
        parked(site, "q", 1)
        assert push.rpush("q", "a", "b") == 2
        assert call.result() == ["q", "a"]
        assert r.lrange("q", 0, -1) == ["b"]
        assert Call(waiter, "BRPOP", "q", 1).result() == ["q", "b"]
        call = Call(waiter, "BZPOPMIN", "z", 0)
        parked(site, "z", 1)
        push.zadd("z", {"m": 1.5})
        popped = call.result()
        assert isinstance(popped, list | tuple) and [popped[0], popped[1], float(popped[2])] == ["z", "m", 1.5]
        call = Call(waiter, "BLMOVE", "from", "to", "LEFT", "RIGHT", 0)
        parked(site, "from", 1)
        push.lpush("from", "moved")
        assert call.result() == "moved" and r.lrange("to", 0, -1) == ["moved"]


def test_waiters_are_served_in_order(site: Site, r: Any) -> None:
    with pinned(site, "first") as first, pinned(site, "second", "other") as second, pinned(site, "third") as third:
        calls = []
        for n, client in enumerate((first, second, third)):
            calls.append(Call(client, "BLPOP", "q", 0))
            parked(site, "q", n + 1)
        assert r.rpush("q", "1", "2") == 2
        assert [calls[0].result(), calls[1].result()] == [["q", "1"], ["q", "2"]]
        assert calls[2].is_alive()
        r.rpush("q", "3")
        assert calls[2].result() == ["q", "3"]
        assert r.exists("q") == 0


def test_blocked_pops_time_out(site: Site, r: Any) -> None:
    with pinned(site, "waiter") as waiter:
        assert Call(waiter, "BLPOP", "q", 0.05).result() is None
        assert Call(waiter, "BZPOPMAX", "z", 0.05).result() is None
        assert Call(waiter, "BLMOVE", "q", "p", "LEFT", "LEFT", 0.05).result() is None
    assert r.rpush("q", "kept") == 1 and r.lrange("q", 0, -1) == ["kept"]


def test_a_waiter_that_disconnects_takes_nothing(site: Site, r: Any) -> None:
    """Also when its blocking pop came behind other requests in one packet."""
    connection = site.client().connection_pool.make_connection()
    connection.connect()
    connection.send_packed_command([b"SET before 1\r\nGET before\r\nBLPOP q 0\r\n"])
    assert connection.read_response() in (True, b"OK")
    assert connection.read_response() == b"1"
    parked(site, "q", 1)
    connection.disconnect()
    eventually(lambda: _blocked(site) == 0, "the closed client is no longer counted")
    r.rpush("q", "kept")
    assert r.lrange("q", 0, -1) == ["kept"]


def _blocked(site: Site) -> int:
    total = 0
    for node in site.group.nodes:
        with node.client() as client:
            total += int(client.info("clients")["blocked_clients"])
    return total


def test_requests_behind_a_blocked_pop_wait_for_it(site: Site, r: Any) -> None:
    connection = site.client().connection_pool.make_connection()
    connection.connect()
    connection.send_packed_command([b"SET k 1\r\nBLPOP q 0\r\n"])
    assert connection.read_response() in (True, b"OK")
    parked(site, "q", 1)
    connection.send_packed_command([b"GET k\r\nSET k 2\r\nPING\r\n"])
    r.set("seen", 1)  # whatever was sent before has reached the server by now
    assert r.get("k") == "1"
    r.rpush("q", "x")
    assert connection.read_response() == [b"q", b"x"]
    assert [connection.read_response() for _ in range(3)] == [b"1", b"OK", b"PONG"]
    connection.disconnect()


def test_a_blocked_pop_inside_exec_does_not_block(site: Site, r: Any) -> None:
    with r.pipeline() as p:
        assert p.rpush("q", 1).blpop("q", 1).blpop("q", 1).execute() in ([1, ["q", "1"], None], [1, ("q", "1"), None])


def _messages(pubsub: Any, count: int) -> list[tuple[str, object, object]]:
    found: list[tuple[str, object, object]] = []

    def more() -> bool:
        message = pubsub.get_message(timeout=0.05)
        if message is not None:
            found.append((message["type"], message["channel"], message["data"]))
        return len(found) >= count

    eventually(more, f"{count} messages, got {found}")
    return found


@pytest.mark.parametrize("publisher", ["leader", "node", "other"])
def test_messages_reach_subscribers_of_every_node(site: Site, publisher: str) -> None:
    with site.text() as near, site.client(site.other, decode_responses=True) as far:
        subscribers = [near.pubsub(), far.pubsub()]
        for subscriber in subscribers:
            subscriber.subscribe("news")
            subscriber.psubscribe("n?ws")
            assert [m[0] for m in _messages(subscriber, 2)] == ["subscribe", "psubscribe"]
        with site.client(getattr(site, publisher)) as sender:
            for n in range(20):
                assert sender.publish("news", str(n)) >= 0
        for subscriber in subscribers:
            found = _messages(subscriber, 40)
            assert [data for kind, _, data in found if kind == "message"] == [str(n) for n in range(20)]
            assert [data for kind, _, data in found if kind == "pmessage"] == [str(n) for n in range(20)]
            subscriber.unsubscribe()
            subscriber.punsubscribe()
            assert [m[0] for m in _messages(subscriber, 2)] == ["unsubscribe", "punsubscribe"]
            subscriber.close()


def test_shard_channels_and_counts(site: Site, r: Any) -> None:
    subscriber = r.pubsub()
    subscriber.ssubscribe("shard")
    assert _messages_sharded(subscriber)[0] == "ssubscribe"
    assert r.pubsub_shardnumsub("shard") == [("shard", 1)] or r.pubsub_shardnumsub("shard") == ["shard", 1]
    assert r.spublish("shard", "hello") == 1
    assert _messages_sharded(subscriber) == ("smessage", "hello")
    subscriber.close()


def _messages_sharded(pubsub: Any) -> tuple[str, object]:
    found: list[tuple[str, object]] = []

    def more() -> bool:
        message = pubsub.get_sharded_message(timeout=0.05)
        if message is not None:
            found.append((message["type"], message["data"]))
        return bool(found)

    eventually(more, "a shard message")
    return found[0]


def test_subscribers_of_resp2_are_restricted(site: Site, r: Any) -> None:
    connection = site.client().connection_pool.make_connection()
    connection.connect()
    connection.send_command("SUBSCRIBE", "c")
    connection.read_response(push_request=True) if site.protocol == 3 else connection.read_response()
    connection.send_command("GET", "k")
    if site.protocol == 3:
        assert connection.read_response() is None
    else:
        with pytest.raises(redis.ResponseError, match="Can't execute 'get'"):
            connection.read_response()
    connection.disconnect()


def test_keyspace_events_reach_every_node(site: Site, r: Any) -> None:
    with site.client(site.other, decode_responses=True) as far:
        for client in (r, far):
            client.config_set("notify-keyspace-events", "KEA")
        subscribers = [r.pubsub(), far.pubsub()]
        for subscriber in subscribers:
            subscriber.psubscribe("__keyevent@0__:*")
            _messages(subscriber, 1)
        r.set("k", 1)
        r.pexpire("k", 1)
        expected = ["set", "expire", "expired"]
        for subscriber in subscribers:
            found = _messages(subscriber, 3)
            assert [str(channel).rpartition(":")[2] for _, channel, _ in found] == expected
            subscriber.close()
        for client in (r, far):
            client.config_set("notify-keyspace-events", "")
