"""MIGRATESLOTS as Valkey judges it, and what GETSLOTMIGRATIONS shows."""

import pytest

from durakv.cluster.handoff import jobs, source
from durakv.cluster.handoff.jobs import Target, cancel_all, migrate_orders, migration_rows, ranges_text
from durakv.cluster.handoff.state import State
from durakv.resp.errors import CommandError
from durakv.resp.types import Map
from tests.cluster.handoff.pair import MID, Pair, fenced_pair

SELF = b"1" * 40
THERE = b"2" * 40
WITNESS = b"3" * 40
NODES = {SELF: Target(1, witness=False), THERE: Target(2, witness=False), WITNESS: Target(2, witness=True)}


def orders(*words, leads=True, state=None):
    state = state or State(1, ((0, 99, 4), (100, 199, 5)))
    owners = dict.fromkeys(range(200, 16380), 2)
    argv = [b"CLUSTER", b"MIGRATESLOTS", *[word if type(word) is bytes else b"%d" % word for word in words]]
    return migrate_orders(argv, state, leads=leads, owner_of=lambda slot: owners.get(slot, 0), node_named=NODES.get)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((b"INVALID", 0, 1), "ERR syntax error"),
        ((b"SLOTSRANGE", 0), "ERR No end slot for final slot range"),
        ((b"SLOTSRANGE", 16385, 16388), "ERR Invalid or out of range slot"),
        ((b"SLOTSRANGE", 16380, 16388), "ERR Invalid or out of range slot"),
        ((b"SLOTSRANGE", -1, 5), "ERR Invalid or out of range slot"),
        ((b"SLOTSRANGE", b"a", 0), "ERR No slot ranges specified"),
        ((b"SLOTSRANGE", 0, b"a"), "ERR Invalid or out of range slot"),
        ((b"SLOTSRANGE", 1, 0), "ERR Start slot number 1 is greater than end slot number 0."),
        ((b"SLOTSRANGE", 0, 300), "ERR Requested slots span multiple shards"),
        ((b"SLOTSRANGE", 0, 0, 300, 300), "ERR Requested slots span multiple shards"),
        ((b"SLOTSRANGE", 0, 5, 3, 6), "ERR Slot range 3-6 overlaps with previous range 0-5."),
        ((b"SLOTSRANGE", 3, 6, 0, 5), "ERR Slot range 0-5 overlaps with previous range 3-6."),
        ((b"SLOTSRANGE", 0, 0), "ERR syntax error"),
        ((b"SLOTSRANGE", 0, 0, b"NODE"), "ERR syntax error"),
        ((b"SLOTSRANGE", 0, 0, b"TO", THERE), "ERR syntax error"),
        ((b"SLOTSRANGE", 0, 0, b"NODE", b"short"), "ERR Invalid node name: short"),
        ((b"SLOTSRANGE", 0, 0, b"NODE", b"9" * 40), "ERR Unknown node name: " + "9" * 40),
        ((b"SLOTSRANGE", 0, 0, b"NODE", SELF), "ERR Target node can not be this node."),
        ((b"SLOTSRANGE", 0, 0, b"NODE", WITNESS), "ERR Target node can not be a witness."),
        ((b"SLOTSRANGE", 16383, 16383, b"NODE", THERE), "ERR Slot 16383 has no node served."),
        ((b"SLOTSRANGE", 200, 201, b"NODE", THERE), "ERR Slots are not served by this node."),
        ((b"SLOTSRANGE", 0, 5, b"NODE", THERE, b"SLOTSRANGE", 5, 6, b"NODE", THERE),
         "ERR Slot ranges in migrations overlap"),
        ((b"SLOTSRANGE", 0, 5, b"NODE", THERE, b"SLOTSRANGE"), "ERR No slot ranges specified"),
    ],
)  # fmt: skip
def test_what_is_refused(words, text):
    with pytest.raises(CommandError) as refused:
        orders(*words)
    assert refused.value.text == text


def test_only_a_leader_migrates():
    with pytest.raises(CommandError) as refused:
        orders(b"INVALID", leads=False)
    assert refused.value.text == "ERR Slot migration can only be used on primary nodes."


def test_orders_carry_epochs():
    first, second = orders(b"slotsrange", 98, 101, 7, 7, b"node", THERE, b"SLOTSRANGE", 0, 6, b"NODE", THERE)
    assert (first.runs, first.group) == (((7, 7, 4), (98, 99, 4), (100, 101, 5)), 2)
    assert second.runs == ((0, 6, 4),)
    assert ranges_text(first.runs) == b"7-7 98-101"


def test_slots_under_way_are_refused():
    pair = fenced_pair()
    with pytest.raises(CommandError) as refused:
        orders(b"SLOTSRANGE", 1, 2, b"NODE", THERE, state=pair.s.state)
    assert refused.value.text == "ERR I am already migrating slot 1."
    pair.run(until=lambda: pair.t.state.serves[0])
    with pytest.raises(CommandError) as refused:
        orders(b"SLOTSRANGE", 0, 0, b"NODE", SELF, state=pair.t.state)
    assert refused.value.text.startswith("ERR Slots that have just moved here")


def rows(group):
    made = migration_rows(group.state, group.exports, group.imports, {1: SELF, 2: THERE}.get)
    assert all(type(row) is Map for row in made)
    return [dict(zip(row.flat[::2], row.flat[1::2], strict=True)) for row in made]


def states(group):
    return [row[b"state"] for row in rows(group)]


def test_a_migration_is_seen_from_both_sides():
    pair = Pair()
    pair.fill(40)
    assert rows(pair.s) == []
    pair.begin()
    assert states(pair.s) == [b"reading-establish-response"]
    pair.run(until=lambda: pair.t.state.records)
    assert states(pair.t) == [b"waiting-for-ack"]
    pair.run(until=lambda: pair.driver().stage == source.SCANNING and pair.record(pair.t).seq)
    assert states(pair.s) == [b"snapshotting"]
    assert states(pair.t) == [b"receiving-snapshot"]
    shown = rows(pair.s)[0]
    assert shown[b"name"] == MID
    assert (shown[b"operation"], shown[b"slot_ranges"]) == (b"EXPORT", b"0-1")
    assert (shown[b"source_node"], shown[b"target_node"], shown[b"cow_size"]) == (SELF, THERE, 0)
    assert shown[b"remaining_repl_size"] > 0
    assert shown[b"create_time"] == pair.record(pair.s).began_ms // 1000
    mirrored = rows(pair.t)[0]
    assert (mirrored[b"operation"], mirrored[b"source_node"], mirrored[b"target_node"]) == (b"IMPORT", SELF, THERE)
    # On another node of either group nobody knows of stages.
    pair.t.imports.retire()
    assert states(pair.t) == [b"occurring-on-primary"]
    pair.t.imports.lead(pair.now_ms)
    pair.limits.pause_ms_max = -1
    pair.run(until=lambda: pair.driver().stage == source.CATCHING_UP)
    assert states(pair.s) == [b"replicating"]
    pair.limits.pause_ms_max = 10_000
    assert states(pair.s) == [b"waiting-to-pause"]
    pair.run(until=lambda: pair.driver().stage == source.FENCING)
    assert states(pair.s) == [b"waiting-to-pause"]
    # Logged before the fence, so it goes out behind it.
    pair.s.pend.insert(0, (pair.now_ms, "set", 0, b"{06S}late", b"v"))
    window, pair.limits.window_bytes = pair.limits.window_bytes, 0
    pair.run(until=lambda: pair.driver().stage == source.DRAINING)
    assert states(pair.s) == [b"failover-paused"]
    pair.limits.window_bytes = window
    pair.run(until=lambda: pair.driver().stage == source.TOLD)
    assert states(pair.s) == [b"failover-granted"]
    pair.run(until=lambda: pair.t.imports.imports[MID].digest is not None)
    assert states(pair.t) == [b"failover-requested"]
    drivers, pair.s.exports.drivers = pair.s.exports.drivers, {}
    assert states(pair.s) == [b"failover-paused"]
    pair.s.exports.drivers = drivers
    pair.run(until=lambda: not pair.s.state.records and not pair.t.state.records)
    assert states(pair.s) == states(pair.t) == [b"success"]
    assert rows(pair.s)[0][b"message"] == b""


def test_cancelled_and_failed_ones():
    pair = Pair()
    with pytest.raises(CommandError) as refused:
        cancel_all(pair.s.exports, 0)
    assert refused.value.text == jobs.NONE_ONGOING == "ERR No migrations ongoing"
    pair.begin()
    assert cancel_all(pair.s.exports, pair.now_ms) == [MID]
    pair.s.act()
    pair.commit(pair.s)
    assert states(pair.s) == [b"cancelled"]
    other = b"%040x" % 2
    pair.fill(40)
    pair.t.headroom = 10
    pair.begin(mid=other)
    pair.run(until=lambda: not pair.s.state.records)
    assert states(pair.s) == [b"failed", b"cancelled"]
    assert b"out of memory" in rows(pair.s)[0][b"message"]
    fenced = fenced_pair()
    fenced.say(fenced.t, b"resolve", order=fenced.record(fenced.s).order, runs=((0, 1, 1),))
    fenced.run(until=lambda: fenced.record(fenced.t).result)
    assert states(fenced.t) == [b"cleaning-up"]
    fenced.run(until=lambda: not fenced.t.state.records)
    assert states(fenced.t) == [b"failed"]
    assert states(fenced.s) == [b"failed"]
