"""What must hold whatever happens in lease mode, checked over cores, disks and the register after every step of a test.

Rule: reads only; a violation is an InvariantViolation that names the rule. Not for production hot paths. A forced
promotion ends the history of acknowledged writes at what it kept, and starts a new one.
"""

from collections.abc import Sequence

from raft.log import RaftLog
from raft.primary_backup.core import PrimaryBackup
from raft.primary_backup.messages import Beacon, BeaconOk, CasCall, HolderCall, PeerMessage, Prepare, PrepareOk
from raft.primary_backup.types import ShardConfig
from raft.storage import LogReader
from raft.types import Entry, HardState, Role
from raft.witness_invariants import InvariantViolation

__all__ = ["InvariantViolation", "Invariants"]


class _Seen:
    """What one running core showed last; a restart begins a new one."""

    __slots__ = ("commit", "rebuilding", "role", "term")

    def __init__(self, commit: int) -> None:
        self.term = 0
        self.role: int = Role.FOLLOWER
        self.commit = commit
        self.rebuilding = False


class Invariants:
    """The memory of one shard's whole history. `committed_max` is the highest index any primary committed."""

    def __init__(self, founded: ShardConfig) -> None:
        self.holder = founded
        self.committed_max = 0
        self.forces = 0
        # Committed entries, and the epoch of the primary that first committed each.
        self._committed: dict[int, Entry] = {}
        self._committed_in: dict[int, int] = {}
        self._acked_max = 0
        self._owners: dict[int, tuple[int, int]] = {}
        self._acked_term: dict[int, int] = {}
        # (index, term) of every entry ever committed -> it, and the term of the entry before it.
        self._lineage: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._seen: dict[int, _Seen] = {}
        self._cores: dict[int, PrimaryBackup] = {}
        self._disks: dict[int, LogReader] = {}

    # What happens

    def note_started(self, core: PrimaryBackup) -> None:
        """The node starts or restarts from what its disk holds."""
        self._seen[core.id] = _Seen(core.log.commit)
        self._cores[core.id] = core
        if core.term < self._acked_term.get(core.id, 0):
            raise InvariantViolation(f"EpochMonotone: node {core.id} forgot epoch {self._acked_term[core.id]}")

    def note_disk(self, node: int, durable: LogReader) -> None:
        """The node's disk holds `durable` for certain; call again when the object is replaced."""
        self._disks[node] = durable

    def note_holder(self, config: ShardConfig) -> None:
        """The register's configuration of the shard is this now; call after every command."""
        before = self.holder
        self.holder = config
        if config == before:
            return
        if config.epoch <= before.epoch:
            raise InvariantViolation(f"HolderMonotone: {config!r} after {before!r}")
        if config.forced_epoch != before.forced_epoch:
            self._forced(config)
            return
        if config.primary != before.primary and config.primary not in before.isr:
            raise InvariantViolation(f"PromoteOnlyISR: {config!r} after {before!r}")
        self._check_prepared(config)

    def note_founded(self, entry: Entry) -> None:
        """Every node starts with this first entry, committed."""
        self._note_committed(entry, 0, 1)

    def _note_committed(self, entry: Entry, before: int, epoch: int) -> None:
        self._committed[entry.index] = entry
        self._committed_in[entry.index] = min(epoch, self._committed_in.get(entry.index, epoch))
        self._lineage[entry.index, entry.term] = (entry, before)
        self.committed_max = max(self.committed_max, entry.index)

    def _forced(self, config: ShardConfig) -> None:
        """Whatever the promoted node lacks is gone, by the operator's will, and what it had committed is back."""
        self.forces += 1
        disk = self._disks[config.primary]
        commit = self._cores[config.primary].log.commit
        kept: dict[int, Entry] = {}
        for entry in disk.entries(disk.first_index(), disk.last_index() + 1, 1 << 40) if not _empty(disk) else []:
            if entry.index <= commit or self._committed.get(entry.index) == entry:
                kept[entry.index] = entry
        at = disk.first_index() - 1
        term = disk.term(at)
        while (at, term) in self._lineage:
            # Below its log the node's snapshot holds what led there.
            kept[at], term = self._lineage[at, term]
            at -= 1
        self._committed_in = {i: self._committed_in.get(i, config.epoch) for i in kept}
        self._committed = kept
        self.committed_max = max(kept, default=0)
        self._acked_max = min(self._acked_max, self.committed_max)

    def _check_prepared(self, config: ShardConfig) -> None:
        for node in config.isr:
            disk = self._disks[node]
            # Below the last committed one, logs that agree there agree everywhere (LogMatching).
            entry = self._committed.get(self.committed_max)
            if entry is not None and not holds(disk, entry):
                raise InvariantViolation(f"PreparedSuperset: node {node} of {config!r} lacks committed {entry!r}")

    def note_call(self, core: PrimaryBackup, call: HolderCall) -> None:
        """The core asks the holder for something."""
        if not isinstance(call, CasCall) or core.role != Role.LEADER or core.resigned:
            return
        for node in call.config.isr:
            if node in core.isr:
                continue
            if core.log.commit < core.noop_index:
                raise InvariantViolation(f"AdmitCovered: node {core.id} admits {node} before it committed in its reign")
            entry = self._committed.get(core.log.commit)
            if entry is not None and not holds(self._disks[node], entry):
                raise InvariantViolation(f"AdmitCovered: node {core.id} admits {node}, which lacks {entry!r}")

    def note_sent(self, m: PeerMessage, durable: LogReader, hard_state: HardState) -> None:
        """A message leaves its sender, whose disk holds `durable` and `hard_state` for certain."""
        if isinstance(m, (PrepareOk, BeaconOk)):
            self._acked_term[m.from_] = max(m.term, self._acked_term.get(m.from_, 0))
            if hard_state.term < m.term:
                raise InvariantViolation(f"AckDurable: {m.from_} acks in {m.term}, its disk has {hard_state.term}")
            if isinstance(m, PrepareOk) and m.ok and hard_state.term == m.term and durable.last_index() < m.match:
                raise InvariantViolation(f"AckDurable: {m.from_} acks {m.match}, disk ends at {durable.last_index()}")
        elif isinstance(m, (Prepare, Beacon)):
            owner = self._owners.get(m.term)
            if owner is None or owner[0] != m.from_:
                raise InvariantViolation(f"OneOwner: {m.from_} acts as primary in epoch {m.term} of {owner}")

    def note_acknowledged(self, index: int) -> None:
        """A client was told that the entry at `index` is in force."""
        self._acked_max = max(self._acked_max, index)
        if index > self.committed_max:
            raise InvariantViolation(f"ReplyCommitted: {index} is acknowledged, {self.committed_max} is committed")

    def note_admitted(self, core: PrimaryBackup) -> None:
        """The core took a proposal just now."""
        if len(core.isr) < core.min_isr:
            raise InvariantViolation(f"FailClosed: node {core.id} takes a write with {core.isr} in sync")

    def note_serving(self, serving: Sequence[int]) -> None:
        """The nodes that would answer a read at one instant of real time."""
        if len(serving) > 1:
            raise InvariantViolation(f"LeaseExclusive: nodes {list(serving)} would serve reads at once")

    # What must hold of one core

    def check(self, core: PrimaryBackup) -> None:
        """Every rule that one node can break by its last step."""
        seen = self._seen[core.id]
        log = core.log
        if core.term < seen.term:
            raise InvariantViolation(f"EpochMonotone: node {core.id} went from epoch {seen.term} to {core.term}")
        if core.term > self.holder.epoch:
            raise InvariantViolation(f"OneOwner: node {core.id} knows epoch {core.term} before the holder does")
        if not log.emitted <= log.commit <= log.last:
            raise InvariantViolation(
                f"CommitOrder: node {core.id} emitted {log.emitted} commit {log.commit} last {log.last}"
            )
        self._check_stable(core)
        if core.role == Role.LEADER:
            self._check_office(core, seen)
        if log.commit < seen.commit and not seen.rebuilding:
            raise InvariantViolation(f"CommitOrder: commit of node {core.id} fell from {seen.commit} to {log.commit}")
        if log.commit != seen.commit and not core.rebuild_for:
            self._check_commit(core, seen)
        seen.term, seen.role, seen.commit = core.term, core.role, log.commit
        seen.rebuilding = core.rebuild_for != 0

    def _check_stable(self, core: PrimaryBackup) -> None:
        stable = core.log.stable
        if stable == 0 or core.log.pending_snapshot is not None:
            return
        disk = self._disks[core.id]
        if disk.last_index() < stable or (
            disk.first_index() - 1 <= stable and disk.term(stable) != core.log.term(stable)
        ):
            raise InvariantViolation(f"SelfAckStable: node {core.id} counts {stable} durable, its disk does not")

    def _check_office(self, core: PrimaryBackup, seen: _Seen) -> None:
        owner = self._owners.setdefault(core.term, (core.id, core.nonce))
        if owner[0] != core.id:
            raise InvariantViolation(f"OneOwner: {owner[0]} and {core.id} both own epoch {core.term}")
        if owner[1] != core.nonce:
            raise InvariantViolation(f"NoResume: node {core.id} resumes epoch {core.term} of an earlier run")
        effective = core.effective()
        held = self.holder
        if held.primary == core.id and held.request.made_by(core.id, core.nonce):
            outside = [node for node in held.isr if node not in effective]
            if outside:
                raise InvariantViolation(f"EffectiveCovers: {core.id} counts {effective}, the holder has {held.isr}")
        change = core.change
        if change is not None and isinstance(change.call, CasCall):
            wanted = {*core.isr, *change.call.config.isr}
            if not wanted <= set(effective):
                raise InvariantViolation(f"NoCommitWhileUnsure: {core.id} counts {effective} while {wanted} may hold")
        if seen.role != Role.LEADER:
            self._check_complete(core)

    def _check_complete(self, core: PrimaryBackup) -> None:
        """A new primary's log holds everything committed in earlier epochs."""
        for index, entry in self._committed.items():
            if self._committed_in[index] < core.term and not _log_holds(core.log, entry):
                raise InvariantViolation(f"AckedSurvives: node {core.id} leads {core.term} without {entry!r}")

    def _check_commit(self, core: PrimaryBackup, seen: _Seen) -> None:
        log = core.log
        start = max(seen.commit + 1, log.first_index())
        before = log.term(start - 1) if start <= log.commit else 0
        leads = core.role == Role.LEADER
        if core.term < self.holder.forced_epoch and not leads:
            # Of a history that was given up; it will be told.
            return
        newest: Entry | None = None
        for entry in log.entries(start, log.commit + 1, 1 << 40) if start <= log.commit else []:
            known = self._committed.get(entry.index)
            if known is None:
                if not leads:
                    raise InvariantViolation(f"PreparedSuperset: node {core.id} commits {entry!r} before a primary")
                self._note_committed(entry, before, core.term)
            elif known != entry:
                raise InvariantViolation(f"AckedSurvives: node {core.id} commits {entry!r}, known is {known!r}")
            elif leads:
                self._committed_in[entry.index] = min(core.term, self._committed_in[entry.index])
            newest = entry
            before = entry.term
        if leads and newest is not None:
            self._check_counted(core, newest)

    def _check_counted(self, core: PrimaryBackup, newest: Entry) -> None:
        effective = core.effective()
        if len(effective) < core.min_isr:
            raise InvariantViolation(f"FailClosed: node {core.id} commits with {effective}, {core.min_isr} are wanted")
        for node in effective:
            # An old primary may learn late of acknowledgements given before its member took over and went on.
            if not holds(self._disks[node], newest):
                raise InvariantViolation(f"ReplyCommitted: node {core.id} commits {newest!r}, node {node} lacks it")
        self._check_prepared(self.holder)


def _empty(disk: LogReader) -> bool:
    return disk.last_index() < disk.first_index()


def holds(disk: LogReader, entry: Entry) -> bool:
    """True if the disk has the entry, or a snapshot that covers it."""
    if entry.index < disk.first_index() - 1:
        return True
    return entry.index <= disk.last_index() and disk.term(entry.index) == entry.term


def _log_holds(log: RaftLog, entry: Entry) -> bool:
    return entry.index < log.first_index() or log.matches(entry.index, entry.term)
