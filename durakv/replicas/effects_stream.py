"""What changed of a large stream, as the commands that change a replica's likewise.

Commands cannot say everything: entries go in by id, above the last one only, and an entry that is deleted cannot become
pending. Where that would be needed the stream is told whole.
Rule: the order of commands follows from what each of them checks. Not told is when a consumer was last seen and last
got something: no server replicates that exactly.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import Group
from durakv.keyspace.values.streamnode import DELETED, SEQ_MASK
from durakv.keyspace.values.touched import TouchedStream
from durakv.replicas.wire import batches, command

_U64_MAX: Final = (1 << 64) - 1
# No last id: what the stream is like afterwards has to be said.
_UNSURE: Final = -1


def stream_changes(key: bytes, value: Stream, marks: TouchedStream) -> list[bytes] | None:
    """Commands, encoded; None when the stream has to be told whole."""
    head = marks.head
    if head is None or marks.rewound or value.last_id < head[0] or not _can_be_pending(value, marks):
        return None
    out: list[bytes] = []
    added = _entries(key, value, marks, head[0], out)
    now = (value.last_id, value.max_deleted_id, value.entries_added)
    if now != (added[0], head[1], head[2] + added[1]):
        out.append(
            command([b"XSETID", key, _id(now[0]), b"ENTRIESADDED", _number(now[2]), b"MAXDELETEDID", _id(now[1])])
        )
    _groups(key, value, marks, out)
    return out


def _entries(key: bytes, value: Stream, marks: TouchedStream, last_id: int, out: list[bytes]) -> tuple[int, int]:
    """New entries, then what went; (the last id that makes, how many were new)."""
    first_ids = value.first_ids
    trimmed = False
    deleted: list[int] = []
    count = 0
    told = last_id
    for first_id in sorted(marks.nodes):
        number = bisect_left(first_ids, first_id)
        if number == len(first_ids) or first_ids[number] != first_id:
            trimmed = True
            continue
        node = value.nodes[number]
        data = b""
        for i in range(node.count()):
            entry_id = node.id_at(i)
            if node.flags[i] & DELETED:
                if entry_id <= last_id:
                    deleted.append(entry_id)
            elif entry_id > last_id:
                data = data or bytes(node.data)
                out.append(command([b"XADD", key, _id(entry_id), *node.entry(i, data)]))
                told = entry_id
                count += 1
    deleted += [entry_id for entry_id in marks.gone if entry_id <= last_id and not value.exists(entry_id)]
    first = value.first_live_id()
    if not value.length:
        if trimmed or deleted:
            out.append(command([b"XTRIM", key, b"MAXLEN", b"=", b"0"]))
            told = _UNSURE
        return told, count
    if trimmed or (deleted and min(deleted) < first):
        out.append(command([b"XTRIM", key, b"MINID", b"=", _id(first)]))
    if deleted:
        told = _UNSURE
    out += batches([b"XDEL", key], [_id(entry_id) for entry_id in deleted if entry_id > first], 1)
    return told, count


def _can_be_pending(value: Stream, marks: TouchedStream) -> bool:
    """Whether XCLAIM can bring about all that became pending, or changed its owner."""
    for name, group in value.groups.items():
        touched = group.tracker
        whole = touched is None or name in marks.groups
        for entry_id in group.pending if whole or touched is None else touched.pending:
            if entry_id in group.pending and not value.exists(entry_id):
                return False
    return True


def _groups(key: bytes, value: Stream, marks: TouchedStream, out: list[bytes]) -> None:
    out += [command([b"XGROUP", b"DESTROY", key, name]) for name in marks.groups]
    for name, group in value.groups.items():
        touched = group.tracker
        if touched is None or name in marks.groups:
            out.append(
                command(
                    [b"XGROUP", b"CREATE", key, name, _id(group.last_id), b"ENTRIESREAD", b"%d" % group.entries_read]
                )
            )
            out += [command([b"XGROUP", b"CREATECONSUMER", key, name, consumer]) for consumer in group.consumers]
            out += [_claim(key, name, group, n) for n in group.order.starting(0, group.order.size)]
            continue
        if touched.cursor:
            out.append(
                command(
                    [b"XGROUP", b"SETID", key, name, _id(group.last_id), b"ENTRIESREAD", b"%d" % group.entries_read]
                )
            )
        for consumer in touched.consumers:
            verb = b"CREATECONSUMER" if consumer in group.consumers else b"DELCONSUMER"
            out.append(command([b"XGROUP", verb, key, name, consumer]))
        acked = [_id(entry_id) for entry_id in touched.pending if entry_id not in group.pending]
        out += batches([b"XACK", key, name], acked, 1)
        out += [_claim(key, name, group, entry_id) for entry_id in touched.pending if entry_id in group.pending]


def _claim(key: bytes, name: bytes, group: Group, entry_id: int) -> bytes:
    pending = group.pending[entry_id]
    # A count of more than 63 bits exists in data from elsewhere only.
    return command([
        b"XCLAIM", key, name, pending.owner, b"0", _id(entry_id), b"TIME", b"%d" % pending.delivered_ms, b"RETRYCOUNT",
        b"%d" % min(pending.count, _U64_MAX >> 1), b"FORCE", b"JUSTID",
    ])  # fmt: skip


def _id(entry_id: int) -> bytes:
    return b"%d-%d" % (entry_id >> 64, entry_id & SEQ_MASK)


def _number(count: int) -> bytes:
    return b"%d" % min(count, _U64_MAX >> 1)
