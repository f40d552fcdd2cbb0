"""A checkpoint for scripted runs: the entries themselves, in a file that is written as LMDB writes its own.

LMDB does not write through the disk port, so it cannot be played on a recording disk; what its commits leave is looked
at in ``pages_states.py``. Here its promise is kept by the same protocol: content behind what is there, a sync, then the
older of two heads, a sync. Everything around it (CURRENT, snapshots, what the log drops) is production code.
Rule: the only place that knows this file. It must not know crash states.
"""

from __future__ import annotations

import marshal
import struct
from hashlib import blake2b
from typing import Final

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged
from durakv.checkpoint.place import DATA_NAME, checkpoint_directory, environment, read_current, write_current
from durakv.checkpoint.snapshot_file import HEADER_BYTES, SnapshotInfo, unpack_snapshot
from durakv.storage.record import crc
from durakv.storage.segment import Covered
from durakv.world.ports import Disk
from jstyle.crash.ledger import History

INCOMING: Final = "incoming.dksnap"
_HEADS: Final = (0, 4096)
_BODY_AT: Final = 8192
# Number of the commit, place and size and checksum of the content, and the log's index, term and digest there.
_HEAD: Final = struct.Struct("<QQQIQQI")
_CRC: Final = struct.Struct("<I")
_CHUNK_BYTES: Final = 6000


class Saved:
    """What a checkpoint holds."""

    __slots__ = ("covered", "held", "number")

    def __init__(self, number: int, held: History, covered: Covered) -> None:
        self.number = number
        self.held = held
        self.covered = covered


def found(disk: Disk, directory: str) -> None:
    """An empty one, as Checkpoints makes it at the first start."""
    place = environment(directory, 1)
    disk.mkdir(place)
    disk.fsync_dir(directory)
    file = disk.open(f"{place}/{DATA_NAME}", create=True)
    file.truncate(0)
    file.pwrite(_image(Saved(1, (), Covered(0, 0, 0))), 0)
    file.fsync()
    file.close()
    disk.fsync_dir(place)
    disk.fsync_dir(checkpoint_directory(directory))
    write_current(disk, directory, 1)


def commit(disk: Disk, directory: str, held: History, covered: Covered) -> None:
    """Bring it forward, in place."""
    number = read_current(disk, directory)
    assert number is not None, "a checkpoint is founded at the first start"
    path = f"{environment(directory, number)}/{DATA_NAME}"
    file = disk.open(path)
    newest = _newest(file.pread(file.size(), 0), path)
    body = _packed(held)
    at = file.size()
    file.pwrite(body, at)
    file.fdatasync()
    saved = Saved(newest.number + 1, held, covered)
    file.pwrite(_head(saved, at, body), _HEADS[saved.number % 2])
    file.fdatasync()
    file.close()


def read(disk: Disk, directory: str) -> Saved | None:
    """What counts; None before there is one. Raises CheckpointDamaged."""
    number = read_current(disk, directory)
    if number is None:
        return None
    path = f"{environment(directory, number)}/{DATA_NAME}"
    if not disk.exists(path):
        raise CheckpointDamaged(path, "the environment that CURRENT names is not there")
    file = disk.open(path)
    image = file.pread(file.size(), 0)
    file.close()
    return _newest(image, path)


def receive(disk: Disk, directory: str, held: History, covered: Covered) -> None:
    """A snapshot arrives piece by piece; nothing of it is synced."""
    store = _image(Saved(1, held, covered))
    applied = rows.Applied(covered.index, covered.term, 0, covered.chain, 0)
    digest = blake2b(store, digest_size=32).digest()
    content = SnapshotInfo(bytes(16), applied, HEADER_BYTES + len(store), digest, b"").header() + store
    file = disk.open(f"{checkpoint_directory(directory)}/{INCOMING}", create=True)
    file.truncate(0)
    for at in range(0, len(content), _CHUNK_BYTES):
        file.pwrite(content[at : at + _CHUNK_BYTES], at)
    file.close()


def unpack(disk: Disk, directory: str) -> None:
    """Make what arrived the checkpoint that counts, as Snapshots does."""
    folder = checkpoint_directory(directory)
    path = f"{folder}/{INCOMING}"
    file = disk.open(path)
    file.fsync()
    file.close()
    number = (read_current(disk, directory) or 0) + 1
    unpack_snapshot(disk, path, environment(directory, number))
    disk.fsync_dir(folder)
    write_current(disk, directory, number)


def forget_others(disk: Disk, directory: str) -> None:
    """What the snapshot replaced goes, and its file."""
    folder = checkpoint_directory(directory)
    current = f"env-{read_current(disk, directory)}"
    disk.unlink(f"{folder}/{INCOMING}")
    for name in disk.listdir(folder):
        if name.startswith("env-") and name != current:
            for inner in disk.listdir(f"{folder}/{name}"):
                disk.unlink(f"{folder}/{name}/{inner}")


def _packed(held: History) -> bytes:
    # Later versions write other bytes for equal values, by what else refers to them.
    return marshal.dumps(held, 2)


def _head(saved: Saved, at: int, body: bytes) -> bytes:
    covered = saved.covered
    head = _HEAD.pack(saved.number, at, len(body), crc(body), covered.index, covered.term, covered.chain)
    return head + _CRC.pack(crc(head))


def _image(saved: Saved) -> bytes:
    """A file with one commit."""
    body = _packed(saved.held)
    image = bytearray(_BODY_AT)
    head = _head(saved, _BODY_AT, body)
    at = _HEADS[saved.number % 2]
    image[at : at + len(head)] = head
    return bytes(image) + body


def _newest(image: bytes, path: str) -> Saved:
    found: Saved | None = None
    for place in _HEADS:
        head = image[place : place + _HEAD.size]
        if len(head) < _HEAD.size or image[place + _HEAD.size :][: _CRC.size] != _CRC.pack(crc(head)):
            continue
        number, at, size, checksum, index, term, chain = _HEAD.unpack(head)
        if found is not None and found.number > number:
            continue
        body = image[at : at + size]
        if len(body) != size or crc(body) != checksum:
            raise CheckpointDamaged(path, f"commit {number} was named before its content was safe")
        held = tuple(marshal.loads(body))  # noqa: S302 - its checksum is right, and this module wrote it
        found = Saved(number, held, Covered(index, term, chain))
    if found is None:
        raise CheckpointDamaged(path, "neither head is whole")
    return found
