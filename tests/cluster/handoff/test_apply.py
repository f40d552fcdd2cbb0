"""Every guard: an item that comes at the wrong time, or says the wrong thing, changes nothing and says why."""

import pytest

from durakv.cluster.handoff import entries
from durakv.cluster.handoff.apply import FLUSHED, GAINED, LOST, RESUMED, STOPPED, apply, flushed
from durakv.cluster.handoff.entries import Op, chained, counts_digest
from durakv.cluster.handoff.state import (
    ABORTED,
    CANCELLED,
    ENDED,
    EXPORTING,
    FENCED,
    FINISHED_MAX,
    FORCED,
    IMPORT,
    IMPORTING,
    MOVED,
    NONE,
    OWNED,
    State,
)
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.keyspace.staging import Staging, value_payload

MID = b"a" * 40
OTHER = b"b" * 40
KEY = b"{06S}key"  # slot 0
FAR = b"{Qi}key"  # slot 1
RUNS = ((0, 0, 3),)
ORDER = 7


class Node:
    def __init__(self, group, owned=()):
        self.ks = Keyspace(2)
        self.state = State(group, owned)
        self.staging = Staging(self.ks)
        self.index = 10
        self.now_ms = 5000

    def does(self, argv):
        self.index += 1
        self.now_ms += 1
        return apply(self.state, self.staging, self.ks, argv, self.now_ms, self.index)

    def takes(self, argv):
        outcome = self.does(argv)
        assert outcome.done, outcome.reason
        return outcome

    def refuses(self, argv, reason):
        before = self.state.to_bytes(), self.staging.canonical()
        outcome = self.does(argv)
        assert not outcome.done
        assert reason in outcome.reason
        assert self.state.last_refusal == argv[0] + b": " + outcome.reason
        # Counted, and otherwise nothing.
        words = entries.unpacked(self.state.to_bytes())
        assert words[3:] == entries.unpacked(before[0])[3:] or outcome.record.trouble == outcome.reason
        assert self.staging.canonical() == before[1]
        return outcome


def source():
    return Node(1, ((0, 9, 3),))


def target():
    return Node(2)


def ops(*made):
    out = []
    for op in made:
        entries.put_op(out, op)
    return b"".join(out)


def put(key=KEY, value=b"v", at_ms=-1, db=0):
    return Op(entries.PUT, db, key, at_ms, value_payload(value))


def begin(session=(1, 1), runs=RUNS, mid=MID, order=ORDER, peer=1):
    return entries.import_begin(mid, peer, order, session, runs)


def activation(batches, session=(1, 1), counts=((0, 1),), seq=None, time_ms=6000):
    digest = entries.NO_DIGEST
    for batch in batches:
        digest = chained(digest, batch)
    seq = len(batches) if seq is None else seq
    return entries.activate(MID, session, 99, time_ms, seq, digest, counts_digest(list(counts)))


def abort(mid=MID, runs=RUNS, order=ORDER, peer=1):
    return entries.abort(mid, peer, order, runs, b"because")


# -- the source's log -----------------------------------------------------------------------------------------------


def test_export_begins_only_with_slots_that_are_owned_at_their_epoch():
    node = source()
    node.refuses(entries.export_begin(MID, 2, ((9, 10, 3),)), b"slot 10 is none")
    node.refuses(entries.export_begin(MID, 2, ((0, 0, 2),)), b"at epoch 3, not 2")
    node.refuses(entries.export_begin(MID, 1, RUNS), b"to itself")
    outcome = node.takes(entries.export_begin(MID, 2, RUNS))
    assert outcome.record.order == node.index
    assert node.state.own[0] == EXPORTING
    assert node.state.serves[0]
    assert node.state.at(0) is outcome.record
    assert node.state.at(1) is None
    node.refuses(entries.export_begin(OTHER, 2, RUNS), b"slot 0 is exporting")
    node.refuses(entries.export_begin(MID, 2, ((1, 1, 3),)), b"is known")


def test_parallel_migrations_of_other_slots_do_not_touch_each_other():
    node = source()
    node.takes(entries.export_begin(MID, 2, RUNS))
    node.takes(entries.export_begin(OTHER, 3, ((1, 2, 3),)))
    node.takes(entries.fence(OTHER, (1, 2)))
    assert list(node.state.own[:4]) == [EXPORTING, FENCED, FENCED, OWNED]
    node.takes(entries.release(OTHER))
    assert list(node.state.own[:4]) == [EXPORTING, NONE, NONE, OWNED]
    assert node.state.epochs[:4] == [3, 4, 4, 3]


def test_a_fence_is_for_an_export_and_only_once():
    node = source()
    node.refuses(entries.fence(MID, (1, 1)), b"not known")
    node.takes(entries.export_begin(MID, 2, RUNS))
    outcome = node.takes(entries.fence(MID, (4, 2)))
    assert outcome.serving == STOPPED
    record = outcome.record
    assert (record.f_index, record.fenced_ms, record.session) == (node.index, node.now_ms, (4, 2))
    assert not node.state.serves[0]
    assert not node.state.may_flush()
    node.refuses(entries.fence(MID, (4, 2)), b"is fenced, not exporting")
    node.refuses(entries.export_cancel(MID, b""), b"is fenced, not exporting")


@pytest.mark.parametrize("argv", [entries.unfence(MID, b""), entries.release(MID), entries.force_abort(MID)])
def test_a_fence_is_left_only_when_there_is_one(argv):
    node = source()
    node.refuses(argv, b"not known")
    node.takes(entries.export_begin(MID, 2, RUNS))
    node.refuses(argv, b"is exporting, not fenced")
    node.takes(entries.fence(MID, (1, 1)))
    node.takes(argv)
    node.refuses(argv, b"not known")


def test_unfence_serves_on_under_the_same_epoch():
    node = source()
    node.ks.dbs[0].put(KEY, b"v")
    node.takes(entries.export_begin(MID, 2, RUNS))
    node.takes(entries.fence(MID, (1, 1)))
    outcome = node.takes(entries.unfence(MID, b"digests differ"))
    assert outcome.serving == RESUMED
    assert (node.state.own[0], node.state.epochs[0], node.state.serves[0]) == (OWNED, 3, 1)
    assert (outcome.record.result, outcome.record.reason) == (ABORTED, b"digests differ")
    assert node.ks.dbs[0].size == 1
    assert node.state.may_flush()
    assert MID in node.state.finished
    assert not node.state.records


def test_release_drops_the_keys_of_these_slots_in_all_databases():
    node = source()
    for db in node.ks.dbs:
        db.put(KEY, b"v")
        db.put(FAR, b"v")
    node.takes(entries.export_begin(MID, 2, RUNS))
    node.takes(entries.fence(MID, (1, 1)))
    outcome = node.takes(entries.release(MID))
    assert (outcome.serving, outcome.keys) == (LOST, 2)
    assert (node.state.own[0], node.state.epochs[0], node.state.serves[0]) == (NONE, 4, 0)
    assert [(db.size, db.peek(KEY), db.peek(FAR)) for db in node.ks.dbs] == [(1, None, b"v")] * 2


def test_a_forced_abort_skips_the_epoch_the_target_may_have_taken():
    node = source()
    node.takes(entries.export_begin(MID, 2, RUNS))
    node.takes(entries.fence(MID, (1, 1)))
    outcome = node.takes(entries.force_abort(MID))
    assert outcome.serving == RESUMED
    assert (node.state.own[0], node.state.epochs[0], outcome.record.result) == (OWNED, 5, FORCED)


def test_cancel_keeps_its_reason():
    node = source()
    node.takes(entries.export_begin(MID, 2, RUNS))
    outcome = node.takes(entries.export_cancel(MID, b"not converging"))
    assert (outcome.record.result, outcome.record.reason) == (CANCELLED, b"not converging")
    assert (node.state.own[0], node.state.epochs[0]) == (OWNED, 3)


# -- the target's log -----------------------------------------------------------------------------------------------


def test_import_begins_only_with_slots_that_are_nobodys_here():
    node = Node(2, ((5, 5, 1),))
    node.refuses(begin(runs=((4, 5, 3),)), b"slot 5 is owned here")
    node.refuses(begin(peer=2), b"no import")
    node.takes(begin())
    assert node.state.own[0] == IMPORTING
    assert not node.state.serves[0]
    node.refuses(begin(mid=OTHER), b"slot 0 is importing here")


def test_a_newer_session_begins_with_nothing():
    node = target()
    node.takes(begin((1, 1)))
    node.takes(entries.import_batch(MID, (1, 1), 1, ops(put())))
    node.refuses(begin((1, 1)), b"not newer")
    node.refuses(begin((0, 9)), b"not newer")
    node.refuses(begin((2, 1), order=8), b"other facts")
    outcome = node.takes(begin((2, 1)))
    assert (outcome.record.seq, outcome.record.chain) == (0, entries.NO_DIGEST)
    assert not node.staging.areas[MID].ks.dbs[0].size
    node.refuses(entries.import_batch(MID, (1, 1), 2, ops(put())), b"not the next one")


def test_batches_come_in_order_and_once():
    node = target()
    node.refuses(entries.import_batch(MID, (1, 1), 1, ops(put())), b"not known")
    node.takes(begin())
    node.refuses(entries.import_batch(MID, (1, 1), 2, ops(put())), b"not the next one")
    node.takes(entries.import_batch(MID, (1, 1), 1, ops(put())))
    node.refuses(entries.import_batch(MID, (1, 1), 1, ops(put())), b"not the next one")
    node.takes(entries.import_batch(MID, (1, 1), 2, ops(put(value=b"w"))))
    assert node.staging.areas[MID].ks.dbs[0].peek(KEY) == b"w"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (ops(put(), put(FAR)), b"a key of slot 1 does not belong here"),
        (ops(put(), put(db=2)), b"there is no database 2"),
        (ops(put(), Op(entries.PUT, 0, KEY, -1, b"\x00\x05abc\x0a\x00")), b"cannot be read"),
        (ops(put(), Op(entries.PUT, 0, KEY, -1, b"")), b"cannot be read"),
        (ops(put(), Op(entries.PUT, 0, KEY, -1, b"\x00\x01a\xff\x7f")), b"cannot be read"),
        (ops(put()) + b"X\x00\x00", b"cannot be read"),
        (ops(put()) + b"D\x00\x00", b"cannot be read"),
        (ops(put())[:-1], b"cannot be read"),
        (ops(put(at_ms=-2)), b"cannot be read"),
    ],
)
def test_a_batch_is_read_as_a_whole_before_any_of_it_counts(words, reason):
    node = target()
    node.takes(begin())
    outcome = node.refuses(entries.import_batch(MID, (1, 1), 1, words), reason)
    assert outcome.record.trouble == outcome.reason
    assert not node.staging.areas[MID].ks.dbs[0].size


def test_batches_put_delete_and_wipe():
    node = target()
    node.takes(begin())
    words = ops(
        put(value=b"a", at_ms=77),
        put(b"{06S}two", db=1),
        put(b"{06S}three"),
        Op(entries.DELETE, 0, KEY),
        Op(entries.DELETE, 0, b"{06S}never"),
        Op(entries.WIPE, 1),
    )
    node.takes(entries.import_batch(MID, (1, 1), 1, words))
    dbs = node.staging.areas[MID].ks.dbs
    assert [(db.size, db.nexp) for db in dbs] == [(1, 0), (0, 0)]
    assert node.ks.dbs[0].size == node.ks.dbs[1].size == 0


def test_activation_needs_the_session_all_batches_and_both_digests():
    node = target()
    first, second = ops(put()), ops(put(value=b"w"))
    node.refuses(activation([first]), b"not known")
    node.takes(begin((2, 1)))
    node.takes(entries.import_batch(MID, (2, 1), 1, first))
    node.refuses(activation([first], (1, 1)), b"another session")
    node.refuses(activation([first, second], (2, 1)), b"missing")
    node.refuses(activation([second], (2, 1)), b"the stream's digest differs")
    node.refuses(activation([first], (2, 1), counts=((0, 2),)), b"the numbers of keys differ")
    assert node.state.own[0] == IMPORTING
    outcome = node.takes(activation([first], (2, 1)))
    assert (outcome.serving, outcome.keys) == (GAINED, 1)
    assert (node.state.own[0], node.state.epochs[0], node.state.serves[0]) == (OWNED, 4, 1)
    assert node.ks.dbs[0].peek(KEY) == b"v"
    assert not node.staging.areas
    assert (outcome.record.phase, outcome.record.result, outcome.record.f_index) == (ENDED, MOVED, 99)
    node.refuses(activation([first], (2, 1)), b"is ended")
    node.refuses(abort(), b"is ended")


def test_activation_takes_time_along():
    node = target()
    node.ks.log_ms = node.ks.now_ms = 5500
    node.takes(begin())
    node.takes(entries.import_batch(MID, (1, 1), 1, ops(put())))
    node.takes(activation([ops(put())], time_ms=9000))
    assert (node.ks.log_ms, node.ks.now_ms) == (9000, 9000)


def test_an_abort_is_final():
    node = target()
    node.takes(begin())
    node.takes(entries.import_batch(MID, (1, 1), 1, ops(put())))
    outcome = node.takes(abort())
    assert (outcome.record.result, outcome.record.reason) == (ABORTED, b"because")
    assert not node.staging.areas
    assert (node.state.own[0], node.state.epochs[0]) == (NONE, 0)
    node.refuses(activation([ops(put())]), b"is ended")
    node.refuses(abort(), b"is ended")
    node.refuses(begin((9, 9)), b"is ended")


def test_a_tombstone_refuses_what_comes_later_even_after_it_is_forgotten():
    node = target()
    node.refuses(abort(peer=2), b"none into this group")
    node.takes(abort())
    node.refuses(begin(), b"is ended")
    node.takes(entries.import_forget(MID))
    assert not node.state.records
    node.refuses(begin(), b"has ended")
    node.state.finished.clear()
    node.refuses(begin(), b"as late as this one was decided")
    node.refuses(begin(mid=OTHER, order=ORDER - 1), b"as late as this one was decided")
    # The source tries again, at the same epoch.
    node.takes(begin(mid=OTHER, order=ORDER + 1))


def test_what_was_activated_cannot_be_aborted_when_its_record_is_gone():
    node = target()
    node.takes(begin())
    node.takes(activation([], counts=()))
    node.takes(entries.import_forget(MID))
    node.refuses(abort(), b"has been decided")
    node.state.finished.clear()
    assert node.state.moved_away(RUNS)
    node.refuses(abort(), b"has been decided")


def test_an_older_epoch_than_the_one_known_is_refused():
    node = source()
    node.takes(entries.export_begin(MID, 2, RUNS))
    node.takes(entries.fence(MID, (1, 1)))
    node.takes(entries.release(MID))
    node.refuses(begin(mid=OTHER, peer=2), b"at the later epoch 4")
    node.takes(begin(mid=OTHER, peer=2, runs=((0, 0, 4),)))


def test_slots_go_on_only_when_their_source_has_confirmed():
    node = target()
    node.takes(begin())
    node.takes(activation([], counts=()))
    node.refuses(entries.export_begin(OTHER, 3, ((0, 0, 4),)), b"has not confirmed")
    node.refuses(entries.import_forget(OTHER), b"not known")
    node.takes(entries.import_forget(MID))
    node.takes(entries.export_begin(OTHER, 3, ((0, 0, 4),)))


def test_forget_waits_for_the_decision():
    node = target()
    node.takes(begin())
    node.refuses(entries.import_forget(MID), b"is importing, not ended")


def test_slots_are_yielded_to_a_forced_abort():
    node = target()
    node.refuses(entries.yield_slots(MID), b"not known")
    node.takes(begin())
    node.takes(entries.import_batch(MID, (1, 1), 1, ops(put())))
    node.refuses(entries.yield_slots(MID), b"is importing, not ended")
    node.takes(activation([ops(put())]))
    outcome = node.takes(entries.yield_slots(MID))
    assert (outcome.serving, outcome.keys, outcome.record.result) == (LOST, 1, FORCED)
    assert (node.state.own[0], node.state.epochs[0], node.ks.dbs[0].size) == (NONE, 5, 0)
    aborted = target()
    aborted.takes(abort())
    aborted.refuses(entries.yield_slots(MID), b"was not activated")


def test_a_flush_ends_imports_and_nothing_else():
    node = target()
    node.takes(begin())
    node.takes(abort(mid=OTHER, runs=((1, 1, 3),)))
    node.takes(entries.import_batch(MID, (1, 1), 1, ops(put())))
    ended = flushed(node.state, node.staging, 9000)
    assert [(record.mid, record.reason, record.ended_ms) for record in ended] == [(MID, FLUSHED, 9000)]
    assert not node.staging.areas
    assert node.state.own[0] == NONE
    node.refuses(activation([ops(put())]), b"is ended")
    assert flushed(node.state, node.staging, 9001) == []


def test_finished_migrations_are_bounded():
    node = source()
    for n in range(FINISHED_MAX + 3):
        mid = b"%040x" % n
        node.takes(entries.export_begin(mid, 2, RUNS))
        node.takes(entries.export_cancel(mid, b""))
    assert len(node.state.finished) == FINISHED_MAX
    assert next(iter(node.state.finished)) == b"%040x" % 3


def test_an_unknown_item_stops_the_node():
    with pytest.raises(ValueError, match="newer durakv"):
        source().does([b"merge-slots", MID])


# -- state ----------------------------------------------------------------------------------------------------------


def test_a_state_comes_back_from_its_bytes():
    node = source()
    node.takes(entries.export_begin(MID, 2, RUNS))
    node.takes(begin(mid=OTHER, runs=((100, 200, 0), (300, 300, 2)), peer=3))
    node.takes(abort(mid=b"c" * 40, runs=((400, 400, 1),), peer=3))
    node.does(entries.release(OTHER))
    node.takes(entries.export_begin(b"d" * 40, 2, ((5, 5, 3),)))
    node.takes(entries.export_cancel(b"d" * 40, b"a reason with\nanything"))
    twin = State(0)
    serves = twin.serves
    assert node.state.moved
    blob = node.state.to_bytes()
    assert not node.state.moved
    assert node.state.to_bytes() is blob
    twin.from_bytes(blob)
    twin.finished_from_bytes(node.state.finished_to_bytes())
    assert twin.serves is serves
    assert twin.canonical() == node.state.canonical()
    for name in ("group", "own", "epochs", "serves", "decided_epoch", "decided_order", "refused", "last_refusal"):
        assert getattr(twin, name) == getattr(node.state, name)
    assert [record.to_words() for record in twin.records.values()] == [
        record.to_words() for record in node.state.records.values()
    ]
    assert twin.records[OTHER].role == IMPORT
    assert twin.owned_runs() == ((0, 9, 3),)


def test_damaged_states_are_refused():
    blob = source().state.to_bytes()
    finished = State(1).finished_to_bytes()
    parts = entries.unpacked(blob)
    for bad in (
        b"", blob[:-1], blob + b"x", entries.packed([b"2", *parts[1:]]), entries.packed(parts[:3]),
        entries.packed([*parts[:3], parts[3].rsplit(b",", 1)[0]]), entries.packed([*parts[:3], b"0 16384 0 0 0 0"]),
        entries.packed([*parts[:3], b"0 16383 0 9 0 0"]), entries.packed([*parts, entries.packed([b"x"])]),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            State(1).from_bytes(bad)
    with pytest.raises(ValueError):
        State(1).finished_from_bytes(finished[:-1])


def test_slots_of_tests_are_what_they_say():
    assert (slot_of(KEY), slot_of(FAR), SLOTS) == (0, 1, 16384)
