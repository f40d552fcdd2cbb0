"""Readers of arguments that several commands share: integers, floats, deadlines, SET's options. [compiled]

Rule: an argument is accepted exactly when Valkey's util.c accepts it; the same text stored in a value and sent as an
argument reads the same.
"""

from __future__ import annotations

from math import isinf, isnan
from typing import Final

from durakv.commands.spec import Argv
from durakv.resp.errors import NOT_FLOAT, NOT_INTEGER, SYNTAX, CommandError

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)
# Valkey's default proto-max-bulk-len. A limit on values must be the same on every node, so it is no directive.
STRING_MAX: Final = 512 * 1024 * 1024
_INT64_DIGITS: Final = 20
# Fewer characters cannot overflow.
_INT64_SAFE_DIGITS: Final = 19
_ZERO: Final = 48
_MINUS: Final = 45
# As many digits are read by a loop, and are exact as a double.
_SHORT_DIGITS: Final = 15
_FLOAT_CHARS: Final = 256
_FLOAT_BYTES: Final = b"+-.0123456789eEpPxXabcdefABCDEFinINtyTY"

NX: Final = 1
XX: Final = 2
GET: Final = 4
KEEPTTL: Final = 8
PERSIST: Final = 16
IFEQ: Final = 32
# Which options a command knows.
SET_OPTIONS: Final = NX | XX | GET | KEEPTTL | IFEQ
GETEX_OPTIONS: Final = PERSIST
MSETEX_OPTIONS: Final = NX | XX | KEEPTTL


def _plain_digits(text: bytes, start: int) -> int:
    """The number that the digits from ``start`` on write, -1 if there is anything else or nothing. For short texts."""
    n = len(text)
    if start == n:
        return -1
    value = 0
    while start < n:
        digit = text[start] - _ZERO
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
        start += 1
    return value


def to_int64(text: bytes) -> int | None:
    """The integer ``text`` writes in canonical form (no plus, spaces, leading zeros), None otherwise.

    Source: valkey util.c string2ll().
    """
    n = len(text)
    if n == 0 or n > _INT64_DIGITS:
        return None
    if n <= _SHORT_DIGITS:
        sign = 1 if text[0] == _MINUS else 0
        value = _plain_digits(text, sign)
        if value < 0 or (n > 1 and text[sign] == _ZERO):
            return None
        return -value if sign else value
    if text.isdigit():
        if n > 1 and text[0] == _ZERO:
            return None
    else:
        digits = text[1:]
        if text[0] != _MINUS or not digits.isdigit() or digits[0] == _ZERO:
            return None
    value = int(text)
    if n >= _INT64_SAFE_DIGITS and (value > INT64_MAX or value < INT64_MIN):
        return None
    return value


def parse_int64(text: bytes) -> int:
    """Raises CommandError unless ``text`` is a canonical 64-bit integer."""
    value = to_int64(text)
    if value is None:
        raise CommandError(NOT_INTEGER)
    return value


def parse_count(text: bytes, low: int, high: int, error: str = "") -> int:
    """An integer in [low, high]. Raises CommandError, with ``error`` if given (getRangeLongFromObjectOrReply())."""
    value = to_int64(text)
    if value is None:
        raise CommandError(error or NOT_INTEGER)
    if not low <= value <= high:
        raise CommandError(error or f"ERR value is out of range, value must between {low} and {high}")
    return value


def to_double(text: bytes) -> float | None:
    """What strtod() reads from all of ``text``: decimal, hexadecimal or infinite; None for NaN, spaces, overflow.

    Source: valkey object.c getDoubleFromObject().
    """
    if len(text) <= _SHORT_DIGITS:
        whole = _plain_digits(text, 0)
        if whole >= 0:
            return float(whole)
    if not text or len(text) > _FLOAT_CHARS or text.strip(_FLOAT_BYTES):
        return None
    plain = text.decode("ascii")
    try:
        value = float.fromhex(plain) if "x" in plain or "X" in plain else float(plain)
    except (ValueError, OverflowError):
        return None
    if isnan(value):
        return None
    if isinf(value) and "n" not in plain.lower():
        # Overflow, not a written infinity.
        return None
    if value == 0.0 and "x" not in plain.lower():
        mantissa = plain.lower().partition("e")[0]
        if mantissa.strip("+-.0"):
            return None
    return value


def parse_double(text: bytes, error: str = NOT_FLOAT) -> float:
    """Raises CommandError unless ``text`` is a double."""
    value = to_double(text)
    if value is None:
        raise CommandError(error)
    return value


class Options:
    """What SET, GETEX or MSETEX were asked. ``expire`` is the raw argument, or None."""

    __slots__ = ("compare", "expire", "flags", "relative", "seconds")

    def __init__(self) -> None:
        self.flags = 0
        self.expire: bytes | None = None
        self.seconds = False
        self.relative = False
        self.compare: bytes | None = None

    def deadline(self, now_ms: int, command: str) -> int:
        """Absolute deadline in Unix ms, -1 when none was given. Raises CommandError."""
        if self.expire is None:
            return -1
        return deadline(self.expire, seconds=self.seconds, now_ms=now_ms if self.relative else 0, command=command)


def deadline(text: bytes, *, seconds: bool, now_ms: int, command: str) -> int:
    """``text`` (s or ms) after ``now_ms`` as Unix ms; must be positive. Raises CommandError.

    Source: t_string.c getExpireMillisecondsOrReply().
    """
    value = parse_int64(text)
    if value <= 0 or (seconds and value > INT64_MAX // 1000):
        raise invalid_expire(command)
    if seconds:
        value *= 1000
    value += now_ms
    if value > INT64_MAX:
        raise invalid_expire(command)
    return value


def invalid_expire(command: str) -> CommandError:
    """``command`` is the lower-case full name."""
    return CommandError(f"ERR invalid expire time in '{command}' command")


def parse_options(argv: Argv, start: int, known: int) -> Options:
    """Options from ``argv[start]`` on; ``known`` is one of the *_OPTIONS sets. Raises CommandError.

    A repeated EX is allowed and the last one counts; two different expiry words are not.
    Source: t_string.c parseExtendedStringArgumentsOrReply().
    """
    options = Options()
    unit = b""
    i = start
    n = len(argv)
    while i < n:
        word = argv[i].upper()
        i += 1
        flags = options.flags
        if word == b"NX" and known & NX and not flags & (XX | IFEQ):
            options.flags |= NX
        elif word == b"XX" and known & XX and not flags & (NX | IFEQ):
            options.flags |= XX
        elif word == b"IFEQ" and known & IFEQ and not flags & (NX | XX | IFEQ) and i < n:
            options.flags |= IFEQ
            options.compare = argv[i]
            i += 1
        elif word == b"GET" and known & GET:
            options.flags |= GET
        elif word == b"KEEPTTL" and known & KEEPTTL and not unit:
            options.flags |= KEEPTTL
        elif word == b"PERSIST" and known & PERSIST and not unit:
            options.flags |= PERSIST
        elif (
            word in (b"EX", b"PX", b"EXAT", b"PXAT")
            and not flags & (KEEPTTL | PERSIST)
            and unit in (b"", word)
            and i < n
        ):
            unit = word
            options.expire = argv[i]
            options.seconds = word[:1] == b"E"
            options.relative = len(word) == 2
            i += 1
        else:
            raise CommandError(SYNTAX)
    return options
