"""Commands on entries of streams: ids, trimming, ranges, errors, events."""

from __future__ import annotations

from random import Random

import pytest

from durakv.keyspace.values.stream import ID_MAX, Stream
from durakv.resp.types import NULL_ARRAY, OK, KeyedPairs, Map
from tests.commands.running import Failed, Run

BAD_ID = Failed("ERR Invalid stream ID specified as stream command argument")
SYNTAX = Failed("ERR syntax error")
NOT_INTEGER = Failed("ERR value is not an integer or out of range")
WRONGTYPE = Failed("WRONGTYPE Operation against a key holding the wrong kind of value")
TOO_SMALL = Failed("ERR The ID specified in XADD is equal or smaller than the target stream top item")
TOP = "18446744073709551615"


def add(run: Run, *ids: str, key: str = "s") -> None:
    for entry_id in ids:
        assert isinstance(run("XADD", key, entry_id, "f", "v"), bytes)


def ids_of(reply: list[list[bytes]]) -> str:
    return " ".join(entry[0].decode() for entry in reply)


def facts(run: Run, *words: object) -> dict[bytes, object]:
    reply = run(*words)
    assert isinstance(reply, Map)
    return dict(zip(reply.flat[::2], reply.flat[1::2], strict=True))  # type: ignore[arg-type]


# -- ids -----------------------------------------------------------------------------------------------------------


def test_ids_are_made_of_the_entrys_time_and_never_go_back(run: Run) -> None:
    run.now_ms = 1000
    assert [run("XADD", "s", "*", "f", "v") for _ in range(3)] == [b"1000-0", b"1000-1", b"1000-2"]
    run.now_ms = 1500
    assert run("XADD", "s", "*", "f", "v") == b"1500-0"
    add(run, "2000-7")
    assert run("XADD", "s", "*", "f", "v") == b"2000-8"
    run("XSETID", "s", f"3000-{TOP}")
    assert run("XADD", "s", "*", "f", "v") == b"3001-0"
    run.now_ms = 4000
    assert run("XADD", "s", "*", "f", "v") == b"4000-0"


@pytest.mark.parametrize(("last", "new", "reply"), [
    ("123-456", "123-*", b"123-457"), ("123-456", "42-*", TOO_SMALL), ("123-456", "789-*", b"789-0"),
    (f"1-{TOP}", "1-*", TOO_SMALL), (f"1-{TOP}", "2-*", b"2-0"), ("5-5", "5-5", TOO_SMALL), ("5-5", "5", TOO_SMALL),
    ("5-5", "6", b"6-0"), ("5-5", "5-6", b"5-6"), ("5-5", "*x", BAD_ID), ("5-5", "-", BAD_ID), ("5-5", "6-", BAD_ID),
    (f"{TOP}-5", f"{TOP}-*", f"{TOP}-6".encode()), ("5-5", "18446744073709551616", BAD_ID), ("5-5", "6--1", BAD_ID),
    (f"{TOP}-{TOP}", "*", Failed("ERR The stream has exhausted the last possible ID, unable to add more items")),
    ("1-1", f"{TOP}-{TOP}", f"{TOP}-{TOP}".encode()), ("1-1", f"2-{TOP}", f"2-{TOP}".encode()),
])  # fmt: skip
def test_what_xadd_makes_of_an_id(run: Run, last: str, new: str, reply: object) -> None:
    add(run, last)
    assert run("XADD", "s", new, "f", "v") == reply


def test_the_first_id(run: Run) -> None:
    zero = Failed("ERR The ID specified in XADD must be greater than 0-0")
    assert run("XADD", "s", "0-0", "f", "v") == run("XADD", "s", "0", "f", "v") == zero
    assert run("EXISTS", "s") == 0
    assert run("XADD", "s", "0-*", "f", "v") == b"0-1"


@pytest.mark.parametrize(("words", "reply"), [
    ("XADD s", Failed("ERR wrong number of arguments for 'xadd' command")),
    ("XADD s * f", Failed("ERR wrong number of arguments for 'xadd' command")),
    ("XADD s * f v g", Failed("ERR wrong number of arguments for 'xadd' command")),
    ("XADD s MAXLEN 5 * f", Failed("ERR wrong number of arguments for 'xadd' command")),
    ("XADD s NOMKSTREAM NOMKSTREAM NOMKSTREAM", Failed("ERR wrong number of arguments for 'xadd' command")),
    ("XADD n NOMKSTREAM * f v", None), ("XADD t * f v", WRONGTYPE),
    ("XADD s MAXLEN x * f v", NOT_INTEGER), ("XADD s MAXLEN -1 * f v", Failed("ERR The MAXLEN argument must be >= 0.")),
    ("XADD s MINID x * f v", BAD_ID), ("XADD s MINID - * f v", BAD_ID),
    ("XADD s LIMIT 5 * f v",
     Failed("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")),
    ("XADD s LIMIT 0 * f v", Failed("ERR syntax error, LIMIT cannot be used without the special ~ option")),
    ("XADD s MAXLEN 5 LIMIT 5 * f v", Failed("ERR syntax error, LIMIT cannot be used without the special ~ option")),
    ("XADD s MAXLEN ~ 5 LIMIT -5 * f v", Failed("ERR The LIMIT argument must be >= 0.")),
    ("XADD s MAXLEN 5 MINID 5 * f v",
     Failed("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")),
    ("XTRIM s LIMIT 5", Failed("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")),
    ("XTRIM s LIMIT 0 LIMIT 0", Failed("ERR syntax error, XTRIM must be called with a trimming strategy")),
    ("XTRIM s NOMKSTREAM 5", SYNTAX), ("XTRIM s * 5", SYNTAX), ("XTRIM t MAXLEN 0", WRONGTYPE),
    ("XTRIM n MAXLEN 0", 0), ("XDEL n 1", 0), ("XDEL s 1 x", BAD_ID), ("XDEL t 1", WRONGTYPE), ("XLEN n", 0),
    ("XLEN t", WRONGTYPE), ("XRANGE n - +", []), ("XRANGE t - +", WRONGTYPE), ("XRANGE s - + COUNT 0", NULL_ARRAY),
    ("XRANGE n - + COUNT 0", []), ("XRANGE s - + COUNT -5", NULL_ARRAY), ("XRANGE s - + COUNT", SYNTAX),
    ("XRANGE s - + COUNT x", NOT_INTEGER), ("XRANGE s (- +", BAD_ID), ("XRANGE s - (+", BAD_ID),
    ("XRANGE s ( +", BAD_ID),
    (f"XRANGE s ({TOP}-{TOP} +", Failed("ERR invalid start ID for the interval")),
    ("XRANGE s - (0-0", Failed("ERR invalid end ID for the interval")),
    ("XRANGE s 5 2", []), ("XREVRANGE s 2 5", []),
    ("XREAD COUNT 1 STREAMS s", Failed(
        "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.")),
    ("XREAD COUNT 1 COUNT 2", SYNTAX), ("XREAD STREAMS n 0", NULL_ARRAY), ("XREAD STREAMS t 0", WRONGTYPE),
    ("XREAD STREAMS s x", BAD_ID), ("XREAD COUNT x STREAMS s 0", NOT_INTEGER), ("XREAD STREAMS s 9", NULL_ARRAY),
    ("XREAD BLOCK -1 STREAMS s 0", Failed("ERR timeout is negative")),
    ("XREAD BLOCK 9223372036854775807 STREAMS s 0", Failed("ERR timeout is out of range")),
    ("XREAD BLOCK 1.5 STREAMS s 0", Failed("ERR timeout is not an integer or out of range")),
    ("XREAD NOACK STREAMS s 0", Failed(
        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")),
    ("XREAD GROUP g c STREAMS s 0", Failed(
        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")),
    ("XREAD STREAMS s >", Failed(
        "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")),
    ("XSETID n 5", Failed("ERR no such key")), ("XSETID t 5", WRONGTYPE), ("XSETID s x", BAD_ID),
    ("XSETID s 1", Failed("ERR The ID specified in XSETID is smaller than the target stream top item")),
    ("XSETID s 5 ENTRIESADDED", SYNTAX), ("XSETID s 5 MAXDELETEDID", SYNTAX),
    ("XSETID s 5 ENTRIESADDED -1", Failed("ERR entries_added must be positive")),
    ("XSETID s 5 ENTRIESADDED 2", Failed(
        "ERR The entries_added specified in XSETID is smaller than the target stream length")),
    ("XSETID s 5 MAXDELETEDID 6", Failed(
        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")),
    ("XSETID s 5", OK), ("OBJECT ENCODING s", b"stream"), ("OBJECT REFCOUNT s", 1),
])  # fmt: skip
def test_replies(run: Run, words: str, reply: object) -> None:
    add(run, "1", "2", "3")
    run("SET", "t", "v")
    assert run(*words.split()) == reply


def test_xsetid_and_what_was_deleted(run: Run) -> None:
    add(run, "1-1", "1-2", "1-3")
    run("XDEL", "s", "1-2")
    run("XDEL", "s", "1-3")
    small = Failed("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
    assert run("XSETID", "s", "1-2") == small
    assert run("XSETID", "s", "200-0", "ENTRIESADDED", 50, "MAXDELETEDID", "150-2") == OK
    found = facts(run, "XINFO", "STREAM", "s")
    assert (found[b"last-generated-id"], found[b"entries-added"], found[b"max-deleted-entry-id"]) == (
        b"200-0", 50, b"150-2"
    )  # fmt: skip
    add(run, "200-*")
    assert facts(run, "XINFO", "STREAM", "s")[b"entries-added"] == 51


# -- ranges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "ids"), [
    ("XRANGE s - +", f"1-0 1-1 1-{TOP} 2-0 3-7"), ("XRANGE s (1-0 +", f"1-1 1-{TOP} 2-0 3-7"),
    ("XRANGE s 1 1", f"1-0 1-1 1-{TOP}"), (f"XRANGE s (1-{TOP} (3-7", "2-0"), ("XRANGE s (1-1 (2-0", f"1-{TOP}"),
    ("XRANGE s - + COUNT 2", "1-0 1-1"), ("XRANGE s 2 +", "2-0 3-7"), ("XREVRANGE s + -", f"3-7 2-0 1-{TOP} 1-1 1-0"),
    ("XREVRANGE s 2 1-1 COUNT 2", f"2-0 1-{TOP}"), ("XREVRANGE s (3-7 (1-1", f"2-0 1-{TOP}"),
    ("XRANGE s - + COUNT 1 COUNT 3", f"1-0 1-1 1-{TOP}"),
])  # fmt: skip
def test_ranges(run: Run, words: str, ids: str) -> None:
    add(run, "1-0", "1-1", f"1-{TOP}", "2-0", "3-7")
    assert ids_of(run(*words.split())) == ids


def test_entries_come_back_as_they_were_sent(run: Run) -> None:
    samples = [
        b"", b"a", b"0", b"-1", b"127", b"128", b"-4096", b"4095", b"4096", b"-32768", b"32768", b"8388607", b"8388608",
        b"-2147483648", b"2147483648", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"00",
        b"x" * 63, b"x" * 64, b"x" * 4095, b"x" * 4096, bytes(range(256)), b"y" * 70_000,
    ]  # fmt: skip
    for i, text in enumerate(samples):
        run("XADD", "s", f"{i + 1}", "f", text, text, "v")
    assert [entry[1] for entry in run("XRANGE", "s", "-", "+")] == [[b"f", text, text, b"v"] for text in samples]
    assert [entry[1] for entry in run("XREVRANGE", "s", "+", "-")][-1] == [b"f", b"", b"", b"v"]


def test_walking_a_long_stream(run: Run) -> None:
    for i in range(1000):
        run("XADD", "s", "*", "item", i)
    walked: list[bytes] = []
    last = b"-"
    while entries := run("XRANGE", "s", last, "+", "COUNT", 100):
        walked += [entry[1][1] for entry in entries]
        last = b"(" + entries[-1][0]
    assert walked == [b"%d" % i for i in range(1000)]
    assert run("XREVRANGE", "s", "+", "-") == run("XRANGE", "s", "-", "+")[::-1]


def test_xread(run: Run) -> None:
    add(run, "1", "2", "3")
    add(run, "5", key="u")

    def read(*words: object) -> list[object]:
        reply = run("XREAD", *words)
        assert isinstance(reply, KeyedPairs)
        return reply.flat

    assert read("STREAMS", "s", "u", "1", "9") == [b"s", [[b"2-0", [b"f", b"v"]], [b"3-0", [b"f", b"v"]]]]
    assert read("COUNT", 1, "STREAMS", "s", "u", "0", "0-0") == [
        b"s", [[b"1-0", [b"f", b"v"]]], b"u", [[b"5-0", [b"f", b"v"]]]
    ]  # fmt: skip
    assert read("COUNT", 3, "STREAMS", "s", "u", "n", "+", "+", "+") == [
        b"s", [[b"3-0", [b"f", b"v"]]], b"u", [[b"5-0", [b"f", b"v"]]]
    ]  # fmt: skip
    assert run("XREAD", "STREAMS", "s", f"{TOP}-{TOP}") is NULL_ARRAY
    shown = b"$1\r\nu\r\n*1\r\n*2\r\n$3\r\n5-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    assert run.wire("XREAD", "STREAMS", "u", "0") == b"*1\r\n*2\r\n" + shown
    assert run.wire("XREAD", "STREAMS", "u", "0", protocol=3) == b"%1\r\n" + shown
    run("XGROUP", "CREATE", "empty", "g", "$", "MKSTREAM")
    assert run("XREAD", "STREAMS", "empty", "+") == Failed("ERR the stream last element ID is 0-0")


# -- trimming ------------------------------------------------------------------------------------------------------


def test_exact_trimming(run: Run) -> None:
    for i in range(1, 1001):
        run("XADD", "s", "MAXLEN", "=", 555, i, "f", i)
    assert run("XLEN", "s") == 555 and ids_of(run("XRANGE", "s", "-", "+", "COUNT", 1)) == "446-0"
    assert run("XTRIM", "s", "MINID", "500") == 54
    assert run("XTRIM", "s", "MINID", "=", "500") == 0
    assert run("XTRIM", "s", "MAXLEN", 501) == run("XTRIM", "s", "MAXLEN", 5000) == 0
    assert run("XADD", "s", "MINID", "995", "1001", "f", "v") == b"1001-0"
    assert ids_of(run("XRANGE", "s", "-", "+")) == "995-0 996-0 997-0 998-0 999-0 1000-0 1001-0"
    assert run("XTRIM", "s", "MAXLEN", 0) == 7
    assert run("XLEN", "s") == 0 and run("EXISTS", "s") == 1 and run("TYPE", "s").text == b"stream"
    assert run("XADD", "s", "5", "f", "v") == TOO_SMALL


def test_approximate_trimming_takes_whole_nodes_within_its_limit(run: Run) -> None:
    for i in range(1, 1001):
        run("XADD", "s", i, "f", "v")
    assert run("XTRIM", "s", "MAXLEN", "~", 555) == 400
    assert run("XTRIM", "s", "MINID", "~", 550) == 100
    assert run("XTRIM", "s", "MAXLEN", "~", 0, "LIMIT", 1) == 0
    assert run("XTRIM", "s", "MAXLEN", "~", 0, "LIMIT", 250) == 200
    assert run("XTRIM", "s", "MAXLEN", "~", 0, "LIMIT", 0) == 300


def test_approximate_trimming_stops_at_ten_thousand(run: Run) -> None:
    for i in range(1, 10_202):
        run("XADD", "s", i, "f", "v")
    assert run("XTRIM", "s", "MAXLEN", "~", 1) == 10_000
    assert run("XTRIM", "s", "MAXLEN", 1) == 200


def test_deleted_entries_fill_their_node_until_it_goes(run: Run) -> None:
    for i in range(1, 102):
        run("XADD", "s", i, "f", "v")
    assert run("XDEL", "s", *range(2, 101)) == 99
    found = facts(run, "XINFO", "STREAM", "s")
    assert (found[b"length"], found[b"radix-tree-keys"]) == (2, 2)
    assert run("XTRIM", "s", "MAXLEN", "~", 1) == 1
    assert facts(run, "XINFO", "STREAM", "s")[b"radix-tree-keys"] == 1
    assert run("XDEL", "s", 101, 101) == 1
    assert facts(run, "XINFO", "STREAM", "s")[b"radix-tree-keys"] == 0


def test_xdel(run: Run) -> None:
    add(run, "1-1", "1-2", "1-3", "1-4", "1-5")
    assert run("XDEL", "s", "1-1", "1-4", "1-5", "2-1", "1-1") == 3
    assert ids_of(run("XRANGE", "s", "-", "+")) == "1-2 1-3"
    found = facts(run, "XINFO", "STREAM", "s")
    assert found[b"recorded-first-entry-id"] == b"1-2" and found[b"max-deleted-entry-id"] == b"1-5"
    assert found[b"entries-added"] == 5 and found[b"last-generated-id"] == b"1-5"
    run("XDEL", "s", "1-2")
    assert facts(run, "XINFO", "STREAM", "s")[b"recorded-first-entry-id"] == b"1-3"
    run("XDEL", "s", "1-3")
    found = facts(run, "XINFO", "STREAM", "s")
    assert found[b"recorded-first-entry-id"] == b"0-0" and found[b"first-entry"] is None and run("EXISTS", "s") == 1


def test_random_deletions_leave_the_rest(run: Run) -> None:
    dice = Random(1)
    kept = []
    for i in range(1, 700):
        run("XADD", "s", i, *[word for n in range(dice.randint(1, 4)) for word in (f"f{n}", "v" * dice.randint(0, 99))])
        kept.append(f"{i}-0")
    while kept:
        gone = [kept.pop(dice.randrange(len(kept))) for _ in range(min(len(kept), dice.randint(1, 60)))]
        assert run("XDEL", "s", *gone) == len(gone)
        assert ids_of(run("XRANGE", "s", "-", "+")) == " ".join(kept)
        assert ids_of(run("XREVRANGE", "s", "+", "-")) == " ".join(reversed(kept))


# -- events, copies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "events"), [
    ("XADD n * f v", "new n, xadd n"), ("XADD s 9 f v", "xadd s"), ("XADD s MAXLEN 1 9 f v", "xadd s, xtrim s"),
    ("XADD s MAXLEN 9 9 f v", "xadd s"), ("XADD s 1 f v", ""), ("XDEL s 1 2", "xdel s"), ("XDEL s 9", ""),
    ("XTRIM s MAXLEN 0", "xtrim s"), ("XTRIM s MAXLEN 9", ""), ("XSETID s 9", "xsetid s"),
    ("XGROUP CREATE s h $", "xgroup-create s"), ("XGROUP CREATE n h $ MKSTREAM", "new n, xgroup-create n"),
    ("XGROUP SETID s g 0", "xgroup-setid s"), ("XGROUP DESTROY s g", "xgroup-destroy s"), ("XGROUP DESTROY s h", ""),
    ("XGROUP CREATECONSUMER s g c", "xgroup-createconsumer s"), ("XGROUP CREATECONSUMER s g Alice", ""),
    ("XGROUP DELCONSUMER s g Alice", "xgroup-delconsumer s"), ("XGROUP DELCONSUMER s g c", ""),
    ("XREADGROUP GROUP g c STREAMS s >", "xgroup-createconsumer s"), ("XREADGROUP GROUP g Alice STREAMS s >", ""),
    ("XCLAIM s g c 0 1", "xgroup-createconsumer s"), ("XAUTOCLAIM s g c 0 -", "xgroup-createconsumer s"),
    ("XACK s g 1", ""), ("COPY s n", "new n, copy_to n"),
])  # fmt: skip
def test_events(run: Run, command: str, events: str) -> None:
    add(run, "1", "2", "3")
    run("XGROUP", "CREATE", "s", "g", "0")
    run("XREADGROUP", "GROUP", "g", "Alice", "COUNT", 1, "STREAMS", "s", ">")
    run.events.clear()
    run(*command.split())
    assert ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events) == events


def test_a_copy_goes_its_own_way(run: Run) -> None:
    add(run, "1", "2", "3")
    run("XGROUP", "CREATE", "s", "g", "0")
    run("XREADGROUP", "GROUP", "g", "Alice", "STREAMS", "s", ">")
    assert run("COPY", "s", "t") == 1
    before = run.wire("XINFO", "STREAM", "s", "FULL")
    assert run.wire("XINFO", "STREAM", "t", "FULL") == before
    run("XADD", "t", "4", "f", "v")
    run("XDEL", "t", "1")
    run("XACK", "t", "g", "2")
    run("XCLAIM", "t", "g", "Bob", 0, "3")
    run("XGROUP", "DESTROY", "t", "g")
    assert run.wire("XINFO", "STREAM", "s", "FULL") == before


def test_an_error_leaves_no_key_and_no_trace(run: Run) -> None:
    run.check_undo = True
    for words in (["XADD", "n", "0-0", "f", "v"], ["XGROUP", "CREATE", "n", "g", "x", "MKSTREAM"]):
        assert isinstance(run(*words), Failed)
    assert run("EXISTS", "n") == 0 and run("DBSIZE") == 0


def test_the_limits_of_ids() -> None:
    stream = Stream()
    stream.append(ID_MAX, [b"f", b"v"])
    assert stream.get(ID_MAX) == [b"f", b"v"] and stream.range_back(0, ID_MAX, 0) == [(ID_MAX, [b"f", b"v"])]
    assert stream.range(ID_MAX, ID_MAX, 0) == [(ID_MAX, [b"f", b"v"])]
