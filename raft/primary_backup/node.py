"""The state all roles of the lease protocol share, and the moves every role makes: send, ask the holder, step down.

Rule: no decision of the protocol is made here except what "in sync" means while a change is open: the union of every
set that may be in force (effective members). Roles are functions over this state in primary.py, candidate.py,
secondary.py and changes.py; must not know how they are routed.
"""

from collections import deque
from typing import Final, Protocol

from raft.log import RaftLog
from raft.messages import Snapshot
from raft.primary_backup.messages import CasCall, ForceCall, HolderCall, PeerMessage, ReadCall
from raft.primary_backup.ready import Finished
from raft.primary_backup.settings import Settings
from raft.primary_backup.types import ForceLoss, RequestId, ShardConfig
from raft.progress import Progress
from raft.storage import LogReader
from raft.types import HardState, Membership, Role, SnapshotMeta


class Rng(Protocol):
    """The only source of chance."""

    def below(self, n: int) -> int:
        """A number in 0 .. n-1."""
        ...


class ClockGuard:
    """Compares two clocks of one machine, one that counts suspension and can be steered and one that cannot."""

    __slots__ = ("_boot_ns", "_raw_ns")

    # Readings a few microseconds apart differ by much of their distance without meaning anything.
    _FLOOR_NS: Final = 10_000_000

    def __init__(self) -> None:
        self._boot_ns = -1
        self._raw_ns = -1

    def odd(self, boot_ns: int, raw_ns: int) -> bool:
        """True if a clock went back since the last reading or the two are a fifth apart. raw -1: not read."""
        boot_step = boot_ns - self._boot_ns if self._boot_ns >= 0 else 0
        out = boot_step < 0
        if raw_ns >= 0:
            raw_step = raw_ns - self._raw_ns if self._raw_ns >= 0 else boot_step
            apart = abs(boot_step - raw_step)
            out = out or raw_step < 0 or (apart > self._FLOOR_NS and 5 * apart > max(boot_step, raw_step))
            self._raw_ns = raw_ns
        elif self._raw_ns >= 0:
            # Between two full readings: the distance so far is judged at the next one, against the same start.
            return out
        self._boot_ns = boot_ns
        return out


class Peer:
    """What the primary knows of one other data node."""

    __slots__ = ("heard_ns", "held_until_ns", "in_sync", "node", "progress", "since_ns")

    def __init__(self, progress: Progress, now_ns: int) -> None:
        self.node = progress.node
        self.progress = progress
        # Counts for commits and leases: in a set that may be in force, or joining one.
        self.in_sync = False
        # From when on its silence counts.
        self.since_ns = now_ns
        self.heard_ns = now_ns
        # Not admitted before.
        self.held_until_ns = 0


class ChangeKind:
    """Why a change of the configuration was asked for."""

    ALTER: Final = 0  # the primary's own: members come and go
    REACQUIRE: Final = 1  # the primary starts a new epoch of its own, after a restart or a hand-over given up
    PROMOTE: Final = 2  # a member takes over
    FORCE: Final = 3


class Change:
    """One change of the configuration that may be in force by now. `sent_ns` is of the newest sending."""

    __slots__ = ("call", "kind", "sent_ns", "uncertain")

    def __init__(self, kind: int, call: CasCall | ForceCall, now_ns: int) -> None:
        self.kind = kind
        self.call = call
        self.sent_ns = now_ns
        # An earlier sending may still arrive.
        self.uncertain = False

    def expected(self) -> int:
        """The epoch it starts from."""
        return self.call.epoch if isinstance(self.call, ForceCall) else self.call.config.epoch - 1


class Member:
    """All state of one data node. Fields are read by the role functions; only this package touches them."""

    def __init__(self, config: Settings, storage: LogReader, rng: Rng, hard_state: HardState, applied: int) -> None:
        config.validate()
        base = storage.first_index() - 1
        if hard_state.commit > storage.last_index():
            raise ValueError(
                f"hard state says commit {hard_state.commit}, the log ends at {storage.last_index()}: durable entries "
                "were lost; rejoin this node under a new id"
            )
        self.config = config
        self.id = config.node_id
        self.group = config.group
        self.log = RaftLog(storage, max(applied, base), max(hard_state.commit, base, applied))
        # The epoch. A log may hold entries of an epoch whose hard state was written with them and lost.
        self.term = max(hard_state.term, self.log.last_term)
        self.vote = hard_state.vote if self.term == hard_state.term else 0
        # The newest epoch known to be durable here; what is said in a newer one waits for the disk.
        self.settled_term = hard_state.term
        # As in raft: LEADER is the primary, everybody else a FOLLOWER.
        self.role: int = Role.FOLLOWER
        self.leader = 0
        # Differs between runs, so that a wish of an earlier run is not taken for one of this run.
        self.nonce = (rng.below(1 << 31) << 31) | rng.below(1 << 31)
        self.next_number = 1
        self.next_call = (rng.below(1 << 31) << 31) + 1

        self.now_ns = -1
        self.guard = ClockGuard()
        self.executor_ns = -1
        self.clock_drops = 0
        self.pauses = 0

        # The newest configuration seen of the holder, and the read asked of it (0: none).
        self.known: ShardConfig | None = None
        # The same in raft's words: in-sync members vote, the others learn. Another object whenever it differs.
        self.membership = Membership()
        self.read_call = 0
        self.read_sent_ns = 0
        self.read_wanted = True
        self.change: Change | None = None
        # The operator's wish behind the open change, 0 if it is nobody's.
        self.operator_number = 0

        self._init_secondary()
        self._init_primary()
        self._init_outputs()

    def _init_secondary(self) -> None:
        """What a node uses that follows, or just did."""
        # When the primary was last heard, or this node's own pause ended.
        self.heard_ns = 0
        # When this node last promised to help nobody else; a restarted node may have promised before and forgotten.
        self.promised_ns = 0
        self.promise_over = False
        # The holder named this node as one that may take over; done at the next tick if still nobody is heard.
        self.armed = False
        self.relinquished_term = 0
        # A snapshot being received, and the forced epoch for which committed entries are to be replaced by it.
        self.incoming: SnapshotMeta | None = None
        self.incoming_offset = 0
        self.incoming_crc = 0
        self.rebuild_for = 0
        # A hard state that proves none of them was given out; the snapshot may be installed behind it.
        self.commit_lowered = False

    def _init_primary(self) -> None:
        """What only the primary uses."""
        self.peers: dict[int, Peer] = {}
        self.peer_list: list[Peer] = []
        # In force as far as known; see rewire() for what counts.
        self.isr: tuple[int, ...] = ()
        self.joining = 0
        self.joining_since_ns = 0
        # The peers that count now, and sizes derived from all sets that may be in force.
        self.counted: list[Peer] = []
        self.sure_size = 0
        self.min_isr = 1
        self.maybe_alone = False
        # The first epoch of this reign and its first entry.
        self.reign_term = 0
        self.noop_index = 0
        self.round = 0
        self.lease_floor = 0
        self.holder_ack_ns = 0
        self.renew_sent_ns = 0
        self.renewals: dict[int, int] = {}
        self.beat_ns = 0
        self.transferee = 0
        self.transfer_ns = 0
        # Left office in favour of `transferee`; serves nothing until a new epoch of its own.
        self.resigned = False
        # (index, bytes, when proposed) of entries not committed.
        self.uncommitted: deque[tuple[int, int, int]] = deque()
        self.uncommitted_bytes = 0
        self.send_needed = False
        self.beat_due = False
        self.announce_due = False
        # A peer needs a snapshot and there is none; for the driver, which makes one and sets this back.
        self.snapshot_wanted = False

    def _init_outputs(self) -> None:
        """What is collected for the next Ready."""
        self.messages: list[PeerMessage] = []
        self.after_persist: list[PeerMessage] = []
        self.chunks: list[Snapshot] = []
        self.install: SnapshotMeta | None = None
        self.calls: list[HolderCall] = []
        self.finished: list[Finished] = []
        self.force_loss: ForceLoss | None = None
        self.waiting_reads: list[object] = []
        self.proven_reads: list[tuple[object, int]] = []
        self.failed_reads: list[object] = []

    # Sending

    def deliver(self, message: PeerMessage) -> None:
        """Send as soon as the epoch it is said in is durable here, which it nearly always is."""
        if self.settled_term >= self.term:
            self.messages.append(message)
        else:
            self.after_persist.append(message)

    def deliver_durable(self, message: PeerMessage) -> None:
        """Send when all state up to now is durable: acknowledgements."""
        self.after_persist.append(message)

    def new_request(self) -> RequestId:
        """An id for a new wish."""
        self.next_number += 1
        return RequestId(self.id, self.nonce, self.next_number)

    def new_call_id(self) -> int:
        """An id for one sending."""
        self.next_call += 1
        return self.next_call

    def ask_read(self) -> None:
        """Ask the holder what is in force; one question at a time."""
        self.read_wanted = False
        self.read_call = self.new_call_id()
        self.read_sent_ns = self.now_ns
        self.calls.append(ReadCall(self.read_call, self.group, RequestId(self.id, self.nonce, 0)))

    # Members

    def members(self) -> tuple[int, ...]:
        """Every data node in the newest configuration known."""
        return () if self.known is None else self.known.members()

    def note_known(self, config: ShardConfig) -> None:
        """The holder said more than was known."""
        self.known = config
        membership = Membership(config.isr, learners=config.learners, context=config.context)
        if membership != self.membership:
            self.membership = membership

    def possible_sets(self) -> list[tuple[int, ...]]:
        """Every set of in-sync members that may be in force now, as far as the primary knows."""
        change = self.change
        if change is None or not isinstance(change.call, CasCall):
            return [self.isr]
        return [self.isr, change.call.config.isr]

    def effective(self) -> tuple[int, ...]:
        """Who has to hold an entry for it to be committed: all possible sets together, and who is joining."""
        out: list[int] = [self.joining] if self.joining else []
        for members in self.possible_sets():
            out.extend(node for node in members if node not in out)
        return tuple(sorted(out))

    def rewire(self) -> None:
        """The sets have changed: recompute the flat lists the primary's hot path walks, in order of id."""
        known = self.known
        assert known is not None
        change = self.change
        proposed = change.call.config if change is not None and isinstance(change.call, CasCall) else known
        wanted = [*known.members(), *(node for node in proposed.members() if node not in known.members())]
        config = self.config
        for node in wanted:
            if node != self.id and node not in self.peers:
                progress = Progress(node, self.log.last + 1, config.max_inflight_msgs, config.max_inflight_bytes)
                self.peers[node] = Peer(progress, self.now_ns)
        for node in [node for node in self.peers if node not in wanted]:
            del self.peers[node]
        effective = self.effective()
        self.peer_list = [self.peers[node] for node in sorted(self.peers)]
        for peer in self.peer_list:
            counts = peer.node in effective
            if counts and not peer.in_sync:
                peer.since_ns = self.now_ns
            peer.in_sync = counts
            peer.progress.is_learner = not counts
        self.counted = [peer for peer in self.peer_list if peer.in_sync]
        sets = self.possible_sets()
        self.sure_size = min([len(members) for members in sets])
        self.maybe_alone = self.sure_size == 1
        self.min_isr = max(known.min_isr, proposed.min_isr)

    def follow(self, term: int, primary: int) -> None:
        """Follow `primary` (0: not known) in `term`; everything tied to the former role or epoch is dropped."""
        if term != self.term:
            self.term = term
            self.vote = 0
            self.incoming = None
            # The holder has moved past the epoch it started from.
            self.close_change("another epoch is in force")
        if primary:
            if self.vote not in (0, primary):
                raise AssertionError(f"nodes {self.vote} and {primary} both own epoch {term}")
            self.vote = primary
        self.leader = primary if primary != self.id else 0
        self.armed = False
        if self.role == Role.LEADER:
            self.role = Role.FOLLOWER
            # A primary hears nobody; the silence of its successor counts from now.
            self.heard_ns = self.now_ns
            self.failed_reads.extend(self.waiting_reads)
            self.waiting_reads = []
            self._init_primary()

    def close_change(self, error: str) -> None:
        """The open change has taken effect (error empty) or never will."""
        self.change = None
        if self.operator_number:
            self.finished.append(Finished(self.operator_number, error))
            self.operator_number = 0
