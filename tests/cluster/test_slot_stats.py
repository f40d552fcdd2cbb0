"""CLUSTER SLOT-STATS: texts and order as Valkey's, counters that lose nothing."""

from __future__ import annotations

import pytest

from durakv.cluster.slot_stats import (
    BAD_LIMIT,
    BAD_METRIC,
    BAD_SLOT,
    REPEATED,
    SlotCounters,
    SlotMemory,
    SlotStats,
    parse,
)
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Map

WRONG_FORM = "ERR unknown subcommand or wrong number of arguments for 'SLOT-STATS'. Try CLUSTER HELP."


def argv(line: str) -> list[bytes]:
    return [b"CLUSTER", b"SLOT-STATS", *line.encode().split()]


def ask(stats: SlotStats, line: str, owned: list[int]):
    query = parse(argv(line), counted=stats.counters is not None, weighed=stats.memory is not None)
    return stats.answer(query, owned)


def no_keys(slot: int) -> int:
    return 0


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("SLOTSRANGE x 1", BAD_SLOT),
        ("SLOTSRANGE 0 16384", BAD_SLOT),
        ("SLOTSRANGE -1 1", BAD_SLOT),
        ("SLOTSRANGE 01 2", BAD_SLOT),
        ("SLOTSRANGE 7 3", "ERR Start slot number 7 is greater than end slot number 3"),
        ("SLOTSRANGE 7 9 11", WRONG_FORM),
        ("SLOTS 7 9", WRONG_FORM),
        ("ORDERBY nothing", BAD_METRIC),
        ("ORDERBY key-count LIMIT", SYNTAX),
        ("ORDERBY key-count LIMIT 0", BAD_LIMIT),
        ("ORDERBY key-count LIMIT 16385", BAD_LIMIT),
        ("ORDERBY key-count LIMIT ten", BAD_LIMIT),
        ("ORDERBY key-count LIMIT 1 LIMIT x", BAD_LIMIT),
        ("ORDERBY key-count LIMIT 1 LIMIT 2", REPEATED),
        ("ORDERBY key-count ASC DESC", REPEATED),
        ("ORDERBY key-count ASC ASC", REPEATED),
        ("ORDERBY key-count UP", SYNTAX),
    ],
)
def test_refused(line, error):
    with pytest.raises(CommandError) as raised:
        ask(SlotStats(no_keys, SlotCounters(), SlotMemory()), line, [1])
    assert raised.value.text == error


@pytest.mark.parametrize("metric", ["cpu-usec", "network-bytes-in", "network-bytes-out", "memory-bytes"])
def test_a_metric_that_is_not_kept_cannot_order(metric):
    with pytest.raises(CommandError) as raised:
        ask(SlotStats(no_keys, None, None), f"ORDERBY {metric}", [1])
    assert raised.value.text == BAD_METRIC
    assert ask(SlotStats(no_keys, SlotCounters(), SlotMemory()), f"orderby {metric.upper()}", [1])


def rows(reply):
    return [(slot, row.flat) for slot, row in reply]


def test_a_range_lists_owned_slots_only_ascending():
    stats = SlotStats(lambda slot: slot * 2, None, None)
    reply = ask(stats, "slotsrange 2 9", [0, 2, 3, 9, 10])
    assert rows(reply) == [(2, [b"key-count", 4]), (3, [b"key-count", 6]), (9, [b"key-count", 18])]
    assert all(type(row) is Map for _, row in reply)


def test_order_ties_by_slot_ascending_both_ways():
    counters = SlotCounters()
    for slot, cpu_ns in ((5, 9_000), (3, 9_999), (8, 20_000), (1, 500)):
        counters.charge(slot, cpu_ns, 0, 0)
    stats = SlotStats(no_keys, counters, None)
    assert [slot for slot, _ in ask(stats, "ORDERBY cpu-usec", [1, 3, 5, 8])] == [8, 3, 5, 1]
    assert [slot for slot, _ in ask(stats, "ORDERBY cpu-usec ASC LIMIT 3", [1, 3, 5, 8])] == [1, 3, 5]
    assert [slot for slot, _ in ask(stats, "ORDERBY cpu-usec LIMIT 2 DESC", [1, 3, 5])] == [3, 5]


def test_all_metrics_in_valkeys_order_then_memory():
    counters, memory = SlotCounters(), SlotMemory()
    counters.charge(7, 1_500, 30, 40)
    counters.charge(7, 1_500, 3, 4)
    counters.sent(7, 100)
    counters.charge(-1, 10**9, 10**9, 10**9)
    counters.sent(-2, 10**9)
    memory.weighed(7, 900)
    memory.weighed(7, 800)
    stats = SlotStats(lambda _: 5, counters, memory)
    assert rows(ask(stats, "SLOTSRANGE 7 7", [7])) == [
        (7, [b"key-count", 5, b"cpu-usec", 3, b"network-bytes-in", 33, b"network-bytes-out", 144,
             b"memory-bytes", 800]),
    ]  # fmt: skip
    # Neither -1 nor -2 ended up at the far end of a list.
    assert sum(counters.cpu_ns) == 3_000 and sum(counters.bytes_out) == 144


def test_counters_start_again_with_a_new_owner_and_on_resetstat():
    counters = SlotCounters()
    for slot in (3, 4, 5):
        counters.charge(slot, 1, 2, 3)
    counters.forget(4, 5)
    assert [counters.traffic(slot) for slot in (3, 4, 5)] == [5, 0, 0] and counters.cpu_ns[3:6] == [1, 0, 0]
    counters.forget_all()
    assert counters.traffic(3) == 0 and counters.cpu_ns[3] == 0


def test_memory_of_ranges():
    memory = SlotMemory()
    memory.weighed(1, 10)
    memory.weighed(2, 5)
    assert memory.total_bytes(1, 2) == 15
    memory.weighed(1, 0)
    assert memory.total_bytes(0, 3) == 5
