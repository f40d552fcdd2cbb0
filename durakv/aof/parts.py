"""An append-only directory, or a single file, as the parts to read one after the other.

Rule: only the last part may be truncated: what a crash left behind is at the very end. It must not know what is done
with the commands.
"""

from __future__ import annotations

from typing import Protocol

from durakv.aof.manifest import MANIFEST_BYTES_MAX, SUFFIX, ManifestError, parse_manifest
from durakv.rdb.window import ByteSource

_MAGIC_WORDS = (b"REDIS", b"VALKEY")


class Files(Protocol):
    """Reading access to a file system."""

    def is_directory(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """Sorted names."""

    def open(self, path: str) -> ByteSource:
        """Raises OSError."""


class OpenPart:
    """``rdb``: it begins with an RDB file; in a base without increments before it commands may follow."""

    __slots__ = ("last", "path", "rdb", "source")

    def __init__(self, path: str, source: ByteSource, *, last: bool) -> None:
        self.path = path
        self.source = source
        self.rdb = is_rdb(source)
        self.last = last


def is_rdb(source: ByteSource) -> bool:
    """Whether the first bytes are those of an RDB file."""
    return source.pread(6, 0).startswith(_MAGIC_WORDS)


def open_parts(files: Files, path: str) -> list[OpenPart]:
    """The parts of ``path``: a directory with a manifest in it, a manifest, an RDB file or an old single AOF.

    Raises ManifestError, OSError.
    """
    if files.is_directory(path):
        found = [name for name in files.listdir(path) if name.endswith(SUFFIX)]
        if len(found) != 1:
            what = "no manifest" if not found else f"{len(found)} manifests ({', '.join(found)})"
            raise ManifestError(f"{path}: holds {what}; name the manifest or the one file to import")
        path = f"{path}/{found[0]}"
    source = files.open(path)
    if not path.endswith(SUFFIX):
        return [OpenPart(path, source, last=True)]
    if source.size() > MANIFEST_BYTES_MAX:
        raise ManifestError(f"{path}: {source.size()} bytes are too many for a manifest; name another file")
    parts = parse_manifest(source.pread(source.size(), 0), path)
    directory = path.rpartition("/")[0] or "."
    opened = []
    for number, part in enumerate(parts, 1):
        name = f"{directory}/{part.name}"
        try:
            opened.append(OpenPart(name, files.open(name), last=number == len(parts)))
        except FileNotFoundError as error:
            raise ManifestError(
                f"{path}: names {part.name}, which is not there; copy the whole directory again"
            ) from error
    return opened
