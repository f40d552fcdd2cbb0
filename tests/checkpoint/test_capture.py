"""A string that was stored, and then something else happened to its key, before either was written down."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durakv.checkpoint import images
from durakv.checkpoint.capture import Capture
from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.ops import DELETE_KEY, PUT_KEY, OpReader
from durakv.checkpoint.resume import follow
from durakv.engine.apply import Applier
from durakv.engine.beside import Beside
from durakv.engine.outcome import Outcome
from durakv.keyspace import journal
from durakv.keyspace.keyspace import Db, Keyspace
from durakv.keyspace.values.setvalue import SetValue
from tests.engine.rig import TABLE

KEY = b"k"


def a_set() -> SetValue:
    made = SetValue()
    made.add(b"member")
    return made


def undone(db: Db) -> None:
    db.put(KEY, b"never")
    journal.roll_back()


def swapped_twice(db: Db) -> None:
    db.ks.swap(0, 1)
    db.ks.swap(0, 1)


def stored_again(db: Db) -> None:
    db.remove(KEY)
    db.put(KEY, b"new")


def deadline_that_goes(db: Db) -> None:
    db.set_expiry(KEY, 1 << 41)
    db.clear_expiry(KEY)


def other_deadline(db: Db) -> None:
    db.put(b"x", b"y")
    db.set_expiry(b"x", 1 << 41)


LATER: dict[str, Callable[[Db], object]] = {
    "nothing": lambda db: None,
    "again": lambda db: db.put_last(KEY, b"new"),
    "removed": lambda db: db.remove(KEY),
    "deleted and stored": stored_again,
    "put": lambda db: db.put(KEY, b"new"),
    "put and kept": lambda db: db.put_keep(KEY, b"new"),
    "put last and kept": lambda db: db.put_keep_last(KEY, b"new"),
    "another type": lambda db: db.put(KEY, a_set()),
    "a grown string": lambda db: db.put_keep(KEY, bytearray(b"new")),
    "a deadline": lambda db: db.set_expiry(KEY, 1 << 41),
    "a deadline that goes": deadline_that_goes,
    "a deadline of another key": other_deadline,
    "undone": undone,
    "swapped twice": swapped_twice,
}


def rows(capture: Capture, index: int) -> tuple[int, bytes, int]:
    """What the next frame says of the key last: the kind of op, its image and its deadline."""
    reader = FrameReader("frame")
    reader.feed(capture.frame(index, 1, 0, 0))
    frame = reader.next()
    assert frame is not None
    ops = OpReader(frame.body)
    found = (0, b"", -1)
    while kind := ops.next():
        if kind in (PUT_KEY, DELETE_KEY) and ops.name == KEY:
            found = (kind, ops.value, ops.expire_ms) if kind == PUT_KEY else (kind, b"", -1)
    return found


@pytest.mark.parametrize("later", LATER)
def test_the_last_state_of_a_key_is_written_down(later: str) -> None:
    ks = Keyspace(2)
    capture = follow(ks, Beside(Applier(ks, TABLE, Outcome()), TABLE), None)
    ks.writing = True
    db = ks.dbs[0]
    db.put_last(KEY, b"old")
    journal.steps.clear()
    LATER[later](db)
    journal.steps.clear()
    value = ks.dbs[0].peek(KEY)
    kind, image, expire_ms = rows(capture, 1)
    if value is None:
        assert kind == DELETE_KEY
    else:
        assert (kind, image, expire_ms) == (PUT_KEY, images.small(value), ks.dbs[0].expiry(KEY))
    assert db.written is not None
    assert db.written.dirty == {}
