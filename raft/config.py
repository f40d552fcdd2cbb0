"""What an operator or the driver may choose, in ticks and bytes.

Rule: validate() is the only place that judges these numbers and it says why each rule exists. Raft counts ticks and
never seconds; the two nanosecond fields concern lease reads alone.
"""

MIB = 1024 * 1024


class Config:
    """Settings of one member of one group; must be the same on all its members except node_id."""

    __slots__ = (
        "check_quorum",
        "election_ticks",
        "group",
        "heartbeat_ticks",
        "hold_ticks",
        "lazy_commit",
        "lease_ns",
        "lease_reads",
        "max_committed_bytes_per_ready",
        "max_inflight_bytes",
        "max_inflight_msgs",
        "max_size_per_msg",
        "max_snapshot_sends",
        "max_uncommitted_bytes",
        "node_id",
        "pin_delay_ticks",
        "pre_vote",
        "promise_ns",
        "rejoin_lag_entries",
        "snapshot_chunk_bytes",
        "suspect_ticks",
    )

    def __init__(
        self,
        node_id: int,
        group: int = 1,
        election_ticks: int = 50,
        heartbeat_ticks: int = 5,
        pre_vote: bool = True,
        check_quorum: bool = True,
        lease_reads: bool = False,
        lease_ns: int = 0,
        promise_ns: int = 0,
        max_inflight_msgs: int = 256,
        max_inflight_bytes: int = 16 * MIB,
        max_size_per_msg: int = MIB,
        max_uncommitted_bytes: int = 64 * MIB,
        max_committed_bytes_per_ready: int = 16 * MIB,
        snapshot_chunk_bytes: int = MIB,
        max_snapshot_sends: int = 2,
        lazy_commit: bool = False,
        suspect_ticks: int = 0,
        rejoin_lag_entries: int = 1024,
        hold_ticks: int = 0,
        pin_delay_ticks: int = 0,
    ) -> None:
        self.node_id = node_id
        self.group = group
        self.election_ticks = election_ticks
        self.heartbeat_ticks = heartbeat_ticks
        self.pre_vote = pre_vote
        self.check_quorum = check_quorum
        self.lease_reads = lease_reads
        # How long, from sending a round, a leader may answer alone; the clock-rate bound is already taken off.
        self.lease_ns = lease_ns
        # How long a voter that heard from a leader refuses to help elect another, by its own clock.
        self.promise_ns = promise_ns
        self.max_inflight_msgs = max_inflight_msgs
        self.max_inflight_bytes = max_inflight_bytes
        self.max_size_per_msg = max_size_per_msg
        self.max_uncommitted_bytes = max_uncommitted_bytes
        self.max_committed_bytes_per_ready = max_committed_bytes_per_ready
        self.snapshot_chunk_bytes = snapshot_chunk_bytes
        self.max_snapshot_sends = max_snapshot_sends
        # Followers hear of a commit with the next Append or heartbeat, or when the driver calls announce_commit();
        # otherwise a message of its own tells them at once.
        self.lazy_commit = lazy_commit
        # With a witness. A voter that is silent, or acknowledges nothing new, for so long is stood in for by it.
        self.suspect_ticks = suspect_ticks or election_ticks
        # How far behind a voter may be for the witness to hand its place back.
        self.rejoin_lag_entries = rejoin_lag_entries
        # After a change of the replication set, how long until the next one that nothing forces.
        self.hold_ticks = hold_ticks or 2 * election_ticks
        # A pause before the witness is asked to stand in, in case it is this node that is about to fail.
        self.pin_delay_ticks = pin_delay_ticks

    def validate(self) -> None:
        """Raise ValueError naming the setting, the rule and the remedy."""
        if self.node_id <= 0:
            raise ValueError("node_id must be positive: 0 means nobody in votes and leader hints")
        if self.group < 0:
            raise ValueError("group must not be negative: it is an unsigned field of every message")
        if self.heartbeat_ticks < 1:
            raise ValueError("heartbeat_ticks must be at least 1: a leader has to be heard")
        if self.election_ticks < 2 * self.heartbeat_ticks:
            raise ValueError("election_ticks must be at least twice heartbeat_ticks, or one lost heartbeat elects")
        if not self.heartbeat_ticks < self.suspect_ticks <= self.election_ticks:
            raise ValueError(
                "suspect_ticks must be more than heartbeat_ticks and at most election_ticks: later, the leader has "
                "stepped down already"
            )
        if not 0 <= self.pin_delay_ticks < self.election_ticks:
            raise ValueError("pin_delay_ticks must be less than election_ticks: later, the leader has stepped down")
        if self.rejoin_lag_entries < 0 or self.hold_ticks < 0:
            raise ValueError("rejoin_lag_entries and hold_ticks must not be negative")
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
        if self.lease_reads:
            if not self.check_quorum:
                raise ValueError("lease_reads needs check_quorum: voters only keep the lease's promise with it")
            if self.lease_ns < 1:
                raise ValueError("lease_reads needs lease_ns, the lease after taking off the clock-rate bound")
            if self.promise_ns < self.lease_ns:
                raise ValueError("promise_ns must be at least lease_ns: a voter's promise has to outlive the lease")
