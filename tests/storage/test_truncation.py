"""A log that forgets what a checkpoint covers, or begins anew behind a snapshot, with the power cut at every call."""

from __future__ import annotations

import pytest

from durakv.storage.errors import RecoveryRefused
from durakv.storage.segment import Covered, parse_segment_header

from .sim_disk import PowerCut, SimDisk
from .test_crash_points import IMAGES
from .world import Entry, Node, normal, segment_paths

ARCHIVE = "/d/archive"


def filled(disk: SimDisk, count: int = 30, size: int = 700) -> Node:
    node = Node(disk)
    for index in range(1, count + 1):
        node.append(normal(index, 1 + index // 20, size))
        node.settle()
    node.log.set_committed(count)
    return node


def covered_at(node: Node, index: int) -> Covered:
    return Covered(index, node.log.term(index), node.log.chain(index))


def test_whole_covered_segments_go_and_the_rest_is_found_again() -> None:
    disk = SimDisk()
    node = filled(disk)
    before = len(segment_paths(disk))
    covered = covered_at(node, 21)
    keys = node.held()
    dropped = node.log.drop_through(21, 0)
    node.settle()
    assert dropped >= 3
    assert len(segment_paths(disk)) == before - dropped
    first = node.log.first_index()
    assert 1 < first <= 22
    assert node.held() == keys[first - 1 :]
    assert node.log.term(first - 1) == 1 + (first - 1) // 20
    again = Node(disk.after_crash("none"), covered=covered)
    assert again.held() == keys[first - 1 :]
    assert again.append(normal(31, 9)) == []
    again.settle()
    assert again.log.last_index() == 31


def test_without_its_checkpoint_such_a_log_is_refused() -> None:
    disk = SimDisk()
    node = filled(disk)
    node.log.drop_through(21, 0)
    node.settle()
    with pytest.raises(RecoveryRefused, match="no checkpoint covers the entries before"):
        Node(disk.after_crash("all"))
    with pytest.raises(RecoveryRefused, match="entries are missing in between"):
        Node(disk.after_crash("all"), covered=Covered(3, 1, 0))


def test_some_covered_log_is_kept_for_followers() -> None:
    disk = SimDisk()
    node = filled(disk)
    assert node.log.drop_through(30, 1 << 30) == 0
    kept = node.log.first_index()
    node.log.drop_through(30, 9000)
    node.settle()
    assert kept < node.log.first_index() < 30
    sizes = [len(disk.names[path].data) for path in segment_paths(disk)]
    assert sum(sizes[:-1]) <= 9000


def test_what_no_checkpoint_covers_stays() -> None:
    node = filled(SimDisk())
    assert node.log.drop_through(0, 0) == 0
    assert node.log.first_index() == 1
    node.log.drop_through(5, 0)
    assert node.log.first_index() <= 6


def test_an_archive_keeps_what_goes() -> None:
    disk = SimDisk()
    node = filled(disk)
    disk.mkdir(ARCHIVE)
    names = [path.rpartition("/")[2] for path in segment_paths(disk)]
    bytes_before = {path.rpartition("/")[2]: bytes(disk.names[path].data) for path in segment_paths(disk)}
    count = node.log.drop_through(21, 0, ARCHIVE)
    node.settle()
    left = disk.after_crash("none")
    for name in names[:count]:
        assert bytes(left.names[f"{ARCHIVE}/{name}"].data) == bytes_before[name]
        assert f"/d/log/{name}" not in left.names


def test_an_archive_that_refuses_keeps_the_log_and_the_node() -> None:
    disk = SimDisk()
    node = filled(disk)
    names = segment_paths(disk)
    disk.faults = {disk.calls + 1: OSError(18, "Invalid cross-device link"), disk.calls + 2: OSError(18, "again")}
    count = node.log.drop_through(21, 0, ARCHIVE)
    node.settle()
    assert count >= 3
    assert segment_paths(disk) == names
    assert (node.fatal, "cross-device" in node.log.archive_error) == ([], True)
    # The archive takes them later, and what was kept meanwhile goes.
    disk.faults = {}
    assert node.log.drop_through(21, 0, ARCHIVE) == count
    node.settle()
    assert node.log.archive_error == ""
    assert segment_paths(disk) == names[count:]
    assert [name.rpartition("/")[2] for name in disk.names if name.startswith(ARCHIVE)] == [
        name.rpartition("/")[2] for name in names[:count]
    ]


def test_a_start_does_not_read_covered_segments_and_they_go_later() -> None:
    disk = SimDisk()
    node = filled(disk)
    covered = covered_at(node, 27)
    keys = node.held()
    left = disk.after_crash("none")
    # Damage in what the checkpoint covers wholly is of no interest.
    first = segment_paths(left)[0]
    left.names[first].data[300] ^= 1
    again = Node(left, covered=covered)
    assert again.held() == keys[again.log.first_index() - 1 :]
    assert again.log.first_index() > 20
    assert first in left.names
    again.log.drop_through(27, 0)
    again.settle()
    assert segment_paths(left)[0] != first
    with pytest.raises(RecoveryRefused):
        Node(disk.after_crash("none"), covered=Covered(27, covered.term, covered.chain ^ 1))


class Life:
    """Entries come, a checkpoint follows, log goes, a snapshot replaces everything, entries come again."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.covered: Covered | None = None
        self.acked = 0
        self.keys: dict[int, tuple[int, int, int, int, bytes]] = {}
        # What an installation may leave of the history before.
        self.snapshot = 0

    def add(self, node: Node, entry: Entry) -> None:
        self.keys[entry.index] = entry.key()

        def done(error: OSError | None) -> None:
            assert error is None
            self.acked = entry.index

        node.log.append([entry], done)
        node.settle()

    def run(self) -> None:
        node = Node(self.disk)
        for index in range(1, 13):
            self.add(node, normal(index, 1, 900))
        node.log.set_committed(12)
        self.covered = covered_at(node, 7)
        node.log.drop_through(7, 0)
        self.add(node, normal(13, 2, 900))
        node.settle()
        self.covered = covered_at(node, 12)
        node.log.drop_through(12, 0)
        node.settle()
        self.add(node, normal(14, 2, 900))
        # The snapshot's environment is durable and named before the log is touched.
        self.snapshot = self.acked = 40
        self.covered = Covered(40, 5, 0x1234)
        heard: list[OSError | None] = []
        node.log.begin_after(self.covered, heard.append)
        node.settle()
        assert heard == [None]
        for index in range(41, 46):
            self.add(node, normal(index, 5, 1500))
        node.log.set_committed(45)
        self.covered = covered_at(node, 44)
        node.log.drop_through(44, 0)
        node.settle()

    def check(self, node: Node) -> None:
        held = node.held()
        first, last = node.log.first_index(), node.log.last_index()
        end = 0 if self.covered is None else self.covered.index
        assert first <= end + 1
        assert last >= max(self.acked, end)
        for key in held:
            assert self.keys[key[0]] == key
        assert last == first - 1 + len(held)


def calls() -> int:
    disk = SimDisk()
    life = Life(disk)
    life.run()
    life.check(Node(disk.after_crash("none"), covered=life.covered))
    return disk.calls


@pytest.mark.parametrize("call", range(1, calls() + 1))
def test_power_cut_at_every_call(call: int) -> None:
    disk = SimDisk()
    disk.cut_power_at = call
    life = Life(disk)
    with pytest.raises(PowerCut):
        life.run()
    for mode, seed in IMAGES[:4]:
        left = disk.after_crash(mode, seed * 1000 + call)
        first = Node(left, covered=life.covered)
        life.check(first)
        twice = Node(left.after_crash("none"), covered=life.covered)
        assert twice.held() == first.held()
        heard = twice.append(normal(twice.log.last_index() + 1, 90, 300))
        twice.settle()
        assert heard == [None]


@pytest.mark.parametrize("call", range(1, calls() + 1, 5))
def test_power_cut_inside_recovery(call: int) -> None:
    disk = SimDisk()
    disk.cut_power_at = call
    life = Life(disk)
    with pytest.raises(PowerCut):
        life.run()
    for mode, seed in IMAGES[:3]:
        step = 1
        while True:
            left = disk.after_crash(mode, seed * 1000 + call)
            left.cut_power_at = step
            try:
                Node(left, covered=life.covered)
            except PowerCut:
                pass
            else:
                break
            life.check(Node(left.after_crash("none", step), covered=life.covered))
            step += 1


def test_whole_entries_behind_damage_and_checkpoint_are_never_given_up() -> None:
    """The log ends, for all that can be read in order, before the checkpoint does: no snapshot was being installed."""
    disk = SimDisk()
    node = Node(disk, segment_bytes=1 << 20)
    for index in range(1, 11):
        node.append(normal(index, 1, 300))
        node.settle()
    covered = covered_at(node, 8)
    left = disk.after_crash("none")
    (path,) = segment_paths(left)
    data = left.names[path].data
    data[data.find(b"#DK1 Q %016x" % 6) + 140] ^= 1
    left.names[path].durable = bytearray(data)
    with pytest.raises(RecoveryRefused, match="whole frames follow"):
        Node(left, covered=covered)
    assert bytes(left.names[path].data) == bytes(data)


def test_a_missing_segment_that_held_the_checkpoints_end_is_refused_by_name() -> None:
    disk = SimDisk()
    node = filled(disk)
    covered = covered_at(node, 21)
    paths = segment_paths(disk)
    bases = [parse_segment_header(bytes(disk.names[path].data[:256]), path).base for path in paths]
    disk.unlink(paths[sum(base <= 21 for base in bases) - 1])
    disk.fsync_dir("/d/log")
    with pytest.raises(RecoveryRefused, match="a segment is missing or foreign"):
        Node(disk.after_crash("all"), covered=covered)
