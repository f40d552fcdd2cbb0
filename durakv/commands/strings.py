"""GET, SET and the commands that read, replace or delete whole strings. [compiled]

Rule: a string is stored as ``bytes`` exactly as sent; commands that patch one are in strings_edit. Deadlines are
computed from the entry's time, so every node stores the same one.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import (
    GET,
    GETEX_OPTIONS,
    IFEQ,
    KEEPTTL,
    MSETEX_OPTIONS,
    NX,
    PERSIST,
    SET_OPTIONS,
    XX,
    Options,
    deadline,
    parse_count,
    parse_options,
)
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_NEW, NOTIFY_STRING, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import WRONGTYPE, CommandError, wrong_arity
from durakv.resp.types import OK, Reply

COMMANDS: Final = Commands("string")

_INT_MAX: Final = (1 << 31) - 1
_KEY_RO: Final = "RO|ACCESS@i1+r0/1/0"
_KEY_OW: Final = "OW|UPDATE@i1+r0/1/0"
_KEY_RW: Final = "RW|ACCESS|UPDATE@i1+r0/1/0"


@COMMANDS.read("GET", arity=2, since="1.0.0", summary="Returns the string value of a key.", flags="fast", keys=_KEY_RO)
def get(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk or null. Source: t_string.c getCommand()."""
    return ctx.db.read_string(argv[1])


@COMMANDS.write("SET", arity=-3, since="1.0.0", flags="denyoom", keys="RW|ACCESS|UPDATE|VARIABLE_FLAGS@i1+r0/1/0",
                summary="Sets the string value of a key, with conditions and an expiry if asked.")  # fmt: skip
def set_(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK; null when a condition failed; the old value with GET. Source: t_string.c setGenericCommand()."""
    if len(argv) == 3:
        if ctx.notify_mask == 0 and ctx.db.nexp == 0:
            ctx.db.put_last(argv[1], argv[2])
        else:
            store(ctx, argv[1], argv[2])
        return OK
    options = parse_options(argv, 3, SET_OPTIONS)
    at_ms = options.deadline(ctx.now_ms, "set")
    old = ctx.db.get(argv[1])
    wants_old = options.flags & GET != 0
    before: Reply = None
    if wants_old:
        before = string_or_none(old)
    if not _condition_holds(old, options):
        return before
    if at_ms >= 0 and at_ms <= ctx.now_ms:
        drop(ctx, argv[1])
    else:
        store(ctx, argv[1], argv[2], keep=options.flags & KEEPTTL != 0)
        if at_ms >= 0:
            expire(ctx, argv[1], at_ms)
    return before if wants_old else OK


def _condition_holds(old: object, options: Options) -> bool:
    flags = options.flags
    if flags & NX:
        return old is None
    if flags & XX:
        return old is not None
    if flags & IFEQ:
        return old is not None and string_or_none(old) == options.compare
    return True


def string_or_none(value: object) -> bytes | None:
    """A stored value as bytes, a copy when it is mutable. Raises CommandError WRONGTYPE."""
    if value is None:
        return None
    if type(value) is bytes:
        return value
    if type(value) is bytearray:
        return bytes(value)
    raise CommandError(WRONGTYPE)


def store(ctx: WriteContext, key: bytes, value: bytes | bytearray, *, keep: bool = False) -> None:
    """Put a whole string and tell of it; ``keep`` keeps the deadline."""
    db = ctx.db
    if db.get(key) is None:
        ctx.notify(NOTIFY_NEW, b"new", key)
    if keep:
        db.put_keep(key, value)
    else:
        db.put(key, value)
    ctx.notify(NOTIFY_STRING, b"set", key)


def expire(ctx: WriteContext, key: bytes, at_ms: int) -> None:
    """Give ``key`` a deadline and tell of it."""
    ctx.db.set_expiry(key, at_ms)
    ctx.notify(NOTIFY_GENERIC, b"expire", key)


def drop(ctx: WriteContext, key: bytes) -> bool:
    """Delete ``key`` and tell of it; False when it was not there."""
    if not ctx.db.delete(key):
        return False
    ctx.notify(NOTIFY_GENERIC, b"del", key)
    return True


@COMMANDS.write("SETNX", arity=3, since="1.0.0", flags="denyoom fast", keys="OW|INSERT@i1+r0/1/0",
                summary="Sets the string value of a key that does not exist.")  # fmt: skip
def setnx(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: t_string.c setnxCommand()."""
    if ctx.db.get(argv[1]) is not None:
        return 0
    store(ctx, argv[1], argv[2])
    return 1


@COMMANDS.write("SETEX", arity=4, since="2.0.0", flags="denyoom", keys=_KEY_OW,
                summary="Sets a string and its expiry in seconds.")  # fmt: skip
def setex(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: t_string.c setexCommand()."""
    at_ms = deadline(argv[2], seconds=True, now_ms=ctx.now_ms, command="setex")
    store(ctx, argv[1], argv[3])
    expire(ctx, argv[1], at_ms)
    return OK


@COMMANDS.write("PSETEX", arity=4, since="2.6.0", flags="denyoom", keys=_KEY_OW,
                summary="Sets a string and its expiry in milliseconds.")  # fmt: skip
def psetex(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: t_string.c psetexCommand()."""
    at_ms = deadline(argv[2], seconds=False, now_ms=ctx.now_ms, command="psetex")
    store(ctx, argv[1], argv[3])
    expire(ctx, argv[1], at_ms)
    return OK


@COMMANDS.write("GETSET", arity=3, since="1.0.0", flags="denyoom fast", keys=_KEY_RW,
                summary="Returns the previous string value of a key after setting a new one.")  # fmt: skip
def getset(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the old value or null. Source: t_string.c getsetCommand()."""
    old = ctx.db.read_string(argv[1])
    store(ctx, argv[1], argv[2])
    return old


@COMMANDS.write("GETDEL", arity=2, since="6.2.0", flags="fast", keys="RW|ACCESS|DELETE@i1+r0/1/0",
                summary="Returns the string value of a key and deletes the key.")  # fmt: skip
def getdel(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the value or null. Source: t_string.c getdelCommand()."""
    old = ctx.db.read_string(argv[1])
    if old is not None:
        drop(ctx, argv[1])
    return old


@COMMANDS.write("GETEX", arity=-2, since="6.2.0", flags="fast", keys=_KEY_RW,
                summary="Returns the string value of a key after setting or removing its expiry.")  # fmt: skip
def getex(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the value or null. Source: t_string.c getexCommand()."""
    options = parse_options(argv, 2, GETEX_OPTIONS)
    key = argv[1]
    value = ctx.db.read_string(key)
    if value is None:
        return None
    at_ms = options.deadline(ctx.now_ms, "getex")
    if at_ms >= 0:
        if at_ms <= ctx.now_ms:
            drop(ctx, key)
        else:
            expire(ctx, key, at_ms)
    elif options.flags & PERSIST and ctx.db.clear_expiry(key):
        ctx.notify(NOTIFY_GENERIC, b"persist", key)
    return value


@COMMANDS.write("DELIFEQ", arity=3, since="9.0.0", flags="fast", keys="RM|DELETE@i1+r0/1/0",
                summary="Deletes a key if its string value equals the given one.")  # fmt: skip
def delifeq(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: t_string.c delifeqCommand()."""
    value = ctx.db.read_string(argv[1])
    if value is None or value != argv[2]:
        return 0
    drop(ctx, argv[1])
    return 1


@COMMANDS.read("MGET", arity=-2, since="1.0.0", flags="fast", keys="RO|ACCESS@i1+r-1/1/0",
               complexity="O(N), N the number of keys", tips="request_policy:multi_shard",
               summary="Returns the string values of several keys.")  # fmt: skip
def mget(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array; null for a key that is absent or no string. Source: t_string.c mgetCommand()."""
    out: list[object] = []
    db = ctx.db
    for i in range(1, len(argv)):
        value = db.get(argv[i])
        if type(value) is bytes:
            out.append(value)
        elif type(value) is bytearray:
            out.append(bytes(value))
        else:
            out.append(None)
    return out


@COMMANDS.write("MSET", arity=-3, since="1.0.1", flags="denyoom", keys="OW|UPDATE@i1+r-1/2/0",
                complexity="O(N), N the number of keys",
                tips="request_policy:multi_shard response_policy:all_succeeded",
                summary="Sets the string values of several keys.")  # fmt: skip
def mset(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: t_string.c msetGenericCommand()."""
    if len(argv) % 2 == 0:
        raise wrong_arity("mset")
    for i in range(1, len(argv), 2):
        store(ctx, argv[i], argv[i + 1])
    return OK


@COMMANDS.write("MSETNX", arity=-3, since="1.0.1", flags="denyoom", keys="OW|INSERT@i1+r-1/2/0",
                complexity="O(N), N the number of keys",
                summary="Sets the string values of several keys if none of them exists.")  # fmt: skip
def msetnx(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: t_string.c msetGenericCommand()."""
    if len(argv) % 2 == 0:
        raise wrong_arity("msetnx")
    db = ctx.db
    for i in range(1, len(argv), 2):
        if db.get(argv[i]) is not None:
            return 0
    for i in range(1, len(argv), 2):
        store(ctx, argv[i], argv[i + 1])
    return 1


@COMMANDS.write("MSETEX", arity=-4, since="9.1.0", flags="denyoom", keys="OW|UPDATE@i1+n0/1/2",
                complexity="O(N), N the number of keys",
                tips="request_policy:multi_shard response_policy:all_succeeded",
                summary="Sets the string values of several keys, with conditions and one shared expiry.")  # fmt: skip
def msetex(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1, or 0 when NX or XX failed for any key. Source: t_string.c msetexCommand()."""
    count = parse_count(argv[1], 1, _INT_MAX, "ERR invalid numkeys value")
    end = 2 + 2 * count
    if end > len(argv):
        raise CommandError("ERR wrong number of key-value pairs")
    options = parse_options(argv, end, MSETEX_OPTIONS)
    at_ms = options.deadline(ctx.now_ms, "msetex")
    db = ctx.db
    if options.flags & (NX | XX):
        present = options.flags & XX != 0
        for i in range(2, end, 2):
            if (db.get(argv[i]) is not None) != present:
                return 0
    for i in range(2, end, 2):
        if at_ms >= 0 and at_ms <= ctx.now_ms:
            drop(ctx, argv[i])
            continue
        store(ctx, argv[i], argv[i + 1], keep=options.flags & KEEPTTL != 0)
        if at_ms >= 0:
            expire(ctx, argv[i], at_ms)
    return 1
