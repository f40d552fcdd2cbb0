"""A machine of the group: a disk, a clock and at most one running process of durakv, started and ended at will.

Rule: the only place that starts or ends a simulated process. Ways to die that the contract allows are recorded: exit 74
after a disk error, exit 70 after a read that failed, a refusal to start on a damaged directory. Any other exception is
a failure; it propagates out of the timeline with the machine's name on it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from durakv.app import App, World, build
from durakv.config.settings import Settings
from durakv.founding import write_bootstrap
from durakv.holding import found_holder
from durakv.observe.events import Event
from durakv.replication import addresses
from durakv.replication.lease_settings import founding_min_isr
from durakv.storage.errors import StorageError
from durakv.storage.store import Store, StoreOptions, open_store
from jstyle.sim.buggify import ENABLE, Buggify
from jstyle.sim.checkpoint_host import CheckpointHost
from jstyle.sim.clock import NodeClock
from jstyle.sim.disk import DurableImage, SimDisk
from jstyle.sim.disk_crash import CrashPolicy, after_power_cut
from jstyle.sim.disk_faults import DiskFaults
from jstyle.sim.net import HostNetwork
from jstyle.sim.rng import NodeRng
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS
from raft.types import Entry

if TYPE_CHECKING:
    from jstyle.sim.cluster import Cluster
    from jstyle.sim.witness_lane import WitnessLane

CLUSTER_ID: Final = bytes(range(16))
CLIENT_PORT: Final = 7000
PEER_PORT: Final = 17000
EXIT_IO: Final = 74
EXIT_BUG: Final = 70
DIRECTORY: Final = "/data"
_EVENTS_KEPT: Final = 200
# Of a node between groups, in some runs.
_SMALL_BATCH_BYTES: Final = 150
_WINDOW_BYTES: Final = 400
# Of a node that keeps checkpoints.
_SEGMENT_BYTES: Final = 8192


class ProcessEnd(BaseException):
    """The process ended itself on the spot; only the machine's door catches this."""


class Process:
    """Implements ProcessProbe for a process that needs nothing."""

    pid = 1
    os = "simulated"
    arch_bits = 64
    executable = "durakv"
    monotonic_clock = "simulated"

    def rss_bytes(self) -> int:
        """See ProcessProbe."""
        return 1 << 20

    def total_memory_bytes(self) -> int:
        """See ProcessProbe."""
        return 0

    def cpu_seconds(self) -> tuple[float, float, float, float]:
        """See ProcessProbe."""
        return (0.0, 0.0, 0.0, 0.0)

    def open_files(self) -> int:
        """See ProcessProbe."""
        return 0

    def stall(self, ms: int) -> None:
        """See ProcessProbe."""
        raise AssertionError(f"DEBUG SLEEP of {ms} ms in a simulation; pause the machine instead")


class Events:
    """Implements Observer: the newest events of a machine, with the true time of each."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.seen: deque[tuple[int, Event]] = deque(maxlen=_EVENTS_KEPT)

    def event(self, event: Event) -> None:
        """See Observer."""
        machine = self._machine
        self.seen.append((machine.cluster.timeline.now_ns, event))
        machine.cluster.timeline.fold("event", machine.name, event.kind(), event.facts())


class Machine:
    """See the module's text. ``app`` is None while no process runs.

    ``number`` is the machine's own, from 1; ``node_id`` the identity of what runs on it, the same until it joins anew.
    """

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.number = self.node_id = number
        self.name = f"n{number}"
        seed, options = cluster.seed, cluster.options
        shape = stream(seed, "machine", self.name)
        self.wall_offset_ms = shape.randint(*options.clock.wall_offset_ms)
        self.rate_ppm = shape.randint(*options.clock.rate_ppm)
        self.step_cost_ns = shape.randint(*options.clock.step_cost_ns)
        self.host = cluster.fabric.host(self.name)
        self.random = stream(seed, "crash", self.name)
        self.disk = self._new_disk()
        self.checkpoints: CheckpointHost | None = None
        if options.checkpoints:
            self.checkpoints = CheckpointHost(self, stream(seed, "checkpoints", self.name))
        self.buggify: Buggify | None = None
        if options.buggify or options.buggify_always:
            enable = ENABLE if options.buggify else 0.0
            self.buggify = Buggify(seed, self.name, enable, always=options.buggify_always, never=options.buggify_never)
        self.app: App | None = None
        self.clock: NodeClock | None = None
        # The process's way to a witness that is no process.
        self.lane: WitnessLane | None = None
        self.events = Events(self)
        # Exit codes of ended processes, and why starts were refused.
        self.exits: list[int] = []
        self.refusals: list[Exception] = []
        self.starts = 0
        self.wipes = 0
        # Set by an orderly stop that is on its way.
        self._stopping = False
        self._directives: dict[str, str] = {}

    def _new_disk(self, counter: int = 0) -> SimDisk:
        cluster = self.cluster
        name = self.name if counter == 0 else f"{self.name}/{counter}"
        disk = SimDisk(cluster.timeline, cluster.seed, name, cluster.options.disk)
        if cluster.options.disk_faults is not None:
            dice = stream(cluster.seed, "disk-faults", name)
            disk.faults = DiskFaults(disk, self.number, dice, cluster.options.disk_faults, cluster.atlas)
            disk.faults.enabled = cluster.founded
        return disk

    @property
    def running(self) -> bool:
        """A process runs, perhaps paused."""
        return self.app is not None

    # -- beginning ---------------------------------------------------------------------------------------------------

    def found(
        self, book: dict[int, addresses.Address], witness: tuple[int, str] | None = None,
        founding: addresses.Founding | None = None,
    ) -> None:  # fmt: skip
        """Create the data directory of a founding voter, all of it durable, as ``cluster up`` does. ``witness``: id
        and address of one whose state exists; ``founding``: of a group of several.
        """
        clock = self._new_clock()
        self.disk.boot(None)
        store: Store[Entry] = open_store(
            self.disk, clock, NodeRng(stream(self.cluster.seed, "founding", self.name)), DIRECTORY, Entry, _unexpected,
            _ignore, StoreOptions(CLUSTER_ID, self.node_id, reserve_bytes=0,
                                  min_free_bytes=0, segment_bytes=1 << 16),
        )  # fmt: skip
        holder = self.cluster.holder_members
        min_isr = founding_min_isr(self._settings(), len(book)) if holder else 0
        write_bootstrap(store, sorted(book), book, witness, founding, min_isr)
        if holder:
            found_holder(self.disk, {self.node_id: DIRECTORY}, CLUSTER_ID, tuple(holder))
        clock.kill()
        after_power_cut(self.disk, CrashPolicy("nothing"), self.random)
        self.clock = None

    def start(self, power_lasts_calls: int = -1, **directives: str) -> bool:
        """Start a process; False when it refused its directory (see ``refusals``). ``directives`` as in a config file,
        with underscores; they hold for later starts too. ``power_lasts_calls``: so many changing disk calls later the
        power is cut, perhaps in the middle of recovery (-1: it stays).
        """
        assert self.app is None, f"{self.name} runs already"
        self._directives |= {name.replace("_", "-"): text for name, text in directives.items()}
        self.starts += 1
        self._stopping = False
        clock = self.clock = self._new_clock()
        self.disk.boot(clock)
        self.disk.cut_after = power_lasts_calls
        self.host.start(clock)
        self.cluster.timeline.fold("start", self.name, self.starts)
        clock.enter(self._boot)
        return self.running

    def join(self, node_id: int) -> bool:
        """Start on an empty disk as a new member to be, ``node_id``; the leader must be told with CLUSTER ADDNODE."""
        self.node_id = node_id
        return self.start(join="yes")

    def _boot(self) -> None:
        cluster, clock = self.cluster, self.clock
        assert clock is not None
        rng = NodeRng(stream(cluster.seed, "node", self.name, self.starts))
        self.lane = cluster.witness.lane(clock, self.name) if cluster.witness is not None else None
        world = World(
            clock, rng, self.disk, HostNetwork(cluster.fabric, self.name), Process(), self.buggify, self.lane,
            open_kv=None if self.checkpoints is None else self.checkpoints.open_kv,
            spawn=None if self.checkpoints is None else self.checkpoints.spawn,
        )  # fmt: skip
        try:
            self.app = build(world, self._settings(), self.events, self._on_exit, cluster.table(self.number))
        except (StorageError, OSError) as error:
            if not self._disk_was_faulty():
                raise
            self.refusals.append(error)
            cluster.timeline.fold("refused", self.name, type(error).__name__, str(error))
            self._end(getattr(error, "exit_code", 1), power_cut=False)
        else:
            if cluster.options.small_batches:
                _in_small_batches(self.app)

    def _settings(self) -> Settings:
        settings = Settings()
        for name, text in {
            "dir": DIRECTORY,
            "cluster-id": CLUSTER_ID.hex(),
            "node-id": str(self.node_id),
            "port": str(CLIENT_PORT),
            "bind": self.name,
            "reserve-size": "0",
            "min-free": "0",
            "databases": "2",
            "segment-size": "1mb",
            "tick-ms": "50",
            "log-follower-keep": "0",
            "checkpoint-interval": "2",
            "checkpoint-bytes": "64kb",
            **({} if self.cluster.place is None else self.cluster.place.directives),
            **self.cluster.lease_directives(),
            **self.cluster.options.directives,
            **self._directives,
        }.items():
            settings.load(name, text)  # fmt: skip
        if self.checkpoints is not None:
            # Below what a file may say: segments must be sealed, and go, within a run.
            settings.segment_size = _SEGMENT_BYTES
        return settings

    def _new_clock(self) -> NodeClock:
        # Since boot, so never the same for two machines or two incarnations.
        boot_ns = stream(self.cluster.seed, "boot-clock", self.name, self.starts).randrange(1, 10**9) * MS
        return NodeClock(
            self.cluster.timeline, boot_ns, self.wall_offset_ms, self.rate_ppm, self.step_cost_ns,
            self._lost_power, self._failed,
        )  # fmt: skip

    # -- ending ------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Kill the process: the page cache stays, unsynced or not; peers hear of it from the kernel."""
        if self.clock is not None and self.clock.alive:
            self._interrupt()
            self._end(None, power_cut=False)

    def power_cut(self, policy: CrashPolicy | None = None) -> None:
        """Take the power away: the disk keeps what ``policy`` (None: any) says, and nobody hears of it. Also when no
        process runs.
        """
        if self.clock is not None and self.clock.alive:
            self._interrupt()
            self._end(None, power_cut=True)
        self.host.powered = False
        after_power_cut(self.disk, policy if policy is not None else CrashPolicy.draw(self.random), self.random)
        self.cluster.timeline.fold("power-cut", self.name)

    def _interrupt(self) -> None:
        self.disk.interrupt()
        if self.lane is not None:
            self.lane.interrupt()

    def power_cut_in_batch(self, calls: int) -> None:
        """Let the power go when ``calls`` more changing disk calls were made, in the middle of whatever it does."""
        self.disk.cut_after = calls

    def stop(self) -> None:
        """Ask the process to stop as SIGTERM does; it hands over leadership first."""
        app, clock = self.app, self.clock
        if app is not None and clock is not None:
            clock.enter(lambda: app.driver.stop(transfer=True, now=False))

    def wipe(self) -> None:
        """Replace the disk by an empty one; the process must not run."""
        assert self.app is None, f"{self.name} runs; crash it before its disk is replaced"
        self.wipes += 1
        self.disk = self._new_disk(self.wipes)
        if self.checkpoints is not None:
            self.checkpoints.wiped()
        self.cluster.timeline.fold("wipe", self.name)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does; its timers and input are all late when it goes on."""
        if self.clock is not None:
            self.clock.pause()

    def resume(self) -> None:
        """Undo pause()."""
        if self.clock is not None:
            self.clock.resume()

    def step_wall(self, ms: int) -> None:
        """Set the wall clock forward or back; a restart does not set it right."""
        self.wall_offset_ms += ms
        if self.clock is not None:
            self.clock.step_wall(ms)

    def set_rate(self, rate_ppm: int) -> None:
        """Let this machine's clocks run at another rate from now on."""
        self.rate_ppm = rate_ppm
        if self.clock is not None:
            self.clock.set_rate(rate_ppm)

    def _on_exit(self, code: int) -> None:
        if code == EXIT_IO:
            self.exits.append(code)
            raise ProcessEnd
        if self._stopping:
            return
        self._stopping = True
        clock = self.clock
        assert clock is not None
        clock.call_soon(self._close)

    def _close(self) -> None:
        app = self.app
        if app is not None:
            app.close(lambda error: self._end(0 if error is None else EXIT_IO, power_cut=False))

    def _end(self, code: int | None, *, power_cut: bool) -> None:
        """The process is no more."""
        clock = self.clock
        assert clock is not None
        clock.kill()
        if self.checkpoints is not None:
            self.checkpoints.server_died(power_cut=power_cut)
        self.app = None
        self.disk.boot(None)
        self.host.stop(power_cut=power_cut)
        if code is not None:
            self.exits.append(code)
        self.cluster.timeline.fold("end", self.name, code, power_cut)

    def _lost_power(self) -> None:
        self._end(None, power_cut=True)
        self.power_cut()

    def _failed(self, error: BaseException) -> None:
        """A call into the process raised."""
        if isinstance(error, ProcessEnd):
            self._end(None, power_cut=False)
        elif isinstance(error, (OSError, StorageError)) and self._disk_was_faulty():
            self._end(EXIT_BUG, power_cut=False)
        else:
            at_ms = self.cluster.timeline.now_ns // MS
            error.add_note(f"on {self.name}, start {self.starts}, at {at_ms} ms, seed {self.cluster.seed}")
            raise error

    def _disk_was_faulty(self) -> bool:
        faults = self.disk.faults
        return self.wipes > 0 or (faults is not None and bool(faults.injected))

    # -- looking in --------------------------------------------------------------------------------------------------

    def durable_image(self) -> DurableImage:
        """What is on the medium now: what the worst power cut would leave. A view; compare its ``version``."""
        return self.disk.durable_image()


def _in_small_batches(app: App) -> None:
    """What moves between groups goes a few keys at a time, and few of those before an answer."""
    limits = app.engine.places.handoff.limits
    limits.batch_bytes, limits.turn_bytes, limits.window_bytes = _SMALL_BATCH_BYTES, _SMALL_BATCH_BYTES, _WINDOW_BYTES


def _unexpected(error: OSError) -> None:
    raise error


def _ignore(_: str) -> None:
    """A new directory's disk space matters to nobody yet."""
