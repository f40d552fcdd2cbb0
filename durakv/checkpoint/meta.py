"""Facts about a checkpoint as a whole, read in one go: where it stands, whose it is, what its rows add up to.

Rule: the only reader of the meta database. An empty store is told apart from one whose meta is damaged. It must not
know what other rows mean.
"""

from __future__ import annotations

import struct

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit
from durakv.checkpoint.kv import AUX, DB_NAMES, ELEM, GC, KEYS, META, KvTxn


class Meta:
    """What the meta database says. ``next_kid`` and ``next_phys`` were never used by any row."""

    __slots__ = ("applied", "cluster_id", "db_map", "next_kid", "next_phys", "node_id", "sums")

    def __init__(
        self, applied: rows.Applied, sums: rows.Sums, db_map: list[int], cluster_id: bytes, node_id: int
    ) -> None:
        self.applied = applied
        self.sums = sums
        self.db_map = db_map
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.next_kid = 1
        self.next_phys = 0


def read_meta(txn: KvTxn) -> Meta | None:
    """The facts; None when the store is empty. Raises CheckpointDamaged, CheckpointUnfit."""
    if all(is_empty(txn, db) for db in (META, KEYS, ELEM, AUX, GC)):
        return None
    identity = _fact(txn, rows.IDENTITY)
    try:
        version, cluster_id, node_id = rows.parsed_identity(identity)
        if version != rows.FORMAT:
            raise CheckpointUnfit(
                f"the checkpoint has format {version}, this program knows {rows.FORMAT}: run the version of "
                "durakv that wrote it, or move ckpt/ away and let this node fetch a snapshot from a member"
            )
        meta = Meta(
            rows.Applied.parsed(_fact(txn, rows.APPLIED)),
            rows.Sums.parsed(_fact(txn, rows.SUMS)),
            rows.parsed_map(_fact(txn, rows.DB_MAP)),
            cluster_id,
            node_id,
        )
        meta.next_kid, meta.next_phys = rows.parsed_next(_fact(txn, rows.NEXT))
    except struct.error as error:
        raise CheckpointDamaged("database meta", f"a row has the wrong size ({error})") from None
    if len(set(meta.db_map)) != len(meta.db_map):
        raise CheckpointDamaged("database meta", "two databases are mapped to the same rows")
    return meta


def is_empty(txn: KvTxn, db: int) -> bool:
    """Whether a database has no row."""
    return next(iter(txn.rows(db)), None) is None


def _fact(txn: KvTxn, name: bytes) -> bytes:
    """The payload of one row."""
    value = txn.get(META, name)
    where = f"database {DB_NAMES[META]}, row {name.decode()}"
    if value is None:
        raise CheckpointDamaged(where, "the row is missing")
    if not rows.intact(name, value):
        raise CheckpointDamaged(where, "the checksum is wrong")
    return value[: -rows.CRC_BYTES]
