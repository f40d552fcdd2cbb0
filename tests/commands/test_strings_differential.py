"""Random programs of string commands: every reply equals stock Redis's, every write can be undone."""

from __future__ import annotations

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
# Far enough ahead that nothing expires during a run, and absolute, so that both servers store the same.
FAR_S = 4_000_000_000


def flat(parts: Sequence[tuple[object, ...]]) -> list[object]:
    return [word for part in parts for word in part]


keys = st.sampled_from(["a", "b", "c", "{a}d", ""])
integers = st.one_of(
    st.integers(-20, 20),
    st.sampled_from([2**63 - 1, -(2**63), 2**63, 2**31, "007", "+5", "-0", "", " 1", "1 ", "x", "1.0", "1_0"]),
)
floats = st.one_of(
    st.sampled_from(["1.5", "-0.1", "3e2", "inf", "-inf", "nan", "1e400", "1e-400", "0x10", ".5", "5.", "", "x",
                     "1e5000", " 1", "1 ", "+3", "0.1", "1e17", "123456789.123456789", "-1e-18", "1e-17"]),
    st.floats(-1e6, 1e6).map(repr), st.integers(-1000, 1000).map(str),
)  # fmt: skip
values = st.one_of(st.binary(max_size=8), integers.map(str), floats, st.sampled_from(["x" * 44, "y" * 45, "1" * 21]))
at = st.sampled_from([FAR_S, FAR_S + 1, 1, 0, -1, 2**63 - 1, "x"])
expiry = st.one_of(
    st.tuples(st.sampled_from(["EXAT", "PXAT", "exat"]), at),
    st.tuples(st.sampled_from(["EX", "PX"]), st.sampled_from([0, -1, "x", 2**63 - 1])),
    st.tuples(st.sampled_from(["KEEPTTL", "EX", "PERSIST", "bogus", "EXAT"])),
)  # fmt: skip
conditions = st.tuples(st.sampled_from(["NX", "XX", "GET", "get", "nX"]))
set_options = st.lists(st.one_of(expiry, conditions), max_size=3).map(flat)
lcs_options = st.lists(
    st.one_of(st.tuples(st.sampled_from(["LEN", "IDX", "WITHMATCHLEN", "bogus", "MINMATCHLEN"])),
              st.tuples(st.just("MINMATCHLEN"), integers)), max_size=3,
).map(flat)  # fmt: skip
offsets = st.one_of(st.integers(-12, 12), integers)

commands = st.one_of(
    st.tuples(st.just("SET"), keys, values),
    st.tuples(st.just("SET"), keys, values, set_options).map(lambda c: (*c[:3], *c[3])),
    st.tuples(st.sampled_from(["GET", "STRLEN", "GETDEL", "INCR", "DECR", "PEXPIRETIME", "TYPE", "GETEX"]), keys),
    st.tuples(st.sampled_from(["SETNX", "GETSET", "APPEND"]), keys, values),
    st.tuples(st.sampled_from(["INCRBY", "DECRBY"]), keys, integers),
    st.tuples(st.just("INCRBYFLOAT"), keys, floats),
    st.tuples(st.sampled_from(["SETEX", "PSETEX"]), keys, st.sampled_from([0, -1, 2**63 - 1, "x", "1.5"]), values),
    st.tuples(st.just("GETEX"), keys, set_options).map(lambda c: (*c[:2], *c[2])),
    st.tuples(st.just("SETRANGE"), keys, offsets, values),
    st.tuples(st.sampled_from(["GETRANGE", "SUBSTR"]), keys, offsets, offsets),
    st.tuples(st.sampled_from(["MGET", "DEL", "EXISTS"]), keys, keys),
    st.tuples(st.sampled_from(["MSET", "MSETNX"]), keys, values, keys, values),
    st.tuples(st.sampled_from(["MSET", "MSETNX"]), keys, values, keys),
    st.tuples(st.just("LCS"), keys, keys, lcs_options).map(lambda c: (*c[:3], *c[3])),
    st.tuples(st.sampled_from(["LPUSH", "SADD", "RPUSH"]), keys, values),
    st.sampled_from([("GET",), ("SET", "a"), ("MSET", "a"), ("INCR", "a", "b"), ("GETEX",), ("LCS", "a")]),
)  # fmt: skip


@PROGRAMS
@given(st.lists(commands, max_size=25))
def test_replies_equal_stock(reference: Reference, program: list[tuple[object, ...]]) -> None:
    # Relative deadlines occur only where they must fail: the two clocks differ.
    run = Run(TABLE)
    run.check_undo = True
    both = Both(run, reference)
    for command in program:
        if command[0] not in ("LPUSH", "SADD", "RPUSH") or str(command[0]).encode() in TABLE.rows:
            both(*command)
    both.sorted("KEYS", "*")
    for key in reference("KEYS", "*"):
        both("TYPE", key)
        both("PEXPIRETIME", key)
        if reference("TYPE", key) == b"string":
            both("GET", key)
            # Upstream never stores the result of INCRBYFLOAT as an integer; here only content decides.
            if all(command[0] != "INCRBYFLOAT" for command in program):
                both("OBJECT", "ENCODING", key)
