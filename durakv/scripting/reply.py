"""Between Lua values and replies: what a script returns becomes a reply, what a command replied becomes a Lua value.

Rule: the conversions of Valkey's script_lua.c, in both protocols a script can choose. What goes to Lua is only bytes,
numbers, booleans, None and tables made by ``table_from``; the size is known before anything is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from durakv.resp.encoder import format_double
from durakv.resp.errors import CommandError
from durakv.resp.types import (
    BigNumber,
    ErrorReply,
    HumanDouble,
    KeyedPairs,
    Map,
    NullArray,
    Pairs,
    Reply,
    SetReply,
    Simple,
    Verbatim,
)

TableFrom = Callable[[object], Any]

INT64_MIN: Final = -(1 << 63)
INT64_END: Final = 9223372036854775808.0
# What one table slot and one small string take in Lua, roughly; counts against the memory limit before building.
SLOT_BYTES: Final = 64
STACK_LIMIT: Final = "ERR reached lua stack limit"
_FORMAT_LEN: Final = 3


class TooManyLevels(Exception):
    """A reply is nested deeper than any command's."""


# -- from Lua --------------------------------------------------------------------------------------------------------


def integer(number: float) -> int:
    """A Lua number as the integer a reply shows: cut off, and the least one for what has none (as x86 does)."""
    # False for NaN, too.
    if not -INT64_END <= number < INT64_END:
        return INT64_MIN
    return int(number)


def scalar(value: object, resp: int) -> Reply:
    """The reply for a value that is no table."""
    if isinstance(value, bool):
        return _boolean(value, resp)
    if isinstance(value, (int, float)):
        return integer(value)
    if isinstance(value, bytes):
        return value
    return None


def _boolean(value: bool, resp: int) -> Reply:
    if resp == 3:
        return value
    return 1 if value else None


def error_text(raw: bytes) -> str:
    """The text of an error as C strings end it."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def compound(tokens: list[object], resp: int) -> Reply:
    """The reply that marks and scalars in prefix order describe (flatten() in lua_api.py)."""
    return _read(iter(tokens), resp)


def _read(tokens: Iterator[object], resp: int) -> Reply:
    mark = next(tokens)
    if mark == b"_":
        return None
    if mark in (b"T", b"F"):
        return _boolean(mark == b"T", resp)
    if mark == b"!":
        return ErrorReply(STACK_LIMIT)
    value: Any = next(tokens)
    if mark == b"$":
        return bytes(value)
    if mark == b":":
        return integer(value)
    if mark == b",":
        return float(value)
    if mark == b"-":
        return ErrorReply(error_text(value))
    if mark == b"+":
        return Simple(_one_line(value.partition(b"\0")[0]))
    if mark == b"(":
        return BigNumber(_one_line(value))
    if mark == b"=":
        text: Any = next(tokens)
        return Verbatim(text, value[:_FORMAT_LEN].ljust(_FORMAT_LEN))
    if mark == b"%":
        return Map([_read(tokens, resp) for _ in range(2 * value)])
    if mark == b"~":
        return SetReply([_read(tokens, resp) for _ in range(value)])
    assert mark == b"*"
    return [_read(tokens, resp) for _ in range(value)]


def _one_line(text: bytes) -> bytes:
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


# -- to Lua ----------------------------------------------------------------------------------------------------------


def size_of(reply: Reply) -> int:
    """Bytes the reply takes in Lua, roughly and never less."""
    total = 0
    stack: list[object] = [reply]
    while stack:
        item = stack.pop()
        total += SLOT_BYTES
        if isinstance(item, (bytes, bytearray)):
            total += len(item)
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, (Map, KeyedPairs, Pairs)):
            stack.extend(item.flat)
            total += SLOT_BYTES * len(item.flat)
        elif isinstance(item, SetReply):
            stack.extend(item.items)
        elif isinstance(item, (Simple, Verbatim, HumanDouble)):
            total += 2 * SLOT_BYTES + len(item.text)
        elif isinstance(item, (ErrorReply, CommandError)):
            total += SLOT_BYTES + len(item.text)
    return total


def to_lua(reply: Reply, resp: int, table_from: TableFrom) -> Any:
    """The Lua value of a reply that is not an error, for a script that has chosen RESP 2 or 3."""
    if reply is None or isinstance(reply, NullArray):
        return None if resp == 3 else False
    if isinstance(reply, bytes):
        return reply
    if isinstance(reply, bool):
        return reply if resp == 3 else int(reply)
    if isinstance(reply, int):
        return float(reply) if abs(reply) >> 53 else reply
    if isinstance(reply, (list, tuple)):
        return table_from([to_lua(item, resp, table_from) for item in reply])
    if isinstance(reply, float):
        return table_from({b"double": reply}) if resp == 3 else format_double(reply)
    if isinstance(reply, bytearray):
        return bytes(reply)
    if isinstance(reply, Simple):
        return table_from({b"ok": reply.text})
    if isinstance(reply, (ErrorReply, CommandError)):
        return error_table(reply.text, table_from)
    return _rarer(reply, resp, table_from)


def error_table(text: str, table_from: TableFrom) -> Any:
    """What an error is to a script."""
    return table_from({b"err": text.encode("utf-8", "surrogateescape"), b"ignore_error_stats_update": True})


def _rarer(reply: Reply, resp: int, table_from: TableFrom) -> Any:
    if isinstance(reply, (Map, KeyedPairs)) and resp == 3:
        values = [to_lua(item, resp, table_from) for item in reply.flat]
        return table_from({b"map": table_from(dict(zip(values[::2], values[1::2], strict=True)))})
    if isinstance(reply, Map):
        return table_from([to_lua(item, resp, table_from) for item in reply.flat])
    if isinstance(reply, KeyedPairs) or (isinstance(reply, Pairs) and resp == 3):
        values = [to_lua(item, resp, table_from) for item in reply.flat]
        return table_from([table_from(values[i : i + 2]) for i in range(0, len(values), 2)])
    if isinstance(reply, Pairs):
        return table_from([to_lua(item, resp, table_from) for item in reply.flat])
    if isinstance(reply, SetReply):
        values = [to_lua(item, resp, table_from) for item in reply.items]
        return table_from({b"set": table_from(dict.fromkeys(values, True))}) if resp == 3 else table_from(values)
    if isinstance(reply, HumanDouble):
        return table_from({b"double": float(reply.text)}) if resp == 3 else reply.text
    if isinstance(reply, Verbatim):
        if resp == 2:
            return reply.text
        inner = table_from({b"string": reply.text, b"format": reply.format})
        return table_from({b"verbatim_string": inner})
    raise TypeError(f"{type(reply).__name__} is not a reply that a script can be given")


# -- arguments -------------------------------------------------------------------------------------------------------


def argument(value: object) -> bytes | None:
    """An argument of redis.call() as bytes; None for what is neither text nor number."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return b"%d" % value if abs(value) < 1 << 53 else format_double(float(value))
    if isinstance(value, float):
        return format_double(value)
    return None
