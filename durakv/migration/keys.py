"""What an RDB file holds, as commands of a bounded size that build it up in an empty database.

Strings come as SET, other values as RESTORE with the file's own bytes, large ones by RPUSH, SADD, ZADD, HSET, APPEND.
Deadlines are absolute and come last; passed ones are set all the same, for the source decides when keys go.
Rule: first everything is judged (``survey``), then everything is read again (``build``); both give way often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.rdb_read import RdbReader
from durakv.migration.walk import SteppedRdb
from durakv.rdb import kinds
from durakv.rdb.pieces import can_split, pieces
from durakv.rdb.reader import Aux, Entry, Function, ModuleAux
from durakv.rdb.stream_commands import stream_commands
from durakv.rdb.values import restore_payload, sealed, string

# Values of more bytes are built up in pieces of about this size: applying one takes a few milliseconds.
PIECE_BYTES: Final = 32 << 10
# A stream goes whole, with all that commands cannot say of it, as long as one entry can hold it.
_STREAM_BYTES_MAX: Final = 16 << 20
_NAMED_MAX: Final = 5
_FUNCTION_VERSION: Final = 10
_BUILDERS: Final = {"list": b"RPUSH", "set": b"SADD", "zset": b"ZADD", "hash": b"HSET"}

# (database, argv)
Command = tuple[int, list[bytes]]


class Found:
    """``refused`` are the things durakv cannot hold, as text for people; ``stream_db`` as the file's makers say."""

    def __init__(self) -> None:
        self.keys = 0
        self.db_max = 0
        self.stream_db = 0
        self.refused_count = 0
        self.refused: list[str] = []

    def refuse(self, what: str) -> None:
        """Note one thing that cannot be taken over."""
        self.refused_count += 1
        if len(self.refused) < _NAMED_MAX:
            self.refused.append(what)

    def complaint(self, databases: int) -> str:
        """Why nothing can be imported; empty when everything can."""
        if self.refused_count:
            more = self.refused_count - len(self.refused)
            named = ", ".join(self.refused) + (f" and {more} more" if more else "")
            return f"durakv cannot hold {named}; remove them at the source, then REPLICAOF again"
        if self.db_max >= databases:
            return (
                f"keys lie in database {self.db_max}, and this group has {databases}; start its nodes with a higher "
                "databases directive"
            )
        return ""


def survey(file: SteppedRdb, found: Found) -> Iterator[None]:
    """Read all of ``file`` and note what it holds. Raises DamagedRdb, UnsupportedRdb, OSError."""
    while (record := file.next()) is not None:
        if isinstance(record, Entry):
            found.keys += 1
            found.db_max = max(found.db_max, record.db)
            if record.end < 0:
                yield from file.walk(record)
            if record.kind in kinds.MODULES:
                found.refuse(f"key {_shown(record.key)} of a module's type")
        elif isinstance(record, ModuleAux):
            found.refuse(f"data of module type {record.name}")
        elif isinstance(record, Aux) and record.name == b"repl-stream-db" and record.content.isdigit():
            found.stream_db = int(record.content)
        yield


def build(file: SteppedRdb) -> Iterator[Command | None]:
    """The commands, in order; None just gives way. Raises DamagedRdb, OSError."""
    libraries: list[bytes] = []
    while (record := file.next()) is not None:
        if isinstance(record, Entry):
            if not record.empty:
                for argv in _commands(file, record):
                    yield record.db, argv
        elif isinstance(record, Function):
            libraries.append(record.code)
        elif isinstance(record, Aux) and record.name == b"lua":
            # Until 6.2 the scripts a replica must know came along.
            yield 0, [b"SCRIPT", b"LOAD", record.content]
        yield None
    if libraries:
        data = b"".join(bytes((kinds.OP_FUNCTION,)) + string(code) for code in libraries)
        yield 0, [b"FUNCTION", b"RESTORE", sealed(data, _FUNCTION_VERSION), b"FLUSH"]


def _commands(file: SteppedRdb, entry: Entry) -> Iterator[list[bytes]]:
    key, body = entry.key, entry.body
    # Unix time 0 is no deadline to any command.
    at_ms = max(entry.expire_ms, 1) if entry.expire_ms >= 0 else -1
    if entry.kind == kinds.STRING:
        yield from _string(key, body if body is not None else file.body(entry), at_ms)
        return
    if body is not None or (entry.kind in kinds.STREAMS and entry.end - entry.begin <= _STREAM_BYTES_MAX):
        argv = [b"RESTORE", key, b"%d" % max(at_ms, 0), _payload(entry, file.body(entry))]
        yield [*argv, b"ABSTTL"] if at_ms > 0 else argv
        return
    if can_split(entry.kind):
        name = _BUILDERS[kinds.TYPE_NAMES[entry.kind]]
        for piece in pieces(file, entry, PIECE_BYTES):
            yield [name, key, *piece.items]
            by_deadline: dict[int, list[bytes]] = {}
            for field, field_ms in piece.deadlines:
                by_deadline.setdefault(field_ms, []).append(field)
            for field_ms, fields in by_deadline.items():
                yield [b"HPEXPIREAT", key, b"%d" % field_ms, b"FIELDS", b"%d" % len(fields), *fields]
    else:
        yield from stream_commands(file, entry)
    if at_ms > 0:
        yield [b"PEXPIREAT", key, b"%d" % at_ms]


def _string(key: bytes, body: bytes, at_ms: int) -> Iterator[list[bytes]]:
    text = body[1:] if body[0] < 0x40 else RdbReader(body).string()
    first = [b"SET", key, text[:PIECE_BYTES]]
    if len(text) <= PIECE_BYTES:
        yield [*first, b"PXAT", b"%d" % at_ms] if at_ms > 0 else first
        return
    yield first
    for at in range(PIECE_BYTES, len(text), PIECE_BYTES):
        yield [b"APPEND", key, text[at : at + PIECE_BYTES]]
    if at_ms > 0:
        yield [b"PEXPIREAT", key, b"%d" % at_ms]


def _payload(entry: Entry, body: bytes) -> bytes:
    try:
        return restore_payload(entry.kind, body)
    except (RdbError, IndexError):
        # RESTORE refuses what is not well-formed, and the failure is counted.
        return sealed(bytes((entry.kind,)) + body, _FUNCTION_VERSION)


def _shown(key: bytes) -> str:
    return repr(key[:64])
