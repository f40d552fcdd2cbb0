"""The machine that gives the config holder of two data nodes its third voice: one member, alone, without data.

Rule: the only place that starts or ends a simulated arbiter. It runs the production member on its own disk. It must
not know what the holder is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.holder.member import HolderMember, found_member
from durakv.holding import holder_directory
from jstyle.sim.clock import NodeClock
from jstyle.sim.disk import SimDisk
from jstyle.sim.disk_crash import CrashPolicy, after_power_cut
from jstyle.sim.net import HostNetwork
from jstyle.sim.rng import NodeRng
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS

if TYPE_CHECKING:
    from jstyle.sim.cluster import Cluster

NAME: Final = "a"
# Far from the ids of nodes.
ARBITER_ID: Final = 101
HOLDER_PORT: Final = 27000
DIRECTORY: Final = holder_directory("/arbiter")


class ArbiterHost:
    """See the module's text. ``member`` is None while no process runs."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = NAME
        self.host = cluster.fabric.host(NAME)
        self.random = stream(cluster.seed, "crash", NAME)
        shape = stream(cluster.seed, "machine", NAME)
        self.rate_ppm = shape.randint(*cluster.options.clock.rate_ppm)
        self.step_cost_ns = shape.randint(*cluster.options.clock.step_cost_ns)
        self.disk = SimDisk(cluster.timeline, cluster.seed, NAME, cluster.options.disk)
        self.clock: NodeClock | None = None
        self.member: HolderMember | None = None
        self.starts = 0
        # Told when the process ended by itself.
        self.on_end: Callable[[], None] | None = None

    def found(self) -> None:
        """Make the member's file, durable, as ``cluster up`` does."""
        # Imported here, for a machine needs the cluster that needs this host.
        from jstyle.sim.machine import CLUSTER_ID

        self.cluster_id = CLUSTER_ID
        found_member(self.disk, DIRECTORY, CLUSTER_ID, ARBITER_ID, tuple(self.cluster.holder_members))
        after_power_cut(self.disk, CrashPolicy("nothing"), self.random)

    @property
    def paused(self) -> bool:
        """Stopped by pause()."""
        return self.clock is not None and self.clock.paused

    def start(self) -> None:
        """Start the process."""
        assert self.member is None, "the arbiter runs already"
        cluster = self.cluster
        self.starts += 1
        cluster.timeline.fold("start", NAME, self.starts)
        boot_ns = stream(cluster.seed, "boot-clock", NAME, self.starts).randrange(1, 10**9) * MS
        clock = self.clock = NodeClock(
            cluster.timeline, boot_ns, 0, self.rate_ppm, self.step_cost_ns, self._lost_power, self._failed
        )  # fmt: skip
        self.disk.boot(clock)
        self.host.start(clock)
        clock.enter(self._open)

    def _open(self) -> None:
        cluster, clock = self.cluster, self.clock
        assert clock is not None
        rng = NodeRng(stream(cluster.seed, "arbiter", NAME, self.starts))
        member = HolderMember(
            clock, rng, self.disk, HostNetwork(cluster.fabric, NAME), DIRECTORY, self.cluster_id, ARBITER_ID,
            cluster.holder_members, _unheard, _disk_failed,
        )  # fmt: skip
        member.open(NAME, HOLDER_PORT)
        self.member = member

    def crash(self) -> None:
        """Kill the process; the files stay as they are."""
        if self.member is not None:
            self.disk.interrupt()
            self._end(power_cut=False)

    def power_cut(self, policy: CrashPolicy | None = None) -> None:
        """Take the power away; the disk keeps what ``policy`` (None: any) says."""
        if self.member is not None:
            self.disk.interrupt()
            self._end(power_cut=True)
        self.host.powered = False
        after_power_cut(self.disk, policy if policy is not None else CrashPolicy.draw(self.random), self.random)
        self.cluster.timeline.fold("power-cut", NAME)

    def pause(self) -> None:
        """Stop it as SIGSTOP does."""
        if self.clock is not None:
            self.clock.pause()

    def resume(self) -> None:
        """Undo pause()."""
        if self.clock is not None:
            self.clock.resume()

    def _end(self, *, power_cut: bool) -> None:
        assert self.clock is not None
        self.clock.kill()
        self.clock.paused = False
        self.member = None
        self.disk.boot(None)
        self.host.stop(power_cut=power_cut)
        self.cluster.timeline.fold("end", NAME, power_cut)

    def _lost_power(self) -> None:
        self._end(power_cut=True)
        self.power_cut()
        if self.on_end is not None:
            self.on_end()

    def _failed(self, error: BaseException) -> None:
        error.add_note(f"on the arbiter, start {self.starts}, seed {self.cluster.seed}")
        raise error


def _unheard(_: str) -> None:
    """Lines for an operator."""


def _disk_failed(error: OSError) -> None:
    raise AssertionError(f"nothing was done to the arbiter's disk: {error}")
