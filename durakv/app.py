"""The composition root: builds a node from a world and settings. The only code that names every part."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable

import uvloop

import durakv
import raft
from durakv.commands.table import Table, build_table
from durakv.commands.acl import build_acl
from durakv.config.load import load
from durakv.config.rewrite import DiskConfigFile
from durakv.config.settings import ConfigError, Settings
from durakv.engine.engine import Engine
from durakv.engine.entry import HEADER
from durakv.keyspace.keyspace import Keyspace
from durakv.observe.events import Event, Notice, Observer
from durakv.observe.log import LineLog
from durakv.observe.process import ProcessProbe
from durakv.observe.stats import Stats
from durakv.replication import addresses
from durakv.replication.forward import ForwardHub
from durakv.replication.node import GroupNode
from durakv.replication.transport import KIND_RAFT, Transport
from durakv.server.listener import ClientListener
from durakv.storage.errors import StorageError
from durakv.storage.log import LogOptions
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.ports import Clock, Disk, Network, Rng
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_network import RealNetwork
from durakv.world.real_process import RealProcess
from durakv.world.real_rng import RealRng
from raft.types import Entry, Membership

EXIT_USAGE = 1
EXIT_IO = 74
EXIT_BUG = 70


class World:
    """The ports one node is given."""

    def __init__(self, clock: Clock, rng: Rng, disk: Disk, network: Network, process: ProcessProbe) -> None:
        self.clock = clock
        self.rng = rng
        self.disk = disk
        self.network = network
        self.process = process


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
        self.store.close(done)


def build(
    world: World, settings: Settings, observer: Observer, on_exit: Callable[[int], None], table: Table | None = None
) -> App:
    """Open the data directory and connect all parts. Raises StorageError, OSError (ports), ValueError (settings)."""
    clock, rng = world.clock, world.rng
    directory = str(settings.dir)

    def fatal(error: OSError) -> None:
        observer.event(Notice("storage-failed", f"{error}; exit 74: check the disk before starting again"))
        on_exit(EXIT_IO)

    levels: list[str] = []

    def level_changed(level: str) -> None:
        levels.append(level)
        refresh_disk()

    store = _open(world, settings, fatal, level_changed)
    identity = store.identity
    ks = Keyspace(int(settings.databases))
    stats = Stats()
    table = table if table is not None else build_table()
    acl = build_acl(settings, table, rng)
    engine = Engine(settings, table, clock, rng, ks, stats, acl, observer, world.process, identity.node_id)
    settings.watch("notify-keyspace-events", lambda name: engine.set_notify())
    engine.set_notify()
    settings.files = DiskConfigFile(world.disk)
    stats.started_ms = clock.wall_ms()
    stats.run_id = rng.token(20).hex()
    stats.memory_startup_bytes = world.process.rss_bytes()

    def refresh_disk() -> None:
        engine.disk_refusal = store.health.refusal()
        engine.update_refusals(False, False)
        observer.event(Notice("disk-space", levels[-1]))

    transport = Transport(
        world.network, clock, identity.cluster_id, identity.node_id,
        lambda from_id, kind, payload: (
            node.on_raft_frame(from_id, payload) if kind == KIND_RAFT else hub.on_frame(from_id, kind, payload)
        ),
        lambda peer: node.on_peer_down(peer),
        lambda text: observer.event(Notice("peer-refused", text)),
    )  # fmt: skip
    hub = ForwardHub(engine, transport)
    engine.forwarder = hub
    engine.pubsub.forward = hub.publish
    hard = store.hard.current
    core = raft.Raft(
        raft_config(settings, identity.node_id),
        store.log,
        rng,
        raft.HardState(hard.term, hard.voted_for, min(hard.commit_hint, store.log.last_index())),
    )
    node = GroupNode(
        core, store.log, store.hard, transport, engine, hub, clock, int(settings.tick_ms),
        settings.log_sync == "inline",
    )  # fmt: skip
    engine.consensus = node
    engine.room_bytes = int(settings.max_uncommitted_bytes)
    listener = ClientListener(engine, world.network, settings, clock)
    node.stopping = lambda: on_exit(0)
    node.check_disk = store.health.check

    def removed() -> None:
        observer.event(Notice("removed", "this node is no longer a member; it stops"))
        on_exit(0)

    node.on_removed = removed
    me = node_address(core.membership, identity.node_id)
    peer_port = me.peer_port if me is not None else settings.effective_peer_port()
    transport.listen(first_address(settings), peer_port)
    listener.listen()
    engine.start()
    node.start()
    return App(engine, node, store, transport, listener)


def first_address(settings: Settings) -> str:
    """The address peers are listened for on: the first of ``bind``."""
    first = settings.bind[0].removeprefix("-") if settings.bind else "0.0.0.0"  # noqa: S104 - bind "" means all
    return "0.0.0.0" if first == "*" else first  # noqa: S104 - only where the user asked for it


def node_address(membership: Membership, node_id: int) -> addresses.Address | None:
    """What the group's address book says of this node; None before it has heard of a membership."""
    return addresses.decode(membership.context).get(node_id) if membership.context else None


def raft_config(settings: Settings, node_id: int) -> raft.Config:
    """Raft's numbers from the directives; the drift bound is taken off the lease here."""
    tick_ms = int(settings.tick_ms)
    election_ticks = max(2, int(settings.election_timeout_ms) // tick_ms)
    # A voter counts ticks from an arbitrary point inside one, so its promise is a tick shorter than the timeout.
    promise_ns = (election_ticks - 1) * tick_ms * 1_000_000
    rho = settings.clock_drift_bound / 1_000_000
    return raft.Config(
        node_id,
        election_ticks=election_ticks,
        heartbeat_ticks=max(1, int(settings.heartbeat_interval_ms) // tick_ms),
        lease_reads=settings.reads == "lease",
        lease_ns=int(promise_ns * (1 - rho) / (1 + rho)) - 5_000_000,
        promise_ns=promise_ns,
        max_uncommitted_bytes=int(settings.max_uncommitted_bytes),
        max_committed_bytes_per_ready=1 << 20,
    )


def stamp(data: bytes) -> tuple[int, int]:
    """(now_ms, item count) of an entry's payload, for the frame header."""
    header = HEADER.unpack_from(data)
    return header[4], header[3]


def _open(
    world: World, settings: Settings, fatal: Callable[[OSError], None], on_level: Callable[[str], None]
) -> Store[Entry]:
    directory = str(settings.dir)
    fresh = not world.disk.exists(f"{directory}/IDENTITY")
    cluster_id = bytes.fromhex(settings.cluster_id) if settings.cluster_id else None
    node_id = int(settings.node_id) or None
    alone = fresh and cluster_id is None
    if alone:
        cluster_id, node_id = world.rng.token(16), node_id or 1
    options = StoreOptions(
        cluster_id,
        node_id,
        known_member=fresh and not alone and not settings.join,
        log=LogOptions(sync=str(settings.appendfsync), stamp=stamp),
        segment_bytes=int(settings.segment_size),
        min_free_bytes=int(settings.min_free),
        reserve_bytes=int(settings.reserve_size),
    )
    store: Store[Entry] = open_store(
        world.disk, world.clock, world.rng, directory, Entry, fatal, on_level, options
    )
    if alone:
        assert node_id is not None
        host = settings.cluster_announce_ip or first_address(settings)
        port = settings.cluster_announce_port or settings.port
        book = {node_id: addresses.Address(host, port, settings.effective_peer_port())}
        write_bootstrap(store, [node_id], book)
        store.log.set_sync(settings.appendfsync)
    elif store.log.last_index() == 0 and not settings.join:
        raise StorageError(
            f"{directory}: was never fully bootstrapped; remove it and run 'durakv cluster up' again, or join with --join yes"
        )
    return store


def write_bootstrap(store: Store[Entry], voters: list[int], book: dict[int, addresses.Address]) -> None:
    """Give a new directory its first entry and hard state, synced before this returns."""
    hard, entry = raft.bootstrap(Membership(voters=voters, context=addresses.encode(book)))
    store.log.set_sync("always")
    if not store.log.append_inline([entry]):
        raise OSError("the first log entry could not be written; check the disk")
    error = store.hard.write_inline(store.hard.current.voted(hard.term, hard.vote, 1, 1))
    if error is not None:
        raise error


def bootstrap_cluster(dirs: list[str], members: list[tuple[int, str, int, int]], cluster_id: bytes | None = None) -> str:
    """Create the data directories of a new group; returns its cluster id in hex.

    ``members``: (node_id, host, client_port, peer_port), one per directory. Raises StorageError, OSError.
    """
    loop = asyncio.new_event_loop()
    rng = RealRng()
    cluster_id = cluster_id or rng.token(16)
    book = {node_id: addresses.Address(host, port, peer) for node_id, host, port, peer in members}

    def fatal(error: OSError) -> None:
        raise error

    try:
        for directory, (node_id, _, _, _) in zip(dirs, members, strict=True):
            disk = RealDisk(loop.call_soon_threadsafe)
            clock = RealClock(loop)
            store: Store[Entry] = open_store(
                disk, clock, rng, directory, Entry, fatal, lambda level: None,
                StoreOptions(cluster_id, node_id, reserve_bytes=0),
            )  # fmt: skip
            write_bootstrap(store, [m[0] for m in members], book)
            closed: asyncio.Future[OSError | None] = loop.create_future()
            store.close(closed.set_result)
            error = loop.run_until_complete(closed)
            disk.close()
            if error is not None:
                raise error
    finally:
        loop.close()
    return cluster_id.hex()


def read_text(path: str) -> str:
    """A configuration file's text; ``-`` is standard input. Raises OSError."""
    if path == "-":
        return sys.stdin.read()
    with open(path, encoding="utf-8") as file:
        return file.read()


def write_line(text: str) -> None:
    """One line of the log to standard output."""
    sys.stdout.write(text)
    sys.stdout.flush()


def run_server(argv: list[str]) -> int:
    """``durakv server [conf] [--directive value ...]``: run one node until it is told to stop; the exit code."""
    try:
        settings = load(argv, read_text)
    except ConfigError as e:
        print(f"durakv: {e}", file=sys.stderr)
        return EXIT_USAGE
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    exit_code: list[int] = []

    def stop(code: int) -> None:
        if not exit_code:
            exit_code.append(code)
        if code == EXIT_IO:
            # The page cache can no longer be believed: nothing may run after this, not even a flush.
            os._exit(EXIT_IO)
        loop.stop()

    clock = RealClock(loop)
    disk = RealDisk(loop.call_soon_threadsafe)
    log = LineLog(settings, clock, settings.node_id, write_line)
    world = World(clock, RealRng(), disk, RealNetwork(loop), RealProcess())
    try:
        app = build(world, settings, log, stop)
    except (StorageError, OSError, ValueError) as e:
        print(f"durakv: {e}", file=sys.stderr)
        return getattr(e, "exit_code", EXIT_USAGE)

    def crashed(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        log.event(Notice("crash", f"{context.get('message')}: {error!r}"))
        if isinstance(error, BaseException):
            import traceback

            traceback.print_exception(error)
        stop(EXIT_BUG)

    loop.set_exception_handler(crashed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: app.node.stop(transfer=True, now=False))
    log.node_id = app.engine.node_id
    log.event(Notice("ready", f"port {settings.port}, dir {settings.dir}, {durakv.build_mode()}"))
    gc.collect()
    gc.freeze()
    gc.disable()
    loop.run_forever()
    code = exit_code[0] if exit_code else 0
    if code == 0:
        closed: asyncio.Future[OSError | None] = loop.create_future()
        app.close(closed.set_result)
        try:
            error = loop.run_until_complete(asyncio.wait_for(closed, 10))
        except TimeoutError:
            error = OSError("the log could not be closed within 10 s; nothing acknowledged is lost")
        if error is not None:
            print(f"durakv: {error}", file=sys.stderr)
            code = EXIT_IO
    log.event(Notice("stopped", f"exit code {code}"))
    return code


__all__ = ["App", "Event", "World", "bootstrap_cluster", "build", "run_server"]
