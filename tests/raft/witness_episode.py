"""A random history, as in episode.py, of a group with a witness: 2, 3 or 4 voters beside it, the witness crashing and
cut off like the others, removed and replaced by another, leaders pinned and reading alone."""

from typing import Any

from raft import ConfChange
from tests.raft.cluster import Dice
from tests.raft.episode import SERVERS, TICK_NS, Episode

SHAPES = {"2+1": (1, 2), "3+1": (1, 2, 3), "4+1": (1, 2, 3, 4)}
FIRST_WITNESS = 101


class WitnessEpisode(Episode):
    def __init__(self, seed: int, shape: str = "2+1", changes: bool = True, **settings) -> None:
        self.shape = shape
        self.changes = changes
        # Messages to and from the witness that take very long.
        self.late: list[tuple[int, int, bytes]] = []
        dice = Dice(seed + 7)
        policy = {
            "suspect_ticks": 3 + dice.below(8),
            "hold_ticks": 1 + dice.below(20),
            "rejoin_lag_entries": dice.below(30),
            "pin_delay_ticks": dice.below(4) * dice.below(2),
        }
        super().__init__(seed, **policy, **settings)
        self.pinned_reads = 0
        self.involved = 0
        self.swaps = 0
        self.pins = 0

    def founders(self) -> dict[str, Any]:
        return {"voters": SHAPES[self.shape], "witness": FIRST_WITNESS}

    def deliver(self, at: int = 0) -> None:
        from_, to, _ = self.wire[at]
        if (from_ in self.witnesses or to in self.witnesses) and len(self.late) < 8 and self.dice.chance(20):
            self.late.append(self.wire.pop(at))
        else:
            super().deliver(at)

    # A node that campaigns needs the witness, so histories in which faults are rare show little of it.
    def disaster(self) -> None:
        dice = self.dice
        self.wire += self.late
        self.late = []
        kind = dice.below(8)
        site = self.witnesses[max(self.witnesses)]
        voters = SHAPES[self.shape]
        if kind == 0:
            site.up = not site.up
        elif kind == 1:
            site.up = True
            self.cut.add((self.pick([*self.servers]), max(self.witnesses)))
        elif kind == 2:
            self.isolate(voters[dice.below(len(voters))])
        elif kind == 3:
            alive = [n for n in voters if self.servers[n].core is not None]
            if len(alive) > 1:
                self.crash(self.pick(alive), dice.below(3))
        else:
            super().disaster()

    def restart_all(self) -> None:
        super().restart_all()
        for site in self.witnesses.values():
            site.up = True

    def change(self, core) -> None:
        dice = self.dice
        if not self.changes:
            return
        if dice.chance(50):
            super().change(core)
            return
        fresh = max(self.witnesses) + 1
        edits: dict[str, Any] = (
            {} if dice.chance(50) else {"add_voter": [1 + dice.below(SERVERS)], "remove": [1 + dice.below(SERVERS)]}
        )
        if core.membership.witness_id():
            core.propose_conf(ConfChange(remove_witness=True, **edits))
        else:
            self.add_witness(fresh)
            core.propose_conf(ConfChange(add_witness=fresh, **edits))

    def check_leases(self) -> None:
        super().check_leases()
        for node in self.leaders():
            core = self.core(node)
            view = core.witness_state()
            self.involved += view.engaged
            if view.pinned:
                self.pins += 1
                assert core.log.commit >= self.invariants.committed_max, f"stale pin at node {node}"
                assert not core.has_ready() or core.log.commit < core.noop_index or core.lease_valid(self.clock(node))
            self.swaps = max(self.swaps, view.swaps)

    def calm(self, core) -> bool:
        """Everybody is there, so the witness is not needed."""
        return not core.witness_state().engaged and not core.witness_state().asking

    def recover(self) -> None:
        super().recover()
        self.lose_one()

    def lose_one(self) -> None:
        """A voter goes for good: what was proposed before anybody noticed commits, under the same leader."""
        node = max(self.leaders(), key=lambda n: self.core(n).term)
        core = self.core(node)
        others = [n for n in core.membership.voters if n != node]
        if not core.membership.witness_id() or core.membership.is_joint() or node not in core.membership.voters:
            return
        term = core.term
        self.crash(self.pick(others))
        index = core.propose(b"alone")
        for _ in range(40):
            self.settle()
            if core.log.commit >= index:
                break
            self.now_ns += TICK_NS
            for other in self.up():
                self.core(other).tick(self.clock(other))
        assert (core.term, core.log.commit >= index) == (term, True), f"stuck without a voter: {self.picture()}"


def run(seed: int, shape: str = "2+1", steps: int = 150) -> str:
    return WitnessEpisode(seed, shape).run(steps)
