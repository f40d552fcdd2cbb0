"""What the leader knows of one peer: how far its log agrees, and how much may be on the way to it.

Rule: the only place that moves `next`, `state` and the in-flight window. Knows no messages and no quorums.

PROBE sends one Append per heartbeat interval until an answer shows where the logs agree; REPLICATE sends ahead of the
answers within the window; SNAPSHOT sends chunks and no Appends (dissertation 10.2.1).
"""

from collections import deque
from typing import Final

from raft.types import SnapshotMeta


class ProgressState:
    """How the leader sends to a peer."""

    PROBE: Final = 0
    REPLICATE: Final = 1
    SNAPSHOT: Final = 2


STATE_NAMES: Final = ("probe", "replicate", "snapshot")


class Progress:
    """One peer's progress; reset at every election."""

    __slots__ = (
        "ack_sent_ns",
        "inflight",
        "inflight_bytes",
        "is_learner",
        "leaving_index",
        "leaving_ticks",
        "match",
        "max_bytes",
        "max_msgs",
        "next",
        "node",
        "probe_sent",
        "recent_active",
        "resend",
        "round",
        "sent_commit",
        "sent_round",
        "snap_crc",
        "snap_crc_sent",
        "snap_index",
        "snap_meta",
        "snap_offset",
        "snap_sent",
        "snap_ticks",
        "state",
        "verify",
    )

    def __init__(self, node: int, next_index: int, max_msgs: int, max_bytes: int) -> None:
        self.node = node
        self.match = 0
        self.next = next_index
        self.state: int = ProgressState.PROBE
        self.probe_sent = False
        # True until the next CheckQuorum even without an answer, so that a new member is not counted dead at once.
        self.recent_active = True
        self.is_learner = False
        self.sent_commit = 0
        self.sent_round = 0
        # The newest round the peer answered in this term, and when that round was sent by the leader's clock.
        self.round = 0
        self.ack_sent_ns = 0
        # (last index, bytes) per Append on the way.
        self.inflight: deque[tuple[int, int]] = deque()
        self.inflight_bytes = 0
        self.max_msgs = max_msgs
        self.max_bytes = max_bytes
        # An empty Append is due, to find out whether earlier ones were lost.
        self.verify = False
        self.snap_index = 0
        self.snap_meta: SnapshotMeta | None = None
        self.snap_offset = 0
        self.snap_sent = 0
        self.snap_crc = 0
        self.snap_crc_sent = 0
        self.snap_ticks = 0
        self.resend = False
        # Set when a membership without this peer was appended at that index; it still gets that entry's commit.
        self.leaving_index = 0
        self.leaving_ticks = 0

    def window_full(self) -> bool:
        """True if no further Append with entries may be sent."""
        return len(self.inflight) >= self.max_msgs or self.inflight_bytes >= self.max_bytes

    def sent(self, last: int, size: int) -> None:
        """An Append ending at `last` with `size` bytes of entries goes out."""
        if self.state == ProgressState.REPLICATE:
            self.next = last + 1
            self.inflight.append((last, size))
            self.inflight_bytes += size
        else:
            self.probe_sent = True

    def acked(self, match: int) -> bool:
        """The peer's log agrees through `match`; False if that was known."""
        self.probe_sent = False
        if match <= self.match:
            return False
        self.match = match
        if self.next <= match:
            self.next = match + 1
        inflight = self.inflight
        while inflight and inflight[0][0] <= match:
            self.inflight_bytes -= inflight.popleft()[1]
        return True

    def rejected(self, prev_index: int, next_hint: int) -> bool:
        """The peer refused an Append after `prev_index`; False if that answer is stale."""
        if self.state == ProgressState.REPLICATE:
            if prev_index <= self.match:
                return False
            self.become_probe()
            return True
        if self.state == ProgressState.SNAPSHOT or prev_index != self.next - 1:
            return False
        self.next = max(min(prev_index, next_hint), self.match + 1)
        self.probe_sent = False
        return True

    def _clear(self) -> None:
        self.inflight.clear()
        self.inflight_bytes = 0
        self.probe_sent = False
        self.verify = False
        self.resend = False
        self.snap_ticks = 0

    def become_probe(self) -> None:
        """Go back to asking where the logs agree, after a loss, a refusal or a snapshot."""
        if self.state != ProgressState.PROBE:
            self.next = self.match + 1
        self.state = ProgressState.PROBE
        self.snap_index = 0
        self.snap_meta = None
        self._clear()

    def become_replicate(self) -> None:
        """Send ahead from the known match."""
        self.state = ProgressState.REPLICATE
        self.next = self.match + 1
        self.snap_index = 0
        self.snap_meta = None
        self._clear()

    def become_snapshot(self, meta: SnapshotMeta) -> None:
        """Start sending a snapshot from its first byte."""
        self.state = ProgressState.SNAPSHOT
        self._clear()
        self.snap_index = meta.index
        self.snap_meta = meta
        self.restart_snapshot()

    def restart_snapshot(self) -> None:
        """The receiver has nothing of it (any more)."""
        self.snap_offset = 0
        self.snap_sent = 0
        self.snap_crc = 0
        self.snap_crc_sent = 0
        self.resend = True
