"""The production storage, opened on some disk and driven step by step.

Rule: the only place of this package that knows how a store is opened and asked; it adds nothing between the script and
``durakv.storage``. Clock and dice are deterministic, so the same script makes the same bytes on any disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from durakv.storage.options import LogOptions
from durakv.storage.segment import Covered
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.ports import Disk, Timer
from jstyle.crash import standin
from jstyle.crash.ledger import Ballot, History, Key
from raft.types import Entry

CLUSTER: Final = bytes(range(16))
NODE: Final = 7


class ManualTimer:
    """A timer of ``ManualClock``."""

    def __init__(self, fn: Callable[[], None]) -> None:
        self.fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        self.fn = None


class ManualClock:
    """Time moves only in ``advance``."""

    def __init__(self, now_ms: int = 1000) -> None:
        self._now_ns = now_ms * 1_000_000
        self._timers: list[tuple[int, int, ManualTimer]] = []
        self._count = 0
        self.soon: list[Callable[[], None]] = []

    def monotonic_ns(self) -> int:
        return self._now_ns

    def raw_ns(self) -> int:
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self._now_ns // 1_000_000

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        timer = ManualTimer(fn)
        self._count += 1
        self._timers.append((self._now_ns + int(delay_ms * 1e6), self._count, timer))
        return timer

    def call_soon(self, fn: Callable[[], None]) -> None:
        self.soon.append(fn)

    def advance(self, ms: int) -> None:
        """Let time pass and run what falls due."""
        end = self._now_ns + ms * 1_000_000
        while True:
            due = min((item for item in self._timers if item[0] <= end), default=None, key=lambda item: item[:2])
            if due is None:
                break
            self._timers.remove(due)
            self._now_ns = max(self._now_ns, due[0])
            if due[2].fn is not None:
                due[2].fn()
        self._now_ns = end


class CountingRng:
    """Dice that only count on from their seed."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, n: int) -> int:
        return self.bits64() % n

    def bits64(self) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        return self._state >> 7

    def token(self, nbytes: int) -> bytes:
        return bytes(nbytes)


class DrivenDisk(Disk, Protocol):
    """A disk whose lane the driver moves."""

    def run_one(self) -> None:
        """Finish the oldest lane job and run its completion."""


class Settings:
    """How a node is opened. Segments are tiny so that short scripts rotate; sizes are bytes. ``checkpoints``: it keeps
    them, and drops log behind them.
    """

    __slots__ = ("batch_bytes_max", "checkpoints", "reserve_bytes", "segment_bytes", "sync")

    def __init__(
        self,
        *,
        segment_bytes: int = 2048,
        sync: str = "always",
        batch_bytes_max: int = 16 << 20,
        reserve_bytes: int = 0,
        checkpoints: bool = False,
    ) -> None:
        self.checkpoints = checkpoints
        self.segment_bytes = segment_bytes
        self.sync = sync
        self.batch_bytes_max = batch_bytes_max
        self.reserve_bytes = reserve_bytes


class OpenNode:
    """A store and what it reported: ``fatal`` I/O errors, disk ``levels``."""

    def __init__(self, disk: DrivenDisk, directory: str, settings: Settings, *, boot: int = 1) -> None:
        """Opens, recovering or creating. ``boot`` differs between boots on one disk, so that salts do.

        Raises what ``open_store`` raises.
        """
        self.disk = disk
        self.clock = ManualClock(1000 * boot)
        self.fatal: list[OSError] = []
        self.levels: list[str] = []
        self.saved: standin.Saved | None = None
        options = LogOptions(sync=settings.sync, batch_bytes_max=settings.batch_bytes_max)
        self.store: Store[Entry] = open_store(
            disk,
            self.clock,
            CountingRng(boot),
            directory,
            Entry,
            self.fatal.append,
            self.levels.append,
            StoreOptions(
                CLUSTER,
                NODE,
                log=options,
                segment_bytes=settings.segment_bytes,
                min_free_bytes=1 << 20,
                reserve_bytes=settings.reserve_bytes,
                covered=self._covered if settings.checkpoints else None,
            ),
        )
        self.log = self.store.log

    def _covered(self, directory: str) -> Covered | None:
        self.saved = standin.read(self.disk, directory)
        return self.saved.covered if self.saved is not None and self.saved.covered.index else None

    def settle(self) -> None:
        """Run lane jobs and what they deferred until nothing moves."""
        while self.store.lane.outstanding or self.clock.soon:
            # What was deferred to this turn's end runs before the disk has had time to do anything.
            soon, self.clock.soon = self.clock.soon, []
            for fn in soon:
                fn()
            if self.store.lane.outstanding:
                self.disk.run_one()

    def held(self) -> History:
        """Every entry, read back through the production reader; what precedes them is in the checkpoint."""
        found: list[Key] = [] if self.saved is None else list(self.saved.held)
        at = max(self.log.first_index(), len(found) + 1)
        while at <= self.log.last_index():
            piece = self.log.entries(at, self.log.last_index() + 1, 1 << 20)
            found += [key_of(entry) for entry in piece]
            at += len(piece)
        return tuple(found)

    def ballot(self) -> Ballot:
        """Term and vote of the hard state."""
        current = self.store.hard.current
        return current.term, current.voted_for


def key_of(entry: Entry) -> Key:
    """An entry as comparable data."""
    return entry.index, entry.term, entry.subterm, entry.kind, entry.data


def entries_of(keys: Sequence[Key]) -> list[Entry]:
    """Entries to append."""
    return [Entry(*key) for key in keys]


def payload(index: int, term: int, size: int) -> Key:
    """A normal entry whose ``size`` bytes tell index and term."""
    return index, term, 0, 0, (b"%d.%d|" % (term, index) + b"x" * size)[: max(size, 8)]
