"""``durakv-cli log dump``: entries of the log as lines or JSON, one a line.

Rule: what is shown can be printed to any terminal: every byte outside plain ASCII is escaped, secrets of ACL and AUTH
are hidden, long arguments are cut unless asked for. Safe beside a running server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_progress import unseen
from durakv.cli.recovery_entries import StoredEntry, stored_entries
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_DAMAGED,
    NeedsDecision,
    RecoveryCommand,
    is_live,
    json_option,
    more_option,
    when,
)
from durakv.cli.recovery_payload import COMMAND, TRANSACTION, Command, Item, PayloadError, decode_payload
from durakv.cli.recovery_survey import Survey, survey
from durakv.commands.glob import glob_match
from durakv.commands.table import Table, build_table
from durakv.observe.redact import quoted, redacted
from durakv.resp.errors import CommandError
from durakv.storage.entries import KIND_CONFIG, KIND_NORMAL
from durakv.storage.scan import SegmentScan
from raft.types import DecodeError, Membership

_SHOWN_BYTES: Final = 120
_KINDS: Final = ("payload", "noop", "config")


class Style:
    """What to show, and how much of it. ``table`` tells keys from other arguments."""

    def __init__(self, table: Table, pattern: bytes | None, shown_bytes: int) -> None:
        self.table = table
        self.pattern = pattern
        self.shown_bytes = shown_bytes


@click.group("log")
def log_() -> None:
    """Look into the log of a data directory."""


@log_.command("dump", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--from", "first", type=click.IntRange(min=1), help="First index.  [default: the log's first]")
@click.option("--to", "last", type=click.IntRange(min=1), help="Last index.  [default: the log's last]")
@click.option("--key", help="Only commands on keys that match this pattern (as KEYS takes it).")
@click.option("--full", is_flag=True, help=f"Show arguments whole, not only {_SHOWN_BYTES} bytes of each.")
@more_option
@json_option
def dump(
    data: Path, first: int | None, last: int | None, key: str | None, full: bool, more: tuple[str, ...], as_json: bool
) -> None:
    """Print the log entries of DATA. With --json each line is a document."""
    found = survey(str(data), unseen, live=is_live(data), more=more)
    pattern = None if key is None else key.encode("utf-8", "surrogateescape")
    style = Style(build_table(), pattern, sys.maxsize if full else _SHOWN_BYTES)
    runs = found.pool if more else [found.scans]
    begin = min((run[0].header.base for run in runs if run), default=found.first)
    readable = max((run[-1].last_index for run in runs if run), default=0)
    end = readable if last is None else min(last, readable)
    broken = False
    if first is not None and first < begin:
        raise NeedsDecision(
            f"{data}: the log begins at index {begin}: what came before is in the checkpoint; older segments may lie "
            "in archive-dir or a backup, which --archive names"
        )
    for entry in _entries(found, runs, begin if first is None else first, end):
        document = described(entry, style)
        broken = broken or "error" in document
        if pattern is not None and not document.get("items"):
            continue
        if as_json:
            click.echo(json.dumps(document))
        else:
            for line in _lines(document):
                click.echo(line)
    wanted_more = last is None or last > readable
    if wanted_more and any(finding.index == readable + 1 and finding.stops for finding in found.findings):
        click.echo(f"Stopped before index {readable + 1}: the log is damaged there; see durakv-cli verify", err=True)
        broken = True
    if broken:
        sys.exit(EXIT_DAMAGED)


def _entries(found: Survey, runs: list[list[SegmentScan]], first: int, last: int) -> Iterator[StoredEntry]:
    """Each entry once, in order, of stretches that may overlap."""
    for run in sorted((run for run in runs if run), key=lambda run: run[0].header.base):
        try:
            for entry in stored_entries(found.disk, run, first, last):
                yield entry
                first = entry.index + 1
        except FileNotFoundError:
            if not found.live:
                raise
            raise NeedsDecision(
                f"{found.directory}: the server dropped the segment of index {first} while it was read, for the "
                f"checkpoint covers it; begin later, or name archive-dir with --archive"
            ) from None


def described(entry: StoredEntry, style: Style) -> dict[str, object]:
    """An entry as a document; ``items`` only for payloads, restricted to what the style's pattern matches."""
    document: dict[str, object] = {
        "index": entry.index, "term": entry.term, "subterm": entry.subterm, "kind": _KINDS[entry.kind],
        "segment": entry.path.rpartition("/")[2], "offset": entry.offset, "bytes": len(entry.data),
        "time_ms": entry.ts_ms or None, "time": when(entry.ts_ms),
    }  # fmt: skip
    if entry.kind == KIND_CONFIG:
        try:
            document["membership"] = repr(Membership.decode(entry.data))
        except DecodeError as error:
            document["error"] = str(error)
    elif entry.kind == KIND_NORMAL:
        try:
            payload = decode_payload(entry.data)
        except PayloadError as error:
            document["error"] = str(error)
            return document
        items = [_item(item, style) for item in payload.items]
        document["items"] = [item for item in items if item["commands"] or style.pattern is None]
    return document


def _item(item: Item, style: Style) -> dict[str, object]:
    commands = [
        {
            "db": command.db,
            "argv": [shown(argument, style.shown_bytes) for argument in redacted(command.argv)],
            "keys": [shown(key, style.shown_bytes) for key in _keys(item, command, style.table)],
        }
        for command in item.commands
        if style.pattern is None or any(glob_match(style.pattern, key) for key in _keys(item, command, style.table))
    ]
    return {"kind": item.kind, "commands": commands}


def keys_of(table: Table, argv: list[bytes]) -> list[bytes]:
    """The keys a logged command names; none for what this version does not know."""
    try:
        return table.find(argv).keys(argv)
    except CommandError:
        return []


def _keys(item: Item, command: Command, table: Table) -> list[bytes]:
    if item.kind in (COMMAND, TRANSACTION):
        return keys_of(table, command.argv)
    return command.argv[1:] if item.kind in ("sweep", "evict") else []


def shown(argument: bytes, most: int = _SHOWN_BYTES) -> str:
    """Printable, without the quotes around it."""
    text = quoted(argument[:most]).decode("ascii")[1:-1]
    return text if len(argument) <= most else f"{text}... ({len(argument):,} bytes)"


def _lines(document: dict[str, object]) -> list[str]:
    subterm = f".{document['subterm']}" if document["subterm"] else ""
    head = f"{document['index']} term {document['term']}{subterm} {document['time']} {document['kind']}"
    for word in ("membership", "error"):
        if word in document:
            return [f"{head} {document[word]}"]
    items = document.get("items")
    if not isinstance(items, list):
        return [head]
    lines = [head]
    for item in items:
        if item["kind"] == TRANSACTION:
            lines.append("    MULTI")
        for command in item["commands"]:
            words = " ".join(f'"{argument}"' for argument in command["argv"])
            lines.append(f"    {'  ' if item['kind'] == TRANSACTION else ''}[{command['db']}] {words}")
    return lines
