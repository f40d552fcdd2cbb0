"""The same storage on the real file system, with the real log thread."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest

from durakv.storage.errors import DirectoryLocked
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.real_disk import RealDisk

from .world import CLUSTER, NODE, Entry, SimClock, SimRng, normal


class WallClock(SimClock):
    """Real nanoseconds; timers do not fire."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class RealNode:
    """A store on a temporary directory; the test thread plays the event loop."""

    def __init__(self, path: Path, segment_bytes: int = 1 << 20) -> None:
        self.loop: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.disk = RealDisk(self.loop.put)
        self.fatal: list[OSError] = []
        self.store: Store[Entry] = open_store(
            self.disk,
            WallClock(),
            SimRng(os.getpid()),
            str(path),
            Entry,
            self.fatal.append,
            lambda _: None,
            StoreOptions(CLUSTER, NODE, segment_bytes=segment_bytes, reserve_bytes=1 << 20, min_free_bytes=1 << 20),
        )

    def drain(self) -> None:
        """Run completions until the lane is idle."""
        while self.store.lane.outstanding:
            self.loop.get(timeout=20)()

    def stop(self) -> None:
        heard: list[OSError | None] = []
        self.store.close(heard.append)
        self.drain()
        assert heard == [None]
        self.disk.close()


def all_of(node: RealNode) -> list[tuple[int, int, int, int, bytes]]:
    out: list[tuple[int, int, int, int, bytes]] = []
    while len(out) < node.store.log.last_index():
        out += [entry.key() for entry in node.store.log.entries(len(out) + 1, node.store.log.last_index() + 1, 100_000)]
    return out


def test_write_restart_cut_restart(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "n")
    heard: list[int] = []
    want = [normal(index, 1, index * 7 % 9000 + 8).key() for index in range(1, 1001)]
    for key in want:
        node.store.log.append([Entry(*key)], lambda error, at=key[0]: heard.append(at if error is None else -1))  # type: ignore[misc]
    node.drain()
    assert heard == list(range(1, 1001))
    stats = node.store.lane.stats
    assert 0 < stats.syncs < 500, "group commit"
    assert stats.percentile_us(50) > 0
    assert all_of(node) == want
    node.stop()
    assert not (tmp_path / "n/log/dk.spare.tmp").exists()

    node = RealNode(tmp_path / "n")
    assert all_of(node) == want
    assert node.store.log.append_inline([normal(990, 2, 50)])
    want[989:] = [normal(990, 2, 50).key()]
    assert all_of(node) == want
    node.disk.close()  # no clean stop

    node = RealNode(tmp_path / "n")
    assert all_of(node) == want
    assert node.fatal == []
    node.stop()


def test_torn_tail_on_a_real_file_system(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "n")
    for index in (1, 2):
        assert node.store.log.append_inline([normal(index, 1, 5000)])
    node.disk.close()
    path = next((tmp_path / "n/log").glob("dk.*.log"))
    assert path.stat().st_size == 1 << 20, "allocated ahead"
    with path.open("r+b") as file:
        file.seek(256 + 128 + 5000 + 4000)
        file.write(bytes(512))
    node = RealNode(tmp_path / "n")
    assert all_of(node) == [normal(1, 1, 5000).key()]
    saved = Path(node.store.recovered.quarantined)
    assert saved.parent == tmp_path / "n/quarantine"
    assert saved.stat().st_size == 128 + 5000
    assert node.store.log.append_inline([normal(2, 1, 100)])
    node.stop()
    node = RealNode(tmp_path / "n")
    assert all_of(node) == [normal(1, 1, 5000).key(), normal(2, 1, 100).key()]
    node.stop()


def test_one_process_per_directory(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "n")
    with pytest.raises(DirectoryLocked):
        RealNode(tmp_path / "n")
    code = (
        "import sys; from durakv.world.real_disk import RealDisk; "
        "sys.exit(0 if RealDisk(lambda fn: fn()).lock(sys.argv[1]) else 3)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "n/LOCK")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, check=False).returncode == 3
    node.stop()
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_direct_reads_equal_plain_reads(tmp_path: Path) -> None:
    disk = RealDisk(lambda fn: fn())
    path = str(tmp_path / "file")
    content = os.urandom(20_001)
    file = disk.open(path, create=True)
    assert file.pwrite(content, 0) == len(content)
    direct = disk.open(path, direct=True)
    for offset in (0, 1, 4095, 4096, 8192, 19_999, 20_000, 20_001, 30_000):
        for size in (0, 1, 511, 4096, 4097, 20_001, 50_000):
            assert direct.pread(size, offset) == content[offset : offset + size] == file.pread(size, offset)
    assert direct.size() == len(content)
    with pytest.raises(OSError, match="direct reading"):
        direct.pwrite(b"x", 0)
    direct.close()
    file.close()
    disk.close()


def test_files_and_directories(tmp_path: Path) -> None:
    disk = RealDisk(lambda fn: fn())
    folder = str(tmp_path / "a/b")
    disk.mkdir(folder)
    disk.mkdir(folder)
    with pytest.raises(FileNotFoundError):
        disk.open(f"{folder}/missing")
    file = disk.open(f"{folder}/one", create=True)
    file.fallocate(0, 10_000)
    assert file.size() == 10_000
    file.truncate(5)
    assert file.pread(100, 0) == bytes(5)
    file.fsync()
    file.close()
    disk.open(f"{folder}/two", create=True).close()
    assert disk.listdir(folder) == ["one", "two"]
    disk.rename(f"{folder}/one", f"{folder}/three")
    disk.unlink(f"{folder}/two")
    disk.fsync_dir(folder)
    assert disk.listdir(folder) == ["three"]
    assert disk.exists(f"{folder}/three")
    assert not disk.exists(f"{folder}/one")
    assert disk.free_bytes(folder) > 0
    disk.close()


def test_lane_order_errors_and_bugs() -> None:
    loop: SimpleQueue[Callable[[], None]] = SimpleQueue()
    bugs: list[BaseException] = []
    disk = RealDisk(loop.put, bugs.append)
    ran: list[int] = []
    heard: list[OSError | None] = []

    def fail() -> None:
        raise OSError(5, "injected")

    def bug() -> None:
        raise ValueError("a mistake")

    for number in range(50):
        disk.submit(lambda number=number: ran.append(number), heard.append)  # type: ignore[misc]
    disk.submit(fail, heard.append)
    disk.submit(bug, heard.append)
    for _ in range(52):
        loop.get(timeout=20)()
    assert ran == list(range(50))
    assert heard[:50] == [None] * 50
    assert isinstance(heard[50], OSError)
    assert [str(error) for error in bugs] == ["a mistake"]
    disk.close()
