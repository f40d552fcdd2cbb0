"""Only a node that is its whole group may acknowledge before its disk did; whoever joins or is joined syncs."""

from __future__ import annotations

from random import Random

import pytest

from tests.replication.sim import Fabric, Machine, SimCluster, Time
from tests.replication.test_cluster import Probe, settle


class Lone(SimCluster):
    """One machine with an empty disk, started with the given directives."""

    def __init__(self, seed: int, **directives: str) -> None:
        self.random = Random(seed)
        self.time = Time()
        self.fabric = Fabric(self.time, self.random)
        self.directives = {name.replace("_", "-"): text for name, text in directives.items()}
        self.machines = [Machine(self, 1)]
        self.machines[0].start()


def lazy(machine: Machine) -> bool:
    assert machine.app is not None
    return machine.app.store.log.lazy()


@pytest.mark.parametrize("policy", ["no", "everysec"])
def test_a_node_on_its_own_follows_the_directive(policy: str) -> None:
    cluster = Lone(1, appendfsync=policy)
    machine = cluster.wait_leader()
    assert lazy(machine)
    probe = Probe(cluster, 1)
    assert probe.ask("CONFIG SET appendfsync always", "SET k v") == [b"OK", b"OK"]
    assert not lazy(machine)
    assert probe.ask(f"CONFIG SET appendfsync {policy}") == [b"OK"]
    assert lazy(machine)


@pytest.mark.parametrize("policy", ["no", "everysec"])
def test_a_node_that_waits_to_join_syncs_before_it_knows_of_any_group(policy: str) -> None:
    cluster = Lone(2, appendfsync=policy, join="yes", cluster_id="00112233445566778899aabbccddeeff", node_id="1")
    assert not lazy(cluster.machines[0])
    probe = Probe(cluster, 1)
    (refused,) = probe.ask(f"CONFIG SET appendfsync {policy}")
    assert "appendfsync stays always" in str(refused)
    assert not lazy(cluster.machines[0])


@pytest.mark.parametrize("policy", ["no", "everysec"])
def test_a_group_syncs_whatever_the_directive_says(policy: str) -> None:
    cluster = SimCluster(3, appendfsync=policy)
    leader = cluster.wait_leader()
    settle(cluster)
    assert not any(lazy(machine) for machine in cluster.machines)
    probe = Probe(cluster, leader.node_id)
    (refused,) = probe.ask(f"CONFIG SET appendfsync {policy}")
    assert "appendfsync stays always" in str(refused)
    assert not lazy(leader)
    assert probe.ask("SET k acknowledged") == [b"OK"]
    for machine in cluster.machines:
        machine.crash("none")
    for machine in cluster.machines:
        machine.start()
    settle(cluster)
    assert Probe(cluster, cluster.wait_leader().node_id).ask("GET k") == [b"acknowledged"]


def test_a_node_on_its_own_syncs_from_the_moment_another_is_added() -> None:
    cluster = Lone(4, appendfsync="no")
    machine = cluster.wait_leader()
    assert lazy(machine)
    probe = Probe(cluster, 1)
    assert probe.ask("CLUSTER ADDNODE 2 n2:7002") == [b"OK"]
    assert not lazy(machine)
    assert probe.ask("CLUSTER REMOVENODE 2") == [b"OK"]
    assert lazy(machine)
