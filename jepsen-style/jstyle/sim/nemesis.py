"""Carries out the strikes of a plan, undoes them, and restarts what died; in the end it makes a core whole for good.

Rule: the only place where a run is disturbed. What it does is a function of the plan and of who leads at that moment;
it draws nothing. A machine that ended by itself is started again as an init system would, unless it refused its disk.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final

from durakv.commands.session import Session
from durakv.resp.errors import CommandError
from jstyle.sim.cluster import Cluster
from jstyle.sim.disk_crash import CrashPolicy
from jstyle.sim.invariants import Watch
from jstyle.sim.machine import CLIENT_PORT, CLUSTER_ID, PEER_PORT, Machine
from jstyle.sim.nemesis_arbiter import ArbiterNemesis
from jstyle.sim.nemesis_witness import WitnessNemesis
from jstyle.sim.net_stream import End
from jstyle.sim.schedule import Plan, Strike
from jstyle.sim.timeline import MS
from raft.types import Membership

Undo = Callable[[], None]
RESTART_MS: Final = 1500
_LATE_MS: Final = 2000
_REFUSALS_MAX: Final = 3
_ERRNOS: Final = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT}


class Nemesis:
    """See the module's text. ``injected`` counts by ``class/kind`` what happened; ``down`` are held-down nodes."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self.cluster = cluster
        self.plan = plan
        self.injected: dict[str, int] = {}
        self.down: dict[int, int] = {}
        # Nodes that somebody tried to remove: such an id never comes back.
        self.was_member: dict[int, None] = {}
        self.over = False
        self.frozen = False
        # The core, once healed, and which start of a machine was asked to stop: that may take it until later.
        self.healed: list[int] = []
        self.stopped: dict[int, int] = {}
        self._kinds: dict[str, Callable[[Strike], Undo | None]] = {
            "add-node": self._add_node,
            "clock-rate": self._clock_rate,
            "clock-step": self._clock_step,
            "clog": self._clog,
            "cut": self._cut,
            "disk-error": self._disk_error,
            "disk-full": self._disk_full,
            "disk-hang": self._disk_hang,
            "disk-slow": self._disk_slow,
            "flip-bit": self._flip_bit,
            "kill": self._kill,
            "pause": self._pause,
            "power-cut": self._power_cut,
            "power-in-batch": self._power_in_batch,
            "refuse": self._refuse,
            "remove-node": self._remove_node,
            "reset": self._reset,
            "slow-net": self._slow_net,
            "stop": self._stop,
            "swizzle": self._swizzle,
            "transfer": self._transfer,
        }
        self.witness: WitnessNemesis | None = None
        if cluster.witness is not None:
            self.witness = WitnessNemesis(cluster, cluster.witness)
            self._kinds |= self.witness.kinds
        self.arbiter: ArbiterNemesis | None = None
        if cluster.arbiter is not None:
            self.arbiter = ArbiterNemesis(cluster.timeline, cluster.arbiter)
            self._kinds |= self.arbiter.kinds

    def begin(self) -> None:
        """Put all strikes on the timeline."""
        for strike in self.plan.strikes:
            self.cluster.timeline.at(strike.at_ms * MS, lambda strike=strike: self.strike(strike))  # type: ignore[misc]

    def strike(self, strike: Strike) -> None:
        """Do one, and see to its end."""
        if self.over:
            return
        undo = self._kinds[strike.kind](strike)
        if undo is None:
            return
        name = f"{strike.cls}/{strike.kind}"
        self.injected[name] = self.injected.get(name, 0) + 1
        self.cluster.timeline.fold("strike", strike.kind, strike.target, strike.for_ms)
        if strike.for_ms:
            self.cluster.timeline.at(strike.for_ms * MS, lambda: None if self.over else undo())

    def on_process(self, watch: Watch) -> None:
        """A process began or ended (Invariants.on_process)."""
        machine = watch.machine
        if _was_removed(machine):
            return
        if machine.app is None and self._still_stopping(machine):
            self.cluster.timeline.at(RESTART_MS * MS, lambda: self.start(machine))
        elif machine.app is None and machine.starts and machine.node_id not in self.down and not self.frozen:
            self.cluster.timeline.at(RESTART_MS * MS, lambda: self._revive(machine))

    def _still_stopping(self, machine: Machine) -> bool:
        """Whether it belongs to the healed core and ended only now because it was asked to before."""
        return machine.node_id in self.healed and self.stopped.get(machine.number) == machine.starts

    def _revive(self, machine: Machine) -> None:
        if machine.app is None and machine.node_id not in self.down and not self.frozen:
            self.start(machine)

    def start(self, machine: Machine) -> None:
        """Start a machine unless it runs or its disk is beyond it."""
        if machine.app is None and len(machine.refusals) < _REFUSALS_MAX and not machine.start():
            self.cluster.timeline.at(RESTART_MS * MS, lambda: self._revive(machine))

    # -- targets -------------------------------------------------------------------------------------------------------

    def machines(self, strike: Strike) -> list[Machine]:
        """Whom a strike hits now."""
        cluster, target = self.cluster, strike.target
        voters = [machine for machine in cluster.machines if machine.starts]
        pick = int(strike.params.get("pick", 0))
        rotated = [voters[(pick + n) % len(voters)] for n in range(len(voters))]
        if target == "all":
            return rotated
        if target == "minority":
            return rotated[: (len(voters) - 1) // 2]
        if target == "majority":
            return rotated[: len(voters) // 2 + 1]
        leader = cluster.leader()
        if target == "leader":
            return [leader] if leader is not None else rotated[:1]
        if target == "follower":
            return [machine for machine in rotated if machine is not leader][:1]
        return [cluster.machine(int(target))] if target else []

    # -- processes -----------------------------------------------------------------------------------------------------

    def _fell(self, machines: list[Machine], how: Callable[[Machine], None]) -> Undo | None:
        struck = [machine for machine in machines if machine.app is not None]
        if not struck:
            return None
        for machine in struck:
            self.down[machine.node_id] = self.down.get(machine.node_id, 0) + 1
            how(machine)

        def undo() -> None:
            for machine in struck:
                count = self.down.pop(machine.node_id, 1) - 1
                if count > 0:
                    self.down[machine.node_id] = count
                else:
                    self.start(machine)

        return undo

    def _kill(self, strike: Strike) -> Undo | None:
        return self._fell(self.machines(strike), Machine.crash)

    def _stop(self, strike: Strike) -> Undo | None:
        machines = self.machines(strike)
        self.stopped.update({machine.number: machine.starts for machine in machines})
        return self._fell(machines, Machine.stop)

    def _power_cut(self, strike: Strike) -> Undo | None:
        policy = _policy(strike.params)
        return self._fell(self.machines(strike), lambda machine: machine.power_cut(policy))

    def _power_in_batch(self, strike: Strike) -> Undo | None:
        calls = int(strike.params["calls"])
        return self._fell(self.machines(strike), lambda machine: machine.power_cut_in_batch(calls))

    def _pause(self, strike: Strike) -> Undo | None:
        struck = [m for m in self.machines(strike) if m.app is not None and m.clock is not None and not m.clock.paused]
        clocks = [machine.clock for machine in struck]
        for machine in struck:
            machine.pause()

        def undo() -> None:
            for machine, clock in zip(struck, clocks, strict=True):
                if machine.clock is clock:
                    machine.resume()

        return undo if struck else None

    def _transfer(self, strike: Strike) -> Undo | None:
        leader = self.cluster.leader()
        if leader is None or leader.app is None or leader.clock is None:
            return None
        engine = leader.app.engine
        target = int(strike.params.get("to", 0))

        def ask() -> None:
            try:
                engine.transfer_leadership(0 if target == leader.node_id else target)
            except CommandError:
                # Refused for good reasons: nobody to hand over to, or not leading any more.
                return

        leader.clock.enter(ask)
        return _nothing

    # -- membership ----------------------------------------------------------------------------------------------------

    def _change(self, verb: str, node_id: int, address: str) -> Undo | None:
        """Ask the leader for a membership change; it may refuse, for example while another is open."""
        leader = self.cluster.leader()
        if leader is None or leader.app is None or leader.clock is None:
            return None
        engine = leader.app.engine

        def ask() -> None:
            try:
                engine.change_members(Session(0, leader.node_id), verb, node_id, address)
            except CommandError:
                # Another change is open, or the node no longer leads; a later strike tries again.
                return

        leader.clock.enter(ask)
        return _nothing

    def _membership(self) -> Membership:
        leader = self.cluster.leader()
        return leader.app.node.core.membership if leader is not None and leader.app is not None else Membership()

    def _add_node(self, strike: Strike) -> Undo | None:
        """Start a machine that never was a member and have it added; learners become voters by themselves."""
        members = self._membership().members()
        spares = [
            machine
            for machine in self.cluster.machines[self.cluster.options.nodes :]
            if machine.node_id not in members and not _was_removed(machine) and machine.node_id not in self.was_member
        ]
        if not spares or not members:
            return None
        machine = spares[0]
        if machine.starts == 0:
            machine.start(cluster_id=CLUSTER_ID.hex(), node_id=str(machine.node_id), join="yes")
        return self._change("add-learner", machine.node_id, f"{machine.name}:{CLIENT_PORT}@{PEER_PORT}")

    def _remove_node(self, strike: Strike) -> Undo | None:
        """Remove a voter, perhaps the leader, as long as three stay, or two beside a witness."""
        membership = self._membership()
        voters = membership.voters
        if len(voters) < (3 if membership.witness else 4) or membership.is_joint():
            return None
        node_id = voters[int(strike.params["pick"]) % len(voters)]
        self.was_member[node_id] = None
        return self._change("remove", node_id, "")

    # -- network -------------------------------------------------------------------------------------------------------

    def pairs(self, strike: Strike) -> list[tuple[str, str]]:
        """The directed links that a partition of ``params["shape"]`` cuts."""
        names = [machine.name for machine in self.cluster.machines]
        victims = [machine.name for machine in self.machines(strike)]
        parted = self.cluster.peer_names() if strike.params.get("witness") else names
        others = [name for name in parted if name not in victims]
        shape = strike.params["shape"]
        if shape == "isolate":
            return [pair for v in victims for o in others for pair in ((v, o), (o, v))]
        if shape == "one-way-in":
            return [(o, v) for v in victims for o in others]
        if shape == "one-way-out":
            return [(v, o) for v in victims for o in others]
        if shape == "clients":
            clients = [plan.name for plan in self.plan.clients]
            return [pair for v in victims for c in clients for pair in ((v, c), (c, v))]
        if shape == "bridge" and others:
            # The first other node sees everybody, the rest see only their side.
            return [pair for v in victims for o in others[1:] for pair in ((v, o), (o, v))]
        if shape == "ring":
            count = len(names)
            near = {(i, (i + d) % count) for i in range(count) for d in range(-(count // 4) - 1, count // 4 + 2)}
            far = [(a, b) for a in range(count) for b in range(count) if a != b and (a, b) not in near]
            if count == 3:
                far = [(0, 2), (2, 0)]
            return [(names[a], names[b]) for a, b in far]
        return []

    def _cut(self, strike: Strike) -> Undo | None:
        fabric = self.cluster.fabric
        pairs = [pair for pair in self.pairs(strike) if not fabric.is_cut(*pair)]
        for pair in pairs:
            fabric.cut(*pair)

        def undo() -> None:
            for pair in pairs:
                fabric.heal(*pair)

        return undo if pairs else None

    def _clog(self, strike: Strike) -> Undo | None:
        pairs = self.pairs(strike)
        for pair in pairs:
            self.cluster.fabric.clog(*pair, strike.for_ms * MS)
        return _nothing if pairs else None

    def _swizzle(self, strike: Strike) -> Undo | None:
        self.cluster.fabric.swizzle(self.cluster.peer_names(), strike.for_ms * MS)
        return _nothing

    def _reset(self, strike: Strike) -> Undo | None:
        names = self.cluster.peer_names()
        victims = [machine.name for machine in self.machines(strike)]
        scope = strike.params["scope"]

        def chosen(end: End) -> bool:
            here, there = end.host.name, end.peer.host.name
            if here not in victims and there not in victims:
                return False
            between_nodes = here in names and there in names
            return bool(scope == "all" or between_nodes == (scope == "peers"))

        self.cluster.fabric.reset(chosen)
        return _nothing if victims else None

    def _refuse(self, strike: Strike) -> Undo | None:
        struck = self.machines(strike)
        for machine in struck:
            self.cluster.fabric.refuse(machine.name)

        def undo() -> None:
            for machine in struck:
                self.cluster.fabric.refuse(machine.name, refusing=False)

        return undo if struck else None

    def _slow_net(self, strike: Strike) -> Undo | None:
        fabric, factor = self.cluster.fabric, int(strike.params["factor"])
        names = [machine.name for machine in self.machines(strike)]
        for name in names:
            fabric.slow(factor, source=name)

        def undo() -> None:
            for name in names:
                fabric.slow(1, source=name)

        return undo if names else None

    # -- clocks and disks ----------------------------------------------------------------------------------------------

    def _clock_step(self, strike: Strike) -> Undo | None:
        struck = self.machines(strike)
        for machine in struck:
            machine.step_wall(int(strike.params["ms"]))
        return _nothing if struck else None

    def _clock_rate(self, strike: Strike) -> Undo | None:
        struck = self.machines(strike)
        before = [machine.rate_ppm for machine in struck]
        for machine in struck:
            machine.set_rate(int(strike.params["ppm"]))

        def undo() -> None:
            for machine, ppm in zip(struck, before, strict=True):
                machine.set_rate(ppm)

        return undo if struck else None

    def _disk_hang(self, strike: Strike) -> Undo | None:
        struck = self.machines(strike)
        for machine in struck:
            machine.disk.hang(int(strike.params["ms"]) * MS)
        return _nothing if struck else None

    def _disk_slow(self, strike: Strike) -> Undo | None:
        disks = [machine.disk for machine in self.machines(strike)]
        for disk in disks:
            disk.slowness = int(strike.params["factor"])

        def undo() -> None:
            for disk in disks:
                disk.slowness = 1

        return undo if disks else None

    def _disk_full(self, strike: Strike) -> Undo | None:
        faults = [machine.disk.faults for machine in self.machines(strike) if machine.disk.faults is not None]
        for fault in faults:
            fault.full = True
            fault.full_at = str(strike.params["at"])
            fault.count("full")

        def undo() -> None:
            for fault in faults:
                fault.full = False

        return undo if faults else None

    def _disk_error(self, strike: Strike) -> Undo | None:
        faults = [machine.disk.faults for machine in self.machines(strike) if machine.disk.faults is not None]
        for fault in faults:
            fault.fail_next.append((str(strike.params["call"]), _ERRNOS[str(strike.params["errno"])]))
        return _nothing if faults else None

    def _flip_bit(self, strike: Strike) -> Undo | None:
        faults = [machine.disk.faults for machine in self.machines(strike) if machine.disk.faults is not None]
        return _nothing if [fault for fault in faults if fault.flip_bit()] else None

    # -- the end -------------------------------------------------------------------------------------------------------

    def heal(self, core: list[int]) -> None:
        """Make the core whole and leave everything else as it is, for good."""
        self.over = self.frozen = True
        self.healed = list(core)
        cluster = self.cluster
        members = [cluster.machine(node) for node in core]
        peers = [machine.name for machine in members]
        if self.witness is not None:
            self.witness.heal(whole=self.plan.core_witness, leave=not self.plan.rest_gone)
            if self.plan.core_witness:
                peers.append(self.witness.host.name)
            if self.plan.rest_gone:
                self.end_rest(core)
        if self.arbiter is not None:
            self.arbiter.heal()
            peers.append(self.arbiter.host.name)
        names = peers + [plan.name for plan in self.plan.clients]
        for link in cluster.fabric.links():
            # What is slow, lossy or clogged is so for a while only and ends everywhere; cuts end inside the core.
            link.slowness = 1
            link.loss = 0.0
            if link.interposer is not None:
                link.interposer.enabled = False
            if link.source in names and link.target in names:
                cluster.fabric.heal(link.source, link.target)
            cluster.fabric.unclog(link.source, link.target)
        for machine in cluster.machines:
            if machine.buggify is not None:
                machine.buggify.calm = True
        self._whole_cuts(peers)
        self._end_slow_streams()
        # Again for those that were being opened just then.
        cluster.timeline.at(_LATE_MS * MS, self._end_slow_streams)
        for machine in members:
            cluster.fabric.refuse(machine.name, refusing=False)
            self._heal_machine(machine)

    def end_rest(self, core: list[int]) -> None:
        """What is not of the core is gone for good."""
        for machine in self.cluster.machines:
            if machine.node_id not in core:
                machine.crash()

    def _whole_cuts(self, core: list[str]) -> None:
        """A node cut off from some of the core is cut off from all of it, direction by direction: one that leads a part
        of the core and starves the rest is a fault that a group of nodes cannot mend by itself.
        """
        fabric = self.cluster.fabric
        for machine in self.cluster.machines:
            if machine.name in core:
                continue
            if any(fabric.is_cut(machine.name, name) for name in core):
                for name in core:
                    fabric.cut(machine.name, name)
            if any(fabric.is_cut(name, machine.name) for name in core):
                for name in core:
                    fabric.cut(name, machine.name)

    def _end_slow_streams(self) -> None:
        """What set out on a slow path may need minutes to arrive, a reset included: such streams end now."""
        late_ns = self.cluster.timeline.now_ns + _LATE_MS * MS
        for host in list(self.cluster.fabric.hosts.values()):
            for end in list(host.ends):
                half_open = end.peer.closed and not end.peer.silent
                if half_open or end._arrives_ns > late_ns or end.peer._arrives_ns > late_ns:  # noqa: SLF001 - read only
                    for one in (end, end.peer):
                        one.end(ConnectionResetError("reset as the network heals"))

    def _heal_machine(self, machine: Machine) -> None:
        disk = machine.disk
        disk.slowness = 1
        disk.spike = 0.0
        disk.hung_until_ns = 0
        disk.cut_after = -1
        if disk.faults is not None:
            disk.faults.full = False
            disk.faults.enabled = False
            disk.faults.fail_next.clear()
        if machine.clock is not None and machine.clock.paused:
            machine.resume()
        if machine.app is None:
            machine.start()


def _nothing() -> None:
    """No end to bring about."""


def _was_removed(machine: Machine) -> bool:
    """Whether its last process ended because the group removed the node."""
    return machine.app is None and any(("what", "removed") in event.facts() for _, event in machine.events.seen)


def _policy(params: dict[str, Any]) -> CrashPolicy:
    return CrashPolicy(
        str(params["order"]), float(params["keep"]), float(params["tear"]), bytewise=bool(params["bytewise"]),
        strict_names=bool(params["strict_names"]),
    )  # fmt: skip
