"""A value too large to be one request, read and given out bit by bit.

Rule: memory stays that of one piece and one packed node, whatever the value's size. Elements come as arguments of the
commands that add them (RPUSH, SADD, ZADD, HSET), in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from struct import Struct
from typing import Final

from durakv.keyspace.rdb_packed import RdbError, intset_items, listpack_items, ziplist_items
from durakv.rdb import kinds
from durakv.rdb.errors import DamagedRdb, Malformed
from durakv.rdb.reader import Entry, RdbFile
from durakv.rdb.values import deadline, packed_deadline, zipmap_items
from durakv.rdb.window import Window

_DOUBLE: Final = Struct("<d")
_I64: Final = Struct("<q")
_TEXT_SCORES: Final = {253: b"nan", 254: b"inf", 255: b"-inf"}
_PLAIN_NODE: Final = 1
_PACKED_NODE: Final = 2

# (arguments of one element or of a packed node, [(field, deadline in unix ms), ...])
_Part = tuple[list[bytes], list[tuple[bytes, int]]]


class Piece:
    """``items``: list elements; members; score, member, ...; or field, value, .... ``deadlines``: of hash fields."""

    __slots__ = ("deadlines", "items")

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.deadlines: list[tuple[bytes, int]] = []


def can_split(kind: int) -> bool:
    """Whether ``pieces`` can read the type: all but streams, modules and single strings."""
    return kind != kinds.STRING and kind not in kinds.STREAMS and kind not in kinds.MODULES


def pieces(file: RdbFile, entry: Entry, bytes_max: int) -> Iterator[Piece]:
    """The elements of ``entry`` in pieces of about ``bytes_max`` bytes. Raises DamagedRdb, OSError."""
    window = Window(file.source, entry.begin, None, 0)
    piece = Piece()
    size = 0
    try:
        for items, deadlines in _parts(window, entry.kind):
            piece.deadlines += deadlines
            for item in items:
                piece.items.append(item)
                size += len(item) + 16
            if size >= bytes_max:
                yield piece
                piece, size = Piece(), 0
    except Malformed as error:
        raise DamagedRdb(file.path, error.at, error.reason) from None
    except (RdbError, IndexError):
        raise DamagedRdb(
            file.path, window.position(), f"key {entry.key!r} holds a packed node that is not well-formed"
        ) from None
    if piece.items:
        yield piece


def _parts(window: Window, kind: int) -> Iterator[_Part]:
    if kind in kinds.ONE_STRING or kind == kinds.HASH_LISTPACK_TTL:
        return _packed_parts(window, kind)
    if kind == kinds.LIST_QUICKLIST or kind == kinds.LIST_QUICKLIST_2:
        return _node_parts(window, kind)
    if kind == kinds.HASH_VALKEY_TTL or kind == kinds.HASH_REDIS_TTL:
        return _ttl_parts(window, kind)
    return _plain_parts(window, kind)


def _plain_parts(window: Window, kind: int) -> Iterator[_Part]:
    for _ in range(window.count(1)):
        first = window.string()
        if kind == kinds.LIST or kind == kinds.SET:
            yield [first], []
        elif kind == kinds.HASH:
            yield [first, window.string()], []
        else:
            assert kind == kinds.ZSET or kind == kinds.ZSET_TEXT, f"no pieces are known for type {kind}"
            yield [_binary_score(window) if kind == kinds.ZSET else _text_score(window), first], []


def _binary_score(window: Window) -> bytes:
    score: float = _DOUBLE.unpack(window.take(8))[0]
    if isnan(score):
        raise Malformed("a score is not a number", window.position() - 8)
    return repr(score).encode()


def _text_score(window: Window) -> bytes:
    size = window.byte()
    text = _TEXT_SCORES.get(size)
    if text == b"nan":
        raise Malformed("a score is not a number", window.position() - 1)
    return window.take(size) if text is None else text


def _node_parts(window: Window, kind: int) -> Iterator[_Part]:
    for _ in range(window.count(1)):
        container = window.number() if kind == kinds.LIST_QUICKLIST_2 else 0
        blob = window.string()
        if container == _PLAIN_NODE:
            yield [blob], []
        elif container == _PACKED_NODE:
            yield listpack_items(blob), []
        elif kind == kinds.LIST_QUICKLIST:
            yield ziplist_items(blob), []
        else:
            raise Malformed(f"a list node of kind {container}", window.position())


def _ttl_parts(window: Window, kind: int) -> Iterator[_Part]:
    least_ms = 0
    if kind == kinds.HASH_REDIS_TTL:
        least_ms = int.from_bytes(window.take(8), "little")
    for _ in range(window.count(3)):
        if kind == kinds.HASH_REDIS_TTL:
            behind = window.number()
            at_ms = deadline(least_ms + behind - 1) if behind else kinds.NO_DEADLINE
            field, value = window.string(), window.string()
        else:
            field, value = window.string(), window.string()
            at_ms = _I64.unpack(window.take(8))[0]
        yield [field, value], [] if at_ms == kinds.NO_DEADLINE else [(field, at_ms)]


def _packed_parts(window: Window, kind: int) -> Iterator[_Part]:
    if kind == kinds.HASH_LISTPACK_TTL:
        window.take(8)
    blob = window.string()
    if kind == kinds.SET_INTSET:
        items = intset_items(blob)
    elif kind == kinds.HASH_ZIPMAP:
        items = zipmap_items(blob)
    elif kind in {kinds.LIST_ZIPLIST, kinds.ZSET_ZIPLIST, kinds.HASH_ZIPLIST}:
        items = ziplist_items(blob)
    else:
        items = listpack_items(blob)
    each = {kinds.HASH_LISTPACK_TTL: 3, kinds.LIST_ZIPLIST: 1, kinds.SET_INTSET: 1, kinds.SET_LISTPACK: 1}.get(kind, 2)
    if len(items) % each:
        raise RdbError("a packed node of pairs has an odd end")
    for at in range(0, len(items), each):
        part = items[at : at + each]
        if kind == kinds.ZSET_ZIPLIST or kind == kinds.ZSET_LISTPACK:
            yield [part[1], part[0]], []
        elif each == 3:
            at_ms = packed_deadline(part[2])
            yield part[:2], [] if at_ms == kinds.NO_DEADLINE else [(part[0], at_ms)]
        else:
            yield part, []
