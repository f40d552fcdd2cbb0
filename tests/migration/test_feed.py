"""The stream of commands, cut into steps with their positions."""

from __future__ import annotations

from random import Random

import pytest

from durakv.config.settings import Settings
from durakv.migration.feed import Feed, Garbled, Step, Unfit, absolute
from tests.migration.sim_source import wire
from tests.replication.sim import TABLE

NOW_MS = 1_700_000_000_000


def new_feed(offset: int = 100, published: list[object] | None = None) -> Feed:
    def publish(channel: bytes, message: bytes, shard: bool) -> None:
        if published is not None:
            published.append((channel, message, shard))

    return Feed(TABLE, Settings(), 16, offset, 2, lambda: NOW_MS, publish)


def shape(steps: list[Step]) -> list[tuple[list[tuple[int, list[bytes]]], int, int]]:
    return [([(p.db, p.argv) for p in s.parts], s.offset, s.db) for s in steps]


STREAM = [
    wire(b"PING"), wire(b"SET", b"a", b"1"), wire(b"SELECT", b"5"), wire(b"MULTI"), wire(b"RPUSH", b"l", b"x"),
    wire(b"SELECT", b"6"), wire(b"INCR", b"n"), wire(b"EXEC"), wire(b"PUBLISH", b"c", b"m"), wire(b"PFCOUNT", b"h"),
    wire(b"REPLCONF", b"GETACK", b"*"), wire(b"SPUBLISH", b"c", b"m"), wire(b"DEL", b"a"), wire(b"SELECT", b"1"),
]  # fmt: skip


def test_steps_end_where_the_source_counts_them() -> None:
    published: list[object] = []
    feed = new_feed(100, published)
    feed.feed(b"".join(STREAM))
    ends = [100]
    for part in STREAM:
        ends.append(ends[-1] + len(part))
    assert shape(feed.take(1 << 20)) == [
        ([(2, [b"SET", b"a", b"1"])], ends[2], 2),
        ([(5, [b"RPUSH", b"l", b"x"]), (6, [b"INCR", b"n"])], ends[8], 6),
        ([(6, [b"DEL", b"a"])], ends[13], 6),
    ]
    assert (feed.offset, feed.db) == (ends[-1], 1)
    assert feed.idle()
    assert feed.ack_wanted
    assert published == [(b"c", b"m", False), (b"c", b"m", True)]


@pytest.mark.parametrize("seed", range(20))
def test_any_chunks_give_the_same(seed: int) -> None:
    random = Random(seed)
    whole = new_feed()
    whole.feed(b"".join(STREAM))
    data = b"".join(STREAM)
    feed = new_feed()
    steps: list[Step] = []
    while data:
        size = random.randint(1, 9)
        feed.feed(data[:size])
        data = data[size:]
        steps += feed.take(1)
        # A step's position never lies beyond what it holds.
        assert not steps or steps[-1].offset <= feed.offset
    steps += feed.take(1 << 20)
    assert shape(steps) == shape(whole.take(1 << 20))
    assert (feed.offset, feed.db) == (whole.offset, whole.db)


def test_half_a_transaction_waits() -> None:
    feed = new_feed()
    feed.feed(wire(b"MULTI") + wire(b"SET", b"a", b"1"))
    assert not feed.steps
    assert not feed.idle()
    feed.feed(wire(b"EXEC"))
    assert len(feed.steps) == 1


def test_empty_lines_are_counted() -> None:
    feed = new_feed(0)
    feed.feed(b"\n" + wire(b"SET", b"a", b"1") + b"\r\n")
    assert feed.offset == 1 + len(wire(b"SET", b"a", b"1")) + 2


def test_steps_are_taken_by_size_and_never_none() -> None:
    feed = new_feed()
    feed.feed(wire(b"SET", b"a", b"x" * 1000) * 5)
    assert feed.size_bytes > 5000
    assert [len(feed.take(n)) for n in (10, 2500, 1 << 20, 10)] == [1, 2, 2, 0]
    assert feed.size_bytes == 0


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (wire(b"JSON.SET", b"a", b"$", b"1"), "JSON.SET"),
        (wire(b"GET"), "wrong number of arguments"),
        (wire(b"SELECT", b"16"), "database 16"),
        (wire(b"SELECT", b"x"), "database x"),
        (wire(b"ACL", b"SETUSER", b"a"), "acl|setuser"),
    ],
)
def test_what_cannot_be_run_stops_behind_what_can(command: bytes, told: str) -> None:
    feed = new_feed(0)
    before = wire(b"SET", b"a", b"1")
    with pytest.raises(Unfit, match="(?i)" + told.replace("|", "[|]")):
        feed.feed(before + command + wire(b"SET", b"a", b"2"))
    assert [step.offset for step in feed.steps] == [len(before)]


def test_what_is_no_stream_is_told_apart() -> None:
    with pytest.raises(Garbled):
        new_feed().feed(b"*1\r\n:5\r\n")


def test_scripts_take_the_terms_of_this_node_along() -> None:
    feed = new_feed()
    feed.feed(wire(b"EVAL", b"return 1", b"0"))
    (step,) = feed.take(1)
    assert step.parts[0].argv[:3] == [b"EVAL", b"return 1", b"0"]
    assert len(step.parts[0].argv) == 4


@pytest.mark.parametrize(
    ("command", "logged"),
    [
        ("EXPIRE k 10", "PEXPIREAT k 1700000010000"),
        ("PEXPIRE k 10 NX", "PEXPIREAT k 1700000000010 NX"),
        ("SETEX k 10 v", "SET k v PXAT 1700000010000"),
        ("PSETEX k 10 v", "SET k v PXAT 1700000000010"),
        ("SET k v EX 10 NX", "SET k v PXAT 1700000010000 NX"),
        ("SET k v KEEPTTL", "SET k v KEEPTTL"),
        ("SET k EX", "SET k EX"),
        ("SET EX EX px 5", "SET EX EX PXAT 1700000000005"),
        ("RESTORE k 50 payload REPLACE", "RESTORE k 1700000000050 payload REPLACE ABSTTL"),
        ("RESTORE k 50 payload absttl", "RESTORE k 50 payload absttl"),
        ("RESTORE k 0 payload", "RESTORE k 0 payload"),
        ("EXPIRE k x", "EXPIRE k x"),
    ],
)
def test_relative_deadlines_become_points_in_time(command: str, logged: str) -> None:
    argv = command.encode().split()
    assert absolute(argv[0], argv, NOW_MS) == logged.encode().split()
