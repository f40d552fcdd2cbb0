"""String commands: what a differential run cannot show (events, undo, limits, Valkey 9's own commands)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.commands import long_double
from durakv.commands.args import STRING_MAX
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_STRING
from durakv.commands.strings_lcs import growth_rows, walk_back
from durakv.commands.table import Table
from durakv.keyspace import journal
from durakv.resp.types import OK
from tests.commands.running import Both, Run, declarations

SYNTAX = "ERR syntax error"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
TABLE = Table.freeze(declarations(("strings", "strings_edit")))


def names(run: Run) -> list[str]:
    out = [f"{event.decode()} {key.decode()}" for _, event, key in run.events]
    run.events.clear()
    return out


@pytest.mark.parametrize(("command", "events"), [
    ("SET a 1", "new a, set a"), ("SET s 1", "set s"), ("SET s 1 EX 9", "set s, expire s"), ("SET s 1 NX", ""),
    ("SET s 1 EXAT 5", "del s"), ("SET a 1 EXAT 5", ""), ("SETNX a 1", "new a, set a"),
    ("SETEX s 9 1", "set s, expire s"), ("PSETEX s 9 1", "set s, expire s"), ("GETSET s 1", "set s"),
    ("GETDEL s", "del s"), ("GETDEL a", ""), ("GETEX s EX 9", "expire s"), ("GETEX s PERSIST", ""),
    ("GETEX t PERSIST", "persist t"), ("GETEX s EXAT 5", "del s"), ("DELIFEQ s v", "del s"), ("DELIFEQ s w", ""),
    ("MSET s 1 a 2", "set s, new a, set a"), ("MSETNX s 1 a 2", ""), ("INCR n", "incrby n"), ("DECRBY n 3", "incrby n"),
    ("INCRBYFLOAT n 1", "incrbyfloat n"), ("APPEND s x", "append s"), ("APPEND a x", "new a, append a"),
    ("SETRANGE s 1 x", "setrange s"), ("MSETEX 2 s 1 a 2 EX 9", "set s, expire s, new a, set a, expire a"),
])  # fmt: skip
def test_events(run: Run, command: str, events: str) -> None:
    for setup in (("SET", "s", "v"), ("SET", "t", "v", "EX", "100"), ("SET", "n", "5")):
        run(*setup)
    run.events.clear()
    run(*command.split())
    assert ", ".join(names(run)) == events


def test_nobody_listening_costs_no_events(run: Run) -> None:
    run.wctx.notify_mask = NOTIFY_GENERIC
    run("SET", "a", "1")
    assert run.events == []
    run.wctx.notify_mask = NOTIFY_STRING
    run("SET", "a", "1")
    assert run.events == [(0, b"set", b"a")]


@pytest.mark.parametrize(("words", "reply"), [
    ("SET k new IFEQ v", OK), ("SET k new IFEQ other", None), ("SET none new IFEQ v", None),
    ("SET k new IFEQ v GET", b"v"), ("SET k new IFEQ other GET", b"v"), ("SET none new IFEQ v GET", None),
    ("SET k new IFEQ v NX", SYNTAX), ("SET k new XX IFEQ v", SYNTAX), ("SET k new IFEQ", SYNTAX),
    ("SET k new IFEQ v IFEQ v", SYNTAX), ("SET k new IFEQ v EX 100", OK), ("SET l new IFEQ v", WRONGTYPE),
    ("SET l new IFEQ v GET", WRONGTYPE), ("DELIFEQ k v", 1), ("DELIFEQ k w", 0), ("DELIFEQ none v", 0),
    ("DELIFEQ l v", WRONGTYPE),
])  # fmt: skip
def test_compare_and_set(run: Run, words: str, reply: object) -> None:
    run("SET", "k", "v")
    run("SETRANGE", "patched", "0", "v")
    run.ks.dbs[0].put(b"l", object())
    assert run(*words.split()) == reply
    if reply == OK:
        assert run("GET", "k") == b"new"


def test_compare_reads_patched_strings(run: Run) -> None:
    run("APPEND", "k", "a")
    run("APPEND", "k", "b")
    assert run("SET", "k", "c", "IFEQ", "ab") == OK
    run("SETRANGE", "k", "0", "d")
    assert run("DELIFEQ", "k", "d") == 1


@pytest.mark.parametrize(("words", "reply", "left"), [
    ("MSETEX 2 a 1 b 2", 1, [b"1", b"2"]), ("MSETEX 2 a 1 b 2 NX", 1, [b"1", b"2"]),
    ("MSETEX 2 a 1 b 2 XX", 0, [None, None]), ("MSETEX 2 k 1 b 2 NX", 0, [None, None]),
    ("MSETEX 0 a 1", "ERR invalid numkeys value", None), ("MSETEX x a 1", "ERR invalid numkeys value", None),
    ("MSETEX 2 a 1 b", "ERR wrong number of key-value pairs", None), ("MSETEX 1 a 1 GET", SYNTAX, None),
    ("MSETEX 1 a 1 EX 0", "ERR invalid expire time in 'msetex' command", None), ("MSETEX 1 a 1 NX XX", SYNTAX, None),
    ("MSETEX 2 a 1 b 2 EXAT 5", 1, [None, None]), ("MSETEX 1 a 1 KEEPTTL EX 5", SYNTAX, None),
])  # fmt: skip
def test_msetex(run: Run, words: str, reply: object, left: object) -> None:
    run("SET", "k", "v")
    assert run(*words.split()) == reply
    if left is not None:
        assert run("MGET", "a", "b") == left


def test_msetex_deadlines(run: Run) -> None:
    run("MSETEX", 2, "a", 1, "b", 2, "EX", 100)
    assert [run("PTTL", key) for key in "ab"] == [100_000, 100_000]
    run("MSETEX", 2, "a", 3, "c", 4, "KEEPTTL")
    assert [run("PTTL", key) for key in "abc"] == [100_000, 100_000, -1]


def test_deadlines_come_from_the_entry(run: Run) -> None:
    run("SET", "a", "1", "PX", 500)
    assert run("PEXPIRETIME", "a") == run.now_ms + 500
    run.now_ms += 499
    assert run("GET", "a") == b"1"
    run.now_ms += 1
    assert run("GET", "a") is None
    assert run("DBSIZE") == 1, "a read must not delete"
    assert run("INCR", "a") == 1
    assert run("TTL", "a") == -1
    assert run.expired == [(0, b"a")]


def test_relative_deadline_overflow(run: Run) -> None:
    most = (1 << 63) - 1
    assert run("SET", "a", "1", "PX", most) == "ERR invalid expire time in 'set' command"
    assert run("SET", "a", "1", "PX", most - run.now_ms) == OK
    assert run("SET", "a", "1", "PXAT", most) == OK
    assert run("GETEX", "a", "EX", most // 1000 + 1) == "ERR invalid expire time in 'getex' command"
    assert run("PSETEX", "a", most, "1") == "ERR invalid expire time in 'psetex' command"


def test_patches_are_in_place_and_replies_are_not_shared(run: Run) -> None:
    run("SET", "k", "abc")
    run("APPEND", "k", "def")
    stored = run.ks.dbs[0].get(b"k")
    assert type(stored) is bytearray
    replies = [run("GET", "k"), run("GETRANGE", "k", 0, -1), run("MGET", "k")[0], run("SUBSTR", "k", 0, -1)]
    run("APPEND", "k", "ghi")
    run("SETRANGE", "k", 0, "X")
    assert run.ks.dbs[0].get(b"k") is stored
    assert replies == [b"abcdef"] * 4
    assert all(type(reply) is bytes for reply in replies)
    assert run("GET", "k") == b"Xbcdefghi"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["APPEND", "SETRANGE"]), st.integers(0, 12), st.binary(max_size=6))))
def test_patches_roll_back_exactly(patches: list[tuple[str, int, bytes]]) -> None:
    run = Run(TABLE)
    run("SET", "k", "start")
    run("APPEND", "k", "ed")
    stored = run.ks.dbs[0].get(b"k")
    run.wctx.ks.writing = True
    journal.steps.clear()
    for command, at, value in patches:
        argv = [b"APPEND", b"k", value] if command == "APPEND" else [b"SETRANGE", b"k", b"%d" % at, value]
        run.table.find(argv).fn(run.wctx, argv)
    journal.roll_back()
    run.wctx.ks.writing = False
    assert run.ks.dbs[0].get(b"k") is stored
    assert run("GET", "k") == b"started"


def test_string_limit(run: Run) -> None:
    text = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    assert run("SETRANGE", "k", STRING_MAX, "x") == text
    assert run("SETRANGE", "k", (1 << 63) - 1, "x") == text
    run("SET", "k", "v")
    assert run("SETRANGE", "k", STRING_MAX, "x") == text
    assert run("SETRANGE", "k", STRING_MAX, "") == 1
    assert run("GET", "k") == b"v"


@pytest.mark.parametrize(("first", "second"), [(20_000, 20_000), (1, 5_000_000), (9_000_000, 1)])
def test_lcs_refuses_huge_tables(run: Run, first: int, second: int) -> None:
    run("SET", "a", "x" * first)
    run("SET", "b", "y" * second)
    assert run("LCS", "a", "b", "LEN").text.startswith("ERR Insufficient memory")


@pytest.mark.live
@pytest.mark.parametrize(("first", "second"), [(1500, 1500), (60_000, 30), (20, 100_000)])
def test_long_lcs_equals_stock(both: Both, first: int, second: int) -> None:
    dice = random.Random(first)
    both("SET", "a", bytes(dice.choices(b"abcd", k=first)))
    both("SET", "b", bytes(dice.choices(b"abce", k=second)))
    both("LCS", "a", "b")
    both("LCS", "a", "b", "IDX", "WITHMATCHLEN")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=20))
def test_lcs_rows_equal_the_textbook_table(a: bytes, b: bytes) -> None:
    rows = growth_rows(a, b)
    cells = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            same = a[i - 1] == b[j - 1]
            cells[i][j] = cells[i - 1][j - 1] + 1 if same else max(cells[i - 1][j], cells[i][j - 1])
    for j in range(len(b) + 1):
        for i in range(len(a) + 1):
            assert (rows[j] & ((1 << i) - 1)).bit_count() == cells[i][j]
    common, matches = walk_back(a, b, rows)
    assert len(common) == cells[-1][-1]
    assert sum(match.a_last - match.a_first + 1 for match in matches) == len(common)


@pytest.mark.parametrize(("a", "b", "total"), [
    (b"3.0", b"1.1", b"4.1"), (b"10.50", b"0.1", b"10.6"), (b"5.0e3", b"2.0e2", b"5200"), (b"1", b"-1", b"0"),
    (b"0", b"1e-17", b"0.00000000000000001"), (b"0", b"-1e-18", b"0"), (b"0x1p4", b"-0x.8", b"15.5"),
    (b"+1", b".5", b"1.5"), (b"9223372036854775807", b"1", b"9223372036854775808"),
    (b"18446744073709551615", b"0.5", b"18446744073709551616"),
])  # fmt: skip
def test_extended_sums(a: bytes, b: bytes, total: bytes) -> None:
    left, right = long_double.parse(a), long_double.parse(b)
    assert left is not None and right is not None
    answer = long_double.add(left, right)
    assert answer is not None
    assert long_double.text_of(answer) == total


@pytest.mark.parametrize("text", [
    b"", b" 1", b"1 ", b"nan", b"1e", b"1e+", b"--1", b"0x", b"1_000", b"1e5000", b"-1e99999999999", b"1e-5000", b".",
    b"e5", b"0xg", b"1.2.3", b"\xff",
])  # fmt: skip
def test_no_extended_number(text: bytes) -> None:
    assert long_double.parse(text) is None


def test_largest_extended_number_prints(run: Run) -> None:
    assert run("INCRBYFLOAT", "k", "1e4930").startswith(b"1")
    assert run("INCRBYFLOAT", "k", "1e4930") > b"1"
    run("SET", "k", "1.18e4932")
    assert len(run("INCRBYFLOAT", "k", "0")) == 4933
    assert run("INCRBYFLOAT", "k", "1.18e4932") == "ERR increment would produce NaN or Infinity"
    assert run("INCRBYFLOAT", "k", "inf") == "ERR increment would produce NaN or Infinity"
