"""``durakv-cli bench-disk``: how long this disk takes to make a write safe.

Rule: measures what the log does, an append into allocated space and fdatasync, on a file of its own that is removed in
the end. Every write under ``appendfsync always`` waits for one of these.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_files import locked
from durakv.cli.admin_progress import bar
from durakv.cli.recovery_outcome import RecoveryCommand, json_option, show_json
from durakv.cli.recovery_survey import Progress

_SIZES_BYTES: Final = (200, 4 << 10, 64 << 10, 1 << 20)
_FILE_BYTES: Final = 64 << 20
_WRITES_MAX: Final = 20_000
# No disk that really writes is faster than this.
_CACHE_US: Final = 40
_SLOW_US: Final = 20_000


class Latencies:
    """Times of single syncs in microseconds, of writes of ``size`` bytes."""

    def __init__(self, size: int, times_us: list[float]) -> None:
        self.size = size
        self.times_us = sorted(times_us)

    def percentile_us(self, percent: float) -> float:
        """Nearest rank."""
        at = min(len(self.times_us) - 1, int(len(self.times_us) * percent / 100))
        return self.times_us[at]

    def document(self) -> dict[str, object]:
        return {
            "bytes": self.size, "writes": len(self.times_us), "p50_us": round(self.percentile_us(50), 1),
            "p90_us": round(self.percentile_us(90), 1), "p99_us": round(self.percentile_us(99), 1),
            "p999_us": round(self.percentile_us(99.9), 1), "max_us": round(self.times_us[-1], 1),
            "per_second": round(1e6 * len(self.times_us) / sum(self.times_us), 1),
        }  # fmt: skip


@click.command("bench-disk", cls=RecoveryCommand)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--seconds", type=click.FloatRange(0.05, 600), default=8.0, show_default=True, help="How long in all.")
@json_option
def bench_disk(directory: Path, seconds: float, as_json: bool) -> None:
    """Measure appends with fdatasync in DIRECTORY, which no server may be using."""
    if (directory / "LOCK").exists():
        with locked(directory):
            results = _measure_all(directory, seconds, quiet=as_json)
    else:
        results = _measure_all(directory, seconds, quiet=as_json)
    remarks = _remarks(results)
    if as_json:
        show_json({
            "directory": str(directory), "results": [result.document() for result in results], "remarks": remarks,
        })  # fmt: skip
        return
    click.echo(f"{'bytes':>9} {'writes':>7} {'p50':>9} {'p90':>9} {'p99':>9} {'p99.9':>9} {'max':>9}  us; per second")
    for result in results:
        times = [result.percentile_us(percent) for percent in (50, 90, 99, 99.9, 100)]
        shown = " ".join(f"{value:>9,.0f}" for value in times)
        click.echo(f"{result.size:>9,} {len(result.times_us):>7,} {shown}  {result.document()['per_second']:>12,}")
    for remark in remarks:
        click.echo(remark)


def _measure_all(directory: Path, seconds: float, *, quiet: bool) -> list[Latencies]:
    path = directory / f"bench-disk.{os.getpid()}.tmp"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _FILE_BYTES)
        os.fsync(fd)
        share_ns = int(seconds * 1e9 / len(_SIZES_BYTES))
        with bar("Writing", quiet=quiet) as progress:
            return [_measure(fd, size, share_ns, progress) for size in _SIZES_BYTES]
    finally:
        os.close(fd)
        path.unlink()


def _measure(fd: int, size: int, limit_ns: int, progress: Progress) -> Latencies:
    # Not zeros, which some devices do not store.
    data = (b"durakv-bench-disk" * (size // 17 + 1))[:size]
    times_us: list[float] = []
    offset, began_ns = 0, time.monotonic_ns()
    while len(times_us) < _WRITES_MAX:
        if offset + size > _FILE_BYTES:
            offset = 0
        start_ns = time.monotonic_ns()
        os.pwrite(fd, data, offset)
        os.fdatasync(fd)
        end_ns = time.monotonic_ns()
        times_us.append((end_ns - start_ns) / 1000)
        offset += size
        if end_ns - began_ns >= limit_ns:
            break
        if len(times_us) % 64 == 0:
            progress(end_ns - began_ns, limit_ns)
    return Latencies(size, times_us)


def _remarks(results: list[Latencies]) -> list[str]:
    small = results[0]
    remarks = []
    if small.percentile_us(50) < _CACHE_US:
        remarks.append(
            f"A sync in {small.percentile_us(50):.0f} us: a cache answers, not a disk. Unless it is protected against "
            "power loss, or this is a RAM disk on purpose, acknowledged writes can be lost: look at the device's "
            "write cache"
        )
    if small.percentile_us(99) > _SLOW_US:
        remarks.append(
            f"One sync in a hundred takes {small.percentile_us(99) / 1000:.0f} ms or more, and so will writes: use a "
            f"disk "
            "with a protected cache, or one that nothing else keeps busy"
        )
    return remarks
