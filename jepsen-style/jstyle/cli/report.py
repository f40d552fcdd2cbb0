"""``jstyle report``: a history, a stored run or a campaign as one HTML page.

Rule: writes the file and exits; what the page says does not change the exit code. Exit codes: 0 written, 3 there was
nothing to show or the file could not be written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from jstyle.checkers import registry
from jstyle.cli.check import CheckCommand, Duration, Failure
from jstyle.history.op import HistoryError
from jstyle.report.gather import NothingToShow, Wanted, gather
from jstyle.report.page import page
from jstyle.sim.swarm import ALL_CLASSES
from jstyle.sim.workloads.catalogue import WORKLOADS

NAME: Final = "report.html"


@click.command(name="report", cls=CheckCommand, short_help="A run or a history as one HTML page.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--workload", "-w", help="What the history is of; see jstyle check --list.")
@click.option("--nemesis", type=click.Path(path_type=Path), help="A nemesis.jsonl with the faults of the history.")
@click.option("--out", type=click.Path(path_type=Path), help=f"The file to write; left out: {NAME} in the store "
              "directory, or here.")  # fmt: skip
@click.option("--budget", type=Duration(), default="20s", show_default=True, help="Time to judge each history.")
@click.option("--rerun/--no-rerun", default=True, show_default=True,
              help="Run a stored simulation again, for roles and terms over time.")  # fmt: skip
def command(
    paths: tuple[Path, ...], workload: str | None, nemesis: Path | None, out: Path | None, budget: float, rerun: bool
) -> None:
    """Write a page about each PATH: a history file, a store directory, a seed.json, or a directory of many of these.

    Of several runs the worst is shown in full, the others in a list and in the table of workloads and faults.
    """
    if workload is not None and workload not in registry.WORKLOADS:
        raise Failure(f"no workload {workload!r}; there are {', '.join(registry.WORKLOADS)}")
    try:
        found = gather(paths, Wanted(workload or "", nemesis, budget, rerun))
    except (NothingToShow, HistoryError) as error:
        raise Failure(str(error)) from error
    target = out or _beside(paths)
    try:
        target.write_text(page(found, tuple(WORKLOADS), ALL_CLASSES), encoding="utf-8")
    except OSError as error:
        raise Failure(f"{target}: {error.strerror or error}; name another file with --out") from error
    for text in found.missing:
        click.echo(f"not shown: {text}", err=True)
    click.echo(f"{found.valid()}: {target}")


def _beside(paths: tuple[Path, ...]) -> Path:
    return paths[0] / NAME if len(paths) == 1 and paths[0].is_dir() else Path(NAME)
