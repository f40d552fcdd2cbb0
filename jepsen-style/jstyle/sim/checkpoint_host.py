"""A machine's checkpoints: stores that keep what was committed, and the materialiser as a process beside the server.

The store stands in for LMDB and keeps its promise, a commit that returned is there after any crash; the materialiser
is the real one, driven by the same lines, reading and writing when the dice say. It ends with the server, having
written what it knows or not, and at once when the power goes.
Rule: nothing here decides what a checkpoint holds; that is the product's code.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.meta import read_meta
from durakv.checkpoint.process import MaterialiserProcess
from jstyle.sim.clock import NodeClock
from jstyle.sim.disk import DurableImage

if TYPE_CHECKING:
    from jstyle.sim.machine import Machine

_DATA: Final = "data.mdb"
_FOLDER: Final = "/data/ckpt"
_CURRENT: Final = f"{_FOLDER}/CURRENT"
_CURRENT_BYTES: Final = 256
_STEP_MS_MAX: Final = 40
# A materialiser dies of itself about once in so many steps.
_STEPS_OF_A_LIFE: Final = 400
_EXIT_BUG: Final = 70


class CheckpointHost:
    """One machine's. ``stores`` by directory outlive processes; a replaced disk has none."""

    def __init__(self, machine: Machine, dice: Random) -> None:
        self.machine = machine
        self.dice = dice
        self.stores: dict[str, MemoryKv] = {}
        self.child: SimChild | None = None
        self.commits = 0
        # What the last look at the durable state found, and what it looked at.
        self._seen: list[dict[bytes, bytes]] = []
        self._end = 0

    def open_kv(self, directory: str, *, write: bool) -> MemoryKv:
        """See OpenKv. A snapshot's bytes become a store when they are opened first."""
        store = self.stores.get(directory)
        if store is None:
            disk = self.machine.disk
            path = f"{directory}/{_DATA}"
            if disk.exists(path):
                file = disk.open(path)
                store = MemoryKv.restore(file.pread(file.size(), 0), self._write_file)
                file.close()
            elif write:
                store = MemoryKv(self._write_file)
            else:
                raise FileNotFoundError(errno.ENOENT, "no such store", directory)
            self.stores[directory] = store
        return store

    def wiped(self) -> None:
        """The disk is an empty one."""
        self.stores = {}
        self._seen = []

    def durable_end(self, image: DurableImage) -> int:
        """Index at which the checkpoint ends that a start after a power cut would find; 0 without one."""
        # Read each time: the file is replaced by another one, whose version may be the same number.
        named = image.read(_CURRENT, _CURRENT_BYTES, 0) if image.file_version(_CURRENT) >= 0 else b""
        if not named:
            return 0
        directory = f"{_FOLDER}/{named.split()[0].decode()}"
        store = self.stores.get(directory)
        if store is not None and store.committed is self._seen:
            return self._end
        if store is None:
            path = f"{directory}/{_DATA}"
            store = MemoryKv.restore(image.read(path, 1 << 40, 0))
        txn = store.begin(write=False)
        meta = read_meta(txn)
        txn.abort()
        self._seen = store.committed
        self._end = 0 if meta is None else meta.applied.index
        return self._end

    def _write_file(self, path: str, offset: int, data: bytes) -> None:
        file = self.machine.disk.open(path)
        written = 0
        while written < len(data):
            written += file.pwrite(data[written:], offset + written)
        file.close()

    def spawn(self, args: list[str], on_line: Callable[[str], None], on_exit: Callable[[int], None]) -> SimChild:
        """See ports.Spawn."""
        clock = self.machine.clock
        assert clock is not None
        assert args[0] == "materialise"
        self.child = SimChild(self, clock, args[1:], on_line, on_exit)
        return self.child

    def server_died(self, *, power_cut: bool) -> None:
        """The server is no more; its materialiser finds its input at an end, unless it died too."""
        child, self.child = self.child, None
        if child is not None:
            child.orphaned(writes=not power_cut and self.dice.random() < 0.5)


class SimChild:
    """Implements Child."""

    def __init__(
        self, host: CheckpointHost, clock: NodeClock, args: list[str], on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._host = host
        self._clock = clock
        self._on_line = on_line
        self._on_exit = on_exit
        self._running = True
        self._lines: list[str] = []
        self._stepping = False
        stream, folder, environment, bytes_max, interval_ms = args
        store = host.open_kv(environment, write=True)
        # A transaction of a process that died is none.
        store.writing = False
        self._process = MaterialiserProcess(
            store, host.machine.disk, lambda: clock.monotonic_ns() // 1_000_000, self._say, stream, folder,
            int(bytes_max), int(interval_ms),
        )  # fmt: skip

    def _say(self, line: str) -> None:
        if line.startswith("A "):
            self._host.commits += 1
        self._clock.call_soon(lambda: self._on_line(line))

    def send(self, line: str) -> None:
        """See Child."""
        self._lines.append(line)
        self._later()

    def close(self) -> None:
        """See Child."""
        self._lines.append("")
        self._later()

    def kill(self) -> None:
        """See Child."""
        self._end(-9)

    def orphaned(self, *, writes: bool) -> None:
        """Its server died."""
        if self._running:
            self._running = False
            if writes:
                self._process.finish()

    def _end(self, code: int) -> None:
        if self._running:
            self._running = False
            self._clock.call_soon(lambda: self._on_exit(code))

    def _later(self) -> None:
        if not self._stepping and self._running:
            self._stepping = True
            self._clock.call_later(1 + self._host.dice.randrange(_STEP_MS_MAX), self._step)

    def _step(self) -> None:
        self._stepping = False
        if not self._running:
            return
        if self._host.dice.randrange(_STEPS_OF_A_LIFE) == 0:
            self._end(_EXIT_BUG)
            return
        lines, self._lines = self._lines, []
        for line in lines:
            if not line:
                self._process.finish()
                self._end(0)
                return
            self._process.command(line)
        if self._process.step() or self._lines:
            self._later()
        else:
            self._stepping = True
            self._clock.call_later(1 + min(self._process.wait_ms(), 1000), self._step)
