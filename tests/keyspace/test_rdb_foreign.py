"""DUMP payloads of stock servers, in every encoding they choose, are read; and what is written they restore."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from struct import pack

import pytest
import redis

from durakv.keyspace.dump import dump_payload, load_payload
from durakv.keyspace.rdb_crc import crc64
from durakv.keyspace.rdb_packed import RdbError, intset_items, listpack_items, ziplist_items
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet


def stock(program: str, directory: Path) -> Iterator[redis.Redis]:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program} on PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory),
         "--enable-debug-command", "yes"], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    client = redis.Redis(port=port)
    try:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module", params=["redis-server", "valkey-server"])
def server(request, tmp_path_factory):
    yield from stock(request.param, tmp_path_factory.mktemp("stock"))


TEXTS = [
    b"", b"a", b"0", b"12", b"127", b"128", b"-1", b"-128", b"-129", b"4095", b"4096", b"-4096", b"-4097", b"8191",
    b"32767", b"32768", b"-32769", b"8388607", b"8388608", b"-8388609", b"2147483647", b"2147483648", b"-2147483649",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"00", b"+1", b"1.5", b"x" * 62,
    b"x" * 63, b"x" * 64, b"y" * 253, b"y" * 254, b"y" * 300, b"z" * 4095, b"z" * 4096, b"ab" * 9000, bytes(range(256)),
]  # fmt: skip


def plain(value: object) -> object:
    """A value as comparable Python."""
    if isinstance(value, ListValue):
        return list(value.items)
    if isinstance(value, SetValue):
        return set(value.members)
    if isinstance(value, Hash):
        return dict(value.fields)
    if isinstance(value, ZSet):
        return {member: score for score, member in value.slice(0, len(value))}
    return value


def shown(client: redis.Redis, key: str) -> object:
    """The same of a key of a stock server."""
    kind = client.type(key)
    if kind == b"list":
        return client.lrange(key, 0, -1)
    if kind == b"set":
        return set(client.smembers(key))
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"zset":
        return {pair[0]: pair[1] for pair in client.zrange(key, 0, -1, withscores=True)}
    return client.get(key)


LIMITS = [
    {},
    {"list-max-listpack-size": "1", "hash-max-listpack-entries": "0", "zset-max-listpack-entries": "0",
     "set-max-intset-entries": "0"},
    {"list-max-listpack-size": "-5", "hash-max-listpack-value": "100000", "zset-max-listpack-value": "100000",
     "list-compress-depth": "1", "rdbcompression": "no"},
]  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("limits", LIMITS, ids=["default", "none-packed", "all-packed"])
def test_payloads_of_stock_servers_are_read_and_ours_restored(server, limits) -> None:
    server.flushall()
    server.execute_command("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "4000b")
    for name, value in limits.items():
        server.config_set(name, value)
    random = Random(1)
    encodings = {}
    for n in range(60):
        some = random.sample(TEXTS, random.choice([1, 2, 5, len(TEXTS)]))
        short = [text for text in some if len(text) < 60] or [b"s"]
        numbers = [random.choice([random.randrange(99), random.randrange(-(1 << 40), 1 << 40)]) for _ in some]
        scores = [random.choice([0.0, 1.5, -2e30, float("inf"), float("-inf"), 17.0, 3.0000000001]) for _ in some]
        server.set(f"string{n}", some[0])
        server.rpush(f"list{n}", *some)
        server.rpush(f"shortlist{n}", *short)
        server.sadd(f"ints{n}", *numbers)
        server.sadd(f"set{n}", *short)
        server.sadd(f"longset{n}", *some)
        server.hset(f"hash{n}", mapping=dict(zip(some, reversed(some), strict=True)))
        server.hset(f"shorthash{n}", mapping=dict(zip(short, reversed(short), strict=True)))
        server.zadd(f"zset{n}", dict(zip(some, scores, strict=True)))
        server.zadd(f"shortzset{n}", dict(zip(short, scores, strict=False)))
    for raw in server.keys("*"):
        key = raw.decode()
        payload = server.dump(key)
        encodings[payload[0]] = server.object("encoding", key)
        expected = shown(server, key)
        value = load_payload(payload)
        assert plain(value) == expected, (key, server.object("encoding", key))
        server.restore("copy", 0, dump_payload(value), replace=True)
        assert shown(server, "copy") == expected, key
    if not limits:
        assert {0, 11, 16, 17, 18} <= encodings.keys(), encodings


# -- what only older versions write ----------------------------------------------------------------------------------


def payload(kind: int, body: bytes, version: int = 9) -> bytes:
    data = bytes((kind,)) + body + pack("<H", version)
    return data + pack("<Q", crc64(data))


def blob(data: bytes) -> bytes:
    return b"\x80" + pack(">I", len(data)) + data


def old_integer(text: bytes) -> bytes:
    """The entry of a ziplist for a canonical integer, empty for any other text."""
    if len(text) > 20 or not text.lstrip(b"-").isdigit():
        return b""
    number = int(text)
    if b"%d" % number != text:
        return b""
    if 0 <= number <= 12:
        return bytes((0xF1 + number,))
    for head, size in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
            return bytes((head,)) + number.to_bytes(size, "little", signed=True)
    return b""


def ziplist(texts: list[bytes]) -> bytes:
    """As Redis up to 6.2 builds it."""
    body, before, tail = b"", 0, 10
    for text in texts:
        tail = 10 + len(body)
        entry = bytes((before,)) if before < 254 else b"\xfe" + pack("<I", before)
        integer = old_integer(text)
        if integer:
            entry += integer
        elif len(text) < 64:
            entry += bytes((len(text),)) + text
        elif len(text) < 16384:
            entry += bytes((0x40 | len(text) >> 8, len(text) & 255)) + text
        else:
            entry += b"\x80" + pack(">I", len(text)) + text
        body += entry
        before = len(entry)
    return pack("<IIH", 11 + len(body), tail, len(texts)) + body + b"\xff"


OLD = [
    (10, blob(ziplist(TEXTS)), TEXTS),
    (14, b"\x02" + blob(ziplist(TEXTS[:9])) + blob(ziplist(TEXTS[9:])), TEXTS),
    (13, blob(ziplist([b"f", b"1", b"g", b"x" * 70])), {b"f": b"1", b"g": b"x" * 70}),
    (12, blob(ziplist([b"m", b"-2.5", b"n", b"3", b"o", b"inf"])), {b"m": -2.5, b"n": 3.0, b"o": float("inf")}),
]


@pytest.mark.parametrize(("kind", "body", "expected"), OLD, ids=["list", "quicklist", "hash", "zset"])
def test_payloads_of_old_versions_are_read(kind: int, body: bytes, expected: object) -> None:
    assert plain(load_payload(payload(kind, body))) == expected


@pytest.mark.live
@pytest.mark.parametrize(("kind", "body", "expected"), OLD, ids=["list", "quicklist", "hash", "zset"])
def test_a_stock_server_reads_the_same_in_them(server, kind: int, body: bytes, expected: object) -> None:
    server.restore("old", 0, payload(kind, body), replace=True)
    assert shown(server, "old") == expected


# -- damage ----------------------------------------------------------------------------------------------------------


LISTPACK = pack("<IH", 23, 4) + b"\x81a\x02" + b"\x05\x01" + b"\xf1\x00\x80\x03" + b"\x85hello\x06" + b"\xff"
GOOD = [
    (listpack_items, LISTPACK, [b"a", b"5", b"-32768", b"hello"]),
    (ziplist_items, ziplist([b"a", b"5", b"-300", b"hello"]), [b"a", b"5", b"-300", b"hello"]),
    (intset_items, pack("<IIhhh", 2, 3, -5, 0, 9), [b"-5", b"0", b"9"]),
]


@pytest.mark.parametrize(("read", "data", "good"), GOOD, ids=["listpack", "ziplist", "intset"])
def test_every_damaged_byte_is_refused_or_changes_only_content(read, data: bytes, good: list[bytes]) -> None:
    assert read(data) == good
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            try:
                items = read(bytes(changed))
            except (RdbError, IndexError):
                continue
            assert len(items) == len(good) and items != good
        with pytest.raises((RdbError, IndexError)):
            read(data[:at])
    with pytest.raises(RdbError):
        read(data + b"\xff")


@pytest.mark.parametrize(("kind", "body"), [
    (11, blob(pack("<II", 2, 0))), (11, blob(pack("<IIhh", 2, 2, 5, 5))), (11, blob(pack("<IIb", 1, 1, 5))),
    (10, blob(ziplist([]))), (13, blob(ziplist([b"f"]))), (13, blob(ziplist([b"f", b"1", b"f", b"2"]))),
    (12, blob(ziplist([b"m", b"nan"]))), (12, blob(ziplist([b"m", b"1_0"]))),
    (12, blob(ziplist([b"m", b"1", b"m", b"2"]))),
    (12, blob(ziplist([b"m", b"x"]))), (14, b"\x00"), (14, b"\x05" + blob(ziplist([b"a"]))),
    (18, b"\x01\x03" + blob(b"x")), (18, b"\x01\x00" + blob(b"x")), (20, blob(b"")), (16, blob(b"\x00" * 7)),
    (15, blob(b"x")), (22, b"\x01" + blob(b"x")), (7, b"\x01"),
])  # fmt: skip
def test_values_no_command_makes_are_refused(kind: int, body: bytes) -> None:
    with pytest.raises(RdbError, match="Bad data format"):
        load_payload(payload(kind, body))
