"""``durakv-cli verify``: every byte that has a checksum is checked; with --deep every entry is applied as well.

With a checkpoint and a log from the first entry on, --deep also builds the state at the checkpoint's index from the log
alone and compares the two: they come about in different ways and must be equal.

Rule: changes nothing, and names for each fault the file, the offset, the index and the repair. Beside a running server
the end of the log, which is still being written, is not judged.
"""

from __future__ import annotations

import gc
import struct
import sys
from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_progress import bar
from durakv.cli.recovery_entries import StoredEntry, stored_entries
from durakv.cli.recovery_inspect import document
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_CLEAN,
    EXIT_DAMAGED,
    NeedsDecision,
    RecoveryCommand,
    databases_option,
    held_if_free,
    json_option,
    show_json,
)
from durakv.cli.recovery_payload import PayloadError, decode_payload
from durakv.cli.recovery_reach import bases
from durakv.cli.recovery_rebuild import Rebuilt
from durakv.cli.recovery_survey import Progress, Survey, survey
from durakv.keyspace.digest import digest
from durakv.replication import addresses
from durakv.storage.entries import KIND_CONFIG, KIND_NORMAL
from raft.types import DecodeError, Membership

_ATTEMPTS: Final = 5
_NEWER: Final = "use the durakv version that wrote it; if it was this one, keep the directory and report a bug"


class Deep:
    """What applying the entries told: how many, how many keys there were at the end."""

    def __init__(self) -> None:
        self.entries = 0
        self.commands = 0
        self.keys = 0
        self.internal_errors = 0
        # Whether the checkpoint is what the log leads to; None when the log does not go back far enough.
        self.equal: bool | None = None


@click.command("verify", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--deep", is_flag=True, help="Also decode and apply every entry.")
@databases_option
@json_option
def verify(data: Path, deep: bool, databases: int, as_json: bool) -> None:
    """Check the files of DATA. Exit code 0: all well; 2: damage was found."""
    with held_if_free(data) as live:
        for attempt in range(_ATTEMPTS):
            try:
                found, applied = _checked(data, databases, deep=deep, live=live, quiet=as_json)
                break
            except FileNotFoundError:
                # The server dropped a segment after it was found good.
                if not live or attempt == _ATTEMPTS - 1:
                    raise
    code = EXIT_DAMAGED if found.findings else EXIT_CLEAN
    if as_json:
        told = document(found)
        told["deep"] = None if applied is None else {
            "entries": applied.entries, "commands": applied.commands, "keys": applied.keys,
            "internal_errors": applied.internal_errors, "checkpoint_equals_log": applied.equal,
        }  # fmt: skip
        show_json(told)
    else:
        _show(found, applied)
    sys.exit(code)


def _checked(data: Path, databases: int, *, deep: bool, live: bool, quiet: bool) -> tuple[Survey, Deep | None]:
    with bar("Reading the log", quiet=quiet) as progress:
        found = survey(str(data), progress, live=live, thorough=True)
    if not deep or not bases(found):
        return found, None
    with bar("Applying the entries", quiet=quiet) as progress:
        return found, apply_all(found, databases, progress)


def _show(found: Survey, applied: Deep | None) -> None:
    for finding in found.findings:
        click.echo(finding.line())
        click.echo(f"    repair: {finding.repair}")
    for note in found.notes:
        click.echo(f"note: {note}")
    state = "in use by a server, its newest entries not judged" if found.live else found.outcome
    end = found.scans[-1].last_index if found.scans else found.first - 1
    click.echo(f"{len(found.segment_files)} segments, entries {found.first:,}..{end:,} readable; {state}")
    look = found.checkpoint
    if look is not None and look.verified is not None and look.applied is not None and not look.verified.findings:
        rows = look.verified.keys + look.verified.elements + look.verified.aux
        click.echo(
            f"checkpoint env-{look.number} at index {look.index:,}: {rows:,} rows and all pages sound, counts and sums "
            f"fit, {look.keys:,} keys"
        )
    if applied is not None:
        click.echo(f"{applied.entries:,} entries applied: {applied.commands:,} commands, {applied.keys:,} keys at last")
        if applied.equal:
            click.echo("the checkpoint is what the log from its first entry leads to")
        if applied.internal_errors:
            click.echo(f"{applied.internal_errors:,} commands failed inside and were undone, as on every node")
    click.echo("CLEAN" if not found.findings else f"{len(found.findings)} FAULTS")


def apply_all(found: Survey, databases: int, progress: Progress) -> Deep:
    """Decode and apply every readable entry behind the checkpoint, and before it when the log begins with the first;
    what cannot be becomes findings, and ends the applying. Raises StorageError, OSError.
    """
    told = Deep()
    oldest = bases(found)[-1]
    newest = next(base for base in bases(found) if base.last == max(each.last for each in bases(found)))
    rebuilt = Rebuilt(found, databases, newest)
    gc.disable()
    try:
        if oldest.look is None and newest.look is not None and oldest.last >= newest.index:
            early = Rebuilt(found, databases, oldest)
            early.begin(0)
            if not _apply(found, early, newest.index, told, progress):
                return told
            rebuilt.begin(newest.index)
            told.equal = digest(early.keyspace) == digest(rebuilt.keyspace)
            if not told.equal:
                found.add(
                    newest.look.path, 0, newest.index, "it holds other data than the log leads to",
                    "keep the directory and report a bug; 'durakv-cli repair' does not decide which of them is right",
                )  # fmt: skip
                return told
        rebuilt.begin(newest.index)
        _apply(found, rebuilt, newest.last, told, progress)
    finally:
        gc.enable()
    told.keys = sum(db.size for db in rebuilt.keyspace.dbs)
    return told


def _apply(found: Survey, rebuilt: Rebuilt, last: int, told: Deep, progress: Progress) -> bool:
    """Up to entry ``last``; whether all of them could be."""
    assert rebuilt.base is not None
    for entry in stored_entries(found.disk, rebuilt.base.scans, rebuilt.index + 1, last, progress):
        fault = _fault(entry, told)
        if not fault:
            try:
                rebuilt.apply(entry)
            except NeedsDecision as error:
                fault = str(error)
            except (AssertionError, ValueError, TypeError, LookupError, RuntimeError, struct.error) as error:
                # Whatever a damaged payload does to the engine is what is being looked for.
                fault = f"applying it fails: {type(error).__name__}: {error}"
        if fault:
            found.add(entry.path, entry.offset, entry.index, fault, _NEWER)
            return False
        told.entries += 1
    told.internal_errors += rebuilt.applier.internal_errors
    return True


def _fault(entry: StoredEntry, told: Deep) -> str:
    """What is wrong with the content of an entry; empty when it can be applied."""
    try:
        if entry.kind == KIND_NORMAL:
            payload = decode_payload(entry.data)
            told.commands += sum(len(item.commands) for item in payload.items)
            if entry.ts_ms != payload.now_ms or entry.ncmd != min(len(payload.items), 0xFFFF):
                return (
                    f"the frame says time {entry.ts_ms} and {entry.ncmd} commands, its payload {payload.now_ms} and "
                    f"{len(payload.items)}"
                )
        elif entry.kind == KIND_CONFIG:
            addresses.decode(Membership.decode(entry.data).context)
    except (PayloadError, DecodeError, ValueError) as error:
        return f"cannot be decoded: {error}"
    return ""
