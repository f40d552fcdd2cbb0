"""Several groups: slots move in the simulated world, clients follow them, and what must not happen is noticed."""

from __future__ import annotations

import pytest

from durakv.cluster.handoff import entries
from durakv.keyspace.slots import slot_of
from durakv.replication import addresses
from durakv.world.ports import Stream
from jstyle.checkers.verdict import TRUE
from jstyle.history.op import Op
from jstyle.sim.client import wire_of
from jstyle.sim.cluster import Options
from jstyle.sim.groups import TAGS, Groups, slot_of_tag
from jstyle.sim.groups_run import GroupsRun
from jstyle.sim.handoff_watch import SLOTS_USED, HandoffWatch
from jstyle.sim.judge import judge_with
from jstyle.sim.nemesis_groups import SHARED_KINDS
from jstyle.sim.runner import run_and_keep
from jstyle.sim.schedule import Strike, plan_json, plan_of
from jstyle.sim.shadow import Shadow
from jstyle.sim.swarm import Draw, draw_plan
from jstyle.sim.timeline import SECOND
from jstyle.sim.violation import Violation
from jstyle.sim.workloads.slotted import tagged

MID = b"ab" * 20
SECOND_MS = 1000


def watched() -> HandoffWatch:
    """Two groups of one node, their shadows, and nothing has happened."""
    groups = Groups(5, Options(nodes=1, groups=2))
    first = Shadow()
    return HandoffWatch(groups, [first, Shadow(first)])


def apply(watch: HandoffWatch, group: int, index: int, argv: list[bytes]) -> None:
    """A group's committed log has this item next."""
    watch.shadows[group - 1].applier.handoff.apply(argv, 5, index)


def broken(invariant: str) -> pytest.RaisesExc[Violation]:
    return pytest.raises(Violation, match=f"^{invariant}: ")


def begun(watch: HandoffWatch, *, fenced: bool = True) -> None:
    apply(watch, 1, 5, entries.export_begin(MID, 2, ((0, 1, 1),)))
    apply(watch, 2, 7, entries.import_begin(MID, 1, 5, (1, 1), ((0, 1, 1),)))
    if fenced:
        apply(watch, 1, 9, entries.fence(MID, (1, 1)))


def activation() -> list[bytes]:
    return entries.activate(MID, (1, 1), 9, 5, 0, entries.NO_DIGEST, entries.counts_digest([]))


def test_tags_are_in_slots_of_both_groups_and_names_choose_them() -> None:
    assert len(SLOTS_USED) == len(TAGS)
    assert 0 < sum(slot < 8192 for slot in SLOTS_USED) < len(TAGS)
    assert len({tagged(f"r0.{n}").partition("}")[0] for n in range(20)}) > 3


def test_a_whole_handoff_breaks_nothing() -> None:
    watch = watched()
    begun(watch)
    assert [record.mid for _, record in watch.fenced()] == [MID]
    apply(watch, 2, 11, activation())
    assert "out of group 1" in watch.ongoing()
    apply(watch, 1, 13, entries.release(MID))
    apply(watch, 2, 14, entries.import_forget(MID))
    assert watch.ongoing() == ""
    assert watch.owners[:3] == [2, 2, 1] and watch.epochs[:3] == [2, 2, 1]
    watch.judge_cover()
    assert (watch.counts["moved"], watch.counts["fenced"], watch.counts["begun"]) == (1, 1, 1)


def test_an_activation_that_no_fence_allows() -> None:
    watch = watched()
    begun(watch, fenced=False)
    with broken("S4"):
        apply(watch, 2, 11, activation())


def test_other_keys_than_at_the_fence() -> None:
    watch = watched()
    shadow = watch.shadows[0]
    shadow.ks.writing = True
    shadow.ks.dbs[0].put(b"{06S}k", b"v")
    begun(watch)
    with broken("S4"):
        apply(watch, 2, 11, activation())


def test_a_way_out_of_a_fence_that_nobody_allowed() -> None:
    watch = watched()
    begun(watch)
    with broken("S5"):
        apply(watch, 1, 13, entries.unfence(MID, b"late"))
    watch = watched()
    begun(watch)
    with broken("S2"):
        apply(watch, 1, 13, entries.release(MID))


def test_commands_and_answers_of_a_group_that_does_not_serve() -> None:
    watch = watched()
    watch.shadows[0].on_run([b"{06S}k"])  # type: ignore[misc]
    with broken("S1"):
        watch.shadows[1].on_run([b"{06S}k"])  # type: ignore[misc]
    watch.answered(1, 0, 0)
    with broken("S3"):
        watch.answered(2, 0, 0)
    watch.timeline.run_for(1000)
    begun(watch)
    fenced_ns = watch.timeline.now_ns
    watch.timeline.run_for(1000)
    # It was asked before the fence, or it was not.
    watch.answered(1, 0, fenced_ns)
    with broken("S3"):
        watch.answered(1, 0, fenced_ns + 1)
    with broken("S1"):
        watch.shadows[0].on_run([b"{06S}k"])  # type: ignore[misc]


def test_staged_keys_that_show_and_redirections_without_end() -> None:
    watch = watched()
    watch.shadows[1].ks.writing = True
    watch.shadows[1].ks.dbs[0].put(b"{06S}k", b"v")
    with broken("SH"):
        begun(watch)
    watch.arrived(0, 3)
    with broken("S6"):
        watch.arrived(0, 4)


def test_what_is_forced_is_exempt() -> None:
    watch = watched()
    begun(watch)
    apply(watch, 1, 13, entries.force_abort(MID))
    apply(watch, 2, 15, activation())
    watch.answered(1, 0, 0)
    assert watch.owners[0] == 1 and watch.epochs[0] == 3
    apply(watch, 2, 17, entries.yield_slots(MID))
    watch.judge_cover()


def test_slots_move_while_clients_work() -> None:
    plan = draw_plan(7, Draw("2x3", ("moves",), ("append", "register", "set"), 3 * SECOND_MS))
    result, current = run_and_keep(plan, judge_with(plan))
    assert (result.valid, result.invariant, result.text) == (TRUE, "", "")
    assert result.handoffs["moved"] >= 10 and result.handoffs["ended"] == result.handoffs["begun"]
    assert isinstance(current, GroupsRun)
    assert set(current.watch.owners) == {1, 2} and max(current.watch.epochs) > 2
    # Lists of several groups' slots, and clients that were sent from one to the other.
    assert {op.node for op in current.history.ops} >= {f"n{n}" for n in plan.core[:1]}
    assert result.digests_compared > 10 and result.certificates > 50


def test_faults_along_handoffs() -> None:
    plan = draw_plan(7, Draw("2x3", ("moves", "points", "apart", "kill"), ("append",), 3 * SECOND_MS))
    result, _ = run_and_keep(plan, judge_with(plan))
    assert (result.valid, result.invariant, result.text) == (TRUE, "", "")
    assert result.injected["points/trap"] >= 1 and result.handoffs["ended"] >= 5


def test_flushes_of_a_database_nobody_works_in() -> None:
    plan = draw_plan(4, Draw("2x1", ("moves", "flush"), ("append", "set"), 3 * SECOND_MS))
    result, current = run_and_keep(plan, judge_with(plan))
    assert (result.valid, result.invariant, result.text) == (TRUE, "", "")
    assert result.injected["flush/flush"] >= 2 and result.injected["flush/fill"] >= 5
    assert result.handoffs["ended"] == result.handoffs["begun"] >= 5
    assert isinstance(current, GroupsRun)
    effects = current.watch.shadows[0].effects
    assert effects[(b"FLUSHDB",)].runs >= 2
    assert sum(effect.runs for token, effect in effects.items() if b"}other" in token[1 % len(token)]) > 20


def test_groups_that_change_their_members() -> None:
    plan = draw_plan(5, Draw("2x3", ("moves", "membership"), ("append", "set"), 8 * SECOND_MS))
    result, current = run_and_keep(plan, judge_with(plan))
    assert (result.valid, result.invariant, result.text) == (TRUE, "", "")
    assert result.injected["membership/add-node"] >= 2
    assert result.handoffs["ended"] == result.handoffs["begun"] >= 10
    assert isinstance(current, GroupsRun)
    # Machines 4, 5, 9 and 10 are none of the founding members.
    assert {4, 9} <= set(current.liveness.nodes())


def test_what_is_lost_by_force_is_not_judged() -> None:
    plan = draw_plan(7, Draw("2x1", ("moves",), ("append", "set"), SECOND_MS))
    current = GroupsRun(plan)
    slot = slot_of_tag(TAGS[1])
    mine = Op(0, 0, 0, "invoke", "txn", [["append", f"{{{TAGS[1]}}}a", 1]])
    other = Op(1, 1, 1, "invoke", "read", None, None, f"{{{TAGS[0]}}}s")
    assert current.judged("append", [mine]) == [mine]
    current.watch.forced[slot] = None
    assert (current.judged("append", [mine]), current.judged("register", [other])) == ([], [other])
    added = Op(2, 2, 2, "invoke", "add", 5)
    assert current.judged("set", [added]) == [added]
    current.watch.forced[slot_of(tagged("s").encode())] = None
    assert current.judged("set", [added]) == []


def test_strikes_of_one_group_stay_in_it_and_plans_travel() -> None:
    plan = draw_plan(3, Draw("3x3", ("moves", "kill"), ("append",), 2 * SECOND_MS))
    assert plan_of(plan_json(plan)) == plan
    plan.strikes = [Strike(1, "kill", "kill", "leader", 100, {"pick": 0, "group": n}) for n in range(4)]
    current = GroupsRun(plan)
    assert [len(part.nemesis.plan.strikes) for part in current.parts] == [2, 1, 1]
    assert not set(SHARED_KINDS) & {one.kind for part in current.parts for one in part.nemesis.plan.strikes}


class Writer:
    """Sends requests when it is connected, and looks at no answer. Implements StreamHandler."""

    def __init__(self, requests: list[list[bytes]]) -> None:
        self.requests = requests

    def on_open(self, stream: Stream) -> None:
        stream.write(b"".join([wire_of(argv) for argv in self.requests]))

    def on_data(self, data: bytes) -> None: ...

    def on_close(self, error: Exception | None) -> None: ...


def test_who_starts_from_a_checkpoint_is_believed_less_than_its_leader() -> None:
    groups = Groups(3, Options(nodes=3, groups=2, checkpoints=True))
    assert groups.timeline.run_for(20 * SECOND, lambda: all(one.leader_serves() for one in groups.clusters))
    first, other = groups.clusters
    leader = first.wait_leader()
    groups.dial("c", leader.number, Writer([[b"SET", b"{06S}%d" % n, bytes(400)] for n in range(200)]))
    groups.timeline.run_for(8 * SECOND)
    app = other.machines[0].app
    assert app is not None and app.node.neighbours is not None and leader.app is not None
    known = app.node.neighbours.routing.facts
    follower = next(machine for machine in first.machines if machine is not leader)
    follower.crash()
    assert follower.start() and follower.app is not None
    # It takes its checkpoint for the last change of members.
    assert follower.app.node.core.conf_index > leader.app.node.core.conf_index
    assert not groups.timeline.run_for(3 * SECOND, lambda: known[1].leader != leader.node_id)
    assert first.leader() is leader


def test_machines_know_their_group() -> None:
    groups = Groups(1, Options(nodes=3, groups=2))
    assert [groups.group_of(machine.number) for machine in groups.machines] == [1, 1, 1, 2, 2, 2]
    assert groups.machine(5) is groups.group(2).machines[1]
    assert (groups.number_at("n4"), groups.number_at("n9"), groups.number_at("mover")) == (4, 0, 0)
    founding = groups.group(2).place
    assert founding is not None and isinstance(founding.founding, addresses.Founding)
    assert founding.founding.slots == [(8192, 16383)]
