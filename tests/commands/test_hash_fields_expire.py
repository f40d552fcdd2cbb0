"""Deadlines of fields of hashes: Valkey 9's replies and errors, a model under random programs, events, undo, dumps."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from durakv.commands import hashes_expire
from durakv.keyspace.digest import digest
from durakv.keyspace.dump import dump_payload, load_payload
from durakv.keyspace.keyspace import Db
from durakv.keyspace.values.hash import Hash
from durakv.resp.errors import NUMFIELDS_MISMATCH
from durakv.resp.types import Map
from tests.commands.running import EVERY_EVENT, Failed, Run
from tests.commands.value_programs import TABLE

WRONGTYPE = Failed("WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = Failed("ERR syntax error")
NOT_INTEGER = Failed("ERR value is not an integer or out of range")
MISMATCH = Failed(NUMFIELDS_MISMATCH)
NOW = 1_700_000_000_000
START = Run(TABLE).now_ms


@pytest.fixture
def run() -> Run:
    run = Run(TABLE)
    run.check_undo = True
    run("SET", "s", "v")
    run("HSET", "h", "f", "v", "g", "w", "i", "5")
    run("HPEXPIRE", "h", 5000, "FIELDS", 1, "g")
    run.events.clear()
    return run


def invalid(command: str) -> Failed:
    return Failed(f"ERR invalid expire time in '{command}' command")


@pytest.mark.parametrize(("words", "reply"), [
    ("HEXPIRE h 10 FIELDS 3 f g x", [1, 1, -2]), ("HEXPIRE n 10 FIELDS 2 a b", [-2, -2]),
    ("HEXPIRE h 10 NX FIELDS 2 f g", [1, 0]), ("HEXPIRE h 10 XX FIELDS 2 f g", [0, 1]),
    ("HEXPIRE h 10 GT FIELDS 2 f g", [0, 1]), ("HEXPIRE h 5 GT FIELDS 1 g", [0]), ("HEXPIRE h 4 gt FIELDS 1 g", [0]),
    ("HEXPIRE h 10 LT FIELDS 2 f g", [1, 0]), ("HEXPIRE h 4 LT FIELDS 1 g", [1]), ("HEXPIRE h 4 xx lt fields 1 g", [1]),
    ("HEXPIRE h 0 FIELDS 2 f x", [2, -2]), ("HEXPIRE h 0 XX FIELDS 1 f", [0]), ("HEXPIRE h 0 GT FIELDS 1 g", [0]),
    ("HEXPIREAT h 1 FIELDS 1 f", [2]), ("HPEXPIREAT h 1700000000000 FIELDS 1 f", [2]),
    ("HPEXPIREAT h 1700000000001 FIELDS 1 f", [1]), ("HPEXPIRE h 0 LT FIELDS 1 g", [2]),
    ("HEXPIRE h 10 FIELDS 2 f f", [1, 1]), ("HEXPIRE h 0 FIELDS 2 f f", [2, -2]),
    ("HEXPIRE h -1 FIELDS 1 f", invalid("hexpire")), ("HPEXPIREAT h -1 FIELDS 1 f", invalid("hpexpireat")),
    ("HEXPIRE h 9223372036854775807 FIELDS 1 f", invalid("hexpire")),
    ("HPEXPIRE h 9223372036854775807 FIELDS 1 f", invalid("hpexpire")),
    ("HEXPIREAT h 9223372036854776 FIELDS 1 f", invalid("hexpireat")),
    ("HEXPIRE h x FIELDS 1 f", NOT_INTEGER), ("HEXPIRE h 10 FIELDS x f", NOT_INTEGER),
    ("HEXPIRE h 10 FIELDS 0 f", MISMATCH), ("HEXPIRE h 10 FIELDS 2 f", MISMATCH),
    ("HEXPIRE h 10 FIELDS 1 f g", MISMATCH),
    ("HEXPIRE h 10 FIELDS -1 f", MISMATCH), ("HEXPIRE h 10 NX 1 f", MISMATCH), ("HEXPIRE h 10 1 f FIELDS", MISMATCH),
    ("HEXPIRE h 10 ZZ FIELDS 1 f", Failed("ERR Unsupported option ZZ")),
    ("HEXPIRE h 10 NX XX FIELDS 1 f",
     Failed("ERR NX and XX, GT or LT options at the same time are not compatible")),
    ("HEXPIRE h 10 GT LT FIELDS 1 f", Failed("ERR GT and LT options at the same time are not compatible")),
    ("HEXPIRE s 10 FIELDS 1 f", WRONGTYPE), ("HEXPIRE s x FIELDS 1 f", NOT_INTEGER),
    ("HEXPIRE s 10 FIELDS 2 f", MISMATCH),
    ("HTTL h FIELDS 3 f g x", [-1, 5, -2]), ("HPTTL h FIELDS 1 g", [5000]), ("HEXPIRETIME h FIELDS 1 g", [1700000005]),
    ("HPEXPIRETIME h FIELDS 2 g g", [1700000005000] * 2), ("HTTL n FIELDS 2 a b", [-2, -2]),
    ("HTTL s FIELDS 1 f", WRONGTYPE),
    ("HTTL h FIELDS 2 f", SYNTAX), ("HTTL h FIELDS 0 f", SYNTAX), ("HTTL h FIELDS x f", NOT_INTEGER),
    ("HTTL h anything 1 g", [5]),
    ("HPERSIST h FIELDS 3 f g x", [-1, 1, -2]), ("HPERSIST n FIELDS 1 f", [-2]), ("HPERSIST s FIELDS 1 f", WRONGTYPE),
    ("HPERSIST h FIELDS 2 f", MISMATCH), ("HPERSIST h FIELDS x f", NOT_INTEGER), ("HPERSIST h FIELDS 2 g g", [1, -1]),
    ("HGETEX h FIELDS 3 f g x", [b"v", b"w", None]), ("HGETEX h EX 10 FIELDS 2 f x", [b"v", None]),
    ("HGETEX h PERSIST FIELDS 1 g", [b"w"]), ("HGETEX h EX 0 FIELDS 2 f f", [b"v", None]),
    ("HGETEX n EX 10 FIELDS 2 a b", [None, None]), ("HGETEX h PXAT 1 FIELDS 1 f", [b"v"]),
    ("HGETEX s FIELDS 1 f", WRONGTYPE), ("HGETEX h EX -1 FIELDS 1 f", invalid("hgetex")),
    ("HGETEX h EX x FIELDS 1 f", NOT_INTEGER), ("HGETEX h EX FIELDS 1 f", SYNTAX),
    ("HGETEX h EX 1 PX 1 FIELDS 1 f", SYNTAX),
    ("HGETEX h EX 1 PERSIST FIELDS 1 f", SYNTAX), ("HGETEX h PERSIST EX 1 FIELDS 1 f", SYNTAX),
    ("HGETEX h NX FIELDS 1 f", SYNTAX), ("HGETEX h KEEPTTL FIELDS 1 f", SYNTAX), ("HGETEX h EX 1 1 f", MISMATCH),
    ("HGETEX h FIELDS 2 f", MISMATCH), ("HGETEX h FIELDS -1 f", MISMATCH), ("HGETEX h FIELDS 0 f", MISMATCH),
    ("HSETEX h FIELDS 1 f z", 1), ("HSETEX n FIELDS 1 f z", 1), ("HSETEX h NX FIELDS 1 f z", 0),
    ("HSETEX n XX FIELDS 1 f z", 0), ("HSETEX h XX EX 9 FIELDS 2 f z y z", 1), ("HSETEX h FNX FIELDS 2 y z f z", 0),
    ("HSETEX h FXX FIELDS 2 f z y z", 0), ("HSETEX h FXX KEEPTTL FIELDS 2 f z g z", 1),
    ("HSETEX n FXX FIELDS 1 f z", 0),
    ("HSETEX n FNX FIELDS 2 f z f y", 1), ("HSETEX h EX 0 FIELDS 2 f z x z", 1), ("HSETEX n PX 0 FIELDS 1 f z", 1),
    ("HSETEX s FIELDS 1 f z", WRONGTYPE), ("HSETEX h NX XX FIELDS 1 f z", SYNTAX),
    ("HSETEX h FNX FXX FIELDS 1 f z", SYNTAX),
    ("HSETEX h EX 1 KEEPTTL FIELDS 1 f z", SYNTAX), ("HSETEX h KEEPTTL PX 1 FIELDS 1 f z", SYNTAX),
    ("HSETEX h PERSIST FIELDS 1 f z", SYNTAX), ("HSETEX h GET FIELDS 1 f z", SYNTAX),
    ("HSETEX h EX FIELDS 1 f z", SYNTAX),
    ("HSETEX h EX -1 FIELDS 1 f z", invalid("hsetex")), ("HSETEX h FIELDS 2 f z", MISMATCH),
    ("HSETEX h FIELDS 1 f z y", MISMATCH), ("HSETEX h EX 1 1 f z", MISMATCH), ("HSETEX h FIELDS 0 f z", MISMATCH),
    ("HSETEX h EX 1 EX 2 FIELDS 1 f z", 1),
])  # fmt: skip
def test_replies(run: Run, words: str, reply: object) -> None:
    assert run(*words.split()) == reply


@pytest.mark.parametrize(("words", "events"), [
    ("HEXPIRE h 10 FIELDS 2 f g", "hexpire h"), ("HEXPIRE h 10 FIELDS 1 x", ""), ("HEXPIRE h 10 XX FIELDS 1 f", ""),
    ("HEXPIRE h 0 FIELDS 2 f g", "hexpired h"), ("HEXPIRE h 0 FIELDS 3 f g i", "hexpired h, del h"),
    ("HPERSIST h FIELDS 2 f g", "hpersist h"), ("HPERSIST h FIELDS 1 f", ""),
    ("HGETEX h FIELDS 1 f", ""), ("HGETEX h EX 10 FIELDS 1 f", "hexpire h"),
    ("HGETEX h PERSIST FIELDS 1 g", "hpersist h"),
    ("HGETEX h PERSIST FIELDS 1 f", ""), ("HGETEX h EX 0 FIELDS 2 f g", "hexpired h"),
    ("HGETEX h EX 0 FIELDS 3 f g i", "hexpired h, del h"), ("HGETEX h EX 10 FIELDS 1 x", ""),
    ("HSETEX h FIELDS 1 f z", "hset h"), ("HSETEX n FIELDS 1 f z", "new n, hset n"),
    ("HSETEX h EX 10 FIELDS 1 f z", "hset h, hexpire h"), ("HSETEX h KEEPTTL FIELDS 1 f z", "hset h"),
    ("HSETEX h EX 0 FIELDS 1 f z", "hset h, hexpire h, hexpired h"),
    ("HSETEX n EX 0 FIELDS 1 f z", "new n, hset n, hexpire n, hexpired n, del n"),
    ("HSETEX h EX 0 FIELDS 3 f z g z i z", "hset h, hexpire h, hexpired h, del h"), ("HSETEX h NX FIELDS 1 f z", ""),
])  # fmt: skip
def test_events(run: Run, words: str, events: str) -> None:
    run(*words.split())
    assert told(run) == events


def told(run: Run) -> str:
    said = ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events)
    run.events.clear()
    return said


# -- time passes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "before", "after"), [
    ("HGET h g", b"w", None), ("HMGET h f g", [b"v", b"w"], [b"v", None]), ("HEXISTS h g", 1, 0), ("HSTRLEN h g", 1, 0),
    ("HLEN h", 3, 2), ("HKEYS h", [b"f", b"g", b"i"], [b"f", b"i"]), ("HVALS h", [b"v", b"w", b"5"], [b"v", b"5"]),
    ("HSCAN h 0 NOVALUES", [b"0", [b"f", b"g", b"i"]], [b"0", [b"f", b"i"]]), ("HTTL h FIELDS 1 g", [0], [-2]),
    ("HRANDFIELD h 9", [b"f", b"g", b"i"], [b"f", b"i"]), ("HDEL h g", 1, 0), ("HGETDEL h FIELDS 1 g", [b"w"], [None]),
    ("HPERSIST h FIELDS 1 g", [1], [-2]), ("HEXPIRE h 9 FIELDS 1 g", [1], [-2]),
    ("HGETEX h FIELDS 1 g", [b"w"], [None]),
    ("HSETNX h g z", 0, 1), ("HSET h g z", 0, 1), ("HINCRBY h g 1", Failed("ERR hash value is not an integer"), 1),
    ("HSETEX h FNX FIELDS 1 g z", 0, 1), ("HSETEX h FXX FIELDS 1 g z", 1, 0),
])  # fmt: skip
def test_a_field_is_there_until_its_deadline_and_not_at_it(run: Run, words: str, before: object, after: object) -> None:
    run.now_ms = NOW + 4999
    assert Run.__call__(copy_of(run), *words.split()) == before
    run.now_ms = NOW + 5000
    assert run(*words.split()) == after


def copy_of(run: Run) -> Run:
    """Another run in the same state."""
    twin = Run(TABLE)
    twin.now_ms = run.now_ms
    setup: tuple[tuple[object, ...], ...] = (
        ("SET", "s", "v"),
        ("HSET", "h", "f", "v", "g", "w", "i", "5"),
        ("HPEXPIREAT", "h", NOW + 5000, "FIELDS", 1, "g"),
    )
    for words in setup:
        twin(*words)
    return twin


def test_what_becomes_of_a_deadline(run: Run) -> None:
    def left() -> Any:
        return run("HPTTL", "h", "FIELDS", 1, "g")[0]

    run("HSETEX", "h", "KEEPTTL", "FIELDS", 1, "g", "7")
    assert left() == 5000
    run("HINCRBY", "h", "g", 1)
    run("HINCRBYFLOAT", "h", "g", "0.5")
    assert (run("HGET", "h", "g"), left()) == (b"8.5", 5000)
    run("HSET", "h", "g", "x")
    assert left() == -1
    assert run.ks.dbs[0].fields.count == 0
    run("HEXPIRE", "h", 5, "FIELDS", 1, "g")
    run("HSETEX", "h", "FIELDS", 1, "g", "y")
    assert left() == -1
    run("HSETEX", "h", "EX", 7, "FIELDS", 1, "g", "y")
    assert left() == 7000
    run("HDEL", "h", "g")
    run("HSET", "h", "g", "z")
    assert left() == -1


def test_a_hash_with_a_deadline_of_a_field_is_no_listpack_any_more(run: Run) -> None:
    run("HSET", "plain", "f", "v")
    assert run("OBJECT", "ENCODING", "plain") == b"listpack"
    run("HEXPIRE", "plain", 0, "FIELDS", 1, "x")
    assert run("OBJECT", "ENCODING", "plain") == b"listpack"
    run("HGETEX", "plain", "PERSIST", "FIELDS", 1, "f")
    assert run("OBJECT", "ENCODING", "plain") == b"listpack"
    run("HEXPIRE", "plain", 10, "FIELDS", 1, "f")
    assert run("OBJECT", "ENCODING", "plain") == b"hashtable"
    run("HPERSIST", "plain", "FIELDS", 1, "f")
    assert run("OBJECT", "ENCODING", "plain") == b"hashtable"


@pytest.mark.parametrize("words", ["HSET h a b", "TYPE h", "HGET h f", "EXISTS h", "HDEL h f", "RENAME h k", "HLEN h"])
def test_the_last_field_to_expire_takes_the_key_along(run: Run, words: str) -> None:
    run("HPEXPIRE", "h", 10, "FIELDS", 2, "f", "i")
    run.events.clear()
    run.now_ms = NOW + 5000
    missing = run("RENAME", "none", "k")
    reply = run(*words.split())
    expected = {"HSET": 1, "TYPE": None, "HGET": None, "EXISTS": 0, "HDEL": 0, "RENAME": missing, "HLEN": 0}
    if words != "TYPE h":
        assert reply == expected[words.partition(" ")[0]]
    db = run.ks.dbs[0]
    run("DEL", "none")
    if words.startswith("HSET"):
        assert told(run) == "hexpired h, del h, new h, hset h"
    else:
        assert run("DEL", "h") == 0
        assert db.size == 1
    assert (db.fields.count, db.nexp) == (0, 0)
    assert run.ks.expired_fields == 3


def test_a_read_before_any_later_entry_asks_for_a_tick(run: Run) -> None:
    ks = run.ks
    run.now_ms = NOW + 4999
    assert run("HGET", "h", "g") == b"w"
    assert not ks.tick_needed
    run.now_ms = NOW + 5000
    assert run("HGET", "h", "f") == b"v"
    assert ks.tick_needed
    ks.tick_needed = False
    # An entry has carried the time, but nothing has touched the hash.
    ks.log_ms = NOW + 5000
    assert run("HGET", "h", "g") is None
    assert not ks.tick_needed
    stored = ks.dbs[0].peek(b"h")
    assert isinstance(stored, Hash)
    assert stored.get(b"g") == b"w"


def test_sweeps_find_the_hashes_that_are_due(run: Run) -> None:
    db = run.ks.dbs[0]
    for i in range(50):
        run("HSETEX", f"h{i}", "PX", 1000 + i, "FIELDS", 2, "a", 1, "b", 2)
        if i % 2:
            run("HSETEX", f"h{i}", "PX", 9000, "FIELDS", 1, "c", 1)
    assert db.fields.due_keys(NOW + 999, 100) == []
    assert db.fields.due_keys(NOW + 1009, 100) == [b"h%d" % i for i in range(10)]
    assert db.fields.due_keys(NOW + 1009, 4) == [b"h0", b"h1", b"h2", b"h3"]
    run.now_ms = NOW + 1049
    for key in db.fields.due_keys(run.now_ms, 100):
        run("DEL", key.replace(b"h", b"none"))
        swept(run, key)
    assert db.fields.due_keys(run.now_ms, 100) == []
    assert db.size == 2 + 25
    assert db.fields.count == 26
    assert run.ks.expired_fields == 100
    assert set(told(run).split(", ")) >= {"hexpired h0", "del h0", "hexpired h1"}


def swept(run: Run, key: bytes) -> None:
    """What a sweep does for one key."""
    ks = run.ks
    run.wctx.events = []
    ks.now_ms = ks.log_ms = run.now_ms
    ks.writing = True
    ks.dbs[0].get(key)
    ks.writing = False
    run.events += run.wctx.events


def test_a_queue_grown_long_is_trimmed_and_still_finds_all(run: Run) -> None:
    db = run.ks.dbs[0]
    run.check_undo = False
    for i in range(3000):
        run("HEXPIRE", "h", 10**6 - i, "FIELDS", 1, "f")
        run("RENAME", "h", "k")
        run("RENAME", "k", "h")
    run("HEXPIRE", "h", 10, "FIELDS", 1, "f")
    assert len(db.fields.queue) < 2500
    assert db.fields.due_keys(NOW + 5000, 10) == [b"h"]


# -- wherever hashes go --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "key", "number"), [
    ("RENAME h k", "k", 0), ("COPY h k", "k", 0), ("MOVE h 1", "h", 1), ("COPY h k DB 1", "k", 1),
    ("RENAME h s", "s", 0),
])  # fmt: skip
def test_deadlines_go_along(run: Run, words: str, key: str, number: int) -> None:
    run(*words.split())
    db = run.ks.dbs[number]
    run.db = number
    assert run("HPEXPIRETIME", key, "FIELDS", 2, "g", "f") == [NOW + 5000, -1]
    assert db.fields.due_keys(NOW + 5000, 9) == ([b"h", b"k"] if words == "COPY h k" else [key.encode()])
    counted(run)
    run.now_ms = NOW + 5000
    assert run("HLEN", key) == 2


@pytest.mark.parametrize("words", ["SET h x", "DEL h", "FLUSHALL", "RENAME s h", "SUNIONSTORE h none", "EXPIREAT h 1"])
def test_deadlines_go_with_the_hash(run: Run, words: str) -> None:
    run(*words.split())
    counted(run)
    assert run.ks.dbs[0].fields.count == 0
    assert run.ks.dbs[0].fields.due_keys(NOW + 10**9, 9) == []


def counted(run: Run, databases: int = 2) -> None:
    """Counts are exact, and the queue knows of every hash."""
    for db in run.ks.dbs[:databases]:
        timed = {
            key: value for key, value in stored(db).items() if isinstance(value, Hash) and value.deadlines is not None
        }
        assert db.fields.count == len(timed)
        assert db.nexp == len(timed) + sum(len(e) for e in db.exps if e)
        for key, value in timed.items():
            assert value.deadlines is not None
            assert value.deadlines.at_ms.keys() <= value.fields.keys()
            assert not value.packed
            assert value.deadlines.next_ms() == min(value.deadlines.at_ms.values())
            assert any(at_ms <= value.deadlines.next_ms() for at_ms, queued in db.fields.queue if queued == key)


def stored(db: Db) -> dict[bytes, object]:
    return {key: value for mapping in db.slots if mapping for key, value in mapping.items()}


def test_dump_and_restore_keep_deadlines(run: Run) -> None:
    payload = run("DUMP", "h")
    assert payload[0] == 22
    assert payload[-10:-8] == b"\x50\x00"
    assert payload[1:-10] == (
        b"\x03\x01f\x01v"
        + b"\xff" * 8
        + b"\x01g\x01w"
        + (NOW + 5000).to_bytes(8, "little")
        + b"\x01i\xc0\x05"
        + b"\xff" * 8
    )
    assert run("RESTORE", "k", 0, payload) is not None
    assert run("HPEXPIRETIME", "k", "FIELDS", 3, "f", "g", "i") == [-1, NOW + 5000, -1]
    counted(run)
    run.now_ms = NOW + 5000
    assert run("HLEN", "k") == 2
    assert run("DUMP", "h")[0] == 4
    run("RESTORE", "late", 0, payload)
    assert run("HGETALL", "late").flat == [b"f", b"v", b"i", b"5"]
    counted(run)


def test_damaged_dumps_are_refused() -> None:
    run = Run(TABLE)
    run("HSETEX", "h", "PXAT", 2 * NOW, "FIELDS", 1, "f", "v")
    value = run.ks.dbs[0].peek(b"h")
    assert isinstance(value, Hash)
    value.set_deadline(b"f", -2)
    assert run("RESTORE", "k", 0, dump_payload(value)) == Failed("ERR Bad data format")
    value.set_deadline(b"f", 0)
    loaded = load_payload(dump_payload(value))
    assert isinstance(loaded, Hash)
    assert loaded.deadline(b"f") == 0


def test_the_digest_tells_deadlines_apart() -> None:
    seen = set()
    for words in ((), ("HPEXPIREAT", "h", 2 * NOW, "FIELDS", 1, "f"), ("HPEXPIREAT", "h", 2 * NOW, "FIELDS", 1, "g"),
                  ("HPEXPIREAT", "h", 2 * NOW + 1, "FIELDS", 1, "g")):  # fmt: skip
        run = Run(TABLE)
        run("HSET", "h", "f", "v", "g", "w")
        if words:
            run(*words)
        seen.add(digest(run.ks))
        run("HPERSIST", "h", "FIELDS", 2, "f", "g")
        seen.add(digest(run.ks))
    assert len(seen) == 4


# -- a model -------------------------------------------------------------------------------------------------------


class Model:
    """Hashes as dicts of (value, deadline or None); written from the documentation, one command a method."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, tuple[str, int | None]]] = {}
        self.now = NOW

    def at(self, key: str) -> dict[str, tuple[str, int | None]]:
        live = {f: (v, t) for f, (v, t) in self.hashes.get(key, {}).items() if t is None or t > self.now}
        self.hashes[key] = live
        return live

    def hset(self, key: str, fields: list[str], value: str) -> int:
        old = set(self.at(key))
        for field in fields:
            self.at(key)[field] = (value, None)
        return len(set(fields) - old)

    def hdel(self, key: str, fields: list[str]) -> int:
        return sum(self.at(key).pop(field, None) is not None for field in fields)

    def hpexpireat(self, key: str, fields: list[str], at: int, condition: str) -> list[int]:
        return [self.expire_one(self.at(key), field, at, condition) for field in fields]

    def expire_one(self, fields: dict[str, tuple[str, int | None]], field: str, at: int, condition: str) -> int:
        if field not in fields:
            return -2
        value, old = fields[field]
        holds = {"": True, "NX": old is None, "XX": old is not None, "GT": old is not None and at > old,
                 "LT": old is None or at < old}[condition]  # fmt: skip
        if not holds:
            return 0
        if at <= self.now:
            del fields[field]
            return 2
        fields[field] = (value, at)
        return 1

    def hpersist(self, key: str, fields: list[str]) -> list[int]:
        out = []
        for field in fields:
            value, old = self.at(key).get(field, (None, None))
            out.append(-2 if value is None else -1 if old is None else 1)
            if value is not None:
                self.at(key)[field] = (value, None)
        return out

    def hsetex(self, key: str, fields: list[str], value: str, option: str, at: int | None, keep: bool) -> int:
        live = self.at(key)
        if (option == "NX" and live) or (option == "XX" and not live):
            return 0
        if (option == "FNX" and any(f in live for f in fields)) or (
            option == "FXX" and any(f not in live for f in fields)
        ):
            return 0
        for field in fields:
            if at is not None and at <= self.now:
                live.pop(field, None)
            else:
                live[field] = (value, live.get(field, ("", None))[1] if keep else at)
        return 1

    def hgetex(self, key: str, fields: list[str], at: int | None, persist: bool) -> list[str | None]:
        out = []
        for field in fields:
            value = self.at(key).get(field, (None, None))[0]
            out.append(value)
            if value is None:
                continue
            if at is not None and at <= self.now:
                del self.at(key)[field]
            elif at is not None or persist:
                self.at(key)[field] = (value, at)
        return out


KEYS = ("a", "b", "c")
FIELDS = ("f", "g", "h", "i", "j")


def step(dice: Random, run: Run, model: Model) -> tuple[Any, Any, list[Any]]:
    """One command on both; (reply, the model's reply, the words)."""
    key = dice.choice(KEYS)
    fields = [dice.choice(FIELDS) for _ in range(dice.choice((1, 1, 2, 3)))]
    tail = ["FIELDS", len(fields)]
    at = run.now_ms + dice.choice((-5, 0, 1, 3, 10, 50, 200))
    value = str(dice.randrange(100))
    pairs = [word for field in fields for word in (field, value)]
    name = dice.choice(("HSET", "HDEL", "HPEXPIREAT", "HPEXPIREAT", "HPERSIST", "HSETEX", "HSETEX", "HGETEX", "HPTTL",
                        "HGETALL", "HINCRBY", "RENAME", "COPY", "HLEN", "DEL"))  # fmt: skip
    words: list[Any]
    wanted: Any
    if name == "HSET":
        words, wanted = [name, key, *pairs], model.hset(key, fields, value)
    elif name == "HDEL":
        words, wanted = [name, key, *fields], model.hdel(key, fields)
    elif name == "HPEXPIREAT":
        condition = dice.choice(("", "", "NX", "XX", "GT", "LT"))
        words = [name, key, at, *([condition] if condition else []), *tail, *fields]
        wanted = model.hpexpireat(key, fields, at, condition)
    elif name == "HPERSIST":
        words, wanted = [name, key, *tail, *fields], model.hpersist(key, fields)
    elif name == "HSETEX":
        option = dice.choice(("", "", "NX", "XX", "FNX", "FXX"))
        timing = dice.choice(("", "KEEPTTL", "PXAT", "PXAT"))
        words = [name, key, *([option] if option else []), *([timing] if timing else []),
                 *([at] if timing == "PXAT" else []), *tail, *pairs]  # fmt: skip
        wanted = model.hsetex(key, fields, value, option, at if timing == "PXAT" else None, timing == "KEEPTTL")
    elif name == "HGETEX":
        timing = dice.choice(("", "PERSIST", "PXAT"))
        words = [name, key, *([timing] if timing else []), *([at] if timing == "PXAT" else []), *tail, *fields]
        wanted = model.hgetex(key, fields, at if timing == "PXAT" else None, timing == "PERSIST")
        wanted = [None if content is None else content.encode() for content in wanted]
    elif name == "HPTTL":
        words = [name, key, *tail, *fields]
        known = model.at(key)
        wanted = [-2 if f not in known else -1 if (t := known[f][1]) is None else t - run.now_ms for f in fields]
    elif name == "HINCRBY":
        words = [name, key, fields[0], 1]
        content, deadline = model.at(key).get(fields[0], ("0", None))
        model.at(key)[fields[0]] = (str(int(content) + 1), deadline)
        wanted = int(content) + 1
    elif name in ("RENAME", "COPY"):
        other = dice.choice([k for k in KEYS if k != key])
        words = [name, key, other, *(["REPLACE"] if name == "COPY" else [])]
        wanted = Failed("ERR no such key") if name == "RENAME" else 0
        if model.at(key):
            model.hashes[other] = dict(model.at(key))
            wanted = 1
            if name == "RENAME":
                model.hashes[key] = {}
                wanted = b"OK"
    elif name == "DEL":
        words, wanted = [name, key], int(bool(model.at(key)))
        model.hashes[key] = {}
    elif name == "HLEN":
        words, wanted = [name, key], len(model.at(key))
    else:
        words = [name, key]
        wanted = {f.encode(): v.encode() for f, (v, _) in model.at(key).items()}
    reply = run(*words)
    if isinstance(reply, Map):
        reply = {reply.flat[i]: reply.flat[i + 1] for i in range(0, len(reply.flat), 2)}
    return getattr(reply, "text", reply) if not isinstance(reply, Failed) else reply, wanted, words


def test_random_programs_equal_a_model() -> None:
    for seed in range(80):
        dice = Random(seed)
        run, model = Run(TABLE), Model()
        run.check_undo = seed % 8 == 0
        program = []
        for i in range(120):
            if dice.random() < 0.3:
                run.now_ms = model.now = run.now_ms + dice.choice((1, 2, 10, 100))
            if dice.random() < 0.1:
                for key in run.ks.dbs[0].fields.due_keys(run.now_ms, dice.choice((1, 10))):
                    swept(run, key)
            reply, wanted, words = step(dice, run, model)
            program.append((run.now_ms, words))
            assert reply == wanted, f"seed {seed}: {program[-15:]}"
            if i % 10 == 0:
                counted(run, 1)


def test_events_of_expired_fields_need_no_listener() -> None:
    run = Run(TABLE)
    run.wctx.notify_mask = 0
    run("HSETEX", "h", "PX", 5, "FIELDS", 1, "f", "v")
    run.now_ms += 5
    run("HDEL", "h", "f")
    assert run.events == []
    run.wctx.notify_mask = EVERY_EVENT
    assert run("EXISTS", "h") == 0


def test_replies_that_are_shared_are_constants() -> None:
    assert (hashes_expire.NO_FIELD, hashes_expire.NO_DEADLINE, hashes_expire.REFUSED) == (-2, -1, 0)
    assert (hashes_expire.DONE, hashes_expire.GONE) == (1, 2)
