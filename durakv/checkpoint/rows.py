"""Rows of a checkpoint: how keys, elements and facts about the whole become bytes, each with a checksum. [compiled]

keys: u16 slot, u32 physical database, key name -> shape, [i64 deadline], [u32 length, key], image, crc
elem: u64 kid, element name -> u64 order, [u32 length, element key], value, crc
aux:  name -> blob, crc          gc: "k" u64 kid, or "p" u32 physical database -> crc          meta: name -> fields, crc
Numbers in keys are big-endian, in values little-endian. A name is 00 and the text, or, for more than 400 bytes, 01 and
a digest; then the value has the text. The crc is CRC-32C of the row's key and of its value before the crc.
Rule: the only place that knows these bytes. It must not know images, stores or the stream.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

from crc32c import crc32c

FORMAT: Final = 1
NAME_BYTES_MAX: Final = 400
CRC_BYTES: Final = 4
# A CRC-32C over bytes and then their own CRC, little-endian, is this.
INTACT: Final = 0x48674BC7

HAS_DEADLINE: Final = 1
HAS_KEY: Final = 2
# Length of what stands before the name in keys and elem.
KEY_PREFIX: Final = 6
ELEMENT_PREFIX: Final = 8
ORDER_BYTES: Final = 8

APPLIED: Final = b"applied"
SUMS: Final = b"sums"
DB_MAP: Final = b"dbmap"
NEXT: Final = b"next"
IDENTITY: Final = b"identity"

_KEY: Final = struct.Struct(">HI")
_KID: Final = struct.Struct(">Q")
_PHYS: Final = struct.Struct(">I")
_LENGTH_NAME: Final = struct.Struct(">I")
_DEADLINE: Final = struct.Struct("<q")
_U32: Final = struct.Struct("<I")
_APPLIED: Final = struct.Struct("<QQIIQ")
_SUM: Final = struct.Struct("<QI")
_NEXT: Final = struct.Struct("<QI")
_IDENTITY: Final = struct.Struct("<IQ")
_SUMMED: Final = 4


def crc_over(key: bytes, value: bytes) -> int:
    """CRC-32C of both."""
    # Joining them is faster than a second call.
    result: int = crc32c(key + value)
    return result


def sealed(key: bytes, payload: bytes) -> bytes:
    """A row's value: the payload and the crc."""
    return payload + _U32.pack(crc_over(key, payload))


def intact(key: bytes, value: bytes) -> bool:
    """Whether a row's checksum is right."""
    return len(value) >= CRC_BYTES and crc_over(key, value) == INTACT


def crc_in(value: bytes) -> int:
    """The checksum a row's value ends in."""
    n = len(value)
    return value[n - 4] | value[n - 3] << 8 | value[n - 2] << 16 | value[n - 1] << 24


def name_of(text: bytes) -> bytes:
    """What stands for a key or an element's key in a row's key."""
    if len(text) <= NAME_BYTES_MAX:
        return b"\x00" + text
    return b"\x01" + blake2b(text, digest_size=16).digest() + _LENGTH_NAME.pack(len(text))


# -- keys ---------------------------------------------------------------------------------------------------------


def key_row(slot: int, phys: int, key: bytes) -> bytes:
    """The key of a key's row."""
    return _KEY.pack(slot, phys) + name_of(key)


def slot_prefix(slot: int, phys: int) -> bytes:
    """What the keys of all rows of a slot's keys in a physical database begin with."""
    return _KEY.pack(slot, phys)


def key_payload(key: bytes, expire_ms: int, image: bytes) -> bytes:
    """What a key's row holds, without its crc; ``expire_ms`` is -1 for none."""
    if len(key) <= NAME_BYTES_MAX:
        if expire_ms < 0:
            return b"\x00" + image
        return b"\x01" + _DEADLINE.pack(expire_ms) + image
    own = _U32.pack(len(key)) + key
    if expire_ms < 0:
        return b"\x02" + own + image
    return b"\x03" + _DEADLINE.pack(expire_ms) + own + image


class KeyRow:
    """A parsed key row."""

    __slots__ = ("expire_ms", "image", "key", "phys", "slot")

    def __init__(self, row_key: bytes, value: bytes) -> None:
        """Raises ValueError when no writer made this row. The crc is the caller's to check."""
        if len(row_key) <= KEY_PREFIX or len(value) <= CRC_BYTES:
            raise ValueError("the row is too short")
        self.slot: int = row_key[0] << 8 | row_key[1]
        self.phys: int = _PHYS.unpack_from(row_key, 2)[0]
        self.expire_ms: int = -1
        shape = value[0]
        at = 1
        end = len(value) - CRC_BYTES
        if shape & HAS_DEADLINE:
            if at + 8 > end:
                raise ValueError("the row is too short")
            self.expire_ms = _DEADLINE.unpack_from(value, at)[0]
            at += 8
        if shape & HAS_KEY:
            self.key: bytes = long_name(row_key[KEY_PREFIX:], value, at, end)
            at += 4 + len(self.key)
        else:
            self.key = short_name(row_key, KEY_PREFIX)
        if shape > HAS_DEADLINE | HAS_KEY or at >= end:
            raise ValueError("the row has no image")
        self.image: bytes = value[at:end]


# -- elements -----------------------------------------------------------------------------------------------------


def element_row(kid: int, element: bytes) -> bytes:
    """The key of an element's row."""
    return _KID.pack(kid) + name_of(element)


def kid_prefix(kid: int) -> bytes:
    """What the keys of all rows of ``kid`` begin with."""
    return _KID.pack(kid)


def kid_of(row_key: bytes) -> int:
    """Whose row it is."""
    kid: int = _KID.unpack_from(row_key)[0]
    return kid


def element_payload(order: bytes, element: bytes, value: bytes) -> bytes:
    """What an element's row holds, without its crc; ``order`` is 8 bytes, see order_bytes()."""
    if len(element) <= NAME_BYTES_MAX:
        return order + value
    return b"".join((order, _U32.pack(len(element)), element, value))


def order_bytes(order: int) -> bytes:
    """The place of an element among others as a row begins with it."""
    return order.to_bytes(ORDER_BYTES, "little")


def element_of(row_key: bytes, value: bytes) -> tuple[int, bytes, bytes]:
    """(order, element key, value) of a row. Raises ValueError when no writer made it."""
    end = len(value) - CRC_BYTES
    if len(row_key) <= ELEMENT_PREFIX or end < ORDER_BYTES:
        raise ValueError("the row is too short")
    order = int.from_bytes(value[:ORDER_BYTES], "little")
    if row_key[ELEMENT_PREFIX] == 0:
        return order, row_key[ELEMENT_PREFIX + 1 :], value[ORDER_BYTES:end]
    element = long_name(row_key[ELEMENT_PREFIX:], value, ORDER_BYTES, end)
    return order, element, value[ORDER_BYTES + 4 + len(element) : end]


def short_name(row_key: bytes, at: int) -> bytes:
    """The text of a name that is kept whole. Raises ValueError when it is not."""
    if row_key[at] != 0:
        raise ValueError("the row's key is a digest and its value has no key")
    return row_key[at + 1 :]


def long_name(name: bytes, value: bytes, at: int, end: int) -> bytes:
    """The text of a name that is a digest, from the row's value. Raises ValueError when it does not fit."""
    size = int(_U32.unpack_from(value, at)[0]) if at + 4 <= end else 0
    text = value[at + 4 : at + 4 + size]
    if len(text) != size or at + 4 + size > end or size <= NAME_BYTES_MAX or name_of(text) != name:
        raise ValueError("the key in the row is not the one its name is a digest of")
    return text


# -- gc -----------------------------------------------------------------------------------------------------------


def dead_kid_row(kid: int) -> bytes:
    """The key of the gc row that says that the rows of ``kid`` may go."""
    return b"k" + _KID.pack(kid)


def dead_db_row(phys: int) -> bytes:
    """The key of the gc row that says that a physical database may go."""
    return b"p" + _PHYS.pack(phys)


def dead_of(row_key: bytes) -> tuple[int, int]:
    """(kid, -1) or (-1, physical database) of a gc row. Raises ValueError."""
    if row_key[0] == 0x6B and len(row_key) == 9:
        return int(_KID.unpack_from(row_key, 1)[0]), -1
    if row_key[0] == 0x70 and len(row_key) == 5:
        return -1, int(_PHYS.unpack_from(row_key, 1)[0])
    raise ValueError("this is no row of gc")


# -- meta ---------------------------------------------------------------------------------------------------------


class Applied:
    """Up to where the log is in a checkpoint: the entry's index, term and subterm, the log's running digest there
    (0: not known), and its time, Unix ms.
    """  # fmt: skip

    __slots__ = ("chain", "index", "subterm", "term", "ts_ms")

    def __init__(self, index: int, term: int, subterm: int, chain: int, ts_ms: int) -> None:
        self.index = index
        self.term = term
        self.subterm = subterm
        self.chain = chain
        self.ts_ms = ts_ms

    def packed(self) -> bytes:
        """As in the row ``applied``."""
        return _APPLIED.pack(self.index, self.term, self.subterm, self.chain, self.ts_ms)

    @staticmethod
    def parsed(payload: bytes) -> Applied:
        """Raises struct.error."""
        index, term, subterm, chain, ts_ms = _APPLIED.unpack(payload)
        return Applied(index, term, subterm, chain, ts_ms)


class Sums:
    """How many rows there are in keys, elem, aux and gc, and the exclusive or of their checksums.

    A row that is lost, or came back from the past, is found by them: its own checksum would say nothing.
    """

    __slots__ = ("counts", "crcs")

    def __init__(self) -> None:
        self.counts = [0] * _SUMMED
        self.crcs = [0] * _SUMMED

    def packed(self) -> bytes:
        """As in the row ``sums``."""
        return b"".join([_SUM.pack(self.counts[db], self.crcs[db]) for db in range(_SUMMED)])

    @staticmethod
    def parsed(payload: bytes) -> Sums:
        """Raises struct.error."""
        made = Sums()
        if len(payload) != _SUMMED * _SUM.size:
            raise struct.error(f"sums of {len(payload)} bytes")
        for db in range(_SUMMED):
            made.counts[db], made.crcs[db] = _SUM.unpack_from(payload, db * _SUM.size)
        return made


def packed_map(physical: list[int]) -> bytes:
    """The row ``dbmap``: which physical database each logical one is."""
    return struct.pack(f"<H{len(physical)}I", len(physical), *physical)


def parsed_map(payload: bytes) -> list[int]:
    """Raises struct.error."""
    count = (len(payload) - 2) // 4
    numbers: list[int] = list(struct.unpack(f"<H{count}I", payload))
    if numbers[0] != count:
        raise struct.error(f"a map of {numbers[0]} databases has {count}")
    return numbers[1:]


def packed_next(kid: int, phys: int) -> bytes:
    """The row ``next``: the least kid and physical database that were never used."""
    return _NEXT.pack(kid, phys)


def parsed_next(payload: bytes) -> tuple[int, int]:
    """Raises struct.error."""
    kid, phys = _NEXT.unpack(payload)
    return kid, phys


def packed_identity(cluster_id: bytes, node_id: int) -> bytes:
    """The row ``identity``: format, node, cluster."""
    return _IDENTITY.pack(FORMAT, node_id) + cluster_id


def parsed_identity(payload: bytes) -> tuple[int, bytes, int]:
    """(format, cluster id, node id). Raises struct.error."""
    version, node_id = _IDENTITY.unpack_from(payload)
    return version, payload[_IDENTITY.size :], node_id
