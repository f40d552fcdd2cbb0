"""``jstyle sim``: whole clusters in one process, each run decided by its seed.

Rule: prints and exits; what is run and what is wrong is decided in ``jstyle.sim``. Each failure is printed with the one
command that shows it again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from jstyle.sim import artifact
from jstyle.sim.judge import BUDGET_S, judge_with
from jstyle.sim.phases import Phases
from jstyle.sim.runner import Result, run_and_keep
from jstyle.sim.summary import Summary
from jstyle.sim.swarm import ALL_CLASSES, ALL_SHAPES, Draw, draw_plan
from jstyle.sim.workloads.catalogue import WORKLOADS

_WIDTH: Final = 140


@click.command(name="sim")
@click.option("--seed", type=int, help="One seed.")
@click.option("--seeds", metavar="FROM:TO", help="Seeds FROM .. TO-1.")
@click.option("--time", "time_s", default=40, show_default=True, help="Simulated seconds of faults per seed.")
@click.option(
    "--shape",
    type=click.Choice(sorted(ALL_SHAPES)),
    help="Nodes, groups x nodes, or lease mode; left out: a single group, drawn from the seed.",
)
@click.option("--faults", metavar="CLASS,..", help=f"Exactly these classes ('' none) of {', '.join(ALL_CLASSES)}.")
@click.option("--workload", metavar="NAME,..", help=f"Only these of {', '.join(sorted(WORKLOADS))}.")
@click.option("--checkers/--no-checkers", default=True, show_default=True, help="Check the clients' histories.")
@click.option(
    "--store/--no-store", default=True, show_default=True,
    help="Keep failures, and a line about each run, below jepsen-style/store.",
)  # fmt: skip
@click.option(
    "--unknown",
    "unknown_percent",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Percent of runs that may stay unknown, as one does whose few operations could show nothing.",
)
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@click.option("--digests", is_flag=True, help="Print each seed's digest, for comparing processes.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
def command(
    seed: int | None, seeds: str | None, time_s: int, shape: str | None, faults: str | None, workload: str | None,
    checkers: bool, store: bool, unknown_percent: int, jobs: int, digests: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run simulated clusters under faults and hold them to their promises."""
    draw = Draw(
        shape or "", None if faults is None else _words(faults, ALL_CLASSES, "--faults"),
        _words(workload or "", tuple(WORKLOADS), "--workload"), time_s * 1000,
    )  # fmt: skip
    base = artifact.store_directory() / "sim" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    task = Task(draw, checkers=checkers, directory=base if store else None)
    summary = Summary()
    began_s = time.monotonic()
    for result, repeat in task.all(_range(seed, seeds), jobs):
        summary.add(result, repeat)
        if store:
            artifact.note(base, result, repeat)
        if digests:
            click.echo(f"{result.seed} {result.event} {result.digest} {result.invariant}")
        elif result.invariant:
            click.echo(f"seed {result.seed} {result.invariant}: {result.text[:200]}\n    {repeat}", err=True)
    summary.wall_s = time.monotonic() - began_s
    if as_json:
        click.echo(json.dumps(summary.plain(), indent=1))
    elif not digests:
        console = Console(highlight=False)
        summary.show(console if console.is_terminal else Console(highlight=False, width=_WIDTH))
        if store:
            click.echo(f"each run: {base / artifact.RESULTS_NAME}")
    sys.exit(summary.exit_code(unknown_percent))


class Task:
    """What is done with each seed; travels to worker processes."""

    def __init__(self, draw: Draw, *, checkers: bool, directory: Path | None) -> None:
        self.draw = draw
        self.checkers = checkers
        self.directory = directory

    def all(self, seeds: range, jobs: int) -> Iterator[tuple[Result, str]]:
        """Results in order of seeds, each with the command that repeats it."""
        if jobs == 1:
            yield from map(self.one, seeds)
            return
        with ProcessPoolExecutor(jobs) as pool:
            yield from pool.map(self.one, seeds)

    def one(self, seed: int) -> tuple[Result, str]:
        """Run one seed; a failure is stored."""
        plan = draw_plan(seed, self.draw)
        result, current = run_and_keep(plan, judge_with(plan, BUDGET_S) if self.checkers else None)
        repeat = self.draw.command(seed)
        if result.invariant and self.directory is not None:
            path = artifact.write(self.directory / str(seed), plan, result, _histories(current))
            repeat = f"jstyle replay {path}"
        return result, repeat


def _histories(current: Phases | None) -> dict[str, list]:  # type: ignore[type-arg]
    return {} if current is None else current.history.by_workload


def _range(seed: int | None, seeds: str | None) -> range:
    if seed is not None and seeds is None:
        return range(seed, seed + 1)
    begin, colon, end = (seeds or "0:20").partition(":")
    try:
        found = range(int(begin), int(end)) if colon else range(int(begin))
    except ValueError:
        raise click.BadParameter("write FROM:TO, for example 0:200", param_hint="--seeds") from None
    if not found or seed is not None:
        raise click.BadParameter("name one --seed, or a range with at least one seed", param_hint="--seeds")
    return found


def _words(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word not in known:
            raise click.BadParameter(f"no {word!r}; there are {', '.join(sorted(known))}", param_hint=option)
    return words
