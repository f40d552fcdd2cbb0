"""Emptying a group: every slot goes, the largest first, once it is known that all of them fit elsewhere.

Rule: unlike relief this must end with nothing left, so the hottest slot goes too and a target need only have room.
"""

from __future__ import annotations

from durakv.cluster.rebalance.load import MIB, GroupState, Load, SlotLoad
from durakv.cluster.rebalance.moves import CLUSTER_FULL, DOES_NOT_FIT, DRAIN, Move, Report
from durakv.cluster.rebalance.workspace import Workspace


def missing_bytes(work: Workspace, draining: GroupState) -> float:
    """Bytes of slots that find no room in the staying groups, each kept below ``memory_target``; 0 when all fit.

    Slots are placed the largest first into the group with the most room: what fits so, fits.
    """
    limit = work.limits.memory_target
    rooms = [
        limit * state.capacity.memory_bytes - work.used[state.group].memory_bytes
        for state in work.states
        if state.healthy and not state.draining and state.capacity.memory_bytes
    ]
    if any(not s.capacity.memory_bytes for s in work.states if s.healthy and not s.draining):
        return 0.0
    lacking = 0.0
    for s in by_size(draining):
        need = s.load.memory_bytes
        best = max(range(len(rooms)), key=lambda at: rooms[at], default=-1)
        if best < 0 or rooms[best] < need:
            lacking += need
        else:
            rooms[best] -= need
    return lacking


def by_size(state: GroupState) -> list[SlotLoad]:
    """The largest first, equals by slot."""
    return sorted(state.slots, key=lambda s: (-s.load.memory_bytes, s.slot))


def plan_drain(work: Workspace, state: GroupState) -> None:
    """As many jobs as streams allow now."""
    lacking = missing_bytes(work, state)
    if lacking > 0:
        text = (
            f"the other groups have no room for {lacking / MIB:.0f} MiB of this group's slots: give them more memory, "
            "or add a group, before removing this one"
        )
        report = Report(DOES_NOT_FIT, state.group, work.share(state), text)
        report.missing_bytes = lacking
        work.plan.reports.append(report)
        return
    limits = work.limits
    job: Move | None = None
    refused = 0
    for s in by_size(state):
        if not work.movable(s.slot):
            continue
        copy_bytes = s.copy_bytes(limits.stream_bytes_s)
        full = job is not None and (
            len(job.slots) >= limits.job_slots or job.copy_bytes + copy_bytes > limits.job_bytes
        )
        if job is None or full or not has_room(work, work.by_id[job.target], s.load):
            if not work.stream_free(state):
                return
            target = work.better_of_two([t for t in work.targets(state) if has_room(work, t, s.load)])
            if target is None:
                refused += 1
                continue
            job = work.open_job(state, target, DRAIN)
            work.plan.moves.append(job)
        work.add(job, s, copy_bytes)
    if refused and job is None and not work.accounts.running():
        text = "the slots fit, but no group has the CPU or network left to serve them: wait for a calmer hour"
        work.plan.reports.append(Report(CLUSTER_FULL, state.group, work.share(state), text))


def has_room(work: Workspace, target: GroupState, load: Load) -> bool:
    """Whether the target stays below both limits."""
    after = work.used[target.group].plus(load)
    shares = after.shares(target.capacity)
    return shares[2] < work.limits.memory_target and max(shares) < work.limits.high
