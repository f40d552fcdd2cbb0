"""The file of a full synchronisation on the disk."""

from __future__ import annotations

from durakv.keyspace.keyspace import Keyspace
from durakv.migration.spool import FETCH_BYTES, Spool
from tests.migration.sim_source import rdb_of
from tests.storage.sim_disk import SimDisk


def settle(disk: SimDisk) -> None:
    while disk.jobs:
        disk.run_one()


def test_written_in_pieces_and_read_through_memory() -> None:
    disk = SimDisk()
    disk.mkdir("/d/import")
    disk.open("/d/import/7.rdb", create=True)
    progress: list[int] = []
    spool = Spool(disk, "/d/import", "9.rdb", lambda: progress.append(1))
    data = bytes(range(256)) * 40_000
    for at in range(0, len(data), 70_001):
        spool.write(data[at : at + 70_001])
    assert spool.queued_bytes > 0
    ready: list[int] = []
    spool.settle(lambda: ready.append(1))
    settle(disk)
    assert ready == [1]
    assert spool.queued_bytes == 0
    assert progress
    assert disk.listdir("/d/import") == ["9.rdb"]
    assert spool.size() == len(data)
    assert spool.fetched(0)
    calls = disk.calls
    assert spool.pread(1000, 5) == data[5:1005]
    assert disk.calls == calls
    assert not spool.fetched(FETCH_BYTES - 10)
    spool.fetch(FETCH_BYTES - 10, lambda: ready.append(2))
    settle(disk)
    assert ready == [1, 2]
    assert spool.fetched(FETCH_BYTES - 10)
    assert spool.pread(1 << 22, FETCH_BYTES - 10) == data[FETCH_BYTES - 10 :]
    # Behind memory's back, too.
    assert spool.pread(100, 0) == data[:100]
    spool.close()
    spool.close()
    settle(disk)
    assert disk.listdir("/d/import") == []


def test_the_sum_at_its_end_is_checked() -> None:
    good = rdb_of(Keyspace(1))
    for data, expected in ((good, True), (good[:-8] + bytes(8), True), (good[:5] + b"9" + good[6:], False)):
        disk = SimDisk()
        spool = Spool(disk, "/d", "1.rdb", lambda: None)
        for at in range(0, len(data), 5):
            spool.write(data[at : at + 5])
            spool.flush()
        settle(disk)
        assert spool.sum_is_good() is expected


def test_a_disk_that_fails_is_told() -> None:
    disk = SimDisk()
    told: list[object] = []
    spool = Spool(disk, "/d", "1.rdb", lambda: told.append(spool.error))
    settle(disk)
    spool.write(b"x" * 1000)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    assert spool._file is not None
    spool._file.pwrite = full  # type: ignore[method-assign,assignment]
    spool.settle(lambda: told.append("never"))
    settle(disk)
    assert spool.error is not None
    assert spool.error in told
    spool.close()
    settle(disk)
