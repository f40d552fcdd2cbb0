"""What a scan means, and the little that may be repaired without asking.

Rule: ``decide`` is pure and is the only judge. A broken end of the log is cut only when nothing proves that it had been
synced; evidence is what frames, marks and the hard state say, never the size of the damage. Everything cut is copied to
quarantine/ first. Anything else stops the node with the operator's choices.
It must not know Raft; whether a node may vote is decided above.

Why a good frame behind the bad one is not proof by itself: one write carries many frames, and a power cut may keep
any of its sectors. Proof is a frame built after the bad one was synced, which its ``unsynced`` field says.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from durakv.storage.entries import TermRuns
from durakv.storage.errors import IdentityError, RecoveryRefused
from durakv.storage.record import crc
from durakv.storage.scan import WINDOW_BYTES, SegmentScan, scan_segment
from durakv.storage.segment import (
    SEGMENT_HEADER_BYTES,
    SPARE_NAME,
    Covered,
    Segment,
    SegmentHeader,
    parse_segment_header,
    segment_name,
    segment_number,
)
from durakv.world.ports import Disk, File

QUARANTINE: Final = "quarantine"


class Outcome(Enum):
    """How the log ends."""

    CLEAN_END = "clean end"
    TORN_TAIL = "torn tail"
    CORRUPT = "corrupt"


class Verdict:
    """``offset`` in ``path`` is where good frames end and ``index`` the entry expected there."""

    __slots__ = ("detail", "index", "offset", "outcome", "path")

    def __init__(self, outcome: Outcome, path: str, offset: int, index: int, detail: str) -> None:
        self.outcome = outcome
        self.path = path
        self.offset = offset
        self.index = index
        self.detail = detail


def decide(scans: list[SegmentScan], synced_hint: int) -> Verdict:
    """Judge the scans of all segments, oldest first. ``synced_hint`` is the hard state's; 0 says nothing."""
    before: SegmentScan | None = None
    for scan in scans:
        if before is not None:
            if before.bad_reason or not before.sealed or before.file_bytes != before.end:
                reason = before.bad_reason or "no seal at its end"
                return _corrupt(before, f"{reason}, but a later segment exists")
            header = scan.header
            if header.base != before.last_index + 1 or header.prev_chain != before.last_chain:
                return Verdict(
                    Outcome.CORRUPT,
                    scan.path,
                    0,
                    before.last_index + 1,
                    f"begins at index {header.base} but the segment before ends at {before.last_index}; "
                    "a segment is missing or foreign",
                )
        before = scan
    assert before is not None, "a log has at least one segment"
    expected = before.last_index + 1
    reason = before.bad_reason or "no frame"
    seen = max(scan.evidence for scan in scans)
    if max(seen, before.later_evidence) >= expected:
        return _corrupt(
            before, f"{reason}, but later frames prove that index {max(seen, before.later_evidence)} was synced"
        )
    if synced_hint >= expected:
        return _corrupt(before, f"{reason}, but the hard state proves that index {synced_hint} was synced")
    if before.tail_is_zero:
        return Verdict(Outcome.CLEAN_END, before.path, before.end, expected, "last frame complete")
    return Verdict(Outcome.TORN_TAIL, before.path, before.end, expected, f"{reason}; nothing proves it was ever synced")


def _corrupt(scan: SegmentScan, detail: str) -> Verdict:
    return Verdict(Outcome.CORRUPT, scan.path, scan.end, scan.last_index + 1, detail)


# Makes the first line of a log that begins behind a checkpoint, given the segment's number.
FreshHeader = Callable[[int, Covered], SegmentHeader]


class RecoveredLog:
    """The log as it is after recovery, ready for ``Log``: the last segment is open, its tail cut, its bytes synced.

    ``older`` are segments whose entries a checkpoint contains; they were not read and serve no one but an archive.
    ``proven`` is the highest index that the segments themselves show to have been synced.
    """

    def __init__(self, segments: list[Segment], runs: TermRuns, verdict: Verdict, *, must_roll: bool) -> None:
        self.segments = segments
        self.runs = runs
        self.verdict = verdict
        self.must_roll = must_roll
        self.quarantined = ""
        self.older: list[Segment] = []
        self.proven = 0


def recover_log(
    disk: Disk, directory: str, cluster_id: bytes, node_id: int, synced_hint: int, covered: Covered | None = None,
    fresh: FreshHeader | None = None,
) -> RecoveredLog:  # fmt: skip
    """Steps R1 and R4 to R7 of recovery on ``directory``/log. Safe to repeat after a crash at any point.

    With a checkpoint, only the log from where it ends counts; a log that does not reach that far, or holds another
    entry there, is what a snapshot's installation had yet to replace: it begins anew, with the line ``fresh`` makes.
    Raises RecoveryRefused (nothing changed), CorruptionError (a segment's first line), IdentityError (foreign segment).
    """
    log = f"{directory}/log"
    names = disk.listdir(log)
    numbers = sorted(number for number in map(segment_number, names) if number is not None)
    if not numbers:
        raise RecoveryRefused(
            f"{log}: no log segment; restore a backup, or remove the node and add it under a new node id"
        )
    older, numbers = _split(disk, log, numbers, covered)
    runs = TermRuns()
    scans = []
    for number in numbers:
        path = f"{log}/{segment_name(number)}"
        scan = scan_segment(disk, path, runs, direct=number == numbers[-1])
        _check_owner(scan, number, cluster_id, node_id)
        scans.append(scan)
        if scan.bad_reason and number != numbers[-1]:
            # Later segments could only add terms behind a hole; the verdict needs just to know that they exist.
            following = segment_name(numbers[len(scans)])
            raise _refusal(directory, _corrupt(scan, f"{scan.bad_reason}, but segment {following} follows"))
    if covered is not None and fresh is not None and not _reaches(scans, runs, covered):
        for scan in scans:
            proved = max(scan.evidence, scan.later_evidence)
            if (scan.bad_reason and scan.later_headers) or proved > covered.index:
                # Damage before the checkpoint's end, and whole entries behind it: they may be all there is of a write.
                reason = scan.bad_reason or "no frame"
                raise _refusal(directory, _corrupt(scan, f"{reason}, but whole frames follow behind the checkpoint"))
        if synced_hint > covered.index:
            raise RecoveryRefused(
                f"{log}: ends at index {scans[-1].last_index}, the checkpoint at {covered.index}, but the hard state "
                f"proves that index {synced_hint} was synced: entries are missing; put the segments back from archive/ "
                "or quarantine/, or remove the node and add it under a new node id"
            )
        return _begin_after(disk, directory, covered, fresh, older + [_segment_of(scan) for scan in scans])
    if covered is None and scans[0].header.base != 1:
        raise RecoveryRefused(
            f"{scans[0].path}: begins at index {scans[0].header.base} and no checkpoint covers the entries before; put "
            "the missing segments back from archive/ or quarantine/, or run 'durakv-cli restore'"
        )
    verdict = decide(scans, synced_hint)
    if verdict.outcome is Outcome.CORRUPT:
        raise _refusal(directory, verdict)
    if SPARE_NAME in names:
        disk.unlink(f"{log}/{SPARE_NAME}")
    segments = [_segment_of(scan) for scan in scans]
    recovered = RecoveredLog(segments, runs, verdict, must_roll=scans[-1].sealed)
    recovered.older = older
    # The first line of a segment says of all before it that they were synced when it was begun.
    recovered.proven = max([scans[-1].header.base - 1] + [scan.evidence for scan in scans])
    _mend(disk, directory, scans[-1], recovered)
    return recovered


def _split(
    disk: Disk, log: str, numbers: list[int], covered: Covered | None
) -> tuple[list[Segment], list[int]]:  # fmt: skip
    """The segments that lie wholly before the end of the checkpoint, and the numbers of those that do not."""
    if covered is None:
        return [], numbers
    bases: dict[int, SegmentHeader] = {}
    at = len(numbers) - 1
    while at >= 0:
        path = f"{log}/{segment_name(numbers[at])}"
        file = disk.open(path)
        try:
            header = parse_segment_header(file.pread(SEGMENT_HEADER_BYTES, 0), path)
        finally:
            file.close()
        bases[numbers[at]] = header
        if header.base <= covered.index + 1:
            break
        at -= 1
    if at < 0 and numbers:
        raise RecoveryRefused(
            f"{log}: begins at index {bases[numbers[0]].base}, but the checkpoint ends at {covered.index}: entries are "
            "missing in between. The log was shortened for a newer checkpoint, so either ckpt/ is an older one, which "
            "lost its last commits or was put back, or segments were removed. Put back the ckpt/ or the segments that "
            "belong here (archive-dir, quarantine/); in a group 'durakv-cli repair --from-peer HOST:PORT' fetches "
            "the entries, else remove the node and add it under a new node id"
        )
    older: list[Segment] = []
    for number in numbers[: max(at, 0)]:
        # Their own first lines may be unreadable by now; nobody looks at them.
        stand_in = SegmentHeader(bytes(16), 0, number, 0, 0, 0, 0, 0)
        older.append(Segment(stand_in, f"{log}/{segment_name(number)}"))
    return older, numbers[max(at, 0) :]


def _reaches(scans: list[SegmentScan], runs: TermRuns, covered: Covered) -> bool:
    """Whether the log goes on from the checkpoint. Raises RecoveryRefused when they contradict each other."""
    if scans[-1].last_index < covered.index:
        return False
    holder = next((scan for scan in scans if scan.header.base - 1 <= covered.index <= scan.last_index), None)
    if holder is None:
        # A segment is missing there, which the verdict on the whole log tells.
        return True
    if covered.index == holder.header.base - 1:
        term, chain = holder.header.prev_term, holder.header.prev_chain
    else:
        term, chain = runs.term(covered.index), int(holder.chains[covered.index - holder.header.base])
    if term != covered.term:
        return False
    if covered.chain and chain != covered.chain:
        raise RecoveryRefused(
            f"{scans[0].path}: entry {covered.index} of term {term} has digest {chain:08x}, the checkpoint was made "
            f"from a log with {covered.chain:08x}; one of them belongs to another history: remove the node and add it "
            "under a new node id, or restore a backup"
        )
    return True


def _begin_after(
    disk: Disk, directory: str, covered: Covered, fresh: FreshHeader, doomed: list[Segment]
) -> RecoveredLog:  # fmt: skip
    """Finish what a snapshot's installation began: start an empty log; the old one is not looked at any more."""
    log = f"{directory}/log"
    if disk.exists(f"{log}/{SPARE_NAME}"):
        disk.unlink(f"{log}/{SPARE_NAME}")
    header = fresh(doomed[-1].number + 1, covered)
    segment = Segment(header, f"{log}/{segment_name(header.number)}")
    # Complete before it has its name, as every segment.
    spare = f"{log}/{SPARE_NAME}"
    file = disk.open(spare, create=True)
    if file.pwrite(header.encode(), 0) != SEGMENT_HEADER_BYTES:
        raise OSError(f"{spare}: short write while starting the log")
    file.fsync()
    disk.rename(spare, segment.path)
    disk.fsync_dir(log)
    segment.file = file
    segment.allocated_bytes = SEGMENT_HEADER_BYTES
    verdict = Verdict(
        Outcome.CLEAN_END, segment.path, segment.end, covered.index + 1, "begun anew behind the checkpoint"
    )
    recovered = RecoveredLog([segment], TermRuns(), verdict, must_roll=False)
    recovered.older = doomed
    recovered.proven = covered.index
    return recovered


def _check_owner(scan: SegmentScan, number: int, cluster_id: bytes, node_id: int) -> None:
    header = scan.header
    if header.number != number:
        raise RecoveryRefused(
            f"{scan.path}: holds segment {header.number}; rename it to {segment_name(header.number)} "
            "if nothing has that name"
        )
    if header.cluster_id != cluster_id or header.node_id != node_id:
        raise IdentityError(
            f"{scan.path}: written by node {header.node_id:016x} of cluster {header.cluster_id.hex()}, not by "
            f"{node_id:016x} of {cluster_id.hex()}; put this node's own file back or restore a backup"
        )


def _refusal(directory: str, verdict: Verdict) -> RecoveryRefused:
    return RecoveryRefused(
        f"{verdict.path}: corrupt at byte {verdict.offset}, index {verdict.index}: {verdict.detail}. "
        f"Nothing was changed. Choose: 'durakv-cli verify {directory} --deep' to see the damage; "
        f"in a group, 'durakv-cli repair {directory} --from-peer HOST:PORT' to fetch what is damaged, or remove the "
        "member and add it again under a new node id, to fetch all of it again; "
        f"'durakv-cli truncate {directory} --to-index {verdict.index - 1} --yes-lose-data' to give up what follows"
    )


def _segment_of(scan: SegmentScan) -> Segment:
    segment = Segment(scan.header, scan.path)
    segment.offsets = scan.offsets
    segment.chains = scan.chains
    segment.end = scan.end
    segment.sealed = scan.sealed
    return segment


def _mend(disk: Disk, directory: str, scan: SegmentScan, recovered: RecoveredLog) -> None:
    """Save and cut what is behind the last good frame, and make sure that what was read is on the medium."""
    active = recovered.segments[-1]
    file = disk.open(active.path)
    if recovered.verdict.outcome is Outcome.TORN_TAIL:
        recovered.quarantined = _quarantine(disk, directory, scan)
    # Also when the tail is zero: the page cache may still hold bytes that a failed sync never brought to the disk, and
    # the next write into their page would carry them along.
    file.truncate(scan.end)
    file.fsync()
    disk.fsync_dir(f"{directory}/log")
    active.file = file
    active.allocated_bytes = scan.end


def _quarantine(disk: Disk, directory: str, scan: SegmentScan) -> str:
    """Copy the tail, as the disk has it, to a file named after its place and content; idempotent."""
    source = disk.open(scan.path, direct=True)
    try:
        length = _length_without_zeros(source, scan.end, scan.file_bytes)
        checksum = 0
        for at in range(scan.end, scan.end + length, WINDOW_BYTES):
            checksum = crc(source.pread(min(WINDOW_BYTES, scan.end + length - at), at), checksum)
        folder = f"{directory}/{QUARANTINE}"
        disk.mkdir(folder)
        path = f"{folder}/torn-{scan.header.number:020d}-{scan.end:012x}-{checksum:08x}.bin"
        target = disk.open(path, create=True)
        try:
            target.truncate(0)
            for at in range(0, length, WINDOW_BYTES):
                _copy(source, target, scan.end + at, at, min(WINDOW_BYTES, length - at), path)
            target.fsync()
        finally:
            target.close()
        disk.fsync_dir(folder)
        disk.fsync_dir(directory)
        return path
    finally:
        source.close()


def _copy(source: File, target: File, source_offset: int, offset: int, size: int, path: str) -> None:
    data = source.pread(size, source_offset)
    written = 0
    while written < len(data):
        count = target.pwrite(data[written:], offset + written)
        if count <= 0:
            raise OSError(f"{path}: nothing written")
        written += count


def _length_without_zeros(file: File, begin: int, end: int) -> int:
    """How many bytes from ``begin`` up to the last one that is not zero."""
    length = 0
    for at in range(begin, end, WINDOW_BYTES):
        piece = file.pread(min(WINDOW_BYTES, end - at), at).rstrip(b"\x00")
        if piece:
            length = at - begin + len(piece)
    return length
