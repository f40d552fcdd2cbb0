"""FUNCTION and FCALL: as a stock server does it, and as replicated state."""

from __future__ import annotations

from typing import Any

import pytest

from durakv.keyspace import journal
from durakv.keyspace.digest import digest
from durakv.resp.errors import CommandError
from tests.engine.rig import Rig
from tests.scripting import corpus_libraries
from tests.scripting.replay import replayed
from tests.scripting.stock import Pair

# Libraries that keep something in variables from one call to the next: here every call starts afresh.
KEEPS_STATE = b"t.x"


def library(name: str, function: str, body: str = "return 'hello'", flags: str = "") -> str:
    options = f", flags={{{flags}}}" if flags else ""
    callback = f"function(keys, args) {body} end"
    return f"#!lua name={name}\nredis.register_function{{function_name='{function}', callback={callback}{options}}}"


def listing(reply: Any) -> Any:
    """FUNCTION LIST without the order, which is that of a hash table there."""
    if not isinstance(reply, list):
        return reply
    for entry in reply:
        for function in entry[5]:
            function[5].sort()
        entry[5].sort()
    return sorted(reply)


def compare_listing(pair: Pair, *options: str) -> None:
    theirs = listing(pair.stock("FUNCTION", "LIST", *options))
    assert listing(pair.ours("FUNCTION", "LIST", *options)) == theirs


def test_libraries_that_do_and_do_not_load(pair: Pair) -> None:
    for code in corpus_libraries.LIBRARIES:
        pair("FUNCTION", "LOAD", code)
        compare_listing(pair)
    pair("FUNCTION", "STATS")
    pair.agreed(len(corpus_libraries.LIBRARIES))


def test_what_libraries_register_and_do(pair: Pair) -> None:
    for body in corpus_libraries.BODIES:
        if KEEPS_STATE in body:
            continue
        pair("FUNCTION", "LOAD", "REPLACE", b"#!lua name=r\n" + body)
        pair("FCALL", "a", 1, "k", "v")
        pair("FCALL_RO", "a", 1, "k", "v")
        compare_listing(pair, "WITHCODE")
    pair.agreed(3 * (len(corpus_libraries.BODIES) - 1))


def test_options_names_and_counts(pair: Pair) -> None:
    pair("FUNCTION", "LOAD", library("test", "test"))
    for words in (
        ("LOAD", library("test", "test")), ("LOAD", library("other", "TEST")), ("LOAD", "x", library("a", "a")),
        ("LOAD", "REPLACE", "REPLACE", library("test", "test")), ("LOAD", "replace", library("test", "test")),
        ("DELETE", "nosuch"), ("DELETE",), ("LIST", "LIBRARYNAME"), ("LIST", "WITHCODE", "WITHCODE"), ("LIST", "foo"),
        ("LIST", "LIBRARYNAME", "A", "LIBRARYNAME", "B"), ("STATS",), ("STATS", "x"), ("KILL",), ("NOSUCH",), (),
        ("LOAD",), ("FLUSH", "BAD"), ("FLUSH", "SYNC", "x"), ("DUMP", "x"), ("RESTORE",), ("RESTORE", "x", "y", "z"),
        ("RESTORE", "x", "y"), ("RESTORE", "x"), ("RESTORE", "x" * 20),
    ):  # fmt: skip
        pair("FUNCTION", *words)
    for call in (
        ("test", 0), ("TEST", 0), ("nosuch", 0), ("test",), ("test", "x"), ("test", 10), ("test", -1), ("test", " 1"),
        ("test", "9223372036854775808"),
    ):  # fmt: skip
        pair("FCALL", *call)
        pair("FCALL_RO", *call)
    compare_listing(pair, "LIBRARYNAME", "te*", "WITHCODE")
    compare_listing(pair, "LIBRARYNAME", "TE*")
    pair.agreed(40)


def test_dumps_are_exchanged_and_policies_hold(pair: Pair) -> None:
    for server in (pair.stock, pair.ours):
        assert server("FUNCTION", "LOAD", library("one", "f1")) == b"one"
        assert server("FUNCTION", "LOAD", library("two", "f2", flags="'no-writes'")) == b"two"
    for payload in (pair.stock("FUNCTION", "DUMP"), pair.ours("FUNCTION", "DUMP")):
        # Which of several collisions is named depends on the order of a hash table there.
        pair("FUNCTION", "DELETE", "two")
        for options in ((), ("APPEND",), ("replace",), ("FLUSH",), ("bad",)):
            pair("FUNCTION", "RESTORE", payload, *options)
            compare_listing(pair, "WITHCODE")
        pair("FUNCTION", "RESTORE", payload[:-1] + bytes([payload[-1] ^ 1]))
        pair("FUNCTION", "DELETE", "two")
        # A function of another library is in the way: nothing of the payload is taken over.
        pair("FUNCTION", "LOAD", library("three", "F2"))
        for policy in ("APPEND", "REPLACE"):
            pair("FUNCTION", "RESTORE", payload, policy)
            compare_listing(pair, "WITHCODE")
        pair("FUNCTION", "DELETE", "one")
        pair("FUNCTION", "RESTORE", payload)
        compare_listing(pair)
        pair("FUNCTION", "RESTORE", payload, "FLUSH")
        compare_listing(pair)
    pair("FUNCTION", "FLUSH")
    empty = pair.stock("FUNCTION", "DUMP")
    pair("FUNCTION", "RESTORE", empty)
    pair.agreed(28)


def test_functions_are_in_the_log_and_in_the_digest() -> None:
    rig = Rig()
    client = rig.client()
    seen = {digest(rig.ks)}

    def ask(*words: str | bytes) -> object:
        argv = [word if isinstance(word, bytes) else word.encode() for word in words]
        (reply,) = rig.ask(client, argv)
        copy = replayed(rig)
        assert digest(copy.ks) == digest(rig.ks)
        assert list(copy.engine.scripting.programs.functions) == list(rig.engine.scripting.programs.functions)
        return reply

    for code in (library("one", "f"), library("two", "g"), library("three", "h", "return 1", "'no-writes'")):
        ask("FUNCTION", "LOAD", code)
        assert digest(rig.ks) not in seen
        seen.add(digest(rig.ks))
    payload = rig.ask(client, "FUNCTION DUMP")[0]
    assert isinstance(payload, bytes)
    assert ask("FUNCTION", "DELETE", "two") == b"OK"
    assert digest(rig.ks) not in seen
    assert ask("FUNCTION", "RESTORE", payload, "REPLACE") == b"OK"
    assert ask("FCALL", "g", "0") == b"hello"
    assert ask("FUNCTION", "FLUSH") == b"OK"
    assert digest(rig.ks) == digest(Rig().ks)
    committed = len(rig.consensus.committed)
    assert ask("FCALL_RO", "h", "0") == "ERR Function not found"
    assert len(rig.consensus.committed) == committed


def test_calls_that_only_read_are_not_logged() -> None:
    rig = Rig()
    client = rig.client()
    rig.ask(
        client, [b"FUNCTION", b"LOAD", library("r", "r", "return redis.call('GET',keys[1])", "'no-writes'").encode()]
    )
    rig.ask(client, "SET k v")
    committed = len(rig.consensus.committed)
    assert rig.ask(client, "FCALL_RO r 1 k") == [b"v"]
    assert len(rig.consensus.committed) == committed


def test_every_call_starts_afresh() -> None:
    rig = Rig()
    client = rig.client()
    code = "#!lua name=c\nlocal n = 0\nredis.register_function('c', function() n = n + 1 return n end)"
    assert rig.ask(client, [b"FUNCTION", b"LOAD", code.encode()]) == [b"c"]
    assert rig.ask(client, "FCALL c 0", "FCALL c 0", "FCALL c 0") == [1, 1, 1]


def test_a_library_that_never_ends_is_refused() -> None:
    rig = Rig()
    client = rig.client()
    (reply,) = rig.ask(client, [b"FUNCTION", b"LOAD", b"#!lua name=x\nwhile true do end"])
    assert reply == "ERR Error registering functions: FUNCTION LOAD timeout"
    (reply,) = rig.ask(
        client, [b"FUNCTION", b"LOAD", b"#!lua name=x\nlocal t = {} while true do t[#t+1] = ('x'):rep(#t) end"]
    )
    assert str(reply).startswith("ERR Error registering functions: ")
    assert rig.ask(client, "FUNCTION LIST") == [[]]
    assert digest(replayed(rig).ks) == digest(rig.ks)


@pytest.mark.parametrize("change", ["load", "replace", "delete", "flush", "restore"])
def test_changes_can_be_taken_back(change: str) -> None:
    rig = Rig()
    client = rig.client()
    rig.ask(client, [b"FUNCTION", b"LOAD", library("one", "f").encode()])
    payload = rig.ask(client, "FUNCTION DUMP")[0]
    assert isinstance(payload, bytes)
    rig.ask(client, [b"FUNCTION", b"LOAD", library("two", "g").encode()])
    before = digest(rig.ks)
    scripting = rig.engine.scripting
    journal.steps.clear()
    if change == "load":
        scripting.load_library(library("three", "h").encode(), replace=False)
    elif change == "replace":
        scripting.load_library(library("one", "other").encode(), replace=True)
    elif change == "delete":
        scripting.delete_library(b"one")
    elif change == "flush":
        scripting.flush_libraries()
    else:
        scripting.restore_libraries(payload, b"FLUSH")
    assert digest(rig.ks) != before
    for target, op, a, b in reversed(journal.steps):
        target.undo(op, a, b)
    journal.steps.clear()
    assert digest(rig.ks) == before
    assert sorted(scripting.programs.functions) == [b"f", b"g"]


def test_a_refused_change_leaves_everything() -> None:
    rig = Rig()
    client = rig.client()
    rig.ask(client, [b"FUNCTION", b"LOAD", library("one", "f").encode()])
    before = digest(rig.ks)
    scripting = rig.engine.scripting
    for code in (library("two", "F"), library("one", "g"), "#!lua name=two\nreturn 1", "#!lua name=two\nerror('x')"):
        with pytest.raises(CommandError):
            scripting.load_library(code.encode(), replace=False)
        assert digest(rig.ks) == before
