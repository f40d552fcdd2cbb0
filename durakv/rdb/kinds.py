"""The numbers of RDB: value types, opcodes, the version each type needs, and what to call a type in a message.

Rule: the only place that maps a type to the lowest version that has it. Type bytes above 21 mean different things to
Redis and to Valkey; the file's magic word decides. Source: valkey rdb.h; redis rdb.h of 7.4.
"""

from __future__ import annotations

from typing import Final

STRING: Final = 0
LIST: Final = 1
SET: Final = 2
ZSET_TEXT: Final = 3
HASH: Final = 4
ZSET: Final = 5
MODULE_PRE: Final = 6
MODULE: Final = 7
HASH_ZIPMAP: Final = 9
LIST_ZIPLIST: Final = 10
SET_INTSET: Final = 11
ZSET_ZIPLIST: Final = 12
HASH_ZIPLIST: Final = 13
LIST_QUICKLIST: Final = 14
STREAM: Final = 15
HASH_LISTPACK: Final = 16
ZSET_LISTPACK: Final = 17
LIST_QUICKLIST_2: Final = 18
STREAM_2: Final = 19
SET_LISTPACK: Final = 20
STREAM_3: Final = 21
# Valkey 9: fields with a deadline each.
HASH_VALKEY_TTL: Final = 22
# Redis 7.4: deadlines relative to the smallest, and a listpack of field, value, deadline.
HASH_REDIS_TTL: Final = 24
HASH_LISTPACK_TTL: Final = 25

# Not yet ended by a deadline: what Valkey 9 stores for a field without one.
NO_DEADLINE: Final = -1

# The greatest type any server is known to write (Redis 8.10).
TYPE_MAX: Final = 33

OP_INLINE_COMMAND: Final = 242
OP_SLOT_IMPORT: Final = 243
OP_SLOT_INFO: Final = 244
OP_FUNCTION: Final = 245
OP_FUNCTION_PRE: Final = 246
OP_MODULE_AUX: Final = 247
OP_IDLE: Final = 248
OP_FREQ: Final = 249
OP_AUX: Final = 250
OP_RESIZE: Final = 251
OP_EXPIRE_MS: Final = 252
OP_EXPIRE_S: Final = 253
OP_SELECT: Final = 254
OP_EOF: Final = 255

REDIS_VERSION_MAX: Final = 12
VALKEY_VERSION_MIN: Final = 80
VALKEY_VERSION_MAX: Final = 81
# The first version whose file ends in a CRC-64.
CHECKSUM_VERSION: Final = 5

# What each type is called where a person reads it.
TYPE_NAMES: Final[dict[int, str]] = {
    STRING: "string",
    LIST: "list",
    SET: "set",
    ZSET_TEXT: "zset",
    HASH: "hash",
    ZSET: "zset",
    MODULE_PRE: "module",
    MODULE: "module",
    HASH_ZIPMAP: "hash",
    LIST_ZIPLIST: "list",
    SET_INTSET: "set",
    ZSET_ZIPLIST: "zset",
    HASH_ZIPLIST: "hash",
    LIST_QUICKLIST: "list",
    STREAM: "stream",
    HASH_LISTPACK: "hash",
    ZSET_LISTPACK: "zset",
    LIST_QUICKLIST_2: "list",
    STREAM_2: "stream",
    SET_LISTPACK: "set",
    STREAM_3: "stream",
    HASH_VALKEY_TTL: "hash",
    HASH_REDIS_TTL: "hash",
    HASH_LISTPACK_TTL: "hash",
}

# The lowest version under which a DUMP payload or a file may hold the type.
LOWEST_VERSION: Final[dict[int, int]] = {
    STRING: 1,
    LIST: 1,
    SET: 1,
    ZSET_TEXT: 1,
    HASH: 1,
    ZSET: 8,
    HASH_ZIPMAP: 2,
    LIST_ZIPLIST: 2,
    SET_INTSET: 2,
    ZSET_ZIPLIST: 2,
    HASH_ZIPLIST: 4,
    LIST_QUICKLIST: 7,
    STREAM: 9,
    HASH_LISTPACK: 10,
    ZSET_LISTPACK: 10,
    LIST_QUICKLIST_2: 10,
    STREAM_2: 10,
    SET_LISTPACK: 11,
    STREAM_3: 11,
    HASH_REDIS_TTL: 12,
    HASH_LISTPACK_TTL: 12,
    HASH_VALKEY_TTL: 80,
}

# Types whose body is exactly one string (which may itself be a packed blob).
ONE_STRING: Final = frozenset(
    (STRING, HASH_ZIPMAP, LIST_ZIPLIST, SET_INTSET, ZSET_ZIPLIST, HASH_ZIPLIST, HASH_LISTPACK, ZSET_LISTPACK,
     SET_LISTPACK)
)  # fmt: skip
STREAMS: Final = frozenset((STREAM, STREAM_2, STREAM_3))
MODULES: Final = frozenset((MODULE_PRE, MODULE))
# Redis's own, under its versions only.
REDIS_ONLY: Final = frozenset((HASH_REDIS_TTL, HASH_LISTPACK_TTL))
VALKEY_ONLY: Final = frozenset((HASH_VALKEY_TTL,))

_STRANGERS: Final[dict[tuple[bool, int], str]] = {
    (True, 23): "path hash of Valkey 9.2",
    (False, 22): "hash with field TTL of a Redis 7.4 pre-release",
    (False, 23): "hash with field TTL of a Redis 7.4 pre-release",
}


def known(kind: int, *, valkey: bool) -> bool:
    """Whether a value of type ``kind`` can be read from a file of that family (modules can only be skipped)."""
    if kind in REDIS_ONLY:
        return not valkey
    if kind in VALKEY_ONLY:
        return valkey
    return kind in TYPE_NAMES


def describe(kind: int, *, valkey: bool) -> str:
    """The type for a message: ``type 23 (path hash of Valkey 9.2)``."""
    name = TYPE_NAMES[kind] if known(kind, valkey=valkey) else _STRANGERS.get((valkey, kind), "unknown to this version")
    return f"type {kind} ({name})"
