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
from collections.abc import Sequence
from typing import Final

from durakv.cli.admin_files import ReadOnlyFiles
from durakv.cli.recovery_checkpoint import look_at_checkpoint, look_at_snapshots
from durakv.cli.recovery_entries import entry_at, last_configuration
from durakv.cli.recovery_found import (
    BACKUP,
    BACKUP_FILE,
    CUTS_TAIL,
    FINISHES,
    REFUSES,
    STARTS,
    Finding,
    Survey,
)
from durakv.cli.recovery_segments import Progress, read_log, read_more
from durakv.storage.errors import CorruptionError, IdentityError
from durakv.storage.hardstate import HARDSTATE_BYTES, SLOT_BYTES, SLOT_OFFSETS, decode_slot
from durakv.storage.identity import IDENTITY_BYTES_MAX, hardstate_path, identity_path, parse_identity
from durakv.storage.record import crc
from raft.types import DecodeError, Membership

_LIVE_LOOKS: Final = 4
_LIVE_PAUSE_S: Final = 0.1
# A quarantined file carries the checksum of its content in its name.
_QUARANTINED: Final = re.compile(r"(?:torn|cut|identity|hardstate|current)-.*-([0-9a-f]{8})\.bin")
_READ_BYTES: Final = 1 << 20
# How far from an end of the log a frame with a time of its own is looked for.
_TIME_STEPS: Final = 256
_DESCRIPTION_BYTES_MAX: Final = 64 << 20


def survey(
    directory: str, progress: Progress, *, live: bool, thorough: bool = False, more: Sequence[str] = ()
) -> Survey:
    """Look at everything. ``live``: a server is at work there, so what looks broken is looked at again, and the end of
    the log is not judged. ``thorough``: each row of the checkpoint and each snapshot too. ``more``: directories with
    more segments of the same cluster's log, or data directories or backups. Raises OSError.
    """
    directory = directory.rstrip("/") or "/"
    found = _look(directory, progress, live=live, thorough=thorough)
    for _ in range(_LIVE_LOOKS if live else 0):
        if found is not None and not found.findings:
            break
        time.sleep(_LIVE_PAUSE_S)
        found = _look(directory, progress, live=live, thorough=thorough)
    if found is None:
        raise OSError(f"{directory}: its files change faster than they can be read; try again")
    for folder in more:
        _look_also(found, folder.rstrip("/") or "/", thorough=thorough)
    return found


def _look(directory: str, progress: Progress, *, live: bool, thorough: bool) -> Survey | None:
    found = Survey(directory, live=live)
    try:
        _read_identity(found)
        _read_hard_state(found)
        look_at_checkpoint(found, thorough=thorough)
        read_log(found, progress)
        _read_membership(found)
        _read_ends(found)
        _advise(found)
        if thorough:
            look_at_snapshots(found)
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


def _look_also(found: Survey, folder: str, *, thorough: bool) -> None:
    """Another source of log, and perhaps of a checkpoint to begin from."""
    if not any(found.files.is_directory(f"{folder}/{name}") for name in ("log", "ckpt")):
        read_more(found, folder)
        return
    read_more(found, f"{folder}/log")
    other = Survey(folder, live=False)
    look_at_checkpoint(other, thorough=thorough)
    found.notes += [f"{folder}/{finding.line()}" for finding in other.findings]
    look = other.checkpoint
    if look is not None and look.sound and look.index:
        if look.cluster_id == found.cluster_id:
            found.other_checkpoints.append(look)
        else:
            found.notes.append(f"{look.path} cannot be used: it is of cluster {look.cluster_id.hex()}")


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


def _read_membership(found: Survey) -> None:
    """The newest in the log behind the checkpoint, else the checkpoint's."""
    newest = last_configuration(found.disk, found.scans, found.last_good) if found.scans else None
    look = found.checkpoint
    if found.covered() is not None and look is not None and (newest is None or newest[0] <= look.index):
        newest = look.index, look.membership
    if newest is None:
        return
    found.configuration_index, content = newest
    try:
        found.membership = Membership.decode(content)
    except DecodeError as error:
        path = found.scans[-1].path if found.scans else found.directory
        found.add(
            path, 0, found.configuration_index, f"configuration cannot be read: {error}",
            "run the durakv version that wrote it",
        )  # fmt: skip


def _read_ends(found: Survey) -> None:
    """Terms and times of the first and last entries."""
    if found.scans and found.scans[-1].last_index >= found.first:
        first, last = found.first, found.scans[-1].last_index
        found.terms = [entry_at(found.disk, found.scans, first).term, found.scans[-1].last_term]
        steps = min(_TIME_STEPS, last - first + 1)
        found.first_time_ms = _first_time(found, range(first, first + steps))
        found.last_time_ms = _first_time(found, range(last, last - steps, -1))
    look = found.checkpoint
    if not found.last_time_ms and look is not None and look.applied is not None:
        found.last_time_ms = look.applied.ts_ms


def _first_time(found: Survey, indexes: range) -> int:
    for index in indexes:
        ts_ms = entry_at(found.disk, found.scans, index).ts_ms
        if ts_ms:
            return ts_ms
    return 0


def _advise(found: Survey) -> None:
    """What was noted before membership and log were known gets its advice for the case at hand."""
    from_one = (
        bool(found.scans)
        and found.scans[0].header.base == 1
        and not any(finding.stops and finding.path.startswith("log") for finding in found.findings)
    )
    for finding in found.findings:
        if found.hole is not None and finding.path == found.relative(found.hole.path):
            finding.repair = (
                f"'durakv-cli repair {found.directory} --yes': the damage lies before the checkpoint's end, and what "
                "the log needs of this segment is whole; do not start a server before"
            )
        elif finding.path.startswith("log/") and "put back an intact copy" in finding.repair:
            finding.repair = found.remedy()
        elif finding.path.startswith("ckpt/") and not finding.repair:
            finding.repair = found.remedy()
            if from_one:
                finding.repair = (
                    f"'durakv-cli repair {found.directory} --yes' moves ckpt/ to quarantine/: the log holds everything "
                    "from index 1, and the next start makes another checkpoint from it"
                )
        if finding.path.startswith("log/dk.") and finding.stops and finding.repair.endswith(found.remedy()):
            finding.repair = found.fetch() + finding.repair


def _read_rest(found: Survey) -> None:
    folder = f"{found.directory}/quarantine"
    for name in found.files.listdir(folder) if found.files.exists(folder) else []:
        match = _QUARANTINED.fullmatch(name)
        if match is not None and checksum_of(found.files, f"{folder}/{name}") != int(match.group(1), 16):
            found.add(
                f"{folder}/{name}", 0, 0, "its content does not fit the checksum in its name",
                "none needed: no server reads it; but what it was kept for cannot be relied on", stops=False,
            )  # fmt: skip


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


def _bytes_of(found: Survey, path: str, most: int) -> bytes:
    file = found.files.open(path)
    try:
        # One more than there may be, so that a file that grew is not taken for a good one.
        return file.pread(most + 1, 0)
    finally:
        file.close()


__all__ = [
    "BACKUP", "BACKUP_FILE", "CUTS_TAIL", "FINISHES", "REFUSES", "STARTS", "Finding", "Progress", "Survey",
    "checksum_of", "survey",
]  # fmt: skip
