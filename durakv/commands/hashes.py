"""Commands on hashes; the deadlines of single fields are set and shown in hashes_expire. [compiled]

Rule: arguments are read before the key is looked at where upstream does so, because that decides which error shows.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from durakv.commands import long_double
from durakv.commands.args import INT64_MAX, INT64_MIN, parse_int64, to_int64
from durakv.commands.collection import after_removal, created, parse_sample_count, sample
from durakv.commands.context import NOTIFY_HASH, ReadContext, WriteContext
from durakv.commands.scan import parse_cursor, parse_options, scan_mapping
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.field_expiry import earliest
from durakv.keyspace.values.hash import Hash
from durakv.resp.errors import (
    HASH_NOT_FLOAT,
    HASH_NOT_INTEGER,
    INCR_OVERFLOW,
    NAN_OR_INF,
    NOT_FLOAT,
    NUMFIELDS_MISMATCH,
    VALUE_NAN_OR_INF,
    CommandError,
    wrong_arity,
)
from durakv.resp.types import OK, Map, Pairs, Reply

COMMANDS: Final = Commands("hash")

_KEY_RO: Final = "RO@i1+r0/1/0"
_KEY_ACCESS: Final = "RO|ACCESS@i1+r0/1/0"
_KEY_UPDATE: Final = "RW|UPDATE@i1+r0/1/0"
_KEY_INCR: Final = "RW|ACCESS|UPDATE@i1+r0/1/0"
_ANY_ORDER: Final = "nondeterministic_output_order"
_BY_CHANCE: Final = "nondeterministic_output"


def open_hash(ctx: WriteContext, key: bytes) -> Hash:
    """The hash at ``key``, a new one if there is none. Raises CommandError WRONGTYPE."""
    if ctx.ks.sink is None:
        ctx.ks.sink = ctx
    value = ctx.db.typed(key, Hash)
    if value is None:
        value = Hash()
        ctx.db.put(key, value)
        created(ctx, key)
    else:
        ctx.db.touched(key)
    return value


def _set_fields(ctx: WriteContext, argv: Argv) -> int:
    """Store the field-value pairs of HSET and HMSET; how many fields are new."""
    n = len(argv)
    if n % 2:
        raise wrong_arity(argv[0].decode("utf-8", "surrogateescape").lower())
    key = argv[1]
    value = open_hash(ctx, key)
    before_ms = earliest(value)
    if n == 4:
        added = 1 if value.set(argv[2], argv[3]) else 0
    else:
        value.expect((n - 2) // 2)
        added = 0
        for i in range(2, n, 2):
            if value.set(argv[i], argv[i + 1]):
                added += 1
    if before_ms >= 0:
        ctx.db.fields.changed(key, value, before_ms)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_HASH, b"hset", key)
    return added


# -- writing -------------------------------------------------------------------------------------------------------


@COMMANDS.write("HSET", arity=-4, since="2.0.0", flags="denyoom fast", keys=_KEY_UPDATE,
                summary="Sets fields of a hash, creating it if needed.",
                complexity="O(1) per field")  # fmt: skip
def hset(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many fields are new. Source: t_hash.c hsetCommand()."""
    return _set_fields(ctx, argv)


@COMMANDS.write("HMSET", arity=-4, since="2.0.0", flags="denyoom fast", keys=_KEY_UPDATE,
                summary="Sets fields of a hash, creating it if needed.",
                complexity="O(N), N the number of fields")  # fmt: skip
def hmset(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK. Source: t_hash.c hsetCommand()."""
    _set_fields(ctx, argv)
    return OK


@COMMANDS.write("HSETNX", arity=4, since="2.0.0", flags="denyoom fast", keys="RW|INSERT@i1+r0/1/0",
                summary="Sets a field of a hash only if it is not there.")  # fmt: skip
def hsetnx(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 when set, else 0. Source: t_hash.c hsetnxCommand()."""
    old = ctx.db.typed(argv[1], Hash)
    if old is not None and argv[2] in old.fields:
        return 0
    open_hash(ctx, argv[1]).set(argv[2], argv[3])
    if ctx.notify_mask:
        ctx.notify(NOTIFY_HASH, b"hset", argv[1])
    return 1


@COMMANDS.write("HINCRBY", arity=4, since="2.0.0", flags="denyoom fast", keys=_KEY_INCR,
                summary="Adds to the integer in a field of a hash; an absent field counts as 0.")  # fmt: skip
def hincrby(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new value. Source: t_hash.c hincrbyCommand()."""
    key, field = argv[1], argv[2]
    delta = parse_int64(argv[3])
    value = ctx.db.typed(key, Hash)
    old = None if value is None else value.fields.get(field)
    total = delta
    if old is not None:
        number = to_int64(old)
        if number is None:
            raise CommandError(HASH_NOT_INTEGER)
        total += number
    if not INT64_MIN <= total <= INT64_MAX:
        raise CommandError(INCR_OVERFLOW)
    open_hash(ctx, key).set_keep(field, b"%d" % total)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_HASH, b"hincrby", key)
    return total


@COMMANDS.write("HINCRBYFLOAT", arity=4, since="2.6.0", flags="denyoom fast", keys=_KEY_INCR,
                summary="Adds to the number in a field of a hash; an absent field counts as 0.")  # fmt: skip
def hincrbyfloat(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new value as text. Source: t_hash.c hincrbyfloatCommand()."""
    key, field = argv[1], argv[2]
    delta = long_double.parse(argv[3])
    if delta is None:
        raise CommandError(NOT_FLOAT)
    if delta.infinite:
        raise CommandError(VALUE_NAN_OR_INF)
    value = ctx.db.typed(key, Hash)
    old = None if value is None else value.fields.get(field)
    number = long_double.parse(b"0" if old is None else old)
    if number is None:
        raise CommandError(HASH_NOT_FLOAT)
    total = long_double.add(number, delta)
    if total is None:
        raise CommandError(NAN_OR_INF)
    text = long_double.text_of(total)
    open_hash(ctx, key).set_keep(field, text)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_HASH, b"hincrbyfloat", key)
    return text


@COMMANDS.write("HDEL", arity=-3, since="2.0.0", flags="fast", keys="RW|DELETE@i1+r0/1/0",
                summary="Deletes fields of a hash, and the hash with its last field.",
                complexity="O(N), N the number of fields named")  # fmt: skip
def hdel(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many fields went. Source: t_hash.c hdelCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    if value is None:
        return 0
    before_ms = earliest(value)
    deleted = 0
    for i in range(2, len(argv)):
        if value.delete(argv[i]):
            deleted += 1
    if deleted:
        if before_ms >= 0:
            ctx.db.fields.changed(argv[1], value, before_ms)
        after_removal(ctx, argv[1], len(value), NOTIFY_HASH, b"hdel")
    return deleted


@COMMANDS.write("HGETDEL", arity=-5, since="9.1.0", flags="fast", keys="RW|ACCESS|DELETE@i1+r0/1/0",
                summary="Returns the values of fields of a hash and deletes the fields.",
                complexity="O(N), N the number of fields named")  # fmt: skip
def hgetdel(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: array of values or nulls. argv[2], the word FIELDS, is not looked at, as upstream.

    Source: t_hash.c hgetdelCommand().
    """
    count = parse_int64(argv[3])
    if count == 0 or count != len(argv) - 4:
        raise CommandError(NUMFIELDS_MISMATCH)
    value = ctx.db.typed(argv[1], Hash)
    before_ms = -1 if value is None else earliest(value)
    out: list[Reply] = []
    deleted = 0
    for i in range(4, len(argv)):
        old = None if value is None else value.fields.get(argv[i])
        out.append(old)
        if value is not None and value.delete(argv[i]):
            deleted += 1
    if value is not None and deleted:
        if before_ms >= 0:
            ctx.db.fields.changed(argv[1], value, before_ms)
        after_removal(ctx, argv[1], len(value), NOTIFY_HASH, b"hdel")
    return out


# -- reading -------------------------------------------------------------------------------------------------------


@COMMANDS.read("HGET", arity=3, since="2.0.0", flags="fast", keys=_KEY_ACCESS,
               summary="Returns the value of a field of a hash.")  # fmt: skip
def hget(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk or null. Source: t_hash.c hgetCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    return None if value is None else value.fields.get(argv[2])


@COMMANDS.read("HMGET", arity=-3, since="2.0.0", flags="fast", keys=_KEY_ACCESS,
               summary="Returns the values of fields of a hash.",
               complexity="O(N), N the number of fields named")  # fmt: skip
def hmget(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of values or nulls. Source: t_hash.c hmgetCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    if value is None:
        return [None] * (len(argv) - 2)
    fields = value.fields
    return [fields.get(field) for field in argv[2:]]


@COMMANDS.read("HGETALL", arity=2, since="2.0.0", keys=_KEY_ACCESS, tips=_ANY_ORDER,
               summary="Returns all fields and values of a hash.",
               complexity="O(N), N the number of fields")  # fmt: skip
def hgetall(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: map. Source: t_hash.c genericHgetallCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    return Map([] if value is None else _flat(value))


@COMMANDS.read("HKEYS", arity=2, since="2.0.0", keys=_KEY_ACCESS, tips=_ANY_ORDER,
               summary="Returns all fields of a hash.", complexity="O(N), N the number of fields")  # fmt: skip
def hkeys(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array. Source: t_hash.c genericHgetallCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    return [] if value is None else list(value.fields)


@COMMANDS.read("HVALS", arity=2, since="2.0.0", keys=_KEY_ACCESS, tips=_ANY_ORDER,
               summary="Returns all values of a hash.", complexity="O(N), N the number of fields")  # fmt: skip
def hvals(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array. Source: t_hash.c genericHgetallCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    return [] if value is None else list(value.fields.values())


@COMMANDS.read("HLEN", arity=2, since="2.0.0", flags="fast", keys=_KEY_RO,
               summary="Returns the number of fields of a hash.")  # fmt: skip
def hlen(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: t_hash.c hlenCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    return 0 if value is None else len(value.fields)


@COMMANDS.read("HSTRLEN", arity=3, since="3.2.0", flags="fast", keys=_KEY_RO,
               summary="Returns the length of the value of a field of a hash.")  # fmt: skip
def hstrlen(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bytes, 0 when absent. Source: t_hash.c hstrlenCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    return 0 if value is None else len(value.fields.get(argv[2], b""))


@COMMANDS.read("HEXISTS", arity=3, since="2.0.0", flags="fast", keys=_KEY_RO,
               summary="Tells whether a hash has a field.")  # fmt: skip
def hexists(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: t_hash.c hexistsCommand()."""
    value = ctx.db.typed(argv[1], Hash)
    return 1 if value is not None and argv[2] in value.fields else 0


@COMMANDS.read("HRANDFIELD", arity=-2, since="6.2.0", keys=_KEY_ACCESS, tips=_BY_CHANCE,
               summary="Returns fields of a hash chosen at random.",
               complexity="O(N), N the number of fields of the hash or returned, whichever is more")  # fmt: skip
def hrandfield(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk or null; with a count array, or pairs. Source: t_hash.c hrandfieldCommand()."""
    if len(argv) == 2:
        value = ctx.db.typed(argv[1], Hash)
        if value is None:
            return None
        return next(islice(value.fields, ctx.below(len(value)), None))
    count, with_values = parse_sample_count(argv, b"WITHVALUES")
    value = ctx.db.typed(argv[1], Hash)
    if value is None or count == 0:
        return []
    size = len(value)
    if count >= size:
        return Pairs(_flat(value)) if with_values else list(value.fields)
    fields = list(value.fields)
    if count < 0:
        chosen = [fields[ctx.below(size)] for _ in range(-count)]
    else:
        chosen = [fields[i] for i in sample(ctx.below, size, count)]
    if not with_values:
        return chosen
    flat: list[Reply] = []
    for field in chosen:
        flat.append(field)
        flat.append(value.fields[field])
    return Pairs(flat)


@COMMANDS.read("HSCAN", arity=-3, since="2.8.0", keys=_KEY_ACCESS, tips=_BY_CHANCE,
               summary="Iterates over the fields and values of a hash.",
               complexity="O(1) per call, O(N) for a whole pass")  # fmt: skip
def hscan(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: next cursor and a flat array. Source: t_hash.c hscanCommand()."""
    cursor = parse_cursor(argv[2])
    value = ctx.db.typed(argv[1], Hash)
    if value is None:
        return [b"0", []]
    options = parse_options(argv, 3, b"hash")
    following, fields = scan_mapping(value.fields, len(value), cursor, options.count)
    flat: list[Reply] = []
    for field in fields:
        if options.wants(field):
            flat.append(field)
            if not options.bare:
                flat.append(value.fields[field])
    return [b"%d" % following, flat]


def _flat(value: Hash) -> list[Reply]:
    out: list[Reply] = []
    for field, content in value.fields.items():
        out.append(field)
        out.append(content)
    return out
