"""CLUSTER REBALANCE PLAN: a plan as rows for an operator.

Rule: words and shapes only; decides nothing. Shares are told in thousandths, so that integers suffice under RESP2.
"""

from __future__ import annotations

from collections.abc import Callable

from durakv.cluster.rebalance.accounting import Accounts
from durakv.cluster.rebalance.moves import Move, Plan, Report, ranges_of
from durakv.resp.types import Map, Reply

# Name of a group for operators, such as its shard id.
GroupName = Callable[[int], str]
# The hottest keys of a slot, hottest first, as far as the caller knows them.
TopKeys = Callable[[int], list[bytes]]


def ranges_text(slots: list[int]) -> str:
    """Ascending slots as MIGRATESLOTS' listings write them: ``0-99 200 300-301``."""
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges_of(slots))


def permille(share: float) -> int:
    """A share in thousandths, rounded."""
    return round(share * 1000)


def move_row(move: Move, name: GroupName) -> Reply:
    """One planned move."""
    return Map([
        b"slots", ranges_text(move.slots).encode(), b"slot-count", len(move.slots), b"source",
        name(move.source).encode(), b"target", name(move.target).encode(), b"reason", move.reason.encode(),
        b"bytes", round(move.copy_bytes), b"source-load-before", permille(move.source_before),
        b"source-load-after", permille(move.source_after), b"target-load-before", permille(move.target_before),
        b"target-load-after", permille(move.target_after),
    ])  # fmt: skip


def report_row(report: Report, name: GroupName, top_keys: TopKeys) -> Reply:
    """One thing that no move can mend."""
    flat: list[Reply] = [
        b"report", report.kind.encode(), b"group", name(report.group).encode() if report.group else b"",
        b"load", permille(report.share), b"text", report.text.encode(),
    ]  # fmt: skip
    if report.slot >= 0:
        keys: list[Reply] = list(top_keys(report.slot))
        flat += [b"slot", report.slot, b"top-keys", keys]
    if report.missing_bytes > 0:
        flat += [b"missing-bytes", round(report.missing_bytes)]
    return Map(flat)


def plan_reply(plan: Plan, accounts: Accounts, name: GroupName, top_keys: TopKeys) -> Reply:
    """Map: groups with load before and after, moves, reports, moves under way, and why planning stopped if it did."""
    groups: list[Reply] = [
        Map([b"group", name(group).encode(), b"load-before", permille(plan.shares_before[group]),
             b"load-after", permille(plan.shares_after[group])])
        for group in sorted(plan.shares_before)
    ]  # fmt: skip
    running: list[Reply] = [
        Map([b"migration", job.mid.encode(), b"slots", ranges_text(job.move.slots).encode(), b"source",
             name(job.move.source).encode(), b"target", name(job.move.target).encode()])
        for job in accounts.running()
    ]  # fmt: skip
    return Map([
        b"groups", groups, b"moves", [move_row(move, name) for move in plan.moves],
        b"reports", [report_row(report, name, top_keys) for report in plan.reports], b"running", running,
        b"stopped", accounts.stopped.encode(),
    ])  # fmt: skip
