"""XCLAIM and XAUTOCLAIM: pending entries of a consumer group change hands.

Rule: an entry that is gone from the stream is not claimed but dropped from what is pending. Delivery times are those of
log entries. Source: t_stream.c xclaimCommand(), xautoclaimCommand().
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, INT64_MIN, parse_count
from durakv.commands.context import NOTIFY_STREAM, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.streams_args import elapsed, entry_reply, parse_id, parse_start, quoted, to_id
from durakv.commands.streams_groups import find_group
from durakv.keyspace.values.stream import format_id
from durakv.keyspace.values.streamgroup import Consumer, Group
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Reply

COMMANDS: Final = Commands("stream")

COUNT_NOT_POSITIVE: Final = "ERR COUNT must be > 0"

_COUNT_MAX: Final = INT64_MAX // 16
# XAUTOCLAIM looks at so many pending entries for each one it may return.
_ATTEMPTS: Final = 10


def _number(text: bytes, what: str, command: str) -> int:
    return parse_count(text, INT64_MIN, INT64_MAX, f"ERR Invalid {what} argument for {command}")


def _consumer(ctx: WriteContext, group: Group, key: bytes, name: bytes) -> Consumer:
    """The consumer, a new one if needed, who has just been seen."""
    consumer = group.consumers.get(name)
    if consumer is None:
        consumer = group.create(name, ctx.now_ms)
        if ctx.notify_mask:
            ctx.notify(NOTIFY_STREAM, b"xgroup-createconsumer", key)
    group.seen(consumer, ctx.now_ms)
    return consumer


class _Claim:
    """The options of XCLAIM. ``delivered_ms`` -1: now; ``count`` -1: one more than before, unless ``just_ids``."""

    __slots__ = ("count", "delivered_ms", "force", "just_ids", "last_id")

    def __init__(self) -> None:
        self.delivered_ms = -1
        self.count = -1
        self.force = False
        self.just_ids = False
        self.last_id = 0


def _claim_options(argv: Argv, at: int, now_ms: int) -> _Claim:
    claim = _Claim()
    i = at
    while i < len(argv):
        word = argv[i].upper()
        more = i + 1 < len(argv)
        if word == b"FORCE":
            claim.force = True
        elif word == b"JUSTID":
            claim.just_ids = True
        elif word in (b"IDLE", b"TIME", b"RETRYCOUNT", b"LASTID") and more:
            i += 1
            if word == b"LASTID":
                claim.last_id = parse_id(argv[i])
            else:
                number = _number(argv[i], f"{word.decode()} option", "XCLAIM")
                if word == b"RETRYCOUNT":
                    claim.count = number
                else:
                    claim.delivered_ms = now_ms - number if word == b"IDLE" else number
        else:
            raise CommandError(f"ERR Unrecognized XCLAIM option '{quoted(argv[i])}'")
        i += 1
    # A time that cannot be is not refused: clients compute it from clocks of their own.
    if not 0 <= claim.delivered_ms <= now_ms:
        claim.delivered_ms = now_ms
    return claim


@COMMANDS.write("XCLAIM", arity=-6, since="5.0.0", flags="fast", keys="RW|UPDATE@i1+r0/1/0",
                tips="nondeterministic_output", summary="Makes a consumer the owner of pending entries.",
                complexity="O(log(N)) per entry, N the number of pending entries of the group")  # fmt: skip
def xclaim(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the claimed entries, or their ids under JUSTID."""
    stream, group = find_group(ctx, argv[1], argv[2])
    idle_min_ms = max(_number(argv[4], "min-idle-time", "XCLAIM"), 0)
    ids: list[int] = []
    for text in argv[5:]:
        entry_id = to_id(text)
        if entry_id is None:
            break
        ids.append(entry_id)
    now_ms = ctx.now_ms
    claim = _claim_options(argv, 5 + len(ids), now_ms)
    if claim.last_id > group.last_id:
        group.move(claim.last_id, group.entries_read)
    consumer = _consumer(ctx, group, argv[1], argv[3])
    out: list[Reply] = []
    for entry_id in ids:
        pending = group.pending.get(entry_id)
        flat = stream.get(entry_id)
        if flat is None:
            if pending is not None:
                group.drop(entry_id)
            continue
        if pending is None and not claim.force:
            continue
        if pending is not None and idle_min_ms and elapsed(now_ms, pending.delivered_ms) < idle_min_ms:
            continue
        # FORCE makes a pending entry as if it had been delivered once.
        count = 1 if pending is None else pending.count
        if claim.count >= 0:
            count = claim.count
        elif not claim.just_ids:
            count += 1
        group.assign(entry_id, consumer, claim.delivered_ms, count)
        group.active(consumer, now_ms)
        out.append(format_id(entry_id) if claim.just_ids else entry_reply(entry_id, flat))
    return out


@COMMANDS.write("XAUTOCLAIM", arity=-6, since="6.2.0", flags="fast", keys="RW|DELETE@i1+r0/1/0",
                tips="nondeterministic_output", summary="Makes a consumer the owner of entries that pend for long.",
                complexity="O(1) for a small COUNT")  # fmt: skip
def xautoclaim(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: [where to go on, the claimed entries or ids, ids of entries that are gone]."""
    idle_min_ms = max(_number(argv[4], "min-idle-time", "XAUTOCLAIM"), 0)
    start = parse_start(argv[5])
    count = 100
    just_ids = False
    i = 6
    while i < len(argv):
        word = argv[i].upper()
        if word == b"COUNT" and i + 1 < len(argv):
            i += 1
            count = parse_count(argv[i], 1, _COUNT_MAX, COUNT_NOT_POSITIVE)
        elif word == b"JUSTID":
            just_ids = True
        else:
            raise CommandError(SYNTAX)
        i += 1
    stream, group = find_group(ctx, argv[1], argv[2])
    consumer = _consumer(ctx, group, argv[1], argv[3])
    now_ms = ctx.now_ms
    claimed: list[Reply] = []
    gone: list[Reply] = []
    # One more than may be looked at: where to go on.
    ids = group.order.starting(start, count * _ATTEMPTS + 1)
    at = 0
    while at < len(ids) and at < count * _ATTEMPTS and len(claimed) + len(gone) < count:
        entry_id = ids[at]
        at += 1
        flat = stream.get(entry_id)
        if flat is None:
            group.drop(entry_id)
            gone.append(format_id(entry_id))
            continue
        pending = group.pending[entry_id]
        if idle_min_ms and elapsed(now_ms, pending.delivered_ms) < idle_min_ms:
            continue
        group.assign(entry_id, consumer, now_ms, pending.count if just_ids else pending.count + 1)
        group.active(consumer, now_ms)
        claimed.append(format_id(entry_id) if just_ids else entry_reply(entry_id, flat))
    return [format_id(ids[at] if at < len(ids) else 0), claimed, gone]
