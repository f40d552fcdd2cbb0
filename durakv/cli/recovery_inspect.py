"""``durakv-cli inspect`` and ``space``: what a data directory is, what its log holds, what takes the room.

Rule: shows, judges nothing itself, writes nothing; safe beside a running server.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from durakv.cli.admin_progress import bar, unseen
from durakv.cli.recovery_checkpoint import stream_left
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
from durakv.cli.recovery_reach import bases, ranges
from durakv.cli.recovery_survey import BACKUP, CUTS_TAIL, FINISHES, REFUSES, Survey, survey
from durakv.replication import addresses
from durakv.storage.health import RESERVE_NAME
from durakv.storage.segment import SPARE_NAME, segment_number

_SHOWN_SEGMENTS: Final = 12


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
            "first": found.first if found.scans else None,
            "last": found.last_good if found.scans else None,
            "terms": found.terms,
            "chain": f"{found.last_chain:08x}" if found.scans else None,
            "first_time_ms": found.first_time_ms, "last_time_ms": found.last_time_ms,
            "segments": [
                {
                    "file": scan.path.rpartition("/")[2], "first": scan.header.base, "last": scan.last_index,
                    "bytes_used": scan.end, "bytes": scan.file_bytes, "sealed": scan.sealed,
                    "created_ms": scan.header.created_ms,
                }
                for scan in found.scans
            ],
            "unusable_segments": _unusable(found), "before_checkpoint": found.unneeded,
        },
        "checkpoint": None if found.checkpoint is None else {
            **found.checkpoint.document(), "entries_to_replay": _to_replay(found),
        },
        "stream": dict(zip(("files", "bytes"), stream_left(found), strict=True)),
        "in_reach": [list(span) for span in ranges(bases(found))],
        "membership": None if m is None else {
            "index": found.configuration_index, "voters": list(m.voters), "voters_outgoing": list(m.voters_outgoing),
            "learners": list(m.learners), "witness": m.witness_id() or None, "addresses": _addresses(found),
        },
        "known_committed": found.known_committed,
        "verdict": found.verdict.outcome.value if found.verdict is not None else "corrupt",
        "start": found.outcome,
        "findings": [finding.document() for finding in found.findings],
        "notes": found.notes,
    }  # fmt: skip


def _unusable(found: Survey) -> list[str]:
    used = {scan.path.rpartition("/")[2] for scan in found.scans}
    return [name for name in found.segment_files if name not in used]


def _to_replay(found: Survey) -> int:
    covered = found.covered()
    return found.last_good - (0 if covered is None else covered.index)


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
    elif (owner := found.owner()) is not None:
        lines.append(f"identity    UNREADABLE; the log's own copy says cluster {owner[0].hex()} node {owner[1]}")
    if hard is not None:
        lines.append(
            f"hard state  term {hard.term} vote {hard.voted_for or 'nobody'} seq {found.hard_seq} (slot "
            f"{found.hard_slot}), "
            f"commit hint {hard.commit_hint:,}, synced hint {hard.synced_hint:,}"
        )
    if found.scans:
        terms = found.terms
        used, size = sum(scan.end for scan in found.scans), sum(scan.file_bytes for scan in found.scans)
        end = found.scans[-1].last_index
        span = f"index {found.first:,}..{end:,}, term {terms[0]}..{terms[-1]}" if terms else "no entry"
        if not terms and found.first > 1:
            span += f", begins behind index {found.first - 1:,}"
        lines.append(
            f"log         {len(found.scans)} segments, {span}, {size_of(used)} of {size_of(size)}, chain "
            f"{found.scans[-1].last_chain:08x}"
        )
        lines.append(f"time        {when(found.first_time_ms)} .. {when(found.last_time_ms)}")
        hidden = max(len(found.scans) - segments_max, 0)
        if hidden:
            lines.append(f"segments    {hidden} older ones not listed (--all-segments)")
        lines += [
            f"            {scan.path.rpartition('/')[2]} {scan.header.base:,}..{scan.last_index:,} {size_of(scan.end)}"
            f"{' sealed' if scan.sealed else ''}{', before the checkpoint' if at < found.unneeded else ''}"
            for at, scan in enumerate(found.scans[hidden:], hidden)
        ]
        lines += [f"            {name} not part of it" for name in _unusable(found)]
    elif found.segment_files:
        lines.append(f"log         {len(found.segment_files)} segments, none usable")
    lines += _checkpoint_lines(found)
    if m is not None:
        lines.append(f"membership  {m!r} at index {found.configuration_index:,}")
        lines += [f"            {node} {address}" for node, address in _addresses(found).items()]
    lines += [f"note        {note}" for note in found.notes]
    lines += [f"finding     {finding.line()}\n            do: {finding.repair}" for finding in found.findings]
    lines.append(f"verdict     {_verdict(found)}")
    return lines


def _checkpoint_lines(found: Survey) -> list[str]:
    look = found.checkpoint
    files, size = stream_left(found)
    left = f"; {files} files of changes not in it ({size_of(size)}), which a start throws away" if files else ""
    if found.live:
        left = f"; {files} files of changes on their way into it ({size_of(size)})" if files else ""
    if look is None:
        return [f"checkpoint  none: a start replays the log from its first entry{left}"]
    if not look.sound or look.applied is None:
        state = "empty" if look.sound else "UNUSABLE"
        return [f"checkpoint  env-{look.number} {state}, {size_of(look.file_bytes)}{left}"]
    at = look.applied
    checked = ", every row checked" if look.verified is not None and not look.verified.findings else ""
    return [
        (
            f"checkpoint  env-{look.number} index {at.index:,} term {at.term} of {when(at.ts_ms)}, {look.keys:,} keys, "
            f"{size_of(look.file_bytes)}{checked}; {_to_replay(found):,} entries to replay{left}"
        )
    ]


def _verdict(found: Survey) -> str:
    if found.live:
        return "IN USE by a running server; the end of the log was still being written and is not judged"
    if found.outcome == REFUSES:
        return "DAMAGED: a server refuses to start and changes nothing"
    if found.outcome == BACKUP:
        spans = " and ".join(f"{low:,}..{high:,}" for low, high in ranges(bases(found)))
        return f"BACKUP that reaches index {spans}: no server starts on it; use durakv-cli restore"
    if found.outcome == FINISHES:
        return "HALF-INSTALLED SNAPSHOT: a server finishes the installation and starts; see the note"
    assert found.verdict is not None
    if found.outcome == CUTS_TAIL:
        return (
            f"TORN TAIL: a server starts with index {found.last_good:,}, after moving the bytes behind offset "
            f"{found.verdict.offset:#x} to quarantine/"
        )
    unknown = max(found.last_good - found.known_committed, 0)
    tail = f"; replays {_to_replay(found):,} entries"
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
@click.option(
    "--archive", multiple=True, type=click.Path(file_okay=False, exists=True), help="The server's archive-dir."
)
@json_option
def space(data: Path, archive: tuple[str, ...], as_json: bool) -> None:
    """Show what in DATA takes how much room, and what of it can go."""
    live = is_live(data)
    found = survey(str(data), unseen, live=live)
    rooms = _rooms(data, archive, found)
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


def _rooms(data: Path, archives: tuple[str, ...], found: Survey) -> list[Room]:
    rooms = {
        "log": Room("log", "needed: the server's data"),
        "covered": Room("log, covered", "the checkpoint holds it; a server drops what log-follower-keep does not keep"),
        "spare": Room("next segment", "allocated ahead; a stopped server's can be deleted"),
        "ckpt": Room("checkpoint", "needed: the server's data"),
        "stale": Room("old checkpoints", "nothing uses them; a stopped server's can be deleted"),
        "snapshots": Room("snapshots", "for members far behind; go by themselves, a stopped server's can be deleted"),
        "fx": Room("fx", "changes on their way into the checkpoint; a stopped server's can be deleted"),
        "archive": Room(
            "archive", "to restore points before the checkpoint: a backup makes what it covers unnecessary"
        ),
        "reserve": Room("reserve", f"{RESERVE_NAME}: can be deleted in need; the next start makes it again"),
        "kept": Room("quarantine", "kept for you: move it elsewhere once the reasons in its audit files are settled"),
        "rest": Room("other", "identity, hard state and what else lies there: leave it"),
    }
    look = found.checkpoint
    current = f"env-{look.number}" if look is not None and look.named else ""
    dropped = frozenset(scan.path.rpartition("/")[2] for scan in found.scans[: found.unneeded])
    for folder, _, names in os.walk(data):
        inside = Path(folder).relative_to(data).parts
        for name in names:
            _count(rooms[_kind(inside, name, current, dropped)], Path(folder) / name)
    for archive in archives:
        for path in Path(archive).glob("*.log"):
            # A segment still in the log is the same file under a second name.
            if data.resolve() not in path.resolve().parents and path.stat().st_nlink == 1:
                _count(rooms["archive"], path)
    return list(rooms.values())


def _kind(inside: tuple[str, ...], name: str, current: str, dropped: frozenset[str]) -> str:
    """``current``: the environment in use; empty when CURRENT does not say, and then none is called stale."""
    top = inside[0] if inside else ""
    kind = {"quarantine": "kept", "fx": "fx", "archive": "archive"}.get(top, "rest")
    if inside == ("log",) and segment_number(name) is not None:
        kind = "covered" if name in dropped else "log"
    elif inside == ("log",) and name == SPARE_NAME:
        kind = "spare"
    elif top == "ckpt":
        kind = "ckpt"
        if name.endswith((".dksnap", ".dksnap.new")):
            kind = "snapshots"
        elif len(inside) > 1 and current and inside[1] != current:
            kind = "stale"
    elif not inside and name == RESERVE_NAME:
        kind = "reserve"
    return kind


def _count(room: Room, path: Path) -> None:
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return  # a running server's spare became a segment
    room.files += 1
    room.size += stat.st_blocks * 512
