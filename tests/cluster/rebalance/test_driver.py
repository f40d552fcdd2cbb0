"""The rebalancer of a group's leader, with time handed in: when it plans, what it counts, when it rests."""

from __future__ import annotations

from durakv.cluster.gossip.loads import GroupLoad
from durakv.cluster.rebalance.driver import Driver, Own, limits_of
from durakv.cluster.rebalance.load import Load
from durakv.cluster.rebalance.moves import Move, Plan
from durakv.cluster.rebalance.stats import MINUTE

WINDOW_MS = 10_000
CAPACITY = Load(1_000_000.0, 0.0, 1e9)
SLOTS = list(range(20))


class Host:
    """Group 1 of three: 20 slots at so many microseconds a second each; the other groups idle."""

    def __init__(self, cpu_us_s: dict[int, int], *, window_ms: int = WINDOW_MS) -> None:
        self.cpu = cpu_us_s
        self.driver = Driver(limits_of(window_ms, 0.75, 0.2, 400e6), window_ms)
        self.now_ms = 1000
        self.counters = dict.fromkeys(SLOTS, 0)
        self.mine = list(SLOTS)
        self.others = [self.load(2), self.load(3)]
        self.plans: list[Plan] = []
        self.running: dict[str, Move] = {}
        self.results: dict[str, bool] = {}
        self.draining = False
        self.refuse = False
        self.begun: list[Move] = []

    @staticmethod
    def load(group: int, cpu: int = 10_000) -> GroupLoad:
        load = GroupLoad(group, 1, 1)
        load.cpu = load.cpu_ten = cpu
        load.capacity_cpu = 1_000_000
        load.capacity_memory = 10**9
        return load

    def own(self) -> Own:
        own = Own(1, CAPACITY)
        own.draining = self.draining
        own.exports = list(self.running)
        own.settled = [s for s in self.mine if not any(s in move.slots for move in self.running.values())]
        return own

    def begin(self, move: Move) -> str:
        if self.refuse:
            return ""
        mid = f"m{len(self.begun)}"
        self.begun.append(move)
        self.running[mid] = move
        return mid

    def arrive(self) -> None:
        """What runs has arrived."""
        for mid, move in list(self.running.items()):
            del self.running[mid]
            self.results[mid] = True
            self.mine = [s for s in self.mine if s not in move.slots]
            for slot in move.slots:
                self.driver.rates.forget(slot)
            for load in self.others:
                if load.group == move.target:
                    load.cpu += round(move.load.cpu_us_s)
                    load.cpu_ten = load.cpu

    def pass_s(self, seconds: int, *, auto: bool = True) -> None:
        for _ in range(seconds):
            self.now_ms += 1000
            for slot in self.mine:
                self.counters[slot] += self.cpu.get(slot, 0)
                self.driver.rates.read(slot, self.now_ms, self.counters[slot], 0, 0, 1 << 20, 10)
            self.driver.follow(self.now_ms, self.own(), self.others, self.results.get)
            if self.now_ms % 5000 == 0 and self.driver.ready():
                plan = self.driver.plan(self.now_ms, self.own(), self.others, self.now_ms)
                self.plans.append(plan)
                if auto:
                    self.driver.start(plan, self.begin)


def hot() -> dict[int, int]:
    """90 % in all; slot 7 is the hottest."""
    return dict.fromkeys(SLOTS, 40000) | {7: 140_000}


def test_a_hot_group_gives_other_slots_away_then_converges_and_stays_quiet() -> None:
    host = Host(hot())
    host.pass_s(8)
    assert not host.begun, "not before it was hot for a window"
    host.pass_s(30)
    assert host.begun and all(7 not in move.slots for move in host.begun)
    assert all(move.source == 1 and move.target in (2, 3) for move in host.begun)
    host.arrive()
    for _ in range(40):
        host.pass_s(10)
        host.arrive()
    settled = len(host.begun)
    assert host.driver.used(MINUTE).share(CAPACITY) < 0.75
    for _ in range(40):
        host.pass_s(10)
        host.arrive()
    assert len(host.begun) == settled
    moved = [slot for move in host.begun for slot in move.slots]
    assert len(moved) == len(set(moved))
    assert host.driver.accounts.stopped == ""


def test_suggesting_starts_nothing() -> None:
    host = Host(hot())
    host.pass_s(60, auto=False)
    assert any(plan.moves for plan in host.plans) and not host.begun
    assert host.driver.started == 0 and not host.driver.accounts.running()


def test_a_slot_under_way_is_not_moved_again_and_what_was_refused_is_not_counted() -> None:
    host = Host(hot())
    host.refuse = True
    host.pass_s(40)
    assert host.driver.refused > 0 and not host.driver.accounts.running()
    host.refuse = False
    host.pass_s(40)
    moved = [slot for move in host.begun for slot in move.slots]
    assert moved and len(moved) == len(set(moved))
    # Two streams leave a source at a time.
    assert len(host.running) <= 2


def test_a_migration_of_somebody_elses_takes_a_stream() -> None:
    host = Host(hot())
    for n in (1, 2):
        strange = Move(1, 2, "hot")
        strange.slots = [n]
        host.running[f"operator{n}"] = strange
    host.pass_s(60)
    assert not host.begun


def test_a_group_that_is_emptied_is_left_to_its_operator_and_is_no_target() -> None:
    host = Host(hot())
    host.draining = True
    host.pass_s(60)
    assert not host.begun
    host = Host(hot())
    host.others[0].draining = True
    host.pass_s(60)
    assert host.begun and all(move.target == 3 for move in host.begun)


def test_an_unhealthy_or_unheard_group_is_no_target() -> None:
    host = Host(hot())
    host.others[1].healthy = False
    host.pass_s(60)
    assert host.begun and all(move.target == 2 for move in host.begun)
    host = Host(hot())
    host.others = []
    host.pass_s(60)
    assert not host.begun


def test_a_new_group_is_filled_until_it_has_its_part() -> None:
    host = Host(dict.fromkeys(SLOTS, 20000))
    host.others = [host.load(2, 400_000), host.load(4, 0)]
    host.pass_s(15)
    assert not host.begun, "40 % is no reason to move anything"
    plain = host.own

    def with_news() -> Own:
        own = plain()
        own.empty = [4] if host.others[1].cpu == 0 else []
        return own

    host.own = with_news  # type: ignore[method-assign]
    for _ in range(10):
        host.pass_s(10)
        host.arrive()
    assert host.begun and all((move.target, move.reason) == (4, "join") for move in host.begun)
    assert 4 not in host.driver.joining or host.driver.used(MINUTE).share(CAPACITY) < 0.32


def test_what_the_process_took_is_shared_out_among_slots() -> None:
    driver = Driver(limits_of(WINDOW_MS, 0.75, 0.2, 400e6), WINDOW_MS)
    for n in range(30):
        driver.rates.read(3, n * 1000, n * 10_000, 0, 0, 0, 1)
        driver.rates.read(4, n * 1000, n * 30_000, 0, 0, 0, 1)
        driver.read_process(n * 1000, n * 200_000)
    assert round(driver.used(MINUTE).cpu_us_s, -2) == 200_000
    assert [round(s.load.cpu_us_s, -2) for s in driver.loads()] == [50_000, 150_000]
    idle = Driver(limits_of(WINDOW_MS, 0.75, 0.2, 400e6), WINDOW_MS)
    for n in range(30):
        idle.rates.read(3, n * 1000, n, 0, 0, 0, 1)
        idle.read_process(n * 1000, n * 20_000)
    assert idle.used(MINUTE).cpu_us_s < 50
