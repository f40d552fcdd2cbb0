"""The materialiser's process: its lines, and that killing it at any time never leaves anything but one state."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from random import Random

import pytest

from durakv.checkpoint import ops
from durakv.checkpoint.damage import StreamDamaged
from durakv.checkpoint.frames import build_frame
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.place import stream_name
from durakv.checkpoint.process import CommandRefused, MaterialiserProcess
from durakv.checkpoint.snapshot_file import verify_snapshot
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv

from .emit import DATABASES, Source


def write_at(path, offset, data):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, offset)
    os.close(fd)


class Rig:
    """A process without a process: replies gather in ``said``, ``now`` is its clock."""

    def __init__(self, tmp_path, *, bytes_max=1 << 30, interval_ms=1000):
        self.fx = tmp_path / "fx"
        self.ckpt = tmp_path / "ckpt"
        self.fx.mkdir(exist_ok=True)
        self.ckpt.mkdir(exist_ok=True)
        self.kv = MemoryKv(write_at)
        found(self.kv, bytes(16), 1)
        self.disk = RealDisk(lambda job: job())
        self.now = 0
        self.limits = (bytes_max, interval_ms)
        self.start()

    def start(self):
        self.said = []
        self.process = MaterialiserProcess(
            self.kv, self.disk, lambda: self.now, self.said.append, str(self.fx), str(self.ckpt), *self.limits
        )

    def write(self, number, *frames):
        """Append frames; where the file ends then."""
        with (self.fx / stream_name(number)).open("ab") as file:
            for made in frames:
                file.write(made)
            return file.tell()

    def run(self, *lines):
        for line in lines:
            self.process.command(line)
        while self.process.step():
            pass
        said, self.said[:] = list(self.said), []
        return said

    def applied(self):
        return load(self.kv, Keyspace(16), lambda name, blob: None).applied.index


def frame(index, *, before=None, key=b"k", term=1):
    out = []
    ops.put_key(out, 0, 0, -1, key, b"\0%d" % index)
    return build_frame(index - 1 if before is None else before, index, term, 0, 0, 0, 1, b"".join(out))


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.disk.close()


def test_it_says_where_it_is_and_commits_when_told(rig):
    assert rig.run()[0].split()[:2] == ["A", "0"]
    end = rig.write(1, frame(1), frame(2))
    assert rig.run(f"G {stream_name(1)} {end} 2") == []
    assert rig.applied() == 0
    (said,) = rig.run("C")
    assert said.split()[:2] == ["A", "2"] and int(said.split()[2]) == rig.kv.used_bytes()
    assert rig.applied() == 2
    assert rig.run("C")[0].split()[:2] == ["A", "2"]


def test_it_reads_no_further_than_told(rig):
    first = len(frame(1))
    rig.write(1, frame(1), b"garbage that is being written")
    rig.run(f"G {stream_name(1)} {first} 1", "C")
    assert rig.applied() == 1


def test_it_commits_after_the_interval_and_only_when_something_is_new(rig):
    rig.run()
    assert rig.process.wait_ms() > 1_000_000
    end = rig.write(1, frame(1))
    assert rig.run(f"G {stream_name(1)} {end} 1") == []
    rig.now = 400
    assert rig.process.wait_ms() == 600 and rig.run() == []
    rig.now = 1000
    assert rig.process.wait_ms() == 0
    assert rig.run()[0].startswith("A 1 ") and rig.applied() == 1
    rig.now = 9999
    assert rig.run() == []


def test_it_commits_after_so_many_bytes(tmp_path):
    rig = Rig(tmp_path, bytes_max=len(frame(1)) + 1)
    rig.run()
    end = rig.write(1, frame(1))
    assert rig.run(f"G {stream_name(1)} {end} 1") == []
    end = rig.write(1, frame(2))
    assert rig.run(f"G {stream_name(1)} {end} 2")[0].startswith("A 2 ")
    rig.disk.close()


def test_files_follow_each_other_and_may_go_once_read(rig):
    one = rig.write(1, frame(1))
    two = rig.write(2, frame(2))
    rig.run(f"G {stream_name(1)} {one} 1", f"G {stream_name(2)} {two} 2", "C", "U 2")
    (rig.fx / stream_name(1)).unlink()
    two = rig.write(2, frame(3))
    rig.run(f"G {stream_name(2)} {two} 3", "C")
    assert rig.applied() == 3


def test_after_a_restart_it_skips_what_is_committed(rig):
    one = rig.write(1, frame(1), frame(2))
    rig.run(f"G {stream_name(1)} {one} 2", "C")
    two = rig.write(1, frame(3))
    rig.start()
    assert rig.run(f"G {stream_name(1)} {one} 2", f"G {stream_name(1)} {two} 3", "C")[-1].startswith("A 3 ")
    assert rig.applied() == 3


def test_what_was_read_is_committed_at_the_end(rig):
    end = rig.write(1, frame(1))
    rig.run(f"G {stream_name(1)} {end} 1")
    rig.process.finish()
    assert rig.applied() == 1


@pytest.mark.parametrize(
    "line", ["", "Z", "G x 1 1", f"G {stream_name(2)} x 1", "C now", "S 1", "U x", f"G {stream_name(1)} 0 0", "U 5"]
)
def test_nonsense_is_refused(rig, line):
    rig.process.command(f"G {stream_name(2)} 10 1")
    with pytest.raises(CommandRefused):
        rig.process.command(line)


@pytest.mark.parametrize(
    ("content", "end", "message"),
    [
        (frame(1) + frame(3), None, "begins at index 2"),
        (frame(1)[:-1], None, "no frame ends at byte"),
        (frame(1), 5000, "frames go on to byte 5000"),
        (frame(1, term=2) + frame(2, term=1), None, "term 1"),
        (b"\0" * 100, None, "no frame begins here"),
    ],
)
def test_a_stream_that_is_wrong_stops_it(rig, content, end, message):
    size = rig.write(1, content)
    with pytest.raises(StreamDamaged, match=message):
        rig.run(f"G {stream_name(1)} {end or size} 1", "C")
    assert rig.applied() == 0


def test_a_snapshot_holds_all_it_was_told(rig):
    (rig.ckpt / "snap-1.dksnap.new").write_bytes(b"half")
    rig.start()
    assert list(rig.ckpt.iterdir()) == []
    end = rig.write(1, frame(1), frame(7, before=1, term=4))
    said = rig.run(f"G {stream_name(1)} {end} 7", "S 7 12")
    word, number, index, term, subterm, chain, size, path = said[-1].split(" ", 7)
    assert (word, number, index, term, subterm, chain) == ("S", "12", "7", "4", "0", "0")
    info = verify_snapshot(rig.disk, path)
    assert info.size == int(size) and info.applied.index == 7


def test_a_snapshot_that_fails_is_told_and_nothing_else_stops(rig):
    rig.run()
    rig.ckpt.rmdir()
    said = rig.run("S 0 3")
    assert said[1].startswith("X 3 [Errno 2]") and said[2] == "S 3"
    end = rig.write(1, frame(1))
    assert rig.run(f"G {stream_name(1)} {end} 1", "C")[0].startswith("A 1 ")


@pytest.mark.parametrize("room", [True, False])
def test_a_file_of_free_pages_is_made_smaller_once_nothing_is_to_do(rig, room):
    compacted = []

    def compact():
        compacted.append(rig.applied())
        if not room:
            raise OSError(28, "No space left on device")
        rig.kv.file_bytes = rig.kv.used_bytes

    rig.kv.file_bytes = lambda: 1 << 30
    rig.kv.compact = compact
    rig.run()
    end = rig.write(1, frame(1))
    assert rig.run(f"G {stream_name(1)} {end} 1") == [] and compacted == []
    said = rig.run("C")
    assert compacted == [1] and len(said) == (1 if room else 2)
    if not room:
        assert said[1].startswith("X 0 [Errno 28]")
    end = rig.write(1, frame(2))
    rig.run(f"G {stream_name(1)} {end} 2", "C")
    assert compacted == ([1] if room else [1, 2])


def test_garbage_goes_although_there_is_always_more_to_read(rig):
    out = []
    for i in range(100):
        ops.insert_element(out, 5, i, b"e%d" % i, b"v")
    ops.kid_dead(out, 5)
    end = rig.write(1, build_frame(0, 1, 1, 0, 0, 0, 101, b"".join(out)), frame(2))
    rig.process.command(f"G {stream_name(1)} {end} 2")
    rig.process.command("C")
    assert rig.kv.committed[1] == {}


def test_garbage_goes_while_nothing_else_is_to_do(rig):
    out = []
    for i in range(100):
        ops.insert_element(out, 5, i, b"e%d" % i, b"v")
    ops.kid_dead(out, 5)
    end = rig.write(1, build_frame(0, 1, 1, 0, 0, 0, 101, b"".join(out)))
    rig.run(f"G {stream_name(1)} {end} 1", "C")
    assert rig.kv.committed[1] == {} and rig.kv.committed[3] == {}


# -- the real one -------------------------------------------------------------------------------------------------


class Child:
    """A real materialiser on a real store."""

    def __init__(self, tmp_path, bytes_max=20_000, interval_ms=60_000):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "durakv.checkpoint", str(tmp_path / "fx"), str(tmp_path / "ckpt"),
             str(tmp_path / "ckpt" / "env-1"), str(bytes_max), str(interval_ms)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def send(self, line):
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, what):
        """Lines up to the first that begins so."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline().decode():
            if line.startswith(what):
                return line.rstrip("\n")
        raise AssertionError(f"it ended with {self.process.wait()}")

    def kill(self):
        self.process.kill()
        self.end()

    def end(self):
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return self.process.wait(30)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "fx").mkdir()
    (tmp_path / "ckpt" / "env-1").mkdir(parents=True)
    kv = open_kv(str(tmp_path / "ckpt" / "env-1"), write=True)
    found(kv, bytes(16), 1, DATABASES)
    kv.close()
    return tmp_path


@pytest.mark.live
@pytest.mark.slow
def test_killed_at_any_time_it_goes_on_from_one_whole_state(place):
    """Frames are written and told as a server would, the process is killed at random moments; after each kill what the
    store holds is what the source held at that very index.
    """  # fmt: skip
    rng = Random(1)
    source = Source(5)
    digests = {0: digest(source.ks)}
    index, number = 0, 1
    ends: dict[int, int] = {}
    deaths: list[int] = []
    child = Child(place, interval_ms=30)

    def tell_all(child):
        for known in sorted(ends):
            child.send(f"G {stream_name(known)} {ends[known]} {index}")

    for turn in range(90):
        source.change()
        count, body = source.take()
        if rng.random() < 0.1:
            number += 1
        made = build_frame(index, index + 3, 1, 0, 0, index, count, body)
        index += 3
        with (place / "fx" / stream_name(number)).open("ab") as file:
            file.write(made)
            ends[number] = file.tell()
        digests[index] = digest(source.ks)
        child.send(f"G {stream_name(number)} {ends[number]} {index}")
        if rng.random() < 0.1:
            child.send("C")
        if rng.random() < 0.05:
            child.send(f"S {index} {turn}")
        if turn % 12 == 11:
            # The first one is said at the start; each has done something by the second.
            for _ in range(rng.choice((1, 2, 2))):
                child.hear("A")
            time.sleep(rng.random() * 0.02)
            child.kill()
            result, ks = opened(place)
            assert digest(ks) == digests[result.applied.index]
            deaths.append(result.applied.index)
            child = Child(place, interval_ms=30)
            tell_all(child)
    child.send("C")
    while not child.hear("A").startswith(f"A {index} "):
        pass
    child.kill()
    result, ks = opened(place)
    assert result.applied.index == index and digest(ks) == digests[index]
    assert len(deaths) == 7 and len(set(deaths)) > 2, deaths


def opened(place):
    kv = open_kv(str(place / "ckpt" / "env-1"), write=False)
    ks = Keyspace(DATABASES)
    result = load(kv, ks, lambda name, blob: None)
    kv.close()
    return result, ks


@pytest.mark.live
def test_it_ends_with_its_input_and_says_why_it_cannot_go_on(place):
    child = Child(place)
    assert child.hear("A").startswith("A 0 ")
    path = place / "fx" / stream_name(1)
    path.write_bytes(frame(1))
    child.send(f"G {stream_name(1)} {len(frame(1))} 1")
    child.send("S 1 9")
    heard = child.hear("S")
    assert heard == f"S 9 1 1 0 0 {(place / 'ckpt' / 'snap-1.dksnap').stat().st_size} {place}/ckpt/snap-1.dksnap"
    with path.open("ab") as file:
        file.write(frame(2))
    for word, index in ((None, 1), ("Q", 2)):
        # Whose server died without a word writes no more.
        child.send(f"G {stream_name(1)} {2 * len(frame(1))} 2")
        if word:
            child.send(word)
        assert child.end() == 0
        assert opened(place)[0].applied.index == index
        child = Child(place)
    path.write_bytes(b"x" * 200)
    child.send(f"G {stream_name(1)} 200 2")
    assert child.hear("E") == (
        f"E effect stream damaged: {stream_name(1)} at byte 0: no frame begins here; the checkpoint is as it was "
        "before; restart this node, which writes the stream anew from its log"
    )
    assert child.end() == 70
    child = Child(place)
    child.send("what?")
    assert child.hear("E") == "E unknown command 'what?'"
    assert child.end() == 1
    (place / "ckpt" / "env-1" / "data.mdb").write_bytes(b"y" * 5000)
    child = Child(place)
    assert "data.mdb, page 0: pages of" in child.hear("E")
    assert child.end() == 70
