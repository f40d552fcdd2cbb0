"""One value from the bytes of RDB: all types this version has, in every encoding written since Redis 2.6.

Rule: bytes come from a stranger: every length is checked against the bytes left before anything is allocated, and a
value that no command could have made (empty, with duplicates, with a NaN) is refused. Modules are refused too; streams
are streamrdb's business. Source: valkey rdb.c rdbLoadObject().
"""

from __future__ import annotations

from math import isnan
from struct import Struct
from typing import Final

from durakv.keyspace.rdb_packed import BAD_DATA, RdbError, intset_items, listpack_items, lzf_decompress, ziplist_items
from durakv.keyspace.values import streamrdb
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet

_STRING: Final = 0
_LIST: Final = 1
_SET: Final = 2
_ZSET_TEXT: Final = 3
_HASH: Final = 4
_ZSET: Final = 5
_LIST_ZIPLIST: Final = 10
_SET_INTSET: Final = 11
_ZSET_ZIPLIST: Final = 12
_HASH_ZIPLIST: Final = 13
_LIST_QUICKLIST: Final = 14
_HASH_LISTPACK: Final = 16
_ZSET_LISTPACK: Final = 17
_LIST_QUICKLIST_2: Final = 18
_SET_LISTPACK: Final = 20
_HASH_DEADLINES: Final = 22

_NODE_PLAIN: Final = 1
_NODE_PACKED: Final = 2

_DOUBLE: Final = Struct("<d")
_I64: Final = Struct("<q")
_STRING_MAX: Final = 512 * 1024 * 1024
_SCORE_BYTES: Final = b"+-.0123456789eEinfINF"


class RdbReader:
    """Reads forward through ``data``. Raises RdbError, or IndexError or struct.error at its end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self) -> object:
        """The one value; trailing bytes are ignored, as upstream does."""
        kind = self.byte()
        if kind == _STRING:
            return self.string()
        if kind in (_LIST, _LIST_ZIPLIST, _LIST_QUICKLIST, _LIST_QUICKLIST_2):
            return _list(self._list_items(kind))
        if kind == _SET:
            return _set([self.string() for _ in range(self.count(1))])
        if kind == _SET_INTSET:
            return _set(intset_items(self.string()))
        if kind == _SET_LISTPACK:
            return _set(listpack_items(self.string()))
        if kind == _HASH:
            return _hash([self.string() for _ in range(2 * self.count(2))])
        if kind in (_HASH_ZIPLIST, _HASH_LISTPACK):
            return _hash(self._packed(kind == _HASH_ZIPLIST))
        if kind == _HASH_DEADLINES:
            return self._timed_hash()
        if kind in (_ZSET, _ZSET_TEXT):
            return self._zset(binary=kind == _ZSET)
        if kind in (_ZSET_ZIPLIST, _ZSET_LISTPACK):
            flat = self._packed(kind == _ZSET_ZIPLIST)
            if len(flat) % 2:
                raise RdbError(BAD_DATA)
            return _zset([(flat[at], _score(flat[at + 1])) for at in range(0, len(flat), 2)])
        if kind in streamrdb.TYPES:
            return streamrdb.load(self, kind)
        raise RdbError(BAD_DATA)

    def byte(self) -> int:
        """The next byte."""
        value = self.data[self.at]
        self.at += 1
        return value

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        end = self.at + n
        if end > len(self.data):
            raise RdbError(BAD_DATA)
        part = self.data[self.at : end]
        self.at = end
        return part

    def length(self) -> int:
        """A length; negative -1 - e for string encoding e."""
        first = self.byte()
        kind = first >> 6
        if kind == 0:
            return first
        if kind == 1:
            return (first & 0x3F) << 8 | self.byte()
        if kind == 3:
            return -1 - (first & 0x3F)
        if first == 0x80:
            return int.from_bytes(self.take(4), "big")
        if first == 0x81:
            return int.from_bytes(self.take(8), "big")
        raise RdbError(BAD_DATA)

    def count(self, bytes_each: int) -> int:
        """How many elements of at least ``bytes_each`` bytes follow; never none."""
        n = self.length()
        if n <= 0 or n * bytes_each > len(self.data) - self.at:
            raise RdbError(BAD_DATA)
        return n

    def string(self) -> bytes:
        """A string in any of its encodings."""
        n = self.length()
        if n >= 0:
            return self.take(n)
        if n == -1:
            return b"%d" % int.from_bytes(self.take(1), "little", signed=True)
        if n == -2:
            return b"%d" % int.from_bytes(self.take(2), "little", signed=True)
        if n == -3:
            return b"%d" % int.from_bytes(self.take(4), "little", signed=True)
        if n == -4:
            packed_size = self.length()
            size = self.length()
            if packed_size < 0 or not 0 <= size <= _STRING_MAX:
                raise RdbError(BAD_DATA)
            return lzf_decompress(self.take(packed_size), size)
        raise RdbError(BAD_DATA)

    def _packed(self, ziplist: bool) -> list[bytes]:
        blob = self.string()
        return ziplist_items(blob) if ziplist else listpack_items(blob)

    def _list_items(self, kind: int) -> list[bytes]:
        if kind == _LIST_ZIPLIST:
            return ziplist_items(self.string())
        out: list[bytes] = []
        for _ in range(self.count(1)):
            # A node of quicklist 2 says whether it is one large element or a listpack.
            container = self.length() if kind == _LIST_QUICKLIST_2 else 0
            if container not in (0, _NODE_PLAIN, _NODE_PACKED) or (kind == _LIST_QUICKLIST_2 and not container):
                raise RdbError(BAD_DATA)
            blob = self.string()
            if kind == _LIST or container == _NODE_PLAIN:
                out.append(blob)
            else:
                out += ziplist_items(blob) if kind == _LIST_QUICKLIST else listpack_items(blob)
        return out

    def _timed_hash(self) -> Hash:
        """Fields, values and deadlines in Unix ms, -1 for none. Past ones go when the hash is next looked at."""
        flat: list[bytes] = []
        deadlines: list[int] = []
        for _ in range(self.count(10)):
            flat += (self.string(), self.string())
            deadlines.append(int(_I64.unpack(self.take(8))[0]))
        value = _hash(flat)
        for at, at_ms in enumerate(deadlines):
            if at_ms >= 0:
                value.set_deadline(flat[2 * at], at_ms)
            elif at_ms != -1:
                raise RdbError(BAD_DATA)
        return value

    def _zset(self, *, binary: bool) -> ZSet:
        pairs: list[tuple[bytes, float]] = []
        for _ in range(self.count(9 if binary else 2)):
            member = self.string()
            pairs.append((member, float(_DOUBLE.unpack(self.take(8))[0]) if binary else self._text_score()))
        return _zset(pairs)

    def _text_score(self) -> float:
        n = self.byte()
        if n == 253:
            raise RdbError(BAD_DATA)
        if n == 254:
            return float("inf")
        if n == 255:
            return float("-inf")
        return _score(self.take(n))


def _list(items: list[bytes]) -> ListValue:
    if not items:
        raise RdbError(BAD_DATA)
    value = ListValue()
    value.push_right(items)
    return value


def _set(members: list[bytes]) -> SetValue:
    if not members or len(dict.fromkeys(members)) != len(members):
        raise RdbError(BAD_DATA)
    return SetValue.of(members)


def _hash(flat: list[bytes]) -> Hash:
    """From field, value, field, value, ..."""
    if not flat or len(flat) % 2:
        raise RdbError(BAD_DATA)
    value = Hash()
    for at in range(0, len(flat), 2):
        if not value.set(flat[at], flat[at + 1]):
            raise RdbError(BAD_DATA)
    return value


def _zset(pairs: list[tuple[bytes, float]]) -> ZSet:
    scores: dict[bytes, float] = {}
    for member, score in pairs:
        if isnan(score) or member in scores:
            raise RdbError(BAD_DATA)
        scores[member] = score
    if not scores:
        raise RdbError(BAD_DATA)
    value = ZSet()
    value.fill(scores)
    return value


def _score(text: bytes) -> float:
    """A score as text. Raises RdbError, or ValueError."""
    if text.strip(_SCORE_BYTES):
        raise RdbError(BAD_DATA)
    return float(text)
