"""Consumer groups: reading, acknowledging, claiming, counting, and what XINFO tells of them."""

from __future__ import annotations

from typing import Any

import pytest

from durakv.resp.types import NULL_ARRAY, OK, KeyedPairs, Map, Simple
from tests.commands.running import Failed, Run

BAD_ID = Failed("ERR Invalid stream ID specified as stream command argument")
SYNTAX = Failed("ERR syntax error")
NOT_INTEGER = Failed("ERR value is not an integer or out of range")
WRONGTYPE = Failed("WRONGTYPE Operation against a key holding the wrong kind of value")
NO_KEY_OR_GROUP = Failed("NOGROUP No such key 's' or consumer group 'no'")
NO_GROUP_IN = Failed("NOGROUP No such consumer group 'no' for key name 's'")
KEY_NEEDED = Failed(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option "
    "to create an empty stream automatically."
)


def add(run: Run, *ids: int | str, key: str = "s") -> None:
    for entry_id in ids:
        assert isinstance(run("XADD", key, entry_id, "f", "v"), bytes)


def read(run: Run, consumer: str, *options: object, after: str = ">", group: str = "g", key: str = "s") -> str:
    """Ids of the entries the consumer gets, a deleted one with a minus before it; ``-`` for null."""
    reply = run("XREADGROUP", "GROUP", group, consumer, *options, "STREAMS", key, after)
    if reply is NULL_ARRAY:
        return "-"
    assert isinstance(reply, KeyedPairs) and reply.flat[0] == key.encode()
    entries: Any = reply.flat[1]
    return " ".join(("-" if fields is NULL_ARRAY else "") + entry_id.decode() for entry_id, fields in entries)


def as_dict(reply: object) -> dict[str, Any]:
    assert isinstance(reply, Map)
    flat: Any = reply.flat
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def groups(run: Run, key: str = "s") -> list[dict[str, Any]]:
    return [as_dict(item) for item in run("XINFO", "GROUPS", key)]


def consumers(run: Run, group: str = "g") -> list[dict[str, Any]]:
    return [as_dict(item) for item in run("XINFO", "CONSUMERS", "s", group)]


def pending(run: Run, *words: object) -> list[tuple[str, str, int, int]]:
    found = run("XPENDING", "s", "g", *(words or ("-", "+", 100)))
    return [(entry_id.decode(), owner.decode(), idle, count) for entry_id, owner, idle, count in found]


def owners(run: Run) -> str:
    return " ".join(f"{entry_id}:{owner}:{count}" for entry_id, owner, _, count in pending(run))


@pytest.fixture
def five(run: Run) -> Run:
    """Stream s with five entries, group g at its beginning; every write is undone once."""
    run.check_undo = True
    add(run, 1, 2, 3, 4, 5)
    run("XGROUP", "CREATE", "s", "g", "0")
    run("SET", "t", "v")
    return run


@pytest.mark.parametrize(("words", "reply"), [
    ("XGROUP CREATE s g $", Failed("BUSYGROUP Consumer Group name already exists")),
    ("XGROUP CREATE n g $", KEY_NEEDED), ("XGROUP CREATE n g $ MKSTREAM", OK), ("XGROUP CREATE t g $", WRONGTYPE),
    ("XGROUP CREATE s h x", BAD_ID), ("XGROUP CREATE s h -", BAD_ID),
    ("XGROUP CREATE s h 0 ENTRIESREAD x", NOT_INTEGER),
    ("XGROUP CREATE s h 0 ENTRIESREAD -2", Failed("ERR value for ENTRIESREAD must be positive or -1")),
    ("XGROUP CREATE s h 0 ENTRIESREAD -1 MKSTREAM", OK),
    ("XGROUP CREATE s h 0 x",
     Failed("ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.")),
    ("xgroup setid s g 0 mkstream",
     Failed("ERR unknown subcommand or wrong number of arguments for 'setid'. Try XGROUP HELP.")),
    ("XGROUP SETID s no 0", NO_GROUP_IN), ("XGROUP SETID n g 0", KEY_NEEDED), ("XGROUP SETID s g +", OK),
    ("XGROUP SETID s g x", BAD_ID), ("XGROUP DESTROY s no", 0), ("XGROUP DESTROY n g", KEY_NEEDED),
    ("XGROUP CREATECONSUMER s no c", NO_GROUP_IN), ("XGROUP DELCONSUMER s no c", NO_GROUP_IN),
    ("XGROUP CREATECONSUMER n g c", KEY_NEEDED), ("XGROUP DELCONSUMER s g c", 0),
    ("XGROUP x", Failed("ERR unknown subcommand 'x'. Try XGROUP HELP.")),
    ("XREADGROUP GROUP no c STREAMS s >",
     Failed("NOGROUP No such key 's' or consumer group 'no' in XREADGROUP with GROUP option")),
    ("XREADGROUP GROUP g c STREAMS t >", WRONGTYPE), ("XREADGROUP GROUP g c STREAMS s x", BAD_ID),
    ("XREADGROUP COUNT 1 NOACK NOACK STREAMS s >", Failed("ERR Missing GROUP option for XREADGROUP")),
    ("XREADGROUP GROUP g c COUNT 1 STREAMS s", Failed(
        "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.")),
    ("XREADGROUP GROUP g c STREAMS s $", Failed(
        "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by "
        "specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set."
    )),
    ("XACK n g 1", 0), ("XACK s no x", 0), ("XACK s g 1 x", BAD_ID), ("XACK t g 1", WRONGTYPE),
    ("XPENDING s no", NO_KEY_OR_GROUP), ("XPENDING t g", WRONGTYPE), ("XPENDING s g - +", SYNTAX),
    ("XPENDING s g IDLE 5 - +", SYNTAX), ("XPENDING s g - + x", NOT_INTEGER), ("XPENDING s g x + 1", BAD_ID),
    ("XPENDING s g - + 10 nobody", []), ("XPENDING s no - + 10", NO_KEY_OR_GROUP),
    ("XPENDING s g", [0, None, None, NULL_ARRAY]),
    ("XPENDING s g - (0-0 1", Failed("ERR invalid end ID for the interval")),
    ("XCLAIM s no c 0 1", NO_KEY_OR_GROUP), ("XCLAIM t g c 0 1", WRONGTYPE),
    ("XCLAIM s g c x 1", Failed("ERR Invalid min-idle-time argument for XCLAIM")),
    ("XCLAIM s g c 0 1 x", Failed("ERR Unrecognized XCLAIM option 'x'")),
    ("XCLAIM s g c 0 1 IDLE x", Failed("ERR Invalid IDLE option argument for XCLAIM")),
    ("XCLAIM s g c 0 1 TIME x", Failed("ERR Invalid TIME option argument for XCLAIM")),
    ("XCLAIM s g c 0 1 RETRYCOUNT x", Failed("ERR Invalid RETRYCOUNT option argument for XCLAIM")),
    ("XCLAIM s g c 0 1 LASTID x", BAD_ID), ("XCLAIM s g c 0 1 IDLE", Failed("ERR Unrecognized XCLAIM option 'IDLE'")),
    ("XAUTOCLAIM s no c 0 -", NO_KEY_OR_GROUP), ("XAUTOCLAIM t g c 0 -", WRONGTYPE),
    ("XAUTOCLAIM s g c x -", Failed("ERR Invalid min-idle-time argument for XAUTOCLAIM")),
    ("XAUTOCLAIM s g c 0 x", BAD_ID), ("XAUTOCLAIM s g c 0 - COUNT 0", Failed("ERR COUNT must be > 0")),
    ("XAUTOCLAIM s g c 0 - COUNT 8070450532247928832", Failed("ERR COUNT must be > 0")),
    ("XAUTOCLAIM s g c 0 - COUNT x", Failed("ERR COUNT must be > 0")), ("XAUTOCLAIM s g c 0 - x", SYNTAX),
    ("XINFO STREAM n", Failed("ERR no such key")), ("XINFO GROUPS t", WRONGTYPE), ("XINFO CONSUMERS s no", NO_GROUP_IN),
    ("XINFO STREAM s x", Failed("ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.")),
    ("XINFO STREAM s FULL COUNT",
     Failed("ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.")),
    ("XINFO STREAM s FULL COUNT x", NOT_INTEGER),
])  # fmt: skip
def test_replies(five: Run, words: str, reply: object) -> None:
    assert five(*words.split()) == reply


def test_help(run: Run) -> None:
    for name, size in (("XGROUP", 17), ("XINFO", 9)):
        lines = run(name, "HELP")
        assert len(lines) == size and all(isinstance(line, Simple) for line in lines)
        assert lines[0].text == name.encode() + b" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"


# -- reading -------------------------------------------------------------------------------------------------------


def test_each_entry_goes_to_one_consumer_and_history_to_its_own(five: Run) -> None:
    assert read(five, "a", "COUNT", 2) == "1-0 2-0"
    assert read(five, "b") == "3-0 4-0 5-0"
    assert read(five, "a") == "-"
    assert read(five, "a", after="0") == "1-0 2-0"
    assert read(five, "b", "COUNT", 1, after="3") == "4-0"
    assert read(five, "a", after="2") == "" and read(five, "a", after="9999") == ""
    assert owners(five) == "1-0:a:2 2-0:a:2 3-0:b:1 4-0:b:2 5-0:b:1"
    five("XDEL", "s", 2)
    assert read(five, "a", after="0") == "1-0 -2-0"
    assert five("XPENDING", "s", "g") == [5, b"1-0", b"5-0", [[b"a", b"2"], [b"b", b"3"]]]


def test_noack_and_a_cursor_set_back(five: Run) -> None:
    assert read(five, "a", "NOACK", "COUNT", 2) == "1-0 2-0"
    assert owners(five) == "" and read(five, "a", after="0") == ""
    read(five, "a", "COUNT", 1)
    five("XGROUP", "SETID", "s", "g", "0")
    assert read(five, "b") == "1-0 2-0 3-0 4-0 5-0"
    assert owners(five) == "1-0:b:1 2-0:b:1 3-0:b:1 4-0:b:1 5-0:b:1"
    five("XGROUP", "SETID", "s", "g", "$")
    assert read(five, "b") == "-"


def test_acknowledging(five: Run) -> None:
    read(five, "a")
    assert five("XACK", "s", "g", 1, "2-0", 2, "9") == 2
    assert five("XACK", "s", "g", 1) == 0
    assert five("XACK", "s", "g", 3, "x") == BAD_ID
    assert owners(five) == "3-0:a:1 4-0:a:1 5-0:a:1"
    assert five("XGROUP", "DELCONSUMER", "s", "g", "a") == 3
    assert owners(five) == "" and groups(five)[0]["consumers"] == 0


def test_what_is_pending(five: Run) -> None:
    read(five, "a", "COUNT", 2)
    five.now_ms += 1000
    read(five, "b")
    assert pending(five, "-", "+", 3)[0] == ("1-0", "a", 1000, 1)
    assert [entry[0] for entry in pending(five, "(1-0", "(4-0", 10)] == ["2-0", "3-0"]
    assert [entry[0] for entry in pending(five, "IDLE", 1000, "-", "+", 10)] == ["1-0", "2-0"]
    assert pending(five, "IDLE", 1001, "-", "+", 10) == pending(five, "-", "+", 0) == pending(five, "-", "+", -5) == []
    assert [entry[0] for entry in pending(five, "-", "+", 10, "b")] == ["3-0", "4-0", "5-0"]
    assert [entry[0] for entry in pending(five, "idle", 0, "-", "+", 1, "b")] == ["3-0"]
    assert five("XPENDING", "s", "g", "+", "-", 10) == []


# -- claiming ------------------------------------------------------------------------------------------------------


def claimed(reply: list[list[Any]]) -> str:
    return " ".join((entry if isinstance(entry, bytes) else entry[0]).decode() for entry in reply)


def test_xclaim(five: Run) -> None:
    read(five, "a")
    five.now_ms += 100
    assert claimed(five("XCLAIM", "s", "g", "b", 200, 1, 2)) == ""
    assert claimed(five("XCLAIM", "s", "g", "b", 50, 1, 9)) == "1-0"
    assert claimed(five("XCLAIM", "s", "g", "b", 50, 1)) == ""
    assert claimed(five("XCLAIM", "s", "g", "b", 0, 2, 3, "JUSTID")) == "2-0 3-0"
    assert claimed(five("XCLAIM", "s", "g", "a", 0, 3, "RETRYCOUNT", 7)) == "3-0"
    assert owners(five) == "1-0:b:2 2-0:b:1 3-0:a:7 4-0:a:1 5-0:a:1"
    five("XCLAIM", "s", "g", "b", 0, 1, 2, "IDLE", 77)
    assert pending(five, "1", "2", 9) == [("1-0", "b", 77, 3), ("2-0", "b", 77, 2)]
    for word, value, idle in (
        ("TIME", five.now_ms - 5, 5),
        ("TIME", five.now_ms + 5, 0),
        ("IDLE", -5, 0),
        ("TIME", -9, 0),
    ):
        five("XCLAIM", "s", "g", "b", 0, 1, word, value, "JUSTID")
        assert pending(five, "1", "1", 9)[0][2] == idle
    five("XACK", "s", "g", 1, 2, 3, 4, 5)
    assert claimed(five("XCLAIM", "s", "g", "c", 5000, 1, 2, 9, "FORCE", "JUSTID")) == "1-0 2-0"
    assert claimed(five("XCLAIM", "s", "g", "c", 5000, 3, "FORCE")) == "3-0"
    assert owners(five) == "1-0:c:1 2-0:c:1 3-0:c:2"
    assert claimed(five("XCLAIM", "s", "g", "c", 0, 5)) == ""
    five("XCLAIM", "s", "g", "d", 0, 1, "LASTID", "9-9", "LASTID", "8")
    assert groups(five)[0]["last-delivered-id"] == b"8-0"
    five("XCLAIM", "s", "g", "d", 0, 1, "LASTID", "3")
    assert groups(five)[0]["last-delivered-id"] == b"8-0"


def test_claiming_drops_what_is_gone(five: Run) -> None:
    read(five, "a")
    five("XDEL", "s", 2, 4)
    five("XTRIM", "s", "MAXLEN", 2)
    assert claimed(five("XCLAIM", "s", "g", "b", 0, 1, 2, 3)) == "3-0"
    assert owners(five) == "3-0:b:2 4-0:a:1 5-0:a:1"
    assert five("XAUTOCLAIM", "s", "g", "c", 0, "-", "COUNT", 2) == [b"5-0", [[b"3-0", [b"f", b"v"]]], [b"4-0"]]
    assert five("XAUTOCLAIM", "s", "g", "c", 0, "5-0", "JUSTID") == [b"0-0", [b"5-0"], []]
    assert owners(five) == "3-0:c:3 5-0:c:1"


def test_xautoclaim_as_a_walk(five: Run) -> None:
    read(five, "a", "COUNT", 90)
    five.now_ms += 200
    five("XCLAIM", "s", "g", "b", 0, 2, "JUSTID")
    cursor, walked = b"-", ""
    steps = 0
    while cursor != b"0-0":
        cursor, found, gone = five("XAUTOCLAIM", "s", "g", "c", 100, cursor, "COUNT", 1)
        walked += claimed(found) + " "
        steps += 1
        assert gone == []
    assert walked.split() == ["1-0", "3-0", "4-0", "5-0"] and steps == 4
    assert owners(five) == "1-0:c:2 2-0:b:1 3-0:c:2 4-0:c:2 5-0:c:2"
    assert five("XAUTOCLAIM", "s", "g", "c", 10_000, "(2") == [b"0-0", [], []]


def test_xautoclaim_looks_at_ten_for_each_it_may_return(run: Run) -> None:
    run("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    add(run, *range(1, 31))
    read(run, "a")
    assert run("XAUTOCLAIM", "s", "g", "b", 5000, "-", "COUNT", 2) == [b"21-0", [], []]


# -- counting ------------------------------------------------------------------------------------------------------


def counts(run: Run, at: int = 0) -> tuple[object, object]:
    found = groups(run)[at]
    return found["entries-read"], found["lag"]


def test_lag_in_a_stream_without_holes(five: Run) -> None:
    assert counts(five) == (None, 5)
    read(five, "a", "COUNT", 1)
    assert counts(five) == (1, 4)
    read(five, "a")
    assert counts(five) == (5, 0)
    add(five, 6)
    assert counts(five) == (5, 1)


def test_lag_in_an_empty_stream(run: Run) -> None:
    run("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    assert counts(run) == (None, 0)
    add(run, 1)
    run("XDEL", "s", 1)
    assert counts(run) == (None, 0)


def test_lag_with_holes(five: Run) -> None:
    five("XDEL", "s", 3)
    five("XGROUP", "CREATE", "s", "h", "0")
    assert counts(five) == (None, None)
    for _ in range(3):
        read(five, "a", "COUNT", 1)
        assert counts(five) == (None, None)
    read(five, "a", "COUNT", 1)
    assert counts(five) == (5, 0)
    add(five, 6)
    assert counts(five) == (5, 1)
    five("XTRIM", "s", "MINID", "=", 3)
    assert (counts(five), counts(five, 1)) == ((5, 1), (None, 3))
    five("XTRIM", "s", "MINID", "=", 5)
    assert (counts(five), counts(five, 1)) == ((5, 1), (None, 2))


def test_entries_read_as_given(five: Run) -> None:
    five("XGROUP", "CREATE", "s", "h", "1", "ENTRIESREAD", 3)
    assert counts(five, 1) == (3, 2)
    five("XGROUP", "SETID", "s", "h", "5", "ENTRIESREAD", 5)
    assert counts(five, 1) == (5, 0)
    five("XGROUP", "SETID", "s", "h", "3-5")
    assert counts(five, 1) == (None, None)


def test_counters_are_64_bits_wide(five: Run) -> None:
    most = (1 << 63) - 1
    five("XSETID", "s", "5", "ENTRIESADDED", most)
    five("XGROUP", "CREATE", "s", "h", "5", "ENTRIESREAD", most)
    add(five, 6)
    assert five.wire("XREADGROUP", "GROUP", "h", "a", "STREAMS", "s", ">").startswith(b"*1")
    assert counts(five, 1) == (-most - 1, 0)
    assert as_dict(five("XINFO", "STREAM", "s"))["entries-added"] == -most - 1
    five("XCLAIM", "s", "g", "a", 0, 1, "FORCE", "RETRYCOUNT", most)
    five("XCLAIM", "s", "g", "a", 0, 1)
    assert pending(five) == [("1-0", "a", 0, -most - 1)]
    before = five.wire("XINFO", "STREAM", "s", "FULL")
    five("RESTORE", "s", 0, five("DUMP", "s"), "REPLACE")
    assert five.wire("XINFO", "STREAM", "s", "FULL") == before


# -- what XINFO tells ----------------------------------------------------------------------------------------------


def test_seen_and_active_times(run: Run) -> None:
    run("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    read(run, "a")
    run.now_ms += 100
    found = consumers(run)[0]
    assert (found["idle"], found["inactive"]) == (100, -1)
    add(run, 1)
    read(run, "a")
    run.now_ms += 70
    read(run, "a")
    run.now_ms += 5
    found = consumers(run)[0]
    assert (found["name"], found["pending"], found["idle"], found["inactive"]) == (b"a", 1, 5, 75)
    before = run.wire("XINFO", "STREAM", "s", "FULL")
    payload = run("DUMP", "s")
    run("DEL", "s")
    run("RESTORE", "s", 0, payload)
    assert run.wire("XINFO", "STREAM", "s", "FULL") == before


def test_full(run: Run) -> None:
    for i, field in ((100, "a"), (101, "b"), (102, "c"), (103, "e"), (104, "f")):
        run("XADD", "s", i, field, 1)
    run("XGROUP", "CREATE", "s", "g2", "0")
    run("XGROUP", "CREATE", "s", "g1", "0")
    read(run, "Bob", "COUNT", 1, group="g1")
    read(run, "Alice", "COUNT", 1, group="g1")
    read(run, "Alice", "NOACK", "COUNT", 1, group="g1")
    read(run, "Charlie", "COUNT", 4, group="g2")
    run("XDEL", "s", 103)
    found = as_dict(run("XINFO", "STREAM", "s", "FULL"))
    assert (found["length"], len(found), found["entries-added"]) == (4, 9, 5)
    assert [entry[0] for entry in found["entries"]] == [b"100-0", b"101-0", b"102-0", b"104-0"]
    first, second = [as_dict(item) for item in found["groups"]]
    assert (first["name"], first["pel-count"], second["name"], second["pel-count"]) == (b"g1", 2, b"g2", 4)
    assert [item[:2] for item in first["pending"]] == [[b"100-0", b"Bob"], [b"101-0", b"Alice"]]
    alice, bob = [as_dict(item) for item in first["consumers"]]
    assert (alice["name"], bob["name"], bob["seen-time"], bob["active-time"]) == (
        b"Alice",
        b"Bob",
        run.now_ms,
        run.now_ms,
    )
    assert alice["pending"] == [[b"101-0", run.now_ms, 1]]
    found = as_dict(run("XINFO", "STREAM", "s", "FULL", "COUNT", 1))
    assert len(found["entries"]) == 1 and len(as_dict(found["groups"][1])["pending"]) == 1
    everything = as_dict(run("XINFO", "STREAM", "s", "FULL", "COUNT", 0))
    assert len(everything["entries"]) == 4 and len(as_dict(everything["groups"][1])["pending"]) == 4
    plain = as_dict(run("XINFO", "STREAM", "s"))
    assert len(plain) == 10 and plain["groups"] == 2 and plain["last-entry"] == [b"104-0", [b"f", b"1"]]


def test_names_are_told_in_order_whatever_the_order_of_creation(run: Run) -> None:
    add(run, 1)
    for name in ("z", "a", "aa", "\xe9", ""):
        run("XGROUP", "CREATE", "s", name, "0")
        run("XGROUP", "CREATECONSUMER", "s", "z", name)
    names = [b"", b"a", b"aa", b"z", "\xe9".encode()]
    assert [found["name"] for found in groups(run)] == names
    assert [found["name"] for found in consumers(run, "z")] == names
