"""What is measured and how: requests a second, latency percentiles, the servers' CPU time, the disk's sync time.

Rule: pure arithmetic and reads of /proc; starts nothing.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What a load generator reports: completed requests, requests a second, latencies in microseconds."""

    requests: int
    per_s: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Sample:
    """One run of one row: the load, and the CPU time all server processes spent on each request."""

    load: Load
    cpu_us: float


@dataclass(frozen=True)
class Median:
    """The medians over the rounds of one row."""

    per_s: float
    p50_us: float
    p99_us: float
    cpu_us: float
    rounds: int


def median(samples: Sequence[Sample]) -> Median:
    """Column by column, so that one disturbed round moves none of them."""
    return Median(
        statistics.median(s.load.per_s for s in samples),
        statistics.median(s.load.p50_us for s in samples),
        statistics.median(s.load.p99_us for s in samples),
        statistics.median(s.cpu_us for s in samples),
        len(samples),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of values in ascending order. Raises ValueError for none."""
    if not ordered:
        raise ValueError("no values")
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def parse_benchmark_csv(text: str, requests: int) -> Load:
    """The one result line of ``redis-benchmark --csv`` (latencies there are milliseconds). Raises ValueError."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    if len(lines) < 2:
        raise ValueError(f"no result in the benchmark's output: {text[-300:]!r}")
    names = [word.strip('"') for word in lines[0].split(",")]
    values = [word.strip('"') for word in lines[-1].rsplit(",", len(names) - 1)]
    row = dict(zip(names, values, strict=True))
    return Load(
        requests,
        float(row["rps"]),
        float(row["p50_latency_ms"]) * 1000,
        float(row["p99_latency_ms"]) * 1000,
    )


def parse_stat_ticks(text: str) -> int:
    """User and system time, own and of reaped children, in clock ticks, from the text of /proc/<pid>/stat."""
    fields = text[text.rindex(")") + 2 :].split()
    return sum(int(field) for field in fields[11:15])


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds the processes have used so far; an ended one counts as zero."""
    total = 0
    for pid in pids:
        try:
            total += parse_stat_ticks(Path(f"/proc/{pid}/stat").read_text())
        except OSError:
            continue
    return total / TICKS_PER_S


def descendants(pids: Iterable[int]) -> list[int]:
    """The processes and all that they have started, directly or not."""
    found = list(pids)
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def sync_times_us(directory: Path, count: int = 200, size: int = 128) -> list[float]:
    """Microseconds of ``count`` appends with fdatasync to a preallocated file there, in ascending order."""
    path = directory / "sync-probe"
    times = []
    block = b"x" * size
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size * count)
        os.fsync(descriptor)
        for n in range(count):
            started = time.perf_counter()
            os.pwrite(descriptor, block, n * size)
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - started) * 1e6)
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(times)
