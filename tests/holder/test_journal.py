"""A member's file: what a crash leaves is read back, what no crash leaves stops the member."""

from __future__ import annotations

import errno
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.holder import journal
from durakv.holder.journal import Journal, MemberDamaged
from durakv.holder.record import Batches, Image, batch, decode, records, seal
from durakv.storage.errors import IdentityError
from durakv.storage.lane import Lane
from raft.types import DecodeError, Entry, HardState, Membership, SnapshotMeta
from tests.holder.holder_world import CLUSTER
from tests.witness.fakes import FakeClock, lane_disk

DIRECTORY = "/d/holder"


def image(entries: int = 3, snapshot: int = 0) -> Image:
    meta = SnapshotMeta(snapshot, 2, 1, Membership((1, 2, 9)), snapshot) if snapshot else None
    rows = [Entry(snapshot + i, 3, 0, 0, b"x" * (i * 37)) for i in range(1, entries + 1)]
    return Image(CLUSTER, 9, HardState(4, 2, snapshot), meta, b"state" if snapshot else b"", rows)


def same(a: Image, b: Image) -> bool:
    return a.encode() == b.encode()


@given(st.integers(0, 5), st.integers(0, 3))
def test_an_image_comes_back(entries: int, snapshot: int):
    made = image(entries, snapshot)
    found = Batches(batch(1, made.encode()), 0)
    assert not found.damaged and same(decode(found.payloads), made)


def long_file() -> tuple[bytes, list[int]]:
    """A file of several batches and where each ends."""
    data = batch(1, image().encode())
    ends = [len(data)]
    for i in range(4):
        data += batch(2 + 2 * i, records(HardState(5 + i, 1, 0), [Entry(4 + i, 5 + i, 0, 0, b"y" * 100)]))
        data += seal(3 + 2 * i)
        ends.append(len(data))
    return data + bytes(4096), ends


def test_later_entries_replace_earlier_ones():
    made = image(4)
    payload = records(HardState(9, 1, 2), [Entry(3, 9, 0, 0, b"new")])
    found = decode([made.encode(), payload])
    assert [entry.index for entry in found.entries] == [1, 2, 3] and found.entries[2].data == b"new"
    assert found.hard_state == HardState(9, 1, 2)


@given(st.integers(0, 4200), st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_is_found_or_harmless(at: int, bit: int):
    data, _ = long_file()
    broken = bytearray(data)
    at %= len(data)
    broken[at] ^= 1 << bit
    whole = decode(Batches(data, 0).payloads)
    found = Batches(bytes(broken), 0)
    if found.damaged or not found.payloads:
        return
    # Undamaged: padding and the last seal, which nothing rests on.
    assert same(decode(found.payloads), whole), at


@given(st.integers(0, 10**6))
@settings(max_examples=100)
def test_a_torn_last_batch_is_dropped_and_nothing_else(seed: int):
    random = Random(seed)
    data, ends = long_file()
    start = ends[3]
    torn = bytearray(data)
    size = len(batch(8, records(HardState(8, 1, 0), [Entry(7, 8, 0, 0, b"y" * 100)])))
    torn[start + size :] = bytes(len(torn) - start - size)
    begin = random.randrange(start, start + size)
    end = random.randrange(begin + 1, start + size + 1)
    torn[begin:end] = bytes(end - begin)
    found = Batches(bytes(torn), 0)
    assert not found.damaged
    assert len(found.payloads) in (7, 8)
    assert found.end >= start


def test_a_seal_may_be_lost_with_the_batch_behind_it():
    data, ends = long_file()
    lost = bytearray(data)
    # The seal before the last batch, and the last seal, never reached the disk; the last batch did.
    lost[ends[3] - 64 : ends[3]] = bytes(64)
    lost[ends[4] - 64 : ends[4]] = bytes(64)
    found = Batches(bytes(lost), 0)
    assert not found.damaged and found.end == ends[3] - 64
    lost = bytearray(data)
    lost[ends[3] - 64 : ends[3]] = bytes(64)
    assert Batches(bytes(lost), 0).damaged


def test_bytes_that_make_no_sense_are_refused():
    good = image().encode()
    for payloads, text in (
        ([], "no complete batch"),
        ([b"\x07" + good[1:]], "unknown"),
        ([good, b"\x09"], "record 9"),
        ([good, records(HardState(1, 0, 0), [Entry(9, 1, 0, 0, b"")])], "out of order"),
        ([good, records(HardState(1, 0, 0), [Entry(4, 1, 0, 7, b"")])], "kind 7"),
        ([good, records(HardState(1, 0, 0), [])[:-1]], "cut short"),
    ):
        with pytest.raises(DecodeError, match=text):
            decode(payloads)


class Place:
    """A disk with a founded member."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.disk = lane_disk(self.clock, 1)
        self.fatal: list[OSError] = []
        journal.create(self.disk, DIRECTORY, image())

    def lane(self) -> Lane:
        return Lane(self.disk, self.clock, self.fatal.append)

    def open(self) -> tuple[Journal, Image]:
        return Journal.open(self.lane(), DIRECTORY, CLUSTER, 9)

    def done(self, begin) -> OSError | None:
        told: list[OSError | None] = []
        begin(told.append)
        self.clock.run(100)
        assert len(told) == 1
        return told[0]


def test_appended_batches_and_replaced_files_are_read_back():
    place = Place()
    opened, found = place.open()
    assert same(found, image())
    payload = records(HardState(6, 1, 1), [Entry(4, 6, 0, 0, b"z")])
    assert place.done(lambda told: opened.append(payload, told)) is None
    assert place.done(lambda told: opened.append(records(HardState(7, 0, 1), []), told)) is None
    again, found = place.open()
    assert found.hard_state == HardState(7, 0, 1) and found.entries[-1].data == b"z"
    assert place.done(lambda told: again.replace(image(2, 5), told, must=True)) is None
    assert place.done(lambda told: again.append(records(HardState(8, 0, 5), []), told)) is None
    found = place.open()[1]
    assert found.meta == image(2, 5).meta and found.data == b"state" and found.hard_state.term == 8


def test_a_founded_member_is_not_founded_again_nor_taken_for_another():
    place = Place()
    assert journal.exists(place.disk, DIRECTORY)
    with pytest.raises(IdentityError, match="holds a member of a config holder already"):
        journal.create(place.disk, DIRECTORY, image())
    with pytest.raises(IdentityError, match="is of member 9 of cluster"):
        Journal.open(place.lane(), DIRECTORY, CLUSTER, 8)
    with pytest.raises(IdentityError, match="holds no member"):
        Journal.open(place.lane(), "/d/elsewhere", CLUSTER, 9)


def test_damage_stops_the_member_and_says_what_to_do():
    place = Place()
    opened, _ = place.open()
    for term in (6, 7):
        place.done(lambda told, term=term: opened.append(records(HardState(term, 1, 1), []), told))
    file = place.disk.open(f"{DIRECTORY}/member")
    begin = len(batch(1, image().encode()))
    file.pwrite(b"\xff", begin + 20)
    file.fsync()
    with pytest.raises(MemberDamaged, match="replace it by a member of the config holder with a new id"):
        place.open()


class FullDisk:
    """No file can be made."""

    def __init__(self, disk) -> None:
        self.disk = disk

    def __getattr__(self, name):
        return getattr(self.disk, name)

    def open(self, path, *, create=False, direct=False):
        if create:
            raise OSError(errno.ENOSPC, "no space left on device", path)
        return self.disk.open(path, create=create, direct=direct)


def test_a_full_disk_puts_off_what_may_wait_and_fails_what_may_not():
    place = Place()
    lane = place.lane()
    opened, _ = Journal.open(lane, DIRECTORY, CLUSTER, 9)
    lane.disk = FullDisk(place.disk)
    assert place.done(lambda told: opened.replace(image(2, 5), told, must=False)) is None
    assert opened.replace_at_bytes > journal.REPLACE_BYTES and not place.fatal
    assert place.done(lambda told: opened.append(records(HardState(6, 1, 1), []), told)) is None
    assert place.open()[1].hard_state.term == 6
    error = place.done(lambda told: opened.replace(image(2, 5), told, must=True))
    assert error is not None and error.errno == errno.ENOSPC and place.fatal == [error]
