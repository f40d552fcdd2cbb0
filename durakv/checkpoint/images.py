"""A whole value as bytes, and back: what a small value's row holds. [compiled]

The rebuilt value cannot be told from the one that was written: same content, order, encoding, accounting and
deadlines. Only what no command can see may differ, such as how pairs are cut into blocks.
Rule: the only place that knows these bytes, streams excepted (stream_images.py); elements.py does the values that are
stored element by element. The first byte is the kind, 0x80 added for those. It must not know keys or rows.

A collection is: kind, flags, u32 count, the lengths of its texts (a byte each, or a u32 when one is above 255), what
its kind adds, the texts. Numbers are little-endian.
"""

from __future__ import annotations

import struct
from typing import Final

from durakv.checkpoint import stream_images
from durakv.keyspace.values.blocks import items_of
from durakv.keyspace.values.field_deadlines import FieldDeadlines
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet

STRING: Final = 0
HASH: Final = 1
LIST: Final = 2
SET: Final = 3
ZSET: Final = 4
STREAM: Final = 5
# A string that is a bytearray in memory.
GROWN_STRING: Final = 6
LARGE: Final = 0x80

# Above these a value is stored element by element.
STRING_BYTES_MAX: Final = 65536
HASH_FIELDS_MAX: Final = 32
ZSET_MEMBERS_MAX: Final = 32
SET_MEMBERS_MAX: Final = 64
LIST_ITEMS_MAX: Final = 64
STREAM_GROUPS_MAX: Final = 4
STREAM_CONSUMERS_MAX: Final = 16
STREAM_PENDING_MAX: Final = 16

FLAG_PACKED: Final = 1
FLAG_QUICK: Final = 1
FORM_MASK: Final = 3
_FLAG_DEADLINES: Final = 2
_FLAG_WIDE: Final = 0x80

_COUNT: Final = struct.Struct("<I")
_SIZE: Final = struct.Struct("<Q")
_HEAD_BYTES: Final = 6


def is_large(value: object) -> bool:
    """Whether a value is to be stored element by element; constant time."""
    if isinstance(value, (bytes, bytearray)):
        return len(value) > STRING_BYTES_MAX
    if isinstance(value, Hash):
        return not value.packed or len(value.fields) > HASH_FIELDS_MAX
    if isinstance(value, ZSet):
        return not value.packed or len(value.scores) > ZSET_MEMBERS_MAX
    if isinstance(value, SetValue):
        return len(value.members) > SET_MEMBERS_MAX
    if isinstance(value, ListValue):
        return value.quick or len(value.items) > LIST_ITEMS_MAX
    if isinstance(value, Stream):
        return _is_large_stream(value)
    raise AssertionError(f"a key cannot hold {type(value).__name__}")


def small(value: object) -> bytes:
    """The image of a whole value."""
    if isinstance(value, bytes):
        return b"\x00" + value
    if isinstance(value, bytearray):
        return b"\x06" + bytes(value)
    if isinstance(value, Hash):
        return _hash_image(value)
    if isinstance(value, ListValue):
        return _list_image(value)
    if isinstance(value, SetValue):
        return _collection(SET, value.form, value.members, b"")
    if isinstance(value, ZSet):
        scores = struct.pack(f"<{len(value.scores)}d", *value.scores.values())
        return _collection(ZSET, FLAG_PACKED if value.packed else 0, list(value.scores), scores)
    if isinstance(value, Stream):
        return b"\x05" + stream_images.whole(value)
    raise AssertionError(f"a key cannot hold {type(value).__name__}")


def from_small(image: bytes) -> object:
    """The value an image was made of. Raises ValueError when no value has this image."""
    kind = image[0]
    if kind == STRING:
        return image[1:]
    if kind == GROWN_STRING:
        return bytearray(image[1:])
    try:
        if kind == STREAM:
            return stream_images.from_whole(image, 1)
        return _from_collection(kind, image)
    except (struct.error, IndexError) as error:
        raise ValueError(f"image of kind {kind} is cut short: {error}") from None


def stored_list(items: list[bytes], size: int, *, quick: bool) -> ListValue:
    """A list with these items; ``size`` as it had."""
    made = ListValue()
    made.items = items_of(items)
    made.size = size
    made.quick = quick
    return made


def stored_set(members: list[bytes], form: int) -> SetValue:
    """A set with these members in order. Raises ValueError when two are equal."""
    made = SetValue()
    positions = made.positions
    for i in range(len(members)):
        positions[members[i]] = i
    if len(positions) != len(members):
        raise ValueError("a set holds a member twice")
    made.members = members
    made.form = form
    return made


def stored_zset(scores: dict[bytes, float], *, packed: bool) -> ZSet:
    """A sorted set with these scores in order of insertion."""
    made = ZSet()
    made.fill(scores)
    made.packed = packed
    return made


def stored_deadlines(at_ms: dict[bytes, int]) -> FieldDeadlines:
    """The deadlines of a hash's fields."""
    made = FieldDeadlines()
    for field, at in at_ms.items():
        made.set(field, at)
    return made


# -- encoding -----------------------------------------------------------------------------------------------------


def _is_large_stream(value: Stream) -> bool:
    groups = value.groups
    if len(value.nodes) > 1 or len(groups) > STREAM_GROUPS_MAX:
        return True
    for group in groups.values():
        if group.order.size > STREAM_PENDING_MAX or len(group.consumers) > STREAM_CONSUMERS_MAX:
            return True
    return False


def _hash_image(value: Hash) -> bytes:
    texts: list[bytes] = []
    for field, text in value.fields.items():
        texts.append(field)
        texts.append(text)
    flags = FLAG_PACKED if value.packed else 0
    if value.deadlines is None:
        return _collection(HASH, flags, texts, b"")
    at_ms = value.deadlines.at_ms
    times = [at_ms.get(field, -1) for field in value.fields]
    return _collection(HASH, flags | _FLAG_DEADLINES, texts, struct.pack(f"<{len(times)}q", *times))


def _list_image(value: ListValue) -> bytes:
    return _collection(LIST, FLAG_QUICK if value.quick else 0, list(value.items), _SIZE.pack(value.size))


def _collection(kind: int, flags: int, texts: list[bytes], extra: bytes) -> bytes:
    sizes: list[int] = []
    wide = False
    for text in texts:
        size = len(text)
        if size > 255:
            wide = True
        sizes.append(size)
    count = len(texts)
    if wide:
        lengths = struct.pack(f"<{count}I", *sizes)
        flags |= _FLAG_WIDE
    else:
        lengths = bytes(sizes)
    parts = [bytes((kind, flags)), _COUNT.pack(count), lengths, extra]
    parts += texts
    return b"".join(parts)


# -- decoding -----------------------------------------------------------------------------------------------------


def _from_collection(kind: int, image: bytes) -> object:
    flags = image[1]
    count = int(_COUNT.unpack_from(image, 2)[0])
    at = _HEAD_BYTES
    if flags & _FLAG_WIDE:
        sizes: list[int] = list(struct.unpack_from(f"<{count}I", image, at))
        at += 4 * count
    else:
        at += count
        sizes = list(image[_HEAD_BYTES:at])
    if len(sizes) != count:
        raise ValueError("lengths are cut short")
    extra = at
    if kind == HASH:
        if count % 2:
            raise ValueError("a field has no value")
        if flags & _FLAG_DEADLINES:
            at += 4 * count
        return _hash(image, flags, _texts(image, at, sizes), extra)
    if kind == LIST:
        size = int(_SIZE.unpack_from(image, at)[0])
        return stored_list(_texts(image, at + 8, sizes), size, quick=flags & FLAG_QUICK != 0)
    if kind == SET:
        return stored_set(_texts(image, at, sizes), flags & FORM_MASK)
    if kind == ZSET:
        scores: list[float] = list(struct.unpack_from(f"<{count}d", image, at))
        members = _texts(image, at + 8 * count, sizes)
        by_member: dict[bytes, float] = {}
        for i in range(count):
            by_member[members[i]] = scores[i]
        if len(by_member) != count:
            raise ValueError("a sorted set holds a member twice")
        return stored_zset(by_member, packed=flags & FLAG_PACKED != 0)
    raise ValueError(f"unknown kind {kind}")


def _hash(image: bytes, flags: int, texts: list[bytes], times_at: int) -> Hash:
    made = Hash()
    fields = made.fields
    for i in range(0, len(texts), 2):
        fields[texts[i]] = texts[i + 1]
    if 2 * len(fields) != len(texts):
        raise ValueError("a hash holds a field twice")
    made.packed = flags & FLAG_PACKED != 0
    if flags & _FLAG_DEADLINES:
        times: list[int] = list(struct.unpack_from(f"<{len(fields)}q", image, times_at))
        at_ms: dict[bytes, int] = {}
        for i in range(len(times)):
            if times[i] >= 0:
                at_ms[texts[2 * i]] = times[i]
        if not at_ms:
            raise ValueError("a hash with deadlines has none")
        made.deadlines = stored_deadlines(at_ms)
    return made


def _texts(image: bytes, at: int, sizes: list[int]) -> list[bytes]:
    texts: list[bytes] = []
    for size in sizes:
        end = at + size
        texts.append(image[at:end])
        at = end
    if at != len(image):
        raise ValueError(f"{at} bytes were written, {len(image)} are there")
    return texts
