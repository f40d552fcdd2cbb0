"""The backlog keeps what somebody may want, and gives it out as it came."""

from __future__ import annotations

from random import Random

from durakv.replicas.feed import Cursor, Feed


def test_readers_get_the_stream_from_where_they_began() -> None:
    dice = Random(4)
    feed = Feed(b"id", 20_000)
    made = b""
    readers: dict[Cursor, tuple[int, bytes]] = {}
    for _ in range(500):
        data = dice.randbytes(dice.choice((0, 1, 30, 3000, 9000)))
        feed.append(data)
        made += data
        assert feed.offset == len(made)
        assert feed.held_bytes() >= min(len(made), 20_000)
        if dice.random() < 0.05:
            offset = dice.randint(feed.start, feed.offset)
            readers[feed.open(offset)] = (offset, b"")
        for cursor, (begun, got) in list(readers.items()):
            if dice.random() < 0.3:
                got += feed.read(cursor, dice.choice((1, 5000, 1 << 20)))
                readers[cursor] = (begun, got)
                assert cursor.offset == begun + len(got)
                assert made[begun : cursor.offset] == got
            if dice.random() < 0.02:
                got += feed.read(cursor, 1 << 30)
                assert made[begun:] == got
                feed.close(cursor)
                del readers[cursor]


def test_what_nobody_reads_is_forgotten_and_what_somebody_reads_is_not() -> None:
    feed = Feed(b"id", 10_000)
    feed.append(b"x" * 5000)
    cursor = feed.open(2000)
    for _ in range(20):
        feed.append(b"y" * 5000)
    assert feed.start == 0
    assert not feed.holds(feed.offset + 1)
    feed.close(cursor)
    assert feed.held_bytes() == 10_000
    assert not feed.holds(2000)
    assert feed.holds(feed.offset)
    assert feed.read(feed.open(feed.offset), 10) == b""
