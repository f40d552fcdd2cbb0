"""What the storage layer says when it cannot go on, with the exit code that goes with it.

Rule: every error that must stop the node is defined here and carries ``exit_code`` (docs/format.md, "Exit codes").
It must not know who catches it.
"""

from __future__ import annotations

from typing import Final

EXIT_NEEDS_DECISION: Final = 70
EXIT_LOCKED: Final = 73
EXIT_IO: Final = 74


class StorageError(Exception):
    """A reason not to run on this data directory. ``str()`` is one line that names the way out."""

    exit_code: int = EXIT_NEEDS_DECISION


class CorruptionError(StorageError):
    """Bytes on disk that no crash explains: the disk, a cable, a controller or a hand is wrong."""

    def __init__(self, path: str, offset: int, detail: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: {detail}; stop this node and run 'durakv-cli verify --deep' on its "
            "data directory, then 'durakv-cli repair --from-peer HOST:PORT'"
        )
        self.path = path
        self.offset = offset
        self.detail = detail


class RecoveryRefused(StorageError):
    """Recovery found damage that only an operator may resolve; nothing was cut or changed."""


class IdentityError(StorageError):
    """The directory belongs to another cluster or node, or has lost part of its state."""


class DirectoryLocked(StorageError):
    """Another process has the data directory."""

    exit_code = EXIT_LOCKED
