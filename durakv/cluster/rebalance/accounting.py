"""What was moved, what is moving, and whether it helped: all that the planner remembers from one round to the next.

Rule: the only place that reserves load, that says a slot or a group must rest, and that stops the rebalancer. It
decides no move. Times are handed in and never step back.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.rebalance.load import GroupState, Load
from durakv.cluster.rebalance.moves import DRAIN, Limits, Move, Plan

_HALF: Final = 0.5


class Job:
    """A move that was started. ``ended_ms`` is negative while it runs."""

    __slots__ = ("ended_ms", "mid", "move", "moved")

    def __init__(self, mid: str, move: Move) -> None:
        self.mid = mid
        self.move = move
        self.ended_ms = -1
        self.moved = False


class Round:
    """Moves of one plan, judged together: what their plan expected of the cluster and of each pair of groups."""

    __slots__ = ("high_after", "high_before", "jobs", "mean")

    def __init__(self, plan: Plan) -> None:
        self.jobs: list[Job] = []
        self.mean = plan.mean
        self.high_before = plan.high_before
        self.high_after = plan.high_after


class Accounts:
    """The planner's memory on one node. A new leader starts with an empty one, and tells it with arrived() what the
    group's migration records know of the last ten minutes.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.jobs: dict[str, Job] = {}
        self.rounds: list[Round] = []
        # When a slot's last move ended, and a group's last move away or towards it.
        self.slot_ended_ms: dict[int, int] = {}
        self.source_ended_ms: dict[int, int] = {}
        self.target_ended_ms: dict[int, int] = {}
        # Since when a group is above a threshold without a break; absent when it is not.
        self.hot_since_ms: dict[int, int] = {}
        self.skew_since_ms = -1
        self.failed_rounds = 0
        # Why no more is planned; empty while it may be.
        self.stopped = ""
        self.fencing: dict[int, str] = {}

    # -- triggers ----------------------------------------------------------------------------------------------------

    def observe(self, now_ms: int, minute: dict[int, float], ten_minutes: dict[int, float]) -> None:
        """Every group's share, averaged over a minute and over ten, at each reading."""
        high = self.limits.high
        for group in sorted(minute):
            if minute[group] > high:
                self.hot_since_ms.setdefault(group, now_ms)
            else:
                self.hot_since_ms.pop(group, None)
        for group in [g for g in self.hot_since_ms if g not in minute]:
            del self.hot_since_ms[group]
        if skewed(ten_minutes, self.limits):
            if self.skew_since_ms < 0:
                self.skew_since_ms = now_ms
        else:
            self.skew_since_ms = -1

    def hot(self, group: int, now_ms: int) -> bool:
        """Whether it has been above ``high`` long enough."""
        since = self.hot_since_ms.get(group, -1)
        return since >= 0 and now_ms - since >= self.limits.hot_for_ms

    def uneven(self, now_ms: int) -> bool:
        """Whether the groups have differed long enough."""
        return self.skew_since_ms >= 0 and now_ms - self.skew_since_ms >= self.limits.skew_for_ms

    # -- moves -------------------------------------------------------------------------------------------------------

    def begin(self, plan: Plan, mids: list[str]) -> None:
        """The plan's moves were started under these ids, one each and in their order; "" for one that was refused."""
        new = Round(plan)
        for i in range(len(plan.moves)):
            if mids[i]:
                job = self.jobs[mids[i]] = Job(mids[i], plan.moves[i])
                new.jobs.append(job)
        # A plan that ran in part promised something else.
        if len(new.jobs) == len(plan.moves) and any(job.move.reason != DRAIN for job in new.jobs):
            self.rounds.append(new)

    def end(self, mid: str, now_ms: int, *, moved: bool) -> None:
        """The migration reached its end: the target serves the slots, or the source keeps them."""
        job = self.jobs[mid]
        assert job.ended_ms < 0, f"{mid} ended twice"
        job.ended_ms = now_ms
        job.moved = moved
        move = job.move
        self.source_ended_ms[move.source] = now_ms
        self.target_ended_ms[move.target] = now_ms
        for slot in move.slots:
            self.slot_ended_ms[slot] = now_ms
        self.fence_done(mid)

    def arrived(self, target: int, slots: list[int], ended_ms: int) -> None:
        """Slots came to this node's group by a move that another planner began; they and the group must rest too."""
        self.target_ended_ms[target] = max(ended_ms, self.target_ended_ms.get(target, ended_ms))
        for slot in slots:
            self.slot_ended_ms[slot] = max(ended_ms, self.slot_ended_ms.get(slot, ended_ms))

    def fence_may_start(self, mid: str) -> bool:
        """True, and the groups are taken, when neither of the two has another slot range between fence and decision."""
        move = self.jobs[mid].move
        for group in (move.source, move.target):
            if self.fencing.get(group, mid) != mid:
                return False
        self.fencing[move.source] = self.fencing[move.target] = mid
        return True

    def fence_done(self, mid: str) -> None:
        """The groups are free again; harmless when they were not taken."""
        for group in [g for g, by in self.fencing.items() if by == mid]:
            del self.fencing[group]

    def expire(self, now_ms: int) -> None:
        """Forget what has settled and rested; call it once a round, after verify()."""
        limits = self.limits
        judged = {id(job) for r in self.rounds for job in r.jobs}
        for mid in [m for m, j in self.jobs.items() if self._settled(j, now_ms) and id(j) not in judged]:
            del self.jobs[mid]
        for slot in [s for s, at in self.slot_ended_ms.items() if now_ms - at >= limits.slot_cooldown_ms]:
            del self.slot_ended_ms[slot]

    def _settled(self, job: Job, now_ms: int) -> bool:
        return job.ended_ms >= 0 and now_ms - job.ended_ms >= self.limits.settle_ms

    # -- what the planner asks ---------------------------------------------------------------------------------------

    def resting(self, slot: int, now_ms: int) -> bool:
        """Whether the slot moved, or failed to, too recently."""
        at = self.slot_ended_ms.get(slot)
        return at is not None and now_ms - at < self.limits.slot_cooldown_ms

    def source_resting(self, group: int, now_ms: int) -> bool:
        """Whether a move away from the group or towards it ended too recently to judge the group by."""
        for ended in (self.source_ended_ms, self.target_ended_ms):
            at = ended.get(group)
            if at is not None and now_ms - at < self.limits.group_cooldown_ms:
                return True
        return False

    def target_resting(self, group: int, now_ms: int) -> bool:
        """Whether the group itself gave slots away too recently to be given any."""
        at = self.source_ended_ms.get(group)
        return at is not None and now_ms - at < self.limits.group_cooldown_ms

    def running(self) -> list[Job]:
        """Jobs under way, in the order they began."""
        return [job for job in self.jobs.values() if job.ended_ms < 0]

    def reserved(self, now_ms: int) -> list[Job]:
        """Jobs whose load is not yet to be seen in what is measured: under way, or moved within a settling time."""
        return [job for job in self.jobs.values() if job.ended_ms < 0 or (job.moved and not self._settled(job, now_ms))]

    def projected(self, state: GroupState, now_ms: int) -> Load:
        """What the group will use once all that is under way has ended.

        A slot that arrived just now is counted with what it used where it came from; its own averages start from
        nothing. Of a group known by its totals alone it may be counted twice for that while, which errs towards rest.
        """
        used = state.used
        at_source: dict[int, Load] = {s.slot: s.load for s in state.slots}
        for job in self.reserved(now_ms):
            move = job.move
            if move.source == state.group and job.ended_ms < 0:
                used = used.plus(move.load, -1.0)
            elif move.target == state.group:
                used = used.plus(move.load)
                for slot in move.slots:
                    seen = at_source.get(slot)
                    if seen is not None:
                        used = used.plus(seen, -1.0)
        return used

    # -- whether it helped -------------------------------------------------------------------------------------------

    def verify(self, now_ms: int, shares: dict[int, float]) -> None:
        """Judge the rounds that have settled by what the groups use now; after ``failures`` bad ones in a row stop.

        ``shares``: of the groups that are to stay.
        """
        for done in [r for r in self.rounds if all(self._settled(job, now_ms) for job in r.jobs)]:
            self.rounds.remove(done)
            if not all(job.moved for job in done.jobs):
                continue
            verdict = self._helped(done, shares)
            if verdict is None:
                continue
            self.failed_rounds = 0 if verdict else self.failed_rounds + 1
            if self.failed_rounds >= self.limits.failures:
                self.stopped = (
                    f"{self.failed_rounds} rounds of moves in a row brought less than half of what they promised: the "
                    f"load follows the moves or has another cause; see the hot keys, then CLUSTER REBALANCE RESUME"
                )

    def _helped(self, done: Round, shares: dict[int, float]) -> bool | None:
        if not shares:
            return None
        # What all groups gained or lost meanwhile is the clients' doing, not the moves'.
        drift = mean_of(shares) - done.mean
        gain = self.limits.gain
        promised = done.high_before - done.high_after
        if promised >= gain:
            return done.high_before - (max(shares.values()) - drift) >= _HALF * promised
        promised = got = 0.0
        for job in done.jobs:
            move = job.move
            if move.source in shares and move.target in shares:
                before = max(move.source_before, move.target_before)
                promised += before - max(move.source_after, move.target_after)
                got += before - (max(shares[move.source], shares[move.target]) - drift)
        return None if promised < gain else got >= _HALF * promised

    def resume(self) -> None:
        """The operator has looked: plan again."""
        self.stopped = ""
        self.failed_rounds = 0


def mean_of(shares: dict[int, float]) -> float:
    """The plain mean; 0 of none."""
    return sum(shares[group] for group in sorted(shares)) / len(shares) if shares else 0.0


def skewed(shares: dict[int, float], limits: Limits) -> bool:
    """Whether the fullest group is too far above the mean, relatively and by more than a plan must gain."""
    if not shares:
        return False
    mean = mean_of(shares)
    excess = max(shares.values()) - mean
    return excess > limits.skew * mean and excess > limits.gain
