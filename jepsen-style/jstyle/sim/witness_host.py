"""The machine a group's witness is on: a process beside the nodes, or a file server whose directory all of them mount.

Rule: the only place that starts or ends a simulated witness, and that knows which of its states the nemesis took away.
A process runs the production service on its own disk; a file server runs nothing of durakv, and each node changes the
state there in jobs of a lane of its own. It must not know what the messages decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.founding import GROUP_ID
from durakv.witness.parts import StateKey
from durakv.witness.record import INCARNATION_BYTES, TOKEN_BYTES
from durakv.witness.service import WitnessService
from durakv.witness.store import create
from durakv.witness.store_file import FileRegister
from jstyle.sim.clock import RATE_ONE, NodeClock
from jstyle.sim.disk import SimDisk
from jstyle.sim.disk_crash import CrashPolicy, after_power_cut
from jstyle.sim.disk_faults import DiskFaults, FaultOptions
from jstyle.sim.machine import CLUSTER_ID, EXIT_IO, ProcessEnd
from jstyle.sim.net import HostNetwork
from jstyle.sim.rng import NodeRng
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS
from jstyle.sim.witness_lane import WitnessLane
from jstyle.sim.witness_wire import Overheard, WitnessNetwork

if TYPE_CHECKING:
    from jstyle.sim.cluster import Cluster

NAME: Final = "w"
PORT: Final = 7100
DIRECTORY: Final = "/witness"
# Ids of witnesses, far from those of nodes; each serves once.
FIRST_ID: Final = 101
TCP: Final = "tcp"
FILE: Final = "file"
KINDS: Final = (TCP, FILE)


class WitnessHost:
    """See the module's text. ``lost`` are the ids whose state the nemesis destroyed; ``running`` means it can serve."""

    def __init__(self, cluster: Cluster, kind: str) -> None:
        assert kind in KINDS, f"a witness is one of {', '.join(KINDS)}, not {kind!r}"
        self.cluster = cluster
        self.kind = kind
        self.name = NAME
        self.host = cluster.fabric.host(NAME)
        self.random = stream(cluster.seed, "crash", NAME)
        self.disks = 0
        self.disk = self._new_disk()
        self.clock: NodeClock | None = None
        self.running = False
        self.starts = 0
        self.exits: list[int] = []
        self.said: list[str] = []
        self.newest_id = 0
        self.created: dict[int, None] = {}
        self.lost: dict[int, str] = {}
        # Told of every question that arrives and every answer that leaves a process; the harness's ears.
        self.overheard: Overheard | None = None
        # Told when the process ended by itself.
        self.on_end: Callable[[], None] | None = None

    def _new_disk(self) -> SimDisk:
        cluster = self.cluster
        self.disks += 1
        name = NAME if self.disks == 1 else f"{NAME}/{self.disks}"
        disk = SimDisk(cluster.timeline, cluster.seed, name, cluster.options.disk)
        disk.faults = DiskFaults(disk, 0, stream(cluster.seed, "disk-faults", name), FaultOptions(), cluster.atlas)
        return disk

    def address(self) -> str:
        """As the group's address book has it."""
        return f"tcp://{NAME}:{PORT}" if self.kind == TCP else f"file://{DIRECTORY}"

    def next_id(self) -> int:
        """An id nobody has had."""
        self.newest_id = max(self.newest_id + 1, FIRST_ID)
        return self.newest_id

    def found(self) -> tuple[int, str]:
        """Create the state of the group's first witness, durable, as ``cluster up`` does; its id and address."""
        witness_id = self.next_id()
        random = stream(self.cluster.seed, "founding", NAME)
        register = FileRegister(self.disk, DIRECTORY, key_of(witness_id), "create")
        create(register, random.randbytes(INCARNATION_BYTES), random.randbytes(TOKEN_BYTES))
        after_power_cut(self.disk, CrashPolicy("nothing"), self.random)
        self.created[witness_id] = None
        return witness_id, self.address()

    def lane(self, clock: NodeClock, node: str) -> WitnessLane | None:
        """A node's way to the shared directory; None when the witness is a process."""
        return WitnessLane(self, clock, node) if self.kind == FILE else None

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process, or the file server."""
        assert not self.running, "the witness runs already"
        self.starts += 1
        self.running = True
        self.cluster.timeline.fold("start", NAME, self.starts)
        boot_ns = stream(self.cluster.seed, "boot-clock", NAME, self.starts).randrange(1, 10**9) * MS
        clock = self.clock = NodeClock(
            self.cluster.timeline, boot_ns, 0, RATE_ONE, 0, self._lost_power, self._failed
        )  # fmt: skip
        self.disk.boot(clock if self.kind == TCP else None)
        self.host.start(clock)
        if self.kind == TCP:
            clock.enter(self._open)

    def _open(self) -> None:
        cluster, clock = self.cluster, self.clock
        assert clock is not None
        rng = NodeRng(stream(cluster.seed, "witness", NAME, self.starts))
        network = WitnessNetwork(HostNetwork(cluster.fabric, NAME), self._overhear)
        service = WitnessService(clock, rng, self.disk, network, DIRECTORY, self._say, self._fatal)
        service.open(NAME, PORT)

    def _overhear(self) -> Overheard | None:
        return self.overheard

    def _say(self, text: str) -> None:
        self.said = [*self.said[-50:], text]

    def crash(self) -> None:
        """Kill the process; the files stay as they are. A file server only stops answering."""
        if self.running:
            self.disk.interrupt()
            self._end(None, power_cut=False)

    def power_cut(self, policy: CrashPolicy | None = None) -> None:
        """Take the power away; the disk keeps what ``policy`` (None: any) says."""
        if self.running:
            self.disk.interrupt()
            self._end(None, power_cut=True)
        self.host.powered = False
        after_power_cut(self.disk, policy if policy is not None else CrashPolicy.draw(self.random), self.random)
        self.cluster.timeline.fold("power-cut", NAME)

    def pause(self) -> None:
        """Stop it as SIGSTOP does."""
        if self.running and self.clock is not None:
            self.clock.pause()

    def resume(self) -> None:
        """Undo pause()."""
        if self.clock is not None:
            self.clock.resume()

    @property
    def paused(self) -> bool:
        """Stopped by pause()."""
        return self.clock is not None and self.clock.paused

    def _fatal(self, error: OSError) -> None:
        self.exits.append(EXIT_IO)
        raise ProcessEnd

    def _end(self, code: int | None, *, power_cut: bool) -> None:
        clock = self.clock
        assert clock is not None
        clock.kill()
        clock.paused = False
        self.running = False
        self.disk.boot(None)
        self.host.stop(power_cut=power_cut)
        self.cluster.timeline.fold("end", NAME, code, power_cut)

    def _lost_power(self) -> None:
        self._end(None, power_cut=True)
        self.power_cut()
        self._tell()

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, ProcessEnd):
            error.add_note(f"on the witness, start {self.starts}, seed {self.cluster.seed}")
            raise error
        self._end(EXIT_IO, power_cut=False)
        self._tell()

    def _tell(self) -> None:
        if self.on_end is not None:
            self.on_end()

    # -- what no witness may survive -----------------------------------------------------------------------------------

    def destroy(self, how: str) -> None:
        """Take every state away: "disk" (an empty one instead), "states" (the markers stay), "marker", or "rot" (a bit
        flips in each newest record). The process must not run. A node that has read the marker of a directory does not
        look for it again, so there the states go with it.
        """
        how = "states" if how == "marker" and self.kind == FILE else how
        assert not self.running, "stop the witness before its states are destroyed"
        self.cluster.timeline.fold("destroy", NAME, how)
        for witness_id in self.created:
            self.lost.setdefault(witness_id, how)
        if how == "disk":
            self.disk = self._new_disk()
            return
        disk = self.disk
        for witness_id in self.created:
            folder = f"{DIRECTORY}/{key_of(witness_id).name()}/"
            records = sorted((n for n in disk.names if n.startswith(folder) and n.endswith(".st")), key=_number)
            doomed = records if how == "states" else [f"{folder}CREATED"] if how == "marker" else []
            for path in doomed:
                disk.names.pop(path, None)
                disk.durable_names.pop(path, None)
            if how == "rot" and records:
                inode = disk.names[records[-1]]
                at = self.random.randrange(len(inode.data))
                bit = 1 << self.random.randrange(8)
                inode.data[at] ^= bit
                inode.durable = bytearray(inode.data)
                inode.version += 1
        disk.pending_names = []
        disk.version += 1


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].removesuffix(".st"))


def key_of(witness_id: int) -> StateKey:
    """Which state of the simulated cluster."""
    return StateKey(CLUSTER_ID, GROUP_ID, witness_id)
