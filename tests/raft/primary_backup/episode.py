"""A random history: clients, faults of every kind the protocol must bear, and then their end, after which everything
has to work again. Run many:  python -m tests.raft.primary_backup.episode --seeds 200 --shape 3 --skew 150 [--force]"""

import argparse
import sys
import time

from raft.primary_backup import Refused
from raft.primary_backup.types import FORCE_STEP
from raft.types import Role
from tests.raft.cluster import Dice
from tests.raft.primary_backup.world import HOLDER, MS, World

SHAPES = {"3": (1, 2, 3), "2": (1, 2)}
FAULTY_MS = 12_000
RECOVERY_MS = 25_000


class Episode(World):
    """`skew` is by how many permille clocks may be off; beyond the bound, wrong reads are counted, not raised."""

    def __init__(self, seed: int, shape: str = "3", skew: int = 150, force: bool = False, **settings) -> None:
        dice = Dice(seed * 7 + 3)
        nodes = SHAPES[shape]
        # Both extremes at once, often: that is where leases and promises come closest.
        rates = {}
        for node in nodes:
            kind = dice.below(3 if skew <= 150 else 2)
            rates[node] = 1000 + (skew if kind == 0 else -skew if kind == 1 else dice.below(2 * skew + 1) - skew)
        min_isr = 1 + dice.below(2) * dice.below(2)
        policy = {
            "evict_after_ns": (400 + dice.below(1600)) * MS,
            "admit_timeout_ns": (400 + dice.below(1600)) * MS,
            "admit_lag_entries": dice.below(20),
            "hold_ns": dice.below(1500) * MS,
            "lazy_commit": dice.chance(30),
            "max_inflight_msgs": 1 + dice.below(8),
            "rate_permille": 150,
            **settings,
        }
        super().__init__(seed, nodes, min_isr, rates, **policy)
        self.skew = skew
        self.raising = skew <= 150
        self.force = force
        self.holder_clock.rate = rates[nodes[0]] if dice.chance(50) else 2000 - rates[nodes[0]]
        self.loss = dice.below(60) * dice.below(2)
        self.duplicate = dice.below(100) * dice.below(2)
        self.delay_ns = (2 + dice.below(60)) * MS
        self.busy = 40 + dice.below(200)
        self.fault_ms = 150 + dice.below(900)
        self.faults = [
            *[self.crash_or_start] * 3, self.start_all, *[self.pause_it] * 3, *[self.cut_off] * 3,
            self.cut_from_holder, *[self.mend] * 2, *[self.slow_link] * 2, self.holder_trouble, self.snapshots,
            self.slow_disk, self.stick, self.step_clock, *[self.operator] * 4, *[self.promote_by_force] * 2 * force,
        ]  # fmt: skip
        self.taken = 0
        self.promotions = 0

    def pick(self, nodes: list[int] | tuple[int, ...]) -> int:
        return nodes[self.dice.below(len(nodes))]

    def some_primary(self) -> int:
        leaders = [n for n in self.up() if self.core(n).role == Role.LEADER]
        return self.pick(leaders) if leaders and self.dice.chance(60) else self.pick(self.nodes)

    # Clients and faults, as events

    def client(self) -> None:
        for node in self.nodes:
            if self.dice.chance(50):
                self.taken += self.write(node)
            self.read(node)
        self.at(self.dice.below(2 * self.busy) * MS, self.client)

    def trouble(self) -> None:
        self.fault()
        self.at(self.dice.below(2 * self.fault_ms) * MS, self.trouble)

    def fault(self) -> None:
        dice = self.dice
        if dice.chance(40) and any(self.core(n).change is not None for n in self.up()):
            # The members meet again just while one of them asks for office.
            self.cut = {pair for pair in self.cut if HOLDER in pair}
            return
        faults = self.faults
        faults[dice.below(len(faults))](self.some_primary())

    def crash_or_start(self, node: int) -> None:
        if self.sites[node].core is None:
            self.start(node)
        else:
            self.crash(node, self.dice.below(3), self.dice.chance(50))

    def start_all(self, node: int) -> None:
        for down in self.nodes:
            if self.sites[down].core is None:
                self.start(down)

    def pause_it(self, node: int) -> None:
        dice = self.dice
        self.pause(node, dice.below(4500) * MS if dice.chance(70) else (900 + dice.below(800)) * MS)

    def cut_from_holder(self, node: int) -> None:
        self.cut.add((node, HOLDER))
        if self.dice.chance(50):
            self.cut.add((HOLDER, node))

    def mend(self, node: int) -> None:
        self.cut.clear()
        if self.dice.chance(50):
            self.slow.clear()

    def slow_link(self, node: int) -> None:
        """One direction only: answers late, beacons in time, or the other way round."""
        other = self.pick([*self.nodes, HOLDER])
        pair = (node, other) if self.dice.chance(50) else (other, node)
        self.slow[pair] = (100 + self.dice.below(1900)) * MS

    def snapshots(self, node: int) -> None:
        for each in self.nodes:
            self.snapshot(each)

    def slow_disk(self, node: int) -> None:
        self.sites[node].disk_ns = (2 if self.dice.chance(60) else 800) * MS

    def stick(self, node: int) -> None:
        self.sites[node].stuck = not self.sites[node].stuck

    def step_clock(self, node: int) -> None:
        site = self.sites[node]
        step_ns = (self.dice.below(6000) - 3000) * MS
        if abs(step_ns) > 500 * MS and site.core is not None:
            site.clock.change(self.now_ns, site.clock.rate, step_ns)
            site.stepped = True
            # The step is seen, not heard: a node may take over the grace time after it.
            site.woke_ns = self.local(site)

    def cut_off(self, node: int) -> None:
        """From one or all of the others, in one direction or both; it may still reach the holder."""
        dice = self.dice
        others = [n for n in self.nodes if n != node]
        if dice.chance(40):
            others = [self.pick(others)]
        if dice.chance(50):
            others.append(HOLDER)
        both = dice.chance(70)
        for other in others:
            self.cut.add((node, other))
            if both:
                self.cut.add((other, node))

    def holder_trouble(self, node: int) -> None:
        kind = self.dice.below(3)
        if kind == 0:
            # Calls overtake each other and take effect long after their caller gave them up.
            for each in self.nodes:
                self.slow[each, HOLDER] = (100 + self.dice.below(2900)) * MS
        elif self.holder_up and kind == 1:
            self.holder_up = False
        else:
            self.holder_restart()

    def operator(self, node: int) -> None:
        core = self.sites[node].core
        if core is None or self.sites[node].paused_until_ns or core.role != Role.LEADER:
            return
        local_ns = self.turn(self.sites[node])
        try:
            if self.dice.chance(60):
                core.transfer_leader(self.pick([n for n in core.isr if n != node] or self.nodes), local_ns)
            else:
                core.alter(local_ns, min_isr=1 + self.dice.below(2))
        except Refused:
            self.pump(self.sites[node])
            return
        self.pump(self.sites[node])

    def promote_by_force(self, node: int) -> None:
        """As an operator would: with the other in-sync members stopped, or the only one cut off from the holder."""
        core = self.sites[node].core
        if core is None or core.known is None or core.role == Role.LEADER:
            return
        given_up = tuple(n for n in core.known.isr if n != node)
        if given_up == (core.known.primary,) and self.dice.chance(70):
            for other in (HOLDER, node):
                self.cut.add((given_up[0], other))
                self.cut.add((other, given_up[0]))
        else:
            if any(self.sites[n].core is not None for n in given_up) and self.dice.chance(60):
                # Rarely, or episodes would be about nothing else.
                return
            for n in given_up:
                self.crash(n, self.dice.below(3))
        self.insist(node, given_up, 15)

    def insist(self, node: int, given_up: tuple[int, ...], tries: int) -> None:
        """The operator asks again and again; what is refused was not done."""
        site = self.sites[node]
        core = site.core
        if core is None or site.paused_until_ns or tries == 0:
            return
        still_given_up = len(given_up) == 1 or all(self.sites[n].core is None for n in given_up)
        if not still_given_up:
            return
        local_ns = self.turn(site)
        try:
            core.force(given_up, local_ns)
        except Refused:
            self.at(200 * MS, self.insist, node, given_up, tries - 1)
        else:
            self.at(400 * MS, self.insist, node, given_up, tries - 1)
        self.pump(site)

    # The whole

    def play(self, faulty_ms: int = FAULTY_MS) -> "Episode":
        self.at(0, self.client)
        self.at(500 * MS, self.trouble)
        self.run(faulty_ms * MS)
        self.recover()
        return self

    def recover(self) -> None:
        """Once faults stop, one primary serves, everybody is in sync and a write is acknowledged: no human needed."""
        self.events = [e for e in self.events if e[2] not in (self.client, self.trouble, self.insist)]
        self.heal()
        for node in self.nodes:
            self.at(0, self.keep_snapshots, node)
        if not self.run(RECOVERY_MS * MS, self.whole):
            raise AssertionError(f"Liveness: not whole {RECOVERY_MS} ms after the last fault\n{self.picture()}")
        before = self.visible
        for _ in range(5):
            # A change asked for before the faults ended may still put another primary in office.
            self.write(self.primary() or self.nodes[0])
            if self.run(2000 * MS, lambda: self.visible > before and self.equal()):
                break
        else:
            raise AssertionError(f"Liveness: no write is acknowledged everywhere\n{self.picture()}")
        self.check_history(self.nodes[0])

    def keep_snapshots(self, node: int) -> None:
        core = self.sites[node].core
        if core is not None and core.snapshot_wanted:
            self.snapshot(node)
        self.at(200 * MS, self.keep_snapshots, node)

    def whole(self) -> bool:
        node = self.primary()
        if not node:
            return False
        core = self.core(node)
        return core.isr == self.nodes and core.change is None and not core.resigned and not core.waiting_reads

    def equal(self) -> bool:
        return len({(site.app.index, site.app.digest) for site in self.sites.values()}) == 1

    def check_history(self, node: int) -> None:
        """Every acknowledged write is there, in order."""
        app = self.sites[node].app
        at = 0
        for index in sorted(self.acked):
            data = self.acked[index]
            while at < len(app.normal) and app.normal[at] != data:
                at += 1
            assert at < len(app.normal), f"AckedSurvives: {data!r} of index {index} is gone at node {node}"
        for loss in self.losses:
            assert loss.epoch_after == loss.epoch_before + FORCE_STEP
            assert loss.certain_through <= loss.kept_through


def run(seed: int, shape: str = "3", skew: int = 150, force: bool = False) -> str:
    """One episode's digest, the same in every process."""
    episode = Episode(seed, shape, skew, force).play()
    return f"{episode.trace:x}-{episode.invariants.holder.epoch}-{episode.now_ns}"


def main() -> int:
    parser = argparse.ArgumentParser(description="explore random histories of the lease protocol")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="3")
    parser.add_argument("--skew", type=int, default=150, help="how far clocks are off, permille; the bound is 150")
    parser.add_argument("--force", action="store_true", help="with forced promotions")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long")
    args = parser.parse_args()
    began = time.monotonic()
    totals = {"episodes": 0, "acked": 0, "reads": 0, "epochs": 0, "forces": 0, "wrong reads": 0, "failed": 0}
    for seed in range(args.first, args.first + args.seeds):
        if args.seconds and time.monotonic() - began > args.seconds:
            break
        episode = Episode(seed, args.shape, args.skew, args.force)
        try:
            episode.play()
        except Exception as error:
            totals["failed"] += 1
            print(f"seed {seed}: {type(error).__name__}: {error}")
            if not isinstance(error, AssertionError):
                raise
        totals["episodes"] += 1
        totals["acked"] += len(episode.acked)
        totals["reads"] += episode.served
        totals["epochs"] += episode.invariants.holder.epoch % FORCE_STEP
        totals["forces"] += episode.invariants.forces
        totals["wrong reads"] += len(episode.violations)
    elapsed = time.monotonic() - began
    print(", ".join(f"{name} {value}" for name, value in totals.items()), end="; ")
    print(f"{totals['episodes'] / elapsed:.1f} episodes/s")
    return 1 if totals["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
