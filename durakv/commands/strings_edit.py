"""Strings as numbers and as byte ranges: INCR and its kin, APPEND, SETRANGE, GETRANGE, STRLEN. [compiled]

A string that is patched becomes a ``bytearray`` changed in place, so that appending costs what is appended; every
patch leaves its inverse in the journal. Rule: the only place that changes a stored string in place.
"""

from __future__ import annotations

from typing import Final

from durakv.commands import long_double
from durakv.commands.args import INT64_MAX, INT64_MIN, STRING_MAX, parse_int64, to_int64
from durakv.commands.context import NOTIFY_NEW, NOTIFY_STRING, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.keyspace import journal
from durakv.resp.errors import (
    DECR_OVERFLOW,
    INCR_OVERFLOW,
    NAN_OR_INF,
    NOT_FLOAT,
    NOT_INTEGER,
    STRING_TOO_LONG,
    WRONGTYPE,
    CommandError,
)
from durakv.resp.types import Reply

COMMANDS: Final = Commands("string")

_KEY_RO: Final = "RO|ACCESS@i1+r0/1/0"
_KEY_RW: Final = "RW|ACCESS|UPDATE@i1+r0/1/0"
OFFSET_OUT_OF_RANGE: Final = "ERR offset is out of range"
_UNDO_PATCH: Final = 1


class Patched:
    """A string being changed in place; the journal's target for it."""

    __slots__ = ("text",)

    def __init__(self, text: bytearray) -> None:
        self.text = text

    def undo(self, op: int, at: int, old: bytes) -> None:
        """Put back ``old`` at ``at``, which is all that was there to the end."""
        assert op == _UNDO_PATCH
        self.text[at:] = old


def patch(text: bytearray, at: int, value: bytes) -> None:
    """Write ``value`` at offset ``at``, growing with zero bytes as needed."""
    size = len(text)
    end = at + len(value)
    if at >= size:
        journal.steps.append((Patched(text), _UNDO_PATCH, size, b""))
        if at > size:
            text.extend(bytes(at - size))
        text.extend(value)
        return
    if end >= size:
        journal.steps.append((Patched(text), _UNDO_PATCH, at, bytes(text[at:])))
        text[at:] = value
        return
    journal.steps.append((PatchedInside(text), _UNDO_PATCH, at, bytes(text[at:end])))
    text[at:end] = value


class PatchedInside:
    """As Patched, for a patch that ends before the string does."""

    __slots__ = ("text",)

    def __init__(self, text: bytearray) -> None:
        self.text = text

    def undo(self, op: int, at: int, old: bytes) -> None:
        """Put back ``old`` at ``at``; the string's length did not change."""
        assert op == _UNDO_PATCH
        self.text[at : at + len(old)] = old


def _put_changed(ctx: WriteContext, key: bytes, value: bytes | bytearray, event: bytes, is_new: bool) -> None:
    ctx.db.put_keep(key, value)
    if ctx.notify_mask:
        if is_new:
            ctx.notify(NOTIFY_NEW, b"new", key)
        ctx.notify(NOTIFY_STRING, event, key)


# -- numbers -------------------------------------------------------------------------------------------------------


def _add(ctx: WriteContext, key: bytes, delta: int) -> int:
    old = ctx.db.read_string(key)
    total = delta
    if old is not None:
        value = to_int64(old)
        if value is None:
            raise CommandError(NOT_INTEGER)
        total = value + delta
        if total > INT64_MAX or total < INT64_MIN:
            raise CommandError(INCR_OVERFLOW)
    ctx.db.put_keep_last(key, b"%d" % total)
    if ctx.notify_mask:
        if old is None:
            ctx.notify(NOTIFY_NEW, b"new", key)
        ctx.notify(NOTIFY_STRING, b"incrby", key)
    return total


@COMMANDS.write("INCR", arity=2, since="1.0.0", flags="denyoom fast", keys=_KEY_RW,
                summary="Adds one to the integer value of a key; an absent key counts as 0.")  # fmt: skip
def incr(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new value. Source: t_string.c incrDecrCommand()."""
    return _add(ctx, argv[1], 1)


@COMMANDS.write("DECR", arity=2, since="1.0.0", flags="denyoom fast", keys=_KEY_RW,
                summary="Subtracts one from the integer value of a key; an absent key counts as 0.")  # fmt: skip
def decr(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new value. Source: t_string.c incrDecrCommand()."""
    return _add(ctx, argv[1], -1)


@COMMANDS.write("INCRBY", arity=3, since="1.0.0", flags="denyoom fast", keys=_KEY_RW,
                summary="Adds an integer to the integer value of a key; an absent key counts as 0.")  # fmt: skip
def incrby(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new value. Source: t_string.c incrbyCommand()."""
    return _add(ctx, argv[1], parse_int64(argv[2]))


@COMMANDS.write("DECRBY", arity=3, since="1.0.0", flags="denyoom fast", keys=_KEY_RW,
                summary="Subtracts an integer from the integer value of a key; an absent key counts as 0.")  # fmt: skip
def decrby(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new value. Source: t_string.c decrbyCommand()."""
    delta = parse_int64(argv[2])
    if delta == INT64_MIN:
        raise CommandError(DECR_OVERFLOW)
    return _add(ctx, argv[1], -delta)


@COMMANDS.write("INCRBYFLOAT", arity=3, since="2.6.0", flags="denyoom fast", keys=_KEY_RW,
                summary="Adds a floating point number to the value of a key; an absent key counts as 0.")  # fmt: skip
def incrbyfloat(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new value as text. Source: t_string.c incrbyfloatCommand()."""
    old = ctx.db.read_string(argv[1])
    value = long_double.parse(b"0" if old is None else old)
    delta = long_double.parse(argv[2])
    if value is None or delta is None:
        raise CommandError(NOT_FLOAT)
    total = long_double.add(value, delta)
    if total is None:
        raise CommandError(NAN_OR_INF)
    text = long_double.text_of(total)
    _put_changed(ctx, argv[1], text, b"incrbyfloat", old is None)
    return text


# -- byte ranges ---------------------------------------------------------------------------------------------------


@COMMANDS.write("APPEND", arity=3, since="2.0.0", flags="denyoom fast", keys="RW|INSERT@i1+r0/1/0",
                summary="Appends a string to the value of a key, creating the key if needed.",
                complexity="O(1), amortised")  # fmt: skip
def append(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new length. Source: t_string.c appendCommand()."""
    key, value = argv[1], argv[2]
    old = ctx.db.get(key)
    if old is None:
        _put_changed(ctx, key, value, b"append", True)
        return len(value)
    return _write_at(ctx, key, old, -1, value, b"append")


@COMMANDS.write("SETRANGE", arity=4, since="2.2.0", flags="denyoom", keys="RW|UPDATE@i1+r0/1/0",
                summary="Overwrites part of a string from an offset on, padding with zero bytes.",
                complexity="O(N), N the length of the new part")  # fmt: skip
def setrange(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the new length. Source: t_string.c setrangeCommand()."""
    key, value = argv[1], argv[3]
    at = parse_int64(argv[2])
    if at < 0:
        raise CommandError(OFFSET_OUT_OF_RANGE)
    old = ctx.db.get(key)
    if not value:
        return _length(old)
    if old is None:
        if at + len(value) > STRING_MAX:
            raise CommandError(STRING_TOO_LONG)
        _put_changed(ctx, key, bytearray(at) + value, b"setrange", True)
        return at + len(value)
    return _write_at(ctx, key, old, at, value, b"setrange")


def _write_at(ctx: WriteContext, key: bytes, old: object, at: int, value: bytes, event: bytes) -> int:
    """Patch a live value at ``at`` (-1: at its end); returns the new length."""
    size = _length(old)
    if at < 0:
        at = size
    if at + len(value) > STRING_MAX:
        raise CommandError(STRING_TOO_LONG)
    if type(old) is bytearray:
        patch(old, at, value)
        ctx.db.patched(key, min(at, size), at + len(value))
        ctx.notify(NOTIFY_STRING, event, key)
        return len(old)
    assert type(old) is bytes
    # A private copy: nothing to undo inside it, the old value is kept by the journal.
    text = bytearray(old)
    if at > size:
        text.extend(bytes(at - size))
    text[at : at + len(value)] = value
    _put_changed(ctx, key, text, event, False)
    return len(text)


def _length(value: object) -> int:
    if value is None:
        return 0
    if type(value) is bytes:
        return len(value)
    if type(value) is bytearray:
        return len(value)
    raise CommandError(WRONGTYPE)


@COMMANDS.read("STRLEN", arity=2, since="2.2.0", flags="fast", keys="RO@i1+r0/1/0",
               summary="Returns the length of a string value.")  # fmt: skip
def strlen(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bytes, 0 for an absent key. Source: t_string.c strlenCommand()."""
    return _length(ctx.db.get(argv[1]))


def _range(ctx: ReadContext, argv: Argv) -> Reply:
    start = parse_int64(argv[2])
    end = parse_int64(argv[3])
    value = ctx.db.get(argv[1])
    size = _length(value)
    if start < 0 and end < 0 and start > end:
        return b""
    if start < 0:
        start = max(size + start, 0)
    if end < 0:
        end = max(size + end, 0)
    if end >= size:
        end = size - 1
    if start > end or size == 0:
        return b""
    if type(value) is bytes:
        return value[start : end + 1]
    assert type(value) is bytearray
    return bytes(value[start : end + 1])


@COMMANDS.read("GETRANGE", arity=4, since="2.4.0", keys=_KEY_RO, complexity="O(N), N the length of the result",
               summary="Returns the bytes of a string between two offsets, both included.")  # fmt: skip
def getrange(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bulk, empty outside. Source: t_string.c getrangeCommand()."""
    return _range(ctx, argv)


@COMMANDS.read("SUBSTR", arity=4, since="1.0.0", keys=_KEY_RO, complexity="O(N), N the length of the result",
               summary="The former name of GETRANGE.")  # fmt: skip
def substr(ctx: ReadContext, argv: Argv) -> Reply:
    """Source: t_string.c getrangeCommand()."""
    return _range(ctx, argv)
