"""The bytes of a HyperLogLog: 16384 registers of six bits behind a header of sixteen bytes, dense or run-length coded.

The bytes are upstream's, for the same elements in the same order, so that values move between servers as strings.
Rule: the only place that knows the layout. Dense registers are handled all at once as large integers, never one by one.
It knows neither keys nor commands. Source: valkey hyperloglog.c.
"""

from __future__ import annotations

from math import inf, sqrt
from struct import unpack_from
from typing import Final

REGISTERS: Final = 16384
HEADER_SIZE: Final = 16
DENSE_SIZE: Final = HEADER_SIZE + REGISTERS * 6 // 8
# Upstream's default of hll-sparse-max-bytes. What is stored must be equal on every node, so it is no directive.
SPARSE_MAX: Final = 3000
# Without elements: all registers in one run of zeros, and no cached cardinality.
EMPTY: Final = b"HYLL\x01" + bytes(10) + b"\x80" + b"\x7f\xff"

UNCHANGED: Final = 0
CHANGED: Final = 1
CORRUPTED: Final = 2
TOO_LARGE: Final = 3

_MAGIC: Final = b"HYLL"
_DENSE: Final = 0
_SPARSE: Final = 1
_CACHE_AT: Final = 8
_STALE_AT: Final = 15
_STALE: Final = 0x80

_INDEX_BITS: Final = 14
_RANK_BITS: Final = 50
_HASH_SEED: Final = 0xADC83B19
_HASH_FACTOR: Final = 0xC6A4A7935BD1E995
_MASK64: Final = (1 << 64) - 1
_ALPHA: Final = 0.721347520444481703680

# Run-length codes: 00nnnnnn n+1 zeros; 01nnnnnn nnnnnnnn n+1 zeros; 1vvvvvnn n+1 registers of value v+1.
_LONG_ZEROS: Final = 0x40
_VALUES: Final = 0x80
_ZEROS_MAX: Final = 64
_VALUE_MAX: Final = 32
_VALUES_MAX: Final = 4
# How many codes after a change are looked at to join equal neighbours.
_JOIN_CODES: Final = 5

_LOW6: Final = bytes(b & 63 for b in range(256))
_LOW4_TO_HIGH: Final = bytes((b & 15) << 2 for b in range(256))
_LOW2_TO_HIGH: Final = bytes((b & 3) << 4 for b in range(256))
_BY2: Final = bytes(b >> 2 for b in range(256))
_BY4: Final = bytes(b >> 4 for b in range(256))
_BY6: Final = bytes(b >> 6 for b in range(256))
_UP6: Final = bytes(b << 6 & 255 for b in range(256))
_UP4: Final = bytes(b << 4 & 255 for b in range(256))
_UP2: Final = bytes(b << 2 & 255 for b in range(256))
_HIGH_BITS: Final = int.from_bytes(b"\x80" * REGISTERS, "little")


def is_hyperloglog(text: bytes | bytearray) -> bool:
    """Whether header and length are right; what is inside a sparse one is only found out when it is read."""
    if len(text) < HEADER_SIZE or text[:4] != _MAGIC or text[4] > _SPARSE:
        return False
    return text[4] == _SPARSE or len(text) == DENSE_SIZE


def is_sparse(text: bytes | bytearray) -> bool:
    """Of a string that is_hyperloglog()."""
    return text[4] == _SPARSE


def cached_count(text: bytes | bytearray) -> int:
    """The cardinality stored in the header, -1 when it is out of date."""
    if text[_STALE_AT] & _STALE:
        return -1
    return int.from_bytes(text[_CACHE_AT : _STALE_AT + 1], "little")


def forget_count(text: bytearray) -> None:
    """Say in the header that the cached cardinality is out of date."""
    text[_STALE_AT] |= _STALE


# -- elements ------------------------------------------------------------------------------------------------------


def hash64(element: bytes) -> int:
    """MurmurHash64A with upstream's seed."""
    n = len(element)
    h = _HASH_SEED ^ (n * _HASH_FACTOR & _MASK64)
    whole = n >> 3
    if whole:
        words: tuple[int, ...] = unpack_from(f"<{whole}Q", element)
        for k in words:
            k = k * _HASH_FACTOR & _MASK64
            k ^= k >> 47
            h = (h ^ (k * _HASH_FACTOR & _MASK64)) * _HASH_FACTOR & _MASK64
    if n & 7:
        h = (h ^ int.from_bytes(element[whole << 3 :], "little")) * _HASH_FACTOR & _MASK64
    h ^= h >> 47
    h = h * _HASH_FACTOR & _MASK64
    return h ^ (h >> 47)


def place_of(element: bytes) -> tuple[int, int]:
    """(register, rank): the rank is one more than the zeros at the end of the rest of the hash, at most 51."""
    h = hash64(element)
    rest = h >> _INDEX_BITS | 1 << _RANK_BITS
    return h & (REGISTERS - 1), (rest & -rest).bit_length()


# -- dense ---------------------------------------------------------------------------------------------------------


def dense_get(text: bytes | bytearray, index: int) -> int:
    """One register of a dense value."""
    bit = index * 6
    at = HEADER_SIZE + (bit >> 3)
    return int.from_bytes(text[at : at + 2], "little") >> (bit & 7) & 63


def dense_window(text: bytes | bytearray, index: int, rank: int) -> tuple[int, bytes]:
    """(offset, bytes to put there) that make the register ``rank``."""
    bit = index * 6
    at = HEADER_SIZE + (bit >> 3)
    shift = bit & 7
    old = text[at : at + 2]
    window = int.from_bytes(old, "little") & ~(63 << shift) | rank << shift
    return at, window.to_bytes(len(old), "little")


def _joined(first: bytes, second: bytes) -> bytes:
    """Two strings of equal length or-ed."""
    return (int.from_bytes(first, "little") | int.from_bytes(second, "little")).to_bytes(len(first), "little")


def registers_of(text: bytes | bytearray) -> bytes | None:
    """All registers, one a byte; None when a sparse value is corrupted."""
    if is_sparse(text):
        return _sparse_registers(text)
    packed = bytes(text[HEADER_SIZE:])
    # Three bytes hold four registers, the lowest bits first.
    b0, b1, b2 = packed[0::3], packed[1::3], packed[2::3]
    out = bytearray(REGISTERS)
    out[0::4] = b0.translate(_LOW6)
    out[1::4] = _joined(b0.translate(_BY6), b1.translate(_LOW4_TO_HIGH))
    out[2::4] = _joined(b1.translate(_BY4), b2.translate(_LOW2_TO_HIGH))
    out[3::4] = b2.translate(_BY2)
    return bytes(out)


def dense_of(header: bytes | bytearray, registers: bytes) -> bytearray:
    """The dense value with ``registers`` and, but for the encoding, the header that ``header`` begins with."""
    r0, r1, r2, r3 = registers[0::4], registers[1::4], registers[2::4], registers[3::4]
    out = bytearray(DENSE_SIZE)
    out[:HEADER_SIZE] = header[:HEADER_SIZE]
    out[4] = _DENSE
    out[HEADER_SIZE::3] = _joined(r0, r1.translate(_UP6))
    out[HEADER_SIZE + 1 :: 3] = _joined(r1.translate(_BY2), r2.translate(_UP4))
    out[HEADER_SIZE + 2 :: 3] = _joined(r2.translate(_BY4), r3.translate(_UP2))
    return out


def merged(first: bytes, second: bytes) -> bytes:
    """The larger of each two registers, given and returned one a byte."""
    a = int.from_bytes(first, "little")
    b = int.from_bytes(second, "little")
    # In each byte the high bit stays set where a >= b; then it becomes a mask of the seven bits below.
    at_least = ((a | _HIGH_BITS) - b) & _HIGH_BITS
    keep = at_least - (at_least >> 7)
    return (b ^ ((a ^ b) & keep)).to_bytes(REGISTERS, "little")


# -- sparse --------------------------------------------------------------------------------------------------------


def codes(text: bytes | bytearray) -> list[tuple[int, int]]:
    """(value, run length) of each code of a sparse value, value -1 for zeros in a two-byte code."""
    out: list[tuple[int, int]] = []
    at = HEADER_SIZE
    end = len(text)
    while at < end:
        code = text[at]
        at += 1
        if code & _VALUES:
            out.append(((code >> 2 & 31) + 1, (code & 3) + 1))
        elif code & _LONG_ZEROS:
            # A second byte that is missing reads as zero.
            out.append((-1, ((code & 63) << 8 | (text[at] if at < end else 0)) + 1))
            at += 1
        else:
            out.append((0, code + 1))
    return out


def _sparse_registers(text: bytes | bytearray) -> bytes | None:
    out = bytearray()
    for value, run in codes(text):
        if value > 0:
            if len(out) + run > REGISTERS:
                # Upstream forgives values behind the last register where it merges, not where it counts.
                break
            out.extend(bytes((value,)) * run)
        else:
            out.extend(bytes(run))
        if len(out) > REGISTERS:
            return None
    return bytes(out) if len(out) == REGISTERS else None


def _zeros(run: int) -> bytes:
    if run > _ZEROS_MAX:
        return bytes((_LONG_ZEROS | (run - 1) >> 8, (run - 1) & 255))
    return bytes((run - 1,)) if run else b""


def _values(value: int, run: int) -> bytes:
    return bytes((_VALUES | (value - 1) << 2 | (run - 1),)) if run else b""


class SparseEdit:
    """Raises registers of a sparse value held in ``text``; cheaper per register when they come in ascending order."""

    __slots__ = ("before", "first", "text")

    def __init__(self, text: bytearray) -> None:
        self.text = text
        # A code's offset and the first register it stands for: where a later register may be looked for.
        self.before = HEADER_SIZE
        self.first = 0

    def raise_to(self, index: int, rank: int) -> int:
        """Make the register at least ``rank``: CHANGED, UNCHANGED, CORRUPTED, or TOO_LARGE with nothing changed.

        Source: hllSparseSet().
        """
        if rank > _VALUE_MAX:
            return TOO_LARGE
        text = self.text
        end = len(text)
        at, first = self.before, self.first
        if index < first:
            at, first = HEADER_SIZE, 0
        resumed = at
        # Each code's predecessor is where joining starts, so a search must pass at least one.
        previous, previous_first = at, first
        code = run = 0
        while at < end:
            code = text[at]
            if code & _VALUES:
                run = (code & 3) + 1
            elif code & _LONG_ZEROS:
                run = ((code & 63) << 8 | (text[at + 1] if at + 1 < end else 0)) + 1
            else:
                run = code + 1
            if index < first + run:
                break
            previous, previous_first = at, first
            at += 2 if code & 0xC0 == _LONG_ZEROS else 1
            first += run
        if at >= end:
            return CORRUPTED
        if at == resumed and at != HEADER_SIZE:
            self.before, self.first = HEADER_SIZE, 0
            return self.raise_to(index, rank)
        self.before, self.first = previous, previous_first
        if code & _VALUES and (code >> 2 & 31) + 1 >= rank:
            return UNCHANGED
        size = 2 if code & 0xC0 == _LONG_ZEROS else 1
        left, right = index - first, first + run - 1 - index
        if code & _VALUES:
            value = (code >> 2 & 31) + 1
            new = _values(value, left) + _values(rank, 1) + _values(value, right)
        else:
            new = _zeros(left) + _values(rank, 1) + _zeros(right)
        if len(new) > size and end + len(new) - size > SPARSE_MAX:
            return TOO_LARGE
        text[at : at + size] = new
        self._join(previous)
        forget_count(text)
        return CHANGED

    def _join(self, at: int) -> None:
        """Join neighbouring runs of one value, in a few codes from ``at`` on."""
        text = self.text
        left = _JOIN_CODES
        while at < len(text) and left:
            left -= 1
            code = text[at]
            if not code & _VALUES:
                at += 2 if code & _LONG_ZEROS else 1
                continue
            if at + 1 < len(text):
                following = text[at + 1]
                run = (code & 3) + (following & 3) + 2
                if following & _VALUES and following >> 2 == code >> 2 and run <= _VALUES_MAX:
                    text[at : at + 2] = _values((code >> 2 & 31) + 1, run)
                    continue
            at += 1


# -- counting ------------------------------------------------------------------------------------------------------


def histogram(text: bytes | bytearray) -> list[int] | None:
    """How many registers have each value; None when a sparse value is corrupted."""
    if not is_sparse(text):
        registers = registers_of(text)
        assert registers is not None
        return histogram_of(registers)
    counts = [0] * 64
    total = 0
    for value, run in codes(text):
        counts[max(value, 0)] += run
        total += run
    return counts if total == REGISTERS else None


def histogram_of(registers: bytes) -> list[int]:
    """How many of ``registers``, one a byte, have each value."""
    counts = [0] * 64
    left = REGISTERS
    for value in range(64):
        counts[value] = registers.count(value)
        left -= counts[value]
        if not left:
            break
    return counts


def estimate(counts: list[int]) -> int:
    """The cardinality that a histogram stands for. Source: hllCount(), after Ertl, arXiv:1702.01284."""
    m = float(REGISTERS)
    z = m * _tau((m - counts[_RANK_BITS + 1]) / m)
    for value in range(_RANK_BITS, 0, -1):
        z = (z + counts[value]) * 0.5
    z += m * _sigma(counts[0] / m)
    if z == 0.0:
        # Only a forged value has every register at its highest; upstream converts infinity to this.
        return -(1 << 63)
    e = _ALPHA * m * m / z
    whole = int(e)
    return whole + 1 if e - whole >= 0.5 else whole


def _sigma(x: float) -> float:
    if x == 1.0:
        return inf
    y = 1.0
    z = x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if before == z:
            return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y = 1.0
    z = 1 - x
    while True:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) * (1 - x) * y
        if before == z:
            return z / 3
