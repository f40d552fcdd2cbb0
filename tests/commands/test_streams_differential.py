"""Random stream programs: every reply, byte for byte in RESP2 and RESP3, is a stock server's; every write undoes."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

import hiredis
import pytest

from durakv.commands.table import Table
from durakv.keyspace.digest import canonical_value
from durakv.keyspace.values.streamrdb import TYPE_7_2
from tests.commands.running import DATA_MODULES, Reference, Run, as_bytes, declarations

TABLE = Table.freeze(declarations(DATA_MODULES))

Words = list[str]
Maker = Callable[[Random], Words]

GROUPS = ("g1", "g2")
CONSUMERS = ("c1", "c2", "c3")
ODD_IDS = (
    "-", "+", "$", ">", "", "x", "1-", "-1", "1-x", "(1-0", "(", "(-", "(x", " 2", "+3", "007", "1- 2", "1--5", "1--05",
    "0x1", "18446744073709551615", "18446744073709551616", "18446744073709551615-18446744073709551615", "1-*", "0-*",
    "18446744073709551615-*", "3-18446744073709551615", "(0-0", "(18446744073709551615-18446744073709551615", "0",
    "0-0",
    "1" * 127, "0" * 100 + "1", "0" * 130, "-1-1", "1-1-1", "9223372036854775808", "1\0002",
)  # fmt: skip
NUMBERS = ("0", "1", "2", "5", "-1", "100", "x", "", "9223372036854775807", "9223372036854775808", "3.5", "-7")
FIELDS = ("a", "b", "7", "", "x" * 70)
VALUES = ("1", "-4097", "v", "", "w" * 64, "9223372036854775807", "00", "y" * 130)


def key(dice: Random) -> str:
    return dice.choice(("k1", "k1", "k1", "k2", "k2", "s") if dice.random() < 0.1 else ("k1", "k1", "k2"))


def entry_id(dice: Random) -> str:
    if dice.random() < 0.06:
        return dice.choice(ODD_IDS)
    return f"{dice.randint(0, 9)}-{dice.randint(0, 4)}" if dice.random() < 0.9 else str(dice.randint(0, 9))


def bound(dice: Random) -> str:
    if dice.random() < 0.3:
        return dice.choice("-+")
    return ("(" if dice.random() < 0.25 else "") + entry_id(dice)


def number(dice: Random) -> str:
    return dice.choice(NUMBERS[:6] if dice.random() < 0.9 else NUMBERS)


def some(dice: Random, chance: float, *makers: Callable[[Random], Words]) -> Words:
    return [word for make in makers if dice.random() < chance for word in make(dice)]


def pairs(dice: Random) -> Words:
    count = dice.choice((1, 1, 1, 2, 3))
    words = [word for _ in range(count) for word in (dice.choice(FIELDS), dice.choice(VALUES))]
    return words[: -1 if dice.random() < 0.02 else None]


def case(dice: Random, word: str) -> str:
    return word.lower() if dice.random() < 0.1 else word


def trimming(dice: Random) -> Words:
    how = dice.choice(("MAXLEN", "MINID"))
    words = [case(dice, how), *dice.choice(([], ["="], ["~"], ["~"]))]
    words.append(number(dice) if how == "MAXLEN" else entry_id(dice))
    return words + some(dice, 0.15, lambda d: ["LIMIT", number(d)])


def xadd(dice: Random) -> Words:
    options = some(dice, 0.1, lambda d: ["NOMKSTREAM"], trimming, lambda d: ["LIMIT", number(d)], trimming)
    which = dice.random()
    if which < 0.75:
        new = f"{dice.randint(0, 30)}-{dice.choice('*****01')}"
    elif which < 0.95:
        new = entry_id(dice)
    else:
        new = dice.choice(ODD_IDS)
    return ["XADD", key(dice), *options, new, *pairs(dice)]


def ids(dice: Random) -> Words:
    return [entry_id(dice) for _ in range(dice.choice((1, 1, 2, 3, 10)))]


def group(dice: Random) -> str:
    return dice.choice(GROUPS) if dice.random() < 0.97 else "none"


def consumer(dice: Random) -> str:
    return dice.choice(CONSUMERS)


def streams(dice: Random, new: str) -> Words:
    names = [key(dice) for _ in range(dice.choice((1, 1, 2)))]
    words = ["STREAMS", *names, *[new if dice.random() < 0.6 else entry_id(dice) for _ in names]]
    return words[: -1 if dice.random() < 0.02 else None]


def count(dice: Random) -> Words:
    return [case(dice, "COUNT"), number(dice)]


def xread(dice: Random) -> Words:
    odd = some(dice, 0.02, lambda d: ["GROUP", "g1", "c1"], lambda d: ["NOACK"], lambda d: ["BLOCK"], lambda d: ["x"])
    return ["XREAD", *some(dice, 0.3, count), *odd, *streams(dice, dice.choice(("$", "0", "5-1")))]


def xreadgroup(dice: Random) -> Words:
    named = ["GROUP", group(dice), consumer(dice)] if dice.random() < 0.97 else ["COUNT", "1", "NOACK"]
    rest = some(dice, 0.2, lambda d: ["NOACK"], count, lambda d: ["x"] if d.random() < 0.05 else [])
    return ["XREADGROUP", *named, *rest, *streams(dice, ">")]


def claim_options(dice: Random) -> Words:
    return some(
        dice, 0.15, lambda d: ["FORCE"], lambda d: ["JUSTID"], lambda d: ["IDLE", d.choice(("0", "100000", "-5", "x"))],
        lambda d: ["TIME", d.choice(("0", "1700000000000", "99999999999999", "-1", "x"))],
        lambda d: ["RETRYCOUNT", number(d)], lambda d: ["LASTID", entry_id(d)], lambda d: ["force"],
        lambda d: ["BAD"] if d.random() < 0.1 else [],
    )  # fmt: skip


def xclaim(dice: Random) -> Words:
    idle = dice.choice(("0", "0", "0", "50000", "-1", "x"))
    return ["XCLAIM", key(dice), group(dice), consumer(dice), idle, *ids(dice), *claim_options(dice)]


def xautoclaim(dice: Random) -> Words:
    options = some(dice, 0.3, count, lambda d: ["JUSTID"], lambda d: ["x"] if d.random() < 0.05 else [])
    idle = dice.choice(("0", "0", "50000", "-1", "x"))
    return ["XAUTOCLAIM", key(dice), group(dice), consumer(dice), idle, bound(dice), *options]


def xpending(dice: Random) -> Words:
    words = ["XPENDING", key(dice), group(dice)]
    if dice.random() < 0.3:
        return words
    words += some(dice, 0.3, lambda d: ["IDLE", d.choice(("0", "50000", "x"))])
    words += [bound(dice), bound(dice), number(dice)]
    return words + some(dice, 0.3, lambda d: [d.choice((*CONSUMERS, "c9"))])


def xgroup(dice: Random) -> Words:
    sub = dice.choice(("CREATE", "CREATE", "CREATE", "SETID", "DESTROY", "CREATECONSUMER", "DELCONSUMER", "x"))
    words = ["XGROUP", case(dice, sub), key(dice), group(dice)]
    if sub in ("CREATE", "SETID"):
        words.append("$" if dice.random() < 0.3 else entry_id(dice))
        words += some(dice, 0.3, lambda d: ["MKSTREAM"]) if dice.random() < 0.9 else some(dice, 0.5, lambda d: ["x"])
        words += some(dice, 0.2, lambda d: ["ENTRIESREAD", number(d)])
    elif sub != "DESTROY":
        words.append(consumer(dice))
    return words


def xsetid(dice: Random) -> Words:
    options = some(
        dice, 0.3, lambda d: ["ENTRIESADDED", number(d)], lambda d: ["MAXDELETEDID", entry_id(d)],
        lambda d: ["x"] if d.random() < 0.05 else [],
    )  # fmt: skip
    return ["XSETID", key(dice), entry_id(dice) if dice.random() < 0.5 else f"{dice.randint(9, 40)}-0", *options]


def xinfo(dice: Random) -> Words:
    sub = dice.choice(("STREAM", "STREAM", "GROUPS", "CONSUMERS", "FULL", "x", "HELP"))
    if sub == "FULL":
        return ["XINFO", "STREAM", key(dice), case(dice, "FULL"), *some(dice, 0.5, count)]
    if sub == "HELP":
        return ["XINFO" if dice.random() < 0.5 else "XGROUP", "HELP"]
    return ["XINFO", sub, key(dice), *([group(dice)] if sub == "CONSUMERS" else []), *some(dice, 0.03, lambda d: ["x"])]


MAKERS: list[tuple[int, Maker]] = [
    (20, xadd),
    (4, lambda d: ["XDEL", key(d), *ids(d)]),
    (3, lambda d: ["XTRIM", key(d), *trimming(d), *some(d, 0.1, trimming, lambda e: ["LIMIT", number(e)])]),
    (2, xsetid),
    (1, lambda d: ["XLEN", key(d)]),
    (4, lambda d: [d.choice(("XRANGE", "XREVRANGE")), key(d), bound(d), bound(d), *some(d, 0.3, count)]),
    (4, xread),
    (12, xreadgroup),
    (5, xgroup),
    (4, lambda d: ["XACK", key(d), group(d), *ids(d)]),
    (5, xpending),
    (6, xclaim),
    (5, xautoclaim),
    (5, xinfo),
    (1, lambda d: ["DEL", key(d)] if d.random() < 0.2 else ["COPY", "k1", "k2", "REPLACE"]),
    (1, lambda d: ["TYPE", key(d)]),
    (1, lambda d: ["OBJECT", "ENCODING", key(d)]),
    (1, lambda d: ["RENAME", "k2", "k1"] if d.random() < 0.2 else ["EXISTS", key(d)]),
]


def program(dice: Random, length: int) -> list[Words]:
    makers = [make for weight, make in MAKERS for _ in range(weight)]
    return [["SET", "s", "v"], *[dice.choice(makers)(dice) for _ in range(length)]]


class Wire:
    """One connection's raw replies."""

    def __init__(self, stock: Reference, protocol: int) -> None:
        self.socket = stock.socket
        stock("FLUSHALL")
        self.send(["HELLO", str(protocol)])

    def send(self, words: list[Any]) -> bytes:
        argv: tuple[Any, ...] = tuple(as_bytes(word) for word in words)
        self.socket.sendall(hiredis.pack_command(argv))
        reader = hiredis.Reader()
        raw = b""
        while True:
            data = self.socket.recv(1 << 16)
            assert data
            raw += data
            reader.feed(data)
            if reader.gets() is not False:
                return raw


def decoded(wire: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(wire)
    return reader.gets()


def as_dict(flat: Any) -> dict[bytes, Any]:
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def timeless(value: Any) -> Any:
    """Moments (not small numbers) replaced."""
    if isinstance(value, list):
        return [timeless(item) for item in value]
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items()}
    if isinstance(value, int) and 1_600_000_000_000 < value < 99_000_000_000_000:
        return "moment"
    return value


def comparable(words: Words, wire: bytes) -> Any:
    """The reply without what depends on the moment."""
    name, value = words[0], decoded(wire)
    if not isinstance(value, list | dict):
        return wire
    if name == "XPENDING" and len(words) > 3:
        return [[item[0], item[1], item[2] >= 50_000, item[3]] for item in value]
    if name == "XINFO" and words[1] == "CONSUMERS":
        found = [as_dict(item) for item in value]
        return [[c[b"name"], c[b"pending"], c[b"idle"] < 50_000, c[b"inactive"] == -1] for c in found]
    if name == "XINFO" and len(words) > 3:
        return timeless(value)
    return wire


def unlike_redis_7(words: Words, theirs: bytes) -> bool:
    """Where Redis 7.0 is known to answer otherwise than Valkey 9."""
    if words[0] == "XINFO" and (words[1] != "STREAM" or len(words) > 3):
        return True
    # It creates consumers only when there is something for them.
    return (
        (words[0] == "XGROUP" and words[1].upper() in ("CREATECONSUMER", "DELCONSUMER"))
        or words[:2] == ["XGROUP", "HELP"]
        or b"Unbalanced" in theirs
        or b"NOGROUP" in theirs
        or (words[0] in ("XREAD", "XREADGROUP") and "+" in words)
    )


def assert_alike(commands: list[Words], stock: Reference, protocol: int) -> Run:
    run = Run(TABLE)
    run.check_undo = True
    run.wctx.can_block = False
    wire = Wire(stock, protocol)
    try:
        for i, words in enumerate(commands):
            if words[0] == "XSETID" and stock.name == "redis-server":
                # It looks at other ids before it agrees.
                continue
            run.now_ms = int(time.time() * 1000)
            theirs = wire.send(words)
            ours = run.wire(*words, protocol=protocol)
            if stock.name == "redis-server" and unlike_redis_7(words, theirs):
                continue
            told = commands[max(0, i - 30) : i + 1]
            assert comparable(words, ours) == comparable(words, theirs), f"{stock.name}: {told}"
    finally:
        wire.send(["HELLO", "2"])
    return run


def full(raw: Any) -> Any:
    """XINFO STREAM FULL as nested dicts of everything but the moments of creation."""
    facts = as_dict(raw)
    facts[b"groups"] = [as_dict(item) for item in facts[b"groups"]]
    for item in facts[b"groups"]:
        item[b"consumers"] = [as_dict(one) for one in item[b"consumers"]]
    return facts


@pytest.mark.live
@pytest.mark.parametrize("seed", range(40))
def test_replies_are_a_stock_servers(seed: int, stock: Reference) -> None:
    dice = Random(seed)
    run = assert_alike(program(dice, 150), stock, 2 + seed % 2)
    for name in ("k1", "k2"):
        payload = run("DUMP", name)
        if payload is None or isinstance(run("XLEN", name), str):
            continue
        restored = stock("RESTORE", "copy", 0, payload, "REPLACE")
        if stock.name == "redis-server" and payload[0] == TYPE_7_2:
            assert restored == "ERR DUMP payload version or checksum are wrong"
            continue
        assert restored == b"OK"
        if stock.name == "valkey-server":
            ours = full(decoded(run.wire("XINFO", "STREAM", name, "FULL", "COUNT", 0)))
            assert ours == full(stock("XINFO", "STREAM", "copy", "FULL", "COUNT", 0))
        assert run("RESTORE", "copy", 0, stock("DUMP", "copy"), "REPLACE").text == b"OK"
        db = run.ks.dbs[0]
        assert canonical_value(db.peek(b"copy")) == canonical_value(db.peek(name.encode()))


def bulk(dice: Random) -> list[Words]:
    """Many entries, small and large, so that streams have several nodes."""
    commands: list[Words] = []
    ms = 0
    step = dice.choice((0, 1, 300, 70_000, 1 << 40))
    for _ in range(dice.randint(3, 9)):
        size = dice.choice((0, 1, 10, 60, 300, 1500, 5000))
        fields = dice.choice((["f"], ["f", "g"], ["7", "x" * 80]))
        for _ in range(dice.randint(1, 130)):
            ms += dice.randint(0, step)
            words = ["XADD", "k1", f"{ms}-*"]
            if dice.random() < 0.05:
                words[2:2] = ["MAXLEN", "~", str(dice.randint(0, 300))]
            for field in fields if dice.random() < 0.9 else ["other"]:
                words += [field, dice.choice(("1", "-300", "v" * size))]
            commands.append(words)
        for _ in range(dice.randint(0, 4)):
            at = str(dice.randint(0, ms))
            commands.append(dice.choice([
                ["XTRIM", "k1", "MAXLEN", "~", str(dice.randint(0, 400))], ["XTRIM", "k1", "MINID", "~", at],
                ["XTRIM", "k1", "MINID", at], ["XTRIM", "k1", "MAXLEN", str(dice.randint(100, 900))],
                ["XTRIM", "k1", "MAXLEN", "~", "0", "LIMIT", str(dice.choice((1, 30, 100, 250)))],
            ]))  # fmt: skip
        commands.append(["XRANGE", "k1", "-", "+", "COUNT", "40"])
        commands.append(["XREVRANGE", "k1", "+", str(dice.randint(0, ms)), "COUNT", "40"])
        commands.append(["XINFO", "STREAM", "k1"])
    return commands


@pytest.mark.live
@pytest.mark.parametrize("seed", range(12))
def test_nodes_are_cut_and_trimmed_as_a_stock_servers(seed: int, stock: Reference) -> None:
    dice = Random(1000 + seed)
    wire = Wire(stock, 2)
    run = Run(TABLE)
    for words in bulk(dice):
        assert run.wire(*words) == wire.send(words), words
        if words[0] == "XINFO":
            found = [item[0] for item in decoded(wire.send(["XRANGE", "k1", "-", "+"]))]
            gone = dice.sample(found, dice.randint(0, len(found)))
            for _ in range(2):
                some_ids = gone[: dice.choice((1, 5, 200))]
                if some_ids:
                    assert run.wire("XDEL", "k1", *some_ids) == wire.send(["XDEL", "k1", *some_ids])
            assert run.wire("XINFO", "STREAM", "k1") == wire.send(["XINFO", "STREAM", "k1"])
    assert run.wire("XRANGE", "k1", "-", "+") == wire.send(["XRANGE", "k1", "-", "+"])
    # The nodes themselves: lengths, ids and counters follow them in the payload.
    payload = run("DUMP", "k1")
    if payload is not None and stock.name == "redis-server":
        assert payload == stock("DUMP", "k1") or b"\xc3" in stock("DUMP", "k1")
