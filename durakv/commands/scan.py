"""Cursors that survive changes: the arithmetic and the options of SCAN, SSCAN, HSCAN and ZSCAN. [compiled]

Keys of one mapping are visited in the order of their CRC-32, and the cursor is the next CRC to visit. A key keeps its
place whatever is added or removed around it, on every node, so a full pass returns every key present throughout.
Rule: the only place that makes or reads cursors. A batch is a hint's worth of keys, never a promise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zlib import crc32

from durakv.commands.args import parse_int64, to_int64
from durakv.commands.glob import glob_match
from durakv.commands.spec import Argv
from durakv.commands.table import shown
from durakv.keyspace.keyspace import Db
from durakv.keyspace.slots import SLOTS
from durakv.resp.errors import SYNTAX, CommandError

COUNT_DEFAULT: Final = 10
INVALID_CURSOR: Final = "ERR invalid cursor"
NOVALUES_ELSEWHERE: Final = "ERR NOVALUES option can only be used in HSCAN"
NOSCORES_ELSEWHERE: Final = "ERR NOSCORES option can only be used in ZSCAN"
TYPE_NAMES: Final = (b"string", b"list", b"set", b"zset", b"hash", b"stream")
_SPACES: Final = b" \t\n\v\f\r"
_DIGITS_MAX: Final = 20
_UINT64_MAX: Final = (1 << 64) - 1
_SPACE: Final = 1 << 32
_SLOT_BITS: Final = 14
# Returned whole, as Valkey returns a packed collection; a pass over the rest takes at most _PASSES looks at each key.
_WHOLE: Final = 512
_PASSES: Final = 64


def scan_mapping(keys: Iterable[bytes], size: int, cursor: int, count: int) -> tuple[int, list[bytes]]:
    """(next cursor, keys): about ``count`` of ``keys``, 0 when the pass is complete.

    ``size`` is how many there are; up to 512 come in one batch, and a batch is at least 1/64 of them, because each
    call looks at every key.
    """
    if cursor >= _SPACE:
        return 0, []
    if size <= _WHOLE or size <= count:
        if cursor == 0:
            return 0, list(keys)
        return 0, [key for key in keys if crc32(key) >= cursor]
    wanted = max(count, size // _PASSES)
    end = cursor + _SPACE * wanted // size + 1
    if end >= _SPACE:
        return 0, [key for key in keys if crc32(key) >= cursor]
    return end, [key for key in keys if cursor <= crc32(key) < end]


def scan_slots(db: Db, cursor: int, count: int) -> tuple[int, list[bytes]]:
    """(next cursor, stored keys, expired ones included) of a database, slot by slot; a big slot in pieces."""
    slot = cursor & (SLOTS - 1)
    place = cursor >> _SLOT_BITS
    found: list[bytes] = []
    slots = db.slots
    while slot < SLOTS:
        keys = slots[slot]
        if keys is not None:
            place, batch = scan_mapping(keys, len(keys), place, count)
            found.extend(batch)
            if place != 0:
                return (place << _SLOT_BITS) | slot, found
        place = 0
        slot += 1
        if len(found) >= count:
            break
    return (slot if slot < SLOTS else 0), found


def parse_cursor(arg: bytes) -> int:
    """An unsigned 64-bit decimal, as strtoull() reads one. Raises CommandError. Source: util.c string2ull()."""
    text = arg.partition(b"\0")[0]
    plain = to_int64(text)
    if plain is not None:
        if plain >= 0:
            return plain
        raise CommandError(INVALID_CURSOR)
    text = text.lstrip(_SPACES)
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if digits.isdigit():
        digits = digits.lstrip(b"0")
        value = int(digits or b"0") if len(digits) <= _DIGITS_MAX else _UINT64_MAX + 1
        if value <= _UINT64_MAX:
            return -value & _UINT64_MAX if text[:1] == b"-" else value
    raise CommandError(INVALID_CURSOR)


class ScanOptions:
    """COUNT, MATCH (None: everything), TYPE (None: any; lower case), NOVALUES or NOSCORES (``bare``)."""

    __slots__ = ("bare", "count", "pattern", "type")

    def __init__(self) -> None:
        self.count = COUNT_DEFAULT
        self.pattern: bytes | None = None
        self.type: bytes | None = None
        self.bare = False

    def wants(self, key: bytes) -> bool:
        """Whether ``key`` passes MATCH."""
        return self.pattern is None or glob_match(self.pattern, key)


def parse_options(argv: Argv, start: int, kind: bytes) -> ScanOptions:
    """Options from ``argv[start]`` on; ``kind`` is b"" for SCAN, else the value's (b"hash", b"set", b"zset").

    TYPE belongs to SCAN, NOVALUES to HSCAN, NOSCORES to ZSCAN. Raises CommandError.
    Source: db.c scanGenericCommand().
    """
    options = ScanOptions()
    i = start
    while i < len(argv):
        word = argv[i].lower()
        more = i + 1 < len(argv)
        if word == b"count" and more:
            options.count = _count(argv[i + 1])
            i += 2
        elif word == b"match" and more:
            pattern = argv[i + 1]
            options.pattern = None if pattern == b"*" else pattern
            i += 2
        elif word == b"type" and more and kind == b"":
            options.type = argv[i + 1].lower()
            if options.type not in TYPE_NAMES:
                name = shown(argv[i + 1], len(argv[i + 1]))
                raise CommandError(f"ERR unknown type name '{name}'")
            i += 2
        elif word == b"novalues":
            if kind != b"hash":
                raise CommandError(NOVALUES_ELSEWHERE)
            options.bare = True
            i += 1
        elif word == b"noscores":
            if kind != b"zset":
                raise CommandError(NOSCORES_ELSEWHERE)
            options.bare = True
            i += 1
        else:
            raise CommandError(SYNTAX)
    return options


def _count(arg: bytes) -> int:
    count = parse_int64(arg)
    if count < 1:
        raise CommandError(SYNTAX)
    return count
