"""RDB bytes built by hand, in every encoding, from the definitions of the formats; and sources to read them from."""

from __future__ import annotations

from struct import pack

from durakv.keyspace.rdb_crc import crc64
from durakv.rdb.crc64 import Crc64


class Bytes:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.most = 0

    def pread(self, size: int, offset: int) -> bytes:
        self.most = max(self.most, size)
        return self.data[offset : offset + size]

    def size(self) -> int:
        return len(self.data)


class Memory:
    """A sink."""

    def __init__(self) -> None:
        self.data = b""
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def write_start(self, data: bytes) -> None:
        whole = b"".join(self.parts)
        self.data = data + whole[len(data) :]


def length(n: int) -> bytes:
    if n < 64:
        return bytes((n,))
    if n < 16384:
        return bytes((64 | n >> 8, n & 255))
    return b"\x80" + pack(">I", n)


def string(data: bytes) -> bytes:
    return length(len(data)) + data


def rdb(body: bytes, version: int = 9, magic: bytes = b"REDIS", *, checksum: bool = True) -> bytes:
    data = magic + (b"%04d" if magic == b"REDIS" else b"%03d") % version + body + b"\xff"
    if version < 5:
        return data
    if not checksum:
        return data + bytes(8)
    if len(data) < 1 << 20:
        return data + pack("<Q", crc64(data))
    # test_crc64.py holds the two to be equal.
    total = Crc64()
    total.update(data)
    return data + pack("<Q", total.value())


def lzf(data: bytes) -> bytes:
    """Literals, and a run for what repeats the byte before it."""
    out = b""
    at = 0
    while at < len(data):
        run = 1
        while run < 264 and at + run < len(data) and data[at + run] == data[at]:
            run += 1
        if run < 4:
            out += b"\x00" + data[at : at + 1]
            at += 1
            continue
        out += b"\x00" + data[at : at + 1]
        left = run - 1 - 2
        out += bytes((left << 5, 0)) if left < 7 else bytes((7 << 5, left - 7, 0))
        at += run
    return b"\xc3" + length(len(out)) + length(len(data)) + out


def integer(text: bytes) -> int | None:
    if len(text) > 20 or not text.lstrip(b"-").isdigit() or b"%d" % int(text) != text:
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def ziplist(texts: list[bytes]) -> bytes:
    body, before, tail = b"", 0, 10
    for text in texts:
        tail = 10 + len(body)
        entry = bytes((before,)) if before < 254 else b"\xfe" + pack("<I", before)
        number = integer(text)
        if number is not None:
            if 0 <= number <= 12:
                entry += bytes((0xF1 + number,))
            else:
                for head, size in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
                    if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
                        entry += bytes((head,)) + number.to_bytes(size, "little", signed=True)
                        break
        elif len(text) < 64:
            entry += bytes((len(text),)) + text
        elif len(text) < 16384:
            entry += bytes((0x40 | len(text) >> 8, len(text) & 255)) + text
        else:
            entry += b"\x80" + pack(">I", len(text)) + text
        body += entry
        before = len(entry)
    return pack("<IIH", 11 + len(body), tail, len(texts)) + body + b"\xff"


def listpack(texts: list[bytes]) -> bytes:
    body = b""
    for text in texts:
        number = integer(text)
        if number is not None and 0 <= number <= 127:
            entry = bytes((number,))
        elif number is not None and -4096 <= number <= 4095:
            entry = bytes((0xC0 | (number & 0x1FFF) >> 8, number & 255))
        elif number is not None:
            entry = b"\xf4" + number.to_bytes(8, "little", signed=True)
            for head, size in ((0xF1, 2), (0xF2, 3), (0xF3, 4)):
                if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
                    entry = bytes((head,)) + number.to_bytes(size, "little", signed=True)
                    break
        elif len(text) < 64:
            entry = bytes((0x80 | len(text),)) + text
        elif len(text) < 4096:
            entry = bytes((0xE0 | len(text) >> 8, len(text) & 255)) + text
        else:
            entry = b"\xf0" + pack("<I", len(text)) + text
        size = len(entry)
        back = bytes((size & 127,))
        while size > 127:
            size >>= 7
            back = bytes((size & 127,)) + bytes((back[0] | 128,)) + back[1:]
        body += entry + back
    return pack("<IH", 7 + len(body), len(texts)) + body + b"\xff"


def intset(numbers: list[int], width: int) -> bytes:
    body = b"".join(number.to_bytes(width, "little", signed=True) for number in sorted(numbers))
    return pack("<II", width, len(numbers)) + body


def zipmap(pairs: list[tuple[bytes, bytes]], *, unused: int = 0) -> bytes:
    def size(n: int) -> bytes:
        return bytes((n,)) if n < 254 else b"\xfe" + pack("<I", n)

    out = bytes((min(len(pairs), 254),))
    for field, value in pairs:
        out += size(len(field)) + field + size(len(value)) + bytes((unused,)) + value + b"\x00" * unused
    return out + b"\xff"


def module_value(fields: bytes) -> bytes:
    """A module 2 value of type "testmodul", version 1; ``fields`` without the end mark."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 0
    for letter in "testmodul":
        number = number << 6 | letters.index(letter)
    return b"\x81" + pack(">Q", number << 10 | 1) + fields + b"\x00"
