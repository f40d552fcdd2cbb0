"""The same plan gives the same run, event by event: here, in another process, and after a trip through seed.json."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jstyle.checkers.verdict import UNKNOWN
from jstyle.sim import artifact
from jstyle.sim.runner import LIVENESS, SAFETY, run, run_and_keep
from jstyle.sim.schedule import plan_json, plan_of
from jstyle.sim.swarm import Draw, draw_plan

ROOT = Path(__file__).resolve().parents[2]
SHORT = Draw(safety_ms=4000)
# With a witness in a process, with one in a directory, and with several groups, too.
SEEDS = ((1, ""), (12, ""), (14, ""), (6, "2+w"), (11, "2+w"), (3, "2x3"), (8, "3x1"))


def digests_of_another_process(hash_seed: str) -> list[str]:
    code = (
        "from jstyle.sim.runner import run\n"
        "from jstyle.sim.swarm import Draw, draw_plan\n"
        f"for seed, shape in {SEEDS}:\n"
        "    result = run(draw_plan(seed, Draw(shape, safety_ms=4000)))\n"
        "    print(seed, result.event, result.digest)\n"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "jepsen-style")))
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")


@pytest.mark.slow
def test_processes_with_other_hashes_agree() -> None:
    first, second = digests_of_another_process("1"), digests_of_another_process("2")
    assert first == second
    assert len({line.split(" ")[-1] for line in first if line}) == len(SEEDS)


def test_a_trace_changes_nothing() -> None:
    plan = draw_plan(12, SHORT)
    heard = []
    plain, traced = run(plan), run(plan, trace=lambda *facts: heard.append(facts))
    assert (plain.event, plain.digest) == (traced.event, traced.digest)
    assert len(heard) > 50


def test_seed_json_holds_the_whole_run(tmp_path: Path) -> None:
    plan = draw_plan(14, SHORT)
    result, current = run_and_keep(plan)
    assert current is not None
    path = artifact.write(tmp_path / "run", plan, result, current.history.by_workload)
    again, kept = artifact.read(path)
    assert again == plan and plan_of(plan_json(plan)) == plan
    assert kept["result"]["digest"] == result.digest == run(again).digest
    assert list(tmp_path.glob("run/history-*.jsonl"))


def test_leaving_out_one_strike_leaves_the_others_alone() -> None:
    plan = draw_plan(14, SHORT)
    fewer = plan_of(plan_json(plan))
    del fewer.strikes[0]
    assert fewer.strikes == plan.strikes[1:] and fewer.clients == plan.clients


def test_a_run_may_end_with_its_faults() -> None:
    plan = draw_plan(14, SHORT)
    whole, part = run(plan), run(plan, only_safety=True)
    assert (whole.phase, part.phase) == (LIVENESS, SAFETY)
    assert (part.valid, part.why) == (UNKNOWN, ["stopped when the faults ended"])
    assert part.event < whole.event and part.sim_ms < whole.sim_ms
