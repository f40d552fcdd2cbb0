"""Starting from a checkpoint: where it ends, and what it holds brought into memory.

Rule: runs before there is a node, and blocks. A directory without a checkpoint, or with an empty one, starts from the
log alone; a damaged one is never passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit
from durakv.checkpoint.load import Loaded, load
from durakv.checkpoint.meta import Meta, read_meta
from durakv.checkpoint.place import LOCK_NAME, checkpoint_directory, environment, read_current
from durakv.checkpoint.resume import follow
from durakv.storage.segment import Covered
from raft.types import Membership, SnapshotMeta

if TYPE_CHECKING:
    from durakv.checkpoint.capture import Capture
    from durakv.checkpoint.kv import KvStore, OpenKv
    from durakv.engine.beside import Beside
    from durakv.engine.engine import Engine
    from durakv.storage.identity import Identity
    from durakv.world.ports import Disk


class Resuming:
    """A data directory's checkpoint, opened once: ``covered()`` first, then ``resume()``, then ``close()``."""

    def __init__(self, disk: Disk, open_kv: OpenKv) -> None:
        self.disk = disk
        self.open_kv = open_kv
        self.store: KvStore | None = None

    def covered(self, directory: str) -> Covered | None:
        """Where the checkpoint ends; None when it holds nothing. Raises StorageError, OSError."""
        lock = f"{checkpoint_directory(directory)}/{LOCK_NAME}"
        if not self.disk.wait_unlocked(lock, _LOCK_MS_MAX):
            raise CheckpointUnfit(
                f"{lock}: the materialiser of an earlier server still runs; wait for it to end, or end the process "
                "that holds the lock, and start again"
            )
        number = read_current(self.disk, directory)
        if number is None:
            return None
        place = environment(directory, number)
        try:
            self.store = self.open_kv(place, write=False)
        except FileNotFoundError:
            raise CheckpointDamaged(place, "the environment that CURRENT names is not there") from None
        meta = self._meta()
        if meta is None or meta.applied.index == 0:
            return None
        return Covered(meta.applied.index, meta.applied.term, meta.applied.chain)

    def _meta(self) -> Meta | None:
        assert self.store is not None
        txn = self.store.begin(write=False)
        try:
            return read_meta(txn)
        finally:
            txn.abort()

    def resume(self, engine: Engine, beside: Beside, identity: Identity) -> Resumed:
        """Fill the engine's keyspace and what is beside it. Raises StorageError, OSError."""
        loaded = self._load(engine, beside, identity)
        capture = follow(engine.applier.ks, beside, loaded)
        if loaded is None or loaded.applied.index == 0:
            return Resumed(capture, None)
        applied = loaded.applied
        engine.applier.resume(applied.index, applied.ts_ms)
        if not beside.membership:
            raise CheckpointDamaged("database aux, row cfg", "the group's membership is missing")
        membership = Membership.decode(beside.membership)
        return Resumed(capture, SnapshotMeta(applied.index, applied.term, applied.subterm, membership))

    def _load(self, engine: Engine, beside: Beside, identity: Identity) -> Loaded | None:
        if self.store is None or self._meta() is None:
            return None
        rows: list[tuple[bytes, bytes]] = []
        loaded = load(self.store, engine.applier.ks, lambda name, blob: rows.append((name, blob)))
        if loaded.cluster_id != identity.cluster_id or loaded.node_id != identity.node_id:
            raise CheckpointUnfit(
                f"the checkpoint is that of node {loaded.node_id} of cluster {loaded.cluster_id.hex()}, this is node "
                f"{identity.node_id} of {identity.cluster_id.hex()}: put this node's own ckpt/ back"
            )
        beside.take(rows)
        return loaded

    def close(self) -> None:
        """Nothing is read any more."""
        if self.store is not None:
            self.store.close()
            self.store = None


# One that lost its server ends as soon as what it was writing is written.
_LOCK_MS_MAX: Final = 30_000


class Resumed:
    """``capture`` is None where no checkpoints are kept; ``base``: what the node starts from, None without."""

    def __init__(self, capture: Capture | None, base: SnapshotMeta | None) -> None:
        self.capture = capture
        self.base = base
