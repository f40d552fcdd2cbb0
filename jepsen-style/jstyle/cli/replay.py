"""``jstyle replay``: a stored run once more, with everything that happened if asked for.

Exit codes: 0 the run is true now, 1 it fails (as stored or otherwise), 2 unknown, 3 the harness failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jstyle.checkers.verdict import FALSE, TRUE
from jstyle.sim import artifact
from jstyle.sim.judge import judge_with
from jstyle.sim.runner import HARNESS, run
from jstyle.sim.schedule import PlanError
from jstyle.sim.timeline import MS, START_NS, Trace


@click.command(name="replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trace", "with_trace", is_flag=True, help="Print every fact of the run as it happens.")
@click.option("--until", "until_event", type=click.IntRange(min=1), default=None, help="Stop after this event.")
@click.option("--checkers/--no-checkers", default=True, show_default=True, help="Check the clients' histories.")
def command(file: Path, with_trace: bool, until_event: int | None, checkers: bool) -> None:
    """Run the plan in FILE (a seed.json) again."""
    try:
        plan, kept = artifact.read(file)
    except (PlanError, OSError) as error:
        click.echo(f"jstyle replay: {error}", err=True)
        sys.exit(3)
    trace: Trace | None = _print if with_trace else None
    result = run(plan, judge_with(plan) if checkers else None, trace, until_event or 0)
    before = kept["result"]
    click.echo(f"seed {plan.seed}: {result.valid} {result.invariant} {result.text}".rstrip())
    click.echo(f"event {result.event}, digest {result.digest}, {result.sim_ms} ms simulated, {result.cpu_s:.1f} CPU s")
    if before and not until_event:
        same = (before.get("invariant"), before.get("digest")) == (result.invariant, result.digest)
        if same:
            click.echo("the same as stored")
        else:
            click.echo(
                f"stored: {before.get('invariant') or before.get('valid')} at event {before.get('event')}, digest "
                f"{before.get('digest')}, of commit {kept['commit']} (this is {artifact.commit_id()})"
            )
    for line in result.why:
        click.echo(line)
    if result.invariant == HARNESS:
        sys.exit(3)
    sys.exit(0 if result.valid == TRUE else 1 if result.valid == FALSE else 2)


def _print(t_ns: int, kind: str, fields: tuple[object, ...]) -> None:
    click.echo(f"{(t_ns - START_NS) / MS:12.3f} {kind} {' '.join(str(field) for field in fields)}")
