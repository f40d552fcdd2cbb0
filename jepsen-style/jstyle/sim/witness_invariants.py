"""The promises of a witness and of leaders that count one, checked after every event: W1-W7 and the named ones beside.

LeaderS: a leader is in its set, which has as many members as there are full voters. PinExclusive: while a leader of two
full nodes is pinned nobody leads a later term. WitnessQuiet: a leader whose set is all full nodes asks nothing.
NoAmnesia: a witness whose state was destroyed answers nothing. Rules are worked out anew from what is on the media,
with no help from the code that is judged; only what changed since the last look is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.app import App
from durakv.witness import wire
from durakv.witness.parts import StateKey
from durakv.witness.store import Trace
from jstyle.sim.quorums import full_voters, is_quorum
from jstyle.sim.violation import Violation
from jstyle.sim.witness_record import Records
from raft.messages import Message, WitnessAppend, WitnessAppendResp, WitnessVote, WitnessVoteResp
from raft.types import Membership, Role
from raft.witness import WitnessState

if TYPE_CHECKING:
    from jstyle.sim.invariants import Watch
    from jstyle.sim.shadow import Shadow
    from jstyle.sim.witness_host import WitnessHost
    from raft.core import Raft
    from raft.replication_set import ReplicationSet

_NOBODY: Final = (0, 0, 0)


class _Seen:
    """One node's dealings with the witness at the last look. ``key`` changes when anything worth a look did."""

    __slots__ = ("app", "has_witness", "key", "match", "pinned", "question", "sent", "subterm", "term")

    def __init__(self) -> None:
        self.app: App | None = None
        self.key: tuple[object, ...] = ()
        self.forget()

    def forget(self) -> None:
        """It does not lead, or leads another term."""
        self.term = -1
        self.subterm = -1
        self.has_witness = True
        self.match = 0
        self.sent = 0
        self.question = _NOBODY
        self.pinned = False


class WitnessInvariants:
    """``counts``: how often what a witness is for came to pass; a run in which nothing did shows nothing."""

    def __init__(self, host: WitnessHost, watches: list[Watch], shadow: Shadow) -> None:
        self.host = host
        self.watches = watches
        self.shadow = shadow
        self.fixed: dict[tuple[int, int], tuple[int, ...]] = {}
        self._memberships: dict[tuple[int, int], Membership] = {}
        self.records = Records(host, self.fixed)
        self.counts: dict[str, int] = {}
        self._seen = [_Seen() for _ in watches]
        self._leaders: dict[int, Raft] = {}
        host.overheard = self

    def count(self, name: str) -> None:
        """Note that something happened."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def check(self) -> None:
        """Look at the witness's medium and at every node that moved. Raises Violation."""
        self.records.refresh()
        for watch, seen in zip(self.watches, self._seen, strict=True):
            self._glance(watch, seen)

    def before_commit(self, watch: Watch) -> None:
        """A node's commit index moved: first see what it counted for that. Raises Violation."""
        self.records.refresh()
        self._glance(watch, self._seen[self.watches.index(watch)])

    def _glance(self, watch: Watch, seen: _Seen) -> None:
        app = watch.machine.app
        if app is None:
            if seen.app is not None:
                self._gone(watch, seen)
            return
        core = app.node.core
        rs = core.replication
        key: tuple[object, ...] = (core.term, core.role, core.subterm, core.witness_sent, len(core.votes))
        if rs is not None:
            key = (*key, rs.members, rs.witness_subterm, rs.witness_match, rs.asked_index, rs.asked_ticks)
        if key != seen.key or app is not seen.app:
            seen.app, seen.key = app, key
            self._look(watch, seen, core)

    def _gone(self, watch: Watch, seen: _Seen) -> None:
        seen.app = None
        seen.forget()
        self._leaders.pop(watch.machine.number, None)

    def _look(self, watch: Watch, seen: _Seen, core: Raft) -> None:
        witness_id = core.membership.witness_id()
        if witness_id and core.role in (Role.CANDIDATE, Role.LEADER) and core.votes.get(witness_id):
            self._vote_counted(watch, core, witness_id)
        if core.role != Role.LEADER:
            seen.forget()
            self._leaders.pop(watch.machine.number, None)
            return
        self._leaders[watch.machine.number] = core
        rs = core.replication
        if core.term != seen.term:
            seen.forget()
            seen.sent = core.witness_sent
        if witness_id == 0 or rs is None:
            if witness_id and rs is None:
                raise Violation("LeaderS", f"{watch.where} leads a group with witness {witness_id} without a set")
            seen.forget()
            seen.term, seen.sent = core.term, core.witness_sent
            self._exclusive()
            return
        self._set(watch, seen, core, rs)
        self._question(watch, seen, core, rs)
        self._counted(watch, seen, core, rs)
        seen.term, seen.subterm, seen.sent = core.term, core.subterm, core.witness_sent
        seen.match, seen.has_witness = rs.witness_match, rs.has_witness
        pinned = self.pinned(core)
        if pinned and not seen.pinned:
            self.count("pins")
        seen.pinned = pinned
        self._exclusive()

    # -- leaders -------------------------------------------------------------------------------------------------------

    def _set(self, watch: Watch, seen: _Seen, core: Raft, rs: ReplicationSet) -> None:
        membership, at = core.membership, (core.term, core.subterm)
        voters = full_voters(membership)
        if len(rs.members) != len(voters) or (watch.machine.node_id in voters) > (watch.machine.node_id in rs.members):
            raise Violation("LeaderS", f"{watch.where} leads {membership!r} with the set {rs.members}")
        if seen.term == core.term and core.subterm < seen.subterm:
            raise Violation("W3", f"{watch.where} went from subterm {seen.subterm} to {core.subterm} in {core.term}")
        known, former = self._memberships.setdefault(at, membership), self.fixed.setdefault(at, rs.members)
        if known != membership or former != rs.members:
            raise Violation(
                "W3", f"{watch.where} works with {rs.members} of {membership!r} in {at}, which began with {former} of "
                f"{known!r}",
            )  # fmt: skip
        if seen.term == core.term and core.subterm == seen.subterm:
            return
        log, index = core.log, rs.start_index
        if seen.term == core.term:
            self.count("subterms")
        if index > log.last or not _is_of(core, index, at):
            raise Violation(
                "W3", f"{watch.where} began {at} without an entry of it at {index}; its log ends {log.last}"
            )

    def _question(self, watch: Watch, seen: _Seen, core: Raft, rs: ReplicationSet) -> None:
        if not rs.has_witness:
            if not seen.has_witness and seen.term == core.term and core.witness_sent > seen.sent:
                raise Violation("WitnessQuiet", f"{watch.where} asked the witness, its set is {rs.members}")
            return
        question = (core.subterm, rs.asked_index, rs.asked_ticks)
        if rs.asked_index == 0 or question == seen.question:
            return
        seen.question = question
        self.count("appends asked")
        at = (core.term, core.subterm)
        if rs.witness not in rs.members or not _is_of(core, rs.asked_index, at):
            raise Violation("W4", f"{watch.where} asks the witness to record {at} for {rs.asked_index}, of another one")
        holders = [w.machine.node_id for w in self.watches if w.machine.node_id in rs.members]
        holders = [node for node in holders if self._held(node, core, rs.asked_index)]
        if not is_quorum(core.membership, [*holders, rs.witness]):
            raise Violation(
                "W4", f"{watch.where} asks for {rs.asked_index} of {at}: of {rs.members} only {holders} held it"
            )

    def _held(self, node: int, core: Raft, index: int) -> bool:
        """Whether a member's medium holds the leader's entry, or did when it acknowledged it: the leader of a later
        term may have replaced it since, unheard of by this one. Then the witness refuses, and nothing is committed.
        """
        watch = next(watch for watch in self.watches if watch.machine.node_id == node)
        if watch.holds(index, core.term):
            return True
        acked = core.peers.get(node)
        return acked is not None and acked.match >= index and watch.hard[0] > core.term

    def _counted(self, watch: Watch, seen: _Seen, core: Raft, rs: ReplicationSet) -> None:
        recorded = self.records.of(rs.witness).recorded
        at = (core.term, core.subterm)
        if rs.has_witness and rs.witness_subterm == core.subterm and recorded.get(at) != rs.members:
            raise Violation("W5", f"{watch.where} counts on the record of {at}: the witness has {recorded.get(at)}")
        match = rs.witness_match
        if match <= seen.match or match == 0:
            return
        term = core.log.term(match)
        known = self.shadow.entries.get((match, term))
        if known is None or term != core.term or (term, known.subterm) not in recorded:
            raise Violation("W5", f"{watch.where} counts the witness for {match} of {term}, which it never recorded")
        pair = (term, known.subterm)
        if not self._subquorum(self._memberships[pair], recorded[pair], match, term):
            raise Violation("W5", f"{watch.where} counts the witness for {match}, which no subquorum holds")

    def _subquorum(self, membership: Membership, members: tuple[int, ...], index: int, term: int) -> bool:
        """Whether the media of a set's members, with the witness, make a quorum."""
        holders = [w.machine.node_id for w in self.watches if w.machine.node_id in members and w.holds(index, term)]
        return is_quorum(membership, [*holders, membership.witness_id()])

    def vouches(self, index: int, term: int, membership: Membership, holders: list[int]) -> bool:
        """Whether the witness makes a quorum of ``holders`` (R7): it recorded the entry's subterm, and of the set it
        recorded enough hold the entry.

        After a change of membership others may count beside it, as long as a subquorum of the set holds the entry: the
        record bars everybody else of that subterm, and whoever holds the entry bars the rest.
        """
        self.records.refresh()
        witness_id = membership.witness_id()
        known = self.shadow.entries.get((index, term))
        if not witness_id or known is None:
            return False
        members = self.records.of(witness_id).recorded.get((term, known.subterm))
        if members is None or witness_id not in members:
            return False
        if is_quorum(membership, [*(node for node in holders if node in members), witness_id]):
            return True
        when_recorded = self._memberships.get((term, known.subterm))
        if when_recorded is None or not self._subquorum(when_recorded, members, index, term):
            return False
        return is_quorum(membership, [*holders, witness_id])

    def pinned(self, core: Raft) -> bool:
        """Whether the witness keeps everybody but this leader of two full nodes from being elected."""
        rs, membership = core.replication, core.membership
        if core.role != Role.LEADER or rs is None or not rs.has_witness or len(membership.voters) != 2:
            return False
        state = self.records.of(rs.witness).state
        at = (core.term, core.subterm)
        return (
            not membership.is_joint()
            and core.id in membership.voters
            and rs.witness not in self.host.lost
            and state is not None
            and (state.last_log_term, state.last_log_subterm) == at
            and rs.witness_subterm == core.subterm
        )

    def _exclusive(self) -> None:
        if len(self._leaders) < 2:
            return
        for core in self._leaders.values():
            if self.pinned(core):
                for other in self._leaders.values():
                    if other.term > core.term:
                        raise Violation(
                            "PinExclusive", f"n{core.id} is pinned in term {core.term}, n{other.id} leads {other.term}"
                        )

    def _vote_counted(self, watch: Watch, core: Raft, witness_id: int) -> None:
        if witness_id in self.host.lost:
            return
        if self.records.of(witness_id).votes.get(core.term) != watch.machine.node_id:
            raise Violation("W1", f"{watch.where} counts a vote of the witness in {core.term}; its medium has none")

    # -- what is overheard at a process --------------------------------------------------------------------------------

    def asked(self, key: StateKey, message: Message) -> None:
        """See Overheard."""
        if isinstance(message, WitnessVote) and not message.pre:
            self._vouched_for(key, message)

    def _vouched_for(self, key: StateKey, m: WitnessVote) -> None:
        """W6: a candidate asks only when the witness's vote is all that is missing, with votes that are durable."""
        for watch in self.watches:
            node = watch.machine.node_id
            if node in m.votes_granted:
                watch.refresh()
                if watch.hard[0] < m.term or (watch.hard[0] == m.term and watch.hard[1] != m.from_):
                    raise Violation("W6", f"{m!r} names the vote of {watch.where}, whose disk has {watch.hard}")
            if node == m.from_ and watch.machine.app is not None:
                core = watch.machine.app.node.core
                asks = core.role == Role.CANDIDATE and core.term == m.term and core.membership.witness_id() == m.to
                if asks and not is_quorum(core.membership, [*m.votes_granted, m.to]):
                    raise Violation("W6", f"{m!r} of a candidate of {core.membership!r} lacks more than this vote")
        del key

    def answered(self, key: StateKey, question: Message, answer: Message, trace: Trace) -> None:
        """See Overheard."""
        witness_id = key.witness_id
        if witness_id in self.host.lost:
            raise Violation("NoAmnesia", f"witness {witness_id} lost its state and answers {question!r}")
        self.records.refresh()
        record = self.records.of(witness_id)
        pre = isinstance(question, WitnessVote) and question.pre
        after = record.versions.get(trace.new_version)
        if after is None and not pre:
            raise Violation("W1", f"witness {witness_id} answers {answer!r} from {trace.new_version}, not durable")
        before = record.versions.get(trace.version)
        if isinstance(answer, WitnessVoteResp) and isinstance(question, WitnessVote):
            self.count(("pre-votes " if pre else "votes ") + ("granted" if answer.granted else "refused"))
            if answer.granted and before is not None and not _may_lead(before, question):
                raise Violation("W6", f"witness {witness_id} grants {question!r} although it holds {before!r}")
            if answer.granted and not pre and after is not None and (after.term, after.vote) < (question.term, 0):
                raise Violation("W1", f"witness {witness_id} grants {question!r} but keeps {after!r}")
            if answer.granted and not pre and record.votes.get(question.term) != question.from_:
                raise Violation("W1", f"witness {witness_id} grants {question!r} but voted {record.votes!r}")
        if isinstance(answer, WitnessAppendResp) and isinstance(question, WitnessAppend):
            self.count("appends " + ("recorded" if answer.ok else "refused"))
            pair = (question.last_log_term, question.last_log_subterm)
            if answer.ok and record.recorded.get(pair) != question.replication_set:
                raise Violation("W1", f"witness {witness_id} says it recorded {question!r}; it holds {after!r}")

    def refused(self, key: StateKey, question: Message, kind: int) -> None:
        """See Overheard."""
        del question
        self.count("said to be lost" if kind == wire.LOST else "refused to answer")
        if kind == wire.LOST and key.witness_id not in self.host.lost:
            raise Violation("W2", f"witness {key.witness_id} takes its state for lost; nobody touched it")


def _is_of(core: Raft, index: int, at: tuple[int, int]) -> bool:
    """Whether the log's entry is of (term, subterm) ``at``."""
    log = core.log
    if index > log.last or index < log.first_index():
        return False
    entry = log.entries(index, index + 1, 0)[0]
    return (entry.term, entry.subterm) == at


def _may_lead(state: WitnessState, m: WitnessVote) -> bool:
    """The rule of the design, B.6 a-c."""
    if m.last_log_term != state.last_log_term:
        return m.last_log_term > state.last_log_term
    if m.last_log_subterm != state.last_log_subterm:
        return m.last_log_subterm > state.last_log_subterm
    return set(m.votes_granted) <= set(state.replication_set)
