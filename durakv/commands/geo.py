"""GEOADD, GEOPOS, GEODIST and GEOHASH: positions kept as the scores of a sorted set.

Rule: positions become scores here and nowhere else, and are added by ZADD itself. Searches are in geo_search.
"""

from __future__ import annotations

from typing import Final

from durakv.commands import geohash
from durakv.commands.args import parse_double
from durakv.commands.context import ReadContext, WriteContext
from durakv.commands.sorted_sets import zadd
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.values.zset import ZSet
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import NULL_ARRAY, HumanDouble, Reply

COMMANDS: Final = Commands("geo")

UNSUPPORTED_UNIT: Final = "ERR unsupported unit provided. please use M, KM, FT, MI"

_KEY_RO: Final = "RO|ACCESS@i1+r0/1/0"
_UNITS: Final[dict[bytes, float]] = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}


def parse_position(longitude_text: bytes, latitude_text: bytes) -> tuple[float, float]:
    """(longitude, latitude) in degrees. Raises CommandError. Source: geo.c extractLongLatOrReply()."""
    longitude = parse_double(longitude_text)
    latitude = parse_double(latitude_text)
    if abs(longitude) > geohash.LONGITUDE_MAX or abs(latitude) > geohash.LATITUDE_MAX:
        raise CommandError(f"ERR invalid longitude,latitude pair {longitude:f},{latitude:f}")
    return longitude, latitude


def parse_unit(text: bytes) -> float:
    """Metres in one of the unit. Raises CommandError. Source: geo.c extractUnitOrReply()."""
    metres = _UNITS.get(text.upper())
    if metres is None:
        raise CommandError(UNSUPPORTED_UNIT)
    return metres


def distance_text(distance: float) -> bytes:
    """Four decimals, scaled and rounded as a double. Source: util.c fixedpoint_d2string()."""
    scaled = round(distance * 10000.0)
    return b"%d.%04d" % (scaled // 10000, scaled % 10000)


def coordinate(degrees: float) -> Reply:
    """Up to seventeen decimals without trailing zeros, a double in RESP3. Source: util.c ld2string()."""
    text = (b"%.17f" % degrees).rstrip(b"0").rstrip(b".")
    return HumanDouble(b"0" if text == b"-0" else text)


@COMMANDS.write("GEOADD", arity=-5, since="3.2.0", flags="denyoom", keys="RW|UPDATE@i1+r0/1/0",
                summary="Adds positions to a sorted set, or moves them.",
                complexity="O(log(N)) per position, N the size of the sorted set")  # fmt: skip
def geoadd(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many are new, or moved too with CH. Source: geo.c geoaddCommand()."""
    first = 2
    options = []
    while first < len(argv):
        word = argv[first].upper()
        if word not in (b"NX", b"XX", b"CH"):
            break
        options.append(word)
        first += 1
    if (len(argv) - first) % 3 or (b"NX" in options and b"XX" in options):
        raise CommandError(SYNTAX)
    words = [b"ZADD", argv[1], *options]
    for i in range(first, len(argv), 3):
        longitude, latitude = parse_position(argv[i], argv[i + 1])
        words.append(b"%d" % geohash.score_of(longitude, latitude))
        words.append(argv[i + 2])
    return zadd(ctx, words)


@COMMANDS.read("GEOPOS", arity=-2, since="3.2.0", keys=_KEY_RO, complexity="O(1) per member",
               summary="Returns longitude and latitude of members.")  # fmt: skip
def geopos(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of pairs, or null arrays. Source: geo.c geoposCommand()."""
    value = ctx.db.typed(argv[1], ZSet)
    out: list[Reply] = []
    for i in range(2, len(argv)):
        score = None if value is None else value.score(argv[i])
        if score is None:
            out.append(NULL_ARRAY)
        else:
            longitude, latitude = geohash.position_of(score)
            out.append([coordinate(longitude), coordinate(latitude)])
    return out


@COMMANDS.read("GEODIST", arity=-4, since="3.2.0", keys=_KEY_RO,
               summary="Returns the distance between two members.")  # fmt: skip
def geodist(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk, or null without one of them. Source: geo.c geodistCommand()."""
    if len(argv) > 5:
        raise CommandError(SYNTAX)
    metres = parse_unit(argv[4]) if len(argv) == 5 else 1.0
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return None
    first, second = value.score(argv[2]), value.score(argv[3])
    if first is None or second is None:
        return None
    longitude1, latitude1 = geohash.position_of(first)
    longitude2, latitude2 = geohash.position_of(second)
    return distance_text(geohash.FAST.distance_m(longitude1, latitude1, longitude2, latitude2) / metres)


@COMMANDS.read("GEOHASH", arity=-2, since="3.2.0", keys=_KEY_RO, complexity="O(1) per member",
               summary="Returns the geohash text of members.")  # fmt: skip
def geohash_(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of bulks or nulls. Source: geo.c geohashCommand()."""
    value = ctx.db.typed(argv[1], ZSet)
    out: list[Reply] = []
    for i in range(2, len(argv)):
        score = None if value is None else value.score(argv[i])
        out.append(None if score is None else geohash.text_of(score))
    return out
