"""One node's durable state, opened as a whole: lock, identity, hard state, log, health.

Rule: the only place that creates a data directory and the only one that knows in which order its parts are opened.
It must not know Raft or the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from durakv.storage.entries import E, EntryFactory
from durakv.storage.errors import IdentityError
from durakv.storage.hardstate import HARDSTATE_BYTES, HardState, HardStateFile, decode_slot
from durakv.storage.health import FULL, MIN_FREE_BYTES, RESERVE_BYTES, DiskHealth
from durakv.storage.identity import (
    Identity,
    hardstate_path,
    log_directory,
    read_identity,
    refuse_amnesiac,
    take_lock,
    write_identity,
)
from durakv.storage.lane import Lane
from durakv.storage.log import Log
from durakv.storage.options import LogOptions
from durakv.storage.recovery import RecoveredLog, recover_log
from durakv.storage.segment import (
    SEGMENT_BYTES,
    SEGMENT_HEADER_BYTES,
    Covered,
    SegmentHeader,
    SegmentWriter,
    segment_name,
    segment_number,
)
from durakv.world.ports import Clock, Disk, Rng

# Says where the checkpoint in a data directory ends; asked when the directory is locked.
FindCovered = Callable[[str], Covered | None]


class StoreOptions:
    """How to open a store. ``cluster_id``/``node_id`` are required to create a directory and checked otherwise.

    ``known_member``: the cluster already counts this node as a member, so an empty directory is amnesia.
    """

    def __init__(
        self,
        cluster_id: bytes | None = None,
        node_id: int | None = None,
        *,
        known_member: bool = False,
        log: LogOptions | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        covered: FindCovered | None = None,
    ) -> None:
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.known_member = known_member
        self.log = log if log is not None else LogOptions()
        self.segment_bytes = segment_bytes
        self.min_free_bytes = min_free_bytes
        self.reserve_bytes = reserve_bytes
        self.covered = covered


class Store(Generic[E]):
    """The opened parts. Close with ``close``."""

    def __init__(
        self,
        identity: Identity,
        lane: Lane,
        hard: HardStateFile,
        log: Log[E],
        health: DiskHealth,
        recovered: RecoveredLog,
    ) -> None:
        self.identity = identity
        self.lane = lane
        self.hard = hard
        self.log = log
        self.health = health
        self.recovered = recovered

    def close(self, done: Callable[[OSError | None], None]) -> None:
        """Write what waits, trim the log, then ``done(error)`` on the loop thread."""

        def finished(error: OSError | None) -> None:
            self.hard.close()
            done(error)

        self.log.close(finished)


def open_store(
    disk: Disk,
    clock: Clock,
    rng: Rng,
    directory: str,
    entry_factory: EntryFactory[E],
    on_fatal: Callable[[OSError], None],
    on_level: Callable[[str], None],
    options: StoreOptions,
) -> Store[E]:
    """Lock, identify (or create), recover and open. Blocks; call at boot.

    ``on_fatal(error)`` must end the process with exit code 74; ``on_level(level)`` hears disk space levels.
    Raises StorageError subclasses, whose ``exit_code`` says how to exit.
    """
    disk.mkdir(directory)
    take_lock(disk, directory)
    identity = read_identity(disk, directory, cluster_id=options.cluster_id, node_id=options.node_id)
    if identity is None:
        identity = _create(disk, clock, rng, directory, options)
    lane = Lane(disk, clock, on_fatal)
    hard = HardStateFile.load(lane, hardstate_path(directory), identity.cluster_id)
    covered = None if options.covered is None else options.covered(directory)

    def fresh(number: int, end: Covered) -> SegmentHeader:
        salt = rng.bits64() & 0xFFFFFFFF
        ids = (identity.cluster_id, identity.node_id)
        return SegmentHeader(*ids, number, end.index + 1, end.term, end.chain, clock.wall_ms(), salt)

    recovered = recover_log(
        disk, directory, identity.cluster_id, identity.node_id, hard.current.synced_hint, covered, fresh
    )
    writer = SegmentWriter(lane, log_directory(directory), options.segment_bytes)

    opened: list[Log[E]] = []

    def level_changed(level: str) -> None:
        on_level(level)
        # The first measurement, of a volume that is short of space at boot, comes before there is a log.
        if opened and level != FULL and opened[0].stalled:
            opened[0].retry()

    health = DiskHealth(
        lane, directory, level_changed, min_free_bytes=options.min_free_bytes, reserve_bytes=options.reserve_bytes
    )
    log = Log(
        lane,
        writer,
        rng,
        recovered.segments,
        recovered.runs,
        entry_factory,
        health.note_enospc,
        options.log,
        must_roll=recovered.must_roll,
        older=recovered.older,
        proven=recovered.proven,
    )
    opened.append(log)
    health.make_reserve()
    return Store(identity, lane, hard, log, health, recovered)


def _create(disk: Disk, clock: Clock, rng: Rng, directory: str, options: StoreOptions) -> Identity:
    """Make a directory's parts durable, IDENTITY last, so that a crash in between leaves one that is created again."""
    assert options.node_id is not None, "a node id is needed to create a data directory"
    assert options.node_id > 0, "node id 0 means nobody"
    assert options.cluster_id is not None, "a cluster id is needed to create a data directory"
    if options.known_member:
        refuse_amnesiac(directory, options.node_id)
    _refuse_orphans(disk, directory)
    now_ms = clock.wall_ms()
    log = log_directory(directory)
    disk.mkdir(log)
    disk.mkdir(f"{directory}/raft")
    HardStateFile.create(disk, hardstate_path(directory), HardState(options.cluster_id, incarnation=1))
    disk.fsync_dir(f"{directory}/raft")
    salt = rng.bits64() & 0xFFFFFFFF
    header = SegmentHeader(options.cluster_id, options.node_id, 1, 1, 0, 0, now_ms, salt)
    file = disk.open(f"{log}/{segment_name(1)}", create=True)
    try:
        file.truncate(0)
        assert file.pwrite(header.encode(), 0) == SEGMENT_HEADER_BYTES, "short write while creating the log"
        file.fsync()
    finally:
        file.close()
    disk.fsync_dir(log)
    disk.fsync_dir(directory)
    disk.fsync_dir(directory.rpartition("/")[0] or ("/" if directory.startswith("/") else "."))
    identity = Identity(options.cluster_id, options.node_id, now_ms)
    write_identity(disk, directory, identity)
    return identity


def _refuse_orphans(disk: Disk, directory: str) -> None:
    """A directory without IDENTITY may hold only what an interrupted creation leaves behind."""
    orphan = ""
    log = log_directory(directory)
    for name in disk.listdir(log) if disk.exists(log) else []:
        if segment_number(name) is None:
            continue
        file = disk.open(f"{log}/{name}")
        if segment_number(name) != 1 or file.size() > SEGMENT_HEADER_BYTES:
            orphan = f"log/{name}"
        file.close()
    if disk.exists(hardstate_path(directory)):
        file = disk.open(hardstate_path(directory))
        image = file.pread(HARDSTATE_BYTES, 0)
        file.close()
        if any((slot := decode_slot(image[at : at + 512])) is not None and slot[0] > 1 for at in (0, 4096)):
            orphan = "raft/hardstate"
    if orphan:
        raise IdentityError(
            f"{directory}: holds {orphan} but no IDENTITY; put IDENTITY back from a backup, or move the directory away "
            "and join under a new node id"
        )
