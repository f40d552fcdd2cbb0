"""What an operator or the driver may choose in lease mode, in nanoseconds and bytes.

Rule: validate() is the only place that judges these numbers and it says why each rule exists. All durations are of the
node's own monotonic clock (CLOCK_BOOTTIME); wall time plays no part.
"""

from typing import Final

MS: Final = 1_000_000
MIB: Final = 1024 * 1024


class Settings:
    """Settings of one data node of one shard; must be the same on all its nodes except node_id.

    `lease_ns` (L): how long after sending a beacon that was answered the primary may serve. `grace_ns` (G): how long a
    member that answered a beacon helps nobody else into office. `rate_permille`: clocks run at most this much too fast
    or too slow; reads are linearizable only while that holds, writes always.
    """

    __slots__ = (
        "admit_lag_entries",
        "admit_learners",
        "admit_timeout_ns",
        "beacon_ns",
        "evict_after_ns",
        "grace_ns",
        "group",
        "hold_ns",
        "holder_grace_ns",
        "holder_lease_ns",
        "holder_timeout_ns",
        "lazy_commit",
        "lease_ns",
        "max_committed_bytes_per_ready",
        "max_inflight_bytes",
        "max_inflight_msgs",
        "max_size_per_msg",
        "max_snapshot_sends",
        "max_uncommitted_bytes",
        "node_id",
        "rate_permille",
        "snapshot_chunk_bytes",
        "stuck_after_ns",
        "tick_ns",
        "transfer_timeout_ns",
    )

    def __init__(
        self,
        node_id: int,
        group: int = 1,
        lease_ns: int = 1000 * MS,
        grace_ns: int = 1500 * MS,
        rate_permille: int = 150,
        beacon_ns: int = 200 * MS,
        tick_ns: int = 50 * MS,
        stuck_after_ns: int = 500 * MS,
        holder_timeout_ns: int = 500 * MS,
        holder_lease_ns: int = 0,
        holder_grace_ns: int = 0,
        evict_after_ns: int = 2000 * MS,
        admit_timeout_ns: int = 2000 * MS,
        admit_lag_entries: int = 1024,
        admit_learners: bool = True,
        hold_ns: int = 3000 * MS,
        transfer_timeout_ns: int = 2000 * MS,
        max_inflight_msgs: int = 256,
        max_inflight_bytes: int = 16 * MIB,
        max_size_per_msg: int = MIB,
        max_uncommitted_bytes: int = 64 * MIB,
        max_committed_bytes_per_ready: int = 16 * MIB,
        snapshot_chunk_bytes: int = MIB,
        max_snapshot_sends: int = 2,
        lazy_commit: bool = False,
    ) -> None:
        self.node_id = node_id
        # The shard; named as in raft's Config because messages carry it in the same field.
        self.group = group
        self.lease_ns = lease_ns
        self.grace_ns = grace_ns
        self.rate_permille = rate_permille
        self.beacon_ns = beacon_ns
        # How often tick() is called, at least.
        self.tick_ns = tick_ns
        # No lease is renewed for an executor that has made no progress for so long.
        self.stuck_after_ns = stuck_after_ns
        # How long a call to the config holder may take before it counts as unknown and is made again.
        self.holder_timeout_ns = holder_timeout_ns
        # The primary's own lease with the holder, and how long the holder honours it; they may outlast an election of
        # the holder's group. As lease_ns and grace_ns when 0.
        self.holder_lease_ns = holder_lease_ns or lease_ns
        self.holder_grace_ns = holder_grace_ns or grace_ns
        # An in-sync member that holds up a commit for so long is put out.
        self.evict_after_ns = evict_after_ns
        # How long an admission may hold up commits before it is given up.
        self.admit_timeout_ns = admit_timeout_ns
        self.admit_lag_entries = admit_lag_entries
        # Admit learners without being asked, once they have caught up.
        self.admit_learners = admit_learners
        # How long a member that was put out, or failed to catch up, is not admitted.
        self.hold_ns = hold_ns
        self.transfer_timeout_ns = transfer_timeout_ns
        self.max_inflight_msgs = max_inflight_msgs
        self.max_inflight_bytes = max_inflight_bytes
        self.max_size_per_msg = max_size_per_msg
        self.max_uncommitted_bytes = max_uncommitted_bytes
        self.max_committed_bytes_per_ready = max_committed_bytes_per_ready
        self.snapshot_chunk_bytes = snapshot_chunk_bytes
        self.max_snapshot_sends = max_snapshot_sends
        # Members hear of a commit with the next message, or when the driver calls announce_commit().
        self.lazy_commit = lazy_commit

    def pause_ns(self) -> int:
        """A gap between two turns longer than this is a pause of this node, not silence of the other."""
        return self.grace_ns // 4

    def validate(self) -> None:
        """Raise ValueError naming the setting, the rule and the remedy."""
        if self.node_id <= 0:
            raise ValueError("node_id must be positive: 0 means nobody")
        if self.group < 0:
            raise ValueError("group must not be negative: it is an unsigned field of every message")
        self._validate_pair("lease_ns", self.lease_ns, "grace_ns", self.grace_ns)
        self._validate_pair("holder_lease_ns", self.holder_lease_ns, "holder_grace_ns", self.holder_grace_ns)
        if not 0 < self.beacon_ns <= self.lease_ns // 3:
            raise ValueError(
                "beacon_ns must be positive and at most a third of lease_ns, or one lost beacon ends the lease"
            )
        if not 0 < self.tick_ns <= self.grace_ns // 8:
            raise ValueError(
                "tick_ns must be positive and at most an eighth of grace_ns: the gap between two ticks would be taken "
                "for a pause of this node"
            )
        if not self.tick_ns < self.stuck_after_ns <= self.lease_ns:
            raise ValueError(
                "stuck_after_ns must be more than tick_ns and at most lease_ns: a dead executor would stay in office"
            )
        if self.evict_after_ns < self.beacon_ns or self.admit_timeout_ns < self.beacon_ns:
            raise ValueError("evict_after_ns and admit_timeout_ns must be at least beacon_ns: nobody answers sooner")
        if self.holder_timeout_ns < self.tick_ns or self.transfer_timeout_ns < self.holder_timeout_ns:
            raise ValueError(
                "holder_timeout_ns must be at least tick_ns, and transfer_timeout_ns at least holder_timeout_ns: a "
                "hand-over needs one call to the holder"
            )
        if self.admit_lag_entries < 0 or self.hold_ns < 0:
            raise ValueError("admit_lag_entries and hold_ns must not be negative")
        for name, value in (
            ("max_inflight_msgs", self.max_inflight_msgs),
            ("max_inflight_bytes", self.max_inflight_bytes),
            ("max_size_per_msg", self.max_size_per_msg),
            ("max_uncommitted_bytes", self.max_uncommitted_bytes),
            ("max_committed_bytes_per_ready", self.max_committed_bytes_per_ready),
            ("snapshot_chunk_bytes", self.snapshot_chunk_bytes),
            ("max_snapshot_sends", self.max_snapshot_sends),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, or nothing could ever be sent")

    def _validate_pair(self, lease: str, lease_ns: int, grace: str, grace_ns: int) -> None:
        if lease_ns < 1:
            raise ValueError(f"{lease} must be positive: without a lease the primary never serves")
        if 4 * grace_ns < 5 * lease_ns:
            raise ValueError(
                f"{grace} must be at least 1.25 times {lease}: clocks that differ by little more than a tenth in rate "
                f"would let two nodes serve at once; raise {grace} to {-(-5 * lease_ns // 4)}"
            )
        rate = self.rate_permille
        if not 0 <= rate < 1000:
            raise ValueError("rate_permille must be from 0 to 999: a clock cannot run backwards")
        if lease_ns * (1000 + rate) >= grace_ns * (1000 - rate):
            raise ValueError(
                f"{grace} {grace_ns} is too short for {lease} {lease_ns} when clocks may be off by {rate} permille: a "
                f"slow primary would serve after a fast member took over; raise {grace} above "
                f"{lease_ns * (1000 + rate) // (1000 - rate)} or lower rate_permille"
            )
