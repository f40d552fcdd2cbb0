"""The same scripted life against the real kernel, watched by strace: what the recorder wrote down is all there was.

Rule: nothing the storage does to its directory may escape the recorder, so the calls that strace saw, brought into the
recorder's words, must equal the trace call for call. ``python -m jstyle.crash.kernel SCRIPT DIRECTORY`` is the watched
process. It must not judge crash states.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from durakv.native import INTERPRETED_VARIABLE
from durakv.world.ports import File
from durakv.world.real_disk import RealDisk
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.scripts import DIRECTORY, PARENT, Script, script_named
from jstyle.crash.trace import (
    ALLOCATE,
    CREATE,
    DATASYNC,
    LINK,
    MARK,
    MKDIR,
    RENAME,
    SYNC,
    SYNC_DIR,
    TRUNCATE,
    UNLINK,
    WRITE,
    Event,
    Image,
)

PROMISE: Final = "P2: no I/O escapes the recorder"
_CALLS: Final = (
    "openat,open,creat,pwrite64,write,pwritev,pwritev2,writev,ftruncate,truncate,fallocate,rename,renameat,renameat2,"
    "unlink,unlinkat,link,linkat,fsync,fdatasync,sync_file_range,mkdir,mkdirat,rmdir"
)
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)(.*)$")
_DESCRIPTOR = re.compile(r"^(?:AT_FDCWD<[^>]*>|(\d+)<([^>]*)>)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TIMEOUT_S: Final = 120


class RealStage:
    """RealDisk as a stage: a new one for each boot, completions run when the driver asks."""

    def __init__(self) -> None:
        self._loop: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.elsewhere = False
        self._disk = RealDisk(self._loop.put)

    def run_one(self) -> None:
        """Wait for the oldest job and run its completion."""
        self._loop.get(timeout=_TIMEOUT_S)()

    def mark(self, label: str, *value: int) -> None:
        """Marks are the recorder's."""

    def forget_process(self) -> None:
        """A process that stopped cleanly starts again."""
        self._disk.close()
        self._disk = RealDisk(self._loop.put)

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> File:
        return self._disk.open(path, create=create, direct=direct)

    def exists(self, path: str) -> bool:
        return self._disk.exists(path)

    def listdir(self, path: str) -> list[str]:
        return self._disk.listdir(path)

    def mkdir(self, path: str) -> None:
        self._disk.mkdir(path)

    def rename(self, old: str, new: str) -> None:
        self._disk.rename(old, new)

    def link(self, old: str, new: str) -> None:
        self._disk.link(old, new)

    def unlink(self, path: str) -> None:
        self._disk.unlink(path)

    def fsync_dir(self, path: str) -> None:
        self._disk.fsync_dir(path)

    def free_bytes(self, path: str) -> int:
        return 100 << 30

    def wait_unlocked(self, path: str, timeout_ms: int) -> bool:
        """Nobody else is here."""
        return True

    def lock(self, path: str) -> bool:
        return self._disk.lock(path)

    def submit(self, job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        self._disk.submit(job, done)

    def close(self) -> None:
        """End the log thread."""
        self._disk.close()


def strace_missing() -> str:
    """Why the comparison cannot be made here; empty when it can."""
    found = shutil.which("strace")
    if found is None:
        return f"untested here, {PROMISE}: strace is not installed (apt-get install strace)"
    probe = subprocess.run([found, "-qq", "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        return f"untested here, {PROMISE}: strace may not trace processes ({probe.stderr.strip()})"
    return ""


def recorded_calls(script: Script) -> tuple[list[str], dict[str, bytes]]:
    """What the recorder says of a script: one line per call, and the files at the end."""
    disk = RecordingDisk(script.origin().image)
    script.run(disk)
    files = {path.removeprefix(DIRECTORY + "/"): data for path, data in disk.image().files.items()}
    names: dict[int, str] = {}
    calls = []
    for event in disk.trace.events:
        if event.kind == MARK:
            continue
        if event.kind == RENAME:
            names[event.inode] = event.path
        # The kernel knows a descriptor by the file's newest name, the recorder by the name it was opened with.
        newest = event.path if event.kind == LINK else names.get(event.inode, event.path)
        calls.append(call_line(event, newest))
    return calls, files


def call_line(event: Event, name: str) -> str:
    """A call on the file that is called ``name`` now, in words that both sides can say."""
    path = short(name, PARENT)
    if event.kind == WRITE:
        return f"{event.kind} {path} {len(event.data)}@{event.offset}"
    if event.kind == ALLOCATE:
        return f"{event.kind} {path} {event.size}@{event.offset}"
    if event.kind == TRUNCATE:
        return f"{event.kind} {path} {event.size}"
    if event.kind in (RENAME, LINK):
        return f"{event.kind} {short(event.old, PARENT)} {path}"
    return f"{event.kind} {path}"


def short(path: str, parent: str) -> str:
    """A path below the parent of the data directory; the parent itself is a dot."""
    return path.removeprefix(parent).removeprefix("/") or "."


def kernel_calls(script: Script) -> tuple[list[str], dict[str, bytes]]:
    """What the kernel saw of a script, and the files it left. Raises RuntimeError when the watched run fails."""
    with tempfile.TemporaryDirectory(prefix="jstyle-crash-") as name:
        parent = os.path.realpath(name)
        report = Path(parent, "strace.out")
        stage = Path(parent, "w")
        existing = _lay_out(script.origin().image, stage)
        command = ["strace", "-f", "-qq", "-y", "-s", "16", "-e", f"trace={_CALLS}", "-o", str(report)]
        command += [sys.executable, "-m", "jstyle.crash.kernel", script.name, str(stage / "d")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.setdefault(INTERPRETED_VARIABLE, "")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            raise RuntimeError(f"the run under strace ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        files = {
            str(path.relative_to(stage / "d")): path.read_bytes()
            for path in sorted((stage / "d").rglob("*"))
            if path.is_file()
        }
        return list(parse_report(report.read_text(), str(stage), existing)), files


def _lay_out(image: Image, stage: Path) -> list[str]:
    """Put a script's origin below ``stage``; the names made, folders with a slash at the end."""
    for path in sorted(image.folders):
        stage.joinpath(short(path, PARENT)).mkdir()
    for path, data in image.files.items():
        stage.joinpath(short(path, PARENT)).write_bytes(data)
    return [f"{short(path, PARENT)}/" for path in image.folders] + [short(path, PARENT) for path in image.files]


def parse_report(text: str, parent: str, names: list[str]) -> Iterator[str]:
    """The lines of ``strace -f -y`` that change something below ``parent``, in the recorder's words. ``names`` exist
    before; folders end in a slash.

    A call that the recorder has no word for is passed on by its own name, so that it shows as a difference.
    """
    existing = set(names)
    for line in joined(text):
        match = _LINE.match(line)
        if match is None or int(match.group(3)) < 0 or parent not in line:
            continue
        yield from _translate(match.group(1), match.group(2), int(match.group(3)), parent, existing)


def joined(text: str) -> Iterator[str]:
    """Lines, with calls that another thread interrupted put together again."""
    unfinished: dict[str, str] = {}
    for line in text.splitlines():
        process, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if rest.endswith("<unfinished ...>"):
            unfinished[process] = rest.removesuffix("<unfinished ...>").rstrip()
        elif rest.startswith("<... "):
            yield unfinished.pop(process, "") + rest.partition("resumed>")[2]
        else:
            yield rest


def _translate(call: str, arguments: str, result: int, parent: str, existing: set[str]) -> Iterator[str]:
    descriptor = _DESCRIPTOR.match(arguments)
    target = short(descriptor.group(2), parent) if descriptor is not None and descriptor.group(2) else ""
    texts = [short(text, parent) for text in _TEXT.findall(arguments)]
    numbers = [int(field) for field in re.findall(r", (\d+)", arguments)]
    if call in ("openat", "open", "creat"):
        if "O_CREAT" in arguments and texts[0] not in existing:
            existing.add(texts[0])
            yield f"{CREATE} {texts[0]}"
    elif call == "pwrite64":
        yield f"{WRITE} {target} {result}@{numbers[-1]}"
    elif call == "ftruncate":
        yield f"{TRUNCATE} {target} {numbers[-1]}"
    elif call == "fallocate":
        yield f"{ALLOCATE} {target} {numbers[-1]}@{numbers[-2]}"
    elif call == "rename":
        existing.discard(texts[0])
        existing.add(texts[1])
        yield f"{RENAME} {texts[0]} {texts[1]}"
    elif call == "link":
        existing.add(texts[1])
        yield f"{LINK} {texts[0]} {texts[1]}"
    elif call == "unlink":
        existing.discard(texts[0])
        yield f"{UNLINK} {texts[0]}"
    elif call == "mkdir":
        existing.add(texts[0] + "/")
        yield f"{MKDIR} {texts[0]}"
    elif call in ("fsync", "fdatasync"):
        folder = f"{target}/" in existing or target == "."
        yield f"{SYNC_DIR if folder else SYNC if call == 'fsync' else DATASYNC} {target}"
    else:
        yield f"{call} {arguments}"


def compare(script: Script) -> list[str]:
    """Differences between recorder and kernel for a script; empty when no I/O escapes."""
    recorded, recorded_files = recorded_calls(script)
    seen, seen_files = kernel_calls(script)
    found = []
    for number, (ours, theirs) in enumerate(zip(recorded, seen, strict=False)):
        if ours != theirs:
            found.append(f"call {number}: recorded {ours!r}, the kernel saw {theirs!r}")
            break
    if not found and len(recorded) != len(seen):
        extra = (recorded + seen)[min(len(recorded), len(seen)) :][0]
        found.append(f"{len(recorded)} calls recorded, {len(seen)} seen; the first without a match is {extra!r}")
    paths = sorted({*recorded_files, *seen_files})
    return found + [
        f"{path} differs at the end of the run" for path in paths if recorded_files.get(path) != seen_files.get(path)
    ]


def main() -> None:
    """The watched process."""
    script = script_named(sys.argv[1])
    stage = RealStage()
    life = script.run(stage, sys.argv[2])
    stage.close()
    assert life.errors == 0, "the disk answered with errors"


if __name__ == "__main__":
    main()
