"""Planted bugs of the consensus core and of its driver.

Rule: one function replaced per bug; the replacement is the mistake itself, not a fault that imitates its effect.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from durakv.engine.batch import Batch
from durakv.replication import node as driver
from durakv.replication.node import GroupNode
from jstyle.mutants.patching import replaced
from raft import candidate, follower, leader
from raft.lease import promised
from raft.messages import Append, Message
from raft.node import Node
from raft.ready import Ready
from raft.types import ConfChange, Entry, Role

Patch = AbstractContextManager[None]
Commit = Callable[[Node], None]


def counts_unsynced() -> Patch:
    """M2."""

    def make(maybe_commit: Commit) -> Commit:
        def eager(r: Node) -> None:
            stable = r.log.stable
            r.log.stable = r.log.last
            maybe_commit(r)
            r.log.stable = stable

        return eager

    return replaced(leader, "maybe_commit", make)


def vote_not_persisted() -> Patch:
    """M3."""

    def make(_: object) -> Callable[[GroupNode, Ready], bool]:
        def same(self: GroupNode, rd: Ready) -> bool:
            return False

        return same

    return replaced(driver.GroupNode, "_vote_differs", make)


def votes_for_stale_logs() -> Patch:
    """M4."""

    def make(_: object) -> Callable[[Node, int, int], bool]:
        def anyone(r: Node, last_term: int, last_index: int) -> bool:
            return True

        return anyone

    return replaced(candidate, "_up_to_date", make)


def commits_old_terms() -> Patch:
    """M5."""

    def make(maybe_commit: Commit) -> Commit:
        def any_term(r: Node) -> None:
            first = r.noop_index
            r.noop_index = 0
            maybe_commit(r)
            r.noop_index = first

        return any_term

    return replaced(leader, "maybe_commit", make)


def commits_by_minority() -> Patch:
    """M6."""

    def make(_: object) -> Commit:
        def off_by_one(r: Node) -> None:
            values = [pr.match for pr in r.incoming_half]
            if r.self_incoming:
                values.append(r.log.stable)
            values.sort()
            index = values[min((len(values) - 1) // 2 + 1, len(values) - 1)]
            if index > r.log.commit and index >= r.noop_index:
                leader._commit(r, index)  # noqa: SLF001 - the replaced function's own callee

        return off_by_one

    return replaced(leader, "maybe_commit", make)


def commit_beyond_match() -> Patch:
    """M7."""

    def make(handle: Callable[[Node, Message], None]) -> Callable[[Node, Message], None]:
        def trusting(r: Node, m: Message) -> None:
            assert isinstance(m, Append)
            fits = m.prev_index >= r.log.commit and r.log.matches(m.prev_index, m.prev_term)
            handle(r, m)
            if fits:
                r.log.commit = max(r.log.commit, min(m.commit, r.log.last))

        return trusting

    return replaced(follower, "handle_append", make)


def truncates_always() -> Patch:
    """M8."""

    def make(_: object) -> Callable[[Node, list[Entry]], None]:
        def blunt(r: Node, entries: list[Entry]) -> None:
            if entries[0].index <= r.log.last:
                r.log.truncate(entries[0].index)
                r.rollback_membership(entries[0].index)
            follower._extend(r, entries)  # noqa: SLF001 - the replaced function's own callee

        return blunt

    return replaced(follower, "_merge", make)


def reads_unproven() -> Patch:
    """M9."""

    def make(_: object) -> Callable[[GroupNode, Batch], None]:
        def at_once(self: GroupNode, batch: Batch) -> None:
            self.core.reads.add_proven(batch, self.core.log.commit)

        return at_once

    return replaced(driver.GroupNode, "read_index", make)


def reads_before_noop() -> Patch:
    """M10."""

    def make(_: object) -> Callable[[Node, object], None]:
        def too_low(r: Node, ctx: object) -> None:
            r.reads.unsent.append((ctx, r.log.commit))
            if not r.reads.waiting:
                r.send_needed = True

        return too_low

    return replaced(leader, "add_read", make)


def counts_the_removed() -> Patch:
    """M30: acknowledgements are counted, whoever sent them, also a node that is on its way out."""

    def make(_: object) -> Commit:
        def by_number(r: Node) -> None:
            values = sorted([pr.match for pr in r.peer_list if not pr.is_learner or pr.leaving_index], reverse=True)
            if r.self_incoming:
                values = sorted([*values, r.log.stable], reverse=True)
            quorum = len(r.membership.voters) // 2 + 1
            index = values[quorum - 1] if len(values) >= quorum else 0
            if index > r.log.commit and index >= r.noop_index:
                leader._commit(r, index)  # noqa: SLF001 - the replaced function's own callee

        return by_number

    return replaced(leader, "maybe_commit", make)


def two_changes() -> Patch:
    """M31: a membership that is not committed yet does not keep the next one from being proposed."""

    def make(propose_conf: Callable[[Node, ConfChange], int]) -> Callable[[Node, ConfChange], int]:
        def hasty(r: Node, change: ConfChange) -> int:
            at = r.conf_index
            r.conf_index = hidden = min(at, r.log.commit)
            try:
                return propose_conf(r, change)
            finally:
                if r.conf_index == hidden:
                    r.conf_index = at

        return hasty

    return replaced(leader, "propose_conf", make)


def no_pre_vote() -> Patch:
    """M35."""

    def make(_: object) -> Callable[[Node], None]:
        def straight(r: Node) -> None:
            if r.promotable() and r.role != Role.LEADER and not promised(r, r.term + 1, False, 0):
                candidate.start_election(r, False, 0)

        return straight

    return replaced(candidate, "campaign", make)
