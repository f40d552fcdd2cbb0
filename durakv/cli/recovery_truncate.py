"""``durakv-cli truncate``: give up the end of a log, knowingly.

Rule: the only command that can lose acknowledged writes, so it says exactly what goes before it does anything, keeps
every byte it takes away, and does nothing without ``--yes-lose-data``. Interrupted at any point, it can be run again.

Order: the hard state's hints come down first, for a log that ends before them is refused; then later segments go,
newest first; then the last one is cut.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from durakv.cli.admin_files import locked, sync_directory
from durakv.cli.admin_progress import bar
from durakv.cli.recovery_dump import keys_of
from durakv.cli.recovery_entries import last_configuration, stored_entries
from durakv.cli.recovery_newdir import refuse_lease
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_NEEDS_DECISION,
    EXIT_REPAIRED,
    NeedsDecision,
    RecoveryCommand,
    json_option,
    show_json,
    when,
)
from durakv.cli.recovery_payload import COMMAND, TRANSACTION, PayloadError, decode_payload
from durakv.cli.recovery_quarantine import audit, keep, used_length
from durakv.cli.recovery_survey import Progress, Survey, survey
from durakv.commands.table import build_table
from durakv.storage.entries import KIND_NORMAL
from durakv.storage.hardstate import HardStateFile
from durakv.storage.identity import hardstate_path
from durakv.storage.lane import Lane
from durakv.storage.scan import SegmentScan
from durakv.world.ports import Timer
from durakv.world.real_disk import RealDisk


class Loss:
    """What goes. ``unreadable`` bytes hold an unknown number of entries."""

    def __init__(self) -> None:
        self.entries = 0
        self.writes = 0
        self.keys = 0
        self.committed_entries = 0
        self.committed_writes = 0
        self.first_ms = 0
        self.last_ms = 0
        self.unreadable: list[str] = []

    def document(self) -> dict[str, object]:
        return {
            "entries": self.entries, "writes": self.writes, "keys": self.keys,
            "committed_entries": self.committed_entries, "committed_writes": self.committed_writes,
            "first_time_ms": self.first_ms, "last_time_ms": self.last_ms, "unreadable": self.unreadable,
        }  # fmt: skip


@click.command("truncate", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--to-index", "--after", "last", type=click.IntRange(min=1), required=True, help="Keep up to this index.")
@click.option("--yes-lose-data", is_flag=True, help="Do it; without it only what would be lost is shown.")
@click.option("--others-are-gone", is_flag=True, help="No other member of this node's group will ever run again.")
@json_option
def truncate(data: Path, last: int, yes_lose_data: bool, others_are_gone: bool, as_json: bool) -> None:
    """Cut the log of DATA after an index. Prefer 'restore --to-index', which leaves DATA as it is."""
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False)
        _check(found, last)
        give_up(found, last, Decision("truncate", yes=yes_lose_data, others_are_gone=others_are_gone), as_json=as_json)


class Decision:
    """What a person said: ``yes`` to the loss, and that no other member will ever run again."""

    def __init__(self, verb: str, *, yes: bool, others_are_gone: bool) -> None:
        self.verb = verb
        self.yes = yes
        self.others_are_gone = others_are_gone


def give_up(found: Survey, last: int, decision: Decision, *, as_json: bool) -> NoReturn:
    """Say what goes, and when told so cut the log behind ``last``; ends the program. Raises StorageError, OSError."""
    data = Path(found.directory)
    with bar("Reading what goes", quiet=as_json) as progress:
        loss = _loss(found, last, progress)
    lines = _lines(found, last, loss)
    told: dict[str, object] = {"directory": str(data), "to_index": last, "lost": loss.document(), "done": False}
    if not loss.entries and not loss.unreadable:
        told["done"] = True
        _finish(told, [f"{data}: ends at index {found.last_good:,} already"], as_json=as_json, code=0)
    refuse_lease(found)
    alone = found.alone() and _alone_at(found, last)
    if not alone and not decision.others_are_gone:
        group = f"this node belongs to a group ({found.membership!r})"
        if not found.whole():
            group = "what lies behind the damage may make this node part of a group"
        raise NeedsDecision(
            f"{data}: {group}; with a shorter log it may help to elect a leader that lacks committed writes. "
            "Remove the member and add it again instead; if there are no other members, or all are gone for good, "
            "add --others-are-gone"
        )
    if not decision.yes:
        lines.append("Nothing was changed; to go on add --yes-lose-data")
        _finish(told, lines, as_json=as_json, code=EXIT_NEEDS_DECISION)
    kept = _carry_out(data, found, last)
    record = audit(data, decision.verb, {"to_index": last, "lost": loss.document(), "kept": kept})
    told |= {"done": True, "kept": kept, "audit": record}
    _finish(told, [*lines, *(f"Kept: {path}" for path in kept), f"Record: {record}"], as_json=as_json,
            code=EXIT_REPAIRED)  # fmt: skip


def _finish(told: dict[str, object], lines: list[str], *, as_json: bool, code: int) -> NoReturn:
    if as_json:
        show_json(told)
    else:
        for line in lines:
            click.echo(line)
    sys.exit(code)


def _check(found: Survey, last: int) -> None:
    if found.identity is None or found.hard is None or not found.scans:
        raise NeedsDecision(
            f"{found.directory}: its identity, hard state or log cannot be read, and cutting the log does not help; "
            f"'durakv-cli verify {found.directory}' says what does"
        )
    covered = found.covered()
    if covered is None and found.scans[0].header.base != 1:
        raise NeedsDecision(
            f"{found.directory}: its checkpoint cannot be used, and cutting the log does not help; 'durakv-cli verify "
            f"{found.directory}' says what does"
        )
    if last > found.last_good:
        raise NeedsDecision(f"{found.directory}: the readable log ends at index {found.last_good}; choose that or less")
    if covered is not None and last < covered.index:
        raise NeedsDecision(
            f"{found.directory}: the checkpoint holds everything up to index {covered.index}, and no cut of the log "
            f"takes that back; choose that or more, or go back with 'durakv-cli restore {found.directory} --to-index "
            f"{last} --archive DIR --out NEWDIR'"
        )


def _alone_at(found: Survey, last: int) -> bool:
    """Whether the membership that then counts names no other node than the one of now."""
    newest = last_configuration(found.disk, found.scans, last)
    covered = found.covered()
    if covered is not None and (newest is None or newest[0] < covered.index):
        return found.configuration_index == covered.index
    return newest is not None and newest[0] == found.configuration_index


def _loss(found: Survey, last: int, progress: Progress) -> Loss:
    loss = Loss()
    table = build_table()
    keys: set[tuple[int, bytes]] = set()
    committed = found.last_good if found.alone() else found.known_committed
    for entry in stored_entries(found.disk, found.scans, last + 1, found.last_good, progress):
        loss.entries += 1
        writes = 0
        if entry.kind == KIND_NORMAL:
            try:
                items = decode_payload(entry.data).items
            except PayloadError:
                loss.unreadable.append(f"content of index {entry.index}")
                items = []
            for item in items:
                if item.kind in (COMMAND, TRANSACTION):
                    writes += len(item.commands)
                    keys.update((c.db, key) for c in item.commands for key in keys_of(table, c.argv))
        loss.writes += writes
        loss.first_ms = loss.first_ms or entry.ts_ms
        loss.last_ms = max(loss.last_ms, entry.ts_ms)
        if entry.index <= committed:
            loss.committed_entries += 1
            loss.committed_writes += writes
    loss.keys = len(keys)
    for name, begin, end in _pieces(found, last):
        known = next((scan for scan in found.scans if scan.path.endswith(name)), None)
        readable_to = known.end if known is not None else 0
        if end > max(begin, readable_to):
            loss.unreadable.append(
                f"{end - max(begin, readable_to):,} bytes at offset {max(begin, readable_to):#x} of {name}"
            )
    return loss


def _lines(found: Survey, last: int, loss: Loss) -> list[str]:
    lines = []
    if loss.entries:
        lines.append(
            f"WILL DISCARD {last + 1:,}..{found.last_good:,}: {loss.entries:,} entries, {loss.writes:,} writes, "
            f"{loss.keys:,} keys, {when(loss.first_ms)} to {when(loss.last_ms)}"
        )
    lines += [f"WILL DISCARD {piece}, which holds an UNKNOWN number of writes" for piece in loss.unreadable]
    if loss.committed_entries:
        lines.append(
            f"{loss.committed_entries:,} COMMITTED entries ({loss.committed_writes:,} acknowledged writes) WOULD BE "
            f"LOST"
        )
    if loss.entries > loss.committed_entries:
        lines.append(
            f"{loss.entries - loss.committed_entries:,} entries were not known to be committed here; the group may "
            f"have "
            "acknowledged them: UNKNOWN"
        )
    lines.append("All of it is kept in quarantine/")
    return lines


def _cut_at(found: Survey, last: int) -> tuple[SegmentScan, int]:
    """The segment that becomes the last, and the offset where it is cut."""
    scan = next(scan for scan in reversed(found.scans) if scan.header.base <= last or scan is found.scans[0])
    place = last + 1 - scan.header.base
    if place < len(scan.offsets):
        return scan, scan.offsets[place]
    return scan, scan.end


def _pieces(found: Survey, last: int) -> list[tuple[str, int, int]]:
    """(segment file, begin, end) of all that goes, newest first; zeros at an end are nothing."""
    scan, offset = _cut_at(found, last)
    keep_name = scan.path.rpartition("/")[2]
    log = Path(found.directory) / "log"
    pieces = [(name, 0, used_length(log / name, 0)) for name in reversed(found.segment_files) if name > keep_name]
    end = used_length(log / keep_name, offset)
    return [*pieces, (keep_name, offset, end)] if end > offset else pieces


def _carry_out(data: Path, found: Survey, last: int) -> list[str]:
    scan, offset = _cut_at(found, last)
    log = data / "log"
    kept = []
    for name, begin, end in _pieces(found, last):
        number = name.removeprefix("dk.").removesuffix(".log")
        kept.append(keep(data, log / name, f"cut-{number}-{begin:012x}", begin, end))
    _lower_hints(found, last)
    keep_name = scan.path.rpartition("/")[2]
    for name in reversed(found.segment_files):
        if name > keep_name:
            (log / name).unlink()
            # Each before the next, so that no gap can appear in the middle.
            sync_directory(log)
    fd = os.open(log / keep_name, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, offset)
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_directory(log)
    return kept


def _lower_hints(found: Survey, last: int) -> None:
    """Both slots of the hard state stop claiming what is about to go; term and vote stay."""
    identity = found.identity
    assert identity is not None
    disk = RealDisk(_nothing_is_queued)
    try:
        path = hardstate_path(found.directory)
        file = HardStateFile.load(Lane(disk, _NoClock(), _raise), path, identity.cluster_id)
        now = file.current
        for _ in range(2):
            lowered = now.voted(now.term, now.voted_for, min(now.commit_hint, last), min(now.synced_hint, last))
            error = file.write_inline(lowered)
            if error is not None:
                raise error
        file.close()
    finally:
        disk.close()


class _NoClock:
    """For a lane that measures nothing and waits for nothing."""

    def monotonic_ns(self) -> int:
        return 0

    def raw_ns(self) -> int:
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        return 0

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        raise AssertionError("truncate waits for nothing")

    def call_soon(self, fn: Callable[[], None]) -> None:
        raise AssertionError("truncate waits for nothing")


def _raise(error: OSError) -> None:
    raise error


def _nothing_is_queued(call: object) -> None:
    raise AssertionError(f"truncate writes on its own thread; {call!r} came from elsewhere")
