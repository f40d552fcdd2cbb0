"""Streams as bytes: nodes byte for byte, groups with what is pending. [compiled]

Deleted entries and the cut into nodes are kept, because they decide what trimming removes; so are the sizes nodes
account for. Rule: the only place that knows these bytes. It must not know keys, rows or other kinds of values.
Numbers are little-endian, ids 16 bytes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Final

from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import Consumer, Group, Pending
from durakv.keyspace.values.streamnode import Node

ID_BYTES: Final = 16
_COUNT: Final = struct.Struct("<I")
# fields, entries, live, dead, size, bytes of data
_NODE: Final = struct.Struct("<IIIIQI")
# length, entries added, nodes, groups
_STREAM: Final = struct.Struct("<QQII")
# entries read, consumers, pending entries
_GROUP: Final = struct.Struct("<qII")
_TIMES: Final = struct.Struct("<qq")
# delivered, count, number of the consumer
_PENDING: Final = struct.Struct("<qQI")
_FOREIGN_ORDER: Final = sys.byteorder == "big"
_UINT32: Final = "I"
_UINT64: Final = "Q"


def id_bytes(entry_id: int) -> bytes:
    """An id as stored in images."""
    return entry_id.to_bytes(ID_BYTES, "little")


def id_at(image: bytes, at: int) -> int:
    """The id stored there. Raises IndexError beyond the end."""
    if at + ID_BYTES > len(image):
        raise IndexError("an id is cut short")
    return int.from_bytes(image[at : at + ID_BYTES], "little")


def node_image(node: Node) -> bytes:
    """A node with all its entries; the id of the first is in front."""
    count = len(node.flags)
    parts = [
        id_bytes(node.first_id),
        _NODE.pack(len(node.fields), count, node.live, node.dead, node.size, len(node.data)),
        struct.pack(f"<{len(node.fields)}I", *[len(field) for field in node.fields]),
    ]
    parts += node.fields
    parts += [_numbers(node.ms), _numbers(node.seq), _numbers(node.ends), bytes(node.flags), bytes(node.data)]
    return b"".join(parts)


def from_node_image(image: bytes) -> Node:
    """The node an image was made of. Raises ValueError, IndexError or struct.error when none has this image."""
    field_count, count, live, dead, size, data_bytes = _NODE.unpack_from(image, ID_BYTES)
    at = ID_BYTES + _NODE.size
    field_sizes: list[int] = list(struct.unpack_from(f"<{field_count}I", image, at))
    at += 4 * int(field_count)
    fields: list[bytes] = []
    for field_size in field_sizes:
        fields.append(image[at : at + field_size])
        at += field_size
    node = Node(id_at(image, 0), fields)
    entries = int(count)
    if at + 21 * entries + int(data_bytes) != len(image):
        raise ValueError("a node is cut short")
    node.ms = _array(_UINT64, image[at : at + 8 * entries])
    at += 8 * entries
    node.seq = _array(_UINT64, image[at : at + 8 * entries])
    at += 8 * entries
    node.ends = _array(_UINT32, image[at : at + 4 * entries])
    at += 4 * entries
    node.flags = bytearray(image[at : at + entries])
    node.data = bytearray(image[at + entries :])
    node.size = size
    node.live = live
    node.dead = dead
    return node


def whole(stream: Stream) -> bytes:
    """A stream with all its groups."""
    parts = [
        _STREAM.pack(stream.length, stream.entries_added, len(stream.nodes), len(stream.groups)),
        id_bytes(stream.last_id),
        id_bytes(stream.max_deleted_id),
    ]
    for node in stream.nodes:
        image = node_image(node)
        parts.append(_COUNT.pack(len(image)))
        parts.append(image)
    for name, group in stream.groups.items():
        _add_group(parts, name, group)
    return b"".join(parts)


def from_whole(image: bytes, at: int) -> Stream:
    """The stream whose image begins at ``at``. Raises ValueError, IndexError or struct.error when there is none."""
    stream = Stream()
    length, added, node_count, group_count = _STREAM.unpack_from(image, at)
    at += _STREAM.size
    stream.length = length
    stream.entries_added = added
    stream.last_id = id_at(image, at)
    stream.max_deleted_id = id_at(image, at + ID_BYTES)
    at += 2 * ID_BYTES
    for _ in range(int(node_count)):
        size = int(_COUNT.unpack_from(image, at)[0])
        at += 4
        add_node(stream, from_node_image(image[at : at + size]))
        at += size
    for _ in range(int(group_count)):
        at = _group(stream, image, at)
    if at != len(image):
        raise ValueError(f"{at} bytes were written, {len(image)} are there")
    check_length(stream)
    return stream


def add_node(stream: Stream, node: Node) -> None:
    """Append a node to a stream being built. Raises ValueError when it is not after the others."""
    if stream.first_ids and stream.first_ids[-1] >= node.first_id:
        raise ValueError("nodes are not in order")
    stream.nodes.append(node)
    stream.first_ids.append(node.first_id)


def check_length(stream: Stream) -> None:
    """Raises ValueError unless a stream holds as many entries as it says."""
    live = 0
    for node in stream.nodes:
        live += node.live
    if live != stream.length:
        raise ValueError(f"a stream of {stream.length} entries has {live}")


def _add_group(parts: list[bytes], name: bytes, group: Group) -> None:
    _add_text(parts, name)
    parts.append(id_bytes(group.last_id))
    parts.append(_GROUP.pack(group.entries_read, len(group.consumers), group.order.size))
    numbers: dict[bytes, int] = {}
    for consumer in group.consumers.values():
        numbers[consumer.name] = len(numbers)
        _add_text(parts, consumer.name)
        parts.append(_TIMES.pack(consumer.seen_ms, consumer.active_ms))
    for entry_id in group.order.starting(0, group.order.size):
        pending = group.pending[entry_id]
        parts.append(id_bytes(entry_id))
        parts.append(_PENDING.pack(pending.delivered_ms, pending.count, numbers[pending.owner]))


def _group(stream: Stream, image: bytes, at: int) -> int:
    """Read a group; where the next begins."""
    name = _text(image, at)
    at += 4 + len(name)
    last_id = id_at(image, at)
    entries_read, consumers, pendings = _GROUP.unpack_from(image, at + ID_BYTES)
    at += ID_BYTES + _GROUP.size
    group = Group(last_id, entries_read)
    names: list[bytes] = []
    for _ in range(int(consumers)):
        consumer = _text(image, at)
        at += 4 + len(consumer)
        seen_ms, active_ms = _TIMES.unpack_from(image, at)
        at += _TIMES.size
        group.consumers[consumer] = Consumer(consumer, seen_ms, active_ms)
        names.append(consumer)
    for _ in range(int(pendings)):
        entry_id = id_at(image, at)
        delivered_ms, count, number = _PENDING.unpack_from(image, at + ID_BYTES)
        at += ID_BYTES + _PENDING.size
        group.own(entry_id, Pending(names[int(number)], delivered_ms, count))
    if name in stream.groups or len(group.consumers) != len(names) or len(group.pending) != int(pendings):
        raise ValueError("a group, consumer or pending entry is there twice")
    stream.groups[name] = group
    return at


def _add_text(parts: list[bytes], text: bytes) -> None:
    parts.append(_COUNT.pack(len(text)))
    parts.append(text)


def _text(image: bytes, at: int) -> bytes:
    size = int(_COUNT.unpack_from(image, at)[0])
    text = image[at + 4 : at + 4 + size]
    if len(text) != size:
        raise IndexError("a name is cut short")
    return text


def _numbers(numbers: array[int]) -> bytes:
    if _FOREIGN_ORDER:
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _array(code: str, data: bytes) -> array[int]:
    numbers: array[int] = array("Q" if code == _UINT64 else "I")
    numbers.frombytes(data)
    if _FOREIGN_ORDER:
        numbers.byteswap()
    return numbers
