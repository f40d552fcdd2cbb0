"""Keys between places: COPY, MOVE, DUMP, RESTORE; MIGRATE, which is refused. [compiled]

Rule: a copy shares no mutable state with its source. The payload of DUMP is keyspace/dump's business.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import parse_count, parse_int64
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_NEW, ReadContext, WriteContext
from durakv.commands.generic_values import copy_of
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.dump import dump_payload, load_payload
from durakv.keyspace.keyspace import Db
from durakv.keyspace.rdb_packed import RdbError
from durakv.resp.errors import DB_INDEX, SYNTAX, CommandError
from durakv.resp.types import OK, Reply

COMMANDS: Final = Commands("generic")
_SERVER: Final = Commands("server")

SAME_OBJECT: Final = "ERR source and destination objects are the same"
BUSY_KEY: Final = "BUSYKEY Target key name already exists."
INVALID_TTL: Final = "ERR Invalid TTL value, must be >= 0"
INVALID_IDLETIME: Final = "ERR Invalid IDLETIME value, must be >= 0"
NO_MIGRATE: Final = (
    "ERR MIGRATE is not supported: nothing that runs in the log may connect elsewhere. Use DUMP here and "
    "RESTORE there, or durakv-cli export"
)
INVALID_FREQ: Final = "ERR Invalid FREQ value, must be >= 0 and <= 255"
_INT_MAX: Final = (1 << 31) - 1
_INT64_MAX: Final = (1 << 63) - 1


def _database(ctx: WriteContext, text: bytes) -> Db:
    number = parse_count(text, -_INT_MAX - 1, _INT_MAX)
    if not 0 <= number < len(ctx.ks.dbs):
        raise CommandError(DB_INDEX)
    return ctx.ks.dbs[number]


def _notify_in(ctx: WriteContext, db: Db, event_class: int, event: bytes, key: bytes) -> None:
    selected = ctx.db
    ctx.db = db
    ctx.notify(event_class, event, key)
    ctx.db = selected


@COMMANDS.write("COPY", arity=-3, since="6.2.0", flags="denyoom", keys="RO|ACCESS@i1+r0/1/0 OW|UPDATE@i2+r0/1/0",
                complexity="O(N), N the number of elements",
                summary="Copies the value of a key to another key.")  # fmt: skip
def copy(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1, or 0 when there is nothing to copy or the target exists. Source: db.c copyCommand()."""
    source, target = argv[1], argv[2]
    replace = False
    to = ctx.db
    i = 3
    while i < len(argv):
        word = argv[i].upper()
        i += 1
        if word == b"REPLACE":
            replace = True
        elif word == b"DB" and i < len(argv):
            to = _database(ctx, argv[i])
            i += 1
        else:
            raise CommandError(SYNTAX)
    if to is ctx.db and source == target:
        raise CommandError(SAME_OBJECT)
    value = ctx.db.get(source)
    if value is None:
        return 0
    if to.get(target) is not None:
        if not replace:
            return 0
    else:
        _notify_in(ctx, to, NOTIFY_NEW, b"new", target)
    to.put(target, copy_of(value))
    at_ms = ctx.db.expiry(source)
    if at_ms >= 0:
        to.set_expiry(target, at_ms)
    _notify_in(ctx, to, NOTIFY_GENERIC, b"copy_to", target)
    return 1


@COMMANDS.write("MOVE", arity=3, since="1.0.0", flags="fast", keys="RW|ACCESS|UPDATE@i1+r0/1/0",
                summary="Moves a key to another database.")  # fmt: skip
def move(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1, or 0 when there is nothing to move or the target exists. Source: db.c moveCommand()."""
    key = argv[1]
    db = ctx.db
    to = _database(ctx, argv[2])
    if to is db:
        raise CommandError(SAME_OBJECT)
    value = db.get(key)
    if value is None or to.get(key) is not None:
        return 0
    at_ms = db.expiry(key)
    db.delete(key)
    to.put(key, value)
    if at_ms >= 0:
        to.set_expiry(key, at_ms)
    _notify_in(ctx, to, NOTIFY_NEW, b"new", key)
    ctx.notify(NOTIFY_GENERIC, b"move_from", key)
    _notify_in(ctx, to, NOTIFY_GENERIC, b"move_to", key)
    return 1


@COMMANDS.read("DUMP", arity=2, since="2.6.0", keys="RO|ACCESS@i1+r0/1/0", tips="nondeterministic_output",
               complexity="O(N), N the size of the value",
               summary="Returns a serialised form of the value of a key.")  # fmt: skip
def dump(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk, or null without the key. Source: cluster.c dumpCommand()."""
    value = ctx.db.get(argv[1])
    return None if value is None else dump_payload(value)


class _RestoreOptions:
    __slots__ = ("absolute", "replace")

    def __init__(self) -> None:
        self.replace = False
        self.absolute = False


def _restore_options(argv: Argv) -> _RestoreOptions:
    """IDLETIME and FREQ are checked and dropped: access statistics are local, not replicated. Raises CommandError."""
    options = _RestoreOptions()
    idle = freq = False
    i = 4
    while i < len(argv):
        word = argv[i].upper()
        i += 1
        if word == b"REPLACE":
            options.replace = True
        elif word == b"ABSTTL":
            options.absolute = True
        elif word == b"IDLETIME" and i < len(argv) and not freq:
            if parse_int64(argv[i]) < 0:
                raise CommandError(INVALID_IDLETIME)
            idle = True
            i += 1
        elif word == b"FREQ" and i < len(argv) and not idle:
            if not 0 <= parse_int64(argv[i]) <= 255:
                raise CommandError(INVALID_FREQ)
            freq = True
            i += 1
        else:
            raise CommandError(SYNTAX)
    return options


@COMMANDS.write("RESTORE", arity=-4, since="2.6.0", flags="denyoom", keys="OW|UPDATE@i1+r0/1/0",
                acl="dangerous keyspace", complexity="O(N), N the size of the value",
                summary="Creates a key from a serialised form.")  # fmt: skip
def restore(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: cluster.c restoreCommand()."""
    options = _restore_options(argv)
    key = argv[1]
    db = ctx.db
    present = db.get(key) is not None
    if present and not options.replace:
        raise CommandError(BUSY_KEY)
    at_ms = parse_int64(argv[2])
    if at_ms < 0:
        raise CommandError(INVALID_TTL)
    try:
        value = load_payload(argv[3])
    except RdbError as e:
        raise CommandError("ERR " + e.text) from None
    if at_ms and not options.absolute:
        at_ms = min(at_ms + ctx.now_ms, _INT64_MAX)
    if at_ms and at_ms <= ctx.now_ms:
        if db.delete(key):
            ctx.notify(NOTIFY_GENERIC, b"del", key)
        return OK
    db.put(key, value)
    if at_ms:
        db.set_expiry(key, at_ms)
    if not present:
        ctx.notify(NOTIFY_NEW, b"new", key)
    ctx.notify(NOTIFY_GENERIC, b"restore", key)
    return OK


@_SERVER.write("RESTORE-ASKING", arity=-4, since="3.0.0", flags="denyoom asking", keys="OW|UPDATE@i1+r0/1/0",
               acl="dangerous keyspace", complexity="O(N), N the size of the value",
               summary="RESTORE as the tools of a slot migration send it.")  # fmt: skip
def restore_asking(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: cluster.c restoreCommand()."""
    return restore(ctx, argv)


@COMMANDS.write("MIGRATE", arity=-6, since="2.6.0", acl="dangerous",
                keys="RW|ACCESS|DELETE@i3+r0/1/0 RW|ACCESS|DELETE|INCOMPLETE@kw:KEYS@-2+r-1/1/0",
                tips="nondeterministic_output", summary="Refused: copy with DUMP and RESTORE.")  # fmt: skip
def migrate(ctx: WriteContext, argv: Argv) -> Reply:
    """Always refused."""
    raise CommandError(NO_MIGRATE)


COMMANDS.declarations.extend(_SERVER.declarations)
