"""One value of an RDB file as a payload for RESTORE, or as the object durakv keeps.

Rule: the only place that knows how the bytes of a file's value become those of a payload: the type byte before them,
version and checksum behind; a type nobody writes any more (zipmap) becomes its plain successor, and a hash with field
deadlines of Redis 7.4 that of Valkey 9, which says the same.
Source: cluster.c createDumpPayload(); zipmap.c.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import Final

from durakv.keyspace.rdb_crc import crc64
from durakv.keyspace.rdb_packed import BAD_DATA, RdbError, listpack_items
from durakv.keyspace.rdb_read import RdbReader
from durakv.rdb import kinds
from durakv.rdb.crc64 import Crc64

_VERSION: Final = Struct("<H")
_U64: Final = Struct("<Q")
_I64: Final = Struct("<q")
_DEADLINE_MAX: Final = (1 << 63) - 1
# No reader of today refuses 9, the version of Redis 5.
_VERSION_MIN: Final = 9
# From here on the fast sum is worth its set-up.
_LONG: Final = 256 << 10

_ZIPMAP_END: Final = 255
_ZIPMAP_LONG: Final = 254


def restore_payload(kind: int, body: bytes) -> bytes:
    """What RESTORE takes, under the lowest version that has the type. Raises RdbError for a damaged hash."""
    kind, body = _current(kind, body)
    return sealed(bytes((kind,)) + body, max(kinds.LOWEST_VERSION[kind], _VERSION_MIN))


def sealed(data: bytes, version: int) -> bytes:
    """``data`` with the version and the checksum that RESTORE and FUNCTION RESTORE look for."""
    data += _VERSION.pack(version)
    if len(data) < _LONG:
        return data + _U64.pack(crc64(data))
    total = Crc64()
    total.update(data)
    return data + _U64.pack(total.value())


def value_of(kind: int, body: bytes) -> object:
    """The value, shared with nobody. Raises RdbError for bytes no writer makes, and for what rdb_read.py refuses."""
    kind, body = _current(kind, body)
    reader = RdbReader(bytes((kind,)) + body)
    try:
        value = reader.value()
    except (IndexError, ValueError, struct.error):
        raise RdbError(BAD_DATA) from None
    if reader.at != len(body) + 1:
        raise RdbError(BAD_DATA)
    return value


def _current(kind: int, body: bytes) -> tuple[int, bytes]:
    """The same value in a type that rdb_read.py knows. Raises RdbError."""
    if kind not in {kinds.HASH_ZIPMAP, kinds.HASH_REDIS_TTL, kinds.HASH_LISTPACK_TTL}:
        return kind, body
    try:
        if kind == kinds.HASH_ZIPMAP:
            items = zipmap_items(RdbReader(body).string())
            return kinds.HASH, b"".join([length(len(items) // 2), *map(string, items)])
        triples = _relative(body) if kind == kinds.HASH_REDIS_TTL else _packed(body)
    except (IndexError, struct.error):
        raise RdbError(BAD_DATA) from None
    out = [length(len(triples))]
    for field, value, at_ms in triples:
        out += (string(field), string(value), _I64.pack(at_ms))
    return kinds.HASH_VALKEY_TTL, b"".join(out)


def _relative(body: bytes) -> list[tuple[bytes, bytes, int]]:
    """Field, value, deadline: stored is how far a deadline lies behind the first, plus 1, and 0 for none."""
    reader = RdbReader(body)
    least_ms = int.from_bytes(reader.take(8), "little")
    triples = []
    for _ in range(reader.count(3)):
        behind = reader.length()
        field, value = reader.string(), reader.string()
        triples.append((field, value, deadline(least_ms + behind - 1) if behind else kinds.NO_DEADLINE))
    if reader.at != len(body):
        raise RdbError(BAD_DATA)
    return triples


def _packed(body: bytes) -> list[tuple[bytes, bytes, int]]:
    reader = RdbReader(body)
    reader.take(8)
    items = listpack_items(reader.string())
    if len(items) % 3 or reader.at != len(body):
        raise RdbError(BAD_DATA)
    return [(items[at], items[at + 1], packed_deadline(items[at + 2])) for at in range(0, len(items), 3)]


def packed_deadline(text: bytes) -> int:
    """The third of three listpack entries: unix ms, where 0 says none. Raises RdbError."""
    if not text.isdigit():
        raise RdbError(BAD_DATA)
    return deadline(int(text)) if text != b"0" else kinds.NO_DEADLINE


def deadline(at_ms: int) -> int:
    """``at_ms`` when a clock can show it. Raises RdbError."""
    if not 0 <= at_ms <= _DEADLINE_MAX:
        raise RdbError(BAD_DATA)
    return at_ms


def zipmap_items(data: bytes) -> list[bytes]:
    """Field, value, field, value, ... Raises RdbError, or IndexError at the end of ``data``."""
    out: list[bytes] = []
    at = 1
    while data[at] != _ZIPMAP_END:
        size, at = _zipmap_length(data, at)
        out.append(data[at : at + size])
        at += size
        size, at = _zipmap_length(data, at)
        # Bytes left over from a longer value that once stood there.
        unused = data[at]
        out.append(data[at + 1 : at + 1 + size])
        at += 1 + size + unused
    if at + 1 != len(data) or data[0] not in (len(out) // 2, _ZIPMAP_LONG, _ZIPMAP_END):
        raise RdbError(BAD_DATA)
    return out


def _zipmap_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < _ZIPMAP_LONG:
        return first, at + 1
    if first == _ZIPMAP_END:
        raise RdbError(BAD_DATA)
    return int.from_bytes(data[at + 1 : at + 5], "little"), at + 5


def length(n: int) -> bytes:
    """``n`` as RDB writes a length."""
    if n < 64:
        return bytes((n,))
    if n < 16384:
        return bytes((0x40 | n >> 8, n & 0xFF))
    if n < 1 << 32:
        return b"\x80" + n.to_bytes(4, "big")
    return b"\x81" + n.to_bytes(8, "big")


def string(text: bytes) -> bytes:
    """``text`` as RDB writes a string, without the short form for integers."""
    return length(len(text)) + text
