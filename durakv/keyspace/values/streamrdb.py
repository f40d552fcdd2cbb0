"""A stream as RDB bytes, both ways: types 15 (Redis 5), 19 (Redis 7.0) and 21 (Redis 7.2, Valkey).

Written is type 19, which every version since Redis 7.0 reads, unless it would lose when a consumer last got something;
then type 21. Nodes are written as they are, deleted entries included, so a restored stream is trimmed as its original.
Rule: bytes come from a stranger: a stream no command could have made (ids out of order, pending entries nobody owns,
counts that disagree) is refused. Strings and lengths are dump's and rdb_read's business.
Source: rdb.c rdbSaveObject(), rdbLoadObject(); t_stream.c streamValidateListpackIntegrity().
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, Protocol

from durakv.keyspace.rdb_packed import BAD_DATA, RdbError, listpack_items
from durakv.keyspace.values.packed import is_integer
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import Consumer, Group, Pending
from durakv.keyspace.values.streamnode import DELETED, SAME_FIELDS, SEQ_MASK, Node
from durakv.keyspace.values.streampack import signed64

TYPE_5: Final = 15
TYPE_7: Final = 19
TYPE_7_2: Final = 21
TYPES: Final = (TYPE_5, TYPE_7, TYPE_7_2)

_TIME: Final = Struct("<q")
_ID_BYTES: Final = 16

PutLength = Callable[[list[bytes], int], None]
PutString = Callable[[list[bytes], bytes], None]


class Reader(Protocol):
    """What of rdb_read.RdbReader is used here."""

    def take(self, n: int) -> bytes: ...

    def length(self) -> int: ...

    def string(self) -> bytes: ...


# -- writing -------------------------------------------------------------------------------------------------------


def save(
    out: list[bytes], stream: Stream, put_length: PutLength, put_string: PutString, *, redis_7_0: bool = False
) -> int:
    """Append the type byte and the content of ``stream`` to ``out``; the type.

    ``redis_7_0``: type 19, whatever it loses.
    """
    kind = TYPE_7
    for group in stream.groups.values():
        for consumer in group.consumers.values():
            if consumer.active_ms != consumer.seen_ms and not redis_7_0:
                kind = TYPE_7_2
    out.append(bytes((kind,)))
    put_length(out, len(stream.nodes))
    for node in stream.nodes:
        put_string(out, node.first_id.to_bytes(_ID_BYTES, "big"))
        put_string(out, node.as_listpack())
    put_length(out, stream.length)
    for entry_id in (stream.last_id, stream.first_live_id(), stream.max_deleted_id):
        _put_id(out, entry_id, put_length)
    put_length(out, stream.entries_added)
    put_length(out, len(stream.groups))
    for name in sorted(stream.groups):
        group = stream.groups[name]
        put_string(out, name)
        _put_id(out, group.last_id, put_length)
        put_length(out, group.entries_read & SEQ_MASK)
        put_length(out, group.order.size)
        for entry_id in group.order.starting(0, group.order.size):
            pending = group.pending[entry_id]
            out.append(entry_id.to_bytes(_ID_BYTES, "big"))
            out.append(_TIME.pack(pending.delivered_ms))
            put_length(out, pending.count)
        put_length(out, len(group.consumers))
        for consumer in group.in_order():
            put_string(out, consumer.name)
            out.append(_TIME.pack(consumer.seen_ms))
            if kind == TYPE_7_2:
                out.append(_TIME.pack(consumer.active_ms))
            put_length(out, consumer.pending.size)
            out += [n.to_bytes(_ID_BYTES, "big") for n in consumer.pending.starting(0, consumer.pending.size)]
    return kind


def _put_id(out: list[bytes], entry_id: int, put_length: PutLength) -> None:
    put_length(out, entry_id >> 64)
    put_length(out, entry_id & SEQ_MASK)


# -- reading -------------------------------------------------------------------------------------------------------


def load(reader: Reader, kind: int) -> Stream:
    """The stream of type ``kind`` that ``reader`` is at. Raises RdbError, or IndexError or struct.error at the end."""
    stream = Stream()
    before = -1
    for _ in range(_length(reader)):
        key = reader.string()
        if len(key) != _ID_BYTES:
            raise RdbError(BAD_DATA)
        first_id = int.from_bytes(key, "big")
        if first_id <= before:
            raise RdbError(BAD_DATA)
        node = _node(first_id, listpack_items(reader.string()))
        before = node.id_at(node.count() - 1)
        stream.nodes.append(node)
        stream.first_ids.append(first_id)
        stream.length += node.live
    length = _length(reader)
    stream.last_id = _id(reader)
    if length != stream.length or stream.last_id < before:
        raise RdbError(BAD_DATA)
    stream.entries_added = length
    if kind != TYPE_5:
        # Where the first entry is follows from the nodes.
        _id(reader)
        stream.max_deleted_id = _id(reader)
        stream.entries_added = _length(reader)
    for _ in range(_length(reader)):
        name = reader.string()
        if name in stream.groups:
            raise RdbError(BAD_DATA)
        stream.groups[name] = _group(reader, kind, stream)
    return stream


def _length(reader: Reader) -> int:
    n = reader.length()
    if n < 0:
        raise RdbError(BAD_DATA)
    return n


def _id(reader: Reader) -> int:
    ms = _length(reader)
    return ms << 64 | _length(reader)


def _raw_id(reader: Reader) -> int:
    return int.from_bytes(reader.take(_ID_BYTES), "big")


def _time(reader: Reader) -> int:
    return int(_TIME.unpack(reader.take(_TIME.size))[0])


def _group(reader: Reader, kind: int, stream: Stream) -> Group:
    last_id = _id(reader)
    if kind == TYPE_5:
        read = stream.count_through(last_id)
    else:
        read = signed64(_length(reader))
    group = Group(last_id, read)
    delivered: dict[int, tuple[int, int]] = {}
    for _ in range(_length(reader)):
        entry_id = _raw_id(reader)
        if entry_id in delivered:
            raise RdbError(BAD_DATA)
        at_ms = _time(reader)
        delivered[entry_id] = (at_ms, _length(reader))
    for _ in range(_length(reader)):
        name = reader.string()
        if name in group.consumers:
            raise RdbError(BAD_DATA)
        seen_ms = _time(reader)
        active_ms = _time(reader) if kind == TYPE_7_2 else seen_ms
        consumer = Consumer(name, seen_ms, active_ms)
        group.consumers[name] = consumer
        for _ in range(_length(reader)):
            entry_id = _raw_id(reader)
            found = delivered.pop(entry_id, None)
            if found is None:
                raise RdbError(BAD_DATA)
            group.own(entry_id, Pending(name, found[0], found[1]))
    if delivered:
        raise RdbError(BAD_DATA)
    return group


class _Items:
    """The elements of a listpack, read forward. Raises RdbError, or IndexError at the end."""

    __slots__ = ("at", "items")

    def __init__(self, items: list[bytes]) -> None:
        self.items = items
        self.at = 0

    def text(self) -> bytes:
        self.at += 1
        return self.items[self.at - 1]

    def number(self) -> int:
        text = self.text()
        if not is_integer(text):
            raise RdbError(BAD_DATA)
        return int(text)

    def texts(self, count: int) -> list[bytes]:
        if not 0 <= count <= len(self.items) - self.at:
            raise RdbError(BAD_DATA)
        self.at += count
        return self.items[self.at - count : self.at]


def _node(first_id: int, elements: list[bytes]) -> Node:
    items = _Items(elements)
    live = items.number()
    dead = items.number()
    fields = items.texts(items.number())
    if items.number() != 0:
        raise RdbError(BAD_DATA)
    node = Node(first_id, fields)
    before = first_id - 1
    while items.at < len(elements):
        start = items.at
        flags = items.number()
        ms = (first_id >> 64) + items.number() & SEQ_MASK
        entry_id = ms << 64 | (first_id & SEQ_MASK) + items.number() & SEQ_MASK
        if flags & SAME_FIELDS:
            values = items.texts(len(fields))
            flat = [text for pair in zip(fields, values, strict=True) for text in pair]
        else:
            flat = items.texts(2 * items.number())
        # The shorter form is used whenever it can be.
        same = flat[::2] == fields
        if not 0 <= flags <= DELETED | SAME_FIELDS or entry_id <= before:
            raise RdbError(BAD_DATA)
        if not flat or same != bool(flags & SAME_FIELDS):
            raise RdbError(BAD_DATA)
        if items.at - start != items.number():
            raise RdbError(BAD_DATA)
        node.append(entry_id, flat)
        if flags & DELETED:
            node.mark(node.count() - 1)
        before = entry_id
    if not node.flags or node.live != live or node.dead != dead:
        raise RdbError(BAD_DATA)
    return node
