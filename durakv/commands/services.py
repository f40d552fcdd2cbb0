"""What a local command may ask of its node. The engine implements this; commands depend on nothing above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from durakv.acl.users import Acl
    from durakv.commands.session import Session
    from durakv.commands.table import Table
    from durakv.config.settings import Settings
    from durakv.engine.eviction import Eviction
    from durakv.engine.pubsub import PubSub
    from durakv.engine.tracking import Tracking
    from durakv.keyspace.keyspace import Keyspace
    from durakv.observe.events import Observer
    from durakv.observe.instruments import Instruments
    from durakv.observe.stats import Stats
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


class GroupView:
    """A snapshot of the replication group, cheap to make, for INFO, ROLE, CLUSTER * and status tools."""

    def __init__(self) -> None:
        self.cluster_id = ""
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
    clients: dict[int, Session]
    # The command runs inside EXEC: it must not wait, and its session goes on only when the whole transaction has.
    in_transaction: bool

    def group(self) -> GroupView: ...

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

    def unblock_client(self, session: Session, *, error: bool) -> bool:
        """CLIENT UNBLOCK: False when the session is not blocked."""
