"""What is done to a group's witness: killed, cut off, stopped, its disk troubled, its state destroyed, its id replaced.

Rule: part of the nemesis, with the same manners: it draws nothing, it restarts what died, and in the end it makes the
witness whole or leaves it broken for good. A state that was destroyed is never brought back: the witness is a member
that answers nothing until somebody replaces it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.commands.session import Session
from durakv.resp.errors import CommandError
from jstyle.sim.disk_crash import CrashPolicy
from jstyle.sim.schedule import Strike
from jstyle.sim.timeline import MS
from jstyle.sim.witness_host import TCP

if TYPE_CHECKING:
    from jstyle.sim.cluster import Cluster
    from jstyle.sim.witness_host import WitnessHost

Undo = Callable[[], None]
_RESTART_MS: Final = 1000


class WitnessNemesis:
    """``kinds`` are the strikes it can carry out."""

    def __init__(self, cluster: Cluster, host: WitnessHost) -> None:
        self.cluster = cluster
        self.host = host
        self.down = 0
        self.over = False
        host.on_end = self._ended
        self.kinds: dict[str, Callable[[Strike], Undo | None]] = {
            "witness-add": self._add,
            "witness-cut": self._cut,
            "witness-destroy": self._destroy,
            "witness-disk-error": self._disk_error,
            "witness-flap": self._flap,
            "witness-hang": self._hang,
            "witness-kill": self._kill,
            "witness-pause": self._pause,
            "witness-power": self._power,
            "witness-remove": self._remove,
        }

    # -- the process ---------------------------------------------------------------------------------------------------

    def _ended(self) -> None:
        """It ended by itself; somebody starts it again."""
        self.cluster.timeline.at(_RESTART_MS * MS, self._revive)

    def _revive(self) -> None:
        if not self.over and not self.down and not self.host.running:
            self.host.start()

    def _fell(self, how: Callable[[], None]) -> Undo | None:
        if not self.host.running:
            return None
        self.down += 1
        how()

        def undo() -> None:
            self.down -= 1
            if not self.down and not self.host.running:
                self.host.start()

        return undo

    def _kill(self, strike: Strike) -> Undo | None:
        del strike
        return self._fell(self.host.crash)

    def _power(self, strike: Strike) -> Undo | None:
        calls = int(strike.params.get("calls", -1))
        if calls >= 0 and self.host.kind == TCP and self.host.running:
            self.host.disk.cut_after = calls
            return _nothing
        return self._fell(lambda: self.host.power_cut(CrashPolicy(str(strike.params["order"]))))

    def _pause(self, strike: Strike) -> Undo | None:
        del strike
        host, clock = self.host, self.host.clock
        if not host.running or host.paused:
            return None
        host.pause()

        def undo() -> None:
            if host.clock is clock:
                host.resume()

        return undo

    # -- the way there and the disk ------------------------------------------------------------------------------------

    def _cut(self, strike: Strike) -> Undo | None:
        """Cut it off from all nodes, from the leader, or from all but the leader."""
        fabric, whom = self.cluster.fabric, strike.params["from"]
        leader = self.cluster.leader()
        names = [machine.name for machine in self.cluster.machines]
        if whom != "all" and leader is not None:
            names = [name for name in names if (name == leader.name) == (whom == "leader")]
        pairs = [(name, self.host.name) for name in names if strike.params["way"] != "out"]
        pairs += [(self.host.name, name) for name in names if strike.params["way"] != "in"]
        pairs = [pair for pair in pairs if not fabric.is_cut(*pair)]
        for pair in pairs:
            fabric.cut(*pair)

        def undo() -> None:
            for pair in pairs:
                fabric.heal(*pair)

        return undo if pairs else None

    def _flap(self, strike: Strike) -> Undo | None:
        """As many full nodes as the witness makes up for go, come back and go again, while what the witness says is
        late: answers arrive when the leader has long asked something else.
        """
        leader, fabric, timeline = self.cluster.leader(), self.cluster.fabric, self.cluster.timeline
        if leader is None:
            return None
        others = [machine.name for machine in self.cluster.running() if machine is not leader]
        pick, count = int(strike.params["pick"]), (len(others) + 1) // 2
        gone = [others[(pick + n) % len(others)] for n in range(count)] if others else []
        pairs = [pair for name in gone for pair in ((name, leader.name), (leader.name, name))]
        if not pairs or any(fabric.is_cut(*pair) for pair in pairs):
            return None
        cut_ms, back_ms, late_ms = (int(strike.params[name]) for name in ("cut_ms", "back_ms", "late_ms"))
        fabric.clog(self.host.name, leader.name, late_ms * MS)

        def go() -> None:
            if self.over:
                return
            for pair in pairs:
                fabric.cut(*pair)
            fabric.reset(lambda end: (end.host.name, end.peer.host.name) in pairs)

        def come() -> None:
            if not self.over:
                for pair in pairs:
                    fabric.heal(*pair)

        go()
        timeline.at(cut_ms * MS, come)
        timeline.at((cut_ms + back_ms) * MS, go)
        timeline.at((late_ms + cut_ms) * MS, come)
        return _nothing

    def _hang(self, strike: Strike) -> Undo | None:
        self.host.disk.hang(int(strike.params["ms"]) * MS)
        return _nothing

    def _disk_error(self, strike: Strike) -> Undo | None:
        faults = self.host.disk.faults
        assert faults is not None
        faults.fail_next.append((str(strike.params["call"]), errno.EIO))
        return _nothing

    def _destroy(self, strike: Strike) -> Undo | None:
        """Its state is gone when it runs again."""
        host = self.host
        if host.running:
            host.crash()
        host.destroy(str(strike.params["how"]))
        if not self.down:
            self._ended()
        return _nothing

    # -- membership ----------------------------------------------------------------------------------------------------

    def _change(self, verb: str, witness_id: int, address: str) -> Undo | None:
        leader = self.cluster.leader()
        if leader is None or leader.app is None or leader.clock is None:
            return None
        engine = leader.app.engine

        def ask() -> None:
            try:
                engine.change_members(Session(0, leader.node_id), verb, witness_id, address)
            except CommandError:
                # Another change is open, the witness is counted on just now, or the node no longer leads.
                return

        leader.clock.enter(ask)
        return _nothing

    def _member(self) -> int:
        leader = self.cluster.leader()
        return leader.app.node.core.membership.witness_id() if leader is not None and leader.app is not None else 0

    def _remove(self, strike: Strike) -> Undo | None:
        del strike
        member = self._member()
        return self._change("remove", member, "") if member else None

    def _add(self, strike: Strike) -> Undo | None:
        """A new witness, under a new id, at the same place; one whose creation fails is never one."""
        del strike
        if self._member() or self.cluster.leader() is None:
            return None
        witness_id = self.host.next_id()
        self.host.created[witness_id] = None
        return self._change("add-witness", witness_id, self.host.address())

    # -- the end -------------------------------------------------------------------------------------------------------

    def heal(self, *, whole: bool, leave: bool) -> None:
        """The end of all faults: whole for good, or as broken as it is (``leave``), or gone for good."""
        self.over = True
        host = self.host
        disk = host.disk
        disk.slowness, disk.spike, disk.hung_until_ns, disk.cut_after = 1, 0.0, 0, -1
        if disk.faults is not None:
            disk.faults.enabled = False
            disk.faults.fail_next.clear()
        if whole:
            self.cluster.fabric.refuse(host.name, refusing=False)
            host.resume()
            if not host.running:
                host.start()
        elif not leave and host.running:
            host.crash()


def _nothing() -> None:
    """No end to bring about."""
