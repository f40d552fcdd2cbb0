"""What the driver has to do now: persist this, send that, apply those.

Rule: plain data, valid forever once taken; taking a Ready consumes it. The order is the driver's duty:

1. `messages` may go out at once, before anything is durable.
2. Persist in this order: `snapshot_chunks` (to a temporary file; they need no fsync), `snapshot` (install it, dropping
   the whole log), `entries` (first dropping every stored entry at or after entries[0].index), `hard_state`; fsync if
   `must_sync`. Readys are persisted in the order they were taken; several may be under way.
3. `after_persist` goes out, or back into step() if addressed to this node, once this and every earlier Ready is
   durable. Messages to self are given back exactly once, unchanged.
4. `committed_entries` are durable here already; apply them in order and then call applied_to().
5. `read_states` may be answered after every committed entry of this and earlier Readys up to their index is applied.
"""

from raft.messages import Message, Snapshot
from raft.types import Entry, HardState, SnapshotMeta


class SoftState:
    """Role and leader as known here; nothing to persist."""

    __slots__ = ("leader", "role")

    def __init__(self, role: int, leader: int) -> None:
        self.role = role
        self.leader = leader

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SoftState) and self.role == other.role and self.leader == other.leader

    def __hash__(self) -> int:
        return hash((self.role, self.leader))


class Ready:
    """See the module text for the order of work. Lists are the driver's own, entries inside are shared."""

    __slots__ = (
        "after_persist",
        "committed_entries",
        "entries",
        "failed_reads",
        "hard_state",
        "messages",
        "must_sync",
        "read_states",
        "snapshot",
        "snapshot_chunks",
        "soft_state",
    )

    def __init__(self) -> None:
        self.hard_state: HardState | None = None
        self.entries: list[Entry] = []
        self.snapshot: SnapshotMeta | None = None
        self.snapshot_chunks: list[Snapshot] = []
        self.messages: list[Message] = []
        self.after_persist: list[Message] = []
        self.committed_entries: list[Entry] = []
        self.read_states: list[tuple[object, int]] = []
        self.failed_reads: list[object] = []
        self.soft_state: SoftState | None = None
        self.must_sync = False
