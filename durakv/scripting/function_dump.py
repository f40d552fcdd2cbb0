"""The payload of FUNCTION DUMP and RESTORE: for each library an RDB opcode and its code, then a version and a CRC-64.

Written under RDB version 10, which every server with functions reads. Rule: a payload is read only when its version is
known and its checksum right. Source: functions.c functionDumpCommand().
"""

from __future__ import annotations

from struct import Struct, pack
from struct import error as StructError
from typing import Final

from durakv.keyspace.rdb_crc import crc64
from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.rdb_read import RdbReader
from durakv.resp.errors import CommandError

_VERSION: Final = 10
# As DUMP payloads: up to Valkey 8, and Valkey 9; between them are Redis' own.
_READABLE: Final = (*range(12), 80)
_FUNCTION: Final = 245
_FUNCTION_OLD: Final = 246
_FOOTER: Final = 10
_U64: Final = Struct("<Q")


def dump(codes: list[bytes]) -> bytes:
    """The payload of libraries with these codes."""
    out = [bytes((_FUNCTION,)) + _length(len(code)) + code for code in codes]
    out.append(pack("<H", _VERSION))
    body = b"".join(out)
    return body + _U64.pack(crc64(body))


def _length(n: int) -> bytes:
    if n < 1 << 6:
        return bytes((n,))
    if n < 1 << 14:
        return bytes((0x40 | n >> 8, n & 0xFF))
    return b"\x80" + pack(">I", n) if n < 1 << 32 else b"\x81" + pack(">Q", n)


def load(payload: bytes) -> list[bytes]:
    """The codes in a payload. Raises CommandError."""
    size = len(payload)
    if size < _FOOTER or _U64.unpack(payload[-8:])[0] != crc64(payload[:-8]):
        raise CommandError("ERR DUMP payload version or checksum are wrong")
    if payload[-10] | payload[-9] << 8 not in _READABLE:
        raise CommandError("ERR DUMP payload version or checksum are wrong")
    reader = RdbReader(payload[:-_FOOTER])
    codes: list[bytes] = []
    while reader.at < len(reader.data):
        kind = reader.byte()
        if kind == _FUNCTION_OLD:
            raise CommandError("ERR Pre-GA function format not supported")
        if kind != _FUNCTION:
            raise CommandError("ERR given type is not a function")
        try:
            codes.append(reader.string())
        except (RdbError, IndexError, StructError):
            raise CommandError("ERR Failed loading library data") from None
    return codes
