"""A snapshot: one file with a header that says what it is, and a compact copy of a checkpoint's store behind it.

Rule: the only place that knows the header. Whoever gets a snapshot trusts nothing of it before header, size and digest
were found right; then its pages are looked at like those of any store (place.open_checked). It must not know rows,
except that the aux row ``cfg`` is the group's membership, which a receiver wants to see before all else.

Header, 4096 bytes, little-endian: magic, cluster id (16), u64 index, u64 term, u32 subterm, u32 chain, u64 time (Unix
ms), u64 bytes behind the header, their blake2b-256, u16 length of the membership, membership, zeros, crc32c.
"""

from __future__ import annotations

import errno
import struct
from hashlib import blake2b
from typing import Final

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged, SnapshotDamaged
from durakv.checkpoint.kv import AUX, KvStore
from durakv.checkpoint.meta import read_meta
from durakv.checkpoint.place import DATA_NAME
from durakv.storage.record import crc
from durakv.world.ports import Disk, File

HEADER_BYTES: Final = 4096
MEMBERSHIP: Final = b"cfg"
_MAGIC: Final = b"DKSNAP1\n"
_HEADER: Final = struct.Struct("<8s16sQQIIQQ32sH")
_CRC: Final = struct.Struct("<I")
_CRC_AT: Final = HEADER_BYTES - 4
_PIECE_BYTES: Final = 1 << 20


class SnapshotInfo:
    """What a header says; ``size`` is that of the whole file in bytes."""

    __slots__ = ("applied", "cluster_id", "digest", "membership", "size")

    def __init__(self, cluster_id: bytes, applied: rows.Applied, size: int, digest: bytes, membership: bytes) -> None:
        self.cluster_id = cluster_id
        self.applied = applied
        self.size = size
        self.digest = digest
        self.membership = membership

    def header(self) -> bytes:
        """The file's first bytes. Raises ValueError when the membership does not fit."""
        at = self.applied
        head = _HEADER.pack(
            _MAGIC, self.cluster_id, at.index, at.term, at.subterm, at.chain, at.ts_ms, self.size - HEADER_BYTES,
            self.digest, len(self.membership),
        )  # fmt: skip
        head += self.membership
        if len(head) > _CRC_AT:
            raise ValueError(f"a membership of {len(self.membership)} bytes does not fit a snapshot's header")
        head += bytes(_CRC_AT - len(head))
        return head + _CRC.pack(crc(head))


def write_snapshot(kv: KvStore, disk: Disk, directory: str) -> tuple[SnapshotInfo, str]:
    """Write the last commit to ``directory``, where checkpoints lie; what and where it is.

    Raises CheckpointDamaged, OSError, ValueError. The file has its name only when it is whole and synced.
    """
    txn = kv.begin(write=False)
    meta = read_meta(txn)
    membership = txn.get(AUX, MEMBERSHIP) or rows.sealed(MEMBERSHIP, b"")
    txn.abort()
    if meta is None or not rows.intact(MEMBERSHIP, membership):
        raise CheckpointDamaged("database aux, row cfg", "the checksum is wrong")
    path = f"{directory}/snap-{meta.applied.index}.dksnap"
    new = path + ".new"
    if disk.exists(new):
        disk.unlink(new)
    file = disk.open(new, create=True)
    try:
        _write(file, bytes(HEADER_BYTES), 0)
        kv.copy_compact(new, HEADER_BYTES)
        info = SnapshotInfo(meta.cluster_id, meta.applied, file.size(), _digest(file), membership[: -rows.CRC_BYTES])
        _write(file, info.header(), 0)
        file.fsync()
    except BaseException:
        # On a volume that is full it would be in the way.
        disk.unlink(new)
        raise
    finally:
        file.close()
    disk.rename(new, path)
    disk.fsync_dir(directory)
    return info, path


def read_header(file: File, path: str) -> SnapshotInfo:
    """What a file says it is, once its header and its size were found right. Raises SnapshotDamaged, OSError."""
    head = file.pread(HEADER_BYTES, 0)
    if len(head) < HEADER_BYTES:
        raise SnapshotDamaged(path, f"it has {len(head)} bytes, a header has {HEADER_BYTES}")
    if head[: len(_MAGIC)] != _MAGIC:
        raise SnapshotDamaged(path, "it is no snapshot")
    if _CRC.unpack_from(head, _CRC_AT)[0] != crc(head[:_CRC_AT]):
        raise SnapshotDamaged(path, "the checksum of its header is wrong")
    _, cluster_id, index, term, subterm, chain, ts_ms, size, digest, length = _HEADER.unpack_from(head)
    if file.size() != HEADER_BYTES + size:
        raise SnapshotDamaged(path, f"it has {file.size()} bytes instead of {HEADER_BYTES + size}")
    membership = head[_HEADER.size : _HEADER.size + length]
    applied = rows.Applied(index, term, subterm, chain, ts_ms)
    return SnapshotInfo(cluster_id, applied, HEADER_BYTES + size, digest, membership)


def verify_snapshot(disk: Disk, path: str) -> SnapshotInfo:
    """What the snapshot is, once every byte was found to be the writer's. Raises SnapshotDamaged, OSError."""
    file = disk.open(path)
    try:
        info = read_header(file, path)
        if _digest(file) != info.digest:
            raise SnapshotDamaged(path, "its digest is wrong")
    finally:
        file.close()
    return info


class Unpacking:
    """Copies a snapshot's store into a directory of its own, piece by piece: call step() until it says False.

    The directory holds a synced store then, every byte as the sender wrote it. On an error it holds none.
    """

    def __init__(self, disk: Disk, path: str, environment_directory: str) -> None:
        """Raises SnapshotDamaged, OSError. What an earlier attempt left in the directory goes."""
        self._disk = disk
        self._path = path
        self._directory = environment_directory
        self._target = f"{environment_directory}/{DATA_NAME}"
        self._source = disk.open(path)
        self._copy: File | None = None
        self._hash = blake2b(digest_size=32)
        self._at = HEADER_BYTES
        try:
            self.info = read_header(self._source, path)
            disk.mkdir(environment_directory)
            for name in disk.listdir(environment_directory):
                disk.unlink(f"{environment_directory}/{name}")
            # Under its own name only when it is known to be right.
            self._copy = disk.open(self._target + ".new", create=True)
            self._copy.truncate(0)
        except BaseException:
            self.close()
            raise

    def step(self, pieces: int = 1) -> bool:
        """Copy up to so many MiB more; False when all is done. Raises SnapshotDamaged, OSError."""
        copy = self._copy
        assert copy is not None, "a snapshot is unpacked once"
        for _ in range(pieces):
            data = self._source.pread(min(_PIECE_BYTES, self.info.size - self._at), self._at)
            if not data:
                self._finish(copy)
                return False
            self._hash.update(data)
            _write(copy, data, self._at - HEADER_BYTES)
            self._at += len(data)
        return True

    def close(self) -> None:
        """Close the files; harmless after the end."""
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()
            self._source.close()
        elif self._at == HEADER_BYTES:
            self._source.close()

    def _finish(self, copy: File) -> None:
        if self._hash.digest() != self.info.digest:
            self.close()
            self._disk.unlink(self._target + ".new")
            raise SnapshotDamaged(self._path, "its digest is wrong")
        copy.fsync()
        self.close()
        self._disk.rename(self._target + ".new", self._target)
        self._disk.fsync_dir(self._directory)


def unpack_snapshot(disk: Disk, path: str, environment_directory: str) -> SnapshotInfo:
    """Copy a snapshot's store into a directory of its own, all at once; what it is. Raises SnapshotDamaged, OSError."""
    unpacking = Unpacking(disk, path, environment_directory)
    try:
        while unpacking.step(64):
            pass
    finally:
        unpacking.close()
    return unpacking.info


def _digest(file: File) -> bytes:
    """blake2b-256 of all behind the header."""
    total = blake2b(digest_size=32)
    at = HEADER_BYTES
    while data := file.pread(_PIECE_BYTES, at):
        total.update(data)
        at += len(data)
    return total.digest()


def _write(file: File, data: bytes, at: int) -> None:
    """All of it. Raises OSError."""
    while data:
        count = file.pwrite(data, at)
        if count <= 0:
            raise OSError(errno.ENOSPC, "the volume is full")
        data = data[count:]
        at += count
