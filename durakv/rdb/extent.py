"""Where a value ends: walks over any value without building it.

Rule: needs no more memory than one window, whatever the value's size; every count is checked against what is left of
the file. Source: valkey rdb.c rdbLoadObject(), rdbLoadCheckModuleValue().
"""

from __future__ import annotations

from typing import Final

from durakv.rdb import kinds
from durakv.rdb.errors import Malformed
from durakv.rdb.window import Window

_STREAM_ID: Final = 16
_MODULE_END: Final = 0
_MODULE_INTEGERS: Final = (1, 2)
_MODULE_FLOAT: Final = 3
_MODULE_DOUBLE: Final = 4
_MODULE_STRING: Final = 5


def skip_value(window: Window, kind: int) -> bool:
    """Pass over the body of a value of type ``kind``; False when it is an empty collection. Raises Malformed."""
    if kind in kinds.ONE_STRING:
        window.skip_strings(1)
        return True
    if kind in {kinds.LIST, kinds.SET, kinds.LIST_QUICKLIST}:
        n = window.count(1)
        window.skip_strings(n)
        return n > 0
    if kind == kinds.HASH:
        n = window.count(2)
        window.skip_strings(2 * n)
        return n > 0
    if kind in kinds.STREAMS:
        _skip_stream(window, kind)
        return True
    if kind in kinds.MODULES:
        skip_module(window, kind)
        return True
    return _skip_elements(window, kind)


def _skip_elements(window: Window, kind: int) -> bool:
    if kind == kinds.HASH_LISTPACK_TTL:
        window.skip(8)
        window.skip_strings(1)
        return True
    if kind == kinds.HASH_REDIS_TTL:
        window.skip(8)
    n = left = window.count(2)
    while left:
        left -= 1
        if kind == kinds.ZSET:
            window.skip_strings(1)
            window.skip(8)
        elif kind == kinds.ZSET_TEXT:
            window.skip_strings(1)
            size = window.byte()
            # 253 to 255 stand for nan and the infinities.
            window.skip(size if size < 253 else 0)
        elif kind == kinds.HASH_VALKEY_TTL:
            window.skip_strings(2)
            window.skip(8)
        elif kind == kinds.HASH_REDIS_TTL:
            window.number()
            window.skip_strings(2)
        else:
            assert kind == kinds.LIST_QUICKLIST_2, f"no walk is known for type {kind}"
            window.number()
            window.skip_strings(1)
    return n > 0


def _skip_stream(window: Window, kind: int) -> None:
    window.skip_strings(2 * window.count(2))
    # Length and last id; from type 19 on first id, greatest deleted id and entries added.
    for _ in range(3 if kind == kinds.STREAM else 8):
        window.number()
    for _ in range(window.count(5)):
        window.skip_strings(1)
        for _ in range(2 if kind == kinds.STREAM else 3):
            window.number()
        for _ in range(window.count(_STREAM_ID + 9)):
            window.skip(_STREAM_ID + 8)
            window.number()
        for _ in range(window.count(10)):
            window.skip_strings(1)
            window.skip(16 if kind == kinds.STREAM_3 else 8)
            window.skip(_STREAM_ID * window.count(_STREAM_ID))


def skip_module(window: Window, kind: int) -> str:
    """Pass over a module's value; its module's name."""
    if kind == kinds.MODULE_PRE:
        raise Malformed("a module value of a Redis 4.0 pre-release has no readable end", window.position())
    name = module_name(window.number())
    skip_module_data(window)
    return name


def skip_module_data(window: Window) -> None:
    """Pass over a module's fields up to their end mark."""
    while True:
        what = window.number()
        if what == _MODULE_END:
            return
        if what in _MODULE_INTEGERS:
            window.number()
        elif what == _MODULE_FLOAT:
            window.skip(4)
        elif what == _MODULE_DOUBLE:
            window.skip(8)
        elif what == _MODULE_STRING:
            window.skip_strings(1)
        else:
            raise Malformed(f"{what} is no kind of module data", window.position())


def module_name(module_id: int) -> str:
    """The nine letters in the upper bits of a module's id. Source: module.c moduleTypeNameByID()."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = module_id >> 10
    name = ""
    for _ in range(9):
        name = letters[number & 63] + name
        number >>= 6
    return name
