"""BITFIELD: integers of any width at any bit of a string.

Rule: all arguments are read before the key is touched, so that a request is carried out whole or not at all.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, parse_int64, to_int64
from durakv.commands.bitmaps import parse_bit_offset, string_at
from durakv.commands.context import NOTIFY_NEW, NOTIFY_STRING, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.strings_edit import patch
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Reply

COMMANDS: Final = Commands("bitmap")

BAD_TYPE: Final = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
BAD_OVERFLOW: Final = "ERR Invalid OVERFLOW type specified"
GET_ONLY: Final = "ERR BITFIELD_RO only supports the GET subcommand"

_GET: Final = 0
_SET: Final = 1
_INCRBY: Final = 2
_WRAP: Final = 0
_SAT: Final = 1
_FAIL: Final = 2
_SIGNED_MAX: Final = 64
_UNSIGNED_MAX: Final = 63
_MASK64: Final = (1 << 64) - 1


class FieldOp:
    """One subcommand: ``number`` is SET's value or INCRBY's increment, ``overflow`` what to do beyond the range."""

    __slots__ = ("bits", "kind", "number", "offset", "overflow", "signed")

    def __init__(self, kind: int, type_text: bytes, offset_text: bytes) -> None:
        """Raises CommandError. Source: bitops.c getBitfieldTypeFromArgument()."""
        self.kind = kind
        self.signed = type_text[:1] == b"i"
        bits = to_int64(type_text[1:].partition(b"\0")[0])
        if not self.signed and type_text[:1] != b"u":
            bits = None
        if bits is None or not 1 <= bits <= (_SIGNED_MAX if self.signed else _UNSIGNED_MAX):
            raise CommandError(BAD_TYPE)
        self.bits: int = bits
        self.offset: int = parse_bit_offset(offset_text, bits)
        self.number = 0
        self.overflow = _WRAP

    def read(self, text: bytes | bytearray) -> int:
        """The field's bits as an unsigned number; zeros beyond the end of ``text``."""
        first = self.offset >> 3
        end = self.offset + self.bits
        width = ((end + 7) >> 3) - first
        window = int.from_bytes(text[first : first + width].ljust(width, b"\0"), "big")
        return (window >> (-end & 7)) & ((1 << self.bits) - 1)

    def value_of(self, raw: int) -> int:
        """The number that the field's bits ``raw`` stand for."""
        return raw - (1 << self.bits) if self.signed and raw >> (self.bits - 1) else raw

    def target(self, old: int) -> int | None:
        """The number to store where ``old`` is; None when it would overflow and must not."""
        bits = self.bits
        if self.signed:
            low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
            wanted = old + self.number if self.kind == _INCRBY else self.number
        else:
            low, high = 0, (1 << bits) - 1
            # A negative value is read as the huge number with the same bits, so it saturates at the top.
            wanted = old + self.number if self.kind == _INCRBY else self.number & _MASK64
        if low <= wanted <= high:
            return wanted
        if self.overflow == _FAIL:
            return None
        if self.overflow == _SAT:
            # Upstream takes the distance to the top in 64 bits: values far below the bottom end up at the top too.
            far_below = self.kind == _SET and high - wanted > INT64_MAX
            return high if wanted > high or far_below else low
        return self.value_of(wanted & ((1 << bits) - 1))

    def window_with(self, text: bytearray, value: int) -> bytes:
        """The bytes from ``offset // 8`` on that hold ``value`` in the field; ``text`` reaches over all of it."""
        first = self.offset >> 3
        end = self.offset + self.bits
        width = ((end + 7) >> 3) - first
        shift = -end & 7
        mask = ((1 << self.bits) - 1) << shift
        window = int.from_bytes(text[first : first + width], "big")
        return (window & ~mask | (value << shift) & mask).to_bytes(width, "big")


def parse_ops(argv: Argv) -> list[FieldOp]:
    """The subcommands from ``argv[2]`` on. Raises CommandError. Source: bitops.c bitfieldGeneric()."""
    ops: list[FieldOp] = []
    overflow = _WRAP
    i = 2
    n = len(argv)
    while i < n:
        word = argv[i].upper()
        left = n - i - 1
        if word == b"OVERFLOW" and left >= 1:
            overflow = _overflow(argv[i + 1])
            i += 2
            continue
        if word == b"GET" and left >= 2:
            kind = _GET
        elif word == b"SET" and left >= 3:
            kind = _SET
        elif word == b"INCRBY" and left >= 3:
            kind = _INCRBY
        else:
            raise CommandError(SYNTAX)
        op = FieldOp(kind, argv[i + 1], argv[i + 2])
        op.overflow = overflow
        i += 3
        if kind != _GET:
            op.number = parse_int64(argv[i])
            i += 1
        ops.append(op)
    return ops


def _overflow(word: bytes) -> int:
    word = word.upper()
    if word == b"WRAP":
        return _WRAP
    if word == b"SAT":
        return _SAT
    if word == b"FAIL":
        return _FAIL
    raise CommandError(BAD_OVERFLOW)


@COMMANDS.write("BITFIELD", arity=-2, since="3.2.0", flags="denyoom",
                keys="RW|UPDATE|ACCESS|VARIABLE_FLAGS@i1+r0/1/0", complexity="O(1) per subcommand",
                summary="Reads and changes integers of any width inside a string.")  # fmt: skip
def bitfield(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: one integer per subcommand, null where OVERFLOW FAIL held. Source: bitops.c bitfieldGeneric()."""
    ops = parse_ops(argv)
    key = argv[1]
    value = string_at(ctx.db, key)
    size_needed = 0
    for op in ops:
        if op.kind != _GET:
            size_needed = max(size_needed, ((op.offset + op.bits - 1) >> 3) + 1)
    if size_needed == 0:
        return [op.value_of(op.read(b"" if value is None else value)) for op in ops]
    size = 0 if value is None else len(value)
    grows = size_needed > size
    # A string that is not yet patched in place is copied: the journal keeps the old one whole.
    text = value if type(value) is bytearray else bytearray(b"" if value is None else value)
    in_place = text is value
    if grows:
        if in_place:
            patch(text, size_needed - 1, b"\0")
        else:
            text.extend(bytes(size_needed - size))
    replies: list[Reply] = []
    changed = False
    for op in ops:
        old = op.value_of(op.read(text))
        if op.kind == _GET:
            replies.append(old)
            continue
        new = op.target(old)
        if new is None:
            replies.append(None)
            continue
        replies.append(new if op.kind == _INCRBY else old)
        changed = changed or grows or new != old
        if new != old:
            window = op.window_with(text, new)
            at = op.offset >> 3
            if in_place:
                patch(text, at, window)
            else:
                text[at : at + len(window)] = window
    _keep(ctx, key, value, text, grows, changed)
    return replies


def _keep(ctx: WriteContext, key: bytes, old: object, text: bytearray, grows: bool, changed: bool) -> None:
    """Store what bitfield() made. A string grows even when every change was refused, silently, as upstream."""
    if text is not old:
        if grows or changed:
            ctx.db.put_keep(key, text)
    elif grows or changed:
        ctx.db.touched(key)
    if ctx.notify_mask:
        if old is None:
            ctx.notify(NOTIFY_NEW, b"new", key)
        if changed:
            ctx.notify(NOTIFY_STRING, b"setbit", key)


@COMMANDS.read("BITFIELD_RO", arity=-2, since="6.0.0", flags="fast", keys="RO|ACCESS@i1+r0/1/0",
               complexity="O(1) per subcommand", summary="Reads integers of any width inside a string.")  # fmt: skip
def bitfield_ro(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: one integer per GET. Source: bitops.c bitfieldGeneric()."""
    ops = parse_ops(argv)
    for op in ops:
        if op.kind != _GET:
            raise CommandError(GET_ONLY)
    value = string_at(ctx.db, argv[1])
    return [op.value_of(op.read(b"" if value is None else value)) for op in ops]
