"""An RDB file as a sequence of records: facts about it, function libraries, keys with their values.

One pass forward in bounded memory. A value of up to ``whole_bytes_max`` bytes (or a string of up to 16 KiB) comes with
its bytes; of a larger one only the place is told, and ``pieces.py`` reads it bit by bit.
Rule: nothing is skipped in silence. What the file says of evictions (idle time, frequency) and sizes is the exception:
durakv replicates neither. Source: valkey rdb.c rdbLoadRioWithLoadingCtx().
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias

from durakv.rdb import kinds
from durakv.rdb.crc64 import Crc64
from durakv.rdb.errors import DamagedRdb, Malformed, RdbFileError, UnsupportedRdb
from durakv.rdb.extent import module_name, skip_module_data, skip_value
from durakv.rdb.window import STRING_BYTES_MAX, ByteSource, Window

WHOLE_BYTES_MAX: Final = 1 << 20

CHECKSUM_GOOD: Final = "good"
# The writer was told not to (rdbchecksum no), or knew none (before RDB 5).
CHECKSUM_ABSENT: Final = "absent"
CHECKSUM_IGNORED: Final = "not verified"

_HEADER: Final = 9
_I64: Final = Struct("<q")
_U64: Final = Struct("<Q")
# Redis and Valkey take no more databases than an int can count.
_DB_MAX: Final = (1 << 31) - 1


class Aux:
    """A fact about the file, such as ``redis-ver``."""

    __slots__ = ("content", "name")

    def __init__(self, name: bytes, content: bytes) -> None:
        self.name = name
        self.content = content


class Function:
    """The source of a function library."""

    __slots__ = ("code", "offset")

    def __init__(self, code: bytes, offset: int) -> None:
        self.code = code
        self.offset = offset


class ModuleAux:
    """A module's own data, passed over; ``name`` is the module type's."""

    __slots__ = ("name", "offset")

    def __init__(self, name: str, offset: int) -> None:
        self.name = name
        self.offset = offset


class Entry:
    """A key. ``expire_ms``: unix ms, -1 for none. ``body`` is the value's bytes behind its type, None when they are
    more than the reader keeps; they lie from ``begin`` to ``end``. ``offset``: where the record starts.
    """

    __slots__ = ("begin", "body", "db", "empty", "end", "expire_ms", "key", "kind", "offset")

    def __init__(
        self, db: int, key: bytes, kind: int, expire_ms: int, body: bytes | None, offset: int, begin: int, end: int
    ) -> None:
        self.db = db
        self.key = key
        self.kind = kind
        self.expire_ms = expire_ms
        self.body = body
        self.offset = offset
        self.begin = begin
        self.end = end
        # A collection without elements, as an old defect of Redis left them behind; Redis and Valkey drop it.
        self.empty = False


Record: TypeAlias = Aux | Function | ModuleAux | Entry


class RdbFile:
    """Reads records until ``next`` answers None; then ``checksum`` and ``end`` (the offset behind the file) hold.

    Raises DamagedRdb, UnsupportedRdb, OSError.
    """

    def __init__(
        self, source: ByteSource, path: str, *, start: int = 0, verify: bool = True, tail: bool = False,
        skip_modules: bool = False, whole_bytes_max: int = WHOLE_BYTES_MAX,
    ) -> None:  # fmt: skip
        """``verify``: compute the checksum. ``tail``: bytes may follow (an AOF with a preamble). ``skip_modules``:
        pass over module data instead of refusing it; entries of type kinds.MODULE then come with their bytes.
        """
        self.source = source
        self.path = path
        self.checksum = CHECKSUM_ABSENT
        self.end = -1
        self.keys_announced = 0
        self._crc = Crc64() if verify else None
        self._tail = tail
        self._skip_modules = skip_modules
        self._window = Window(source, start, self._crc, whole_bytes_max)
        self._db = 0
        self._expire_ms = -1
        # Where the record that is being read begins, -1 between records.
        self._begun = -1
        self.version = 0
        self.valkey = False
        try:
            self._read_header()
        except Malformed as error:
            raise DamagedRdb(path, error.at, error.reason) from None

    def _read_header(self) -> None:
        window = self._window
        head = window.take(min(_HEADER, window.left()))
        word, digits = (b"VALKEY", head[6:]) if head.startswith(b"VALKEY") else (b"REDIS", head[5:])
        if not head.startswith(word) or len(head) != _HEADER or not digits.isdigit():
            raise UnsupportedRdb(
                self.path, 0, "this is no RDB file: it does not begin with REDIS or VALKEY and a version",
                "name a file made by SAVE or BGSAVE, or an append-only directory",
            )  # fmt: skip
        self.version = int(digits)
        self.valkey = word == b"VALKEY"
        if self.valkey:
            good = kinds.VALKEY_VERSION_MIN <= self.version <= kinds.VALKEY_VERSION_MAX
        else:
            good = 1 <= self.version <= kinds.REDIS_VERSION_MAX
        if not good:
            raise UnsupportedRdb(
                self.path, 0, f"RDB version {self.version} of {'Valkey' if self.valkey else 'Redis'} is not known",
                f"known are Redis up to 7.4 (RDB 1 to {kinds.REDIS_VERSION_MAX}) and Valkey up to 9 (RDB "
                f"{kinds.VALKEY_VERSION_MIN} to {kinds.VALKEY_VERSION_MAX}); use a newer durakv",
            )  # fmt: skip

    def position(self) -> int:
        """Offset of the next byte; for a progress bar."""
        return self._window.position()

    def next(self) -> Record | None:
        """The next record; None at the end."""
        entry = self._quick()
        if entry is not None:
            return entry
        try:
            return self._slow()
        except Malformed as error:
            raise DamagedRdb(self.path, error.at, error.reason) from None

    def _quick(self) -> Entry | None:
        """The next entry when it is a short one that lies in memory, else None with nothing changed."""
        window = self._window
        data = window.data
        at = begun = window.at
        try:
            kind = data[at]
            at += 1
            expire_ms = -1
            if kind == kinds.OP_EXPIRE_MS:
                kind = data[at + 8]
                expire_ms = _I64.unpack_from(data, at)[0]
                at += 9
            n = data[at]
            if kind not in kinds.ONE_STRING or n > 0x3F or self._begun >= 0:
                return None
            key_at = at + 1
            key_end = body = key_at + n
            first = data[body]
            if first < 0x40:
                at = body + 1 + first
            elif first < 0x80:
                at = body + 2 + ((first & 0x3F) << 8 | data[body + 1])
            else:
                return None
        except IndexError:
            return None
        if at > len(data) or expire_ms < -1:
            return None
        window.at = at
        start = window.start
        return Entry(
            self._db, data[key_at:key_end], kind, expire_ms, data[body:at], start + begun, start + body, start + at
        )

    def _slow(self) -> Record | None:
        window = self._window
        while True:
            offset = window.position()
            kind = window.byte()
            if kind >= kinds.OP_INLINE_COMMAND:
                if kind == kinds.OP_EOF:
                    self._finish(offset)
                    return None
                record = self._opcode(kind, offset)
                if record is not None:
                    return record
                continue
            return self._entry(kind, offset)

    def _opcode(self, kind: int, offset: int) -> Record | None:
        """What an opcode says, when anyone needs to know."""
        window = self._window
        if kind in {kinds.OP_EXPIRE_MS, kinds.OP_EXPIRE_S, kinds.OP_FREQ, kinds.OP_IDLE}:
            if self._begun < 0:
                self._begun = offset
            self._attribute(kind)
            return None
        if self._begun >= 0:
            raise Malformed(f"opcode {kind} stands between a key's attributes and the key", offset)
        if kind == kinds.OP_SELECT:
            self._db = window.number()
            if self._db > _DB_MAX:
                raise Malformed(f"database {self._db} is selected", offset)
        elif kind == kinds.OP_RESIZE:
            self.keys_announced += window.number()
            window.number()
        elif kind == kinds.OP_AUX:
            return Aux(window.string(), window.string())
        elif kind == kinds.OP_SLOT_INFO:
            for _ in range(3):
                window.number()
        elif kind == kinds.OP_FUNCTION:
            return Function(window.string(), offset)
        elif kind == kinds.OP_MODULE_AUX:
            return self._module_aux(offset)
        else:
            raise self._refused(kind, offset)
        return None

    def _attribute(self, kind: int) -> None:
        window = self._window
        if kind == kinds.OP_EXPIRE_MS:
            self._expire_ms = _I64.unpack(window.take(8))[0]
        elif kind == kinds.OP_EXPIRE_S:
            self._expire_ms = int.from_bytes(window.take(4), "little", signed=True) * 1000
        elif kind == kinds.OP_FREQ:
            window.byte()
        else:
            window.number()

    def _module_aux(self, offset: int) -> ModuleAux:
        window = self._window
        name = module_name(window.number())
        if not self._skip_modules:
            raise UnsupportedRdb(
                self.path, offset, f"data of module type {name}", "leave it out with --skip-modules"
            )  # fmt: skip
        # "when", tagged as an unsigned integer.
        if window.number() != 2:
            raise Malformed("module data does not say when to load it", offset)
        window.number()
        skip_module_data(window)
        return ModuleAux(name, offset)

    def _refused(self, kind: int, offset: int) -> RdbFileError:
        reasons = {
            kinds.OP_FUNCTION_PRE: ("functions of a Redis 7.0 pre-release", "save the file again with 7.0 or later"),
            kinds.OP_SLOT_IMPORT: (
                "a slot was being moved to this server when it saved", "save again when the migration has ended"
            ),
            kinds.OP_INLINE_COMMAND: ("part of a replication stream, not of a file", "use the file BGSAVE made"),
        }  # fmt: skip
        reason, advice = reasons[kind]
        return UnsupportedRdb(self.path, offset, reason, advice)

    def _entry(self, kind: int, offset: int) -> Entry:
        window = self._window
        if not kinds.known(kind, valkey=self.valkey):
            what = kinds.describe(kind, valkey=self.valkey)
            if kind == 8 or kind > kinds.TYPE_MAX:
                raise Malformed(f"{kind} is neither a type nor an opcode", offset)
            raise UnsupportedRdb(self.path, offset, f"a value of {what}", "remove such keys and save again")
        key = window.string()
        if kind in kinds.MODULES and not self._skip_modules:
            module = module_name(window.number()) if kind == kinds.MODULE else "of a Redis 4.0 pre-release"
            raise UnsupportedRdb(
                self.path, offset, f"key {key!r} is of module type {module}", "leave such keys out with --skip-modules"
            )
        if self._begun >= 0:
            offset = self._begun
        if self._expire_ms < -1:
            raise Malformed(f"key {key!r} expires at {self._expire_ms}", offset)
        begin = window.position()
        window.anchor = window.at
        full = skip_value(window, kind)
        end = window.position()
        body = None
        if window.anchor >= 0 and end - begin <= window.keep_bytes_max:
            body = window.data[window.anchor : window.at]
        window.anchor = -1
        entry = Entry(self._db, key, kind, self._expire_ms, body, offset, begin, end)
        entry.empty = not full
        self._begun = self._expire_ms = -1
        return entry

    def _finish(self, offset: int) -> None:
        window = self._window
        if self._begun >= 0:
            raise Malformed("the end stands between a key's attributes and the key", offset)
        window.settle()
        if self.version >= kinds.CHECKSUM_VERSION:
            stored = _U64.unpack(window.take(8))[0]
            if self._crc is None:
                self.checksum = CHECKSUM_IGNORED
            elif stored:
                if stored != self._crc.value():
                    raise Malformed(f"checksum {stored:016x} != {self._crc.value():016x} of the bytes", offset + 1)
                self.checksum = CHECKSUM_GOOD
        self.end = window.position()
        if not self._tail and window.left():
            raise Malformed(f"{window.left()} bytes follow the end", self.end)

    def body(self, entry: Entry) -> bytes:
        """The value's bytes, read again when the pass did not keep them. Raises UnsupportedRdb above 512 MiB."""
        if entry.body is not None:
            return entry.body
        size = entry.end - entry.begin
        if size > STRING_BYTES_MAX:
            raise UnsupportedRdb(
                self.path, entry.begin, f"the value of key {entry.key!r} has {size} bytes in one piece",
                "split it into smaller keys and save again",
            )  # fmt: skip
        return self.source.pread(size, entry.begin)
