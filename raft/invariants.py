"""What must hold whatever happens, checked over cores and durable images after every step of a test or simulation.

Rule: reads only; a violation is an AssertionError that names the rule. Rules are those of the dissertation's figure
3.2 plus the durability rules (an acknowledgement or vote seen on the wire is on disk); those of a witness are in
witness_invariants.py. Not for production hot paths.
"""

from raft.core import Raft
from raft.log import RaftLog
from raft.messages import (
    AppendResp,
    Message,
    Vote,
    VoteResp,
    WitnessAppend,
    WitnessAppendResp,
    WitnessVote,
    WitnessVoteResp,
)
from raft.storage import LogReader
from raft.types import Entry, EntryKind, HardState, Role
from raft.witness import WitnessState
from raft.witness_invariants import InvariantViolation, WitnessInvariants, is_quorum

__all__ = ["InvariantViolation", "Invariants"]


class _Seen:
    """What one running core showed last; a restart begins a new one."""

    __slots__ = ("commit", "last", "last_term", "role", "term")

    def __init__(self) -> None:
        self.term = 0
        self.role: int = Role.FOLLOWER
        self.commit = 0
        self.last = 0
        self.last_term = 0


class Invariants:
    """The memory of one group's whole history. `committed_max` is the highest index any member knew as committed."""

    def __init__(self) -> None:
        self.committed_max = 0
        self._committed: dict[int, Entry] = {}
        # The term of the member that first knew the index as committed.
        self._committed_in: dict[int, int] = {}
        # Committed memberships, encoded, by index.
        self._memberships: dict[int, bytes] = {}
        self._leaders: dict[int, int] = {}
        # (index, term) -> (entry, term of the entry before it)
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._config_at: dict[tuple[int, int], bytes] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._last_vote: dict[int, tuple[int, int]] = {}
        self._seen: dict[int, _Seen] = {}
        self._witness = WitnessInvariants()

    def note_started(self, core: Raft) -> None:
        """The member starts or restarts from what its disk holds."""
        self._seen[core.id] = _Seen()
        self._witness.note_started(core)
        self._check_vote_kept(core)

    def note_stopped(self, node: int) -> None:
        """The member crashed or was shut down."""
        self._witness.note_stopped(node)

    def note_witness(self, state: WitnessState) -> None:
        """A witness has this state on its disk now: call it at its start, and before each answer leaves."""
        self._witness.note_state(state)

    def note_sent(self, m: Message, durable: LogReader, hard_state: HardState) -> None:
        """A message leaves its sender, whose disk holds `durable` and `hard_state` for certain."""
        if isinstance(m, (VoteResp, WitnessVoteResp)) and m.granted and not (isinstance(m, WitnessVoteResp) and m.pre):
            other = self._votes.setdefault((m.from_, m.term), m.to)
            if other != m.to:
                raise InvariantViolation(f"VoteDurable: {m.from_} voted for {other} and {m.to} in term {m.term}")
            if isinstance(m, WitnessVoteResp):
                return
            self._last_vote[m.from_] = max(self._last_vote.get(m.from_, (0, 0)), (m.term, m.to))
            held = (hard_state.term, hard_state.vote)
            if hard_state.term < m.term or (hard_state.term == m.term and hard_state.vote != m.to):
                raise InvariantViolation(f"VoteDurable: {m.from_} grants {(m.term, m.to)}, its disk holds {held}")
        elif isinstance(m, Vote) or (isinstance(m, WitnessVote) and not m.pre):
            if hard_state.term < m.term or (hard_state.term == m.term and hard_state.vote != m.from_):
                raise InvariantViolation(f"VoteDurable: {m.from_} asks for votes in term {m.term} before its own")
        elif isinstance(m, AppendResp) and m.ok:
            if hard_state.term < m.term:
                raise InvariantViolation(f"AckDurable: {m.from_} acks in term {m.term}, disk has {hard_state.term}")
            # A leader of a later term may have replaced what was acknowledged, all in one write.
            if hard_state.term == m.term and durable.last_index() < m.match:
                raise InvariantViolation(
                    f"AckDurable: {m.from_} acks {m.match}, its disk ends at {durable.last_index()}"
                )
            self._witness.note_acked(m)
        elif isinstance(m, WitnessAppend):
            self._witness.note_asked(m, durable)
        elif isinstance(m, WitnessAppendResp):
            self._witness.note_answered(m)

    def check(self, core: Raft, durable: LogReader) -> None:
        """Every rule that one member can break by its last step; `durable` is its disk after a crash right now."""
        seen = self._seen[core.id]
        log = core.log
        if core.term < seen.term:
            raise InvariantViolation(f"TermMonotone: node {core.id} went from term {seen.term} to {core.term}")
        if not log.applied <= log.emitted <= log.commit <= log.last:
            raise InvariantViolation(
                f"StateMachineSafety: node {core.id} applied {log.applied} emitted {log.emitted} commit {log.commit} "
                f"last {log.last}"
            )
        if log.commit < seen.commit:
            raise InvariantViolation(f"StateMachineSafety: commit of node {core.id} fell from {seen.commit}")
        if log.emitted > log.stable and log.pending_snapshot is None:
            raise InvariantViolation(f"EmittedDurable: node {core.id} emitted {log.emitted}, stable {log.stable}")
        self._check_stable(core, durable)
        self._check_vote_kept(core)
        self._check_log(core, seen)
        self._check_commit(core, seen)
        if log.commit > seen.commit:
            self._check_membership(core)
            if core.role == Role.LEADER:
                self._check_counted(core, durable)
        self._check_leader(core, seen)
        self._witness.check(core)
        seen.term, seen.role, seen.commit = core.term, core.role, log.commit
        seen.last, seen.last_term = log.last, log.last_term

    def _check_stable(self, core: Raft, durable: LogReader) -> None:
        stable = core.log.stable
        if stable == 0 or core.log.pending_snapshot is not None:
            return
        if durable.last_index() < stable or (
            durable.first_index() - 1 <= stable and durable.term(stable) != core.log.term(stable)
        ):
            raise InvariantViolation(f"SelfAckStable: node {core.id} counts {stable} durable, its disk does not")

    def _check_vote_kept(self, core: Raft) -> None:
        term, candidate = self._last_vote.get(core.id, (0, 0))
        if core.term < term or (core.term == term and core.vote != candidate):
            raise InvariantViolation(f"VoteDurable: node {core.id} forgot its vote for {candidate} in term {term}")

    def _check_log(self, core: Raft, seen: _Seen) -> None:
        log = core.log
        if (log.last, log.last_term) == (seen.last, seen.last_term):
            return
        first = log.first_index()
        start = first
        if seen.last >= first and log.matches(seen.last, seen.last_term):
            start = seen.last + 1
        elif seen.role == Role.LEADER and core.role == Role.LEADER and seen.term == core.term and seen.last >= first:
            raise InvariantViolation(f"LeaderAppendOnly: node {core.id} lost {seen.last} of its own log")
        elif log.commit + 1 >= first and seen.last > 0:
            start = log.commit + 1
        if start > log.last:
            return
        before = log.term(start - 1)
        for entry in log.entries(start, log.last + 1, 1 << 40):
            self._check_entry(core.id, entry, before)
            before = entry.term

    def _check_entry(self, node: int, entry: Entry, before: int) -> None:
        key = (entry.index, entry.term)
        known = self._entries.get(key)
        if known is None:
            self._entries[key] = (entry, before)
            previous = self._entries.get((entry.index - 1, before))
            if previous is not None and before == entry.term and previous[0].subterm > entry.subterm:
                raise InvariantViolation(f"SubtermMonotone: {entry!r} follows {previous[0]!r}")
            if entry.kind == EntryKind.CONFIG:
                other = self._config_at.setdefault((entry.term, entry.subterm), entry.data)
                if other != entry.data:
                    raise InvariantViolation(f"SubtermMonotone: two memberships in subterm of {entry!r}")
        elif known != (entry, before):
            raise InvariantViolation(f"LogMatching: node {node} has {entry!r} after term {before}, seen {known!r}")

    def _check_commit(self, core: Raft, seen: _Seen) -> None:
        log = core.log
        if log.commit == seen.commit:
            return
        start = max(seen.commit + 1, log.first_index())
        if start > log.commit:
            return
        for entry in log.entries(start, log.commit + 1, 1 << 40):
            known = self._committed.setdefault(entry.index, entry)
            if known != entry:
                raise InvariantViolation(f"StateMachineSafety: node {core.id} commits {entry!r}, known is {known!r}")
            held = self._committed_in.get(entry.index, core.term)
            self._committed_in[entry.index] = min(held, core.term)
            if entry.kind == EntryKind.CONFIG:
                self._memberships[entry.index] = entry.data
        self.committed_max = max(self.committed_max, log.commit)

    def _check_membership(self, core: Raft) -> None:
        """The membership in force at the commit index is the one last committed, snapshot or not."""
        index = max((at for at in self._memberships if at <= core.log.commit), default=0)
        if index and core.membership_at(core.log.commit).encode() != self._memberships[index]:
            raise InvariantViolation(f"MembershipOfLog: node {core.id} does not use the membership of {index}")

    def _check_counted(self, core: Raft, durable: LogReader) -> None:
        """What a leader commits is on a majority's disks as far as it was told, its own included only if it is."""
        commit = core.log.commit
        holds = [node for node, pr in core.peers.items() if pr.match >= commit]
        if durable.last_index() >= commit:
            holds.append(core.id)
        # A membership appended by this very commit may ask for another majority than the one that made it.
        memberships = [membership for at, membership in core.conf if at <= core.log.last]
        rs = core.replication
        if rs is not None and rs.witness_match >= commit and self._witness.vouches(rs.witness, core.term):
            holds.append(rs.witness)
        for membership in memberships:
            if is_quorum(membership, holds):
                return
        raise InvariantViolation(
            f"SelfAckStable: node {core.id} commits {commit} held by {holds} of {memberships[-1]!r}"
        )

    def _check_leader(self, core: Raft, seen: _Seen) -> None:
        if core.role != Role.LEADER or (seen.role == Role.LEADER and seen.term == core.term):
            return
        other = self._leaders.setdefault(core.term, core.id)
        if other != core.id:
            raise InvariantViolation(f"ElectionSafety: {other} and {core.id} both lead term {core.term}")
        for index, entry in self._committed.items():
            if self._committed_in[index] < core.term and not _holds(core.log, index, entry.term):
                raise InvariantViolation(
                    f"LeaderCompleteness: node {core.id} leads term {core.term} without committed {entry!r}"
                )


def _holds(log: RaftLog, index: int, term: int) -> bool:
    return index < log.first_index() or log.matches(index, term)
