"""Any sequence of mutators, rolled back, leaves the value as it was; and every mutator agrees with a plain model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durakv.keyspace.journal import roll_back, steps
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet

# Few names, so that programs hit the same member again; a long one and numbers, so that encodings change.
MEMBERS = st.sampled_from([b"a", b"b", b"c", b"d", b"", b"1", b"2", b"-7", b"007", b"x" * 65])
SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.5, float("inf"), float("-inf")]), st.floats(allow_nan=False, width=32)
)
SMALL = st.integers(0, 6)


@pytest.fixture(autouse=True)
def empty_journal() -> Iterator[None]:
    steps.clear()
    yield
    steps.clear()


def state_of(value: Any) -> tuple[bytes, int, bytes]:
    return value.canonical(), len(value), value.encoding()


HASH_PROGRAM = st.lists(
    st.one_of(
        st.tuples(st.just("set"), MEMBERS, MEMBERS),
        st.tuples(st.just("delete"), MEMBERS),
        st.tuples(st.just("expect"), st.sampled_from([1, 600])),
    ),
    max_size=30,
)


def run_hash(value: Hash, model: dict[bytes, bytes], program: list[tuple[Any, ...]]) -> None:
    for name, *args in program:
        if name == "set":
            field, content = args
            assert value.set(field, content) == (field not in model)
            model[field] = content
        elif name == "delete":
            assert value.delete(args[0]) == (model.pop(args[0], None) is not None)
        else:
            value.expect(args[0])
        assert value.fields == model


@given(HASH_PROGRAM, HASH_PROGRAM)
def test_hash(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    value = Hash()
    model: dict[bytes, bytes] = {}
    run_hash(value, model, first)
    before, fields = state_of(value), dict(model)
    steps.clear()
    run_hash(value, model, second)
    roll_back()
    assert state_of(value) == before
    assert value.fields == fields


LIST_STEP = st.one_of(
    st.tuples(st.just("push_left"), st.lists(MEMBERS, min_size=1, max_size=3)),
    st.tuples(st.just("push_right"), st.lists(MEMBERS, min_size=1, max_size=3)),
    st.tuples(st.just("push_right"), st.just([b"z" * 5000])),
    st.tuples(st.just("pop_left")),
    st.tuples(st.just("pop_right")),
    st.tuples(st.just("set"), SMALL, MEMBERS),
    st.tuples(st.just("insert"), SMALL, MEMBERS),
    st.tuples(st.just("remove"), st.integers(-3, 3), MEMBERS),
    st.tuples(st.just("trim"), SMALL, SMALL),
)
LIST_PROGRAM = st.lists(LIST_STEP, max_size=30)


def list_remove(model: list[bytes], count: int, element: bytes) -> int:
    places = [i for i, item in enumerate(model) if item == element]
    if count < 0:
        places = places[count:]
    elif count > 0:
        places = places[:count]
    for i in reversed(places):
        del model[i]
    return len(places)


def run_list(value: ListValue, model: list[bytes], program: list[tuple[Any, ...]]) -> None:
    for name, *args in program:
        n = len(model)
        if name == "push_left":
            value.push_left(args[0])
            model[:0] = reversed(args[0])
        elif name == "push_right":
            value.push_right(args[0])
            model.extend(args[0])
        elif name == "pop_left" and n:
            assert value.pop_left() == model.pop(0)
        elif name == "pop_right" and n:
            assert value.pop_right() == model.pop()
        elif name == "set" and args[0] < n:
            value.set(*args)
            model[args[0]] = args[1]
        elif name == "insert" and args[0] <= n:
            value.grow([args[1]])
            value.insert(*args)
            model.insert(*args)
        elif name == "remove":
            assert value.remove(*args) == list_remove(model, *args)
        elif name == "trim" and args[0] + args[1] <= n:
            value.trim(*args)
            model[:] = model[args[0] : n - args[1]]
        assert list(value.items) == model


@given(LIST_PROGRAM, LIST_PROGRAM)
def test_list(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    value = ListValue()
    model: list[bytes] = []
    run_list(value, model, first)
    before, items, size = state_of(value), list(model), value.size
    steps.clear()
    run_list(value, model, second)
    roll_back()
    assert state_of(value) == before
    assert list(value.items) == items
    assert value.size == size


SET_PROGRAM = st.lists(
    st.one_of(
        st.tuples(st.just("add"), MEMBERS),
        st.tuples(st.just("remove"), MEMBERS),
        st.tuples(st.just("pop_at"), SMALL),
        st.tuples(st.just("expect"), st.sampled_from([1, 130, 600]), MEMBERS),
    ),
    max_size=30,
)


def run_set(value: SetValue, model: dict[bytes, None], program: list[tuple[Any, ...]]) -> None:
    for name, *args in program:
        if name == "add":
            assert value.add(args[0]) == (args[0] not in model)
            model[args[0]] = None
        elif name == "remove":
            had = args[0] in model
            model.pop(args[0], None)
            assert value.remove(args[0]) == had
        elif name == "pop_at" and args[0] < len(model):
            member = value.members[args[0]]
            assert value.pop_at(args[0]) == member
            del model[member]
        elif name == "expect":
            value.expect(*args)
        assert sorted(value.members) == sorted(model)
        assert value.positions == {member: i for i, member in enumerate(value.members)}


@given(SET_PROGRAM, SET_PROGRAM)
def test_set(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    value = SetValue()
    model: dict[bytes, None] = {}
    run_set(value, model, first)
    before, members = state_of(value), value.members.copy()
    steps.clear()
    run_set(value, model, second)
    roll_back()
    assert state_of(value) == before
    # SPOP draws positions, so the order has to come back too.
    assert value.members == members
    assert value.positions == {member: i for i, member in enumerate(members)}


ZSET_PROGRAM = st.lists(
    st.one_of(
        st.tuples(st.just("set"), MEMBERS, SCORES),
        st.tuples(st.just("remove"), MEMBERS),
        st.tuples(st.just("expect"), st.sampled_from([1, 130]), st.just(1)),
    ),
    max_size=30,
)


def run_zset(value: ZSet, model: dict[bytes, float], program: list[tuple[Any, ...]]) -> None:
    for name, *args in program:
        if name == "set":
            value.set(*args)
            model[args[0]] = args[1]
        elif name == "remove":
            assert value.remove(args[0]) == (model.pop(args[0], None) is not None)
        else:
            value.expect(*args)
        assert value.slice(0, len(value)) == sorted((score, member) for member, score in model.items())


@given(ZSET_PROGRAM, ZSET_PROGRAM)
def test_zset(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    value = ZSet()
    model: dict[bytes, float] = {}
    run_zset(value, model, first)
    before = state_of(value)
    steps.clear()
    run_zset(value, model, second)
    roll_back()
    assert state_of(value) == before


@pytest.mark.parametrize("kind", [Hash, ListValue, SetValue, ZSet])
def test_a_copy_shares_nothing(kind: Any) -> None:
    value = kind()
    change(value, b"a")
    twin = value.copy()
    assert state_of(twin) == state_of(value)
    before = state_of(value)
    change(twin, b"b")
    assert state_of(value) == before
    assert state_of(twin) != before


def change(value: Any, member: bytes) -> None:
    if isinstance(value, Hash):
        value.set(member, b"v")
    elif isinstance(value, ListValue):
        value.push_right([member])
    elif isinstance(value, SetValue):
        value.add(member)
    else:
        value.set(member, 1.0)
