"""Resolving names, subcommands and arity, with Valkey's texts; and what freeze() refuses."""

from __future__ import annotations

import pytest

from durakv.commands.spec import CATEGORIES, LOCAL, READ, WRITE, Commands, Declaration
from durakv.commands.table import Table
from durakv.resp.errors import CommandError
from tests.commands.running import Reference


def declared(name: str, kind: int = READ, arity: int = 2, flags: str = "", keys: str = "", acl: str = "",
             group: str = "generic", since: str = "1.0.0") -> Declaration:  # fmt: skip
    implied = {READ: " readonly", WRITE: " write", LOCAL: ""}[kind]
    return Declaration(
        kind, name, lambda ctx, argv: None, arity, group, since, "", "", flags + implied, keys, acl, "", None
    )


def error_of(table: Table, *argv: bytes) -> str:
    with pytest.raises(CommandError) as caught:
        table.find(list(argv))
    return caught.value.text


@pytest.mark.live
@pytest.mark.parametrize("argv", [
    [b"foo"], [b"foo", b"a", b"b"], [b"FoO", b"x" * 200, b"y"], [b"f" * 300, b"a" * 100, b"b" * 100, b"c"],
    [b"bad\r\nname", b"one\r\ntwo"], [b"nul\0name", b"a\0b", b"c"], [b""], [b"foo", b""], [b"get"],
    [b"GET", b"a", b"b"],
    [b"object"], [b"OBJECT", b"zap"], [b"object", b"z" * 200], [b"oBject", b"encoding"],
    [b"object", b"ENCODING", b"a", b"b"],
    [b"object|encoding", b"a"], [b"foo", *[b"arg%d" % n for n in range(50)]],
    [b"foo", b"x" * 126, b"y", b"z"],
])  # fmt: skip
def test_errors_equal_stock(table: Table, reference: Reference, argv: list[bytes]) -> None:
    theirs = reference(*argv)
    assert error_of(table, *argv).rstrip() == theirs.text.rstrip()


def test_names_in_any_case_find_the_same_row(table: Table) -> None:
    row = table.rows[b"GET"]
    for name in (b"get", b"GET", b"Get", b"gEt"):
        assert table.find([name, b"k"]) is row
    assert table.find([b"objecT", b"eNcoding", b"k"]).name == "object|encoding"


def test_cached_variants_are_bounded() -> None:
    name = "ABCDEFGHIJKL"
    table = Table.freeze([declared(name)])
    for n in range(1 << len(name)):
        mixed = "".join(c.lower() if n >> i & 1 else c for i, c in enumerate(name))
        assert table.find([mixed.encode(), b"x"]).name == name.lower()
    assert len(table.rows) <= 1026


def test_one_fixed_key_is_precomputed(table: Table) -> None:
    expected = {
        "get": 1, "set": 1, "mget": -1, "mset": -1, "msetex": -1, "del": -1, "lcs": -1, "keys": 0, "dbsize": 0,
        "object|encoding": 2, "rename": -1, "sort": -1, "sort_ro": -1, "wait": 0,
    }  # fmt: skip
    assert {name: table.by_name[name].key_at for name in expected} == expected


@pytest.mark.parametrize(("argv", "keys"), [
    ("GET a", "a"), ("MSET a 1 b 2", "a b"), ("DEL a b c", "a b c"), ("LCS a b LEN", "a b"), ("RENAME a b", "a b"),
    ("MSETEX 2 a 1 b 2 NX", "a b"), ("MSETEX 9 a 1", ""), ("MSETEX x a 1", ""), ("MSETEX 0 a 1", ""),
    ("SORT a BY store GET store LIMIT 0 store STORE b", "a b"), ("SORT a STORE b STORE c", "a c"),
    ("SORT_RO a BY b", "a"), ("OBJECT ENCODING a", "a"), ("COPY a b DB 3", "a b"), ("DBSIZE", ""),
])  # fmt: skip
def test_keys_of_a_request(table: Table, argv: str, keys: str) -> None:
    request = argv.encode().split()
    assert table.find(request).keys(request) == keys.encode().split()


@pytest.mark.parametrize(("bad", "text"), [
    ([declared("A"), declared("A")], "twice"),
    ([declared("A|B"), declared("A|B")], "twice"),
    ([declared("a")], "upper case"),
    ([declared("A|B|C")], "upper case"),
    ([declared("A", arity=0)], "arity"),
    ([declared("A|B", arity=1)], "arity"),
    ([declared("A", arity=2, keys="RO@i2+r0/1/0")], "too small"),
    ([declared("A", arity=2, keys="RO@i1+r1/1/0")], "too small"),
    ([declared("A", flags="denyoom")], "denyoom"),
    ([declared("A", flags="write")], "write flag"),
    ([declared("A", keys="RW|UPDATE@i1+r0/1/0")], "changes a key"),
    ([declared("A", WRITE, flags="readonly")], "readonly"),
    ([declared("A", LOCAL, flags="denyoom")], "local"),
])  # fmt: skip
def test_freeze_refuses_contradictions(bad: list[Declaration], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Table.freeze(bad)


def test_a_misspelt_word_fails_at_import() -> None:
    commands = Commands("generic")
    for flags, acl, keys in (("fsat", "", ""), ("", "keyspaec", ""), ("", "", "RX@i1+r0/1/0")):
        declare = commands.read("A", arity=2, since="1.0.0", summary="", flags=flags, acl=acl, keys=keys)
        with pytest.raises(ValueError):
            declare(lambda ctx, argv: None)


def test_categories_are_implied_by_group_and_flags() -> None:
    table = Table.freeze([
        declared("A", WRITE, flags="fast"), declared("B", LOCAL, flags="admin", group="server"),
        declared("C", acl="set list"), declared("D|E", LOCAL, flags="blocking pubsub"),
        declared("F", group="scripting"),
    ])  # fmt: skip
    shown = {row.name: {name for name, bit in CATEGORIES.items() if row.categories & bit} for row in table.all}
    assert shown == {
        "a": {"write", "fast", "keyspace"}, "b": {"admin", "dangerous", "slow"}, "c": {"set", "list", "read", "slow"},
        "d": {"slow"}, "d|e": {"blocking", "pubsub", "slow", "keyspace"}, "f": {"scripting", "slow"},
    }  # fmt: skip


def test_ids_are_dense(table: Table) -> None:
    assert [row.id for row in table.all] == list(range(len(table.all)))
