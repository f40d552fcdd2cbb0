"""The value behind the stream commands: a plain model, exact undo, packing, and the same state on every machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.keyspace.digest import canonical_value, digest
from durakv.keyspace.journal import roll_back, steps
from durakv.keyspace.rdb_packed import listpack_items
from durakv.keyspace.values.packed import packed_size
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import READ_UNKNOWN, IdSet
from durakv.keyspace.values.streampack import int_size, listpack, pack_int, pack_text, unpack
from tests.commands.running import Run
from tests.commands.test_streams_differential import TABLE, program


@pytest.fixture(autouse=True)
def empty_journal() -> Iterator[None]:
    steps.clear()
    yield
    steps.clear()


# -- packing -------------------------------------------------------------------------------------------------------

EDGES = [n + d for n in (0, 127, 4095, 32767, 8388607, 2147483647, (1 << 63) - 2) for d in (-1, 0, 1)]
NUMBERS = st.one_of(st.sampled_from([*EDGES, *[-n for n in EDGES]]), st.integers(-(1 << 63), (1 << 63) - 1))
TEXTS = st.one_of(
    st.binary(max_size=80),
    NUMBERS.map(lambda n: b"%d" % n),
    st.sampled_from([0, 62, 63, 64, 126, 127, 4095, 4096, 20000]).map(lambda n: b"x" * n),
    st.sampled_from([b"007", b"-0", b"-", b"+1", b"9223372036854775808"]),
)


@given(st.lists(TEXTS, max_size=12))
def test_elements_come_back_and_are_as_large_as_said(texts: list[bytes]) -> None:
    packed = [pack_text(text) for text in texts]
    assert [len(element) for element in packed] == [packed_size(text) for text in texts]
    data = b"".join(packed)
    assert unpack(b"??" + data, 2, 2 + len(data)) == texts
    assert listpack_items(listpack(data, len(texts))) == texts


@given(NUMBERS)
def test_numbers(number: int) -> None:
    assert len(pack_int(number)) == int_size(number) == packed_size(b"%d" % number)
    assert pack_int(number) == pack_text(b"%d" % number)


# -- ids in order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_set_of_ids_is_a_sorted_list(seed: int) -> None:
    dice = Random(seed)
    ids = IdSet()
    model: list[int] = []
    span = dice.choice((50, 5000, 1 << 100))
    for _ in range(6000):
        n = (model[-1] + 1 if model else 1) if dice.random() < 0.5 else dice.randrange(span)
        if n not in model[-1:] and n not in model:
            ids.add(n)
            model.append(n)
            if len(model) > 1 and n < model[-2]:
                model.sort()
        elif model:
            gone = model.pop(dice.randrange(len(model)))
            ids.remove(gone)
        if dice.random() < 0.05:
            after, count = dice.randrange(span), dice.choice((0, 1, 7, 10_000))
            assert ids.starting(after, count) == [n for n in model if n >= after][:count]
            assert len(ids) == len(model)
            assert not model or (ids.least(), ids.greatest()) == (model[0], model[-1])
    while model:
        ids.remove(model.pop(dice.randrange(len(model))))
    assert ids.starting(0, 10) == [] and not ids.blocks and not ids.firsts


# -- entries against a dict ----------------------------------------------------------------------------------------

# Large values make nodes of a few entries, so that short programs have several.
VALUES = st.one_of(TEXTS, st.just(b"p" * 900), st.just(b"q" * 900), st.just(b"v"))
FLAT = st.lists(st.tuples(st.sampled_from([b"f", b"g", b"1"]), VALUES), min_size=1, max_size=3).map(
    lambda pairs: [text for pair in pairs for text in pair]
)
IDS = st.integers(1, 40)
STEP = st.one_of(
    st.tuples(st.just("append"), st.sampled_from([1, 2, 1 << 64, 5 << 70]), FLAT),
    st.tuples(st.just("append"), st.just(1), FLAT),
    st.tuples(st.just("delete"), IDS),
    st.tuples(st.just("trim_length"), st.integers(0, 30)),
    st.tuples(st.just("trim_below"), IDS),
    st.tuples(st.just("create_group"), st.sampled_from([b"g", b"h"])),
    st.tuples(st.just("destroy_group"), st.sampled_from([b"g", b"h"])),
    st.tuples(st.just("assign"), IDS, st.sampled_from([b"a", b"b"]), st.integers(0, 9)),
    st.tuples(st.just("drop"), IDS),
    st.tuples(st.just("forget"), st.sampled_from([b"a", b"b"])),
)
PROGRAM = st.lists(STEP, max_size=40)


def run_stream(stream: Stream, model: dict[int, list[bytes]], added: list[int], program: list[tuple[Any, ...]]) -> None:
    for name, *args in program:
        known = added[args[0] % len(added)] if added and args and isinstance(args[0], int) else 0
        if name == "append":
            added.append(stream.last_id + args[0])
            stream.append(added[-1], args[1])
            model[added[-1]] = args[1]
        elif name == "delete":
            assert stream.delete(known) == (model.pop(known, None) is not None)
        elif name == "trim_length":
            gone = sorted(model)[: max(len(model) - args[0], 0)]
            assert stream.trim_length(args[0], approximate=False, limit=0) == len(gone)
            for entry_id in gone:
                del model[entry_id]
        elif name == "trim_below":
            gone = [entry_id for entry_id in sorted(model) if entry_id < known]
            assert stream.trim_below(known, approximate=False, limit=0) == len(gone)
            for entry_id in gone:
                del model[entry_id]
        elif name == "create_group" and args[0] not in stream.groups:
            stream.create_group(args[0], 0, READ_UNKNOWN)
        elif name == "destroy_group" and args[0] in stream.groups:
            stream.destroy_group(args[0])
        elif (group := stream.groups.get(b"g")) is not None:
            run_group(group, name, args, known)
        look_at(stream, model)


def run_group(group: Any, name: str, args: list[Any], known: int) -> None:
    if name == "assign":
        consumer = group.consumers.get(args[1]) or group.create(args[1], 5)
        group.assign(known, consumer, args[2], args[2])
        group.seen(consumer, args[2])
        group.active(consumer, args[2])
        group.move(known, args[2])
    elif name == "drop" and known in group.pending:
        group.drop(known)
    elif name == "forget" and args[0] in group.consumers:
        group.delete(group.consumers[args[0]])
    assert group.order.starting(0, 10_000) == sorted(group.pending)
    for consumer in group.consumers.values():
        own = [entry_id for entry_id in sorted(group.pending) if group.pending[entry_id].owner == consumer.name]
        assert consumer.pending.starting(0, 10_000) == own


def look_at(stream: Stream, model: dict[int, list[bytes]]) -> None:
    ids = sorted(model)
    entries = [(entry_id, model[entry_id]) for entry_id in ids]
    assert len(stream) == len(ids)
    assert stream.range(0, stream.last_id, 0) == entries
    assert stream.range_back(0, stream.last_id, 0) == entries[::-1]
    assert (stream.first_live_id(), stream.last_live_id()) == ((ids[0], ids[-1]) if ids else (0, 0))
    if ids:
        middle = ids[len(ids) // 2]
        assert stream.get(middle) == model[middle] and stream.exists(middle)
        assert stream.range(middle + 1, stream.last_id, 2) == entries[len(ids) // 2 + 1 :][:2]
        assert stream.range_back(0, middle - 1, 2) == entries[: len(ids) // 2][::-1][:2]
    for node, first in zip(stream.nodes, stream.first_ids, strict=True):
        assert node.first_id == first and node.count() == node.live + node.dead
        assert node.listpack_size() == len(node.as_listpack())


@settings(deadline=None)
@given(PROGRAM, PROGRAM)
def test_a_stream_is_a_dict_in_order_and_undo_is_exact(first: list[Any], second: list[Any]) -> None:
    stream = Stream()
    model: dict[int, list[bytes]] = {}
    added: list[int] = []
    run_stream(stream, model, added, first)
    before, then = stream.canonical(), dict(model)
    twin = stream.copy()
    steps.clear()
    run_stream(stream, model, added, second)
    roll_back()
    assert stream.canonical() == before == twin.canonical()
    look_at(stream, then)


def test_canonical_tells_apart_what_behaves_differently() -> None:
    def made(*deleted: int, groups: int = 0, last: int = 0) -> bytes:
        stream = Stream()
        for i in range(1, 6):
            stream.append(i, [b"f", b"v"])
        for entry_id in deleted:
            stream.delete(entry_id)
        for n in range(groups):
            stream.create_group(b"%d" % n, last, READ_UNKNOWN)
        return canonical_value(stream)[1]

    seen = [made(), made(1), made(2), made(1, 2), made(groups=1), made(groups=2), made(groups=1, last=3)]
    assert len(set(seen)) == len(seen)
    assert made(1, 2) == made(2, 1)


# -- the same everywhere -------------------------------------------------------------------------------------------


def state_after(seed: int) -> str:
    run = Run(TABLE)
    run.wctx.can_block = False
    replies = [run.wire(*words, protocol=3) for words in program(Random(seed), 400)]
    assert sum(reply[:1] != b"-" for reply in replies) > 100
    return digest(run.ks).hex() + str(hash(tuple(len(reply) for reply in replies)))


def test_the_digest_does_not_depend_on_the_hash_seed() -> None:
    code = "from tests.commands.test_streams_values import state_after; print(state_after(7))"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == state_after(7)


def test_random_programs_undo_to_the_same_digest() -> None:
    run = Run(TABLE)
    run.check_undo = True
    run.wctx.can_block = False
    answered = [run(*words) for words in program(Random(99), 400)]
    assert len(answered) == 401 and run.ks.dbs[0].size > 0
