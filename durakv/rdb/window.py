"""A stretch of a file that slides forward: bytes, lengths and strings of RDB, in bounded memory.

Rule: nothing is read or allocated for a length before it has been checked against what is left of the file. It must
not know what the bytes mean beyond RDB's lengths and strings. Source: valkey rdb.c rdbLoadLenByRef().
"""

from __future__ import annotations

from typing import Final, Protocol

from durakv.keyspace.rdb_packed import RdbError, lzf_decompress
from durakv.rdb.crc64 import Crc64
from durakv.rdb.errors import Malformed

WINDOW_BYTES: Final = 4 << 20
# Redis's and Valkey's limit on one string (proto-max-bulk-len); nothing larger is held in memory for one.
STRING_BYTES_MAX: Final = 512 << 20
# The longest run LZF writes, 264 bytes, takes three.
_LZF_RATIO_MAX: Final = 88

_LZF: Final = 3
_ENDS: Final = "the file ends too early"


class ByteSource(Protocol):
    """A file of known size that can be read anywhere."""

    def pread(self, size: int, offset: int) -> bytes:
        """``size`` bytes at ``offset``, fewer only at the end of the file. Raises OSError."""

    def size(self) -> int:
        """Bytes in the file."""


class Window:
    """``data[at]`` is the next byte, byte ``start + at`` of the file. Every method raises Malformed with an absolute
    offset, or OSError.
    """

    __slots__ = ("_crc", "_source", "_summed", "anchor", "at", "data", "keep_bytes_max", "size", "start")

    def __init__(self, source: ByteSource, start: int, crc: Crc64 | None, keep_bytes_max: int) -> None:
        """``anchor``: bytes from there on stay in ``data``, unless they become more than ``keep_bytes_max``."""
        self._source = source
        self.size = source.size()
        self.start = start
        self.data = b""
        self.at = 0
        self.anchor = -1
        self.keep_bytes_max = keep_bytes_max
        self._crc = crc
        self._summed = start

    def position(self) -> int:
        """Offset in the file of the next byte."""
        return self.start + self.at

    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self.size - self.start - self.at

    def settle(self) -> None:
        """Bring the checksum up to the bytes taken so far."""
        if self._crc is not None:
            self._crc.update(self.data[self._summed - self.start : self.at])
            self._summed = self.start + self.at

    def need(self, n: int) -> None:
        """Have ``n`` bytes in ``data`` from ``at`` on."""
        missing = self.at + n - len(self.data)
        if missing <= 0:
            return
        if n > self.left():
            raise Malformed(_ENDS, self.size)
        self.settle()
        keep = self.at
        if self.anchor >= 0:
            if self.at - self.anchor <= self.keep_bytes_max:
                keep = self.anchor
                self.anchor = 0
            else:
                self.anchor = -1
        held = self.data[keep:]
        self.start += keep
        self.at -= keep
        more = self._source.pread(max(missing, WINDOW_BYTES), self.start + len(held))
        self.data = held + more
        if len(self.data) < self.at + n:
            raise Malformed("the file has become shorter while it was read", self.start + len(self.data))

    def skip(self, n: int) -> None:
        """Pass over ``n`` bytes, however many."""
        if n > self.left():
            raise Malformed(f"{n} bytes are announced, {self.left()} are left", self.position())
        while self.at + n > len(self.data):
            n -= len(self.data) - self.at
            self.at = len(self.data)
            self.need(min(n, WINDOW_BYTES))
        self.at += n

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        if n > STRING_BYTES_MAX:
            raise Malformed(f"a string of {n} bytes; the largest possible is {STRING_BYTES_MAX}", self.position())
        if n > self.left():
            raise Malformed(f"{n} bytes are announced, {self.left()} are left", self.position())
        if self.at + n > len(self.data):
            self.need(n)
        end = self.at + n
        part = self.data[self.at : end]
        self.at = end
        return part

    def byte(self) -> int:
        """The next byte."""
        if self.at >= len(self.data):
            self.need(1)
        value = self.data[self.at]
        self.at += 1
        return value

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
        raise Malformed(f"0x{first:02x} begins no length", self.position() - 1)

    def number(self) -> int:
        """A length where no string encoding may stand."""
        n = self.length()
        if n < 0:
            raise Malformed("a string encoding stands where a number belongs", self.position() - 1)
        return n

    def count(self, bytes_each: int) -> int:
        """How many things of at least ``bytes_each`` bytes follow."""
        n = self.number()
        if n * bytes_each > self.left():
            raise Malformed(f"{n} elements are announced, {self.left()} bytes are left", self.position())
        return n

    def _lzf_sizes(self) -> tuple[int, int]:
        packed = self.number()
        size = self.number()
        if packed > self.left():
            raise Malformed(f"{packed} bytes are announced, {self.left()} are left", self.position())
        if size > packed * _LZF_RATIO_MAX or size > STRING_BYTES_MAX:
            raise Malformed(f"{packed} bytes of LZF cannot hold {size}", self.position())
        return packed, size

    def string(self) -> bytes:
        """A string in any of its encodings."""
        n = self.length()
        if n >= 0:
            return self.take(n)
        if n >= -_LZF:
            return b"%d" % int.from_bytes(self.take(1 << -1 - n), "little", signed=True)
        if n != -1 - _LZF:
            raise Malformed(f"string encoding {-1 - n} is unknown", self.position() - 1)
        packed, size = self._lzf_sizes()
        begin = self.position()
        try:
            return lzf_decompress(self.take(packed), size)
        except (RdbError, IndexError):
            raise Malformed(f"LZF of {packed} bytes does not yield its {size}", begin) from None

    def skip_strings(self, n: int) -> None:
        """Pass over ``n`` strings."""
        while n:
            data = self.data
            at = self.at
            end = len(data)
            # Short ones, all in memory; whatever else comes up is left to _skip_string.
            while n and at < end and data[at] < 0x40:
                after = at + 1 + data[at]
                if after > end:
                    break
                at = after
                n -= 1
            self.at = at
            if n:
                self._skip_string()
                n -= 1

    def _skip_string(self) -> None:
        n = self.length()
        if n >= 0:
            self.skip(n)
        elif n >= -_LZF:
            self.skip(1 << -1 - n)
        elif n == -1 - _LZF:
            self.skip(self._lzf_sizes()[0])
        else:
            raise Malformed(f"string encoding {-1 - n} is unknown", self.position() - 1)
