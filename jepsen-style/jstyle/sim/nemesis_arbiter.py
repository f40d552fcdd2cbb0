"""What is done to the arbiter of two data nodes: killed, stopped, its power cut.

Rule: part of the nemesis, with the same manners: it draws nothing, it restarts what died, and in the end the arbiter is
whole. Partitions are the nemesis's own; this host is one of those that they part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jstyle.sim.arbiter_host import ArbiterHost
from jstyle.sim.disk_crash import CrashPolicy
from jstyle.sim.schedule import Strike
from jstyle.sim.timeline import MS, Timeline

Undo = Callable[[], None]
_RESTART_MS: Final = 1000


class ArbiterNemesis:
    """``kinds`` are the strikes it can carry out."""

    def __init__(self, timeline: Timeline, host: ArbiterHost) -> None:
        self.timeline = timeline
        self.host = host
        self.down = 0
        host.on_end = self._ended
        self.kinds: dict[str, Callable[[Strike], Undo | None]] = {
            "arbiter-kill": self._kill,
            "arbiter-pause": self._pause,
            "arbiter-power": self._power,
        }

    def _ended(self) -> None:
        """It ended by itself; somebody starts it again."""
        self.timeline.at(_RESTART_MS * MS, self._revive)

    def _revive(self) -> None:
        if not self.down and self.host.member is None:
            self.host.start()

    def _fell(self, how: Callable[[], None]) -> Undo | None:
        if self.host.member is None:
            return None
        self.down += 1
        how()

        def undo() -> None:
            self.down -= 1
            self._revive()

        return undo

    def _kill(self, strike: Strike) -> Undo | None:
        del strike
        return self._fell(self.host.crash)

    def _power(self, strike: Strike) -> Undo | None:
        calls = int(strike.params.get("calls", -1))
        if calls < 0:
            return self._fell(lambda: self.host.power_cut(CrashPolicy(str(strike.params["order"]))))
        if self.host.member is not None:
            self.host.disk.cut_after = calls
        return _nothing

    def _pause(self, strike: Strike) -> Undo | None:
        del strike
        host, clock = self.host, self.host.clock
        if host.member is None or host.paused:
            return None
        host.pause()

        def undo() -> None:
            if host.clock is clock:
                host.resume()

        return undo

    def heal(self) -> None:
        """Make it whole for good."""
        host = self.host
        self.down = 0
        host.disk.slowness = 1
        host.disk.spike = 0.0
        host.disk.cut_after = -1
        host.resume()
        self._revive()


def _nothing() -> None:
    """No end to bring about."""
