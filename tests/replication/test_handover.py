"""Leadership moves on request and away from a full volume, and stays where nobody could do better."""

from __future__ import annotations

from functools import partial

import pytest

from durakv.replication.handover import LEARNER, MASTER_DOWN
from durakv.resp.errors import CommandError
from raft.types import Membership
from tests.replication.sim import Machine, SimCluster
from tests.replication.test_cluster import Probe, settle

MIN_FREE = 512 << 20


def cluster_with_room(seed: int) -> SimCluster:
    return SimCluster(seed, min_free="512mb")


def others(cluster: SimCluster, machine: Machine) -> list[Machine]:
    return [m for m in cluster.machines if m is not machine]


def leads(machine: Machine) -> bool:
    return machine.app is not None and machine.app.engine.leading


def ask(cluster: SimCluster, machine: Machine, command: str) -> object:
    return Probe(cluster, machine.node_id).ask(command)[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_leader_with_a_full_volume_hands_over_to_a_node_with_room(seed: int) -> None:
    cluster = cluster_with_room(seed)
    leader = cluster.wait_leader()
    settle(cluster)
    full, roomy = others(cluster, leader)
    full.disk.free = leader.disk.free = MIN_FREE - 1
    assert cluster.time.run(15_000, lambda: leads(roomy)), "nobody took over"
    cluster.wait_leader()
    assert ask(cluster, leader, "SET k v") == b"OK"
    # Room again: nothing more happens.
    full.disk.free = leader.disk.free = 100 << 30
    cluster.time.run(10_000)
    assert leads(roomy)


def test_with_every_volume_full_the_leader_stays_and_refuses_writes() -> None:
    cluster = cluster_with_room(9)
    leader = cluster.wait_leader()
    settle(cluster)
    for machine in cluster.machines:
        machine.disk.free = MIN_FREE - 1
    assert leader.app is not None
    term = leader.app.engine.term
    cluster.time.run(30_000)
    assert leads(leader) and leader.app.engine.term == term, "leadership went in a circle"
    assert str(ask(cluster, leader, "SET k v")).startswith("MISCONF log volume nearly full")
    assert ask(cluster, leader, "GET k") is None
    others(cluster, leader)[0].disk.free = 100 << 30
    assert cluster.time.run(15_000, lambda: leads(others(cluster, leader)[0])), "one has room again"


def test_a_follower_asks_its_leader_to_hand_over() -> None:
    cluster = SimCluster(5)
    leader = cluster.wait_leader()
    settle(cluster)
    for target in others(cluster, leader):
        assert target.app is not None
        assert ask(cluster, target, f"CLUSTER TRANSFER {target.node_id}") == b"OK"
        assert cluster.time.run(5_000, partial(leads, target)), "the leader did not hand over"
        cluster.wait_leader()
        settle(cluster)
    assert ask(cluster, leader, "SET k v") == b"OK"


def test_failover_without_a_leader_needs_force_and_a_learner_is_refused() -> None:
    cluster = SimCluster(6)
    leader = cluster.wait_leader()
    settle(cluster)
    first, second = others(cluster, leader)
    leader.crash("all")
    for machine in (first, second):
        assert machine.app is not None
        machine.app.node.core.forget_leader()
        machine.app.node.pump()
    assert first.app is not None
    with pytest.raises(CommandError, match=MASTER_DOWN):
        first.app.engine.transfer_leadership(first.node_id)
    first.app.engine.transfer_leadership(first.node_id, force=True)
    # At once, not after an election timeout of silence.
    assert cluster.time.run(300, lambda: leads(first))
    assert second.app is not None
    voters = [m.node_id for m in cluster.machines if m is not second]
    second.app.node.core.membership = Membership(voters=voters, learners=[second.node_id])
    with pytest.raises(CommandError, match=LEARNER.split(";")[0]):
        second.app.engine.transfer_leadership(second.node_id)


def test_malformed_frames_are_refused() -> None:
    cluster = SimCluster(7)
    machine = cluster.wait_leader()
    assert machine.app is not None
    with pytest.raises(ValueError, match="malformed"):
        machine.app.node.handover.on_frame(2, b"")
