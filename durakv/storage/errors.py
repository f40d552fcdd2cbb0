"""What the storage layer says when it cannot go on, with the exit code that goes with it.

Rule: every error that must stop the node is defined here and carries ``exit_code`` (docs/format.md, "Exit codes").
It must not know who catches it.
"""

from __future__ import annotations

import errno
from typing import Final

EXIT_USAGE: Final = 1
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
            "data directory, which says what to do; in a group, replace the member"
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


class DirectoryUnusable(StorageError):
    """The operating system refuses what a data directory needs; ``--dir``, permissions or the volume must change."""

    def __init__(self, directory: str, error: OSError) -> None:
        reason, advice, self.exit_code = _REMEDIES.get(
            error.errno or 0, (error.strerror or str(error), "check the path given with --dir", EXIT_USAGE)
        )
        at = str(error.filename) if error.filename is not None else directory
        super().__init__(
            f"cannot use {directory or '(empty)'} as data directory: {at or '(empty)'}: {reason}; {advice}"
        )


_NOT_A_DIRECTORY: Final = (
    "is a file where a directory is needed", "point --dir at a directory, or move the file away", EXIT_USAGE,
)  # fmt: skip
_NOT_PERMITTED: Final = (
    "this user may not write there", "give the directory to the user durakv runs as (chown), or choose another --dir",
    EXIT_USAGE,
)  # fmt: skip
_FULL: Final = ("the volume is full", "free some space, or point --dir at another volume", EXIT_IO)
# errno -> (what is wrong, what to do, exit code)
_REMEDIES: Final[dict[int, tuple[str, str, int]]] = {
    errno.EEXIST: _NOT_A_DIRECTORY,
    errno.ENOTDIR: _NOT_A_DIRECTORY,
    errno.EISDIR: (
        "is a directory where durakv keeps a file", "this is no data directory of durakv: choose another --dir",
        EXIT_USAGE,
    ),
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
    errno.EROFS: ("the file system is mounted read-only", "mount it writable, or choose another --dir", EXIT_USAGE),
    errno.ENOENT: ("no directory can be made there", "choose a --dir whose parent can be written", EXIT_USAGE),
    errno.ENAMETOOLONG: ("the path is too long", "choose a shorter --dir", EXIT_USAGE),
    errno.ELOOP: ("symbolic links lead in a circle", "correct the links, or choose another --dir", EXIT_USAGE),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EIO: ("the disk failed to read or write", "check the disk and its messages in the kernel log", EXIT_IO),
}  # fmt: skip
