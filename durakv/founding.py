"""A node's data directory: opened as it is, founded as a group of one, or founded together with its group.

Rule: the only place that writes a first log entry. A directory whose group already counts this node as a member is
never created anew: a voter that forgot its vote could elect a stale leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import raft
from durakv.config.settings import Settings
from durakv.engine.entry import stamp
from durakv.replication import addresses
from durakv.storage.errors import DirectoryUnusable, StorageError
from durakv.storage.options import LogOptions
from durakv.storage.store import FindCovered, Store, StoreOptions, open_store
from durakv.world.ports import Buggify, Clock, Disk, Rng
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_rng import RealRng
from raft.types import Entry, Membership

# A group that is the only one of its cluster.
GROUP_ID: Final = 1
# For runs in which segments shall change often.
_SMALL_SEGMENT_BYTES: Final = 8 << 10


def first_address(settings: Settings) -> str:
    """The address peers are listened for on: the first of ``bind``."""
    first = settings.bind[0].removeprefix("-") if settings.bind else "0.0.0.0"  # noqa: S104 - bind "" means all
    return "0.0.0.0" if first == "*" else first  # noqa: S104 - only where the user asked for it


def open_directory(
    disk: Disk,
    clock: Clock,
    rng: Rng,
    settings: Settings,
    fatal: Callable[[OSError], None],
    on_level: Callable[[str], None],
    buggify: Buggify | None = None,
    find_covered: FindCovered | None = None,
) -> Store[Entry]:
    """The opened store of ``settings.dir``, created when that is allowed. Raises StorageError."""
    try:
        return _open_directory(disk, clock, rng, settings, fatal, on_level, buggify, find_covered)
    except OSError as error:
        raise DirectoryUnusable(str(settings.dir), error) from error


def _open_directory(
    disk: Disk,
    clock: Clock,
    rng: Rng,
    settings: Settings,
    fatal: Callable[[OSError], None],
    on_level: Callable[[str], None],
    buggify: Buggify | None,
    find_covered: FindCovered | None,
) -> Store[Entry]:
    directory = str(settings.dir)
    fresh = not disk.exists(f"{directory}/IDENTITY")
    cluster_id = bytes.fromhex(settings.cluster_id) if settings.cluster_id else None
    node_id = int(settings.node_id) or None
    if fresh and cluster_id is not None and node_id is None:
        raise StorageError(f"{directory}: is empty, and cluster-id is set without node-id; set both, or neither")
    alone = fresh and cluster_id is None
    if alone and settings.replication_mode != "raft":
        raise StorageError(
            f"{directory}: is empty, and a shard of lease mode is founded as a whole: use 'durakv cluster up --mode "
            "lease', or add the node to one and start it with --join yes"
        )
    if alone:
        cluster_id, node_id = rng.token(16), node_id or 1
    options = StoreOptions(
        cluster_id,
        node_id,
        known_member=fresh and not alone and not settings.join,
        log=_log_options(settings, buggify),
        segment_bytes=_segment_bytes(settings, buggify),
        min_free_bytes=int(settings.min_free),
        reserve_bytes=int(settings.reserve_size),
        covered=find_covered,
    )
    store: Store[Entry] = open_store(disk, clock, rng, directory, Entry, fatal, on_level, options)
    if alone:
        assert node_id is not None
        host = settings.cluster_announce_ip or first_address(settings)
        port = settings.cluster_announce_port or settings.port
        book = {node_id: addresses.Address(host, port, settings.effective_peer_port())}
        write_bootstrap(store, [node_id], book)
        store.log.set_sync(settings.appendfsync)
    elif store.log.last_index() == 0 and not settings.join:
        raise StorageError(
            f"{directory}: was never fully bootstrapped; remove it and run 'durakv cluster up' again, or add --join yes"
        )
    last_term, term = store.log.term(store.log.last_index()), store.hard.current.term
    if last_term > term:
        # A term is on disk before its entries are: what was read is an older state than what was once promised.
        raise StorageError(
            f"{store.hard.path}: says term {term}, but the log has entries of term {last_term}, so this node's newest "
            "vote is lost: remove the member and add it again under a new node id, or on a single node run 'durakv-cli "
            "restore DIR --out NEWDIR'"
        )
    return store


def _segment_bytes(settings: Settings, buggify: Buggify | None) -> int:
    return _SMALL_SEGMENT_BYTES if buggify is not None and buggify("small-segments") else int(settings.segment_size)


def _log_options(settings: Settings, buggify: Buggify | None) -> LogOptions:
    options = LogOptions(sync=str(settings.appendfsync), stamp=stamp)
    if buggify is not None:
        if buggify("one-entry-written-at-once"):
            options.batch_bytes_max = 1
        if buggify("entries-read-from-disk"):
            options.cache_bytes = 0
    return options


def write_bootstrap(
    store: Store[Entry],
    voters: list[int],
    book: dict[int, addresses.Address],
    witness: tuple[int, str] | None = None,
    founding: addresses.Founding | None = None,
    min_isr: int = 0,
) -> None:
    """Give a new directory its first entry and hard state, synced before this returns.

    ``witness``: id and address of a witness whose state exists by now. ``min_isr``: not 0 for one of lease mode, whose
    log begins with the same entry, for what is committed from the start is the same thing there.
    """
    witness_id = witness[0] if witness is not None else 0
    context = addresses.encode(book, witness, founding, min_isr)
    hard, entry = raft.bootstrap(Membership(voters=voters, witness=witness_id, context=context))
    store.log.set_sync("always")
    # As ever after: a term is durable before an entry of it is.
    error = store.hard.write_inline(store.hard.current.voted(hard.term, hard.vote, 0, 0))
    if error is None and not store.log.append_inline([entry]):
        raise OSError("the first log entry could not be written; check the disk")
    error = error or store.hard.write_inline(store.hard.current.voted(hard.term, hard.vote, 1, 1))
    if error is not None:
        raise error


def _ignore(level: str) -> None:
    """Disk space levels matter once a server runs."""


def bootstrap_cluster(
    dirs: list[str],
    members: list[tuple[int, str, int, int]],
    cluster_id: bytes | None = None,
    witness: tuple[int, str] | None = None,
    founding: addresses.Founding | None = None,
    min_isr: int = 0,
) -> str:
    """Create the data directories of a new group; returns its cluster id in hex.

    ``members``: (node_id, host, client_port, peer_port), one per directory. ``witness``: id and address of a witness
    whose state was created for this ``cluster_id`` and the group before. ``founding``: of a group of several.
    ``min_isr``: not 0 for a shard of lease mode. Raises StorageError, OSError.
    """
    loop = asyncio.new_event_loop()
    rng = RealRng()
    cluster_id = cluster_id or rng.token(16)
    book = {node_id: addresses.Address(host, port, peer) for node_id, host, port, peer in members}

    def fatal(error: OSError) -> None:
        raise error

    try:
        for directory, (node_id, _, _, _) in zip(dirs, members, strict=True):
            disk = RealDisk(loop.call_soon_threadsafe)
            clock = RealClock(loop)
            store: Store[Entry] = open_store(
                disk, clock, rng, directory, Entry, fatal, _ignore,
                StoreOptions(cluster_id, node_id, reserve_bytes=0),
            )  # fmt: skip
            write_bootstrap(store, [m[0] for m in members], book, witness, founding, min_isr)
            closed: asyncio.Future[OSError | None] = loop.create_future()
            store.close(closed.set_result)
            error = loop.run_until_complete(closed)
            disk.close()
            if error is not None:
                raise error
    finally:
        loop.close()
    return cluster_id.hex()
