"""What commands on keys of any type ask of a value: its type, its encoding's name, an independent copy. [compiled]

Rule: the only place above keyspace/values that tells value classes apart; a new type of value is added here.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import to_int64
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet

# Longer strings are "raw" (valkey object.c OBJ_ENCODING_EMBSTR_SIZE_LIMIT).
_EMBSTR_MAX: Final = 44


def type_name(value: object) -> bytes:
    """The word TYPE answers."""
    if type(value) is bytes or type(value) is bytearray:
        return b"string"
    if isinstance(value, (Hash, ListValue, SetValue, Stream, ZSet)):
        return value.kind
    raise AssertionError(f"no type is known for {type(value).__name__}")


def encoding_of(value: object) -> bytes:
    """The word OBJECT ENCODING answers."""
    if type(value) is bytearray:
        return b"raw"
    if type(value) is bytes:
        if to_int64(value) is not None:
            return b"int"
        return b"embstr" if len(value) <= _EMBSTR_MAX else b"raw"
    if isinstance(value, (Hash, ListValue, SetValue, Stream, ZSet)):
        return value.encoding()
    raise AssertionError(f"no encoding is known for {type(value).__name__}")


def copy_of(value: object) -> object:
    """A value that shares no mutable state with ``value``."""
    if type(value) is bytes:
        return value
    if type(value) is bytearray:
        return bytearray(value)
    if isinstance(value, (Hash, ListValue, SetValue, Stream, ZSet)):
        return value.copy()
    raise AssertionError(f"no copy is known for {type(value).__name__}")
