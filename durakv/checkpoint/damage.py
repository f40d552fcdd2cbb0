"""What is wrong with a checkpoint or with the stream that feeds it, in words that name the way out.

Rule: every error of this package that must stop a node or its materialiser is defined here. It must not know who
catches it.
"""

from __future__ import annotations

from durakv.storage.errors import StorageError


class CheckpointDamaged(StorageError):
    """A checkpoint holds bytes no writer put there, or lacks some; nothing of it may be believed."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(
            f"checkpoint damaged: {where}: {detail}; run 'durakv-cli verify --deep' on the data directory, which says "
            "what can be mended; in a group, remove the member and add it again under a new node id"
        )
        self.where = where
        self.detail = detail


class CheckpointUnfit(StorageError):
    """A sound checkpoint that this program, or this configuration, cannot take; the text says why and what to do."""


class StreamDamaged(StorageError):
    """The effect stream is not what the server wrote, or does not fit the checkpoint. It is made anew at each start."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(
            f"effect stream damaged: {where}: {detail}; the checkpoint is as it was before; restart this node, which "
            "writes the stream anew from its log"
        )
        self.where = where
        self.detail = detail


class SnapshotDamaged(StorageError):
    """A snapshot file that is not what its header says; it must not be unpacked."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"snapshot {path} is damaged: {detail}; delete the file and fetch the snapshot again")
        self.path = path
        self.detail = detail
