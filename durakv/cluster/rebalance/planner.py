"""Which slots to move where: a pure function of what the groups use, what is under way, limits and a seed.

Rules. Never the hottest slot: moving it moves the problem, and it has the longest fence; others make room for it.
Victims by load relieved for each byte copied. Targets by the lower of two drawn at random, since with averages a minute
old the emptiest group is everybody's choice. A move never leaves its target fuller than its source, so that no two
groups can pass a slot to and fro. Equal input gives an equal plan on every node and in every process.
"""

from __future__ import annotations

import math
from typing import Final

from durakv.cluster.rebalance.accounting import Accounts, mean_of, skewed
from durakv.cluster.rebalance.draining import plan_drain
from durakv.cluster.rebalance.load import RESOURCES, GroupState, Load, SlotLoad
from durakv.cluster.rebalance.moves import (
    CLUSTER_FULL,
    HOT,
    JOIN,
    MEMORY,
    NO_TARGET,
    SKEW,
    STOPPED,
    UNSPLITTABLE,
    Limits,
    Move,
    Plan,
    Report,
)
from durakv.cluster.rebalance.workspace import Workspace

# Scores within one such factor count as equal, and equals go in slot order, so that ranges stay in one piece.
_SCORE_STEP: Final = math.log(1.5)
# A source tries this many slots that nobody takes before it gives up for the round.
_REFUSALS: Final = 64
# A slot this many times what is still needed is left for the last.
_LARGER: Final = 1.5


def plan(states: list[GroupState], limits: Limits, accounts: Accounts, now_ms: int, seed: int) -> Plan:
    """The moves to start now. ``accounts`` is read only; tell it with begin() which moves were started."""
    work = Workspace(states, limits, accounts, now_ms, seed)
    out = work.plan
    out.shares_before = work.shares()
    out.mean = mean_of(work.serving_shares())
    out.high_before = max(out.shares_before.values(), default=0.0)
    if accounts.stopped:
        out.reports.append(Report(STOPPED, 0, out.high_before, accounts.stopped))
    else:
        for state in work.states:
            if state.draining and state.slots:
                plan_drain(work, state)
        for state, reason in _sources(work):
            _relieve(work, state, reason)
    out.shares_after = work.shares()
    out.high_after = max(out.shares_after.values(), default=0.0)
    return out


def _sources(work: Workspace) -> list[tuple[GroupState, str]]:
    """Groups to relieve and why, the fullest first."""
    accounts, limits, now_ms = work.accounts, work.limits, work.now_ms
    uneven = accounts.uneven(now_ms) and skewed(work.serving_shares(), limits)
    joining = any(s.joining and s.healthy and not s.draining for s in work.states)
    found: list[tuple[float, int, GroupState, str]] = []
    for state in work.states:
        if state.draining or not state.slots:
            continue
        share = work.share(state)
        reason = ""
        if accounts.hot(state.group, now_ms) and share > limits.high:
            reason = HOT
        elif work.memory_share(state) > limits.memory_high:
            reason = MEMORY
        elif joining and not state.joining and share > work.goal(JOIN) + limits.gain:
            reason = JOIN
        elif uneven and share > work.goal(SKEW):
            reason = SKEW
        # Filling a new group goes on without rests: what each group still gives is known from the start.
        if reason and (reason == JOIN or not accounts.source_resting(state.group, now_ms)):
            found.append((-share, state.group, state, reason))
    return [(state, reason) for _, _, state, reason in sorted(found, key=lambda row: (row[0], row[1]))]


def _relieve(work: Workspace, state: GroupState, reason: str) -> None:
    limits = work.limits
    before = work.share(state)
    goal = work.goal(reason)
    if reason == MEMORY:
        # Memory is what is short, whatever the group's fullest resource is.
        goal = min(limits.memory_target, goal) if work.memory_share(state) >= before else limits.memory_target
    hottest = hottest_slot(state)
    victims = choose_victims(work, state, hottest)
    moves = _fill_jobs(work, state, reason, goal, victims)
    work.plan.moves.extend(moves)
    after = work.share(state)
    if reason == JOIN or after <= goal + limits.gain:
        return
    _explain_rest(work, state, hottest, after, goal, moved=bool(moves), victims=len(victims))


def hottest_slot(state: GroupState) -> SlotLoad:
    """The slot with the largest share of the group; the lowest of equals."""
    best, most = state.slots[0], -1.0
    for s in state.slots:
        share = s.load.share(state.capacity)
        if share > most:
            best, most = s, share
    return best


def choose_victims(work: Workspace, state: GroupState, hottest: SlotLoad) -> list[SlotLoad]:
    """Slots worth moving, the best first: most load relieved for each byte copied."""
    limits = work.limits
    resource = work.used[state.group].dominant(state.capacity)
    scored: list[tuple[int, int, SlotLoad]] = []
    for s in state.slots:
        share = s.load.shares(state.capacity)[resource]
        if s is hottest or share < limits.negligible or not work.movable(s.slot):
            continue
        cost = s.copy_bytes(limits.stream_bytes_s) + limits.slot_overhead_bytes
        scored.append((-math.floor(math.log(share / cost) / _SCORE_STEP), s.slot, s))
    return [s for _, _, s in sorted(scored, key=lambda row: (row[0], row[1]))]


def _fill_jobs(work: Workspace, state: GroupState, reason: str, goal: float, victims: list[SlotLoad]) -> list[Move]:
    """Jobs until the source is down at its goal, or no stream, slot or target is left."""
    limits = work.limits
    moves: list[Move] = []
    job: Move | None = None
    second: list[SlotLoad] = []
    for first_pass in (True, False):
        # First what leaves everybody below the goal. Where that is not enough, whatever leaves the target no worse off
        # than the source: a slot larger than what is needed, or a target that ends above the goal.
        refusals = 0
        for s in victims if first_pass else second:
            need = work.share(state) - goal
            if need <= (0.0 if first_pass else limits.gain) or refusals >= _REFUSALS:
                break
            if first_pass and s.load.share(state.capacity) > _LARGER * need:
                second.append(s)
                continue
            level = goal if first_pass else max(goal, work.share_without(state, s.load))
            copy_bytes = s.copy_bytes(limits.stream_bytes_s)
            full = job is not None and (
                len(job.slots) >= limits.job_slots or job.copy_bytes + copy_bytes > limits.job_bytes
            )
            if job is None or full or not takes(work, state, work.by_id[job.target], s.load, level):
                if not work.stream_free(state):
                    return moves
                target = choose_target(work, state, s.load, level, reason)
                if target is None:
                    refusals += 1
                    if first_pass:
                        second.append(s)
                    continue
                job = work.open_job(state, target, reason)
                moves.append(job)
            work.add(job, s, copy_bytes)
    return moves


def takes(work: Workspace, source: GroupState, target: GroupState, load: Load, level: float) -> bool:
    """Whether the target would stay within its limits and at or below ``level``, and better off than the source is."""
    limits = work.limits
    after = work.used[target.group].plus(load)
    if after.shares(target.capacity)[2] >= limits.memory_target:
        return False
    share = after.share(target.capacity)
    return share < limits.high and share <= level and share < work.share(source)


def choose_target(work: Workspace, source: GroupState, load: Load, level: float, reason: str) -> GroupState | None:
    """The less loaded of two eligible groups drawn at random; None when nobody takes the load."""
    eligible = [
        state for state in work.targets(source)
        if (reason != JOIN or state.joining) and takes(work, source, state, load, level)
    ]  # fmt: skip
    return work.better_of_two(eligible)


def _explain_rest(work: Workspace, state: GroupState, hottest: SlotLoad, after: float, goal: float, *, moved: bool,
                  victims: int) -> None:  # fmt: skip
    """Say why the group is not down at its goal, unless more moves will follow."""
    limits = work.limits
    alone = hottest.load.share(state.capacity)
    rest = work.used[state.group].plus(hottest.load, -1.0)
    if alone > goal and (rest.share(state.capacity) < 2 * limits.gain or alone > limits.high):
        text = (
            f"slot {hottest.slot} alone takes {alone:.0%} of the group's {_dominant(state, hottest)}; no move can "
            "divide it: spread its keys over more slots, or read them from replicas"
        )
        report = Report(UNSPLITTABLE, state.group, alone, text)
        report.slot = hottest.slot
        work.plan.reports.append(report)
        return
    if moved or not victims or not work.stream_free(state):
        return
    if work.goal(SKEW) >= limits.high:
        text = "all groups together are above the limit: add a group"
        work.plan.reports.append(Report(CLUSTER_FULL, state.group, after, text))
    else:
        text = "no group can take a slot now: each is unhealthy, full, busy with other moves, or resting after one"
        work.plan.reports.append(Report(NO_TARGET, state.group, after, text))


def _dominant(state: GroupState, slot: SlotLoad) -> str:
    return RESOURCES[slot.load.dominant(state.capacity)]
