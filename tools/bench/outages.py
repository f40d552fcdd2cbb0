"""What clients see of a fault: how long no write and no read is served, and whether anything acknowledged is gone.

One writer and one reader per node, each with a connection of its own, so that a node that stands still holds up nobody
but them. Rule: it knows of a cluster only its ports; who is killed or stopped is decided elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import pairwise

from durakv.cli.client import Client, Refused, Unreachable
from tools.bench.targets import Unavailable

# Shorter than any time measured here that counts; whoever waits longer asks again.
PATIENCE_S = 0.5
_PAUSE_S = 0.002


class Served:
    """When requests of one kind were answered, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.lock = threading.Lock()

    def add(self, at: float) -> None:
        """One was answered."""
        with self.lock:
            self.times.append(at)

    def longest_gap(self, since: float, until: float) -> float:
        """Seconds: the longest stretch of that time in which none was answered."""
        with self.lock:
            inside = sorted(at for at in self.times if since <= at <= until)
        edges = [since, *inside, until]
        return max(b - a for a, b in pairwise(edges))


class Watch:
    """Writes through and reads from every node until ``end``. Use as a context manager."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = list(ports)
        self.writes = Served()
        self.reads = Served()
        self.acked: list[str] = []
        self.stale: list[str] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=work, args=(port,), daemon=True)
            for port in self.ports
            for work in (self._write, self._read)
        ]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop asking."""
        self._end.set()
        for thread in self._threads:
            thread.join(10 * PATIENCE_S)

    def wait_for_both(self, seconds: float) -> None:
        """Return once a write and a read that began now were served. Raises Unavailable."""
        since = time.monotonic()
        while time.monotonic() < since + seconds:
            if all(served.times and served.times[-1] > since + PATIENCE_S for served in (self.writes, self.reads)):
                return
            time.sleep(0.05)
        raise Unavailable(f"neither writes nor reads, or not both, were served for {seconds:.0f} s")

    def missing(self) -> int:
        """How many acknowledged writes are not there. Raises Unavailable when nobody says."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for port in self.ports:
                try:
                    with Client("127.0.0.1", port, timeout_s=5) as client:
                        return sum(self._absent(client, at) for at in range(0, len(self.acked), 500))
                except (Refused, Unreachable):
                    continue
            time.sleep(0.1)
        raise Unavailable("no node says which writes are there")

    def _absent(self, client: Client, at: int) -> int:
        found = client.call("MGET", *self.acked[at : at + 500])
        if not isinstance(found, list):
            raise Refused(f"MGET answered {found!r}")
        return sum(value is None for value in found)

    def _write(self, port: int) -> None:
        number = 0
        while not self._end.is_set():
            try:
                with Client("127.0.0.1", port, timeout_s=PATIENCE_S) as client:
                    while not self._end.is_set():
                        number += 1
                        key = f"outage:{port}:{number}"
                        if client.call("SET", key, "1") == b"OK":
                            self.writes.add(time.monotonic())
                            with self._lock:
                                self.acked.append(key)
                        time.sleep(_PAUSE_S)
            except (Refused, Unreachable):
                time.sleep(_PAUSE_S)

    def _read(self, port: int) -> None:
        while not self._end.is_set():
            try:
                with Client("127.0.0.1", port, timeout_s=PATIENCE_S) as client:
                    while not self._end.is_set():
                        with self._lock:
                            key = self.acked[-1] if self.acked else ""
                        if key:
                            if client.call("GET", key) is None:
                                self.stale.append(key)
                            else:
                                self.reads.add(time.monotonic())
                        time.sleep(_PAUSE_S)
            except (Refused, Unreachable):
                time.sleep(_PAUSE_S)
