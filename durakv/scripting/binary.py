"""The libraries ``bit``, ``struct`` and ``cmsgpack`` that Valkey gives to scripts, on plain Python values.

Rule: functions take what came from Lua (bytes, int, float, bool, None) and return a tuple for Lua or raise LibraryError
with the text the C library gives; there is no state. Sources: lua_bit.c, lua_struct.c, lua_cmsgpack.c.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from durakv.resp.types import Map

Values = tuple[Any, ...]

_U32: Final = 0xFFFFFFFF
_U64: Final = (1 << 64) - 1
_INT_MAX: Final = (1 << 31) - 1
_MAX_INT_SIZE: Final = 32
_MAX_ALIGN: Final = 8
_HEX_DIGITS: Final = 8
_I64_MIN: Final = -(1 << 63)
_I64_MAX: Final = (1 << 63) - 1


_DOUBLE: Final = struct.Struct("<d")
_U64_OF: Final = struct.Struct("<Q")
_SHIFT_POINT: Final = 2.0**52 + 2.0**51


class LibraryError(Exception):
    """The error a script gets; ``text`` without the position."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _kind(value: object) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, bytes) else "table"


def _number(args: Values, at: int, name: str) -> float:
    value = args[at] if at < len(args) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, bytes):
        number = _read_number(value)
        if number is not None:
            return number
    got = "no value" if at >= len(args) else _kind(value)
    raise LibraryError(f"bad argument #{at + 1} to '{name}' (number expected, got {got})")


def _read_number(text: bytes) -> float | None:
    """What strtod() reads when nothing else follows; Python's own reading knows no hexadecimal and allows ``1_000``."""
    word = text.strip(b" \t\n\r\v\f").lower()
    try:
        if word.lstrip(b"+-").startswith(b"0x"):
            return float.fromhex(word.decode("latin-1"))
        return None if b"_" in word else float(word)
    except (ValueError, OverflowError):
        return None


def _whole(number: float) -> int:
    """As a conversion to 64 bits cuts it off; the least one for what has none (as x86 does)."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else _I64_MIN


def _text(args: Values, at: int, name: str) -> bytes:
    value = args[at] if at < len(args) else None
    if isinstance(value, bytes):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return b"%.14g" % value
    got = "no value" if at >= len(args) else _kind(value)
    raise LibraryError(f"bad argument #{at + 1} to '{name}' (string expected, got {got})")


# -- bit -------------------------------------------------------------------------------------------------------------


def _bits(args: Values, at: int, name: str) -> int:
    # Where BitOp finds them: the low bits of the mantissa once the point has been moved behind them.
    raw: int = _U64_OF.unpack(_DOUBLE.pack(_number(args, at, name) + _SHIFT_POINT))[0]
    return raw & _U32


def _signed(bits: int) -> Values:
    bits &= _U32
    return (bits - (1 << 32) if bits >> 31 else bits,)


def _folded(name: str, combine: Callable[[int, int], int]) -> Callable[[Values], Values]:
    def run(args: Values) -> Values:
        bits = _bits(args, 0, name)
        for at in range(len(args) - 1, 0, -1):
            bits = combine(bits, _bits(args, at, name))
        return _signed(bits)

    return run


def _shifted(name: str, shift: Callable[[int, int], int]) -> Callable[[Values], Values]:
    return lambda args: _signed(shift(_bits(args, 0, name), _bits(args, 1, name) & 31))


def _tohex(args: Values) -> Values:
    bits = _bits(args, 0, "tohex")
    count: int = _signed(_bits(args, 1, "tohex"))[0] if len(args) > 1 else _HEX_DIGITS
    text = b"%08X" % bits if count < 0 else b"%08x" % bits
    count = min(abs(count), _HEX_DIGITS)
    return (text[_HEX_DIGITS - count :],)


def _bswap(args: Values) -> Values:
    return _signed(int.from_bytes(_bits(args, 0, "bswap").to_bytes(4, "little"), "big"))


# -- struct ----------------------------------------------------------------------------------------------------------


class _Format:
    """Goes through a format; ``name`` is the function that errors name."""

    def __init__(self, text: bytes, name: str) -> None:
        self.text = text.partition(b"\0")[0].decode("latin-1")
        self.name = name
        self.at = 0
        self.order = "little"
        self.align = 1

    def options(self) -> Iterator[tuple[str, int]]:
        """(option, size) of each; control options are carried out on the way."""
        while self.at < len(self.text):
            option = self.text[self.at]
            self.at += 1
            yield option, self._size(option)

    def padding(self, option: str, size: int, at: int) -> int:
        if not size or option == "c":
            return 0
        size = min(size, self.align)
        return (size - (at & (size - 1))) & (size - 1)

    def control(self, option: str) -> None:
        if option == " ":
            return
        if option in "<>":
            self.order = "little" if option == "<" else "big"
        elif option == "!":
            align = self._count(_MAX_ALIGN)
            if align <= 0 or align & (align - 1):
                raise LibraryError(f"alignment {align} is not a power of 2")
            self.align = align
        else:
            raise LibraryError(f"bad argument #1 to '{self.name}' (invalid format option '{option}')")

    def _size(self, option: str) -> int:
        fixed = {"B": 1, "b": 1, "H": 2, "h": 2, "L": 8, "l": 8, "T": 8, "f": 4, "d": 8, "x": 1}.get(option)
        if fixed is not None:
            return fixed
        if option == "c":
            return self._count(1)
        if option in "iI":
            size = self._count(4)
            if size > _MAX_INT_SIZE:
                raise LibraryError(f"integral size {size} is larger than limit of {_MAX_INT_SIZE}")
            return size
        return 0

    def _count(self, default: int) -> int:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in "0123456789":
            self.at += 1
        if start == self.at:
            return default
        count = int(self.text[start : self.at])
        if count > _INT_MAX:
            raise LibraryError("integral size overflow")
        return count


def _real(kind: str, order: str) -> str:
    return ("<" if order == "little" else ">") + kind


def _integer_bytes(number: float, size: int, order: Any) -> bytes:
    if not math.isfinite(number):
        whole = 1 << 63
    else:
        whole = int(number)
        # What a conversion to 64 bits gives on x86 for what does not fit.
        if whole < _I64_MIN or whole > _U64:
            whole = 1 << 63 if whole < 0 else 0
    return (whole & _U64).to_bytes(max(8, size), order)[: size] if order == "little" else (
        (whole & _U64).to_bytes(max(8, size), order)[-size:] if size else b"")  # fmt: skip


def _pack(args: Values) -> Values:
    form = _Format(_text(args, 0, "pack"), "pack")
    # The library puts a nil behind its arguments, which is what it finds when there are too few.
    args = (*args, None)
    out = bytearray()
    at = 1
    for option, size in form.options():
        out += bytes(form.padding(option, size, len(out)))
        if option in "bBhHlLTiI":
            out += _integer_bytes(_number(args, at, "pack"), size, form.order)
            at += 1
        elif option == "x":
            out.append(0)
        elif option in "fd":
            number = float(_number(args, at, "pack"))
            try:
                out += struct.pack(_real(option, form.order), number)
            except OverflowError:
                out += struct.pack(_real(option, form.order), float("inf") if number > 0 else float("-inf"))
            at += 1
        elif option in "cs":
            text = _text(args, at, "pack")
            at += 1
            size = size or len(text)
            if len(text) < size:
                raise LibraryError(f"bad argument #{at + 1} to 'pack' (string too short)")
            out += text[:size]
            if option == "s":
                out.append(0)
        else:
            form.control(option)
    return (bytes(out),)


def _unpack(args: Values) -> Values:
    form = _Format(_text(args, 0, "unpack"), "unpack")
    data = _text(args, 1, "unpack")
    pos = _whole(_number(args, 2, "unpack")) & _U64 if len(args) > 2 and args[2] is not None else 1
    if pos == 0:
        raise LibraryError("bad argument #3 to 'unpack' (offset must be 1 or greater)")
    pos -= 1
    out: list[Any] = []
    short = LibraryError("bad argument #2 to 'unpack' (data string too short)")
    for option, size in form.options():
        pos += form.padding(option, size, pos)
        if pos > len(data) - size:
            raise short
        if option in "bBhHlLTiI":
            out.append(_integer(data[pos : pos + size], form.order, signed=option.islower()))
        elif option in "fd":
            out.append(struct.unpack(_real(option, form.order), data[pos : pos + size])[0])
        elif option == "c":
            if size == 0:
                if not out or _kind(out[-1]) != "number":
                    raise LibraryError("format 'c0' needs a previous size")
                size = int(out.pop())
                if not 0 <= size <= len(data) - pos:
                    raise short
            out.append(data[pos : pos + size])
        elif option == "s":
            end = data.find(b"\0", pos)
            if end < 0:
                raise LibraryError("unfinished string in data")
            out.append(data[pos:end])
            size = end - pos + 1
        elif option != "x":
            form.control(option)
        pos += size
    return (*out, pos + 1)


def _integer(raw: bytes, order: Any, *, signed: bool) -> float:
    # 64 bits are kept, whatever the width.
    bits = int.from_bytes(raw, order) & _U64
    if not signed:
        return float(bits)
    width = 8 * len(raw)
    if 0 < width < 64 and bits >> (width - 1) & 1:
        bits |= _U64 << width & _U64
    return float(bits - (1 << 64) if bits >> 63 else bits)


def _size(args: Values) -> Values:
    form = _Format(_text(args, 0, "size"), "size")
    pos = 0
    for option, size in form.options():
        pos += form.padding(option, size, pos)
        if option == "s":
            raise LibraryError("bad argument #1 to 'size' (option 's' has no fixed size)")
        if option == "c" and size == 0:
            raise LibraryError("bad argument #1 to 'size' (option 'c0' has no fixed size)")
        if not option.isalnum():
            form.control(option)
        pos += size
    return (pos,)


# -- cmsgpack --------------------------------------------------------------------------------------------------------


def _head(out: list[bytes], n: int, short: int, short_max: int, marks: tuple[int, ...]) -> None:
    """A length: in the first byte, or as 8 (when there is a mark for it), 16 or 32 bits behind a mark."""
    if n <= short_max:
        out.append(bytes((short | n,)))
    elif len(marks) > 2 and n <= 0xFF:
        out.append(bytes((marks[0], n)))
    elif n <= 0xFFFF:
        out.append(struct.pack(">BH", marks[-2], n))
    else:
        out.append(struct.pack(">BI", marks[-1], n & _U32))


def _packed_integer(n: int) -> bytes:
    if n >= 0:
        if n <= 0x7F:
            return bytes((n,))
        for mark, form, top in ((0xCC, ">BB", 0xFF), (0xCD, ">BH", 0xFFFF), (0xCE, ">BI", _U32)):
            if n <= top:
                return struct.pack(form, mark, n)
        return struct.pack(">BQ", 0xCF, n)
    if n >= -32:
        return struct.pack(">b", n)
    for mark, form, low in ((0xD0, ">Bb", -128), (0xD1, ">Bh", -32768), (0xD2, ">Bi", -(1 << 31))):
        if n >= low:
            return struct.pack(form, mark, n)
    return struct.pack(">Bq", 0xD3, n)


def _packed_number(number: float) -> bytes:
    if -(2.0**63) <= number < 2.0**63 and int(number) == number:
        return _packed_integer(int(number))
    try:
        single = struct.pack(">f", number)
        if struct.unpack(">f", single)[0] == number:
            return b"\xca" + single
    except OverflowError:
        pass
    return b"\xcb" + struct.pack(">d", number)


def _msgpack(args: Values) -> Values:
    out: list[bytes] = []
    items = iter(args[0])
    for mark in items:
        if mark == b"*":
            _head(out, next(items), 0x90, 15, (0xDC, 0xDD))
        elif mark == b"%":
            _head(out, next(items), 0x80, 15, (0xDE, 0xDF))
        elif mark == b"$":
            text = next(items)
            _head(out, len(text), 0xA0, 31, (0xD9, 0xDA, 0xDB))
            out.append(text)
        elif mark == b":":
            out.append(_packed_number(next(items)))
        else:
            out.append({b"T": b"\xc3", b"F": b"\xc2", b"_": b"\xc0"}[mark])
    return (b"".join(out),)


_SCALARS: Final = {
    0xCC: ">B", 0xD0: ">b", 0xCD: ">H", 0xD1: ">h", 0xCE: ">I", 0xD2: ">i", 0xCF: ">q", 0xD3: ">q", 0xCA: ">f",
    0xCB: ">d",
}  # fmt: skip
_LENGTHS: Final = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_DEPTH_MAX: Final = 200


class _Unpacker:
    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def value(self, depth: int = 0) -> Any:
        mark = self._take(1)[0]
        if mark in _SCALARS:
            form = _SCALARS[mark]
            number = struct.unpack(form, self._take(struct.calcsize(form)))[0]
            return float(number) if isinstance(number, int) and abs(number) >> 53 else number
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        if mark <= 0x7F:
            return mark
        if mark >= 0xE0:
            return mark - 256
        if mark in _LENGTHS:
            form = _LENGTHS[mark]
            n = struct.unpack(form, self._take(struct.calcsize(form)))[0]
            shape = "$" if mark <= 0xDB else "*" if mark <= 0xDD else "%"
        elif mark & 0xE0 == 0xA0:
            n, shape = mark & 0x1F, "$"
        elif mark & 0xF0 in (0x80, 0x90):
            n, shape = mark & 0xF, "*" if mark & 0xF0 == 0x90 else "%"
        else:
            raise LibraryError("Bad data format in input.")
        if shape == "$":
            return self._take(n)
        if depth == _DEPTH_MAX:
            raise LibraryError("Bad data format in input.")
        if shape == "*":
            return [self.value(depth + 1) for _ in range(n)]
        pairs = [(self.value(depth + 1), self.value(depth + 1)) for _ in range(n)]
        if any(key is None for key, _ in pairs):
            raise LibraryError("table index is nil")
        if any(isinstance(key, float) and math.isnan(key) for key, _ in pairs):
            raise LibraryError("table index is NaN")
        return Map([item for pair in pairs for item in pair])

    def _take(self, n: int) -> bytes:
        if len(self.data) - self.at < n:
            raise LibraryError("Missing bytes in input.")
        raw = self.data[self.at : self.at + n]
        self.at += n
        return raw


def _unmsgpack(args: Values) -> Values:
    data = args[0]
    # Ints in the library.
    limit, offset = (_signed(_whole(number))[0] for number in args[1:])
    if offset < 0 or limit < 0:
        raise LibraryError(f"Invalid request to unpack with offset of {offset} and limit of {len(data)}.")
    if offset > len(data):
        raise LibraryError(f"Start offset {offset} greater than input length {len(data)}.")
    everything = not limit and not offset
    reader = _Unpacker(data, offset)
    out: list[Any] = []
    while reader.at < len(data) and (everything or len(out) < limit):
        if len(out) == 7000:
            raise LibraryError(
                "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)"
            )
        out.append(reader.value())
    if everything:
        return tuple(out)
    return (-1 if reader.at == len(data) else reader.at, *out)


_FUNCTIONS: Final[dict[bytes, Callable[[Values], Values]]] = {
    b"bit.tobit": lambda args: _signed(_bits(args, 0, "tobit")),
    b"bit.bnot": lambda args: _signed(~_bits(args, 0, "bnot")),
    b"bit.band": _folded("band", lambda a, b: a & b),
    b"bit.bor": _folded("bor", lambda a, b: a | b),
    b"bit.bxor": _folded("bxor", lambda a, b: a ^ b),
    b"bit.lshift": _shifted("lshift", lambda bits, n: bits << n),
    b"bit.rshift": _shifted("rshift", lambda bits, n: bits >> n),
    b"bit.arshift": _shifted("arshift", lambda bits, n: (bits - (1 << 32) if bits >> 31 else bits) >> n),
    b"bit.rol": _shifted("rol", lambda bits, n: bits << n | bits >> (32 - n)),
    b"bit.ror": _shifted("ror", lambda bits, n: bits << (32 - n) | bits >> n),
    b"bit.bswap": _bswap,
    b"bit.tohex": _tohex,
    b"struct.pack": _pack,
    b"struct.unpack": _unpack,
    b"struct.size": _size,
    b"cmsgpack.pack": _msgpack,
    b"cmsgpack.unpack": _unmsgpack,
}


def run(name: bytes, args: Values) -> Values:
    """What the library function ``name`` returns: scalars, lists for arrays, Map for maps. Raises LibraryError."""
    return _FUNCTIONS[name](args)
