"""Commands on the entries of a stream; consumer groups are in streams_groups, readers in streams_read.

Rule: the time of an id made here is the entry's, so every node makes the same one, and it never goes back.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import parse_int64
from durakv.commands.collection import created
from durakv.commands.context import NOTIFY_STREAM, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.streams_args import (
    AUTO,
    AUTO_SEQ,
    NEXT_ID,
    WHOLE,
    AddOptions,
    entries_reply,
    parse_add_options,
    parse_id,
    parse_start,
    parse_stop,
    trim,
)
from durakv.keyspace.values.stream import ENTRY_BYTES_MAX, ID_MAX, Stream, format_id
from durakv.keyspace.values.streamnode import SEQ_MASK
from durakv.resp.errors import NO_SUCH_KEY, SYNTAX, CommandError, wrong_arity
from durakv.resp.types import NULL_ARRAY, OK, Reply

COMMANDS: Final = Commands("stream")

ID_ZERO: Final = "ERR The ID specified in XADD must be greater than 0-0"
ID_EXHAUSTED: Final = "ERR The stream has exhausted the last possible ID, unable to add more items"
ID_TOO_SMALL: Final = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
TOO_LARGE: Final = "ERR Elements are too large to be stored"
ADDED_NEGATIVE: Final = "ERR entries_added must be positive"
ADDED_TOO_SMALL: Final = "ERR The entries_added specified in XSETID is smaller than the target stream length"
BELOW_GIVEN_DELETED: Final = "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
BELOW_DELETED: Final = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"
BELOW_TOP: Final = "ERR The ID specified in XSETID is smaller than the target stream top item"

_KEY_DELETE: Final = "RW|DELETE@i1+r0/1/0"
_KEY_UPDATE: Final = "RW|UPDATE@i1+r0/1/0"
_KEY_ACCESS: Final = "RO|ACCESS@i1+r0/1/0"
_BY_CHANCE: Final = "nondeterministic_output"


def _new_id(last_id: int, options: AddOptions, now_ms: int) -> int:
    """The id of the next entry. Raises CommandError. Source: t_stream.c streamAppendItem(), streamNextID()."""
    if last_id == ID_MAX:
        raise CommandError(ID_EXHAUSTED)
    entry_id = options.entry_id
    if options.id_form == AUTO:
        return max(now_ms << 64, last_id + 1)
    if options.id_form == AUTO_SEQ and last_id >> 64 == entry_id >> 64:
        if last_id & SEQ_MASK == SEQ_MASK:
            raise CommandError(ID_TOO_SMALL)
        return last_id + 1
    if entry_id <= last_id:
        raise CommandError(ID_TOO_SMALL)
    return entry_id


@COMMANDS.write("XADD", arity=-5, since="5.0.0", flags="denyoom fast", keys="RW|UPDATE@i1+r0/1/0", tips=_BY_CHANCE,
                summary="Adds an entry to a stream, creating it if needed, and may trim it.",
                complexity="O(1) to add, O(N) to trim, N the number of entries that go")  # fmt: skip
def xadd(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the id, null without the stream under NOMKSTREAM. Source: t_stream.c xaddCommand()."""
    options = NEXT_ID if argv[2] == b"*" else parse_add_options(argv, adding=True)
    at = options.fields_at
    if len(argv) - at < 2 or (len(argv) - at) % 2:
        raise wrong_arity("xadd")
    if options.id_form == WHOLE and options.entry_id == 0:
        raise CommandError(ID_ZERO)
    key = argv[1]
    stream = ctx.db.typed(key, Stream)
    if stream is None and not options.create:
        return None
    # An empty stream is false but has a last id.
    entry_id = _new_id(0 if stream is None else stream.last_id, options, ctx.now_ms)
    flat = argv[at:]
    size = 0
    for text in flat:
        size += len(text)
    if size > ENTRY_BYTES_MAX:
        raise CommandError(TOO_LARGE)
    if stream is None:
        stream = Stream()
        ctx.db.put(key, stream)
        created(ctx, key)
    else:
        ctx.db.touched(key)
    stream.append(entry_id, flat)
    if ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xadd", key)
    if options.trims and trim(stream, options) and ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xtrim", key)
    return format_id(entry_id)


@COMMANDS.write("XDEL", arity=-3, since="5.0.0", flags="fast", keys=_KEY_DELETE,
                summary="Removes entries from a stream by their ids.",
                complexity="O(1) per entry")  # fmt: skip
def xdel(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_stream.c xdelCommand()."""
    stream = ctx.db.typed(argv[1], Stream)
    if stream is None:
        return 0
    ids = [parse_id(text) for text in argv[2:]]
    removed = 0
    for entry_id in ids:
        removed += stream.delete(entry_id)
    if removed:
        ctx.db.touched(argv[1])
        if ctx.notify_mask:
            ctx.notify(NOTIFY_STREAM, b"xdel", argv[1])
    return removed


@COMMANDS.write("XTRIM", arity=-4, since="5.0.0", keys=_KEY_DELETE, tips=_BY_CHANCE,
                summary="Removes the oldest entries of a stream, by number or by id.",
                complexity="O(N), N the number of entries that go")  # fmt: skip
def xtrim(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_stream.c xtrimCommand()."""
    options = parse_add_options(argv, adding=False)
    stream = ctx.db.typed(argv[1], Stream)
    if stream is None:
        return 0
    removed = trim(stream, options)
    if removed:
        ctx.db.touched(argv[1])
        if ctx.notify_mask:
            ctx.notify(NOTIFY_STREAM, b"xtrim", argv[1])
    return removed


@COMMANDS.write("XSETID", arity=-3, since="5.0.0", flags="denyoom fast", keys=_KEY_UPDATE,
                summary="Sets the last id of a stream, and its counters.")  # fmt: skip
def xsetid(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK. Watched keys do not change by it, as upstream. Source: t_stream.c xsetidCommand()."""
    last_id = parse_id(argv[2])
    added = -1
    max_deleted_id = 0
    i = 3
    while i < len(argv):
        word = argv[i].upper()
        if i + 1 >= len(argv) or word not in (b"ENTRIESADDED", b"MAXDELETEDID"):
            raise CommandError(SYNTAX)
        if word == b"ENTRIESADDED":
            added = parse_int64(argv[i + 1])
            if added < 0:
                raise CommandError(ADDED_NEGATIVE)
        else:
            max_deleted_id = parse_id(argv[i + 1])
            if last_id < max_deleted_id:
                raise CommandError(BELOW_GIVEN_DELETED)
        i += 2
    stream = ctx.db.typed(argv[1], Stream)
    if stream is None:
        raise CommandError(NO_SUCH_KEY)
    if last_id < stream.max_deleted_id:
        raise CommandError(BELOW_DELETED)
    if stream.length:
        if last_id < stream.last_live_id():
            raise CommandError(BELOW_TOP)
        if added != -1 and stream.length > added:
            raise CommandError(ADDED_TOO_SMALL)
    stream.set_head(
        last_id, max_deleted_id or stream.max_deleted_id, stream.entries_added if added == -1 else added
    )  # fmt: skip
    if ctx.notify_mask:
        ctx.notify(NOTIFY_STREAM, b"xsetid", argv[1])
    return OK


@COMMANDS.read("XLEN", arity=2, since="5.0.0", flags="fast", keys="RO@i1+r0/1/0",
               summary="Returns the number of entries of a stream.")  # fmt: skip
def xlen(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: t_stream.c xlenCommand()."""
    stream = ctx.db.typed(argv[1], Stream)
    return 0 if stream is None else stream.length


def _range(ctx: ReadContext, argv: Argv, backwards: bool) -> Reply:
    start = parse_start(argv[3 if backwards else 2])
    stop = parse_stop(argv[2 if backwards else 3])
    count = -1
    for i in range(4, len(argv), 2):
        if argv[i].upper() != b"COUNT" or i + 1 >= len(argv):
            raise CommandError(SYNTAX)
        count = max(parse_int64(argv[i + 1]), 0)
    stream = ctx.db.typed(argv[1], Stream)
    if stream is None:
        return []
    if count == 0:
        return NULL_ARRAY
    count = max(count, 0)
    return entries_reply(stream.range_back(start, stop, count) if backwards else stream.range(start, stop, count))


@COMMANDS.read("XRANGE", arity=-4, since="5.0.0", keys=_KEY_ACCESS,
               summary="Returns the entries of a stream within a range of ids.",
               complexity="O(N), N the number of entries returned")  # fmt: skip
def xrange(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: [[id, [field, value, ...]], ...]. Source: t_stream.c xrangeGenericCommand()."""
    return _range(ctx, argv, backwards=False)


@COMMANDS.read("XREVRANGE", arity=-4, since="5.0.0", keys=_KEY_ACCESS,
               summary="Returns the entries of a stream within a range of ids, latest first.",
               complexity="O(N), N the number of entries returned")  # fmt: skip
def xrevrange(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: [[id, [field, value, ...]], ...]. Source: t_stream.c xrangeGenericCommand()."""
    return _range(ctx, argv, backwards=True)
