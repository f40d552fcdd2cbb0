"""Elements of a listpack, one at a time: what a stream's node holds and what RDB carries. [compiled]

Rule: the bytes are those Valkey writes, because how full a node is (its size as a listpack) decides what approximate
trimming removes. It knows elements only; what they mean is streamnode's business.
Source: listpack.c lpEncodeGetType(), lpEncodeIntegerGetType(), lpEncodeBacklen().
"""

from __future__ import annotations

from typing import Final

from durakv.keyspace.values.packed import LISTPACK_OVERHEAD, is_integer

_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64
_COUNT_UNKNOWN: Final = 0xFFFF
_END: Final = b"\xff"
# What stands before and behind a string of fewer than 64 bytes.
_HEADS: Final[list[bytes]] = [bytes((0x80 | n,)) for n in range(64)]
_TAILS: Final[list[bytes]] = [bytes((n + 1,)) for n in range(64)]
# Small enough to be no matter of signs.
_PLAIN: Final = 1 << 48


def signed64(number: int) -> int:
    """``number`` modulo 2^64 as a signed 64-bit integer: differences of ids are stored so."""
    if 0 <= number < _PLAIN:
        return number
    number %= _UINT64
    return number - _UINT64 if number >= _INT64 else number


def pack_int(number: int) -> bytes:
    """The element of a signed 64-bit integer, its back length included."""
    if 0 <= number <= 127:
        return bytes((number, 1))
    if -4096 <= number <= 4095:
        number &= 0x1FFF
        return bytes((0xC0 | number >> 8, number & 0xFF, 2))
    if -32768 <= number <= 32767:
        return b"\xf1" + number.to_bytes(2, "little", signed=True) + b"\x03"
    if -8388608 <= number <= 8388607:
        return b"\xf2" + number.to_bytes(3, "little", signed=True) + b"\x04"
    if -2147483648 <= number <= 2147483647:
        return b"\xf3" + number.to_bytes(4, "little", signed=True) + b"\x05"
    return b"\xf4" + number.to_bytes(8, "little", signed=True) + b"\x09"


def int_size(number: int) -> int:
    """How many bytes pack_int() yields."""
    if 0 <= number <= 127:
        return 2
    if -4096 <= number <= 4095:
        return 3
    if -32768 <= number <= 32767:
        return 4
    if -8388608 <= number <= 8388607:
        return 5
    if -2147483648 <= number <= 2147483647:
        return 6
    return 10


def pack_text(text: bytes) -> bytes:
    """The element of a string, its back length included; a canonical integer becomes one."""
    n = len(text)
    if 0 < n <= 20 and text[0] <= 0x39 and is_integer(text):
        return pack_int(int(text))
    if n < 64:
        return _HEADS[n] + text + _TAILS[n]
    if n < 4096:
        return bytes((0xE0 | n >> 8, n & 0xFF)) + text + back_length(n + 2)
    return b"\xf0" + n.to_bytes(4, "little") + text + back_length(n + 5)


def back_length(size: int) -> bytes:
    """The size of an element as it stands behind it, to be read backwards."""
    if size <= 127:
        return bytes((size,))
    if size < 16383:
        return bytes((size >> 7, size & 127 | 128))
    if size < 2097151:
        return bytes((size >> 14, size >> 7 & 127 | 128, size & 127 | 128))
    if size < 268435455:
        return bytes((size >> 21, size >> 14 & 127 | 128, size >> 7 & 127 | 128, size & 127 | 128))
    return bytes((size >> 28, size >> 21 & 127 | 128, size >> 14 & 127 | 128, size >> 7 & 127 | 128, size & 127 | 128))


def unpack(data: bytes, at: int, end: int) -> list[bytes]:
    """The elements in ``data[at:end]``, which pack_int() and pack_text() made; integers as text."""
    out: list[bytes] = []
    while at < end:
        first = data[at]
        if first < 0x80:
            out.append(b"%d" % first)
            at += 2
        elif first < 0xC0:
            n = first & 0x3F
            out.append(data[at + 1 : at + 1 + n])
            at += n + 2
        elif first < 0xE0:
            number = (first & 0x1F) << 8 | data[at + 1]
            out.append(b"%d" % (number - 8192 if number >= 4096 else number))
            at += 3
        elif first <= 0xF0:
            if first < 0xF0:
                head, n = 2, (first & 0x0F) << 8 | data[at + 1]
            else:
                head, n = 5, int.from_bytes(data[at + 1 : at + 5], "little")
            out.append(data[at + head : at + head + n])
            at += head + n + len(back_length(head + n))
        else:
            n = 8 if first == 0xF4 else first - 0xEF
            out.append(b"%d" % int.from_bytes(data[at + 1 : at + 1 + n], "little", signed=True))
            at += n + 2
    return out


def listpack(elements: bytes, count: int) -> bytes:
    """A whole listpack of ``count`` packed elements."""
    size = len(elements) + LISTPACK_OVERHEAD
    shown = count if count < _COUNT_UNKNOWN else _COUNT_UNKNOWN
    return size.to_bytes(4, "little") + shown.to_bytes(2, "little") + elements + _END
