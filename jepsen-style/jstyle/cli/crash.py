"""``jstyle crash``: power cuts, failing disks and rotten media, every place of every scripted run, and of every commit
of a checkpoint.

Rule: prints and exits; what is tried and what is wrong is decided in ``jstyle.crash``. Each failure is printed with the
one command that shows it again.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from jstyle.crash import pages_states
from jstyle.crash.campaign import STATES_MAX, Tally, enumerate_states, show_one
from jstyle.crash.damage import try_damages
from jstyle.crash.faults import FAULTS, try_faults
from jstyle.crash.kernel import compare, strace_missing
from jstyle.crash.scripts import SCRIPTS, Script, script_named
from jstyle.crash.states import RANDOM_SUBSETS

_SHOWN_MAX: Final = 12
_WIDTH: Final = 120


@click.command(name="crash")
@click.option("--trace", "names", multiple=True, metavar="NAME", help="Only this scripted run; may be repeated.")
@click.option("--cap", default=STATES_MAX, show_default=True, help="Distinct crash states judged per run, at most.")
@click.option("--subsets", default=RANDOM_SUBSETS, show_default=True, help="Random subsets at each position.")
@click.option("--position", type=int, help="With --variant: the place in the trace, as a failure names it.")
@click.option("--variant", help="Only this state, fault (eio-sync:12) or damage (damage:...).")
@click.option("--strace/--no-strace", default=True, show_default=True, help="Compare the recorder with the kernel.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON.")
def command(
    names: tuple[str, ...],
    cap: int,
    subsets: int,
    position: int | None,
    variant: str | None,
    strace: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Judge what production recovery makes of every disk that a crash could leave."""
    wanted = names or (*[script.name for script in SCRIPTS], pages_states.NAME)
    try:
        scripts = [script_named(name) for name in wanted if name != pages_states.NAME]
    except KeyError as error:
        raise click.BadParameter(f"{error.args[0]}, {pages_states.NAME}", param_hint="--trace") from error
    missing = strace_missing() if strace else ""
    if variant is not None:
        if len(wanted) != 1 or position is None:
            raise click.UsageError("--variant needs one --trace and a --position, as printed with the failure")
        sys.exit(_repeat(wanted[0], position, variant))
    tallies = _examine_all(list(wanted), cap, subsets, jobs, watch=strace and not missing)
    escapes = {script.name: compare(script) for script in scripts} if strace and not missing else {}
    if as_json:
        click.echo(json.dumps([_plain(tally, escapes.get(tally.name)) for tally in tallies], indent=1))
    else:
        _print(tallies, escapes)
    if missing:
        click.echo(missing, err=True)
    wrong = any(tally.failure_count for tally in tallies) or any(escapes.values())
    sys.exit(1 if wrong else 2 if missing else 0)


def _examine_all(names: list[str], cap: int, subsets: int, jobs: int, *, watch: bool) -> list[Tally]:
    """In the order of the names. ``watch``: strace may watch."""
    work = partial(_examine, cap=cap, subsets=subsets, watch=watch)
    if jobs == 1:
        return list(map(work, names))
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(work, names))


def _examine(name: str, cap: int, subsets: int, *, watch: bool) -> Tally:
    if name == pages_states.NAME:
        tally = Tally(name)
        pages_states.try_pages(tally, subsets=min(subsets, pages_states.SUBSETS_MAX), watch=watch)
        return tally
    script = script_named(name)
    tally = enumerate_states(script, states_max=cap, subsets=subsets)
    if script.faulty:
        try_faults(script, tally)
    try_damages(script, tally)
    return tally


def _repeat(name: str, position: int, variant: str) -> int:
    """One state, with all that is known about it."""
    tally = Tally(name)
    kind, _, rest = variant.partition(":")
    try:
        if name == pages_states.NAME:
            pages_states.try_pages(tally, only=(position, variant))
        else:
            script = script_named(name)
            tally = _repeat_script(script, tally, position, kind, rest)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--variant") from error
    for failure in tally.failures:
        click.echo(f"{failure.check}: {failure.text}")
    click.echo(f"{name} {position} {variant}: {tally.failure_count or 'nothing'} wrong")
    return 1 if tally.failure_count else 0


def _repeat_script(script: Script, tally: Tally, position: int, kind: str, rest: str) -> Tally:
    if kind in FAULTS:
        try_faults(script, tally, (kind, int(rest)))
    elif kind == "damage":
        try_damages(script, tally, (position, rest))
    else:
        tally, story = show_one(script, position, f"{kind}:{rest}" if rest else kind)
        click.echo("\n".join(story))
    return tally


def _print(tallies: list[Tally], escapes: dict[str, list[str]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width of its own; rich would squeeze the table into 80 columns.
        console = Console(highlight=False, width=_WIDTH)
    table = Table(title="crash consistency of the storage", title_justify="left")
    table.add_column("trace", no_wrap=True)
    for column in ("calls", "states tried", "distinct", "in recovery", "faults", "damages", "tail?", "CPU s"):
        table.add_column(column, justify="right")
    for column in ("kernel", "verdict"):
        table.add_column(column)
    for tally in tallies:
        kernel = "-" if tally.name not in escapes else "differs" if escapes[tally.name] else "same"
        verdict = f"[red]{tally.failure_count} wrong: {' '.join(tally.checks())}[/red]"
        table.add_row(
            tally.name,
            str(tally.events),
            str(tally.tried),
            f"{tally.states}{' (cap)' if tally.capped else ''}",
            str(tally.nested),
            str(tally.faults),
            str(tally.damaged),
            str(tally.unprovable),
            f"{tally.cpu_s:.1f}",
            kernel,
            verdict if tally.failure_count else "[green]true[/green]",
        )
    console.print(table)
    console.print("tail?: damaged disks whose newest entries nothing could prove; saved in quarantine, not kept")
    console.print(f"{pages_states.NAME}: {pages_states.ABOUT}; tail?: older commits, which a shortened log refuses")
    for tally in tallies:
        for failure in tally.failures[:_SHOWN_MAX]:
            console.print(f"{failure.check} {failure.text}\n    {failure.repeat()}", markup=False, soft_wrap=True)
    for name, differences in escapes.items():
        for difference in differences:
            console.print(
                f"{name}: {difference}\n    jstyle crash --trace {name} --subsets 0", markup=False, soft_wrap=True
            )


def _plain(tally: Tally, escapes: list[str] | None) -> dict[str, object]:
    return {
        "trace": tally.name,
        "calls": tally.events,
        "tried": tally.tried,
        "states": tally.states,
        "nested": tally.nested,
        "faults": tally.faults,
        "damages": tally.damaged,
        "unprovable": tally.unprovable,
        "capped": tally.capped,
        "cpu_s": round(tally.cpu_s, 2),
        "kernel": escapes,
        "failed": tally.failure_count,
        "failures": [
            {"check": failure.check, "text": failure.text, "repeat": failure.repeat()} for failure in tally.failures
        ],
    }
