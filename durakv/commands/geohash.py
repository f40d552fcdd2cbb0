"""Positions on the globe as 52-bit numbers, distances between them, and the cells that cover an area.

A position's bits alternate between longitude and latitude, so that near positions mostly have near numbers: a sorted
set with these numbers as scores finds a neighbourhood in a few ranges. Degrees and metres throughout.
Rule: encoding and decoding use only additions, multiplications and divisions, which every machine rounds alike; what
goes through sines and cosines does so only in EXACT, see Globe.
It knows neither keys nor replies. Source: valkey geohash.c, geohash_helper.c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from durakv.commands import exact_trig

_Wave: TypeAlias = Callable[[float], float]

LONGITUDE_MAX: Final = 180.0
# The limits of web Mercator: the poles have no number.
LATITUDE_MAX: Final = 85.05112878
STEP_MAX: Final = 26

_EARTH_RADIUS_M: Final = 6372797.560856
_MERCATOR_MAX_M: Final = 20037726.37
_RADIANS: Final = math.pi / 180.0
_LATITUDE_BITS: Final = 0x5555555555555555
_LONGITUDE_BITS: Final = 0xAAAAAAAAAAAAAAAA
_SCORE_BITS: Final = 52
_UINT32: Final = (1 << 32) - 1
_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
_SPREAD: Final = (
    (16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)  # fmt: skip
_GATHER: Final = (
    (1, 0x3333333333333333), (2, 0x0F0F0F0F0F0F0F0F), (4, 0x00FF00FF00FF00FF), (8, 0x0000FFFF0000FFFF),
    (16, 0x00000000FFFFFFFF),
)  # fmt: skip


class Bounds(NamedTuple):
    """A rectangle in degrees; ends beyond the globe, infinite or NaN mean that there is no such end."""

    west: float
    south: float
    east: float
    north: float


class Cell(NamedTuple):
    """The positions whose first ``2 * step`` bits are ``bits``."""

    bits: int
    step: int

    def scores(self) -> tuple[int, int]:
        """Scores [first, last) of the positions in the cell."""
        shift = _SCORE_BITS - 2 * self.step
        return self.bits << shift, (self.bits + 1) << shift

    def moved(self, east: int, north: int) -> Cell:
        """The cell next to this one; each direction is -1, 0 or 1, and the globe wraps around."""
        spare = 64 - 2 * self.step
        x = self.bits & _LONGITUDE_BITS
        y = self.bits & _LATITUDE_BITS
        # The other coordinate's bits are filled so that a carry passes over them.
        if east:
            fill = _LATITUDE_BITS >> spare
            x = x + fill + 1 if east > 0 else (x | fill) - (fill + 1)
            x &= _LONGITUDE_BITS >> spare
        if north:
            fill = _LONGITUDE_BITS >> spare
            y = y + fill + 1 if north > 0 else (y | fill) - (fill + 1)
            y &= _LATITUDE_BITS >> spare
        return Cell(x | y, self.step)


# -- numbers -------------------------------------------------------------------------------------------------------


def _spread(x: int) -> int:
    """The low 32 bits at the even positions."""
    for shift, mask in _SPREAD:
        x = (x | x << shift) & mask
    return x


def _gathered(x: int) -> int:
    """The bits at the even positions, together."""
    x &= _LATITUDE_BITS
    for shift, mask in _GATHER:
        x = (x | x >> shift) & mask
    return x


def encode(longitude: float, latitude: float, step: int, latitude_max: float = LATITUDE_MAX) -> Cell:
    """The cell around a position within the limits."""
    y = (latitude - -latitude_max) / (latitude_max - -latitude_max) * (1 << step)
    x = (longitude - -LONGITUDE_MAX) / (LONGITUDE_MAX - -LONGITUDE_MAX) * (1 << step)
    return Cell(_spread(int(y)) | _spread(int(x)) << 1, step)


def score_of(longitude: float, latitude: float) -> int:
    """The number a position is stored as."""
    return encode(longitude, latitude, STEP_MAX).bits


def bounds_of(cell: Cell) -> Bounds:
    """The rectangle a cell covers."""
    latitude, longitude = _gathered(cell.bits), _gathered(cell.bits >> 1)
    size = 1 << cell.step
    return Bounds(
        -LONGITUDE_MAX + (longitude / size) * (2 * LONGITUDE_MAX),
        -LATITUDE_MAX + (latitude / size) * (2 * LATITUDE_MAX),
        -LONGITUDE_MAX + ((longitude + 1 & _UINT32) / size) * (2 * LONGITUDE_MAX),
        -LATITUDE_MAX + ((latitude + 1 & _UINT32) / size) * (2 * LATITUDE_MAX),
    )


def position_of(score: float) -> tuple[float, float]:
    """(longitude, latitude) of the middle of the cell that a score, of any origin, stands for."""
    area = bounds_of(Cell(_as_uint64(score), STEP_MAX))
    longitude = (area.west + area.east) / 2
    latitude = (area.south + area.north) / 2
    return (
        max(min(longitude, LONGITUDE_MAX), -LONGITUDE_MAX),
        max(min(latitude, LATITUDE_MAX), -LATITUDE_MAX),
    )


def _as_uint64(score: float) -> int:
    """A double converted as upstream's processors do it, scores that no position has included."""
    if math.isinf(score):
        return 0 if score > 0 else 1 << 63
    number = int(score)
    if number < -(1 << 63):
        return 1 << 63
    return number & (1 << 64) - 1 if number < 1 << 64 else 0


def text_of(score: float) -> bytes:
    """The eleven letters of the common geohash, of which the last is always 0."""
    longitude, latitude = position_of(score)
    # The common form divides all 180 degrees of latitude.
    bits = encode(longitude, latitude, STEP_MAX, 90.0).bits
    return bytes(_ALPHABET[bits >> shift & 31] for shift in range(47, 1, -5)) + b"0"


# -- distances -----------------------------------------------------------------------------------------------------


def latitude_distance_m(first: float, second: float) -> float:
    """Between two latitudes on one meridian."""
    return _EARTH_RADIUS_M * abs(second * _RADIANS - first * _RADIANS)


class Globe:
    """Distances by one set of trigonometric functions: the machine's (FAST), or those every machine agrees on (EXACT).

    What a replicated command stores must come from EXACT; replies need not.
    """

    __slots__ = ("_asin", "_atan2", "_cos", "_sin")

    def __init__(self, sin: _Wave, cos: _Wave, asin: _Wave, atan2: Callable[[float, float], float]) -> None:
        self._sin = sin
        self._cos = cos
        self._asin = asin
        self._atan2 = atan2

    def distance_m(self, longitude1: float, latitude1: float, longitude2: float, latitude2: float) -> float:
        """Along the great circle, by the haversine formula."""
        v = self._sin((longitude2 * _RADIANS - longitude1 * _RADIANS) / 2)
        if v == 0.0:
            return latitude_distance_m(latitude1, latitude2)
        y1 = latitude1 * _RADIANS
        y2 = latitude2 * _RADIANS
        u = self._sin((y2 - y1) / 2)
        a = u * u + self._cos(y1) * self._cos(y2) * v * v
        # Rounding may carry antipodes a little beyond 1.
        return 2.0 * _EARTH_RADIUS_M * self._asin(math.sqrt(min(a, 1.0)))

    def bounds_around(self, longitude: float, latitude: float, half_width_m: float, half_height_m: float) -> Bounds:
        """A rectangle in degrees around a position that holds all within those distances of it to each side."""
        up = half_height_m / _EARTH_RADIUS_M / _RADIANS
        # The parallel nearer to the pole is the shorter one, so the same way covers more degrees there.
        parallel = latitude - up if latitude < 0 else latitude + up
        shrunk = self._cos(parallel * _RADIANS) if math.isfinite(parallel) else math.nan
        across = half_width_m / _EARTH_RADIUS_M / shrunk / _RADIANS
        return Bounds(longitude - across, latitude - up, longitude + across, latitude + up)

    def centre_of(self, vertices: list[tuple[float, float]]) -> tuple[float, float]:
        """(longitude, latitude) of the mean of positions as points of the globe."""
        x = y = z = 0.0
        for longitude, latitude in vertices:
            across = longitude * _RADIANS
            up = latitude * _RADIANS
            x += _EARTH_RADIUS_M * self._cos(up) * self._cos(across)
            y += _EARTH_RADIUS_M * self._cos(up) * self._sin(across)
            z += _EARTH_RADIUS_M * self._sin(up)
        n = len(vertices)
        x, y, z = x / n, y / n, z / n
        return self._atan2(y, x) / _RADIANS, self._atan2(z, math.sqrt(x * x + y * y)) / _RADIANS


FAST: Final = Globe(math.sin, math.cos, math.asin, math.atan2)
EXACT: Final = Globe(exact_trig.sin, exact_trig.cos, exact_trig.asin, exact_trig.atan2)


# -- covering an area ----------------------------------------------------------------------------------------------


def _step_for(reach_m: float, latitude: float) -> int:
    """How fine cells may be so that one and its eight neighbours cover ``reach_m`` around ``latitude``.

    Source: geohashEstimateStepsByRadius().
    """
    if reach_m == 0:
        return STEP_MAX
    step = -1
    while reach_m < _MERCATOR_MAX_M:
        reach_m *= 2
        step += 1
    # Cells are narrower towards the poles.
    if abs(latitude) > 66:
        step -= 2 if abs(latitude) > 80 else 1
    return min(max(step, 1), STEP_MAX)


def cells_covering(longitude: float, latitude: float, reach_m: float, bounds: Bounds) -> list[Cell]:
    """The cell of a position, then those of its neighbours that ``bounds`` touch, in upstream's order of search.

    Source: geohashCalculateAreasByShapeWGS84(), membersOfAllNeighbors().
    """
    latitude = max(min(latitude, LATITUDE_MAX), -LATITUDE_MAX)
    step = _step_for(reach_m, latitude)
    centre = encode(longitude, latitude, step)
    if step > 1 and (
        bounds_of(centre.moved(0, 1)).north < bounds.north
        or bounds_of(centre.moved(0, -1)).south > bounds.south
        or bounds_of(centre.moved(1, 0)).east < bounds.east
        or bounds_of(centre.moved(-1, 0)).west > bounds.west
    ):
        step -= 1
        centre = encode(longitude, latitude, step)
    area = bounds_of(centre)
    fine = step >= 2
    skip_south = fine and area.south < bounds.south
    skip_north = fine and area.north > bounds.north
    skip_west = fine and area.west < bounds.west
    skip_east = fine and area.east > bounds.east
    found = [centre]
    last: Cell | None = None
    for east, north in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)):
        if (skip_north and north > 0) or (skip_south and north < 0):
            continue
        if (skip_east and east > 0) or (skip_west and east < 0):
            continue
        cell = centre.moved(east, north)
        # With very large areas neighbours on both sides are the same.
        if cell != last:
            found.append(cell)
            last = cell
    return found
