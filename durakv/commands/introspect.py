"""COMMAND: what commands exist and where their keys are, told from the table.

Rule: adds no facts of its own; whatever is shown was declared, is derived by the table, or stands in docs.py's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.commands.context import LocalContext
from durakv.commands.docs import row_docs, subcommands
from durakv.commands.glob import glob_match
from durakv.commands.local_text import help_reply, text
from durakv.commands.spec import CATEGORIES, FLAGS, Argv, Commands, KeySpec
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Map, Reply, SetReply, Simple

if TYPE_CHECKING:
    from durakv.commands.table import Row, Table

COMMANDS: Final[Commands] = Commands("server")

# In Valkey's order; may_replicate, sentinel and protected are hidden there too.
_SHOWN_FLAGS: Final = (
    "write", "readonly", "denyoom", "admin", "pubsub", "noscript", "blocking", "loading", "stale", "skip_monitor",
    "skip_commandlog", "asking", "fast", "no_auth", "no_mandatory_keys", "no_async_loading", "no_multi",
    "allow_busy",
)  # fmt: skip
_ACCESS_FLAGS: Final = ("RO", "RW", "OW", "RM")
# Shown in this order, however declared.
_KEY_FLAGS: Final = (
    *_ACCESS_FLAGS, "ACCESS", "UPDATE", "INSERT", "DELETE", "NOT_KEY", "INCOMPLETE", "VARIABLE_FLAGS",
)  # fmt: skip
_BAD_ARGS: Final = "ERR Invalid arguments specified for command"


@COMMANDS.local("COMMAND", arity=-1, since="2.8.13", summary="Facts about all commands.",
                flags="loading stale", acl="connection", tips="nondeterministic_output_order")  # fmt: skip
def command(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of COMMAND INFO entries. Source: server.c commandCommand()."""
    return [row_info(row) for row in top_level(ctx.node.table)]


@COMMANDS.local("COMMAND|COUNT", arity=2, since="2.8.13", summary="How many commands there are.",
                flags="loading stale", acl="connection")  # fmt: skip
def command_count(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer; subcommands do not count."""
    return len(top_level(ctx.node.table))


@COMMANDS.local("COMMAND|INFO", arity=-2, since="2.8.13",
                summary="Facts about the named commands, all without names.", flags="loading stale",
                acl="connection", tips="nondeterministic_output_order")  # fmt: skip
def command_info(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array, null for an unknown name. Source: server.c commandInfoCommand()."""
    if len(argv) == 2:
        return command(ctx, argv)
    rows = [named(ctx.node.table, name) for name in argv[2:]]
    return [None if row is None else row_info(row) for row in rows]


@COMMANDS.local("COMMAND|DOCS", arity=-2, since="7.0.0",
                summary="Documentation of the named commands, of all without names.",
                flags="loading stale", acl="connection", tips="nondeterministic_output_order")  # fmt: skip
def command_docs(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map of name to map; unknown names are left out. Source: server.c commandDocsCommand()."""
    table = ctx.node.table
    rows = top_level(table) if len(argv) == 2 else [named(table, name) for name in argv[2:]]
    flat: list[Reply] = []
    for row in rows:
        if row is not None:
            flat += [row.name.encode(), row_docs(row)]
    return Map(flat)


@COMMANDS.local("COMMAND|LIST", arity=-2, since="7.0.0",
                summary="Names of commands and subcommands, optionally filtered.", flags="loading stale",
                acl="connection", tips="nondeterministic_output_order")  # fmt: skip
def command_list(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of names. Source: server.c commandListCommand()."""
    keep: Callable[[Row], bool] = _any
    if len(argv) > 2:
        if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
            raise CommandError(SYNTAX)
        keep = _filter(argv[3].upper(), argv[4])
    return [row.name.encode() for row in ctx.node.table.all if keep(row)]


def _any(row: Row) -> bool:
    return True


def _none(row: Row) -> bool:
    return False


def _filter(kind: bytes, value: bytes) -> Callable[[Row], bool]:
    if kind == b"MODULE":
        return _none
    if kind == b"ACLCAT":
        bit = CATEGORIES.get(text(value).lower(), 0)
        return lambda row: row.categories & bit != 0
    if kind == b"PATTERN":
        return lambda row: glob_match(value, row.name.encode(), True)
    raise CommandError(SYNTAX)


@COMMANDS.local("COMMAND|GETKEYS", arity=-3, since="2.8.13", summary="The keys a full command names.",
                flags="loading stale", acl="connection")  # fmt: skip
def command_getkeys(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array. Source: server.c getKeysSubcommandImpl()."""
    inner = argv[2:]
    return [inner[at] for at, _ in _keys(ctx.node.table, inner)]


@COMMANDS.local("COMMAND|GETKEYSANDFLAGS", arity=-3, since="7.0.0",
                summary="The keys a full command names and what it does to each.", flags="loading stale",
                acl="connection")  # fmt: skip
def command_getkeysandflags(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of [key, flags]."""
    inner = argv[2:]
    out: list[Reply] = []
    for at, flags in _keys(ctx.node.table, inner):
        out.append([inner[at], _flag_set(flags)])
    return out


@COMMANDS.local("COMMAND|HELP", arity=2, since="5.0.0", summary="Lists the subcommands.",
                flags="loading stale", acl="connection")  # fmt: skip
def command_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("(no subcommand)", "Facts about all commands."),
        ("COUNT", "Number of commands."),
        ("DOCS [<command-name> ...]", "Documentation of commands."),
        ("GETKEYS <full-command>", "Keys a command names."),
        ("GETKEYSANDFLAGS <full-command>", "Keys a command names and what it does to them."),
        ("INFO [<command-name> ...]", "Facts about commands."),
        ("LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]", "Names of commands."),
    ])  # fmt: skip


# -- replies ---------------------------------------------------------------------------------------------------------


def top_level(table: Table) -> list[Row]:
    """Commands without subcommands of containers."""
    return [row for row in table.all if "|" not in row.name]


def named(table: Table, name: bytes) -> Row | None:
    """A command or ``container|sub`` in any case."""
    return table.by_name.get(text(name).lower())


def row_info(row: Row) -> Reply:
    """One entry of COMMAND INFO: ten elements as in Valkey 7 and later."""
    flags = [name for name in _SHOWN_FLAGS if row.flags & FLAGS[name]]
    if row.movable_keys:
        flags.append("movablekeys")
    shown: list[Reply] = [Simple(name.encode()) for name in flags]
    categories: list[Reply] = [Simple(b"@" + name.encode()) for name, bit in CATEGORIES.items() if row.categories & bit]
    tips: list[Reply] = [tip.encode() for tip in row.declaration.tips]
    specs: list[Reply] = [_spec(spec) for spec in row.declaration.keys]
    subs: list[Reply] = [row_info(sub) for sub in subcommands(row)]
    return [
        row.name.encode(), row.declaration.arity, SetReply(shown), row.first, row.last, row.step, SetReply(categories),
        SetReply(tips), SetReply(specs), subs or SetReply([]),
    ]  # fmt: skip


def _flag_set(flags: tuple[str, ...]) -> Reply:
    shown = [flag for flag in _KEY_FLAGS if flag in flags]
    return SetReply([Simple((flag if flag in _ACCESS_FLAGS else flag.lower()).encode()) for flag in shown])


def _spec(spec: KeySpec) -> Reply:
    begin: list[Reply] = []
    if spec.begin == "index":
        begin = [b"index", spec.begin_from]
    elif spec.begin == "keyword":
        begin = [b"keyword", spec.keyword, b"startfrom", spec.begin_from]
    find: list[Reply] = []
    if spec.find == "range":
        find = [b"lastkey", spec.last, b"keystep", spec.step, b"limit", spec.limit]
    elif spec.find == "keynum":
        find = [b"keynumidx", spec.last, b"firstkey", spec.step, b"keystep", spec.limit]
    return Map([
        b"flags", _flag_set(spec.flags),
        b"begin_search", Map([b"type", spec.begin.encode(), b"spec", Map(begin)]),
        b"find_keys", Map([b"type", spec.find.encode(), b"spec", Map(find)]),
    ])  # fmt: skip


def _flags_of(spec: KeySpec, row: Row, inner: Argv) -> tuple[str, ...]:
    """What a request does to the keys of a spec; SET and BITFIELD say it by their options.

    Source: db.c setGetKeys(), bitfieldGetKeys().
    """
    if "VARIABLE_FLAGS" not in spec.flags:
        return spec.flags
    words = [word.upper() for word in inner]
    if row.name == "set":
        return ("RW", "ACCESS", "UPDATE") if b"GET" in words[3:] else ("OW", "UPDATE")
    if row.name == "bitfield" and _only_gets(words):
        return ("RO", "ACCESS")
    return tuple(flag for flag in spec.flags if flag != "VARIABLE_FLAGS")


def _only_gets(words: Argv) -> bool:
    """Whether BITFIELD has GET and OVERFLOW alone; what is no option counts as a change."""
    at = 2
    while at < len(words):
        step = {b"GET": 3, b"OVERFLOW": 2}.get(words[at], 0)
        if step == 0 or at + step > len(words):
            return False
        at += step
    return True


def _migrated(inner: Argv) -> list[int]:
    """MIGRATE names one key, or an empty one and a list behind KEYS. Source: db.c migrateGetKeys()."""
    words = [word.upper() for word in inner]
    at = 6
    while at < len(words):
        if words[at] == b"KEYS" and at + 1 < len(words):
            return [] if inner[3] else list(range(at + 1, len(words)))
        at += {b"AUTH": 2, b"AUTH2": 3}.get(words[at], 1)
    return [3]


def _keys(table: Table, inner: Argv) -> list[tuple[int, tuple[str, ...]]]:
    """(position, flags) of each key of a full command. Raises CommandError with Valkey's texts."""
    row = table.lookup(inner[0])
    if row is not None and row.subs is not None and len(inner) > 1:
        row = row.subs.get(inner[1].upper())
    if row is None:
        raise CommandError("ERR Invalid command specified")
    if not row.specs and row.declaration.key_positions is None:
        raise CommandError("ERR The command has no key arguments")
    if not row.argc_min <= len(inner) <= row.argc_max:
        raise CommandError("ERR Invalid number of arguments specified for command")
    optional = row.flags & FLAGS["no_mandatory_keys"]
    found: dict[int, tuple[str, ...]] = {}
    for spec in row.specs:
        try:
            places = spec.positions(inner)
        except CommandError:
            if optional:
                return []
            raise
        if not places and spec.begin == "index" and not optional:
            raise CommandError(_BAD_ARGS)
        for at in places:
            found[at] = _flags_of(spec, row, inner)
    if row.name == "migrate":
        found = dict.fromkeys(_migrated(inner), row.specs[0].flags)
    if row.declaration.key_positions is not None:
        rest = row.specs[-1].flags if row.specs else ("RW", "ACCESS", "UPDATE")
        found = {at: found.get(at, rest) for at in row.positions(inner)}
    if not found and not optional:
        raise CommandError(_BAD_ARGS)
    return list(found.items())
