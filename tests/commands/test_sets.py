"""Set commands: events, RESP3, chance, encodings, and keys that empty."""

from __future__ import annotations

import pytest

from durakv.commands.table import Table
from durakv.resp.types import SetReply
from tests.commands.collection_programs import TABLE
from tests.commands.running import Failed, Run

WRONGTYPE = Failed("WRONGTYPE Operation against a key holding the wrong kind of value")


@pytest.fixture(scope="module")
def table() -> Table:
    return TABLE


@pytest.mark.parametrize(("command", "events"), [
    ("SADD n a", "new n, sadd n"), ("SADD p a", ""), ("SADD p a z", "sadd p"), ("SREM p a", "srem p"), ("SREM p z", ""),
    ("SREM p a b", "srem p, del p"), ("SMOVE p q a", "srem p, sadd q"), ("SMOVE p q b", "srem p"), ("SMOVE p p a", ""),
    ("SMOVE one n x", "srem one, del one, new n, sadd n"), ("SPOP p", "spop p"), ("SPOP one", "spop one, del one"),
    ("SPOP p 1", "spop p"), ("SPOP p 9", "spop p, del p"), ("SPOP p 0", ""),
    ("SUNIONSTORE n p q", "new n, sunionstore n"),
    ("SINTERSTORE p p q", "sinterstore p"), ("SINTERSTORE p p one", "del p"), ("SINTERSTORE n p one", ""),
    ("SDIFFSTORE s p q", "sdiffstore s"),
])  # fmt: skip
def test_events(run: Run, command: str, events: str) -> None:
    run("SET", "s", "v")
    run("SADD", "p", "a", "b")
    run("SADD", "q", "b", "c")
    run("SADD", "one", "x")
    run.events.clear()
    run(*command.split())
    assert ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events) == events


@pytest.mark.parametrize(("words", "reply"), [
    ("SMOVE n s a", 0), ("SMOVE p s a", WRONGTYPE), ("SMOVE s p a", WRONGTYPE),
    ("SPOP p x y", Failed("ERR syntax error")),
    ("SPOP p -1", Failed("ERR value is out of range, must be positive")), ("SPOP n", None),
    ("SRANDMEMBER p 1 2", Failed("ERR syntax error")), ("SRANDMEMBER n", None), ("SRANDMEMBER n 3", []),
    ("SRANDMEMBER p -4194305", Failed("ERR value is out of range")),
    ("SINTERCARD 0 p", Failed("ERR numkeys should be greater than 0")),
    ("SINTERCARD 2 p", Failed("ERR Number of keys can't be greater than number of args")),
    ("SINTERCARD 1 p LIMIT -1", Failed("ERR LIMIT can't be negative")), ("SINTERCARD 1 p LIMIT 1", 1),
    ("SINTERCARD 1 p LIMIT 0", 2), ("SINTERCARD 1 p LIMIT", Failed("ERR syntax error")),
    ("SINTER n s", WRONGTYPE), ("SUNION p s", WRONGTYPE), ("SDIFF n s", WRONGTYPE), ("SINTERSTORE s p s", WRONGTYPE),
])  # fmt: skip
def test_replies(run: Run, words: str, reply: object) -> None:
    run("SET", "s", "v")
    run("SADD", "p", "a", "b")
    assert run(*words.split()) == reply


def test_resp3_shapes(run: Run) -> None:
    run("SADD", "p", "a")
    for words in (["SMEMBERS", "p"], ["SINTER", "p"], ["SUNION", "p"], ["SDIFF", "p"]):
        assert run.wire(*words, protocol=3) == b"~1\r\n$1\r\na\r\n"
    assert run.wire("SRANDMEMBER", "p", "2", protocol=3) == b"*1\r\n$1\r\na\r\n"
    assert run.wire("SPOP", "p", "2", protocol=3) == b"~1\r\n$1\r\na\r\n"
    assert run.wire("SPOP", "p", "2", protocol=3) == b"~0\r\n"
    assert run.wire("SMEMBERS", "p", protocol=3) == b"~0\r\n"


@pytest.mark.parametrize(
    "last", ["SREM p a", "SPOP p", "SPOP p 1", "SMOVE p q a", "SDIFFSTORE p p p", "SINTERSTORE p p n"]
)
def test_the_last_member_takes_the_key(run: Run, last: str) -> None:
    run("SADD", "p", "a")
    run(*last.split())
    assert run("EXISTS", "p") == 0


def test_popping_draws_different_members_until_none_is_left(run: Run) -> None:
    members = {b"%d" % i for i in range(200)}
    run("SADD", "p", *members)
    first = {run("SPOP", "p") for _ in range(50)}
    assert len(first) == 50
    popped = run("SPOP", "p", "100")
    assert isinstance(popped, SetReply)
    second = set(popped.items)
    assert len(second) == 100
    rest = set(run("SMEMBERS", "p").items)
    assert first | second | rest == members
    assert len(rest) == 50


def test_the_same_seed_pops_the_same_members() -> None:
    replies = []
    for _ in range(2):
        run = Run(TABLE)
        run("SADD", "p", *range(100))
        replies.append([run("SPOP", "p"), run("SPOP", "p", "10").items])
    assert replies[0] == replies[1]


def test_popping_a_number_of_members_favours_no_position(run: Run) -> None:
    popped: set[bytes] = set()
    for _ in range(60):
        run("DEL", "p")
        run("SADD", "p", *range(20))
        popped.update(run("SPOP", "p", "3").items)
    assert popped == {b"%d" % i for i in range(20)}


def test_random_members(run: Run) -> None:
    members = {b"%d" % i for i in range(20)}
    run("SADD", "p", *members)
    assert {run("SRANDMEMBER", "p") for _ in range(400)} == members
    chosen = run("SRANDMEMBER", "p", "12")
    assert len(chosen) == len(set(chosen)) == 12
    assert len(run("SRANDMEMBER", "p", "-50")) == 50
    assert run("SCARD", "p") == 20


@pytest.mark.parametrize(("command", "name"), [
    ("SADD n 1 2", b"intset"), ("SADD n 1 a", b"listpack"), ("SADD n a " + "x" * 65, b"hashtable"),
    ("SUNIONSTORE n ints words", b"listpack"), ("SINTERSTORE n ints both", b"intset"),
    ("SDIFFSTORE n both ints", b"listpack"),
    ("SADD n " + " ".join(map(str, range(513))), b"hashtable"), ("SADD n " + " ".join(["a"] * 129), b"hashtable"),
])  # fmt: skip
def test_encodings(run: Run, command: str, name: bytes) -> None:
    run("SADD", "ints", "1", "2")
    run("SADD", "words", "a")
    run("SADD", "both", "1", "a")
    run(*command.split())
    assert run("OBJECT", "ENCODING", "n") == name


def test_a_scan_in_pages_finds_every_member(run: Run) -> None:
    run("SADD", "p", *range(1500))
    cursor, found = b"0", set[bytes]()
    while True:
        cursor, page = run("SSCAN", "p", cursor, "COUNT", "50")
        found.update(page)
        if cursor == b"0":
            break
    assert found == {b"%d" % i for i in range(1500)}
