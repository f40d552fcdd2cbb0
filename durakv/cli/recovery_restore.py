"""``durakv-cli restore``: the data of a directory as it was at an earlier point, in a new directory or an RDB file.

Rule: the source is only read, and may be damaged behind the point asked for. The new directory is a group of one with a
cluster id of its own, so members of the old group can never join it or be joined; it appears under its name only when
it is whole and synced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_export import write_rdb_file
from durakv.cli.admin_files import locked
from durakv.cli.admin_progress import bar
from durakv.cli.recovery_entries import entry_at
from durakv.cli.recovery_newdir import (
    NewNode,
    founding_of,
    new_cluster_id,
    refuse_silent_mode,
    write_directory,
)
from durakv.cli.recovery_outcome import (
    DATA,
    NeedsDecision,
    RecoveryCommand,
    databases_option,
    json_option,
    more_option,
    show_json,
    when,
)
from durakv.cli.recovery_reach import base_for, end_of_reach, time_at
from durakv.cli.recovery_rebuild import Rebuilt
from durakv.cli.recovery_survey import Progress, Survey, survey
from durakv.cli.recovery_target import FIRST, LAST, Target, before_command, by_index, by_time, parse_time
from durakv.replication import addresses
from durakv.resp.errors import CommandError

_CLUSTER_DIGITS: Final = 32


def _cluster_id(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    if text is not None and (len(text) != _CLUSTER_DIGITS or set(text) - set("0123456789abcdef")):
        raise click.BadParameter(f"'{text}' is no cluster id; it has {_CLUSTER_DIGITS} lower-case hex digits")
    return text


@click.command("restore", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--to-index", type=click.IntRange(min=1), help="Keep the entries up to this one.")
@click.option("--to-time", help="Keep what was written up to this time: 2026-11-20T14:02:00Z, or unix seconds or ms.")
@click.option(
    "--before-command", "--before", "command", help="Keep what precedes this command: FLUSHALL, or 'DEL user:*'."
)
@click.option("--which", type=click.Choice([FIRST, LAST]), help="If several commands fit.")
@click.option("--out", type=click.Path(path_type=Path), help="Make this data directory.")
@click.option("--rdb", type=click.Path(path_type=Path, dir_okay=False), help="Write this RDB file instead.")
@click.option("--node-id", type=click.IntRange(min=1), default=1, show_default=True, help="Of the new directory.")
@click.option(
    "--address", default="127.0.0.1:6379", show_default=True, help="Where the new node listens: HOST:PORT[@PEER-PORT]."
)
@click.option("--mode", type=click.Choice(["raft"]), help="Said where DATA is of lease mode: the new directory is not.")
@click.option(
    "--cluster-id", metavar="HEX", callback=_cluster_id, help="Of the new directory; the same for all groups of one."
)
@more_option
@databases_option
@json_option
def restore(
    data: Path, to_index: int | None, to_time: str | None, command: str | None, which: str | None, out: Path | None,
    rdb: Path | None, node_id: int, address: str, mode: str | None, cluster_id: str | None, more: tuple[str, ...],
    databases: int, as_json: bool,
) -> None:  # fmt: skip
    """Restore the data in DATA as it was at a point in time. Without one: up to the last readable entry. A point before
    its checkpoint needs an older base: a log from its first entry, or a backup, named with --archive.
    """
    if (out is None) == (rdb is None):
        raise click.UsageError("give either --out NEWDIR or --rdb FILE")
    if sum(option is not None for option in (to_index, to_time, command)) > 1:
        raise click.UsageError("give only one of --to-index, --to-time and --before-command")
    _refuse_which_alone(which, command)
    book = _address(address)
    time_ms = None if to_time is None else _time(to_time)
    target_path = out if out is not None else rdb
    assert target_path is not None
    if target_path.exists():
        raise FileExistsError(f"{target_path}: exists; name another place")
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False, more=more)
        if not end_of_reach(found):
            raise NeedsDecision(f"{data}: no readable entry; 'durakv-cli verify {data}' says why")
        if out is not None:
            refuse_silent_mode(found, mode)
        with bar("Looking for the point in time", quiet=as_json) as progress:
            if to_index is not None:
                target = by_index(found, to_index)
            elif time_ms is not None:
                target = by_time(found, time_ms, progress)
            elif command is not None:
                target = before_command(found, command, which or "", progress)
            else:
                target = Target(end_of_reach(found), 0, "the last readable entry")
        told = _told(found, target, str(target_path))
        with bar("Restoring", quiet=as_json) as progress:
            if out is not None:
                cluster = new_cluster_id() if cluster_id is None else bytes.fromhex(cluster_id)
                node = NewNode(cluster, node_id, book, founding=founding_of(found))
                write_directory(found, target, out, node, progress)
                told["cluster"] = node.cluster_id.hex()
                told["group"] = None if node.founding is None else node.founding.group
            else:
                told |= _write_rdb(found, target, target_path, databases, progress)
    if as_json:
        show_json(told)
    else:
        _show(told, found, target)


def _refuse_which_alone(which: str | None, command: str | None) -> None:
    if which and command is None:
        raise click.UsageError("--which goes with --before-command")


def _address(text: str) -> addresses.Address:
    try:
        return addresses.parse(text)
    except CommandError as error:
        raise click.UsageError(f"--address: {error}") from None


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        raise click.UsageError(f"--to-time: '{text}' is no time; write it as 2026-11-20T14:02:00Z") from None


def _told(found: Survey, target: Target, path: str) -> dict[str, object]:
    last, end = target.last, end_of_reach(found)
    base = base_for(found, target.index, last)
    return {
        "target": path, "source": found.directory, "point": target.why, "index": last,
        "items_of_last_entry": target.items or None, "time_ms": time_at(found, base, last),
        "from": {"index": base.index, "checkpoint": None if base.look is None else base.look.path},
        "left_out_entries": end - target.index, "last_in_log": end,
        "known_committed": found.last_good if found.alone() else found.known_committed,
        "findings": [finding.document() for finding in found.findings], "notes": found.notes,
    }  # fmt: skip


def _show(told: dict[str, object], found: Survey, target: Target) -> None:
    part = f" (of it the first {target.items} items)" if target.items else ""
    click.echo(f"{told['target']}: the state {target.why}")
    ts_ms = told["time_ms"]
    assert isinstance(ts_ms, int)
    click.echo(f"reached index {target.last:,}{part}, written {when(ts_ms)}; source {found.directory} is unchanged")
    begun = told["from"]
    assert isinstance(begun, dict)
    if begun["checkpoint"]:
        click.echo(f"built from {begun['checkpoint']} at index {begun['index']:,} and the log behind it")
    left = told["left_out_entries"]
    assert isinstance(left, int)
    if left:
        click.echo(f"Left out: {left:,} later entries{', the first one in part' if target.items else ''}")
    for note in found.notes:
        click.echo(f"Note: {note}")
    for finding in found.findings:
        if finding.path.startswith("log"):
            click.echo(f"Left out, unreadable: {finding.line()}")
    if "cluster" in told:
        click.echo(f"new cluster {told['cluster']}; start it: durakv server --dir {told['target']}{_of_group(told)}")
    else:
        click.echo(f"{told['keys']:,} keys, {told['bytes']:,} bytes")
    unknown = target.last - found.known_committed
    if unknown > 0 and not found.alone():
        click.echo(
            f"Included: {unknown:,} entries this node did not know to be committed (from "
            f"{found.known_committed + 1:,}); "
            "other nodes may have replaced them"
        )


def _of_group(told: dict[str, object]) -> str:
    group = told["group"]
    if group is None:
        return ""
    return (
        f" --cluster-enabled yes --group-id {group} --cluster-seeds HOST:PEER-PORT\n"
        f"It is group {group} of several and serves its own slots only; restore the others with --cluster-id "
        f"{told['cluster']}, and name a node of another group as seed"
    )


# -- an RDB file -------------------------------------------------------------------------------------------------------


def _write_rdb(found: Survey, target: Target, path: Path, databases: int, progress: Progress) -> dict[str, object]:
    state = Rebuilt(found, databases, base_for(found, target.index, target.last))
    state.advance(target.index, progress)
    if target.items:
        assert state.base is not None
        state.apply(entry_at(found.disk, state.base.scans, target.last), target.items)
    saved, size = write_rdb_file(path, state.keyspace, found.cluster_id, state.index, state.term)
    return {"keys": saved.keys, "bytes": size}
