"""The payload of DUMP and RESTORE: one value as RDB bytes, a version and a CRC-64. [compiled]

Written are the plain encodings every version reads (strings, lists, sets, hashes element by element, sorted sets with
binary scores) under RDB version 10, so that Redis 7.0 and later and all Valkeys load it. Read are these and what
string elements may carry: integers and LZF. Packed encodings (listpack, intset, quicklist) are refused.
Rule: a payload comes from a stranger: every length is checked against the bytes left before anything is allocated.
Source: valkey rdb.c, cluster.c createDumpPayload(); poly and parameters of the CRC: crc64.c.
"""

from __future__ import annotations

import struct
from math import isnan
from struct import Struct, pack
from typing import Final

from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet

WRITTEN_VERSION: Final = 10
# 11 is Valkey 7.2 and 8, 80 Valkey 9; Redis 7.4 and later use 12 to 79 with types of their own.
_READABLE: Final = (*range(12), 80)
_FOOTER: Final = 10

_STRING: Final = 0
_LIST: Final = 1
_SET: Final = 2
_ZSET_TEXT: Final = 3
_HASH: Final = 4
_ZSET: Final = 5

_DOUBLE: Final = Struct("<d")
_U64: Final = Struct("<Q")
_BAD: Final = "Bad data format"
_BAD_FOOTER: Final = "DUMP payload version or checksum are wrong"
_STRING_MAX: Final = 512 * 1024 * 1024
_POLY: Final = 0x95AC9329AC4BC9B5


class DumpError(Exception):
    """The payload is not one of ours or cannot be read; ``text`` says which, in Valkey's words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _crc_table() -> list[int]:
    table: list[int] = []
    for n in range(256):
        crc = n
        for _ in range(8):
            crc = (crc >> 1) ^ _POLY if crc & 1 else crc >> 1
        table.append(crc)
    return table


_TABLE: Final[list[int]] = _crc_table()


def crc64(data: bytes, crc: int = 0) -> int:
    """CRC-64/Jones as RDB files use it (reflected, no final xor), continued from ``crc``."""
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


# -- writing -------------------------------------------------------------------------------------------------------


def dump_payload(value: object) -> bytes:
    """``value`` as RESTORE takes it."""
    out: list[bytes] = []
    _put_value(out, value)
    out.append(pack("<H", WRITTEN_VERSION))
    body = b"".join(out)
    return body + _U64.pack(crc64(body))


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
    elif isinstance(value, Hash):
        out.append(b"\x04")
        _put_length(out, len(value.fields))
        for field, content in value.fields.items():
            _put_string(out, field)
            _put_string(out, content)
    elif isinstance(value, ZSet):
        out.append(b"\x05")
        _put_length(out, len(value))
        for score, member in value.slice(0, len(value)):
            _put_string(out, member)
            out.append(_DOUBLE.pack(score))
    else:
        raise AssertionError(f"no dump is known for {type(value).__name__}")


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
    """The value in a DUMP payload, shared with nobody. Raises DumpError."""
    if len(payload) < _FOOTER:
        raise DumpError(_BAD_FOOTER)
    version = payload[-10] | payload[-9] << 8
    if version not in _READABLE or _U64.unpack(payload[-8:])[0] != crc64(payload[:-8]):
        raise DumpError(_BAD_FOOTER)
    reader = _Reader(payload[:-_FOOTER])
    try:
        return reader.value()
    except (IndexError, ValueError, struct.error):
        raise DumpError(_BAD) from None


class _Reader:
    """Reads forward through ``data``. Raises DumpError, or IndexError or struct.error at its end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self) -> object:
        """The one value; trailing bytes are ignored, as upstream does."""
        kind = self.byte()
        if kind == _STRING:
            return self.string()
        if kind == _LIST:
            return self._list()
        if kind == _SET:
            return self._set()
        if kind == _HASH:
            return self._hash()
        if kind in (_ZSET, _ZSET_TEXT):
            return self._zset(binary=kind == _ZSET)
        raise DumpError(_BAD)

    def byte(self) -> int:
        """The next byte."""
        value = self.data[self.at]
        self.at += 1
        return value

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        end = self.at + n
        if end > len(self.data):
            raise DumpError(_BAD)
        part = self.data[self.at : end]
        self.at = end
        return part

    def length(self) -> int:
        """A length; negative -1 - e for string encoding e."""
        first = self.byte()
        kind = first >> 6
        if kind == 0:
            return first
        if kind == 1:
            return (first & 0x3F) << 8 | self.byte()
        if kind == 3:
            return -1 - (first & 0x3F)
        if first == 0x80:
            return int.from_bytes(self.take(4), "big")
        if first == 0x81:
            return int.from_bytes(self.take(8), "big")
        raise DumpError(_BAD)

    def count(self, bytes_each: int) -> int:
        """How many elements of at least ``bytes_each`` bytes follow; never none."""
        n = self.length()
        if n <= 0 or n * bytes_each > len(self.data) - self.at:
            raise DumpError(_BAD)
        return n

    def string(self) -> bytes:
        """A string in any of its encodings."""
        n = self.length()
        if n >= 0:
            return self.take(n)
        if n == -1:
            return b"%d" % int.from_bytes(self.take(1), "little", signed=True)
        if n == -2:
            return b"%d" % int.from_bytes(self.take(2), "little", signed=True)
        if n == -3:
            return b"%d" % int.from_bytes(self.take(4), "little", signed=True)
        if n == -4:
            packed_size = self.length()
            size = self.length()
            if packed_size < 0 or not 0 <= size <= _STRING_MAX:
                raise DumpError(_BAD)
            return lzf_decompress(self.take(packed_size), size)
        raise DumpError(_BAD)

    def _list(self) -> ListValue:
        items = [self.string() for _ in range(self.count(1))]
        value = ListValue()
        value.push_right(items)
        return value

    def _set(self) -> SetValue:
        members = [self.string() for _ in range(self.count(1))]
        if len(dict.fromkeys(members)) != len(members):
            raise DumpError(_BAD)
        return SetValue.of(members)

    def _hash(self) -> Hash:
        value = Hash()
        for _ in range(self.count(2)):
            field = self.string()
            if not value.set(field, self.string()):
                raise DumpError(_BAD)
        return value

    def _zset(self, *, binary: bool) -> ZSet:
        scores: dict[bytes, float] = {}
        for _ in range(self.count(9 if binary else 2)):
            member = self.string()
            score = float(_DOUBLE.unpack(self.take(8))[0]) if binary else self._text_score()
            if isnan(score) or member in scores:
                raise DumpError(_BAD)
            scores[member] = score
        value = ZSet()
        value.fill(scores)
        return value

    def _text_score(self) -> float:
        n = self.byte()
        if n == 253:
            raise DumpError(_BAD)
        if n == 254:
            return float("inf")
        if n == 255:
            return float("-inf")
        return float(self.take(n))


def lzf_decompress(data: bytes, size: int) -> bytes:
    """The ``size`` bytes that LZF packed into ``data``. Raises DumpError unless they are exactly that many."""
    out = bytearray()
    i = 0
    end = len(data)
    while i < end:
        control = data[i]
        i += 1
        if control < 32:
            control += 1
            if i + control > end or len(out) + control > size:
                raise DumpError(_BAD)
            out += data[i : i + control]
            i += control
            continue
        run = control >> 5
        if run == 7:
            run += data[i]
            i += 1
        back = ((control & 0x1F) << 8 | data[i]) + 1
        i += 1
        run += 2
        start = len(out) - back
        if start < 0 or len(out) + run > size:
            raise DumpError(_BAD)
        if back >= run:
            out += out[start : start + run]
        else:
            # Overlapping: the run repeats its own beginning.
            out += (bytes(out[start:]) * (run // back + 1))[:run]
    if len(out) != size:
        raise DumpError(_BAD)
    return bytes(out)
