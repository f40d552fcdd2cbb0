"""Each rule of the protocol fires when one node breaks it; the durable state read bit by bit is the one read anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jstyle.sim.invariants import Invariants
from jstyle.sim.probe import DurableState
from jstyle.sim.quorums import overlap
from jstyle.sim.runner import Run
from jstyle.sim.shadow import Shadow
from jstyle.sim.swarm import Draw, draw_plan
from jstyle.sim.timeline import Timeline
from jstyle.sim.violation import Violation
from raft.types import Entry, EntryKind, Membership, Role

VOTERS = Membership((1, 2, 3))


class FakeLog:
    """A node's log, all in memory."""

    def __init__(self) -> None:
        self.pending_snapshot = None
        self.held: list[Entry] = []
        self.commit = 0
        self.offset = 1

    @property
    def last(self) -> int:
        return len(self.held)

    @property
    def last_term(self) -> int:
        return self.term(self.last)

    def term(self, index: int) -> int:
        return self.held[index - 1].term if index else 0

    def first_index(self) -> int:
        return 1

    def matches(self, index: int, term: int) -> bool:
        return index <= self.last and self.term(index) == term

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        return self.held[lo - 1 : hi - 1]


class FakeDurable:
    """What a node's disk holds: (index, term) pairs."""

    def __init__(self) -> None:
        self.terms = [0]
        self.hard = (0, 0)
        self.lied = False

    @property
    def last(self) -> int:
        return len(self.terms) - 1

    @property
    def last_term(self) -> int:
        return self.terms[-1]

    def refresh(self, image: object, covered: int = 0) -> bool:
        return True

    def holds(self, index: int, term: int) -> bool:
        return not self.lied and index < len(self.terms) and self.terms[index] == term


class World:
    """Three fake nodes under the real invariants."""

    def __init__(self) -> None:
        self.machines = [self.machine(n) for n in (1, 2, 3)]
        cluster: Any = SimpleNamespace(
            machines=self.machines, witness=None, options=SimpleNamespace(directives={}), timeline=Timeline()
        )
        self.invariants = Invariants(cluster, Shadow())
        self.disks = [FakeDurable() for _ in self.machines]
        for watch, disk in zip(self.invariants.watches, self.disks, strict=True):
            watch.durable = disk  # type: ignore[assignment]
        self.invariants.check()

    def machine(self, n: int) -> Any:
        log = FakeLog()
        core = SimpleNamespace(log=log, term=1, role=Role.FOLLOWER, conf=[(0, VOTERS)], conf_index=0)
        app = SimpleNamespace(
            node=SimpleNamespace(core=core),
            driver=SimpleNamespace(core=core),
            store=SimpleNamespace(log=SimpleNamespace(durable_index=lambda: log.last)),
            engine=SimpleNamespace(applier=SimpleNamespace(applied=0), ks=None),
        )
        disk = SimpleNamespace(faults=None)
        return SimpleNamespace(
            node_id=n, name=f"n{n}", app=app, disk=disk, durable_image=lambda: None, checkpoints=None
        )

    def core(self, n: int) -> Any:
        return self.machines[n - 1].app.node.core

    def lead(self, n: int, term: int) -> None:
        self.core(n).term, self.core(n).role = term, Role.LEADER

    def append(self, n: int, term: int, *, durable: bool = True, data: bytes = b"") -> None:
        log = self.core(n).log
        log.held.append(Entry(log.last + 1, term, 0, EntryKind.NOOP, data))
        if durable:
            self.disks[n - 1].terms.append(term)

    def replicate(self, term: int, *nodes: int) -> None:
        for n in nodes:
            self.append(n, term)

    def breaks(self, invariant: str) -> None:
        with pytest.raises(Violation, match=f"^{invariant}: "):
            self.invariants.check()


@pytest.fixture
def world() -> World:
    return World()


def test_a_sound_group_passes(world: World) -> None:
    world.lead(1, 2)
    world.replicate(2, 1, 2)
    world.invariants.check()
    world.core(1).log.commit = 1
    world.invariants.check()
    assert world.invariants.shadow.commit == 1 and world.invariants.certificates == 1


def test_r1_two_leaders_of_a_term(world: World) -> None:
    world.lead(1, 2)
    world.invariants.check()
    world.lead(3, 2)
    world.breaks("R1")


def test_r2_a_leader_loses_its_log(world: World) -> None:
    world.lead(1, 2)
    world.replicate(2, 1)
    world.invariants.check()
    world.core(1).log.held.clear()
    world.breaks("R2")


def test_r3_two_entries_in_one_place(world: World) -> None:
    world.append(1, 2)
    world.invariants.check()
    world.append(2, 2, data=b"other")
    world.breaks("R3")


def test_r4_a_leader_without_a_committed_entry(world: World) -> None:
    world.lead(1, 2)
    world.replicate(2, 1, 2)
    world.core(1).log.commit = 1
    world.invariants.check()
    world.lead(3, 3)
    world.breaks("R4")


def test_r5_commit_falls(world: World) -> None:
    world.lead(1, 2)
    world.replicate(2, 1, 2)
    world.core(1).log.commit = 1
    world.invariants.check()
    world.core(1).log.commit = 0
    world.breaks("R5")


def test_r5_applied_before_it_is_committed(world: World) -> None:
    world.machines[0].app.engine.applier.applied = 1
    world.breaks("R5")


def test_r6_the_durable_vote_changes_or_the_term_falls(world: World) -> None:
    world.disks[0].hard = (3, 1)
    world.invariants.watches[0].refresh()
    world.disks[0].hard = (3, 2)
    with pytest.raises(Violation, match=r"^R6: "):
        world.invariants.watches[0].refresh()
    world.invariants.watches[0].hard = (3, 1)
    world.disks[0].hard = (2, 1)
    with pytest.raises(Violation, match=r"^R6: "):
        world.invariants.watches[0].refresh()


def test_r7_commit_without_a_durable_quorum(world: World) -> None:
    world.lead(1, 2)
    world.append(1, 2)
    world.append(2, 2, durable=False)
    world.core(1).log.commit = 1
    world.breaks("R7")


def test_r7_the_leader_counts_what_it_has_not_synced(world: World) -> None:
    world.lead(1, 2)
    world.append(1, 2, durable=False)
    world.append(2, 2)
    world.core(1).log.commit = 1
    world.breaks("R7")


def test_r7_a_leader_counts_by_the_newest_membership_of_its_log(world: World) -> None:
    world.core(1).conf = [(0, Membership((1, 2, 3)))]
    world.lead(1, 2)
    world.replicate(2, 1, 2)
    world.invariants.check()
    # Node 2 is on its way out; it and the leader were a quorum of the former three, not of the two that stay.
    world.core(1).conf = [(0, Membership((1, 2, 3))), (1, Membership((1, 3)))]
    world.core(1).log.commit = 1
    world.breaks("R7")


def test_r7_a_membership_that_ended_in_this_event_still_counts(world: World) -> None:
    world.lead(1, 2)
    world.append(1, 2)
    world.append(2, 2)
    world.core(1).conf = [(0, Membership((1, 2, 3))), (1, Membership((1, 3)))]
    world.core(1).log.commit = 1
    world.invariants.check()
    assert world.invariants.certificates == 1


def test_r8_an_older_term_committed_by_counting(world: World) -> None:
    world.replicate(1, 1, 2, 3)
    world.lead(1, 2)
    world.invariants.check()
    world.core(1).log.commit = 1
    world.breaks("R8")


def test_r9_two_open_changes(world: World) -> None:
    world.lead(1, 2)
    core = world.core(1)
    core.log.held.append(Entry(1, 2, 0, EntryKind.CONFIG, VOTERS.encode()))
    core.conf = [(0, VOTERS), (1, Membership((1, 2, 3, 4))), (2, Membership((1, 2, 3)))]
    world.breaks("R9")


@pytest.mark.parametrize(("old", "new", "meet"), [
    (Membership((1, 2, 3)), Membership((1, 2, 3, 4)), True),
    (Membership((1, 2, 3)), Membership((3, 4, 5)), False),
    (Membership((1, 2, 3)), Membership((3, 4, 5), (1, 2, 3)), True),
    (Membership((3, 4, 5), (1, 2, 3)), Membership((3, 4, 5)), True),
    (Membership((1, 2, 3)), Membership((1, 2, 3, 4, 5, 6)), False),
    (Membership((1,)), Membership((1, 2)), True),
])  # fmt: skip
def test_quorums_that_must_meet(old: Membership, new: Membership, meet: bool) -> None:
    assert overlap(old, new) is meet


def test_d4_a_synced_entry_is_gone_after_a_crash(world: World) -> None:
    world.append(1, 2)
    world.invariants.check()
    world.machines[0].app = None
    world.disks[0].lied = True
    world.breaks("D4")


def test_what_a_node_commits_in_the_event_that_ends_it_is_committed(world: World) -> None:
    world.lead(1, 2)
    world.replicate(2, 1, 2)
    world.invariants.check()
    world.core(1).log.commit = 1
    # It may have answered a client before it ended.
    world.machines[0].app = None
    world.invariants.check()
    assert world.invariants.shadow.commit == 1 and world.invariants.certificates == 1


def test_r7_also_binds_a_node_that_ends(world: World) -> None:
    world.lead(1, 2)
    world.append(1, 2)
    world.invariants.check()
    world.core(1).log.commit = 1
    world.machines[0].app = None
    world.breaks("R7")


def test_incremental_reading_of_the_medium_is_reading_anew() -> None:
    plan = draw_plan(3, Draw(shape="3", classes=("power", "kill", "partition", "transfer"), safety_ms=12_000))
    run = Run(plan)
    compared = 0
    check = run.invariants.check

    def compare() -> bool:
        nonlocal compared
        check()
        if run.cluster.timeline.events % 400 == 0:
            for watch in run.invariants.watches:
                watch.refresh()
                fresh = DurableState(lambda *facts: None, [0])
                fresh.refresh(watch.machine.durable_image())
                same = (fresh.terms, fresh.chains, fresh.hard) == (
                    watch.durable.terms, watch.durable.chains, watch.durable.hard,
                )  # fmt: skip
                assert same, watch.where
                compared += watch.durable.last > 5
        return False

    run.invariants.check = compare  # type: ignore[method-assign]
    run.go()
    assert compared > 20 and run.invariants.recoveries > 6
