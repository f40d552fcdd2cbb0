"""Brings a checkpoint forward: frames in, rows out, one transaction at a time. [compiled]

Changes gather in memory, the last one for each row, and are written in order of keys; the index they lead to is
written in the same transaction. So a checkpoint is always the state at exactly one index, however the process ends.
Rule: the only writer of a checkpoint. It applies only a frame that begins where the last one ended, and keeps the sums
exact by looking at each row it replaces. It must not know commands, values or files.
"""

from __future__ import annotations

from typing import Final

from durakv.checkpoint import ops, rows
from durakv.checkpoint.damage import CheckpointDamaged, StreamDamaged
from durakv.checkpoint.frames import Frame
from durakv.checkpoint.kv import AUX, DB_NAMES, ELEM, GC, KEYS, META, KvStore, KvTxn
from durakv.checkpoint.meta import Meta, read_meta

# What gathers in memory before it goes to the open transaction.
GATHERED_ROWS_MAX: Final = 500_000
GATHERED_BYTES_MAX: Final = 128 << 20
_GC_ROWS_MAX: Final = 20_000
# Rows of dead slots that are looked for at once.
_DEAD_ROWS_MAX: Final = 20_000
# In the place of an order: take it from the row that is there.
_KEEP_ORDER: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff"
_LARGE: Final = 0x80
_KID_AT: Final = 2
_NAME_BYTES_MAX: Final = 255


def found(kv: KvStore, cluster_id: bytes, node_id: int, databases: int = 0) -> None:
    """Make an empty store a checkpoint of an empty node at index 0.

    Its databases are rows' databases 0, 1, 2, ..., as many as ``databases`` says, or 0 for as many as there will be.
    """
    txn = kv.begin(write=True)
    if read_meta(txn) is not None:
        txn.abort()
        raise AssertionError("a checkpoint is made only once")
    meta = Meta(rows.Applied(0, 0, 0, 0, 0), rows.Sums(), list(range(databases)), cluster_id, node_id)
    meta.next_phys = databases
    _write_meta(txn, meta)
    _put_meta(txn, rows.IDENTITY, rows.packed_identity(cluster_id, node_id))
    txn.commit()


def adopt(kv: KvStore, node_id: int) -> rows.Applied:
    """Make a checkpoint that came from another member this node's own; where it stands."""
    txn = kv.begin(write=True)
    meta = read_meta(txn)
    if meta is None:
        txn.abort()
        raise CheckpointDamaged("database meta", "the store is empty")
    _put_meta(txn, rows.IDENTITY, rows.packed_identity(meta.cluster_id, node_id))
    txn.commit()
    return meta.applied


class Materialiser:
    """``applied``: where the committed checkpoint stands; ``reached``: where it will after the next commit()."""

    def __init__(self, kv: KvStore, gathered_rows_max: int = GATHERED_ROWS_MAX) -> None:
        """Raises CheckpointDamaged, CheckpointUnfit, OSError."""
        txn = kv.begin(write=False)
        meta = read_meta(txn)
        txn.abort()
        if meta is None:
            raise CheckpointDamaged("database meta", "the store is empty")
        self.applied: rows.Applied = meta.applied
        self.reached: rows.Applied = meta.applied
        self.rows_written = 0
        self._kv = kv
        self._meta = meta
        self._txn: KvTxn | None = None
        # By database: row key -> payload without crc, None for a row that goes.
        self._gathered: list[dict[bytes, bytes | None]] = [{}, {}, {}, {}]
        self._gathered_bytes = 0
        self._gathered_rows = 0
        self._gathered_rows_max = gathered_rows_max
        # (first slot, last slot, physical database) whose rows go before what has gathered is written.
        self._dead_slots: list[tuple[int, int, int]] = []
        # Whether there may be rows to reap, and how far the search for rows of dead databases has come.
        self._garbage = True
        self._reaping: list[int] = []
        self._reap_at = b""

    # -- frames ---------------------------------------------------------------------------------------------------

    def apply(self, frame: Frame) -> bool:
        """Take a frame's changes in; False when the checkpoint is beyond it already.

        Raises StreamDamaged, CheckpointDamaged, OSError; after any of them nothing more may be done with this object.
        """
        reached = self.reached
        if frame.index <= reached.index:
            return False
        where = f"frame to index {frame.index}"
        if frame.from_index != reached.index:
            raise StreamDamaged(where, f"it begins at index {frame.from_index}, the checkpoint is at {reached.index}")
        if frame.term < reached.term:
            raise StreamDamaged(where, f"it has term {frame.term}, the checkpoint has {reached.term} already")
        try:
            count = self._gather(frame.body)
        except ValueError as error:
            raise StreamDamaged(where, str(error)) from None
        if frame.ops and count != frame.ops:
            raise StreamDamaged(where, f"it has {count} changes, not the {frame.ops} it names")
        self.reached = rows.Applied(frame.index, frame.term, frame.subterm, frame.chain, frame.ts_ms)
        if self._gathered_rows > self._gathered_rows_max or self._gathered_bytes > GATHERED_BYTES_MAX:
            self._flush()
        return True

    def pending(self) -> bool:
        """Whether commit() has anything to do."""
        return self.reached.index > self.applied.index

    def commit(self) -> None:
        """Make what apply() took in durable, as one step. Raises CheckpointDamaged, StreamDamaged, OSError."""
        if not self.pending():
            return
        txn = self._flush()
        self._meta.applied = self.reached
        _write_meta(txn, self._meta)
        self._txn = None
        txn.commit()
        self.applied = self.reached

    def abandon(self) -> None:
        """Forget what is not committed; nothing more may be done with this object."""
        txn = self._txn
        if txn is not None:
            self._txn = None
            txn.abort()

    def _gather(self, body: bytes) -> int:
        """Note each change of a body; how many there are."""
        keys = self._gathered[KEYS]
        elem = self._gathered[ELEM]
        reader = ops.OpReader(body)
        count = 0
        while True:
            op = reader.next()
            if op == 0:
                break
            count += 1
            if op == ops.PUT_KEY:
                image = reader.value
                keys[rows.key_row(reader.slot, reader.phys, reader.name)] = rows.key_payload(
                    reader.name, reader.expire_ms, image
                )
                if reader.phys >= self._meta.next_phys:
                    self._meta.next_phys = reader.phys + 1
                if not image:
                    raise ValueError("a key without an image")
                if image[0] & _LARGE:
                    self._seen_kid(int.from_bytes(image[_KID_AT : _KID_AT + 8], "little"))
            elif op == ops.DELETE_KEY:
                keys[rows.key_row(reader.slot, reader.phys, reader.name)] = None
            elif op == ops.INSERT:
                elem[rows.element_row(reader.kid, reader.name)] = rows.element_payload(
                    rows.order_bytes(reader.order), reader.name, reader.value
                )
                self._seen_kid(reader.kid)
            elif op == ops.UPDATE:
                self._gather_update(reader.kid, reader.name, reader.value)
            elif op == ops.REMOVE:
                elem[rows.element_row(reader.kid, reader.name)] = None
            else:
                self._gather_rare(op, reader)
        self._gathered_bytes += len(body)
        self._gathered_rows += count
        return count

    def _gather_update(self, kid: int, element: bytes, value: bytes) -> None:
        row_key = rows.element_row(kid, element)
        elem = self._gathered[ELEM]
        order = _KEEP_ORDER
        if row_key in elem:
            earlier = elem[row_key]
            if earlier is None:
                raise ValueError(f"an update of an element of {kid} that was removed")
            order = earlier[: rows.ORDER_BYTES]
        elem[row_key] = rows.element_payload(order, element, value)

    def _gather_rare(self, op: int, reader: ops.OpReader) -> None:
        meta = self._meta
        if op == ops.KID_DEAD:
            self._gathered[GC][rows.dead_kid_row(reader.kid)] = b""
            self._garbage = True
            self._seen_kid(reader.kid)
        elif op == ops.DB_DEAD:
            self._gathered[GC][rows.dead_db_row(reader.phys)] = b""
            self._garbage = True
            if reader.phys >= meta.next_phys:
                meta.next_phys = reader.phys + 1
        elif op == ops.SLOTS_DEAD:
            self._gather_dead(reader.slot, reader.last, reader.phys)
        elif op == ops.DB_MAP:
            meta.db_map = reader.physical
            for phys in reader.physical:
                if phys >= meta.next_phys:
                    meta.next_phys = phys + 1
        else:
            if not 1 <= len(reader.name) <= _NAME_BYTES_MAX:
                raise ValueError(f"an aux name of {len(reader.name)} bytes")
            self._gathered[AUX][reader.name] = reader.value if op == ops.PUT_AUX else None

    def _gather_dead(self, first: int, last: int, phys: int) -> None:
        """What has gathered for these slots is void, and what the store has of them will go."""
        if first > last:
            raise ValueError(f"slots from {first} to {last}")
        keys = self._gathered[KEYS]
        for row_key in list(keys):
            if first <= row_key[0] << 8 | row_key[1] <= last and int.from_bytes(row_key[2:6], "big") == phys:
                payload = keys.pop(row_key)
                if payload is not None:
                    # A row needs a checksum to be parsed.
                    self._dead_value(rows.KeyRow(row_key, payload + bytes(rows.CRC_BYTES)))
        self._dead_slots.append((first, last, phys))

    def _dead_value(self, row: rows.KeyRow) -> None:
        """The key's row goes; so will those of its elements."""
        if row.image[0] & _LARGE:
            kid = int.from_bytes(row.image[_KID_AT : _KID_AT + 8], "little")
            self._gathered[GC][rows.dead_kid_row(kid)] = b""
            self._garbage = True

    def _seen_kid(self, kid: int) -> None:
        if kid >= self._meta.next_kid:
            self._meta.next_kid = kid + 1

    # -- rows -----------------------------------------------------------------------------------------------------

    def _flush(self) -> KvTxn:
        """Write what has gathered to the open transaction, which is begun if there is none."""
        txn = self._txn
        if txn is None:
            txn = self._kv.begin(write=True)
            self._txn = txn
        for first, last, phys in self._dead_slots:
            for slot in range(first, last + 1):
                while self._pop_slot(txn, rows.slot_prefix(slot, phys)):
                    pass
        self._dead_slots = []
        for db in (KEYS, ELEM, AUX, GC):
            gathered = self._gathered[db]
            if gathered:
                for row_key in sorted(gathered):
                    payload = gathered[row_key]
                    if payload is None:
                        self._pop(txn, db, row_key)
                    else:
                        if db == ELEM and payload[: rows.ORDER_BYTES] == _KEEP_ORDER:
                            payload = _order_there(txn, row_key) + payload[rows.ORDER_BYTES :]
                        self._put(txn, db, row_key, payload)
                self._gathered[db] = {}
        self._gathered_bytes = 0
        self._gathered_rows = 0
        return txn

    def _pop_slot(self, txn: KvTxn, prefix: bytes) -> bool:
        """Remove some keys' rows that begin so; whether there may be more."""
        gone: list[bytes] = []
        for row_key, value in txn.rows(KEYS, prefix):
            if not row_key.startswith(prefix) or len(gone) == _DEAD_ROWS_MAX:
                break
            gone.append(row_key)
            if value[0] != 0 or value[1] & _LARGE:
                _old_crc(KEYS, row_key, value)
                self._dead_value(rows.KeyRow(row_key, value))
        for row_key in gone:
            self._pop(txn, KEYS, row_key)
        return len(gone) == _DEAD_ROWS_MAX

    def _put(self, txn: KvTxn, db: int, row_key: bytes, payload: bytes) -> None:
        value = rows.sealed(row_key, payload)
        old = txn.replace(db, row_key, value)
        sums = self._meta.sums
        crc = rows.crc_in(value)
        if old is None:
            sums.counts[db] += 1
        else:
            crc ^= _old_crc(db, row_key, old)
        sums.crcs[db] ^= crc
        self.rows_written += 1

    def _pop(self, txn: KvTxn, db: int, row_key: bytes) -> None:
        old = txn.pop(db, row_key)
        if old is not None:
            sums = self._meta.sums
            sums.counts[db] -= 1
            sums.crcs[db] ^= _old_crc(db, row_key, old)
            self.rows_written += 1

    # -- garbage --------------------------------------------------------------------------------------------------

    def garbage(self) -> bool:
        """Whether collect() may have something to do."""
        return self._garbage

    def collect(self, rows_max: int = _GC_ROWS_MAX) -> int:
        """Remove up to ``rows_max`` rows nothing refers to, in a transaction of its own; how many were looked at.

        Only when nothing is pending. Raises CheckpointDamaged, OSError.
        """
        assert self._txn is None and not self.pending(), "garbage is collected between commits"
        txn = self._kv.begin(write=True)
        self._txn = txn
        dead: list[bytes] = []
        for row_key, _ in txn.rows(GC):
            dead.append(row_key)
            if len(dead) == rows_max:
                break
        self._garbage = bool(dead)
        if not dead:
            self.abandon()
            return 0
        looked = 0
        dbs: list[int] = []
        for row_key in dead:
            kid, phys = rows.dead_of(row_key)
            if kid < 0:
                dbs.append(phys)
            elif looked < rows_max:
                looked += self._reap_kid(txn, kid, row_key, rows_max - looked)
        if dbs and looked < rows_max:
            looked += self._reap_dbs(txn, dbs, rows_max - looked)
        _put_meta(txn, rows.SUMS, self._meta.sums.packed())
        self._txn = None
        txn.commit()
        return looked

    def _reap_kid(self, txn: KvTxn, kid: int, gc_row: bytes, rows_max: int) -> int:
        prefix = rows.kid_prefix(kid)
        gone: list[bytes] = []
        more = False
        for row_key, _ in txn.rows(ELEM, prefix):
            if not row_key.startswith(prefix):
                break
            if len(gone) == rows_max:
                more = True
                break
            gone.append(row_key)
        for row_key in gone:
            self._pop(txn, ELEM, row_key)
        if not more:
            self._pop(txn, GC, gc_row)
        return len(gone) + 1

    def _reap_dbs(self, txn: KvTxn, dbs: list[int], rows_max: int) -> int:
        """One more stretch of the way through all keys, for the databases that were dead when it began."""
        if not self._reap_at:
            self._reaping = dbs
        looked = 0
        gone: list[tuple[bytes, bytes]] = []
        last = b""
        for row_key, value in txn.rows(KEYS, self._reap_at):
            if looked == rows_max:
                last = row_key
                break
            looked += 1
            if int.from_bytes(row_key[2:6], "big") in self._reaping:
                gone.append((row_key, value))
        for row_key, value in gone:
            _old_crc(KEYS, row_key, value)
            row = rows.KeyRow(row_key, value)
            if row.image[0] & _LARGE:
                kid = int.from_bytes(row.image[_KID_AT : _KID_AT + 8], "little")
                self._put(txn, GC, rows.dead_kid_row(kid), b"")
            self._pop(txn, KEYS, row_key)
        self._reap_at = last
        if not last:
            for phys in self._reaping:
                self._pop(txn, GC, rows.dead_db_row(phys))
            self._reaping = []
        return looked + 1


def _order_there(txn: KvTxn, row_key: bytes) -> bytes:
    old = txn.get(ELEM, row_key)
    if old is None:
        raise StreamDamaged(f"element of {rows.kid_of(row_key)}", "an update of a row that is not there")
    _old_crc(ELEM, row_key, old)
    return old[: rows.ORDER_BYTES]


def _old_crc(db: int, row_key: bytes, old: bytes) -> int:
    """The checksum of a row that goes, once it is found right: it enters the sums, which must not hide damage."""
    if not rows.intact(row_key, old):
        raise CheckpointDamaged(f"database {DB_NAMES[db]}, row {row_key.hex()}", "the checksum is wrong")
    return rows.crc_in(old)


def _write_meta(txn: KvTxn, meta: Meta) -> None:
    _put_meta(txn, rows.APPLIED, meta.applied.packed())
    _put_meta(txn, rows.SUMS, meta.sums.packed())
    _put_meta(txn, rows.DB_MAP, rows.packed_map(meta.db_map))
    _put_meta(txn, rows.NEXT, rows.packed_next(meta.next_kid, meta.next_phys))


def _put_meta(txn: KvTxn, name: bytes, payload: bytes) -> None:
    txn.replace(META, name, rows.sealed(name, payload))
