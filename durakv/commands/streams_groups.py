"""Consumer groups of streams: XGROUP, XACK, XPENDING; claiming is in streams_claim, reading in streams_read.

Rule: what only moves a group's cursor or acknowledges is no change to watched keys, as upstream; a group's end is, so
that readers waiting for it learn of it. Source: t_stream.c xgroupCommand(), xackCommand(), xpendingCommand().
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import parse_int64
from durakv.commands.collection import created
from durakv.commands.context import NOTIFY_STREAM, LocalContext, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.streams_args import bad_subcommand, elapsed, parse_id, parse_start, parse_stop, quoted
from durakv.keyspace.values.stream import Stream, format_id
from durakv.keyspace.values.streamgroup import READ_UNKNOWN, Group, IdSet
from durakv.keyspace.values.streampack import signed64
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import NULL_ARRAY, OK, Reply, Simple

COMMANDS: Final = Commands("stream")

KEY_NEEDED: Final = (
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option "
    "to create an empty stream automatically."
)
READ_NEGATIVE: Final = "ERR value for ENTRIESREAD must be positive or -1"
BUSY_GROUP: Final = "BUSYGROUP Consumer Group name already exists"

_KEY_INSERT: Final = "RW|INSERT@i2+r0/1/0"
_KEY_UPDATE: Final = "RW|UPDATE@i2+r0/1/0"
_KEY_DELETE: Final = "RW|DELETE@i2+r0/1/0"
# Entries looked at in one go while XPENDING filters by idle time.
_CHUNK: Final = 256
_XGROUP_HELP: Final = (
    b"XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    b"CREATE <key> <groupname> <id|$> [option]",
    b"    Create a new consumer group. Options are:",
    b"    * MKSTREAM",
    b"      Create the empty stream if it does not exist.",
    b"    * ENTRIESREAD entries_read",
    b"      Set the group's entries_read counter (internal use).",
    b"CREATECONSUMER <key> <groupname> <consumer>",
    b"    Create a new consumer in the specified group.",
    b"DELCONSUMER <key> <groupname> <consumer>",
    b"    Remove the specified consumer.",
    b"DESTROY <key> <groupname>",
    b"    Remove the specified group.",
    b"SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    b"    Set the current group ID and entries_read counter.",
    b"HELP",
    b"    Print this help.",
)


def no_group(key: bytes, name: bytes) -> CommandError:
    """For commands that look at the key and the group at once."""
    return CommandError(f"NOGROUP No such key '{quoted(key)}' or consumer group '{quoted(name)}'")


def no_group_in(key: bytes, name: bytes) -> CommandError:
    """For commands that have found the key."""
    return CommandError(f"NOGROUP No such consumer group '{quoted(name)}' for key name '{quoted(key)}'")


def find_group(ctx: ReadContext | WriteContext, key: bytes, name: bytes) -> tuple[Stream, Group]:
    """The stream at ``key`` and its group. Raises CommandError WRONGTYPE or NOGROUP."""
    stream = ctx.db.typed(key, Stream)
    group = None if stream is None else stream.groups.get(name)
    if stream is None or group is None:
        raise no_group(key, name)
    return stream, group


def _require(ctx: WriteContext, argv: Argv) -> tuple[Stream, Group]:
    """The stream argv[2] and its group argv[3]. Raises CommandError."""
    stream = ctx.db.typed(argv[2], Stream)
    if stream is None:
        raise CommandError(KEY_NEEDED)
    group = stream.groups.get(argv[3])
    if group is None:
        raise no_group_in(argv[2], argv[3])
    return stream, group


def _group_options(argv: Argv, *, creating: bool) -> tuple[bool, int]:
    """(MKSTREAM, ENTRIESREAD or READ_UNKNOWN) from argv[5] on. Raises CommandError."""
    make = False
    read = READ_UNKNOWN
    i = 5
    while i < len(argv):
        word = argv[i].upper()
        if creating and word == b"MKSTREAM":
            make = True
            i += 1
        elif word == b"ENTRIESREAD" and i + 1 < len(argv):
            read = parse_int64(argv[i + 1])
            if read < 0 and read != READ_UNKNOWN:
                raise CommandError(READ_NEGATIVE)
            i += 2
        else:
            raise bad_subcommand(argv)
    return make, read


@COMMANDS.write("XGROUP|CREATE", arity=-5, since="5.0.0", flags="denyoom", keys=_KEY_INSERT,
                summary="Creates a consumer group of a stream.")  # fmt: skip
def xgroup_create(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK."""
    make, read = _group_options(argv, creating=True)
    key, name = argv[2], argv[3]
    stream = ctx.db.typed(key, Stream)
    if stream is None and not make:
        raise CommandError(KEY_NEEDED)
    if len(argv) > 8:
        raise bad_subcommand(argv)
    if argv[4] == b"$":
        last_id = 0 if stream is None else stream.last_id
    else:
        last_id = parse_id(argv[4])
    if stream is None:
        stream = Stream()
        ctx.db.put(key, stream)
        created(ctx, key)
    elif name in stream.groups:
        raise CommandError(BUSY_GROUP)
    stream.create_group(name, last_id, read)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xgroup-create", key)
    return OK


@COMMANDS.write("XGROUP|SETID", arity=-5, since="5.0.0", keys=_KEY_UPDATE,
                summary="Sets the last delivered id of a consumer group.")  # fmt: skip
def xgroup_setid(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK."""
    _, read = _group_options(argv, creating=False)
    stream, group = _require(ctx, argv)
    if len(argv) not in (5, 7):
        raise bad_subcommand(argv)
    group.move(stream.last_id if argv[4] == b"$" else parse_id(argv[4], strict=False), read)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xgroup-setid", argv[2])
    return OK


@COMMANDS.write("XGROUP|DESTROY", arity=4, since="5.0.0", keys=_KEY_DELETE,
                summary="Removes a consumer group.",
                complexity="O(N), N the number of pending entries of the group")  # fmt: skip
def xgroup_destroy(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went, 0 or 1."""
    stream = ctx.db.typed(argv[2], Stream)
    if stream is None:
        raise CommandError(KEY_NEEDED)
    if argv[3] not in stream.groups:
        return 0
    stream.destroy_group(argv[3])
    ctx.db.touched(argv[2])
    if ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xgroup-destroy", argv[2])
    return 1


@COMMANDS.write("XGROUP|CREATECONSUMER", arity=5, since="6.2.0", flags="denyoom", keys=_KEY_INSERT,
                summary="Creates a consumer in a consumer group.")  # fmt: skip
def xgroup_createconsumer(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many were created, 0 or 1."""
    _, group = _require(ctx, argv)
    if argv[4] in group.consumers:
        return 0
    group.create(argv[4], ctx.now_ms)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xgroup-createconsumer", argv[2])
    return 1


@COMMANDS.write("XGROUP|DELCONSUMER", arity=5, since="5.0.0", keys=_KEY_DELETE,
                summary="Removes a consumer and what is pending for it.",
                complexity="O(N), N the number of entries pending for the consumer")  # fmt: skip
def xgroup_delconsumer(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many entries were pending for it."""
    _, group = _require(ctx, argv)
    consumer = group.consumers.get(argv[4])
    if consumer is None:
        return 0
    dropped = group.delete(consumer)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xgroup-delconsumer", argv[2])
    return dropped


@COMMANDS.local("XGROUP|HELP", arity=2, since="5.0.0", flags="loading stale", acl="stream",
                summary="Describes the subcommands.")  # fmt: skip
def xgroup_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: lines."""
    lines: list[object] = [Simple(line) for line in _XGROUP_HELP]
    return lines


@COMMANDS.write("XACK", arity=-4, since="5.0.0", flags="fast", keys="RW|UPDATE@i1+r0/1/0",
                summary="Acknowledges entries delivered to a consumer group.", complexity="O(1) per entry")  # fmt: skip
def xack(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many were pending."""
    stream = ctx.db.typed(argv[1], Stream)
    group = None if stream is None else stream.groups.get(argv[2])
    if group is None:
        return 0
    ids = [parse_id(text) for text in argv[3:]]
    acknowledged = 0
    for entry_id in ids:
        if entry_id in group.pending:
            group.drop(entry_id)
            acknowledged += 1
    return acknowledged


# -- XPENDING ------------------------------------------------------------------------------------------------------


@COMMANDS.read("XPENDING", arity=-3, since="5.0.0", keys="RO|ACCESS@i1+r0/1/0", tips="nondeterministic_output",
               summary="Returns what is delivered to a consumer group and not acknowledged.",
               complexity="O(N), N the number of entries or consumers returned")  # fmt: skip
def xpending(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: [count, least id, greatest id, [[consumer, count], ...]]; with a range [[id, consumer, idle, times], ...].

    Idle times are in ms.
    """
    n = len(argv)
    if n == 3:
        return _summary(find_group(ctx, argv[1], argv[2])[1])
    if not 6 <= n <= 9:
        raise CommandError(SYNTAX)
    idle_ms = 0
    at = 3
    if argv[3].upper() == b"IDLE":
        idle_ms = parse_int64(argv[4])
        if n < 8:
            raise CommandError(SYNTAX)
        at = 5
    count = max(parse_int64(argv[at + 2]), 0)
    start = parse_start(argv[at])
    stop = parse_stop(argv[at + 1])
    _, group = find_group(ctx, argv[1], argv[2])
    ids = group.order
    if at + 3 < n:
        consumer = group.consumers.get(argv[at + 3])
        if consumer is None:
            return []
        ids = consumer.pending
    return _pending(group, ids, start, stop, count, idle_ms, ctx.now_ms)


def _summary(group: Group) -> list[Reply]:
    if not group.order.size:
        return [0, None, None, NULL_ARRAY]
    consumers: list[Reply] = [
        [consumer.name, b"%d" % consumer.pending.size] for consumer in group.in_order() if consumer.pending.size
    ]
    return [group.order.size, format_id(group.order.least()), format_id(group.order.greatest()), consumers]


def _pending(group: Group, ids: IdSet, start: int, stop: int, count: int, idle_ms: int, now_ms: int) -> list[Reply]:
    out: list[Reply] = []
    while len(out) < count:
        chunk = ids.starting(start, _CHUNK)
        for entry_id in chunk:
            if entry_id > stop or len(out) == count:
                return out
            pending = group.pending[entry_id]
            idle = elapsed(now_ms, pending.delivered_ms)
            if not idle_ms or idle >= idle_ms:
                out.append([format_id(entry_id), pending.owner, max(idle, 0), signed64(pending.count)])
        if len(chunk) < _CHUNK:
            break
        start = chunk[-1] + 1
    return out
