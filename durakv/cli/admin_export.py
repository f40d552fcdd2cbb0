"""``durakv-cli export``: a stopped node's data as an RDB file or an append-only directory.

Rule: one consistent state, that after the last entry of the node's log (or ``--at-index``); what of it was not known to
be committed is stated, not decided. Exit codes as in docs/format.md.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click

from durakv import __version__
from durakv.aof.manifest import SUFFIX, export_names
from durakv.cli.admin_files import locked, result_file, sync_directory
from durakv.cli.admin_progress import bar
from durakv.cli.recovery_state import ReplayedState, replay
from durakv.keyspace.keyspace import Keyspace
from durakv.rdb.save import Saved, write_keyspace
from durakv.rdb.writer import RdbWriter, Sink, VersionTooLow
from durakv.storage.errors import EXIT_IO, EXIT_USAGE, StorageError

AOF_NAME: Final = "appendonly.aof"
_VERSIONS: Final = ("9", "10", "11", "12", "80")


@click.command("export")
@click.argument("data", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--rdb", type=click.Path(path_type=Path, dir_okay=False), help="Write this RDB file.")
@click.option(
    "--aof", type=click.Path(path_type=Path, file_okay=False),
    help=f"Write this append-only directory (files {AOF_NAME}.*).",
)  # fmt: skip
@click.option("--rdb-version", type=click.Choice(_VERSIONS), help="Fail rather than write a later version.")
@click.option("--drop-field-ttl", is_flag=True, help="Keep fields of hashes for good, so that any server can load.")
@click.option("--at-index", type=click.IntRange(min=0), help="Export the state after this log entry.  [default: last]")
@click.option("--committed-only", is_flag=True, help="Leave out entries this node did not know to be committed.")
@click.option("--databases", type=click.IntRange(1, 1 << 20), default=16, show_default=True,
              help="As in the server's configuration.")  # fmt: skip
@click.option(
    "--archive",
    "--backup",
    "more",
    multiple=True,
    type=click.Path(file_okay=False, exists=True),
    help="More of the log, for a point before the checkpoint: archive-dir or a backup. May be repeated.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def export(
    data: Path, rdb: Path | None, aof: Path | None, rdb_version: str | None, drop_field_ttl: bool,
    at_index: int | None, committed_only: bool, databases: int, more: tuple[str, ...], force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the data of the stopped node in directory DATA to a file that Redis and Valkey load."""
    if (rdb is None) == (aof is None):
        raise click.UsageError("give either --rdb FILE or --aof DIRECTORY")
    if committed_only and at_index is not None:
        raise click.UsageError("--committed-only and --at-index exclude each other")
    began = time.monotonic()
    try:
        _check_target(rdb, aof, force=force)
        with locked(data), bar("Reading the log", quiet=as_json) as progress:
            state = replay(str(data), at_index, databases, progress, committed_only=committed_only, more=more)
        form = _Form(int(rdb_version) if rdb_version else None, drop_field_ttl=drop_field_ttl)
        saved, size = _write(state, rdb, aof, form, force=force)
    except StorageError as error:
        _fail(str(error), error.exit_code)
    except (FileExistsError, VersionTooLow) as error:
        _fail(_explained(error), EXIT_USAGE)
    except OSError as error:
        _fail(str(error), EXIT_IO)
    target = rdb if rdb is not None else aof
    _report(state, saved, size, str(target), time.monotonic() - began, as_json=as_json)


class _Form:
    """``version``: the highest allowed, None for any."""

    def __init__(self, version: int | None, *, drop_field_ttl: bool) -> None:
        self.version = version
        self.drop_field_ttl = drop_field_ttl


def _check_target(rdb: Path | None, aof: Path | None, *, force: bool) -> None:
    """Before the log is read, which may take a while. Raises FileExistsError."""
    if rdb is not None and rdb.exists() and not force:
        raise FileExistsError(f"{rdb}: exists; name another file, or replace it with --force")
    if aof is not None and aof.exists() and any(aof.iterdir()):
        raise FileExistsError(f"{aof}: is not empty; name another directory")


def _fail(text: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    sys.exit(exit_code)


def _explained(error: Exception) -> str:
    if isinstance(error, VersionTooLow):
        return (
            f"{error}; leave out --rdb-version, or remove what needs the later one (--drop-field-ttl for deadlines of "
            "hash fields)"
        )
    return str(error)


def _write(state: ReplayedState, rdb: Path | None, aof: Path | None, form: _Form, *, force: bool) -> tuple[Saved, int]:
    if rdb is not None:
        with result_file(rdb, force=force) as sink:
            return _write_rdb(state, sink, form, base=False)
    assert aof is not None
    base, increment = export_names(AOF_NAME)
    aof.mkdir(parents=True, exist_ok=True)
    with result_file(aof / base.name, force=False) as sink:
        result = _write_rdb(state, sink, form, base=True)
    with result_file(aof / increment.name, force=False):
        pass
    # Last: without a manifest the directory holds nothing.
    with result_file(aof / f"{AOF_NAME}{SUFFIX}", force=False) as sink:
        sink.write(base.line() + increment.line())
    sync_directory(aof.parent)
    return result


def write_rdb_file(path: Path, keyspace: Keyspace, cluster_id: bytes, index: int, term: int) -> tuple[Saved, int]:
    """A keyspace as an RDB file under a new name: what was saved, and the file's size. Raises FileExistsError,
    OSError.
    """
    with result_file(path, force=False) as sink:
        return _write_keyspace(
            _Origin(keyspace, cluster_id, index, term), sink, _Form(None, drop_field_ttl=False), base=False
        )


class _Origin:
    """A state, and where it comes from."""

    def __init__(self, keyspace: Keyspace, cluster_id: bytes, index: int, term: int) -> None:
        self.keyspace = keyspace
        self.cluster_id = cluster_id
        self.index = index
        self.term = term


def _write_rdb(state: ReplayedState, sink: Sink, form: _Form, *, base: bool) -> tuple[Saved, int]:
    origin = _Origin(state.keyspace, state.identity.cluster_id, state.index, state.term)
    return _write_keyspace(origin, sink, form, base=base)


def _write_keyspace(origin: _Origin, sink: Sink, form: _Form, *, base: bool) -> tuple[Saved, int]:
    writer = RdbWriter(sink) if form.version is None else RdbWriter(sink, form.version)
    facts = {
        "durakv-ver": __version__,
        "redis-bits": "64",
        "ctime": str(int(time.time())),
        "aof-base": "1" if base else "0",
        "durakv-cluster": origin.cluster_id.hex(),
        "durakv-index": str(origin.index),
        "durakv-term": str(origin.term),
    }
    for name, content in facts.items():
        writer.aux(name.encode(), content.encode())
    programs = origin.keyspace.programs
    if programs is not None:
        for library in programs.libraries.values():
            writer.function(library.code)
    saved = write_keyspace(writer, origin.keyspace, drop_field_ttl=form.drop_field_ttl)
    return saved, writer.finish()


def _report(state: ReplayedState, saved: Saved, size: int, target: str, seconds: float, *, as_json: bool) -> None:
    unknown = max(state.index - state.known_committed, 0)
    if as_json:
        document = {
            "file": target, "bytes": size, "keys": saved.keys, "by_type": saved.by_type,
            "expired_left_out": saved.expired,
            "hashes_without_field_ttl": saved.fields_kept, "cluster": state.identity.cluster_id.hex(),
            "index": state.index, "term": state.term, "known_committed": state.known_committed,
            "last_in_log": state.last_in_log,
            "torn_tail": state.torn, "seconds": round(seconds, 3),
        }  # fmt: skip
        click.echo(json.dumps(document))
        return
    types = ", ".join(f"{count:,} {name}" for name, count in sorted(saved.by_type.items())) or "no keys"
    click.echo(f"{target}: {saved.keys:,} keys ({types}), {size:,} bytes, state after entry {state.index:,}")
    click.echo(f"{seconds:.1f} s, {saved.keys / max(seconds, 1e-9):,.0f} keys/s")
    if saved.expired:
        click.echo(f"Left out: {saved.expired:,} keys that had expired by the log's time")
    if saved.fields_kept:
        click.echo(f"Dropped: the deadlines of fields in {saved.fields_kept:,} hashes, as --drop-field-ttl says")
    if state.torn:
        click.echo(f"Left out: an unfinished write at the log's end, {state.torn}")
    if unknown:
        click.echo(
            f"Included: {unknown:,} entries this node did not know to be committed ({state.known_committed + 1:,} to "
            f"{state.index:,}); in a group other nodes may have replaced them. --committed-only leaves them out"
        )
