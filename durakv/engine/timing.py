"""How long commands ran: the slow log, latency spikes, and the times of INFO commandstats. [compiled]

Rule: execution is timed, never the wait for commit. Only commands whose work grows with data or arguments are timed one
by one (Row.run); the rest cost about the same, so two looks at the clock an entry give their mean. With a slow-log
threshold below what any command could hide in, or when slots are charged for them, every command is timed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands.context import Stopwatch
from durakv.commands.spec import FLAGS

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.commands.table import Row, Table
    from durakv.config.settings import Settings
    from durakv.engine.batch import Batch, Item
    from durakv.engine.usage import Usage
    from durakv.observe.instruments import Instruments
    from durakv.observe.stats import Stats
    from durakv.world.ports import Clock

# No command that works on one small thing takes this long.
_HIDDEN_US_MAX: Final = 1000


class Timing(Stopwatch):
    """The stopwatch of one engine; see context.Stopwatch."""

    def __init__(self, clock: Clock, table: Table, settings: Settings, stats: Stats, instruments: Instruments) -> None:
        self.clock = clock
        self.table = table
        self.settings = settings
        self.stats = stats
        self.slowlog = instruments.slowlog
        self.latency = instruments.latency
        self.unlogged = FLAGS["skip_commandlog"]
        # Local commands that take next to no time, or whose time is others'.
        self.brief = FLAGS["fast"] | FLAGS["skip_commandlog"]
        self.every = False
        # Slow ones whose client is not known yet: (argv, microseconds).
        self.slow: list[tuple[list[bytes], int]] = []
        # Timed one by one since the entry began.
        self.calls = 0
        self.ns = 0
        # Set while commands are counted by slot, which takes the time of each.
        self.usage: Usage | None = None
        settings.watch("slowlog-log-slower-than", lambda _: self.follow())
        self.follow()

    def follow(self) -> None:
        """Take over slowlog-log-slower-than."""
        hidden = 0 <= self.settings.slowlog_log_slower_than < _HIDDEN_US_MAX
        self.every = hidden or self.usage is not None
        self.table.time_all(self.every)

    def now_ns(self) -> int:
        """See Stopwatch."""
        return self.clock.monotonic_ns()

    def ran(self, row: Row, argv: list[bytes], took_ns: int) -> None:
        """See Stopwatch."""
        self.calls += 1
        self.ns += took_ns
        self.stats.took(row.name, took_ns)
        if self.usage is not None:
            self.usage.ran(row, argv, took_ns)
        took_us = took_ns // 1000
        if 0 <= self.slowlog.threshold_us <= took_us and not row.flags & self.unlogged:
            self.slow.append((argv, took_us))
        if self.latency.threshold_ms:
            self.latency.note("command", took_us // 1000, self.clock.wall_ms())

    def local(self, session: Session, row: Row, argv: list[bytes], began_ns: int) -> None:
        """A local command of ``session`` has run since ``began_ns``."""
        before = len(self.slow)
        self.ran(row, argv, self.now_ns() - began_ns)
        if len(self.slow) > before:
            self._note(*self.slow.pop(), session)

    def begin(self) -> int:
        """An entry's commands are about to run; returns the time for entry()."""
        self.calls = 0
        self.ns = 0
        return self.now_ns()

    def entry(self, batch: Batch, began_ns: int) -> None:
        """The commands of ``batch`` have run since ``began_ns``."""
        took_ns = self.now_ns() - began_ns
        self.stats.plain_ns += max(0, took_ns - self.ns)
        self.stats.plain_calls += max(0, len(batch.items) - self.calls)
        if self.slow:
            self.blame(batch.items)
        if self.latency.threshold_ms:
            self.latency.note("entry", took_ns // 1_000_000, self.clock.wall_ms())

    def blame(self, items: list[Item]) -> None:
        """Log what was slow with its client, if that is found in ``items``; woken and other nodes' requests are not."""
        slow = self.slow
        self.slow = []
        for argv, took_us in slow:
            self._note(argv, took_us, _asked(items, argv))

    def blame_one(self, session: Session) -> None:
        """Log what was slow; ``session`` asked for it."""
        slow = self.slow
        self.slow = []
        for argv, took_us in slow:
            self._note(argv, took_us, session)

    def _note(self, argv: list[bytes], took_us: int, session: Session | None) -> None:
        address, name = ("", b"") if session is None else (session.address, session.name)
        self.slowlog.note(took_us, argv, address, name, self.clock.wall_ms())


def _asked(items: list[Item], argv: list[bytes]) -> Session | None:
    for item in items:
        if item.argv is argv or (item.parts is not None and any(part.argv is argv for part in item.parts)):
            return item.session
    return None
