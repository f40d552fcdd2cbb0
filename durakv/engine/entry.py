"""The payload of a log entry: a fixed header, then commands as RESP arrays. [compiled]

Header, little-endian: u8 format, u8 semantics level, u16 flags, u32 items, u64 now_ms, u64 seed. Control records are
arrays whose first element starts with ``@``, which no client command does: ``@db n`` selects a database (each payload
starts at 0), ``@as node uid [epoch number]`` names the session of the next item and which request of a follower's
client it is, ``@multi n [db key version]...`` opens a transaction of n commands, ``@import n verb generation seq...``
an item of a live import of n commands, ``@handoff verb mid...`` an item of a slot handoff, ``@drop``,
``@unpark reason``, ``@tick``, ``@sweep key...``, ``@evict key...``.
Any RESP parser reads it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from durakv.commands.spec import READ, WRITE
from durakv.engine.batch import (
    ITEM_DROP,
    ITEM_EVICT,
    ITEM_EXEC,
    ITEM_HANDOFF,
    ITEM_IMPORT,
    ITEM_READ,
    ITEM_SWEEP,
    ITEM_TICK,
    ITEM_UNPARK,
    ITEM_WRITE,
    Batch,
    Item,
    Part,
)

if TYPE_CHECKING:
    import hiredis

    from durakv.commands.table import Row, Table

FORMAT: Final = 1
# Raised when a command's result changes; a node meeting a higher level stops applying.
SEMANTICS: Final = 1

HEADER: Final = Struct("<BBHIQQ")
HEADER_SIZE: Final = 24
# Two neighbours of the header: items and now_ms.
_STAMP: Final = Struct("<IQ")
_STAMP_AT: Final = 4

_COUNT: Final = [b"*%d\r\n" % n for n in range(256)]
_LENGTH: Final = [b"$%d\r\n" % n for n in range(1024)]
_NEXT: Final = [b"\r\n$%d\r\n" % n for n in range(1024)]
_CRLF: Final = b"\r\n"
# Argument counts whose heads one row keeps; a row of a subcommand has its container's name, which is as fixed.
_HEADS_MAX: Final = 64


def stamp(data: bytes) -> tuple[int, int]:
    """(now_ms, item count) of a payload, for the frame header of its log entry."""
    count, now_ms = _STAMP.unpack_from(data, _STAMP_AT)
    return now_ms, count


def put_array(out: list[bytes], argv: list[bytes]) -> None:
    """Append ``argv`` to ``out`` as a RESP array of bulk strings."""
    n = len(argv)
    out.append(_COUNT[n] if n < 256 else b"*%d\r\n" % n)
    for arg in argv:
        size = len(arg)
        out.append(_LENGTH[size] if size < 1024 else b"$%d\r\n" % size)
        out.append(arg)
        out.append(_CRLF)


def put_command(out: list[bytes], row: Row, argv: list[bytes]) -> None:
    """Append a command under its canonical name; the head is cached, and each length comes with the CRLF before it."""
    n = len(argv)
    head = row.heads.get(n)
    if head is None:
        name = argv[0].upper()
        head = b"*%d\r\n$%d\r\n%b" % (n, len(name), name)
        if len(row.heads) < _HEADS_MAX:
            row.heads[n] = head
    out.append(head)
    for i in range(1, n):
        arg = argv[i]
        size = len(arg)
        out.append(_NEXT[size] if size < 1024 else b"\r\n$%d\r\n" % size)
        out.append(arg)
    out.append(_CRLF)


def encode_batch(batch: Batch, now_ms: int, seed: int) -> bytes:
    """The payload of every item that must be logged; read items are left out."""
    out: list[bytes] = [b""]
    db = 0
    count = 0
    for item in batch.items:
        kind = item.kind
        if kind == ITEM_READ:
            continue
        count += 1
        if kind == ITEM_WRITE:
            row = item.row
            assert row is not None
            if row.needs_session or item.number:
                put_array(out, _as(item))
            if item.db != db:
                db = item.db
                put_array(out, [b"@db", b"%d" % db])
            put_command(out, row, item.argv)
        elif kind == ITEM_EXEC:
            db = _put_exec(out, item, db)
        elif kind == ITEM_IMPORT:
            db = _put_import(out, item, db)
        elif kind == ITEM_HANDOFF:
            put_array(out, [b"@handoff", *item.argv])
        elif kind == ITEM_TICK:
            out.append(b"*1\r\n$5\r\n@tick\r\n")
        elif kind in (ITEM_SWEEP, ITEM_EVICT):
            if item.db != db:
                db = item.db
                put_array(out, [b"@db", b"%d" % db])
            put_array(out, [b"@sweep" if kind == ITEM_SWEEP else b"@evict", *item.argv])
        else:
            put_array(out, [b"@as", b"%d" % item.node, b"%d" % item.uid])
            if kind == ITEM_DROP:
                put_array(out, [b"@drop"])
            else:
                assert kind == ITEM_UNPARK
                put_array(out, [b"@unpark", *item.argv])
    out[0] = HEADER.pack(FORMAT, SEMANTICS, 0, count, now_ms, seed)
    return b"".join(out)


def _as(item: Item) -> list[bytes]:
    record = [b"@as", b"%d" % item.node, b"%d" % item.uid]
    if item.number:
        assert item.session is not None
        record += [b"%d" % item.session.epoch, b"%d" % item.number]
    return record


def _put_exec(out: list[bytes], item: Item, db: int) -> int:
    parts = item.parts
    assert parts is not None
    writes = [p for p in parts if p.row.kind == WRITE]
    head: list[bytes] = [b"@multi", b"%d" % len(writes)]
    if item.watch is not None or item.number:
        put_array(out, _as(item))
    if item.watch is not None:
        for watched_db, key, version in item.watch:
            head.append(b"%d" % watched_db)
            head.append(key)
            head.append(b"%d" % version)
    put_array(out, head)
    for part in writes:
        assert part.row.kind != READ
        if part.db != db:
            db = part.db
            put_array(out, [b"@db", b"%d" % db])
        put_command(out, part.row, part.argv)
    return db


def _put_import(out: list[bytes], item: Item, db: int) -> int:
    parts = item.parts
    assert parts is not None
    put_array(out, [b"@import", b"%d" % len(parts), *item.argv])
    for part in parts:
        if part.db != db:
            db = part.db
            put_array(out, [b"@db", b"%d" % db])
        put_command(out, part.row, part.argv)
    return db


def read_parts(reader: hiredis.Reader, table: Table, count: int, db: int) -> tuple[list[Part], int]:
    """The ``count`` commands behind ``@multi`` or ``@import``, and the database selected after them."""
    parts: list[Part] = []
    while len(parts) < count:
        argv: list[bytes] = reader.gets()
        if argv[0] == b"@db":
            db = int(argv[1])
            continue
        parts.append(Part(table.find(argv), argv, db))
    return parts, db
