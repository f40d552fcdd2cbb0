"""Whole nodes in one process: one event queue, a network of byte streams and disks that lose what was not synced.

Everything is decided by one seed. Rule: nodes are built by durakv.app.build and touched only through their ports.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

from durakv.app import App, ConnectHolder, World, build
from durakv.commands.table import build_table
from durakv.config.settings import Settings
from durakv.engine.entry import stamp
from durakv.founding import write_bootstrap
from durakv.replication import addresses
from durakv.storage.options import LogOptions
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.ports import StreamHandler, Timer
from raft.types import Entry
from tests.engine.rig import Events, Probe
from tests.storage.sim_disk import SimDisk

CLUSTER = bytes(range(16))
CLIENT_PORT = 7000
PEER_PORT = 17000
MS = 1_000_000
TABLE = build_table()


class Time:
    """The one queue of everything that will happen."""

    def __init__(self) -> None:
        self.now_ns = 10**12
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0

    def at(self, delay_ns: int, fn: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now_ns + delay_ns, self.count, fn))

    def run(self, ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Let ``ms`` pass, or less when ``until`` comes true; returns whether it did."""
        end = self.now_ns + ms * MS
        while self.queue and self.queue[0][0] <= end:
            self.now_ns, _, fn = heapq.heappop(self.queue)
            fn()
            if until is not None and until():
                return True
        self.now_ns = end
        return False


class SimTimer:
    def __init__(self) -> None:
        self.live = True

    def cancel(self) -> None:
        self.live = False


class NodeClock:
    """A node's clock: its wall may be off, and nothing of a crashed node runs any more."""

    def __init__(self, time: Time, skew_ms: int) -> None:
        self.time = time
        self.skew_ms = skew_ms
        self.alive = True

    def monotonic_ns(self) -> int:
        return self.time.now_ns

    def raw_ns(self) -> int:
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.skew_ms + self.time.now_ns // MS

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        timer = SimTimer()

        def fire() -> None:
            if timer.live and self.alive:
                fn()

        self.time.at(int(delay_ms * MS), fire)
        return timer

    def call_soon(self, fn: Callable[[], None]) -> None:
        self.call_later(0, fn)


class NodeRng:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def below(self, n: int) -> int:
        return self.random.randrange(n)

    def bits64(self) -> int:
        return self.random.getrandbits(64)

    def token(self, nbytes: int) -> bytes:
        return self.random.randbytes(nbytes)


class TimedDisk(SimDisk):
    """Lane jobs take time; ``delay_ms`` is how much at most."""

    def __init__(self) -> None:
        super().__init__()
        self.time: Time
        self.random: Random
        self.clock: NodeClock
        self.delay_ms = 2.0
        self.running = False

    def attach(self, time: Time, random: Random, clock: NodeClock) -> None:
        self.time, self.random, self.clock = time, random, clock

    def submit(self, job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        super().submit(job, done)
        self._next()

    def _next(self) -> None:
        if self.running or not self.jobs:
            return
        self.running = True
        clock = self.clock

        def fire() -> None:
            if clock.alive:
                self.running = False
                self.run_one()
                self._next()

        self.time.at(int(self.random.random() * self.delay_ms * MS), fire)

    @staticmethod
    def over(disk: SimDisk) -> TimedDisk:
        timed = TimedDisk()
        timed.names, timed.durable_names, timed.folders = disk.names, disk.durable_names, disk.folders
        return timed


class End:
    """One end of a stream. Bytes arrive in order, late, in pieces, or not at all once it is reset."""

    def __init__(self, fabric: Fabric, host: str, other: str, port: int) -> None:
        self.fabric = fabric
        self.host = host
        self.other = other
        self.port = port
        self.peer: End
        self.handler: StreamHandler | None = None
        self.closed = False
        self.paused = False
        self.inbox: list[bytes] = []
        self.arrives_ns = 0

    def write(self, data: bytes) -> None:
        if self.closed or not data:
            return
        fabric, peer = self.fabric, self.peer
        data = bytes(data)
        while data:
            size = len(data) if fabric.random.random() < 0.7 else fabric.random.randint(1, len(data))
            piece, data = data[:size], data[size:]
            self._later(partial(peer.arrive, piece))

    def _later(self, fn: Callable[[], None]) -> None:
        time = self.fabric.time
        self.arrives_ns = max(time.now_ns + self.fabric.delay_ns(), self.arrives_ns + 1)
        time.at(self.arrives_ns - time.now_ns, lambda: self._deliver(fn))

    def _deliver(self, fn: Callable[[], None]) -> None:
        if self.fabric.is_cut(self.host, self.other):
            # As TCP does: sent again until the path is back or the stream is given up.
            self.fabric.held.setdefault(self, []).append(fn)
        else:
            fn()

    def arrive(self, data: bytes) -> None:
        if self.closed or self.handler is None:
            self._later(lambda: self.peer.end(ConnectionResetError("reset by peer")))
            return
        if self.paused:
            self.inbox.append(data)
        else:
            self.handler.on_data(data)

    def write_buffer_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Everything written arrives, then the peer hears of the end."""
        if not self.closed:
            self._later(lambda: self.peer.end(None))
            self.end(None)

    def abort(self) -> None:
        if not self.closed:
            self._later(lambda: self.peer.end(ConnectionResetError("reset by peer")))
            self.end(ConnectionAbortedError("aborted"))

    def end(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        self.fabric.ends.pop(self, None)
        handler = self.handler
        self.handler = None
        if handler is not None and self.fabric.up(self.host):
            incarnation = self.fabric.incarnations.get(self.host)

            def tell() -> None:
                if self.fabric.incarnations.get(self.host) == incarnation and self.fabric.up(self.host):
                    handler.on_close(error)

            self.fabric.time.at(0, tell)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        waiting, self.inbox = self.inbox, []
        for data in waiting:
            self.fabric.time.at(0, partial(self.arrive, data))

    def peer_address(self) -> tuple[str, int]:
        return (self.other, 1)

    def local_address(self) -> tuple[str, int]:
        return (self.host, self.port)


class SimListener:
    def __init__(self, fabric: Fabric, key: tuple[str, int]) -> None:
        self.fabric = fabric
        self.key = key

    def port(self) -> int:
        return self.key[1]

    def close(self) -> None:
        self.fabric.listeners.pop(self.key, None)


class Fabric:
    """All hosts' streams."""

    def __init__(self, time: Time, random: Random) -> None:
        self.time = time
        self.random = random
        self.listeners: dict[tuple[str, int], Callable[[], StreamHandler]] = {}
        self.ends: dict[End, None] = {}
        self.held: dict[End, list[Callable[[], None]]] = {}
        self.cuts: dict[tuple[str, str], None] = {}
        self.incarnations: dict[str, int] = {}
        self.down: dict[str, None] = {}
        self.delay_max_ms = 2.0

    def delay_ns(self) -> int:
        return int(self.random.random() * self.delay_max_ms * MS) + 1000

    def up(self, host: str) -> bool:
        return host not in self.down

    def is_cut(self, a: str, b: str) -> bool:
        return (a, b) in self.cuts

    def cut(self, a: str, b: str) -> None:
        self.cuts[a, b] = None

    def heal(self) -> None:
        self.cuts.clear()
        held, self.held = self.held, {}
        for end, waiting in held.items():
            for fn in waiting:
                end._later(fn)

    def reset(self, choose: Callable[[End], bool]) -> None:
        """Break streams; both ends hear of it, at different times and perhaps much later."""
        for chosen in list(self.ends):
            if choose(chosen):
                for end in (chosen, chosen.peer):
                    wait_ns = self.delay_ns() * self.random.choice((1, 1, 20, 200))
                    self.time.at(wait_ns, partial(end.end, ConnectionResetError("reset")))

    def connect(self, host: str, to: str, port: int, handler: StreamHandler, timeout_ms: int) -> None:
        incarnation = self.incarnations.get(host)

        def same() -> bool:
            return self.up(host) and self.incarnations.get(host) == incarnation

        def arrive() -> None:
            if not same():
                return
            factory = self.listeners.get((to, port))
            if factory is None or not self.up(to) or self.is_cut(host, to) or self.is_cut(to, host):
                refused = ConnectionRefusedError("refused")
                wait_ns = timeout_ms * MS if self.is_cut(host, to) else self.delay_ns()
                self.time.at(wait_ns, lambda: handler.on_close(refused) if same() else None)
                return
            mine, theirs = End(self, host, to, port), End(self, to, host, port)
            mine.peer, theirs.peer = theirs, mine
            mine.handler, theirs.handler = handler, factory()
            self.ends[mine] = self.ends[theirs] = None
            theirs.handler.on_open(theirs)
            self.time.at(self.delay_ns(), lambda: handler.on_open(mine) if same() and not mine.closed else None)

        self.time.at(self.delay_ns(), arrive)


class HostNetwork:
    """The network as one host sees it."""

    def __init__(self, fabric: Fabric, host: str) -> None:
        self.fabric = fabric
        self.host = host

    def listen(self, host: str, port: int, factory: Callable[[], StreamHandler], tls: str | None = None) -> SimListener:
        assert (self.host, port) not in self.fabric.listeners
        self.fabric.listeners[self.host, port] = factory
        return SimListener(self.fabric, (self.host, port))

    def connect(self, host: str, port: int, handler: StreamHandler, timeout_ms: int, tls: str | None = None) -> None:
        self.fabric.connect(self.host, host, port, handler, timeout_ms)


class Machine:
    """A host with a disk, on which a node is started and crashed."""

    def __init__(self, cluster: SimCluster, node_id: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.host = f"n{node_id}"
        self.disk = TimedDisk()
        self.app: App | None = None
        self.clock: NodeClock
        self.exits: list[int] = []
        self.starts = 0

    def found(self, book: dict[int, addresses.Address]) -> None:
        """Create the data directory as ``cluster up`` does."""
        clock = self._clock()
        store: Store[Entry] = open_store(
            self.disk, clock, NodeRng(self.node_id), "/data", Entry, self._fatal, lambda level: None,
            StoreOptions(CLUSTER, self.node_id, log=LogOptions(stamp=stamp), reserve_bytes=0, min_free_bytes=0),
        )  # fmt: skip
        write_bootstrap(store, sorted(book), book, min_isr=self.cluster.min_isr)
        clock.alive = False
        self.disk = TimedDisk.over(self.disk.after_crash("none"))

    def _clock(self) -> NodeClock:
        cluster = self.cluster
        self.clock = NodeClock(cluster.time, cluster.random.randint(-300, 300))
        self.disk.attach(cluster.time, cluster.random, self.clock)
        return self.clock

    def _fatal(self, error: OSError) -> None:
        raise AssertionError(f"the disk failed: {error}")

    def start(self) -> None:
        fabric = self.cluster.fabric
        fabric.down.pop(self.host, None)
        self.starts += 1
        fabric.incarnations[self.host] = self.starts
        settings = Settings()
        for name, text in {
            "dir": "/data",
            "port": str(CLIENT_PORT),
            "bind": self.host,
            "reserve-size": "0",
            "min-free": "0",
            "databases": "2",
            "segment-size": "1mb",
            **self.cluster.directives,
        }.items():
            settings.load(name, text)  # fmt: skip
        rng = NodeRng(self.cluster.random.getrandbits(32))
        clock = self._clock()
        world = World(
            clock, rng, self.disk, HostNetwork(fabric, self.host), Probe(),
            connect_holder=self.cluster.connect_holder(self, clock),
        )  # fmt: skip
        self.events = Events()
        self.app = build(world, settings, self.events, self.exits.append, TABLE)

    def crash(self, mode: str) -> None:
        """Stop in mid-air; what the disk keeps depends on ``mode`` (see SimDisk.after_crash)."""
        fabric = self.cluster.fabric
        self.clock.alive = False
        self.app = None
        fabric.down[self.host] = None
        for key in [key for key in fabric.listeners if key[0] == self.host]:
            del fabric.listeners[key]
        for end in [end for end in fabric.ends if end.host == self.host]:
            end._later(partial(end.peer.end, ConnectionResetError("the host crashed")))
            end.closed = True
            fabric.ends.pop(end, None)
        delay_ms = self.disk.delay_ms
        self.disk = TimedDisk.over(self.disk.after_crash(mode, self.cluster.random.getrandbits(32)))
        self.disk.delay_ms = delay_ms


class SimCluster:
    """Three machines and what happens between them."""

    # Of lease mode; see lease_sim.py.
    min_isr = 0

    def __init__(self, seed: int, **directives: str) -> None:
        self.random = Random(seed)
        self.time = Time()
        self.fabric = Fabric(self.time, self.random)
        self.directives = {name.replace("_", "-"): text for name, text in directives.items()}
        self.machines = [Machine(self, n) for n in (1, 2, 3)]
        book = {m.node_id: addresses.Address(m.host, CLIENT_PORT, PEER_PORT) for m in self.machines}
        for machine in self.machines:
            machine.found(book)
            machine.start()

    def connect_holder(self, machine: Machine, clock: NodeClock) -> ConnectHolder | None:
        """What lease mode is given for a config holder."""
        return None

    def leader(self) -> Machine | None:
        leading = [m for m in self.machines if m.app is not None and m.app.engine.leading]
        return max(leading, key=lambda m: m.app.engine.term) if leading else None  # type: ignore[union-attr]

    def wait_leader(self, ms: int = 20_000) -> Machine:
        def found() -> bool:
            machine = self.leader()
            return machine is not None and 0 < machine.app.engine.term_start < 1 << 60  # type: ignore[union-attr]

        assert found() or self.time.run(ms, found), "no leader"
        machine = self.leader()
        assert machine is not None
        return machine
