"""What the driver has to do now in lease mode: as raft.ready, plus calls to the config holder.

Rule: plain data, valid forever once taken. The order is raft.ready's; `calls` go to the holder at once, as `messages`.
`hard_state` is raft's: term is the epoch, vote the primary of that epoch (0: not known), commit a hint.
"""

from raft.messages import Snapshot
from raft.primary_backup.messages import HolderCall, PeerMessage
from raft.primary_backup.types import ForceLoss
from raft.ready import SoftState
from raft.types import Entry, HardState, SnapshotMeta


class Finished:
    """A wish of the operator (change, force) ended; `error` is empty when it is in force."""

    __slots__ = ("error", "number")

    def __init__(self, number: int, error: str) -> None:
        self.number = number
        self.error = error


class Ready:
    """See raft.ready for the order of work. Lists are the driver's own, entries inside are shared."""

    __slots__ = (
        "after_persist",
        "calls",
        "committed_entries",
        "entries",
        "failed_reads",
        "finished",
        "force_loss",
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
        self.messages: list[PeerMessage] = []
        self.after_persist: list[PeerMessage] = []
        self.committed_entries: list[Entry] = []
        self.read_states: list[tuple[object, int]] = []
        self.failed_reads: list[object] = []
        self.soft_state: SoftState | None = None
        self.must_sync = False
        self.calls: list[HolderCall] = []
        self.finished: list[Finished] = []
        self.force_loss: ForceLoss | None = None
