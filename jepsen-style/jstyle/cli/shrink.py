"""``jstyle shrink``: a smaller plan that breaks the same promise.

Exit codes: 0 a plan was written, 1 nothing fails any more, 3 the file could not be used.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jstyle.sim import artifact
from jstyle.sim.judge import judge_with
from jstyle.sim.runner import SAFETY, Result, run, run_and_keep
from jstyle.sim.schedule import Plan, PlanError
from jstyle.sim.shrink import RUNS_MAX, SECONDS_MAX, Shrinker

SHRUNK_DIRECTORY = "shrunk"


@click.command(name="shrink")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--runs", default=RUNS_MAX, show_default=True, help="Re-runs, at most.")
@click.option("--budget", "seconds", default=SECONDS_MAX, show_default=True, help="Seconds, at most.")
def command(file: Path, runs: int, seconds: float) -> None:
    """Shrink the plan in FILE (a seed.json); writes shrunk/seed.json beside it."""
    try:
        plan, _ = artifact.read(file)
    except (PlanError, OSError) as error:
        click.echo(f"jstyle shrink: {error}", err=True)
        sys.exit(3)
    first = run(plan, judge_with(plan))
    if not first.invariant:
        click.echo(f"seed {plan.seed} does not fail any more at {artifact.commit_id()}; nothing to shrink")
        sys.exit(1)
    # History checkers cost time; they run only where they are what failed.
    judge = judge_with(plan, 10.0) if first.invariant == "K1" and "/" in first.text.split(":", 1)[0] else None

    # What fails while faults strike is looked for only so long.
    only_safety = judge is None and first.phase == SAFETY

    def again(candidate: Plan) -> Result:
        return run(candidate, judge, only_safety=only_safety)

    found = Shrinker(plan, first, again, runs, seconds).shrink()
    result, current = run_and_keep(found.plan, judge)
    histories = {} if current is None else current.history.by_workload
    path = artifact.write(file.parent / SHRUNK_DIRECTORY, found.plan, result, histories)
    for step in found.steps:
        click.echo(step)
    click.echo(f"{found.runs} runs, {found.seconds:.0f} s; {result.invariant} at event {result.event}: {result.text}")
    click.echo(f"jstyle replay {path} --trace")
