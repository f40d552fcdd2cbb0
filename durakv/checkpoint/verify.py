"""Everything that can be known of a checkpoint without its log, looked at, and all that is wrong listed.

Pages come first (pages.py): a store that fails there is not opened. Then each row: its checksum, its place, that its
content makes a value, that it is where its key belongs; then all together: rows of each value as its header counts
them, no row without an owner outside of gc, no two owners, numbers below those that are free, and the sums.
Rule: changes nothing, and goes on after a finding where load.py stops at the first. It must not know the log.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Final

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit
from durakv.checkpoint.elements import Header, Row, assemble
from durakv.checkpoint.images import LARGE, from_small
from durakv.checkpoint.kv import AUX, DB_NAMES, ELEM, GC, KEYS, KvStore, KvTxn, OpenKv
from durakv.checkpoint.meta import Meta, read_meta
from durakv.checkpoint.pages import PageReport, check_pages
from durakv.checkpoint.place import DATA_NAME
from durakv.keyspace.slots import slot_of
from durakv.world.ports import Disk

FINDINGS_MAX: Final = 100


class Finding:
    """Something wrong: where, and what."""

    __slots__ = ("detail", "where")

    def __init__(self, where: str, detail: str) -> None:
        self.where = where
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


class Verified:
    """What a check saw. ``findings`` is empty for a sound checkpoint and ends after FINDINGS_MAX; ``more`` counts on.

    ``applied`` is None when not even that could be read, or the checkpoint is empty. Of ``elements``, ``garbage`` rows
    belong to nothing any more and wait to be removed.
    """

    __slots__ = ("applied", "aux", "elements", "findings", "garbage", "keys", "more", "pages")

    def __init__(self) -> None:
        self.applied: rows.Applied | None = None
        self.pages: PageReport | None = None
        self.findings: list[Finding] = []
        self.more = 0
        self.keys = 0
        self.elements = 0
        self.garbage = 0
        self.aux = 0

    def found(self, where: str, detail: str) -> None:
        """Note one more finding."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(where, detail))
        else:
            self.more += 1


def verify_environment(disk: Disk, open_kv: OpenKv, environment_directory: str) -> Verified:
    """Check the store in a directory, pages first. Raises OSError when it cannot be read."""
    result = Verified()
    path = f"{environment_directory}/{DATA_NAME}"
    file = disk.open(path)
    try:
        result.pages = check_pages(file, path)
    except (CheckpointDamaged, CheckpointUnfit) as error:
        result.found(error.where if isinstance(error, CheckpointDamaged) else path, _detail(error))
        return result
    finally:
        file.close()
    try:
        store = open_kv(environment_directory, write=False)
    except OSError as error:
        if error.errno != errno.EBADMSG:
            raise
        result.found(path, str(error))
        return result
    try:
        verify_store(store, result)
    finally:
        store.close()
    return result


def verify_store(store: KvStore, result: Verified) -> None:
    """Check all rows of an open store. Raises OSError."""
    txn = store.begin(write=False)
    try:
        meta: Meta | None = None
        try:
            meta = read_meta(txn)
        except (CheckpointDamaged, CheckpointUnfit) as error:
            result.found(error.where if isinstance(error, CheckpointDamaged) else "database meta", _detail(error))
        else:
            if meta is None:
                # A node that has just begun has no rows and no facts.
                return
            result.applied = meta.applied
        _Check(txn, meta, result).run()
    finally:
        txn.abort()


def _detail(error: CheckpointDamaged | CheckpointUnfit) -> str:
    return error.detail if isinstance(error, CheckpointDamaged) else str(error)


class _Check:
    """One walk over all rows; ``meta`` is None when it is damaged, which leaves less to compare with."""

    def __init__(self, txn: KvTxn, meta: Meta | None, result: Verified) -> None:
        self._txn = txn
        self._meta = meta
        self._result = result
        self._sums = rows.Sums()
        self._dead_kids: set[int] = set()
        self._dead_dbs: set[int] = set()
        # By kid: the header and whose it is; None when only a dead database has it.
        self._headers: dict[int, tuple[Header, str] | None] = {}

    def run(self) -> None:
        for row_key, _ in self._rows(GC):
            try:
                kid, phys = rows.dead_of(row_key)
            except ValueError as error:
                self._row(GC, row_key, str(error))
                continue
            if kid >= 0:
                self._dead_kids.add(kid)
            else:
                self._dead_dbs.add(phys)
        for row_key, value in self._rows(KEYS):
            try:
                self._key(row_key, rows.KeyRow(row_key, value))
            except (ValueError, struct.error) as error:
                self._row(KEYS, row_key, str(error))
        self._elements()
        for _ in self._rows(AUX):
            self._result.aux += 1
        if self._meta is not None:
            self._whole(self._meta)

    def _rows(self, db: int) -> Iterator[tuple[bytes, bytes]]:
        """The rows whose checksums are right; they enter the sums."""
        before = b""
        for row_key, value in self._txn.rows(db):
            if row_key <= before:
                self._row(db, row_key, "it is not after the row before it")
            before = row_key
            if rows.intact(row_key, value):
                self._sums.counts[db] += 1
                self._sums.crcs[db] ^= rows.crc_in(value)
                yield row_key, value
            else:
                self._row(db, row_key, "the checksum is wrong")

    def _key(self, row_key: bytes, row: rows.KeyRow) -> None:
        self._result.keys += 1
        meta = self._meta
        where = f"key {row.key!r} in database {row.phys}"
        if slot_of(row.key) != row.slot:
            self._result.found(where, f"it is in slot {row.slot} and belongs to slot {slot_of(row.key)}")
        dead = row.phys in self._dead_dbs
        if meta is not None and not dead and meta.db_map and row.phys not in meta.db_map:
            self._result.found(where, "no database has that number")
        if not row.image[0] & LARGE:
            from_small(row.image)
            return
        header = Header(row.image)
        if header.kid in self._headers and not dead:
            self._result.found(where, f"its elements are those of {header.kid}, which another key has too")
        elif header.kid in self._dead_kids and not dead:
            self._result.found(where, f"its elements are those of {header.kid}, which are to be removed")
        if meta is not None and header.kid >= meta.next_kid:
            self._result.found(where, f"its elements are those of {header.kid}, {meta.next_kid} was to be the next")
        self._headers[header.kid] = None if dead else (header, where)

    def _elements(self) -> None:
        kid = -1
        gathered: list[Row] = []
        for row_key, value in self._rows(ELEM):
            self._result.elements += 1
            row_kid = rows.kid_of(row_key)
            if row_kid != kid:
                self._value(kid, gathered)
                kid, gathered = row_kid, []
                if kid not in self._headers and kid not in self._dead_kids:
                    self._row(ELEM, row_key, f"no key has elements of {kid}")
            if self._headers.get(kid) is None:
                self._result.garbage += 1
                continue
            try:
                gathered.append(rows.element_of(row_key, value))
            except ValueError as error:
                self._row(ELEM, row_key, str(error))
        self._value(kid, gathered)
        for rest in sorted(self._headers):
            self._value(rest, [])

    def _value(self, kid: int, gathered: list[Row]) -> None:
        """All rows of ``kid`` have been seen."""
        owner = self._headers.pop(kid, None)
        if owner is None:
            return
        header, where = owner
        try:
            assemble(header, gathered)
        except ValueError as error:
            self._result.found(where, str(error))

    def _whole(self, meta: Meta) -> None:
        for db in (KEYS, ELEM, AUX, GC):
            count = self._sums.counts[db]
            if count != meta.sums.counts[db]:
                self._result.found(
                    f"database {DB_NAMES[db]}", f"it has {count} sound rows instead of {meta.sums.counts[db]}"
                )
            elif self._sums.crcs[db] != meta.sums.crcs[db]:
                self._result.found(
                    f"database {DB_NAMES[db]}", "its rows are not those of the last commit, though each is sound"
                )
        for phys in meta.db_map:
            if phys in self._dead_dbs:
                self._result.found("database gc", f"database {phys} is in use and to be removed")
            if phys >= meta.next_phys:
                self._result.found("database meta", f"database {phys} is in use, {meta.next_phys} was to be the next")

    def _row(self, db: int, row_key: bytes, detail: str) -> None:
        self._result.found(f"database {DB_NAMES[db]}, row {row_key.hex()}", detail)
