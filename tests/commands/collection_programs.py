"""Random commands on collections, and the comparison of their replies with a stock server's.

Few keys and few members, so that programs meet the same element again; arguments are wrong now and then, because the
errors and their precedence are part of what must agree. A key ``s`` holds a string, for WRONGTYPE.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from durakv.commands.table import Table
from tests.commands.running import DATA_MODULES, Reference, Run, declarations, parsed

SPLIT_MODULES = (
    "lists_blocking", "sets_algebra", "sorted_sets_algebra", "sorted_sets_blocking", "sorted_sets_range",
)  # fmt: skip
TABLE = Table.freeze(declarations(tuple(dict.fromkeys(DATA_MODULES + SPLIT_MODULES))))

Maker = Callable[[Random], list[str]]
Words = list[str]

KEYS = ("k1", "k2", "k3")
# Members of these keys all have score 0, which BYLEX asks for.
LEX_KEYS = ("x1", "x2")
MEMBERS = ("a", "b", "c", "d", "1", "2", "-3", "")
NUMBERS = ("0", "1", "2", "-1", "-2", "5", "100", "x", "", "9223372036854775807", "3.5")
SCORES = (
    "0", "1", "-1", "2.5", "inf", "-inf", "nan", "1e3", "x", "", "0.1", "3", "-0", "1e-5", "123456789.125", "1e20",
    "1e300", "5e-324", "(1", " 1",
)  # fmt: skip
GOOD_SCORES = ("1", "2", "3", "0.1", "-inf", "inf")
BOUNDS = (
    "-inf", "+inf", "0", "(1", "1", "(2.5", "2.5", "x", "", "(", "(inf", "(-inf", " 1", "nan", "1e999", "0x10",
)  # fmt: skip
LEX_BOUNDS = ("-", "+", "[a", "(a", "[b", "(c", "[", "(", "a", "", "[d")
PATTERNS = ("*", "a*", "[ab]")

# Replies without a defined order.
UNORDERED = frozenset(
    ("HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP", "HRANDFIELD", "SRANDMEMBER",
     "ZRANDMEMBER", "HSCAN", "SSCAN", "ZSCAN")
)  # fmt: skip


def key(dice: Random) -> str:
    return "s" if dice.random() < 0.05 else dice.choice(KEYS)


def lex_key(dice: Random) -> str:
    return dice.choice(LEX_KEYS)


def member(dice: Random) -> str:
    return dice.choice(MEMBERS)


def number(dice: Random) -> str:
    return dice.choice(NUMBERS)


def score(dice: Random) -> str:
    return dice.choice(SCORES)


def several(dice: Random, make: Callable[[Random], str], low: int = 1, high: int = 4) -> Words:
    return [make(dice) for _ in range(dice.randint(low, high))]


def some(dice: Random, *options: str | Maker | Callable[[Random], str]) -> Words:
    """Each option with probability 0.3."""
    out: Words = []
    for option in options:
        if dice.random() < 0.3:
            words = option if isinstance(option, str) else option(dice)
            out += [words] if isinstance(words, str) else words
    return out


def pairs(dice: Random, first: Callable[[Random], str], low: int = 1, high: int = 3) -> Words:
    return [word for _ in range(dice.randint(low, high)) for word in (first(dice), member(dice))]


def numkeys(dice: Random, low: int = 1, high: int = 3) -> Words:
    names = several(dice, key, low, high)
    return [str(len(names)) if dice.random() < 0.9 else number(dice), *names]


def option(word: str, make: Callable[[Random], str] = number) -> Maker:
    return lambda dice: [word, make(dice)]


def limit(dice: Random) -> Words:
    return ["LIMIT", dice.choice(("0", "1", "2", "5", "x")), dice.choice(("0", "1", "-1", "2", "x"))]


def scan_options(dice: Random) -> Words:
    return some(
        dice, option("MATCH", lambda d: d.choice(PATTERNS)), option("COUNT", lambda d: d.choice(("50", "0", "x")))
    )


def keyed(name: str, *parts: Callable[[Random], str]) -> Maker:
    """``NAME key`` and one word for each of ``parts``."""
    return lambda dice: [name, key(dice), *[part(dice) for part in parts]]


HASH: list[Maker] = [
    lambda d: ["HSET", key(d), *pairs(d, member), *(["odd"] if d.random() < 0.05 else [])],
    lambda d: ["HMSET", key(d), *pairs(d, member)],
    keyed("HSETNX", member, number),
    keyed("HINCRBY", member, number),
    keyed("HINCRBYFLOAT", member, lambda d: d.choice(SCORES + NUMBERS)),
    lambda d: ["HDEL", key(d), *several(d, member)],
    keyed("HGET", member),
    lambda d: ["HMGET", key(d), *several(d, member)],
    keyed("HGETALL"),
    keyed("HKEYS"),
    keyed("HVALS"),
    keyed("HLEN"),
    keyed("HSTRLEN", member),
    keyed("HEXISTS", member),
    lambda d: ["HRANDFIELD", key(d), d.choice(("0", "100", "x", "9223372036854775807")), *some(d, "WITHVALUES", "x")],
    lambda d: ["HSCAN", key(d), d.choice(("0", "x")), *scan_options(d)],
]


def side(dice: Random) -> str:
    return dice.choice(("LEFT", "RIGHT", "right", "x"))


LIST: list[Maker] = [
    *[
        (lambda d, name=name: [name, key(d), *several(d, member)])
        for name in ("LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "LPUSH", "RPUSH")
    ],
    *[(lambda d, name=name: [name, key(d), *some(d, number)]) for name in ("LPOP", "RPOP")],
    keyed("LINSERT", lambda d: d.choice(("BEFORE", "after", "x")), member, member),
    keyed("LLEN"),
    keyed("LINDEX", number),
    keyed("LSET", lambda d: d.choice(("0", "-1", "3", "-7", "x")), member),
    keyed("LRANGE", number, number),
    keyed("LRANGE", lambda d: "0", lambda d: "-1"),
    keyed("LTRIM", number, number),
    keyed("LTRIM", lambda d: "0", lambda d: "-2"),
    keyed("LREM", number, member),
    lambda d: ["LPOS", key(d), member(d), *some(d, option("RANK"), option("COUNT"), option("MAXLEN"), "COUNT")],
    keyed("LMOVE", key, side, side),
    keyed("RPOPLPUSH", key),
    lambda d: ["LMPOP", *numkeys(d), side(d), *some(d, option("COUNT"))],
    lambda d: ["BLPOP", *several(d, lambda e: "k1"), d.choice(("x", "-1", ""))],
]
SET: list[Maker] = [
    lambda d: ["SADD", key(d), *several(d, member)],
    lambda d: ["SADD", key(d), *several(d, member)],
    lambda d: ["SREM", key(d), *several(d, member)],
    keyed("SMOVE", key, member),
    lambda d: ["SPOP", key(d), d.choice(("0", "100", "x", "-1")), *some(d, "x")],
    keyed("SISMEMBER", member),
    lambda d: ["SMISMEMBER", key(d), *several(d, member)],
    keyed("SCARD"),
    keyed("SMEMBERS"),
    keyed("SRANDMEMBER", lambda d: d.choice(("0", "100", "x", "9223372036854775807"))),
    *[(lambda d, name=name: [name, *several(d, key)]) for name in ("SINTER", "SUNION", "SDIFF")],
    *[(lambda d, name=name: [name, *several(d, key, 2)]) for name in ("SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE")],
    lambda d: ["SINTERCARD", *numkeys(d), *some(d, option("LIMIT"))],
    lambda d: ["SSCAN", key(d), "0", *some(d, option("MATCH", lambda e: e.choice(PATTERNS)))],
]


def bound(dice: Random) -> str:
    return dice.choice(BOUNDS)


def rank_or_score_range(dice: Random) -> Words:
    if dice.random() < 0.5:
        return [number(dice), number(dice)]
    return [bound(dice), bound(dice), dice.choice(("BYSCORE", "byscore"))]


def combining(dice: Random) -> Words:
    def weights(inner: Random) -> Words:
        return ["WEIGHTS", *several(inner, score, 1, 3)]

    return some(dice, weights, option("AGGREGATE", lambda d: d.choice(("SUM", "MIN", "max", "x"))))


ZSET: list[Maker] = [
    lambda d: ["ZADD", key(d), *some(d, "NX", "XX", "CH", "GT", "LT", "incr"), *pairs(d, score)],
    lambda d: ["ZADD", key(d), *some(d, "CH"), *pairs(d, lambda e: e.choice(GOOD_SCORES))],
    lambda d: ["ZADD", key(d), *pairs(d, lambda e: e.choice(GOOD_SCORES))],
    keyed("ZINCRBY", score, member),
    lambda d: ["ZREM", key(d), *several(d, member)],
    keyed("ZCARD"),
    keyed("ZSCORE", member),
    lambda d: ["ZMSCORE", key(d), *several(d, member)],
    keyed("ZRANK", member),
    keyed("ZREVRANK", member),
    *[(lambda d, name=name: [name, key(d), *some(d, number)]) for name in ("ZPOPMIN", "ZPOPMAX")],
    lambda d: ["ZMPOP", *numkeys(d), d.choice(("MIN", "max", "x")), *some(d, option("COUNT"))],
    lambda d: ["ZRANGE", key(d), *rank_or_score_range(d), *some(d, "REV", "WITHSCORES", limit)],
    lambda d: ["ZRANGE", key(d), "0", "-1", "WITHSCORES"],
    lambda d: ["ZRANGESTORE", key(d), key(d), *rank_or_score_range(d), *some(d, "REV", limit, "WITHSCORES")],
    lambda d: ["ZREVRANGE", key(d), number(d), number(d), *some(d, "WITHSCORES", "REV")],
    *[
        (lambda d, name=name: [name, key(d), bound(d), bound(d), *some(d, "WITHSCORES", limit)])
        for name in ("ZRANGEBYSCORE", "ZREVRANGEBYSCORE")
    ],
    keyed("ZCOUNT", bound, bound),
    keyed("ZREMRANGEBYRANK", number, number),
    keyed("ZREMRANGEBYSCORE", bound, bound),
    *[
        (lambda d, name=name: [name, *numkeys(d), *combining(d), *some(d, "WITHSCORES")])
        for name in ("ZUNION", "ZINTER", "ZDIFF")
    ],
    lambda d: ["ZINTERCARD", *numkeys(d), *some(d, option("LIMIT"))],
    *[
        (lambda d, name=name: [name, key(d), *numkeys(d), *combining(d)])
        for name in ("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE")
    ],
    lambda d: ["ZRANDMEMBER", key(d), d.choice(("0", "100", "x", "9223372036854775807")), *some(d, "WITHSCORES", "x")],
    keyed("SADD", member),
    lambda d: ["ZSCAN", key(d), "0", *some(d, option("MATCH", lambda e: e.choice(PATTERNS)))],
]


def lex_bound(dice: Random) -> str:
    return dice.choice(LEX_BOUNDS)


LEX: list[Maker] = [
    lambda d: ["ZADD", lex_key(d), *pairs(d, lambda e: "0")],
    lambda d: ["ZADD", lex_key(d), *pairs(d, lambda e: "0")],
    lambda d: ["ZREM", lex_key(d), member(d)],
    lambda d: ["ZRANGE", lex_key(d), lex_bound(d), lex_bound(d), "BYLEX", *some(d, "REV", limit, "WITHSCORES")],
    lambda d: ["ZRANGEBYLEX", lex_key(d), lex_bound(d), lex_bound(d), *some(d, limit)],
    lambda d: ["ZREVRANGEBYLEX", lex_key(d), lex_bound(d), lex_bound(d), *some(d, limit)],
    lambda d: ["ZLEXCOUNT", lex_key(d), lex_bound(d), lex_bound(d)],
    lambda d: ["ZREMRANGEBYLEX", lex_key(d), lex_bound(d), lex_bound(d)],
    lambda d: ["ZRANGESTORE", lex_key(d), lex_key(d), lex_bound(d), lex_bound(d), "BYLEX", *some(d, "REV", limit)],
]


def program(dice: Random, makers: list[Maker], length: int) -> list[Words]:
    return [dice.choice(makers)(dice) for _ in range(length)]


def numbers_alike(reply: Any) -> Any:
    """Scores as floats: stock Redis 7 writes 0.1 as 0.10000000000000001, and some zeros with a sign."""
    if isinstance(reply, list):
        return [numbers_alike(item) for item in reply]
    if isinstance(reply, bytes):
        try:
            return float(reply) + 0.0
        except ValueError:
            return reply
    return reply


def comparable(words: Words, reply: Any) -> Any:
    if words[0].startswith("Z"):
        reply = numbers_alike(reply)
    if words[0] in UNORDERED and isinstance(reply, list):
        if words[0].endswith("SCAN"):
            return [reply[0], sorted(reply[1], key=repr)]
        return sorted(reply, key=repr)
    return reply


def assert_alike(commands: list[Words], reference: Reference) -> None:
    """Run ``commands`` here, undoing and redoing every write, and on ``reference``; every reply must be equal."""
    run = Run(TABLE)
    run.check_undo = True
    run.wctx.can_block = False
    reference("FLUSHALL")
    reference("SET", "s", "v")
    run("SET", "s", "v")
    for i, words in enumerate(commands):
        ours = comparable(words, parsed(run.wire(*words)))
        theirs = comparable(words, reference(*words))
        assert ours == theirs, f"{commands[: i + 1]}: ours {ours!r}, theirs {theirs!r}"
