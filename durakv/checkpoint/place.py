"""Where checkpoints lie below a data directory, which of them counts, and how one is opened.

``ckpt/CURRENT`` names the environment, ``env-<n>``; it is replaced by a rename, so that it names the old one or the
new one whatever happens. ``ckpt/snap-<index>.dksnap`` are snapshots for other members, ``fx/dk.<n>.fx`` the stream.
Rule: the only place that knows these names, and that opens a store of LMDB: after its pages were looked at, since LMDB
would trust them.
"""

from __future__ import annotations

import errno
import re
from typing import Final

from durakv.checkpoint.damage import CheckpointDamaged
from durakv.checkpoint.kv import KvStore, OpenKv
from durakv.checkpoint.pages import check_pages
from durakv.storage.record import crc
from durakv.world.ports import Disk

DATA_NAME: Final = "data.mdb"
# Held by the materialiser for as long as it lives, beside the environments.
LOCK_NAME: Final = "LOCK"
_CURRENT_BYTES_MAX: Final = 256
_CURRENT: Final = re.compile(rb"(env-([0-9]{1,20})) crc=([0-9a-f]{8})\n")
_STREAM: Final = re.compile(r"dk\.([0-9]{20})\.fx")


def checkpoint_directory(directory: str) -> str:
    """Where checkpoints lie."""
    return f"{directory}/ckpt"


def stream_directory(directory: str) -> str:
    """Where the effect stream lies."""
    return f"{directory}/fx"


def environment(directory: str, number: int) -> str:
    """Where environment ``number`` lies."""
    return f"{directory}/ckpt/env-{number}"


def stream_name(number: int) -> str:
    """The name of a stream file."""
    return f"dk.{number:020d}.fx"


def stream_number(name: str) -> int:
    """The number of a stream file, -1 for any other name."""
    found = _STREAM.fullmatch(name)
    return -1 if found is None else int(found[1])


def read_current(disk: Disk, directory: str) -> int | None:
    """The number of the environment that counts; None when there is none yet. Raises CheckpointDamaged, OSError."""
    path = f"{directory}/ckpt/CURRENT"
    if not disk.exists(path):
        return None
    file = disk.open(path)
    try:
        text = file.pread(_CURRENT_BYTES_MAX, 0)
    finally:
        file.close()
    found = _CURRENT.fullmatch(text)
    if found is None or found[3] != b"%08x" % crc(found[1]):
        raise CheckpointDamaged(path, "it is not a name and its checksum")
    return int(found[2])


def write_current(disk: Disk, directory: str, number: int) -> None:
    """Make environment ``number`` the one that counts; its files and their directory must be synced. Raises OSError."""
    path = f"{directory}/ckpt/CURRENT"
    name = b"env-%d" % number
    new = path + ".new"
    file = disk.open(new, create=True)
    try:
        text = b"%s crc=%08x\n" % (name, crc(name))
        file.truncate(0)
        if file.pwrite(text, 0) != len(text):
            raise OSError(errno.ENOSPC, f"{new}: the volume is full")
        file.fsync()
    finally:
        file.close()
    disk.rename(new, path)
    disk.fsync_dir(f"{directory}/ckpt")


def open_checked(disk: Disk, open_kv: OpenKv, environment_directory: str, *, write: bool) -> KvStore:
    """CheckedStores, for whoever opens one store once."""
    return CheckedStores(disk, open_kv)(environment_directory, write=write)


class CheckedStores:
    """Implements kv.OpenKv over another one. A directory is looked at once: what is written later is LMDB's own."""

    def __init__(self, disk: Disk, open_kv: OpenKv) -> None:
        self._disk = disk
        self._open_kv = open_kv
        self._checked: set[str] = set()

    def __call__(self, directory: str, *, write: bool) -> KvStore:
        """Open the store in ``directory``, or when writing create one there.

        The first time its whole file is read. Raises CheckpointDamaged, CheckpointUnfit, and OSError:
        FileNotFoundError when there is none to read.
        """
        path = f"{directory}/{DATA_NAME}"
        if directory not in self._checked and self._disk.exists(path):
            file = self._disk.open(path)
            try:
                check_pages(file, path)
            finally:
                file.close()
            self._checked.add(directory)
        if write:
            self._disk.mkdir(directory)
        try:
            return self._open_kv(directory, write=write)
        except OSError as error:
            if error.errno == errno.EBADMSG:
                raise CheckpointDamaged(path, str(error)) from error
            raise
