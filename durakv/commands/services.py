"""What a local command may ask of its node. The engine implements this; commands depend on nothing above it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from durakv.acl.users import Acl
    from durakv.cluster.gossip.tables import Tables
    from durakv.commands.replica_services import ReplicaService, SaveService
    from durakv.commands.session import Session
    from durakv.commands.table import Table
    from durakv.config.settings import Settings
    from durakv.engine.eviction import Eviction
    from durakv.engine.moving import Moving
    from durakv.engine.pubsub import PubSub
    from durakv.engine.tracking import Tracking
    from durakv.engine.upkeep import Upkeep
    from durakv.engine.usage import Usage
    from durakv.keyspace.keyspace import Keyspace
    from durakv.observe.events import Observer
    from durakv.observe.instruments import Instruments
    from durakv.observe.stats import Stats
    from durakv.resp.types import Reply
    from durakv.world.ports import Clock, Rng


class WitnessFacts:
    """The group's witness as this node knows it; those below ``trouble`` are known on the leader only.

    ``trouble`` is one line, empty when all is well. ``replication_set``: ids whose acknowledgements commit, the
    witness's among them while it stands in for a full node. ``engaged``: it has recorded that. ``pinned``: and nobody
    else could be elected meanwhile. ``copies``: full nodes that hold the newest committed write on disk.
    """

    __slots__ = ("address", "asked", "copies", "engaged", "node_id", "pinned", "replication_set", "state_bytes",
                 "subterm", "trouble")  # fmt: skip

    def __init__(self, node_id: int, address: str) -> None:
        self.node_id = node_id
        self.address = address
        # Questions this node has sent it since it started.
        self.asked = 0
        # Size of its state when it last answered this node; 0: it has not yet.
        self.state_bytes = 0
        self.trouble = ""
        self.replication_set: tuple[int, ...] = ()
        self.subterm = 0
        self.engaged = False
        self.pinned = False
        self.copies = 0


class LeaseFacts:
    """A shard of lease mode, as the newest configuration this node has seen says; no ids: none was seen yet.

    ``joining``: who is about to become in sync, 0 for nobody. ``holder``: what is known of the config holder, as names
    and values. ``pauses`` and ``clock_drops``: how often this node noticed that it stood still, or that its clocks were
    at odds.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.isr: tuple[int, ...] = ()
        self.learners: tuple[int, ...] = ()
        self.min_isr = 0
        self.joining = 0
        self.change_open = False
        self.forced_epoch = 0
        self.rebuilding = False
        self.pauses = 0
        self.clock_drops = 0
        self.holder: list[tuple[str, object]] = []


class Member:
    """One member of the group as this node knows it. A witness's ``client_host`` is its address, its ports are 0."""

    __slots__ = ("client_host", "client_port", "connected", "learner", "match_index", "node_id", "peer_port",
                 "stable_index", "witness")  # fmt: skip

    def __init__(self, node_id: int, client_host: str, client_port: int, peer_port: int, *, learner: bool = False,
                 witness: bool = False) -> None:  # fmt: skip
        self.node_id = node_id
        self.client_host = client_host
        self.client_port = client_port
        self.peer_port = peer_port
        self.learner = learner
        self.witness = witness
        self.connected = False
        # Known on the leader only; 0 elsewhere.
        self.match_index = 0
        self.stable_index = 0


class CheckpointFacts:
    """How far a node's checkpoint is. Ages and lags are those of this moment."""

    def __init__(self) -> None:
        self.index = 0
        self.age_ms = 0
        self.lag_bytes = 0
        self.bytes = 0
        self.commits = 0
        self.last_ms = 0
        self.failed = False
        self.snapshots_installed = 0
        self.log_first_index = 0
        self.log_bytes = 0


class CommittedEntry:
    """An entry of the group's log. ``kind``: 0 commands, 1 no-op, 2 membership; ``chain``: running digest after it."""

    __slots__ = ("chain", "data", "index", "kind", "subterm", "term")

    def __init__(self, index: int, term: int, subterm: int, kind: int, data: bytes, chain: int) -> None:
        self.index = index
        self.term = term
        self.subterm = subterm
        self.kind = kind
        self.data = data
        self.chain = chain


class CommittedHistory(Protocol):
    """What is committed and on disk of the group's log on this node, as far back as it is kept."""

    cluster_id: str
    group_id: int

    def first_index(self) -> int:
        """The oldest entry kept, or the next one to come."""

    def committed_index(self) -> int:
        """The newest entry that may be shown."""

    def entries(self, first: int, count: int, bytes_max: int) -> list[CommittedEntry]:
        """Up to ``count`` entries from ``first`` on, as far as there are any, cut off before their data exceeds
        ``bytes_max``, but at least one. Raises CommandError for a damaged one.
        """


class RebalanceService(Protocol):
    """The rebalancer of this node's group, which its leader runs. Everything raises CommandError where it must."""

    def plan(self) -> Reply:
        """What would be moved now."""

    def status(self) -> Reply:
        """What it does and knows."""

    def resume(self) -> None:
        """Go on after a stop."""


class GroupView:
    """A snapshot of the replication group, cheap to make, for INFO, ROLE, CLUSTER * and status tools."""

    def __init__(self) -> None:
        self.cluster_id = ""
        self.group_id = 1
        self.node_id = 0
        self.role = "follower"  # leader, follower, candidate, learner
        self.term = 0
        self.leader_id = 0
        self.members: list[Member] = []
        self.commit_index = 0
        self.applied_index = 0
        self.last_index = 0
        self.durable_index = 0
        self.fsync_p99_us = 0
        self.log_bytes = 0
        self.lease_left_ms = -1
        self.loading = False
        self.writable_error = ""
        # Why min-data-copies refuses writes now; empty when it does not.
        self.copies_refusal = ""
        self.witness: WitnessFacts | None = None
        # None in Raft mode.
        self.lease: LeaseFacts | None = None
        # None where no checkpoints are kept.
        self.checkpoint: CheckpointFacts | None = None
        # The tables of CLUSTER, over TLS or not; None outside cluster mode.
        self.tables: Callable[[bool], Tables] | None = None
        # None outside cluster mode.
        self.rebalance: RebalanceService | None = None
        # Forgets the group of that name of 40 digits; raises CommandError. None outside cluster mode.
        self.forget_shard: Callable[[bytes], None] | None = None
        # None where there is no log of this node's own.
        self.history: CommittedHistory | None = None

    def pinned(self) -> bool:
        """Whether this node leads and nobody else could, because the witness stands in for the only other node."""
        return self.witness is not None and self.witness.pinned


class Services(Protocol):
    """The node, as local commands see it. All calls run on the loop thread and return at once."""

    settings: Settings
    table: Table
    clock: Clock
    rng: Rng
    ks: Keyspace
    stats: Stats
    # Slow log, latency monitor, MONITOR's watchers and the process probe; built once from the settings.
    instruments: Instruments
    # Hears what operators should know (CONFIG SET, ...).
    observer: Observer
    acl: Acl
    pubsub: PubSub
    tracking: Tracking
    eviction: Eviction
    moving: Moving
    upkeep: Upkeep
    usage: Usage
    clients: dict[int, Session]
    # Both None where no checkpoints are kept.
    replicas: ReplicaService | None
    saving: SaveService | None
    # The command runs inside EXEC: it must not wait, and its session goes on only when the whole transaction has.
    in_transaction: bool
    # CLIENT PAUSE: whether writes wait, whether everything does, and until when (Unix ms).
    pause_writes: bool
    pause_all: bool
    pause_until_ms: int

    def group(self) -> GroupView: ...

    def not_served(self, slot: int) -> str:
        """The error for whoever asks for a slot of another group."""

    def state_digest(self) -> tuple[int, str]:
        """(applied index, 16 hex digits) over all keys, TTLs and values; equal on nodes at the same index."""

    def close_client(self, session: Session) -> None:
        """Close after flushing what is queued."""

    def shutdown(self, *, transfer: bool, now: bool) -> None:
        """Begin an orderly stop: hand leadership over first when ``transfer``; exit code 0."""

    def transfer_leadership(self, node_id: int, *, force: bool = False) -> None:
        """Begin handing leadership to a voter (0 = the most caught-up); a follower may ask for itself.

        ``force``: a follower without a leader starts an election. Raises CommandError.
        """

    def change_members(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """Propose a membership change (``add-learner``, ``add-witness``, ``promote``, ``remove``).

        In lease mode also ``force-promote`` this node; ``address``: "confirm" and who is given up, or empty to be told.
        Answers once committed; a new witness's state is created first. Raises CommandError.
        """

    def wait_replicas(self, session: Session, local: int, replicas: int, timeout_ms: int, aof: bool) -> None:
        """WAIT/WAITAOF: answers the session when enough full nodes hold its last write durably, or at the timeout."""

    def pause_clients(self, until_ms: int, writes_only: bool) -> None: ...

    def unpause_clients(self) -> None: ...

    def exec_transaction(self, s: Session) -> object:
        """EXEC of the session's queue; NO_REPLY when the answer comes with the commit. Raises CommandError."""

    def unwatch(self, s: Session) -> None:
        """Forget the session's watched keys."""

    def unblock_client(self, asker: Session, client_id: int, *, error: bool) -> object:
        """CLIENT UNBLOCK: 1 or 0, or NO_REPLY when ``asker`` is answered later. Raises CommandError."""
