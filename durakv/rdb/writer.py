"""An RDB file, written front to back into a sink.

The version in its header is the lowest that has every type written, which is known only at the end; so the header is
written twice, and the checksum is amended, not computed again.
Rule: strings and lengths in their plain forms only, which every version reads: no LZF, no short integers.
Source: valkey rdb.c rdbSaveRio(), rdbSaveKeyValuePair().
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Protocol

from durakv.rdb import kinds
from durakv.rdb.crc64 import Crc64, change_start
from durakv.rdb.values import length, string

# Redis 5 and all that came after read it.
VERSION_MIN: Final = 9
_HEADER_BYTES: Final = 9
_PIECE_BYTES: Final = 1 << 20
_I64: Final = Struct("<q")
_U64: Final = Struct("<Q")
_LENGTHS: Final = [length(n) for n in range(1024)]


class Sink(Protocol):
    """Where a file goes."""

    def write(self, data: bytes) -> None:
        """Append."""

    def write_start(self, data: bytes) -> None:
        """Replace the first bytes; called once, after everything else."""


class VersionTooLow(Exception):
    """A value needs a later version than the one asked for; ``key`` holds it."""

    def __init__(self, key: bytes, needed: int, asked: int) -> None:
        super().__init__(f"key {key!r} needs RDB version {needed}, {asked} was asked for")
        self.key = key
        self.needed = needed


class RdbWriter:
    """Call ``aux``, ``function``, then per database ``database`` or ``select`` and ``put``, then ``finish``."""

    def __init__(self, sink: Sink, version_max: int = kinds.VALKEY_VERSION_MAX) -> None:
        self.version = VERSION_MIN
        self.keys = 0
        # No version of Valkey's own may be written.
        self.for_redis = version_max < kinds.VALKEY_VERSION_MIN
        self._version_max = version_max
        self._sink = sink
        self._crc = Crc64()
        self._out: list[bytes] = [header(VERSION_MIN)]
        self._held = _HEADER_BYTES
        self._written = 0

    def aux(self, name: bytes, content: bytes) -> None:
        """A fact about the file; readers pass over names they do not know."""
        self._add(bytes((kinds.OP_AUX,)) + string(name) + string(content))

    def function(self, code: bytes) -> None:
        """A function library, by its source. Redis 7 and later load it."""
        self._require(b"", 10)
        self._add(bytes((kinds.OP_FUNCTION,)) + string(code))

    def database(self, number: int, keys: int, deadlines: int) -> None:
        """The keys that follow belong to this database; the sizes are a hint for the loader."""
        self._add(
            bytes((kinds.OP_SELECT,)) + length(number) + bytes((kinds.OP_RESIZE,)) + length(keys) + length(deadlines)
        )

    def select(self, number: int) -> None:
        """As database(), where nobody knows how many keys follow; a database may be selected more than once."""
        self._add(bytes((kinds.OP_SELECT,)) + length(number))

    def put(self, key: bytes, kind: int, body: bytes, expire_ms: int) -> None:
        """A key with the body of its value; ``expire_ms`` in unix ms, -1 for none."""
        n = len(key)
        head = (_LENGTHS[n] if n < 1024 else length(n)) + key
        if expire_ms >= 0:
            record = b"\xfc%b%c%b%b" % (_I64.pack(expire_ms), kind, head, body)
        else:
            record = b"%c%b%b" % (kind, head, body)
        needed = kinds.LOWEST_VERSION[kind]
        if needed > self.version:
            self._require(key, needed)
        self.keys += 1
        self._add(record)

    def put_string(self, key: bytes, text: bytes, expire_ms: int) -> None:
        """A string key."""
        n = len(text)
        self.put(key, kinds.STRING, (_LENGTHS[n] if n < 1024 else length(n)) + text, expire_ms)

    def finish(self) -> int:
        """Write the end, then the header that suits; the size of the file in bytes."""
        self._add(bytes((kinds.OP_EOF,)))
        self._flush()
        total = self._crc.value()
        good = header(self.version)
        if self.version != VERSION_MIN:
            total = change_start(total, header(VERSION_MIN), good, self._written - _HEADER_BYTES)
        self._sink.write(_U64.pack(total))
        self._sink.write_start(good)
        return self._written + 8

    def _require(self, key: bytes, needed: int) -> None:
        if needed > self._version_max:
            raise VersionTooLow(key, needed, self._version_max)
        self.version = max(self.version, needed)

    def _add(self, data: bytes) -> None:
        self._out.append(data)
        self._held += len(data)
        if self._held >= _PIECE_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._out)
        self._out = []
        self._held = 0
        self._crc.update(data)
        self._sink.write(data)
        self._written += len(data)


def header(version: int) -> bytes:
    """The magic word and the version; from 80 on they are Valkey's, below Redis's."""
    return b"VALKEY%03d" % version if version >= kinds.VALKEY_VERSION_MIN else b"REDIS%04d" % version
