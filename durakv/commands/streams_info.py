"""XINFO: what is known of a stream, its groups and their consumers.

Rule: only reads. The numbers about the radix tree are those upstream's tree over the same nodes would give.
Source: t_stream.c xinfoCommand(), xinfoReplyWithStreamInfo().
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import parse_int64
from durakv.commands.context import LocalContext, ReadContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.streams_args import bad_subcommand, elapsed, entries_reply, entry_reply
from durakv.commands.streams_groups import no_group_in
from durakv.keyspace.values.stream import ID_MAX, Stream, format_id
from durakv.keyspace.values.streamgroup import READ_UNKNOWN, Consumer, Group, IdSet
from durakv.keyspace.values.streampack import signed64
from durakv.resp.errors import NO_SUCH_KEY, CommandError
from durakv.resp.types import Map, Reply, Simple

COMMANDS: Final = Commands("stream")

_KEY: Final = "RO|ACCESS@i2+r0/1/0"
_FULL_COUNT: Final = 10
_XINFO_HELP: Final = (
    b"XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    b"CONSUMERS <key> <groupname>",
    b"    Show consumers of <groupname>.",
    b"GROUPS <key>",
    b"    Show the stream consumer groups.",
    b"STREAM <key> [FULL [COUNT <count>]",
    b"    Show information about the stream.",
    b"HELP",
    b"    Print this help.",
)


def _stream(ctx: ReadContext, key: bytes) -> Stream:
    stream = ctx.db.typed(key, Stream)
    if stream is None:
        raise CommandError(NO_SUCH_KEY)
    return stream


def _read(group: Group) -> int | None:
    return None if group.entries_read == READ_UNKNOWN else group.entries_read


@COMMANDS.read("XINFO|STREAM", arity=-3, since="5.0.0", keys=_KEY, summary="Returns facts about a stream.",
               complexity="O(N), N the number of nodes of the stream")  # fmt: skip
def xinfo_stream(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: map; under FULL with entries, groups and consumers, up to COUNT each (0: all)."""
    stream = _stream(ctx, argv[2])
    full = len(argv) > 3
    count = _FULL_COUNT
    if full:
        if len(argv) not in (4, 6) or argv[3].upper() != b"FULL":
            raise bad_subcommand(argv)
        if len(argv) == 6:
            if argv[4].upper() != b"COUNT":
                raise bad_subcommand(argv)
            count = parse_int64(argv[5])
            if count < 0:
                count = _FULL_COUNT
    facts: list[Reply] = [
        b"length", stream.length,
        b"radix-tree-keys", len(stream.nodes),
        b"radix-tree-nodes", stream.index_nodes(),
        b"last-generated-id", format_id(stream.last_id),
        b"max-deleted-entry-id", format_id(stream.max_deleted_id),
        b"entries-added", signed64(stream.entries_added),
        b"recorded-first-entry-id", format_id(stream.first_live_id()),
    ]  # fmt: skip
    if full:
        groups: list[Reply] = [_full_group(stream, name, count) for name in sorted(stream.groups)]
        facts += [b"entries", entries_reply(stream.range(0, ID_MAX, count)), b"groups", groups]
        return Map(facts)
    facts += [b"groups", len(stream.groups)]
    for name, found in (
        (b"first-entry", stream.range(0, ID_MAX, 1)),
        (b"last-entry", stream.range_back(0, ID_MAX, 1)),
    ):
        facts += [name, entry_reply(found[0][0], found[0][1]) if found else None]
    return Map(facts)


def _full_group(stream: Stream, name: bytes, count: int) -> Map:
    group = stream.groups[name]
    pending: list[Reply] = []
    for entry_id in _first(group.order, count):
        what = group.pending[entry_id]
        pending.append([format_id(entry_id), what.owner, what.delivered_ms, signed64(what.count)])
    consumers: list[Reply] = []
    for consumer in group.in_order():
        own: list[Reply] = []
        for entry_id in _first(consumer.pending, count):
            what = group.pending[entry_id]
            own.append([format_id(entry_id), what.delivered_ms, signed64(what.count)])
        consumers.append(Map([
            b"name", consumer.name,
            b"seen-time", consumer.seen_ms,
            b"active-time", consumer.active_ms,
            b"pel-count", consumer.pending.size,
            b"pending", own,
        ]))  # fmt: skip
    return Map([
        b"name", name,
        b"last-delivered-id", format_id(group.last_id),
        b"entries-read", _read(group),
        b"lag", stream.lag(group),
        b"pel-count", group.order.size,
        b"pending", pending,
        b"consumers", consumers,
    ])  # fmt: skip


def _first(ids: IdSet, count: int) -> list[int]:
    return ids.starting(0, count or ids.size)


@COMMANDS.read("XINFO|GROUPS", arity=3, since="5.0.0", keys=_KEY,
               summary="Returns facts about the consumer groups of a stream.")  # fmt: skip
def xinfo_groups(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of maps."""
    stream = _stream(ctx, argv[2])
    out: list[Reply] = []
    for name in sorted(stream.groups):
        group = stream.groups[name]
        out.append(Map([
            b"name", name,
            b"consumers", len(group.consumers),
            b"pending", group.order.size,
            b"last-delivered-id", format_id(group.last_id),
            b"entries-read", _read(group),
            b"lag", stream.lag(group),
        ]))  # fmt: skip
    return out


@COMMANDS.read("XINFO|CONSUMERS", arity=4, since="5.0.0", keys=_KEY, tips="nondeterministic_output",
               summary="Returns facts about the consumers of a consumer group.")  # fmt: skip
def xinfo_consumers(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of maps; ``idle`` and ``inactive`` in ms, the latter -1 if it never got anything."""
    stream = _stream(ctx, argv[2])
    group = stream.groups.get(argv[3])
    if group is None:
        raise no_group_in(argv[2], argv[3])
    return [_consumer(consumer, ctx.now_ms) for consumer in group.in_order()]


def _consumer(consumer: Consumer, now_ms: int) -> Map:
    return Map([
        b"name", consumer.name,
        b"pending", consumer.pending.size,
        b"idle", max(elapsed(now_ms, consumer.seen_ms), 0),
        b"inactive", -1 if consumer.active_ms == -1 else elapsed(now_ms, consumer.active_ms),
    ])  # fmt: skip


@COMMANDS.local("XINFO|HELP", arity=2, since="5.0.0", flags="loading stale", acl="stream",
                summary="Describes the subcommands.")  # fmt: skip
def xinfo_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: lines."""
    lines: list[object] = [Simple(line) for line in _XINFO_HELP]
    return lines
