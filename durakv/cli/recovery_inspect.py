"""``durakv-cli inspect`` and ``space``: what a data directory is, what its log holds, what takes the room.

Rule: shows, judges nothing itself, writes nothing; safe beside a running server.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_progress import bar
from durakv.cli.recovery_entries import entry_at
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_CLEAN,
    RecoveryCommand,
    is_live,
    json_option,
    show_json,
    size_of,
    when,
)
from durakv.cli.recovery_survey import BACKUP, CUTS_TAIL, REFUSES, Survey, survey
from durakv.replication import addresses
from durakv.storage.health import RESERVE_NAME
from durakv.storage.segment import SPARE_NAME, segment_number

_SHOWN_SEGMENTS: Final = 12
# How far back from an end of the log a frame with a time of its own is looked for.
_TIME_STEPS: Final = 256


@click.command("inspect", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--all-segments", is_flag=True, help=f"List all segments, not only the newest {_SHOWN_SEGMENTS}.")
@json_option
def inspect_(data: Path, all_segments: bool, as_json: bool) -> None:
    """Show whose data DATA holds, the state of its log, and what a server started on it would do."""
    with bar("Reading the log", quiet=as_json) as progress:
        found = survey(str(data), progress, live=is_live(data))
    if as_json:
        show_json(document(found))
        return
    for line in _lines(found, _SHOWN_SEGMENTS if not all_segments else 1 << 30):
        click.echo(line)


def document(found: Survey) -> dict[str, object]:
    """Everything the survey found, for --json."""
    identity, hard, m = found.identity, found.hard, found.membership
    return {
        "directory": found.directory,
        "in_use": found.live,
        "identity": None if identity is None else {
            "cluster": identity.cluster_id.hex(), "node": identity.node_id, "created_ms": identity.created_ms,
            "format": 1,
        },
        "hard_state": None if hard is None else {
            "term": hard.term, "voted_for": hard.voted_for, "commit_hint": hard.commit_hint,
            "synced_hint": hard.synced_hint, "seq": found.hard_seq, "slot": found.hard_slot,
            "replication_set": list(hard.replication_set), "incarnation": hard.incarnation,
        },
        "log": {
            "first": found.scans[0].header.base if found.scans else None,
            "last": found.last_good if found.scans else None,
            "terms": _terms(found),
            "chain": f"{found.scans[-1].last_chain:08x}" if found.scans else None,
            "first_time_ms": _time_near(found, first=True), "last_time_ms": _time_near(found, first=False),
            "segments": [
                {
                    "file": scan.path.rpartition("/")[2], "first": scan.header.base, "last": scan.last_index,
                    "bytes_used": scan.end, "bytes": scan.file_bytes, "sealed": scan.sealed,
                    "created_ms": scan.header.created_ms,
                }
                for scan in found.scans
            ],
            "unusable_segments": found.segment_files[len(found.scans):],
        },
        "membership": None if m is None else {
            "index": found.configuration_index, "voters": list(m.voters), "voters_outgoing": list(m.voters_outgoing),
            "learners": list(m.learners), "witness": m.witness_id() or None, "addresses": _addresses(found),
        },
        "known_committed": found.known_committed,
        "verdict": found.verdict.outcome.value if found.verdict is not None else "corrupt",
        "start": found.outcome,
        "findings": [finding.document() for finding in found.findings],
    }  # fmt: skip


def _terms(found: Survey) -> list[int]:
    if not found.scans or not found.last_good:
        return []
    return [found.runs.term(1), found.scans[-1].last_term]


def _time_near(found: Survey, *, first: bool) -> int:
    """The time of the first or last entry that has one, if it is near that end; 0 otherwise."""
    last = found.last_good
    for step in range(min(_TIME_STEPS, last)):
        entry = entry_at(found.disk, found.scans, 1 + step if first else last - step)
        if entry.ts_ms:
            return entry.ts_ms
    return 0


def _addresses(found: Survey) -> dict[str, str]:
    if found.membership is None or not found.membership.context:
        return {}
    book = addresses.decode(found.membership.context)
    shown = {str(n): f"{a.host}:{a.client_port}@{a.peer_port}" for n, a in sorted(book.items())}
    witness = addresses.decode_witness(found.membership.context)
    if witness is not None:
        shown[str(witness[0])] = f"witness {witness[1]}"
    return shown


def _lines(found: Survey, segments_max: int) -> list[str]:
    lines = []
    identity, hard, m = found.identity, found.hard, found.membership
    if identity is not None:
        lines.append(
            f"identity    cluster {identity.cluster_id.hex()} node {identity.node_id} format 1, created "
            f"{when(identity.created_ms)}"
        )
    elif found.scans:
        header = found.scans[0].header
        lines.append(
            f"identity    UNREADABLE; the log's own copy says cluster {header.cluster_id.hex()} node {header.node_id}"
        )
    if hard is not None:
        lines.append(
            f"hard state  term {hard.term} vote {hard.voted_for or 'nobody'} seq {found.hard_seq} (slot "
            f"{found.hard_slot}), "
            f"commit hint {hard.commit_hint:,}, synced hint {hard.synced_hint:,}"
        )
    if found.scans:
        terms = _terms(found)
        used, size = sum(scan.end for scan in found.scans), sum(scan.file_bytes for scan in found.scans)
        span = f"index {1:,}..{found.last_good:,}, term {terms[0]}..{terms[-1]}" if terms else "no entry"
        lines.append(
            f"log         {len(found.scans)} segments, {span}, {size_of(used)} of {size_of(size)}, chain "
            f"{found.scans[-1].last_chain:08x}"
        )
        lines.append(f"time        {when(_time_near(found, first=True))} .. {when(_time_near(found, first=False))}")
        hidden = max(len(found.scans) - segments_max, 0)
        if hidden:
            lines.append(f"segments    {hidden} older ones not listed (--all-segments)")
        lines += [
            f"            {scan.path.rpartition('/')[2]} {scan.header.base:,}..{scan.last_index:,} {size_of(scan.end)}"
            f"{' sealed' if scan.sealed else ''}"
            for scan in found.scans[hidden:]
        ]
    if m is not None:
        lines.append(f"membership  {m!r} at index {found.configuration_index:,}")
        lines += [f"            {node} {address}" for node, address in _addresses(found).items()]
    lines += [f"finding     {finding.line()}\n            do: {finding.repair}" for finding in found.findings]
    lines.append(f"verdict     {_verdict(found)}")
    return lines


def _verdict(found: Survey) -> str:
    if found.live:
        return "IN USE by a running server; the end of the log was still being written and is not judged"
    if found.outcome == REFUSES:
        return "DAMAGED: a server refuses to start and changes nothing"
    if found.outcome == BACKUP:
        return f"BACKUP of {found.last_good:,} entries: no server starts on it; use durakv-cli restore"
    assert found.verdict is not None
    if found.outcome == CUTS_TAIL:
        return (
            f"TORN TAIL: a server starts with index {found.last_good:,}, after moving the bytes behind offset "
            f"{found.verdict.offset:#x} to quarantine/"
        )
    unknown = max(found.last_good - found.known_committed, 0)
    tail = f"; replays {found.last_good:,} entries"
    if unknown and not found.alone():
        tail += f", of which this node did not know the last {unknown:,} to be committed"
    return f"CLEAN: {found.verdict.detail}{tail}"


# -- space -------------------------------------------------------------------------------------------------------------


class Room:
    """One kind of file: how many, how large (allocated bytes), and whether it can go."""

    def __init__(self, name: str, advice: str) -> None:
        self.name = name
        self.advice = advice
        self.files = 0
        self.size = 0


@click.command("space", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@json_option
def space(data: Path, as_json: bool) -> None:
    """Show what in DATA takes how much room, and what of it can go."""
    live = is_live(data)
    rooms = _rooms(data)
    stat = os.statvfs(data)
    free = stat.f_bavail * stat.f_frsize
    if as_json:
        show_json({
            "directory": str(data), "in_use": live, "free_bytes": free,
            "rooms": [
                {"name": room.name, "files": room.files, "bytes": room.size, "advice": room.advice} for room in rooms
            ],
        })  # fmt: skip
        raise SystemExit(EXIT_CLEAN)
    for room in rooms:
        click.echo(f"{room.name:<18} {room.files:>5,} files {size_of(room.size):>14}   {room.advice}")
    click.echo(f"{'free on the volume':<18} {'':>11} {size_of(free):>14}")


def _rooms(data: Path) -> list[Room]:
    log = Room("log", "needed: the server's data")
    spare = Room("next segment", "allocated ahead; a stopped server's can be deleted")
    reserve = Room("reserve", f"{RESERVE_NAME}: can be deleted in need; the next start makes it again")
    kept = Room("quarantine", "kept for you: move it elsewhere once the reasons in its audit files are settled")
    rest = Room("other", "identity, hard state and what else lies there: leave it")
    for folder, _, names in os.walk(data):
        inside = Path(folder).relative_to(data).parts
        for name in names:
            if inside[:1] == ("quarantine",):
                room = kept
            elif inside == ("log",) and segment_number(name) is not None:
                room = log
            elif inside == ("log",) and name == SPARE_NAME:
                room = spare
            elif not inside and name == RESERVE_NAME:
                room = reserve
            else:
                room = rest
            try:
                stat = (Path(folder) / name).lstat()
            except FileNotFoundError:
                continue  # a running server's spare became a segment
            room.files += 1
            room.size += stat.st_blocks * 512
    return [log, spare, reserve, kept, rest]
