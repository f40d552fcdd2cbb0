"""The simulated disk: what is durable when, what a power cut may leave, what time its operations take."""

from __future__ import annotations

import pytest

from jstyle.sim.clock import NodeClock, PowerCut
from jstyle.sim.disk import DiskOptions, SimDisk
from jstyle.sim.disk_crash import (
    ANY_SUBSET,
    NOTHING,
    ORDERED_PREFIX,
    ORDERS,
    RENAME_BEFORE_DATA,
    SIZE_FIRST,
    CrashPolicy,
    after_power_cut,
)
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS, SECOND, Timeline


def new_disk(seed: int = 1, **options: object) -> SimDisk:
    disk = SimDisk(Timeline(), seed, "n1", DiskOptions(**options))  # type: ignore[arg-type]
    disk.mkdir("/d")
    return disk


def put(disk: SimDisk, path: str, data: bytes, *, offset: int = 0, sync: bool = False, link: bool = False) -> None:
    file = disk.open(path, create=True)
    file.pwrite(data, offset)
    if sync:
        file.fsync()
    if link:
        disk.fsync_dir("/d")


def put_bytes(disk: SimDisk, count: int) -> None:
    for n in range(count):
        put(disk, "/d/f", b"x", offset=n)


def content(disk: SimDisk, path: str) -> bytes:
    return disk.open(path).pread(1 << 20, 0)


def cut(disk: SimDisk, seed: int = 0, **policy: object) -> None:
    after_power_cut(disk, CrashPolicy(**policy), stream(seed, "cut", "test"))  # type: ignore[arg-type]


def outcomes(policy: CrashPolicy, prepare: object, seeds: int = 200) -> set[bytes | None]:
    found: set[bytes | None] = set()
    for seed in range(seeds):
        disk = new_disk()
        prepare(disk)  # type: ignore[operator]
        after_power_cut(disk, policy, stream(seed, "cut", "test"))
        found.add(content(disk, "/d/f") if disk.exists("/d/f") else None)
    return found


def test_reads_see_everything_the_medium_only_what_was_synced() -> None:
    disk = new_disk()
    put(disk, "/d/f", b"one", sync=True, link=True)
    put(disk, "/d/f", b"two")
    image = disk.durable_image()
    assert content(disk, "/d/f") == b"two"
    assert image.read("/d/f", 10, 0) == b"one" and image.size("/d/f") == 3
    version, file_version = image.version, image.file_version("/d/f")
    disk.open("/d/f").fdatasync()
    assert image.read("/d/f", 10, 0) == b"two"
    assert image.version > version and image.file_version("/d/f") > file_version


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(20))
def test_what_was_synced_survives_any_policy(order: str, seed: int) -> None:
    disk = new_disk()
    put(disk, "/d/f", b"kept", sync=True, link=True)
    put(disk, "/d/f", b"more", offset=4)
    put(disk, "/d/g", b"x")
    cut(disk, seed, order=order)
    assert content(disk, "/d/f")[:4] == b"kept"
    assert disk.durable_image().read("/d/f", 4, 0) == b"kept"


def test_nothing_means_nothing() -> None:
    disk = new_disk()
    put(disk, "/d/f", b"kept", sync=True, link=True)
    put(disk, "/d/f", b"gone", offset=4)
    disk.rename("/d/f", "/d/g")
    cut(disk, order=NOTHING)
    assert disk.listdir("/d") == ["f"] and content(disk, "/d/f") == b"kept"


def three_writes(disk: SimDisk) -> None:
    put(disk, "/d/f", b"", sync=True, link=True)
    for n, byte in enumerate((b"a", b"b", b"c")):
        put(disk, "/d/f", byte, offset=n)


def test_an_ordered_prefix_never_skips() -> None:
    found = outcomes(CrashPolicy(ORDERED_PREFIX, tear=0.0), three_writes)
    assert {b"", b"a", b"ab", b"abc"} <= found | {b""}
    assert all(one is not None and b"abc".startswith(one) for one in found)
    assert len(found) >= 3


def test_any_subset_keeps_any() -> None:
    found = outcomes(CrashPolicy(ANY_SUBSET, keep=0.5, tear=0.0), three_writes)
    assert {b"\0\0c", b"a\0c", b"abc", b""} <= found


def test_size_first_shows_zeros_or_garbage() -> None:
    found = outcomes(CrashPolicy(SIZE_FIRST, keep=0.3, tear=0.0), three_writes)
    assert all(one is not None and len(one) == 3 for one in found)
    assert b"\0\0\0" in found
    assert any(one is not None and one.strip(b"abc\0") for one in found)


def sectors(disk: SimDisk) -> None:
    put(disk, "/d/f", b"", sync=True, link=True)
    put(disk, "/d/f", b"x" * 2048)


def test_writes_tear_by_sector_or_byte() -> None:
    found = outcomes(CrashPolicy(ANY_SUBSET, keep=1.0, tear=1.0), sectors)
    by_sector = {tuple(one[at : at + 1] for at in range(0, len(one), 512)) for one in found if one is not None}
    assert len(by_sector) > 8
    assert all(one is not None and set(one) <= set(b"x\0") for one in found)
    found = outcomes(CrashPolicy(ANY_SUBSET, keep=1.0, tear=1.0, bytewise=True), sectors)
    assert any(one is not None and len(one) % 512 for one in found)


def renamed(disk: SimDisk) -> None:
    put(disk, "/d/t", b"data")
    disk.rename("/d/t", "/d/f")


def test_a_rename_may_come_before_its_data() -> None:
    assert outcomes(CrashPolicy(RENAME_BEFORE_DATA, keep=0.1, tear=0.0), renamed) == {b"", b"data"}


def test_names_need_their_directory_synced_unless_the_journal_carried_them() -> None:
    def synced_file(disk: SimDisk) -> None:
        put(disk, "/d/f", b"data", sync=True)

    assert outcomes(CrashPolicy(NOTHING, strict_names=True), synced_file) == {None}
    assert outcomes(CrashPolicy(NOTHING, strict_names=False), synced_file) == {b"data"}


def test_truncating_and_allocating_are_pending_too() -> None:
    disk = new_disk()
    put(disk, "/d/f", b"12345678", sync=True, link=True)
    file = disk.open("/d/f")
    file.truncate(2)
    file.fallocate(2, 4)
    assert content(disk, "/d/f") == b"12\0\0\0\0"
    cut(disk, order=NOTHING)
    assert content(disk, "/d/f") == b"12345678"


def test_a_drawn_policy_can_be_any() -> None:
    random = stream(1, "policies", "test")
    drawn = [CrashPolicy.draw(random) for _ in range(300)]
    assert {policy.order for policy in drawn} == set(ORDERS)
    assert {policy.strict_names for policy in drawn} == {policy.bytewise for policy in drawn} == {True, False}


def test_the_power_may_go_between_any_two_calls() -> None:
    for calls in range(4):
        disk = new_disk()
        disk.cut_after = calls
        with pytest.raises(PowerCut):
            put_bytes(disk, 10)
        expected = max(calls - 1, 0)
        assert (len(content(disk, "/d/f")) if disk.exists("/d/f") else 0) == expected


class Lane:
    def __init__(self, seed: int = 1, **options: object) -> None:
        self.disk = new_disk(seed, **options)
        self.time = self.disk.timeline
        self.clock = NodeClock(self.time, SECOND, 0, 1_000_000, 0, lambda: None, _raise)
        self.disk.boot(self.clock)
        self.log: list[str] = []

    def submit(self, name: str) -> None:
        self.disk.submit(lambda: self.log.append(name), lambda error: self.log.append(f"{name} done {error}"))


def _raise(error: BaseException) -> None:
    raise error


def test_jobs_run_in_order_and_take_time() -> None:
    lane = Lane(latency_min_us=(1000, 1000), latency_mean_us=(2000, 2000))
    for name in ("a", "b", "c"):
        lane.submit(name)
    lane.time.run_for(900_000)
    assert lane.log == []
    lane.time.run_for(20 * MS)
    assert [entry for entry in lane.log if len(entry) == 1] == ["a", "b", "c"]
    assert [entry for entry in lane.log if len(entry) > 1] == ["a done None", "b done None", "c done None"]


def test_a_failing_job_is_told_and_others_go_on() -> None:
    lane = Lane()

    def fail() -> None:
        raise OSError(5, "no")

    lane.disk.submit(fail, lambda error: lane.log.append(f"error {error}"))
    lane.submit("b")
    lane.time.run_for(SECOND)
    assert sorted(lane.log) == ["b", "b done None", "error [Errno 5] no"]


def test_a_hung_disk_completes_nothing_until_it_recovers() -> None:
    lane = Lane()
    lane.disk.hang(3 * SECOND)
    lane.submit("a")
    lane.time.run_for(2900 * MS)
    assert lane.log == []
    lane.time.run_for(200 * MS)
    assert lane.log == ["a", "a done None"]


def test_a_sync_on_the_loop_holds_up_the_loop() -> None:
    lane = Lane(latency_min_us=(5000, 5000), latency_mean_us=(6000, 6000))
    heard: list[int] = []

    def sync_here() -> None:
        before_ns = lane.clock.monotonic_ns()
        put(lane.disk, "/d/f", b"x", sync=True)
        assert lane.clock.monotonic_ns() - before_ns >= 5 * MS

    lane.clock.enter(sync_here)
    lane.clock.enter(lambda: heard.append(lane.time.now_ns))
    begin_ns = lane.time.now_ns
    lane.time.run_for(SECOND)
    assert heard[0] - begin_ns >= 5 * MS


def test_a_sync_in_a_job_takes_the_jobs_time_once() -> None:
    lane = Lane(latency_min_us=(5000, 5000), latency_mean_us=(6000, 6000))
    took: list[int] = []

    def job() -> None:
        for _ in range(2):
            before_ns = lane.clock.monotonic_ns()
            put(lane.disk, "/d/f", b"x", sync=True)
            took.append(lane.clock.monotonic_ns() - before_ns)

    lane.disk.submit(job, _check_none)
    lane.time.run_for(SECOND)
    assert took[0] >= 5 * MS and took[1] == 0


def _check_none(error: OSError | None) -> None:
    assert error is None


def test_an_interrupted_job_may_have_got_any_part_of_its_way() -> None:
    got: set[int] = set()
    for seed in range(80):
        lane = Lane(seed=seed)

        def job(disk: SimDisk = lane.disk) -> None:
            for n in range(4):
                put(disk, "/d/f", b"x", offset=n)

        lane.disk.submit(job, _check_none)
        lane.disk.interrupt()
        lane.clock.kill()
        lane.time.run_for(SECOND)
        got.add(len(content(lane.disk, "/d/f")) if lane.disk.exists("/d/f") else 0)
    assert got >= {0, 1, 2, 3}


def test_locks_end_with_the_process() -> None:
    disk = new_disk()
    assert disk.lock("/d/LOCK") and not disk.lock("/d/LOCK")
    disk.boot(None)
    assert disk.lock("/d/LOCK")
