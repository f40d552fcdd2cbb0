"""Counters of this node since it started: plain ints that the hot paths add to and INFO reads. [compiled]

Rule: nothing here decides anything; CONFIG RESETSTAT sets all of it to zero except what describes the present.
"""

from __future__ import annotations

from typing import Final

_RATE_SAMPLES: Final = 16
_ERRORS_MAX: Final = 128
_FSYNC_BUCKETS: Final = 40
_FINEST_NS: Final = 1032
# The last holds all above one second.
_TIME_BUCKETS: Final = 21


class Timed:
    """Calls of one command that were timed; ``counts[k]`` of them took up to ``bucket_ns(k)``, more than before."""

    __slots__ = ("calls", "counts", "total_ns")

    def __init__(self) -> None:
        self.calls = 0
        self.total_ns = 0
        self.counts = [0] * _TIME_BUCKETS

    def add(self, took_ns: int) -> None:
        """One call more."""
        self.calls += 1
        self.total_ns += took_ns
        self.counts[min((took_ns // _FINEST_NS).bit_length(), _TIME_BUCKETS - 1)] += 1


def bucket_ns(k: int) -> int:
    """Upper bound of a bucket: Valkey's histogram at two digits (latency.c) ends them at 1.031, 2.063, ... us."""
    return (_FINEST_NS << k) - 1


class Stats:
    """Bytes and counts. ``sample()`` keeps the windows behind the ``instantaneous_*`` lines of INFO."""

    def __init__(self) -> None:
        # Times of the start; kept by reset().
        self.started_ms = 0
        self.run_id = ""
        self.memory_startup_bytes = 0
        self._clear()

    def _clear(self) -> None:
        self.connections = 0
        self.rejected_connections = 0
        self.commands = 0
        self.errors = 0
        self.internal_errors = 0
        self.rejected_calls = 0
        # Pieces of input taken and of output given, of clients.
        self.reads = 0
        self.writes = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.peer_bytes_in = 0
        self.peer_bytes_out = 0
        self.keyspace_hits = 0
        self.keyspace_misses = 0
        self.expired_keys = 0
        self.evicted_keys = 0
        # Large values that were deleted: still being taken apart, and gone.
        self.lazyfree_pending = 0
        self.lazyfreed = 0
        self.pubsub_messages = 0
        self.forwarded = 0
        self.throttled = 0
        self.unknown_outcomes = 0
        self.elections = 0
        self.leader_changes = 0
        self.query_buffer_closes = 0
        self.output_buffer_closes = 0
        self.acl_denied_auth = 0
        self.acl_denied_command = 0
        self.acl_denied_key = 0
        self.acl_denied_channel = 0
        self.slow_commands = 0
        self.memory_peak_bytes = 0
        self.fsyncs = 0
        self.fsync_us = 0
        self.fsync_max_us = 0
        self.fsync_buckets = [0] * _FSYNC_BUCKETS
        # Commands that were not timed one by one: how many, and how long together.
        self.plain_calls = 0
        self.plain_ns = 0
        # Error prefix -> count; per command (full lower-case name) what was timed as (calls, ns), and rejections.
        self.error_counts: dict[str, int] = {}
        self.timed: dict[str, Timed] = {}
        self.rejected: dict[str, int] = {}
        self._at = 0
        self._last_ms = 0
        self._last: list[int] = [0, 0, 0]
        self._rates: list[list[int]] = [[0] * _RATE_SAMPLES for _ in range(3)]

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        self._clear()

    def error(self, text: str) -> None:
        """Count an error reply by its prefix; after 128 different ones only a total is kept."""
        self.errors += 1
        prefix = text.partition(" ")[0]
        counts = self.error_counts
        if prefix in counts:
            counts[prefix] += 1
        elif len(counts) < _ERRORS_MAX:
            counts[prefix] = 1

    def took(self, name: str, took_ns: int) -> None:
        """Add the time of one call of command ``name``."""
        timed = self.timed.get(name)
        if timed is None:
            timed = Timed()
            self.timed[name] = timed
        timed.add(took_ns)

    def mean_us(self, name: str) -> float:
        """Mean microseconds of a call: of the calls timed, else of all commands that are not timed one by one."""
        timed = self.timed.get(name)
        if timed is not None:
            return timed.total_ns / timed.calls / 1000
        return self.plain_ns / self.plain_calls / 1000 if self.plain_calls else 0.0

    def buckets(self, name: str, calls: int) -> list[tuple[int, int]]:
        """(upper bound in ns, calls up to it) from the first bucket that holds any to the last.

        Of ``calls`` that were not timed one by one, all are in the bucket of their mean.
        """
        timed = self.timed.get(name)
        if timed is None:
            timed = Timed()
            timed.counts[min((int(self.mean_us(name) * 1000) // _FINEST_NS).bit_length(), _TIME_BUCKETS - 1)] = calls
        out: list[tuple[int, int]] = []
        seen = 0
        for k in range(_TIME_BUCKETS):
            if timed.counts[k]:
                seen += timed.counts[k]
                out.append((bucket_ns(k), seen))
        return out

    def percentiles_us(self, name: str, calls: int, wanted: list[float]) -> list[float]:
        """Upper bounds of the buckets that hold the percentiles, in microseconds; zeros without calls."""
        found = self.buckets(name, calls)
        total = found[-1][1] if found else 0
        out: list[float] = []
        for percent in wanted:
            at_ns = 0
            for bound_ns, seen in found:
                at_ns = bound_ns
                if seen >= total * percent / 100.0:
                    break
            out.append(at_ns / 1000)
        return out

    def reject(self, name: str) -> None:
        """Count a call refused before it ran."""
        self.rejected_calls += 1
        self.rejected[name] = self.rejected.get(name, 0) + 1

    def fsync(self, usec: int) -> None:
        """Record the duration of one log sync."""
        self.fsyncs += 1
        self.fsync_us += usec
        if usec > self.fsync_max_us:
            self.fsync_max_us = usec
        bucket = min(usec.bit_length() * 2 - (1 if _below_half(usec) else 0), _FSYNC_BUCKETS - 1)
        self.fsync_buckets[max(bucket, 0)] += 1

    def fsync_percentile_us(self, percent: float) -> int:
        """Upper bound of the bucket (factor about 1.5 wide) that holds the percentile; 0 without syncs."""
        if not self.fsyncs:
            return 0
        want = self.fsyncs * percent / 100.0
        seen = 0
        for i in range(_FSYNC_BUCKETS):
            seen += self.fsync_buckets[i]
            if seen >= want and seen:
                power = (i + 1) // 2
                top = (1 << power) if i % 2 == 0 else (3 << power) >> 2
                return min(top, self.fsync_max_us)
        return self.fsync_max_us

    def sample(self, now_ms: int) -> None:
        """Call about ten times a second: remembers the rates since the last call."""
        totals = [self.commands, self.bytes_in, self.bytes_out]
        passed_ms = now_ms - self._last_ms
        if self._last_ms and passed_ms > 0:
            for i in range(3):
                self._rates[i][self._at] = (totals[i] - self._last[i]) * 1000 // passed_ms
            self._at = (self._at + 1) % _RATE_SAMPLES
        self._last = totals
        self._last_ms = now_ms

    def rates(self) -> tuple[int, int, int]:
        """(commands, bytes in, bytes out) per second, averaged over the last samples."""
        out = [sum(samples) // _RATE_SAMPLES for samples in self._rates]
        return out[0], out[1], out[2]


def _below_half(usec: int) -> bool:
    """Whether ``usec`` is in the lower half of its power of two."""
    bits = usec.bit_length()
    return bits > 1 and not usec >> (bits - 2) & 1
