"""XREAD and XREADGROUP: entries after an id, or not yet delivered to a group, at once or when there are some.

A request with BLOCK that finds nothing returns Parked; the engine calls it again, with ``$`` replaced by the id it
stood for, when one of its keys changes. XREAD without BLOCK is a plain read.
Rule: every delivery to a group goes through _deliver(). Source: t_stream.c xreadCommand(), streamReplyWithRange().
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, parse_count, parse_int64
from durakv.commands.context import NOTIFY_STREAM, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.streams_args import entries_reply, entry_reply, parse_id, quoted
from durakv.keyspace.values.stream import ID_MAX, Stream, format_id
from durakv.keyspace.values.streamgroup import READ_UNKNOWN, Consumer, Group
from durakv.keyspace.values.streampack import signed64
from durakv.resp.errors import SYNTAX, TIMEOUT_NEGATIVE, TIMEOUT_OUT_OF_RANGE, CommandError
from durakv.resp.types import NULL_ARRAY, KeyedPairs, Parked, Reply

COMMANDS: Final = Commands("stream")

TIMEOUT_NOT_INTEGER: Final = "ERR timeout is not an integer or out of range"
GROUP_MISSING: Final = "ERR Missing GROUP option for XREADGROUP"
ONLY_IN_GROUP: Final = (
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
)
TOP_IS_ZERO: Final = "ERR the stream last element ID is 0-0"


class _Request:
    """What was asked. ``timeout_ms`` -1: not to wait; ``ids`` are filled in once the keys were looked at."""

    __slots__ = ("consumer", "count", "group", "ids", "keys", "noack", "texts", "timeout_ms")

    def __init__(self) -> None:
        self.timeout_ms = -1
        self.count = 0
        self.noack = False
        self.group: bytes | None = None
        self.consumer = b""
        self.keys: list[bytes] = []
        self.texts: list[bytes] = []
        self.ids: list[int] = []


def _parse(argv: Argv, now_ms: int, *, grouped: bool) -> _Request:
    request = _Request()
    n = len(argv)
    i = 1
    while i < n:
        word = argv[i].upper()
        more = n - i - 1
        if word == b"BLOCK" and more:
            i += 1
            request.timeout_ms = _parse_block(argv[i], now_ms)
        elif word == b"COUNT" and more:
            i += 1
            request.count = max(parse_int64(argv[i]), 0)
        elif word == b"STREAMS" and more:
            if more % 2:
                name, symbol = ("xreadgroup", ">") if grouped else ("xread", "$")
                raise CommandError(
                    f"ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be "
                    "specified."
                )
            request.keys = argv[i + 1 : i + 1 + more // 2]
            request.texts = argv[i + 1 + more // 2 :]
            break
        elif word == b"GROUP" and more >= 2:
            if not grouped:
                raise _not_grouped("GROUP")
            request.group, request.consumer = argv[i + 1], argv[i + 2]
            i += 2
        elif word == b"NOACK":
            if not grouped:
                raise _not_grouped("NOACK")
            request.noack = True
        else:
            raise CommandError(SYNTAX)
        i += 1
    if not request.keys:
        raise CommandError(SYNTAX)
    if grouped and request.group is None:
        raise CommandError(GROUP_MISSING)
    return request


def _parse_block(text: bytes, now_ms: int) -> int:
    """Milliseconds, 0 for ever. Source: timeout.c getTimeoutFromObjectOrReply()."""
    timeout_ms = parse_count(text, -INT64_MAX - 1, INT64_MAX, TIMEOUT_NOT_INTEGER)
    if timeout_ms < 0:
        raise CommandError(TIMEOUT_NEGATIVE)
    if timeout_ms > INT64_MAX - now_ms:
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    return timeout_ms


def _not_grouped(option: str) -> CommandError:
    return CommandError(f"ERR The {option} option is only supported by XREADGROUP. You called XREAD instead.")


def _meaningless(symbol: str) -> CommandError:
    return CommandError(
        f"ERR The {symbol} ID is meaningless in the context of XREADGROUP: you want to read the history of this "
        f"consumer by specifying a proper ID, or use the > ID to get new messages. The {symbol} ID would just return "
        "an empty result set."
    )


def _parked(request: _Request, argv: Argv) -> Parked:
    """Wait; ``$`` keeps meaning what it means now."""
    again = argv.copy()
    first = len(argv) - len(request.ids)
    for i in range(len(request.ids)):
        if request.texts[i] == b"$":
            again[first + i] = format_id(request.ids[i])
    return Parked(request.keys, request.timeout_ms, b"stream" if request.group is None else b"group", NULL_ARRAY, again)


# -- without a group -----------------------------------------------------------------------------------------------


def _resolve(stream: Stream | None, text: bytes) -> int:
    """The id after which to read. Raises CommandError."""
    if text == b"$":
        return 0 if stream is None else stream.last_id
    if text == b"+":
        if stream is None:
            return 0
        if stream.last_id == 0:
            raise CommandError(TOP_IS_ZERO)
        return stream.last_id - 1
    if text == b">":
        raise CommandError(ONLY_IN_GROUP)
    return parse_id(text)


@COMMANDS.read("XREAD", arity=-4, since="5.0.0", flags="blocking", keys="RO|ACCESS@kw:STREAMS@1+r-1/1/2",
               summary="Returns the entries of streams after given ids, or waits for some.",
               complexity="O(N), N the number of entries returned")  # fmt: skip
def xread(ctx: ReadContext | WriteContext, argv: Argv) -> Reply:
    """Reply: entries by key, null without any. With BLOCK it runs in apply, without it as a read."""
    request = _parse(argv, ctx.now_ms, grouped=False)
    streams: list[Stream | None] = []
    for key, text in zip(request.keys, request.texts, strict=True):
        stream = ctx.db.typed(key, Stream)
        request.ids.append(_resolve(stream, text))
        streams.append(stream)
    found: list[Reply] = []
    for i in range(len(streams)):
        stream = streams[i]
        after = request.ids[i]
        if stream is not None and stream.last_live_id() > after:
            found.append(request.keys[i])
            found.append(entries_reply(stream.range(after + 1, ID_MAX, request.count)))
    if found:
        return KeyedPairs(found)
    if request.timeout_ms != -1 and isinstance(ctx, WriteContext) and ctx.can_block:
        return _parked(request, argv)
    return NULL_ARRAY


# -- as a consumer of a group --------------------------------------------------------------------------------------


def _lookup(ctx: WriteContext, key: bytes, name: bytes) -> tuple[Stream, Group]:
    stream = ctx.db.typed(key, Stream)
    group = None if stream is None else stream.groups.get(name)
    if stream is None or group is None:
        raise CommandError(
            f"NOGROUP No such key '{quoted(key)}' or consumer group '{quoted(name)}' in XREADGROUP with GROUP option"
        )
    return stream, group


def _resolve_in_group(text: bytes) -> int:
    """The id after which to read history; ID_MAX for what is new. Raises CommandError."""
    if text in (b"$", b"+"):
        raise _meaningless(text.decode())
    return ID_MAX if text == b">" else parse_id(text)


def _deliver(ctx: WriteContext, stream: Stream, group: Group, consumer: Consumer, request: _Request) -> list[Reply]:
    """Give the consumer the entries after the group's cursor and move it."""
    entries = stream.range(group.last_id + 1, ID_MAX, request.count)
    for entry_id, _ in entries:
        # No hole ahead: the count goes on; otherwise it is taken anew from where the entry stands.
        if group.entries_read != READ_UNKNOWN and not stream.deleted_after(entry_id):
            read = signed64(group.entries_read + 1)
        elif stream.entries_added:
            read = stream.count_through(entry_id)
        else:
            read = group.entries_read
        group.move(entry_id, read)
        if not request.noack:
            # It may be pending already, for anyone, when the cursor was set back.
            group.assign(entry_id, consumer, ctx.now_ms, 1)
            group.active(consumer, ctx.now_ms)
    return entries_reply(entries)


def _history(
    ctx: WriteContext, stream: Stream, group: Group, consumer: Consumer, after: int, count: int
) -> list[Reply]:
    """What the consumer has got but not acknowledged, deleted entries as null."""
    out: list[Reply] = []
    for entry_id in consumer.pending.starting(after + 1, count or consumer.pending.size):
        flat = stream.get(entry_id)
        if flat is None:
            out.append([format_id(entry_id), NULL_ARRAY])
        else:
            pending = group.pending[entry_id]
            group.assign(entry_id, consumer, ctx.now_ms, pending.count + 1)
            out.append(entry_reply(entry_id, flat))
    return out


@COMMANDS.write("XREADGROUP", arity=-7, since="5.0.0", flags="blocking", keys="RO|ACCESS@kw:STREAMS@4+r-1/1/2",
                summary="Returns entries of streams to a consumer of a group: new ones, or those pending for it.",
                complexity="O(N), N the number of entries returned")  # fmt: skip
def xreadgroup(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: entries by key, null without any. Watched keys do not change by it, as upstream."""
    request = _parse(argv, ctx.now_ms, grouped=True)
    name = request.group
    assert name is not None
    sources: list[tuple[Stream, Group]] = []
    for key, text in zip(request.keys, request.texts, strict=True):
        sources.append(_lookup(ctx, key, name))
        request.ids.append(_resolve_in_group(text))
    found: list[Reply] = []
    for i in range(len(sources)):
        stream, group = sources[i]
        after = request.ids[i]
        fresh = after == ID_MAX and stream.last_live_id() > group.last_id
        consumer = group.consumers.get(request.consumer)
        if consumer is None:
            consumer = group.create(request.consumer, ctx.now_ms)
            if ctx.notify_mask:
                ctx.notify(NOTIFY_STREAM, b"xgroup-createconsumer", request.keys[i])
        group.seen(consumer, ctx.now_ms)
        if fresh:
            found.append(request.keys[i])
            found.append(_deliver(ctx, stream, group, consumer, request))
        elif after != ID_MAX:
            found.append(request.keys[i])
            found.append(_history(ctx, stream, group, consumer, after, request.count))
    if found:
        return KeyedPairs(found)
    if request.timeout_ms != -1 and ctx.can_block:
        return _parked(request, argv)
    return NULL_ARRAY
