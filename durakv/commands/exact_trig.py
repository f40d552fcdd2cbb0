"""Sine, cosine, arc sine and arc tangent that every machine rounds alike.

C libraries agree with each other only up to the last bit, and what a replicated command stores may not depend on whose
library a node runs. These compute with integers of far more bits than a double has and round once, so the result is
the double nearest to the true value on any machine. They cost some microseconds: for what is stored, not for replies.
Rule: a libm result may serve as a first guess here, never as a result.
"""

from __future__ import annotations

import math
from typing import Final

# Fraction bits of the fixed-point numbers: twenty more than the smallest angles that occur need for a double's 53.
_BITS: Final = 104
_ONE: Final = 1 << _BITS
_MORE: Final = 64


def _arctan_of_inverse(n: int) -> int:
    """arctan(1/n) with _BITS + _MORE fraction bits, by its series."""
    power = (1 << (_BITS + _MORE)) // n
    total = power
    k = 1
    while power:
        power //= n * n
        k += 2
        total += power // k if k % 4 == 1 else -(power // k)
    return total


# Machin's formula.
_PI: Final = 4 * (4 * _arctan_of_inverse(5) - _arctan_of_inverse(239)) >> _MORE
_HALF_PI: Final = _PI >> 1
_EIGHTH: Final = _HALF_PI >> 1
# Taylor coefficients in x squared, the last one first: enough for angles up to an eighth of a turn.
_COSINE: Final = tuple((-1) ** k * _ONE // math.factorial(2 * k) for k in range(14, -1, -1))
_SINE: Final = tuple((-1) ** k * _ONE // math.factorial(2 * k + 1) for k in range(14, -1, -1))


def _fixed(x: float) -> int:
    numerator, denominator = x.as_integer_ratio()
    return (numerator << _BITS) // denominator


def _series(coefficients: tuple[int, ...], square: int) -> int:
    total = 0
    for coefficient in coefficients:
        total = coefficient + (total * square >> _BITS)
    return total


def _wave(x: int, quarters: int) -> int:
    """Sine of the fixed-point angle ``x`` and that many quarter turns."""
    turns, x = divmod(x + _EIGHTH, _HALF_PI)
    x -= _EIGHTH
    turns += quarters
    square = x * x >> _BITS
    value = _series(_COSINE, square) if turns & 1 else x * _series(_SINE, square) >> _BITS
    return -value if turns & 2 else value


def sin(x: float) -> float:
    """Of finite radians."""
    if abs(x) < 1e-20:
        return x
    return _wave(_fixed(x), 0) / _ONE


def cos(x: float) -> float:
    """Of finite radians."""
    return _wave(_fixed(x), 1) / _ONE


def _asin(y: int) -> int:
    """Of a fixed-point number in [0, 1]."""
    if 10 * y > 7 * _ONE:
        # Where the sine is flat the angle is found from the cosine's side.
        return _HALF_PI - 2 * _asin(math.isqrt((_ONE - y) // 2 << _BITS))
    guess = _fixed(math.asin(y / _ONE))
    sine, cosine = _wave(guess, 0), _wave(guess, 1)
    # One step of Newton's method doubles the guess's correct bits to more than a double has.
    return guess - ((sine - y) << _BITS) // cosine


def asin(y: float) -> float:
    """Radians, of a number in [-1, 1]."""
    if abs(y) < 1e-20:
        return y
    return _asin(_fixed(y)) / _ONE if y >= 0 else -(_asin(_fixed(-y)) / _ONE)


def atan2(y: float, x: float) -> float:
    """The angle of a point that is not the origin, in radians."""
    fixed_y, fixed_x = _fixed(y), _fixed(x)
    guess = _fixed(math.atan2(y, x))
    sine, cosine = _wave(guess, 0), _wave(guess, 1)
    across = fixed_x * sine - fixed_y * cosine
    along = fixed_x * cosine + fixed_y * sine
    return (guess - (across << _BITS) // along) / _ONE
