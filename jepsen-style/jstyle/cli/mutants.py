"""``jstyle mutants``: plants known bugs, one at a time, and shows that the harness notices each.

Rule: prints and exits; a survivor, or a twin that fails, is exit code 1.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from jstyle.mutants.registry import MUTANTS, WAITING, mutant, quick
from jstyle.mutants.runner import BROKEN, CLEAN, KILLED, Report, run

_WIDTH: Final = 150


@click.command(name="mutants")
@click.option("--id", "ids", multiple=True, metavar="M3", help="Only this mutant; may be repeated.")
@click.option("--quick", "is_quick", is_flag=True, help="The direct ones and six of the others, which change daily.")
@click.option("--rotation", type=int, help="With --quick: which six; the day of the year unless told.")
@click.option("--twins/--no-twins", default=True, show_default=True, help="Run the program as it is on the same seeds.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@click.option("--list", "only_list", is_flag=True, help="Show the catalogue and stop.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON.")
def command(
    ids: tuple[str, ...], is_quick: bool, rotation: int | None, twins: bool, jobs: int, only_list: bool, as_json: bool
) -> None:
    """Prove that the harness can fail: every planted bug must be killed by its named check within its budget."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    if only_list:
        _print_catalogue(console)
        return
    try:
        chosen = [mutant(name) for name in ids] if ids else list(MUTANTS)
    except KeyError as error:
        raise click.BadParameter(str(error.args[0]), param_hint="--id") from error
    if is_quick and not ids:
        chosen = quick(rotation if rotation is not None else datetime.now(UTC).timetuple().tm_yday)

    def heard(report: Report) -> None:
        click.echo(
            f"{report.mutant.id}: {report.verdict} {' '.join(report.checks)}, {report.cpu_s:.1f} CPU s", err=True
        )

    killed, checked = run(chosen, twins=twins, heard=heard, jobs=jobs)
    if as_json:
        click.echo(
            json.dumps({"mutants": [_plain(r) for r in killed], "twins": [_plain(r) for r in checked]}, indent=1)
        )
    else:
        _print(console, killed, checked)
    if any(report.verdict == BROKEN for report in (*killed, *checked)):
        sys.exit(3)
    wrong = any(report.verdict != KILLED for report in killed) or any(report.verdict != CLEAN for report in checked)
    sys.exit(1 if wrong else 0)


def _print(console: Console, killed: list[Report], checked: list[Report]) -> None:
    table = Table(title="planted bugs", title_justify="left")
    for column in ("id", "planted bug", "layer", "must fail", "verdict", "killed by"):
        table.add_column(column)
    for column in ("seeds", "CPU s", "budget"):
        table.add_column(column, justify="right")
    for report in killed:
        good = report.verdict == KILLED
        colour = "green" if good else "red"
        known = report.mutant
        budget = "direct" if known.direct else f"{known.seeds} seeds"
        table.add_row(
            known.id, known.bug, known.layer, " ".join(known.checks), f"[{colour}]{report.verdict}[/{colour}]",
            " ".join(report.checks), str(report.seeds), f"{report.cpu_s:.1f}", budget,
        )  # fmt: skip
    console.print(table)
    for report in killed:
        if report.verdict != KILLED:
            console.print(f"{report.mutant.id} {report.verdict}: {report.text}", markup=False, soft_wrap=True)
            console.print(f"    jstyle mutants --id {report.mutant.id}", markup=False, soft_wrap=True)
    for report in checked:
        line = (
            f"without the bug, {report.mutant.probe.name}: {report.seeds} seeds {report.verdict}, {report.cpu_s:.1f} s"
        )
        console.print(line, markup=False, soft_wrap=True)
        if report.verdict != CLEAN:
            console.print(f"    {report.text}\n    {report.repeat}", markup=False, soft_wrap=True)
    console.print(
        f"{len(killed)} planted, {sum(r.verdict == KILLED for r in killed)} killed; {len(WAITING)} not yet possible"
    )


def _print_catalogue(console: Console) -> None:
    table = Table(title="the catalogue", title_justify="left")
    for column in ("id", "planted bug", "layer", "must fail", "budget"):
        table.add_column(column)
    for known in MUTANTS:
        budget = "direct" if known.direct else f"{known.seeds} seeds"
        table.add_row(known.id, known.bug, known.layer, " ".join(known.checks), budget)
    for waiting in WAITING:
        table.add_row(waiting.id, waiting.bug, "-", "-", waiting.why)
    console.print(table)


def _plain(report: Report) -> dict[str, object]:
    return {
        "id": report.mutant.id,
        "bug": report.mutant.bug,
        "probe": report.mutant.probe.name,
        "verdict": report.verdict,
        "checks": report.checks,
        "seeds": report.seeds,
        "budget": report.mutant.seeds,
        "cpu_s": report.cpu_s,
        "text": report.text,
        "repeat": report.repeat,
    }
