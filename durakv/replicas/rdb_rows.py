"""A checkpoint's rows as an RDB file, key by key, as they lie: no more than one value is in memory. [compiled]

Keys of slots that are still coming in from another group are not written: nobody sees them yet.
Rule: reads one committed state in one transaction and checks every row it writes. Keys and fields whose time has come
are written too: who reads the file decides, and a replica must keep them until it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crc32c import crc32c

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged
from durakv.checkpoint.elements import Header, Row, assemble
from durakv.checkpoint.images import LARGE, from_small
from durakv.checkpoint.kv import AUX, DB_NAMES, ELEM, KEYS
from durakv.checkpoint.meta import read_meta
from durakv.cluster.handoff.hub import STATE_ROW
from durakv.cluster.handoff.state import IMPORTING, State
from durakv.engine.beside import LIBRARIES, unpacked
from durakv.keyspace.dump import dump_body
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.stream import Stream
from durakv.rdb.save import encode

if TYPE_CHECKING:
    from durakv.checkpoint.kv import KvStore, KvTxn
    from durakv.rdb.writer import RdbWriter

_REDIS_7_0: Final = 10
_VALKEY_9: Final = 80


class Exported:
    """What a file holds. ``deadlines_dropped``: hashes whose fields lost their deadlines, as the version demands."""

    __slots__ = ("deadlines_dropped", "index", "keys")

    def __init__(self, index: int) -> None:
        self.index = index
        self.keys = 0
        self.deadlines_dropped = 0


def export_rows(
    store: KvStore, writer: RdbWriter, version_max: int, facts: dict[str, str], *, keys: bool, functions: bool
) -> Exported:
    """Everything before finish(). ``facts`` go first, with those of the checkpoint. Raises CheckpointDamaged, OSError.

    ``version_max``: 10 for what Redis 7.0 takes, 80 for Valkey 9.
    """
    txn = store.begin(write=False)
    try:
        meta = read_meta(txn)
        out = Exported(0 if meta is None else meta.applied.index)
        for name, content in facts.items():
            writer.aux(name.encode(), content.encode())
        writer.aux(b"durakv-index", b"%d" % out.index)
        if meta is None:
            return out
        writer.aux(b"durakv-term", b"%d" % meta.applied.term)
        writer.aux(b"durakv-cluster", meta.cluster_id.hex().encode())
        if functions:
            _functions(txn, writer)
        if keys:
            # Without a map each database is its own.
            numbers = {phys: number for number, phys in enumerate(meta.db_map)} if meta.db_map else None
            _keys(txn, writer, numbers, out, version_max)
        return out
    finally:
        txn.abort()


def _functions(txn: KvTxn, writer: RdbWriter) -> None:
    value = txn.get(AUX, LIBRARIES)
    if value is None:
        return
    if not rows.intact(LIBRARIES, value):
        raise _damaged(AUX, LIBRARIES, "the checksum is wrong")
    for part in unpacked(value[: -rows.CRC_BYTES]):
        writer.function(unpacked(part)[1])


def _slots(txn: KvTxn) -> State:
    """What the group is to each slot."""
    state = State(0)
    value = txn.get(AUX, STATE_ROW)
    if value is None:
        return state
    if not rows.intact(STATE_ROW, value):
        raise _damaged(AUX, STATE_ROW, "the checksum is wrong")
    try:
        state.from_bytes(value[: -rows.CRC_BYTES])
    except ValueError as error:
        raise _damaged(AUX, STATE_ROW, str(error)) from None
    return state


def _keys(
    txn: KvTxn, writer: RdbWriter, numbers: dict[int, int] | None, out: Exported, version_max: int
) -> None:  # fmt: skip
    phys = -1
    number = -1
    selected = -1
    own = _slots(txn).own
    for row_key, value in txn.rows(KEYS):
        if crc32c(value, crc32c(row_key)) != rows.INTACT:
            raise _damaged(KEYS, row_key, "the checksum is wrong")
        n = len(value)
        if n < 6 or len(row_key) < 7:
            raise _damaged(KEYS, row_key, "the row is too short")
        row_phys = row_key[2] << 24 | row_key[3] << 16 | row_key[4] << 8 | row_key[5]
        if row_phys != phys:
            phys = row_phys
            number = phys if numbers is None else numbers.get(phys, -1)
        if number < 0:
            # Of a database that was emptied.
            continue
        if own[row_key[0] << 8 | row_key[1]] == IMPORTING:
            continue
        if number != selected:
            writer.select(number)
            selected = number
        out.keys += 1
        if value[0] == 0 and value[1] == 0 and row_key[6] == 0:
            # By far the most frequent row: a string without deadline.
            writer.put_string(row_key[7:], value[2 : n - 4], -1)
        else:
            _key(txn, writer, row_key, value, out, version_max)


def _key(txn: KvTxn, writer: RdbWriter, row_key: bytes, value: bytes, out: Exported, version_max: int) -> None:
    try:
        row = rows.KeyRow(row_key, value)
        if row.image[0] & LARGE:
            header = Header(row.image)
            stored = assemble(header, _elements(txn, header.kid))
        else:
            stored = from_small(row.image)
    except ValueError as error:
        raise _damaged(KEYS, row_key, str(error)) from None
    if type(stored) is bytes:
        writer.put_string(row.key, stored, row.expire_ms)
        return
    if type(stored) is Hash and stored.deadlines is not None and version_max < _VALKEY_9:
        stored.deadlines = None
        out.deadlines_dropped += 1
    if type(stored) is Stream:
        data, _ = dump_body(stored, redis_7_0=version_max <= _REDIS_7_0)
        writer.put(row.key, data[0], data[1:], row.expire_ms)
        return
    kind, body = encode(stored)
    writer.put(row.key, kind, body, row.expire_ms)


def _elements(txn: KvTxn, kid: int) -> list[Row]:
    prefix = rows.kid_prefix(kid)
    out: list[Row] = []
    for row_key, value in txn.rows(ELEM, prefix):
        if row_key[:8] != prefix:
            break
        if crc32c(value, crc32c(row_key)) != rows.INTACT:
            raise _damaged(ELEM, row_key, "the checksum is wrong")
        try:
            out.append(rows.element_of(row_key, value))
        except ValueError as error:
            raise _damaged(ELEM, row_key, str(error)) from None
    return out


def _damaged(db: int, row_key: bytes, detail: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"database {DB_NAMES[db]}, row {row_key.hex()}", detail)
