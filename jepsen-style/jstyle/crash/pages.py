"""A checkpoint's life in real LMDB, as what each of its transactions did to the pages of its file.

LMDB writes past our disk port, so the file itself is looked at before and after every commit: the pages that differ are
what that commit wrote. Its protocol, which ``strace`` confirms where it may (``protocol_broken``): data pages, a sync,
then one head page, synced.
Rule: the production materialiser writes the rows; nothing here does. It must not know crash states.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.kv import KvStore, KvTxn
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.place import DATA_NAME
from durakv.checkpoint.resume import follow
from durakv.cli.admin_replay import apply_content, new_applier
from durakv.engine.beside import Beside
from durakv.engine.entry import FORMAT, HEADER, SEMANTICS, put_array
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.native import INTERPRETED_VARIABLE
from durakv.world.real_kv import open_kv
from raft.types import EntryKind, Membership

PAGE_BYTES: Final = 4096
HEADS: Final = (0, 1)
CLUSTER: Final = bytes(range(16))
NODE: Final = 7
DATABASES: Final = 16
_T0_MS: Final = 1_700_000_000_000
_TIMEOUT_S: Final = 60
_SYSCALLS: Final = "openat,lseek,pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,msync,ftruncate"

Request = list[bytes]
# Index and digest of what a checkpoint holds.
State = tuple[int, str]


class Commit:
    """One transaction: the file before and after it, the states it leads from and to, and what the stream said.

    ``frames`` bring a checkpoint in the old state to the new one; there are none where both are the same.
    """

    __slots__ = ("after", "before", "frames", "name", "new", "old")

    def __init__(self, name: str, before: bytes, after: bytes, old: State, new: State, frames: bytes) -> None:
        self.name = name
        self.before = before
        self.after = after
        self.old = old
        self.new = new
        self.frames = frames

    def page(self, number: int, *, new: bool) -> bytes:
        """A page as it was, or is; zeros beyond the end of the file."""
        image = self.after if new else self.before
        return image[number * PAGE_BYTES : (number + 1) * PAGE_BYTES].ljust(PAGE_BYTES, b"\0")

    def written(self) -> list[int]:
        """The pages it changed, heads left out, ascending."""
        return [number for number in self._changed() if number not in HEADS]

    def head(self) -> int:
        """The head page it changed; only one may be."""
        heads = [number for number in self._changed() if number in HEADS]
        assert len(heads) == 1, f"{self.name}: head pages {heads} changed in one commit"
        return heads[0]

    def _changed(self) -> list[int]:
        pages = range(-(-max(len(self.before), len(self.after)) // PAGE_BYTES))
        return [number for number in pages if self.page(number, new=False) != self.page(number, new=True)]


class _WatchedTxn:
    """Implements KvTxn; tells when it was committed."""

    def __init__(self, txn: KvTxn, committed: Callable[[], None]) -> None:
        self._txn = txn
        self._committed = committed

    def get(self, db: int, key: bytes) -> bytes | None:
        return self._txn.get(db, key)

    def replace(self, db: int, key: bytes, value: bytes) -> bytes | None:
        return self._txn.replace(db, key, value)

    def pop(self, db: int, key: bytes) -> bytes | None:
        return self._txn.pop(db, key)

    def rows(self, db: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self._txn.rows(db, start)

    def commit(self) -> None:
        self._txn.commit()
        self._committed()

    def abort(self) -> None:
        self._txn.abort()


class _WatchedKv:
    """Implements KvStore; ``committed`` is called after each commit."""

    def __init__(self, kv: KvStore, committed: Callable[[], None]) -> None:
        self._kv = kv
        self._committed = committed

    def begin(self, *, write: bool) -> KvTxn:
        txn = self._kv.begin(write=write)
        return _WatchedTxn(txn, self._committed) if write else txn

    def copy_compact(self, path: str, offset: int) -> None:
        self._kv.copy_compact(path, offset)

    def used_bytes(self) -> int:
        return self._kv.used_bytes()

    def file_bytes(self) -> int:
        return self._kv.file_bytes()

    def compact(self) -> None:
        self._kv.compact()

    def close(self) -> None:
        self._kv.close()


class _Life:
    """A node's keyspace, its capture, and the materialiser behind it, in one process and in step."""

    def __init__(self, directory: str) -> None:
        self.commits: list[Commit] = []
        self.name = "founding"
        self.frames = b""
        self.index = 0
        self.path = Path(directory, DATA_NAME)
        self.ks = Keyspace(DATABASES)
        self.applier = new_applier(NODE, self.ks)
        self.beside = Beside(self.applier, self.applier.table)
        self.capture = follow(self.ks, self.beside, None)
        self.kv = _WatchedKv(open_kv(directory, write=True), self._committed)
        self.state: State = (0, "")
        self.image = self.path.read_bytes()
        found(self.kv, CLUSTER, NODE, DATABASES)
        # Nobody starts from what is not named yet, and CURRENT is written after this.
        self.commits.clear()
        self.state = (0, digest(self.ks).hex())
        self.keeper = Materialiser(self.kv)

    def _committed(self) -> None:
        image = self.path.read_bytes()
        state = (self.index, digest(self.ks).hex())
        self.commits.append(Commit(self.name, self.image, image, self.state, state, self.frames))
        self.image, self.state, self.frames = image, state, b""

    def entry(self, name: str, *requests: Request) -> None:
        """An entry of these requests is applied and brought into the checkpoint, as one transaction."""
        self.name = name
        self.index += 1
        if self.index == 1:
            self.beside.membership = Membership(voters=[NODE]).encode()
            apply_content(self.applier, 1, 0, int(EntryKind.CONFIG), self.beside.membership, name)
        else:
            apply_content(self.applier, self.index, 0, int(EntryKind.NORMAL), _payload(self.index, requests), name)
        self.frames = self.capture.frame(self.index, 1, 0, self.index)
        reader = FrameReader(name)
        reader.feed(self.frames)
        frame = reader.next()
        assert frame is not None, f"{name}: half a frame was captured"
        assert self.keeper.apply(frame), f"{name}: the checkpoint is beyond it"
        self.keeper.commit()

    def sweep(self, name: str) -> None:
        """Garbage goes, a transaction at a time."""
        while self.keeper.garbage():
            self.name = name
            self.keeper.collect()


def _payload(index: int, requests: tuple[Request, ...]) -> bytes:
    out: list[bytes] = []
    for argv in requests:
        put_array(out, argv)
    return HEADER.pack(FORMAT, SEMANTICS, 0, len(requests), _T0_MS + index, 7) + b"".join(out)


def live(directory: str) -> list[Commit]:
    """Small and large values of all sorts come, change and go; trees grow and shrink; pages are used again."""
    life = _Life(directory)
    life.entry("membership")
    life.entry("first keys", *[[b"SET", b"k%d" % n, b"value %d" % n] for n in range(12)])
    life.entry("one key", [b"SET", b"k3", b"another value"])
    life.entry(
        "collections",
        [b"HSET", b"hash", *[b"%c%d" % (side, n) for n in range(40) for side in b"fv"]],
        [b"RPUSH", b"list", *[b"item %d" % n for n in range(90)]],
        [b"ZADD", b"scores", *[word for n in range(40) for word in (b"%d" % n, b"m%d" % n)]],
        [b"XADD", b"stream", b"1-1", b"k", b"v"],
    )
    life.entry("a long string", [b"SET", b"long", b"long ago " * 9000])
    life.entry("fields and ends", [b"HSET", b"hash", b"f7", b"x", b"new", b"y"], [b"LPOP", b"list"],
               [b"RPUSH", b"list", b"last"], [b"PEXPIRE", b"k4", b"100000"])  # fmt: skip
    life.entry("splits", *[[b"SET", b"many:%d" % n, b"m" * (n % 90)] for n in range(260)])
    life.entry("overwritten", *[[b"SET", b"many:%d" % n, b"n" * 30] for n in range(0, 260, 9)])
    life.entry("large ones go", [b"DEL", b"long", b"hash"])
    life.sweep("garbage of values")
    life.entry("merges", *[[b"DEL", b"many:%d" % n] for n in range(20, 260)])
    life.entry("flushed", [b"FLUSHALL"], [b"SET", b"after", b"the flood"])
    life.sweep("garbage of databases")
    life.entry("pages used again", *[[b"SET", b"again:%d" % n, b"z" * 60] for n in range(120)])
    life.kv.close()
    return life.commits


def recorded() -> list[Commit]:
    """The commits of a life, lived now."""
    with tempfile.TemporaryDirectory(prefix="jstyle-pages-") as name:
        return live(name)


# -- the protocol ------------------------------------------------------------------------------------------------------

_CALL = re.compile(r"^(\w+)\((\d+)?")
_NUMBERS = re.compile(r", (\d+)")


def protocol_broken() -> list[str]:
    """How LMDB's calls, as strace sees them, differ from the protocol that the crash states rest on.

    Raises RuntimeError when the watched run fails.
    """
    with tempfile.TemporaryDirectory(prefix="jstyle-pages-") as name:
        parent = os.path.realpath(name)
        report = Path(parent, "strace.out")
        Path(parent, "env").mkdir()
        command = ["strace", "-f", "-qq", "-y", "-s", "0", "-e", f"trace={_SYSCALLS}", "-o", str(report)]
        command += [sys.executable, "-m", "jstyle.crash.pages", f"{parent}/env"]
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, INTERPRETED_VARIABLE: "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"the watched run failed with {done.returncode}: {done.stderr.strip()[-500:]}")
        return list(differences(report.read_text().splitlines(), f"{parent}/env/{DATA_NAME}"))


def differences(lines: list[str], path: str) -> Iterator[str]:
    """Calls on the store that a commit does not make: a head written while data is unsynced, or data behind a head
    that is not synced yet, or any way to write that is not counted here. Making the file, heads first, is no commit.
    """
    unsynced_data = unsynced_head = False
    commits = 0
    places: dict[str, int] = {}
    synchronous: dict[str, bool] = {}
    for line in lines:
        rest = line.partition(" ")[2].lstrip() if line[:1].isdigit() else line
        call = _CALL.match(rest)
        if call is None or path not in rest:
            continue
        name, descriptor = call[1], call[2] or ""
        numbers = [int(number) for number in _NUMBERS.findall(rest)]
        if name == "openat":
            synchronous[rest.rpartition("= ")[2].partition("<")[0]] = "O_DSYNC" in rest or "O_SYNC" in rest
        elif name == "lseek":
            places[descriptor] = numbers[0]
        elif name in ("fdatasync", "fsync"):
            unsynced_data = unsynced_head = False
        elif name in ("pwrite64", "pwritev", "writev"):
            at = places[descriptor] if name == "writev" else numbers[-1]
            size = int(rest.rpartition("= ")[2])
            if at == 0 and size == len(HEADS) * PAGE_BYTES:
                continue
            if at >= len(HEADS) * PAGE_BYTES:
                if unsynced_head:
                    yield f"data is written behind a head that is not synced: {rest}"
                unsynced_data = True
                continue
            if unsynced_data:
                yield f"a head is written before the data it names is synced: {rest}"
            commits += 1
            unsynced_head = not synchronous.get(descriptor, False)
        elif name != "ftruncate":
            yield f"the store is written in a way that the crash states do not know: {rest}"
    if not commits:
        yield "no commit was seen"


if __name__ == "__main__":
    live(sys.argv[1])
