"""A cluster whose loads are formulas: slots, owners, streams that take time, averages that lag. No node, no network.

Two ways to plan. With ``apart`` false one planner sees all slots. With ``apart`` true every group's leader plans for
its own slots and knows the others by totals that are up to ``stale_ms`` old, which is how herds form.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from durakv.cluster.rebalance import planner
from durakv.cluster.rebalance.accounting import Accounts
from durakv.cluster.rebalance.load import MIB, GroupState, Load, total
from durakv.cluster.rebalance.moves import DRAIN, Limits, Move, Plan
from durakv.cluster.rebalance.stats import MINUTE, TEN_MINUTES, SlotRateTable

STEP_MS = 15_000
PLAN_MS = 30_000
CPU_US_S = 1_000_000.0
# A slot's CPU in microseconds a second at a moment.
Cpu = Callable[[int, int], float]


class Running:
    def __init__(self, mid: str, move: Move, by: int, now_ms: int, end_ms: int) -> None:
        self.mid = mid
        self.move = move
        self.by = by
        self.begun_ms = now_ms
        self.end_ms = end_ms


class World:
    def __init__(
        self,
        owner: list[int],
        groups: int,
        cpu: Cpu,
        *,
        seed: int = 1,
        apart: bool = False,
        sizes: list[float] | None = None,
        limits: Limits | None = None,
        memory: float = 8192 * MIB,
    ) -> None:
        self.owner = list(owner)
        self.first_owner = list(owner)
        self.cpu = cpu
        self.dice = random.Random(seed)
        self.sizes = sizes or [self.dice.uniform(8, 64) * MIB for _ in owner]
        self.limits = limits or Limits()
        self.capacity = {g: Load(CPU_US_S, 0.0, memory) for g in range(1, groups + 1)}
        self.apart = apart
        self.stale_ms = 60_000
        self.joining: list[int] = []
        self.draining: list[int] = []
        self.now_ms = 0
        self.noise = 0.02
        self.counters = [0.0] * len(owner)
        self.tables = {g: SlotRateTable() for g in self.capacity}
        self.accounts = {g: Accounts(self.limits) for g in (self.capacity if apart else [0])}
        self.running: list[Running] = []
        self.ended: list[Running] = []
        self.plans: list[tuple[int, Plan]] = []
        self.wrong: list[str] = []
        self.refused = 0
        self.mids = 0
        self.told: dict[int, Load] = {}
        self.told_ms = -1
        # Called with each move that ended; an adversary moves load here.
        self.on_moved: Callable[[World, Move], None] = lambda world, move: None

    # -- truth -------------------------------------------------------------------------------------------------------

    def used(self, group: int) -> Load:
        mine = [s for s, g in enumerate(self.owner) if g == group]
        return Load(sum(self.cpu(s, self.now_ms) for s in mine), 0.0, sum(self.sizes[s] for s in mine))

    def shares(self) -> dict[int, float]:
        return {g: self.used(g).share(self.capacity[g]) for g in self.capacity}

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, minutes: float) -> World:
        end_ms = self.now_ms + int(minutes * 60_000)
        while self.now_ms < end_ms:
            self.now_ms += STEP_MS
            self._count()
            self._end_moves()
            self._read()
            self._observe()
            if self.now_ms % PLAN_MS == 0:
                self._plan()
        return self

    def _count(self) -> None:
        for slot in range(len(self.owner)):
            rate = self.cpu(slot, self.now_ms) * (1 + self.dice.uniform(-self.noise, self.noise))
            self.counters[slot] += rate * STEP_MS / 1000

    def _end_moves(self) -> None:
        for r in [r for r in self.running if r.end_ms <= self.now_ms]:
            self.running.remove(r)
            self.ended.append(r)
            for slot in r.move.slots:
                if self.owner[slot] != r.move.source:
                    self.wrong.append(f"slot {slot} moved from where it is not")
                self.owner[slot] = r.move.target
                self.tables[r.move.source].forget(slot)
                self.tables[r.move.target].forget(slot)
            self.accounts[r.by].end(r.mid, self.now_ms, moved=True)
            if self.apart:
                self.accounts[r.move.target].arrived(r.move.target, r.move.slots, self.now_ms)
            self.on_moved(self, r.move)

    def _read(self) -> None:
        for slot, group in enumerate(self.owner):
            counter, size = int(self.counters[slot]), int(self.sizes[slot])
            self.tables[group].read(slot, self.now_ms, counter, 0, 0, size, 1)

    def _shares(self, window: int) -> dict[int, float]:
        return {g: self.tables[g].used(window).share(self.capacity[g]) for g in self.capacity}

    def _observe(self) -> None:
        minute, ten = self._shares(MINUTE), self._shares(TEN_MINUTES)
        for accounts in self.accounts.values():
            accounts.observe(self.now_ms, minute, ten)
            accounts.verify(self.now_ms, {g: share for g, share in minute.items() if g not in self.draining})
            accounts.expire(self.now_ms)

    def states(self, by: int) -> list[GroupState]:
        out = []
        for g, capacity in self.capacity.items():
            slots = self.tables[g].loads(MINUTE)
            if by in (0, g):
                state = GroupState(g, total(slots), capacity, slots)
            else:
                state = GroupState(g, self.told.get(g, Load()), capacity)
                # A target tells how many streams it has; a leader's own are in its accounts.
                state.inbound = sum(1 for r in self.running if r.move.target == g and r.by != by)
            state.joining = g in self.joining
            state.draining = g in self.draining
            out.append(state)
        return out

    def _plan(self) -> None:
        if self.told_ms < 0 or self.now_ms - self.told_ms >= self.stale_ms:
            self.told = {g: self.tables[g].used(MINUTE) for g in self.capacity}
            self.told_ms = self.now_ms
        # All leaders look before any of them moves.
        todo = [
            (by, planner.plan(self.states(by), self.limits, accounts, self.now_ms, self.dice.getrandbits(64)))
            for by, accounts in self.accounts.items()
        ]
        for by, made in todo:
            self.plans.append((self.now_ms, made))
            mids = [self._start(by, move) for move in made.moves]
            self.accounts[by].begin(made, mids)

    def _start(self, by: int, move: Move) -> str:
        self._check(move)
        inbound = sum(1 for r in self.running if r.move.target == move.target)
        if inbound >= self.limits.streams_per_target:
            self.refused += 1
            return ""
        self.mids += 1
        mid = f"m{self.mids}"
        took_ms = max(1000, int(1000 * move.copy_bytes / self.limits.stream_bytes_s))
        self.running.append(Running(mid, move, by, self.now_ms, self.now_ms + took_ms))
        return mid

    # -- what must never happen --------------------------------------------------------------------------------------

    def _check(self, move: Move) -> None:
        wrong, now_ms = self.wrong, self.now_ms
        if not move.slots or move.slots != sorted(set(move.slots)):
            wrong.append(f"{now_ms}: slots {move.slots}")
        for slot in move.slots:
            if any(slot in r.move.slots for r in self.running):
                wrong.append(f"{now_ms}: slot {slot} is moving already")
            past = [r.end_ms for r in self.ended if slot in r.move.slots]
            if past and now_ms - max(past) < 600_000:
                wrong.append(f"{now_ms}: slot {slot} moved {(now_ms - max(past)) // 1000} s ago")
        if sum(1 for r in self.running if r.move.source == move.source) >= self.limits.streams_per_source:
            wrong.append(f"{now_ms}: too many streams out of {move.source}")
        if move.reason != DRAIN:
            mine = [s for s, g in enumerate(self.owner) if g == move.source]
            cpu = {s: self.cpu(s, now_ms) for s in mine}
            top = max(mine, key=lambda s: cpu[s])
            runner_up = max((cpu[s] for s in mine if s != top), default=0.0)
            # Within the noise of measuring the hottest is anybody's guess.
            if top in move.slots and cpu[top] > 1.2 * runner_up and cpu[top] > 0.02 * CPU_US_S:
                wrong.append(f"{now_ms}: the hottest slot {top} of {move.source} moves")

    def overshoot(self) -> float:
        """How far above ``high`` the fullest group is in truth."""
        return max(0.0, max(self.shares().values()) - self.limits.high)

    def moved_bytes(self) -> float:
        return sum(r.move.copy_bytes for r in self.ended)

    def least_bytes(self, initial_ms: int = 0) -> float:
        """A lower bound of what any plan that leaves each group's hottest slot where it is must copy to bring all
        groups down to where the fullest one is now.

        Each group must shed what it had above that level. The relaxation lets slots be cut: shedding the slots with the
        most load a byte first, and a part of the last, is then the cheapest way (the fractional knapsack), and whole
        slots can only cost more. Groups and targets are taken not to hinder each other.
        """
        level = max(self.shares().values()) * CPU_US_S
        least = 0.0
        for g in self.capacity:
            mine = [s for s, owner in enumerate(self.first_owner) if owner == g]
            excess = sum(self.cpu(s, initial_ms) for s in mine) - level
            hottest = max(mine, key=lambda s: self.cpu(s, initial_ms), default=-1)
            cpus = {s: max(1e-9, self.cpu(s, initial_ms)) for s in mine if s != hottest}
            for s, cpu in sorted(cpus.items(), key=lambda row: self.sizes[row[0]] / row[1]):
                if excess <= 0:
                    break
                least += self.sizes[s] * min(1.0, excess / cpu)
                excess -= cpu
        return least


def even(slots: int, groups: int) -> list[int]:
    """Slots in as many runs as groups, numbered from 1."""
    return [1 + slot * groups // slots for slot in range(slots)]


def zipf(slots: int, groups: int, fill: float, exponent: float, seed: int) -> list[float]:
    """CPU by slot: Zipf over a shuffle of the slots, ``fill`` of all groups' capacity together."""
    dice = random.Random(seed)
    ranks = list(range(1, slots + 1))
    dice.shuffle(ranks)
    weights = [1 / rank**exponent for rank in ranks]
    return [fill * groups * CPU_US_S * w / sum(weights) for w in weights]
