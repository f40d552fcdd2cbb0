"""SETBIT, GETBIT, BITCOUNT, BITPOS and BITOP: strings as arrays of bits.

Bit 0 is the highest bit of byte 0, as upstream numbers them. Rule: a string is never turned bit by bit; counting,
searching and combining work on whole chunks as integers. Fields of several bits are in bitfield.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import STRING_MAX, parse_int64, to_int64
from durakv.commands.context import NOTIFY_GENERIC, NOTIFY_NEW, NOTIFY_STRING, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.strings import store
from durakv.commands.strings_edit import patch
from durakv.keyspace.keyspace import Db
from durakv.resp.errors import SYNTAX, WRONGTYPE, CommandError
from durakv.resp.types import Reply

COMMANDS: Final = Commands("bitmap")

BIT_OFFSET: Final = "ERR bit offset is not an integer or out of range"
BIT_VALUE: Final = "ERR bit is not an integer or out of range"
BIT_SOUGHT: Final = "ERR The bit argument must be 1 or 0."
NOT_ONE_KEY: Final = "ERR BITOP NOT must be called with a single source key."

_KEY_RO: Final = "RO|ACCESS@i1+r0/1/0"
# Integers of this size are made and thrown away one at a time.
_CHUNK: Final = 1 << 16
_INVERTED: Final = bytes(255 - i for i in range(256))


def parse_bit_offset(text: bytes, bits: int = 0) -> int:
    """An offset in bits; ``#n`` means n fields of ``bits`` bits where ``bits`` is given. Raises CommandError.

    Source: bitops.c getBitOffsetFromArgument().
    """
    in_fields = bits > 0 and text[:1] == b"#"
    value = to_int64(text[1:] if in_fields else text)
    if value is None:
        raise CommandError(BIT_OFFSET)
    if in_fields:
        value *= bits
    if value < 0 or value >> 3 >= STRING_MAX:
        raise CommandError(BIT_OFFSET)
    return value


def string_at(db: Db, key: bytes) -> bytes | bytearray | None:
    """The stored string itself, to be read only. Raises CommandError WRONGTYPE."""
    value = db.get(key)
    if value is None:
        return None
    if type(value) is bytes:
        return value
    if type(value) is bytearray:
        return value
    raise CommandError(WRONGTYPE)


# -- single bits ---------------------------------------------------------------------------------------------------


@COMMANDS.write("SETBIT", arity=4, since="2.2.0", flags="denyoom", keys="RW|ACCESS|UPDATE@i1+r0/1/0",
                summary="Sets or clears one bit of a string, growing it if needed.")  # fmt: skip
def setbit(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the bit's old value. Source: bitops.c setbitCommand()."""
    offset = parse_bit_offset(argv[2])
    on = to_int64(argv[3])
    if on is None or not 0 <= on <= 1:
        raise CommandError(BIT_VALUE)
    key = argv[1]
    value = string_at(ctx.db, key)
    at = offset >> 3
    mask = 0x80 >> (offset & 7)
    size = 0 if value is None else len(value)
    byte = value[at] if value is not None and at < size else 0
    old = 1 if byte & mask else 0
    if at < size and old == on:
        return old
    byte = byte | mask if on else byte & ~mask
    if type(value) is bytearray:
        patch(value, at, bytes((byte,)))
        ctx.db.patched(key, min(at, size), at + 1)
    else:
        text = bytearray(b"" if value is None else value)
        if at >= size:
            text.extend(bytes(at + 1 - size))
        text[at] = byte
        ctx.db.put_keep(key, text)
    if ctx.notify_mask:
        if value is None:
            ctx.notify(NOTIFY_NEW, b"new", key)
        ctx.notify(NOTIFY_STRING, b"setbit", key)
    return old


@COMMANDS.read("GETBIT", arity=3, since="2.2.0", flags="fast", keys=_KEY_RO,
               summary="Returns one bit of a string.")  # fmt: skip
def getbit(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: 0 or 1, 0 beyond the end. Source: bitops.c getbitCommand()."""
    offset = parse_bit_offset(argv[2])
    value = string_at(ctx.db, argv[1])
    at = offset >> 3
    if value is None or at >= len(value):
        return 0
    return 1 if value[at] & (0x80 >> (offset & 7)) else 0


# -- counting and searching ----------------------------------------------------------------------------------------


class BitRange:
    """Bits [start, stop) of ``text``; ``text`` is None without a key. ``end_given``: the range has an end."""

    __slots__ = ("end_given", "start", "stop", "text")

    def __init__(self, db: Db, argv: Argv, first: int, *, reject_reversed: bool) -> None:
        """Reads ``[start [end [BYTE | BIT]]]`` from ``argv[first]`` on, then the key. Raises CommandError.

        ``reject_reversed``: two negative positions in the wrong order are empty before they are clamped.
        Source: bitops.c bitcountCommand(), bitposCommand().
        """
        n = len(argv) - first
        if n > 3:
            raise CommandError(SYNTAX)
        start = parse_int64(argv[first]) if n else 0
        unit = 8
        if n == 3:
            word = argv[first + 2].upper()
            if word == b"BIT":
                unit = 1
            elif word != b"BYTE":
                raise CommandError(SYNTAX)
        self.end_given = n > 1
        end = parse_int64(argv[first + 1]) if n > 1 else -1
        self.text = string_at(db, argv[1])
        self.start = self.stop = 0
        if self.text is None or (reject_reversed and n > 1 and start < 0 and end < 0 and start > end):
            return
        total = len(self.text) * 8 // unit
        if start < 0:
            start = max(start + total, 0)
        if end < 0:
            # Upstream clamps an end before the beginning to the first position.
            end = max(end + total, 0)
        end = min(end, total - 1)
        if start <= end:
            self.start = start * unit
            self.stop = (end + 1) * unit


@COMMANDS.read("BITCOUNT", arity=-2, since="2.6.0", keys=_KEY_RO, complexity="O(N), N the length of the range",
               summary="Counts the set bits of a string or of a range of it.")  # fmt: skip
def bitcount(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: bitops.c bitcountCommand()."""
    bits = BitRange(ctx.db, argv, 2, reject_reversed=True)
    if bits.text is None or bits.start >= bits.stop:
        return 0
    text = bits.text
    first, last = bits.start >> 3, (bits.stop - 1) >> 3
    count = 0
    for at in range(first, last + 1, _CHUNK):
        count += int.from_bytes(text[at : min(at + _CHUNK, last + 1)], "little").bit_count()
    # Bits of the outer bytes that lie outside.
    count -= (text[first] & ~(0xFF >> (bits.start & 7))).bit_count()
    return count - (text[last] & (0x7F >> ((bits.stop - 1) & 7))).bit_count()


@COMMANDS.read("BITPOS", arity=-3, since="2.8.7", keys=_KEY_RO, complexity="O(N), N the length of the range",
               summary="Returns the position of the first set or clear bit of a string.")  # fmt: skip
def bitpos(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bits from the start of the string; -1 when there is none. Source: bitops.c bitposCommand()."""
    bit = parse_int64(argv[2])
    if not 0 <= bit <= 1:
        raise CommandError(BIT_SOUGHT)
    bits = BitRange(ctx.db, argv, 3, reject_reversed=False)
    if bits.text is None:
        return -1 if bit else 0
    if bits.start >= bits.stop:
        return -1
    found = _first(bits.text, bit, bits.start, bits.stop)
    if found < 0 and bit == 0 and not bits.end_given:
        # A string goes on with zeros behind its end.
        return bits.stop
    return found


def _first(text: bytes | bytearray, bit: int, start: int, stop: int) -> int:
    """Position of the first ``bit`` in bits [start, stop), -1 when there is none."""
    boring = b"\x00" if bit else b"\xff"
    at = start >> 3
    end = (stop + 7) >> 3
    byte = text[at] if bit else text[at] ^ 0xFF
    byte &= 0xFF >> (start & 7)
    if byte == 0:
        at += 1
        while at < end:
            chunk = text[at : min(at + _CHUNK, end)]
            left = len(chunk.lstrip(boring))
            if left:
                at += len(chunk) - left
                byte = text[at] if bit else text[at] ^ 0xFF
                break
            at += len(chunk)
    if byte == 0:
        return -1
    position = at * 8 + 8 - byte.bit_length()
    return position if position < stop else -1


# -- combining -----------------------------------------------------------------------------------------------------


@COMMANDS.write("BITOP", arity=-4, since="2.6.0", flags="denyoom", keys="OW|UPDATE@i2+r0/1/0 RO|ACCESS@i3+r-1/1/0",
                complexity="O(N), N the total length of the strings",
                summary="Stores the bitwise combination of strings.")  # fmt: skip
def bitop(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: length of the result in bytes. Source: bitops.c bitopCommand()."""
    word = argv[1].upper()
    if word not in (b"AND", b"OR", b"XOR", b"NOT"):
        raise CommandError(SYNTAX)
    if word == b"NOT" and len(argv) != 4:
        raise CommandError(NOT_ONE_KEY)
    db = ctx.db
    sources: list[bytes | bytearray] = []
    size = 0
    for i in range(3, len(argv)):
        value = string_at(db, argv[i])
        sources.append(b"" if value is None else value)
        size = max(size, len(sources[-1]))
    key = argv[2]
    if size:
        result = bytes(sources[0]).translate(_INVERTED) if word == b"NOT" else _combined(word, sources, size)
        # As what SETBIT makes: the next bit is set in place, and OBJECT ENCODING says raw.
        store(ctx, key, bytearray(result))
    elif db.delete(key):
        ctx.notify(NOTIFY_GENERIC, b"del", key)
    return size


def _combined(word: bytes, sources: list[bytes | bytearray], size: int) -> bytes:
    """AND, OR or XOR over ``sources``, the shorter ones continued with zeros to ``size`` bytes."""
    out: list[bytes] = []
    for at in range(0, size, _CHUNK):
        width = min(_CHUNK, size - at)
        # Little-endian: what is missing at the end of a source is zero in the number.
        total = int.from_bytes(sources[0][at : at + width], "little")
        for i in range(1, len(sources)):
            number = int.from_bytes(sources[i][at : at + width], "little")
            if word == b"AND":
                total &= number
            elif word == b"OR":
                total |= number
            else:
                total ^= number
        out.append(total.to_bytes(width, "little"))
    return b"".join(out)
