"""RDB's packed blobs as lists of strings: listpack, ziplist, intset; and LZF, which shrinks any string.

Rule: a blob comes from a stranger. Every size is checked against the bytes left, every redundant field (counts, lengths
of the entry before) must agree, and nothing may follow the end.
Source: valkey listpack.c, ziplist.c, intset.c, lzf_d.c.
"""

from __future__ import annotations

from typing import Final

BAD_DATA: Final = "Bad data format"
_END: Final = 0xFF
_COUNT_UNKNOWN: Final = 0xFFFF
_LISTPACK_HEADER: Final = 6
_ZIPLIST_HEADER: Final = 10
_INTSET_HEADER: Final = 8


class RdbError(Exception):
    """RDB bytes that cannot be read; ``text`` says why, in Valkey's words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _integer(data: bytes, at: int, size: int) -> bytes:
    return b"%d" % int.from_bytes(data[at : at + size], "little", signed=True)


# -- listpack ------------------------------------------------------------------------------------------------------


def listpack_items(data: bytes) -> list[bytes]:
    """The entries, integers as text. Raises RdbError, or IndexError at the end of ``data``."""
    if len(data) < _LISTPACK_HEADER + 1 or int.from_bytes(data[:4], "little") != len(data) or data[-1] != _END:
        raise RdbError(BAD_DATA)
    out: list[bytes] = []
    at = _LISTPACK_HEADER
    end = len(data) - 1
    while at < end:
        head, size, value = _listpack_entry(data, at)
        after = at + head + size
        back = _back_length(head + size)
        if after + len(back) > end or data[after : after + len(back)] != back:
            raise RdbError(BAD_DATA)
        out.append(data[at + head : after] if value is None else value)
        at = after + len(back)
    count = data[4] | data[5] << 8
    if at != end or count not in (len(out), _COUNT_UNKNOWN):
        raise RdbError(BAD_DATA)
    return out


def _listpack_entry(data: bytes, at: int) -> tuple[int, int, bytes | None]:
    """(bytes before the content, bytes of content, the text of an integer or None for a string)."""
    first = data[at]
    if first < 0x80:
        return 1, 0, b"%d" % first
    if first < 0xC0:
        return 1, first & 0x3F, None
    if first < 0xE0:
        number = (first & 0x1F) << 8 | data[at + 1]
        return 2, 0, b"%d" % (number - 8192 if number >= 4096 else number)
    if first < 0xF0:
        return 2, (first & 0x0F) << 8 | data[at + 1], None
    if first == 0xF0:
        return 5, int.from_bytes(data[at + 1 : at + 5], "little"), None
    size = 8 if first == 0xF4 else first - 0xEF
    if first > 0xF4 or at + 1 + size > len(data):
        raise RdbError(BAD_DATA)
    return 1, size, _integer(data, at + 1, size)


def _back_length(size: int) -> bytes:
    """The entry's size as it stands behind the entry, to be read backwards."""
    if size <= 127:
        return bytes((size,))
    if size < 16383:
        return bytes((size >> 7, size & 127 | 128))
    if size < 2097151:
        return bytes((size >> 14, size >> 7 & 127 | 128, size & 127 | 128))
    if size < 268435455:
        return bytes((size >> 21, size >> 14 & 127 | 128, size >> 7 & 127 | 128, size & 127 | 128))
    return bytes((size >> 28, size >> 21 & 127 | 128, size >> 14 & 127 | 128, size >> 7 & 127 | 128, size & 127 | 128))


# -- ziplist -------------------------------------------------------------------------------------------------------


def ziplist_items(data: bytes) -> list[bytes]:
    """The entries, integers as text. Raises RdbError, or IndexError at the end of ``data``."""
    if len(data) < _ZIPLIST_HEADER + 1 or int.from_bytes(data[:4], "little") != len(data) or data[-1] != _END:
        raise RdbError(BAD_DATA)
    out: list[bytes] = []
    at = _ZIPLIST_HEADER
    end = len(data) - 1
    before = 0
    last = _ZIPLIST_HEADER
    while at < end:
        last = at
        behind = data[at]
        at += 1
        if behind == 0xFE:
            behind = int.from_bytes(data[at : at + 4], "little")
            at += 4
        if behind != before:
            raise RdbError(BAD_DATA)
        head, size, value = _ziplist_entry(data, at)
        start = at + head
        at = start + size
        if at > end:
            raise RdbError(BAD_DATA)
        out.append(data[start:at] if value is None else value)
        before = at - last
    count = data[8] | data[9] << 8
    tail = int.from_bytes(data[4:8], "little")
    if at != end or tail != last or count not in (len(out), _COUNT_UNKNOWN):
        raise RdbError(BAD_DATA)
    return out


def _ziplist_entry(data: bytes, at: int) -> tuple[int, int, bytes | None]:
    """(bytes before the content, bytes of content, the text of an integer or None for a string)."""
    first = data[at]
    kind = first >> 6
    if kind == 0:
        return 1, first & 0x3F, None
    if kind == 1:
        return 2, (first & 0x3F) << 8 | data[at + 1], None
    if kind == 2:
        return 5, int.from_bytes(data[at + 1 : at + 5], "big"), None
    if 0xF1 <= first <= 0xFD:
        return 1, 0, b"%d" % (first - 0xF1)
    size = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}.get(first, 0)
    if not size or at + 1 + size > len(data):
        raise RdbError(BAD_DATA)
    return 1, size, _integer(data, at + 1, size)


# -- intset --------------------------------------------------------------------------------------------------------


def intset_items(data: bytes) -> list[bytes]:
    """The members as text, ascending. Raises RdbError."""
    width = int.from_bytes(data[:4], "little")
    count = int.from_bytes(data[4:8], "little")
    if width not in (2, 4, 8) or len(data) != _INTSET_HEADER + width * count:
        raise RdbError(BAD_DATA)
    out: list[bytes] = []
    before = -(1 << 63) - 1
    for at in range(_INTSET_HEADER, len(data), width):
        number = int.from_bytes(data[at : at + width], "little", signed=True)
        if number <= before:
            raise RdbError(BAD_DATA)
        before = number
        out.append(b"%d" % number)
    return out


# -- LZF -----------------------------------------------------------------------------------------------------------


def lzf_decompress(data: bytes, size: int) -> bytes:
    """The ``size`` bytes that LZF packed into ``data``. Raises RdbError unless they are exactly that many."""
    out = bytearray()
    i = 0
    end = len(data)
    while i < end:
        control = data[i]
        i += 1
        if control < 32:
            control += 1
            if i + control > end or len(out) + control > size:
                raise RdbError(BAD_DATA)
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
            raise RdbError(BAD_DATA)
        if back >= run:
            out += out[start : start + run]
        else:
            # Overlapping: the run repeats its own beginning.
            out += (bytes(out[start:]) * (run // back + 1))[:run]
    if len(out) != size:
        raise RdbError(BAD_DATA)
    return bytes(out)
