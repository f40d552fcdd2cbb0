"""``durakv-cli verify``: every byte that has a checksum is checked; with --deep every entry is applied as well.

Rule: changes nothing, and names for each fault the file, the offset, the index and the repair. Beside a running server
the end of the log, which is still being written, is not judged.
"""

from __future__ import annotations

import gc
import struct
import sys
from pathlib import Path

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
from durakv.cli.recovery_rebuild import Rebuilt
from durakv.cli.recovery_survey import Progress, Survey, survey
from durakv.replication import addresses
from durakv.storage.entries import KIND_CONFIG, KIND_NORMAL
from raft.types import DecodeError, Membership

_NEWER = "use the durakv version that wrote it; if it was this one, keep the directory and report a bug"


class Deep:
    """What applying the entries told: how many, how many keys there were at the end."""

    def __init__(self) -> None:
        self.entries = 0
        self.commands = 0
        self.keys = 0
        self.internal_errors = 0


@click.command("verify", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--deep", is_flag=True, help="Also decode and apply every entry.")
@databases_option
@json_option
def verify(data: Path, deep: bool, databases: int, as_json: bool) -> None:
    """Check the files of DATA. Exit code 0: all well; 2: damage was found."""
    with held_if_free(data) as live:
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=live)
        applied: Deep | None = None
        if deep and found.scans:
            with bar("Applying the entries", quiet=as_json) as progress:
                applied = apply_all(found, databases, progress)
    code = EXIT_DAMAGED if found.findings else EXIT_CLEAN
    if as_json:
        told = document(found)
        told["deep"] = None if applied is None else {
            "entries": applied.entries, "commands": applied.commands, "keys": applied.keys,
            "internal_errors": applied.internal_errors,
        }  # fmt: skip
        show_json(told)
    else:
        _show(found, applied)
    sys.exit(code)


def _show(found: Survey, applied: Deep | None) -> None:
    for finding in found.findings:
        click.echo(finding.line())
        click.echo(f"    repair: {finding.repair}")
    state = "in use by a server, its newest entries not judged" if found.live else found.outcome
    click.echo(f"{len(found.segment_files)} segments, {found.last_good:,} entries readable; {state}")
    if applied is not None:
        click.echo(f"{applied.entries:,} entries applied: {applied.commands:,} commands, {applied.keys:,} keys at last")
        if applied.internal_errors:
            click.echo(f"{applied.internal_errors:,} commands failed inside and were undone, as on every node")
    click.echo("CLEAN" if not found.findings else f"{len(found.findings)} FAULTS")


def apply_all(found: Survey, databases: int, progress: Progress) -> Deep:
    """Decode and apply every readable entry; what cannot be becomes findings, and ends the applying."""
    told = Deep()
    rebuilt = Rebuilt(found, databases)
    applier = rebuilt.applier
    gc.disable()
    try:
        for entry in stored_entries(found.disk, found.scans, 1, found.last_good, progress):
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
                break
            told.entries += 1
    finally:
        gc.enable()
    told.keys = sum(db.size for db in rebuilt.keyspace.dbs)
    told.internal_errors = applier.internal_errors
    return told


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
