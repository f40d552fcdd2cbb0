"""What CLUSTER SLOT-STATS counts, byte for byte as Valkey's own tests expect it; and that it counts only when asked."""

from __future__ import annotations

from typing import Any

from durakv.engine.usage import SAMPLE_KEYS
from durakv.keyspace.slots import SLOTS, slot_of
from tests.engine.rig import Client, Err, Rig

KEY = slot_of(b"key")


def counting(large: str = "1048576") -> tuple[Rig, Client]:
    rig = Rig(cluster_enabled="yes", cluster_slot_stats_enabled="yes", commandlog_reply_larger_than=large)
    return rig, rig.client()


def stats(rig: Rig, client: Client, metric: str) -> dict[int, Any]:
    """By slot, of those that are not 0."""
    found: dict[int, Any] = {}
    for slot, flat in rig.ask(client, f"CLUSTER SLOT-STATS SLOTSRANGE 0 {SLOTS - 1}")[0]:  # type: ignore[attr-defined]
        value = dict(zip(flat[::2], flat[1::2], strict=True))[metric.encode()]
        if value:
            found[slot] = value
    return found


def bytes_in(rig: Rig, client: Client) -> dict[int, Any]:
    return stats(rig, client, "network-bytes-in")


def bytes_out(rig: Rig, client: Client) -> dict[int, Any]:
    return stats(rig, client, "network-bytes-out")


def test_a_write_and_a_read_are_charged_to_their_slot() -> None:
    rig, client = counting()
    assert rig.ask(client, "SET key value") == [b"OK"]
    assert bytes_in(rig, client) == {KEY: 33}
    assert bytes_out(rig, client) == {KEY: 5}
    assert rig.ask(client, "GET key") == [b"value"]
    # *2 $3 GET $3 key; $5 value
    assert bytes_in(rig, client) == {KEY: 33 + 22}
    assert bytes_out(rig, client) == {KEY: 5 + 11}
    # Pipelined with a write, a read runs in the entry.
    assert rig.ask(client, "SET key value", "GET key", "STRLEN other") == [b"OK", b"value", 0]
    other = slot_of(b"other")
    assert bytes_in(rig, client) == {KEY: 2 * (33 + 22), other: 27}
    assert bytes_out(rig, client) == {KEY: 2 * (5 + 11), other: 4}


def test_what_names_no_slot_is_charged_to_none() -> None:
    rig, client = counting()
    rig.ask(client, "SET key value")
    rig.ask(client, "CONFIG RESETSTAT")
    rig.ask(client, "INFO", "PUBLISH channel message", "DBSIZE", "PING", "FLUSHALL", "SCRIPT EXISTS x", "GET")
    rig.ask(client, "WATCH key", "UNWATCH")
    for metric in ("cpu-usec", "network-bytes-in", "network-bytes-out"):
        assert stats(rig, client, metric) == {}


def test_a_blocked_request_counts_once_and_its_reply_when_it_comes() -> None:
    rig, client = counting()
    waiting = rig.client()
    waiting.send("BLPOP key 0")
    rig.settle()
    assert bytes_in(rig, client) == {KEY: 31}
    assert bytes_out(rig, client) == {}
    assert rig.ask(client, "LPUSH key value") == [1]
    assert waiting.got() == [[b"key", b"value"]]
    assert bytes_in(rig, client) == {KEY: 31 + 35}
    assert bytes_out(rig, client) == {KEY: 4 + 24}
    # Nobody ran a command for the answer of one that gave up.
    rig.ask(client, "CONFIG RESETSTAT", "SET other x")
    waiting.send("BLPOP key 1")
    rig.settle()
    rig.pass_ms(1500)
    rig.settle()
    assert waiting.got() == [None]
    assert bytes_out(rig, client) == {slot_of(b"other"): 5}


def test_a_transaction_is_charged_as_a_whole() -> None:
    rig, client = counting()
    assert rig.ask(client, "MULTI", "SET key value", "EXEC") == [b"OK", b"QUEUED", [b"OK"]]
    assert bytes_in(rig, client) == {KEY: 62}
    assert bytes_out(rig, client) == {KEY: 9}
    rig.ask(client, "CONFIG RESETSTAT")
    assert rig.ask(client, "MULTI", "GET key", "PING", "EXEC")[3] == [b"value", b"PONG"]
    assert bytes_in(rig, client) == {KEY: 22 + 29}
    assert bytes_out(rig, client) == {KEY: 4 + 11 + 7}


def test_a_script_is_charged_once() -> None:
    rig, client = counting()
    words = [b"EVAL", b"redis.call('SET', KEYS[1], 'x') return redis.call('GET', KEYS[1])", b"1", b"key"]
    rig.ask(client, words)
    size = 4 + sum(len(b"$%d\r\n" % len(word)) + len(word) + 2 for word in words)
    assert bytes_in(rig, client) == {KEY: size}
    assert bytes_out(rig, client) == {KEY: 7}


def test_time_is_charged_and_nested_calls_are_not_charged_twice() -> None:
    rig, client = counting()
    counters = rig.engine.usage.counters
    took = iter(range(0, 10**9, 1000))
    rig.engine.timing.clock = Ticking(took)  # type: ignore[assignment]
    rig.ask(client, "SET key value")
    plain = counters.cpu_ns[KEY]
    assert plain == 1000
    rig.ask(client, [b"EVAL", b"redis.call('SET', KEYS[1], 'x')", b"1", b"key"])
    # Two looks at the clock for the script, two for what it called: three steps from first to last.
    assert counters.cpu_ns[KEY] == plain + 3000
    assert sum(counters.cpu_ns) == counters.cpu_ns[KEY]


class Ticking:
    """A clock that moves on by one step each time it is looked at."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps

    def monotonic_ns(self) -> int:
        return int(next(self.steps))

    def wall_ms(self) -> int:
        return 1


def test_copies_for_other_members_count_as_sent() -> None:
    rig, client = counting()
    rig.engine.usage.copies = 2
    rig.ask(client, "SET key value", "GET key")
    assert bytes_out(rig, client) == {KEY: 5 + 11 + 2 * 33}


def test_shard_channels() -> None:
    rig, client = counting()
    slot = slot_of(b"channel")
    listener = rig.client()
    assert rig.ask(listener, "SSUBSCRIBE channel") == [[b"ssubscribe", b"channel", 1]]
    assert bytes_in(rig, client) == {slot: 34}
    assert bytes_out(rig, client) == {slot: 38}
    rig.ask(client, "CONFIG RESETSTAT")
    assert rig.ask(client, "SPUBLISH channel hello") == [1]
    assert bytes_in(rig, client) == {slot: 42}
    assert bytes_out(rig, client) == {slot: 4 + 42}


def test_only_key_count_without_the_directive_and_no_command_is_looked_at() -> None:
    rig = Rig(cluster_enabled="yes")
    client = rig.client()
    rig.ask(client, "SET key value")
    assert rig.ask(client, f"CLUSTER SLOT-STATS SLOTSRANGE {KEY} {KEY}") == [[[KEY, [b"key-count", 1]]]]
    assert rig.ask(client, "CLUSTER SLOT-STATS ORDERBY cpu-usec") == [Err("ERR Unrecognized sort metric for ORDERBY.")]
    engine = rig.engine
    assert engine.gate.usage is None and engine.timing.usage is None and engine.pubsub.usage is None
    assert not engine.timing.every and engine.gate.reply_large == engine.gate.reply_kept > 0
    before = list(engine.usage.counters.bytes_in)
    # It can be had at any time, and given up again.
    rig.ask(client, "CONFIG SET cluster-slot-stats-enabled yes", "SET key value")
    assert bytes_in(rig, client) == {KEY: 33}
    rig.ask(client, "CONFIG SET cluster-slot-stats-enabled no", "SET key value")
    assert engine.gate.usage is None and not engine.timing.every
    assert sum(engine.usage.counters.bytes_in) == sum(before) + 33


def test_outside_cluster_mode_there_is_nothing_to_ask() -> None:
    rig = Rig(cluster_slot_stats_enabled="yes")
    client = rig.client()
    refused = Err("ERR This instance has cluster support disabled")
    assert rig.ask(client, "CLUSTER SLOT-STATS SLOTSRANGE 0 1") == [refused]
    assert rig.engine.gate.usage is None


def test_a_slot_that_comes_or_goes_starts_from_nothing_and_others_do_not_show() -> None:
    rig, client = counting()
    rig.found(1, (0, SLOTS - 1))
    rig.ask(client, "SET key value", "SET other value")
    assert set(bytes_in(rig, client)) == {KEY, slot_of(b"other")}
    state = rig.engine.places.state
    state.set_own(KEY, KEY, 0, 2)
    assert set(bytes_in(rig, client)) == {slot_of(b"other")}
    state.set_own(KEY, KEY, 1, 3)
    assert set(bytes_in(rig, client)) == {slot_of(b"other")}
    # A fence is no change of owner.
    state.set_own(slot_of(b"other"), slot_of(b"other"), 3)
    assert set(bytes_in(rig, client)) == {slot_of(b"other")}


def test_memory_is_exact_for_few_keys_and_near_for_many() -> None:
    rig, client = counting()
    rig.ask(client, "SET {key}a 12345", "SELECT 0")
    (first,) = stats(rig, client, "key-count").values()
    assert first == 1
    one = rig.ask(client, f"CLUSTER SLOT-STATS SLOTSRANGE {KEY} {KEY}")[0][0][1][-1]  # type: ignore[index]
    assert 60 < one < 200
    for n in range(SAMPLE_KEYS * 3):
        rig.ask(client, f"SET {{key}}{n:04} 12345")
    many = rig.ask(client, f"CLUSTER SLOT-STATS SLOTSRANGE {KEY} {KEY}")[0][0][1][-1]  # type: ignore[index]
    assert abs(many / (SAMPLE_KEYS * 3 + 1) - one) < 20
    # And by itself, some time later.
    rig.ask(client, "FLUSHALL")
    for _ in range(SLOTS // 256 + 1):
        rig.pass_ms(100)
    assert rig.engine.usage.memory.total_bytes(0, SLOTS - 1) == 0


def test_replies_are_still_kept_by_commandlog() -> None:
    rig, client = counting("100")
    rig.ask(client, [b"SET", b"key", b"x" * 200])
    rig.ask(client, "GET key")
    kept = rig.ask(client, "COMMANDLOG GET 10 large-reply")[0]
    assert [entry[3][0] for entry in kept] == [b"GET"]  # type: ignore[attr-defined]
    assert bytes_out(rig, client) == {KEY: 5 + 208}
