"""When changes are written down, what happens when the volume or the materialiser fails, and what log may go."""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.ops import OpReader
from durakv.checkpoint.resume import follow
from durakv.config.settings import Settings
from durakv.engine.apply import Applier
from durakv.engine.beside import Beside
from durakv.engine.outcome import Outcome
from durakv.keyspace.keyspace import Keyspace
from durakv.replication.checkpoints import Checkpoints
from raft.types import Entry, EntryKind
from tests.engine.rig import TABLE
from tests.storage.sim_disk import SimDisk
from tests.storage.world import CLUSTER, SimClock


class Child:
    """A materialiser that does what the test says."""

    def __init__(self, on_line: Callable[[str], None], on_exit: Callable[[int], None]) -> None:
        self.say = on_line
        self.leave = on_exit
        self.heard: list[str] = []
        self.closed = self.killed = False

    def send(self, line: str) -> None:
        self.heard.append(line)

    def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed = True


class Log:
    """The part of the log that is asked."""

    def __init__(self) -> None:
        self.held = 0
        self.archive_error = ""
        self.dropped: list[tuple[int, int, str]] = []

    def chain(self, index: int) -> int:
        return index * 7

    def bytes_held(self) -> int:
        return self.held

    def drop_through(self, index: int, keep: int, archive: str) -> int:
        self.dropped.append((index, keep, archive))
        return 0


class Rig:
    def __init__(self) -> None:
        self.disk = SimDisk()
        self.disk.mkdir("/d/ckpt")
        self.clock = SimClock()
        self.ks = Keyspace(2)
        self.applier = Applier(self.ks, TABLE, Outcome())
        self.log = Log()
        self.children: list[Child] = []
        self.events: list[Any] = []
        settings = Settings()
        settings.load("dir", "/d")
        settings.load("log-follower-keep", "1mb")
        engine: Any = SimpleNamespace(applier=self.applier, node_id=3, ks=self.ks)
        log: Any = self.log
        self.made = Checkpoints(
            engine, follow(self.ks, Beside(self.applier, TABLE), None), log, self.disk, self.clock,
            SimpleNamespace(event=self.events.append), settings, self.spawn, self.open_kv, CLUSTER,
        )  # fmt: skip
        self.founded: list[str] = []
        self.made.start()

    def open_kv(self, directory: str, *, write: bool) -> Any:
        assert write
        self.founded.append(directory)
        return MemoryKv()

    def spawn(self, args: list[str], on_line: Callable[[str], None], on_exit: Callable[[int], None]) -> Child:
        assert args[:4] == ["materialise", "/d/fx", "/d/ckpt", "/d/ckpt/env-1"]
        self.children.append(Child(on_line, on_exit))
        return self.children[-1]

    def started(self) -> None:
        """Write something at index 1, long enough ago for the materialiser to run."""
        self.write(1, b"a")
        self.clock.advance(3000)
        assert len(self.children) == 1

    def write(self, index: int, *keys: bytes, value: bytes = b"") -> None:
        self.applier.begin(index, 1000 + index, 1)
        for key in keys:
            self.ks.dbs[0].put(key, value or b"at %d" % index)
            self.applier.units += 1
        self.applier.end(index)
        self.made.applied([Entry(index, 5, 0, EntryKind.NORMAL, b"")])

    def frames(self) -> list[tuple[int, int, list[bytes]]]:
        """(from, to, keys put) of all frames in the stream."""
        out = []
        for path in sorted(name for name in self.disk.names if name.startswith("/d/fx/")):
            reader = FrameReader(path)
            reader.feed(bytes(self.disk.names[path].data))
            while (frame := reader.next()) is not None:
                ops = OpReader(frame.body)
                keys = []
                while kind := ops.next():
                    if kind == ord("P"):
                        keys.append(ops.name)
                out.append((frame.from_index, frame.index, keys))
        return out


def test_changes_of_some_milliseconds_are_one_frame() -> None:
    rig = Rig()
    assert rig.founded == ["/d/ckpt/env-1"]
    rig.write(1, b"a")
    rig.write(2, b"a", b"b")
    assert rig.frames() == []
    rig.clock.advance(20)
    assert rig.frames() == [(0, 2, [b"a", b"b"])]
    rig.write(3, b"c")
    rig.clock.advance(20)
    assert rig.frames()[1:] == [(2, 3, [b"c"])]


def test_the_materialiser_is_started_when_there_is_something_for_it() -> None:
    rig = Rig()
    rig.clock.advance(60_000)
    rig.write(1, b"a")
    rig.clock.advance(1900)
    assert rig.children == []
    rig.write(2, b"b")
    rig.clock.advance(200)
    (child,) = rig.children
    (line,) = child.heard
    assert line.split()[0] == "G"
    assert line.endswith(" 2")
    rig.write(3, b"c")
    rig.clock.advance(20)
    assert [line.split()[-1] for line in child.heard] == ["2", "3"]


def test_a_snapshot_taken_over_ends_the_materialiser_until_there_is_more() -> None:
    rig = Rig()
    rig.started()
    rig.made.pause()
    rig.made.go_on(rig.made.capture)
    # Its end is no failure, however late it is heard of.
    rig.children[0].leave(-9)
    rig.clock.advance(60_000)
    assert len(rig.children) == 1
    assert rig.events == []
    rig.write(2, b"b")
    rig.clock.advance(3000)
    assert len(rig.children) == 2


def test_many_commands_are_several_frames_and_written_together() -> None:
    rig = Rig()
    for index in range(1, 131):
        rig.write(index, b"k%d" % index)
    assert rig.frames() == []
    rig.clock.advance(20)
    assert [(start, end, len(keys)) for start, end, keys in rig.frames()] == [(0, 64, 64), (64, 128, 64), (128, 130, 2)]
    value = bytes(3000)
    for index in range(131, 195):
        rig.write(index, b"k%d" % index, value=value)
    assert rig.frames()[-1][:2] == (130, 194)


def test_nothing_is_written_down_inside_an_entry() -> None:
    rig = Rig()
    rig.write(1, b"a")
    rig.applier.begin(2, 2000, 1)
    rig.ks.dbs[0].put(b"half", b"done")
    rig.made.flush()
    assert rig.frames() == []
    rig.applier.end(2)
    rig.made.applied([Entry(2, 5, 0, EntryKind.NORMAL, b"")])
    rig.made.flush()
    assert rig.frames() == [(0, 2, [b"a", b"half"])]


def test_a_full_volume_loses_no_change() -> None:
    rig = Rig()
    rig.write(1, b"a")
    rig.disk.faults = dict.fromkeys(
        range(rig.disk.calls + 1, rig.disk.calls + 4), OSError(errno.ENOSPC, "full")
    )  # fmt: skip
    rig.clock.advance(20)
    rig.write(2, b"b")
    rig.write(3, b"b", b"c")
    rig.clock.advance(400)
    assert rig.frames() == []
    assert len(rig.events) == 1
    rig.clock.advance(3000)
    assert rig.frames() == [(0, 1, [b"a"]), (1, 3, [b"b", b"c"])]


def test_a_materialiser_that_dies_is_told_everything_again() -> None:
    rig = Rig()
    rig.started()
    first = rig.children[0]
    first.leave(70)
    rig.write(2, b"b")
    rig.clock.advance(200)
    (second,) = rig.children[1:]
    # What comes late of the dead one does not count.
    first.say("A 2 100 1")
    assert rig.made.saved_index == 0
    assert [line.split()[-1] for line in second.heard] == ["2"]
    second.say("A 2 100 1")
    assert rig.made.saved_index == 2
    assert rig.frames() == []
    assert rig.log.dropped == [(2, 1 << 20, "")]
    with pytest.raises(AssertionError, match="from index 2 back to 1"):
        second.say("A 1 100 1")


def test_a_save_waits_for_the_commit() -> None:
    rig = Rig()
    heard: list[str] = []
    rig.made.save(heard.append)
    assert heard == [""]
    rig.write(1, b"a")
    # Who waits for the materialiser has it started at once.
    assert rig.children == []
    rig.made.save(heard.append)
    assert heard == [""]
    assert rig.children[0].heard[-1] == "C"
    rig.children[0].say("A 1 10 1")
    assert heard == ["", ""]
    rig.write(2, b"a")
    rig.made.save(heard.append)
    rig.made.stop()
    assert heard[2].startswith("ERR")
    assert rig.children[0].heard[-1] == "Q"
    assert rig.children[0].closed


def test_a_log_that_grows_is_hurried_and_in_the_end_refused() -> None:
    rig = Rig()
    rig.started()
    rig.children[0].heard.clear()
    rig.made.settings.load("log-max", "64mb")
    rig.log.held = 33 << 20
    rig.made.second()
    rig.made.second()
    assert rig.children[0].heard == ["C"]
    assert rig.made.refusal() is None
    rig.log.held = 65 << 20
    refusal = rig.made.refusal()
    assert refusal is not None
    assert refusal.startswith("MISCONF the log holds 65 MiB, log-max is 64 MiB")
