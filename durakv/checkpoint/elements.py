"""Values stored element by element: the header in the key's row, a row for each element, and the way back. [compiled]

Rule: the only place that knows the bytes of headers, of element keys and of element values. A header is the kind
(images.py, LARGE added), flags, then u64 kid, u64 count of rows, u64 next order, and what the kind adds. ``kid`` names
the rows and is never used again. It must not know keys, row formats or what changed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from durakv.checkpoint.images import (
    FLAG_PACKED,
    FLAG_QUICK,
    FORM_MASK,
    GROWN_STRING,
    HASH,
    LARGE,
    LIST,
    SET,
    STREAM,
    STRING,
    ZSET,
    stored_deadlines,
    stored_list,
    stored_set,
    stored_zset,
)
from durakv.checkpoint.stream_images import (
    ID_BYTES,
    add_node,
    check_length,
    from_node_image,
    id_at,
    id_bytes,
    node_image,
)
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import Consumer, Group, Pending
from durakv.keyspace.values.streamnode import Node
from durakv.keyspace.values.touched import Touched, TouchedEnds, TouchedGroup, TouchedPlaces, TouchedStream
from durakv.keyspace.values.zset import ZSet

CHUNK_BYTES: Final = 32768
_DENSE: Final = 8

# kind, flags, kid, count, next order
_HEAD: Final = struct.Struct("<BBQQQ")
_STRING: Final = struct.Struct("<Q")
# head, size
_LIST: Final = struct.Struct("<qQ")
# length, entries added
_STREAM: Final = struct.Struct("<QQ")
_DEADLINE: Final = struct.Struct("<q")
_SCORE: Final = struct.Struct("<d")
_TIMES: Final = struct.Struct("<qq")
_PENDING: Final = struct.Struct("<qQ")
_CHUNK_KEY: Final = struct.Struct(">I")
_PLACE_KEY: Final = struct.Struct(">Q")
_NAME_KEY: Final = struct.Struct(">I")
_MIDDLE: Final = 1 << 63
_NO_DEADLINE: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff"

_NODE_ROW: Final = 0x6E  # n
_GROUP_ROW: Final = 0x67  # g
_CONSUMER_ROW: Final = 0x63  # c
_PENDING_ROW: Final = 0x70  # p


# -- headers ------------------------------------------------------------------------------------------------------


def large(value: object, tracker: Any) -> bytes:
    """The header of a value as it is now; ``tracker`` is its touched.Touched..., or TouchedChunks for a string."""
    kid: int = tracker.kid
    if isinstance(value, (bytes, bytearray)):
        kind = GROWN_STRING if isinstance(value, bytearray) else STRING
        chunks = (len(value) + CHUNK_BYTES - 1) // CHUNK_BYTES
        return _HEAD.pack(kind | LARGE, 0, kid, chunks, 0) + _STRING.pack(len(value))
    if isinstance(value, Hash):
        flags = FLAG_PACKED if value.packed else 0
        return _HEAD.pack(HASH | LARGE, flags, kid, len(value.fields), tracker.next_order)
    if isinstance(value, ZSet):
        flags = FLAG_PACKED if value.packed else 0
        return _HEAD.pack(ZSET | LARGE, flags, kid, len(value.scores), tracker.next_order)
    if isinstance(value, SetValue):
        return _HEAD.pack(SET | LARGE, value.form, kid, len(value.members), 0)
    if isinstance(value, ListValue):
        flags = FLAG_QUICK if value.quick else 0
        return _HEAD.pack(LIST | LARGE, flags, kid, len(value.items), 0) + _LIST.pack(tracker.head, value.size)
    if isinstance(value, Stream):
        rows = len(value.nodes)
        for group in value.groups.values():
            rows += 1 + len(group.consumers) + group.order.size
        return b"".join((
            _HEAD.pack(STREAM | LARGE, 0, kid, rows, 0),
            _STREAM.pack(value.length, value.entries_added),
            id_bytes(value.last_id),
            id_bytes(value.max_deleted_id),
        ))  # fmt: skip
    raise AssertionError(f"a key cannot hold {type(value).__name__}")


class Header:
    """A parsed header: ``kind`` without LARGE, ``count`` rows of ``kid``; ``image`` has what the kind adds."""

    __slots__ = ("count", "flags", "image", "kid", "kind", "next_order")

    def __init__(self, image: bytes) -> None:
        """Raises ValueError when this is no header."""
        if len(image) < _HEAD.size or not image[0] & LARGE:
            raise ValueError("this is no header of a large value")
        kind, flags, kid, count, next_order = _HEAD.unpack_from(image)
        self.kind: int = kind & ~LARGE
        self.flags: int = flags
        self.kid: int = kid
        self.count: int = count
        self.next_order: int = next_order
        self.image = image


# -- element keys -------------------------------------------------------------------------------------------------


def chunk_key(number: int) -> bytes:
    """Of a string: the chunk that begins at ``number * CHUNK_BYTES``."""
    return _CHUNK_KEY.pack(number)


def place_key(place: int) -> bytes:
    """Of a set: the member at that place."""
    return _PLACE_KEY.pack(place)


def position_key(position: int) -> bytes:
    """Of a list: the element at ``position``, which is the tracker's head for the first and may be negative."""
    return _PLACE_KEY.pack(position + _MIDDLE)


def node_key(first_id: int) -> bytes:
    """Of a stream: a node."""
    return b"n" + first_id.to_bytes(ID_BYTES, "big")


def group_key(name: bytes) -> bytes:
    """Of a stream: a group's cursor."""
    return b"g" + name


def consumer_key(group: bytes, name: bytes) -> bytes:
    """Of a stream: a consumer."""
    return b"c" + _NAME_KEY.pack(len(group)) + group + name


def pending_key(group: bytes, entry_id: int) -> bytes:
    """Of a stream: an entry that is delivered and not acknowledged."""
    return b"p" + _NAME_KEY.pack(len(group)) + group + entry_id.to_bytes(ID_BYTES, "big")


# -- element values -----------------------------------------------------------------------------------------------


def field_value(value: Hash, field: bytes) -> bytes:
    """The row of a field that is there: its deadline (-1: none) and value."""
    text = value.fields[field]
    if value.deadlines is None:
        return _NO_DEADLINE + text
    return _DEADLINE.pack(value.deadlines.at_ms.get(field, -1)) + text


def score_value(score: float) -> bytes:
    """The row of a sorted set's member."""
    return _SCORE.pack(score)


def chunk_value(value: bytes | bytearray, number: int) -> bytes:
    """The row of a string's chunk."""
    return bytes(value[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES])


def group_value(group: Group) -> bytes:
    """The row of a group's cursor."""
    return id_bytes(group.last_id) + _DEADLINE.pack(group.entries_read)


def consumer_value(consumer: Consumer) -> bytes:
    """The row of a consumer."""
    return _TIMES.pack(consumer.seen_ms, consumer.active_ms)


def pending_value(pending: Pending) -> bytes:
    """The row of a pending entry."""
    return _PENDING.pack(pending.delivered_ms, pending.count) + pending.owner


def node_value(node: Node) -> bytes:
    """The row of a node."""
    return node_image(node)


def elements(value: object, tracker: Any) -> Iterator[tuple[bytes, bytes]]:
    """(element key, value) of all rows, in the order in which they are to be loaded."""
    if isinstance(value, (bytes, bytearray)):
        for number in range((len(value) + CHUNK_BYTES - 1) // CHUNK_BYTES):
            yield _CHUNK_KEY.pack(number), chunk_value(value, number)
    elif isinstance(value, Hash):
        for field in value.fields:
            yield field, field_value(value, field)
    elif isinstance(value, ZSet):
        for member, score in value.scores.items():
            yield member, _SCORE.pack(score)
    elif isinstance(value, SetValue):
        place = 0
        for member in value.members:
            yield _PLACE_KEY.pack(place), member
            place += 1
    elif isinstance(value, ListValue):
        position: int = tracker.head + _MIDDLE
        for item in value.items:
            yield _PLACE_KEY.pack(position), item
            position += 1
    else:
        assert isinstance(value, Stream)
        for node in value.nodes:
            yield node_key(node.first_id), node_image(node)
        for name, group in value.groups.items():
            yield from group_elements(name, group)


def group_elements(name: bytes, group: Group) -> list[tuple[bytes, bytes]]:
    """All rows of one group of a stream."""
    rows = [(group_key(name), group_value(group))]
    rows += [(consumer_key(name, c.name), consumer_value(c)) for c in group.consumers.values()]
    ids = group.order.starting(0, group.order.size)
    rows += [(pending_key(name, entry_id), pending_value(group.pending[entry_id])) for entry_id in ids]
    return rows


# -- the way back -------------------------------------------------------------------------------------------------

# (order, element key, value)
Row = tuple[int, bytes, bytes]


def assemble(header: Header, rows: list[Row]) -> object:
    """The value a header and its rows, in order of element keys, were made of; its tracker is set, strings excepted.

    Raises ValueError when there is none.
    """
    if len(rows) != header.count:
        raise ValueError(f"a value of {header.count} rows has {len(rows)}")
    try:
        kind = header.kind
        if kind == HASH:
            return _hash(header, rows)
        if kind == ZSET:
            return _zset(header, rows)
        if kind == SET:
            return _set(header, rows)
        if kind == LIST:
            return _list(header, rows)
        if kind in (STRING, GROWN_STRING):
            return _string(header, rows)
        if kind == STREAM:
            return _stream(header, rows)
    except (struct.error, IndexError) as error:
        raise ValueError(f"a row of a value of kind {header.kind} is cut short: {error}") from None
    raise ValueError(f"unknown kind {header.kind}")


def _in_order(header: Header, rows: list[Row]) -> list[Row]:
    """Rows by order, which must differ and lie below the header's next."""
    end = header.next_order
    if end <= _DENSE * len(rows):
        # Putting each in its place is faster than sorting.
        places: list[Row | None] = [None] * end
        for row in rows:
            order = row[0]
            if order >= end:
                raise ValueError(f"an element has place {order}, the next one is {end}")
            if places[order] is not None:
                raise ValueError(f"two elements have the same place {order}")
            places[order] = row
        return [row for row in places if row is not None]
    rows.sort()
    before = -1
    for row in rows:
        if row[0] == before:
            raise ValueError(f"two elements have the same place {before}")
        before = row[0]
    if before >= end:
        raise ValueError(f"an element has place {before}, the next one is {end}")
    return rows


def _hash(header: Header, rows: list[Row]) -> Hash:
    made = Hash()
    at_ms: dict[bytes, int] = {}
    fields = made.fields
    for _, field, value in _in_order(header, rows):
        fields[field] = value[8:]
        if value[:8] != _NO_DEADLINE:
            at_ms[field] = _DEADLINE.unpack_from(value)[0]
    if at_ms:
        made.deadlines = stored_deadlines(at_ms)
    made.packed = header.flags & FLAG_PACKED != 0
    made.tracker = Touched(header.kid, header.next_order)
    return made


def _zset(header: Header, rows: list[Row]) -> ZSet:
    scores: dict[bytes, float] = {}
    for _, member, value in _in_order(header, rows):
        scores[member] = _SCORE.unpack(value)[0]
    made = stored_zset(scores, packed=header.flags & FLAG_PACKED != 0)
    made.tracker = Touched(header.kid, header.next_order)
    return made


def _set(header: Header, rows: list[Row]) -> SetValue:
    members: list[bytes] = []
    for _, key, value in rows:
        if key != _PLACE_KEY.pack(len(members)):
            raise ValueError(f"no member at place {len(members)}")
        members.append(value)
    made = stored_set(members, header.flags & FORM_MASK)
    made.tracker = TouchedPlaces(header.kid, len(members))
    return made


def _list(header: Header, rows: list[Row]) -> ListValue:
    head, size = _LIST.unpack_from(header.image, _HEAD.size)
    items: list[bytes] = []
    for _, key, value in rows:
        if key != _PLACE_KEY.pack(head + _MIDDLE + len(items)):
            raise ValueError(f"no element at position {head + len(items)}")
        items.append(value)
    made = stored_list(items, size, quick=header.flags & FLAG_QUICK != 0)
    made.tracker = TouchedEnds(header.kid, head, len(items))
    return made


def _string(header: Header, rows: list[Row]) -> object:
    length: int = _STRING.unpack_from(header.image, _HEAD.size)[0]
    chunks: list[bytes] = []
    for _, key, value in rows:
        if key != _CHUNK_KEY.pack(len(chunks)):
            raise ValueError(f"no chunk {len(chunks)}")
        if chunks and len(chunks[-1]) != CHUNK_BYTES:
            raise ValueError(f"chunk {len(chunks) - 1} is too short")
        chunks.append(value)
    text = b"".join(chunks)
    if len(text) != length:
        raise ValueError(f"a string of {length} bytes has {len(text)}")
    return bytearray(text) if header.kind == GROWN_STRING else text


def _stream(header: Header, rows: list[Row]) -> Stream:
    made = Stream()
    at = _HEAD.size
    length, added = _STREAM.unpack_from(header.image, at)
    made.length = length
    made.entries_added = added
    made.last_id = id_at(header.image, at + _STREAM.size)
    made.max_deleted_id = id_at(header.image, at + _STREAM.size + ID_BYTES)
    pendings: list[tuple[bytes, bytes]] = []
    consumers: list[tuple[bytes, bytes]] = []
    for _, key, value in rows:
        row = key[0]
        if row == _NODE_ROW:
            node = from_node_image(value)
            if key != node_key(node.first_id):
                raise ValueError("a node has another id than its row")
            add_node(made, node)
        elif row == _GROUP_ROW:
            group = Group(id_at(value, 0), _DEADLINE.unpack_from(value, ID_BYTES)[0])
            group.tracker = TouchedGroup()
            made.groups[key[1:]] = group
        elif row == _CONSUMER_ROW:
            consumers.append((key, value))
        elif row == _PENDING_ROW:
            pendings.append((key, value))
        else:
            raise ValueError(f"unknown row {row:#04x} of a stream")
    # Keys longer than a row's key can be come in no particular order.
    for key, value in consumers:
        group, name = _group_of(made, key)
        seen_ms, active_ms = _TIMES.unpack(value)
        group.consumers[name] = Consumer(name, seen_ms, active_ms)
    for key, value in pendings:
        group, entry = _group_of(made, key)
        delivered_ms, count = _PENDING.unpack_from(value)
        owner = value[_PENDING.size :]
        if owner not in group.consumers or len(entry) != ID_BYTES:
            raise ValueError("a pending entry belongs to nobody")
        group.own(int.from_bytes(entry, "big"), Pending(owner, delivered_ms, count))
    check_length(made)
    made.tracker = TouchedStream(header.kid)
    return made


def _group_of(stream: Stream, key: bytes) -> tuple[Group, bytes]:
    """The group a row's key names, and the rest of the key."""
    size = int(_NAME_KEY.unpack_from(key, 1)[0])
    group = stream.groups.get(key[5 : 5 + size])
    if group is None:
        raise ValueError("a consumer or pending entry of a group that is not there")
    return group, key[5 + size :]
