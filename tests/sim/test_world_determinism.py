"""A run is a function of its seed: in this process, in others, and in its parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from jstyle.sim.cluster import Cluster, Options
from jstyle.sim.interposer import FrameOptions
from jstyle.sim.net import NetOptions
from jstyle.sim.streams import stream
from jstyle.sim.timeline import SECOND, Timeline
from tests.sim.world_load import run_episode

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
from tests.sim.test_world_determinism import digest_of
print(*[digest_of(seed) for seed in (1, 2)])
"""


def digest_of(seed: int) -> str:
    frames = FrameOptions(drop=0.05, duplicate=0.05, delay=0.05, replay=0.05)
    cluster = Cluster(seed, Options(net=NetOptions(loss=(0.0, 0.1), frames=frames)))
    history, _ = run_episode(cluster, 3)
    replies = [(asked.kind, asked.value, asked.reply, asked.done_ns) for asked in history]
    return f"{cluster.timeline.digest()}-{cluster.timeline.events}-{stream(0, repr(replies), '').getrandbits(64):x}"


def run_elsewhere(hash_seed: int) -> str:
    env = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": f"{ROOT}:{ROOT / 'jepsen-style'}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_other_processes_with_other_hash_seeds_agree() -> None:
    here = " ".join(digest_of(seed) for seed in (1, 2))
    assert run_elsewhere(0) == here
    assert run_elsewhere(4711) == here


def test_seeds_differ() -> None:
    assert digest_of(1).split("-")[0] != digest_of(2).split("-")[0]


def test_the_digest_sees_order_time_and_facts() -> None:
    def run(*delays: int, fact: object = 1) -> str:
        timeline = Timeline()
        for delay in delays:
            timeline.at(delay, lambda: timeline.fold("fact", fact))
        timeline.run_for(SECOND)
        return timeline.digest()

    assert run(1, 2) == run(1, 2)
    assert len({run(1, 2), run(2, 1), run(1, 3), run(1), run(1, 2, fact=2)}) == 5


def test_the_trace_hears_what_is_folded() -> None:
    heard: list[tuple[int, str, tuple[object, ...]]] = []
    cluster = Cluster(1)
    cluster.timeline.trace = lambda t_ns, kind, fields: heard.append((t_ns, kind, fields))
    cluster.wait_leader()
    cluster.machine(1).crash()
    assert ("end", ("n1", None, False)) in [(kind, fields) for _, kind, fields in heard]
    assert {"open"} <= {kind for _, kind, _ in heard}


def test_streams_are_independent_of_each_other() -> None:
    names = [("link", "a"), ("link", "b"), ("disk", "a"), ("link", "a:b")]
    firsts = [stream(1, *name).random() for name in names]
    assert len({*firsts, stream(2, "link", "a").random(), stream(1, "link", "a", 1).random()}) == 6
    assert stream(1, "link", "b").random() == firsts[1]


def test_one_fault_less_leaves_other_machines_dice_alone() -> None:
    def draws(*, with_fault: bool) -> list[float]:
        cluster = Cluster(5)
        cluster.wait_leader()
        if with_fault:
            cluster.machine(1).power_cut()
            cluster.fabric.swizzle(["n1", "c0"], SECOND)
        # What the next crash of another machine and the next swizzle would draw.
        return [cluster.machine(2).random.random(), cluster.machine(3).random.random()]

    assert draws(with_fault=True) == draws(with_fault=False)
