"""A clock, dice and entries for storage tests, and a store on a SimDisk driven step by step."""

from __future__ import annotations

from collections.abc import Callable

from durakv.storage.log import Log
from durakv.storage.options import LogOptions
from durakv.storage.segment import Covered
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.ports import Timer

from .sim_disk import SimDisk

CLUSTER = bytes(range(16))
NODE = 7


class Entry:
    """As raft's entry: plain slots."""

    __slots__ = ("data", "index", "kind", "subterm", "term")

    def __init__(self, index: int, term: int, subterm: int, kind: int, data: bytes) -> None:
        self.index = index
        self.term = term
        self.subterm = subterm
        self.kind = kind
        self.data = data

    def key(self) -> tuple[int, int, int, int, bytes]:
        return (self.index, self.term, self.subterm, self.kind, self.data)

    def __repr__(self) -> str:
        return f"Entry{self.key()!r}"


class SimTimer:
    """A timer that can be cancelled."""

    def __init__(self, fn: Callable[[], None]) -> None:
        self.fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        self.fn = None


class SimClock:
    """Time moves when told."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.timers: list[tuple[int, int, SimTimer]] = []
        self.soon: list[Callable[[], None]] = []
        self.count = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def raw_ns(self) -> int:
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ns // 1_000_000

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        timer = SimTimer(fn)
        self.count += 1
        self.timers.append((self.now_ns + int(delay_ms * 1e6), self.count, timer))
        return timer

    def call_soon(self, fn: Callable[[], None]) -> None:
        self.soon.append(fn)

    def run_soon(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def advance(self, ms: int) -> None:
        """Let time pass, running what falls due."""
        end = self.now_ns + ms * 1_000_000
        while True:
            due = sorted(item for item in self.timers if item[0] <= end)
            if not due:
                break
            self.timers.remove(due[0])
            self.now_ns = max(self.now_ns, due[0][0])
            if due[0][2].fn is not None:
                due[0][2].fn()
        self.now_ns = end


class SimRng:
    """Counts instead of rolling."""

    def __init__(self, seed: int = 1) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        return self.bits64() % n

    def bits64(self) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        return self.state >> 7

    def token(self, nbytes: int) -> bytes:
        return bytes(nbytes)


class Node:
    """A store on a SimDisk and all it reported."""

    def __init__(
        self,
        disk: SimDisk,
        *,
        options: LogOptions | None = None,
        segment_bytes: int = 4096,
        reserve_bytes: int = 1 << 20,
        covered: Covered | None = None,
    ) -> None:
        self.disk = disk
        self.clock = SimClock()
        self.fatal: list[OSError] = []
        self.levels: list[str] = []
        self.store: Store[Entry] = open_store(
            disk,
            self.clock,
            SimRng(disk.calls + len(disk.names) + 1),
            "/d",
            Entry,
            self.fatal.append,
            self.levels.append,
            StoreOptions(
                CLUSTER,
                NODE,
                log=options if options is not None else LogOptions(),
                segment_bytes=segment_bytes,
                reserve_bytes=reserve_bytes,
                covered=lambda _: covered,
            ),
        )
        self.log: Log[Entry] = self.store.log

    def settle(self) -> None:
        """Run lane jobs and deferred callbacks until nothing moves."""
        while self.disk.jobs or self.clock.soon:
            self.disk.run_all()
            self.clock.run_soon()

    def close(self) -> list[OSError | None]:
        """Close and run to the end; returns what ``done`` heard."""
        heard: list[OSError | None] = []
        self.store.close(heard.append)
        self.settle()
        return heard

    def append(self, *entries: Entry) -> list[OSError | None]:
        """Append one batch; the list fills when it is done."""
        heard: list[OSError | None] = []
        self.log.append(list(entries), heard.append)
        return heard

    def held(self) -> list[tuple[int, int, int, int, bytes]]:
        """All entries, as tuples."""
        lo, out = self.log.first_index(), []
        while lo <= self.log.last_index():
            piece = self.log.entries(lo, self.log.last_index() + 1, 1 << 20)
            out += [entry.key() for entry in piece]
            lo += len(piece)
        return out


def normal(index: int, term: int = 1, size: int = 20, subterm: int = 0) -> Entry:
    """A normal entry with recognisable data that differs by term."""
    return Entry(index, term, subterm, 0, (b"%d.%d|" % (term, index) + b"x" * size)[: max(size, 8)])


def segment_paths(disk: SimDisk) -> list[str]:
    """Paths of the log segments, oldest first."""
    return sorted(path for path in disk.names if "/log/dk." in path and path.endswith(".log"))
