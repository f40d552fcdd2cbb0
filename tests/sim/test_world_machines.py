"""Machines of a simulated group: the ways to start, to die and to come back, and which of them are failures."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
import time

import pytest

from durakv.storage.errors import IdentityError, RecoveryRefused
from jstyle.sim.atlas import BEYOND_BUDGET, HELIX
from jstyle.sim.clock import ClockOptions
from jstyle.sim.cluster import Cluster, Options
from jstyle.sim.disk_crash import ANY_SUBSET, NOTHING, CrashPolicy
from jstyle.sim.disk_faults import FaultOptions
from jstyle.sim.guard import RealWorldTouched, no_real_world
from jstyle.sim.machine import CLIENT_PORT, EXIT_IO, PEER_PORT
from jstyle.sim.timeline import MS, SECOND
from tests.sim.world_load import Probe, settle

NO_RATES = FaultOptions()


def follower(cluster: Cluster) -> int:
    leader = cluster.leader()
    return next(m.number for m in cluster.machines if m is not leader and m.running)


def test_a_group_of_one_serves_at_once() -> None:
    cluster = Cluster(1, Options(nodes=1))
    cluster.wait_leader(1000)
    assert Probe(cluster, 1).ask("SET a 1", "GET a") == [b"OK", b"1"]


@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_groups_elect_and_replicate(nodes: int) -> None:
    cluster = Cluster(1, Options(nodes=nodes))
    cluster.wait_leader()
    for n in range(1, nodes + 1):
        assert Probe(cluster, n, f"p{n}").ask(f"INCRBY sum {n}")[0] == n * (n + 1) // 2


@pytest.mark.parametrize("order", [NOTHING, ANY_SUBSET])
@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives_a_power_cut_of_all(order: str, seed: int) -> None:
    cluster = Cluster(seed)
    cluster.wait_leader()
    assert Probe(cluster, 1).ask("SET a 1", "INCR n", "INCR n") == [b"OK", 1, 2]
    for machine in cluster.machines:
        machine.power_cut(CrashPolicy(order))
    cluster.run(500)
    assert not cluster.running()
    for machine in cluster.machines:
        assert machine.start()
    cluster.wait_leader()
    assert Probe(cluster, 2, "p2").ask("GET a", "GET n") == [b"1", b"2"]


def test_a_killed_process_keeps_its_page_cache() -> None:
    cluster = Cluster(2)
    cluster.wait_leader()
    machine = cluster.machine(follower(cluster))
    machine.disk.open("/data/x", create=True).pwrite(b"unsynced", 0)
    machine.crash()
    assert not machine.running and machine.exits == []
    assert machine.disk.open("/data/x").pread(8, 0) == b"unsynced"
    machine.power_cut(CrashPolicy(NOTHING))
    assert not machine.disk.exists("/data/x")
    assert machine.start()
    settle(cluster)


def test_an_orderly_stop_exits_0_and_hands_over() -> None:
    cluster = Cluster(3)
    leader = cluster.wait_leader()
    leader.stop()
    assert cluster.run(3000, lambda: not leader.running)
    assert leader.exits == [0]
    assert cluster.wait_leader(500) is not leader
    assert leader.start()
    settle(cluster)


def test_a_failed_sync_ends_the_process_with_74_and_the_group_goes_on() -> None:
    cluster = Cluster(4, Options(disk_faults=NO_RATES))
    leader = cluster.wait_leader()
    assert leader.disk.faults is not None
    leader.disk.faults.fail_next.append(("fsync", errno.EIO))
    probe = Probe(cluster, follower(cluster))
    probe.send("SET a 1")
    assert cluster.run(3000, lambda: not leader.running)
    assert leader.exits == [EXIT_IO]
    cluster.run(3000)
    cluster.wait_leader()
    assert leader.start()
    settle(cluster)


def test_a_full_disk_refuses_writes_and_recovers() -> None:
    cluster = Cluster(5, Options(nodes=1, disk_faults=NO_RATES, directives={"min-free": "1mb"}))
    cluster.wait_leader()
    faults = cluster.machine(1).disk.faults
    assert faults is not None
    probe = Probe(cluster, 1)
    assert probe.ask("SET a 1") == [b"OK"]
    faults.full = True
    cluster.run(3000)
    assert str(probe.ask("SET a 2")[0]).startswith("MISCONF")
    assert probe.ask("GET a") == [b"1"]
    faults.full = False
    cluster.run(3000)
    assert probe.ask("SET a 3", "GET a") == [b"OK", b"3"]


def test_power_may_go_inside_a_disk_batch_and_inside_recovery() -> None:
    cluster = Cluster(6)
    cluster.wait_leader()
    machine = cluster.machine(follower(cluster))
    machine.power_cut_in_batch(1)
    probe = Probe(cluster, next(m.number for m in cluster.machines if m is not machine))
    probe.send("SET a 1")
    assert cluster.run(3000, lambda: not machine.running)
    cuts = 0
    for calls in range(12):
        if machine.start(power_lasts_calls=calls):
            break
        cuts += 1
        cluster.run(100)
    assert cuts >= 2 and machine.running
    machine.disk.cut_after = -1
    settle(cluster)
    assert Probe(cluster, machine.number, "p").ask("GET a") == [b"1"]


def test_a_wiped_voter_is_refused_and_rejoins_as_another() -> None:
    cluster = Cluster(7)
    cluster.wait_leader()
    assert Probe(cluster, 1).ask("SET a 1") == [b"OK"]
    victim = cluster.machine(follower(cluster))
    victim.crash()
    victim.wipe()
    assert not victim.start()
    assert isinstance(victim.refusals[0], IdentityError)
    leader = cluster.wait_leader()
    tell = Probe(cluster, leader.number, "tell")
    assert tell.ask(f"CLUSTER REMOVENODE {victim.number}", ms=20_000) == [b"OK"]
    assert victim.join(9)
    assert tell.ask(f"CLUSTER ADDNODE 9 {victim.name}:{CLIENT_PORT}@{PEER_PORT}", ms=20_000) == [b"OK"]
    settle(cluster)
    cluster.run(3000)
    assert Probe(cluster, victim.number, "new").ask("GET a") == [b"1"]


def test_a_spare_machine_joins() -> None:
    cluster = Cluster(8, Options(spares=1))
    leader = cluster.wait_leader()
    assert cluster.machine(4).join(4)
    tell = Probe(cluster, leader.number)
    assert tell.ask("SET a 1", f"CLUSTER ADDNODE 4 n4:{CLIENT_PORT}@{PEER_PORT}", ms=20_000) == [b"OK", b"OK"]
    cluster.run(3000)
    assert Probe(cluster, 4, "p4").ask("GET a") == [b"1"]
    app = cluster.machine(4).app
    assert app is not None and 4 in app.node.core.membership.voters


@pytest.mark.parametrize("atlas", [HELIX, BEYOND_BUDGET])
def test_damage_behind_acknowledged_records_is_refused_never_guessed(atlas: str) -> None:
    cluster = Cluster(9, Options(disk_faults=NO_RATES, atlas=atlas))
    cluster.wait_leader()
    probe = Probe(cluster, 1)
    for n in range(60):
        probe.ask(f"SET k {n}")
    machine = next(m for m in cluster.machines if m.disk.faults is not None and m.disk.faults.flip_bit())
    machine.power_cut()
    assert not machine.start()
    assert isinstance(machine.refusals[0], RecoveryRefused)
    assert len(machine.exits) == 1


def test_a_defect_propagates_with_the_machines_name() -> None:
    cluster = Cluster(10)
    cluster.wait_leader()
    clock = cluster.machine(2).clock
    assert clock is not None

    def broken() -> None:
        raise KeyError("a defect")

    clock.call_later(10, broken)
    with pytest.raises(KeyError) as caught:
        cluster.run(1000)
    assert caught.value.__notes__[0].startswith("on n2, start 1, at ")
    assert caught.value.__notes__[0].endswith("seed 10")


def test_an_io_error_without_a_faulty_disk_is_a_defect_too() -> None:
    cluster = Cluster(11, Options(disk_faults=NO_RATES))
    clock = cluster.machine(1).clock
    assert clock is not None

    def broken() -> None:
        raise OSError(errno.EIO, "from nowhere")

    clock.call_later(10, broken)
    with pytest.raises(OSError, match="from nowhere"):
        cluster.run(1000)


def test_a_paused_leader_is_replaced_and_steps_down_when_it_goes_on() -> None:
    cluster = Cluster(12)
    old = cluster.wait_leader()
    old.pause()
    cluster.run(5000)
    new = cluster.leader()
    assert new is not None and new is not old
    old.resume()
    cluster.run(2000)
    assert old.app is not None and not old.app.engine.leading
    settle(cluster)


def test_clock_ranges_are_drawn_per_machine_and_kept_over_restarts() -> None:
    cluster = Cluster(13, Options(clock=ClockOptions(rate_ppm=(900_000, 1_100_000), step_cost_ns=(1000, 50_000))))
    assert len({m.rate_ppm for m in cluster.machines}) == 3
    cluster.wait_leader()
    machine = cluster.machine(1)
    machine.step_wall(60_000)
    assert machine.clock is not None
    before_ms = machine.clock.wall_ms()
    machine.crash()
    machine.start()
    assert machine.clock is not None and abs(machine.clock.wall_ms() - before_ms) < 3000


def test_the_durable_image_is_what_the_worst_power_cut_leaves() -> None:
    cluster = Cluster(14)
    cluster.wait_leader()
    assert Probe(cluster, 1).ask("SET a 1") == [b"OK"]
    machine = cluster.machine(2)
    image = machine.durable_image()
    before = {name: image.read(name, image.size(name), 0) for name in image.names()}
    version = image.version
    machine.power_cut(CrashPolicy(NOTHING))
    disk = machine.disk
    assert {name: bytes(disk.names[name].data) for name in sorted(disk.names)} == before
    assert version <= machine.durable_image().version


def test_events_are_kept_with_their_time() -> None:
    cluster = Cluster(15, Options(disk_faults=NO_RATES))
    leader = cluster.wait_leader()
    assert leader.disk.faults is not None
    leader.disk.faults.fail_next.append(("fsync", errno.EIO))
    Probe(cluster, leader.number).send("SET a 1")
    cluster.run(3000)
    t_ns, event = leader.events.seen[-1]
    assert t_ns > 10**12 + SECOND // 10 and "exit 74" in str(event.facts())


@pytest.mark.parametrize(
    "call",
    [
        time.time, time.monotonic_ns, lambda: time.sleep(0), lambda: os.urandom(1), random.random,
        lambda: random.choice([1]), socket.socket, lambda: threading.Thread().start(),
    ],
)  # fmt: skip
def test_the_guard_refuses_the_real_world(call: object) -> None:
    name = getattr(call, "__name__", "")
    module = {"time": time, "monotonic_ns": time, "random": random, "socket": socket}.get(name)
    with no_real_world(), pytest.raises(RealWorldTouched):
        (getattr(module, name) if module is not None else call)()  # type: ignore[operator]


def test_the_guard_nests_and_goes() -> None:
    with no_real_world():
        with no_real_world():
            pass
        with pytest.raises(RealWorldTouched):
            time.time()
    assert time.time() > 0


def test_a_run_needs_nothing_of_the_real_world() -> None:
    with no_real_world():
        cluster = Cluster(16)
        cluster.wait_leader()
        assert Probe(cluster, 1).ask("SET a 1 PX 100", "GET a") == [b"OK", b"1"]
        cluster.timeline.run_for(500 * MS)
        assert Probe(cluster, 2, "p2").ask("GET a", "INFO")[0] is None
