"""x87 extended-precision arithmetic in exact integers, for INCRBYFLOAT and HINCRBYFLOAT. [compiled]

Upstream computes in a C long double (64-bit significand) and prints 17 decimals. Python's float has 53 bits and would
print other digits; a platform's long double differs between machines, which replicated state must not. So a number
here is ``significand * 2**exponent`` as two ints, rounded half to even to 64 bits as the hardware does.
Rule: the only place that reads or prints such numbers. Subnormal extended values (below 1e-4931) read as too small.
"""

from __future__ import annotations

from typing import Final

_BITS: Final = 64
_EXPONENT_MAX: Final = 16384
# Beyond these a decimal exponent is certainly out of range, before any big number is built.
_POWER_MAX: Final = 4940
_POWER_MIN: Final = -4932
# MAX_LONG_DOUBLE_CHARS less the final NUL.
_CHARS_MAX: Final = 5 * 1024 - 1
_DECIMALS: Final = 17
_TEN17: Final = 10**17
_DIGITS: Final = b"0123456789"
_HEX: Final = b"0123456789abcdef"
# Python refuses to print or read longer ints in one piece.
_PIECE_DIGITS: Final = 4000
_PIECE: Final = 10**_PIECE_DIGITS


class LongDouble:
    """``significand * 2**exponent``, the significand signed and at most 64 bits; ``infinite`` overrides both."""

    __slots__ = ("exponent", "infinite", "significand")

    def __init__(self, significand: int, exponent: int, infinite: bool = False) -> None:
        self.significand = significand
        self.exponent = exponent
        self.infinite = infinite


def parse(text: bytes) -> LongDouble | None:
    """What strtold() reads from all of ``text``; None for NaN, spaces, overflow (valkey util.c string2ld())."""
    if not text or len(text) > _CHARS_MAX:
        return None
    body = text.lower()
    negative = body[:1] == b"-"
    if body[:1] in (b"-", b"+"):
        body = body[1:]
    if body in (b"inf", b"infinity"):
        return LongDouble(-1 if negative else 1, 0, True)
    number = _hexadecimal(body[2:]) if body[:2] == b"0x" else _decimal(body)
    if number is not None and negative:
        number.significand = -number.significand
    return number


def add(a: LongDouble, b: LongDouble) -> LongDouble | None:
    """The rounded sum, or None when it is not finite."""
    if a.infinite or b.infinite:
        return None
    low = min(a.exponent, b.exponent)
    total = (a.significand << (a.exponent - low)) + (b.significand << (b.exponent - low))
    return _rounded(total, 1, low)


def text_of(x: LongDouble) -> bytes:
    """Plain decimal with at most 17 decimals, trailing zeros removed (valkey util.c ld2string(), LD_STR_HUMAN)."""
    negative = x.significand < 0
    magnitude = -x.significand if negative else x.significand
    if x.exponent >= 0:
        out = _digits(magnitude << x.exponent)
    else:
        scaled = magnitude * _TEN17
        whole = _half_even(scaled, 1 << -x.exponent)
        integer, fraction = divmod(whole, _TEN17)
        out = _digits(integer)
        if fraction:
            out += b"." + (b"%0*d" % (_DECIMALS, fraction)).rstrip(b"0")
    return b"-" + out if negative and out != b"0" else out


def _digits(n: int) -> bytes:
    if n < _PIECE:
        return b"%d" % n
    high, low = divmod(n, _PIECE)
    return _digits(high) + b"%0*d" % (_PIECE_DIGITS, low)


def _number(digits: bytes) -> int:
    if len(digits) <= _PIECE_DIGITS:
        return int(digits)
    return int(digits[:-_PIECE_DIGITS]) * _PIECE + int(digits[-_PIECE_DIGITS:])


def _half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    twice = rest * 2
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def _rounded(numerator: int, denominator: int, exponent: int) -> LongDouble | None:
    """``numerator / denominator * 2**exponent`` to 64 bits; None on overflow. ``denominator`` > 0."""
    if numerator == 0:
        return LongDouble(0, 0)
    negative = numerator < 0
    if negative:
        numerator = -numerator
    shift = numerator.bit_length() - denominator.bit_length() - _BITS
    quotient = _scaled(numerator, denominator, shift)
    if quotient.bit_length() > _BITS:
        # Too many bits: round once, from the exact fraction, one place further left.
        shift += 1
        quotient = _scaled(numerator, denominator, shift)
    elif quotient.bit_length() < _BITS:
        shift -= 1
        quotient = _scaled(numerator, denominator, shift)
    if quotient.bit_length() + shift + exponent > _EXPONENT_MAX:
        return None
    return LongDouble(-quotient if negative else quotient, shift + exponent)


def _scaled(numerator: int, denominator: int, shift: int) -> int:
    if shift >= 0:
        return _half_even(numerator, denominator << shift)
    return _half_even(numerator << -shift, denominator)


def _power(text: bytes) -> int | None:
    """A written exponent, clamped far outside the valid range."""
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if not digits.isdigit():
        return None
    value = int(digits) if len(digits) < 10 else 10**9
    return -value if text[:1] == b"-" else value


def _decimal(body: bytes) -> LongDouble | None:
    mantissa, mark, written = body.partition(b"e")
    power = 0
    if mark:
        read = _power(written)
        if read is None:
            return None
        power = read
    integer, _, fraction = mantissa.partition(b".")
    digits = integer + fraction
    if not digits or digits.strip(_DIGITS):
        return None
    significant = digits.lstrip(b"0")
    if not significant:
        return LongDouble(0, 0)
    power -= len(fraction)
    size = len(significant) + power
    if size > _POWER_MAX or size < _POWER_MIN:
        return None
    number = _number(significant)
    if power >= 0:
        return _rounded(number * 10**power, 1, 0)
    return _rounded(number, 10**-power, 0)


def _hexadecimal(body: bytes) -> LongDouble | None:
    mantissa, mark, written = body.partition(b"p")
    power = 0
    if mark:
        read = _power(written)
        if read is None:
            return None
        power = read
    integer, _, fraction = mantissa.partition(b".")
    digits = integer + fraction
    if not digits or digits.strip(_HEX):
        return None
    number = int(digits, 16)
    if number == 0:
        return LongDouble(0, 0)
    power -= 4 * len(fraction)
    if abs(power + number.bit_length()) > _EXPONENT_MAX:
        return None
    return _rounded(number, 1, power)
