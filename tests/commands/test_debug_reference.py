"""DEBUG against a live valkey-server: the same bytes, texts and digests; and what is not offered says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from durakv.commands.spec import WRITE
from durakv.commands.table import build_table
from durakv.observe.events import Notice
from durakv.resp.types import OK
from tests.commands.fake_services import FakeNode, error, run, wire
from tests.commands.reference_server import running
from tests.engine.rig import Rig

KINDS = "string integer double bignum null array set map attrib push verbatim true false nope".split()
# Requests that both take or refuse with the same reply.
SAME = [
    "CHANGE-REPL-ID", "CHANGE-REPL-ID x", "DIGEST x", "DIGEST-VALUE", "ERROR", "ERROR boom", "HTSTATS", "HTSTATS 99",
    "HTSTATS x",
    "HTSTATS -1", "LISTPACK", "LISTPACK nope", "LISTPACK s", "LISTPACK l", "LOG", "LOG hello", "OBJECT nope",
    "OBJECT", "PROTOCOL",
    "QUICKLIST-PACKED-THRESHOLD 100b", "QUICKLIST-PACKED-THRESHOLD 0", "QUICKLIST-PACKED-THRESHOLD x",
    "QUICKLIST-PACKED-THRESHOLD 5gb", "QUICKLIST-PACKED-THRESHOLD -1", "RELOAD x", "RELOAD", "REPLYBUFFER",
    "REPLYBUFFER resizing 0", "REPLYBUFFER peak-reset-time never", "REPLYBUFFER x", "REPLYBUFFER x y",
    "SET-ACTIVE-EXPIRE 1",
    "SET-ACTIVE-EXPIRE x", "SET-ACTIVE-EXPIRE", "SET-ACTIVE-EXPIRE 1", "SLEEP 0", "SLEEP", "SLEEP x", "NOPE",
    "HTSTATS-KEY nope",
    "HTSTATS-KEY l",
]  # fmt: skip
DATA = [
    "SET s text", "SET n 12345", "SET f -0.5", "RPUSH l a b 17 c", "SADD t 1 2 3", "SADD u x y 1", "HSET h f 1 g two",
    "ZADD z 1 a 2.5 b -0 c 1e17 d 3.0e-9 e inf f 100 g", "XADD x 1-1 a 1 b 2", "XADD x 2-0 a 3", "XDEL x 1-1",
    "XADD x 3-5 c d",
    "SET gone v PX 10000000000", "SELECT 3", "SET other db", "SETBIT bits 7 1", "PFADD pf a b", "APPEND s more",
    "GEOADD geo 13.361389 38.115556 a", "SELECT 0",
]  # fmt: skip


@pytest.fixture(scope="module")
def connect() -> Iterator[Any]:
    with running("--enable-debug-command", "yes") as factory:
        if b"valkey_version" not in factory()("INFO", "server"):
            pytest.skip("needs valkey-server on PATH")
        yield factory


@pytest.fixture
def node() -> FakeNode:
    node = FakeNode(build_table())
    node.settings.load("enable-debug-command", "yes")
    return node


@pytest.mark.live
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_sample_replies_have_the_same_bytes(connect: Any, node: FakeNode, kind: str, protocol: int) -> None:
    reference = connect()
    reference("HELLO", protocol)
    expected = reference.raw("DEBUG", "PROTOCOL", kind)
    assert wire(node, node.client(protocol), f"DEBUG PROTOCOL {kind}") == expected


@pytest.mark.live
def test_the_same_requests_are_answered_alike(connect: Any, node: FakeNode) -> None:
    reference, s = connect(), node.client()
    reference("FLUSHALL")
    for words in ("SET s text", "RPUSH l a b"):
        reference(*words.split())
        run(node, s, words)
    different = []
    for words in SAME:
        ours, theirs = wire(node, s, "DEBUG " + words), reference.raw("DEBUG", *words.split())
        if ours != theirs:
            different.append((words, ours, theirs))
    assert different == []


@pytest.mark.live
def test_the_same_data_have_the_same_digest(connect: Any, node: FakeNode) -> None:
    reference, s = connect(), node.client()
    reference("FLUSHALL")
    for words in DATA:
        reference(*words.split())
        assert not str(run(node, s, words)).startswith("ERR")
        assert wire(node, s, "DEBUG DIGEST") == reference.raw("DEBUG", "DIGEST"), words
    keys = "s n f l t u h z x gone bits pf geo nope"
    assert wire(node, s, f"DEBUG DIGEST-VALUE {keys}") == reference.raw("DEBUG", "DIGEST-VALUE", *keys.split())


@pytest.mark.live
def test_objects_are_told_in_the_same_words(connect: Any, node: FakeNode) -> None:
    reference, s = connect(), node.client()
    reference("FLUSHALL")
    for words in ("SET s text", "SET n 123456", "RPUSH l a b", "SADD t a b", "HSET h a b"):
        reference(*words.split())
        run(node, s, words)
    for key in "sntlh":
        told = dict(part.split(":", 1) for part in reference("DEBUG", "OBJECT", key).decode().split()[1:])
        ours = dict(part.split(":", 1) for part in wire(node, s, f"DEBUG OBJECT {key}").decode().split()[1:])
        assert ours["encoding"] == told["encoding"]
        assert set(ours) <= set(told)
    theirs = reference("DEBUG", "HTSTATS", "0").decode().splitlines()
    lines = run(node, s, "DEBUG HTSTATS 0").text.decode().splitlines()  # type: ignore[attr-defined]
    assert lines[:2] == theirs[:2] and "[Expires HT]" in lines
    assert " number of entries: 5" in lines


def test_what_is_not_offered_says_why(node: FakeNode) -> None:
    s = node.client()
    for word in ("JMAP", "populate 10", "LOADAOF", "SEGFAULT", "REPLICATE x", "RESTART"):
        text = error(node, s, f"DEBUG {word}")
        assert text.startswith(f"ERR DEBUG {word.split()[0].upper()} ") and "unknown" not in text


def test_a_line_goes_to_the_log(node: FakeNode) -> None:
    assert run(node, node.client(), "DEBUG LOG hello") is OK
    assert node.events == [Notice("debug-log", "hello")]


def test_patterns_may_be_tried(node: FakeNode) -> None:
    s = node.client()
    assert run(node, s, "DEBUG STRINGMATCH-LEN 100000 a*a*a*b") is OK
    assert error(node, s, "DEBUG STRINGMATCH-LEN x a") == "ERR value is not an integer or out of range"


def test_keys_are_left_to_expire_by_reads_alone() -> None:
    rig = Rig(enable_debug_command="yes")
    a = rig.client()
    rig.ask(a, "DEBUG SET-ACTIVE-EXPIRE 0", "SET k v PX 50")
    for _ in range(5):
        rig.pass_ms(100)
        rig.settle()
    assert rig.ks.dbs[0].size == 1
    assert rig.ask(a, "GET k") == [None]
    rig.ask(a, "SET k v PX 50", "DEBUG SET-ACTIVE-EXPIRE 1")
    for _ in range(5):
        rig.pass_ms(100)
        rig.settle()
    assert rig.ks.dbs[0].size == 0
    assert all(row.kind != WRITE for row in rig.table.all if row.name == "debug")
