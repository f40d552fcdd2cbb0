"""Hash commands: events, RESP3, Valkey 9's own commands, chance, and keys that empty."""

from __future__ import annotations

import pytest

from durakv.commands.table import Table
from tests.commands.collection_programs import TABLE
from tests.commands.running import Failed, Run

WRONGTYPE = Failed("WRONGTYPE Operation against a key holding the wrong kind of value")


@pytest.fixture(scope="module")
def table() -> Table:
    return TABLE


@pytest.mark.parametrize(("command", "events"), [
    ("HSET n f v", "new n, hset n"), ("HSET h f v g w", "hset h"), ("HMSET h f v", "hset h"), ("HSETNX h f w", ""),
    ("HSETNX h z w", "hset h"), ("HSETNX n f v", "new n, hset n"), ("HINCRBY h i 1", "hincrby h"),
    ("HINCRBYFLOAT h i 0.5", "hincrbyfloat h"), ("HINCRBY h f 1", ""), ("HDEL h f", "hdel h"), ("HDEL h x", ""),
    ("HDEL h f i", "hdel h, del h"), ("HGETDEL h FIELDS 1 f", "hdel h"), ("HGETDEL h FIELDS 2 f i", "hdel h, del h"),
    ("HGETDEL h FIELDS 1 x", ""), ("HGETDEL n FIELDS 1 f", ""),
])  # fmt: skip
def test_events(run: Run, command: str, events: str) -> None:
    run("HSET", "h", "f", "v", "i", "5")
    run.events.clear()
    run(*command.split())
    assert ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events) == events


@pytest.mark.parametrize(("words", "reply"), [
    ("HGETDEL h FIELDS 2 f x", [b"v", None]), ("HGETDEL h anything 1 f", [b"v"]),
    ("HGETDEL n FIELDS 2 a b", [None, None]),
    ("HGETDEL h FIELDS 2 f f", [b"v", None]),
    ("HGETDEL h FIELDS 0 f", Failed("ERR numfields should be greater than 0 and match the provided number of fields")),
    ("HGETDEL h FIELDS -1 f", Failed("ERR numfields should be greater than 0 and match the provided number of fields")),
    ("HGETDEL h FIELDS 2 f", Failed("ERR numfields should be greater than 0 and match the provided number of fields")),
    ("HGETDEL h FIELDS x f", Failed("ERR value is not an integer or out of range")),
    ("HGETDEL s FIELDS 1 f", WRONGTYPE), ("HSCAN h 0 NOVALUES", [b"0", [b"f", b"i"]]),
    ("HSET h f", Failed("ERR wrong number of arguments for 'hset' command")),
    ("HSET h f v g", Failed("ERR wrong number of arguments for 'hset' command")),
    ("HMSET h f v g", Failed("ERR wrong number of arguments for 'hmset' command")),
    ("HINCRBYFLOAT h i inf", Failed("ERR value is NaN or Infinity")),
    ("HINCRBYFLOAT h i 0.1", b"5.1"), ("HINCRBYFLOAT h f 1", Failed("ERR hash value is not a float")),
    ("HINCRBY h f 1", Failed("ERR hash value is not an integer")),
    ("HINCRBY h i 9223372036854775807", Failed("ERR increment or decrement would overflow")),
    ("HRANDFIELD h 4611686018427387904 WITHVALUES", Failed("ERR value is out of range")),
    ("HRANDFIELD h -4194305", Failed("ERR value is out of range")),
])  # fmt: skip
def test_replies(run: Run, words: str, reply: object) -> None:
    run("SET", "s", "v")
    run("HSET", "h", "f", "v", "i", "5")
    assert run(*words.split()) == reply


@pytest.mark.parametrize("last", ["HDEL h f", "HGETDEL h FIELDS 1 f"])
def test_the_last_field_takes_the_key(run: Run, last: str) -> None:
    run("HSET", "h", "f", "v")
    run(*last.split())
    assert run("EXISTS", "h") == 0
    assert run.ks.dbs[0].size == 0


def test_fields_keep_the_order_of_insertion(run: Run) -> None:
    run("HSET", "h", "b", "1", "a", "2")
    run("HSET", "h", "b", "3", "c", "4")
    assert run("HKEYS", "h") == [b"b", b"a", b"c"]
    assert run("HVALS", "h") == [b"3", b"2", b"4"]


def test_resp3_shapes(run: Run) -> None:
    run("HSET", "h", "f", "v")
    assert run.wire("HGETALL", "h", protocol=3) == b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n"
    assert run.wire("HGETALL", "none", protocol=3) == b"%0\r\n"
    assert run.wire("HRANDFIELD", "h", "1", "WITHVALUES", protocol=3) == b"*1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    assert run.wire("HRANDFIELD", "h", "-1", "WITHVALUES", protocol=2) == b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"


def test_random_fields(run: Run) -> None:
    fields = [b"%d" % i for i in range(30)]
    run("HSET", "h", *[word for field in fields for word in (field, b"v" + field)])
    seen = {run("HRANDFIELD", "h") for _ in range(600)}
    assert seen == set(fields)
    chosen = run("HRANDFIELD", "h", "10")
    assert len(set(chosen)) == 10
    assert set(chosen) <= set(fields)
    repeated = run("HRANDFIELD", "h", "-200")
    assert len(repeated) == 200
    assert set(repeated) <= set(fields)
    flat = run("HRANDFIELD", "h", "5", "WITHVALUES").flat
    assert flat[1::2] == [b"v" + field for field in flat[::2]]


def test_a_scan_in_pages_finds_every_field(run: Run) -> None:
    for i in range(1500):
        run("HSET", "h", f"f{i}", i)
    cursor, found = b"0", dict[bytes, bytes]()
    while True:
        cursor, page = run("HSCAN", "h", cursor, "COUNT", "50")
        found.update(zip(page[::2], page[1::2], strict=True))
        if cursor == b"0":
            break
    assert found == {b"f%d" % i: b"%d" % i for i in range(1500)}


def test_many_named_fields_end_a_listpack(run: Run) -> None:
    run("HSET", "h", *["f", "v"] * 513)
    assert run("OBJECT", "ENCODING", "h") == b"hashtable"
    run("HSET", "g", *["f", "v"] * 512)
    assert run("OBJECT", "ENCODING", "g") == b"listpack"
