"""Random programs over keys of any type, and SORT: replies equal stock Redis's, every write can be undone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durakv.commands.table import Table
from tests.commands.running import DATA_MODULES, Both, Reference, Run, declarations

pytestmark = pytest.mark.live

PROGRAMS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TABLE = Table.freeze(declarations(DATA_MODULES))
FAR_S = 4_000_000_000
MOST = 2**63 - 1


def flat(parts: Sequence[tuple[object, ...]]) -> list[object]:
    return [word for part in parts for word in part]


def available(commands: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those whose command is declared."""
    return [command for command in commands if command[0].encode() in TABLE.rows]


keys = st.sampled_from(["a", "b", "c", "{a}d", ""])
texts = st.one_of(st.sampled_from(["1", "2", "10", "-3", "1.5", "x", "ab", "B", "é", "", "1e3", " 4", "inf"]),
                  st.integers(-50, 50).map(str))  # fmt: skip
conditions = st.lists(st.sampled_from(["NX", "XX", "GT", "LT", "gt", "bogus"]), max_size=2)
seconds = st.sampled_from([FAR_S, FAR_S + 1, FAR_S + 2, 1, 0, -1, MOST, MOST // 1000, MOST // 1000 + 1, -(2**63),
                           -(2**63) // 1000, "x", ""])  # fmt: skip
milliseconds = st.sampled_from([FAR_S * 1000, FAR_S * 1000 + 499, FAR_S * 1000 + 500, 1, 0, -1, MOST, -(2**63), "x"])
builders = [("RPUSH", "3", "1", "2"), ("RPUSH", "b", "a", "10"), ("SADD", "1", "2"), ("HSET", "f", "1"),
            ("ZADD", "1", "x"), ("SET", "v"), ("SET", "7")]  # fmt: skip

commands = st.one_of(
    st.tuples(st.sampled_from(available(builders)), keys).map(lambda c: (c[0][0], c[1], *c[0][1:])),
    st.tuples(st.sampled_from(["DEL", "UNLINK", "EXISTS", "TOUCH"]), keys, keys),
    st.tuples(st.sampled_from(["TTL", "PTTL", "TYPE", "PERSIST"]), keys.filter(lambda key: key != "c")),
    st.tuples(st.sampled_from(["EXPIRETIME", "PEXPIRETIME"]), keys),
    st.tuples(st.just("EXPIREAT"), keys, seconds, conditions).map(lambda c: (*c[:3], *c[3])),
    st.tuples(st.just("PEXPIREAT"), keys, milliseconds, conditions).map(lambda c: (*c[:3], *c[3])),
    st.tuples(st.sampled_from(["EXPIRE", "PEXPIRE"]), keys, st.sampled_from([0, -1, "x", MOST, -MOST, -(2**63)]),
              conditions).map(lambda c: (*c[:3], *c[3])),
    st.tuples(st.sampled_from(["RENAME", "RENAMENX"]), keys, keys),
    st.tuples(st.just("COPY"), keys, keys,
              st.lists(st.sampled_from([("REPLACE",), ("DB", "1"), ("DB", "0"), ("DB", "99"), ("DB",), ("DB", "x"),
                                        ("bogus",), ("DB", "3000000000")]), max_size=2)).map(
        lambda c: (*c[:3], *flat(c[3]))),
    st.tuples(st.just("MOVE"), keys, st.sampled_from(["0", "1", "16", "-1", "x", "3000000000"])),
    st.tuples(st.just("SWAPDB"), st.sampled_from(["0", "1", "x", "99", "3000000000"]),
              st.sampled_from(["0", "1", "x", "-1"])),
    st.tuples(st.sampled_from(["FLUSHDB", "FLUSHALL"]), st.sampled_from(["SYNC", "async", "bogus"])),
    st.tuples(st.just("OBJECT"), st.sampled_from(["REFCOUNT", "FREQ", "BOGUS", "ENCODING"]), st.just("none")),
    st.sampled_from([("DBSIZE",), ("RANDOMKEY", "x"), ("OBJECT",), ("OBJECT", "HELP", "x"), ("SCAN", "x"),
                     ("SCAN", "0", "COUNT", "0"), ("SCAN", "0", "COUNT", "x"), ("SCAN", "0", "MATCH"),
                     ("SCAN", "0", "bogus"), ("SCAN", str(2**64)), ("SCAN", "0", "COUNT", "-5"),
                     ("FLUSHDB", "SYNC", "x"), ("DEL",), ("COPY", "a"), ("KEYS",)]),
)  # fmt: skip


def state(both: Both) -> None:
    """Everything in the first two databases must agree."""
    for number in (0, 1):
        both.reference("SELECT", number)
        both.run.db = number
        both.sorted("KEYS", "*")
        both("DBSIZE")
        for key in sorted(both.reference("KEYS", "*")):
            both("PEXPIRETIME", key)
            kind = both("TYPE", key)
            reads = {b"string": ("GET", key), b"list": ("LRANGE", key, 0, -1), b"hash": ("HGETALL", key),
                     b"zset": ("ZRANGE", key, 0, -1)}  # fmt: skip
            if kind in reads:
                both(*reads[kind])
    both.reference("SELECT", 0)
    both.run.db = 0


@PROGRAMS
@given(st.lists(commands, max_size=25))
def test_replies_equal_stock(reference: Reference, program: list[tuple[object, ...]]) -> None:
    run = Run(TABLE)
    run.check_undo = True
    # TTL answers with seconds and PTTL with milliseconds left: only keys without a deadline are compared.
    both = Both(run, reference)
    for command in program:
        if command[0] in ("TTL", "PTTL") and reference("PEXPIRETIME", command[1]) > 0:
            continue
        both(*command)
    state(both)


sort_words = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ASC", "DESC", "ALPHA", "desc", "bogus", "STORE", "BY", "LIMIT"])),
        st.tuples(st.just("LIMIT"), st.integers(-3, 6), st.integers(-3, 6)),
        st.tuples(st.just("LIMIT"), st.sampled_from(["x", MOST, -(2**63)]), st.sampled_from(["1", MOST, "y"])),
        st.tuples(st.just("BY"), st.sampled_from(["w_*", "h_*->f", "nosort", "*", "w_*->", "h_*->none", "none_*"])),
        st.tuples(st.just("GET"), st.sampled_from(["#", "w_*", "h_*->f", "fixed", "none_*", "*->", "h_*->f->g"])),
        st.tuples(st.just("STORE"), st.sampled_from(["out", "list"])),
    ),
    max_size=5,
).map(flat)


@pytest.mark.skipif(b"RPUSH" not in TABLE.rows or b"ZADD" not in TABLE.rows, reason="needs lists and sorted sets")
@PROGRAMS
@given(
    # The stock server's sort keeps the order of equal weights only below seven elements; ours always does.
    st.lists(texts, min_size=1, max_size=6), st.dictionaries(texts, texts, max_size=8),
    st.sampled_from(["list", "set", "zset", "none", "string"]), st.lists(sort_words, max_size=6),
)  # fmt: skip
def test_sort_equals_stock(
    reference: Reference, elements: list[str], weights: dict[str, str], source: str, sorts: list[list[object]]
) -> None:
    run = Run(TABLE)
    both = Both(run, reference)
    run.check_undo = True
    both("RPUSH", "list", *elements)
    both("SADD", "set", *elements)
    both("ZADD", "zset", *flat([(n % 3, element) for n, element in enumerate(elements)]))
    both("SET", "string", "x")
    for element, weight in weights.items():
        both("SET", f"w_{element}", weight)
        both("HSET", f"h_{element}", "f", weight)
    for words in sorts:
        upper = [str(word).upper() for word in words]
        if source in ("set", "zset") and "BY" in upper and ("ALPHA" in upper or "STORE" not in upper):
            # Unsorted, or sorted by equal texts, elements have whatever order the memory of such a value has.
            continue
        both("SORT_RO" if "STORE" not in upper else "SORT", source, *words)
        both("LRANGE", "out", 0, -1)


def test_relative_expiry_equals_stock(both: Both) -> None:
    """The clocks differ by little, so deadlines may too."""
    for n, command in enumerate(["EXPIRE", "PEXPIRE"]):
        both("SET", f"k{n}", "v")
        both(command, f"k{n}", 5_000_000)
        drift = both.reference("PEXPIRETIME", f"k{n}") - both.run("PEXPIRETIME", f"k{n}")
        assert 0 <= drift < 5000
    both("SET", "s", "v", "EX", 5_000_000)
    assert abs(both.reference("PTTL", "s") - both.run("PTTL", "s")) < 5000
    both("TTL", "s")
    assert time.time() * 1000 - both.run.now_ms < 60_000
