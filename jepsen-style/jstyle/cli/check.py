"""``jstyle check``: judge a recorded history, ours or a foreign one, or write it in another form.

Exit codes: 0 true, 1 false, 2 unknown, 3 the history or the command could not be used.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jstyle.checkers import registry
from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, OptionError, Verdict, as_json, worst
from jstyle.history import files
from jstyle.history.op import HistoryError, Op

EXITS: Final = {TRUE: 0, FALSE: 1, UNKNOWN: 2}
HARNESS_ERROR: Final = 3
_COLOURS: Final = {TRUE: "green", FALSE: "red", UNKNOWN: "yellow"}
_SHOWN: Final = 10
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)\Z")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


class Failure(click.ClickException):
    """What makes a check impossible; one line on standard error."""

    exit_code = HARNESS_ERROR


class Duration(click.ParamType[float]):
    """Seconds, written as 60, 60s, 2m, 500ms or 1h."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _DURATION.match(str(value))
        if match is None:
            self.fail(f"{value!r} is no duration: write 60s, 2m, 500ms or 1h", param, ctx)
        return float(match[1]) * _UNITS_S[match[2]]


class CheckCommand(click.Command):
    """Usage errors exit with 3, because 2 says that a verdict is unknown."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object,
    ) -> click.Context:  # fmt: skip
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise Failure(f"{error.format_message()}; jstyle check --help shows how") from error


def load(path: Path) -> files.Recorded:
    """The history file. Raises Failure."""
    try:
        return files.load(path)
    except HistoryError as error:
        raise Failure(f"{path}: {error}") from error
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from error


def judge(workload: str, ops: list[Op], options: dict[str, object], *, second_opinion: bool) -> list[Verdict]:
    """The verdicts of the workload's checkers. Raises Failure, also when two engines contradict each other."""
    try:
        found = registry.check(workload, ops, options)
        if second_opinion:
            reference = registry.find(workload).second
            if not reference:
                raise Failure(f"workload {workload} has no second engine; leave --second-opinion out")
            found.append(registry.checker(reference)(ops, options))
    except (HistoryError, OptionError, registry.UnknownWorkload) as error:
        raise Failure(str(error)) from error
    except (ImportError, AttributeError) as error:
        raise Failure(f"the checker of workload {workload} cannot be loaded: {error}") from error
    except RecursionError as error:
        raise Failure("a value in the history is nested too deeply to be compared") from error
    if second_opinion and {found[0].valid, found[-1].valid} == {TRUE, FALSE}:
        raise Failure(
            f"the engines disagree: {found[0].checker} says {found[0].valid}, {found[-1].checker} {found[-1].valid};"
            " keep this history and report it as a bug of the harness"
        )
    return found


def show(console: Console, name: str, ops: list[Op], verdicts: list[Verdict]) -> None:
    """The verdicts as a table, then each anomaly in a line."""
    table = Table(title=f"{escape(name)}: {len(ops)} operations", title_justify="left")
    for heading in ("checker", "verdict", "looked at", "why"):
        table.add_column(heading, overflow="fold")
    for verdict in verdicts:
        counts = ", ".join(f"{what} {count}" for what, count in verdict.counts.items())
        names = sorted({anomaly.name for anomaly in verdict.anomalies})
        why = verdict.why or ", ".join(names)
        colour = _COLOURS[verdict.valid]
        table.add_row(escape(verdict.checker), f"[{colour}]{verdict.valid}[/]", escape(counts), escape(why))
    console.print(table)
    for verdict in verdicts:
        for anomaly in verdict.anomalies[:_SHOWN]:
            key = "" if anomaly.key is None else f" key {anomaly.key!r}:"
            console.print(escape(f"{anomaly.name}:{key} {anomaly.text}"), soft_wrap=True)
        if len(verdict.anomalies) > _SHOWN:
            console.print(f"... and {len(verdict.anomalies) - _SHOWN} more anomalies; --json lists all", soft_wrap=True)


@click.command(cls=CheckCommand, short_help="Judge a recorded history, or convert it.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--workload", "-w", help="What the history is of; see --list.")
@click.option("--models", multiple=True, help="Consistency models to hold it against, for checkers that know several.")
@click.option("--budget", type=Duration(), default="60s", show_default=True, help="Time for the whole check.")
@click.option("--steps", type=click.IntRange(min=1), help="Search steps per key before it counts as unknown.")
@click.option("--jobs", "-j", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@click.option("--second-opinion", is_flag=True, help="Run the independent engine too; disagreement is an error.")
@click.option("--independent/--plain", default=None, help="Whether values are [key value] pairs; left out: find out.")
@click.option("--bound-ms", type=click.FloatRange(min=0), help="expiry, lock: how far clocks may be apart.")
@click.option("--total", type=int, help="bank: the sum of all balances; left out: that of the first read.")
@click.option("--accounts", metavar="NAME,..", help="bank: the accounts; left out: those of the first read.")
@click.option("--negative-balances", is_flag=True, default=None, help="bank: accounts may be overdrawn.")
@click.option("--fifo", is_flag=True, default=None, help="queue: elements come out in the order of their addition.")
@click.option("--drain-takes", is_flag=True, default=None, help="queue: a drain removes what it shows.")
@click.option("--gaps", is_flag=True, default=None, help="order: deliveries may be missed, as in a channel.")
@click.option("--initial", type=int, help="counter: the value before all additions.")
@click.option("--convert", type=click.Path(path_type=Path), help="Write the history to this .jsonl .edn .json .calls.")
@click.option("--json", "as_json_", is_flag=True, help="Print the verdicts as one JSON map.")
@click.option("--list", "list_", is_flag=True, is_eager=True, expose_value=False, help="List the workloads.",
              callback=lambda ctx, _, value: _list_workloads(ctx, value))  # fmt: skip
def command(
    file: Path, workload: str | None, models: tuple[str, ...], budget: float, steps: int | None, jobs: int,
    second_opinion: bool, independent: bool | None, convert: Path | None, as_json_: bool, accounts: str | None,
    **of_one_checker: float | bool | None,
) -> None:  # fmt: skip
    """Judge the history in FILE (.jsonl, .edn, .json, call/return list or Jepsen log).

    Exits with 0 when it is valid, 1 when not, 2 when that stays unknown, 3 when it cannot be read.
    """
    if workload is None and convert is None:
        raise Failure("name a --workload to check, or a file to --convert to; --list shows the workloads")
    recorded = load(file)
    if convert is not None:
        _convert(recorded, convert)
        if workload is None:
            return
    assert workload is not None
    options: dict[str, object] = {
        "workload": workload,
        "models": [word for given in models for word in given.split(",") if word],
        "budget_s": budget,
        "jobs": jobs,
        "independent": independent,
    }
    if steps is not None:
        options["budget_steps"] = steps
    options |= {name: value for name, value in of_one_checker.items() if value is not None}
    if accounts is not None:
        options["accounts"] = [name for name in accounts.split(",") if name]
    verdicts = judge(workload, recorded.ops, options, second_opinion=second_opinion)
    valid = worst([verdict.valid for verdict in verdicts])
    if as_json_:
        found = {"file": str(file), "workload": workload, "valid": valid, "verdicts": list(map(as_json, verdicts))}
        click.echo(json.dumps(found, indent=1, default=str))
    else:
        show(Console(), file.name, recorded.ops, verdicts)
    click.get_current_context().exit(EXITS[valid])


def _convert(recorded: files.Recorded, target: Path) -> None:
    try:
        files.write(target, recorded.ops)
    except HistoryError as error:
        raise Failure(str(error)) from error
    except TypeError as error:
        raise Failure(f"{target}: a value cannot be written in this form: {error}") from error
    except OSError as error:
        raise Failure(f"{target}: {error.strerror or error}") from error
    click.echo(f"{target}: {len(recorded.ops)} operations", err=True)


def _list_workloads(ctx: click.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        for workload in registry.WORKLOADS.values():
            click.echo(f"{workload.name:16} {workload.about}")
        ctx.exit()
