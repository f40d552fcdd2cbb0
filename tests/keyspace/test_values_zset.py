"""ZSet against sorted(list): large enough for blocks to split, join and empty."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.keyspace.journal import roll_back, steps
from durakv.keyspace.values.zset import ZSet


def check(zset: ZSet, model: dict[bytes, float]) -> None:
    pairs = sorted((score, member) for member, score in model.items())
    assert len(zset) == len(pairs)
    assert zset.scores == model
    blocks = [list(zip(orders, names, strict=True)) for orders, names in zip(zset.orders, zset.names, strict=True)]
    assert [pair for block in blocks for pair in block] == pairs
    assert list(zip(zset.last_scores, zset.last_names, strict=True)) == [block[-1] for block in blocks]
    assert all(len(block) <= 1024 for block in blocks)
    if len(blocks) > 1:
        assert min(len(block) for block in blocks) >= 128


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_changes(seed: int) -> None:
    dice = random.Random(seed)
    zset = ZSet()
    model: dict[bytes, float] = {}
    for size in (6000, 50, 3000, 0):
        while len(model) != size:
            if len(model) < size:
                member, score = b"m%d" % dice.randrange(9000), float(dice.randrange(500))
                zset.set(member, score)
                model[member] = score
            else:
                member = dice.choice(list(model)) if dice.random() < 0.1 else next(iter(model))
                assert zset.remove(member)
                del model[member]
        check(zset, model)
        steps.clear()
    assert not any((zset.orders, zset.names, zset.last_scores, zset.last_names))


def test_ranks_and_slices() -> None:
    dice = random.Random(7)
    zset = ZSet()
    model = {b"m%d" % i: float(dice.randrange(300)) for i in range(4000)}
    for member, score in model.items():
        zset.set(member, score)
    pairs = sorted((score, member) for member, score in model.items())
    for rank in (0, 1, 511, 512, 1024, 2000, 3999):
        assert zset.rank(pairs[rank][1]) == rank
    assert zset.rank(b"absent") == -1
    for score in (-math.inf, -1.0, 0.0, 17.0, 17.5, 299.0, 300.0, math.inf):
        assert zset.below(score) == sum(pair[0] < score for pair in pairs)
        assert zset.through(score) == sum(pair[0] <= score for pair in pairs)
    for start, stop in ((0, 0), (0, 1), (5, 3), (0, 4000), (500, 1600), (3990, 4000), (1024, 1025)):
        assert zset.slice(start, stop) == pairs[start:stop]


def test_infinite_scores_have_bounds_too() -> None:
    zset = ZSet()
    zset.set(b"low", -math.inf)
    zset.set(b"mid", 0.0)
    zset.set(b"high", math.inf)
    assert zset.below(-math.inf) == 0
    assert zset.through(-math.inf) == 1
    assert zset.below(math.inf) == 2
    assert zset.through(math.inf) == 3


@given(st.lists(st.binary(max_size=3), unique=True, max_size=40), st.binary(max_size=3))
def test_lex_positions(members: list[bytes], bound: bytes) -> None:
    zset = ZSet()
    for member in members:
        zset.set(member, 0.0)
    assert zset.lex_below(bound) == sum(member < bound for member in members)


def test_lex_positions_across_blocks() -> None:
    zset = ZSet()
    members = [b"%05d" % i for i in range(3000)]
    zset.fill(dict.fromkeys(members, 0.0))
    for i in (0, 511, 512, 513, 1500, 2999):
        assert zset.lex_below(members[i]) == i
        assert zset.lex_below(members[i] + b"\x00") == i + 1


@settings(max_examples=40)
@given(st.dictionaries(st.binary(max_size=4), st.floats(allow_nan=False), max_size=60))
def test_fill_equals_one_by_one(scores: dict[bytes, float]) -> None:
    built, grown = ZSet(), ZSet()
    built.fill(dict(scores))
    for member, score in scores.items():
        grown.set(member, score)
    assert built.canonical() == grown.canonical()
    assert built.encoding() == grown.encoding()


def test_roll_back_over_many_blocks() -> None:
    zset = ZSet()
    for i in range(3000):
        zset.set(b"%d" % i, float(i % 97))
    model = dict(zset.scores)
    steps.clear()
    dice: Any = random.Random(3)
    for _ in range(4000):
        member = b"%d" % dice.randrange(4000)
        if dice.random() < 0.6:
            zset.remove(member)
        else:
            zset.set(member, float(dice.randrange(50)))
    roll_back()
    check(zset, model)
