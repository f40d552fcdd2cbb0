"""Faults of the simulated disk, and the atlas that keeps damage within the budget."""

from __future__ import annotations

import errno

import pytest

from durakv.storage.record import HEADER_BYTES, MARK, PAYLOAD, FrameBuilder
from durakv.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader
from jstyle.sim.atlas import BEYOND_BUDGET, HELIX, MINORITY, Atlas, frames
from jstyle.sim.disk import DiskOptions, SimDisk
from jstyle.sim.disk_faults import AT_SYNC, DiskFaults, FaultOptions
from jstyle.sim.streams import stream
from jstyle.sim.timeline import Timeline

LOG = "/data/log/dk.00000000000000000001.log"
NODES = [1, 2, 3]
SALT = 77


def faulty(mode: str = BEYOND_BUDGET, number: int = 1, **options: object) -> tuple[SimDisk, DiskFaults]:
    disk = SimDisk(Timeline(), 1, "n1", DiskOptions())
    atlas = Atlas(1, NODES, mode)
    faults = DiskFaults(disk, number, stream(1, "faults", "n1"), FaultOptions(**options), atlas)  # type: ignore[arg-type]
    disk.faults = faults
    return disk, faults


def write_log(disk: SimDisk, count: int, *, per_sync: int = 1) -> None:
    """A segment of ``count`` records, each synced with its neighbours."""
    header = SegmentHeader(bytes(16), 1, 1, 1, 0, 0, 0, SALT)
    file = disk.open(LOG, create=True)
    file.pwrite(header.encode(), 0)
    file.fsync()
    disk.fsync_dir("/data/log")
    builder = FrameBuilder(1, SALT, SEGMENT_HEADER_BYTES, 0)
    for index in range(1, count + 1):
        at = builder.offset
        builder.add_entry(PAYLOAD, index, 1, 0, b"%04d" % index, index - 1, 0, 1)
        file.pwrite(builder.take(), at)
        if index % per_sync == 0:
            file.fdatasync()


def test_frames_of_a_segment_are_found() -> None:
    disk, _ = faulty()
    write_log(disk, 5)
    found = frames(disk.durable_names[LOG].durable)
    assert [f.index for f in found] == [1, 2, 3, 4, 5]
    assert found[0].offset == SEGMENT_HEADER_BYTES and found[1].offset == found[0].offset + found[0].size
    assert all(f.size > HEADER_BYTES and f.is_entry for f in found)
    assert frames(b"") == [] and frames(b"#DKSEG1 " + bytes(300)) == []


def test_a_failed_sync_drops_what_it_should_have_synced_and_the_next_one_lies() -> None:
    disk, faults = faulty()
    file = disk.open("/f", create=True)
    file.pwrite(b"a" * 100, 0)
    file.fsync()
    disk.fsync_dir("")
    file.pwrite(b"b" * 100, 0)
    faults.fail_next.append(("fsync", errno.EIO))
    with pytest.raises(OSError, match="simulated") as caught:
        file.fsync()
    assert caught.value.errno == errno.EIO
    file.fsync()
    assert file.pread(100, 0) == b"b" * 100


@pytest.mark.parametrize("revert", [False, True])
def test_a_drawn_sync_failure_leaves_cache_and_medium_apart(revert: bool) -> None:
    disk, faults = faulty(fsync_eio=1.0, revert_on_fsync_eio=revert)
    faults.enabled = False
    file = disk.open("/f", create=True)
    file.pwrite(b"old", 0)
    file.fsync()
    disk.fsync_dir("")
    faults.enabled = True
    different = 0
    for n in range(20):
        file.pwrite(b"%03d" % n, 0)
        with pytest.raises(OSError, match="simulated"):
            file.fsync()
        medium = disk.durable_image().read("/f", 3, 0)
        assert disk.open("/f", direct=True).pread(3, 0) == medium
        assert file.pread(3, 0) == (medium if revert else b"%03d" % n)
        different += medium != b"%03d" % n
    assert 5 < different < 20
    assert faults.injected == {"fsync-error": 20}


def test_planned_failures_hit_the_next_call_of_their_kind() -> None:
    disk, faults = faulty()
    faults.fail_next += [("write", errno.EIO), ("read", errno.EIO), ("fsync_dir", errno.EIO)]
    file = disk.open("/f", create=True)
    for call in (lambda: file.pwrite(b"x", 0), lambda: file.pread(1, 0), lambda: disk.fsync_dir("")):
        with pytest.raises(OSError, match="simulated"):
            call()
        call()


def test_a_full_disk_refuses_growth_until_there_is_space() -> None:
    disk, faults = faulty()
    file = disk.open("/f", create=True)
    faults.full = True
    for call in (lambda: file.pwrite(b"x", 0), lambda: file.fallocate(0, 9), lambda: disk.open("/g", create=True)):
        with pytest.raises(OSError, match="simulated") as caught:
            call()
        assert caught.value.errno == errno.ENOSPC
    assert disk.free_bytes("/") == 0
    file.truncate(0)
    faults.full = False
    assert file.pwrite(b"x", 0) == 1 and disk.free_bytes("/") > 0


def test_a_full_disk_may_show_only_at_the_sync() -> None:
    disk, faults = faulty()
    faults.full, faults.full_at = True, AT_SYNC
    file = disk.open("/f", create=True)
    assert file.pwrite(b"x", 0) == 1
    with pytest.raises(OSError, match="simulated") as caught:
        file.fsync()
    assert caught.value.errno == errno.ENOSPC
    file.truncate(0)
    file.fsync()


def test_short_writes_say_so() -> None:
    disk, faults = faulty(write_short=1.0)
    file = disk.open("/f", create=True)
    taken = file.pwrite(b"abcdef", 0)
    assert 0 < taken < 6 and file.size() == taken and faults.injected == {"short-write": 1}


def test_a_lost_write_was_confirmed_and_reads_do_not_notice_before_a_crash() -> None:
    disk, faults = faulty(lost_write=1.0)
    write_log(disk, 1)
    assert faults.injected == {}, "nothing proves yet that the record was there"
    write_log(disk, 3)
    assert [f.index for f in frames(disk.names[LOG].data)] == [1, 2, 3]
    assert frames(disk.durable_names[LOG].durable) == []
    assert frames(disk.open(LOG, direct=True).pread(1 << 20, 0)) == []
    assert faults.injected["lost-write"] == 1 and faults.medium_damaged()
    rest = bytes(disk.durable_names[LOG].durable).rstrip(b"\0")
    assert rest.count(b"#DK1 ") == 2, "those behind it are there"


def test_a_misdirected_write_is_a_good_record_in_anothers_place() -> None:
    disk, faults = faulty(misdirected_write=1.0)
    faults.enabled = False
    write_log(disk, 3)
    faults.enabled = True
    before = frames(disk.durable_names[LOG].durable)
    file = disk.open(LOG)
    builder = FrameBuilder(1, SALT, before[2].offset + before[2].size, 0)
    builder.add_entry(PAYLOAD, 4, 1, 0, b"0004", 3, 0, 1)
    data = builder.take()
    file.pwrite(data, before[2].offset + before[2].size)
    file.fdatasync()
    assert faults.injected == {}
    at = builder.offset
    builder.add_note(MARK, 4, 1, 4, b"")
    file.pwrite(builder.take(), at)
    file.fdatasync()
    assert faults.injected["misdirected-write"] == 1
    durable = disk.durable_names[LOG].durable
    at = before[2].offset
    assert durable[at : at + len(data)] == data
    assert not durable[at + len(data) : at + 2 * len(data)].strip(b"\0")


def test_a_stale_read_returns_what_the_write_replaced() -> None:
    disk, faults = faulty(stale_read=1.0)
    write_log(disk, 2)
    found = frames(disk.names[LOG].data)
    file = disk.open(LOG)
    begin, size = found[1].offset, found[1].size
    good = bytes(disk.names[LOG].data[begin : begin + size])
    file.pwrite(good[:-4] + b"NEW!", begin)
    assert file.pread(size, begin) == good or faults.injected.get("stale-read")
    assert file.pread(size, begin) != good[:-4] + b"NEW!"


def test_a_flipped_bit_is_one_bit_of_a_record() -> None:
    disk, faults = faulty()
    write_log(disk, 4)
    before = bytes(disk.durable_names[LOG].durable)
    where = faults.flip_bit()
    after = bytes(disk.durable_names[LOG].durable)
    assert LOG in where
    differing = [n for n in range(len(before)) if before[n] != after[n]]
    assert len(differing) == 1 and (before[differing[0]] ^ after[differing[0]]).bit_count() == 1
    assert bytes(disk.names[LOG].data) == after
    assert disk.open(LOG, direct=True).pread(1 << 20, 0) == after


def test_no_bit_flips_in_a_record_that_nothing_proves_to_have_been_synced() -> None:
    disk, faults = faulty()
    write_log(disk, 1)
    assert faults.flip_bit() == "" and not faults.medium_damaged()
    write_log(disk, 2)
    assert faults.flip_bit().endswith("of index 1")


def test_damage_stays_off_machines_that_the_atlas_protects() -> None:
    atlas = Atlas(1, NODES, MINORITY)
    safe = next(n for n in NODES if not atlas.may_damage(n, 1))
    disk, faults = faulty(MINORITY, safe, lost_write=1.0, misdirected_write=1.0, stale_read=1.0)
    write_log(disk, 50)
    disk.open(LOG).pread(1 << 20, 0)
    assert faults.flip_bit() == "" and faults.injected == {} and not faults.medium_damaged()
    assert len(frames(disk.durable_names[LOG].durable)) == 50


@pytest.mark.parametrize("nodes", [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize("mode", [MINORITY, HELIX])
def test_every_record_keeps_good_copies_on_a_quorum(mode: str, nodes: list[int]) -> None:
    for seed in range(20):
        atlas = Atlas(seed, nodes, mode)
        hit = {n: [i for i in range(1000) if atlas.may_damage(n, i)] for n in nodes}
        for index in range(1000):
            good = sum(index not in bad for bad in map(set, hit.values())) if index % 100 == 0 else len(nodes)
            assert good >= len(nodes) // 2 + 1
        touched = [n for n in nodes if hit[n]]
        expected = (len(nodes) - 1) // 2 if mode == MINORITY else len(nodes) * (len(nodes) > 2)
        assert len(touched) == expected


def test_beyond_the_budget_everything_may_go() -> None:
    atlas = Atlas(1, NODES, BEYOND_BUDGET)
    assert all(atlas.may_damage(n, i) for n in NODES for i in range(100))
