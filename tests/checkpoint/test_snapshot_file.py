"""Snapshots and the files around a store: whole or not there, every flipped byte found before anything is opened."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest

from durakv.checkpoint import ops
from durakv.checkpoint.damage import CheckpointDamaged, SnapshotDamaged
from durakv.checkpoint.frames import Frame
from durakv.checkpoint.kv import META
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import Materialiser, adopt, found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.place import (
    CheckedStores,
    environment,
    open_checked,
    read_current,
    stream_name,
    stream_number,
    write_current,
)
from durakv.checkpoint.rows import Applied
from durakv.checkpoint.snapshot_file import (
    HEADER_BYTES,
    SnapshotInfo,
    Unpacking,
    read_header,
    unpack_snapshot,
    verify_snapshot,
    write_snapshot,
)
from durakv.keyspace.keyspace import Keyspace
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv

CLUSTER = bytes(range(16))


@pytest.fixture
def disk():
    made = RealDisk(lambda job: job())
    yield made
    made.close()


@pytest.fixture
def store(tmp_path):
    directory = tmp_path / "env-1"
    directory.mkdir()
    kv = open_kv(str(directory), write=True)
    found(kv, CLUSTER, 7)
    out = []
    for i in range(50):
        ops.put_key(out, 0, i, -1, b"k%d" % i, b"\0value")
    ops.put_aux(out, b"cfg", b"the members")
    keeper = Materialiser(kv)
    keeper.apply(Frame(0, 41, 3, 2, 0xABCD, 1_700_000_000_000, 51, b"".join(out)))
    keeper.commit()
    yield kv
    kv.close()


def test_a_snapshot_goes_round(tmp_path, disk, store):
    info, path = write_snapshot(store, disk, str(tmp_path))
    assert path == f"{tmp_path}/snap-41.dksnap"
    at = info.applied
    assert (at.index, at.term, at.subterm, at.chain, at.ts_ms) == (41, 3, 2, 0xABCD, 1_700_000_000_000)
    assert (info.cluster_id, info.membership) == (CLUSTER, b"the members")
    again = verify_snapshot(disk, path)
    assert again.header() == info.header()
    assert info.size == (tmp_path / "snap-41.dksnap").stat().st_size
    target = str(tmp_path / "env-2")
    assert unpack_snapshot(disk, path, target).header() == info.header()
    copy = open_checked(disk, open_kv, target, write=True)
    adopt(copy, 8)
    ks, aux = Keyspace(16), {}
    result = load(copy, ks, aux.__setitem__)
    copy.close()
    assert (result.node_id, result.applied.index, ks.dbs[0].size) == (8, 41, 50)
    assert aux == {b"cfg": b"the members"}


def test_a_second_snapshot_replaces_the_first_and_leaves_nothing_else(tmp_path, disk, store):
    (tmp_path / "snap-41.dksnap.new").write_bytes(b"half" * 10_000)
    first = write_snapshot(store, disk, str(tmp_path))[0]
    assert write_snapshot(store, disk, str(tmp_path))[0].size == first.size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["env-1", "snap-41.dksnap"]


def test_what_an_earlier_attempt_left_is_removed(tmp_path, disk, store):
    path = write_snapshot(store, disk, str(tmp_path))[1]
    target = tmp_path / "env-2"
    target.mkdir()
    for name in ("data.mdb", "data.mdb.new", "lock.mdb"):
        (target / name).write_bytes(b"old" * 100_000)
    unpack_snapshot(disk, path, str(target))
    assert [p.name for p in target.iterdir()] == ["data.mdb"]
    open_checked(disk, open_kv, str(target), write=False).close()


def test_every_flipped_bit_of_the_header_is_found(tmp_path, disk, store):
    path = write_snapshot(store, disk, str(tmp_path))[1]
    whole = (tmp_path / "snap-41.dksnap").read_bytes()
    file = disk.open(path)
    for at in range(HEADER_BYTES):
        file.pwrite(bytes((whole[at] ^ 1 << at % 8,)), at)
        with pytest.raises(SnapshotDamaged):
            read_header(file, path)
        file.pwrite(whole[at : at + 1], at)
    assert read_header(file, path).applied.index == 41
    file.close()


def test_every_kind_of_damage_of_the_body_is_found(tmp_path, disk, store):
    path = write_snapshot(store, disk, str(tmp_path))[1]
    whole = (tmp_path / "snap-41.dksnap").read_bytes()
    places = [*range(HEADER_BYTES, len(whole), 997), len(whole) - 1]
    for bad in (
        *[whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :] for at in places],
        whole[:-1], whole + b"\0", whole[:HEADER_BYTES], whole[: HEADER_BYTES - 1], b"", whole[1:],
    ):  # fmt: skip
        (tmp_path / "snap-41.dksnap").write_bytes(bad)
        with pytest.raises(SnapshotDamaged, match="fetch the snapshot again"):
            verify_snapshot(disk, path)
        with pytest.raises(SnapshotDamaged):
            unpack_snapshot(disk, path, str(tmp_path / "env-3"))
        assert not (tmp_path / "env-3" / "data.mdb").exists()


def test_unpacking_can_be_given_up(tmp_path, disk, store):
    path = write_snapshot(store, disk, str(tmp_path))[1]
    unpacking = Unpacking(disk, path, str(tmp_path / "env-2"))
    assert unpacking.step()
    unpacking.close()
    unpacking.close()
    assert not (tmp_path / "env-2" / "data.mdb").exists()


def test_a_membership_that_does_not_fit_is_refused(tmp_path, disk, store):
    info = SnapshotInfo(CLUSTER, Applied(1, 1, 0, 0, 0), 5000, bytes(32), bytes(4010))
    with pytest.raises(ValueError, match="does not fit"):
        info.header()
    fits = SnapshotInfo(CLUSTER, Applied(1, 1, 0, 0, 0), 5000, bytes(32), bytes(3994))
    assert len(fits.header()) == HEADER_BYTES


def test_half_a_snapshot_does_not_stay(tmp_path, disk):
    def full(path, offset, data):
        raise OSError(28, "No space left on device")

    kv = MemoryKv(full)
    found(kv, CLUSTER, 7)
    with pytest.raises(OSError, match="No space left"):
        write_snapshot(kv, disk, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_membership_is_not_sent(tmp_path, disk):
    kv = MemoryKv()
    found(kv, CLUSTER, 7)
    kv.committed[2][b"cfg"] = b"x" * 20
    with pytest.raises(CheckpointDamaged, match="cfg"):
        write_snapshot(kv, disk, str(tmp_path))


# -- where checkpoints lie ----------------------------------------------------------------------------------------


def test_current_names_one_environment(tmp_path, disk):
    root = str(tmp_path)
    (tmp_path / "ckpt").mkdir()
    assert read_current(disk, root) is None
    write_current(disk, root, 1)
    assert read_current(disk, root) == 1
    write_current(disk, root, 20)
    assert read_current(disk, root) == 20
    assert environment(root, 20) == f"{root}/ckpt/env-20"
    path = tmp_path / "ckpt" / "CURRENT"
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes((whole[at] ^ 1 << bit,)) + whole[at + 1 :])
            with pytest.raises(CheckpointDamaged, match="CURRENT"):
                read_current(disk, root)
    path.write_bytes(whole + b"x")
    with pytest.raises(CheckpointDamaged):
        read_current(disk, root)


def test_names_of_stream_files():
    assert stream_name(5) == "dk.00000000000000000005.fx" and stream_number(stream_name(5)) == 5
    for name in ("dk.5.fx", "x" + stream_name(5), stream_name(5) + "x", ""):
        assert stream_number(name) == -1


def test_a_store_is_looked_at_before_it_is_opened(tmp_path, disk, store):
    store.close()
    path = tmp_path / "env-1" / "data.mdb"
    whole = bytearray(path.read_bytes())
    # Where the newest head says the databases are: LMDB would follow it wherever it leads.
    newest = 1 if struct.unpack_from("<Q", whole, 4096 + 144)[0] > struct.unpack_from("<Q", whole, 144)[0] else 0
    whole[newest * 4096 + 16 + 24 + 48 + 40 + 3] ^= 0x10
    path.write_bytes(whole)
    with pytest.raises(CheckpointDamaged, match="no such page"):
        open_checked(disk, open_kv, str(tmp_path / "env-1"), write=False)


def test_a_directory_is_looked_at_once(tmp_path, disk):
    looked = []

    class Watching:
        def open(self, path, **how):
            looked.append(path)
            return disk.open(path, **how)

        def __getattr__(self, name):
            return getattr(disk, name)

    stores = CheckedStores(Watching(), open_kv)
    with pytest.raises(FileNotFoundError):
        stores(str(tmp_path / "env-9"), write=False)
    first = stores(str(tmp_path / "env-9"), write=True)
    first.close()
    assert looked == []
    for _ in range(3):
        stores(str(tmp_path / "env-9"), write=True).close()
    assert looked == [str(tmp_path / "env-9" / "data.mdb")]


# -- LMDB ---------------------------------------------------------------------------------------------------------


def test_errors_of_lmdb_are_those_of_the_kernel(tmp_path, store):
    txn = store.begin(write=True)
    with pytest.raises(OSError, match="BAD_VALSIZE"):
        txn.replace(META, b"x" * 600, b"y")
    txn.abort()
    with pytest.raises(FileNotFoundError):
        open_kv(str(tmp_path / "nowhere"), write=False)
    with pytest.raises(OSError, match="No space left"):
        store.copy_compact("/dev/full", 0)


def test_a_store_that_was_never_finished_is_not_there(tmp_path):
    import lmdb

    lmdb.open(str(tmp_path), max_dbs=5).close()
    with pytest.raises(FileNotFoundError):
        open_kv(str(tmp_path), write=False)


READER = """
import sys
from durakv.world.real_kv import open_kv
kv = open_kv(sys.argv[1], write=False)
for _ in range(2):
    txn = kv.begin(write=False)
    print(hash(tuple(tuple(txn.rows(db)) for db in range(5))), flush=True)
    txn.abort()
    sys.stdin.readline()
"""


@pytest.mark.parametrize("more", [0, 1])
def test_a_store_can_be_made_smaller(tmp_path, disk, store, more):
    for _ in range(more):
        txn = store.begin(write=True)
        txn.replace(1, b"one more commit", b"")
        txn.pop(1, b"one more commit")
        txn.commit()
    for turn in range(2):
        txn = store.begin(write=True)
        for i in range(3000):
            txn.replace(1, b"%d" % i, b"x" * 1000) if turn == 0 else txn.pop(1, b"%d" % i)
        txn.commit()
    large = store.file_bytes()
    assert large > 100 * store.used_bytes() > 0
    reader = store.begin(write=False)
    before = [list(reader.rows(db)) for db in range(5)]
    reader.abort()
    # Somebody else who reads meanwhile.
    other = subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path / "env-1")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    seen = other.stdout.readline()
    store.compact()
    assert store.file_bytes() < large // 50
    reader = store.begin(write=False)
    assert [list(reader.rows(db)) for db in range(5)] == before
    reader.abort()
    keeper = Materialiser(store)
    for index in range(42, 46):
        out: list[bytes] = []
        ops.put_key(out, 0, index, -1, b"more", b"\0" + b"x" * 5000)
        keeper.apply(Frame(index - 1, index, 3, 0, 0, 0, 1, b"".join(out)))
        keeper.commit()
    assert other.communicate("\n\n", timeout=60)[0] == seen
    store.close()
    assert sorted(p.name for p in (tmp_path / "env-1").iterdir()) == ["data.mdb", "lock.mdb"]
    again = open_checked(disk, open_kv, str(tmp_path / "env-1"), write=False)
    assert load(again, Keyspace(16), lambda name, blob: None).applied.index == 45
    again.close()


def test_a_store_that_finds_no_room_to_be_made_smaller_stays_as_it_was(tmp_path, store):
    (tmp_path / "env-1" / "data.mdb.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        store.compact()
    assert Materialiser(store).applied.index == 41


def test_readers_see_the_last_commit_and_rows_come_in_order(store):
    reader = store.begin(write=False)
    before = list(reader.rows(0))
    writer = store.begin(write=True)
    assert writer.pop(0, before[0][0]) == before[0][1] and writer.pop(0, b"none") is None
    assert writer.replace(0, before[1][0], b"new") == before[1][1]
    assert writer.get(0, before[1][0]) == b"new"
    writer.commit()
    assert list(reader.rows(0)) == before == sorted(before)
    reader.abort()
    reader = store.begin(write=False)
    after = list(reader.rows(0))
    assert after == [(before[1][0], b"new"), *before[2:]]
    assert list(reader.rows(0, before[5][0])) == before[5:] and list(reader.rows(0, b"\xff")) == []
    reader.abort()
    assert store.used_bytes() >= 4096
