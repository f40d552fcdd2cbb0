"""Commands on keys of any type: deletion, existence, type, renaming, and WAIT. [compiled]

Rule: these handlers never look inside a value; what they need to know of one comes from generic_values.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, parse_count, parse_int64, to_int64
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_NEW, LocalContext, ReadContext, WriteContext
from durakv.commands.generic_values import type_name
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import NO_SUCH_KEY, TIMEOUT_NEGATIVE, TIMEOUT_OUT_OF_RANGE, CommandError
from durakv.resp.types import NO_REPLY, OK, Reply, Simple

COMMANDS: Final = Commands("generic")

TIMEOUT_NOT_INTEGER: Final = "ERR timeout is not an integer or out of range"
NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
_NONE: Final = Simple(b"none")
_TYPES: Final[dict[bytes, Simple]] = {
    name: Simple(name) for name in (b"string", b"list", b"set", b"zset", b"hash", b"stream")
}  # fmt: skip


def _delete(ctx: WriteContext, argv: Argv) -> int:
    count = 0
    db = ctx.db
    for i in range(1, len(argv)):
        if db.delete(argv[i]):
            ctx.notify(NOTIFY_GENERIC, b"del", argv[i])
            count += 1
    return count


@COMMANDS.write("DEL", arity=-2, since="1.0.0", keys="RM|DELETE@i1+r-1/1/0", complexity="O(N), N the number of keys",
                tips="request_policy:multi_shard response_policy:agg_sum", summary="Deletes keys.")  # fmt: skip
def del_(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many there were. Source: db.c delGenericCommand()."""
    return _delete(ctx, argv)


@COMMANDS.write("UNLINK", arity=-2, since="4.0.0", flags="fast", keys="RM|DELETE@i1+r-1/1/0",
                complexity="O(N), N the number of keys", tips="request_policy:multi_shard response_policy:agg_sum",
                summary="Deletes keys; here the same as DEL.")  # fmt: skip
def unlink(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many there were. Source: db.c delGenericCommand()."""
    return _delete(ctx, argv)


def _count(ctx: ReadContext, argv: Argv) -> int:
    count = 0
    db = ctx.db
    for i in range(1, len(argv)):
        if db.get(argv[i]) is not None:
            count += 1
    return count


@COMMANDS.read("EXISTS", arity=-2, since="1.0.0", flags="fast", keys="RO@i1+r-1/1/0",
               complexity="O(N), N the number of keys", tips="request_policy:multi_shard response_policy:agg_sum",
               summary="Counts how many of the given keys exist; a repeated key counts again.")  # fmt: skip
def exists(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: a count. Source: db.c existsCommand()."""
    return _count(ctx, argv)


@COMMANDS.read("TOUCH", arity=-2, since="3.2.1", flags="fast", keys="RO@i1+r-1/1/0",
               complexity="O(N), N the number of keys", tips="request_policy:multi_shard response_policy:agg_sum",
               summary="Counts how many of the given keys exist, counting as an access to each.")  # fmt: skip
def touch(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: a count. Source: expire.c touchCommand()."""
    return _count(ctx, argv)


@COMMANDS.read("TYPE", arity=2, since="1.0.0", flags="fast", keys="RO@i1+r0/1/0",
               summary="Returns the type of the value at a key.")  # fmt: skip
def type_(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: simple string; none for an absent key. Source: db.c typeCommand()."""
    value = ctx.db.get(argv[1])
    return _NONE if value is None else _TYPES[type_name(value)]


def _rename(ctx: WriteContext, argv: Argv, *, only_new: bool) -> bool:
    """Whether the key has the new name now. Source: db.c renameGenericCommand()."""
    source, target = argv[1], argv[2]
    db = ctx.db
    value = db.get(source)
    if value is None:
        raise CommandError(NO_SUCH_KEY)
    if source == target:
        return not only_new
    taken = db.get(target) is not None
    if taken and only_new:
        return False
    at_ms = db.expiry(source)
    db.delete(source)
    db.put(target, value)
    if at_ms >= 0:
        db.set_expiry(target, at_ms)
    if not taken:
        ctx.notify(NOTIFY_NEW, b"new", target)
    ctx.notify(NOTIFY_GENERIC, b"rename_from", source)
    ctx.notify(NOTIFY_GENERIC, b"rename_to", target)
    return True


@COMMANDS.write("RENAME", arity=3, since="1.0.0", keys="RW|ACCESS|DELETE@i1+r0/1/0 OW|UPDATE@i2+r0/1/0",
                summary="Renames a key, replacing whatever has the new name.")  # fmt: skip
def rename(ctx: WriteContext, argv: Argv) -> Reply:
    """The deadline moves along. Source: db.c renameCommand()."""
    _rename(ctx, argv, only_new=False)
    return OK


@COMMANDS.write("RENAMENX", arity=3, since="1.0.0", flags="fast",
                keys="RW|ACCESS|DELETE@i1+r0/1/0 OW|INSERT@i2+r0/1/0",
                summary="Renames a key if the new name is free.")  # fmt: skip
def renamenx(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: db.c renamenxCommand()."""
    return 1 if _rename(ctx, argv, only_new=True) else 0


@COMMANDS.local("WAIT", arity=3, since="3.0.0", flags="blocking", acl="connection",
                tips="request_policy:all_shards response_policy:agg_min",
                summary="Waits until the connection's writes are held durably by a number of other nodes.")  # fmt: skip
def wait(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply, later: how many other nodes hold them. Source: replication.c waitCommand()."""
    replicas = parse_int64(argv[1])
    ctx.node.wait_replicas(ctx.session, 0, replicas, _timeout_ms(ctx, argv[2]), False)
    return NO_REPLY


@COMMANDS.local("WAITAOF", arity=4, since="7.2.0", flags="blocking", acl="connection",
                tips="request_policy:all_shards response_policy:agg_min",
                summary="Waits until the connection's writes are synced here and on other nodes.")  # fmt: skip
def waitaof(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply, later: [synced here, other nodes]. Source: replication.c waitaofCommand()."""
    local = parse_count(argv[1], 0, 1)
    replicas = to_int64(argv[2])
    if replicas is None or replicas < 0:
        raise CommandError(NOT_POSITIVE)
    ctx.node.wait_replicas(ctx.session, local, replicas, _timeout_ms(ctx, argv[3]), True)
    return NO_REPLY


def _timeout_ms(ctx: LocalContext, text: bytes) -> int:
    """0 waits for ever. Raises CommandError. Source: timeout.c getTimeoutFromObjectOrReply()."""
    value = to_int64(text)
    if value is None:
        raise CommandError(TIMEOUT_NOT_INTEGER)
    if value < 0:
        raise CommandError(TIMEOUT_NEGATIVE)
    if value > INT64_MAX - ctx.node.clock.wall_ms():
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    return value
