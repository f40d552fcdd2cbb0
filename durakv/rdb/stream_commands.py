"""A stream too large to be one request, as the commands that build it up again.

What commands cannot say is lost, as in a rewritten append-only file of Redis: when a consumer was last seen, and the
pending entries whose message is deleted. Rule: memory stays that of one node and the pending entries of one group.
Source: valkey aof.c rewriteStreamObject(), t_stream.c streamIteratorGetID().
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from durakv.keyspace.rdb_packed import RdbError, listpack_items
from durakv.rdb import kinds
from durakv.rdb.errors import DamagedRdb, Malformed
from durakv.rdb.reader import Entry, RdbFile
from durakv.rdb.window import Window

_ID: Final = Struct(">QQ")
_I64: Final = Struct("<q")
_U64_MAX: Final = (1 << 64) - 1
_DELETED: Final = 1
_SAME_FIELDS: Final = 2
_UNKNOWN: Final = b"-1"


def stream_commands(file: RdbFile, entry: Entry) -> Iterator[list[bytes]]:
    """Arguments of XADD, XSETID, XGROUP and XCLAIM, in order; the key must not exist. Raises DamagedRdb, OSError."""
    window = Window(file.source, entry.begin, None, 0)
    try:
        yield from _commands(window, entry)
    except Malformed as error:
        raise DamagedRdb(file.path, error.at, error.reason) from None
    except (RdbError, IndexError, ValueError):
        raise DamagedRdb(
            file.path, window.position(), f"stream {entry.key!r} holds a node that is not well-formed"
        ) from None


def _commands(window: Window, entry: Entry) -> Iterator[list[bytes]]:
    key = entry.key
    live = 0
    for _ in range(window.count(2)):
        ms, seq = _ID.unpack(_exactly(window.string(), _ID.size))
        for entry_id, flat in _node(ms, seq, listpack_items(window.string())):
            live += 1
            yield [b"XADD", key, entry_id, *flat]
    window.number()
    last = _id(window)
    if not live:
        # A stream without entries is made by one that is trimmed away at once.
        yield [b"XADD", key, b"MAXLEN", b"0", last if last != b"0-0" else b"0-1", b"x", b"y"]
    set_id = [b"XSETID", key, last]
    if entry.kind != kinds.STREAM:
        _id(window)
        deleted = _id(window)
        set_id += [b"ENTRIESADDED", b"%d" % window.number(), b"MAXDELETEDID", deleted]
    yield set_id
    for _ in range(window.count(5)):
        yield from _group(window, entry)


def _group(window: Window, entry: Entry) -> Iterator[list[bytes]]:
    key, name = entry.key, window.string()
    create = [b"XGROUP", b"CREATE", key, name, _id(window)]
    if entry.kind != kinds.STREAM:
        read = window.number()
        create += [b"ENTRIESREAD", _UNKNOWN if read == _U64_MAX else b"%d" % read]
    yield create
    pending: dict[bytes, tuple[bytes, bytes]] = {}
    for _ in range(window.count(25)):
        raw = window.take(16)
        delivered_ms: int = _I64.unpack(window.take(8))[0]
        pending[raw] = (b"%d" % delivered_ms, b"%d" % window.number())
    for _ in range(window.count(10)):
        consumer = window.string()
        window.skip(16 if entry.kind == kinds.STREAM_3 else 8)
        yield [b"XGROUP", b"CREATECONSUMER", key, name, consumer]
        for _ in range(window.count(16)):
            raw = window.take(16)
            if raw not in pending:
                raise Malformed(f"consumer {consumer!r} owns an entry that is not pending", window.position() - 16)
            delivered, count = pending[raw]
            yield [
                b"XCLAIM", key, name, consumer, b"0", b"%d-%d" % _ID.unpack(raw), b"TIME", delivered, b"RETRYCOUNT",
                count, b"FORCE", b"JUSTID",
            ]  # fmt: skip


def _node(ms: int, seq: int, items: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """(id, field, value, ...) of the entries that are not deleted.

    Head: live, deleted, number of fields, the fields, 0. Each entry: marks, two differences to the node's id, its
    values (or their number, and fields and values), how many elements it has.
    """
    fields = items[3 : 3 + int(items[2])]
    at = 4 + len(fields)
    if len(fields) != int(items[2]) or items[at - 1] != b"0":
        raise RdbError("the head of a node is cut off")
    while at < len(items):
        marks = int(items[at])
        entry_id = b"%d-%d" % ((ms + int(items[at + 1])) & _U64_MAX, (seq + int(items[at + 2])) & _U64_MAX)
        at += 3
        if marks & _SAME_FIELDS:
            values = items[at : at + len(fields)]
            at += len(fields)
            flat = [word for pair in zip(fields, values, strict=True) for word in pair]
        else:
            count = 2 * int(items[at])
            flat = items[at + 1 : at + 1 + count]
            at += 1 + count
        # The number of elements, for walking backwards.
        at += 1
        if not flat or at > len(items):
            raise RdbError("an entry of a stream is cut off")
        if not marks & _DELETED:
            yield entry_id, flat


def _id(window: Window) -> bytes:
    return b"%d-%d" % (window.number(), window.number())


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise RdbError("the id of a node has another size")
    return data
