"""How a command is declared: one decorator per route (read, write, local), and the flat row the hot path uses.

The decorator is the route: a read gets a ReadContext, a write runs in apply with a WriteContext, a local command runs
on the node that received it with a LocalContext. Everything else (COMMAND, ACL categories, key extraction, arity, OOM
checks) derives from the declaration. Facts use Valkey's own compact words; a misspelt one fails at import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from durakv.commands.context import LocalContext, ReadContext, WriteContext
from durakv.resp.errors import CommandError
from durakv.resp.types import Reply

Argv: TypeAlias = list[bytes]
ReadHandler: TypeAlias = Callable[[ReadContext, Argv], Reply]
WriteHandler: TypeAlias = Callable[[WriteContext, Argv], Reply]
LocalHandler: TypeAlias = Callable[[LocalContext, Argv], Reply]

READ: Final = 0
WRITE: Final = 1
LOCAL: Final = 2

ARGC_ANY: Final = 1 << 30

FLAG_NAMES: Final = (
    "admin", "all_dbs", "allow_busy", "asking", "blocking", "denyoom", "fast", "loading", "may_replicate",
    "no_async_loading", "no_auth", "no_mandatory_keys", "no_multi", "noscript", "only_sentinel", "protected", "pubsub",
    "readonly", "sentinel", "skip_commandlog", "skip_monitor", "stale", "touches_arbitrary_keys", "write",
)  # fmt: skip
FLAGS: Final = {name: 1 << n for n, name in enumerate(FLAG_NAMES)}
CATEGORY_NAMES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo", "stream",
    "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
)  # fmt: skip
CATEGORIES: Final = {name: 1 << n for n, name in enumerate(CATEGORY_NAMES)}
# Groups whose commands belong to a category of another or the same name.
GROUP_CATEGORY: Final = {
    "generic": "keyspace", "string": "string", "list": "list", "set": "set", "sorted_set": "sortedset", "hash": "hash",
    "bitmap": "bitmap", "hyperloglog": "hyperloglog", "geo": "geo", "stream": "stream", "pubsub": "pubsub",
    "connection": "connection", "transactions": "transaction", "scripting": "scripting",
}  # fmt: skip
KEY_FLAGS: Final = frozenset(
    ("RO", "RW", "OW", "RM", "ACCESS", "UPDATE", "INSERT", "DELETE", "NOT_KEY", "INCOMPLETE", "VARIABLE_FLAGS")
)


class KeySpec:
    """Where keys are in argv: begin search (index or keyword) then find keys (range or numkeys).

    Text form ``FLAGS@begin+find``: begin ``i<pos>`` or ``kw:<WORD>@<from>`` or ``?``; find ``r<last>/<step>/<limit>``
    (last relative to the first key, negative from the end) or ``n<numkeys offset>/<first offset>/<step>`` or ``?``.
    """

    __slots__ = ("begin", "begin_from", "find", "flags", "keyword", "last", "limit", "step", "text")

    def __init__(self, text: str) -> None:
        flag_text, _, rest = text.partition("@")
        self.text = text
        self.flags = tuple(flag_text.split("|"))
        if not KEY_FLAGS.issuperset(self.flags):
            raise ValueError(f"unknown key flag in {text!r}")
        begin, _, find = rest.rpartition("+")
        self.keyword = b""
        self.begin_from = 0
        if begin.startswith("kw:"):
            self.begin = "keyword"
            word, _, start = begin[3:].partition("@")
            self.keyword = word.encode()
            self.begin_from = int(start)
        elif begin.startswith("i"):
            self.begin = "index"
            self.begin_from = int(begin[1:])
        elif begin == "?":
            self.begin = "unknown"
        else:
            raise ValueError(f"bad key spec {text!r}")
        self.last = self.step = self.limit = 0
        if find == "?":
            self.find = "unknown"
        else:
            self.find = {"r": "range", "n": "keynum"}[find[0]]
            self.last, self.step, self.limit = (int(x) for x in find[1:].split("/"))

    def positions(self, argv: Argv) -> list[int]:
        """Indexes of the keys in argv; empty when the arguments do not reach them. Raises CommandError."""
        first = self._first(argv)
        if first <= 0 or first >= len(argv):
            return []
        if self.find == "range":
            end = first + self.last if self.last >= 0 else len(argv) + self.last
            if self.limit > 1:
                end = first + (len(argv) - first) // self.limit - 1
            return list(range(first, min(end, len(argv) - 1) + 1, self.step))
        if self.find == "keynum":
            # last = offset of numkeys from `first`, step = offset of the first key, limit = key step.
            try:
                count = int(argv[first + self.last])
            except (ValueError, IndexError):
                raise CommandError("ERR Invalid arguments specified for command") from None
            start = first + self.step
            end = start + (count - 1) * self.limit
            if count < 0 or end >= len(argv):
                raise CommandError("ERR Invalid arguments specified for command")
            return list(range(start, end + 1, self.limit))
        return []

    def _first(self, argv: Argv) -> int:
        if self.begin == "index":
            return self.begin_from
        if self.begin == "keyword":
            if self.begin_from >= 0:
                for i in range(self.begin_from, len(argv)):
                    if argv[i].upper() == self.keyword:
                        return i + 1
            else:
                for i in range(len(argv) + self.begin_from, 0, -1):
                    if argv[i].upper() == self.keyword:
                        return i + 1
        return 0


class Declaration:
    """One command or subcommand (``CONFIG|GET``) as its author wrote it."""

    __slots__ = (
        "acl",
        "arity",
        "complexity",
        "flags",
        "fn",
        "group",
        "history",
        "key_positions",
        "keys",
        "kind",
        "name",
        "since",
        "summary",
        "tips",
    )  # fmt: skip

    def __init__(
        self, kind: int, name: str, fn: Callable[..., Reply], arity: int, group: str, since: str, summary: str,
        complexity: str, flags: str, keys: str, acl: str, tips: str,
        key_positions: Callable[[Argv], list[int]] | None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.name = name
        self.fn = fn
        self.arity = arity
        self.group = group
        self.since = since
        self.summary = summary
        self.complexity = complexity
        self.flags = frozenset(flags.split())
        unknown = self.flags.difference(FLAGS)
        if unknown:
            raise ValueError(f"{name}: unknown flags {sorted(unknown)}")
        self.keys = tuple(KeySpec(text) for text in keys.split())
        self.acl = frozenset(acl.split())
        if not self.acl <= CATEGORIES.keys():
            raise ValueError(f"{name}: unknown ACL category in {sorted(self.acl)}")
        self.tips = tuple(tips.split())
        self.key_positions = key_positions


class Commands:
    """The declarations of one module; ``commands/table.py`` gathers them."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.declarations: list[Declaration] = []

    def read(
        self, name: str, *, arity: int, since: str, summary: str, flags: str = "", keys: str = "",
        complexity: str = "O(1)", acl: str = "", tips: str = "",
        key_positions: Callable[[Argv], list[int]] | None = None, readonly_flag: bool = True,
    ) -> Callable[[ReadHandler], ReadHandler]:  # fmt: skip
        """Declare a command that never changes state. ``flags`` without ``readonly``.

        ``readonly_flag`` False: upstream does not call it a read, since it reads no keys (SCRIPT EXISTS).
        """

        def declare(fn: ReadHandler) -> ReadHandler:
            all_flags = flags + " readonly" if readonly_flag else flags
            self.declarations.append(
                Declaration(READ, name, fn, arity, self.group, since, summary, complexity, all_flags, keys,
                            acl, tips, key_positions)
            )  # fmt: skip
            return fn

        return declare

    def write(
        self, name: str, *, arity: int, since: str, summary: str, flags: str = "", keys: str = "",
        complexity: str = "O(1)", acl: str = "", tips: str = "",
        key_positions: Callable[[Argv], list[int]] | None = None, write_flag: bool = True,
    ) -> Callable[[WriteHandler], WriteHandler]:  # fmt: skip
        """Declare a command that runs in apply, on every node, in log order. ``flags`` without ``write``.

        ``write_flag`` False: logged although upstream does not call it a write (WATCH).
        """

        def declare(fn: WriteHandler) -> WriteHandler:
            all_flags = flags + " write" if write_flag else flags
            self.declarations.append(
                Declaration(WRITE, name, fn, arity, self.group, since, summary, complexity, all_flags, keys,
                            acl, tips, key_positions)
            )  # fmt: skip
            return fn

        return declare

    def local(
        self, name: str, *, arity: int, since: str, summary: str, flags: str = "", keys: str = "",
        complexity: str = "O(1)", acl: str = "", tips: str = "", group: str = "",
        key_positions: Callable[[Argv], list[int]] | None = None,
    ) -> Callable[[LocalHandler], LocalHandler]:  # fmt: skip
        """Declare a command that concerns only the node or the session that received it."""

        def declare(fn: LocalHandler) -> LocalHandler:
            self.declarations.append(
                Declaration(LOCAL, name, fn, arity, group or self.group, since, summary, complexity, flags, keys, acl,
                            tips, key_positions)
            )  # fmt: skip
            return fn

        return declare
