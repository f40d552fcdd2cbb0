"""Planted bugs of the witness: of its rules, of its record, and of leaders and candidates that count on it.

Rule: one function replaced per bug; the replacement is the mistake itself, not a fault that imitates its effect.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

from durakv.replication.copies import DataCopies
from durakv.witness import store_file
from durakv.witness.errors import StateLostError
from durakv.witness.parts import StateKey
from durakv.witness.record import INCARNATION_BYTES, Sealed
from durakv.witness.service import WitnessService
from durakv.witness.store import Loaded
from durakv.witness.store_file import FileRegister
from jstyle.mutants.patching import replaced
from raft import candidate, leader, pin, witness
from raft.messages import Message, WitnessAppend, WitnessAppendResp, WitnessVote, WitnessVoteResp
from raft.node import Node
from raft.quorum import WON
from raft.replication_set import ReplicationSet
from raft.types import Entry, Membership
from raft.witness import WitnessState

Patch = AbstractContextManager[None]
Swap = Callable[[Node, ReplicationSet, int], None]
Involve = Callable[[Node, ReplicationSet], None]
_TOKEN = b"planted!"


# ---- Leaders ---------------------------------------------------------------------------------------------------------


def late_answer_is_a_record() -> Patch:
    """M14: an answer about a former subterm is taken for one about the present one."""

    def make(recorded: Callable[[Node, WitnessAppendResp], bool]) -> Callable[[Node, WitnessAppendResp], bool]:
        def any_subterm(r: Node, m: WitnessAppendResp) -> bool:
            counted = recorded(r, m)
            rs = r.replication
            if counted and rs is not None and rs.has_witness:
                rs.witness_subterm = r.subterm
            return counted

        return any_subterm

    return replaced(pin, "recorded", make)


def set_changes_without_entry() -> Patch:
    """M16."""

    def make(swap: Swap) -> Swap:
        def nothing_appended(r: Node, rs: ReplicationSet, outside: int) -> None:
            log = r.log
            kept: list[Entry] = []
            log.append = kept.append  # type: ignore[assignment, method-assign]
            swap(r, rs, outside)
            del log.append

        return nothing_appended

    return replaced(pin, "_swap", make)


def set_changes_within_a_subterm() -> Patch:
    """X1: the explorer's nosubbump."""

    def make(swap: Swap) -> Swap:
        def same_subterm(r: Node, rs: ReplicationSet, outside: int) -> None:
            r.subterm -= 1
            swap(r, rs, outside)

        return same_subterm

    return replaced(pin, "_swap", make)


def membership_starts_no_subterm() -> Patch:
    """X2: the explorer's cfgnobump."""

    def make(append: Callable[[Node, Membership], int]) -> Callable[[Node, Membership], int]:
        def same_subterm(r: Node, membership: Membership) -> int:
            r.subterm -= 1
            return append(r, membership)

        return same_subterm

    return replaced(leader, "_append_membership", make)


def asks_for_a_former_subterm() -> Patch:
    """X3: the explorer's nosubcheck: whatever a subquorum holds is good enough to ask."""

    def make(involve: Involve) -> Involve:
        def any_index(r: Node, rs: ReplicationSet) -> None:
            start = rs.start_index
            rs.start_index = r.noop_index
            involve(r, rs)
            rs.start_index = start

        return any_index

    return replaced(pin, "_involve_witness", make)


def counts_before_the_record() -> Patch:
    """X4: asked is as good as answered."""

    def make(involve: Involve) -> Involve:
        def hasty(r: Node, rs: ReplicationSet) -> None:
            involve(r, rs)
            if rs.asked_index:
                rs.witness_subterm = r.subterm
                involve(r, rs)

        return hasty

    return replaced(pin, "_involve_witness", make)


def counts_its_unsynced_self() -> Patch:
    """X5: a leader alone with the witness counts itself before its disk does."""

    def make(involve: Involve) -> Involve:
        def eager(r: Node, rs: ReplicationSet) -> None:
            stable, r.log.stable = r.log.stable, r.log.last
            involve(r, rs)
            r.log.stable = stable

        return eager

    return replaced(pin, "_involve_witness", make)


def outsiders_count_for_the_record() -> Patch:
    """X6: a subquorum of all voters, not of the set."""

    def make(half: Callable[..., int]) -> Callable[..., int]:
        def all_of_it(r: Node, outgoing: bool, stat: int, outside: int, value: int) -> int:
            return half(r, outgoing, stat, 0, value)

        return all_of_it

    return replaced(pin, "_half", make)


def record_outlives_its_term() -> Patch:
    """X7: a leader begins as if the witness had recorded its first subterm."""

    def make(lead: Callable[[Node, dict[int, bool]], None]) -> Callable[[Node, dict[int, bool]], None]:
        def kept(r: Node, votes: dict[int, bool]) -> None:
            lead(r, votes)
            if r.replication is not None:
                r.replication.witness_subterm = 0

        return kept

    return replaced(pin, "lead", make)


def leader_leaves_its_set() -> Patch:
    """X8."""

    def make(swap: Swap) -> Swap:
        def itself(r: Node, rs: ReplicationSet, outside: int) -> None:
            swap(r, rs, r.id if outside else 0)

        return itself

    return replaced(pin, "_swap", make)


def witness_is_always_asked() -> Patch:
    """X9: every heartbeat goes to the witness too."""

    def make(tick: Involve) -> Involve:
        def chatty(r: Node, rs: ReplicationSet) -> None:
            tick(r, rs)
            if not rs.has_witness and r.ticks % r.config.heartbeat_ticks == 0:
                r.witness_sent += 1
                r.deliver(
                    WitnessAppend(r.group, r.id, rs.witness, r.term, r.term, r.subterm, r.log.last, rs.members)
                )  # fmt: skip

        return chatty

    return replaced(pin, "tick", make)


def counts_the_removed_beside_a_witness() -> Patch:
    """M30-w: the acknowledgement of a node that is being removed serves for a voter that is behind."""

    def make(held: Callable[[Node, ReplicationSet], int]) -> Callable[[Node, ReplicationSet], int]:
        def with_leavers(r: Node, rs: ReplicationSet) -> int:
            leaving = [pr.match for pr in r.peer_list if pr.leaving_index]
            slowest = min(r.incoming_half, key=lambda pr: pr.match, default=None)
            if not leaving or slowest is None or max(leaving) <= slowest.match:
                return held(r, rs)
            match, slowest.match = slowest.match, max(leaving)
            try:
                return held(r, rs)
            finally:
                slowest.match = match

        return with_leavers

    return replaced(pin, "held_index", make)


def half_is_a_majority() -> Patch:
    """X14: beside a witness the full nodes elect by half of their number."""

    def make(count: Callable[[Node], int]) -> Callable[[Node], int]:
        def of_full_nodes(r: Node) -> int:
            granted = sum(yes for node, yes in r.votes.items() if r.membership.is_voter(node))
            if r.membership.witness and 2 * granted >= len(r.membership.voters):
                return WON
            return count(r)

        return of_full_nodes

    return replaced(candidate, "_count", make)


def one_copy_is_two() -> Patch:
    """X16: a write that was on its way when the other copy was lost is acknowledged although two were promised."""

    def make(_: object) -> Callable[[DataCopies, list[Entry]], None]:
        def nobody_waits(self: DataCopies, entries: list[Entry]) -> None:
            del self, entries

        return nobody_waits

    return replaced(DataCopies, "withhold", make)


def candidate_boasts() -> Patch:
    """X15: a candidate tells the witness of a subterm that its log does not reach."""

    def make(ask: Callable[[Node], None]) -> Callable[[Node], None]:
        def boastful(r: Node) -> None:
            last_subterm = r.log.last_subterm
            r.log.last_subterm = lambda: last_subterm() + 1  # type: ignore[method-assign]
            ask(r)
            del r.log.last_subterm

        return boastful

    return replaced(candidate, "ask_witness", make)


# ---- The witness -----------------------------------------------------------------------------------------------------


def vouchers_do_not_matter() -> Patch:
    """M15: the explorer's nosubset."""

    def make(_: object) -> Callable[[WitnessState, WitnessVote], bool]:
        def no_worse(state: WitnessState, m: WitnessVote) -> bool:
            return (m.last_log_term, m.last_log_subterm) >= (state.last_log_term, state.last_log_subterm)

        return no_worse

    return replaced(witness, "_may_lead", make)


def votes_as_often_as_asked() -> Patch:
    """X12: one vote per question instead of one per term."""

    def make(vote: Callable[..., Any]) -> Callable[[WitnessState, WitnessVote], tuple[WitnessState, Message]]:
        def again(state: WitnessState, m: WitnessVote) -> tuple[WitnessState, Message]:
            if state.vote and state.term == m.term:
                state = WitnessState(
                    state.group, state.node_id, state.term, 0, state.last_log_term, state.last_log_subterm,
                    state.replication_set,
                )  # fmt: skip
            after, reply = vote(state, m)
            assert isinstance(reply, WitnessVoteResp)
            return after, reply

        return again

    return replaced(witness, "_vote", make)


def records_whatever_comes() -> Patch:
    """X13: a question about a former subterm replaces the record of a later one."""

    def make(append: Callable[..., Any]) -> Callable[[WitnessState, WitnessAppend], tuple[WitnessState, Message]]:
        def newest_word(state: WitnessState, m: WitnessAppend) -> tuple[WitnessState, Message]:
            if m.term < state.term:
                blank = WitnessState(state.group, state.node_id, m.term)
                after, reply = append(blank, m)
                after = WitnessState(
                    state.group, state.node_id, state.term, state.vote, after.last_log_term, after.last_log_subterm,
                    after.replication_set,
                )  # fmt: skip
                return after, reply
            return append(state, m)  # type: ignore[no-any-return]

        return newest_word

    return replaced(witness, "_append", make)


def forgets_on_restart() -> Patch:
    """M17: a process begins with blank records."""

    def make(open_: Callable[[WitnessService, str, int], int]) -> Callable[[WitnessService, str, int], int]:
        def blank(self: WitnessService, host: str, port: int) -> int:
            bound = open_(self, host, port)
            for key in self.states():
                register = self._register(key, "process")
                try:
                    before = register.load()
                except StateLostError:
                    continue
                sealed = before.sealed
                state = WitnessState(key.group, key.witness_id)
                fresh = Sealed(key, sealed.incarnation, sealed.version + 1, _TOKEN, state)
                with suppress(OSError):
                    register.publish(before, fresh.encode(), _TOKEN)
            return bound

        return blank

    return replaced(WitnessService, "open", make)


def lost_state_begins_anew() -> Patch:
    """X10: the explorer's wamnesia: where there is no record, a blank one will do."""

    def make(load: Callable[[FileRegister], Loaded]) -> Callable[[FileRegister], Loaded]:
        def anew(self: FileRegister) -> Loaded:
            try:
                return load(self)
            except StateLostError:
                return _blank(self.key)

        return anew

    return replaced(store_file.FileRegister, "load", make)


def _blank(key: StateKey) -> Loaded:
    incarnation = bytes(INCARNATION_BYTES)
    sealed = Sealed(key, incarnation, 1, _TOKEN, WitnessState(key.group, key.witness_id))
    return Loaded(sealed.encode(), "", sealed)


def answers_before_the_sync() -> Patch:
    """X11: what a directory was told counts as kept."""

    def make(_: object) -> Callable[[FileRegister, str], None]:
        def skipped(self: FileRegister, path: str) -> None:
            del path

        return skipped

    return replaced(store_file.FileRegister, "_sync_directory", make)
