"""The simulated world under all its faults: nothing acknowledged is lost, read stale or applied twice."""

from __future__ import annotations

import pytest

from durakv.keyspace.digest import digest
from jstyle.sim.cluster import Cluster, Options
from jstyle.sim.guard import no_real_world
from jstyle.sim.interposer import FrameOptions
from jstyle.sim.net import NetOptions
from tests.replication.clients import KEYS, Asked, check_counter, check_registers
from tests.sim.world_load import Nemesis, Probe, run_episode


def judge(cluster: Cluster, history: list[Asked], nemesis: Nemesis) -> None:
    try:
        digests = {digest(m.app.engine.ks) for m in cluster.machines if m.app is not None}
        assert len(digests) == 1, "nodes at the same index hold different data"
        for machine in cluster.machines:
            assert not machine.exits and not machine.refusals
            replies = Probe(cluster, machine.number).read(*[f"GET k{n}" for n in range(KEYS)], "GET n", "GET m")
            final = {b"k%d" % n: replies[n] for n in range(KEYS)}
            check_registers(history, final, cluster.timeline.now_ns)  # type: ignore[arg-type]
            check_counter(history, int(replies[-2] or 0), int(replies[-1] or 0))  # type: ignore[call-overload]
    except AssertionError as e:
        e.add_note(f"seed {cluster.seed}; faults: " + "; ".join(nemesis.faults))
        raise


def options(seed: int) -> Options:
    frames = FrameOptions(drop=0.05, duplicate=0.05, delay=0.05, replay=0.02, flip=0.002) if seed % 2 else None
    net = NetOptions(loss=(0.0, 0.05), tail=(0.0, 0.05), frames=frames)
    return Options(net=net, buggify=seed % 3 == 0)


@pytest.mark.parametrize("seed", range(6))
def test_random_faults(seed: int) -> None:
    with no_real_world():
        cluster = Cluster(seed, options(seed))
        history, nemesis = run_episode(cluster, 6)
        judge(cluster, history, nemesis)
    done = sum(asked.outcome == "ok" for asked in history)
    assert done > 100, f"only {done} of {len(history)} requests were answered"
