"""An RDB file into a keyspace.

Rule: the databases must be empty, and the keyspace is not shared yet: nothing is journalled for undo, nobody listens.
A key whose deadline has passed by ``now_ms`` is left out, as Redis and Valkey do. It must not know where the file came
from.
"""

from __future__ import annotations

from durakv.keyspace.journal import steps
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.rdb_packed import RdbError
from durakv.rdb import kinds
from durakv.rdb.errors import DamagedRdb, UnsupportedRdb
from durakv.rdb.reader import Entry, Function, ModuleAux, RdbFile
from durakv.rdb.values import value_of


class Loaded:
    """What came out of a file. ``left_out``: reason -> how many keys."""

    def __init__(self) -> None:
        self.keys = 0
        self.functions: list[bytes] = []
        self.left_out: dict[str, int] = {}

    def leave_out(self, reason: str) -> None:
        """Count one key that was not loaded."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def load_file(file: RdbFile, ks: Keyspace, now_ms: int) -> Loaded:
    """Put every key of ``file`` into ``ks``. Raises DamagedRdb, UnsupportedRdb, OSError."""
    loaded = Loaded()
    while True:
        record = file.next()
        if record is None:
            return loaded
        if isinstance(record, Entry):
            _load_entry(file, record, ks, now_ms, loaded)
        elif isinstance(record, Function):
            loaded.functions.append(record.code)
        elif isinstance(record, ModuleAux):
            loaded.leave_out(f"data of module type {record.name}")


def _load_entry(file: RdbFile, entry: Entry, ks: Keyspace, now_ms: int, loaded: Loaded) -> None:
    if entry.db >= len(ks.dbs):
        raise UnsupportedRdb(
            file.path, entry.offset, f"key {entry.key!r} is in database {entry.db}, there are {len(ks.dbs)}",
            f"set 'databases' to more than {entry.db}",
        )  # fmt: skip
    if entry.empty:
        loaded.leave_out("empty collection")
        return
    if entry.kind in kinds.MODULES:
        loaded.leave_out("module value")
        return
    if 0 <= entry.expire_ms <= now_ms:
        loaded.leave_out("expired")
        return
    db = ks.dbs[entry.db]
    if db.peek(entry.key) is not None:
        raise DamagedRdb(file.path, entry.offset, f"key {entry.key!r} occurs twice in database {entry.db}")
    try:
        value = value_of(entry.kind, file.body(entry))
    except RdbError:
        what = kinds.describe(entry.kind, valkey=file.valkey)
        raise DamagedRdb(file.path, entry.begin, f"key {entry.key!r}: bytes that are no {what}") from None
    db.put(entry.key, value)
    if entry.expire_ms >= 0:
        db.set_expiry(entry.key, entry.expire_ms)
    steps.clear()
    loaded.keys += 1
