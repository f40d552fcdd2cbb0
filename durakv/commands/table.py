"""The declarations of all commands flattened into rows of ints and one callable each. [compiled]

Rule: the only place that resolves a name to a command and the only one that refuses contradictory declarations. It
knows neither sessions nor the engine; a row states facts, the gate acts on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from durakv.commands.context import ReadContext, WriteContext
from durakv.commands.spec import (
    ARGC_ANY,
    CATEGORIES,
    FLAGS,
    GROUP_CATEGORY,
    LOCAL,
    READ,
    WRITE,
    Argv,
    Declaration,
    KeySpec,
)
from durakv.resp.errors import CommandError, wrong_arity

# A fast command with fewer arguments more than it needs is not timed.
_ARGS_QUICK: Final = 32
# Run at once inside MULTI instead of being queued (valkey server.c processCommand()).
_IMMEDIATE: Final = ("exec", "discard", "quit", "reset")
# Logged and run with the leader's terms as one more argument, see engine/scripts.py.
_RUN_SCRIPTS: Final = ("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro")
# The leader resolves what is its own before it logs them.
_PREPARED: Final = ("acl|setuser", "acl|load", "replicaof", "slaveof")
# Reach another database than the selected one, which is judged before they are logged, too.
_CROSS: Final = ("copy", "move", "swapdb")
# Allowed to a RESP2 connection with subscriptions.
_IN_PUBSUB: Final = (
    "ping", "quit", "reset", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe",
)  # fmt: skip
# Local commands about the group's log: answered by the leader, wherever they arrive.
_ON_LEADER: Final = ("wait", "waitaof")
_TELL_TIME: Final = ("xpending", "xinfo|consumers")
_CHANGES: Final = ("UPDATE", "INSERT", "DELETE")
_SHOWN_BYTES: Final = 128
# Clients mix cases in a handful of ways; a hostile one must not grow the dict.
_VARIANTS_MAX: Final = 1024


class Row:
    """One command or subcommand, read on every request.

    ``name`` is lower case (``config|get``). ``argc_min``/``argc_max`` bound ``len(argv)``, subcommand included.
    ``flags`` and ``categories`` are bit sets over spec.FLAGS and spec.CATEGORIES. ``first``, ``last``, ``step`` are
    COMMAND's legacy key range. ``key_at`` is 0 without keys, n when the only key is always argv[n], -1 otherwise.
    ``subs`` maps upper-case names to subcommands of a container. ``id`` numbers rows densely, in table order, and
    differs between builds. ``calls`` and ``failed`` count, for INFO.
    ``timed_from`` is the number of arguments from which requests are timed, see Table.time_all().
    """

    __slots__ = (
        "argc_max", "argc_min", "calls", "categories", "crosses",
        "declaration", "denyoom", "failed", "first", "first_word",
        "flags", "fn", "forwarded", "heads", "id", "immediate", "is_blocking", "key_at", "kind", "last",
        "movable_keys", "name", "needs_session", "no_auth", "no_multi", "prepares", "pubsub_ok",
        "runs_script", "specs", "step", "subs", "tells_time", "timed_from",
    )  # fmt: skip

    def __init__(self, row_id: int, declaration: Declaration) -> None:
        d = declaration
        name = d.name.lower()
        self.id: int = row_id
        self.name: str = name
        # How the log and other nodes call it, whatever clients may.
        self.first_word: bytes = d.name.partition("|")[0].upper().encode()
        self.kind: int = d.kind
        self.fn: Callable[[Any, Argv], object] = d.fn
        self.argc_min: int = abs(d.arity)
        self.argc_max: int = d.arity if d.arity > 0 else ARGC_ANY
        flags = 0
        for flag in d.flags:
            flags |= FLAGS[flag]
        self.flags: int = flags
        self.categories: int = categories_of(d)
        self.first: int = 0
        self.last: int = 0
        self.step: int = 0
        self.movable_keys: bool = False
        self._legacy_range(d.keys)
        self.specs: list[KeySpec] = [spec for spec in d.keys if "NOT_KEY" not in spec.flags]
        self.key_at: int = self._only_key(d)
        self.subs: dict[bytes, Row] | None = None
        self.declaration: Declaration = d
        self.calls: int = 0
        self.failed: int = 0
        # Encoded beginnings of log records, by argument count; filled by engine/entry.py.
        self.heads: dict[int, bytes] = {}
        self.denyoom: bool = "denyoom" in d.flags
        self.is_blocking: bool = "blocking" in d.flags
        self.no_auth: bool = "no_auth" in d.flags
        self.no_multi: bool = "no_multi" in d.flags
        self.immediate: bool = name in _IMMEDIATE
        self.pubsub_ok: bool = name in _IN_PUBSUB
        self.forwarded: bool = name in _ON_LEADER
        # Logged with the identity of the session: it may be parked, or its keys watched.
        self.runs_script: bool = name in _RUN_SCRIPTS
        # Logged in another form than it was sent in, see Engine.prepared().
        self.crosses: bool = name in _CROSS
        self.prepares: bool = self.crosses or name in _PREPARED
        self.needs_session: bool = (d.kind != LOCAL and self.is_blocking) or name == "watch"
        # A read whose reply depends on the time even where nothing expires.
        self.tells_time: bool = name in _TELL_TIME
        self.timed_from: int = self.usually_timed_from()

    def usually_timed_from(self) -> int:
        """Never for what takes about the same time whatever the data."""
        complexity = self.declaration.complexity
        if self.kind == LOCAL or complexity == "O(1)":
            return ARGC_ANY + 1
        if not self.flags & FLAGS["fast"]:
            return 0
        # Usually as quick as the others: slow only when asked for a number, or with many arguments.
        counted = complexity.startswith("O(N)") and self.argc_max > self.argc_min
        return self.argc_min + (1 if counted else _ARGS_QUICK)

    def run(self, ctx: ReadContext | WriteContext, argv: Argv) -> object:
        """``fn``, its time told to the context's stopwatch for requests of at least ``timed_from`` arguments."""
        if len(argv) < self.timed_from:
            return self.fn(ctx, argv)
        watch = ctx.stopwatch
        if watch is None:
            return self.fn(ctx, argv)
        began_ns = watch.now_ns()
        try:
            return self.fn(ctx, argv)
        finally:
            watch.ran(self, argv, watch.now_ns() - began_ns)

    def positions(self, argv: Argv) -> list[int]:
        """Indexes of the keys in ``argv``, in the order of the key specs. Raises CommandError when unreadable."""
        found: list[int] = []
        if self.declaration.key_positions is not None:
            return self.declaration.key_positions(argv)
        for spec in self.specs:
            found.extend(spec.positions(argv))
        return found

    def keys(self, argv: Argv) -> list[bytes]:
        """The keys of a request; none when its arguments are malformed, which the handler will say better."""
        if self.key_at > 0:
            return [argv[self.key_at]]
        if self.key_at == 0:
            return []
        try:
            return [argv[i] for i in self.positions(argv)]
        except CommandError:
            return []

    def logged(self, argv: Argv) -> bool:
        """Whether a request becomes part of the log: a write, or a read that asks to wait (XREAD with BLOCK)."""
        if self.kind != READ or not self.is_blocking:
            return self.kind == WRITE
        for i in range(1, len(argv)):
            word = argv[i].upper()
            if word == b"BLOCK" or word == b"STREAMS":
                return word == b"BLOCK"
        return False

    def _only_key(self, d: Declaration) -> int:
        if not self.specs and d.key_positions is None:
            return 0
        if len(self.specs) == 1 and d.key_positions is None:
            spec = self.specs[0]
            if spec.begin == "index" and spec.find == "range" and spec.last == 0 and spec.begin_from < self.argc_min:
                return spec.begin_from
        return -1

    def _legacy_range(self, specs: tuple[KeySpec, ...]) -> None:
        """First, last, step from consecutive plain ranges (valkey server.c populateCommandLegacyRangeSpec())."""
        if len(specs) == 1 and specs[0].begin == "index" and specs[0].find == "range":
            spec = specs[0]
            self.first, self.step = spec.begin_from, spec.step
            self.last = spec.begin_from + spec.last if spec.last >= 0 else spec.last
            self.movable_keys = "INCOMPLETE" in spec.flags
            return
        first = last = 0
        for spec in specs:
            plain = spec.begin == "index" and spec.find == "range" and spec.step == 1
            if not plain or (last and last != spec.begin_from - 1):
                self.movable_keys = True
                continue
            if "INCOMPLETE" in spec.flags:
                self.movable_keys = True
            end = spec.begin_from + spec.last if spec.last >= 0 else spec.last
            first = min(first, spec.begin_from) if first else spec.begin_from
            # Negative (from the end) reaches further than any position.
            last = end if end < 0 or (last >= 0 and end > last) else last
        if first:
            self.first, self.last, self.step = first, last, 1


class Table:
    """All rows. ``rows`` maps names as sent (upper, lower, cached mixed case) to rows; ``all`` is in ``id`` order."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.all: list[Row] = []
        self.by_name: dict[str, Row] = {}
        self._room = _VARIANTS_MAX

    @staticmethod
    def freeze(declarations: list[Declaration]) -> Table:
        """Flatten ``declarations``. Raises ValueError for a contradiction, naming the command."""
        table = Table()
        for d in declarations:
            check(d)
            if "|" not in d.name:
                table._add(d)
        for d in declarations:
            container, _, sub = d.name.partition("|")
            if sub:
                parent = table.by_name.get(container.lower())
                if parent is None:
                    parent = table._add(_container(container, declarations))
                row = table._new(d)
                if parent.subs is None:
                    parent.subs = {}
                parent.subs[sub.encode()] = row
        return table

    def renamed(self, renames: list[tuple[str, str]]) -> Table:
        """The same commands as clients of this node may call them: (old, new) names, new "" for none at all.

        Raises ValueError naming what is wrong.
        """
        public = Table()
        public.rows = dict(self.rows)
        public.all = self.all
        public.by_name = self.by_name
        for old, new in renames:
            row = public.rows.get(old.upper().encode())
            if row is None:
                raise ValueError(f"rename-command: there is no command '{old}'")
            for name in [name for name, other in public.rows.items() if other is row]:
                del public.rows[name]
            if new:
                if public.lookup(new.encode()) is not None:
                    raise ValueError(f"rename-command: the name '{new}' is taken")
                public.rows[new.upper().encode()] = row
                public.rows[new.lower().encode()] = row
        return public

    def time_all(self, on: bool) -> None:
        """Time every request that reads or writes, or (as at first) only those that could take long."""
        for row in self.all:
            if row.kind != LOCAL:
                row.timed_from = 0 if on else row.usually_timed_from()

    def find(self, argv: Argv) -> Row:
        """The command or subcommand ``argv`` asks for, arity checked. Raises CommandError with Valkey's texts."""
        row = self.lookup(argv[0])
        if row is None:
            raise _unknown_command(argv)
        argc = len(argv)
        if row.subs is not None and argc > 1:
            sub = row.subs.get(argv[1])
            if sub is None:
                sub = row.subs.get(argv[1].upper())
                if sub is None:
                    raise _unknown_subcommand(row, argv)
            row = sub
        if not row.argc_min <= argc <= row.argc_max:
            raise wrong_arity(row.name)
        return row

    def lookup(self, name: bytes) -> Row | None:
        """The top-level command called ``name`` in any case, or None."""
        row = self.rows.get(name)
        if row is None:
            row = self.rows.get(name.upper())
            if row is not None and self._room > 0:
                self._room -= 1
                self.rows[name] = row
        return row

    def _new(self, d: Declaration) -> Row:
        row = Row(len(self.all), d)
        if row.name in self.by_name:
            raise ValueError(f"{d.name} is declared twice")
        self.by_name[row.name] = row
        self.all.append(row)
        return row

    def _add(self, d: Declaration) -> Row:
        row = self._new(d)
        self.rows[d.name.encode()] = row
        self.rows[d.name.lower().encode()] = row
        return row


def categories_of(d: Declaration) -> int:
    """ACL categories: the group's (unless another data category is declared), those the flags imply, the declared.

    Source: valkey server.c setImplicitACLCategories().
    """
    names = list(d.acl)
    own = GROUP_CATEGORY.get(d.group)
    replaced = any(name in names for name in GROUP_CATEGORY.values())
    if own is not None and not replaced and not _is_container(d):
        names.append(own)
    if "write" in d.flags:
        names.append("write")
    if "readonly" in d.flags and "scripting" not in names:
        names.append("read")
    if "admin" in d.flags:
        names += ["admin", "dangerous"]
    for flag in ("pubsub", "fast", "blocking"):
        if flag in d.flags:
            names.append(flag)
    if "fast" not in names:
        names.append("slow")
    bits = 0
    for name in names:
        bits |= CATEGORIES[name]
    return bits


def check(d: Declaration) -> None:
    """Refuse a declaration that contradicts itself. Raises ValueError."""
    if d.name != d.name.upper() or not d.name.isascii() or d.name.count("|") > 1:
        raise ValueError(f"{d.name}: names are upper case, a subcommand's after one |")
    if d.arity == 0 or ("|" in d.name and abs(d.arity) < 2):
        raise ValueError(f"{d.name}: arity {d.arity} does not cover the name itself")
    if d.kind == READ:
        if "denyoom" in d.flags:
            raise ValueError(f"{d.name}: a read needs no memory; drop denyoom")
        if "write" in d.flags:
            raise ValueError(f"{d.name}: a read cannot carry the write flag")
        for spec in d.keys:
            if "may_replicate" not in d.flags and any(flag in _CHANGES for flag in spec.flags):
                raise ValueError(f"{d.name}: a read declares that it changes a key ({spec.text})")
    if d.kind == WRITE and "readonly" in d.flags:
        raise ValueError(f"{d.name}: a write cannot carry the readonly flag")
    if d.kind == LOCAL and ("write" in d.flags or "denyoom" in d.flags):
        raise ValueError(f"{d.name}: a local command never reaches the keyspace; declare it with @write")
    for spec in d.keys:
        if spec.begin == "index" and 0 < d.arity <= _reach(spec):
            raise ValueError(f"{d.name}: arity {d.arity} is too small for its keys ({spec.text})")


def _reach(spec: KeySpec) -> int:
    """Last argv index a fixed key spec certainly needs."""
    if spec.find == "range":
        return spec.begin_from + max(spec.last, 0)
    return spec.begin_from + (spec.last if spec.find == "keynum" else 0)


def _is_container(d: Declaration) -> bool:
    return d.fn is _run_container


def _run_container(ctx: object, argv: Argv) -> object:
    raise AssertionError("a container is resolved to a subcommand before it runs")


def _container(name: str, declarations: list[Declaration]) -> Declaration:
    """The row of a container nobody declared: Valkey's containers have arity -2 and no flags."""
    subs = [d for d in declarations if d.name.startswith(name + "|")]
    # A subcommand may be younger than its container, never older.
    since = min((tuple(int(part) for part in d.since.split(".")), d.since) for d in subs)[1]
    summary = f"A container for {name.lower()} commands."
    return Declaration(LOCAL, name, _run_container, -2, subs[0].group, since, summary, "Depends on subcommand.", "", "",
                       "", "", None)  # fmt: skip


def shown(text: bytes, limit: int = _SHOWN_BYTES) -> str:
    """What an error may quote of an argument: up to ``limit`` bytes, up to the first NUL, on one line."""
    cut = text[:limit].partition(b"\0")[0].replace(b"\r", b" ").replace(b"\n", b" ")
    return cut.decode("utf-8", "surrogateescape")


def _unknown_command(argv: Argv) -> CommandError:
    quoted = ""
    size = 0
    for arg in argv[1:]:
        if size >= _SHOWN_BYTES:
            break
        text = shown(arg, _SHOWN_BYTES - size)
        quoted += f"'{text}' "
        size += len(text.encode("utf-8", "surrogateescape")) + 3
    return CommandError(f"ERR unknown command '{shown(argv[0])}', with args beginning with: {quoted}")


def _unknown_subcommand(row: Row, argv: Argv) -> CommandError:
    return CommandError(f"ERR unknown subcommand '{shown(argv[1])}'. Try {shown(argv[0].upper())} HELP.")


def build_table() -> Table:
    """Every command of durakv."""
    # Local, so that a table of a few modules can be frozen without loading the rest.
    from durakv.commands import (
        acl,
        bitfield,
        bitmaps,
        cluster,
        cluster_scan,
        connection,
        connection_tracking,
        expire,
        functions,
        generic,
        generic_copy,
        generic_flush,
        generic_object,
        generic_scan,
        geo,
        geo_search,
        hashes,
        hashes_expire,
        hyperloglog,
        introspect,
        lists,
        lists_blocking,
        pubsub,
        replication,
        scripting,
        server,
        sets,
        sets_algebra,
        sort,
        sorted_sets,
        sorted_sets_algebra,
        sorted_sets_blocking,
        sorted_sets_range,
        streams,
        streams_claim,
        streams_groups,
        streams_info,
        streams_read,
        strings,
        strings_edit,
        strings_lcs,
        transactions,
    )

    # The one list of command modules, in the order of their ids.
    modules = (
        strings.COMMANDS, strings_edit.COMMANDS, strings_lcs.COMMANDS,
        generic.COMMANDS, generic_copy.COMMANDS, generic_flush.COMMANDS, generic_object.COMMANDS,
        generic_scan.COMMANDS, expire.COMMANDS, sort.COMMANDS,
        hashes.COMMANDS, hashes_expire.COMMANDS,
        lists.COMMANDS, lists_blocking.COMMANDS, sets.COMMANDS, sets_algebra.COMMANDS,
        sorted_sets.COMMANDS, sorted_sets_range.COMMANDS, sorted_sets_algebra.COMMANDS, sorted_sets_blocking.COMMANDS,
        bitmaps.COMMANDS, bitfield.COMMANDS, hyperloglog.COMMANDS,
        geo.COMMANDS, geo_search.COMMANDS,
        streams.COMMANDS, streams_read.COMMANDS, streams_groups.COMMANDS, streams_claim.COMMANDS, streams_info.COMMANDS,
        connection.COMMANDS, connection_tracking.COMMANDS, server.COMMANDS, pubsub.COMMANDS, cluster.COMMANDS,
        cluster_scan.COMMANDS, replication.COMMANDS,
        introspect.COMMANDS, transactions.COMMANDS, acl.COMMANDS, scripting.COMMANDS, functions.COMMANDS,
    )  # fmt: skip
    declarations: list[Declaration] = []
    for commands in modules:
        declarations.extend(commands.declarations)
    return Table.freeze(declarations)
