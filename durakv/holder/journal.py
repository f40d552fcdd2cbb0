"""A holder member's file on disk: appended to and synced, replaced by rename when it has grown.

Rule: the only place that touches it, and nothing is said to be done before it is synced. One job at a time: the owner
asks for the next append or replacement when the last one is done. A torn last batch was never promised to anybody and
is dropped; damage before a sound batch, or in the first one, stops the member, for it may have voted in what is lost.
Must not know Raft or the register.
"""

from __future__ import annotations

import errno
from typing import Final

from durakv.holder import record
from durakv.holder.record import Batches, Image
from durakv.storage.errors import IdentityError, StorageError
from durakv.storage.lane import FULL_ERRNOS, Done, Lane, sync_or_die, sync_timed, write_all
from durakv.world.ports import Disk, File
from raft.types import DecodeError

NAME: Final = "member"
_TEMPORARY: Final = "member.tmp"
LOCK: Final = "LOCK"
# Reserved when a file is made, so that a full disk is met then and not by an append.
RESERVED_BYTES: Final = 256 << 10
# A file longer than this is replaced by one that holds the newest snapshot and what follows it.
REPLACE_BYTES: Final = 128 << 10


class MemberDamaged(StorageError):
    """The file's bytes are none that a crash can leave."""

    def __init__(self, path: str, offset: int, detail: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: {detail}; what this member voted for is unknown, so it must not vote "
            "again: replace it by a member of the config holder with a new id"
        )


def exists(disk: Disk, directory: str) -> bool:
    """Whether a member was founded in the directory."""
    return disk.exists(f"{directory}/{NAME}")


def expect(disk: Disk, directory: str) -> None:
    """Raises IdentityError when no member was founded in the directory."""
    if not exists(disk, directory):
        raise IdentityError(
            f"{directory}: holds no member of a config holder; a new one is founded with the cluster, and one that "
            "lost its files is replaced by a member with a new id, see 'durakv holder'"
        )


def create(disk: Disk, directory: str, image: Image) -> None:
    """Make the file of a new member, durable with its name. Blocks. Raises IdentityError when there is one, OSError."""
    if exists(disk, directory):
        raise IdentityError(
            f"{directory}: holds a member of a config holder already, whose votes must not be forgotten; start that "
            "one, or give the new member another directory"
        )
    missing: list[str] = []
    path = directory
    while path and not disk.exists(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    disk.mkdir(directory)
    for made in missing:
        disk.fsync_dir(made.rpartition("/")[0] or "/")
    _write_new(disk, directory, record.batch(1, image.encode())).close()


def _write_new(disk: Disk, directory: str, data: bytes) -> File:
    """The open file of that content under its name, all of it durable."""
    temporary = f"{directory}/{_TEMPORARY}"
    file = disk.open(temporary, create=True)
    try:
        file.truncate(0)
        file.fallocate(0, max(RESERVED_BYTES, len(data) + RESERVED_BYTES // 2))
        written = 0
        while written < len(data):
            count = file.pwrite(data[written:], written)
            if count <= 0:
                raise OSError(errno.EIO, f"short write: {written} of {len(data)} bytes", temporary)
            written += count
        sync_or_die(file.fsync, temporary)
        disk.rename(temporary, f"{directory}/{NAME}")
        sync_or_die(lambda: disk.fsync_dir(directory), directory)
    except OSError:
        file.close()
        raise
    return file


class Journal:
    """The open file. ``length_bytes`` is how far it is written."""

    def __init__(self, lane: Lane, directory: str, file: File, length_bytes: int, next_number: int) -> None:
        self.length_bytes = length_bytes
        self.replace_at_bytes = max(REPLACE_BYTES, 2 * length_bytes)
        self._lane = lane
        self._directory = directory
        self._path = f"{directory}/{NAME}"
        self._file = file
        self._next = next_number

    @staticmethod
    def open(lane: Lane, directory: str, cluster_id: bytes, member_id: int) -> tuple[Journal, Image]:
        """Read what was kept and go on in a fresh file. Blocks. Raises StorageError or OSError."""
        disk, path = lane.disk, f"{directory}/{NAME}"
        expect(disk, directory)
        image = _read(disk, path)
        if (image.cluster_id, image.member_id) != (cluster_id, member_id):
            raise IdentityError(
                f"{path}: is of member {image.member_id} of cluster {image.cluster_id.hex()}, not of member {member_id}"
                f" of cluster {cluster_id.hex()}; put back the right directory or correct the ids"
            )
        # What was read may be only in the device's cache, and a torn end must not be found by a later start.
        data = record.batch(1, image.encode())
        file = _write_new(disk, directory, data)
        return Journal(lane, directory, file, len(data), 2), image

    def append(self, payload: bytes, done: Done) -> None:
        """Write one batch behind the others, sync it, then ``done``."""
        data = record.batch(self._next, payload)
        mark = record.seal(self._next + 1)
        at = self.length_bytes
        file, lane, path = self._file, self._lane, self._path

        def job() -> None:
            write_all(lane, path, file.pwrite, data, at)
            sync_timed(lane, file.fdatasync, path)
            # Goes to the disk with the next batch or in the kernel's own time.
            write_all(lane, path, file.pwrite, mark, at + len(data))

        self._next += 2
        self.length_bytes = at + len(data) + len(mark)
        lane.submit(job, done)

    def replace(self, image: Image, done: Done, *, must: bool) -> None:
        """Make the image the whole content, then ``done``. Unless it ``must`` be, a full disk leaves the file as it
        was, which holds the same.
        """
        data = record.batch(1, image.encode())
        made: list[File] = []

        def job() -> None:
            try:
                made.append(_write_new(self._lane.disk, self._directory, data))
            except OSError as error:
                if must or error.errno not in FULL_ERRNOS:
                    raise

        def replaced(error: OSError | None) -> None:
            if made:
                self._file.close()
                self._file = made[0]
                self.length_bytes, self._next = len(data), 2
                self.replace_at_bytes = max(REPLACE_BYTES, 2 * len(data))
            elif error is None:
                # Put off because the disk is full.
                self.replace_at_bytes = self.length_bytes + REPLACE_BYTES
            done(error)

        self._lane.submit(job, replaced)

    def close(self) -> None:
        """Close the file; no job may be under way."""
        self._file.close()


def _read(disk: Disk, path: str) -> Image:
    file = disk.open(path, direct=True)
    try:
        data = file.pread(file.size(), 0)
    finally:
        file.close()
    found = Batches(data, 0)
    if not found.payloads or found.damaged:
        raise MemberDamaged(path, found.end, "a batch was synced there and is not sound any more")
    try:
        return record.decode(found.payloads)
    except DecodeError as error:
        raise MemberDamaged(path, 0, str(error)) from error
