"""What a power cut may leave: which operations are certain, which are pending, and the words for every state."""

from __future__ import annotations

import pytest

from jstyle.crash.recording import RecordingDisk
from jstyle.crash.states import build, cuts, fingerprint, medium_at, variants
from jstyle.crash.trace import Image

ROOT = Image({"/w/old": b"old content"}, ("/w",))


def disk_with(*steps):
    disk = RecordingDisk(ROOT)
    for step in steps:
        step(disk)
    return disk


def end_of(disk):
    return medium_at(disk.trace, len(disk.trace.events))


def write(path, data, offset=0):
    def step(disk):
        disk.open(path, create=True).pwrite(data, offset)

    return step


def sync(path):
    return lambda disk: disk.open(path).fsync()


def sync_dir(path):
    return lambda disk: disk.fsync_dir(path)


def files(disk, word):
    return build(end_of(disk), word, "seed").files


def test_what_was_synced_is_certain_and_the_rest_is_not():
    disk = disk_with(write("/w/a", b"one"), sync("/w/a"), sync_dir("/w"), write("/w/a", b"two", 3))
    assert files(disk, "b")["/w/a"] == b"one"
    assert files(disk, "a")["/w/a"] == b"onetwo"


def test_a_synced_file_whose_name_was_not_is_gone():
    disk = disk_with(write("/w/a", b"one"), sync("/w/a"))
    assert "/w/a" not in files(disk, "b")
    assert files(disk, "a")["/w/a"] == b"one"
    assert "/w/a" not in files(disk, "h")


def test_a_name_may_persist_before_its_data():
    disk = disk_with(write("/w/a", b"one"))
    assert files(disk, "g")["/w/a"] == b""


def test_a_rename_waits_for_its_directory():
    disk = disk_with(write("/w/old", b"OLD"), sync("/w/old"), lambda d: d.rename("/w/old", "/w/new"))
    assert files(disk, "b") == {"/w/old": b"OLD content"}
    assert files(disk, "a") == {"/w/new": b"OLD content"}
    disk.fsync_dir("/w")
    assert files(disk, "b") == {"/w/new": b"OLD content"}


def test_a_second_name_waits_for_its_directory_and_outlives_the_first():
    disk = disk_with(lambda disk: disk.link("/w/old", "/w/new"))
    assert files(disk, "b") == {"/w/old": b"old content"}
    assert files(disk, "a") == {"/w/old": b"old content", "/w/new": b"old content"}
    sync_dir("/w")(disk)
    disk.unlink("/w/old")
    assert files(disk, "a") == {"/w/new": b"old content"}
    assert files(disk, "b") == {"/w/old": b"old content", "/w/new": b"old content"}


def test_a_name_that_is_taken_is_not_given_again():
    disk = disk_with(write("/w/a", b"one"))
    with pytest.raises(FileExistsError):
        disk.link("/w/old", "/w/a")
    with pytest.raises(FileNotFoundError):
        disk.link("/w/none", "/w/b")
    assert files(disk, "a")["/w/a"] == b"one" and [event.kind for event in disk.trace.events] == ["create", "write"]


def test_a_file_in_a_forgotten_folder_is_gone():
    disk = disk_with(lambda d: d.mkdir("/w/f"), write("/w/f/a", b"one"), sync("/w/f/a"), sync_dir("/w/f"))
    assert "/w/f/a" not in files(disk, "b")
    disk.fsync_dir("/w")
    assert files(disk, "b")["/w/f/a"] == b"one"


def test_each_pending_operation_alone_and_missing():
    disk = disk_with(write("/w/old", b"A"), write("/w/old", b"B", 4))
    assert files(disk, "c:0")["/w/old"] == b"old Bontent"
    assert files(disk, "c:1")["/w/old"] == b"Ald content"
    assert files(disk, "d:1") == files(disk, "c:0")


def test_the_last_write_is_cut_filled_with_zeros_and_with_junk():
    disk = disk_with(write("/w/old", b"A"), write("/w/old", b"wxyz", 11))
    assert files(disk, "e:1@2")["/w/old"] == b"Ald contentwx"
    assert files(disk, "E:1@2")["/w/old"] == b"old contentwx"
    assert files(disk, "f:1:zero")["/w/old"] == b"Ald content\0\0\0\0"
    junk = files(disk, "f:1:junk")["/w/old"]
    assert len(junk) == 15
    assert junk[11:] not in (b"wxyz", b"\0\0\0\0")


def test_cuts_fall_on_sector_and_page_edges_of_the_file():
    disk = disk_with(write("/w/old", bytes(9000), 300))
    edges = cuts(disk.trace.events[-1])
    assert edges[:3] == [0, 1, 212]
    assert {512 * n - 300 for n in range(1, 18)} <= set(edges)
    assert 4096 - 300 in edges
    assert edges[-1] == 8999


def test_a_failed_sync_leaves_data_that_no_later_sync_writes():
    disk = disk_with(write("/w/old", b"AA"))
    disk.fail_call(("fsync",), 1, 5)
    file = disk.open("/w/old")
    with pytest.raises(OSError, match="injected"):
        file.fsync()
    file.pwrite(b"B", 4)
    file.fsync()
    assert files(disk, "b")["/w/old"] == b"old Bontent"


def test_random_subsets_are_a_function_of_their_word():
    disk = disk_with(*[write("/w/old", bytes([65 + n]) * 2000, 2000 * n) for n in range(4)])
    prints = [fingerprint(build(end_of(disk), f"i:{n}", "seed")) for n in range(40)]
    assert prints == [fingerprint(build(end_of(disk), f"i:{n}", "seed")) for n in range(40)]
    assert len(set(prints)) > 25
    assert fingerprint(build(end_of(disk), "i:1", "another")) != prints[1]


def test_every_word_of_a_position_builds_and_others_are_refused():
    disk = disk_with(write("/w/a", b"x" * 600), lambda d: d.unlink("/w/old"))
    medium = end_of(disk)
    words = list(variants(medium, 5))
    assert len(words) == len(set(words))
    assert {"a", "b", "g", "h", "c:0", "d:2", "e:1@512", "f:1:zero", "i:4"} <= set(words)
    for word in words:
        build(medium, word, "seed")
    for word in ("c:3", "q:1", "e:"):
        with pytest.raises(ValueError, match="no crash state"):
            build(medium, word, "seed")


def test_nothing_pending_is_one_state():
    assert list(variants(end_of(disk_with(sync("/w/old"))), 200)) == ["b"]
