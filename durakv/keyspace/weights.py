"""What a stored value takes in memory, in bytes: exact for strings, from a few elements for collections; O(1).

Rule: an estimate of this interpreter's objects, for maxmemory and for nothing else: no applied state depends on it.
"""

from __future__ import annotations

from itertools import islice
from sys import getsizeof
from typing import Final

from durakv.keyspace.values.blocks import Blocks
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet

# A key's share of its slot's dict, measured over 16384 dicts.
ENTRY_BYTES: Final = 42
# A deadline: its place in a dict and in the heap, and the number.
DEADLINE_BYTES: Final = 90
# When and how often a key was used, where a policy asks for that.
ACCESS_BYTES: Final = 100
_BYTES_HEADER: Final = 33
_SAMPLES: Final = 5
_FLOAT_BYTES: Final = 32
# Two places in lists, some of them empty.
_PAIR_BYTES: Final = 18
_OBJECT_BYTES: Final = 64
_CONSUMER_BYTES: Final = 400
_PENDING_BYTES: Final = 150


def bytes_weight(size: int) -> int:
    """A bytes object of ``size`` bytes: small ones come in steps of 16."""
    return (_BYTES_HEADER + size + 15) & -16


def weight_of(value: object) -> int:
    """Bytes of a stored value without its key."""
    if type(value) is bytes:
        return bytes_weight(len(value))
    if type(value) is bytearray:
        return getsizeof(value)
    if type(value) is Hash:
        return _hash(value)
    if type(value) is ListValue:
        n = len(value.items)
        # A deque holds 64 pointers a block.
        each = _mean([bytes_weight(len(item)) for item in _few(value.items)])
        items = value.items
        own = sum([getsizeof(block) for block in items.blocks]) if isinstance(items, Blocks) else getsizeof(items)
        return _OBJECT_BYTES + own + n * each
    if type(value) is SetValue:
        n = len(value.members)
        each = _mean([bytes_weight(len(member)) for member in value.members[:_SAMPLES]])
        return _OBJECT_BYTES + getsizeof(value.members) + getsizeof(value.positions) + n * (each + 16)
    if type(value) is ZSet:
        n = len(value.scores)
        each = _mean([bytes_weight(len(member)) for member in _few(value.scores)])
        return _OBJECT_BYTES + getsizeof(value.scores) + n * (each + _FLOAT_BYTES + _PAIR_BYTES + 8)
    if type(value) is Stream:
        return _stream(value)
    return getsizeof(value)


def _hash(value: Hash) -> int:
    fields = value.fields
    some = islice(fields.items(), _SAMPLES)
    sizes = [bytes_weight(len(field)) + bytes_weight(len(content)) for field, content in some]
    return _OBJECT_BYTES + getsizeof(fields) + len(fields) * _mean(sizes)


def _stream(value: Stream) -> int:
    nodes = value.nodes
    sizes = [
        _OBJECT_BYTES * 2 + getsizeof(node.data) + getsizeof(node.ms) + getsizeof(node.seq) + getsizeof(node.ends)
        + getsizeof(node.flags)
        for node in nodes[:_SAMPLES]
    ]  # fmt: skip
    total = _OBJECT_BYTES * 2 + getsizeof(nodes) + getsizeof(value.first_ids) + len(nodes) * (_mean(sizes) + 32)
    for group in value.groups.values():
        total += _OBJECT_BYTES * 4 + len(group.consumers) * _CONSUMER_BYTES + len(group.pending) * _PENDING_BYTES
    return total


def _few(items: object) -> list[bytes]:
    return list(islice(items, _SAMPLES))  # type: ignore[call-overload]


def _mean(sizes: list[int]) -> int:
    return sum(sizes) // len(sizes) if sizes else 0
