"""The one door of a node: what the gate is told, what checkpoints get, what is refused."""

import pytest

from durakv.checkpoint.load import load
from durakv.cluster.handoff import entries, source
from durakv.cluster.handoff.hub import ADMIT, ELSEWHERE, FINISHED_ROW, PARK, STATE_ROW, Handoff
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from tests.cluster.handoff.pair import MID, Pair, fenced_pair
from tests.cluster.handoff.rig import CLUSTER


def hub(owned=()):
    return Handoff(Keyspace(2), 9, owned, CLUSTER, lambda: 5, lambda: 1 << 30)


def verdicts(pair):
    return [(group.hub.verdict(0), group.hub.claims(0)) for group in (pair.s, pair.t)]


def test_the_gate_through_a_handoff():
    pair = Pair()
    pair.fill()
    assert verdicts(pair) == [(ADMIT, True), (ELSEWHERE, False)]
    pair.begin()
    pair.run(until=lambda: pair.t.state.records)
    assert verdicts(pair) == [(ADMIT, True), (ELSEWHERE, False)]
    pair.run(until=lambda: pair.driver().stage == source.FENCING)
    assert verdicts(pair) == [(PARK, True), (ELSEWHERE, False)]
    # Another node of the group still serves reads of the slot until it applies the fence.
    assert pair.s.state.serves[0]
    pair.run(until=lambda: not pair.s.state.serves[0])
    assert verdicts(pair) == [(PARK, True), (ELSEWHERE, False)]
    pair.run(until=lambda: pair.t.state.serves[0])
    assert verdicts(pair) == [(PARK, True), (ADMIT, True)]
    pair.run(until=lambda: not pair.s.state.records)
    assert verdicts(pair) == [(ELSEWHERE, False), (ADMIT, True)]
    assert not pair.s.hub.busy()


def test_a_node_that_does_not_lead_is_not_busy_and_hears_of_no_keys():
    pair = fenced_pair()
    assert pair.s.hub.busy()
    assert pair.s.hub.listens()
    pair.s.hub.retire()
    assert not pair.s.hub.busy()
    assert not pair.s.hub.listens()
    pair.s.hub.changed([(0, b"{06S}0")])
    assert pair.s.hub.take() == ([], [], [])


def test_a_cancel_that_the_log_has_not_taken_yet_wants_no_turn_after_turn():
    pair = Pair()
    pair.limits.batch_bytes = pair.limits.turn_bytes = 50
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.SCANNING)
    assert pair.s.exports.wants_turn()
    assert pair.s.exports.cancel(MID, pair.now_ms)
    # Without a quorum that may be so for minutes, in which the node would do nothing else.
    assert not pair.s.exports.wants_turn()


def test_rows_are_told_when_they_differ():
    node = hub(((0, 0, 1),))
    assert node.changes() == []
    assert [name for name, _ in node.all_of_it()] == [STATE_ROW, FINISHED_ROW]
    node.apply(entries.export_begin(MID, 2, ((0, 0, 1),)), 5, 1)
    assert [name for name, _ in node.changes()] == [STATE_ROW]
    assert node.changes() == []
    node.apply(entries.export_cancel(MID, b""), 5, 2)
    # Who compares digests meanwhile takes nothing from the checkpoint.
    assert node.canonical() == node.canonical() != b""
    assert [name for name, _ in node.changes()] == [STATE_ROW, FINISHED_ROW]


def test_rows_make_another_node_of_the_same_state():
    pair = fenced_pair()
    assert pair.t.staging.areas[MID].counts([0])
    pair.t.checkpoint()
    twin = hub(((5, 5, 1),))
    before = twin.canonical()
    serves = twin.state.serves
    rows = []
    load(pair.t.kv, twin.ks, lambda name, blob: rows.append((name, blob)))
    assert [name for name, _ in rows if not Handoff.owns_row(name)] == []
    twin.take_rows(rows)
    assert twin.canonical() == pair.t.hub.canonical() != before
    assert digest(twin.ks) == digest(pair.t.ks)
    twin.take_rows([])
    assert twin.canonical() == before
    assert twin.state.serves is serves
    assert list(serves[4:7]) == [0, 1, 0]


def test_rows_of_others_are_none_of_these():
    assert not Handoff.owns_row(b"source")
    assert not Handoff.owns_row(b"handoff-more")


def test_messages_that_cannot_be_meant_are_refused():
    node = hub()
    with pytest.raises(ValueError, match="handoff message"):
        node.receive(entries.packed([b"what"]))
    assert node.take() == ([], [], [])


def test_a_turn_is_wanted_while_there_is_more():
    pair = Pair()
    pair.limits.turn_bytes = 1
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.SCANNING)
    pair.net.clear()
    assert pair.s.hub.wants_turn()
    while pair.s.hub.wants_turn():
        pair.s.hub.tick()
    assert pair.driver().unacked_bytes >= pair.limits.window_bytes
