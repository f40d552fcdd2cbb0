"""GEOSEARCH and the GEORADIUS family: the members within a circle, a box or a polygon, replied or stored.

Rule: a request is read whole before the set is searched; every form ends in Search.found(). Members at equal distance
stay in the order in which the cells were searched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import sqrt
from typing import Final

from durakv.commands import geohash
from durakv.commands.args import parse_count, parse_double, parse_int64
from durakv.commands.collection import store_result
from durakv.commands.context import NOTIFY_ZSET, ReadContext, WriteContext
from durakv.commands.geo import coordinate, distance_text, parse_position, parse_unit
from durakv.commands.geohash import Bounds, Globe
from durakv.commands.spec import Argv, Commands
from durakv.commands.table import shown
from durakv.keyspace.keyspace import Db
from durakv.keyspace.values.zset import ZSet
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Reply

COMMANDS: Final = Commands("geo")

NOT_A_POSITION: Final = "ERR could not decode requested zset member"
NEED_RADIUS: Final = "ERR need numeric radius"
NEED_WIDTH: Final = "ERR need numeric width"
NEED_HEIGHT: Final = "ERR need numeric height"
NEGATIVE_RADIUS: Final = "ERR radius cannot be negative"
NEGATIVE_BOX: Final = "ERR height or width cannot be negative"
BAD_VERTICES: Final = "ERR invalid number of vertices"
FEW_VERTICES: Final = "ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"
COUNT_NOT_POSITIVE: Final = "ERR COUNT must be > 0"
ANY_NEEDS_COUNT: Final = "ERR the ANY argument requires COUNT argument"

_KEY_RO: Final = "RO|ACCESS@i1+r0/1/0"
_COST: Final = "O(N+log(M)), N the members near the area and M the size of the sorted set"
_INT_MAX: Final = (1 << 31) - 1
# Nearer to an edge than this, two machines' libraries might not agree which side a position is on: near antipodes the
# last bit of a sine is decimetres.
_DOUBT_M: Final = 1.0

_AROUND_POSITION: Final = 0
_AROUND_MEMBER: Final = 1
_SEARCH: Final = 2
_SEARCH_STORE: Final = 3

_ASC: Final = 1
_DESC: Final = 2


# -- areas ---------------------------------------------------------------------------------------------------------


class Area(ABC):
    """What is searched; lengths are in units of ``unit_m`` metres, distances always in metres."""

    def __init__(self, unit_m: float) -> None:
        self.unit_m = unit_m
        self.globe: Globe = geohash.FAST
        self.longitude = 0.0
        self.latitude = 0.0

    def place(self, globe: Globe, centre: tuple[float, float] | None) -> None:
        """Say by whose distances the area is meant and, unless its shape does, where its centre is."""
        self.globe = globe
        if centre is not None:
            self.longitude, self.latitude = centre

    @abstractmethod
    def bounds(self) -> Bounds:
        """Degrees that hold the whole area."""

    @abstractmethod
    def reach_m(self) -> float:
        """How far from the centre the area goes."""

    @abstractmethod
    def holds(self, longitude: float, latitude: float) -> bool:
        """Whether a position is inside."""

    def distance_m(self, longitude: float, latitude: float) -> float:
        """From the centre."""
        return self.globe.distance_m(self.longitude, self.latitude, longitude, latitude)


class Circle(Area):
    """All within a radius."""

    def __init__(self, radius: float, unit_m: float) -> None:
        super().__init__(unit_m)
        self.radius = radius

    def bounds(self) -> Bounds:
        half = self.unit_m * self.radius
        return self.globe.bounds_around(self.longitude, self.latitude, half, half)

    def reach_m(self) -> float:
        return self.radius * self.unit_m

    def holds(self, longitude: float, latitude: float) -> bool:
        radius_m = self.radius * self.unit_m
        rough_m = geohash.FAST.distance_m(self.longitude, self.latitude, longitude, latitude)
        if self.globe is geohash.FAST or abs(rough_m - radius_m) > _DOUBT_M:
            return rough_m <= radius_m
        return self.distance_m(longitude, latitude) <= radius_m


class Box(Area):
    """All within half a height north and south, and half a width along the position's own parallel."""

    def __init__(self, width: float, height: float, unit_m: float) -> None:
        super().__init__(unit_m)
        self.width = width
        self.height = height

    def bounds(self) -> Bounds:
        half_width, half_height = self.unit_m * (self.width / 2), self.unit_m * (self.height / 2)
        return self.globe.bounds_around(self.longitude, self.latitude, half_width, half_height)

    def reach_m(self) -> float:
        x, y = self.width / 2, self.height / 2
        return sqrt(x * x + y * y) * self.unit_m

    def holds(self, longitude: float, latitude: float) -> bool:
        if geohash.latitude_distance_m(latitude, self.latitude) > self.height * self.unit_m / 2:
            return False
        half_m = self.width * self.unit_m / 2
        rough_m = geohash.FAST.distance_m(longitude, latitude, self.longitude, latitude)
        if self.globe is geohash.FAST or abs(rough_m - half_m) > _DOUBT_M:
            return rough_m <= half_m
        return self.globe.distance_m(longitude, latitude, self.longitude, latitude) <= half_m


class Polygon(Area):
    """All inside straight edges between vertices on the map; its centre is the mean of the vertices."""

    def __init__(self, vertices: list[tuple[float, float]]) -> None:
        super().__init__(1.0)
        self.vertices = vertices

    def place(self, globe: Globe, centre: tuple[float, float] | None) -> None:
        super().place(globe, globe.centre_of(self.vertices))

    def bounds(self) -> Bounds:
        longitudes = [vertex[0] for vertex in self.vertices]
        latitudes = [vertex[1] for vertex in self.vertices]
        return Bounds(min(longitudes), min(latitudes), max(longitudes), max(latitudes))

    def reach_m(self) -> float:
        west, south, east, north = self.bounds()
        return max(self.distance_m(x, y) for x in (west, east) for y in (south, north))

    def holds(self, longitude: float, latitude: float) -> bool:
        """By counting the edges to the east. Source: geohashGetDistanceIfInPolygon()."""
        inside = False
        bx, by = self.vertices[-1]
        for ax, ay in self.vertices:
            crosses = (ay > latitude) != (by > latitude)
            if crosses and longitude < (bx - ax) * (latitude - ay) / (by - ay) + ax:
                inside = not inside
            bx, by = ax, ay
        return inside


class Point:
    """A member found."""

    __slots__ = ("distance_m", "latitude", "longitude", "member", "score")

    def __init__(self, member: bytes, score: float, longitude: float, latitude: float, distance_m: float) -> None:
        self.member = member
        self.score = score
        self.longitude = longitude
        self.latitude = latitude
        self.distance_m = distance_m


# -- requests ------------------------------------------------------------------------------------------------------


def _parse_circle(radius_text: bytes, unit_text: bytes) -> Circle:
    radius = parse_double(radius_text, NEED_RADIUS)
    if radius < 0:
        raise CommandError(NEGATIVE_RADIUS)
    return Circle(radius, parse_unit(unit_text))


def _parse_box(width_text: bytes, height_text: bytes, unit_text: bytes) -> Box:
    width = parse_double(width_text, NEED_WIDTH)
    height = parse_double(height_text, NEED_HEIGHT)
    if height < 0 or width < 0:
        raise CommandError(NEGATIVE_BOX)
    return Box(width, height, parse_unit(unit_text))


def _parse_polygon(argv: Argv, at: int) -> Polygon:
    """From the number of vertices at ``argv[at]`` on."""
    count = parse_count(argv[at], -_INT_MAX - 1, _INT_MAX, BAD_VERTICES)
    if count < 3 or (len(argv) - at - 1) // 2 < count:
        raise CommandError(FEW_VERTICES)
    first = at + 1
    return Polygon([parse_position(argv[i], argv[i + 1]) for i in range(first, first + 2 * count, 2)])


class Search:
    """One request, read and checked. ``store`` is the key to store at, or None. Source: geo.c georadiusGeneric()."""

    def __init__(self, db: Db, argv: Argv, form: int, *, may_store: bool) -> None:
        """``may_store``: the GEORADIUS forms take STORE and STOREDIST. Raises CommandError."""
        self.value = db.typed(argv[2 if form == _SEARCH_STORE else 1], ZSet)
        self.form = form
        self.may_store = may_store
        self.store: bytes | None = argv[1] if form == _SEARCH_STORE else None
        self.store_distance = False
        self.with_distance = self.with_hash = self.with_position = False
        self.order = 0
        self.count = 0
        self.any = False
        self.area: Area | None = None
        self.from_member = False
        self.centre: tuple[float, float] | None = None
        self._options(argv, self._fixed(argv))
        self._check(argv)

    def _fixed(self, argv: Argv) -> int:
        """Read what stands before the options; returns where they begin."""
        if self.form == _AROUND_POSITION:
            self.centre = parse_position(argv[2], argv[3])
            self.area = _parse_circle(argv[4], argv[5])
            return 6
        if self.form == _AROUND_MEMBER:
            # Without the key neither member nor radius matters, only whether to store.
            if self.value is not None:
                self.centre = self._position_of(argv[2])
                self.area = _parse_circle(argv[3], argv[4])
            return 5
        return 3 if self.form == _SEARCH_STORE else 2

    def _position_of(self, member: bytes) -> tuple[float, float] | None:
        if self.value is None:
            return None
        score = self.value.score(member)
        if score is None:
            raise CommandError(NOT_A_POSITION)
        return geohash.position_of(score)

    def _options(self, argv: Argv, start: int) -> None:
        i = start
        while i < len(argv):
            word = argv[i].upper()
            left = len(argv) - i - 1
            if word == b"WITHDIST":
                self.with_distance = True
            elif word == b"WITHHASH":
                self.with_hash = True
            elif word == b"WITHCOORD":
                self.with_position = True
            elif word == b"ANY":
                self.any = True
            elif word == b"ASC":
                self.order = _ASC
            elif word == b"DESC":
                self.order = _DESC
            elif word == b"COUNT" and left >= 1:
                self.count = parse_int64(argv[i + 1])
                if self.count <= 0:
                    raise CommandError(COUNT_NOT_POSITIVE)
                i += 1
            elif word in (b"STORE", b"STOREDIST") and left >= 1 and self.may_store:
                self.store = argv[i + 1]
                self.store_distance = word == b"STOREDIST"
                i += 1
            elif word == b"STOREDIST" and self.form == _SEARCH_STORE:
                self.store_distance = True
            elif self.form in (_SEARCH, _SEARCH_STORE):
                i += self._area_option(argv, i, word, left)
            else:
                raise CommandError(SYNTAX)
            i += 1

    def _area_option(self, argv: Argv, i: int, word: bytes, left: int) -> int:
        """One of GEOSEARCH's own options at ``argv[i]``; how many arguments it has."""
        polygon = isinstance(self.area, Polygon)
        if word == b"FROMMEMBER" and left >= 1 and (self.centre is None or self.from_member) and not polygon:
            self.centre = self._position_of(argv[i + 1])
            self.from_member = True
            return 1
        if word == b"FROMLONLAT" and left >= 2 and not self.from_member and not polygon:
            self.centre = parse_position(argv[i + 1], argv[i + 2])
            return 2
        if word == b"BYRADIUS" and left >= 2 and (self.area is None or isinstance(self.area, Circle)):
            self.area = _parse_circle(argv[i + 1], argv[i + 2])
            return 2
        if word == b"BYBOX" and left >= 3 and (self.area is None or isinstance(self.area, Box)):
            self.area = _parse_box(argv[i + 1], argv[i + 2], argv[i + 3])
            return 3
        placed = self.centre is not None or self.from_member
        if word == b"BYPOLYGON" and left >= 2 and (self.area is None or polygon) and not placed:
            shape = _parse_polygon(argv, i + 1)
            self.area = shape
            return 1 + 2 * len(shape.vertices)
        raise CommandError(SYNTAX)

    def _check(self, argv: Argv) -> None:
        if self.store is not None and (self.with_distance or self.with_hash or self.with_position):
            what = "GEOSEARCHSTORE" if self.form == _SEARCH_STORE else "STORE option in GEORADIUS"
            raise CommandError(f"ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
        if self.form in (_SEARCH, _SEARCH_STORE):
            placed = self.centre is not None or self.from_member or isinstance(self.area, Polygon)
            if not placed:
                raise CommandError(f"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {shown(argv[0])}")
            if self.area is None:
                raise CommandError(
                    f"ERR exactly one of BYRADIUS, BYBOX and BYPOLYGON can be specified for {shown(argv[0])}"
                )
        if self.any and not self.count:
            raise CommandError(ANY_NEEDS_COUNT)

    def found(self) -> list[Point]:
        """The members asked for, in the order asked for."""
        value, area = self.value, self.area
        if value is None or area is None:
            return []
        # What is stored must be the same on every node.
        area.place(geohash.FAST if self.store is None else geohash.EXACT, self.centre)
        needs_distance = self.order or self.count or self.store_distance or self.with_distance
        limit = self.count if self.any else 0
        points: list[Point] = []
        for cell in geohash.cells_covering(area.longitude, area.latitude, area.reach_m(), area.bounds()):
            if limit and len(points) >= limit:
                break
            first, last = cell.scores()
            for score, member in value.slice(value.below(float(first)), value.below(float(last))):
                longitude, latitude = geohash.position_of(score)
                if area.holds(longitude, latitude):
                    distance_m = area.distance_m(longitude, latitude) if needs_distance else 0.0
                    points.append(Point(member, score, longitude, latitude, distance_m))
                    if limit and len(points) >= limit:
                        break
        order = self.order
        # The first ones of no order would be any ones, which is what ANY is for.
        if self.count and not order and not self.any:
            order = _ASC
        if order == _ASC:
            points.sort(key=lambda point: point.distance_m)
        elif order == _DESC:
            points.sort(key=lambda point: -point.distance_m)
        return points[: self.count] if self.count else points

    def reply(self) -> Reply:
        """What a search answers that stores nothing."""
        out: list[Reply] = []
        for point in self.found():
            if not (self.with_distance or self.with_hash or self.with_position):
                out.append(point.member)
                continue
            item: list[Reply] = [point.member]
            if self.with_distance:
                item.append(distance_text(point.distance_m / self.unit_m()))
            if self.with_hash:
                item.append(int(point.score))
            if self.with_position:
                item.append([coordinate(point.longitude), coordinate(point.latitude)])
            out.append(item)
        return out

    def unit_m(self) -> float:
        """Metres in one unit of the distances asked for."""
        assert self.area is not None
        return self.area.unit_m

    def stored(self, ctx: WriteContext) -> Reply:
        """Store what is found, or reply it when there is no key to store at."""
        if self.store is None:
            return self.reply()
        scores: dict[bytes, float] = {}
        for point in self.found():
            scores[point.member] = point.distance_m / self.unit_m() if self.store_distance else point.score
        value = ZSet()
        value.fill(scores)
        event = b"geosearchstore" if self.form == _SEARCH_STORE else b"georadiusstore"
        return store_result(ctx, self.store, value, len(scores), NOTIFY_ZSET, event)


# -- the commands --------------------------------------------------------------------------------------------------


@COMMANDS.read("GEOSEARCH", arity=-7, since="6.2.0", keys=_KEY_RO, complexity=_COST,
               summary="Returns the members inside a circle, box or polygon.")  # fmt: skip
def geosearch(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array, nested with WITH options. Source: geo.c geosearchCommand()."""
    return Search(ctx.db, argv, _SEARCH, may_store=False).reply()


@COMMANDS.write("GEOSEARCHSTORE", arity=-8, since="6.2.0", flags="denyoom",
                keys="OW|UPDATE@i1+r0/1/0 RO|ACCESS@i2+r0/1/0", complexity=_COST,
                summary="Stores the members inside a circle, box or polygon.")  # fmt: skip
def geosearchstore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: geo.c geosearchstoreCommand()."""
    return Search(ctx.db, argv, _SEARCH_STORE, may_store=False).stored(ctx)


@COMMANDS.write("GEORADIUS", arity=-6, since="3.2.0", flags="denyoom",
                keys="RO|ACCESS@i1+r0/1/0 OW|UPDATE@kw:STORE@6+r0/1/0 OW|UPDATE@kw:STOREDIST@6+r0/1/0",
                complexity=_COST, summary="Returns or stores the members within a radius of a position.")  # fmt: skip
def georadius(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: as GEOSEARCH, or with STORE the size of the result. Source: geo.c georadiusCommand()."""
    return Search(ctx.db, argv, _AROUND_POSITION, may_store=True).stored(ctx)


@COMMANDS.write("GEORADIUSBYMEMBER", arity=-5, since="3.2.0", flags="denyoom",
                keys="RO|ACCESS@i1+r0/1/0 OW|UPDATE@kw:STORE@5+r0/1/0 OW|UPDATE@kw:STOREDIST@5+r0/1/0",
                complexity=_COST, summary="Returns or stores the members within a radius of a member.")  # fmt: skip
def georadiusbymember(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: as GEOSEARCH, or with STORE the size of the result. Source: geo.c georadiusbymemberCommand()."""
    return Search(ctx.db, argv, _AROUND_MEMBER, may_store=True).stored(ctx)


@COMMANDS.read("GEORADIUS_RO", arity=-6, since="3.2.10", keys=_KEY_RO, complexity=_COST,
               summary="Returns the members within a radius of a position.")  # fmt: skip
def georadius_ro(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: as GEOSEARCH. Source: geo.c georadiusroCommand()."""
    return Search(ctx.db, argv, _AROUND_POSITION, may_store=False).reply()


@COMMANDS.read("GEORADIUSBYMEMBER_RO", arity=-5, since="3.2.10", keys=_KEY_RO, complexity=_COST,
               summary="Returns the members within a radius of a member.")  # fmt: skip
def georadiusbymember_ro(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: as GEOSEARCH. Source: geo.c georadiusbymemberroCommand()."""
    return Search(ctx.db, argv, _AROUND_MEMBER, may_store=False).reply()
