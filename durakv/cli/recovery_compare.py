"""``durakv-cli digest`` and ``diff``: is it the same data, and if not, from where on and in which keys.

Rule: two logs are compared by their chains, which say whether everything up to an index is equal; two states by the
digest that DEBUG DIGEST of a running node shows in part.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_files import locked
from durakv.cli.admin_progress import bar
from durakv.cli.recovery_dump import Style, described, shown
from durakv.cli.recovery_entries import entry_at
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_CLEAN,
    NeedsDecision,
    RecoveryCommand,
    databases_option,
    json_option,
    more_option,
    show_json,
)
from durakv.cli.recovery_reach import bases, ranges
from durakv.cli.recovery_rebuild import Rebuilt
from durakv.cli.recovery_survey import Survey, survey
from durakv.commands.table import build_table
from durakv.keyspace.digest import canonical_value, digest, slot_digest
from durakv.keyspace.keyspace import Db

EXIT_DIFFERENT: Final = 2
_SHOWN_KEYS: Final = 20


@click.command("digest", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--at-index", type=click.IntRange(min=0), help="The state after this entry.  [default: last]")
@more_option
@databases_option
@json_option
def digest_(data: Path, at_index: int | None, more: tuple[str, ...], databases: int, as_json: bool) -> None:
    """Print the digest of the data in DATA; equal on every node after the same entry."""
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = sound(survey(str(data), progress, live=False, more=more), at_index)
        with bar("Applying the entries", quiet=as_json) as progress:
            state = Rebuilt(found, databases)
            state.advance(found.last_good if at_index is None else at_index, progress)
    keys = {db.number: db.size for db in state.keyspace.dbs if db.size}
    told = {
        "digest": digest(state.keyspace).hex(), "index": state.index, "chain": f"{state.chain:08x}",
        "keys": {str(number): count for number, count in keys.items()},
    }  # fmt: skip
    if as_json:
        show_json(told)
        return
    click.echo(f"{told['digest']} index {state.index:,} chain {told['chain']} keys {sum(keys.values()):,}")


def sound(found: Survey, at_index: int | None) -> Survey:
    """The survey, when nothing that it found stands in the way of what is wanted. Raises NeedsDecision."""
    stops = [finding for finding in found.findings if finding.stops and finding.path.startswith(("log", "ckpt"))]
    reach = ranges(bases(found))
    if not reach:
        raise NeedsDecision(
            f"{found.directory}: no readable log and no usable checkpoint; 'durakv-cli verify {found.directory}' says "
            "why"
        )
    if stops and (at_index is None or not any(low <= at_index <= high for low, high in reach)):
        spans = " and ".join(f"{low}..{high}" for low, high in reach)
        raise NeedsDecision(
            f"{found.directory}: damaged: {stops[0].line()}; the states after index {spans} can be built: name one of "
            "them"
        )
    return found


def chain_at(found: Survey, index: int) -> int | None:
    """The log's running digest after entry ``index``; None when neither log nor checkpoint says it."""
    for scan in found.scans:
        if scan.header.base <= index <= scan.last_index:
            return scan.chains[index - scan.header.base]
    if index == found.first - 1 and found.scans:
        return found.scans[0].header.prev_chain
    covered = found.covered()
    return covered.chain or None if covered is not None and covered.index == index else None


@click.command("diff", cls=RecoveryCommand)
@click.argument("first", type=DATA)
@click.argument("second", type=DATA)
@more_option
@click.option("--log-only", is_flag=True, help="Compare the logs, not the data they lead to.")
@databases_option
@json_option
def diff(first: Path, second: Path, more: tuple[str, ...], log_only: bool, databases: int, as_json: bool) -> None:
    """Find the first entry in which two data directories differ, and the keys that differ after the last entry both
    have. Exit code 0: no difference; 2: they differ.
    """
    if first.resolve() == second.resolve():
        raise click.UsageError("name two directories")
    with contextlib.ExitStack() as stack:
        found = []
        for directory in (first, second):
            stack.enter_context(locked(directory))
            with bar(f"Reading {directory}", quiet=as_json) as progress:
                one = survey(str(directory), progress, live=False, more=more)
                found.append(sound(one, one.last_good))
        told = _compare_logs(found[0], found[1])
        if not log_only:
            common = _common(found[0], found[1])
            states = []
            for one in found:
                with bar(f"Applying {one.directory}", quiet=as_json) as progress:
                    state = Rebuilt(one, databases)
                    state.advance(common, progress)
                states.append(state)
            told["data"] = _compare_data(states[0], states[1])
    if as_json:
        show_json(told)
    else:
        _show(told, str(first), str(second))
    data = told.get("data")
    equal = told["first_difference"] is None and (not isinstance(data, dict) or data["equal"])
    sys.exit(EXIT_CLEAN if equal else EXIT_DIFFERENT)


def _common(a: Survey, b: Survey) -> int:
    """The last index whose state both can build. Raises NeedsDecision when there is none."""
    best = -1
    for low_a, high_a in ranges(bases(a)):
        for low_b, high_b in ranges(bases(b)):
            if max(low_a, low_b) <= min(high_a, high_b):
                best = max(best, min(high_a, high_b))
    if best < 0:
        raise NeedsDecision(
            f"{a.directory} and {b.directory} have no index of which both hold the state; name what holds the log in "
            "between with --archive, or let the one behind catch up"
        )
    return best


def _compare_logs(a: Survey, b: Survey) -> dict[str, object]:
    """Chains run on: equal at an index means equal up to there, also where neither has the entries any more."""
    common = min(a.last_good, b.last_good)
    low = max(a.first, b.first) - 1
    told: dict[str, object] = {
        "last": [a.last_good, b.last_good],
        "first": [a.first, b.first],
        "same_cluster": a.cluster_id == b.cluster_id,
        "first_difference": None,
        "entries": [],
    }
    if low > common:
        # One has forgotten its log up to behind the other's end.
        told["compared"] = None
        return told
    told["compared"] = [low + 1, common]
    if low and chain_at(a, low) != chain_at(b, low):
        told["first_difference"] = low
        told["before_logs"] = True
        return told
    high = common
    while low < high:
        middle = (low + high + 1) // 2
        if chain_at(a, middle) == chain_at(b, middle):
            low = middle
        else:
            high = middle - 1
    if low < common:
        told["first_difference"] = low + 1
        style = Style(build_table(), None, 120)
        told["entries"] = [described(entry_at(one.disk, one.scans, low + 1), style) for one in (a, b)]
    return told


def _compare_data(a: Rebuilt, b: Rebuilt) -> dict[str, object]:
    left, right = digest(a.keyspace), digest(b.keyspace)
    told: dict[str, object] = {"index": a.index, "digests": [left.hex(), right.hex()], "equal": left == right}
    only_first: list[str] = []
    only_second: list[str] = []
    different: list[str] = []
    if left != right:
        for db_a, db_b in zip(a.keyspace.dbs, b.keyspace.dbs, strict=True):
            for slot in range(len(db_a.slots)):
                if (db_a.slots[slot] or db_b.slots[slot]) and slot_digest(db_a, slot) != slot_digest(db_b, slot):
                    _compare_slot(db_a, db_b, slot, (only_first, only_second, different))
    told |= {"only_in_first": only_first, "only_in_second": only_second, "different": different}
    return told


def _compare_slot(a: Db, b: Db, slot: int, out: tuple[list[str], list[str], list[str]]) -> None:
    in_a, in_b = a.slots[slot] or {}, b.slots[slot] or {}
    due_a, due_b = a.exps[slot] or {}, b.exps[slot] or {}
    for key in sorted(in_a.keys() | in_b.keys()):
        name = f"{a.number}:{shown(key)}"
        if key not in in_b:
            out[0].append(name)
        elif key not in in_a:
            out[1].append(name)
        else:
            reasons = []
            (kind_a, content_a), (kind_b, content_b) = canonical_value(in_a[key]), canonical_value(in_b[key])
            if kind_a != kind_b:
                reasons.append(f"type {kind_a.decode()} and {kind_b.decode()}")
            elif content_a != content_b:
                reasons.append(f"{kind_a.decode()} value")
            if due_a.get(key) != due_b.get(key):
                reasons.append(f"deadline {due_a.get(key)} and {due_b.get(key)}")
            if reasons:
                out[2].append(f"{name} ({', '.join(reasons)})")


def _show(told: dict[str, object], first: str, second: str) -> None:
    last = told["last"]
    assert isinstance(last, list)
    click.echo(f"{first}: last index {last[0]:,}   {second}: last index {last[1]:,}")
    if not told["same_cluster"]:
        click.echo("They are of different clusters; after a restore the membership entries differ, which is no loss")
    at = told["first_difference"]
    compared = told["compared"]
    if at is not None and told.get("before_logs"):
        click.echo(f"The logs differ already at index {at:,}, before the first entry that both still hold")
    elif at is not None:
        click.echo(f"The logs differ from index {at:,} on:")
    elif isinstance(compared, list):
        click.echo(
            "The logs agree as far as both go"
            if compared[0] == 1
            else f"The logs agree from index {compared[0]:,} on, and so do their running digests before it"
        )
    else:
        click.echo("The logs have no entry in common: one begins behind the end of the other")
    entries = told["entries"]
    assert isinstance(entries, list)
    for entry in entries:
        commands = [command["argv"] for item in entry.get("items", []) for command in item["commands"]]
        click.echo(f"    term {entry['term']} {entry['time']} {entry['kind']} {commands[:5]}")
    data = told.get("data")
    if not isinstance(data, dict):
        return
    click.echo(f"data after index {data['index']:,}: {data['digests'][0]} {data['digests'][1]}")
    click.echo("The data is the same" if data["equal"] else "The data differs:")
    for title in ("only_in_first", "only_in_second", "different"):
        for name in data[title][:_SHOWN_KEYS]:
            click.echo(f"    {title.replace('_', ' ')}: {name}")
        if len(data[title]) > _SHOWN_KEYS:
            click.echo(f"    {title.replace('_', ' ')}: and {len(data[title]) - _SHOWN_KEYS:,} more (--json lists all)")
