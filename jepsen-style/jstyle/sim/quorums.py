"""Majorities of a membership, counted independently of the program under test; a witness is one vote of its halves.

Rule: pure functions of memberships and ids. It must not know logs, nodes or time.
"""

from __future__ import annotations

from collections.abc import Iterable

from raft.types import Membership


def halves(membership: Membership) -> list[tuple[int, ...]]:
    """The sets of voters of which each needs a majority."""
    return [half for half in (membership.electorate(), membership.electorate_outgoing()) if half]


def is_quorum(membership: Membership, nodes: Iterable[int]) -> bool:
    """Whether ``nodes`` hold a majority of every half."""
    there = list(nodes)
    found = halves(membership)
    return bool(found) and all(2 * sum(node in there for node in half) > len(half) for half in found)


def overlap(old: Membership, new: Membership) -> bool:
    """Whether every quorum of one meets every quorum of the other, by some pair of their halves."""
    if not halves(old):
        return True
    return any(_always_meet(a, b) for a in halves(old) for b in halves(new))


def full_voters(membership: Membership) -> tuple[int, ...]:
    """Every voter that holds data, of both halves, in order."""
    return tuple(sorted({*membership.voters, *membership.voters_outgoing}))


def _always_meet(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    both = sum(node in b for node in a)
    need_a, need_b = len(a) // 2 + 1, len(b) // 2 + 1
    # Worst case: each quorum takes as few common nodes as it can.
    return max(need_a - (len(a) - both), 0) + max(need_b - (len(b) - both), 0) > both
