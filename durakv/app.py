"""The composition root: builds a node from a world and settings. The only code that names every part."""

from __future__ import annotations

from collections.abc import Callable

import raft
from durakv.acl.users import Acl
from durakv.checkpoint.capture import Capture
from durakv.checkpoint.kv import OpenKv
from durakv.commands.acl import build_acl, load_users
from durakv.commands.table import Table, build_table
from durakv.config.rewrite import DiskConfigFile
from durakv.config.settings import Settings
from durakv.engine.beside import Beside
from durakv.engine.engine import Engine
from durakv.engine.places import ONLY_GROUP
from durakv.founding import first_address, open_directory
from durakv.holding import Ports, connect_holder
from durakv.keyspace.keyspace import Keyspace
from durakv.migration.driver import Importer
from durakv.observe.events import Notice, Observer
from durakv.observe.process import ProcessProbe
from durakv.observe.stats import Stats
from durakv.replicas.saving import Saving
from durakv.replicas.serving import Replicas
from durakv.replication import addresses
from durakv.replication.checkpoints import Checkpoints
from durakv.replication.forward import ForwardHub
from durakv.replication.group_log import GroupLog
from durakv.replication.lease_holder import HolderLink
from durakv.replication.lease_node import LeaseNode
from durakv.replication.lease_settings import lease_settings
from durakv.replication.members import UNSYNCED_WITH_WITNESS
from durakv.replication.neighbours import Neighbours
from durakv.replication.node import GroupNode
from durakv.replication.resuming import Resumed, Resuming
from durakv.replication.snapshots import Snapshots
from durakv.replication.transport import Transport
from durakv.server.listener import ClientListener, explained
from durakv.storage.identity import Identity
from durakv.storage.options import SYNC_ALWAYS
from durakv.storage.store import Store
from durakv.witness.parts import WitnessParts
from durakv.world.ports import Buggify, Clock, Disk, Network, OpenObjectStore, Rng, Spawn
from raft.primary_backup.core import PrimaryBackup
from raft.types import Entry, Membership

EXIT_IO = 74
REMOVED = (
    "this node is no longer a member of its group and stops; to have it back, give it an empty directory and add it "
    "under a new node id"
)


# Connects a node's link to a config holder.
ConnectHolder = Callable[[HolderLink], None]
Node = GroupNode | LeaseNode


class World:
    """The ports one node is given."""

    def __init__(
        self, clock: Clock, rng: Rng, disk: Disk, network: Network, process: ProcessProbe,
        buggify: Buggify | None = None, witness_disk: Disk | None = None, open_objects: OpenObjectStore | None = None,
        open_kv: OpenKv | None = None, spawn: Spawn | None = None, holder_disk: Disk | None = None,
        connect_holder: ConnectHolder | None = None,
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
        # Both are needed to keep checkpoints: a store to read them from, and a process that makes them.
        self.open_kv = open_kv
        self.spawn = spawn
        # A lane of its own for a member of the config holder that lives in this process.
        self.holder_disk = holder_disk
        # For lease mode, where the settings do not name a config holder.
        self.connect_holder = connect_holder


class App:
    """One running node and what it needs to be stopped."""

    def __init__(
        self, engine: Engine, driver: Node, store: Store[Entry], transport: Transport, listener: ClientListener
    ) -> None:
        self.engine = engine
        # Of either mode.
        self.driver = driver
        self.store = store
        self.transport = transport
        self.listener = listener

    @property
    def node(self) -> GroupNode:
        """The driver of a node of Raft mode."""
        assert isinstance(self.driver, GroupNode)
        return self.driver

    def close(self, done: Callable[[OSError | None], None]) -> None:
        """Stop taking input, write what waits, then ``done``."""
        self.engine.stopped = True
        self.driver.stopped = True
        if self.driver.checkpoints is not None:
            self.driver.checkpoints.stop()
        self.listener.close()
        self.transport.close()
        self.driver.close()
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

    open_kv = world.open_kv if settings.checkpoints and world.spawn is not None else None
    resuming = None if open_kv is None else Resuming(world.disk, open_kv)
    find_covered = None if resuming is None else resuming.covered
    store = open_directory(world.disk, clock, rng, settings, fatal, level_changed, world.buggify, find_covered)
    identity = store.identity
    engine = _engine(world, settings, observer, identity.node_id, table)
    beside = Beside(engine.applier, engine.table)
    if resuming is not None:
        beside.write_down_slots()
    resumed = _resumed(resuming, engine, beside, identity)
    history, memberships = _history(store, resumed)
    group = _group(settings, engine, memberships[-1][1].context)

    def refresh_disk() -> None:
        engine.disk_refusal = store.health.refusal()
        node.refresh_refusals()
        observer.event(Notice("disk-space", levels[-1]))

    transport = Transport(
        world.network, clock, identity.cluster_id, identity.node_id,
        lambda from_id, kind, payload: node.on_frame(from_id, kind, payload),  # noqa: PLW0108 - not there yet
        lambda peer: node.on_peer_down(peer),  # noqa: PLW0108 - node does not exist yet
        lambda text: observer.event(Notice("peer-refused", text)), group=group,
    )  # fmt: skip
    hub = ForwardHub(engine, transport)
    engine.forwarder = hub
    engine.pubsub.forward = hub.publish
    node, me = _node(world, settings, store, history, engine, transport, hub, group, memberships, observer, fatal)
    engine.consensus = node
    if resumed.capture is not None:
        _keep_checkpoints(world, settings, observer, node, resumed.capture, beside, history)
    _meet_neighbours(node, settings, rng)
    node.members.on_removed = _removed(observer, on_exit)
    node.buggify = transport.buggify = hub.buggify = world.buggify
    engine.room_bytes = int(settings.max_uncommitted_bytes)
    listener = ClientListener(engine, world.network, settings, clock)
    disk_hooks.append(refresh_disk)
    if levels:
        refresh_disk()
    node.stopping, node.check_disk = lambda: on_exit(0), store.health.check
    settings.watch("appendfsync", lambda _: node.follow_appendfsync())
    settings.watch("min-data-copies", lambda _: node.refresh_refusals())
    _listen(transport, listener, settings, me)
    Importer(engine, world.network, clock, world.disk, f"{settings.dir}/import").start()
    engine.start()
    node.start()
    return App(engine, node, store, transport, listener)


def _resumed(resuming: Resuming | None, engine: Engine, beside: Beside, identity: Identity) -> Resumed:
    if resuming is None:
        return Resumed(None, None)
    resumed = resuming.resume(engine, beside, identity)
    resuming.close()
    return resumed


def _history(store: Store[Entry], resumed: Resumed) -> tuple[GroupLog, list[tuple[int, Membership]]]:
    history = GroupLog(store.log, resumed.base)
    return history, history.memberships()


def _group(settings: Settings, engine: Engine, context: bytes) -> int:
    """The id of this node's group, as the newest membership says; its slots become state. Raises ValueError."""
    founding = addresses.decode_founding(context)
    places = engine.places
    group = ONLY_GROUP
    if founding is not None:
        group = founding.group
        if places.is_as_founded():
            places.found(founding.group, founding.slots)
    elif settings.group_id and not context:
        group = int(settings.group_id)
        places.unknown()
    if settings.group_id not in (0, group) or (founding is not None and not settings.cluster_enabled):
        raise ValueError(
            f"{settings.dir} holds a node of group {group}; set group-id {group} and cluster-enabled yes, or choose "
            "another dir"
        )
    return group


def _core(
    world: World, settings: Settings, store: Store[Entry], history: GroupLog, applied: int, group: int,
    memberships: list[tuple[int, Membership]],
) -> raft.Raft:  # fmt: skip
    hard = store.hard.current
    core = raft.Raft(
        raft_config(settings, store.identity.node_id, group, world.buggify),
        history,
        world.rng,
        raft.HardState(hard.term, hard.voted_for, min(hard.commit_hint, store.log.last_index())),
        applied,
        memberships,
    )
    if core.membership.witness_id() and settings.appendfsync != SYNC_ALWAYS:
        raise ValueError(
            f"appendfsync {settings.appendfsync}: {UNSYNCED_WITH_WITNESS}, for at times its disk alone holds a "
            "write; set appendfsync always"
        )
    return core


def _node(
    world: World, settings: Settings, store: Store[Entry], history: GroupLog, engine: Engine, transport: Transport,
    hub: ForwardHub, group: int, memberships: list[tuple[int, Membership]], observer: Observer,
    fatal: Callable[[OSError], None],
) -> tuple[Node, addresses.Address | None]:  # fmt: skip
    """The driver of the group's mode, and what it knows of this node's own address."""
    founded = memberships[-1][1]
    node_id = store.identity.node_id
    if is_lease_mode(settings, founded.context):
        leased = _lease_node(world, settings, store, history, engine, transport, hub, group, founded, observer, fatal)
        return leased, leased.members.book.get(node_id)
    core = _core(world, settings, store, history, engine.applier.applied, group, memberships)
    node = GroupNode(
        core, store.log, store.hard, transport, engine, hub, world.clock, int(settings.tick_ms), settings.log_sync,
        WitnessParts(world.clock, world.rng, world.network, world.witness_disk, world.open_objects),
    )  # fmt: skip
    return node, node_address(core.membership, node_id)


def is_lease_mode(settings: Settings, context: bytes) -> bool:
    """Whether the node runs the lease protocol: for ever as it was founded. Raises ValueError when told otherwise."""
    wanted = str(settings.replication_mode)
    if context:
        founded = "lease" if addresses.decode_min_isr(context) else "raft"
        if founded != wanted:
            raise ValueError(
                f"{settings.dir} holds a node of a group founded in {founded} mode, and replication-mode is {wanted}; "
                f"set replication-mode {founded}, or choose another dir: a group's mode never changes"
            )
    return wanted == "lease"


def _lease_node(
    world: World, settings: Settings, store: Store[Entry], history: GroupLog, engine: Engine, transport: Transport,
    hub: ForwardHub, group: int, founded: Membership, observer: Observer, fatal: Callable[[OSError], None],
) -> LeaseNode:  # fmt: skip
    if settings.appendfsync != SYNC_ALWAYS or not settings.checkpoints:
        raise ValueError(
            "lease mode needs appendfsync always (an acknowledgement is a promise) and checkpoints yes (members are "
            "rebuilt from one)"
        )
    hard = store.hard.current
    promised = raft.HardState(hard.term, hard.voted_for, min(hard.commit_hint, store.log.last_index()))
    numbers = lease_settings(settings, store.identity.node_id, group)
    core = PrimaryBackup(numbers, history, world.rng, promised, engine.applier.applied)
    link = HolderLink()
    min_isr = addresses.decode_min_isr(founded.context) if founded.context else 1
    node = LeaseNode(
        core, store.log, store.hard, transport, engine, hub, world.clock, int(settings.tick_ms), settings.log_sync,
        world.disk, str(settings.dir), founded, min_isr, link,
    )  # fmt: skip
    if world.connect_holder is not None:
        world.connect_holder(link)
    else:
        ports = Ports(world.clock, world.rng, world.holder_disk or world.disk, world.network)
        connect_holder(ports, settings, store.identity, numbers.holder_timeout_ns // 1_000_000, link, observer, fatal)
    return node


def _keep_checkpoints(
    world: World, settings: Settings, observer: Observer, node: Node, capture: Capture, beside: Beside,
    history: GroupLog,
) -> None:  # fmt: skip
    assert world.spawn is not None
    assert world.open_kv is not None
    checkpoints = Checkpoints(
        node.engine, capture, node.log, world.disk, world.clock, observer, settings, world.spawn, world.open_kv,
        node.transport.cluster_id,
    )  # fmt: skip
    snapshots = Snapshots(checkpoints, beside, history, world.disk, world.clock, world.open_kv)
    node.checkpoints, history.snapshots = checkpoints, snapshots
    node.snapshots = node.writing.snapshots = snapshots
    snapshots.start()
    checkpoints.start()
    replicas = Replicas(node.engine, checkpoints, f"{settings.dir}/replicas")
    replicas.start()
    saving = Saving(node.engine, checkpoints)
    node.engine.replicas, node.engine.saving = replicas, saving
    checkpoints.on_stop = [replicas.stop, saving.stop]


def _meet_neighbours(node: Node, settings: Settings, rng: Rng) -> None:
    if settings.cluster_enabled:
        seeds = [(seed.rpartition(":")[0], int(seed.rpartition(":")[2])) for seed in settings.cluster_seeds]
        node.neighbours = Neighbours(node, rng, seeds)


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
    # Never fewer than outside cluster mode: the log may say so. Who may select them is judged elsewhere.
    ks = Keyspace(max(settings.databases, settings.database_count()))
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


def raft_config(
    settings: Settings, node_id: int, group: int = ONLY_GROUP, buggify: Buggify | None = None
) -> raft.Config:
    """Raft's numbers from the directives; the drift bound is taken off the lease here."""
    tick_ms = int(settings.tick_ms)
    election_ticks = max(2, int(settings.election_timeout_ms) // tick_ms)
    # A voter counts ticks from an arbitrary point inside one, so its promise is a tick shorter than the timeout.
    promise_ns = (election_ticks - 1) * tick_ms * 1_000_000
    rho = settings.clock_drift_bound / 1_000_000
    config = raft.Config(
        node_id,
        group=group,
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
