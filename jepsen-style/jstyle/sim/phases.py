"""What every simulated run goes through: time under the eyes of the invariants, actions that must succeed, last reads.

Rule: knows one client at a time and no fault; which phases there are, and of what, is for runner.py and groups_run.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jstyle.history.op import Op
from jstyle.sim.client import Client, History
from jstyle.sim.cluster import Cluster
from jstyle.sim.invariants import Invariants
from jstyle.sim.liveness import Liveness, Promises
from jstyle.sim.machine import Machine
from jstyle.sim.nemesis import Nemesis
from jstyle.sim.schedule import Plan
from jstyle.sim.shadow import Shadow
from jstyle.sim.timeline import MS
from jstyle.sim.violation import Violation
from jstyle.sim.workloads.action import Action, Command, Once

BOOT_MS: Final = 60_000
FINAL_MS: Final = 30_000
# Where in a run something happened.
BOOT: Final = "boot"
SAFETY: Final = "safety"
LIVENESS: Final = "liveness"


class Stopped(Exception):
    """The run reached the event or the end of the phase at which it was to stop; the text says which."""


class FinalRead(Once):
    """A read whose answer the shadow knows (K2)."""

    def __init__(self, argv: Command, shadow: Shadow, *, ordered: bool) -> None:
        super().__init__("final", argv, self._compare, key=argv[1].decode(), effect=False)
        self.shadow = shadow
        self.expected: object = None
        self.ordered = ordered

    def _compare(self, reply: object) -> None:
        """A request whose client gave up long ago may still arrive while this one is on its way."""
        expected = [self.expected, self.shadow.read(self.argv)]
        if not self.ordered and isinstance(reply, list):
            reply, expected = sorted(reply), [sorted(one) if isinstance(one, list) else one for one in expected]
        if reply not in expected:
            raise Violation("K2", f"the final {self.argv!r} answers {reply!r}, the log gives {self.expected!r}")

    def first(self) -> list[Command]:
        """See Action."""
        self.expected = self.shadow.read(self.argv)
        return super().first()


READS: Final[dict[bytes, tuple[bytes, list[bytes]]]] = {
    b"string": (b"GET", []),
    b"list": (b"LRANGE", [b"0", b"-1"]),
    b"set": (b"SMEMBERS", []),
}


@dataclass
class Part:
    """One group of a run and what watches over it."""

    cluster: Cluster
    shadow: Shadow
    invariants: Invariants
    nemesis: Nemesis
    liveness: Liveness


class Phases:
    """A run in progress: ``go`` carries it out. ``promises`` are looked at after every event."""

    def __init__(self, plan: Plan, parts: list[Part], history: History, promises: Promises, until_event: int) -> None:
        self.plan = plan
        self.parts = parts
        self.history = history
        self.timeline = parts[0].cluster.timeline
        self.promises = promises
        self.until_event = until_event
        # Where it is.
        self.phase = BOOT

    def go(self) -> None:
        """All phases up to the checkers. Raises Violation, Stopped, or what a node or the harness raised."""
        raise NotImplementedError

    def judged(self, name: str, ops: list[Op]) -> list[Op]:
        """Of a workload's history, what the checkers may hold the system to; nothing: leave it out."""
        del name
        return list(ops)

    def machines(self) -> list[Machine]:
        """All machines, of every group."""
        return [machine for part in self.parts for machine in part.cluster.machines]

    def handoffs(self) -> dict[str, int]:
        """What became of migrations of slots."""
        return {}

    def injected(self) -> dict[str, int]:
        """Strikes by "class/kind"."""
        found: Counter[str] = Counter()
        for part in self.parts:
            found.update(part.nemesis.injected)
        return dict(found)

    def wait(self, ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; whether ``until`` came true. Raises Violation, Stopped."""
        check = self.promises.check
        stop_at = self.until_event
        timeline = self.timeline

        def after_event() -> bool:
            check()
            if stop_at and timeline.events >= stop_at:
                raise Stopped(f"stopped at event {timeline.events}")
            return until is not None and until()

        if until is None and not stop_at:
            return timeline.run_for(ms * MS, check)
        return (until is not None and until()) or timeline.run_for(ms * MS, after_event)

    def finals(self, client: Client, actions: list[Action]) -> None:
        """Have a client run actions, again and again until each has succeeded. Raises Violation P10."""
        deadline_ns = self.timeline.now_ns + FINAL_MS * MS
        for action in actions:
            ok = client.ok
            while client.ok == ok:
                client.run_finals([action])
                self.wait(FINAL_MS, lambda: not client.finals and not client.busy)
                if client.ok == ok and self.timeline.now_ns > deadline_ns:
                    raise Violation("P10", f"{action.f} operations on a healthy group do not succeed")


def reads_of(shadow: Shadow) -> list[Action]:
    """A read of every lasting key of the shadow's state, each compared with it."""
    reads: list[Action] = []
    for key, kind in shadow.lasting_keys():
        known = READS.get(kind)
        if known is not None:
            reads.append(FinalRead([known[0], key, *known[1]], shadow, ordered=kind != b"set"))
    return reads
