"""The words that templates draw: keys that collide, members, numbers good and bad, values at encoding thresholds.

Rule: every moment that may hold is absolute and far ahead, so that two servers store the same; what is relative is
either refused by both or hours away.
"""

from __future__ import annotations

from random import Random

from tests.commands.campaign.grammar import Vocabulary, Word

FAR_S = 4_000_000_000
FAR_MS = FAR_S * 1000
INTEGERS = (
    "9223372036854775807", "-9223372036854775808", "9223372036854775808", "2147483648", "-2147483649", "007", "+5",
    "-0", "", " 1", "1 ", "x", "1.0", "1_0", "0x10", "1e3", "99999999999999999999",
)  # fmt: skip
FLOATS = (
    "1.5", "-0.1", "3e2", "inf", "-inf", "+inf", "nan", "1e400", "1e-400", "0x10", ".5", "5.", "", "x", "1e5000", " 1",
    "1 ", "+3", "0.1", "1e17", "123456789.123456789", "-1e-18", "1e-17", "3.0e3", "1e20", "1e300", "5e-324", "-0",
    "0.30000000000000004", "17179869184.5", "infinity", "-nan",
)  # fmt: skip
SCORES = (
    "0", "1", "2", "3", "-1", "2.5", "0.1", "1e3", "-0", "1e-5", "123456789.125", "1e20", "3.0000000000000004", "100",
    "-2.75", "17", "5", "42",
)  # fmt: skip
ODD_SCORES = ("inf", "-inf", "nan", "x", "", "(1", " 1", "1e300", "5e-324", "1e-400", "0x1p3", "1e999")
BOUNDS = (
    "-inf", "+inf", "-inf", "+inf", "0", "(1", "1", "(2.5", "2.5", "3", "(3", "100", "x", "", "(", "(inf", "(-inf",
    " 1", "nan", "1e999", "0x10",
)  # fmt: skip
LEX_BOUNDS = ("-", "+", "-", "+", "[a", "(a", "[b", "(c", "[m5", "(m50", "[m9", "[", "(", "a", "", "[d", "(x")
TEXTS = ("a", "b", "c", "d", "ab", "1", "2", "10", "-3", "", "é", "x y", "\0\xff", "field", "1.5", "B", "007", "1e2")
LONG = ("x" * 44, "y" * 45, "z" * 64, "w" * 65, "v" * 300, "1" * 20, "1" * 21, "9" * 19)
OFFSETS = ("0", "1", "2", "3", "5", "7", "-1", "-2", "-3", "-8", "10", "100", "-100")
COUNTS = ("0", "1", "2", "3", "5", "10", "1000", "-1", "x", "", "9223372036854775807", "3.5")
PATTERNS = ("*", "a*", "?", "[ab]*", "[^a]", "m1*", "k?", "\\*", "*x*", "", "[a-c]", "f*[0-9]", "[", "a**b", "\\")
BIT_OFFSETS = ("0", "1", "7", "8", "9", "15", "16", "63", "64", "100", "511", "1000", "-1", "x", "", "4294967296", "#1")
LENGTHS = ("0", "1", "44", "45", "64", "65", "128", "255", "256", "512", "3000")


def one(*words: str) -> Word:
    return lambda dice: dice.choice(words)


def mostly(good: Word, odd: Word, chance: float = 0.06) -> Word:
    """``good``, but for some cases."""
    return lambda dice: odd(dice) if dice.random() < chance else good(dice)


def between(low: int, high: int) -> Word:
    return lambda dice: str(dice.randint(low, high))


def member(dice: Random) -> str:
    """From a few to a few hundred different ones, some that are integers, some long."""
    roll = dice.random()
    if roll < 0.45:
        return dice.choice(TEXTS)
    if roll < 0.75:
        return f"m{dice.randint(0, 9)}"
    if roll < 0.85:
        return str(dice.randint(-20, 60))
    return dice.choice(LONG) if roll < 0.9 else f"m{dice.randint(0, 400)}"


def value(dice: Random) -> str | bytes:
    roll = dice.random()
    if roll < 0.3:
        return str(dice.randint(-20, 1100))
    if roll < 0.5:
        return dice.choice(TEXTS)
    if roll < 0.65:
        return dice.choice(INTEGERS)
    if roll < 0.8:
        return dice.choice(FLOATS)
    if roll < 0.9:
        return dice.choice(LONG)
    return dice.randbytes(dice.randint(0, 12))


def modest(dice: Random) -> str | bytes:
    """A value that no C function reads as out of range: upstream's SORT takes that for its own error afterwards."""
    while True:
        found = value(dice)
        raw = found.encode() if isinstance(found, str) else found
        if b"e" not in raw and not (len(raw) > 18 and raw.strip(b"+-").isdigit()):
            return found


def lon(dice: Random) -> str:
    # Few places, so that distances of zero and ties occur.
    if dice.random() < 0.4:
        return dice.choice(("13.361389", "15.087269", "-73.9", "0", "179.9", "-180"))
    return f"{dice.uniform(-20, 40):.{dice.randint(0, 9)}f}"


def lat(dice: Random) -> str:
    if dice.random() < 0.4:
        return dice.choice(("38.115556", "37.502669", "40.7", "0", "85.05112878", "-85"))
    return f"{dice.uniform(20, 60):.{dice.randint(0, 9)}f}"


def stream_id(dice: Random) -> str:
    if dice.random() < 0.05:
        return dice.choice(ODD_IDS)
    return f"{dice.randint(0, 40)}-{dice.randint(0, 4)}" if dice.random() < 0.85 else str(dice.randint(0, 40))


def stream_bound(dice: Random) -> str:
    if dice.random() < 0.35:
        return dice.choice("-+")
    return ("(" if dice.random() < 0.25 else "") + stream_id(dice)


ODD_IDS = (
    "-", "+", "$", ">", "", "x", "1-", "-1", "1-x", "(1-0", "(", "(-", " 2", "+3", "007", "1--5", "0x1", "0-0", "0",
    "18446744073709551615", "18446744073709551616", "18446744073709551615-18446744073709551615", "1-1-1", "0-*",
    "18446744073709551615-*", "9223372036854775808",
)  # fmt: skip
# Words that take the place of others in bad input. None of them is a size that fills a server's memory.
ODD = (
    *INTEGERS, "0", "1", "2", "3", "-1", "100", "100000", "nan", "inf", "-inf", "a", "b", "c", "-", "+", "[a", "(a",
    "(1", "$", ">", "=", "~", "#", "*", "\0\r\n", "NX", "XX", "GT", "LT", "CH", "INCR", "GET", "KEEPTTL", "EX", "PX",
    "EXAT", "PXAT", "PERSIST", "WITHSCORES", "WITHVALUES", "WITHSCORE", "LIMIT", "COUNT", "MATCH", "STORE", "STOREDIST",
    "BYSCORE", "BYLEX", "REV", "ASC", "DESC", "ALPHA", "BY", "WEIGHTS", "AGGREGATE", "SUM", "MIN", "MAX", "LEFT",
    "RIGHT", "BEFORE", "AFTER", "RANK", "MAXLEN", "MINID", "LEN", "IDX", "STREAMS", "GROUP", "ID", "JUSTID", "ANY",
    "FROMMEMBER", "FROMLONLAT", "BYRADIUS", "BYBOX", "km", "m", "WITHDIST", "WITHCOORD", "WITHHASH", "REPLACE", "AND",
    "OR", "NOT", "XOR", "BIT", "BYTE", "u8", "i16", "SET", "INCRBY", "OVERFLOW", "FAIL", "SAT", "WRAP", "NOMKSTREAM",
    "ENTRIESREAD", "DB", "TYPE", "NOVALUES", "MINMATCHLEN", "k1", "k2", "k3", "s", "none", "",
)  # fmt: skip


def words_of(prefix: str = "k", wrong: str = "s") -> dict[str, Word]:
    """The words every type uses; ``wrong`` is a key of another type."""
    names = (f"{prefix}1", f"{prefix}2", f"{prefix}3")

    def key(dice: Random) -> str:
        roll = dice.random()
        if roll < 0.94:
            return dice.choice(names)
        return wrong if roll < 0.97 else dice.choice(("none", "", "\0\r\n", f"{{{names[0]}}}x"))

    def numkeys(dice: Random) -> str:
        return dice.choice(("2", "2", "2", "2", "2", "2", "2", "1", "3", "0", "-1", "x"))

    return {
        "key": key, "other": key, "newkey": one(*names, "out", "out"), "member": member, "value": value,
        "text": one(*TEXTS), "int": mostly(between(-20, 20), one(*INTEGERS), 0.2),
        "index": mostly(between(-5, 12), one("x", "", "1.0", "100", "-100")),
        "float": mostly(lambda d: f"{d.uniform(-1000, 1000):.{d.randint(0, 12)}f}", one(*FLOATS), 0.5),
        "score": mostly(one(*SCORES), one(*ODD_SCORES)), "bound": one(*BOUNDS), "lex": one(*LEX_BOUNDS),
        "offset": mostly(one(*OFFSETS), one(*INTEGERS)), "count": one(*COUNTS), "small": one("0", "1", "2", "3", "5"),
        "pattern": one(*PATTERNS), "numkeys": numkeys, "anyrank": mostly(between(-5, 12), one(*INTEGERS), 0.05),
        "far": mostly(between(FAR_S, FAR_S + 5), one("1", "0", "-1", "x", "", "9223372036854775807")),
        "farms": mostly(between(FAR_MS, FAR_MS + 5000), one("1", "0", "-1", "x", "", "9223372036854775807")),
        "badrel": one("0", "-1", "x", "", "9223372036854775807", "1.5", "-9223372036854775808"),
        "when": one("NX", "XX", "GT", "LT"), "side": mostly(one("LEFT", "RIGHT"), one("x", "left", "")),
        "bitoffset": one(*BIT_OFFSETS), "bit": mostly(one("0", "1"), one("2", "x", "", "-1", "01")),
        "lon": mostly(lon, one("x", "181", "-200", "nan", "inf", "")), "length": one(*LENGTHS),
        "lat": mostly(lat, one("x", "86", "-90", "nan", "inf", "")), "id": stream_id, "sbound": stream_bound,
        "radius": mostly(one("1", "100", "500", "5000", "20000", "0"), one("x", "-1", "nan", "inf", "1e10", "")),
        "unit": mostly(one("m", "km", "ft", "mi"), one("x", "KM", "")),
        "tiny": one("0.01", "0.02", "-1", "x", "", "nan"),
        "cursor": mostly(one("0"), one("x", "-1", "", "99999999999999999999", " 0", "+0"), 0.08),
        "all": mostly(one("10000", "100000"), one("0", "-1", "x", "")), "minmax": mostly(one("MIN", "MAX"), one("x")),
        "fill": lambda d: f"m{d.randint(0, 400)}", "fillint": between(-400, 400), "fillnum": between(0, 30),
    }  # fmt: skip


SHARED: Vocabulary = words_of()
