"""What recovery makes of damage: a torn tail is cut and kept, proof of an earlier sync forbids cutting."""

from __future__ import annotations

import pytest

from durakv.storage.errors import CorruptionError, IdentityError, RecoveryRefused, StorageError
from durakv.storage.options import LogOptions
from durakv.storage.record import PAYLOAD, FrameBuilder
from durakv.storage.recovery import Outcome, RecoveredLog, recover_log

from .sim_disk import SimDisk
from .world import CLUSTER, NODE, Entry, Node, normal, segment_paths

NO_CACHE = LogOptions(cache_bytes=0)


def recover(disk: SimDisk, hint: int = 0) -> RecoveredLog:
    return recover_log(disk, "/d", CLUSTER, NODE, hint)


def last(recovered: RecoveredLog) -> int:
    return recovered.segments[-1].last()


def marked_log() -> SimDisk:
    """Four entries in three synced batches, a mark behind them, cleanly closed."""
    node = Node(SimDisk())
    for batch in ([normal(1)], [Entry(2, 1, 0, 2, b"abc"), Entry(3, 2, 0, 1, b"")], [normal(4, 2)]):
        node.append(*batch)
        node.settle()
    assert node.close() == [None]
    return node.disk.after_crash("none")


def one_big_batch(count: int = 10, size: int = 600) -> SimDisk:
    """Entry 1 synced, then entries 2..count in one write whose sync never came back."""
    node = Node(SimDisk(), segment_bytes=1 << 20)
    node.append(normal(1))
    node.settle()
    node.append(*[normal(index, 1, size) for index in range(2, count + 1)])
    node.settle()
    return node.disk.after_crash("all")


def flip(disk: SimDisk, path: str, bit: int) -> None:
    disk.names[path].data[bit // 8] ^= 1 << (bit % 8)


def offset_of(disk: SimDisk, path: str, index: int) -> int:
    at = disk.names[path].data.find(b"#DK1 Q %016x" % index)
    assert at > 0
    return at


def test_every_single_bit_flip_of_a_proven_log_is_refused() -> None:
    disk = marked_log()
    path = segment_paths(disk)[0]
    data = bytes(disk.names[path].data)
    mark = data.rfind(b"#DK1 M")
    assert mark == len(data) - 128
    for bit in range(len(data) * 8):
        hurt = disk.after_crash("all")
        flip(hurt, path, bit)
        if bit >= mark * 8:
            recovered = recover(hurt)
            assert recovered.verdict.outcome is Outcome.TORN_TAIL
            assert last(recovered) == 4
            continue
        before = hurt.snapshot()
        with pytest.raises((RecoveryRefused, CorruptionError)):
            recover(hurt)
        assert hurt.snapshot() == before, "a refusal must not change anything"


def test_a_flip_in_the_unproven_last_batch_costs_only_that_batch() -> None:
    node = Node(SimDisk())
    node.append(normal(1))
    node.settle()
    node.append(normal(2))
    node.settle()
    disk = node.disk.after_crash("none")
    path = segment_paths(disk)[0]
    begin = offset_of(disk, path, 2)
    end = begin + 128 + 20
    for bit in range(begin * 8, end * 8):
        hurt = disk.after_crash("all")
        flip(hurt, path, bit)
        recovered = recover(hurt)
        assert recovered.verdict.outcome is Outcome.TORN_TAIL
        assert (last(recovered), recovered.verdict.offset) == (1, begin)
        assert hurt.snapshot()[recovered.quarantined] == bytes(
            disk.names[path].data[begin : bit // 8]
            + hurt_byte(disk, path, bit)
            + disk.names[path].data[bit // 8 + 1 : end]
        )


def hurt_byte(disk: SimDisk, path: str, bit: int) -> bytes:
    return bytes([disk.names[path].data[bit // 8] ^ (1 << (bit % 8))])


def test_flips_behind_the_end_are_quarantined() -> None:
    disk = one_big_batch(2)
    path = segment_paths(disk)[0]
    # An allocated but unused tail: grow the file and put one stray bit there.
    disk.names[path].data.extend(bytes(5000))
    disk.names[path].data[-100] = 4
    recovered = recover(disk)
    assert recovered.verdict.outcome is Outcome.TORN_TAIL
    assert last(recovered) == 2
    assert disk.snapshot()[recovered.quarantined].endswith(b"\x00\x04")


def test_zeroed_sectors_inside_a_longer_unsynced_tail_are_torn() -> None:
    disk = one_big_batch()
    path = segment_paths(disk)[0]
    for sector in range(1, len(disk.names[path].data) // 512):
        for count in (1, 2, 3):
            hurt = disk.after_crash("all")
            size = len(hurt.names[path].data)
            begin, end = sector * 512, min((sector + count) * 512, size)
            if begin >= end or bytes(hurt.names[path].data[begin:end]).count(0) == end - begin:
                continue
            hurt.names[path].data[begin:end] = bytes(end - begin)
            recovered = recover(hurt)
            assert recovered.verdict.outcome is Outcome.TORN_TAIL
            assert 1 <= last(recovered) < 10
            assert recovered.segments[-1].end <= end


def test_zeroed_sectors_before_a_later_batch_are_corrupt() -> None:
    node = Node(SimDisk(), segment_bytes=1 << 20)
    node.append(*[normal(index, 1, 600) for index in range(1, 9)])
    node.settle()
    node.append(normal(9))
    node.settle()
    disk = node.disk.after_crash("none")
    path = segment_paths(disk)[0]
    end = offset_of(disk, path, 9)
    for sector in range(1, end // 512):
        hurt = disk.after_crash("all")
        hurt.names[path].data[sector * 512 : (sector + 1) * 512] = bytes(512)
        with pytest.raises(RecoveryRefused, match="later frames prove that index 8 was synced"):
            recover(hurt)


def test_truncated_files() -> None:
    disk = marked_log()
    path = segment_paths(disk)[0]
    data = bytes(disk.names[path].data)
    starts = [*(data.find(b"#DK1 ", at) for at in (0, 300, 450, 620)), data.rfind(b"#DK1 M"), len(data)]
    for size in range(len(data)):
        hurt = disk.after_crash("all")
        del hurt.names[path].data[size:]
        if size < 256:
            with pytest.raises(CorruptionError):
                recover(hurt)
            continue
        whole = sum(1 for start in starts[1:5] if size >= start)
        assert last(recover(hurt)) == whole
        hurt = disk.after_crash("all")
        del hurt.names[path].data[size:]
        if whole < 3:
            with pytest.raises(RecoveryRefused, match="hard state proves that index 3"):
                recover(hurt, 3)
        else:
            assert last(recover(hurt, 3)) == whole


def test_misdirected_frame_is_not_taken_for_its_neighbour() -> None:
    disk = one_big_batch()
    path = segment_paths(disk)[0]
    data = disk.names[path].data
    third, fifth = offset_of(disk, path, 3), offset_of(disk, path, 5)
    data[fifth : fifth + 728] = data[third : third + 728]
    recovered = recover(disk)
    assert (last(recovered), recovered.verdict.outcome) == (4, Outcome.TORN_TAIL)
    assert f"belongs at offset {third}" in recovered.verdict.detail


def test_stale_frames_of_another_life_of_the_segment_are_not_believed() -> None:
    disk = one_big_batch(3)
    other = SimDisk()
    node = Node(other, segment_bytes=1 << 20)
    node.store.log.append([normal(1), normal(2), normal(3)], lambda _: None)
    node.settle()
    path = segment_paths(disk)[0]
    ours, theirs = disk.names[path].data, other.names[path].data
    header = bytes(ours[:256])
    salt_at = header.find(b"salt=") + 5
    assert header[salt_at : salt_at + 8] == bytes(theirs[salt_at : salt_at + 8]), "same dice, same salt"
    changed = SimDisk()
    changed.calls = 12345
    third = Node(changed, segment_bytes=1 << 20)
    third.append(normal(1), normal(2), normal(3))
    third.settle()
    foreign = changed.names[path].data
    assert header[salt_at : salt_at + 8] != bytes(foreign[salt_at : salt_at + 8])
    ours[256:] = foreign[256 : len(ours)]
    assert last(recover(disk)) == 0


def test_a_hole_between_segments_and_a_lost_newest_segment() -> None:
    node = Node(SimDisk())
    for index in range(1, 13):
        node.append(normal(index, 1, 1000))
        node.settle()
    node.log.set_committed(12)
    hint = node.log.synced_hint()
    disk = node.disk.after_crash("none")
    paths = segment_paths(disk)
    assert len(paths) >= 4
    hole = disk.after_crash("all")
    del hole.names[paths[1]]
    with pytest.raises(RecoveryRefused, match="a segment is missing or foreign"):
        recover(hole)
    head = disk.after_crash("all")
    del head.names[paths[0]]
    with pytest.raises(RecoveryRefused, match="no checkpoint covers"):
        recover(head)
    lost = disk.after_crash("all")
    del lost.names[paths[-1]]
    with pytest.raises(RecoveryRefused, match="hard state proves that index 12"):
        recover(lost, hint)
    sealed = disk.after_crash("all")
    del sealed.names[paths[1]].data[-60:]
    with pytest.raises(RecoveryRefused, match=r"but segment .* follows"):
        recover(sealed)
    unsealed = disk.after_crash("all")
    del unsealed.names[paths[1]].data[-169:]
    with pytest.raises(RecoveryRefused, match="no seal at its end"):
        recover(unsealed)
    swapped = disk.after_crash("all")
    swapped.names[paths[1]], swapped.names[paths[2]] = swapped.names[paths[2]], swapped.names[paths[1]]
    with pytest.raises(RecoveryRefused, match="holds segment"):
        recover(swapped)


def test_refusal_names_the_choices_and_the_exit_code() -> None:
    disk = marked_log()
    path = segment_paths(disk)[0]
    disk.names[path].data[offset_of(disk, path, 1) + 130] ^= 1
    with pytest.raises(RecoveryRefused) as caught:
        recover(disk)
    text = str(caught.value)
    assert caught.value.exit_code == 70
    choices = ("verify /d --deep", "truncate /d --to-index 0 --yes-lose-data")
    for part in (f"durakv-cli {choice}" for choice in choices):
        assert part in text
    assert "remove the member and add it again" in text and "\n" not in text


def test_foreign_segment_is_refused() -> None:
    disk = marked_log()
    with pytest.raises(IdentityError, match="put this node's own file back"):
        recover_log(disk, "/d", bytes(16), NODE, 0)
    with pytest.raises(IdentityError):
        recover_log(disk, "/d", CLUSTER, NODE + 1, 0)


def test_reading_checks_what_the_disk_returns() -> None:
    node = Node(SimDisk(), options=NO_CACHE, segment_bytes=1 << 20)
    node.append(normal(1), Entry(2, 1, 0, 2, b"cfg"), normal(3, 2, 50, 4))
    node.settle()
    path = segment_paths(node.disk)[0]
    data = node.disk.names[path].data
    good = node.held()
    assert [key[0] for key in good] == [1, 2, 3]
    end = data.find(b"#DK1 Q %016x" % 3) + 128 + 50
    for bit in range(256 * 8, end * 8):
        flip(node.disk, path, bit)
        with pytest.raises(CorruptionError) as caught:
            node.held()
        assert caught.value.path == path
        assert 256 <= caught.value.offset <= bit // 8
        flip(node.disk, path, bit)
    assert node.held() == good


def test_reading_notices_a_swapped_or_stale_frame() -> None:
    node = Node(SimDisk(), options=NO_CACHE, segment_bytes=1 << 20)
    node.append(normal(1), normal(2), normal(3))
    node.settle()
    path = segment_paths(node.disk)[0]
    data = node.disk.names[path].data
    data[256:404] = data[404:552]
    with pytest.raises(CorruptionError, match="frame of index 2 lies where 1 belongs"):
        node.held()


def test_repair_is_idempotent_and_keeps_the_evidence() -> None:
    disk = one_big_batch()
    path = segment_paths(disk)[0]
    at = offset_of(disk, path, 6)
    disk.names[path].data[at + 5] ^= 0xFF
    tail = bytes(disk.names[path].data[at:]).rstrip(b"\x00")
    recovered = recover(disk)
    assert disk.snapshot()[recovered.quarantined] == tail
    after = disk.snapshot()
    again = recover(disk)
    assert again.verdict.outcome is Outcome.CLEAN_END
    assert disk.snapshot() == after


def test_storage_errors_are_one_line_each() -> None:
    assert issubclass(RecoveryRefused, StorageError)
    assert "\n" not in str(CorruptionError("/d/x", 3, "why"))


def test_a_frame_of_another_history_does_not_continue_the_chain() -> None:
    disk = one_big_batch(2)
    path = segment_paths(disk)[0]
    data = disk.names[path].data
    at = offset_of(disk, path, 2)
    salt = int(data[data.find(b"salt=") + 5 :][:8], 16)
    builder = FrameBuilder(1, salt, at, 0xBAD)
    builder.add_entry(PAYLOAD, 2, 1, 0, normal(2, 1, 600).data, 1)
    data[at : at + 728] = builder.take()
    recovered = recover(disk)
    assert (last(recovered), recovered.verdict.outcome) == (1, Outcome.TORN_TAIL)
    assert "does not follow" in recovered.verdict.detail
