"""Every opcode and encoding is read; damage is told with its place, in bounded memory, and never as a wrong value."""

from __future__ import annotations

import math
from random import Random
from struct import pack

import pytest

from durakv.keyspace.digest import canonical_value
from durakv.keyspace.keyspace import Keyspace
from durakv.rdb import reader as reading
from durakv.rdb.errors import DamagedRdb, RdbFileError, UnsupportedRdb
from durakv.rdb.load import load_file
from durakv.rdb.pieces import can_split, pieces
from durakv.rdb.reader import Aux, Entry, Function, ModuleAux, RdbFile
from durakv.rdb.values import value_of
from durakv.rdb.window import WINDOW_BYTES
from tests.rdb.formats import Bytes, intset, listpack, lzf, module_value, rdb, string, ziplist, zipmap

TEXTS = [
    b"", b"a", b"0", b"12", b"13", b"127", b"128", b"-1", b"-129", b"4095", b"-4097", b"32768", b"8388607", b"-8388609",
    b"2147483648", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"01", b"1.5", b"x" * 63,
    b"y" * 253, b"y" * 254, b"z" * 5000, bytes(range(256)),
]  # fmt: skip
PAIRS = [(b"f%d" % n, text) for n, text in enumerate(TEXTS)]
FLAT = [word for pair in PAIRS for word in pair]
SCORES = {b"a": 1.5, b"b": -2e30, b"c": math.inf, b"d": -math.inf, b"e": 17.0, b"f": 0.1}


def text_score(score: float) -> bytes:
    if math.isinf(score):
        return b"\xfe" if score > 0 else b"\xff"
    return string(b"%.17g" % score)


def packed_scores() -> list[bytes]:
    return [word for member, score in SCORES.items() for word in (member, b"%.17g" % score)]


def nodes(kinds: list[tuple[int, bytes]]) -> bytes:
    return bytes((len(kinds),)) + b"".join(bytes((kind,)) + string(blob) for kind, blob in kinds)


STREAM = (
    b"\x01" + string(pack(">QQ", 1000, 1))
    + string(listpack([b"1", b"0", b"1", b"f", b"0", b"2", b"0", b"0", b"v", b"4"]))
    + b"\x01" + b"\x43\xe8\x01"
)  # fmt: skip
GROUP = (
    b"\x01" + string(b"g") + b"\x43\xe8\x01%b" + b"\x01" + pack(">QQ", 1000, 1) + pack("<q", 5000) + b"\x02"
    + b"\x01" + string(b"consumer") + pack("<q", 6000) + b"%b" + b"\x01" + pack(">QQ", 1000, 1)
)  # fmt: skip

# name, type byte, body, what the value is as plain Python (None: asserted elsewhere)
ENCODINGS: list[tuple[str, int, bytes, object]] = [
    ("string", 0, string(b"hello"), b"hello"),
    ("int8", 0, b"\xc0\x80", b"-128"),
    ("int16", 0, b"\xc1\x00\x80", b"-32768"),
    ("int32", 0, b"\xc2\xff\xff\xff\x7f", b"2147483647"),
    ("lzf", 0, lzf(b"abc" + b"d" * 1000 + b"e"), b"abc" + b"d" * 1000 + b"e"),
    ("long", 0, b"\x80" + pack(">I", 20000) + b"q" * 20000, b"q" * 20000),
    ("64-bit-length", 0, b"\x81" + pack(">Q", 3) + b"abc", b"abc"),
    ("list", 1, bytes((len(TEXTS),)) + b"".join(map(string, TEXTS)), TEXTS),
    ("set", 2, bytes((len(TEXTS),)) + b"".join(map(string, TEXTS)), set(TEXTS)),
    ("zset-text", 3, bytes((len(SCORES),)) + b"".join(string(m) + text_score(s) for m, s in SCORES.items()), SCORES),
    ("hash", 4, bytes((len(PAIRS),)) + b"".join(map(string, FLAT)), dict(PAIRS)),
    ("zset", 5, bytes((len(SCORES),)) + b"".join(string(m) + pack("<d", s) for m, s in SCORES.items()), SCORES),
    ("zipmap", 9, string(zipmap(PAIRS, unused=3)), dict(PAIRS)),
    ("zipmap-large", 9, string(zipmap([(b"k%d" % n, b"v") for n in range(300)])),
     {b"k%d" % n: b"v" for n in range(300)}),
    ("list-ziplist", 10, string(ziplist(TEXTS)), TEXTS),
    ("intset-16", 11, string(intset([-5, 0, 300], 2)), {b"-5", b"0", b"300"}),
    ("intset-32", 11, string(intset([-5, 70000], 4)), {b"-5", b"70000"}),
    ("intset-64", 11, string(intset([1 << 40, -(1 << 63)], 8)), {b"%d" % (1 << 40), b"%d" % -(1 << 63)}),
    ("zset-ziplist", 12, string(ziplist(packed_scores())), SCORES),
    ("hash-ziplist", 13, lzf(ziplist(FLAT)), dict(PAIRS)),
    ("quicklist", 14, b"\x02" + string(ziplist(TEXTS[:9])) + lzf(ziplist(TEXTS[9:])), TEXTS),
    ("hash-listpack", 16, string(listpack(FLAT)), dict(PAIRS)),
    ("zset-listpack", 17, string(listpack(packed_scores())), SCORES),
    ("quicklist-2", 18, nodes([(2, listpack(TEXTS[:9])), (1, b"plain" * 999), (2, listpack(TEXTS[9:]))]),
     [*TEXTS[:9], b"plain" * 999, *TEXTS[9:]]),
    ("set-listpack", 20, string(listpack(TEXTS)), set(TEXTS)),
    ("stream", 15, STREAM + GROUP % (b"", b""), None),
    ("stream-2", 19, STREAM + b"\x43\xe8\x01\x00\x00\x01" + GROUP % (b"\x01", b""), None),
    ("stream-3", 21, STREAM + b"\x43\xe8\x01\x00\x00\x01" + GROUP % (b"\x01", pack("<q", 6000)), None),
]  # fmt: skip
NAMES = [name for name, _, _, _ in ENCODINGS]


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value
    kind = canonical_value(value)[0]
    if kind == b"list":
        return list(value.items)  # type: ignore[attr-defined]
    if kind == b"set":
        return set(value.members)  # type: ignore[attr-defined]
    if kind == b"hash":
        return dict(value.fields)  # type: ignore[attr-defined]
    if kind == b"zset":
        return dict(value.scores)  # type: ignore[attr-defined]
    return canonical_value(value)


def read(data: bytes, **options: object) -> list[reading.Record]:
    file = RdbFile(Bytes(data), "test.rdb", **options)  # type: ignore[arg-type]
    records = []
    while (record := file.next()) is not None:
        records.append(record)
    return records


def entries(data: bytes, **options: object) -> list[Entry]:
    return [record for record in read(data, **options) if isinstance(record, Entry)]


@pytest.mark.parametrize(("name", "kind", "body", "expected"), ENCODINGS, ids=NAMES)
def test_every_encoding_yields_its_value(name: str, kind: int, body: bytes, expected: object) -> None:
    data = rdb(b"\xfe\x03" + bytes((kind,)) + string(b"key") + body + b"\x00\x01k\x01v")
    first, second = entries(data)
    assert (first.db, first.key, first.kind, first.expire_ms, first.body) == (3, b"key", kind, -1, body)
    assert data[first.begin : first.end] == body
    assert (second.key, second.db) == (b"k", 3)
    value = value_of(kind, body)
    if expected is not None:
        assert plain(value) == expected


@pytest.mark.parametrize(("name", "kind", "body", "expected"), ENCODINGS, ids=NAMES)
def test_a_value_in_pieces_is_the_same_value(name: str, kind: int, body: bytes, expected: object) -> None:
    if not can_split(kind):
        assert kind in (0, 15, 19, 21)
        return
    file = RdbFile(Bytes(rdb(bytes((kind,)) + string(b"key") + body)), "test.rdb", whole_bytes_max=0)
    entry = file.next()
    assert isinstance(entry, Entry)
    items: list[bytes] = []
    count = 0
    for piece in pieces(file, entry, 500):
        count += 1
        items += piece.items
    assert count > 1 or len(body) < 1000
    if isinstance(expected, list):
        assert items == expected
    elif isinstance(expected, set):
        assert set(items) == expected
        assert len(items) == len(expected)
    elif expected is SCORES:
        assert {items[at + 1]: float(items[at]) for at in range(0, len(items), 2)} == SCORES
    else:
        assert dict(zip(items[::2], items[1::2], strict=True)) == expected
    assert file.next() is None


def test_fields_with_deadlines_of_both_families() -> None:
    valkey = b"\x02" + string(b"f") + string(b"1") + pack("<q", -1) + string(b"g") + string(b"2") + pack("<q", 5000)
    redis_hash = pack("<Q", 4000) + b"\x02\x00" + string(b"f") + string(b"1") + b"\x43\xe9" + string(b"g") + b"\x012"
    redis_packed = pack("<Q", 5000) + string(listpack([b"f", b"1", b"0", b"g", b"2", b"5000"]))
    for kind, body, data in [
        (22, valkey, rdb(b"\x16" + string(b"k") + valkey, 80, b"VALKEY")),
        (24, redis_hash, rdb(b"\x18" + string(b"k") + redis_hash, 12)),
        (25, redis_packed, rdb(b"\x19" + string(b"k") + redis_packed, 12)),
    ]:
        file = RdbFile(Bytes(data), "test.rdb")
        entry = file.next()
        assert isinstance(entry, Entry)
        assert (entry.kind, entry.body) == (kind, body)
        found = list(pieces(file, entry, 1000))
        assert [(piece.items, piece.deadlines) for piece in found] == [([b"f", b"1", b"g", b"2"], [(b"g", 5000)])]
        assert file.next() is None


def test_opcodes() -> None:
    body = (
        b"\xfa" + string(b"redis-ver") + string(b"7.2.4") + b"\xfa" + string(b"n") + b"\xc0\x07"
        + b"\xf5" + string(b"#!lua name=x\n") + b"\xfe\x00\xfb\x02\x01\xf4\x43\xe8\x01\x00"
        + b"\xfc" + pack("<q", 1234567890123) + b"\xf9\x05" + b"\x00" + string(b"a") + string(b"1")
        + b"\xfd" + pack("<i", 1234567890) + b"\xf8\x0a" + b"\x00" + string(b"b") + string(b"2")
        + b"\xfe\x09" + b"\x00" + string(b"c") + string(b"3")
    )  # fmt: skip
    records = read(rdb(body, 11))
    facts = {record.name: record.content for record in records if isinstance(record, Aux)}
    assert facts == {b"redis-ver": b"7.2.4", b"n": b"7"}
    assert [record.code for record in records if isinstance(record, Function)] == [b"#!lua name=x\n"]
    keys = [(e.db, e.key, e.expire_ms) for e in records if isinstance(e, Entry)]
    assert keys == [(0, b"a", 1234567890123), (0, b"b", 1234567890000), (9, b"c", -1)]


def test_an_entry_begins_with_its_attributes() -> None:
    data = rdb(b"\xfc" + pack("<q", 5) + b"\xf9\x05\x00\x01a\x011" + b"\xfc" + pack("<q", 6) + b"\x00\x01b\x012")
    assert [entry.offset for entry in entries(data)] == [9, 9 + 9 + 2 + 5]


@pytest.mark.parametrize("version", [1, 2, 4])
def test_old_files_have_no_checksum(version: int) -> None:
    file = RdbFile(Bytes(rdb(b"\x00\x01k\x01v", version)), "test.rdb")
    assert isinstance(file.next(), Entry)
    assert file.next() is None
    assert (file.checksum, file.end) == ("absent", 9 + 6)
    with pytest.raises(DamagedRdb, match="1 bytes follow the end"):
        read(rdb(b"\x00\x01k\x01v", version) + b"x")


def test_checksums() -> None:
    data = rdb(b"\x00\x01k\x01v")
    for given, verify, expected in [(data, True, "good"), (data, False, "not verified"),
                                    (rdb(b"\x00\x01k\x01v", checksum=False), True, "absent")]:  # fmt: skip
        file = RdbFile(Bytes(given), "test.rdb", verify=verify)
        while file.next() is not None:
            pass
        assert file.checksum == expected


def test_modules_are_named_and_skipped_only_on_request() -> None:
    fields = b"\x02\x05" + b"\x01\x42\x00" + b"\x03abcd" + b"\x04abcdefgh" + b"\x05" + string(b"text")
    value = module_value(fields)
    data = rdb(b"\xf7" + value[:9] + b"\x02\x01" + value[9:] + b"\x07" + string(b"mod") + value + b"\x00\x01k\x01v")
    with pytest.raises(UnsupportedRdb, match=r"testmodul.*--skip-modules"):
        read(data)
    first, second, third = read(data, skip_modules=True)
    assert isinstance(first, ModuleAux)
    assert first.name == "testmodul"
    assert isinstance(second, Entry)
    assert (second.key, second.kind, second.body) == (b"mod", 7, value)
    assert isinstance(third, Entry)
    with pytest.raises(UnsupportedRdb, match="key b'mod' is of module type testmodul"):
        read(rdb(b"\x07" + string(b"mod") + value))
    with pytest.raises(DamagedRdb, match="9 is no kind of module data"):
        read(rdb(b"\x07" + string(b"mod") + module_value(b"\x09")), skip_modules=True)


@pytest.mark.parametrize(("data", "text"), [
    (b"", "no RDB file"), (b"REDIS", "no RDB file"), (b"REDISabcd", "no RDB file"), (b"*1\r\n$4\r\nPING\r\n", "no RDB"),
    (rdb(b"", 13), "RDB version 13 of Redis is not known"), (rdb(b"", 0), "version 0"),
    (rdb(b"", 82, b"VALKEY"), "version 82 of Valkey"), (rdb(b"", 11, b"VALKEY"), "version 11 of Valkey"),
    (rdb(b"", 80), "version 80 of Redis"),
    (rdb(b"\x17\x01k\x00", 81, b"VALKEY"), "path hash of Valkey 9.2"), (rdb(b"\x16\x01k\x00", 12), "pre-release"),
    (rdb(b"\x18\x01k\x00", 80, b"VALKEY"), "type 24"), (rdb(b"\x1c\x01k\x00", 12), "type 28"),
    (rdb(b"\xf6"), "pre-release"), (rdb(b"\xf3", 80, b"VALKEY"), "slot was being moved"), (rdb(b"\xf2"), "replication"),
])  # fmt: skip
def test_what_is_not_known_is_refused_by_name(data: bytes, text: str) -> None:
    with pytest.raises(UnsupportedRdb, match=text):
        read(data)


@pytest.mark.parametrize(("body", "text"), [
    (b"\x00\x01k\x80" + pack(">I", 1 << 30), "bytes are announced"),
    (b"\x00\x01k\x81" + pack(">Q", 1 << 62), "bytes are announced"),
    (b"\x01\x01k\x81" + pack(">Q", 1 << 60), "elements are announced"),
    (b"\x05\x01k\x40\x80", "elements are announced"),
    (b"\x00\x01k\x82", "begins no length"), (b"\x00\x01k\xc4", "string encoding 4"), (b"\x00\x01k\xff", "encoding 63"),
    (b"\x00\x01k\xc3\x03\x80" + pack(">I", 300) + b"\x00a\x00", "3 bytes of LZF cannot hold 300"),
    (b"\xfc" + pack("<q", -7) + b"\x00\x01k\x01v", "expires at -7"),
    (b"\xfc" + pack("<q", 7) + b"\xfe\x00", "between a key's attributes"),
    (b"\xfc" + pack("<q", 7), "between a key's attributes"), (b"\x08\x01k", "neither a type nor an opcode"),
    (b"\x50\x01k", "neither a type"), (b"\xfe\xc0\x01", "where a number belongs"),
    (b"\xfe\x80" + pack(">I", 1 << 31), "database"),
])  # fmt: skip
def test_hostile_bytes_are_refused_with_their_place(body: bytes, text: str) -> None:
    with pytest.raises(DamagedRdb, match=f"test.rdb: damaged at byte [0-9]+: .*{text}"):
        read(rdb(body))


def test_lzf_that_does_not_yield_its_size() -> None:
    data = rdb(b"\xfa\xc3\x03\x02\x00a\x00" + b"\x00" + b"\x00\x01k\x01v")
    with pytest.raises(DamagedRdb, match="LZF of 3 bytes does not yield its 2"):
        read(data)


def small_file() -> bytes:
    body = b"\xfa" + string(b"v") + string(b"7") + b"\xfe\x00\xfb\x05\x01"
    for name, kind, part, _ in ENCODINGS:
        if len(part) < 100:
            body += b"\xfc" + pack("<q", 1 << 41) + bytes((kind,)) + string(name.encode()) + part
    return rdb(body, 11)


def test_every_flipped_bit_is_found() -> None:
    data = small_file()
    good = len(read(data))
    assert good > 12
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(RdbFileError):
                read(bytes(changed), skip_modules=True)


def test_every_cut_is_found() -> None:
    data = small_file()
    for size in range(len(data)):
        with pytest.raises(RdbFileError):
            read(data[:size])


def test_random_bytes_never_cause_another_error() -> None:
    random = Random(7)
    data = small_file()
    places: list[int] = []
    for _ in range(600):
        changed = bytearray(data)
        for _ in range(random.choice([1, 2, 5, 30])):
            changed[random.randrange(9, len(changed))] = random.choice([0, 1, 63, 64, 127, 128, 129, 192, 195, 255])
        source = Bytes(bytes(changed))
        file = RdbFile(source, "test.rdb", verify=False, skip_modules=True)
        try:
            load_file(file, Keyspace(1), 0)
        except RdbFileError as error:
            places.append(error.offset)
        assert source.most <= WINDOW_BYTES
    assert len(places) > 200
    assert 0 <= min(places) <= max(places) <= len(data)


def test_values_beyond_the_window() -> None:
    random = Random(3)
    lines = [random.randbytes(random.choice([5, 70, 20_000])) + b"%d" % n for n in range(1200)]
    big = random.randbytes(9 << 20)
    body = b""
    for n, line in enumerate(lines):
        body += b"\x00" + string(b"s%d" % n) + string(line)
    body += b"\x00" + string(b"big") + string(big) + b"\x01" + string(b"list")
    body += b"\x44\xb0" + b"".join(map(string, lines)) + b"\x00\x01k\x01v"
    data = rdb(body)
    source = Bytes(data)
    file = RdbFile(source, "test.rdb")
    for n, line in enumerate(lines):
        entry = file.next()
        assert isinstance(entry, Entry)
        assert (entry.key, value_of(0, file.body(entry))) == (b"s%d" % n, line)
    entry = file.next()
    assert isinstance(entry, Entry)
    assert entry.body is None
    assert value_of(0, file.body(entry)) == big
    source.most = 0
    entry = file.next()
    assert isinstance(entry, Entry)
    assert entry.body is None
    found = [item for piece in pieces(file, entry, 100_000) for item in piece.items]
    assert found == lines
    assert source.most <= WINDOW_BYTES
    entry = file.next()
    assert isinstance(entry, Entry)
    assert (entry.key, entry.body) == (b"k", b"\x01v")
    assert file.next() is None
    assert file.checksum == "good"


def test_empty_collections_are_marked() -> None:
    first, second = entries(rdb(b"\x01\x01l\x00" + b"\x04\x01h\x01\x01f\x01v"))
    assert (first.empty, second.empty) == (True, False)


def test_load_leaves_out_what_has_expired_and_refuses_a_key_twice() -> None:
    timed = b"\xfc" + pack("<q", 500) + b"\x00\x01a\x011" + b"\xfc" + pack("<q", 501) + b"\x00\x01b\x012"
    data = rdb(timed + b"\x01\x01l\x00")
    ks = Keyspace(2)
    loaded = load_file(RdbFile(Bytes(data), "test.rdb"), ks, 500)
    assert (loaded.keys, loaded.left_out) == (1, {"expired": 1, "empty collection": 1})
    assert (ks.dbs[0].peek(b"b"), ks.dbs[0].expiry(b"b")) == (b"2", 501)
    with pytest.raises(DamagedRdb, match="key b'b' occurs twice in database 0"):
        load_file(RdbFile(Bytes(data), "test.rdb"), ks, 500)
    with pytest.raises(UnsupportedRdb, match="set 'databases' to more than 5"):
        load_file(RdbFile(Bytes(rdb(b"\xfe\x05\x00\x01a\x011")), "test.rdb"), ks, 0)
