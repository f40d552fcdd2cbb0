"""Deadlines of single fields of hashes: HEXPIRE and its kin, HTTL and its kin, HPERSIST, HSETEX, HGETEX.

Rule: a deadline is stored as absolute Unix milliseconds, computed from the entry's time; one that is past deletes the
field at once. Due fields are gone before a handler sees the hash, see keyspace/field_expiry.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, invalid_expire, parse_int64
from durakv.commands.collection import created
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_HASH, ReadContext, WriteContext
from durakv.commands.expire import parse_conditions, refused
from durakv.commands.hashes import open_hash
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.field_expiry import earliest
from durakv.keyspace.values.hash import Hash
from durakv.resp.errors import NUMFIELDS_MISMATCH, SYNTAX, CommandError
from durakv.resp.types import Reply

COMMANDS: Final = Commands("hash")

# What the commands answer for each field.
NO_FIELD: Final = -2
NO_DEADLINE: Final = -1
REFUSED: Final = 0
DONE: Final = 1
GONE: Final = 2

_KEY_UPDATE: Final = "RW|UPDATE@i1+r0/1/0"
_KEY_RO: Final = "RO|ACCESS@i1+r0/1/0"
_PER_FIELD: Final = "O(1) per field"

_NX: Final = 1
_XX: Final = 2
_FNX: Final = 4
_FXX: Final = 8
_KEEPTTL: Final = 16
_PERSIST: Final = 32
_SET_WORDS: Final[dict[bytes, int]] = {
    b"NX": _NX, b"XX": _XX, b"FNX": _FNX, b"FXX": _FXX, b"KEEPTTL": _KEEPTTL,
}  # fmt: skip
_GET_WORDS: Final[dict[bytes, int]] = {b"PERSIST": _PERSIST}
# Which options exclude which.
_EXCLUDED: Final[dict[int, int]] = {_NX: _XX, _XX: _NX, _FNX: _FXX, _FXX: _FNX, _KEEPTTL: 0, _PERSIST: 0}


# -- arguments -----------------------------------------------------------------------------------------------------


def _fields_at(argv: Argv, start: int) -> int:
    """Where the word FIELDS stands, from ``start`` on and not at the end; 0 when it does not."""
    for i in range(start, len(argv) - 1):
        if argv[i].upper() == b"FIELDS":
            return i
    return 0


def _check_count(argv: Argv, count_at: int, words_each: int, error: str) -> None:
    """Raises CommandError unless argv[count_at] says how many fields follow it."""
    count = parse_int64(argv[count_at])
    if count <= 0 or count * words_each != len(argv) - count_at - 1:
        raise CommandError(error)


def _deadline(text: bytes, *, seconds: bool, base_ms: int, command: str) -> int:
    """Unix ms; zero and the past are allowed, negative numbers are not. Raises CommandError.

    Source: expire.c convertExpireArgumentToUnixTime().
    """
    value = parse_int64(text)
    if value < 0 or (seconds and value > INT64_MAX // 1000):
        raise invalid_expire(command)
    if seconds:
        value *= 1000
    if value > INT64_MAX - base_ms:
        raise invalid_expire(command)
    return value + base_ms


class _Options:
    """What HSETEX or HGETEX were asked before the word FIELDS; ``expire`` is the raw argument, or None."""

    __slots__ = ("expire", "fields_at", "flags", "relative", "seconds")

    def __init__(self, argv: Argv, known: dict[bytes, int], words_each: int) -> None:
        """Raises CommandError. Source: parseExtendedCommandArgumentsOrReply(), t_hash.c hsetexCommand()."""
        self.flags = 0
        self.expire: bytes | None = None
        self.seconds = False
        self.relative = False
        at = _fields_at(argv, 2)
        if not at:
            raise CommandError(NUMFIELDS_MISMATCH)
        self._read(argv, at, known)
        _check_count(argv, at + 1, words_each, NUMFIELDS_MISMATCH)
        self.fields_at = at + 2

    def _read(self, argv: Argv, end: int, known: dict[bytes, int]) -> None:
        unit = b""
        i = 2
        while i < end:
            word = argv[i].upper()
            i += 1
            flag = known.get(word, 0)
            lasting = flag & (_KEEPTTL | _PERSIST)
            if flag and not self.flags & _EXCLUDED[flag] and not (lasting and unit):
                self.flags |= flag
            elif (
                word in (b"EX", b"PX", b"EXAT", b"PXAT")
                and not self.flags & (_KEEPTTL | _PERSIST)
                and unit in (b"", word)
                and i < end
            ):
                unit = word
                self.expire = argv[i]
                self.seconds = word[:1] == b"E"
                self.relative = len(word) == 2
                i += 1
            else:
                raise CommandError(SYNTAX)

    def deadline(self, now_ms: int, command: str) -> int:
        """Unix ms, -1 when none was given. Raises CommandError."""
        if self.expire is None:
            return -1
        return _deadline(self.expire, seconds=self.seconds, base_ms=now_ms if self.relative else 0, command=command)


def _drop_if_empty(ctx: WriteContext, key: bytes, value: Hash) -> None:
    """Delete ``key`` and tell of it when its hash has no fields left."""
    if value.fields:
        ctx.db.touched(key)
        return
    ctx.db.remove(key)
    ctx.notify(NOTIFY_GENERIC, b"del", key)


# -- setting -------------------------------------------------------------------------------------------------------


def _expire_fields(ctx: WriteContext, argv: Argv, command: str, *, seconds: bool, base_ms: int) -> Reply:
    """Source: t_hash.c hexpireGenericCommand()."""
    fields = ctx.db.fields
    fields.trim()
    at = _fields_at(argv, 3)
    if not at:
        raise CommandError(NUMFIELDS_MISMATCH)
    conditions = parse_conditions(argv[:at], 3)
    _check_count(argv, at + 1, 1, NUMFIELDS_MISMATCH)
    at_ms = _deadline(argv[2], seconds=seconds, base_ms=base_ms, command=command)
    key = argv[1]
    names = argv[at + 2 :]
    value = _existing(ctx, key)
    if value is None:
        return [NO_FIELD] * len(names)
    before_ms = earliest(value)
    replies = [_expire_one(value, name, at_ms, conditions, ctx.now_ms) for name in names]
    expired = replies.count(GONE)
    if expired or DONE in replies:
        ctx.ks.expired_fields += expired
        fields.changed(key, value, before_ms)
        ctx.notify(NOTIFY_HASH, b"hexpired" if expired else b"hexpire", key)
        _drop_if_empty(ctx, key, value)
    out: list[Reply] = [*replies]
    return out


def _existing(ctx: WriteContext, key: bytes) -> Hash | None:
    """The hash at ``key``, to be changed. Raises CommandError WRONGTYPE."""
    if ctx.ks.sink is None:
        ctx.ks.sink = ctx
    return ctx.db.typed(key, Hash)


def _expire_one(value: Hash, name: bytes, at_ms: int, conditions: int, now_ms: int) -> int:
    if name not in value.fields:
        return NO_FIELD
    if conditions and refused(conditions, at_ms, value.deadline(name)):
        return REFUSED
    if at_ms <= now_ms:
        value.delete(name)
        return GONE
    value.set_deadline(name, at_ms)
    return DONE


@COMMANDS.write("HEXPIRE", arity=-6, since="9.0.0", flags="fast", keys=_KEY_UPDATE, complexity=_PER_FIELD,
                summary="Lets fields of a hash expire after a number of seconds.")  # fmt: skip
def hexpire(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: per field 1, 0 when a condition failed, 2 when deleted at once, -2 without it.

    Source: t_hash.c hexpireCommand().
    """
    return _expire_fields(ctx, argv, "hexpire", seconds=True, base_ms=ctx.now_ms)


@COMMANDS.write("HEXPIREAT", arity=-6, since="9.0.0", flags="fast", keys=_KEY_UPDATE, complexity=_PER_FIELD,
                summary="Lets fields of a hash expire at a Unix time in seconds.")  # fmt: skip
def hexpireat(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: as HEXPIRE. Source: t_hash.c hexpireatCommand()."""
    return _expire_fields(ctx, argv, "hexpireat", seconds=True, base_ms=0)


@COMMANDS.write("HPEXPIRE", arity=-6, since="9.0.0", flags="fast", keys=_KEY_UPDATE, complexity=_PER_FIELD,
                summary="Lets fields of a hash expire after a number of milliseconds.")  # fmt: skip
def hpexpire(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: as HEXPIRE. Source: t_hash.c hpexpireCommand()."""
    return _expire_fields(ctx, argv, "hpexpire", seconds=False, base_ms=ctx.now_ms)


@COMMANDS.write("HPEXPIREAT", arity=-6, since="9.0.0", flags="fast", keys=_KEY_UPDATE, complexity=_PER_FIELD,
                summary="Lets fields of a hash expire at a Unix time in milliseconds.")  # fmt: skip
def hpexpireat(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: as HEXPIRE. Source: t_hash.c hpexpireatCommand()."""
    return _expire_fields(ctx, argv, "hpexpireat", seconds=False, base_ms=0)


@COMMANDS.write("HPERSIST", arity=-5, since="9.0.0", flags="fast", keys=_KEY_UPDATE, complexity=_PER_FIELD,
                summary="Removes the deadlines of fields of a hash.")  # fmt: skip
def hpersist(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: per field 1, -1 without a deadline, -2 without it. argv[2], the word FIELDS, is not looked at.

    Source: t_hash.c hpersistCommand().
    """
    _check_count(argv, 3, 1, NUMFIELDS_MISMATCH)
    key = argv[1]
    value = _existing(ctx, key)
    if value is None:
        return [NO_FIELD] * (len(argv) - 4)
    before_ms = earliest(value)
    out: list[Reply] = []
    changed = False
    for i in range(4, len(argv)):
        if argv[i] not in value.fields:
            out.append(NO_FIELD)
        elif value.clear_deadline(argv[i]):
            out.append(DONE)
            changed = True
        else:
            out.append(NO_DEADLINE)
    if changed:
        ctx.db.fields.changed(key, value, before_ms)
        ctx.db.touched(key)
        ctx.notify(NOTIFY_HASH, b"hpersist", key)
    return out


# -- showing -------------------------------------------------------------------------------------------------------


def _deadlines(ctx: ReadContext, argv: Argv, base_ms: int, *, seconds: bool) -> Reply:
    """Source: t_hash.c httlGenericCommand(); argv[2] is not looked at, as there."""
    _check_count(argv, 3, 1, SYNTAX)
    value = ctx.db.typed(argv[1], Hash)
    out: list[Reply] = []
    for i in range(4, len(argv)):
        if value is None or argv[i] not in value.fields:
            out.append(NO_FIELD)
            continue
        at_ms = value.deadline(argv[i])
        if at_ms < 0:
            out.append(NO_DEADLINE)
            continue
        shown_ms = max(at_ms - base_ms, 0)
        out.append((shown_ms + 500) // 1000 if seconds else shown_ms)
    return out


@COMMANDS.read("HTTL", arity=-5, since="9.0.0", flags="fast", keys=_KEY_RO, complexity=_PER_FIELD,
               summary="Returns the seconds until fields of a hash expire.")  # fmt: skip
def httl(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: per field s, -1 without a deadline, -2 without it. Source: t_hash.c httlCommand()."""
    return _deadlines(ctx, argv, ctx.now_ms, seconds=True)


@COMMANDS.read("HPTTL", arity=-5, since="9.0.0", flags="fast", keys=_KEY_RO, complexity=_PER_FIELD,
               summary="Returns the milliseconds until fields of a hash expire.")  # fmt: skip
def hpttl(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: per field ms, -1 or -2. Source: t_hash.c hpttlCommand()."""
    return _deadlines(ctx, argv, ctx.now_ms, seconds=False)


@COMMANDS.read("HEXPIRETIME", arity=-5, since="9.0.0", flags="fast", keys=_KEY_RO, complexity=_PER_FIELD,
               summary="Returns the Unix times in seconds at which fields of a hash expire.")  # fmt: skip
def hexpiretime(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: per field s, -1 or -2. Source: t_hash.c hexpiretimeCommand()."""
    return _deadlines(ctx, argv, 0, seconds=True)


@COMMANDS.read("HPEXPIRETIME", arity=-5, since="9.0.0", flags="fast", keys=_KEY_RO, complexity=_PER_FIELD,
               summary="Returns the Unix times in milliseconds at which fields of a hash expire.")  # fmt: skip
def hpexpiretime(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: per field ms, -1 or -2. Source: t_hash.c hpexpiretimeCommand()."""
    return _deadlines(ctx, argv, 0, seconds=False)


# -- with values ---------------------------------------------------------------------------------------------------


def _allowed(value: Hash | None, argv: Argv, options: _Options) -> bool:
    """Whether the conditions on the key and on the fields hold."""
    flags = options.flags
    if (flags & _NX and value is not None) or (flags & _XX and value is None):
        return False
    if flags & (_FNX | _FXX):
        wanted = flags & _FXX != 0
        for i in range(options.fields_at, len(argv), 2):
            if (value is not None and argv[i] in value.fields) != wanted:
                return False
    return True


@COMMANDS.write("HSETEX", arity=-6, since="9.0.0", flags="denyoom fast", keys="RW|INSERT@i1+r0/1/0",
                complexity=_PER_FIELD,
                summary="Sets fields of a hash, with conditions and a deadline if asked.")  # fmt: skip
def hsetex(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1, or 0 when a condition failed. A past deadline deletes the fields. Source: t_hash.c hsetexCommand()."""
    fields = ctx.db.fields
    fields.trim()
    options = _Options(argv, _SET_WORDS, 2)
    key = argv[1]
    old = _existing(ctx, key)
    at_ms = options.deadline(ctx.now_ms, "hsetex")
    if not _allowed(old, argv, options):
        return 0
    past = options.expire is not None and at_ms <= ctx.now_ms
    if old is None and past:
        # Upstream makes the key and takes it away again.
        created(ctx, key)
        _tell_set(ctx, key, options, past)
        ctx.notify(NOTIFY_GENERIC, b"del", key)
        return 1
    value = open_hash(ctx, key)
    before_ms = earliest(value)
    for i in range(options.fields_at, len(argv), 2):
        if past:
            value.delete(argv[i])
        elif options.flags & _KEEPTTL:
            value.set_keep(argv[i], argv[i + 1])
        else:
            value.set(argv[i], argv[i + 1])
            if at_ms >= 0:
                value.set_deadline(argv[i], at_ms)
    fields.changed(key, value, before_ms)
    _tell_set(ctx, key, options, past)
    _drop_if_empty(ctx, key, value)
    return 1


def _tell_set(ctx: WriteContext, key: bytes, options: _Options, past: bool) -> None:
    ctx.notify(NOTIFY_HASH, b"hset", key)
    if options.expire is not None:
        ctx.notify(NOTIFY_HASH, b"hexpire", key)
    if past:
        ctx.notify(NOTIFY_HASH, b"hexpired", key)


@COMMANDS.write("HGETEX", arity=-5, since="9.0.0", flags="fast", keys="RW|ACCESS@i1+r0/1/0", complexity=_PER_FIELD,
                summary="Returns values of fields of a hash, and sets or removes their deadlines.")  # fmt: skip
def hgetex(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: array of values or nulls. Source: t_hash.c hgetexCommand()."""
    fields = ctx.db.fields
    fields.trim()
    options = _Options(argv, _GET_WORDS, 1)
    key = argv[1]
    value = _existing(ctx, key)
    at_ms = options.deadline(ctx.now_ms, "hgetex")
    names = argv[options.fields_at :]
    if value is None:
        return [None] * len(names)
    before_ms = earliest(value)
    past = options.expire is not None and at_ms <= ctx.now_ms
    out: list[Reply] = []
    changed = 0
    for name in names:
        content = value.fields.get(name)
        out.append(content)
        if content is None:
            continue
        if past:
            value.delete(name)
            changed += 1
        elif at_ms >= 0:
            value.set_deadline(name, at_ms)
            changed += 1
        elif options.flags & _PERSIST and value.clear_deadline(name):
            changed += 1
    if changed:
        fields.changed(key, value, before_ms)
        event = b"hexpired" if past else b"hexpire" if at_ms >= 0 else b"hpersist"
        ctx.notify(NOTIFY_HASH, event, key)
        _drop_if_empty(ctx, key, value)
    return out
