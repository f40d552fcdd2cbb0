"""List commands: events, keys that empty, moves within one list, and waiting."""

from __future__ import annotations

import pytest

from durakv.commands.table import Table
from durakv.resp.types import NULL_ARRAY, OK, Parked
from tests.commands.collection_programs import TABLE
from tests.commands.running import Failed, Run

WRONGTYPE = Failed("WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = Failed("ERR syntax error")


@pytest.fixture(scope="module")
def table() -> Table:
    return TABLE


def events_of(run: Run, command: str) -> str:
    run.events.clear()
    run(*command.split())
    return ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events)


@pytest.mark.parametrize(("command", "events"), [
    ("LPUSH n a", "new n, lpush n"), ("RPUSH l c", "rpush l"), ("LPUSHX n a", ""), ("RPUSHX l c", "rpush l"),
    ("LPOP l", "lpop l"), ("RPOP l 1", "rpop l"), ("LPOP l 2", "lpop l, del l"), ("LPOP l 0", ""), ("RPOP n", ""),
    ("LMOVE l n LEFT RIGHT", "new n, rpush n, lpop l"), ("RPOPLPUSH one l", "lpush l, rpop one, del one"),
    ("RPOPLPUSH one one", "lpush one, rpop one"), ("LMOVE l l LEFT LEFT", "lpush l, lpop l"),
    ("LMOVE n l LEFT LEFT", ""),
    ("LINSERT l BEFORE b x", "linsert l"), ("LINSERT l AFTER z x", ""), ("LSET l 0 x", "lset l"),
    ("LREM l 0 a", "lrem l"),
    ("LREM one 0 x", "lrem one, del one"), ("LREM l 0 z", ""), ("LTRIM l 0 -1", "ltrim l"),
    ("LTRIM l 5 9", "ltrim l, del l"),
    ("LMPOP 2 n l LEFT COUNT 9", "lpop l, del l"), ("BLPOP n l 0", "lpop l"), ("BRPOP one 0", "rpop one, del one"),
    ("BLMOVE l n RIGHT LEFT 0", "new n, lpush n, rpop l"), ("BLMPOP 0 1 l RIGHT", "rpop l"),
])  # fmt: skip
def test_events(run: Run, command: str, events: str) -> None:
    run("RPUSH", "l", "a", "b")
    run("RPUSH", "one", "x")
    assert events_of(run, command) == events


@pytest.mark.parametrize(("words", "reply"), [
    ("LPOP n 1", NULL_ARRAY), ("LPOP n", None), ("LPOP l 0", []), ("RPOP l 9", [b"b", b"a"]),
    ("LPOP l -1", Failed("ERR value is out of range, must be positive")),
    ("LPOP l x", Failed("ERR value is out of range, must be positive")),
    ("RPOP l 1 2", Failed("ERR wrong number of arguments for 'rpop' command")),
    ("LSET n 0 x", Failed("ERR no such key")), ("LSET l 2 x", Failed("ERR index out of range")), ("LSET l -2 x", OK),
    ("LMPOP 0 l LEFT", Failed("ERR numkeys should be greater than 0")), ("LMPOP 2 l LEFT", SYNTAX),
    ("LMPOP 1 l LEFT COUNT 0", Failed("ERR count should be greater than 0")),
    ("LMPOP 1 l LEFT COUNT 1 COUNT 1", SYNTAX), ("LMPOP 1 n LEFT", NULL_ARRAY), ("LMPOP 1 l LEFT", [b"l", [b"a"]]),
    ("LPOS l a RANK 0", Failed(
        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start "
        "from the end of the list"
    )),
    ("LPOS l a COUNT -1", Failed("ERR COUNT can't be negative")),
    ("LPOS l a MAXLEN -1", Failed("ERR MAXLEN can't be negative")),
    ("LPUSH s x", WRONGTYPE), ("LMOVE n s LEFT LEFT", None), ("LMOVE l s LEFT LEFT", WRONGTYPE),
    ("LMOVE s l LEFT LEFT", WRONGTYPE), ("LMOVE l l LEFT UP", SYNTAX), ("LRANGE s 0 1", WRONGTYPE),
])  # fmt: skip
def test_replies(run: Run, words: str, reply: object) -> None:
    run("SET", "s", "v")
    run("RPUSH", "l", "a", "b")
    assert run(*words.split()) == reply


@pytest.mark.parametrize(
    "last", ["LPOP l", "RPOP l 5", "LREM l 0 a", "LTRIM l 1 0", "LMOVE l m LEFT LEFT", "BLPOP l 0"]
)
def test_the_last_element_takes_the_key(run: Run, last: str) -> None:
    run("RPUSH", "l", "a")
    run(*last.split())
    assert run("EXISTS", "l") == 0


def test_positions_far_from_the_ends(run: Run) -> None:
    run("RPUSH", "l", *range(1000))
    assert run("LRANGE", "l", "700", "703") == [b"700", b"701", b"702", b"703"]
    assert run("LRANGE", "l", "3", "5") == [b"3", b"4", b"5"]
    assert run("LRANGE", "l", "-2", "5000") == [b"998", b"999"]
    assert run("LPOS", "l", "700", "RANK", "-1") == 700
    assert run("LPOS", "l", "700", "MAXLEN", "300", "RANK", "-1") == 700
    assert run("LPOS", "l", "700", "MAXLEN", "299", "RANK", "-1") is None


def test_ranges_in_the_middle_of_a_long_list(run: Run) -> None:
    run("RPUSH", "l", *range(5000))
    for start in (0, 990, 1000, 1001, 1002, 2500, 3960, 3999, 4990):
        for size in (1, 2, 31, 32, 33, 400):
            expected = [b"%d" % n for n in range(start, min(start + size, 5000))]
            assert run("LRANGE", "l", start, start + size - 1) == expected


# -- waiting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "keys", "timeout_ms", "on_timeout"), [
    ("BLPOP n m 0", [b"n", b"m"], 0, NULL_ARRAY), ("BRPOP n 1.5", [b"n"], 1500, NULL_ARRAY),
    ("BLPOP n 0.0001", [b"n"], 1, NULL_ARRAY), ("BLPOP n -0.0001", [b"n"], 0, NULL_ARRAY),
    ("BLMOVE n l LEFT RIGHT 2", [b"n"], 2000, NULL_ARRAY),
    ("BRPOPLPUSH n l 0x10", [b"n"], 16000, NULL_ARRAY),
    ("BLMPOP 3 2 n m LEFT COUNT 2", [b"n", b"m"], 3000, NULL_ARRAY),
])  # fmt: skip
def test_waiting(run: Run, words: str, keys: list[bytes], timeout_ms: int, on_timeout: object) -> None:
    run("RPUSH", "l", "a")
    parked = run(*words.split())
    assert isinstance(parked, Parked)
    assert (parked.keys, parked.timeout_ms, parked.kind, parked.on_timeout) == (keys, timeout_ms, b"list", on_timeout)
    run.wctx.can_block = False
    # Where nobody can wait, a move answers as its plain form does.
    assert run(*words.split()) == (None if words.startswith(("BLMOVE", "BRPOPLPUSH")) else on_timeout)


@pytest.mark.parametrize(("words", "reply"), [
    ("BLPOP n l 0", [b"l", b"a"]), ("BRPOP l n 0", [b"l", b"b"]), ("BLMOVE l m RIGHT LEFT 0", b"b"),
    ("BRPOPLPUSH l l 0", b"b"), ("BLMPOP 0 2 n l RIGHT COUNT 9", [b"l", [b"b", b"a"]]),
])  # fmt: skip
def test_a_handler_called_again_serves(run: Run, words: str, reply: object) -> None:
    argv = words.split()
    assert isinstance(run(*argv), Parked)
    run("RPUSH", "l", "a", "b")
    assert run(*argv) == reply


@pytest.mark.parametrize(("timeout", "text"), [
    ("x", "ERR timeout is not a float or out of range"), ("nan", "ERR timeout is not a float or out of range"),
    ("", "ERR timeout is not a float or out of range"), ("1e5000", "ERR timeout is not a float or out of range"),
    ("-1", "ERR timeout is negative"), ("-inf", "ERR timeout is negative"), ("inf", "ERR timeout is out of range"),
    ("1e400", "ERR timeout is out of range"), ("-1e400", "ERR timeout is negative"),
    ("9223372036854775.807", "ERR timeout is out of range"), ("9223372036854775", "ERR timeout is out of range"),
])  # fmt: skip
def test_timeouts_refused(run: Run, timeout: str, text: str) -> None:
    for words in (["BLPOP", "n"], ["BRPOP", "n"], ["BLMOVE", "n", "n", "LEFT", "LEFT"], ["BRPOPLPUSH", "n", "n"]):
        assert run(*words, timeout) == Failed(text)
    assert run("BLMPOP", timeout, "1", "n", "LEFT") == Failed(text)


def test_arguments_come_before_the_timeout_and_the_timeout_before_the_keys(run: Run) -> None:
    run("SET", "s", "v")
    assert run("BLMPOP", "x", "0", "s", "LEFT") == Failed("ERR numkeys should be greater than 0")
    assert run("BLMOVE", "s", "s", "UP", "LEFT", "x") == SYNTAX
    assert run("BLPOP", "s", "-1") == Failed("ERR timeout is negative")
    assert run("BLPOP", "s", "0") == WRONGTYPE
    assert run("BLMOVE", "s", "n", "LEFT", "LEFT", "0") == WRONGTYPE


def test_encoding_follows_the_size(run: Run) -> None:
    run("RPUSH", "l", "x" * 4000, "y" * 4000)
    assert run("OBJECT", "ENCODING", "l") == b"listpack"
    run("RPUSH", "l", "z" * 300)
    assert run("OBJECT", "ENCODING", "l") == b"quicklist"
    run("LPOP", "l")
    assert run("OBJECT", "ENCODING", "l") == b"quicklist"
    run("LPOP", "l")
    assert run("OBJECT", "ENCODING", "l") == b"listpack"
