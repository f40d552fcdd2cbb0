"""A new data directory out of what a survey found: the state at a point of the log, as a group of one of its own.

With a base that is a checkpoint the new directory gets a compact copy of it, made over to the new node, and a log that
begins behind it; else the log from its first entry.
Rule: writes only what did not exist before, under a name that says so until all of it is synced. The copy of a
checkpoint is looked at row by row before it counts.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged
from durakv.checkpoint.kv import AUX, META, KvStore
from durakv.checkpoint.meta import read_meta
from durakv.checkpoint.place import DATA_NAME, environment, write_current
from durakv.checkpoint.snapshot_file import MEMBERSHIP
from durakv.checkpoint.verify import verify_environment
from durakv.cli.admin_files import sync_directory
from durakv.cli.recovery_checkpoint import CheckpointLook, opened
from durakv.cli.recovery_entries import StoredEntry, stored_entries
from durakv.cli.recovery_found import Survey
from durakv.cli.recovery_outcome import NeedsDecision
from durakv.cli.recovery_payload import first_items
from durakv.cli.recovery_reach import Base, base_for
from durakv.cli.recovery_segments import Progress
from durakv.cli.recovery_target import Target
from durakv.engine.entry import stamp
from durakv.replication import addresses
from durakv.storage.entries import KIND_CONFIG, KIND_NORMAL
from durakv.storage.health import FULL
from durakv.storage.lane import Done
from durakv.storage.options import LogOptions
from durakv.storage.segment import Covered
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv
from durakv.world.real_rng import RealRng
from raft.types import Entry, Membership

_BATCH_BYTES: Final = 8 << 20
_BATCH_ENTRIES: Final = 20_000


class NewNode:
    """Who the new directory is for. ``term_min``: its hard state's term is at least this. ``founding``: of a group of
    several, which begins as it once did; what its log says of slots means nothing otherwise.
    """

    def __init__(
        self, cluster_id: bytes, node_id: int, address: addresses.Address, term_min: int = 0,
        founding: addresses.Founding | None = None,
    ) -> None:  # fmt: skip
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.term_min = term_min
        self.founding = founding
        context = addresses.encode({node_id: address}, None, founding)
        self.membership = Membership(voters=[node_id], context=context).encode()


def founding_of(found: Survey) -> addresses.Founding | None:
    """Which group of several the directory's newest membership says it is; None for the only one of its cluster."""
    return None if found.membership is None else addresses.decode_founding(found.membership.context)


def refuse_silent_mode(found: Survey, mode: str | None) -> None:
    """What is made out of a group of lease mode is of Raft mode, which has to be said. Raises NeedsDecision."""
    if found.is_lease() and mode != "raft":
        raise NeedsDecision(
            f"{found.directory}: belongs to a group of lease mode, and what is made of it is a group of one of Raft "
            "mode: one of lease mode is founded as a whole, with its config holder. Add --mode raft if that is wanted; "
            "to have the data in lease mode again, write it with 'durakv-cli restore ... --rdb FILE' and import that "
            "into a new cluster ('durakv cluster up --mode lease')"
        )


def refuse_lease(found: Survey) -> None:
    """A node of lease mode may not come back with less than it acknowledged, whoever else is gone: its config holder
    still counts on it. Raises NeedsDecision.
    """
    if found.is_lease():
        raise NeedsDecision(
            f"{found.directory}: belongs to a group of lease mode, whose config holder may count on all that this node "
            "acknowledged. Remove the member and add it again under a new node id; if no other member has the data, "
            f"'durakv-cli restore {found.directory} --mode raft --out NEWDIR' makes a group of one out of what can be "
            "read"
        )


def new_cluster_id() -> bytes:
    """Sixteen random bytes."""
    return RealRng().token(16)


def write_directory(found: Survey, target: Target, out: Path, node: NewNode, progress: Progress) -> None:
    """Make the directory ``out``. Raises StorageError, OSError; then nothing of it is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    base = base_for(found, target.index, target.last)
    unfinished = out.with_name(f".{out.name}.{node.cluster_id.hex()[:8]}.partial")
    try:
        unfinished.mkdir()
        if base.look is not None:
            _copy_checkpoint(base.look, unfinished, node)
        _write_log(unfinished, base, node, _rewritten(found, base, target, node.membership, progress))
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_directory(out.parent)


# -- the checkpoint ----------------------------------------------------------------------------------------------------


def copy_store(look: CheckpointLook, folder: Path) -> Path:
    """A compact copy of a checkpoint's store in a new directory, synced; the file. Raises OSError."""
    folder.mkdir(parents=True)
    path = folder / DATA_NAME
    path.touch(mode=0o640)
    with opened(look) as store:
        store.copy_compact(str(path), 0)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_directory(folder)
    return path


def write_name(out: Path, number: int) -> None:
    """Make environment ``number`` of ``out`` the one that counts. Raises OSError."""
    disk = RealDisk(_nothing_is_queued)
    try:
        write_current(disk, str(out), number)
    finally:
        disk.close()
    sync_directory(out)


def _copy_checkpoint(look: CheckpointLook, out: Path, node: NewNode) -> None:
    place = environment(str(out), 1)
    copy_store(look, Path(place))
    store = open_kv(place, write=True)
    try:
        _make_over(store, node)
    finally:
        store.close()
    disk = RealDisk(_nothing_is_queued)
    try:
        result = verify_environment(disk, open_kv, place)
    finally:
        disk.close()
    if result.findings:
        first = result.findings[0]
        raise CheckpointDamaged(f"{look.path}, {first.where}", first.detail)
    write_name(out, 1)


def _make_over(store: KvStore, node: NewNode) -> None:
    """Give a checkpoint another cluster, node and membership; the sums stay exact."""
    txn = store.begin(write=True)
    meta = read_meta(txn)
    if meta is None:
        txn.abort()
        raise CheckpointDamaged("database meta", "the store is empty")
    value = rows.sealed(MEMBERSHIP, node.membership)
    old = txn.replace(AUX, MEMBERSHIP, value)
    sums = meta.sums
    sums.crcs[AUX] ^= rows.crc_in(value)
    if old is None:
        sums.counts[AUX] += 1
    else:
        sums.crcs[AUX] ^= rows.crc_in(old)
    txn.replace(META, rows.SUMS, rows.sealed(rows.SUMS, sums.packed()))
    identity = rows.packed_identity(node.cluster_id, node.node_id)
    txn.replace(META, rows.IDENTITY, rows.sealed(rows.IDENTITY, identity))
    txn.commit()


# -- the log -----------------------------------------------------------------------------------------------------------


def _rewritten(
    found: Survey, base: Base, target: Target, membership: bytes, progress: Progress
) -> Iterator[Entry]:  # fmt: skip
    """The entries to keep. Memberships become that of the new group: a no-op in their place would forget who waits in
    BLPOP, and leaving them out would move every index.
    """
    for entry in stored_entries(found.disk, base.scans, base.index + 1, target.last, progress):
        yield Entry(entry.index, entry.term, entry.subterm, entry.kind, _content(entry, target, membership))


def _content(entry: StoredEntry, target: Target, membership: bytes) -> bytes:
    if entry.kind == KIND_CONFIG:
        return membership
    if entry.kind == KIND_NORMAL and entry.index > target.index:
        return first_items(entry.data, target.items)
    return entry.data


def _write_log(path: Path, base: Base, node: NewNode, entries: Iterator[Entry]) -> None:
    """Write identity, hard state and log through the storage layer itself. Raises StorageError, OSError."""
    loop = asyncio.new_event_loop()
    disk = RealDisk(loop.call_soon_threadsafe)
    waiting = _Waiting(loop)
    at = base.look.applied if base.look is not None else None
    covered = None if at is None else Covered(at.index, at.term, at.chain)
    try:
        # With a sync for each batch: a laxer log says "done" at once, and would take in everything before it wrote it.
        options = StoreOptions(
            node.cluster_id, node.node_id, reserve_bytes=0, min_free_bytes=0, log=LogOptions(stamp=stamp),
            covered=lambda _: covered,
        )  # fmt: skip
        store: Store[Entry] = open_store(
            disk, RealClock(loop), RealRng(), str(path), Entry, waiting.fatal, waiting.level, options
        )
        # The empty segment from index 1 that every directory begins with.
        store.log.drop_through(0, 0)
        _fill(waiting, store, entries, node.term_min)
        waiting.for_end_of(store.close)
    finally:
        disk.close()
        loop.close()


def _fill(waiting: _Waiting, store: Store[Entry], entries: Iterator[Entry], term_min: int) -> None:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.data)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_ENTRIES:
            waiting.for_end_of(partial(store.log.append, batch))
            batch, size = [], 0
    if batch:
        waiting.for_end_of(partial(store.log.append, batch))
    last = store.log.last_index()
    waiting.for_end_of(
        partial(store.hard.write, store.hard.current.voted(max(store.log.term(last), term_min), 0, last, last))
    )


class _Waiting:
    """Waits for what the storage layer does on its own thread; a full disk, on which a server would wait, is an
    error.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended: asyncio.Future[OSError | None] | None = None

    def for_end_of(self, start: Callable[[Done], None]) -> None:
        """Start something and wait for it. Raises OSError."""
        ended: asyncio.Future[OSError | None] = self._loop.create_future()
        self._ended = ended
        start(self._end)
        error = self._loop.run_until_complete(ended)
        if error is not None:
            raise error

    def fatal(self, error: OSError) -> None:
        """The disk failed."""
        self._end(error)

    def level(self, name: str) -> None:
        """The volume's free space reached another level."""
        if name == FULL:
            self._end(OSError(errno.ENOSPC, "the volume is full: free some space, or restore to another one"))

    def _end(self, error: OSError | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(error)


def _nothing_is_queued(call: object) -> None:
    raise AssertionError(f"files are written on this thread; {call!r} came from elsewhere")
