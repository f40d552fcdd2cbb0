"""The lane: every write of the storage layer, one at a time, in the order it was asked for.

Rule: the only place that hands jobs to ``Disk.submit`` and the only place that judges an I/O error. After the first
error that is not a full disk no later job runs and no call is repeated: after a failed sync the kernel may have
marked the pages clean, so a second sync would report success for bytes that never reached the disk. The owner is told
once, by ``on_fatal``, and is expected to end the process with exit code 74.
It must not know what the jobs write.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable
from typing import Final

from durakv.world.ports import Clock, Disk

Done = Callable[[OSError | None], None]

FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
_RING: Final = 1024


class SyncStats:
    """Counters for INFO. Latencies are those of fdatasync alone, in microseconds, over the last 1024 syncs."""

    __slots__ = (
        "_ring_us", "bytes_written", "last_us", "max_us", "queued_bytes", "smooth_us", "syncs", "total_us", "writes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.syncs = 0
        self.writes = 0
        self.bytes_written = 0
        self.queued_bytes = 0
        self.max_us = 0
        self.last_us = 0
        # A moving average over about eight syncs: one slow sync is no slow disk.
        self.smooth_us = 0
        self.total_us = 0
        self._ring_us: array[int] = array("Q")

    def record_sync(self, latency_us: int) -> None:
        """Count one sync. Called from the log thread; every field has this one writer or the loop thread, never
        both.
        """
        if len(self._ring_us) < _RING:
            self._ring_us.append(latency_us)
        else:
            self._ring_us[self.syncs % _RING] = latency_us
        self.syncs += 1
        self.last_us = latency_us
        self.smooth_us += (latency_us - self.smooth_us) // 8
        self.total_us += latency_us
        self.max_us = max(self.max_us, latency_us)

    def percentile_us(self, percent: int) -> int:
        """Latency not exceeded by ``percent`` of the recent syncs; 0 before the first."""
        recent = sorted(self._ring_us.tolist())
        if not recent:
            return 0
        return int(recent[min(len(recent) - 1, len(recent) * percent // 100)])


class Lane:
    """Ordered disk jobs with a latch that closes at the first I/O error."""

    def __init__(self, disk: Disk, clock: Clock, on_fatal: Callable[[OSError], None]) -> None:
        self.disk = disk
        self.clock = clock
        self.stats = SyncStats()
        self.outstanding = 0
        self._on_fatal = on_fatal
        self._failure: OSError | None = None
        self._reported = False

    @property
    def failure(self) -> OSError | None:
        """The first I/O error; once there is one nothing is written any more."""
        return self._failure

    def submit(self, job: Callable[[], None], done: Done) -> None:
        """Run ``job`` after all earlier jobs, then ``done(error)`` on the loop thread."""
        self.outstanding += 1
        self.disk.submit(lambda: self._run(job), lambda error: self._finish(error, done))

    def run_inline(self, job: Callable[[], None]) -> OSError | None:
        """Run ``job`` now on the calling thread. The lane must be idle, or order would be lost."""
        assert self.outstanding == 0, "inline disk job while the lane is busy"
        try:
            self._run(job)
        except OSError as error:
            self._report(error)
            return error
        return None

    def _run(self, job: Callable[[], None]) -> None:
        if self._failure is not None:
            raise OSError(errno.EIO, f"not written: an earlier disk operation failed ({self._failure})")
        try:
            job()
        except OSError as error:
            self._failure = error
            raise

    def _finish(self, error: OSError | None, done: Done) -> None:
        self.outstanding -= 1
        if error is not None:
            self._report(error)
        done(error)

    def _report(self, error: OSError) -> None:
        if not self._reported:
            self._reported = True
            self._on_fatal(error)


def write_all(lane: Lane, path: str, write: Callable[[bytes, int], int], data: bytes, offset: int) -> None:
    """Write every byte; the rest of a short write is tried once, because a second short write means a sick device."""
    written = write(data, offset)
    if written < len(data):
        written += write(data[written:], offset + written)
    if written < len(data):
        raise OSError(errno.EIO, f"short write: {written} of {len(data)} bytes", path)
    lane.stats.writes += 1
    lane.stats.bytes_written += len(data)


def sync_or_die(sync: Callable[[], None], path: str) -> None:
    """Run a sync. Its failure is final even when it says "disk full": the kernel may have dropped any page of the file,
    also of earlier writes that no later write would repeat.
    """
    try:
        sync()
    except OSError as error:
        raise OSError(errno.EIO, f"sync failed: {error}", path) from error


def sync_timed(lane: Lane, sync: Callable[[], None], path: str) -> None:
    """Run one fdatasync as ``sync_or_die`` does and record how long it took."""
    begin_ns = lane.clock.monotonic_ns()
    sync_or_die(sync, path)
    lane.stats.record_sync((lane.clock.monotonic_ns() - begin_ns) // 1000)
