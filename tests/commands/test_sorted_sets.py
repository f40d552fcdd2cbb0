"""Sorted-set commands: events, RESP3, Valkey's newer options, waiting, chance, and keys that empty."""

from __future__ import annotations

import math
from random import Random

import pytest

from durakv.commands.table import Table
from durakv.keyspace import journal
from durakv.keyspace.values.zset import ZSet
from durakv.resp.types import NULL_ARRAY, Parked
from tests.commands.collection_programs import TABLE
from tests.commands.running import Failed, Run

WRONGTYPE = Failed("WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = Failed("ERR syntax error")


@pytest.fixture(scope="module")
def table() -> Table:
    return TABLE


def prepare(run: Run) -> None:
    run("SET", "s", "v")
    run("ZADD", "z", "1", "a", "2", "b", "3", "c")
    run("ZADD", "y", "5", "b")
    run("SADD", "p", "b", "c")
    run.events.clear()


@pytest.mark.parametrize(("command", "events"), [
    ("ZADD n 1 a", "new n, zadd n"), ("ZADD z 1 a", ""), ("ZADD z 1 a 9 b", "zadd z"), ("ZADD z NX 9 a", ""),
    ("ZADD z XX 9 a", "zadd z"), ("ZADD n XX 1 a", ""), ("ZADD z INCR 1 a", "zincr z"), ("ZADD z INCR 0 a", ""),
    ("ZINCRBY n 1 a", "new n, zincr n"), ("ZREM z a", "zrem z"), ("ZREM y b", "zrem y, del y"), ("ZREM z x", ""),
    ("ZPOPMIN z", "zpopmin z"), ("ZPOPMAX z 9", "zpopmax z, del z"), ("ZPOPMIN z 0", ""),
    ("ZMPOP 2 n y MAX", "zpopmax y, del y"),
    ("BZPOPMIN z 0", "zpopmin z"), ("BZPOPMAX y 0", "zpopmax y, del y"), ("BZMPOP 0 1 z MIN", "zpopmin z"),
    ("ZREMRANGEBYRANK z 0 0", "zremrangebyrank z"), ("ZREMRANGEBYSCORE z 1 3", "zremrangebyscore z, del z"),
    ("ZREMRANGEBYLEX z [a [c", "zremrangebylex z, del z"), ("ZREMRANGEBYSCORE z 7 8", ""),
    ("ZRANGESTORE n z 0 1", "new n, zrangestore n"), ("ZRANGESTORE y z 7 8", "del y"), ("ZRANGESTORE n z 7 8", ""),
    ("ZUNIONSTORE s 1 z", "zunionstore s"), ("ZINTERSTORE n 2 z p", "new n, zinterstore n"),
    ("ZDIFFSTORE y 2 y p", "del y"), ("ZDIFFSTORE z 2 z p", "zdiffstore z"),
])  # fmt: skip
def test_events(run: Run, command: str, events: str) -> None:
    prepare(run)
    run(*command.split())
    assert ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events) == events


@pytest.mark.parametrize(("words", "reply"), [
    ("ZRANK z b WITHSCORE", [1, 2.0]), ("ZREVRANK z c withscore", [0, 3.0]), ("ZRANK z x WITHSCORE", NULL_ARRAY),
    ("ZRANK n x WITHSCORE", NULL_ARRAY), ("ZRANK z x", None), ("ZRANK z b WITHSCORES", SYNTAX),
    ("ZRANK z b WITHSCORE x", Failed("ERR wrong number of arguments for 'zrank' command")),
    ("ZREVRANK z b WITHSCORE x", Failed("ERR wrong number of arguments for 'zrevrank' command")),
    ("ZADD z NX XX 1 a", Failed("ERR XX and NX options at the same time are not compatible")),
    ("ZADD z GT NX 1 a", Failed("ERR GT, LT, and/or NX options at the same time are not compatible")),
    ("ZADD z GT LT 1 a", Failed("ERR GT, LT, and/or NX options at the same time are not compatible")),
    ("ZADD z INCR 1 a 2 b", Failed("ERR INCR option supports a single increment-element pair")),
    ("ZADD z NX 1 a 2", SYNTAX), ("ZADD z nan a", Failed("ERR value is not a valid float")),
    ("ZADD z CH 1 a 9 b 4 d", 2), ("ZADD z GT CH 0 a 9 b", 1), ("ZADD z LT CH 0 a 9 b", 1),
    ("ZADD z GT INCR -1 a", None), ("ZADD z GT INCR 0 a", None),
    ("ZADD z LT INCR 0 a", None),
    ("ZADD z NX INCR 1 a", None), ("ZADD z XX INCR 1 x", None), ("ZADD z INCR 1.5 a", 2.5),
    ("ZINCRBY z nx a", SYNTAX),
    ("ZPOPMIN z 1 2", SYNTAX), ("ZPOPMIN z -1", Failed("ERR value is out of range, must be positive")),
    ("ZMPOP 1 z MIN COUNT 2", [b"z", [[b"a", 1.0], [b"b", 2.0]]]), ("ZMPOP 1 n MIN", NULL_ARRAY),
    ("ZMPOP 1 z LEFT", SYNTAX),
    ("ZUNION 0 z", Failed("ERR at least 1 input key is needed for 'zunion' command")),
    ("ZINTERCARD 0 z", Failed("ERR at least 1 input key is needed for 'zintercard' command")),
    ("ZDIFFSTORE n 0 z", Failed("ERR at least 1 input key is needed for 'zdiffstore' command")),
    ("ZUNION 2 z", SYNTAX), ("ZUNION 1 z WEIGHTS x", Failed("ERR weight value is not a float")),
    ("ZDIFF 1 z WEIGHTS 1", SYNTAX),
    ("ZUNION 1 s WEIGHTS x", WRONGTYPE), ("ZUNIONSTORE n 1 z WITHSCORES", SYNTAX), ("ZUNION 1 z LIMIT 1", SYNTAX),
    ("ZINTERCARD 1 z LIMIT -1", Failed("ERR LIMIT can't be negative")), ("ZINTERCARD 2 z z LIMIT 2", 2),
    ("ZINTER 2 z p", [b"b", b"c"]),
    ("ZRANGE z 0 1 LIMIT 0 1",
     Failed("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")),
    ("ZRANGE z - + BYLEX WITHSCORES", Failed("ERR syntax error, WITHSCORES not supported in combination with BYLEX")),
    ("ZRANGE z x 1 BYSCORE", Failed("ERR min or max is not a float")), ("ZRANGE z 3 (1 BYSCORE REV", [b"c", b"b"]),
    ("ZRANGE z a b BYLEX", Failed("ERR min or max not valid string range item")),
    ("ZRANGE z 0 1 BYSCORE BYLEX", SYNTAX),
    ("ZRANGE z -inf +inf BYSCORE LIMIT -1 5", []), ("ZRANGESTORE n s 0 1", WRONGTYPE),
    ("ZRANGE z 0 -1 REV", [b"c", b"b", b"a"]),
    ("ZRANDMEMBER z 4611686018427387904 WITHSCORES", Failed("ERR value is out of range")), ("ZCARD s", WRONGTYPE),
    ("ZSCAN z 0 NOSCORES", [b"0", [b"a", b"b", b"c"]]), ("ZSCAN y 0", [b"0", [b"b", b"5"]]),
])  # fmt: skip
def test_replies(run: Run, words: str, reply: object) -> None:
    prepare(run)
    assert run(*words.split()) == reply


def test_infinities_do_not_add_up(run: Run) -> None:
    run("ZADD", "z", "inf", "a")
    assert run("ZINCRBY", "z", "-inf", "a") == Failed("ERR resulting score is not a number (NaN)")
    assert run("ZSCORE", "z", "a") == math.inf
    run("ZADD", "y", "-inf", "a")
    assert run("ZUNION", "2", "z", "y", "WITHSCORES").flat == [b"a", 0.0]
    assert run("ZUNION", "1", "z", "WEIGHTS", "0", "WITHSCORES").flat == [b"a", 0.0]


def test_resp3_shapes(run: Run) -> None:
    prepare(run)
    pair = b"*1\r\n*2\r\n$1\r\nb\r\n,5\r\n"
    readers = ("ZRANGE y 0 -1", "ZUNION 1 y", "ZRANDMEMBER y 1", "ZREVRANGEBYSCORE y 9 0")
    for words in [[*reader.split(), "WITHSCORES"] for reader in readers]:
        assert run.wire(*words, protocol=3) == pair
        assert run.wire(*words, protocol=2) == b"*2\r\n$1\r\nb\r\n$1\r\n5\r\n"
    assert run.wire("ZSCORE", "y", "b", protocol=3) == b",5\r\n"
    assert run.wire("ZADD", "y", "INCR", "0.5", "b", protocol=3) == b",5.5\r\n"
    assert run.wire("ZMPOP", "1", "y", "MIN", protocol=3) == b"*2\r\n$1\r\ny\r\n*1\r\n*2\r\n$1\r\nb\r\n,5.5\r\n"
    assert run.wire("ZPOPMIN", "z", protocol=3) == b"*2\r\n$1\r\na\r\n,1\r\n"
    assert run.wire("ZPOPMIN", "z", "1", protocol=3) == b"*1\r\n*2\r\n$1\r\nb\r\n,2\r\n"
    assert run.wire("BZPOPMIN", "z", "0", protocol=3) == b"*3\r\n$1\r\nz\r\n$1\r\nc\r\n,3\r\n"


@pytest.mark.parametrize("last", [
    "ZREM y b", "ZPOPMIN y", "ZPOPMAX y 3", "ZMPOP 1 y MIN", "BZPOPMAX y 0", "BZMPOP 0 1 y MAX",
    "ZREMRANGEBYRANK y 0 0",
    "ZREMRANGEBYSCORE y 5 5", "ZREMRANGEBYLEX y - +", "ZINTERSTORE y 2 y n", "ZRANGESTORE y n 0 -1",
])  # fmt: skip
def test_the_last_member_takes_the_key(run: Run, last: str) -> None:
    prepare(run)
    run(*last.split())
    assert run("EXISTS", "y") == 0


@pytest.mark.parametrize(("words", "keys", "timeout_ms"), [
    ("BZPOPMIN n m 0", [b"n", b"m"], 0), ("BZPOPMAX n 0.25", [b"n"], 250),
    ("BZMPOP 1 2 n m MAX COUNT 3", [b"n", b"m"], 1000),
])  # fmt: skip
def test_waiting(run: Run, words: str, keys: list[bytes], timeout_ms: int) -> None:
    parked = run(*words.split())
    assert isinstance(parked, Parked)
    assert (parked.keys, parked.timeout_ms, parked.kind, parked.on_timeout) == (keys, timeout_ms, b"zset", NULL_ARRAY)
    run.wctx.can_block = False
    assert run(*words.split()) == NULL_ARRAY


@pytest.mark.parametrize(("words", "reply"), [
    ("BZPOPMIN n z 0", [b"z", b"a", 1.0]), ("BZPOPMAX z 0", [b"z", b"c", 3.0]),
    ("BZMPOP 0 2 n z MAX COUNT 2", [b"z", [[b"c", 3.0], [b"b", 2.0]]]),
    ("BZPOPMIN z x", Failed("ERR timeout is not a float or out of range")),
    ("BZMPOP -1 1 z MIN", Failed("ERR timeout is negative")), ("BZPOPMIN n s 0", WRONGTYPE),
])  # fmt: skip
def test_blocking_forms_serve_at_once(run: Run, words: str, reply: object) -> None:
    prepare(run)
    assert run(*words.split()) == reply


def test_random_members(run: Run) -> None:
    scores = {b"%d" % i: float(i) for i in range(20)}
    run("ZADD", "z", *[word for member, score in scores.items() for word in (score, member)])
    assert {run("ZRANDMEMBER", "z") for _ in range(400)} == set(scores)
    chosen = run("ZRANDMEMBER", "z", "12")
    assert len(chosen) == len(set(chosen)) == 12
    flat = run("ZRANDMEMBER", "z", "-30", "WITHSCORES").flat
    assert len(flat) == 60
    assert flat[1::2] == [scores[member] for member in flat[::2]]


def test_a_scan_in_pages_finds_every_member(run: Run) -> None:
    run("ZADD", "z", *[word for i in range(1500) for word in (i, f"m{i}")])
    cursor, found = b"0", dict[bytes, bytes]()
    while True:
        cursor, page = run("ZSCAN", "z", cursor, "COUNT", "50")
        found.update(zip(page[::2], page[1::2], strict=True))
        if cursor == b"0":
            break
    assert found == {b"m%d" % i: b"%d" % i for i in range(1500)}


@pytest.mark.parametrize(("command", "name"), [
    ("ZADD n 1 a", b"listpack"), ("ZADD n 1 " + "x" * 65, b"skiplist"),
    ("ZADD n " + " ".join(["1 a"] * 129), b"skiplist"),
    ("ZUNIONSTORE n 1 big", b"skiplist"), ("ZRANGESTORE n big 0 127", b"listpack"),
    ("ZRANGESTORE n big 0 128", b"skiplist"),
])  # fmt: skip
def test_encodings(run: Run, command: str, name: bytes) -> None:
    for i in range(129):
        run("ZADD", "big", i, i)
    run(*command.split())
    assert run("OBJECT", "ENCODING", "n") == name


def test_minus_zero_is_zero(run: Run) -> None:
    run("ZADD", "z", "-0", "a")
    assert run.wire("ZSCORE", "z", "a") == b"$1\r\n0\r\n"
    run("ZUNIONSTORE", "y", "1", "z", "WEIGHTS", "-1")
    assert run.wire("ZSCORE", "y", "a") == b"$1\r\n0\r\n"


@pytest.mark.parametrize(("limit", "forward", "backward"), [
    ("0 2", [b"a", b"b"], [b"e", b"d"]), ("1 2", [b"b", b"c"], [b"d", b"c"]), ("3 9", [b"d", b"e"], [b"b", b"a"]),
    ("5 1", [], []), ("0 0", [], []), ("2 -1", [b"c", b"d", b"e"], [b"c", b"b", b"a"]), ("-1 2", [], []),
])  # fmt: skip
def test_limits_count_from_where_the_range_begins(
    run: Run, limit: str, forward: list[bytes], backward: list[bytes]
) -> None:
    run("ZADD", "z", "0", "a", "0", "b", "0", "c", "0", "d", "0", "e")
    words = ["LIMIT", *limit.split()]
    for low, high, by in (("-inf", "+inf", "BYSCORE"), ("-", "+", "BYLEX")):
        assert run("ZRANGE", "z", low, high, by, *words) == forward
        assert run("ZRANGE", "z", high, low, by, "REV", *words) == backward
        assert run("ZRANGESTORE", "n", "z", high, low, by, "REV", *words) == len(backward)
    assert run("ZRANGEBYSCORE", "z", "0", "0", *words) == forward
    assert run("ZREVRANGEBYSCORE", "z", "0", "0", *words) == backward
    assert run("ZRANGEBYLEX", "z", "[a", "[e", *words) == forward
    assert run("ZREVRANGEBYLEX", "z", "[e", "[a", *words) == backward


@pytest.mark.parametrize(("aggregate", "union", "inter"), [
    ("SUM", [b"a", 1.0, b"c", 10.0, b"b", 22.0], [b"b", 22.0]),
    ("MIN", [b"a", 1.0, b"b", 2.0, b"c", 10.0], [b"b", 2.0]),
    ("MAX", [b"a", 1.0, b"c", 10.0, b"b", 20.0], [b"b", 20.0]),
])  # fmt: skip
def test_aggregates(run: Run, aggregate: str, union: list[object], inter: list[object]) -> None:
    run("ZADD", "y", "1", "a", "2", "b")
    run("ZADD", "z", "2", "b", "1", "c")
    for first, second, weights in (("y", "z", ["1", "10"]), ("z", "y", ["10", "1"])):
        words = ["2", first, second, "WEIGHTS", *weights, "AGGREGATE", aggregate, "WITHSCORES"]
        assert run("ZUNION", *words).flat == union
        assert run("ZINTER", *words).flat == inter


def test_an_offset_below_zero_counts_from_the_other_end_of_a_skiplist(run: Run) -> None:
    run("ZADD", "k", 1, "a", 2, "b", 3, "c", 4, "d")
    asked = ["ZRANGEBYSCORE", "k", "(1", "4", "LIMIT", "-2", "5"]
    back = ["ZREVRANGEBYSCORE", "k", "4", "(1", "LIMIT", "-2", "5"]
    assert run(*asked) == run(*back) == []
    run("ZADD", "k", 9, "x" * 65)
    assert run("OBJECT", "ENCODING", "k") == b"skiplist"
    assert run(*asked) == [b"c", b"d"]
    assert run(*back) == [b"c", b"b"]
    assert run(*back[:5], "-2", "1") == [b"c"]
    assert run(*back[:5], "-1", "-1") == [b"b"]
    assert run(*back[:5], "-4", "9") == []
    assert run(*asked[:5], "-4", "5") == []


def test_zscan_tells_a_score_as_it_is_stored(run: Run) -> None:
    run("ZADD", "k", "0.1", "a")
    assert run("ZSCAN", "k", 0) == [b"0", [b"a", b"0.1"]]
    run("ZADD", "k", 1, "x" * 65)
    assert run("ZSCAN", "k", 0, "MATCH", "a") == [b"0", [b"a", b"0.10000000000000001"]]


def test_ranks_hold_while_blocks_are_cut_and_joined(run: Run) -> None:
    dice = Random(5)
    scores = {b"%d" % n: float(dice.randint(0, 900)) for n in range(9000)}
    value = ZSet()
    value.fill(dict(scores))
    for _ in range(300):
        for _ in range(dice.choice((1, 40))):
            member = b"%d" % dice.randint(0, 12_000)
            if dice.random() < 0.6:
                assert value.remove(member) == (scores.pop(member, None) is not None)
            else:
                scores[member] = float(dice.randint(0, 900))
                value.set(member, scores[member])
        ordered = sorted((score, member) for member, score in scores.items())
        start = dice.randint(0, len(ordered))
        stop = dice.choice((start + 10, len(ordered), dice.randint(0, len(ordered))))
        assert value.slice(start, min(stop, len(ordered))) == ordered[start:stop]
        at = dice.randrange(len(ordered))
        assert value.rank(ordered[at][1]) == at
    journal.steps.clear()


@pytest.mark.parametrize("command", ["ZUNION", "ZINTER"])
def test_scores_are_added_smallest_input_first(run: Run, command: str) -> None:
    # (0.1 + 0.2) + 0.3 differs from 0.1 + (0.2 + 0.3) in the last digit.
    run("ZADD", "three", "0.3", "a", "1", "b", "1", "c")
    run("ZADD", "two", "0.2", "a", "1", "b")
    run("ZADD", "one", "0.1", "a")
    flat = run(command, "3", "three", "two", "one", "WITHSCORES").flat
    assert flat[flat.index(b"a") + 1] == 0.1 + 0.2 + 0.3
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
