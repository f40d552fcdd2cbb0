"""One random history of a group from one seed: messages lost, doubled and reordered, disks that lag, crashes,
partitions, clocks of different rates, membership changes, transfers, snapshots; then calm, in which the group must
recover. Everything is checked by the cluster's invariants; the return value digests the whole history."""

import zlib
from typing import Any

from raft import ConfChange, ProposalDropped
from tests.raft.cluster import Cluster, Dice

PROMISE_NS = 90_000_000
# Rates differ by at most 5 % either way from true time.
LEASE_NS = PROMISE_NS * 95 // 105 - 1_000_000
TICK_NS = 10_000_000
SERVERS = 6


class Episode(Cluster):
    def __init__(self, seed: int, **settings) -> None:
        self.dice = Dice(seed)
        self.rate = {n: 95 + self.dice.below(11) for n in range(1, SERVERS + 1)}
        self.next_tick: dict[int, int] = {}
        super().__init__(
            **self.founders(),
            seed=seed,
            trim_entries=1 + self.dice.below(20),
            pre_vote=self.dice.chance(80),
            # Promises make elections rarer, so half the histories do without.
            lease_reads=self.dice.chance(50),
            lazy_commit=self.dice.chance(50),
            lease_ns=LEASE_NS,
            promise_ns=PROMISE_NS,
            max_size_per_msg=40,
            max_inflight_msgs=1 + self.dice.below(8),
            max_inflight_bytes=200,
            max_uncommitted_bytes=300,
            max_committed_bytes_per_ready=60,
            **settings,
        )
        for node in range(1, SERVERS + 1):
            if node not in self.servers:
                self.add(node)
        self.trace = 0
        self.leases = 0
        self.proposed = 0
        self.installed = 0

    def founders(self) -> dict[str, Any]:
        voters = (1, 2, 3) if self.dice.chance(70) else (1, 2, 3, 4, 5)
        return {"voters": voters, "learners": (6,) if self.dice.chance(20) else ()}

    def clock(self, node: int) -> int:
        return 1_000_000_000 * node + self.now_ns * self.rate[node] // 100

    def note(self, *what: object) -> None:
        self.trace = zlib.crc32(repr(what).encode(), self.trace)

    def take(self, node: int):
        rd = super().take(node)
        self.installed += rd.snapshot is not None
        self.note(node, rd.hard_state, rd.entries, rd.snapshot, rd.committed_entries, rd.read_states, rd.failed_reads)
        return rd

    def up(self) -> list[int]:
        return [n for n, s in self.servers.items() if s.core is not None]

    def pick(self, nodes: list[int]) -> int:
        return nodes[self.dice.below(len(nodes))]

    # Single random actions

    def some_io(self) -> None:
        dice = self.dice
        for node in self.up():
            server = self.servers[node]
            assert server.core is not None
            if server.core.has_ready() and dice.chance(70):
                self.take(node)
            while server.pending and dice.chance(50):
                self.fsync(node)
        for _ in range(dice.below(2 + len(self.wire))):
            if not self.wire:
                return
            at = dice.below(len(self.wire)) if dice.chance(20) else 0
            kind = dice.below(100)
            if kind < 4:
                self.wire.pop(at)
            elif kind < 8:
                _, to, data = self.wire[at]
                self.receive(to, data)
            else:
                self.deliver(at)

    def client(self) -> None:
        dice = self.dice
        leaders = self.leaders()
        if not leaders:
            return
        core = self.core(self.pick(leaders))
        try:
            self.proposed += 1
            core.propose(b"%d" % self.proposed * (1 + dice.below(8)))
        except ProposalDropped as error:
            self.note(str(error))
        node = self.pick(self.up())
        try:
            self.core(node).read_index((self.proposed, self.invariants.committed_max))
        except ProposalDropped as error:
            self.note(str(error))
        self.check_leases()

    def check_leases(self) -> None:
        for node in self.up():
            core = self.core(node)
            if core.lease_valid(self.clock(node)):
                self.leases += 1
                assert core.log.commit >= self.invariants.committed_max, f"stale lease read at node {node}"

    def operator(self) -> None:
        dice = self.dice
        kind = dice.below(8)
        node = self.pick(self.up())
        core = self.core(node)
        try:
            if kind <= 2:
                leaders = self.leaders()
                if leaders:
                    self.change(self.core(self.pick(leaders)))
            elif kind == 3:
                leaders = self.leaders()
                if leaders:
                    self.core(self.pick(leaders)).transfer_leader(1 + dice.below(SERVERS))
            elif kind == 4 and core.log.applied > 0 and core.log.applied >= core.log.first_index():
                self.snapshot(node)
            elif kind == 5:
                core.report_unreachable(1 + dice.below(SERVERS))
            elif kind == 6:
                core.campaign()
            elif kind == 7:
                core.forget_leader()
        except ProposalDropped as error:
            self.note(str(error))
        self.check(node)

    def change(self, core) -> None:
        dice = self.dice
        edits: dict[str, list[int]] = {"add_voter": [], "add_learner": [], "promote": [], "remove": []}
        used = []
        for _ in range(1 + dice.below(3)):
            node = 1 + dice.below(SERVERS)
            if node not in used:
                used.append(node)
                edits[("add_voter", "add_learner", "promote", "remove")[dice.below(4)]].append(node)
        index = core.propose_conf(
            ConfChange(
                edits["add_voter"], edits["add_learner"], edits["promote"], edits["remove"], b"c%d" % dice.below(3)
            )
        )
        self.note("change", index, edits)

    def disaster(self) -> None:
        dice = self.dice
        kind = dice.below(6)
        if kind <= 1:
            up = self.up()
            if len(up) > 1:
                self.crash(self.pick(up), dice.below(3))
        elif kind == 2:
            self.restart_all()
        elif kind == 3:
            self.isolate(*[n for n in self.servers if dice.chance(40)])
        elif kind == 4:
            a, b = 1 + dice.below(SERVERS), 1 + dice.below(SERVERS)
            self.cut.add((a, b))
        else:
            self.heal()

    def restart_all(self) -> None:
        for node, server in self.servers.items():
            if server.core is None:
                self.start(node)

    def pass_time(self, stall: bool = True) -> None:
        self.now_ns += self.dice.below(6) * 1_000_000
        for node in self.up():
            clock = self.clock(node)
            due = self.next_tick.get(node, 0)
            if clock < due or (stall and self.dice.chance(60)):
                continue
            # A node that stalled catches up on its ticks in one burst.
            for _ in range(min(20, (clock - due) // TICK_NS + 1) if due else 1):
                self.core(node).tick(clock)
                self.check(node)
            self.next_tick[node] = clock + TICK_NS

    # The whole

    def run(self, steps: int) -> str:
        dice = self.dice
        for _ in range(steps):
            self.pass_time()
            self.some_io()
            if dice.chance(30):
                self.client()
            if dice.chance(6):
                self.operator()
            if dice.chance(3):
                self.disaster()
        self.recover()
        self.note(self.trace, sorted(self.digests.items()))
        return f"{self.trace:08x}"

    def recover(self) -> None:
        """No more faults: a leader emerges, commits, and every member catches up."""
        self.heal()
        self.restart_all()
        done = None
        for _ in range(400):
            self.settle()
            self.check_leases()
            self.now_ns += TICK_NS
            for node in self.up():
                self.core(node).tick(self.clock(node))
            leaders = sorted(self.leaders(), key=lambda n: -self.core(n).term)
            if done is None and leaders:
                core = self.core(leaders[0])
                try:
                    done = (core.propose(b"done"), core)
                except ProposalDropped:
                    continue
            if done is not None:
                index, core = done
                if core.role != 3:
                    done = None
                elif core.membership.is_joint():
                    continue
                elif all(self.core(n).log.applied >= index for n in core.membership.members()) and self.calm(core):
                    return
        raise AssertionError(f"no recovery: {self.picture()}")

    def calm(self, core) -> bool:
        """What else has to come about once there are no more faults."""
        return True

    def picture(self) -> str:
        text = ""
        for node in self.up():
            s = self.core(node).status()
            text += f"\n{node}: {s.role_name()} term {s.term} commit {s.commit}/{s.last_index} {s.membership!r} "
            text += str([(p.node, p.state, p.match, p.next, p.recent_active) for p in s.peers])
            text += f" set {s.witness.replication_set}"
        return text


def run(seed: int, steps: int = 150) -> str:
    return Episode(seed).run(steps)
