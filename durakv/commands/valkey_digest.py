"""The digest of data that valkey-server's DEBUG DIGEST tells, so that data can be compared across servers.

Rule: as debug.c computes it and nothing else: SHA-1 of what the commands show, mixed where order counts and summed by
exclusive or where it does not. Deadlines count as there being one. Nodes of a group are compared by keyspace/digest.py.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from durakv.keyspace.keyspace import Db, Keyspace
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet
from durakv.resp.encoder import shortest_double

_SIZE: Final = 20
_NOTHING: Final = bytes(_SIZE)
_STRING, _LIST, _SET, _ZSET, _HASH, _STREAM = 0, 1, 2, 3, 4, 6
_ID_BITS: Final = 64


def of_all(ks: Keyspace) -> str:
    """40 hex digits over all databases; O(size of the data). Source: debug.c computeDatasetDigest()."""
    total = _NOTHING
    for db in ks.dbs:
        if db.size:
            total = _mixed(total, db.number.to_bytes(4, "big"))
            for slot in db.slots:
                for key, value in (slot or {}).items():
                    total = _summed(total, _of_value(db, key, value, _mixed(_NOTHING, key)))
    return total.hex()


def of_key(db: Db, key: bytes) -> str:
    """40 hex digits over one value, its key left out; zeros without it."""
    value = db.peek(key)
    return (_NOTHING if value is None else _of_value(db, key, value, _NOTHING)).hex()


def _summed(digest: bytes, part: bytes) -> bytes:
    return _xor(digest, sha1(part, usedforsecurity=False).digest())


def _mixed(digest: bytes, part: bytes) -> bytes:
    return sha1(_summed(digest, part), usedforsecurity=False).digest()


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(_SIZE, "big")


def _of_value(db: Db, key: bytes, value: object, digest: bytes) -> bytes:
    """``digest`` with a value and its deadline added. Source: debug.c xorObjectDigest()."""
    if isinstance(value, (bytes, bytearray)):
        digest = _mixed(_typed(digest, _STRING), bytes(value))
    elif isinstance(value, ListValue):
        digest = _typed(digest, _LIST)
        for element in value.range(0, len(value) - 1):
            digest = _mixed(digest, element)
    elif isinstance(value, SetValue):
        digest = _typed(digest, _SET)
        for member in value.members:
            digest = _summed(digest, member)
    elif isinstance(value, ZSet):
        digest = _typed(digest, _ZSET)
        for member, score in value.scores.items():
            digest = _summed(digest, _mixed(_mixed(_NOTHING, member), shortest_double(score)))
    elif isinstance(value, Hash):
        digest = _typed(digest, _HASH)
        for field, text in value.fields.items():
            digest = _summed(digest, _mixed(_mixed(_NOTHING, field), text))
    else:
        assert isinstance(value, Stream), f"no digest is known for {type(value).__name__}"
        digest = _typed(digest, _STREAM)
        for entry_id, flat in value.range(0, (1 << 2 * _ID_BITS) - 1, 0):
            digest = _mixed(digest, b"%d.%d" % (entry_id >> _ID_BITS, entry_id & (1 << _ID_BITS) - 1))
            for part in flat:
                digest = _mixed(digest, part)
    return _summed(digest, b"!!expire!!") if db.expiry(key) >= 0 else digest


def _typed(digest: bytes, kind: int) -> bytes:
    return _mixed(digest, kind.to_bytes(4, "big"))
