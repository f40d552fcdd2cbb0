"""Staged keys stay out of sight, go live as they are, and leave nothing behind."""

import random

import pytest

from durakv.keyspace import journal
from durakv.keyspace.digest import digest, slot_digest
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.ledger import Ledger
from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.keyspace.staging import Staging, payload_value, slot_counts, value_payload
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet

MID = b"a" * 40
TAGS = (b"06S", b"Qi", b"450")
SLOTS_MOVED = [slot_of(b"{%b}" % tag) for tag in TAGS[:2]]


def timed_hash(at_ms):
    value = Hash()
    value.set(b"f", b"1")
    value.set(b"g", b"2")
    value.set_deadline(b"f", at_ms)
    return value


def values():
    a_list = ListValue()
    a_list.push_right([b"x", b"y"])
    a_hash = Hash()
    a_hash.set(b"f", b"v")
    return [b"text", bytearray(b"grown"), a_hash, timed_hash(50), a_list]


def filled(ks, seed, tags, count=60):
    rng = random.Random(seed)
    for n in range(count):
        db = ks.dbs[rng.randrange(len(ks.dbs))]
        key = b"{%b}%d" % (rng.choice(tags), n)
        db.put(key, rng.choice((b"v%d" % n, timed_hash(rng.randrange(1000)))))
        if rng.random() < 0.4:
            db.set_expiry(key, rng.randrange(1000))
    journal.steps.clear()


def copied(area, ks):
    """Stage every key of ``ks``."""
    for db in ks.dbs:
        for mapping in db.slots:
            for key, value in (mapping or {}).items():
                area.put(db.number, key, payload_value(value_payload(value)), db.expiry(key))
    journal.steps.clear()


def consistent(ks):
    """The counters of every database, recomputed."""
    for db in ks.dbs:
        size = sum(len(mapping) for mapping in db.slots if mapping)
        timed = [
            (value.deadlines.next_ms(), key)
            for mapping in db.slots for key, value in (mapping or {}).items()
            if type(value) is Hash and value.deadlines is not None
        ]  # fmt: skip
        deadlines = [(at_ms, key) for exps in db.exps for key, at_ms in (exps or {}).items()]
        assert (db.size, db.fields.count, db.nexp) == (size, len(timed), len(timed) + len(deadlines))
        assert sorted(set(db.due(10_000, 10_000))) == sorted(key for _, key in deadlines)
        assert sorted(set(db.fields.due_keys(10_000, 10_000))) == sorted(key for _, key in timed)
        assert db.deadlines == sorted(db.deadlines) or db.deadlines[0] == min(db.deadlines)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("already", [0, 3, 400])
def test_keys_go_live_as_they_are(seed, already):
    ks, there = Keyspace(3), Keyspace(3)
    filled(ks, seed, TAGS[2:], already)
    filled(there, seed + 100, TAGS[:2])
    staging = Staging(ks)
    before = digest(ks)
    copied(staging.open(MID, SLOTS_MOVED), there)
    assert digest(ks) == before
    assert slot_counts(ks, SLOTS_MOVED) == []
    assert staging.areas[MID].counts(SLOTS_MOVED) == slot_counts(there, SLOTS_MOVED)
    assert staging.activate(MID, SLOTS_MOVED) == sum(db.size for db in there.dbs)
    for slot in SLOTS_MOVED:
        assert [slot_digest(db, slot) for db in ks.dbs] == [slot_digest(db, slot) for db in there.dbs]
    assert not staging.areas
    consistent(ks)


@pytest.mark.parametrize("seed", range(5))
def test_release_takes_all_of_a_slot_and_nothing_else(seed):
    ks, rest = Keyspace(3), Keyspace(3)
    filled(ks, seed, TAGS[2:], 30)
    filled(rest, seed, TAGS[2:], 30)
    moved = Keyspace(3)
    filled(moved, seed, TAGS[:2])
    staging = Staging(ks)
    copied(staging.open(MID, SLOTS_MOVED), moved)
    staging.activate(MID, SLOTS_MOVED)
    assert staging.release(SLOTS_MOVED) == 60
    assert digest(ks) == digest(rest)
    assert staging.release(SLOTS_MOVED) == 0
    consistent(ks)


def test_memory_is_counted_there_and_back():
    ks, moved = Keyspace(2), Keyspace(2)
    filled(moved, 1, TAGS[:2])
    ks.ledger = Ledger(ks)
    ks.ledger.weighed = SLOTS
    staging = Staging(ks)
    area = staging.open(MID, SLOTS_MOVED)
    copied(area, moved)
    staged = area.weight_bytes()
    assert staging.weight_bytes() == staged > 0
    assert ks.ledger.used_bytes() == 0
    staging.activate(MID, SLOTS_MOVED)
    assert ks.ledger.used_bytes() == staged
    again = Ledger(ks)
    while again.step():
        pass
    assert again.used_bytes() == staged
    staging.release(SLOTS_MOVED)
    # Memory comes back as it is freed.
    assert ks.ledger.total == again.total
    assert staging.step(10)
    assert 0 < ks.ledger.total < again.total
    while staging.step(10):
        pass
    assert ks.ledger.total == 0
    assert not staging.dropped


def test_memory_is_counted_while_slots_are_still_being_weighed():
    ks, moved = Keyspace(2), Keyspace(2)
    filled(moved, 1, TAGS[:2])
    staging = Staging(ks)
    copied(staging.open(MID, SLOTS_MOVED), moved)
    ks.ledger = Ledger(ks)
    ks.ledger.weighed = 1
    staging.activate(MID, SLOTS_MOVED)
    while ks.ledger.step():
        pass
    again = Ledger(ks)
    while again.step():
        pass
    assert ks.ledger.total == again.total


def test_a_ledger_that_began_anew_is_not_told_of_what_it_never_counted():
    ks, moved = Keyspace(2), Keyspace(2)
    filled(moved, 1, TAGS[:2])
    ks.ledger = Ledger(ks)
    ks.ledger.weighed = SLOTS
    staging = Staging(ks)
    copied(staging.open(MID, SLOTS_MOVED), moved)
    staging.activate(MID, SLOTS_MOVED)
    staging.release(SLOTS_MOVED)
    ks.ledger = Ledger(ks)
    ks.ledger.weighed = SLOTS
    while staging.step(7):
        pass
    assert ks.ledger.total == 0


def test_slots_that_come_back_find_nothing_of_before():
    ks, moved = Keyspace(2), Keyspace(2)
    filled(moved, 1, TAGS[:2])
    ks.ledger = Ledger(ks)
    ks.ledger.weighed = SLOTS
    staging = Staging(ks)
    for _ in range(3):
        copied(staging.open(MID, SLOTS_MOVED), moved)
        staging.activate(MID, SLOTS_MOVED)
        total = ks.ledger.total
        staging.release(SLOTS_MOVED[:1])
        staging.release(SLOTS_MOVED[1:])
    copied(staging.open(MID, SLOTS_MOVED), moved)
    staging.activate(MID, SLOTS_MOVED)
    assert ks.ledger.total == total
    assert not staging.dropped
    consistent(ks)


def test_checkpoints_hear_of_keys_as_they_are_staged_and_of_slots_that_leave():
    ks, moved = Keyspace(2), Keyspace(2)
    filled(moved, 1, TAGS[:2])
    ks.write_down()
    staging = Staging(ks)
    staging.open(MID, SLOTS_MOVED)
    copied(staging.changing(MID), moved)
    wanted = [{key for mapping in db.slots for key in mapping or ()} for db in moved.dbs]
    assert [set(db.written.dirty) for db in ks.dbs] == wanted
    assert [sorted(db.written.staged) for db in ks.dbs] == [sorted(SLOTS_MOVED)] * 2
    for db in ks.dbs:
        db.written.dirty = {}
    staging.activate(MID, SLOTS_MOVED)
    for db in ks.dbs:
        assert (db.written.dirty, db.written.staged, db.written.dead) == ({}, {}, {})
        assert sorted(db.written.arrived) == sorted(SLOTS_MOVED)
    staging.release(SLOTS_MOVED)
    assert not any(db.written.dirty or db.written.arrived for db in ks.dbs)
    assert [{key for seen in db.written.dead.values() for key in seen} for db in ks.dbs] == wanted
    # They stay until that is written down.
    assert not staging.step(1000)
    assert [{key for seen in db.written.dead.values() for key in seen} for db in ks.dbs] == wanted
    for db in ks.dbs:
        db.written.dead = {}
    while staging.step(7):
        pass
    assert not staging.dropped


def test_slots_that_come_back_at_once_are_written_down_key_by_key():
    ks, moved = Keyspace(2), Keyspace(2)
    filled(moved, 1, TAGS[:2])
    ks.write_down()
    staging = Staging(ks)
    staging.open(MID, SLOTS_MOVED)
    copied(staging.changing(MID), moved)
    staging.activate(MID, SLOTS_MOVED)
    for db in ks.dbs:
        db.written.dirty = {}
    staging.release(SLOTS_MOVED)
    staging.open(MID, SLOTS_MOVED)
    staging.activate(MID, SLOTS_MOVED)
    wanted = [{key for mapping in db.slots for key in mapping or ()} for db in moved.dbs]
    assert [set(db.written.dirty) for db in ks.dbs] == wanted
    assert all(seen is None for db in ks.dbs for seen in db.written.dead.values())


@pytest.mark.parametrize("seed", range(4))
def test_what_a_checkpoint_held_of_slots_is_staged_again(seed):
    ks, moved, rest = Keyspace(2), Keyspace(2), Keyspace(2)
    for one in (ks, moved):
        filled(one, seed, TAGS[:2])
    for one in (ks, rest):
        filled(one, seed + 9, TAGS[2:])
    ks.ledger = Ledger(ks)
    while ks.ledger.step():
        pass
    staging, wanted = Staging(ks), Staging(Keyspace(2))
    staging.stash(MID, SLOTS_MOVED)
    copied(wanted.open(MID, SLOTS_MOVED), moved)
    assert staging.canonical() == wanted.canonical()
    assert staging.weight_bytes() == wanted.weight_bytes()
    assert digest(ks) == digest(rest)
    consistent(ks)
    consistent(staging.areas[MID].ks)
    while ks.ledger.step():
        pass
    rest.ledger = Ledger(rest)
    while rest.ledger.step():
        pass
    assert ks.ledger.total == rest.ledger.total


def test_wiping_one_database_keeps_the_weight_of_the_others():
    moved = Keyspace(2)
    filled(moved, 1, TAGS[:2])
    staging = Staging(Keyspace(2))
    area = staging.open(MID, SLOTS_MOVED)
    copied(area, moved)
    area.wipe(0)
    again = Ledger(area.ks)
    while again.step():
        pass
    assert area.weight_bytes() == again.used_bytes() > 0
    area.delete(1, next(key for mapping in moved.dbs[1].slots for key in mapping or ()))
    area.delete(1, b"never there")
    assert area.ks.dbs[1].size == moved.dbs[1].size - 1


def test_every_type_of_value_survives_the_payload():
    a_zset = ZSet()
    a_zset.set(b"one", 1.5)
    a_stream = Stream()
    a_stream.append(5 << 64 | 1, [b"f", b"v"])
    for value in (*values(), b"", b"\xff", SetValue.of([b"one", b"2"]), a_zset, a_stream):
        twin = payload_value(value_payload(value))
        wanted = bytes(value) if isinstance(value, bytes | bytearray) else value.canonical()
        assert (twin if type(twin) is bytes else twin.canonical()) == wanted


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x01a\x63\x00", b"\x00\x05a\x0a\x00", b"\x07\x01a\x0a\x00"])
def test_bad_payloads_are_refused(payload):
    with pytest.raises(RdbError):
        payload_value(payload)
