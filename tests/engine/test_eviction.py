"""maxmemory: which keys go, that all nodes remove the same, and that the account of memory is kept exactly."""

from __future__ import annotations

import random

import pytest

from durakv.keyspace.ledger import Ledger
from durakv.keyspace.slots import SLOTS
from tests.engine.rig import Client, Err, Rig, table_with_crashers

OOM = "OOM command not allowed when used memory > 'maxmemory'."
VALUE = "v" * 1000


def rig_with(policy: str, keys: int, notify: str = "") -> Rig:
    """Room for about ``keys`` values of 1000 bytes."""
    rig = Rig(maxmemory_policy=policy, maxmemory_samples="64", notify_keyspace_events=notify)
    rig.engine.serving_changed(True, False)
    rig.engine.settings.set("maxmemory", str(keys * 1150 + 1))
    while rig.ks.ledger is not None and rig.ks.ledger.step():
        pass
    return rig


def fill(rig: Rig, client: Client, count: int, options: str = "") -> None:
    for n in range(count):
        assert rig.ask(client, f"SET k{n} {VALUE} {options}") == [b"OK"]


def keys(rig: Rig) -> set[int]:
    return {int(key[1:]) for mapping in rig.ks.dbs[0].slots if mapping for key in mapping}


def exact(rig: Rig) -> None:
    """The account is what weighing everything anew gives."""
    fresh = Ledger(rig.ks)
    while fresh.step():
        pass
    assert rig.ks.ledger is not None
    assert rig.ks.ledger.total == fresh.total


def test_noeviction_refuses_what_may_grow_and_nothing_else() -> None:
    rig = rig_with("noeviction", 10)
    client = rig.client()
    fill(rig, client, 10)
    replies = [rig.ask(client, f"SET more{n} {VALUE}")[0] for n in range(3)]
    assert replies[-1] == Err(OOM)
    assert rig.ask(client, "GET k1", "DEL k1 k2 k3", "SET more 1") == [VALUE.encode(), 3, b"OK"]
    exact(rig)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_writes_go_on_and_memory_stays_below(policy: str) -> None:
    rig = rig_with(policy, 50)
    client = rig.client()
    fill(rig, client, 300)
    assert 40 <= len(keys(rig)) <= 51
    assert rig.engine.eviction.used_bytes() <= rig.engine.eviction.limit + 2000
    assert rig.ks.evicted_keys == 300 - len(keys(rig))
    assert rig.engine.eviction.leaving == {}
    exact(rig)
    rig.check_follower()


def test_a_pipeline_evicts_once_for_each_write() -> None:
    rig = rig_with("allkeys-random", 50)
    client = rig.client()
    fill(rig, client, 50)
    replies = rig.ask(client, *[f"SET p{n} {VALUE}" for n in range(30)])
    assert replies == [b"OK"] * 30
    total = sum(len(mapping) for mapping in rig.ks.dbs[0].slots if mapping)
    assert 35 <= total <= 80
    rig.pass_ms(200)
    rig.settle()
    assert rig.engine.eviction.used_bytes() <= rig.engine.eviction.limit + 2000
    rig.check_follower()


def test_lru_keeps_what_is_used() -> None:
    rig = rig_with("allkeys-lru", 40)
    client = rig.client()
    fill(rig, client, 20)
    for n in range(20, 120):
        rig.pass_ms(1000)
        rig.ask(client, *[f"GET k{hot}" for hot in range(5)])
        rig.ask(client, f"SET k{n} {VALUE}")
    assert set(range(5)) <= keys(rig)
    assert not set(range(5, 20)) & keys(rig)


def test_lfu_keeps_what_is_used_often() -> None:
    rig = rig_with("allkeys-lfu", 40)
    client = rig.client()
    fill(rig, client, 30)
    for _ in range(200):
        rig.ask(client, *[f"GET k{hot}" for hot in range(5)])
    for n in range(30, 130):
        rig.ask(client, f"SET k{n} {VALUE}")
    assert set(range(5)) <= keys(rig)
    [frequency] = rig.ask(client, "OBJECT FREQ k1")
    assert isinstance(frequency, int) and frequency > 5
    assert rig.ask(client, "OBJECT FREQ k1") == [frequency]
    assert str(rig.ask(client, "OBJECT IDLETIME k1")[0]).startswith("ERR An LFU maxmemory policy is selected")


def test_volatile_policies_spare_keys_without_a_deadline() -> None:
    for policy in ("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"):
        rig = rig_with(policy, 30)
        client = rig.client()
        fill(rig, client, 10)
        for n in range(10, 100):
            assert rig.ask(client, f"SET k{n} {VALUE} EX {1000 + n}") == [b"OK"]
        assert set(range(10)) <= keys(rig), policy
        if policy == "volatile-ttl":
            assert 99 not in keys(rig) or 10 not in keys(rig)
            assert not set(range(10, 40)) & keys(rig)
        rig.check_follower()


def test_without_anything_to_evict_writes_are_refused() -> None:
    rig = rig_with("volatile-lru", 10)
    client = rig.client()
    fill(rig, client, 10)
    replies = [rig.ask(client, f"SET more{n} {VALUE}")[0] for n in range(3)]
    assert replies[-1] == Err(OOM)


def test_a_lowered_limit_is_reached_without_writes() -> None:
    rig = rig_with("allkeys-random", 200)
    client = rig.client()
    fill(rig, client, 150)
    assert rig.ask(client, "CONFIG SET maxmemory 60000") == [b"OK"]
    for _ in range(20):
        rig.pass_ms(100)
        rig.settle()
    assert rig.engine.eviction.used_bytes() <= 60000
    rig.check_follower()


def test_idle_times_and_no_touch() -> None:
    rig = rig_with("allkeys-lru", 1000)
    client, quiet = rig.client(), rig.client()
    rig.ask(client, "SET k1 v")
    rig.ask(quiet, "CLIENT NO-TOUCH ON")
    rig.pass_ms(7000)
    rig.ask(quiet, "GET k1")
    assert rig.ask(client, "OBJECT IDLETIME k1") == [7]
    rig.ask(client, "GET k1")
    assert rig.ask(client, "OBJECT IDLETIME k1") == [0]
    assert rig.ask(client, "OBJECT IDLETIME none") == [None]


def test_an_eviction_is_told_of_and_counted() -> None:
    rig = rig_with("allkeys-random", 5, "KEA")
    rig.engine.set_notify()
    listener, client = rig.client(), rig.client()
    listener.send("PSUBSCRIBE __keyevent@0__:evicted")
    fill(rig, client, 10)
    told = [message for message in listener.got() if isinstance(message, list) and message[0] == b"pmessage"]
    assert len(told) == rig.ks.evicted_keys > 0


def test_demotion_forgets_what_was_proposed() -> None:
    rig = rig_with("allkeys-random", 10)
    client = rig.client()
    fill(rig, client, 10)
    rig.engine.settings.set("maxmemory", "5000")
    client.send(f"SET a {VALUE}", f"SET b {VALUE}")
    rig.turn()
    assert rig.engine.eviction.leaving
    rig.consensus.follow()
    assert rig.engine.eviction.leaving == {}
    assert rig.engine.eviction.leaving_bytes == 0


def one(rng: random.Random) -> str:
    k, j, f = (f"k{rng.randrange(12)}" for _ in range(3))
    n = rng.randrange(300)
    return rng.choice([
        f"SET {k} {'x' * n}", f"APPEND {k} {'y' * n}y", f"DEL {k} {j}", f"HSET {k} {f} {'z' * n}z", f"HDEL {k} {f}",
        f"RPUSH {k} {'a' * n}a b", f"LPOP {k}", f"SADD {k} {f} {j}", f"SREM {k} {f}", f"ZADD {k} {n} {f}",
        f"ZREM {k} {f}", f"RENAME {k} {j}", f"COPY {k} {j} REPLACE", f"EXPIRE {k} 100", f"GETDEL {k}",
        f"SETRANGE {k} {n} q", f"SINTERSTORE {k} {j} {f}", f"MOVE {k} 1", "SWAPDB 0 1", f"SETEX {k} 1 v",
        "FLUSHDB" if n < 10 else f"INCR {k}", f"BREAKHALFWAY {k}", f"LINSERT {k} BEFORE b {'c' * n}", f"LTRIM {k} 0 2",
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_the_account_is_exact_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    rig = Rig(table=table_with_crashers(), maxmemory="1gb", maxmemory_policy="allkeys-lru")
    client = rig.client()
    for _ in range(300):
        rig.ask(client, one(rng))
        if rng.random() < 0.05:
            rig.pass_ms(700)
            rig.settle()
    ledger = rig.ks.ledger
    assert ledger is not None
    while ledger.step():
        pass
    assert ledger.weighed == SLOTS
    for _ in range(300):
        rig.ask(client, "MULTI", one(rng), one(rng), "EXEC") if rng.random() < 0.2 else rig.ask(client, one(rng))
        if rng.random() < 0.05:
            rig.pass_ms(700)
            rig.settle()
        while ledger.step():
            pass
        exact(rig)
