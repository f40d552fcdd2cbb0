"""DUMP payloads of streams: types 15, 19 and 21, what is refused, and what stock servers make of ours."""

from __future__ import annotations

from random import Random
from struct import pack
from typing import Any

import pytest

from durakv.keyspace.dump import dump_payload, load_payload
from durakv.keyspace.rdb_crc import crc64
from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import READ_UNKNOWN
from durakv.keyspace.values.streamnode import DELETED
from durakv.keyspace.values.streampack import listpack, pack_int, pack_text
from tests.commands.running import Reference

MS = 1 << 64


def payload(body: bytes, version: int = 10) -> bytes:
    data = body + pack("<H", version)
    return data + pack("<Q", crc64(data))


def sample(*, active_ms: int = 7) -> Stream:
    """Two nodes, a deleted entry, two groups, one with consumers."""
    stream = Stream()
    for i in range(1, 121):
        stream.append(i * MS + i % 3, [b"f", b"%d" % i] if i % 5 else [b"other", b"v" * i, b"1", b""])
    stream.delete(7 * MS + 1)
    stream.create_group(b"h", 5 * MS, READ_UNKNOWN)
    stream.create_group(b"g", 3 * MS, 3)
    group = stream.groups[b"g"]
    alice = group.create(b"Alice", 7)
    group.active(alice, active_ms)
    group.active(group.create(b"Bob", 7), 7)
    for i in (1, 2, 3):
        group.assign(i * MS + i % 3, alice, 1_700_000_000_000 + i, i)
    return stream


def read(data: bytes) -> Stream:
    value = load_payload(data)
    assert isinstance(value, Stream)
    return value


@pytest.mark.parametrize(("active_ms", "kind", "version"), [(7, 19, 10), (-1, 21, 11), (6, 21, 11)])
def test_round_trip(active_ms: int, kind: int, version: int) -> None:
    stream = sample(active_ms=active_ms)
    data = dump_payload(stream)
    assert (data[0], data[-10]) == (kind, version)
    again = read(data)
    assert again.canonical() == stream.canonical() and len(again) == 119
    assert dump_payload(again) == data
    assert read(dump_payload(Stream())).canonical() == Stream().canonical()


def old_form(stream: Stream) -> bytes:
    """``stream`` as Redis 5 wrote it: fewer counters."""
    out = [b"\x0f", bytes((len(stream.nodes),))]
    for node in stream.nodes:
        blob = node.as_listpack()
        out += [b"\x10" + node.first_id.to_bytes(16, "big"), b"\x80" + pack(">I", len(blob)) + blob]
    last = stream.last_id
    out += [bytes((len(stream),)), bytes((last >> 64, last & 63)), bytes((len(stream.groups),))]
    for name, group in sorted(stream.groups.items()):
        out += [
            bytes((len(name),)) + name,
            bytes((group.last_id >> 64, group.last_id & 63)),
            bytes((len(group.order),)),
        ]
        for entry_id, pending in sorted(group.pending.items()):
            out.append(entry_id.to_bytes(16, "big") + pack("<q", pending.delivered_ms) + bytes((pending.count,)))
        out.append(bytes((len(group.consumers),)))
        for consumer in group.in_order():
            out.append(bytes((len(consumer.name),)) + consumer.name + pack("<q", consumer.seen_ms))
            ids = consumer.pending.starting(0, 99)
            out += [bytes((len(ids),)), *[entry_id.to_bytes(16, "big") for entry_id in ids]]
    return b"".join(out)


def old_sample() -> Stream:
    """Six added, the third deleted, four read by one consumer, trimmed to the last two."""
    stream = Stream()
    for i in range(1, 7):
        stream.append(i * MS, [b"data", b"abcdef"[i - 1 : i]])
    stream.delete(3 * MS)
    stream.create_group(b"g1", 5 * MS, READ_UNKNOWN)
    stream.create_group(b"g2", 0, READ_UNKNOWN)
    group = stream.groups[b"g1"]
    consumer = group.create(b"c11", 1_700_000_000_000)
    for i in (1, 2, 4, 5):
        group.assign(i * MS, consumer, 1_700_000_000_000, 1)
    stream.trim_length(2, approximate=False, limit=0)
    return stream


def test_what_redis_5_wrote_is_completed() -> None:
    stream = read(payload(old_form(old_sample()), 9))
    assert (len(stream), stream.max_deleted_id, stream.entries_added) == (2, 0, 2)
    first, second = stream.groups[b"g1"], stream.groups[b"g2"]
    assert (first.entries_read, stream.lag(first), second.entries_read, stream.lag(second)) == (1, 1, 0, 2)
    assert len(first.pending) == 4 and first.consumers[b"c11"].active_ms == 1_700_000_000_000
    assert stream.nodes[0].dead == 4 and stream.range(0, 9 * MS, 0)[0] == (5 * MS, [b"data", b"e"])


@pytest.mark.live
def test_stock_servers_read_the_same_in_old_and_new_payloads(stock: Reference) -> None:
    stock("FLUSHALL")
    assert stock("RESTORE", "old", 0, payload(old_form(old_sample()), 9)) == b"OK"
    theirs = read(stock("DUMP", "old"))
    ours = read(payload(old_form(old_sample()), 9))
    assert theirs.canonical() == ours.canonical()
    assert stock("RESTORE", "new", 0, dump_payload(sample())) == b"OK"
    assert read(stock("DUMP", "new")).canonical() == sample().canonical()
    assert stock("XADD", "new", "120-*", "f", "v") == b"120-1"
    assert stock("XLEN", "new") == 120


# -- damage --------------------------------------------------------------------------------------------------------


def node_blob(*entries: list[bytes], live: int, dead: int = 0, fields: tuple[bytes, ...] = (b"f",)) -> bytes:
    """A node's listpack from packed entries, whatever they say."""
    elements = [pack_int(live), pack_int(dead), pack_int(len(fields)), *map(pack_text, fields), pack_int(0)]
    for entry in entries:
        elements += entry
    return listpack(b"".join(elements), len(elements))


def same(ms: int, seq: int, flags: int = 2, pieces: int = 4) -> list[bytes]:
    return [pack_int(flags), pack_int(ms), pack_int(seq), pack_text(b"v"), pack_int(pieces)]


def one_node(blob: bytes, length: int, last_ms: int = 9, first_id: int = MS, more: bytes = b"\0") -> bytes:
    """A type 15 payload of one node and ``more`` (no groups)."""
    text = b"\x80" + pack(">I", len(blob)) + blob
    return payload(b"\x0f\x01\x10" + first_id.to_bytes(16, "big") + text + bytes((length, last_ms, 0)) + more)


GOOD_NODE = node_blob(same(0, 0), same(1, 0), same(1, 1, flags=3), live=2, dead=1)


def test_a_node_by_hand_is_read() -> None:
    stream = read(one_node(GOOD_NODE, 2))
    assert stream.range(0, 9 * MS, 0) == [(MS, [b"f", b"v"]), (2 * MS, [b"f", b"v"])]
    assert stream.nodes[0].flags[2] & DELETED


@pytest.mark.parametrize("data", [
    one_node(GOOD_NODE, 3), one_node(GOOD_NODE, 2, last_ms=1), one_node(node_blob(live=0), 0),
    one_node(node_blob(same(0, 0), live=2), 1), one_node(node_blob(same(0, 0), live=1, dead=1), 1),
    one_node(node_blob(same(1, 0), same(0, 0), live=2), 2), one_node(node_blob(same(0, 0), same(0, 0), live=2), 2),
    one_node(node_blob(same(-1, 0), live=1), 1), one_node(node_blob(same(0, 0, pieces=5), live=1), 1),
    one_node(node_blob(same(0, 0, flags=4), live=1), 1), one_node(node_blob(same(0, 0, flags=0), live=1), 1),
    one_node(node_blob(same(0, 0), live=1, fields=(b"f", b"g")), 1),
    one_node(node_blob([pack_text(b"x"), *same(0, 0)[1:]], live=1), 1), one_node(b"", 0), one_node(GOOD_NODE[:-1], 2),
    one_node(GOOD_NODE, 2, more=b""), one_node(GOOD_NODE, 2, more=b"\x01\x01g"),
    one_node(GOOD_NODE, 2, more=b"\xc0\x01"),
    one_node(GOOD_NODE, 2, more=b"\x02\x01g\0\0\0\0\x01g\0\0\0\0"),
    one_node(GOOD_NODE, 2, more=b"\x01\x01g\0\0\x01" + bytes(25) + b"\0"),
    one_node(GOOD_NODE, 2, more=b"\x01\x01g\0\0\x02" + (bytes(24) + b"\1") * 2 + b"\0"),
    one_node(GOOD_NODE, 2, more=b"\x01\x01g\0\0\0\x01\x01c" + bytes(8) + b"\x01" + bytes(16)),
    one_node(GOOD_NODE, 2, more=b"\x01\x01g\0\0\0\x02" + (b"\x01c" + bytes(8) + b"\0") * 2),
    payload(b"\x0f\x01\x01x\x01y\0\0\0\0"), payload(b"\x0f\x81" + b"\xff" * 8),
    payload(b"\x0f\x01\x10" + MS.to_bytes(16, "big") + b"\x81" + b"\xff" * 8), payload(b"\x13\0\0\0\0"),
    payload(b"\x15"),
])  # fmt: skip
def test_streams_no_command_makes_are_refused(data: bytes) -> None:
    with pytest.raises(RdbError, match="Bad data format"):
        load_payload(data)


def test_damage_anywhere_is_refused_or_read_as_a_whole_stream() -> None:
    good = dump_payload(old_sample())[:-10]
    dice = Random(3)
    refused = 0
    for _ in range(3000):
        changed = bytearray(good)
        for _ in range(dice.choice((1, 1, 2, 5))):
            changed[dice.randrange(len(changed))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        try:
            value: Any = load_payload(payload(bytes(changed[: dice.choice((len(good), dice.randrange(len(good))))])))
        except RdbError:
            refused += 1
            continue
        if isinstance(value, Stream):
            assert load_payload(dump_payload(value)).canonical() == value.canonical()  # type: ignore[attr-defined]
            assert len(value.range(0, (1 << 128) - 1, 0)) == len(value)
    assert refused > 1000
