"""Every single bit of what says where things are: heads of a checkpoint, a snapshot's header, both slots of a vote."""

from __future__ import annotations

from hashlib import blake2b
from typing import cast

import pytest

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit, SnapshotDamaged
from durakv.checkpoint.pages import check_pages
from durakv.checkpoint.snapshot_file import HEADER_BYTES, SnapshotInfo, read_header, verify_snapshot
from durakv.storage.hardstate import SLOT_OFFSETS, HardStateFile
from durakv.storage.lane import Lane
from durakv.world.ports import File
from jstyle.crash.node import CLUSTER, ManualClock, OpenNode, Settings
from jstyle.crash.pages import HEADS, PAGE_BYTES, recorded
from jstyle.crash.pages_states import Judge
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.scripts import DIRECTORY, EMPTY, script_named
from jstyle.crash.states import SECTOR_BYTES
from jstyle.crash.trace import Image

# What LMDB reads of a head page.
_HEAD_BYTES = 152


class Bytes:
    """The reading half of a file, over bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]

    def size(self) -> int:
        return len(self.data)

    def close(self) -> None:
        """There is nothing to give back."""


def flipped(data: bytes, bit: int) -> bytes:
    at = bit // 8
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


def test_every_bit_of_both_heads_of_a_checkpoint() -> None:
    """Refused by name, or one commit whole; never a state that no commit had."""
    commits = recorded()
    commit = next(commit for commit in commits if commit.name == "merges")
    states = [one.new for one in commits]
    refused = harmless = older = 0
    newest = check_pages(cast("File", Bytes(commit.after)), "data.mdb").transaction
    with Judge() as judge:
        for head in HEADS:
            for bit in range(head * PAGE_BYTES * 8, (head * PAGE_BYTES + _HEAD_BYTES) * 8):
                image = flipped(commit.after, bit)
                try:
                    report = check_pages(cast("File", Bytes(image)), "data.mdb")
                except (CheckpointDamaged, CheckpointUnfit):
                    refused += 1
                    continue
                if head != commit.head() and report.transaction == newest:
                    # The other head is read, and it is as it was.
                    harmless += 1
                    continue
                opened = judge.opened(image)
                assert opened.wrong == ""
                if opened.state is None:
                    refused += 1
                    continue
                assert opened.state in states
                harmless += opened.state == commit.new
                older += opened.state != commit.new
    assert refused + harmless + older == 2 * 8 * _HEAD_BYTES
    assert refused > 500
    # A number of the older head that grew: that commit is whole, and a log shortened for a newer one refuses it.
    assert older < 200


def snapshot() -> bytes:
    body = bytes(range(256)) * 24
    applied = rows.Applied(41, 3, 0, 0x12345678, 1_700_000_000_000)
    digest = blake2b(body, digest_size=32).digest()
    return SnapshotInfo(CLUSTER, applied, HEADER_BYTES + len(body), digest, b"who is in it").header() + body


def verified(data: bytes) -> None:
    disk = RecordingDisk(Image({"/w/s": data}, ("/w",)))
    verify_snapshot(disk, "/w/s")


def test_every_bit_of_a_snapshots_header() -> None:
    whole = snapshot()
    verified(whole)
    for bit in range(HEADER_BYTES * 8):
        with pytest.raises(SnapshotDamaged):
            read_header(cast("File", Bytes(flipped(whole, bit))), "s")


def test_every_torn_variant_of_a_snapshot() -> None:
    """Sectors that never arrived, or that hold something else; an end that was cut off anywhere."""
    whole = snapshot()
    for at in range(0, len(whole), SECTOR_BYTES):
        for other in (bytes(SECTOR_BYTES), b"\xa5" * SECTOR_BYTES):
            torn = whole[:at] + other + whole[at + SECTOR_BYTES :]
            if torn != whole:
                with pytest.raises(SnapshotDamaged):
                    verified(torn)
    for size in (*range(0, len(whole), 333), len(whole) - 1):
        with pytest.raises(SnapshotDamaged):
            verified(whole[:size])


def test_every_bit_of_the_hard_state_of_a_node() -> None:
    """Whichever slot it hits, the vote is the last one: it stands in both."""
    disk = RecordingDisk(EMPTY)
    life = script_named("bootstrap").life(disk)
    life.boot()
    for term, vote in ((1, 7), (2, 9), (3, 8)):
        life.vote(term, vote)
        life.settle()
    image = disk.image()
    path = f"{DIRECTORY}/raft/hardstate"
    good = image.files[path]
    for slot in SLOT_OFFSETS:
        for bit in range(slot * 8, (slot + SECTOR_BYTES) * 8):
            disk = RecordingDisk(Image({path: flipped(good, bit)}, image.folders))
            lane = Lane(disk, ManualClock(), _no_error)
            current = HardStateFile.load(lane, path, CLUSTER).current
            assert (current.term, current.voted_for) == (3, 8), bit
    torn = Image({**image.files, path: bytes(512) + good[512:]}, image.folders)
    assert OpenNode(RecordingDisk(torn), DIRECTORY, Settings()).ballot() == (3, 8)


def _no_error(error: OSError) -> None:
    raise error
