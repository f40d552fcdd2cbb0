"""The payload of DUMP and RESTORE: one value as RDB bytes, a version and a CRC-64.

Written are the plain encodings every version reads (strings, lists, sets, hashes element by element, sorted sets with
binary scores, streams node by node) under RDB version 10, so that Redis 7.0 and later and all Valkeys load it; a stream
that Redis 7.0 could not tell in full goes under version 11, a hash with deadlines of fields under Valkey 9's 80. Read
is whatever rdb_read.py knows, packed encodings included.
Rule: a payload is read only when its version is known and its checksum right. Source: cluster.c createDumpPayload().
"""

from __future__ import annotations

import struct
from struct import Struct, pack
from typing import Final

from durakv.keyspace.rdb_crc import crc64
from durakv.keyspace.rdb_packed import BAD_DATA, RdbError
from durakv.keyspace.rdb_read import RdbReader
from durakv.keyspace.values import streamrdb
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet

WRITTEN_VERSION: Final = 10
# Hashes with deadlines of fields came with Valkey 9.
FIELD_DEADLINES_VERSION: Final = 80
STREAM_VERSION: Final = 11
# 11 is Valkey 7.2 and 8, 80 Valkey 9; Redis 7.4 and later use 12 to 79 with types of their own.
_READABLE: Final = (*range(12), 80)
_FOOTER: Final = 10


_DOUBLE: Final = Struct("<d")
_U64: Final = Struct("<Q")
_I64: Final = Struct("<q")
_BAD_FOOTER: Final = "DUMP payload version or checksum are wrong"


# -- writing -------------------------------------------------------------------------------------------------------


def dump_payload(value: object) -> bytes:
    """``value`` as RESTORE takes it."""
    data, version = dump_body(value)
    data += pack("<H", version)
    return data + _U64.pack(crc64(data))


def dump_body(value: object, *, redis_7_0: bool = False) -> tuple[bytes, int]:
    """The type byte and the content of ``value``, and the version a payload of it has.

    ``redis_7_0``: as Redis 7.0 takes it: without deadlines of fields, and without when a consumer last got something.
    """
    out: list[bytes] = []
    version = WRITTEN_VERSION
    if isinstance(value, Stream):
        if streamrdb.save(out, value, _put_length, _put_string, redis_7_0=redis_7_0) == streamrdb.TYPE_7_2:
            version = STREAM_VERSION
    elif isinstance(value, Hash) and redis_7_0:
        _put_hash(out, value)
    else:
        if isinstance(value, Hash) and value.deadlines is not None:
            version = FIELD_DEADLINES_VERSION
        _put_value(out, value)
    return b"".join(out), version


def _put_value(out: list[bytes], value: object) -> None:
    if type(value) is bytes:
        out.append(b"\x00")
        _put_string(out, value)
    elif type(value) is bytearray:
        out.append(b"\x00")
        _put_string(out, bytes(value))
    elif isinstance(value, ListValue):
        out.append(b"\x01")
        _put_length(out, len(value.items))
        for item in value.items:
            _put_string(out, item)
    elif isinstance(value, SetValue):
        out.append(b"\x02")
        _put_length(out, len(value))
        for member in value.members:
            _put_string(out, member)
    elif isinstance(value, Hash) and value.deadlines is not None:
        _put_timed_hash(out, value)
    elif isinstance(value, Hash):
        _put_hash(out, value)
    elif isinstance(value, ZSet):
        out.append(b"\x05")
        _put_length(out, len(value))
        for score, member in value.slice(0, len(value)):
            _put_string(out, member)
            out.append(_DOUBLE.pack(score))
    else:
        raise AssertionError(f"no dump is known for {type(value).__name__}")


def _put_hash(out: list[bytes], value: Hash) -> None:
    out.append(b"\x04")
    _put_length(out, len(value.fields))
    for field, content in value.fields.items():
        _put_string(out, field)
        _put_string(out, content)


def _put_timed_hash(out: list[bytes], value: Hash) -> None:
    """Every field with its deadline, -1 without. Source: valkey rdb.h RDB_TYPE_HASH_2."""
    out.append(b"\x16")
    _put_length(out, len(value.fields))
    for field, content in value.fields.items():
        _put_string(out, field)
        _put_string(out, content)
        out.append(_I64.pack(value.deadline(field)))


def _put_length(out: list[bytes], n: int) -> None:
    if n < 64:
        out.append(bytes((n,)))
    elif n < 16384:
        out.append(bytes((0x40 | n >> 8, n & 0xFF)))
    elif n < 1 << 32:
        out.append(b"\x80" + pack(">I", n))
    else:
        out.append(b"\x81" + pack(">Q", n))


def _put_string(out: list[bytes], text: bytes) -> None:
    n = len(text)
    if n <= 11 and (text.isdigit() or text[:1] == b"-"):
        packed = _as_integer(text)
        if packed:
            out.append(packed)
            return
    _put_length(out, n)
    out.append(text)


def _as_integer(text: bytes) -> bytes:
    """The short form of a canonical 32-bit integer, empty for anything else."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit():
        return b""
    number = int(text)
    if b"%d" % number != text:
        return b""
    if -128 <= number <= 127:
        return b"\xc0" + pack("<b", number)
    if -32768 <= number <= 32767:
        return b"\xc1" + pack("<h", number)
    if -(1 << 31) <= number < 1 << 31:
        return b"\xc2" + pack("<i", number)
    return b""


# -- reading -------------------------------------------------------------------------------------------------------


def load_payload(payload: bytes) -> object:
    """The value in a DUMP payload, shared with nobody. Raises RdbError."""
    if len(payload) < _FOOTER:
        raise RdbError(_BAD_FOOTER)
    version = payload[-10] | payload[-9] << 8
    if version not in _READABLE or _U64.unpack(payload[-8:])[0] != crc64(payload[:-8]):
        raise RdbError(_BAD_FOOTER)
    reader = RdbReader(payload[:-_FOOTER])
    try:
        return reader.value()
    except (IndexError, ValueError, struct.error):
        raise RdbError(BAD_DATA) from None
