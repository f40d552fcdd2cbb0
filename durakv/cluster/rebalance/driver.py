"""The rebalancer of one group's leader: readings go in, rounds of planning come out, moves are started by the host.

Each leader plans for its own group's slots and knows the others by the totals they tell; so whoever starts a move is
the one whose log owns the slots. Two that plan at once (an old leader and a new one, or two groups with the same
target) do no harm: only one can commit to a log, a move of slots that moved already takes no effect, and what a target
gets too much of it tells with its next totals. Rule: no I/O, and time is handed in; it never steps back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.cluster.gossip.loads import GroupLoad
from durakv.cluster.rebalance import planner
from durakv.cluster.rebalance.accounting import Accounts
from durakv.cluster.rebalance.load import GroupState, Load, SlotLoad
from durakv.cluster.rebalance.moves import Limits, Move, Plan
from durakv.cluster.rebalance.stats import MINUTE, TEN_MINUTES, SlotRates, SlotRateTable

# Before so much of the short window was seen, averages say little.
_SEEN: Final = 0.6
# Counters know what commands took; reading requests, the log and replies cost several times that. What the whole
# process took is shared out among slots in proportion, up to this factor, since an idle process takes a little too.
_FACTOR_MAX: Final = 32.0
# The long window, and the rest of a slot, as a multiple of the short one.
LONG: Final = 10
# What became of a move: None as long as it runs.
Ended = Callable[[str], "bool | None"]
# Starts a move and returns its id, empty when it was refused.
Begin = Callable[[Move], str]


def limits_of(window_ms: int, high: float, skew: float, bandwidth_bytes_s: float) -> Limits:
    """Limits with one length of time to choose: how long a group must be hot, and rests after a move."""
    limits = Limits()
    limits.hot_for_ms = limits.group_cooldown_ms = limits.settle_ms = window_ms
    limits.slot_cooldown_ms = limits.skew_for_ms = LONG * window_ms
    limits.high = high
    limits.memory_target = min(limits.memory_target, high)
    limits.memory_high = max(limits.memory_high, limits.memory_target)
    limits.skew = skew
    limits.bandwidth_bytes_s = bandwidth_bytes_s
    return limits


class Own:
    """What the host knows of its own group at a round, beside what its slots use."""

    def __init__(self, group: int, capacity: Load) -> None:
        self.group = group
        self.capacity = capacity
        self.healthy = True
        self.draining = False
        # Migrations of this group under way, whoever ordered them, by id.
        self.exports: list[str] = []
        self.imports = 0
        # Slots that may be moved: neither leaving nor arriving.
        self.settled: list[int] = []
        # Groups without a slot of their own.
        self.empty: list[int] = []


class Driver:
    """One leader's; a new leader starts a new one."""

    def __init__(self, limits: Limits, window_ms: int) -> None:
        self.limits = limits
        self.window_ms = window_ms
        windows = (float(window_ms), float(LONG * window_ms))
        self.accounts = Accounts(limits)
        self.rates = SlotRateTable(windows)
        self._process: SlotRates | None = None
        self._windows = windows
        # New groups that are still to be filled.
        self.joining: dict[int, None] = {}
        self.rounds = 0
        self.started = 0
        self.refused = 0

    # -- readings ------------------------------------------------------------------------------------------------------

    def read_process(self, now_ms: int, cpu_us: int) -> None:
        """CPU of the whole process since it started."""
        if self._process is None:
            self._process = SlotRates(now_ms, cpu_us, 0, 0, self._windows)
        else:
            self._process.read(now_ms, cpu_us, 0, 0)

    def used(self, window: int) -> Load:
        """What the group uses."""
        plain = self.rates.used(window)
        return Load(plain.cpu_us_s * self._factor(window, plain), plain.network_bytes_s, plain.memory_bytes)

    def loads(self) -> list[SlotLoad]:
        """What each slot uses, ascending."""
        factor = self._factor(MINUTE, self.rates.used(MINUTE))
        out: list[SlotLoad] = []
        for s in self.rates.loads(MINUTE):
            load = Load(s.load.cpu_us_s * factor, s.load.network_bytes_s, s.load.memory_bytes)
            out.append(SlotLoad(s.slot, load, s.keys, s.write_bytes_s))
        return out

    def _factor(self, window: int, slots: Load) -> float:
        if self._process is None or slots.cpu_us_s <= 0:
            return 1.0
        whole = self._process.cpu_us[window] / (self._process.weight[window] or 1.0)
        return min(max(1.0, whole / slots.cpu_us_s), _FACTOR_MAX)

    def ready(self) -> bool:
        """Whether enough was seen to judge by."""
        return self.rates.seen(MINUTE) >= _SEEN

    # -- rounds --------------------------------------------------------------------------------------------------------

    def follow(self, now_ms: int, own: Own, others: list[GroupLoad], ended: Ended) -> None:
        """Take in what has become of moves, and how loaded everybody is; call it at each reading."""
        for job in self.accounts.running():
            result = ended(job.mid)
            if result is not None:
                self.accounts.end(job.mid, now_ms, moved=result)
        if not self.ready():
            return
        minute = {own.group: self.used(MINUTE).share(own.capacity)}
        ten = {own.group: self.used(TEN_MINUTES).share(own.capacity)}
        staying = {} if own.draining else dict(minute)
        for load in others:
            capacity = capacity_of(load)
            minute[load.group] = used_of(load).share(capacity)
            ten[load.group] = Load(load.cpu_ten, load.network_ten, load.memory).share(capacity)
            if not load.draining:
                staying[load.group] = minute[load.group]
        self.accounts.observe(now_ms, minute, ten)
        self.accounts.verify(now_ms, staying)
        self.accounts.expire(now_ms)

    def plan(self, now_ms: int, own: Own, others: list[GroupLoad], seed: int) -> Plan:
        """What would be started now; starts nothing."""
        states = self._states(own, others)
        plan = planner.plan(states, self.limits, self.accounts, now_ms, seed)
        for group in [g for g in self.joining if plan.filled(g, self.limits.gain)]:
            del self.joining[group]
        return plan

    def start(self, plan: Plan, begin: Begin) -> None:
        """Start its moves."""
        mids = [begin(move) for move in plan.moves]
        self.started += sum(1 for mid in mids if mid)
        self.refused += sum(1 for mid in mids if not mid)
        self.accounts.begin(plan, mids)

    def _states(self, own: Own, others: list[GroupLoad]) -> list[GroupState]:
        for group in own.empty:
            self.joining.setdefault(group, None)
        settled = bytearray(max(own.settled, default=0) + 1)
        for slot in own.settled:
            settled[slot] = 1
        slots = [s for s in self.loads() if s.slot < len(settled) and settled[s.slot]] if self.ready() else []
        mine = GroupState(own.group, self.used(MINUTE), own.capacity, [] if own.draining else slots)
        mine.healthy, mine.draining = own.healthy, own.draining
        mine.outbound = sum(1 for mid in own.exports if mid not in self.accounts.jobs)
        mine.inbound = own.imports
        mine.joining = own.group in self.joining
        states = [mine]
        running = [job.move.target for job in self.accounts.running()]
        for load in others:
            state = GroupState(load.group, used_of(load), capacity_of(load))
            state.healthy, state.draining = load.healthy, load.draining
            # What it says includes the streams of this group.
            state.inbound = max(0, load.inbound - running.count(load.group))
            state.joining = load.group in self.joining
            states.append(state)
        return states


def used_of(load: GroupLoad) -> Load:
    """What a group said it used over the short window."""
    return Load(load.cpu, load.network, load.memory)


def capacity_of(load: GroupLoad) -> Load:
    """What a group said it can take."""
    return Load(load.capacity_cpu, load.capacity_network, load.capacity_memory)
