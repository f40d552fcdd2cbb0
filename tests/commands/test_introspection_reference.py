"""COMMAND and its subcommands over all commands against a live valkey-server: DOCS, INFO, LIST, GETKEYS.

What the server on PATH is too old for is cut from both sides by the version it came with; what is left to differ is
listed here with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import hiredis
import pytest

from durakv.commands.docs import facts
from durakv.commands.table import build_table
from tests.commands.fake_services import FakeNode, wire
from tests.commands.reference_server import running

pytestmark = pytest.mark.live

# Valkey 9.1 is described; a development build calls itself 255.255.255 and is newer than this.
DEVELOPMENT = (8, 0, 0)
# Name -> since when it has its arguments: IFEQ moved the version from the group to its members, ID takes several
# values, BYPOLYGON needs no FROM.
ARGUMENTS = {"set": (8, 1, 0), "client|kill": (8, 1, 0), "geosearch": (9, 0, 0), "geosearchstore": (9, 0, 0)}
ARITY = {
    "cluster|replicate": "NO ONE of 9.0 has one more word",
    "script|debug": "has always taken more; 9.1 says so",
}
# Facts of Valkey 9.1 that the inventory of tests/data holds, and older servers do not know.
NEWER_FLAGS = {"allow_busy", "skip_commandlog", "loading", "stale", "no_multi"}
OWN_CATEGORY = {"pubsub|help": "every other PUBSUB subcommand is in @pubsub; the group decides here"}


def plain(value: Any) -> Any:
    """Bytes as text; a set of RESP3 is a list already."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(name): plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Exception) else value


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


class Ours:
    def __init__(self, protocol: int) -> None:
        self.node = FakeNode(build_table())
        self.session = self.node.client(protocol)

    def __call__(self, *words: str) -> Any:
        reader = hiredis.Reader()
        reader.feed(wire(self.node, self.session, [word.encode() for word in words]))
        return plain(reader.gets())


class Peers:
    def __init__(self, connect: Any, protocol: int) -> None:
        self.ours = Ours(protocol)
        self.connection = connect()
        self.connection("HELLO", protocol)
        said = plain(self.connection("INFO", "server")).partition("valkey_version:")[2].split()[0]
        self.known = min(version(said), (9, 1, 0)) if version(said)[0] < 255 else DEVELOPMENT

    def theirs(self, *words: str) -> Any:
        return plain(self.connection(*words))


@pytest.fixture(scope="module")
def connect() -> Iterator[Any]:
    with running() as factory:
        if b"valkey_version" not in factory()("INFO", "server"):
            pytest.skip("needs valkey-server on PATH: Redis describes its commands otherwise")
        yield factory


@pytest.fixture(scope="module")
def peers(connect: Any) -> Peers:
    return Peers(connect, 3)


def pruned(value: Any, known: tuple[int, ...]) -> Any:
    """Without arguments, history and deprecations that came after ``known``."""
    if isinstance(value, dict):
        out = {name: pruned(item, known) for name, item in value.items() if name != "summary"}
        if version(out.get("deprecated_since", "0")) > known:
            for name in ("deprecated_since", "doc_flags", "replaced_by"):
                out.pop(name, None)
        if out.get("history") == []:
            del out["history"]
        return out
    if not isinstance(value, list):
        return value
    return [pruned(item, known) for item in value if version(_since(item)) <= known]


def _since(item: Any) -> str:
    if isinstance(item, dict):
        return str(item.get("since", "0"))
    # A pair of the history.
    return item[0] if isinstance(item, list) and len(item) == 2 and str(item[0])[:1].isdigit() else "0"


def each(docs: dict[str, Any]) -> dict[str, Any]:
    """Commands and subcommands by full name."""
    out: dict[str, Any] = {}
    for name, one in docs.items():
        out[name] = one
        out.update(one.get("subcommands", {}))
    return out


def described(one: dict[str, Any], known: tuple[int, ...]) -> list[tuple[str, Any]]:
    """Facts in order; words of our own stand for summary, complexity and the texts of the history."""
    told = {name: fact for name, fact in one.items() if name not in {"summary", "complexity", "subcommands"}}
    told = pruned(told, known)
    if "history" in told:
        told["history"] = [since for since, _ in told["history"]]
    return list(told.items())


def test_docs_hold_what_valkey_says_of_every_command(peers: Peers) -> None:
    ours, theirs = each(peers.ours("COMMAND", "DOCS")), each(peers.theirs("COMMAND", "DOCS"))
    different: list[Any] = []
    for name, one in theirs.items():
        expected, actual = described(one, peers.known), described(ours[name], peers.known)
        if peers.known < ARGUMENTS.get(name, peers.known):
            assert dict(expected)["arguments"] != dict(actual)["arguments"], f"{name} needs no excuse"
            expected = [fact for fact in expected if fact[0] != "arguments"]
            actual = [fact for fact in actual if fact[0] != "arguments"]
        if expected != actual:
            different.append((name, actual, expected))
    assert different == []
    assert len(theirs) > 360


def test_docs_of_some_are_those_of_all(peers: Peers) -> None:
    everything = peers.ours("COMMAND", "DOCS")
    assert peers.ours("COMMAND", "DOCS", "SET", "config", "nope") == {
        name: everything[name] for name in ("set", "config")
    }
    assert peers.ours("COMMAND", "DOCS", "config|get") == {
        "config|get": everything["config"]["subcommands"]["config|get"]
    }


def test_every_request_with_arguments_describes_them() -> None:
    table = build_table()
    assert [name for name in facts() if name not in table.by_name] == []
    # Upstream leaves these bare too.
    bare = [row.name for row in table.all if row.subs is None and row.argc_min + row.name.count("|") < row.argc_max]
    assert [name for name in bare if "arguments" not in facts().get(name, {})] == [
        "quit",
        "debug",
        "replconf",
        "cluster|syncslots",
    ]


def compared(entry: list[Any]) -> dict[str, Any]:
    name, arity, flags, first, last, step, categories, tips, specs, _ = entry
    for spec in specs:
        # Remarks about the flags, in prose.
        spec.pop("notes", None)
    return {
        "name": name, "arity": arity, "flags": flags, "range": (first, last, step), "acl": categories, "tips": tips,
        "specs": specs,
    }  # fmt: skip


def entries(listed: list[Any]) -> dict[str, list[Any]]:
    return {entry[0]: entry for top in listed for entry in (top, *top[9])}


def test_info_is_that_of_valkey(peers: Peers) -> None:
    ours, theirs = entries(peers.ours("COMMAND")), entries(peers.theirs("COMMAND"))
    different: list[Any] = []
    for name, entry in theirs.items():
        actual, expected = compared(ours[name]), compared(entry)
        flags = {"skip_commandlog" if flag == "skip_slowlog" else flag for flag in expected["flags"]}
        assert flags <= set(actual["flags"]) and set(actual["flags"]) - flags <= NEWER_FLAGS, (name, actual, expected)
        for excused, fact in ((ARITY, "arity"), (OWN_CATEGORY, "acl")):
            if name in excused:
                actual[fact] = expected[fact]
        del actual["flags"], expected["flags"]
        actual["tips"], expected["tips"] = sorted(actual["tips"]), sorted(expected["tips"])
        if actual != expected:
            different.append((name, actual, expected))
    assert different == []


def test_flags_come_in_the_order_of_valkey(connect: Any) -> None:
    both = Peers(connect, 2)
    for name in ("set", "exec", "bitfield", "xreadgroup", "client|list", "sort", "auth", "publish"):
        (mine,), (other,) = both.ours("COMMAND", "INFO", name), both.theirs("COMMAND", "INFO", name)
        assert [flag for flag in mine[2] if flag in other[2]] == [flag for flag in other[2] if flag in mine[2]]
        assert mine[6] == other[6]
        assert [spec[1] for spec in mine[8]] == [spec[spec.index("flags") + 1] for spec in other[8]]


def test_lists_and_their_filters(peers: Peers) -> None:
    known = set(peers.theirs("COMMAND", "LIST"))
    assert known <= set(peers.ours("COMMAND", "LIST"))
    assert peers.ours("COMMAND", "COUNT") == sum("|" not in name for name in peers.ours("COMMAND", "LIST"))
    asked = [("ACLCAT", name) for name in peers.theirs("ACL", "CAT")]
    asked += [
        ("PATTERN", glob) for glob in ("*", "cl*", "[gs]et", "config|*", "*|help", "?et", "GE?", "x*|*", "[^a-w]*")
    ]
    for kind, value in [*asked, ("MODULE", "nope"), ("ACLCAT", "nope"), ("PATTERN", "")]:
        ours = set(peers.ours("COMMAND", "LIST", "FILTERBY", kind, value)) & known
        assert ours - set(OWN_CATEGORY) == set(peers.theirs("COMMAND", "LIST", "FILTERBY", kind, value)) - set(
            OWN_CATEGORY
        )


def test_errors_are_the_same(peers: Peers) -> None:
    for words in (
        ("LIST", "FILTERBY"), ("LIST", "x"), ("LIST", "FILTERBY", "x", "y"), ("LIST", "FILTERBY", "PATTERN"),
        ("COUNT", "x"), ("GETKEYS",), ("GETKEYS", "nope"), ("GETKEYS", "config"), ("GETKEYS", "config", "get"),
        ("GETKEYSANDFLAGS", "ping"), ("NOPE",), ("INFO", "nope", "get|x"), ("DOCS", "nope"), ("HELP", "x"),
    ):  # fmt: skip
        assert peers.ours("COMMAND", *words) == peers.theirs("COMMAND", *words), words


class Requests:
    """Requests made from the arguments COMMAND DOCS describes."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.keys = 0

    def of(self, name: str, arguments: list[Any]) -> list[str]:
        words = name.split("|")
        self._add(words, arguments)
        return words[:-1] if self.dice.random() < 0.1 and len(words) > 1 else words

    def _add(self, words: list[str], arguments: list[Any]) -> None:
        for one in arguments:
            flags = one.get("flags", [])
            if "optional" in flags and self.dice.random() < 0.5:
                continue
            for turn in range(2 if "multiple" in flags and self.dice.random() < 0.4 else 1):
                if "token" in one and (turn == 0 or "multiple_token" in flags):
                    words.append(one["token"])
                self._value(words, one)

    def _value(self, words: list[str], one: dict[str, Any]) -> None:
        kind = one["type"]
        if kind == "oneof":
            self._add(words, [self.dice.choice(one["arguments"])])
        elif kind == "block":
            self._add(words, one["arguments"])
        elif kind == "key":
            self.keys += 1
            words.append(f"key{self.keys}")
        elif kind == "integer":
            words.append(self.dice.choice(("1", "1", "1", "2")))
        elif kind != "pure-token":
            words.append(one["name"][:3])


@pytest.mark.parametrize("seed", [1, 2])
def test_keys_of_every_command_are_found_as_valkey_finds_them(peers: Peers, seed: int) -> None:
    requests = Requests(seed)
    different: list[Any] = []
    asked = found = 0
    for name, one in each(peers.theirs("COMMAND", "DOCS")).items():
        for _ in range(8):
            words = requests.of(name, one.get("arguments", []))
            for how in ("GETKEYS", "GETKEYSANDFLAGS"):
                ours, theirs = peers.ours("COMMAND", how, *words), peers.theirs("COMMAND", how, *words)
                asked += 1
                found += isinstance(theirs, list)
                if ours != theirs:
                    different.append((how, words, ours, theirs))
    assert different == []
    assert found > asked // 3
