"""CRC-64 of many bytes: the sum RDB files end in, several times as fast as one table look-up per byte.

The sum is a remainder modulo a polynomial P, so a message may be changed by any multiple of P. Some multiples of P have
only nine terms: with them a stretch at the start of a message is cancelled by adding it, as one big integer, at eight
places further on, until only the last hundred kilobytes are left for the table.
Rule: equal to keyspace.rdb_crc.crc64 on all inputs.
"""

from __future__ import annotations

from typing import Final

from durakv.keyspace.rdb_crc import crc64

# One bit of a message counts as much as these eight together, so many bits behind it: 1 + sum of x^-s is a multiple of
# P. Found by a birthday search over four pairs of lists; the tests check it.
PLACES: Final = (318111, 363472, 428666, 494244, 571499, 613324, 665016, 722584)
# What is cancelled at once must end before the first place.
_STRETCH: Final = PLACES[0] // 8
_STRETCH_BITS: Final = _STRETCH * 8
_FIRST: Final = PLACES[0] - _STRETCH_BITS
_BETWEEN: Final = tuple(place - PLACES[0] for place in PLACES[1:])
# All places lie within so many bytes of the stretch's start.
_REACH: Final = _STRETCH + PLACES[-1] // 8 + 1


class Crc64:
    """A running sum."""

    __slots__ = ("_due", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        # To be added to the bytes of _rest, the first one lowest.
        self._due = 0

    def update(self, data: bytes) -> None:
        """Take in ``data``; best in pieces of a megabyte or more."""
        rest = self._rest + data if self._rest else data
        size = len(rest)
        at = 0
        due = self._due
        while size - at > _REACH:
            number = int.from_bytes(rest[at : at + _STRETCH], "little")
            # Only the low bits of what is due belong to this stretch.
            upper = due >> _STRETCH_BITS
            number ^= due ^ (upper << _STRETCH_BITS)
            spread = number
            for distance in _BETWEEN:
                spread ^= number << distance
            due = upper ^ (spread << _FIRST)
            at += _STRETCH
        self._due = due
        self._rest = rest[at:]

    def value(self) -> int:
        """The sum of all bytes given so far; O(100 kB)."""
        rest = self._rest
        if self._due:
            rest = (int.from_bytes(rest, "little") ^ self._due).to_bytes(len(rest), "little")
        return crc64(rest)


def change_start(total: int, before: bytes, after: bytes, following: int) -> int:
    """The sum of ``after`` plus ``following`` more bytes, given that of ``before``, as long, plus the same bytes."""
    assert len(before) == len(after), "a change of the start keeps its length"
    # Sums are linear: the difference is the sum of what differs, followed by zeros.
    difference = crc64(bytes(a ^ b for a, b in zip(before, after, strict=True)))
    square = _times_x(1 << 63, 8)
    while following:
        if following & 1:
            difference = _product(difference, square)
        square = _product(square, square)
        following >>= 1
    return total ^ difference


_REFLECTED: Final = 0x95AC9329AC4BC9B5


def _times_x(value: int, times: int) -> int:
    """A sum as a polynomial (highest bit: x^0), times x^times."""
    for _ in range(times):
        value = value >> 1 ^ (_REFLECTED if value & 1 else 0)
    return value


def _product(a: int, b: int) -> int:
    out = 0
    for bit in range(63, -1, -1):
        if a >> bit & 1:
            out ^= b
        b = _times_x(b, 1)
    return out
