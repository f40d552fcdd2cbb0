"""Hard state: layout, slots in turn, torn updates, and the three rules."""

from __future__ import annotations

import struct

import pytest

from durakv.storage.errors import CorruptionError, IdentityError
from durakv.storage.hardstate import HardState, HardStateFile, decode_slot, encode_slot
from durakv.storage.lane import Lane
from durakv.storage.record import crc

from .sim_disk import PowerCut, SimDisk
from .world import CLUSTER, SimClock

PATH = "/d/raft/hardstate"


def full_state() -> HardState:
    return HardState(
        CLUSTER,
        term=1,
        voted_for=2,
        commit_hint=3,
        synced_hint=4,
        ckpt_index=5,
        lease_epoch=6,
        lease_until_ms=7,
        suspect_until=8,
        flags=9,
        incarnation=10,
        witness_term=11,
        witness_subterm=12,
        replication_set=(13, 2**64 - 1),
    )


def fresh() -> tuple[SimDisk, Lane, HardStateFile]:
    disk = SimDisk()
    HardStateFile.create(disk, PATH, HardState(CLUSTER))
    disk.fsync_dir("/d/raft")
    lane = Lane(disk, SimClock(), lambda _: None)
    return disk, lane, HardStateFile.load(lane, PATH, CLUSTER)


def reload(disk: SimDisk) -> HardState:
    return HardStateFile.load(Lane(disk, SimClock(), lambda _: None), PATH, CLUSTER).current


def test_layout_is_the_documented_one() -> None:
    data = encode_slot(full_state(), 99)
    assert len(data) == 512
    assert data[:8] == b"DKHARD1\0"
    assert struct.unpack_from("<9Q", data, 8) == (99, 1, 2, 3, 4, 5, 6, 7, 8)
    assert data[80:96] == CLUSTER
    assert struct.unpack_from("<IIQQH", data, 96) == (9, 10, 11, 12, 2)
    assert struct.unpack_from("<2Q", data, 122) == (13, 2**64 - 1)
    assert data[138:508] == bytes(370)
    assert struct.unpack_from("<I", data, 508)[0] == crc(data[:508])


def test_round_trip_and_every_bit_flip() -> None:
    data = encode_slot(full_state(), 99)
    decoded = decode_slot(data)
    assert decoded is not None
    assert decoded[0] == 99
    assert encode_slot(decoded[1], 99) == data
    for bit in range(512 * 8):
        hurt = bytearray(data)
        hurt[bit // 8] ^= 1 << (bit % 8)
        assert decode_slot(bytes(hurt)) is None


def test_forty_members_fit_and_no_more() -> None:
    assert len(encode_slot(HardState(CLUSTER, replication_set=tuple(range(1, 41))), 1)) == 512
    with pytest.raises(AssertionError, match="at most 40"):
        encode_slot(HardState(CLUSTER, replication_set=tuple(range(41))), 1)


def test_slots_alternate_and_the_newest_wins() -> None:
    disk, _, hard = fresh()
    for term in range(1, 6):
        heard: list[OSError | None] = []
        hard.write(hard.current.voted(term, term * 10), heard.append)
        assert heard == [], "H3: not before the sync"
        disk.run_all()
        assert heard == [None]
        state = reload(disk.after_crash("none"))
        assert (state.term, state.voted_for) == (term, term * 10)
    assert [kind for kind, path in disk.trace if path == PATH][-2:] == ["pwrite", "fdatasync"]


def test_a_torn_update_leaves_the_state_before() -> None:
    for seed in range(40):
        for call in (1, 2):
            disk, _, hard = fresh()
            hard.write(hard.current.voted(3, 5), lambda _: None)
            disk.run_all()
            disk.cut_power_at = disk.calls + call
            hard.write(hard.current.voted(4, 6), lambda _: None)
            with pytest.raises(PowerCut):
                disk.run_all()
            left = disk.after_crash("torn", seed)
            state = reload(left)
            assert (state.term, state.voted_for) in ((3, 5), (4, 6))
            # The next write must replace the torn slot, not the good one.
            lane = Lane(left, SimClock(), lambda _: None)
            again = HardStateFile.load(lane, PATH, CLUSTER)
            again.write(again.current.voted(9, 1), lambda _: None)
            left.cut_power_at = left.calls + 1
            with pytest.raises(PowerCut):
                left.run_all()
            assert reload(left.after_crash("torn", seed)).term == state.term


def test_both_slots_bad_is_never_term_zero() -> None:
    disk, _, hard = fresh()
    hard.write(hard.current.voted(3, 5), lambda _: None)
    disk.run_all()
    for at in (100, 4096 + 100):
        disk.names[PATH].data[at] ^= 1
    with pytest.raises(CorruptionError, match="durakv-cli restore DIR"):
        reload(disk)
    disk.names[PATH].data[:] = bytes(8192)
    with pytest.raises(CorruptionError):
        reload(disk)
    del disk.names[PATH].data[:]
    with pytest.raises(CorruptionError):
        reload(disk)


def test_one_bad_slot_is_survived() -> None:
    disk, _, hard = fresh()
    hard.write(hard.current.voted(3, 5), lambda _: None)
    hard.write(hard.current.voted(4, 5), lambda _: None)
    disk.run_all()
    disk.names[PATH].data[100] ^= 1
    assert reload(disk).term == 4


def test_rules_h1_and_h2() -> None:
    disk, lane, hard = fresh()
    hard.write(hard.current.voted(3, 0), lambda _: None)
    hard.write(hard.current.voted(3, 5), lambda _: None)
    with pytest.raises(AssertionError, match="H2"):
        hard.write(hard.current.voted(3, 6), lambda _: None)
    with pytest.raises(AssertionError, match="H2"):
        hard.write(hard.current.voted(3, 0), lambda _: None)
    with pytest.raises(AssertionError, match="H1"):
        hard.write(hard.current.voted(2, 5), lambda _: None)
    disk.run_all()
    assert lane.outstanding == 0
    assert hard.write_inline(hard.current.voted(4, 1, 8, 7)) is None
    state = reload(disk.after_crash("none"))
    assert (state.term, state.voted_for, state.commit_hint, state.synced_hint) == (4, 1, 8, 7)


def test_foreign_cluster() -> None:
    disk, _, _ = fresh()
    with pytest.raises(IdentityError, match="belongs to cluster"):
        HardStateFile.load(Lane(disk, SimClock(), lambda _: None), PATH, bytes(16))


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("place", [0, 1])
def test_damage_to_one_slot_brings_no_older_vote_back(inline: bool, place: int) -> None:
    disk, _, hard = fresh()
    vote = hard.current.voted(3, 2, 0, 0)
    if inline:
        assert hard.write_inline(vote) is None
    else:
        hard.write(vote, lambda error: None)
        while disk.jobs:
            disk.run_one()
    rotten = disk.after_crash("none")
    rotten.names[PATH].data[place * 4096 + 20] ^= 4
    state = reload(rotten)
    assert (state.term, state.voted_for) == (3, 2)
