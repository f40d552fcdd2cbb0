"""put_last leaves no inverse step, counts keys as put does, and steps aside when a unit may be undone as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durakv.keyspace.journal import roll_back, steps
from durakv.keyspace.keyspace import Keyspace


@pytest.fixture(autouse=True)
def empty_journal() -> Iterator[None]:
    steps.clear()
    yield
    steps.clear()


def test_it_counts_new_keys_only() -> None:
    ks = Keyspace(1)
    db = ks.dbs[0]
    db.put_last(b"a", b"1")
    db.put_last(b"a", b"2")
    db.put_last(b"b", b"3")
    assert (db.size, db.get(b"a"), db.get(b"b"), steps) == (2, b"2", b"3", [])


def test_listeners_hear_of_it() -> None:
    ks = Keyspace(1)
    ks.listening = True
    ks.dbs[0].put_last(b"a", b"1")
    assert ks.changed == [(0, b"a")]


def test_a_unit_that_may_be_undone_whole_keeps_the_step() -> None:
    ks = Keyspace(1)
    db = ks.dbs[0]
    db.put_last(b"a", b"1")
    ks.undo_whole = True
    db.put_last(b"a", b"2")
    db.put_last(b"b", b"2")
    roll_back()
    assert (db.size, db.get(b"a"), db.get(b"b")) == (1, b"1", None)


def test_a_deadline_is_dropped() -> None:
    ks = Keyspace(1)
    db = ks.dbs[0]
    db.put(b"a", b"1")
    db.set_expiry(b"a", 100)
    db.put_last(b"a", b"2")
    assert (db.expiry(b"a"), db.nexp) == (-1, 0)
