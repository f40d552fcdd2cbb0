"""Everything in a data directory looked at once, and what a starting server would make of it. Read-only.

Rule: judges by the same functions as the server's own recovery (``scan_segment``, ``decide``) and in its order, but
looks at everything instead of stopping at the first fault. Each fault becomes one Finding: where it is, what it is,
what to do. It must not know how findings are shown, and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import Final, cast

from durakv.cli.admin_files import ReadOnlyFiles
from durakv.cli.recovery_entries import last_configuration
from durakv.storage.entries import TermRuns
from durakv.storage.errors import CorruptionError, IdentityError
from durakv.storage.hardstate import HARDSTATE_BYTES, SLOT_BYTES, SLOT_OFFSETS, HardState, decode_slot
from durakv.storage.identity import IDENTITY_BYTES_MAX, Identity, hardstate_path, identity_path, parse_identity
from durakv.storage.record import crc
from durakv.storage.recovery import Outcome, Verdict, decide
from durakv.storage.scan import SegmentScan, scan_segment
from durakv.storage.segment import segment_name, segment_number
from durakv.world.ports import Disk, File
from raft.types import DecodeError, Membership

Progress = Callable[[int, int], None]

_LIVE_LOOKS: Final = 4
_LIVE_PAUSE_S: Final = 0.1
# A quarantined file carries the checksum of its content in its name.
_QUARANTINED: Final = re.compile(r"(?:torn|cut|identity)-.*-([0-9a-f]{8})\.bin")
_READ_BYTES: Final = 1 << 20
_DESCRIPTION_BYTES_MAX: Final = 64 << 20

BACKUP_FILE: Final = "backup.json"

STARTS: Final = "starts"
CUTS_TAIL: Final = "starts after cutting the torn tail"
REFUSES: Final = "refuses to start"
BACKUP: Final = "refuses to start: it is a backup, use durakv-cli restore"


class Finding:
    """``path`` relative to the directory; ``index`` the first log entry concerned, 0 for none; ``stops``: no server
    starts with it.
    """

    def __init__(self, path: str, offset: int, index: int, detail: str, repair: str, *, stops: bool) -> None:
        self.path = path
        self.offset = offset
        self.index = index
        self.detail = detail
        self.repair = repair
        self.stops = stops

    def line(self) -> str:
        index = f" index {self.index:,}" if self.index else ""
        return f"{self.path} offset {self.offset:#x}{index}: {self.detail}"

    def document(self) -> dict[str, object]:
        return {
            "file": self.path, "offset": self.offset, "index": self.index or None, "detail": self.detail,
            "repair": self.repair, "stops_server": self.stops,
        }  # fmt: skip


class Survey:
    """What was found. ``scans`` are the segments, oldest first, up to the first unusable one; ``last_good`` the last
    index of the unbroken log; ``outcome`` is one of the four constants above.
    """

    def __init__(self, directory: str, *, live: bool) -> None:
        self.directory = directory
        self.live = live
        self.files = ReadOnlyFiles()
        self.findings: list[Finding] = []
        self.identity: Identity | None = None
        self.hard: HardState | None = None
        self.hard_seq = 0
        self.hard_slot = 0
        self.is_backup = False
        self.backup_committed = 0
        self.scans: list[SegmentScan] = []
        self.segment_files: list[str] = []
        self.runs = TermRuns()
        self.verdict: Verdict | None = None
        self.configuration_index = 0
        self.membership: Membership | None = None

    @property
    def disk(self) -> Disk:
        """Of a Disk, scans use only the methods that read."""
        return cast("Disk", self.files)

    @property
    def last_good(self) -> int:
        return self.scans[-1].last_index if self.scans else 0

    @property
    def known_committed(self) -> int:
        """As the hard state says; it may be more than the log still holds."""
        hard = self.hard
        return self.backup_committed if hard is None else max(hard.commit_hint, hard.synced_hint)

    @property
    def node_id(self) -> int:
        if self.identity is not None:
            return self.identity.node_id
        return self.scans[0].header.node_id if self.scans else 0

    def whole(self) -> bool:
        """Whether the log can be read to its end."""
        return self.verdict is not None and self.verdict.outcome is not Outcome.CORRUPT

    def alone(self) -> bool:
        """Whether the node is the only one with a vote; behind damage may lie a membership that says otherwise."""
        return self.whole() and self._names_only_itself()

    def _names_only_itself(self) -> bool:
        m = self.membership
        return m is not None and tuple(m.voters) == (self.node_id,) and not m.is_joint() and not m.witness_id()

    @property
    def outcome(self) -> str:
        if any(finding.stops for finding in self.findings):
            return REFUSES
        if self.is_backup:
            return BACKUP
        torn = self.verdict is not None and self.verdict.outcome is Outcome.TORN_TAIL
        return CUTS_TAIL if torn and not self.live else STARTS

    def remedy(self) -> str:
        """What helps against damage that nothing on this disk can mend."""
        salvage = (
            f"'durakv-cli restore {self.directory} --to-index {self.last_good} --out NEWDIR' saves what precedes it"
            if self.scans and self.last_good
            else "restore a backup"
        )
        replace = (
            "'durakv cluster remove-node' this member, move its directory away and 'durakv cluster add-node' under a "
            "new node id"
        )
        if self.membership is not None and not self._names_only_itself():
            return f"the other nodes have this data: {replace}; if no other node is left, {salvage}"
        return f"put back an intact copy of the file; if the group has other nodes, {replace}; else {salvage}"

    def add(self, path: str, offset: int, index: int, detail: str, repair: str, *, stops: bool = True) -> None:
        relative = path.removeprefix(self.directory).lstrip("/")
        self.findings.append(Finding(relative, offset, index, detail, repair, stops=stops))


def survey(directory: str, progress: Progress, *, live: bool) -> Survey:
    """Look at everything. ``live``: a server is at work there, so what looks broken is looked at again, and the end of
    the log is not judged. Raises OSError.
    """
    directory = directory.rstrip("/") or "/"
    found = _look(directory, progress, live=live)
    for _ in range(_LIVE_LOOKS if live else 0):
        if found is not None and not found.findings:
            break
        time.sleep(_LIVE_PAUSE_S)
        found = _look(directory, progress, live=live)
    if found is None:
        raise OSError(f"{directory}: its files change faster than they can be read; try again")
    return found


def _look(directory: str, progress: Progress, *, live: bool) -> Survey | None:
    found = Survey(directory, live=live)
    try:
        _read_identity(found)
        _read_hard_state(found)
        _read_log(found, progress)
        _read_membership(found)
        _judge(found)
        _read_rest(found)
    except FileNotFoundError:
        if live:
            # A segment was cut away, or the spare got its name, between listing and reading.
            return None
        raise
    except CorruptionError:
        if live:
            return None
        raise
    return found


def _read_identity(found: Survey) -> None:
    path = identity_path(found.directory)
    if not found.files.exists(path):
        found.add(
            path, 0, 0, "missing",
            "put IDENTITY back from a backup, or move the directory away and join under a new node id",
        )  # fmt: skip
        return
    try:
        found.identity = parse_identity(_bytes_of(found, path, IDENTITY_BYTES_MAX), path)
    except IdentityError as error:
        detail = str(error).removeprefix(f"{path}: ").partition(";")[0]
        repair = f"'durakv-cli repair {found.directory} --yes' writes it again from the log's own copy"
        found.add(path, 0, 0, detail, repair)


def _read_hard_state(found: Survey) -> None:
    path = hardstate_path(found.directory)
    gone = "remove the member and add it again under a new node id; on a single node restore a backup, or "
    gone += f"'durakv-cli restore {found.directory} --out NEWDIR', which needs no hard state"
    if not found.files.exists(path):
        if found.files.exists(f"{found.directory}/{BACKUP_FILE}"):
            _read_backup_file(found)
        else:
            found.add(path, 0, 0, "missing: this node may have forgotten a vote", gone)
        return
    image = _bytes_of(found, path, HARDSTATE_BYTES)
    states = [decode_slot(image[at : at + SLOT_BYTES]) for at in SLOT_OFFSETS]
    for place, state in enumerate(states):
        if state is not None and state[0] > found.hard_seq:
            found.hard_slot, (found.hard_seq, found.hard) = place, state
    if found.hard is None:
        found.add(path, 0, 0, "both slots are damaged, so this node's vote is unknown", gone)
        return
    for at, state in zip(SLOT_OFFSETS, states, strict=True):
        slot = image[at : at + SLOT_BYTES]
        # A new file has one slot, the other is all zeros.
        if state is None and (any(slot) or found.hard_seq > 1):
            found.add(
                path, at, 0, f"slot {at // 4096} is torn or damaged; the other one counts",
                "none needed: the server's next vote or clean stop writes this slot anew", stops=False,
            )  # fmt: skip
        padding = image[at + SLOT_BYTES : at + 4096]
        if any(padding):
            first = at + SLOT_BYTES + next(n for n, byte in enumerate(padding) if byte)
            found.add(
                path, first, 0, "a byte that should be zero", "none needed: nothing reads it; but check this disk",
                stops=False,
            )  # fmt: skip
    if len(image) != HARDSTATE_BYTES:
        found.add(
            path, len(image), 0, f"{len(image)} bytes long instead of {HARDSTATE_BYTES}",
            "none needed while a slot is good: the server writes the other one anew", stops=False,
        )  # fmt: skip
    if found.identity is not None and found.hard.cluster_id != found.identity.cluster_id:
        repair = "put back the file that belongs to this directory"
        found.add(path, 80, 0, "belongs to another cluster than IDENTITY", repair)


def _read_backup_file(found: Survey) -> None:
    """A backup has no hard state; what it knew of it stands in its description."""
    found.is_backup = True
    path = f"{found.directory}/{BACKUP_FILE}"
    text, _, tail = _bytes_of(found, path, _DESCRIPTION_BYTES_MAX).rstrip(b"\n").rpartition(b"\n")
    if hashlib.blake2b(text + b"\n", digest_size=32).hexdigest().encode() != tail:
        found.add(path, 0, 0, "damaged", "none needed for a restore: the log proves itself", stops=False)
        return
    found.backup_committed = int(json.loads(text)["known_committed"])


def _read_log(found: Survey, progress: Progress) -> None:
    log = f"{found.directory}/log"
    names = found.files.listdir(log) if found.files.exists(log) else []
    found.segment_files = sorted(name for name in names if segment_number(name) is not None)
    if not found.segment_files:
        found.add(log, 0, 0, "no log segment", "restore a backup, or remove the node and add it under a new node id")
        return
    sizes = [_size_of(found, f"{log}/{name}") for name in found.segment_files]
    usable = True
    for at, name in enumerate(found.segment_files):
        path = f"{log}/{name}"
        is_last = at == len(found.segment_files) - 1
        runs = found.runs if usable else TermRuns()
        try:
            # What the medium holds is wanted, not what the page cache believes.
            disk = cast("Disk", _Growing()) if is_last and found.live else found.disk
            scan = scan_segment(disk, path, runs, direct=True)
        except CorruptionError as error:
            found.add(path, error.offset, found.last_good + 1 if usable else 0, error.detail, found.remedy())
            usable = False
            continue
        except IdentityError as error:
            found.add(path, 0, 0, str(error).removeprefix(f"{path}: "), "run the durakv that wrote it")
            usable = False
            continue
        progress(sum(sizes[: at + 1]), sum(sizes))
        fits = _check_place(found, scan, name) and usable and _check_joint(found, scan)
        if scan.bad_reason and not is_last:
            _note_damage(found, scan, f"{scan.bad_reason}, but {found.segment_files[at + 1]} follows")
        if fits:
            found.scans.append(scan)
        usable = fits and not (scan.bad_reason and not is_last)


def _check_place(found: Survey, scan: SegmentScan, name: str) -> bool:
    header = scan.header
    if segment_name(header.number) != name:
        found.add(
            scan.path, 0, header.base, f"holds segment {header.number}",
            f"rename it to {segment_name(header.number)} if nothing has that name",
        )  # fmt: skip
        return False
    identity = found.identity
    if identity is not None and (header.cluster_id, header.node_id) != (identity.cluster_id, identity.node_id):
        found.add(
            scan.path, 0, header.base, f"written by node {header.node_id} of cluster {header.cluster_id.hex()}",
            "put this node's own file back or restore a backup",
        )  # fmt: skip
        return False
    return True


def _check_joint(found: Survey, scan: SegmentScan) -> bool:
    header = scan.header
    if not found.scans:
        if header.base != 1:
            found.add(
                scan.path, 0, 1, f"begins at index {header.base}, and nothing holds the entries before",
                "put the missing segments back from a backup or quarantine/; " + found.remedy(),
            )  # fmt: skip
        return header.base == 1
    before = found.scans[-1]
    if not before.sealed or before.file_bytes != before.end:
        if not before.bad_reason:
            found.add(
                before.path, before.end, before.last_index + 1,
                f"no seal at its end, but {scan.path.rpartition('/')[2]} follows", found.remedy(),
            )  # fmt: skip
        return False
    if header.base != before.last_index + 1 or header.prev_chain != before.last_chain:
        found.add(
            scan.path, 0, before.last_index + 1,
            f"begins at index {header.base}, but the segment before ends at {before.last_index}; a segment is missing "
            "or foreign", "put the missing segment back from a backup or quarantine/; " + found.remedy(),
        )  # fmt: skip
        return False
    return True


def _note_damage(found: Survey, scan: SegmentScan, detail: str) -> None:
    later = f"; {scan.later_headers:,} later frames in this file are readable" if scan.later_headers else ""
    found.add(scan.path, scan.end, scan.last_index + 1, f"{detail} -> CORRUPT, not torn{later}", found.remedy())


def _read_membership(found: Survey) -> None:
    newest = last_configuration(found.disk, found.scans, found.last_good) if found.scans else None
    if newest is None:
        return
    found.configuration_index, content = newest
    try:
        found.membership = Membership.decode(content)
    except DecodeError as error:
        found.add(
            found.scans[-1].path, 0, found.configuration_index, f"configuration cannot be read: {error}",
            "run the durakv version that wrote it",
        )  # fmt: skip
    # What was noted before the membership was known gets its advice for the right kind of group.
    for finding in found.findings:
        if finding.path.startswith("log/") and "put back an intact copy" in finding.repair:
            finding.repair = found.remedy()


def _judge(found: Survey) -> None:
    """The end of the log, as recovery judges it; only when all before is in order."""
    if not found.scans or len(found.scans) != len(found.segment_files):
        return
    hard = found.hard
    verdict = decide(found.scans, hard.synced_hint if hard is not None else 0)
    found.verdict = verdict
    last = found.scans[-1]
    known = {(finding.path, finding.offset) for finding in found.findings}
    relative = verdict.path.removeprefix(found.directory).lstrip("/")
    if verdict.outcome is Outcome.CORRUPT and (relative, verdict.offset) not in known:
        _note_damage(found, last, verdict.detail)
    elif verdict.outcome is Outcome.TORN_TAIL and not found.live:
        found.add(
            verdict.path, verdict.offset, verdict.index,
            f"{verdict.detail} -> torn tail",
            f"'durakv-cli repair {found.directory} --yes', or just start the server: the tail is copied to quarantine/ "
            "and cut", stops=False,
        )  # fmt: skip
    if hard is not None and last.last_term > hard.term:
        found.add(
            hardstate_path(found.directory), 16, 0,
            f"says term {hard.term}, but the log has entries of term {last.last_term}: this node's newest vote is lost",
            found.remedy(),
        )  # fmt: skip


def _read_rest(found: Survey) -> None:
    folder = f"{found.directory}/quarantine"
    for name in found.files.listdir(folder) if found.files.exists(folder) else []:
        match = _QUARANTINED.fullmatch(name)
        if match is not None and checksum_of(found.files, f"{folder}/{name}") != int(match.group(1), 16):
            found.add(
                f"{folder}/{name}", 0, 0, "its content does not fit the checksum in its name",
                "none needed: no server reads it; but what it was kept for cannot be relied on", stops=False,
            )  # fmt: skip


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


def checksum_of(files: ReadOnlyFiles, path: str) -> int:
    """CRC-32C of a whole file."""
    file = files.open(path)
    try:
        value = 0
        for at in range(0, file.size(), _READ_BYTES):
            value = crc(file.pread(_READ_BYTES, at), value)
        return value
    finally:
        file.close()


def _size_of(found: Survey, path: str) -> int:
    file = found.files.open(path)
    try:
        return file.size()
    finally:
        file.close()


def _bytes_of(found: Survey, path: str, most: int) -> bytes:
    file = found.files.open(path)
    try:
        # One more than there may be, so that a file that grew is not taken for a good one.
        return file.pread(most + 1, 0)
    finally:
        file.close()
