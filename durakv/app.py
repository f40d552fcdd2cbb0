"""The composition root: builds a node from a world and settings. The only code that names every part."""

from __future__ import annotations

from collections.abc import Callable

import raft
from durakv.acl.users import Acl
from durakv.commands.acl import build_acl, load_users
from durakv.commands.table import Table, build_table
from durakv.config.rewrite import DiskConfigFile
from durakv.config.settings import Settings
from durakv.engine.engine import Engine
from durakv.founding import GROUP_ID, first_address, open_directory
from durakv.keyspace.keyspace import Keyspace
from durakv.observe.events import Notice, Observer
from durakv.observe.process import ProcessProbe
from durakv.observe.stats import Stats
from durakv.replication import addresses
from durakv.replication.forward import ForwardHub
from durakv.replication.members import UNSYNCED_WITH_WITNESS
from durakv.replication.node import GroupNode
from durakv.replication.transport import Transport
from durakv.server.listener import ClientListener, explained
from durakv.storage.log import SYNC_ALWAYS
from durakv.storage.store import Store
from durakv.witness.parts import WitnessParts
from durakv.world.ports import Buggify, Clock, Disk, Network, OpenObjectStore, Rng
from raft.types import Entry, Membership

EXIT_IO = 74
REMOVED = (
    "this node is no longer a member of its group and stops; to have it back, give it an empty directory and add it "
    "under a new node id"
)


class World:
    """The ports one node is given."""

    def __init__(
        self, clock: Clock, rng: Rng, disk: Disk, network: Network, process: ProcessProbe,
        buggify: Buggify | None = None, witness_disk: Disk | None = None, open_objects: OpenObjectStore | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.rng = rng
        self.disk = disk
        self.network = network
        self.process = process
        self.buggify = buggify
        # A lane of its own for a witness kept as a file or an object, which may block for seconds.
        self.witness_disk = witness_disk
        self.open_objects = open_objects


class App:
    """One running node and what it needs to be stopped."""

    def __init__(
        self, engine: Engine, node: GroupNode, store: Store[Entry], transport: Transport, listener: ClientListener
    ) -> None:
        self.engine = engine
        self.node = node
        self.store = store
        self.transport = transport
        self.listener = listener

    def close(self, done: Callable[[OSError | None], None]) -> None:
        """Stop taking input, write what waits, then ``done``."""
        self.engine.stopped = True
        self.node.stopped = True
        self.listener.close()
        self.transport.close()
        self.node.witness.close()
        self.store.close(done)


def build(
    world: World, settings: Settings, observer: Observer, on_exit: Callable[[int], None], table: Table | None = None
) -> App:
    """Open the data directory and connect all parts. Raises StorageError, OSError (ports), ValueError (settings)."""
    clock, rng = world.clock, world.rng

    def fatal(error: OSError) -> None:
        observer.event(Notice("storage-failed", f"{error}; exit 74: check the disk before starting again"))
        on_exit(EXIT_IO)

    levels: list[str] = []
    disk_hooks: list[Callable[[], None]] = []

    def level_changed(level: str) -> None:
        levels.append(level)
        # Space may already be short while the store opens; the engine hears of it once it exists.
        for hook in disk_hooks:
            hook()

    store = open_directory(world.disk, clock, rng, settings, fatal, level_changed, world.buggify)
    identity = store.identity
    engine = _engine(world, settings, observer, identity.node_id, table)

    def refresh_disk() -> None:
        engine.disk_refusal = store.health.refusal()
        node.refresh_refusals()
        observer.event(Notice("disk-space", levels[-1]))

    transport = Transport(
        world.network, clock, identity.cluster_id, identity.node_id,
        lambda from_id, kind, payload: node.on_frame(from_id, kind, payload),  # noqa: PLW0108 - not there yet
        lambda peer: node.on_peer_down(peer),  # noqa: PLW0108 - node does not exist yet
        lambda text: observer.event(Notice("peer-refused", text)),
    )  # fmt: skip
    hub = ForwardHub(engine, transport)
    engine.forwarder = hub
    engine.pubsub.forward = hub.publish
    hard = store.hard.current
    core = raft.Raft(
        raft_config(settings, identity.node_id, world.buggify),
        store.log,
        rng,
        raft.HardState(hard.term, hard.voted_for, min(hard.commit_hint, store.log.last_index())),
    )
    if core.membership.witness_id() and settings.appendfsync != SYNC_ALWAYS:
        raise ValueError(
            f"appendfsync {settings.appendfsync}: {UNSYNCED_WITH_WITNESS}, for at times its disk alone holds a "
            "write; set appendfsync always"
        )
    node = GroupNode(
        core, store.log, store.hard, transport, engine, hub, clock, int(settings.tick_ms), settings.log_sync,
        WitnessParts(clock, rng, world.network, world.witness_disk, world.open_objects),
    )  # fmt: skip
    engine.consensus = node
    node.buggify = transport.buggify = hub.buggify = world.buggify
    engine.room_bytes = int(settings.max_uncommitted_bytes)
    listener = ClientListener(engine, world.network, settings, clock)
    disk_hooks.append(refresh_disk)
    if levels:
        refresh_disk()
    node.stopping, node.check_disk = lambda: on_exit(0), store.health.check
    settings.watch("appendfsync", lambda _: node.follow_appendfsync())
    settings.watch("min-data-copies", lambda _: node.refresh_refusals())

    node.members.on_removed = _removed(observer, on_exit)
    _listen(transport, listener, settings, node_address(core.membership, identity.node_id))
    engine.start()
    node.start()
    return App(engine, node, store, transport, listener)


def _removed(observer: Observer, on_exit: Callable[[int], None]) -> Callable[[], None]:
    def stop() -> None:
        observer.event(Notice("removed", REMOVED))
        on_exit(0)

    return stop


def _engine(world: World, settings: Settings, observer: Observer, node_id: int, table: Table | None) -> Engine:
    clock, rng = world.clock, world.rng
    table = table if table is not None else build_table()
    stats = Stats()
    stats.started_ms = clock.wall_ms()
    stats.run_id = rng.token(20).hex()
    stats.memory_startup_bytes = world.process.rss_bytes()
    acl: Acl = build_acl(settings, table, rng)
    ks = Keyspace(settings.databases)
    settings.files = DiskConfigFile(world.disk)
    load_users(settings, acl)
    engine = Engine(settings, table, clock, rng, ks, stats, acl, observer, world.process, node_id)
    settings.watch("notify-keyspace-events", lambda _: engine.set_notify())
    engine.set_notify()
    return engine


def _listen(transport: Transport, listener: ClientListener, settings: Settings, me: addresses.Address | None) -> None:
    """Open the peer port the group knows (before it knows one: the configured), then the client ports."""
    host, port = first_address(settings), me.peer_port if me is not None else settings.effective_peer_port()
    try:
        transport.listen(host, port)
    except OSError as e:
        raise explained(e, host, port, "peer-port") from None
    listener.listen()


def node_address(membership: Membership, node_id: int) -> addresses.Address | None:
    """What the group's address book says of this node; None before it has heard of a membership."""
    return addresses.decode(membership.context).get(node_id) if membership.context else None


def raft_config(settings: Settings, node_id: int, buggify: Buggify | None = None) -> raft.Config:
    """Raft's numbers from the directives; the drift bound is taken off the lease here."""
    tick_ms = int(settings.tick_ms)
    election_ticks = max(2, int(settings.election_timeout_ms) // tick_ms)
    # A voter counts ticks from an arbitrary point inside one, so its promise is a tick shorter than the timeout.
    promise_ns = (election_ticks - 1) * tick_ms * 1_000_000
    rho = settings.clock_drift_bound / 1_000_000
    config = raft.Config(
        node_id,
        group=GROUP_ID,
        election_ticks=election_ticks,
        heartbeat_ticks=max(1, int(settings.heartbeat_interval_ms) // tick_ms),
        lease_reads=settings.reads == "lease",
        lease_ns=int(promise_ns * (1 - rho) / (1 + rho)) - 5_000_000,
        promise_ns=promise_ns,
        max_uncommitted_bytes=int(settings.max_uncommitted_bytes),
        max_committed_bytes_per_ready=1 << 20,
        lazy_commit=True,
    )
    if buggify is not None:
        if buggify("one-entry-appends"):
            config.max_size_per_msg = 1
        if buggify("one-append-in-flight"):
            config.max_inflight_msgs = 1
        if buggify("one-entry-applied-at-once"):
            config.max_committed_bytes_per_ready = 1
        if buggify("little-uncommitted"):
            config.max_uncommitted_bytes = 1
    return config
