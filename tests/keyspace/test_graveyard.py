"""What was deleted goes a little at a time, and what somebody still has does not go at all."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from durakv.keyspace import journal
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet

MANY = 10_000


def large_hash() -> Hash:
    made = Hash()
    for n in range(MANY):
        made.fields[b"f%d" % n] = b"v%d" % n
    return made


def large_list() -> ListValue:
    made = ListValue()
    made.items.extend([b"%d" % n for n in range(MANY)])
    return made


def large_set() -> SetValue:
    made = SetValue()
    for n in range(MANY):
        made.add(b"%d" % n)
    return made


def large_zset() -> ZSet:
    made = ZSet()
    made.fill({b"%d" % n: float(n) for n in range(MANY)})
    return made


def large_stream() -> Stream:
    made = Stream()
    for n in range(1, 2 * MANY):
        made.append(n, [b"field", b"%d" % n])
    return made


MAKERS = [large_hash, large_list, large_set, large_zset, large_stream]


def written(ks: Keyspace) -> None:
    """The unit has ended."""
    journal.steps.clear()
    ks.changed.clear()


def dug(ks: Keyspace, elements: int = 1000) -> int:
    """Steps until nothing is left."""
    steps = 1
    while ks.graveyard.dig(elements):
        steps += 1
        assert steps < 10_000
    return steps


def size(value: Any) -> int:
    return len(value.nodes) if isinstance(value, Stream) else len(value)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_deleted_value_is_taken_apart_in_steps(maker: Any) -> None:
    ks = Keyspace(1)
    ks.writing = True
    ks.dbs[0].put(b"k", maker())
    written(ks)
    ks.dbs[0].delete(b"k")
    written(ks)
    assert len(ks.graveyard.held) == 1
    assert ks.graveyard.dig(1000)
    assert ks.graveyard.held
    assert dug(ks) >= 3
    assert ks.graveyard.held == []
    assert ks.graveyard.freed == 1


@pytest.mark.parametrize("maker", MAKERS)
def test_a_value_that_went_to_another_key_stays_whole(maker: Any) -> None:
    ks = Keyspace(1)
    ks.writing = True
    db = ks.dbs[0]
    value = maker()
    whole = size(value)
    db.put(b"k", value)
    written(ks)
    db.remove(b"k")
    db.put(b"other", value)
    del value
    written(ks)
    dug(ks)
    assert size(db.get(b"other")) == whole
    db.remove(b"other")
    written(ks)
    assert dug(ks) >= 3


def test_a_unit_that_is_undone_keeps_its_values() -> None:
    ks = Keyspace(1)
    ks.writing = True
    db = ks.dbs[0]
    for number, maker in enumerate(MAKERS):
        db.put(b"%d" % number, maker())
    sizes = [size(db.get(b"%d" % number)) for number in range(len(MAKERS))]
    written(ks)
    db.remove(b"0")
    db.put(b"1", b"x")
    db.put_keep(b"2", large_set())
    db.flush()
    journal.roll_back()
    dug(ks)
    assert [size(db.get(b"%d" % number)) for number in range(len(MAKERS))] == sizes
    assert db.size == len(MAKERS)


def test_what_a_reader_still_holds_is_left_alone() -> None:
    ks = Keyspace(1)
    ks.writing = True
    ks.dbs[0].put(b"k", large_set())
    written(ks)
    value: Any = ks.dbs[0].get(b"k")
    members = value.members
    del value
    ks.dbs[0].remove(b"k")
    dug(ks)
    assert len(members) == MANY


def test_emptied_databases_go_with_all_they_hold() -> None:
    ks = Keyspace(1)
    ks.writing = True
    db = ks.dbs[0]
    for n in range(MANY):
        db.put(b"key:%d" % n, b"v")
        if n % 2:
            db.set_expiry(b"key:%d" % n, 1 << 40)
    big = large_list()
    gone = weakref.ref(big) if hasattr(big, "__weakref__") else None
    db.put(b"big", big)
    del big
    written(ks)
    db.flush()
    written(ks)
    db.put(b"new", b"v")
    written(ks)
    assert len(ks.graveyard.held) == 3
    assert dug(ks) > 20
    gc.collect()
    assert gone is None or gone() is None
    assert db.get(b"new") == b"v"
    assert db.size == 1


def test_small_values_are_not_kept() -> None:
    ks = Keyspace(1)
    ks.writing = True
    value = ListValue()
    value.items.extend([b"a", b"b"])
    ks.dbs[0].put(b"k", value)
    ks.dbs[0].put(b"s", b"text")
    ks.dbs[0].remove(b"k")
    ks.dbs[0].remove(b"s")
    assert ks.graveyard.held == []
