"""Images: what is read back cannot be told from what was written, whatever the value went through before."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.checkpoint import elements, images
from durakv.keyspace import journal
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.touched import Touched, TouchedChunks, TouchedEnds, TouchedPlaces, TouchedStream
from durakv.keyspace.values.zset import ZSet

from .values import KINDS, a_value, same

SEEDS = st.integers(0, 1 << 32)


def tracker_for(value: object, kid: int, next_order: int) -> object:
    if isinstance(value, (Hash, ZSet)):
        return Touched(kid, next_order)
    if isinstance(value, SetValue):
        return TouchedPlaces(kid, len(value))
    if isinstance(value, ListValue):
        return TouchedEnds(kid, -3, len(value))
    if isinstance(value, Stream):
        return TouchedStream(kid)
    return TouchedChunks(kid, len(value))  # type: ignore[arg-type]


def through_rows(value: object) -> object:
    rows = list(elements.elements(value, tracker_for(value, 77, 0)))
    header = elements.Header(elements.large(value, tracker_for(value, 77, len(rows))))
    assert header.count == len(rows) and header.kid == 77
    assert len({key for key, _ in rows}) == len(rows)
    return elements.assemble(header, sorted(((i, k, v) for i, (k, v) in enumerate(rows)), key=lambda row: row[1]))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_small_image_is_the_whole_value(kind, seed):
    value = a_value(Random(seed), kind)
    image = images.small(value)
    same(images.from_small(image), value)
    assert images.small(images.from_small(image)) == image
    assert journal.steps == []


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_header_and_its_rows_are_the_whole_value(kind, seed):
    value = a_value(Random(seed), kind)
    back = through_rows(value)
    same(back, value)
    if kind not in {"string", "grown"}:
        tracker = back.tracker
        assert tracker.kid == 77
        order = len(value) if isinstance(value, (Hash, ZSet)) else 0
        assert elements.large(back, tracker) == elements.large(value, tracker_for(value, 77, order))
    assert journal.steps == []


@given(seed=SEEDS)
@settings(max_examples=300, deadline=None)
def test_a_damaged_image_is_refused_or_another_value_but_never_a_crash(seed):
    rng = Random(seed)
    image = bytearray(images.small(a_value(rng, size=6)))
    if len(image) > 3000:
        return
    choice = rng.random()
    if choice < 0.5:
        image[rng.randrange(len(image))] ^= 1 << rng.randrange(8)
    elif choice < 0.8:
        del image[rng.randrange(len(image)) or 1 :]
    else:
        image += rng.randbytes(3)
    with suppress(ValueError):
        assert isinstance(images.from_small(bytes(image)), (bytes, bytearray, Hash, ListValue, SetValue, ZSet, Stream))


@pytest.mark.parametrize(
    ("value", "large"),
    [
        (b"x" * 65536, False),
        (b"x" * 65537, True),
        (bytearray(65537), True),
        (a_value(Random(1), "hash", 0), False),
        (a_value(Random(1), "zset", 0), False),
        (a_value(Random(1), "set", 0), False),
        (a_value(Random(1), "list", 0), False),
        (Stream(), False),
    ],
)
def test_where_large_begins(value, large):
    assert images.is_large(value) is large


def test_one_element_more_makes_a_collection_large():
    fields = Hash()
    scores = ZSet()
    members = SetValue()
    items = ListValue()
    entries = Stream()
    for i in range(33):
        assert not images.is_large(fields) and not images.is_large(scores)
        fields.set(b"%d" % i, b"")
        scores.set(b"%d" % i, 1.0)
    assert images.is_large(fields) and images.is_large(scores)
    for i in range(65):
        assert not images.is_large(members) and not images.is_large(items)
        members.add(b"%d" % i)
        items.push_left([b"%d" % i])
    assert images.is_large(members) and images.is_large(items)
    for i in range(100):
        entries.append(i + 1, [b"f", b"v"])
    assert not images.is_large(entries)
    entries.append(101, [b"f", b"v"])
    assert images.is_large(entries)
    journal.steps.clear()


def test_a_value_that_is_no_listpack_any_more_is_large_however_short():
    fields = Hash()
    fields.set(b"f", b"v" * 65)
    scores = ZSet()
    scores.set(b"m" * 65, 1.0)
    items = ListValue()
    items.push_left([b"x" * 10_000])
    journal.steps.clear()
    assert images.is_large(fields) and images.is_large(scores) and images.is_large(items)


def test_groups_make_a_stream_large():
    many_groups, many_pending, many_consumers = Stream(), Stream(), Stream()
    for i in range(5):
        assert not images.is_large(many_groups)
        many_groups.create_group(b"%d" % i, 0, 0)
    many_pending.create_group(b"g", 0, 0)
    consumer = many_pending.groups[b"g"].create(b"c", 1)
    many_consumers.create_group(b"g", 0, 0)
    for i in range(17):
        assert not images.is_large(many_pending) and not images.is_large(many_consumers)
        many_pending.groups[b"g"].assign(i, consumer, 1, 1)
        many_consumers.groups[b"g"].create(b"%d" % i, 1)
    journal.steps.clear()
    assert images.is_large(many_groups) and images.is_large(many_pending) and images.is_large(many_consumers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_row_is_noticed(kind):
    value = a_value(Random(5), kind, 40)
    if isinstance(value, (bytes, bytearray)):
        value = type(value)(b"y" * 70_000)
    rows = [(i, k, v) for i, (k, v) in enumerate(elements.elements(value, tracker_for(value, 1, 0)))]
    header = elements.Header(elements.large(value, tracker_for(value, 1, len(rows))))
    with pytest.raises(ValueError, match="rows"):
        elements.assemble(header, sorted(rows[:-1], key=lambda row: row[1]))


@pytest.mark.parametrize("next_order", [12, 100_000])
def test_places_must_differ_and_be_taken(next_order):
    value = a_value(Random(5), "hash", 10)
    rows = [(i, k, v) for i, (k, v) in enumerate(elements.elements(value, tracker_for(value, 1, 0)))]
    header = elements.Header(elements.large(value, tracker_for(value, 1, next_order)))
    spread = [(i * (next_order // 12), k, v) for i, k, v in rows]
    same(elements.assemble(header, sorted(spread, key=lambda row: row[1])), value)
    with pytest.raises(ValueError, match="the same place 3"):
        elements.assemble(header, [(3, k, v) for _, k, v in rows])
    with pytest.raises(ValueError, match=f"has place {next_order}, the next one is {next_order}"):
        elements.assemble(header, [*rows[:-1], (next_order, *rows[-1][1:])])


def test_what_is_no_header_is_refused():
    with pytest.raises(ValueError, match="no header"):
        elements.Header(b"\x80short")
    with pytest.raises(ValueError, match="no header"):
        elements.Header(images.small(b"x" * 100))
