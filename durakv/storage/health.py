"""How much room the log volume has, and when writing must stop.

Rule: the only place that turns free bytes into a state and a refusal text. Levels: ok, low (warn), full (no new
writes). It must not know who proposes writes; they ask ``refusal()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.storage.lane import FULL_ERRNOS, Lane

OK: Final = "ok"
LOW: Final = "low"
FULL: Final = "full"

MIN_FREE_BYTES: Final = 512 << 20
LOW_FREE_BYTES: Final = 2 << 30
RESERVE_BYTES: Final = 128 << 20
RESERVE_NAME: Final = "reserve.dat"
_MIB: Final = 1 << 20


class DiskHealth:
    """Free space of the data directory's volume. ``level`` is ok, low or full; ``free_bytes`` as of the last check."""

    def __init__(
        self,
        lane: Lane,
        directory: str,
        on_change: Callable[[str], None],
        *,
        min_free_bytes: int = MIN_FREE_BYTES,
        low_free_bytes: int = LOW_FREE_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        """``on_change(level)`` runs on the loop thread whenever the level changes."""
        self._lane = lane
        self._directory = directory
        self._on_change = on_change
        self.min_free_bytes = min_free_bytes
        self.low_free_bytes = low_free_bytes
        self.reserve_bytes = reserve_bytes
        self.level = OK
        self.free_bytes = lane.disk.free_bytes(directory)
        self._measured = self.free_bytes
        self._judge(refused=False)

    def refusal(self) -> str | None:
        """The error for a write while the volume is full, without its leading dash; None when writes are welcome."""
        if self.level != FULL:
            return None
        return (
            f"MISCONF log volume nearly full: {self.free_bytes // _MIB} MiB free, "
            f"{self.min_free_bytes // _MIB} MiB needed; writes disabled, reads served"
        )

    def check(self) -> None:
        """Measure on the log thread, then judge; call about once a second."""
        self._lane.submit(self._measure, self._measured_on_loop)

    def note_enospc(self) -> None:
        """The disk refused space although some was thought free: full until a check finds enough."""
        self.free_bytes = self._measured = self._lane.disk.free_bytes(self._directory)
        self._judge(refused=True)

    def make_reserve(self) -> bool:
        """At boot: hold ``reserve.dat`` back for the day the disk is full. False when there is no room to
        spare, or none is wanted.
        """
        path = f"{self._directory}/{RESERVE_NAME}"
        disk = self._lane.disk
        if disk.exists(path):
            return True
        if self.reserve_bytes <= 0 or disk.free_bytes(self._directory) < self.min_free_bytes + self.reserve_bytes:
            return False
        file = disk.open(path, create=True)
        try:
            file.fallocate(0, self.reserve_bytes)
            file.fsync()
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            disk.unlink(path)
            return False
        finally:
            file.close()
        disk.fsync_dir(self._directory)
        return True

    def release_reserve(self) -> bool:
        """Give the reserve back so that a checkpoint can free the log; False when it is gone already. Blocks
        briefly.
        """
        path = f"{self._directory}/{RESERVE_NAME}"
        disk = self._lane.disk
        if not disk.exists(path):
            return False
        disk.unlink(path)
        disk.fsync_dir(self._directory)
        return True

    def _measure(self) -> None:
        self._measured = self._lane.disk.free_bytes(self._directory)

    def _measured_on_loop(self, error: OSError | None) -> None:
        if error is None:
            self.free_bytes = self._measured
            self._judge(refused=False)

    def _judge(self, *, refused: bool) -> None:
        # Leaving "full" takes an eighth more than entering it, or the level would flap with every segment.
        needed = self.min_free_bytes + self.min_free_bytes // 8 if self.level == FULL else self.min_free_bytes
        if refused or self.free_bytes < needed:
            level = FULL
        else:
            level = LOW if self.free_bytes < self.low_free_bytes else OK
        if level != self.level:
            self.level = level
            self._on_change(level)
