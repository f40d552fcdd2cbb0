"""What a run did to its disk, in order, with the application's promises between the calls.

Rule: a trace is data: a starting image plus events. It can be cut at any position, and nothing in it depends on the run
that made it. It must not know what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Data operations of one file.
WRITE: Final = "write"
TRUNCATE: Final = "truncate"
ALLOCATE: Final = "fallocate"
# Operations on names.
CREATE: Final = "create"
MKDIR: Final = "mkdir"
RENAME: Final = "rename"
LINK: Final = "link"
UNLINK: Final = "unlink"
# Syncs. A failed one leaves its file's pending data in the page cache, marked clean, for no later sync to write.
SYNC: Final = "fsync"
DATASYNC: Final = "fdatasync"
SYNC_DIR: Final = "fsync_dir"
SYNC_FAILED: Final = "sync_failed"
# The application's word.
MARK: Final = "mark"

DATA_OPS: Final = (WRITE, TRUNCATE, ALLOCATE)
NAME_OPS: Final = (CREATE, MKDIR, RENAME, LINK, UNLINK)


class Image:
    """A file system at rest, which nobody changes: file contents by path, and folders. ``digests``: of contents, where
    they are known already.
    """

    __slots__ = ("digests", "files", "folders")

    def __init__(self, files: Mapping[str, bytes], folders: tuple[str, ...]) -> None:
        self.files = dict(files)
        self.folders = folders
        self.digests: dict[str, bytes] = {}


class Event:
    """One call or mark. ``inode`` numbers a file for life; ``offset``/``size``/``data`` are bytes.

    ``path`` is the name acted on (for RENAME and LINK the new one, ``old`` the other); a mark has ``label`` and
    ``value``.
    """

    __slots__ = ("data", "inode", "kind", "label", "offset", "old", "path", "size", "value")

    def __init__(
        self,
        kind: str,
        path: str = "",
        inode: int = 0,
        *,
        offset: int = 0,
        size: int = 0,
        data: bytes = b"",
        old: str = "",
        label: str = "",
        value: tuple[int, ...] = (),
    ) -> None:
        self.kind = kind
        self.path = path
        self.inode = inode
        self.offset = offset
        self.size = size
        self.data = data
        self.old = old
        self.label = label
        self.value = value

    def __repr__(self) -> str:
        if self.kind == MARK:
            return f"{self.label}{self.value}"
        detail = {WRITE: f" {len(self.data)}@{self.offset}", TRUNCATE: f" to {self.size}"}.get(self.kind, "")
        if self.kind == ALLOCATE:
            detail = f" {self.size}@{self.offset}"
        return f"{self.kind} {self.old + ' -> ' if self.old else ''}{self.path}{detail}"


class Trace:
    """``start`` is what was on the disk before; its files have inodes 1.. in the order of their sorted paths."""

    def __init__(self, start: Image) -> None:
        self.start = start
        self.events: list[Event] = []


def starting_names(image: Image) -> dict[str, int]:
    """Name to inode in a trace's starting image; folders have inode 0."""
    names = {path: number for number, path in enumerate(sorted(image.files), 1)}
    names.update(dict.fromkeys(image.folders, 0))
    return names


def parent(path: str) -> str:
    """The folder a name lies in."""
    return path.rpartition("/")[0]


def apply_data(content: bytearray, event: Event) -> None:
    """Do a data operation to a file's content."""
    if event.kind == WRITE:
        end = event.offset + len(event.data)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[event.offset : end] = event.data
    elif event.kind == TRUNCATE:
        if len(content) > event.size:
            del content[event.size :]
        else:
            content.extend(bytes(event.size - len(content)))
    else:
        content.extend(bytes(max(event.offset + event.size - len(content), 0)))


def apply_name(names: dict[str, int], event: Event) -> None:
    """Do an operation on names."""
    if event.kind == UNLINK:
        names.pop(event.path, None)
        return
    if event.kind == RENAME:
        names.pop(event.old, None)
    names[event.path] = event.inode
