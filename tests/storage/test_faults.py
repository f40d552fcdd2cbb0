"""I/O errors at every call: EIO ends the node at once, a full disk waits without losing a thing, short writes are
finished.
"""

from __future__ import annotations

import errno

import pytest

from durakv.storage.health import FULL, LOW, OK, DiskHealth
from durakv.storage.lane import Lane
from durakv.storage.options import SYNC_NO, LogOptions

from .sim_disk import SimDisk
from .world import Entry, Node, SimClock, normal

SCRIPT: list[list[Entry]] = [
    [normal(1)],
    [normal(2, 1, 1500), normal(3, 1, 1500)],
    [normal(4, 1, 2500)],
    [normal(5, 1, 6000), normal(6)],
    [normal(5, 2, 700), normal(6, 2, 700)],
    [normal(7, 2, 3000), normal(8, 2, 3000)],
]
FINAL = [normal(1), *SCRIPT[1], *SCRIPT[2], *SCRIPT[4], *SCRIPT[5]]


class Run:
    """The script with one fault; remembers what was acknowledged, and with what."""

    def __init__(self, fault_at: int, fault: OSError | str | None, *, pipelined: bool = False) -> None:
        self.disk = SimDisk()
        self.node = Node(self.disk)
        self.start = self.disk.calls
        if fault is not None:
            self.disk.faults[self.start + fault_at] = fault
        self.heard: list[tuple[int, int, OSError | None]] = []
        for entries in SCRIPT:
            tip = entries[-1]
            self.node.log.append(
                entries,
                lambda error, tip=tip: self.heard.append((tip.index, tip.term, error)),  # type: ignore[misc]
            )
            if not pipelined:
                self.node.settle()
                self.node.clock.advance(25)
                self.node.settle()
        self.node.settle()


TOTAL = Run(0, None).disk.calls - Run(0, None).start
KINDS = [kind for kind, _ in Run(0, None).disk.trace]


def test_the_script_touches_every_kind_of_call() -> None:
    wanted = {"pwrite", "fdatasync", "fsync", "truncate", "rename", "unlink", "fsync_dir", "fallocate", "create"}
    assert wanted <= set(KINDS)
    assert Run(0, None).node.held() == [entry.key() for entry in FINAL]


@pytest.mark.parametrize("call", range(1, TOTAL + 1))
def test_eio_stops_everything(call: int) -> None:
    run = Run(call, OSError(errno.EIO, "medium error"))
    assert len(run.node.fatal) == 1, "told once, and not retried"
    assert run.disk.calls == run.start + call, "not one more call reaches the disk"
    good = [item for item in run.heard if item[2] is None]
    assert run.heard[: len(good)] == good, "no success after the failure"
    assert any(error is not None for _, _, error in run.heard) or len(good) == len(SCRIPT)
    assert run.node.log.lane.failure is not None
    for mode, seed in (("none", 0), ("torn", 1), ("torn", 2)):
        held = Node(run.disk.after_crash(mode, seed + call)).held()
        if good:
            index, term, _ = good[-1]
            pending_cut = term == 1 and index >= 5
            assert len(held) >= (4 if pending_cut else index)


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_full_disk_at_any_call_loses_nothing(pipelined: bool) -> None:
    total = Run(0, None, pipelined=pipelined)
    stalls = 0
    for call in range(1, total.disk.calls - total.start + 1):
        run = Run(call, OSError(errno.ENOSPC, "no space left"), pipelined=pipelined)
        node = run.node
        if node.fatal:
            kind = run.disk.trace[run.start + call - 1][0]
            assert kind in ("fsync", "fdatasync", "fsync_dir", "truncate", "unlink"), "only cuts and syncs may not wait"
            assert [error for _, _, error in run.heard if error is not None] or len(run.heard) == len(SCRIPT)
            continue
        if node.log.stalled:
            stalls += 1
            assert node.store.health.level == FULL
            assert node.store.health.refusal() is not None
            durable = node.log.durable_index()
            left = Node(run.disk.after_crash("none", call))
            assert left.log.last_index() >= durable
            assert left.held()[:durable] == node.held()[:durable]
            node.store.health.check()
            node.settle()
        assert not node.log.stalled
        assert node.held() == [entry.key() for entry in FINAL]
        assert [error for _, _, error in run.heard] == [None] * len(SCRIPT)
        assert [item[:2] for item in run.heard] == [(batch[-1].index, batch[-1].term) for batch in SCRIPT]
        assert node.close() == [None]
        assert Node(run.disk.after_crash("none")).held() == [entry.key() for entry in FINAL]
    assert stalls >= 5


def test_a_disk_that_stays_full_keeps_waiting_and_can_be_killed() -> None:
    disk = SimDisk()
    node = Node(disk)
    ok = node.append(normal(1))
    node.settle()
    for call in range(disk.calls + 1, disk.calls + 400):
        disk.faults[call] = OSError(errno.ENOSPC, "no space left") if call % 4 == 1 else "fine"
    heard = node.append(*[normal(index, 1, 900) for index in range(2, 12)])
    for _ in range(12):
        node.settle()
        node.store.health.check()
    node.settle()
    assert not node.fatal or heard == [node.fatal[0]]
    assert ok == [None]
    assert Node(disk.after_crash("none")).held()[0] == normal(1).key()


@pytest.mark.parametrize("call", range(1, TOTAL + 1))
def test_short_writes_are_completed_once(call: int) -> None:
    run = Run(call, "short")
    assert not run.node.fatal
    assert run.node.held() == [entry.key() for entry in FINAL]
    assert Node(run.disk.after_crash("none")).held() == [entry.key() for entry in FINAL]


def test_two_short_writes_are_an_io_error() -> None:
    disk = SimDisk()
    node = Node(disk)
    node.append(normal(1))
    node.settle()
    disk.faults[disk.calls + 1] = disk.faults[disk.calls + 2] = "short"
    heard = node.append(normal(2))
    node.settle()
    assert len(node.fatal) == 1
    assert "short write" in str(node.fatal[0])
    assert heard[0] is node.fatal[0]


def test_a_failed_sync_is_not_believed_even_if_a_second_one_would_succeed() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=1 << 20)
    node.append(normal(1))
    node.settle()
    disk.faults[disk.calls + 2] = OSError(errno.EIO, "flush failed")
    heard = node.append(normal(2))
    later = node.append(normal(3))
    node.settle()
    assert (len(node.fatal), node.log.durable_index()) == (1, 1)
    assert heard[0] is not None
    assert later[0] is not None
    hard: list[OSError | None] = []
    node.store.hard.write(node.store.hard.current.voted(1, 1), hard.append)
    node.settle()
    assert hard[0] is not None, "a vote on a broken lane must not be given"
    assert len(node.fatal) == 1
    assert Node(disk.after_crash("none")).held() == [normal(1).key()]


def test_inline_errors_follow_the_same_policy() -> None:
    disk = SimDisk()
    node = Node(disk, segment_bytes=1 << 20)
    disk.faults[disk.calls + 1] = OSError(errno.ENOSPC, "full")
    heard: list[OSError | None] = []
    assert not node.log.append_inline([normal(1)], heard.append)
    assert (heard, node.log.stalled, node.levels) == ([], True, [FULL])
    node.store.health.check()
    node.settle()
    assert (heard, node.levels) == ([None], [FULL, OK])
    disk.faults[disk.calls + 2] = OSError(errno.EIO, "bad")
    assert not node.log.append_inline([normal(2)], heard.append)
    assert heard[-1] is node.fatal[0]


def test_full_under_policy_no_retries_what_was_answered() -> None:
    disk = SimDisk()
    node = Node(disk, options=LogOptions(sync=SYNC_NO))
    disk.faults[disk.calls + 2] = OSError(errno.ENOSPC, "full")
    heard = node.append(normal(1))
    node.settle()
    assert (heard, node.log.stalled) == ([None], True)
    waiting = node.append(normal(2))
    node.settle()
    assert waiting == []
    node.store.health.check()
    node.settle()
    assert waiting == [None]
    assert node.close() == [None]
    assert [key[0] for key in Node(disk.after_crash("none")).held()] == [1, 2]


def test_closing_on_a_full_disk_tries_once_more_and_says_so() -> None:
    disk = SimDisk()
    node = Node(disk)
    node.append(normal(1))
    node.settle()
    full = OSError(errno.ENOSPC, "full")
    disk.faults[disk.calls + 1] = full
    waiting = node.append(normal(2))
    node.settle()
    assert (waiting, node.log.stalled) == ([], True)
    disk.faults[disk.calls + 1] = full
    closed = node.close()
    assert [error.errno if error else 0 for error in (*waiting, *closed)] == [errno.ENOSPC, errno.ENOSPC]
    assert not node.fatal
    assert Node(disk.after_crash("none")).held() == [normal(1).key()]


def test_space_levels_and_the_refusal_text() -> None:
    disk = SimDisk()
    clock = SimClock()
    heard: list[str] = []
    disk.free = 10 << 30
    health = DiskHealth(Lane(disk, clock, lambda _: None), "/d", heard.append)
    assert (health.level, health.refusal()) == (OK, None)
    for free_mib, level in ((1900, LOW), (401, FULL), (520, FULL), (577, LOW), (4096, OK), (511, FULL)):
        disk.free = free_mib << 20
        health.check()
        disk.run_all()
        assert health.level == level, free_mib
    assert heard == [LOW, FULL, LOW, OK, FULL]
    disk.free = 401 << 20
    health.check()
    disk.run_all()
    assert health.refusal() == (
        "MISCONF log volume nearly full: 401 MiB free, 512 MiB needed; writes disabled, reads served"
    )


def test_reserve_is_made_when_there_is_room_and_released_once() -> None:
    disk = SimDisk()
    health = DiskHealth(Lane(disk, SimClock(), lambda _: None), "/d", lambda _: None)
    disk.free = 600 << 20
    assert not health.make_reserve()
    disk.free = 10 << 30
    disk.faults[disk.calls + 2] = OSError(errno.ENOSPC, "full")
    assert not health.make_reserve()
    assert not disk.exists("/d/reserve.dat")
    health.reserve_bytes = 0
    assert not health.make_reserve()
    health.reserve_bytes = 1 << 20
    assert health.make_reserve()
    assert health.make_reserve()
    assert len(disk.after_crash("none").names["/d/reserve.dat"].data) == 1 << 20
    assert health.release_reserve()
    assert not health.release_reserve()
    assert not disk.after_crash("none").exists("/d/reserve.dat")
