"""``durakv-cli backup create|verify|list``: checkpoint and log of one node, copied whole and provably so.

Rule: a backup has IDENTITY, ckpt/ and log/ like a data directory, so every command that reads one reads it, but no hard
state, so no server ever starts on it; it comes back by ``restore``. Its last file is ``backup.json``: without it
there is no backup.

Order beside a running server: the checkpoint first, then the log, which always reaches further; were segments between
the two dropped meanwhile, both are copied again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from durakv import __version__
from durakv.cli.admin_files import ReadOnlyFile, result_file, sync_directory
from durakv.cli.admin_progress import bar, unseen
from durakv.cli.recovery_checkpoint import look_at_checkpoint
from durakv.cli.recovery_compare import sound
from durakv.cli.recovery_newdir import copy_store, write_name
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_CLEAN,
    EXIT_DAMAGED,
    NeedsDecision,
    RecoveryCommand,
    held_if_free,
    json_option,
    show_json,
    size_of,
    when,
)
from durakv.cli.recovery_reach import bases, ranges
from durakv.cli.recovery_survey import BACKUP_FILE, Progress, Survey, survey
from durakv.storage.errors import StorageError

_PIECE_BYTES: Final = 1 << 20
_ATTEMPTS: Final = 5


@click.group("backup")
def backup() -> None:
    """Make, check and list backups of data directories."""


@backup.command("create", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Make this directory.")
@json_option
def create(data: Path, out: Path, as_json: bool) -> None:
    """Copy checkpoint and log of DATA, also beside a running server. Exit code 0: the copy was read back and is
    whole.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists; name another place")
    with held_if_free(data) as live:
        partial = out.with_name(f".{out.name}.partial")
        try:
            document = None
            for _ in range(_ATTEMPTS if live else 1):
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                try:
                    document = _attempt(data, partial, live=live, quiet=as_json)
                except FileNotFoundError:
                    # The server dropped a segment, or a snapshot took the checkpoint's place.
                    if not live:
                        raise
                if document is not None:
                    break
            if document is None:
                raise NeedsDecision(f"{data}: the server drops its log faster than it can be copied; try again")
            partial.rename(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    sync_directory(out.parent)
    with bar("Reading the copy", quiet=as_json) as progress:
        faults = _faults(out, progress)
    if faults:
        raise StorageError(f"{out}: the copy is not what was written: {faults[0]}; check that disk, and try another")
    if as_json:
        show_json({"backup": str(out), **document})
        return
    click.echo(f"{out}: index {_reach(document)}, up to {when(document['last_time_ms'])}, {size_of(document['bytes'])}")
    if document["last"] > document["known_committed"]:
        click.echo(
            f"The entries from {document['known_committed'] + 1:,} on were not known to be committed on this node; a "
            "restore says so again"
        )


def _reach(document: dict[str, Any]) -> str:
    """The indexes it restores, as text."""
    spans = document.get("in_reach", [[0, document["last"]]])
    return " and ".join(f"{low:,}..{high:,}" for low, high in spans)


def _attempt(data: Path, out: Path, *, live: bool, quiet: bool) -> dict[str, Any] | None:
    """Copy everything; None when the log was dropped behind what was copied before. Raises StorageError, OSError."""
    first = Survey(str(data), live=live)
    look_at_checkpoint(first, thorough=False)
    look = first.checkpoint
    if look is not None and look.sound and look.index:
        with bar("Copying the checkpoint", quiet=quiet):
            copy_store(look, out / f"ckpt/env-{look.number}")
            write_name(out, look.number)
    with bar("Reading the log", quiet=quiet) as progress:
        found = sound(survey(str(data), progress, live=live), None)
    if found.identity is None:
        raise NeedsDecision(f"{data}: IDENTITY cannot be read; 'durakv-cli repair {data}' first")
    with bar("Copying the log", quiet=quiet) as progress:
        copied = _copied(found, out, progress)
    return _described(found, out, copied)


def _copied(found: Survey, out: Path, progress: Progress) -> list[dict[str, object]]:
    """IDENTITY and log; what was written. Raises OSError."""
    identity = found.identity
    assert identity is not None
    (out / "log").mkdir()
    # All are open before the first is copied: what a server drops from then on stays readable.
    sources = [ReadOnlyFile(scan.path) for scan in found.scans]
    total = sum(scan.end for scan in found.scans)
    files: list[dict[str, object]] = []
    done = 0
    try:
        for scan, source in zip(found.scans, sources, strict=True):
            name = f"log/{scan.path.rpartition('/')[2]}"
            files.append(_copy_file(source, out, name, scan.end))
            done += scan.end
            progress(done, total)
    finally:
        for source in sources:
            source.close()
    with result_file(out / "IDENTITY", force=False) as sink:
        sink.write(identity.encode())
    files.append(_measured(out, "IDENTITY"))
    files += [
        _measured(out, str(path.relative_to(out))) for path in sorted((out / "ckpt").rglob("*")) if path.is_file()
    ]
    return files


def _described(found: Survey, out: Path, files: list[dict[str, object]]) -> dict[str, Any] | None:
    """Write backup.json once the copy is known to be one history; None when it has a gap. Raises StorageError, "
    "OSError.
    """
    copy = survey(str(out), unseen, live=False)
    gap = [finding for finding in copy.findings if finding.path.startswith(("log", "ckpt"))]
    if gap and found.live:
        return None
    if gap:
        raise StorageError(f"{out}: the copy is not sound: {gap[0].line()}; run 'durakv-cli verify' on the source")
    look = copy.checkpoint
    last = copy.last_good
    known = last if found.alone() else min(found.known_committed, last)
    assert found.identity is not None
    document: dict[str, Any] = {
        "format": 2, "durakv": __version__, "at_ms": int(time.time() * 1000),
        "cluster": found.identity.cluster_id.hex(), "node": found.identity.node_id, "first": copy.first, "last": last,
        "chain": f"{copy.last_chain:08x}", "last_time_ms": copy.last_time_ms, "known_committed": known,
        "checkpoint": None if look is None else look.document(),
        "in_reach": [list(span) for span in ranges(bases(copy))],
        "bytes": sum(size for size in (one["bytes"] for one in files) if isinstance(size, int)), "files": files,
    }  # fmt: skip
    text = json.dumps(document).encode() + b"\n"
    with result_file(out / BACKUP_FILE, force=False) as sink:
        sink.write(text + hashlib.blake2b(text, digest_size=32).hexdigest().encode() + b"\n")
    for folder in sorted(path for path in out.rglob("*") if path.is_dir()):
        sync_directory(folder)
    sync_directory(out)
    return document


def _copy_file(source: ReadOnlyFile, out: Path, name: str, size: int) -> dict[str, object]:
    """The good frames only: what lies behind them is no part of the log yet."""
    digest = hashlib.blake2b(digest_size=32)
    with result_file(out / name, force=False) as sink:
        for at in range(0, size, _PIECE_BYTES):
            piece = source.pread(min(_PIECE_BYTES, size - at), at)
            digest.update(piece)
            sink.write(piece)
    return {"name": name, "bytes": size, "blake2b": digest.hexdigest()}


def _measured(folder: Path, name: str) -> dict[str, object]:
    digest = hashlib.blake2b(digest_size=32)
    file = ReadOnlyFile(str(folder / name), direct=True)
    try:
        size = file.size()
        for at in range(0, size, _PIECE_BYTES):
            digest.update(file.pread(_PIECE_BYTES, at))
    finally:
        file.close()
    return {"name": name, "bytes": size, "blake2b": digest.hexdigest()}


def read_description(folder: Path) -> dict[str, Any]:
    """backup.json. Raises NeedsDecision when it is missing or damaged."""
    path = folder / BACKUP_FILE
    if not path.exists():
        raise NeedsDecision(f"{folder}: is no backup (it has no {BACKUP_FILE}); name one that 'backup list' shows")
    text, _, tail = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
    if hashlib.blake2b(text + b"\n", digest_size=32).hexdigest().encode() != tail:
        raise NeedsDecision(
            f"{path}: damaged; what the log holds can still be read: 'durakv-cli inspect {folder}', 'durakv-cli "
            f"restore'"
        )
    document: dict[str, Any] = json.loads(text)
    return document


def _faults(folder: Path, progress: Progress) -> list[str]:
    """What in a backup is not as its description says."""
    document = read_description(folder)
    faults = []
    for want in document["files"]:
        if not (folder / want["name"]).exists():
            faults.append(f"{want['name']}: missing")
        elif _measured(folder, want["name"]) != want:
            faults.append(f"{want['name']}: its content is not what was saved")
    found = survey(str(folder), progress, live=False, thorough=True)
    faults += [finding.line() for finding in found.findings]
    if found.last_good != document["last"] or f"{found.last_chain:08x}" != document["chain"]:
        faults.append(f"log: ends at index {found.last_good}, not at {document['last']} with chain {document['chain']}")
    return faults


@backup.command("verify", cls=RecoveryCommand)
@click.argument("folder", type=DATA)
@json_option
def verify_backup(folder: Path, as_json: bool) -> None:
    """Check every byte of the backup in FOLDER. Exit code 0: whole; 2: damaged."""
    with bar("Reading the backup", quiet=as_json) as progress:
        faults = _faults(folder, progress)
    if as_json:
        show_json({"backup": str(folder), "faults": faults})
    else:
        for fault in faults:
            click.echo(fault)
        click.echo(
            "WHOLE" if not faults else f"{len(faults)} FAULTS; use another backup, or 'durakv-cli restore {folder} "
            "--to-index' up to where 'durakv-cli inspect' says that its log can be read"
        )  # fmt: skip
    sys.exit(EXIT_DAMAGED if faults else EXIT_CLEAN)


@backup.command("list", cls=RecoveryCommand)
@click.argument("folder", type=DATA)
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List the backups in FOLDER, oldest first, without checking their data."""
    rows: list[dict[str, Any]] = []
    for path in sorted(entry.parent for entry in folder.glob(f"*/{BACKUP_FILE}")):
        try:
            document = read_description(path)
        except NeedsDecision as error:
            rows.append({"backup": str(path), "at_ms": 0, "error": str(error)})
        else:
            rows.append({"backup": str(path), **document})
    rows.sort(key=lambda row: (row["at_ms"], row["backup"]))
    if as_json:
        show_json({"backups": rows})
        return
    for row in rows:
        if "error" in row:
            click.echo(row["error"])
        else:
            click.echo(
                f"{row['backup']}: {when(row['at_ms'])} cluster {row['cluster'][:8]} node {row['node']} index "
                f"{_reach(row)} up to {when(row['last_time_ms'])}, {size_of(row['bytes'])}"
            )
    if not rows:
        click.echo(f"{folder} holds no backup")
