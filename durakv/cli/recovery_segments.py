"""The segments of a log as a starting server would judge them, and every stretch of log that can be read besides.

Rule: judges by the same functions as the server's own recovery (``scan_segment``, ``decide``) and in its order: with a
checkpoint, only the segments from its end on count. Looks at all of them all the same, for a restore may want
those before. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from durakv.cli.admin_files import ReadOnlyFiles
from durakv.cli.recovery_entries import entry_at
from durakv.cli.recovery_found import Survey
from durakv.cli.recovery_holes import scan_behind
from durakv.storage.entries import TermRuns
from durakv.storage.errors import CorruptionError, IdentityError
from durakv.storage.identity import hardstate_path
from durakv.storage.recovery import Outcome, Verdict, decide
from durakv.storage.scan import SegmentScan, scan_segment
from durakv.storage.segment import Covered, segment_name, segment_number
from durakv.world.ports import Disk, File

Progress = Callable[[int, int], None]

_READ_BYTES: Final = 1 << 20
_NOT_NEEDED: Final = (
    "none needed for this node: its checkpoint holds these entries; only a restore to a point before the checkpoint "
    "needs them, from archive-dir or a backup"
)


class _Piece:
    """A segment file: its scan, None when its first line is unreadable."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.scan: SegmentScan | None = None
        self.fault: CorruptionError | IdentityError | None = None
        self.misplaced = ""


def read_log(found: Survey, progress: Progress) -> None:
    """Scan, join and judge the directory's own segments. Raises OSError."""
    log = f"{found.directory}/log"
    names = found.files.listdir(log) if found.files.exists(log) else []
    found.segment_files = sorted(name for name in names if segment_number(name) is not None)
    if not found.segment_files:
        found.add(log, 0, 0, "no log segment", "restore a backup, or remove the node and add it under a new node id")
        return
    pieces = _scanned(found, log, progress)
    split = _split(found, pieces)
    _note_unneeded(found, pieces[:split])
    run, whole = _joined(found, pieces, split)
    needed = len(run)
    if run:
        at = split - 1
        while at >= 0 and _joins(pieces[at].scan, run[0]):
            scan = pieces[at].scan
            assert scan is not None
            run.insert(0, scan)
            at -= 1
    found.scans = run
    found.unneeded = len(run) - needed
    good = [piece.scan for piece in pieces if piece.scan is not None and not piece.misplaced]
    found.pool = stretches(good) + _behind_holes(found, good)
    if whole:
        _judge(found)


def _scanned(found: Survey, log: str, progress: Progress) -> list[_Piece]:
    pieces = []
    sizes = [_size_of(found, f"{log}/{name}") for name in found.segment_files]
    for at, name in enumerate(found.segment_files):
        piece = _Piece(name, f"{log}/{name}")
        pieces.append(piece)
        try:
            # What the medium holds is wanted, not what the page cache believes.
            growing = found.live and at == len(found.segment_files) - 1
            disk = cast("Disk", _Growing()) if growing else found.disk
            piece.scan = scan_segment(disk, piece.path, TermRuns(), direct=True)
        except (CorruptionError, IdentityError) as error:
            piece.fault = error
            continue
        progress(sum(sizes[: at + 1]), sum(sizes))
        header, identity = piece.scan.header, found.identity
        if segment_name(header.number) != name:
            piece.misplaced = f"holds segment {header.number}"
        elif identity is not None and (header.cluster_id, header.node_id) != (identity.cluster_id, identity.node_id):
            piece.misplaced = f"written by node {header.node_id} of cluster {header.cluster_id.hex()}"
    return pieces


def _split(found: Survey, pieces: list[_Piece]) -> int:
    """Where the segments begin that a server reads; as recovery finds it, from the newest back."""
    covered = found.covered()
    if covered is None:
        return 0
    for at in range(len(pieces) - 1, -1, -1):
        scan = pieces[at].scan
        if scan is None or scan.header.base <= covered.index + 1:
            return at
    first = pieces[0].scan
    assert first is not None
    found.add(
        first.path, 0, covered.index + 1,
        f"begins at index {first.header.base}, but the checkpoint ends at {covered.index}: the entries "
        f"{covered.index + 1} to {first.header.base - 1} in between are missing",
        "put the segments back from archive-dir, a backup or quarantine/; " + found.remedy(),
    )  # fmt: skip
    return 0


def _note_unneeded(found: Survey, pieces: list[_Piece]) -> None:
    """What no server looks at: faults are told, and stop nothing."""
    for piece in pieces:
        if piece.fault is not None:
            offset = piece.fault.offset if isinstance(piece.fault, CorruptionError) else 0
            found.add(piece.path, offset, 0, _said(piece.fault, piece.path), _NOT_NEEDED, stops=False)
        elif piece.misplaced:
            found.add(piece.path, 0, 0, piece.misplaced, _NOT_NEEDED, stops=False)
        elif piece.scan is not None and piece.scan.bad_reason:
            scan = piece.scan
            found.add(
                piece.path, scan.end, scan.last_index + 1, f"{scan.bad_reason} -> CORRUPT, before the checkpoint's end",
                _NOT_NEEDED, stops=False,
            )  # fmt: skip


def _joined(found: Survey, pieces: list[_Piece], split: int) -> tuple[list[SegmentScan], bool]:
    """The unbroken log from ``split`` on, and whether it goes to the end."""
    run: list[SegmentScan] = []
    usable = True
    for at in range(split, len(pieces)):
        piece = pieces[at]
        is_last = at == len(pieces) - 1
        scan = piece.scan
        if scan is None:
            assert piece.fault is not None
            offset = piece.fault.offset if isinstance(piece.fault, CorruptionError) else 0
            after = run[-1].last_index + 1 if run and usable else 0
            advice = found.remedy() if isinstance(piece.fault, CorruptionError) else "run the durakv that wrote it"
            found.add(piece.path, offset, after, _said(piece.fault, piece.path), advice)
            usable = False
            continue
        fits = _in_place(found, piece, scan) and usable and _follows(found, run, scan)
        if scan.bad_reason and not is_last:
            note_damage(found, scan, f"{scan.bad_reason}, but {pieces[at + 1].name} follows")
        if fits:
            run.append(scan)
        usable = fits and not (scan.bad_reason and not is_last)
    return run, usable


def _in_place(found: Survey, piece: _Piece, scan: SegmentScan) -> bool:
    if not piece.misplaced:
        return True
    repair = "put this node's own file back or restore a backup"
    if piece.misplaced.startswith("holds"):
        repair = f"rename it to {segment_name(scan.header.number)} if nothing has that name"
    found.add(scan.path, 0, scan.header.base, piece.misplaced, repair)
    return False


def _follows(found: Survey, run: list[SegmentScan], scan: SegmentScan) -> bool:
    header = scan.header
    if not run:
        if found.covered() is None and header.base != 1:
            found.add(
                scan.path, 0, 1, f"begins at index {header.base}, and no usable checkpoint holds the entries before",
                "put the missing segments back from archive-dir, a backup or quarantine/; " + found.remedy(),
            )  # fmt: skip
        return True
    before = run[-1]
    if not before.sealed or before.file_bytes != before.end:
        if not before.bad_reason:
            found.add(
                before.path, before.end, before.last_index + 1,
                f"no seal at its end, but {scan.path.rpartition('/')[2]} follows", found.remedy(),
            )  # fmt: skip
        return False
    if not _joins(before, scan):
        found.add(
            scan.path, 0, before.last_index + 1,
            f"begins at index {header.base}, but the segment before ends at {before.last_index}; a segment is missing "
            "or foreign", "put the missing segment back from a backup or quarantine/; " + found.remedy(),
        )  # fmt: skip
        return False
    return True


def _joins(before: SegmentScan | None, scan: SegmentScan) -> bool:
    """Whether one segment is whole and the other goes on from it."""
    return (
        before is not None
        and before.sealed
        and before.file_bytes == before.end
        and not before.bad_reason
        and scan.header.base == before.last_index + 1
        and scan.header.prev_chain == before.last_chain
        and (scan.header.cluster_id, scan.header.node_id) == (before.header.cluster_id, before.header.node_id)
    )


def stretches(scans: list[SegmentScan]) -> list[list[SegmentScan]]:
    """Scans, in any order, as unbroken stretches of log; of two of the same number the longer one counts."""
    best: dict[tuple[int, int], SegmentScan] = {}
    for scan in scans:
        place = (scan.header.node_id, scan.header.number)
        if place not in best or scan.last_index > best[place].last_index:
            best[place] = scan
    out: list[list[SegmentScan]] = []
    for place in sorted(best):
        if out and _joins(out[-1][-1], best[place]):
            out[-1].append(best[place])
        else:
            out.append([best[place]])
    return out


def _behind_holes(found: Survey, scans: list[SegmentScan]) -> list[list[SegmentScan]]:
    """The log from the checkpoint's end on, where damage before it keeps a server from reading it: by its running
    digest it is proven to go on from the checkpoint.
    """
    covered = found.covered()
    for at, scan in enumerate(scans):
        if covered is None or not scan.later_headers or scan.last_index >= covered.index:
            continue
        rest = scan_behind(found.disk, scan, covered)
        if rest is not None:
            run = [rest]
            for later in scans[at + 1 :]:
                if not _joins(run[-1], later):
                    break
                run.append(later)
            _note_hole(found, scans, run)
            return [run]
    return []


def _note_hole(found: Survey, scans: list[SegmentScan], run: list[SegmentScan]) -> None:
    rest, last = run[0], run[-1].last_index
    hint = found.hard.synced_hint if found.hard is not None else 0
    proven = max(hint, *(max(scan.evidence, scan.later_evidence) for scan in scans))
    to_the_end = run[-1].path == scans[-1].path and proven <= last
    text = (
        f"{found.relative(rest.path)}: the damage lies before the checkpoint's end, and the entries "
        f"{rest.header.base:,} to {last:,} behind it are whole"
    )
    if to_the_end:
        found.hole = rest
        text += (
            f": no data is lost; 'durakv-cli repair {found.directory} --yes' makes a segment of them, 'durakv-cli "
            f"restore {found.directory} --out NEWDIR' a directory of all of it"
        )
    found.notes.append(text)


def note_damage(found: Survey, scan: SegmentScan, detail: str) -> None:
    """Bytes that no crash explains, at the end of what can be read of a segment."""
    later = f"; {scan.later_headers:,} later frames in this file are readable" if scan.later_headers else ""
    found.add(scan.path, scan.end, scan.last_index + 1, f"{detail} -> CORRUPT, not torn{later}", found.remedy())


# -- judging -----------------------------------------------------------------------------------------------------------


def _judge(found: Survey) -> None:
    """How log and checkpoint fit, and the end of the log, as recovery judges them; the segments are in order."""
    hard = found.hard
    hint = hard.synced_hint if hard is not None else 0
    covered = found.covered()
    needed = found.scans[found.unneeded :]
    if covered is not None and not _reaches(found, needed, covered):
        _supersede(found, needed, covered, hint)
        return
    verdict = decide(needed, hint)
    found.verdict = verdict
    known = {(finding.path, finding.offset) for finding in found.findings}
    if verdict.outcome is Outcome.CORRUPT and (found.relative(verdict.path), verdict.offset) not in known:
        note_damage(found, found.scans[-1], verdict.detail)
    elif verdict.outcome is Outcome.TORN_TAIL and not found.live:
        found.add(
            verdict.path, verdict.offset, verdict.index,
            f"{verdict.detail} -> torn tail",
            f"'durakv-cli repair {found.directory} --yes', or just start the server: the tail is copied to quarantine/ "
            "and cut", stops=False,
        )  # fmt: skip
    if hard is not None and found.last_term > hard.term:
        found.add(
            hardstate_path(found.directory), 16, 0,
            f"says term {hard.term}, but the log has entries of term {found.last_term}: this node's newest vote is "
            "lost", found.remedy(),
        )  # fmt: skip


def end_at(found: Survey, scans: list[SegmentScan], index: int) -> tuple[int, int] | None:
    """Term and running digest after entry ``index`` of a stretch, which may be the one before its first; None "
    "outside.
    """
    if not scans or not scans[0].header.base - 1 <= index <= scans[-1].last_index:
        return None
    if index == scans[0].header.base - 1:
        return scans[0].header.prev_term, scans[0].header.prev_chain
    entry = entry_at(found.disk, scans, index)
    return entry.term, entry.chain


def _reaches(found: Survey, needed: list[SegmentScan], covered: Covered) -> bool:
    """As recovery has it: False for a log that a snapshot replaces."""
    if needed[-1].last_index < covered.index:
        return False
    end = end_at(found, needed, covered.index)
    if end is None:
        # There is a gap, and it is named already.
        return True
    if end[0] != covered.term:
        return False
    if covered.chain and end[1] != covered.chain:
        found.add(
            needed[0].path, 0, covered.index,
            f"entry {covered.index} of term {covered.term} has digest {end[1]:08x}, the checkpoint was made from a log "
            f"with {covered.chain:08x}: one of them belongs to another history",
            "put back the ckpt/ and log/ that belong together; " + found.remedy(),
        )  # fmt: skip
    return True


def _supersede(found: Survey, needed: list[SegmentScan], covered: Covered, hint: int) -> None:
    last = needed[-1]
    if hint > covered.index:
        found.add(
            last.path, last.end, covered.index + 1,
            f"the log ends at index {last.last_index}, the checkpoint at {covered.index}, but the hard state proves "
            f"that index {hint} was synced: entries are missing",
            "put the segments back from archive-dir or quarantine/; " + found.remedy(),
        )  # fmt: skip
        return
    if found.hole is not None:
        detail = (
            f"{last.bad_reason} -> CORRUPT before the checkpoint's end at {covered.index}; whole entries "
            f"{covered.index + 1} to {found.hole.last_index} follow, and may be all there is of acknowledged writes"
        )
        found.add(last.path, last.end, last.last_index + 1, detail, "")
        found.verdict = Verdict(Outcome.CORRUPT, last.path, last.end, last.last_index + 1, detail)
        return
    found.superseded = True
    found.notes.append(
        f"a snapshot was half installed: CURRENT names a checkpoint at index {covered.index:,} term "
        f"{covered.term}, the log ends at index {last.last_index:,} term {last.last_term}. The next start replaces "
        "the log by an empty one behind the checkpoint; nothing is lost, the snapshot holds all of the group's log "
        "up to there"
    )
    found.scans = []
    found.unneeded = 0
    found.verdict = Verdict(
        Outcome.CLEAN_END, last.path, last.end, covered.index + 1, "the log is to begin anew behind the checkpoint"
    )


def _said(error: CorruptionError | IdentityError, path: str) -> str:
    return error.detail if isinstance(error, CorruptionError) else str(error).removeprefix(f"{path}: ")


# -- other directories -------------------------------------------------------------------------------------------------


def read_more(found: Survey, folder: str) -> None:
    """Add the segments in ``folder`` to the stretches of log that may be used. Raises OSError."""
    scans = [scan for run in found.pool for scan in run]
    for name in found.files.listdir(folder) if found.files.exists(folder) else []:
        if segment_number(name) is None:
            continue
        path = f"{folder}/{name}"
        try:
            scan = scan_segment(found.disk, path, TermRuns(), direct=True)
        except (CorruptionError, IdentityError) as error:
            found.notes.append(f"{path} cannot be used: {_said(error, path)}")
            continue
        if scan.header.cluster_id != found.cluster_id:
            found.notes.append(f"{path} cannot be used: it is of cluster {scan.header.cluster_id.hex()}")
            continue
        if scan.bad_reason:
            found.notes.append(f"{path} can be used up to index {scan.last_index:,}: {scan.bad_reason} behind it")
        scans.append(scan)
    found.pool = stretches(scans)


class _Growing(ReadOnlyFiles):
    """Opens a file that a server is appending to. Copied from its end to its beginning: whatever was there when a piece
    was read, all before it is there as well, so the copy never shows a hole that the file did not have.
    """

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> File:
        file = super().open(path)
        try:
            pieces = [file.pread(_READ_BYTES, at) for at in reversed(range(0, file.size(), _READ_BYTES))]
        finally:
            file.close()
        return cast("File", _Copy(b"".join(reversed(pieces))))


class _Copy:
    """The reading half of ports.File, over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pread(self, size: int, offset: int) -> bytes:
        return self._data[offset : offset + size]

    def size(self) -> int:
        return len(self._data)

    def close(self) -> None:
        """There is nothing to give back."""


def _size_of(found: Survey, path: str) -> int:
    file = found.files.open(path)
    try:
        return file.size()
    finally:
        file.close()
