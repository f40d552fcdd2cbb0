"""Scripted runs in which one disk call fails.

Rule: the failing call is named by class and number, so a run repeats. After EIO nothing may reach the disk, nothing may
be acknowledged, and the owner must hear of it once; a full disk may only delay. What the run leaves is judged as any
crash state is. It must not know how storage does it.

Checks: HALT the node stops at once after EIO; FULL a full disk means read-only, then everything goes through; beside
them those of ``judge.py`` on what is left on the disk.
"""

from __future__ import annotations

import errno
from time import process_time
from typing import Final

from durakv.storage.health import FULL, RESERVE_NAME
from jstyle.crash.campaign import Tally
from jstyle.crash.judge import Finding, Recoveries
from jstyle.crash.ledger import ACK, VOTE_ACK, Ledger, Promises
from jstyle.crash.node import OpenNode
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.scripts import DIRECTORY, Life, Script
from jstyle.crash.states import Medium, build, variants
from jstyle.crash.trace import (
    ALLOCATE,
    CREATE,
    DATASYNC,
    LINK,
    MARK,
    RENAME,
    SYNC,
    SYNC_DIR,
    SYNC_FAILED,
    TRUNCATE,
    UNLINK,
    WRITE,
)

SYNCS: Final = (SYNC, DATASYNC, SYNC_DIR)
SPACE: Final = (WRITE, ALLOCATE, CREATE)
OTHERS: Final = (WRITE, ALLOCATE, CREATE, TRUNCATE, RENAME, LINK, UNLINK)
# Class of fault to (calls it hits, errno).
FAULTS: Final = {
    "eio-sync": (SYNCS, errno.EIO),
    "eio-call": (OTHERS, errno.EIO),
    "enospc": (SPACE, errno.ENOSPC),
    "enospc-sync": (SYNCS, errno.ENOSPC),
}
_SUBSETS: Final = 6


class Halted(Exception):
    """The node's process has ended because of the fault."""


class FaultyLife(Life):
    """A life that ends where the process would, and finds space again where it waits for some.

    ``stalls`` are the positions of the trace where it waited; ``fatal`` is what the newest boot's owner heard;
    ``stopped_full`` when a clean stop had to give up for want of space.
    """

    def __init__(self, disk: RecordingDisk, script: Script) -> None:
        origin = script.origin()
        super().__init__(disk, DIRECTORY, script.settings, Ledger(origin.held, origin.ballots))
        self.disk = disk
        self.promised = origin.acked
        self.findings: list[Finding] = []
        self.stalls: list[int] = []
        self.fatal: list[OSError] = []
        self.boot_failed = False
        self.stopped_full = False

    def boot(self) -> OpenNode:
        try:
            node = super().boot()
        except OSError as error:
            self.boot_failed = True
            raise Halted(f"at boot: {error}") from error
        self.fatal = node.fatal
        return node

    def settle(self, idle_ms: int = 0) -> None:
        super().settle(idle_ms)
        if not self.node.log.stalled:
            return
        self.stalls.append(len(self.disk.trace.events))
        if self.node.store.health.level != FULL:
            self.findings.append(Finding("FULL", "the log waits for space, but writes are still welcome"))
        self.node.store.health.check()
        super().settle(idle_ms)

    def stop(self) -> None:
        if not self.fatal:
            before = self.errors
            super().stop()
            self.stopped_full = not self.fatal and self.errors > before
        if self.fatal or self.stopped_full:
            raise Halted("the process has ended with an error")


def try_faults(script: Script, tally: Tally, only: tuple[str, int] | None = None) -> None:
    """One run for each call that may fail; ``only`` is a (class, number) to repeat.

    Raises ValueError when ``only`` names no call of this script.
    """
    begin_s = process_time()
    healthy = RecordingDisk(script.origin().image)
    script.run(healthy)
    recoveries = Recoveries(DIRECTORY, script.settings)
    before = tally.faults
    for name, fault in FAULTS.items():
        for number in range(1, healthy.count(fault[0]) + 1):
            if only is None or only == (name, number):
                _one_fault(script, tally, recoveries, name, number)
    if tally.faults == before:
        raise ValueError(f"trace {script.name} has no fault {only}; try {', '.join(FAULTS)} with a number from 1")
    tally.cpu_s += process_time() - begin_s


def _one_fault(script: Script, tally: Tally, recoveries: Recoveries, name: str, number: int) -> None:
    kinds, code = FAULTS[name]
    disk = RecordingDisk(script.origin().image)
    disk.fail_call(kinds, number, code)
    life = FaultyLife(disk, script)
    try:
        script.perform(life)
    except Halted:
        assert life.fatal or life.boot_failed or life.stopped_full, "only a fault ends a life early"
    except Exception as error:  # noqa: BLE001 - whatever else a fault leads to is what this looks for
        check = "FULL" if code == errno.ENOSPC else "HALT"
        life.findings.append(Finding(check, f"the node broke: {type(error).__name__}: {error}"))
        life.boot_failed = True
    assert disk.fault_position >= 0, f"{script.name}: the run differs before fault {name}:{number}"
    tally.faults += 1
    end = len(disk.trace.events)
    findings = list(life.findings)
    if not life.boot_failed and not life.stopped_full:
        if life.fatal or code == errno.EIO or (kinds == SYNCS and not _on_reserve(disk)):
            findings += _not_halted(life, disk)
        else:
            findings += _not_finished(life, disk, recoveries)
    for position in (*life.stalls, end):
        findings += _bad_disks(life, disk, recoveries, position)
    tally.add(disk.fault_position, f"{name}:{number}", findings)


def _on_reserve(disk: RecordingDisk) -> bool:
    """The failing sync was of the space held back, of which nothing depends."""
    return disk.trace.events[disk.fault_position].path.endswith(RESERVE_NAME)


def _not_halted(life: FaultyLife, disk: RecordingDisk) -> list[Finding]:
    """What the node still did after the failing call."""
    found = []
    if len(life.fatal) != 1:
        found.append(Finding("HALT", f"the owner was told {len(life.fatal)} times of a disk error, not once"))
    rest = disk.trace.events[disk.fault_position :]
    late = [event for event in rest if event.kind not in (MARK, SYNC_FAILED)]
    if late:
        found.append(Finding("HALT", f"{len(late)} calls reached the disk after the error, the first: {late[0]!r}"))
    told = [event for event in rest if event.kind == MARK and event.label in (ACK, VOTE_ACK)]
    if told:
        found.append(Finding("D1", f"acknowledged after the disk had failed: {told[0]!r}"))
    return found


def _not_finished(life: FaultyLife, disk: RecordingDisk, recoveries: Recoveries) -> list[Finding]:
    """What a node that had to wait for space has not made up for."""
    found = []
    if life.errors:
        found.append(Finding("FULL", f"{life.errors} operations were answered with an error"))
    if life.node.store.health.level == FULL:
        found.append(Finding("FULL", "writes are still disabled although there is space again"))
    promises = Promises(life.ledger, acked=life.promised)
    for event in disk.trace.events:
        promises.feed(event)
    held = recoveries.of(disk.image(), nested=False).outcomes[0][1].held
    if held != promises.newest():
        found.append(Finding("FULL", f"{len(promises.newest())} entries were asked for, {len(held)} are in the log"))
    return found


def _bad_disks(life: FaultyLife, disk: RecordingDisk, recoveries: Recoveries, position: int) -> list[Finding]:
    """Crash states of the disk that the faulty run had at a position."""
    medium = Medium(disk.trace.start)
    promises = Promises(life.ledger, acked=life.promised)
    for event in disk.trace.events[:position]:
        medium.feed(event)
        promises.feed(event)
    found = []
    for word in variants(medium, _SUBSETS):
        image = build(medium, word, f"{life.settings.sync}/{position}")
        broken = recoveries.of(image, nested=False).broken(promises)
        found += [Finding(one.check, f"{one.text} (then a power cut, state {word} at {position})") for one in broken]
    return found
