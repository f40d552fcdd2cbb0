"""Lease mode's driver: three whole nodes, a config holder, and what clients see when something fails."""

from __future__ import annotations

import pytest

from durakv.config.settings import Settings
from durakv.replication.lease_members import kept_config
from durakv.replication.lease_settings import lease_settings
from raft.primary_backup.register import Register
from raft.types import HardState as Promised
from tests.replication.lease_sim import LeaseCluster, node_of, settled
from tests.replication.sim import MS, Machine
from tests.replication.test_cluster import Probe, judge, run_on


def test_a_shard_is_founded_by_its_members_and_serves() -> None:
    cluster = LeaseCluster(1)
    assert cluster.time.run(10_000, lambda: settled(cluster)), "no primary with all in sync"
    leader = cluster.leader()
    assert leader is not None
    probe = Probe(cluster, leader.node_id)
    assert probe.ask("SET a 1", "GET a", "INCR n") == [b"OK", b"1", 1]
    other = next(m for m in cluster.machines if m is not leader)
    assert Probe(cluster, other.node_id).ask("GET a", "INCR n") == [b"1", 2]


def test_a_member_takes_over_with_everything_acknowledged() -> None:
    cluster = LeaseCluster(2)
    assert cluster.time.run(10_000, lambda: settled(cluster))
    leader = cluster.leader()
    assert leader is not None
    assert Probe(cluster, leader.node_id).ask("SET a 1", "SET b 2") == [b"OK", b"OK"]
    began_ns = cluster.time.now_ns
    leader.crash("all")

    def taken_over() -> bool:
        now = cluster.leader()
        return now is not None and now is not leader and not node_of(now).not_serving()

    assert cluster.time.run(10_000, taken_over), "nobody took over"
    assert cluster.time.now_ns - began_ns < 2_500_000_000
    now = cluster.leader()
    assert now is not None
    assert Probe(cluster, now.node_id).ask("GET a", "GET b", "SET c 3") == [b"1", b"2", b"OK"]
    leader.start()
    assert cluster.time.run(20_000, lambda: settled(cluster)), "a restarted node does not rejoin"
    assert node_of(leader).core.log.last == node_of(now).core.log.last


def begun(seed: int, **directives: str) -> tuple[LeaseCluster, Machine]:
    """Three in sync, and the primary."""
    cluster = LeaseCluster(seed, **directives)
    assert cluster.time.run(10_000, lambda: settled(cluster)), "no primary with all in sync"
    leader = cluster.leader()
    assert leader is not None
    return cluster, leader


def another_leads(cluster: LeaseCluster, but: Machine) -> bool:
    now = cluster.leader()
    return now is not None and now is not but and not node_of(now).not_serving()


def isolate(cluster: LeaseCluster, machine: Machine) -> None:
    for other in cluster.machines:
        if other is not machine:
            cluster.fabric.cut(machine.host, other.host)
            cluster.fabric.cut(other.host, machine.host)


def test_a_planned_switchover_is_quick_and_loses_nothing() -> None:
    cluster, leader = begun(5)
    other = next(m for m in cluster.machines if m is not leader)
    assert Probe(cluster, leader.node_id).ask("SET a 1") == [b"OK"]
    began_ns = cluster.time.now_ns
    assert Probe(cluster, other.node_id).ask("CLUSTER FAILOVER") == [b"OK"]
    assert cluster.time.run(5000, lambda: cluster.leader() is other and not node_of(other).not_serving())
    # Nobody had to wait for a lease or a promise to end.
    assert cluster.time.now_ns - began_ns < 500 * MS
    assert Probe(cluster, other.node_id).ask("GET a", "SET a 2") == [b"1", b"OK"]


def test_a_primary_that_is_told_to_stop_hands_over_first() -> None:
    cluster, leader = begun(12)
    assert Probe(cluster, leader.node_id).ask("SET a 1") == [b"OK"]
    began_ns = cluster.time.now_ns
    node_of(leader).stop(transfer=True, now=False)
    assert cluster.time.run(3000, lambda: leader.exits == [0])
    assert cluster.time.run(1000, lambda: another_leads(cluster, leader))
    assert cluster.time.now_ns - began_ns < 500 * MS
    assert Probe(cluster, leader.node_id).ask("GET a") == [b"1"]


def test_what_is_given_up_is_proven_by_nothing_and_shown_to_nobody() -> None:
    cluster, leader = begun(13)
    assert Probe(cluster, leader.node_id).ask("SET a 1") == [b"OK"]
    cluster.time.run(3000)
    follower = next(m for m in cluster.machines if m is not leader)
    node = node_of(follower)
    state = node.hardstate.current
    assert state.commit_hint >= 3 and state.synced_hint >= 3
    # Before what is committed is replaced, nothing on disk may prove it.
    node.core.rebuild_for = 1002
    written = node._to_write(Promised(state.term, state.voted_for, 0))
    assert written is not None and (written.commit_hint, written.synced_hint) == (0, 0)
    assert node.rebuilding()
    node.refresh_refusals()
    assert str(Probe(cluster, follower.node_id).ask("READONLY", "GET a")[1]).startswith("LOADING ")


def test_an_isolated_primary_refuses_reads_and_writes_before_another_serves() -> None:
    cluster, leader = begun(6)
    probe = Probe(cluster, leader.node_id)
    assert probe.ask("SET a old") == [b"OK"]
    isolate(cluster, leader)
    cluster.holder.cut[leader.host] = None
    began_ns = cluster.time.now_ns
    assert cluster.time.run(10_000, lambda: node_of(leader).not_serving() != "")
    assert cluster.time.now_ns - began_ns < 1100 * MS, "it serves longer than its lease"
    assert cluster.leader() is leader, "somebody else served already"
    said = probe.ask("GET a", "SET a lost", ms=8000)
    assert str(said[0]).startswith("LEASEEXPIRED "), said
    # It has asked for the others to be put out, which nobody has confirmed or refused.
    assert str(said[1]).startswith(("LEASEEXPIRED ", "NOREPLICAS ")), said
    assert cluster.time.run(10_000, lambda: another_leads(cluster, leader))
    now = cluster.leader()
    assert now is not None
    assert Probe(cluster, now.node_id).ask("SET a new") == [b"OK"]
    assert all(str(each).startswith("LEASEEXPIRED ") for each in probe.ask("GET a", ms=8000))
    cluster.fabric.heal()
    cluster.holder.cut.clear()
    assert cluster.time.run(20_000, lambda: settled(cluster))
    assert Probe(cluster, leader.node_id).ask("GET a") == [b"new"]


def test_without_the_holder_all_goes_on_until_a_member_fails() -> None:
    cluster, leader = begun(7)
    cluster.holder.down = True
    cluster.time.run(10_000)
    assert Probe(cluster, leader.node_id).ask("SET a 1", "GET a") == [b"OK", b"1"]
    leader.crash("all")
    cluster.time.run(10_000)
    assert cluster.leader() is None, "somebody took office by nobody's word"
    cluster.holder.down = False
    assert cluster.time.run(10_000, lambda: another_leads(cluster, leader))


def test_too_few_in_sync_take_no_write() -> None:
    cluster, leader = begun(8)
    probe = Probe(cluster, leader.node_id)
    assert probe.ask("SET a 1") == [b"OK"]
    for machine in cluster.machines:
        if machine is not leader:
            machine.crash("all")
    assert cluster.time.run(20_000, lambda: node_of(leader).not_serving().startswith("NOREPLICAS "))
    assert str(probe.ask("SET a 2")[0]).startswith("NOREPLICAS ")
    # The holder's lease stands in for the members': nobody can be promoted but by force.
    assert probe.ask("GET a") == [b"1"]
    for machine in cluster.machines:
        if machine is not leader:
            machine.start()
    assert cluster.time.run(20_000, lambda: settled(cluster))
    assert probe.ask("SET a 3", "GET a") == [b"OK", b"3"]


def test_a_shard_with_a_history_is_not_founded_again() -> None:
    cluster, leader = begun(9)
    assert Probe(cluster, leader.node_id).ask("SET a 1") == [b"OK"]
    for machine in cluster.machines:
        machine.crash("all")
    cluster.holder.register = Register()
    for machine in cluster.machines:
        machine.start()
    cluster.time.run(10_000)
    assert cluster.leader() is None
    assert cluster.holder.register.shard(1) is None
    assert all(any("shard-missing" in str(e) for e in m.events.seen) for m in cluster.machines)


def test_how_many_in_sync_members_a_write_needs_can_be_changed() -> None:
    cluster, leader = begun(14)
    probe = Probe(cluster, leader.node_id)
    others = [m for m in cluster.machines if m is not leader]
    assert "at most as many" in str(probe.ask("CLUSTER MIN-ISR 4")[0])
    assert "choose 1 or more" in str(probe.ask("CLUSTER MIN-ISR 0")[0])
    assert "needs the primary; ask" in str(Probe(cluster, others[0].node_id).ask("CLUSTER MIN-ISR 1")[0])
    assert probe.ask("CLUSTER MIN-ISR 3", "SET a 1") == [b"OK", b"OK"]
    in_force = cluster.holder.register.shard(1)
    assert in_force is not None and in_force.min_isr == 3
    # One short of it takes no writes any more, until fewer will do.
    others[0].crash("all")
    assert cluster.time.run(5000, lambda: "NOREPLICAS" in node_of(leader).not_serving())
    assert str(probe.ask("SET a 2")[0]).startswith("NOREPLICAS ")
    assert probe.ask("CLUSTER MIN-ISR 1", "SET a 3", "GET a") == [b"OK", b"OK", b"3"]
    others[1].crash("all")
    assert cluster.time.run(8000, lambda: node_of(leader).core.isr == (leader.node_id,))
    assert probe.ask("SET a 4", "GET a") == [b"OK", b"4"]
    # Whoever comes into office hears of it from the holder.
    for machine in others:
        machine.start()
    assert cluster.time.run(20_000, lambda: settled(cluster))
    assert [node_of(m).core.status().min_isr for m in cluster.machines] == [1, 1, 1]


def test_a_node_starts_in_the_mode_it_was_founded_in_only() -> None:
    cluster, leader = begun(10)
    leader.crash("all")
    cluster.directives["replication-mode"] = "raft"
    with pytest.raises(ValueError, match="founded in lease mode"):
        leader.start()


@pytest.mark.parametrize(
    ("directives", "text"),
    [
        ({"lease-grace-ms": "1200"}, "at least 1.25 times lease-duration-ms"),
        ({"lease-clock-bound": "200"}, "clocks may be off by 200 thousandths"),
        ({"tick-ms": "200"}, "tick-ms must be positive and at most an eighth"),
    ],
)
def test_unsafe_times_are_refused(directives: dict[str, str], text: str) -> None:
    settings = Settings()
    lease_settings(settings, 1, 1)
    for name, value in directives.items():
        settings.load(name, value)
    with pytest.raises(ValueError, match=f"lease mode: .*{text}"):
        lease_settings(settings, 1, 1)


def test_the_newest_members_are_kept_beside_the_log() -> None:
    cluster, leader = begun(11)
    known = node_of(leader).core.known
    cluster.time.run(100)
    kept = kept_config(leader.disk, "/data", 1)
    assert kept is not None and kept == known
    assert kept_config(leader.disk, "/data", 2) is None
    file = leader.disk.open("/data/raft/shard")
    file.pwrite(b"x", 3)
    assert kept_config(leader.disk, "/data", 1) is None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_faults(seed: int) -> None:
    cluster, history, nemesis = run_on(LeaseCluster(seed), 6)
    judge(cluster, history, nemesis)
    done = sum(asked.outcome == "ok" for asked in history)
    assert done > 100, f"only {done} of {len(history)} requests were answered"
