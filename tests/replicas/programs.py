"""Random commands that change large collections of every type in place, and move them about."""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random

_Make = Callable[[Random], list[object]]


def _many(dice: Random, most: int = 5) -> list[int]:
    return [dice.randrange(400) for _ in range(dice.randint(1, most))]


def _fields(dice: Random) -> list[object]:
    return [word for n in _many(dice) for word in (f"f{n}", dice.randrange(1000))]


def _scores(dice: Random) -> list[object]:
    return [w for n in _many(dice) for w in (dice.choice((dice.random() * 1e9, dice.randrange(99), "-inf")), f"m{n}")]


def _key(kind: str) -> Callable[[Random], str]:
    return lambda dice: f"{kind}{dice.randrange(2)}"


H, L, S, Z, X, T = (_key(kind) for kind in "hlszxt")

_ENTRIES = "local id for i = 1, ARGV[1] do id = redis.call('XADD', KEYS[1], '*', 'a', i) end return id"

_OF_TYPES: dict[str, list[_Make]] = {
    "h": [
        lambda d: ["HSET", H(d), *_fields(d)],
        lambda d: ["HSET", H(d), *[w for n in range(60) for w in (f"f{n}", d.randrange(9))]],
        lambda d: ["HDEL", H(d), *[f"f{n}" for n in _many(d, 20)]],
        lambda d: ["HINCRBY", H(d), f"f{d.randrange(400)}", 3],
        lambda d: ["HPEXPIRE", H(d), d.choice((20, 100_000)), "FIELDS", 1, f"f{d.randrange(60)}"],
        lambda d: ["HPERSIST", H(d), "FIELDS", 1, f"f{d.randrange(60)}"],
    ],
    "l": [
        lambda d: ["RPUSH", L(d), *_many(d)],
        lambda d: ["LPUSH", L(d), *_many(d)],
        lambda d: ["RPUSH", L(d), *[d.randrange(99) for _ in range(90)]],
        lambda d: ["LPOP", L(d), d.choice((1, 3, 60))],
        lambda d: ["RPOP", L(d), d.choice((1, 3, 60))],
        lambda d: ["LSET", L(d), d.randrange(-30, 30), d.randrange(1000)],
        lambda d: ["LSET", L(d), d.randrange(-30, 30), "x" * d.randrange(3000)],
        lambda d: ["LTRIM", L(d), d.randrange(5), -d.randrange(1, 6)],
        lambda d: ["LTRIM", L(d), 0, d.randrange(100)],
        lambda d: ["LREM", L(d), d.randrange(-2, 2), d.randrange(99)],
        lambda d: ["LINSERT", L(d), "BEFORE", d.randrange(99), "new"],
        lambda d: ["LMOVE", L(d), L(d), d.choice(("LEFT", "RIGHT")), d.choice(("LEFT", "RIGHT"))],
    ],
    "s": [
        lambda d: ["SADD", S(d), *_many(d)],
        lambda d: ["SADD", S(d), *[f"m{n}" for n in range(90)]],
        lambda d: ["SREM", S(d), *_many(d), *[f"m{n}" for n in _many(d)]],
        lambda d: ["SPOP", S(d), d.choice((1, 2, 40))],
        lambda d: ["SMOVE", S(d), S(d), f"m{d.randrange(90)}"],
        lambda d: ["SDIFFSTORE", S(d), S(d), S(d)],
        lambda d: ["SUNIONSTORE", S(d), S(d), S(d)],
    ],
    "z": [
        lambda d: ["ZADD", Z(d), *_scores(d)],
        lambda d: ["ZADD", Z(d), *[w for n in range(60) for w in (n, f"m{n}")]],
        lambda d: ["ZREM", Z(d), *[f"m{n}" for n in _many(d, 20)]],
        lambda d: ["ZINCRBY", Z(d), 0.1, f"m{d.randrange(60)}"],
        lambda d: ["ZPOPMIN", Z(d), d.choice((1, 20))],
        lambda d: ["ZREMRANGEBYRANK", Z(d), 0, d.randrange(3)],
        lambda d: ["ZRANGESTORE", Z(d), Z(d), 0, d.randrange(90)],
    ],
    "x": [
        *[lambda d: ["EVAL", _ENTRIES, 1, X(d), d.choice((20, 150))]] * 2,
        *[lambda d: ["XADD", X(d), "*", "a", d.randrange(9), "b", "x" * d.randrange(90)]] * 6,
        lambda d: ["XADD", X(d), "MAXLEN", d.choice("=~"), d.randrange(300), "*", "other", 1],
        lambda d: ["XADD", X(d), f"{d.choice((5, 6))}-*", "old", 1],
        lambda d: ["XTRIM", X(d), "MAXLEN", d.choice("=~"), d.randrange(300)],
        lambda d: ["XGROUP", "CREATE", X(d), f"g{d.randrange(3)}", d.choice(("0", "$")), "MKSTREAM"],
        lambda d: ["XGROUP", "DESTROY", X(d), f"g{d.randrange(3)}"],
        lambda d: ["XGROUP", "SETID", X(d), f"g{d.randrange(3)}", d.choice(("0", "$"))],
        lambda d: ["XGROUP", "CREATECONSUMER", X(d), f"g{d.randrange(3)}", f"c{d.randrange(3)}"],
        lambda d: ["XGROUP", "DELCONSUMER", X(d), f"g{d.randrange(3)}", f"c{d.randrange(3)}"],
        *[
            lambda d: ["XREADGROUP", "GROUP", f"g{d.randrange(3)}", f"c{d.randrange(3)}", "COUNT", d.randrange(1, 30),
                       *d.choice(([], ["NOACK"])), "STREAMS", X(d), ">"]
        ] * 4,
        lambda d: ["XAUTOCLAIM", X(d), f"g{d.randrange(3)}", f"c{d.randrange(3)}", 0, "0", "COUNT", 5],
        lambda d: ["XSETID", X(d), f"{d.choice((9_000_000_000_000, 9_100_000_000_000))}-1"],
    ],
    "t": [
        lambda d: ["SETRANGE", T(d), d.randrange(200_000), "x" * d.randrange(50_000)],
        lambda d: ["APPEND", T(d), "y" * d.randrange(90_000)],
        lambda d: ["SETBIT", T(d), d.randrange(2_000_000), 1],
        lambda d: ["SET", T(d), "z" * d.choice((10, 70_000))],
        lambda d: ["SET", T(d), "z" * 70_000, "KEEPTTL"],
        lambda d: ["GETDEL", T(d)],
    ],
}  # fmt: skip
KINDS = tuple(_OF_TYPES)

_ANY: list[_Make] = [
    lambda d: ["DEL", d.choice((H, L, S, Z, X, T))(d)],
    lambda d: ["RENAME", d.choice((H, L, S, Z, X, T))(d), d.choice((H, L, S, Z, X, T))(d)],
    lambda d: ["COPY", d.choice((H, L, S, Z, X, T))(d), d.choice((H, L, S, Z, X, T))(d), "REPLACE"],
    lambda d: ["MOVE", d.choice((H, L, S, Z, X, T))(d), d.randrange(3)],
    lambda d: ["PEXPIRE", d.choice((H, L, S, Z, X, T))(d), d.choice((30, 100_000, 200_000))],
    lambda d: ["PERSIST", d.choice((H, L, S, Z, X, T))(d)],
]
_RARE: list[_Make] = [
    lambda d: ["SWAPDB", d.randrange(3), d.randrange(3)],
    lambda d: ["FLUSHDB"],
    lambda d: ["FLUSHALL"],
    lambda d: ["SELECT", d.randrange(3)],
    lambda d: ["MULTI"],
    lambda d: ["EXEC"],
    lambda d: ["FUNCTION", "LOAD", "REPLACE", f"#!lua name=lib{d.randrange(3)}\n" + _FUNCTION % d.randrange(99)],
    lambda d: ["FUNCTION", "DELETE", f"lib{d.randrange(3)}"],
    lambda d: ["EVAL", "redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[2], 'x') return redis.call('NONE')", 2,
               *[d.choice((H, L, S, Z, X, T))(d) for _ in "ab"]],
]  # fmt: skip
_FUNCTION = "redis.register_function('f%d', function() return 1 end)"


def program(kind: str, dice: Random, length: int) -> Generator[list[bytes], object, None]:
    """Commands mostly of one type, ``length`` of them; whoever sends back replies gets more that find something."""
    recent: list[bytes] = []
    for _ in range(length):
        what = dice.random()
        if kind == "x" and what < 0.12 and recent:
            verb = dice.choice((["XDEL", X(dice)], ["XACK", X(dice), f"g{dice.randrange(3)}"]))
            some = [dice.choice(recent[-40:]) for _ in range(dice.randint(1, 9))]
            yield [*[word.encode() for word in verb], *some]
            continue
        made = dice.choice(_RARE if what > 0.97 else _ANY if what > 0.9 else _OF_TYPES[kind])(dice)
        answer = yield [word if isinstance(word, bytes) else str(word).encode() for word in made]
        if isinstance(answer, bytes) and made[0] in ("XADD", "EVAL") and b"-" in answer:
            # And those just before it.
            ms, seq = answer.split(b"-")
            recent += [b"%b-%d" % (ms, n) for n in range(max(0, int(seq) - 30), int(seq) + 1)]
