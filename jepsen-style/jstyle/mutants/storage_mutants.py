"""Planted bugs of the storage: each breaks one step that a power cut, a failing disk or a full one will punish.

Rule: one function replaced per bug, by one that a tired programmer could have written. M numbers are the catalogue's;
S numbers are further bugs that keep the crash judge honest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from durakv.storage import hardstate, identity, lane, log, record, recovery, segment
from durakv.storage.batch import Batch
from durakv.storage.hardstate import HardState, HardStateFile
from durakv.storage.identity import Identity
from durakv.storage.lane import write_all
from durakv.storage.log import Log
from durakv.storage.record import FrameBuilder
from durakv.storage.recovery import Outcome, RecoveredLog, Verdict
from durakv.storage.scan import SegmentScan
from durakv.storage.segment import SPARE_NAME, Segment, SegmentWriter
from durakv.world.ports import Disk
from jstyle.mutants.patching import replaced

Patch = AbstractContextManager[None]


def ack_before_sync() -> Patch:
    """M1."""

    def make(build: Callable[[Log[Any]], Batch | None]) -> Callable[[Log[Any]], Batch | None]:
        def early(self: Log[Any]) -> Batch | None:
            made = build(self)
            if made is not None and made.waiters:
                self._ready += [done for _, done in made.waiters]
                made.waiters = []
                self.lane.clock.call_soon(self._drain)
            return made

        return early

    return replaced(log.Log, "_build", make)


def sync_retried() -> Patch:
    """M22."""

    def make(_: object) -> Callable[[Callable[[], None], str], None]:
        def again(sync: Callable[[], None], path: str) -> None:
            try:
                sync()
            except OSError:
                sync()

        return again

    return replaced(lane, "sync_or_die", make)


def cut_at_first_bad_frame() -> Patch:
    """M23."""

    def make(decide: Callable[..., Verdict]) -> Callable[..., Verdict]:
        def lenient(scans: list[SegmentScan], synced_hint: int) -> Verdict:
            verdict = decide(scans, synced_hint)
            if verdict.outcome is Outcome.CORRUPT and verdict.path == scans[-1].path and verdict.offset:
                return Verdict(Outcome.TORN_TAIL, verdict.path, verdict.offset, verdict.index, verdict.detail)
            return verdict

        return lenient

    return replaced(recovery, "decide", make)


def directory_not_synced() -> Patch:
    """M25."""

    def make(_: object) -> Callable[[SegmentWriter], None]:
        def skip(self: SegmentWriter) -> None:
            """Forgotten."""

        return skip

    return replaced(segment.SegmentWriter, "_sync_directory", make)


def one_slot() -> Patch:
    """S1."""

    def make(advance: Callable[..., Any]) -> Callable[..., Any]:
        def same_slot(self: HardStateFile, state: HardState) -> Any:
            self._slot = 1 - self._slot
            return advance(self, state)

        return same_slot

    return replaced(hardstate.HardStateFile, "_advance", make)


def identity_renamed_unsynced() -> Patch:
    """S2."""

    def make(_: object) -> Callable[[Disk, str, Identity], None]:
        def hasty(disk: Disk, directory: str, who: Identity) -> None:
            path = identity.identity_path(directory)
            file = disk.open(f"{path}.tmp", create=True)
            file.truncate(0)
            file.pwrite(who.encode(), 0)
            file.close()
            disk.rename(f"{path}.tmp", path)
            disk.fsync_dir(directory)

        return hasty

    return replaced(identity, "write_identity", make)


def segment_named_before_synced() -> Patch:
    """S3."""

    def make(_: object) -> Callable[[SegmentWriter, Segment, int], None]:
        def start(self: SegmentWriter, fresh: Segment, size: int) -> None:
            self.prepare_spare(size)
            spare = self._file_of(self._spare, fresh)
            write_all(self._lane, fresh.path, spare.pwrite, fresh.header.encode(), 0)
            self._disk.rename(f"{self.directory}/{SPARE_NAME}", fresh.path)
            self._spare = None
            fresh.file = spare
            fresh.allocated_bytes = self._spare_bytes
            self._sync_directory()

        return start

    return replaced(segment.SegmentWriter, "start", make)


def cut_oldest_first() -> Patch:
    """S4."""

    def make(cut: Callable[..., None]) -> Callable[..., None]:
        def wrong_way(self: SegmentWriter, kept: Segment, offset: int, doomed: list[Segment]) -> None:
            cut(self, kept, offset, doomed[::-1])

        return wrong_way

    return replaced(segment.SegmentWriter, "cut", make)


def tail_not_saved() -> Patch:
    """S5."""

    def make(_: object) -> Callable[[Disk, str, SegmentScan], str]:
        def skip(disk: Disk, directory: str, scan: SegmentScan) -> str:
            return ""

        return skip

    return replaced(recovery, "_quarantine", make)


def claims_synced_at_once() -> Patch:
    """S6."""

    def make(add: Callable[..., None]) -> Callable[..., None]:
        def boast(
            self: FrameBuilder, kind: int, index: int, term: int, subterm: int, body: bytes, durable: int,
            ts_ms: int = 0, ncmd: int = 0, flags: int = 0,
        ) -> None:  # fmt: skip
            add(self, kind, index, term, subterm, body, index, ts_ms, ncmd, flags)

        return boast

    return replaced(record.FrameBuilder, "add_entry", make)


def seal_not_synced() -> Patch:
    """S7."""

    def make(_: object) -> Callable[[SegmentWriter, Segment, int], None]:
        def seal(self: SegmentWriter, full: Segment, length: int) -> None:
            self._file_of(full.file, full).truncate(length)
            full.allocated_bytes = length

        return seal

    return replaced(segment.SegmentWriter, "seal", make)


def full_disk_ignored() -> Patch:
    """S8."""

    def make(write: Callable[..., None]) -> Callable[[SegmentWriter, Segment, bytes, int], None]:
        def careless(self: SegmentWriter, into: Segment, data: bytes, offset: int) -> None:
            try:
                write(self, into, data, offset)
            except OSError as error:
                if error.errno not in lane.FULL_ERRNOS:
                    raise

        return careless

    return replaced(segment.SegmentWriter, "write", make)


def tail_left_in_place() -> Patch:
    """S9."""

    def make(_: object) -> Callable[..., None]:
        def mend(disk: Disk, directory: str, scan: SegmentScan, recovered: RecoveredLog) -> None:
            active = recovered.segments[-1]
            active.file = disk.open(active.path)
            active.allocated_bytes = scan.file_bytes

        return mend

    return replaced(recovery, "_mend", make)
