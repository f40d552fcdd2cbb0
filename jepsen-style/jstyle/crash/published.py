"""Results that appear under their name only when they are whole: watched by strace, and held against the disk's rules.

Whoever publishes by a rename is safe at every power cut if, at the rename, nothing below the new name waits for a sync,
neither bytes nor names, and the rename itself is synced before success is told: then the name is absent or whole, and
no other crash state exists. That is what is looked for in the calls of a real run.
Rule: the strict reading of POSIX: a file's sync does not keep its name. It must not know what is published.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from durakv.native import INTERPRETED_VARIABLE
from jstyle.crash.kernel import joined

_CALLS: Final = (
    "openat,creat,pwrite64,pwritev,pwritev2,write,writev,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,"
    "link,linkat,fsync,fdatasync,mkdir,mkdirat,rmdir,copy_file_range,sendfile,msync"
)
_LINE = re.compile(r"^(\w+)\((.*)\) += (\d+)")
_DESCRIPTOR = re.compile(r"^(\d+)<([^>]*)>")
_OPENED = re.compile(r"= \d+<([^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WRITES: Final = ("pwrite64", "pwritev", "pwritev2", "write", "writev", "ftruncate", "fallocate", "copy_file_range")
# LMDB's table of readers, which it makes anew when it is not there.
_WORTHLESS: Final = "/lock.mdb"
_TIMEOUT_S: Final = 120


class Waiting:
    """What has been done below ``root`` and not been synced: files with bytes, folders with names."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.bytes: list[str] = []
        # Files made in this run: opening one again makes no name.
        self.made: list[str] = []
        self.names: dict[str, list[str]] = {}

    def changed(self, path: str) -> None:
        """Bytes of a file."""
        if path not in self.bytes and not path.endswith(_WORTHLESS):
            self.bytes.append(path)

    def named(self, path: str) -> None:
        """A name came or went."""
        if path.endswith(_WORTHLESS):
            return
        self.names.setdefault(path.rpartition("/")[0], []).append(path)

    def opened(self, path: str) -> None:
        """A file was opened that would have been made if it was not there."""
        if path not in self.made:
            self.made.append(path)
            self.named(path)

    def synced(self, path: str) -> None:
        """A file, or a folder."""
        if path in self.bytes:
            self.bytes.remove(path)
        self.names.pop(path, None)

    def moved(self, old: str, new: str) -> None:
        """A file or a folder with all below it has another name."""
        self.bytes = [_moved(path, old, new) for path in self.bytes]
        self.made = [_moved(path, old, new) for path in self.made]
        self.names = {
            _moved(folder, old, new): [_moved(path, old, new) for path in paths]
            for folder, paths in self.names.items()
        }  # fmt: skip
        self.named(old)
        self.named(new)

    def below(self, path: str) -> list[str]:
        """What of ``path`` and all below it waits, its own name left out."""
        found = [f"the bytes of {one}" for one in self.bytes if _within(one, path)]
        for folder, paths in self.names.items():
            if _within(folder, path):
                found += [f"the name {one}" for one in paths]
        return found


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _moved(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if _within(path, old) else path


def unsynced(report: str, root: str, published: Sequence[str]) -> Iterator[str]:
    """What waits for a sync when one of these paths gets its name, or at the end of the run; what was never published.

    ``report`` is that of ``strace -f -y``; paths lie below ``root``.
    """
    waiting = Waiting(root)
    seen: list[str] = []
    synchronous: dict[str, bool] = {}
    for line in joined(report):
        call = _LINE.match(line)
        if call is None or root not in line:
            continue
        name, arguments = call[1], call[2]
        descriptor = _DESCRIPTOR.match(arguments)
        texts = _TEXT.findall(arguments)
        if name in ("openat", "creat"):
            number = line.rpartition("= ")[2].partition("<")[0]
            synchronous[number] = "O_DSYNC" in arguments or "O_SYNC" in arguments
            opened = _OPENED.search(line.rpartition(")")[2])
            if opened is not None and ("O_CREAT" in arguments or name == "creat"):
                waiting.opened(opened[1])
        elif name in _WRITES and descriptor is not None:
            if not synchronous.get(descriptor[1], False):
                waiting.changed(descriptor[2])
        elif name in ("fsync", "fdatasync") and descriptor is not None:
            waiting.synced(descriptor[2])
        elif name in ("rename", "renameat", "renameat2"):
            old, new = texts[0], texts[1]
            waiting.moved(old, new)
            if new in published:
                seen.append(new)
                for one in waiting.below(new):
                    yield f"{new} gets its name while {one} waits for a sync"
        elif name in ("mkdir", "mkdirat", "link", "linkat", "unlink", "unlinkat", "rmdir"):
            waiting.named(texts[-1])
        else:
            yield f"a call whose effect is not known: {line}"
    for path in published:
        if path not in seen:
            yield f"{path} never got its name by a rename"
        elif path in waiting.names.get(path.rpartition("/")[0], []):
            yield f"{path} has its name, and success was told, before that is synced"


def watched(command: Sequence[str], root: str, published: Sequence[str], *, code: int = 0) -> list[str]:
    """Run a command that must exit with ``code``; what ``unsynced`` finds. Raises RuntimeError for another."""
    with tempfile.TemporaryDirectory(prefix="jstyle-published-") as name:
        report = Path(name, "strace.out")
        strace = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={_CALLS}", "-o", str(report)]
        done = subprocess.run(
            [*strace, *command], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
            env={**os.environ, INTERPRETED_VARIABLE: "1"},
        )  # fmt: skip
        if done.returncode != code:
            raise RuntimeError(f"the watched run ended with {done.returncode}: {(done.stderr + done.stdout)[-800:]}")
        return list(unsynced(report.read_text(), root, published))
