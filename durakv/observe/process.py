"""What a node may ask about its own process and machine; the real answers are in ``world/real_process.py``."""

from __future__ import annotations

from typing import Protocol


class ProcessProbe(Protocol):
    """Facts for INFO and memory limits. Every call may cost a file read; call a few times a second at most."""

    pid: int
    # As ``uname``: "Linux 6.1.0 x86_64".
    os: str
    arch_bits: int
    executable: str
    monotonic_clock: str

    def rss_bytes(self) -> int:
        """Resident memory of the process; 0 when unknown."""

    def total_memory_bytes(self) -> int:
        """Memory of the machine or the container limit, whichever is less; 0 when unknown."""

    def cpu_seconds(self) -> tuple[float, float, float, float]:
        """(system, user, system of ended children, user of ended children)."""

    def open_files(self) -> int:
        """Open file descriptors; 0 when unknown."""

    def stall(self, ms: int) -> None:
        """Block the loop thread, for DEBUG SLEEP only."""
