"""The row changes a frame's body consists of: eleven kinds, each the final state of one row or set of rows. [compiled]

Rule: the only place that knows their bytes. The server encodes and never decodes, the materialiser the other way
round; applying one twice is the same as once. Numbers are little-endian. It must not know rows or values.
"""

from __future__ import annotations

import struct
from typing import Final

PUT_KEY: Final = 0x50  # P
DELETE_KEY: Final = 0x44  # D
INSERT: Final = 0x49  # I
UPDATE: Final = 0x55  # U
REMOVE: Final = 0x52  # R
KID_DEAD: Final = 0x4B  # K
DB_MAP: Final = 0x4D  # M
DB_DEAD: Final = 0x46  # F
PUT_AUX: Final = 0x41  # A
DELETE_AUX: Final = 0x58  # X
SLOTS_DEAD: Final = 0x53  # S

_PUT_KEY: Final = struct.Struct("<cIHqII")
_DELETE_KEY: Final = struct.Struct("<cIHI")
_INSERT: Final = struct.Struct("<cQQII")
_UPDATE: Final = struct.Struct("<cQII")
_REMOVE: Final = struct.Struct("<cQI")
_KID: Final = struct.Struct("<cQ")
_MAP: Final = struct.Struct("<cH")
_DB: Final = struct.Struct("<cI")
_PUT_AUX: Final = struct.Struct("<cHI")
_DELETE_AUX: Final = struct.Struct("<cH")
_SLOTS: Final = struct.Struct("<cIHH")


def put_key(out: list[bytes], phys: int, slot: int, expire_ms: int, key: bytes, image: bytes) -> None:
    """The key's row in physical database ``phys``: its deadline in Unix ms (-1: none) and image."""
    out.append(_PUT_KEY.pack(b"P", phys, slot, expire_ms, len(key), len(image)))
    out.append(key)
    out.append(image)


def delete_key(out: list[bytes], phys: int, slot: int, key: bytes) -> None:
    """The key has no row any more, if it had one."""
    out.append(_DELETE_KEY.pack(b"D", phys, slot, len(key)))
    out.append(key)


def insert_element(out: list[bytes], kid: int, order: int, element: bytes, value: bytes) -> None:
    """The element's row, at a new place: ``order`` decides where it is loaded."""
    out.append(_INSERT.pack(b"I", kid, order, len(element), len(value)))
    out.append(element)
    out.append(value)


def update_element(out: list[bytes], kid: int, element: bytes, value: bytes) -> None:
    """Another value in an existing element's row, which keeps its place."""
    out.append(_UPDATE.pack(b"U", kid, len(element), len(value)))
    out.append(element)
    out.append(value)


def remove_element(out: list[bytes], kid: int, element: bytes) -> None:
    """The element has no row any more, if it had one."""
    out.append(_REMOVE.pack(b"R", kid, len(element)))
    out.append(element)


def kid_dead(out: list[bytes], kid: int) -> None:
    """Nothing refers to the rows of ``kid`` any more."""
    out.append(_KID.pack(b"K", kid))


def db_map(out: list[bytes], physical: list[int]) -> None:
    """Which physical database each logical one is, by its number."""
    out.append(_MAP.pack(b"M", len(physical)))
    out.append(struct.pack(f"<{len(physical)}I", *physical))


def db_dead(out: list[bytes], phys: int) -> None:
    """Nothing refers to a physical database any more: all its rows may go. Its number is never used again."""
    out.append(_DB.pack(b"F", phys))


def slots_dead(out: list[bytes], phys: int, first: int, last: int) -> None:
    """No key of slots ``first`` to ``last`` has a row in physical database ``phys`` any more; more may come after."""
    out.append(_SLOTS.pack(b"S", phys, first, last))


def put_aux(out: list[bytes], name: bytes, blob: bytes) -> None:
    """A named piece of replicated state beside the keys; names have at most 255 bytes."""
    out.append(_PUT_AUX.pack(b"A", len(name), len(blob)))
    out.append(name)
    out.append(blob)


def delete_aux(out: list[bytes], name: bytes) -> None:
    """That piece is gone, if it was there."""
    out.append(_DELETE_AUX.pack(b"X", len(name)))
    out.append(name)


class OpReader:
    """Reads a body op by op; ``next()`` says which kind it found and leaves its parts in the attributes.

    ``name`` is a key, an element or an aux name; ``value`` an image, an element's value or a blob; ``last`` the last of
    several slots.
    """

    __slots__ = ("_at", "_body", "expire_ms", "kid", "last", "name", "order", "phys", "physical", "slot", "value")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self.phys = 0
        self.slot = 0
        self.last = 0
        self.expire_ms = -1
        self.kid = 0
        self.order = 0
        self.name = b""
        self.value = b""
        self.physical: list[int] = []

    def next(self) -> int:
        """The kind of the next op, 0 at the end. Raises ValueError when the body is not made of ops."""
        body = self._body
        at = self._at
        if at == len(body):
            return 0
        op = body[at]
        try:
            if op == PUT_KEY:
                _, self.phys, self.slot, self.expire_ms, size, value_size = _PUT_KEY.unpack_from(body, at)
                self._parts(at + _PUT_KEY.size, size, value_size)
            elif op == DELETE_KEY:
                _, self.phys, self.slot, size = _DELETE_KEY.unpack_from(body, at)
                self._parts(at + _DELETE_KEY.size, size, 0)
            elif op == INSERT:
                _, self.kid, self.order, size, value_size = _INSERT.unpack_from(body, at)
                self._parts(at + _INSERT.size, size, value_size)
            elif op == UPDATE:
                _, self.kid, size, value_size = _UPDATE.unpack_from(body, at)
                self._parts(at + _UPDATE.size, size, value_size)
            elif op == REMOVE:
                _, self.kid, size = _REMOVE.unpack_from(body, at)
                self._parts(at + _REMOVE.size, size, 0)
            elif op == PUT_AUX:
                _, size, value_size = _PUT_AUX.unpack_from(body, at)
                self._parts(at + _PUT_AUX.size, size, value_size)
            elif op == DELETE_AUX:
                _, size = _DELETE_AUX.unpack_from(body, at)
                self._parts(at + _DELETE_AUX.size, size, 0)
            else:
                self._rare(op, at)
        except struct.error:
            raise ValueError(f"op at byte {at} is cut short") from None
        return op

    def _rare(self, op: int, at: int) -> None:
        body = self._body
        if op == KID_DEAD:
            self.kid = _KID.unpack_from(body, at)[1]
            self._at = at + _KID.size
        elif op == DB_DEAD:
            self.phys = _DB.unpack_from(body, at)[1]
            self._at = at + _DB.size
        elif op == SLOTS_DEAD:
            _, self.phys, self.slot, self.last = _SLOTS.unpack_from(body, at)
            self._at = at + _SLOTS.size
        elif op == DB_MAP:
            count = int(_MAP.unpack_from(body, at)[1])
            self.physical = list(struct.unpack_from(f"<{count}I", body, at + _MAP.size))
            self._at = at + _MAP.size + 4 * count
        else:
            raise ValueError(f"unknown op {op:#04x} at byte {at}")

    def _parts(self, at: int, size: int, value_size: int) -> None:
        middle = at + size
        end = middle + value_size
        if end > len(self._body):
            raise ValueError(f"op that ends at byte {end} is cut short")
        self.name = self._body[at:middle]
        self.value = self._body[middle:end]
        self._at = end
