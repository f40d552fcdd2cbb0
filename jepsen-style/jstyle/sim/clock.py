"""A node's time, and the one door through which anything enters a running node.

Rule: every call into a node goes through ``NodeClock.enter``. A node that is dead hears nothing any more; one that is
paused, or busy with an earlier call, hears it late and in order. True time is the timeline's; a node's own clocks may
run fast or slow, and its wall clock may be off and step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from durakv.world.ports import Timer
from jstyle.sim.timeline import MS, START_NS, Timeline

# Unix milliseconds of an unskewed wall clock when a run starts.
WALL_START_MS: Final = 1_700_000_000_000
RATE_ONE: Final = 1_000_000


class PowerCut(BaseException):
    """The machine loses power in the middle of a call; only the door catches this."""


class Door(Protocol):
    """What the network and the disk ask of a host: may this enter now?"""

    def enter(self, fn: Callable[[], None]) -> None:
        """Run ``fn`` in the host, now or when it can listen; never when it is dead."""

    def lead_ns(self) -> int:
        """How far the host's present call is ahead of the timeline: what it does now happens that much later."""


class OpenDoor:
    """A host that is always there and takes no time: a client's."""

    def enter(self, fn: Callable[[], None]) -> None:
        """See Door."""
        fn()

    def lead_ns(self) -> int:
        """See Door."""
        return 0


@dataclass
class ClockOptions:
    """Ranges from which each machine's clock is drawn. Rates are parts per million of true time."""

    wall_offset_ms: tuple[int, int] = (-300, 300)
    rate_ppm: tuple[int, int] = (RATE_ONE, RATE_ONE)
    # CPU time each call into a node takes: a slow processor.
    step_cost_ns: tuple[int, int] = (0, 0)


class SimTimer:
    """A pending call_later."""

    __slots__ = ("clock", "fn")

    def __init__(self, clock: NodeClock, fn: Callable[[], None]) -> None:
        self.clock = clock
        self.fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        """See ports.Timer."""
        self.fn = None

    def fire(self) -> None:
        """Its time has come."""
        if self.fn is not None:
            self.clock.enter(self.run)

    def run(self) -> None:
        """Inside the node; it may have been cancelled while it waited at the door."""
        fn = self.fn
        if fn is not None:
            self.fn = None
            fn()


class NodeClock:
    """Implements ports.Clock and Door for one incarnation of a node; its monotonic clock starts at ``boot_ns``.

    ``on_power_cut()`` is called when a call into the node lost power; ``on_failure(error)`` when it raised: it returns
    when that is a legal way to die, else raises.
    """

    def __init__(
        self,
        timeline: Timeline,
        boot_ns: int,
        wall_offset_ms: int,
        rate_ppm: int,
        step_cost_ns: int,
        on_power_cut: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.timeline = timeline
        self.alive = True
        self.paused = False
        self.step_cost_ns = step_cost_ns
        self.wall_offset_ms = wall_offset_ms
        # What it showed when the process began.
        self.boot_ns = boot_ns
        self._rate_ppm = rate_ppm
        self._base_true_ns = timeline.now_ns
        self._base_ns = boot_ns
        self._wall_base_ns = boot_ns - (timeline.now_ns - START_NS)
        self._ahead_ns = 0
        self._busy_until_ns = 0
        # Dead, paused or with others waiting: nothing enters at once.
        self._shut = False
        # A call into the node is on; what it wants done after this turn gathers in ``_soon``.
        self._inside = False
        self._soon: deque[Callable[[], None]] = deque()
        self._waiting: deque[Callable[[], None]] = deque()
        self._stopped_aside: list[Callable[[], None]] = []
        self._drain_asked = False
        self._on_power_cut = on_power_cut
        self._on_failure = on_failure

    # -- ports.Clock -------------------------------------------------------------------------------------------------

    def monotonic_ns(self) -> int:
        """See Clock: true time at this node's rate, plus what the present call has already taken."""
        since_ns = self.timeline.now_ns + self._ahead_ns - self._base_true_ns
        if self._rate_ppm == RATE_ONE:
            return since_ns + self._base_ns
        return self._base_ns + since_ns * self._rate_ppm // RATE_ONE

    def raw_ns(self) -> int:
        """See Clock."""
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        """See Clock."""
        return WALL_START_MS + self.wall_offset_ms + (self.monotonic_ns() - self._wall_base_ns) // MS

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        """See Clock. The delay is measured by this node's clock; however short, time passes."""
        delay_ns = int(delay_ms * MS)
        if self._rate_ppm != RATE_ONE:
            delay_ns = delay_ns * RATE_ONE // self._rate_ppm
        timer = SimTimer(self, fn)
        self.timeline.at(self._ahead_ns + max(delay_ns, 1 if delay_ms > 0 else 0), timer.fire)
        return timer

    def call_soon(self, fn: Callable[[], None]) -> None:
        """See Clock: after all input that is ready now, before any later."""
        if self._inside:
            self._soon.append(fn)
        else:
            self.timeline.at(0, lambda: self.enter(fn))

    # -- the door ----------------------------------------------------------------------------------------------------

    def enter(self, fn: Callable[[], None]) -> None:
        """See Door."""
        if self._shut or self.timeline.now_ns < self._busy_until_ns:
            self._wait(fn)
            return
        self._inside = True
        self._ahead_ns = self.step_cost_ns
        try:
            fn()
            if self._soon:
                self._run_soon()
        except BaseException as error:  # noqa: BLE001 - judged by the machine, which raises what is not a legal death
            self._caught(error)
        self._leave()

    def aside(self, fn: Callable[[], None]) -> None:
        """Run ``fn`` on another thread of the process: it stops with the process but does not wait for the loop."""
        if not self.alive:
            return
        if self.paused:
            self._stopped_aside.append(fn)
            return
        try:
            fn()
        except PowerCut:
            self._on_power_cut()
        self._ahead_ns = 0

    def lead_ns(self) -> int:
        """See Door."""
        return self._ahead_ns

    def take_time(self, ns: int) -> None:
        """The present call takes this much longer; what comes meanwhile waits."""
        self._ahead_ns += ns

    def _run_soon(self) -> None:
        soon = self._soon
        while soon:
            soon.popleft()()

    def _caught(self, error: BaseException) -> None:
        self._inside = False
        self._soon.clear()
        if isinstance(error, PowerCut):
            self._on_power_cut()
        else:
            self._on_failure(error)

    def _leave(self) -> None:
        self._inside = False
        if self._ahead_ns:
            self._busy_until_ns = self.timeline.now_ns + self._ahead_ns
            self._ahead_ns = 0

    def _wait(self, fn: Callable[[], None]) -> None:
        """The node does not listen now."""
        if self.alive:
            self._waiting.append(fn)
            self._shut = True
            self._ask_drain()

    def _ask_drain(self) -> None:
        if not self._drain_asked and not self.paused:
            self._drain_asked = True
            self.timeline.at(max(self._busy_until_ns - self.timeline.now_ns, 0), self._drain)

    def _drain(self) -> None:
        """One turn of the loop: everything that waited, then what was put off until after it."""
        self._drain_asked = False
        if self.paused or not self.alive:
            return
        if self.timeline.now_ns < self._busy_until_ns:
            self._ask_drain()
            return
        waiting, self._waiting = self._waiting, deque()
        self._shut = False
        self._inside = True
        self._ahead_ns = 0
        try:
            for fn in waiting:
                self._ahead_ns += self.step_cost_ns
                fn()
                if not self.alive:
                    break
            self._run_soon()
        except BaseException as error:  # noqa: BLE001 - as in enter()
            self._caught(error)
        self._leave()

    # -- what the nemesis does ---------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Nothing of this incarnation runs any more."""
        self.alive = False
        self._shut = True
        self._waiting.clear()
        self._soon.clear()

    def pause(self) -> None:
        """Stop the process; timers and input wait at the door."""
        self.paused = True
        self._shut = True

    def resume(self) -> None:
        """Let it go on; everything that waited enters at once, in order."""
        if not self.paused:
            return
        self.paused = False
        self._shut = not self.alive or bool(self._waiting)
        stopped, self._stopped_aside = self._stopped_aside, []
        for fn in stopped:
            self.timeline.at(0, partial(self.aside, fn))
        if self._waiting:
            self._ask_drain()

    def step_wall(self, ms: int) -> None:
        """Set the wall clock forward or back."""
        self.wall_offset_ms += ms

    def set_rate(self, rate_ppm: int) -> None:
        """From now on both clocks run at ``rate_ppm`` millionths of true time. Timers set before keep their instant."""
        now_ns = self.monotonic_ns()
        self._base_true_ns, self._base_ns = self.timeline.now_ns + self._ahead_ns, now_ns
        self._rate_ppm = rate_ppm
