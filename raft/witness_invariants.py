"""What must hold of a group's witness and of leaders that count it, checked over cores, wire and witness states.

Rule: reads only; a violation is an InvariantViolation that names the rule. Fed by invariants.py. Not for production
hot paths.
"""

from raft.core import Raft
from raft.messages import AppendResp, WitnessAppend, WitnessAppendResp
from raft.pin import engaged, pinned, regulars
from raft.storage import LogReader
from raft.types import Membership, Role
from raft.witness import WitnessState


class InvariantViolation(AssertionError):
    """A rule of the protocol was broken; the text names it."""


def is_quorum(membership: Membership, holds: list[int]) -> bool:
    """True if `holds` has a majority of each half, witnesses counted."""
    for half in (membership.electorate(), membership.electorate_outgoing()):
        if half and 2 * sum(node in holds for node in half) <= len(half):
            return False
    return True


class _Led:
    """What a leader showed at its last check."""

    __slots__ = ("has_witness", "sent", "term")

    def __init__(self, term: int, has_witness: bool, sent: int) -> None:
        self.term = term
        self.has_witness = has_witness
        self.sent = sent


class WitnessInvariants:
    """The memory of one group's history as far as a witness plays a part in it."""

    def __init__(self) -> None:
        self._cores: dict[int, Raft] = {}
        self._led: dict[int, _Led] = {}
        self._states: dict[int, WitnessState] = {}
        # (term, subterm) -> the membership and the replication set a leader used in it.
        self._subterms: dict[tuple[int, int], tuple[Membership, tuple[int, ...]]] = {}
        # Questions seen on the wire and found backed: (witness, term, subterm) -> set.
        self._backed: dict[tuple[int, int, int], tuple[int, ...]] = {}
        # (term, node) -> the highest index it acknowledged in that term.
        self._acked: dict[tuple[int, int], int] = {}
        # (witness, term, subterm) acknowledged on the wire.
        self._recorded: set[tuple[int, int, int]] = set()

    def note_started(self, core: Raft) -> None:
        """A member runs."""
        self._cores[core.id] = core
        self._led.pop(core.id, None)

    def note_stopped(self, node: int) -> None:
        """A member does not."""
        self._cores.pop(node, None)

    def note_acked(self, m: AppendResp) -> None:
        """A voter acknowledged durable entries."""
        self._acked[m.term, m.from_] = max(m.match, self._acked.get((m.term, m.from_), 0))

    def note_asked(self, m: WitnessAppend, durable: LogReader) -> None:
        """A leader asks the witness to record a subterm: a subquorum of the set must hold an entry of it durably."""
        core = self._cores[m.from_]
        self._note_subterm(core)
        known = self._subterms.get((m.term, m.last_log_subterm))
        if known is None or m.last_log_term != m.term or known[1] != m.replication_set:
            raise InvariantViolation(f"WitnessBacked: {m.from_} asks for a subterm it never led, {known!r}")
        if m.to not in m.replication_set:
            raise InvariantViolation(f"WitnessQuiet: {m.from_} asks a witness outside {m.replication_set}")
        holds = [m.to] + [n for n in m.replication_set if self._acked.get((m.term, n), 0) >= m.index and n != m.to]
        if durable.last_index() >= m.index and m.from_ in m.replication_set:
            holds.append(m.from_)
        if not is_quorum(known[0], holds):
            raise InvariantViolation(f"WitnessBacked: {m.index} is held by {holds} of {known!r}")
        if durable.first_index() <= m.index <= durable.last_index():
            entry = durable.entries(m.index, m.index + 1, 0)[0]
            if (entry.term, entry.subterm) != (m.term, m.last_log_subterm):
                raise InvariantViolation(f"WitnessBacked: {entry!r} is not of subterm {m.last_log_subterm}")
        self._backed[m.to, m.term, m.last_log_subterm] = m.replication_set

    def note_answered(self, m: WitnessAppendResp) -> None:
        """A witness answers; what it says it recorded is in its state."""
        if not m.ok:
            return
        state = self._states[m.from_]
        if (state.last_log_term, state.last_log_subterm) < (m.term, m.subterm):
            raise InvariantViolation(f"NoAmnesia: witness acknowledges subterm {m.subterm}, its disk has {state!r}")
        self._recorded.add((m.from_, m.term, m.subterm))

    def note_state(self, state: WitnessState) -> None:
        """A witness has this state on its disk."""
        known = self._states.get(state.node_id)
        self._states[state.node_id] = state
        new = (state.last_log_term, state.last_log_subterm)
        if state.term < state.last_log_term:
            raise InvariantViolation(f"WitnessMonotone: {state!r} recorded a later term than it knows")
        if known is not None:
            old = (known.last_log_term, known.last_log_subterm)
            if state.term < known.term or new < old or (new == old and state.replication_set != known.replication_set):
                raise InvariantViolation(f"WitnessMonotone: {state!r} after {known!r}")
            if state.term == known.term and known.vote not in (0, state.vote):
                raise InvariantViolation(f"NoAmnesia: {state!r} forgot the vote of {known!r}")
            if new == old:
                return
        if new != (0, 0) and self._backed.get((state.node_id, *new)) != state.replication_set:
            raise InvariantViolation(f"WitnessBacked: nobody asked for {state!r}")

    def vouches(self, witness: int, term: int) -> bool:
        """True if the witness recorded a subterm of `term` or a later one."""
        state = self._states.get(witness)
        return state is not None and state.last_log_term >= term

    def check(self, core: Raft) -> None:
        """Every rule of leaders, pinned ones above all."""
        if core.role != Role.LEADER:
            self._led.pop(core.id, None)
            return
        self._note_subterm(core)
        self._check_exclusive(core)
        rs = core.replication
        if rs is None:
            if core.membership.witness_id():
                raise InvariantViolation(f"LeaderS: node {core.id} leads a group with a witness but has no set")
            self._led.pop(core.id, None)
            return
        voters = regulars(core.membership)
        if len(rs.members) != len(voters) or (core.id in voters and core.id not in rs.members):
            raise InvariantViolation(f"LeaderS: node {core.id} leads {voters} with set {rs.members}")
        state = self._states.get(rs.witness)
        if engaged(core, rs):
            recorded = (0, 0) if state is None else (state.last_log_term, state.last_log_subterm)
            wanted = (core.term, core.subterm)
            if recorded < wanted or (recorded == wanted and state and state.replication_set != rs.members):
                raise InvariantViolation(
                    f"ShortcutOnlyPinned: node {core.id} counts on {wanted}, witness has {state!r}"
                )
        match = rs.witness_match
        if core.log.first_index() <= match <= core.log.last:
            entry = core.log.entries(match, match + 1, 0)[0]
            if (rs.witness, core.term, entry.subterm) not in self._recorded or entry.term != core.term:
                raise InvariantViolation(f"ShortcutOnlyPinned: node {core.id} counts the witness for {entry!r}")
        before = self._led.get(core.id)
        if before is None or before.term != core.term:
            before = _Led(core.term, True, core.witness_sent)
        if not before.has_witness and not rs.has_witness and core.witness_sent > before.sent:
            raise InvariantViolation(f"WitnessQuiet: node {core.id} bothered the witness for nothing")
        self._led[core.id] = _Led(core.term, rs.has_witness, core.witness_sent)

    def _note_subterm(self, core: Raft) -> None:
        if core.role != Role.LEADER or core.replication is None:
            return
        now = (core.membership, core.replication.members)
        known = self._subterms.setdefault((core.term, core.subterm), now)
        if known != now:
            raise InvariantViolation(f"SubtermMonotone: {now!r} in the subterm of {known!r}")

    def _check_exclusive(self, core: Raft) -> None:
        for other in self._cores.values():
            if other.role != Role.LEADER or other.term == core.term:
                continue
            first, later = (core, other) if core.term < other.term else (other, core)
            if pinned(first):
                raise InvariantViolation(
                    f"PinExclusive: node {first.id} is pinned in term {first.term}, {later.id} leads {later.term}"
                )
