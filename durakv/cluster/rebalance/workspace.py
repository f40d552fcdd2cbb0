"""A plan in the making: every group's load as it will be, streams still free, dice, and the moves so far.

Rule: the only place where a planned move changes a projected load, so that the next choice sees it.
"""

from __future__ import annotations

from bisect import insort
from typing import Final

from durakv.cluster.rebalance.accounting import Accounts, mean_of
from durakv.cluster.rebalance.load import GroupState, Load, SlotLoad
from durakv.cluster.rebalance.moves import JOIN, Limits, Move, Plan

_MASK: Final = (1 << 64) - 1


class Dice:
    """SplitMix64: the same draws from the same seed everywhere. Source: Steele, Lea, Flood, OOPSLA 2014."""

    __slots__ = ("state",)

    def __init__(self, seed: int) -> None:
        self.state = seed & _MASK

    def below(self, n: int) -> int:
        """Uniform in [0, n), but for a bias of n / 2**64."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return (z ^ (z >> 31)) % n


class Workspace:
    """``states`` ascend by group; ``used`` is each group's projected load, by group."""

    def __init__(self, states: list[GroupState], limits: Limits, accounts: Accounts, now_ms: int, seed: int) -> None:
        self.states = sorted(states, key=lambda state: state.group)
        self.by_id = {state.group: state for state in self.states}
        assert len(self.by_id) == len(states), "a group is listed twice"
        self.limits = limits
        self.accounts = accounts
        self.now_ms = now_ms
        self.dice = Dice(seed)
        self.plan = Plan()
        self.used: dict[int, Load] = {s.group: accounts.projected(s, now_ms) for s in self.states}
        self.outbound = {s.group: s.outbound for s in self.states}
        self.inbound = {s.group: s.inbound for s in self.states}
        self.taken: dict[int, bool] = {}
        running = accounts.running()
        self.streams_left = limits.streams() - len(running)
        for job in running:
            move = job.move
            for slot in move.slots:
                self.taken[slot] = True
            if move.source in self.outbound:
                self.outbound[move.source] += 1
            if move.target in self.inbound:
                self.inbound[move.target] += 1

    # -- loads -------------------------------------------------------------------------------------------------------

    def share(self, state: GroupState) -> float:
        """The group's fullest resource, as projected."""
        return self.used[state.group].share(state.capacity)

    def share_without(self, state: GroupState, load: Load) -> float:
        """What share() will be when ``load`` has left."""
        return self.used[state.group].plus(load, -1.0).share(state.capacity)

    def memory_share(self, state: GroupState) -> float:
        """Of memory alone."""
        return self.used[state.group].shares(state.capacity)[2]

    def shares(self) -> dict[int, float]:
        """All groups, ascending."""
        return {state.group: self.share(state) for state in self.states}

    def serving_shares(self) -> dict[int, float]:
        """Groups that are to stay."""
        return {state.group: self.share(state) for state in self.states if not state.draining}

    def goal(self, reason: str) -> float:
        """What a source comes down to: the mean, and half of what is tolerated on top of it."""
        mean = mean_of(self.serving_shares())
        return mean if reason == JOIN else mean * (1.0 + self.limits.skew / 2)

    # -- choices -----------------------------------------------------------------------------------------------------

    def movable(self, slot: int) -> bool:
        """Whether the slot neither moves now nor rests after a move."""
        return slot not in self.taken and not self.accounts.resting(slot, self.now_ms)

    def stream_free(self, source: GroupState) -> bool:
        """Whether the source, and the cluster, may start another stream."""
        return self.streams_left > 0 and self.outbound[source.group] < self.limits.streams_per_source

    def targets(self, source: GroupState) -> list[GroupState]:
        """Groups that may be given a job now, whatever it is."""
        limit = self.limits.streams_per_target
        return [
            state for state in self.states
            if state is not source and state.healthy and not state.draining and self.inbound[state.group] < limit
            and not self.accounts.target_resting(state.group, self.now_ms)
        ]  # fmt: skip

    def better_of_two(self, eligible: list[GroupState]) -> GroupState | None:
        """Two drawn at random, the less loaded of them; the lower group of equals."""
        if len(eligible) < 2:
            return eligible[0] if eligible else None
        first = self.dice.below(len(eligible))
        second = self.dice.below(len(eligible) - 1)
        if second >= first:
            second += 1
        a, b = eligible[min(first, second)], eligible[max(first, second)]
        return b if self.share(b) < self.share(a) else a

    # -- moves -------------------------------------------------------------------------------------------------------

    def open_job(self, source: GroupState, target: GroupState, reason: str) -> Move:
        """A job without slots yet; takes a stream of both."""
        move = Move(source.group, target.group, reason)
        move.source_before = move.source_after = self.share(source)
        move.target_before = move.target_after = self.share(target)
        self.outbound[source.group] += 1
        self.inbound[target.group] += 1
        self.streams_left -= 1
        return move

    def add(self, move: Move, s: SlotLoad, copy_bytes: float) -> None:
        """One more slot in the job."""
        insort(move.slots, s.slot)
        move.load = move.load.plus(s.load)
        move.copy_bytes += copy_bytes
        self.taken[s.slot] = True
        self.used[move.source] = self.used[move.source].plus(s.load, -1.0)
        self.used[move.target] = self.used[move.target].plus(s.load)
        move.source_after = self.share(self.by_id[move.source])
        move.target_after = self.share(self.by_id[move.target])
