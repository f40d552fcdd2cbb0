"""Fields that expire on a whole node: ticks before answers, sweeps, events, followers with the same state."""

from __future__ import annotations

import pytest

from durakv.keyspace.values.hash import Hash
from tests.engine.rig import Client, Rig


def listening(rig: Rig) -> Client:
    rig.engine.settings.set_many([("notify-keyspace-events", "EA")])
    rig.engine.set_notify()
    listener = rig.client()
    rig.ask(listener, "PSUBSCRIBE __keyevent@0__:*")
    return listener


def told(listener: Client) -> list[str]:
    messages = [message for message in listener.got() if isinstance(message, list) and message[0] == b"pmessage"]
    return [message[2].decode().partition(":")[2] + " " + message[3].decode() for message in messages]


def pass_ms(rig: Rig, ms: int) -> None:
    rig.clock.now_ns += ms * 1_000_000


def fields_stored(rig: Rig, key: bytes) -> int:
    value = rig.ks.dbs[0].peek(key)
    return len(value) if isinstance(value, Hash) else 0


def test_a_read_waits_until_the_log_has_passed_the_deadline() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "HSET h f v g w", "HPEXPIRE h 50 FIELDS 1 g")
    pass_ms(rig, 49)
    assert rig.ask(a, "HGET h g") == [b"w"]
    before = rig.consensus.last
    pass_ms(rig, 1)
    assert rig.ask(a, "HGETALL h") == [[b"f", b"v"]]
    assert rig.consensus.last > before
    before = rig.consensus.last
    assert rig.ask(a, "HLEN h", "HTTL h FIELDS 2 f g", "HEXISTS h g") == [1, [-1, -2], 0]
    assert rig.consensus.last == before
    rig.check_follower()


def test_time_left_is_told_by_the_clock_although_no_key_has_a_deadline() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "HSETEX h PX 10000 FIELDS 1 f v")
    pass_ms(rig, 4000)
    assert rig.ask(a, "HPTTL h FIELDS 1 f", "PTTL h", "DBSIZE") == [[6000], -1, 1]


def test_a_sweep_deletes_what_nobody_reads() -> None:
    rig = Rig()
    listener = listening(rig)
    a = rig.client()
    rig.ask(a, "HSET h f v g w", "HPEXPIRE h 50 FIELDS 1 g", "HSETEX gone PX 60 FIELDS 2 f v g w")
    told(listener)
    pass_ms(rig, 40)
    rig.engine.upkeep._sweep()
    rig.commit()
    assert fields_stored(rig, b"h") == 2
    pass_ms(rig, 20)
    rig.engine.upkeep._sweep()
    rig.commit()
    assert fields_stored(rig, b"h") == 1
    assert rig.ks.dbs[0].size == 1
    assert (rig.ks.dbs[0].nexp, rig.ks.expired_fields) == (0, 3)
    assert told(listener) == ["hexpired h", "hexpired gone", "del gone"]
    rig.check_follower()


@pytest.mark.parametrize("failing", ["HINCRBY h f 1", "SINTERSTORE d h text", "MULTI;HINCRBY h f 1;EXEC"])
def test_an_undone_unit_tells_of_no_field_and_counts_none(failing: str) -> None:
    rig = Rig()
    listener = listening(rig)
    a = rig.client()
    rig.ask(a, "HSET h f v g w", "SET text x", "HPEXPIRE h 50 FIELDS 1 g")
    told(listener)
    pass_ms(rig, 60)
    rig.ask(a, *failing.split(";"))
    assert told(listener) == []
    assert (rig.ks.dbs[0].nexp, rig.ks.expired_fields) == (1, 0)
    assert rig.ask(a, "HSET h f 1") == [0]
    assert told(listener) == ["hexpired h", "hset h"]
    assert (rig.ks.dbs[0].nexp, rig.ks.expired_fields) == (0, 1)
    rig.check_follower()


def test_a_watched_hash_counts_as_changed_when_a_field_expires() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    rig.ask(a, "HSET h f v g w", "HPEXPIRE h 50 FIELDS 1 g", "WATCH h")
    pass_ms(rig, 60)
    assert rig.ask(b, "HDEL h x") == [0]
    assert rig.ask(a, "MULTI", "HGET h f", "EXEC")[-1] is None


def test_reads_within_a_transaction_see_the_entrys_time() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "HSET h f v g w", "HPEXPIRE h 50 FIELDS 1 g")
    pass_ms(rig, 50)
    replies = rig.ask(a, "MULTI", "HLEN h", "HSET h x y", "HLEN h", "HGET h g", "EXEC")
    assert replies[-1] == [1, 1, 2, None]
    rig.check_follower()
