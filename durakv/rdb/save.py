"""A keyspace as an RDB file.

Rule: the only place that knows which type byte a value of durakv gets in a file; what it does not encode itself comes
from keyspace.dump, so a type that DUMP knows can be saved. Keys go slot by slot, as they lie.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from durakv.keyspace.dump import dump_payload
from durakv.keyspace.keyspace import Db, Keyspace
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet
from durakv.rdb import kinds
from durakv.rdb.values import length, string
from durakv.rdb.writer import RdbWriter

_DOUBLE: Final = Struct("<d")
_I64: Final = Struct("<q")
# Version and checksum behind a payload.
_FOOTER: Final = 10
_LENGTHS: Final = [length(n) for n in range(1024)]


class Saved:
    """What went into a file. ``expired`` keys were left out: their time had come by the log's clock."""

    def __init__(self) -> None:
        self.keys = 0
        self.expired = 0
        self.by_type: dict[str, int] = {}
        # Hashes whose fields lost their deadlines, as asked for.
        self.fields_kept = 0


def write_keyspace(writer: RdbWriter, ks: Keyspace, *, drop_field_ttl: bool = False) -> Saved:
    """Write all databases, each with its keys and deadlines; ``drop_field_ttl``: without deadlines of hash fields.

    A writer limited to a version of Redis gets deadlines of fields in Redis's form. Raises VersionTooLow.
    """
    saved = Saved()
    for db in ks.dbs:
        if db.size:
            _write_db(writer, db, ks.log_ms, saved, drop_field_ttl=drop_field_ttl)
    return saved


def _write_db(writer: RdbWriter, db: Db, now_ms: int, saved: Saved, *, drop_field_ttl: bool) -> None:
    writer.database(db.number, db.size, db.nexp)
    by_kind = [0] * (kinds.TYPE_MAX + 1)
    for slot, mapping in enumerate(db.slots):
        if not mapping:
            continue
        deadlines = db.exps[slot]
        for key, value in mapping.items():
            at_ms = -1
            if deadlines is not None:
                at_ms = deadlines.get(key, -1)
                if 0 <= at_ms <= now_ms:
                    saved.expired += 1
                    continue
            if type(value) is bytes:
                by_kind[0] += 1
                writer.put_string(key, value, at_ms)
            else:
                if type(value) is Hash and value.deadlines is not None:
                    value = value.view(now_ms)
                    if not value.fields:
                        saved.expired += 1
                        continue
                    if drop_field_ttl and value.deadlines is not None:
                        value.deadlines = None
                        saved.fields_kept += 1
                kind, body = encode(value, redis=writer.for_redis)
                by_kind[kind] += 1
                writer.put(key, kind, body, at_ms)
    for kind, count in enumerate(by_kind):
        if count:
            name = kinds.TYPE_NAMES[kind]
            saved.by_type[name] = saved.by_type.get(name, 0) + count
            saved.keys += count


def encode(value: object, *, redis: bool = False) -> tuple[int, bytes]:
    """(type byte, body) of a stored value; ``redis`` chooses the form of deadlines of hash fields."""
    if type(value) is bytes or type(value) is bytearray:
        return kinds.STRING, length(len(value)) + value
    if type(value) is ListValue:
        return kinds.LIST, _strings(len(value.items), list(value.items))
    if type(value) is SetValue:
        return kinds.SET, _strings(len(value), list(value.members))
    if type(value) is ZSet:
        out = [length(len(value))]
        pack = _DOUBLE.pack
        for score, member in value.slice(0, len(value)):
            n = len(member)
            out += (_LENGTHS[n] if n < 1024 else length(n), member, pack(score))
        return kinds.ZSET, b"".join(out)
    if type(value) is Hash:
        if value.deadlines is None:
            flat = [word for pair in value.fields.items() for word in pair]
            return kinds.HASH, _strings(len(value.fields), flat)
        return (kinds.HASH_REDIS_TTL, _relative(value)) if redis else (kinds.HASH_VALKEY_TTL, _absolute(value))
    payload = dump_payload(value)
    return payload[0], payload[1:-_FOOTER]


def _absolute(value: Hash) -> bytes:
    """Field, value, deadline or -1."""
    out = [length(len(value.fields))]
    for field, content in value.fields.items():
        out += (string(field), string(content), _I64.pack(value.deadline(field)))
    return b"".join(out)


def _relative(value: Hash) -> bytes:
    """The first deadline, then for each field how far its own lies behind that, plus 1, or 0 for none."""
    assert value.deadlines is not None
    least_ms = min(value.deadlines.at_ms.values())
    out = [_I64.pack(least_ms), length(len(value.fields))]
    for field, content in value.fields.items():
        at_ms = value.deadline(field)
        out += (length(at_ms - least_ms + 1 if at_ms >= 0 else 0), string(field), string(content))
    return b"".join(out)


def _strings(count: int, items: list[bytes]) -> bytes:
    out = [length(count)]
    for item in items:
        n = len(item)
        out.append(_LENGTHS[n] if n < 1024 else length(n))
        out.append(item)
    return b"".join(out)
