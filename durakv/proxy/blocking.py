"""BLPOP and its like: on a connection of their own, for as long as they wait.

Rule: the time a client asked for is counted from when the proxy took the request, also when it is sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.cluster.redirect import slot_of_keys
from durakv.proxy.task import Call, Task
from durakv.resp.encoder import error_line
from durakv.resp.errors import CROSSSLOT

if TYPE_CHECKING:
    from durakv.proxy.client import Client
    from durakv.proxy.plans import Plan

_EVER_NS: Final = 1 << 62


class TimedCall(Call):
    """A Call whose argv holds a timeout at ``at``: seconds with fraction, or milliseconds."""

    at = 0
    in_ms = False
    asked = b""

    def start(self) -> Call:
        """Send it with what is left of the time."""
        left = _left(self.asked, self.in_ms, (self.hub.clock.monotonic_ns() - self.began_ns) // 1_000_000)
        self.argv = [*self.argv[: self.at], left, *self.argv[self.at + 1 :]]
        super().start()
        if self.pin is not None:
            self.pin.patient_ns = self.hub.clock.monotonic_ns() + _patience_ns(left, self.in_ms)
        return self


class Blocking(Task):
    """One blocking request."""

    def __init__(self, client: Client, plan: Plan, argv: list[bytes], muted: bool) -> None:
        super().__init__(client, plan, argv, muted)
        self.endless = True
        self._call: Call | None = None

    def start(self) -> None:
        """Ask, on a borrowed connection."""
        client = self.client
        slot = slot_of_keys(self.plan.keys(self.argv))
        if slot < -1:
            self.finish(error_line(CROSSSLOT))
            return
        call = TimedCall(
            client.hub, client.profile, self.plan, self.argv, slot, self._answered, exclusive=True, number=client.number
        )
        call.at, call.in_ms = _timeout_at(self.plan.name, self.argv)
        call.asked = self.argv[call.at]
        self._call = call
        call.start()

    def abandon(self) -> None:
        """Closing the connection is how a node learns that nobody waits."""
        if self._call is not None:
            self._call.cancel()

    def _answered(self, call: Call, wire: bytes) -> None:
        if call.pin is not None:
            self.client.wrote[call.pin] = None
            self.client.hub.lanes.give_back(call.pin)
        self.finish(wire)


def _timeout_at(name: str, argv: list[bytes]) -> tuple[int, bool]:
    """Where the timeout is, and whether it is in milliseconds."""
    if name in ("blmpop", "bzmpop"):
        return 1, False
    if name in ("xread", "xreadgroup"):
        for i in range(1, len(argv) - 1):
            if argv[i].upper() == b"BLOCK":
                return i + 1, True
    return len(argv) - 1, False


def _patience_ns(left: bytes, in_ms: bool) -> int:
    """How long a node may be silent about it; 0 is for ever."""
    try:
        wanted_ms = float(left) * (1 if in_ms else 1000)
    except ValueError:
        return 0
    return int(wanted_ms * 1_000_000) if 0 < wanted_ms < _EVER_NS / 1_000_000 else _EVER_NS


def _left(asked: bytes, in_ms: bool, passed_ms: int) -> bytes:
    """The timeout less the time that passed, at least a millisecond; what cannot be read is the node's to refuse."""
    if passed_ms <= 0:
        return asked
    try:
        wanted_ms = float(asked) * (1 if in_ms else 1000)
    except ValueError:
        return asked
    if not 0 < wanted_ms < 1e15:
        return asked
    left_ms = max(wanted_ms - passed_ms, 1)
    return b"%d" % left_ms if in_ms else b"%.3f" % (left_ms / 1000)
