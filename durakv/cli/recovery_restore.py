"""``durakv-cli restore``: the data of a directory as it was at an earlier point, in a new directory or an RDB file.

Rule: the source is only read, and may be damaged behind the point asked for. The new directory is a group of one with a
cluster id of its own, so members of the old group can never join it or be joined; it appears under its name only when
it is whole and synced.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_export import write_rdb_file
from durakv.cli.admin_files import locked, sync_directory
from durakv.cli.admin_progress import bar
from durakv.cli.recovery_entries import StoredEntry, entry_at, stored_entries
from durakv.cli.recovery_outcome import (
    DATA,
    NeedsDecision,
    RecoveryCommand,
    databases_option,
    json_option,
    show_json,
    when,
)
from durakv.cli.recovery_payload import first_items
from durakv.cli.recovery_rebuild import Rebuilt
from durakv.cli.recovery_survey import Progress, Survey, survey
from durakv.cli.recovery_target import FIRST, LAST, Target, before_command, by_index, by_time, parse_time
from durakv.engine.entry import stamp
from durakv.replication import addresses
from durakv.resp.errors import CommandError
from durakv.storage.entries import KIND_CONFIG, KIND_NORMAL
from durakv.storage.health import FULL
from durakv.storage.lane import Done
from durakv.storage.log import LogOptions
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_rng import RealRng
from raft.types import Entry, Membership

_BATCH_BYTES: Final = 8 << 20
_BATCH_ENTRIES: Final = 20_000


@click.command("restore", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--to-index", type=click.IntRange(min=1), help="Keep the entries up to this one.")
@click.option("--to-time", help="Keep what was written up to this time: 2026-11-20T14:02:00Z, or unix seconds or ms.")
@click.option("--before-command", "command", help="Keep what precedes this command: FLUSHALL, or 'DEL user:*'.")
@click.option("--which", type=click.Choice([FIRST, LAST]), help="If several commands fit.")
@click.option("--out", type=click.Path(path_type=Path), help="Make this data directory.")
@click.option("--rdb", type=click.Path(path_type=Path, dir_okay=False), help="Write this RDB file instead.")
@click.option("--node-id", type=click.IntRange(min=1), default=1, show_default=True, help="Of the new directory.")
@click.option(
    "--address", default="127.0.0.1:6379", show_default=True, help="Where the new node listens: HOST:PORT[@PEER-PORT]."
)
@databases_option
@json_option
def restore(
    data: Path, to_index: int | None, to_time: str | None, command: str | None, which: str | None, out: Path | None,
    rdb: Path | None, node_id: int, address: str, databases: int, as_json: bool,
) -> None:  # fmt: skip
    """Restore the data in DATA as it was at a point in time. Without one: up to the last readable entry."""
    if (out is None) == (rdb is None):
        raise click.UsageError("give either --out NEWDIR or --rdb FILE")
    if sum(option is not None for option in (to_index, to_time, command)) > 1:
        raise click.UsageError("give only one of --to-index, --to-time and --before-command")
    if which and command is None:
        raise click.UsageError("--which goes with --before-command")
    book = _address(address)
    time_ms = None if to_time is None else _time(to_time)
    target_path = out if out is not None else rdb
    assert target_path is not None
    if target_path.exists():
        raise FileExistsError(f"{target_path}: exists; name another place")
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False)
        if not found.last_good:
            raise NeedsDecision(f"{data}: no readable entry; 'durakv-cli verify {data}' says why")
        with bar("Looking for the point in time", quiet=as_json) as progress:
            if to_index is not None:
                target = by_index(found, to_index)
            elif time_ms is not None:
                target = by_time(found, time_ms, progress)
            elif command is not None:
                target = before_command(found, command, which or "", progress)
            else:
                target = Target(found.last_good, 0, "the last readable entry")
        told = _told(found, target, str(target_path))
        with bar("Restoring", quiet=as_json) as progress:
            if out is not None:
                told["cluster"] = _write_directory(found, target, out, node_id, book, progress)
            else:
                told |= _write_rdb(found, target, target_path, databases, progress)
    if as_json:
        show_json(told)
    else:
        _show(told, found, target)


def _address(text: str) -> addresses.Address:
    try:
        return addresses.parse(text)
    except CommandError as error:
        raise click.UsageError(f"--address: {error}") from None


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        raise click.UsageError(f"--to-time: '{text}' is no time; write it as 2026-11-20T14:02:00Z") from None


def _told(found: Survey, target: Target, path: str) -> dict[str, object]:
    last = target.last
    entry = entry_at(found.disk, found.scans, last) if last else None
    return {
        "target": path, "source": found.directory, "point": target.why, "index": last,
        "items_of_last_entry": target.items or None, "time_ms": entry.ts_ms if entry is not None else 0,
        "left_out_entries": found.last_good - target.index, "last_in_log": found.last_good,
        "known_committed": found.last_good if found.alone() else found.known_committed,
        "findings": [finding.document() for finding in found.findings],
    }  # fmt: skip


def _show(told: dict[str, object], found: Survey, target: Target) -> None:
    part = f" (of it the first {target.items} items)" if target.items else ""
    click.echo(f"{told['target']}: the state {target.why}")
    ts_ms = told["time_ms"]
    assert isinstance(ts_ms, int)
    click.echo(f"reached index {target.last:,}{part}, written {when(ts_ms)}; source {found.directory} is unchanged")
    left = found.last_good - target.index
    if left:
        click.echo(f"Left out: {left:,} later entries{', the first one in part' if target.items else ''}")
    for finding in found.findings:
        if finding.path.startswith("log"):
            click.echo(f"Left out, unreadable: {finding.line()}")
    if "cluster" in told:
        click.echo(f"new cluster {told['cluster']}; start it: durakv server --dir {told['target']}")
    else:
        click.echo(f"{told['keys']:,} keys, {told['bytes']:,} bytes")
    unknown = target.last - found.known_committed
    if unknown > 0 and not found.alone():
        click.echo(
            f"Included: {unknown:,} entries this node did not know to be committed (from "
            f"{found.known_committed + 1:,}); "
            "other nodes may have replaced them"
        )


# -- an RDB file -------------------------------------------------------------------------------------------------------


def _write_rdb(found: Survey, target: Target, path: Path, databases: int, progress: Progress) -> dict[str, object]:
    state = Rebuilt(found, databases)
    state.advance(target.index, progress)
    if target.items:
        state.apply(entry_at(found.disk, found.scans, target.last), target.items)
    header = found.scans[0].header
    term = found.runs.term(target.last) if target.last else 0
    saved, size = write_rdb_file(path, state.keyspace, header.cluster_id, state.index, term)
    return {"keys": saved.keys, "bytes": size}


# -- a directory -------------------------------------------------------------------------------------------------------


def _write_directory(
    found: Survey, target: Target, out: Path, node_id: int, address: addresses.Address, progress: Progress
) -> str:
    """Returns the new cluster id in hex."""
    out.parent.mkdir(parents=True, exist_ok=True)
    cluster_id = RealRng().token(16)
    unfinished = out.with_name(f".{out.name}.{cluster_id.hex()[:8]}.partial")
    membership = Membership(voters=[node_id], context=addresses.encode({node_id: address})).encode()
    try:
        _found_directory(unfinished, cluster_id, node_id, _rewritten(found, target, membership, progress))
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_directory(out.parent)
    return cluster_id.hex()


def _rewritten(found: Survey, target: Target, membership: bytes, progress: Progress) -> Iterator[Entry]:
    """The entries to keep. Memberships become that of the new group: a no-op in their place would forget who waits in
    BLPOP, and leaving them out would move every index.
    """
    for entry in stored_entries(found.disk, found.scans, 1, target.last, progress):
        yield Entry(entry.index, entry.term, entry.subterm, entry.kind, _content(entry, target, membership))


def _content(entry: StoredEntry, target: Target, membership: bytes) -> bytes:
    if entry.kind == KIND_CONFIG:
        return membership
    if entry.kind == KIND_NORMAL and entry.index > target.index:
        return first_items(entry.data, target.items)
    return entry.data


def _found_directory(path: Path, cluster_id: bytes, node_id: int, entries: Iterator[Entry]) -> None:
    """Write a data directory through the storage layer itself. Raises StorageError, OSError."""
    loop = asyncio.new_event_loop()
    disk = RealDisk(loop.call_soon_threadsafe)
    waiting = _Waiting(loop)
    try:
        # With a sync for each batch: a laxer log says "done" at once, and would take in everything before it wrote it.
        options = StoreOptions(cluster_id, node_id, reserve_bytes=0, min_free_bytes=0, log=LogOptions(stamp=stamp))
        store: Store[Entry] = open_store(
            disk, RealClock(loop), RealRng(), str(path), Entry, waiting.fatal, waiting.level, options
        )
        _fill(waiting, store, entries)
        waiting.for_end_of(store.close)
    finally:
        disk.close()
        loop.close()


def _fill(waiting: _Waiting, store: Store[Entry], entries: Iterator[Entry]) -> None:
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
    waiting.for_end_of(partial(store.hard.write, store.hard.current.voted(store.log.term(last), 0, last, last)))


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
