"""Generic commands: events, SCAN's guarantee, globs, payloads, WAIT."""

from __future__ import annotations

import random
import re
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.commands.glob import glob_match
from durakv.commands.scan import scan_mapping
from durakv.keyspace.digest import digest
from durakv.keyspace.dump import dump_payload, load_payload
from durakv.keyspace.rdb_crc import crc64
from durakv.keyspace.rdb_packed import RdbError, lzf_decompress
from durakv.keyspace.slots import slot_of
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet
from durakv.resp.types import NO_REPLY, OK
from tests.commands.running import Both, Reference, Run

needs_server = pytest.mark.live


@pytest.mark.parametrize(("command", "events"), [
    ("DEL s none t", "del s, del t"), ("UNLINK s", "del s"), ("RENAME s a", "new a, rename_from s, rename_to a"),
    ("RENAME s t", "rename_from s, rename_to t"), ("RENAMENX s t", ""), ("RENAME s s", ""),
    ("EXPIRE s 9", "expire s"), ("EXPIRE s -1", "del s"), ("EXPIRE none 9", ""), ("PERSIST t", "persist t"),
    ("PERSIST s", ""), ("COPY s a", "new a, copy_to a"), ("COPY s t", ""), ("COPY s t REPLACE", "copy_to t"),
    ("MOVE s 1", "new s, move_from s, move_to s"), ("FLUSHDB", ""), ("EXPIRE s 9 XX", ""),
])  # fmt: skip
def test_events(run: Run, command: str, events: str) -> None:
    run("SET", "s", "v")
    run("SET", "t", "v", "EX", "100")
    run.events.clear()
    run(*command.split())
    assert ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events) == events


def test_events_of_other_databases_name_them(run: Run) -> None:
    run("SET", "s", "v")
    run.events.clear()
    run("COPY", "s", "s", "DB", 3)
    run("MOVE", "s", 2)
    assert [(db, event) for db, event, _ in run.events if event != b"new"] == [
        (3, b"copy_to"), (0, b"move_from"), (2, b"move_to"),
    ]  # fmt: skip


def test_renamed_and_copied_values_keep_their_deadline(run: Run) -> None:
    run("SET", "a", "v", "PX", 1000)
    run("SET", "b", "w")
    run("COPY", "a", "b", "REPLACE")
    run("RENAME", "a", "c")
    assert [run("PTTL", key) for key in "abc"] == [-2, 1000, 1000]
    run("MOVE", "c", 1)
    run.db = 1
    assert run("PTTL", "c") == 1000


def test_a_copy_shares_nothing(run: Run) -> None:
    run("APPEND", "a", "x")
    run("APPEND", "a", "y")
    run("COPY", "a", "b")
    run("APPEND", "a", "z")
    assert (run("GET", "a"), run("GET", "b")) == (b"xyz", b"xy")


def test_swapdb_and_back(run: Run) -> None:
    run("SET", "a", "0")
    run.db = 1
    run("SET", "b", "1")
    run.check_undo = True
    assert run("SWAPDB", 0, 1) == OK
    assert run("KEYS", "*") == [b"a"]
    assert run("SWAPDB", 1, 1) == OK
    run.db = 0
    assert run("KEYS", "*") == [b"b"]


def test_flush_undoes(run: Run) -> None:
    run.check_undo = True
    for n in range(50):
        run("SET", n, n, "EX", 100 + n)
    run.db = 2
    run("SET", "x", "y")
    assert run("FLUSHDB") == OK
    assert run("DBSIZE") == 0
    run.db = 0
    assert run("DBSIZE") == 50
    assert run("FLUSHALL", "ASYNC") == OK
    assert run("DBSIZE") == 0


def test_expired_keys_are_shown_by_nothing(run: Run) -> None:
    run("SET", "a", "1", "PX", 10)
    run("SET", "b", "1")
    run.now_ms += 10
    assert run("KEYS", "*") == [b"b"] and run("KEYS", "a") == []
    assert run("SCAN", 0) == [b"0", [b"b"]]
    assert {run("RANDOMKEY") for _ in range(30)} == {b"b"}
    assert run("EXISTS", "a") == 0 and run("TYPE", "a").text == b"none" and run("TTL", "a") == -2
    assert run("OBJECT", "ENCODING", "a") is None and run("DUMP", "a") is None
    assert run("RENAMENX", "b", "a") == 1
    run("SET", "c", "1", "PX", 1)
    run("DEL", "a")
    run.now_ms += 1
    assert run("RANDOMKEY") is None


def test_randomkey_reaches_every_key(run: Run) -> None:
    for n in range(20):
        run("SET", f"{{t}}{n}" if n % 2 else n, n)
    assert len({run("RANDOMKEY") for _ in range(500)}) == 20


# -- scanning --------------------------------------------------------------------------------------------------------


def scan_all(run: Run, *options: object) -> tuple[list[bytes], int]:
    """(keys of a full pass, biggest batch)."""
    found: list[bytes] = []
    cursor, biggest = b"0", 0
    for _ in range(100_000):
        cursor, batch = run("SCAN", cursor, *options)
        found += batch
        biggest = max(biggest, len(batch))
        if cursor == b"0":
            return found, biggest
    raise AssertionError("the pass does not end")


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_scan_returns_each_key_once(run: Run, count: int) -> None:
    for n in range(3000):
        run("SET", f"key:{n}", n)
    found, biggest = scan_all(run, "COUNT", count)
    assert len(found) == 3000 and len(set(found)) == 3000
    assert biggest <= count + 20


def test_scan_of_one_big_slot_comes_in_pieces(run: Run) -> None:
    for n in range(20_000):
        run("SET", f"{{tag}}{n}", n)
    run("SET", "other", 1)
    found, biggest = scan_all(run)
    assert len(found) == len(set(found)) == 20_001
    assert biggest < 600


def test_scan_options(run: Run) -> None:
    for n in range(100):
        run("SET", f"s{n}", n)
    run.ks.dbs[0].put(b"h1", Hash())
    assert scan_all(run, "TYPE", "hash")[0] == [b"h1"]
    assert sorted(scan_all(run, "MATCH", "s1?")[0]) == [b"s1%d" % n for n in range(10)]
    assert run("SCAN", 0, "TYPE", "nosuch") == "ERR unknown type name 'nosuch'"
    assert run("SCAN", 0, "NOVALUES") == "ERR NOVALUES option can only be used in HSCAN"
    for cursor in (2**64 - 1, 2**63, 12345 << 14):
        assert run("SCAN", cursor)[0].isdigit()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 50))
def test_what_stays_is_found_whatever_changes(seed: int, count: int) -> None:
    dice = random.Random(seed)
    stable = {b"stable%d" % n for n in range(dice.choice([20, 700, 2000]))}
    present = dict.fromkeys(stable) | {b"early%d" % n: None for n in range(dice.choice([0, 600, 3000]))}
    found: set[bytes] = set()
    cursor, calls = 0, 0
    while True:
        cursor, batch = scan_mapping(present, len(present), cursor, count)
        found.update(batch)
        calls += 1
        if cursor == 0:
            break
        for _ in range(dice.randrange(200)):
            if dice.random() < 0.5:
                present[b"new%d" % dice.randrange(5000)] = None
            else:
                present.pop(dice.choice([b"new%d", b"early%d"]) % dice.randrange(5000), None)
    assert stable <= found
    assert calls < 2000


# -- globs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "text", "matches"), [
    ("*", "", False), ("", "", True), ("", "a", False), ("*", "abc", True), ("a*", "a", True), ("a**", "a", True),
    ("h?llo", "hello", True), ("h[ae]llo", "hallo", True), ("h[^e]llo", "hello", False), ("h[a-c]llo", "hbllo", True),
    ("h[c-a]llo", "hbllo", True), ("\\*", "*", True), ("\\*", "a", False), ("a\\", "a\\", True), ("[", "a", False),
    ("[a", "a", True), ("[^a", "b", True), ("[]", "]", False), ("[\\]]", "]", True),
    ("[a-]", "-", False), ("[a-", "-", True),
    ("[]-a]", "b", False), ("*a*b*c*", "xxaxxbxxcxx", True), ("*a*b", "abab", True), ("*ab", "aab", True),
    ("a*b?", "ab", False), ("[^", "x", True), ("??", "a", False), ("a?", "a", False),
])  # fmt: skip
def test_globs(pattern: str, text: str, matches: bool) -> None:
    assert glob_match(pattern.encode(), text.encode()) is matches


def test_globs_without_case() -> None:
    assert glob_match(b"ABC*", b"abcDEF", nocase=True)
    assert glob_match(b"[A-C]x", b"bX", nocase=True)
    assert not glob_match(b"[\\A]", b"a", nocase=True)
    assert not glob_match(b"ABC", b"abc")


def test_hostile_glob_ends_quickly() -> None:
    assert not glob_match(b"*a" * 500, b"a" * 499)
    assert not glob_match(b"*?" * 400 + b"b", b"a" * 5000)
    assert not glob_match(b"*a" * 1500, b"a" * 3000)


@needs_server
@settings(max_examples=400, deadline=None)
@given(st.text("ab*?[]^-\\", max_size=8), st.text("abA]^-*\\", min_size=1, max_size=5))
def test_globs_equal_stock(reference: Reference, pattern: str, text: str) -> None:
    reference("FLUSHALL")
    reference("SET", text, "v")
    ours = pattern == "*" or glob_match(pattern.encode(), text.encode())
    assert ours == bool(reference("KEYS", pattern))


# -- payloads --------------------------------------------------------------------------------------------------------


def listed(*items: bytes) -> ListValue:
    value = ListValue()
    value.push_right(list(items))
    return value


def members(*items: bytes) -> SetValue:
    value = SetValue()
    for item in items:
        value.add(item)
    return value


def fields(**pairs: str) -> Hash:
    value = Hash()
    for field, content in pairs.items():
        value.set(field.encode(), content.encode())
    return value


def scored(**pairs: float) -> ZSet:
    value = ZSet()
    for member, score in pairs.items():
        value.set(member.encode(), score)
    return value


VALUES: dict[str, Any] = {
    "empty": b"", "text": b"hello", "patched": bytearray(b"patched"), "long": bytes(range(256)) * 100,
    "int8": b"-128", "int16": b"300", "int32": b"-2147483648", "beyond": b"2147483648", "padded": b"007",
    "minus": b"-", "list": listed(b"a", b"12", b"", b"x" * 70_000), "set": members(b"1", b"b"),
    "many": members(*[b"%d" % n for n in range(1000)]), "hash": fields(a="1", b="x" * 100),
    "zset": scored(a=1.5, b=float("inf"), c=float("-inf"), d=0.5),
}  # fmt: skip


def test_crc_of_the_check_string() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"6789", crc64(b"12345")) == crc64(b"123456789")


@pytest.mark.parametrize("name", VALUES)
def test_payloads_read_back(run: Run, name: str) -> None:
    run.ks.dbs[0].put(b"k", VALUES[name])
    before = digest(run.ks)
    payload = run("DUMP", "k")
    run.check_undo = True
    assert run("RESTORE", "k", 0, payload, "REPLACE") == OK
    assert digest(run.ks) == before
    assert run("RESTORE", "k", 0, payload) == "BUSYKEY Target key name already exists."


@needs_server
@pytest.mark.parametrize("name", VALUES)
def test_stock_loads_our_payloads(both: Both, name: str) -> None:
    both.run.ks.dbs[0].put(b"k", VALUES[name])
    assert both.reference("RESTORE", "k", 0, both.run("DUMP", "k")) == b"OK"
    kind = both("TYPE", "k")
    if kind == b"string":
        both("GET", "k")
    elif kind == b"list":
        assert both.reference("LRANGE", "k", 0, -1) == list(VALUES[name].items)
    elif kind == b"set":
        assert sorted(both.reference("SMEMBERS", "k")) == sorted(VALUES[name].members)
    elif kind == b"hash":
        assert both.reference("HGET", "k", "b") == b"x" * 100
    else:
        assert both.reference("ZRANGE", "k", 0, -1, "WITHSCORES") == [
            b"c", b"-inf", b"d", b"0.5", b"a", b"1.5", b"b", b"inf",
        ]  # fmt: skip


@needs_server
@pytest.mark.parametrize("text", ["hello", "12", "-70000", "", "ab" * 5000, "x" * 300 + "yz" * 200, "\0" * 100_000])
def test_we_load_stock_strings(both: Both, text: str) -> None:
    """Long ones arrive compressed."""
    both.reference("SET", "k", text)
    assert both.run("RESTORE", "k", 0, both.reference("DUMP", "k")) == OK
    both("GET", "k")


@needs_server
@pytest.mark.parametrize("words", [
    "", "-1", "x", "0 REPLACE IDLETIME -1", "0 FREQ 256", "0 IDLETIME 1 FREQ 1", "0 bogus", "0 IDLETIME x",
    "1000 ABSTTL", "9999999999999 ABSTTL REPLACE", "0 IDLETIME 5", "0 FREQ 5", "0 ABSTTL", "-1 ABSTTL",
])  # fmt: skip
def test_restore_options_equal_stock(both: Both, words: str) -> None:
    payload = dump_payload(b"v")
    at, *options = words.split() or [""]
    both("RESTORE", "k", at, payload, *options)
    both("GET", "k")
    both("PEXPIRETIME", "k")
    both("RESTORE", "k", "0", payload)
    both("RESTORE", "k", "0", payload + b"x", "REPLACE")
    both("RESTORE", "k", "0", b"short", "REPLACE")
    both("RESTORE", "k", "5", payload, "ABSTTL", "REPLACE")
    both("EXISTS", "k")


def signed(body: bytes, version: int = 10) -> bytes:
    body += struct.pack("<H", version)
    return body + struct.pack("<Q", crc64(body))


@pytest.mark.parametrize("body", [
    b"", b"\x00", b"\x00\x05abc", b"\x01\x00", b"\x01\x81" + b"\xff" * 8, b"\x02\x02\x01a\x01a", b"\x04\x01\x01a",
    b"\x04\x02\x01a\x01b\x01a\x01c", b"\x05\x01\x01a" + struct.pack("<d", float("nan")), b"\x05\x01\x01a\x00",
    b"\x00\xc4\x01a", b"\x00\xc3\x02\x05\x00a", b"\x00\xc3\x02\x80\xff\xff\xff\xff\x00a", b"\x00\xc3\x02\x0a\x20\x05",
    b"\x0b\x00", b"\x63", b"\x01\xc0\x01", b"\x00\x82", b"\x03\x01\x01a\xfd", b"\x03\x01\x01a\x02zz",
    b"\x01\x80\x7f\xff\xff\xff\x01a",
])  # fmt: skip
def test_damaged_payloads_are_refused(run: Run, body: bytes) -> None:
    assert run("RESTORE", "k", 0, signed(body)) == "ERR Bad data format"
    assert run("EXISTS", "k") == 0


@pytest.mark.parametrize("version", [12, 79, 81, 65535])
def test_foreign_versions_are_refused(run: Run, version: int) -> None:
    assert run("RESTORE", "k", 0, signed(b"\x00\x01a", version)) == "ERR DUMP payload version or checksum are wrong"
    assert run("RESTORE", "k", 0, signed(b"\x00\x01a", 80)) == OK


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_any_payload_is_loaded_or_refused(body: bytes) -> None:
    try:
        value = load_payload(signed(body))
    except RdbError:
        return
    assert load_payload(dump_payload(value)) is not None


def test_lzf_overlap() -> None:
    assert lzf_decompress(b"\x01ab\xe0\x01\x01", 12) == b"ab" * 6


# -- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "reply", "waits"), [
    ("WAIT 2 100", NO_REPLY, [(0, 2, 100, False)]), ("WAIT -1 0", NO_REPLY, [(0, -1, 0, False)]),
    ("WAITAOF 1 2 0", NO_REPLY, [(1, 2, 0, True)]), ("WAIT x 0", "ERR value is not an integer or out of range", []),
    ("WAIT 1 x", "ERR timeout is not an integer or out of range", []), ("WAIT 1 -1", "ERR timeout is negative", []),
    ("WAITAOF 2 0 0", "ERR value is out of range, value must between 0 and 1", []),
    ("WAITAOF 1 -1 0", "ERR value is out of range, must be positive", []),
    ("WAITAOF 0 x 0", "ERR value is out of range, must be positive", []),
    ("WAITAOF 0 9223372036854775808 0", "ERR value is out of range, must be positive", []),
    ("WAIT 1 9223372036854775807", "ERR timeout is out of range", []),
    ("WAITAOF 0 1 9223372036854775807", "ERR timeout is out of range", []),
])  # fmt: skip
def test_wait(run: Run, words: str, reply: object, waits: list[tuple[int, int, int, bool]]) -> None:
    assert run(*words.split()) == reply
    assert run.node.waits == waits


@needs_server
@pytest.mark.parametrize("words", ["WAIT x 0", "WAIT 0 x", "WAIT 0 -1", "OBJECT ENCODING none"])
def test_texts_equal_stock(both: Both, words: str) -> None:
    both(*words.split())


@needs_server
def test_object_help_equals_stock(both: Both) -> None:
    ours = [line.text for line in both.run("OBJECT", "HELP")]
    theirs = both.reference("OBJECT", "HELP")
    # Valkey 9 changed one word of the last line.
    assert [*ours[:-1], b"    Prints this help."] == theirs


def test_object_freq_refuses(run: Run) -> None:
    run("SET", "a", 1)
    assert re.match("ERR An LFU maxmemory policy is not selected", run("OBJECT", "FREQ", "a").text)
    assert run("OBJECT", "IDLETIME", "a") == 0 and run("OBJECT", "REFCOUNT", "a") == 1


def test_digest_sees_content_and_nothing_else(run: Run) -> None:
    def fresh(*commands: str) -> bytes:
        other = Run(run.table)
        for command in commands:
            other(*command.split())
        return digest(other.ks)

    base = fresh("SET a 1", "SET b 2")
    assert fresh("SET b 2", "SET a 1") == base
    assert fresh("SET b 2", "SET c 1", "RENAME c a") == base
    assert fresh("APPEND a 1", "APPEND b 2") == fresh("SETRANGE b 0 2", "SET a 1") == base
    different = [
        fresh("SET a 1"), fresh("SET a 1", "SET b 3"), fresh("SET a 1", "SET b 2 EX 9"),
        fresh("SET a 1", "SET b 2 EX 8"), fresh("SET ab 12"), fresh("SET a 1", "SET b 2", "MOVE a 1"), fresh(),
    ]  # fmt: skip
    assert len({base, *different}) == len(different) + 1


def test_slots_group_tagged_keys() -> None:
    assert slot_of(b"{tag}1") == slot_of(b"{tag}2") == slot_of(b"tag")
    assert slot_of(b"foo") == 12182


def test_sort_reads_numbers_as_c_does(run: Run) -> None:
    run("RPUSH", "l", "3", b"2\0x", b"\0", "", "-1")
    assert run("SORT", "l") == [b"-1", b"", b"\0", b"2\0x", b"3"]
    run("RPUSH", "l", b"x\0")
    assert run("SORT", "l").text == "ERR One or more scores can't be converted into double"
