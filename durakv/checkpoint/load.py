"""From a checkpoint to a keyspace: every checksum checked, every count compared, in slices. [compiled]

Rule: the only place that fills databases past their mutators, which it may because nobody looks at them yet. Whatever
does not add up is CheckpointDamaged; then the keyspace is unusable and must be dropped. Aux blobs are handed over only
after everything was found right. It must not know where the store lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify
from typing import Final

from crc32c import crc32c

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit
from durakv.checkpoint.elements import Header, Row, assemble
from durakv.checkpoint.images import LARGE, from_small
from durakv.checkpoint.kv import AUX, DB_NAMES, ELEM, GC, KEYS, KvStore, KvTxn
from durakv.checkpoint.meta import Meta, read_meta
from durakv.keyspace.keyspace import Db, Keyspace
from durakv.keyspace.slots import SLOTS
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.touched import TouchedChunks

OnAux = Callable[[bytes, bytes], None]

# Phases, in this order; those below four are databases.
_ORDER: Final = (GC, KEYS, ELEM, AUX)
_ALL_ROWS: Final = 1 << 62


class LargeString:
    """A string stored in chunks: where it is, and what the checkpoint's rows of it hold."""

    __slots__ = ("db", "key", "tracker")

    def __init__(self, db: int, key: bytes, tracker: TouchedChunks) -> None:
        """``db`` is the logical database's number."""
        self.db = db
        self.key = key
        self.tracker = tracker


class Loaded:
    """What a checkpoint holds besides keys and aux blobs; ``db_map`` says which physical database each one is."""

    __slots__ = ("applied", "cluster_id", "db_map", "keys", "kids", "large_strings", "next_kid", "next_phys", "node_id")

    def __init__(self, meta: Meta) -> None:
        self.applied: rows.Applied = meta.applied
        self.cluster_id: bytes = meta.cluster_id
        self.node_id: int = meta.node_id
        self.db_map: list[int] = meta.db_map
        self.next_kid: int = meta.next_kid
        self.next_phys: int = meta.next_phys
        self.keys = 0
        # (logical database, key, kid) of every value stored element by element.
        self.kids: list[tuple[int, bytes, int]] = []
        self.large_strings: list[LargeString] = []


class _Waiting:
    """A key whose elements are still to come."""

    __slots__ = ("db", "header", "key", "slot")

    def __init__(self, db: Db, slot: int, key: bytes, header: Header) -> None:
        self.db = db
        self.slot = slot
        self.key = key
        self.header = header


def load(kv: KvStore, ks: Keyspace, on_aux: OnAux) -> Loaded:
    """Fill the empty ``ks``; ``on_aux(name, blob)`` hears of each aux row. Raises CheckpointDamaged, CheckpointUnfit,
    OSError.
    """
    loader = Loader(kv, ks, on_aux)
    while loader.step(_ALL_ROWS):
        pass
    return loader.loaded


class Loader:
    """The same in slices: call step() until it says False. ``loaded`` is complete then; close() gives up before."""

    def __init__(self, kv: KvStore, ks: Keyspace, on_aux: OnAux) -> None:
        """Raises CheckpointDamaged, CheckpointUnfit, OSError."""
        for db in ks.dbs:
            assert db.size == 0, "a checkpoint is loaded into an empty keyspace"
        self._ks = ks
        self._on_aux = on_aux
        self._txn: KvTxn = kv.begin(write=False)
        meta = read_meta(self._txn)
        if meta is None:
            self._txn.abort()
            raise CheckpointDamaged("database meta", "the store is empty")
        self._dbs: dict[int, Db] = _databases(meta, ks)
        self.loaded = Loaded(meta)
        self._sums: rows.Sums = meta.sums
        self._counts = [0, 0, 0, 0]
        self._crcs = [0, 0, 0, 0]
        self._phase = 0
        self._before = b""
        self._rows: Iterator[tuple[bytes, bytes]] = self._txn.rows(GC)
        self._dead_dbs: dict[int, None] = {}
        self._dead_kids: dict[int, None] = {}
        # Kids of keys of dead databases, which no gc row names yet.
        self._orphans: dict[int, None] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._kid = -1
        self._elements: list[Row] = []
        self._aux: list[tuple[bytes, bytes]] = []

    def step(self, rows_max: int) -> bool:
        """Take in up to ``rows_max`` more rows; False when all is done. Raises CheckpointDamaged, OSError."""
        while rows_max > 0:
            db = _ORDER[self._phase]
            if db == KEYS:
                seen = self._keys(rows_max)
            elif db == ELEM:
                seen = self._elem(rows_max)
            else:
                seen = self._rare(db, rows_max)
            rows_max -= seen
            if rows_max > 0:
                self._check_sums(db)
                if db == ELEM:
                    self._assembled()
                    self._no_elements()
                self._phase += 1
                if self._phase == len(_ORDER):
                    self._finish()
                    return False
                self._before = b""
                self._rows = self._txn.rows(_ORDER[self._phase])
        return True

    def close(self) -> None:
        """Give up; harmless after the end."""
        self._txn.abort()

    # -- rows -----------------------------------------------------------------------------------------------------

    def _keys(self, rows_max: int) -> int:
        """Take in key rows; how many, fewer than asked for at the end."""
        count = 0
        crcs = 0
        keys = 0
        phys = -1
        before = self._before
        db: Db | None = None
        for row_key, value in self._rows:
            if crc32c(row_key + value) != rows.INTACT:
                raise _wrong_crc(KEYS, row_key)
            n = len(value)
            if n < 6 or len(row_key) < 7:
                raise _damaged(KEYS, row_key, "the row is too short")
            if row_key <= before:
                raise _damaged(KEYS, row_key, "it is not after the row before it")
            before = row_key
            crcs ^= value[n - 4] | value[n - 3] << 8 | value[n - 2] << 16 | value[n - 1] << 24
            count += 1
            slot = row_key[0] << 8 | row_key[1]
            row_phys = row_key[2] << 24 | row_key[3] << 16 | row_key[4] << 8 | row_key[5]
            if row_phys != phys:
                phys = row_phys
                db = self._dbs.get(phys)
            if slot >= SLOTS:
                raise _damaged(KEYS, row_key, f"there is no slot {slot}")
            if db is None:
                self._dead_row(phys, row_key, value)
            else:
                keys += 1
                if value[0] == 0 and value[1] == 0 and row_key[6] == 0:
                    # By far the most frequent row: a string without deadline.
                    mapping = db.slots[slot]
                    if mapping is None:
                        mapping = {}
                        db.slots[slot] = mapping
                    mapping[row_key[7:]] = value[2 : n - 4]
                    db.size += 1
                else:
                    self._key(db, row_key, value)
            if count == rows_max:
                break
        self._counts[KEYS] += count
        self._crcs[KEYS] ^= crcs
        self._before = before
        self.loaded.keys += keys
        return count

    def _key(self, db: Db, row_key: bytes, value: bytes) -> None:
        try:
            row = rows.KeyRow(row_key, value)
            slot = row.slot
            stored: object = None
            if row.image[0] & LARGE:
                header = Header(row.image)
                kid = header.kid
                if kid in self._waiting or kid in self._dead_kids or kid >= self.loaded.next_kid:
                    raise ValueError(f"its elements are those of {kid}, which another key has or which is free")
                self._waiting[kid] = _Waiting(db, slot, row.key, header)
            else:
                stored = from_small(row.image)
        except ValueError as error:
            raise _damaged(KEYS, row_key, str(error)) from None
        if stored is not None:
            _store(db, slot, row.key, stored)
        if row.expire_ms >= 0:
            deadlines = db.exps[slot]
            if deadlines is None:
                deadlines = {}
                db.exps[slot] = deadlines
            deadlines[row.key] = row.expire_ms
            db.nexp += 1
            db.deadlines.append((row.expire_ms, row.key))
        db.size += 1

    def _dead_row(self, phys: int, row_key: bytes, value: bytes) -> None:
        if phys not in self._dead_dbs:
            raise _damaged(KEYS, row_key, f"no database has the number {phys}")
        row = rows.KeyRow(row_key, value)
        if row.image[0] & LARGE:
            self._orphans[Header(row.image).kid] = None

    def _elem(self, rows_max: int) -> int:
        count = 0
        crcs = 0
        kid = self._kid
        elements = self._elements
        before = self._before
        for row_key, value in self._rows:
            if crc32c(row_key + value) != rows.INTACT:
                raise _wrong_crc(ELEM, row_key)
            n = len(value)
            if n < 12 or len(row_key) < 9:
                raise _damaged(ELEM, row_key, "the row is too short")
            if row_key <= before:
                raise _damaged(ELEM, row_key, "it is not after the row before it")
            before = row_key
            crcs ^= value[n - 4] | value[n - 3] << 8 | value[n - 2] << 16 | value[n - 1] << 24
            count += 1
            row_kid = int.from_bytes(row_key[:8], "big")
            if row_kid != kid:
                self._assembled()
                kid = row_kid
                self._kid = kid
                elements = []
                self._elements = elements
                if kid not in self._waiting and kid not in self._dead_kids and kid not in self._orphans:
                    raise _damaged(ELEM, row_key, f"no key has elements of {kid}")
            if row_key[8] == 0:
                elements.append((int.from_bytes(value[:8], "little"), row_key[9:], value[8 : n - 4]))
            else:
                try:
                    elements.append(rows.element_of(row_key, value))
                except ValueError as error:
                    raise _damaged(ELEM, row_key, str(error)) from None
            if count == rows_max:
                break
        self._counts[ELEM] += count
        self._crcs[ELEM] ^= crcs
        self._before = before
        return count

    def _rare(self, db: int, rows_max: int) -> int:
        """Rows of gc or aux."""
        count = 0
        for row_key, value in self._rows:
            if not rows.intact(row_key, value):
                raise _wrong_crc(db, row_key)
            if row_key <= self._before:
                raise _damaged(db, row_key, "it is not after the row before it")
            self._before = row_key
            self._crcs[db] ^= rows.crc_in(value)
            count += 1
            if db == AUX:
                self._aux.append((row_key, value[: -rows.CRC_BYTES]))
            else:
                self._dead(row_key)
            if count == rows_max:
                break
        self._counts[db] += count
        return count

    def _dead(self, row_key: bytes) -> None:
        try:
            kid, phys = rows.dead_of(row_key)
        except ValueError as error:
            raise _damaged(GC, row_key, str(error)) from None
        if kid >= 0:
            self._dead_kids[kid] = None
            return
        if phys in self._dbs:
            raise _damaged(GC, row_key, f"database {phys} is in use")
        self._dead_dbs[phys] = None

    # -- values ---------------------------------------------------------------------------------------------------

    def _assembled(self) -> None:
        """All elements of the current kid are there: make its value."""
        waiting = self._waiting.pop(self._kid, None)
        if waiting is not None:
            self._make(waiting, self._elements)

    def _no_elements(self) -> None:
        """Keys whose values are large and have no element, which only streams can."""
        for kid in sorted(self._waiting):
            self._make(self._waiting[kid], [])
        self._waiting = {}

    def _make(self, waiting: _Waiting, elements: list[Row]) -> None:
        header = waiting.header
        try:
            stored = assemble(header, elements)
        except ValueError as error:
            raise CheckpointDamaged(f"database elem, rows of {header.kid}, key {waiting.key!r}", str(error)) from None
        db = waiting.db
        _store(db, waiting.slot, waiting.key, stored)
        self.loaded.kids.append((db.number, waiting.key, header.kid))
        if isinstance(stored, (bytes, bytearray)):
            tracker = TouchedChunks(header.kid, len(stored), stored if isinstance(stored, bytes) else None)
            self.loaded.large_strings.append(LargeString(db.number, waiting.key, tracker))

    def _check_sums(self, db: int) -> None:
        wanted = self._sums.counts[db]
        if self._counts[db] != wanted:
            raise CheckpointDamaged(f"database {DB_NAMES[db]}", f"it has {self._counts[db]} rows instead of {wanted}")
        if self._crcs[db] != self._sums.crcs[db]:
            raise CheckpointDamaged(
                f"database {DB_NAMES[db]}", "its rows are not those of the last commit, though each is sound"
            )

    def _finish(self) -> None:
        self._txn.abort()
        ks = self._ks
        for db in ks.dbs:
            heapify(db.deadlines)
            heapify(db.fields.queue)
        if ks.ledger is not None:
            for db in ks.dbs:
                ks.ledger.emptied(db)
        for name, blob in self._aux:
            self._on_aux(name, blob)
        self._aux = []


def _databases(meta: Meta, ks: Keyspace) -> dict[int, Db]:
    """By physical number. Those the configuration has and the checkpoint has not get numbers that were never used."""
    known = meta.db_map
    if not known:
        # Nobody has told of a map: each database is its own.
        known = list(range(len(ks.dbs)))
        meta.next_phys = max(meta.next_phys, len(known))
    if len(known) > len(ks.dbs):
        raise CheckpointUnfit(
            f"the checkpoint has {len(known)} databases, the configuration {len(ks.dbs)}: set 'databases' to "
            f"{len(known)}"
        )
    while len(known) < len(ks.dbs):
        known.append(meta.next_phys)
        meta.next_phys += 1
    meta.db_map = known
    found: dict[int, Db] = {}
    for n in range(len(known)):
        found[known[n]] = ks.dbs[n]
    return found


def _store(db: Db, slot: int, key: bytes, stored: object) -> None:
    mapping = db.slots[slot]
    if mapping is None:
        mapping = {}
        db.slots[slot] = mapping
    mapping[key] = stored
    if isinstance(stored, Hash):
        deadlines = stored.deadlines
        if deadlines is not None:
            db.fields.count += 1
            db.nexp += 1
            db.fields.queue.append((deadlines.next_ms(), key))


def _wrong_crc(db: int, row_key: bytes) -> CheckpointDamaged:
    return _damaged(db, row_key, "the checksum is wrong")


def _damaged(db: int, row_key: bytes, detail: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"database {DB_NAMES[db]}, row {row_key.hex()}", detail)
