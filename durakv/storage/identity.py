"""Whose data this directory holds: the IDENTITY file and the LOCK.

Rule: the only reader and writer of IDENTITY. It is written last when a directory is created, so its presence promises
that the hard state and the log exist; their absence later means the node has lost its memory and must not vote.
It must not know what the log holds.
"""

from __future__ import annotations

import re
from typing import Final

from durakv.storage.errors import DirectoryLocked, IdentityError
from durakv.storage.record import crc
from durakv.storage.segment import segment_number
from durakv.world.ports import Disk

IDENTITY_BYTES_MAX: Final = 4096
FORMAT: Final = 1

_TEXT = re.compile(
    rb"cluster_id=([0-9a-f]{32})\nnode_id=([0-9a-f]{16})\nformat=([0-9]{1,9})\ncreated_ms=([0-9]{1,15})\ncrc=([0-9a-f]{8})\n"
)


class Identity:
    """Cluster id (16 bytes), node id (u64, not 0), creation time (unix ms)."""

    __slots__ = ("cluster_id", "created_ms", "node_id")

    def __init__(self, cluster_id: bytes, node_id: int, created_ms: int) -> None:
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.created_ms = created_ms

    def encode(self) -> bytes:
        """The file's bytes: k=v lines, the last one the checksum of those before."""
        assert len(self.cluster_id) == 16, "a cluster id has 16 bytes"
        text = (
            f"cluster_id={self.cluster_id.hex()}\nnode_id={self.node_id:016x}\nformat={FORMAT}\ncreated_ms={self.created_ms}\n"
        ).encode()
        return text + b"crc=%08x\n" % crc(text)


def identity_path(directory: str) -> str:
    """Where IDENTITY lies."""
    return f"{directory}/IDENTITY"


def hardstate_path(directory: str) -> str:
    """Where the hard state lies."""
    return f"{directory}/raft/hardstate"


def log_directory(directory: str) -> str:
    """Where the log segments lie."""
    return f"{directory}/log"


def take_lock(disk: Disk, directory: str) -> None:
    """Lock the directory for this process. Raises DirectoryLocked when another one has it."""
    if not disk.lock(f"{directory}/LOCK"):
        raise DirectoryLocked(
            f"{directory}: in use by another durakv process; stop it or start this one with another --dir"
        )


def parse_identity(data: bytes, path: str) -> Identity:
    """Raises IdentityError unless the bytes are exactly what ``Identity.encode`` makes."""
    match = _TEXT.fullmatch(data)
    if match is None or crc(data[: match.start(5) - 4]) != int(match.group(5), 16):
        raise IdentityError(
            f"{path}: damaged; write it again with the values of 'durakv-cli inspect' or restore a backup"
        )
    if int(match.group(3)) != FORMAT:
        raise IdentityError(
            f"{path}: data format {int(match.group(3))}, this durakv reads {FORMAT}; "
            "run the durakv version that wrote it"
        )
    return Identity(bytes.fromhex(match.group(1).decode()), int(match.group(2), 16), int(match.group(4)))


def write_identity(disk: Disk, directory: str, identity: Identity) -> None:
    """Publish IDENTITY atomically and durably; the last step of creating a directory."""
    path = identity_path(directory)
    temporary = f"{path}.tmp"
    file = disk.open(temporary, create=True)
    try:
        data = identity.encode()
        file.truncate(0)
        assert file.pwrite(data, 0) == len(data), "short write while creating IDENTITY"
        file.fsync()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.fsync_dir(directory)


def read_identity(
    disk: Disk, directory: str, *, cluster_id: bytes | None = None, node_id: int | None = None
) -> Identity | None:
    """IDENTITY of the directory, or None when it is empty and may be created.

    ``cluster_id`` and ``node_id`` are what the configuration says, when it says anything. Raises IdentityError for a
    foreign directory, and for one that has lost its hard state, its log or its IDENTITY.
    """
    path = identity_path(directory)
    has_hardstate = disk.exists(hardstate_path(directory))
    has_log = any(segment_number(name) is not None for name in _names(disk, log_directory(directory)))
    if not disk.exists(path):
        return None
    file = disk.open(path)
    try:
        identity = parse_identity(file.pread(IDENTITY_BYTES_MAX, 0), path)
    finally:
        file.close()
    if cluster_id is not None and identity.cluster_id != cluster_id:
        raise IdentityError(
            f"{directory}: belongs to cluster {identity.cluster_id.hex()}, not {cluster_id.hex()}; "
            "point --dir at this cluster's data or at an empty directory"
        )
    if node_id is not None and identity.node_id != node_id:
        raise IdentityError(
            f"{directory}: belongs to node {identity.node_id:016x}, not {node_id:016x}; "
            "point --dir at this node's own data directory"
        )
    if not has_hardstate or not has_log:
        lost = "its hard state (raft/hardstate)" if not has_hardstate else "its log (log/dk.*.log)"
        raise IdentityError(
            f"{directory}: node {identity.node_id:016x} has lost {lost} and may have forgotten votes and acknowledged "
            "writes; remove it from the cluster and add it again under a new node id, or restore a backup"
        )
    return identity


def refuse_amnesiac(directory: str, node_id: int) -> None:
    """Call when the directory is empty but the cluster already counts this node as a member."""
    raise IdentityError(
        f"{directory}: empty, but node {node_id:016x} is already a member, so it has lost its vote and its log; "
        "remove the member and add it again under a new node id"
    )


def _names(disk: Disk, path: str) -> list[str]:
    return disk.listdir(path) if disk.exists(path) else []
