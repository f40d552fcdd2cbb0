"""The version written is the lowest that holds the data; what has expired stays out."""

from __future__ import annotations

from struct import pack

import pytest

from durakv.keyspace.digest import canonical_value
from durakv.keyspace.dump import load_payload
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.values.hash import Hash
from durakv.rdb import kinds
from durakv.rdb.reader import Aux, Entry, Function, RdbFile
from durakv.rdb.save import write_keyspace
from durakv.rdb.values import restore_payload, value_of
from durakv.rdb.writer import RdbWriter, VersionTooLow, header
from tests.rdb.formats import Bytes, Memory, listpack, string

BODIES = {
    kinds.STRING: string(b"v"),
    kinds.ZSET: b"\x01" + string(b"m") + bytes(8),
    kinds.HASH_LISTPACK: string(listpack([b"f", b"v"])),
    kinds.SET_LISTPACK: string(listpack([b"m"])),
    kinds.HASH_VALKEY_TTL: b"\x01" + string(b"f") + string(b"v") + bytes(8),
}


@pytest.mark.parametrize(("kind", "version"), [
    (kinds.STRING, 9), (kinds.ZSET, 9), (kinds.HASH_LISTPACK, 10), (kinds.SET_LISTPACK, 11),
    (kinds.HASH_VALKEY_TTL, 80),
])  # fmt: skip
def test_the_header_says_the_lowest_version(kind: int, version: int) -> None:
    sink = Memory()
    writer = RdbWriter(sink)
    writer.database(2, 2, 0)
    writer.put(b"k", kind, BODIES[kind], -1)
    writer.put_string(b"long" * 300, b"x" * 20_000, 1 << 40)
    writer.finish()
    assert sink.data.startswith(header(version))
    file = RdbFile(Bytes(sink.data), "out.rdb")
    first, second = file.next(), file.next()
    assert file.next() is None
    assert (file.version, file.checksum) == (version, "good")
    assert isinstance(first, Entry)
    assert isinstance(second, Entry)
    assert (first.db, first.kind, first.body) == (2, kind, BODIES[kind])
    assert (second.key, second.expire_ms) == (b"long" * 300, 1 << 40)


def test_a_version_asked_for_is_not_exceeded() -> None:
    writer = RdbWriter(Memory(), 10)
    writer.put(b"k", kinds.HASH_LISTPACK, BODIES[kinds.HASH_LISTPACK], -1)
    with pytest.raises(VersionTooLow, match="key b'm' needs RDB version 11, 10 was asked for"):
        writer.put(b"m", kinds.SET_LISTPACK, BODIES[kinds.SET_LISTPACK], -1)


def test_facts_and_functions() -> None:
    sink = Memory()
    writer = RdbWriter(sink)
    writer.aux(b"durakv-index", b"17")
    writer.function(b"#!lua name=lib\n")
    writer.finish()
    file = RdbFile(Bytes(sink.data), "out.rdb")
    fact, function = file.next(), file.next()
    assert isinstance(fact, Aux)
    assert (fact.name, fact.content) == (b"durakv-index", b"17")
    assert isinstance(function, Function)
    assert function.code == b"#!lua name=lib\n"
    assert file.next() is None
    assert file.version == 10


def test_expired_keys_stay_out() -> None:
    ks = Keyspace(1)
    for key, at_ms in [(b"before", 999), (b"at", 1000), (b"after", 1001), (b"never", -1)]:
        ks.dbs[0].put(key, b"v")
        if at_ms >= 0:
            ks.dbs[0].set_expiry(key, at_ms)
    ks.log_ms = 1000
    sink = Memory()
    writer = RdbWriter(sink)
    saved = write_keyspace(writer, ks)
    writer.finish()
    assert (saved.keys, saved.expired, saved.by_type) == (2, 2, {"string": 2})
    file = RdbFile(Bytes(sink.data), "out.rdb")
    keys = set()
    while (record := file.next()) is not None:
        assert isinstance(record, Entry)
        keys.add(record.key)
    assert keys == {b"after", b"never"}


def timed_hash() -> Hash:
    value = Hash()
    for field, at_ms in [(b"gone", 900), (b"soon", 5000), (b"later", 7000), (b"kept", -1)]:
        value.set(field, b"of " + field)
        if at_ms >= 0:
            value.set_deadline(field, at_ms)
    return value


@pytest.mark.parametrize(
    ("limit", "version", "kind"), [(81, 80, kinds.HASH_VALKEY_TTL), (12, 12, kinds.HASH_REDIS_TTL)]
)
def test_deadlines_of_fields_in_the_form_of_either_family(limit: int, version: int, kind: int) -> None:
    ks = Keyspace(1)
    ks.log_ms = 1000
    ks.dbs[0].put(b"h", timed_hash())
    sink = Memory()
    writer = RdbWriter(sink, limit)
    write_keyspace(writer, ks)
    writer.finish()
    file = RdbFile(Bytes(sink.data), "out.rdb")
    entry = file.next()
    assert isinstance(entry, Entry)
    assert (file.version, entry.kind) == (version, kind)
    value = value_of(kind, file.body(entry))
    assert isinstance(value, Hash)
    assert value.deadlines is not None
    assert value.deadlines.at_ms == {b"soon": 5000, b"later": 7000}
    assert dict(value.fields) == {b"soon": b"of soon", b"later": b"of later", b"kept": b"of kept"}
    again = load_payload(restore_payload(kind, file.body(entry)))
    assert canonical_value(again) == canonical_value(value)


def test_deadlines_of_fields_need_a_late_version_or_are_dropped_on_request() -> None:
    ks = Keyspace(1)
    ks.log_ms = 1000
    ks.dbs[0].put(b"h", timed_hash())
    with pytest.raises(VersionTooLow, match="key b'h' needs RDB version 12, 11 was asked for"):
        write_keyspace(RdbWriter(Memory(), 11), ks)
    sink = Memory()
    writer = RdbWriter(sink)
    saved = write_keyspace(writer, ks, drop_field_ttl=True)
    writer.finish()
    file = RdbFile(Bytes(sink.data), "out.rdb")
    entry = file.next()
    assert isinstance(entry, Entry)
    assert (file.version, entry.kind, saved.fields_kept) == (9, kinds.HASH, 1)
    assert len(value_of(entry.kind, file.body(entry)).fields) == 3  # type: ignore[attr-defined]


def test_a_packed_hash_of_redis_with_deadlines() -> None:
    body = pack("<Q", 5000) + string(listpack([b"f", b"1", b"0", b"g", b"2", b"5000"]))
    value = value_of(kinds.HASH_LISTPACK_TTL, body)
    assert isinstance(value, Hash)
    assert value.deadlines is not None
    assert (dict(value.fields), value.deadlines.at_ms) == ({b"f": b"1", b"g": b"2"}, {b"g": 5000})
    for bad in ([b"f", b"1"], [b"f", b"1", b"x"], [b"f", b"1", b"-5"], [b"f", b"1", b"%d" % (1 << 63)]):
        with pytest.raises(RdbError):
            value_of(kinds.HASH_LISTPACK_TTL, pack("<Q", 5000) + string(listpack(bad)))
