"""A group beside a witness: at rest nobody asks it, destroyed it says so, and the oracle knows who may serve."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durakv.app import App
from jstyle.sim.cluster import Cluster, Options
from jstyle.sim.invariants import Invariants
from jstyle.sim.machine import Machine
from jstyle.sim.nemesis_witness import WitnessNemesis
from jstyle.sim.runner import Run, run
from jstyle.sim.schedule import Strike, plan_json, plan_of
from jstyle.sim.shadow import Shadow
from jstyle.sim.swarm import Draw, draw_plan
from jstyle.sim.violation import Violation
from jstyle.sim.witness_host import FILE, FIRST_ID, TCP, WitnessHost
from jstyle.sim.witness_oracle import WitnessOracle
from jstyle.sim.witness_record import Records
from raft.witness import WitnessState


class World:
    """Two full nodes, a witness, and everything that watches them."""

    def __init__(self, kind: str = TCP, nodes: int = 2, seed: int = 7) -> None:
        directives = {"election-timeout-ms": "500", "heartbeat-interval-ms": "50", "tick-ms": "25"}
        self.cluster = Cluster(seed, Options(nodes=nodes, witness=kind, directives=directives))
        assert self.cluster.witness is not None
        self.witness: WitnessHost = self.cluster.witness
        self.invariants = Invariants(self.cluster, Shadow())
        assert self.invariants.witness is not None
        self.judge = self.invariants.witness
        self.oracle = WitnessOracle(self.judge)
        self.nemesis = WitnessNemesis(self.cluster, self.witness)
        self.until(self.cluster.leader_serves)
        leader = self.cluster.leader()
        assert leader is not None
        self.leader: Machine = leader
        self.other = next(m for m in self.cluster.machines if m is not leader)
        self.pass_ms(2000)

    def until(self, condition: Callable[[], bool], ms: int = 20_000) -> None:
        def after_event() -> bool:
            self.invariants.check()
            return condition()

        assert condition() or self.cluster.run(ms, after_event), "it did not come to pass"

    def pass_ms(self, ms: int) -> None:
        self.cluster.run(ms, self.invariants.check)

    def app(self) -> App:
        assert self.leader.app is not None
        return self.leader.app

    def strike(self, kind: str, **params: object) -> None:
        undo = self.nemesis.kinds[kind](Strike(0, "witness", kind, "witness", 0, dict(params)))
        assert undo is not None

    def pinned(self) -> bool:
        return self.app().node.core.witness_state().pinned

    def pin(self) -> None:
        self.other.crash()
        self.until(self.pinned)

    def serves(self) -> bool:
        return self.cluster.leader_serves()


KINDS = pytest.mark.parametrize("kind", [TCP, FILE])


@KINDS
def test_a_group_at_rest_leaves_its_witness_alone(kind: str) -> None:
    plan = draw_plan(3, Draw("2+w", (), ("append", "counter"), 15_000))
    plan.options.witness = kind
    current = Run(plan)
    asked: list[int] = []
    begin = current.nemesis.begin

    def begin_and_note() -> None:
        asked.append(sum(m.app.node.witness.asked() for m in current.cluster.running() if m.app is not None))
        begin()

    current.nemesis.begin = begin_and_note  # type: ignore[method-assign]
    current.liveness.plan.core = [1, 2]
    current.go()
    now = sum(m.app.node.witness.asked() for m in current.cluster.running() if m.app is not None)
    assert [now] == asked, "asked in a quarter of a minute of work without a fault"
    assert current.shadow.commit > 50 and 0 < now < 5


@KINDS
@pytest.mark.parametrize("how", ["disk", "states", "marker", "rot"])
def test_a_destroyed_witness_answers_nothing_and_says_so(kind: str, how: str) -> None:
    world = World(kind)
    before = dict(world.judge.records.of(FIRST_ID).recorded)
    world.strike("witness-destroy", how=how)
    world.pass_ms(2000)
    assert world.witness.running and list(world.witness.lost) == [FIRST_ID]
    world.other.crash()
    world.until(lambda: world.app().node.witness.trouble.startswith("WITNESS_STATE_LOST"))
    world.pass_ms(5000)
    assert not world.pinned() and not world.serves(), "it went on without a record"
    assert world.judge.records.of(FIRST_ID).recorded == before
    world.other.start()
    world.until(world.serves)
    leader = world.cluster.leader()
    assert leader is not None
    # A new id at the same place, and the group stands a loss again.
    for kind_of_change in ("witness-remove", "witness-add"):
        world.pass_ms(1500)
        world.strike(kind_of_change)
    world.leader = leader
    world.other = next(m for m in world.cluster.machines if m is not leader)
    world.until(lambda: world.app().node.core.membership.witness_id() == FIRST_ID + 1)
    world.pass_ms(1500)
    world.pin()
    assert world.judge.counts["pins"] >= 1 and world.serves()


def test_an_answer_of_a_destroyed_witness_is_amnesia() -> None:
    world = World()
    world.witness.lost[FIRST_ID] = "disk"
    world.other.crash()
    with pytest.raises(Violation, match="NoAmnesia"):
        world.until(world.pinned)


@KINDS
def test_the_oracle_knows_who_may_serve(kind: str) -> None:
    world = World(kind)
    world.oracle.look(reached=True)
    both = [m.app for m in world.cluster.machines if m.app is not None]
    assert world.oracle.alone(both) and world.oracle.may_serve(both)
    assert all(world.oracle.may_serve([one]) for one in both), "either one, with the witness"
    world.pin()
    assert world.oracle.may_serve([world.app()])
    world.oracle.look(reached=False)
    assert world.oracle.may_serve([world.app()]), "who is pinned needs no witness"
    world.oracle.look(reached=True)
    world.leader.crash()
    world.other.start()
    assert world.other.app is not None
    assert not world.oracle.may_serve([world.other.app]), "the stale one may lack what was acknowledged"
    world.pass_ms(10_000)
    assert not world.serves()
    world.leader.start()
    assert world.oracle.may_serve([world.app()])
    world.other.crash()
    world.until(world.serves)


def test_a_promise_of_two_copies_is_held_to() -> None:
    world = World()
    world.invariants.copies = 2
    world.pass_ms(1000)
    shadow = world.invariants.shadow
    world.invariants.acknowledged([shadow.commit])
    world.pin()
    world.pass_ms(500)
    with pytest.raises(Violation, match="P2"):
        world.invariants.acknowledged([shadow.commit])
    assert draw_plan(3, Draw("3")).options.directives.get("min-data-copies") is None


def test_four_full_nodes_outlive_two_and_no_more() -> None:
    world = World(nodes=4)
    others = [m for m in world.cluster.machines if m is not world.leader]
    others[0].crash()
    others[1].crash()
    world.until(lambda: world.app().node.core.witness_state().engaged)
    world.pass_ms(3000)
    apps = [m.app for m in world.cluster.machines if m.app is not None]
    world.oracle.look(reached=True)
    assert not world.oracle.alone(apps) and world.oracle.may_serve(apps) and world.serves()
    assert not world.oracle.may_serve(apps[:1])


@KINDS
def test_the_same_seed_is_the_same_run(kind: str) -> None:
    def digest() -> str:
        plan = draw_plan(5, Draw("2+w", ("kill", "witness"), ("append",), 6000))
        plan.options.witness = kind
        result = run(plan)
        assert not result.invariant, result.text
        return result.digest

    assert digest() == digest()


def test_a_node_cut_off_from_the_directory_waits() -> None:
    world = World(FILE)
    for pair in ((world.leader.name, "w"), ("w", world.leader.name)):
        world.cluster.fabric.cut(*pair)
    world.other.crash()
    world.pass_ms(4000)
    assert not world.pinned()
    world.cluster.fabric.heal()
    world.until(world.serves)


def test_a_plan_with_a_witness_survives_its_file() -> None:
    plan = draw_plan(9, Draw("4+w"))
    again = plan_of(plan_json(plan))
    assert again == plan and again.options.witness in (TCP, FILE)
    old = plan_json(draw_plan(9, Draw("3")))
    for name in ("core_witness", "rest_gone"):
        del old[name]
    del old["options"]["witness"]
    assert plan_of(old) == draw_plan(9, Draw("3")), "files from before there were witnesses"


# ---- The record ------------------------------------------------------------------------------------------------------


def judged(*states: WitnessState) -> Records:
    """Records that accepted these one after another; (2, 1) began with the set (1, 101)."""
    records = Records(Cluster(1, Options(nodes=2, witness=TCP)).witness, {(2, 1): (1, 101)})  # type: ignore[arg-type]
    record = records.of(101)
    for state in states:
        records._accept(101, record, state)
        record.state = state
    return records


def state(term: int, vote: int = 0, pair: tuple[int, int] = (0, 0), members: tuple[int, ...] = ()) -> WitnessState:
    return WitnessState(1, 101, term, vote, *pair, members)


def test_a_sound_record_is_accepted() -> None:
    records = judged(state(1), state(2, 1), state(2, 1, (2, 1), (1, 101)), state(3, 0, (2, 1), (1, 101)))
    assert records.of(101).votes == {2: 1} and records.of(101).recorded == {(2, 1): (1, 101)}


@pytest.mark.parametrize(
    ("states", "rule"),
    [
        ((state(2, 1), state(2, 2)), "W1"),
        ((state(2, 1), state(2, 0)), "W1"),
        ((state(2), state(1)), "W2"),
        ((state(2, 0, (2, 1), (1, 101)), state(3)), "W2"),
        ((state(2, 0, (2, 1), (1, 101)), state(2, 0, (2, 1), (2, 101))), "W2"),
        ((state(2, 0, (2, 1), (2, 101)),), "W2"),
        ((state(2, 0, (2, 2), (1, 101)),), "W2"),
        ((state(1, 0, (2, 1), (1, 101)),), "W2"),
    ],
)
def test_a_record_that_goes_back_is_found(states: tuple[WitnessState, ...], rule: str) -> None:
    with pytest.raises(Violation) as found:
        judged(*states)
    assert found.value.invariant == rule


def test_a_record_that_grows_is_found() -> None:
    world = World()
    disk = world.witness.disk
    (folder,) = {path.rpartition("/")[0] for path in disk.durable_names if path.endswith(".st")}
    for n in range(20):
        disk.open(f"{folder}/left.{n}.tmp", create=True)
    disk.fsync_dir(folder)
    with pytest.raises(Violation, match="W7"):
        world.invariants.check()


# ---- Strikes ---------------------------------------------------------------------------------------------------------


def test_a_process_that_ends_by_a_failed_sync_is_started_again_and_answers() -> None:
    world = World()
    world.strike("witness-disk-error", call="fsync")
    world.other.crash()
    world.until(lambda: world.witness.exits == [74])
    assert not world.witness.running
    world.until(world.pinned)
    assert world.witness.starts == 2


@KINDS
def test_a_killed_witness_stays_down_until_the_strike_ends(kind: str) -> None:
    world = World(kind)
    undo = world.nemesis.kinds["witness-kill"](Strike(0, "witness", "witness-kill", "witness", 1000))
    assert undo is not None and not world.witness.running
    world.other.crash()
    world.pass_ms(5000)
    assert not world.pinned() and not world.witness.running
    undo()
    world.until(world.serves)


def test_answers_of_a_flapping_group_come_late() -> None:
    world = World()
    world.strike("witness-flap", pick=0, cut_ms=600, back_ms=700, late_ms=2000)
    world.pass_ms(2000)
    assert world.judge.counts["subterms"] >= 3, "out, in and out again before the first answer"
    world.pass_ms(5000)
    assert not world.cluster.fabric.is_cut(world.leader.name, world.other.name)
    world.until(lambda: world.app().node.core.witness_state().replication_set == (1, 2))


def test_a_healed_witness_is_whole_or_gone_or_as_it_was() -> None:
    for whole, leave, running in ((True, False, True), (False, False, False), (False, True, True)):
        world = World()
        world.nemesis.heal(whole=whole, leave=leave)
        assert world.witness.running is running
    world = World()
    world.strike("witness-kill")
    world.nemesis.heal(whole=True, leave=False)
    assert world.witness.running
