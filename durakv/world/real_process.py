"""This process as the kernel sees it: memory, CPU time, identity.

Rule: the only place that reads /proc and resource usage. Unknown facts are 0, never an error: they only inform.
"""

from __future__ import annotations

import os
import platform
import resource
import struct
import sys
import time
from typing import Final

_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class RealProcess:
    """Implements observe.process.ProcessProbe on Linux."""

    def __init__(self) -> None:
        uname = os.uname()
        self.pid = os.getpid()
        self.os = f"{uname.sysname} {uname.release} {uname.machine}"
        self.arch_bits = struct.calcsize("P") * 8
        self.executable = sys.executable
        self.monotonic_clock = "POSIX clock_gettime"
        self.python = platform.python_version()
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._total_bytes = _total_memory_bytes(self._page_bytes)

    def rss_bytes(self) -> int:
        """See ProcessProbe."""
        text = _read("/proc/self/statm")
        fields = text.split()
        return int(fields[1]) * self._page_bytes if len(fields) > 1 else 0

    def total_memory_bytes(self) -> int:
        """See ProcessProbe."""
        return self._total_bytes

    def cpu_seconds(self) -> tuple[float, float, float, float]:
        """See ProcessProbe."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_stime, own.ru_utime, ended.ru_stime, ended.ru_utime

    def open_files(self) -> int:
        """See ProcessProbe."""
        try:
            return len(os.listdir("/proc/self/fd"))
        except OSError:
            return 0

    def stall(self, ms: int) -> None:
        """See ProcessProbe."""
        time.sleep(ms / 1000)


def _total_memory_bytes(page_bytes: int) -> int:
    total = os.sysconf("SC_PHYS_PAGES") * page_bytes
    for path in _CGROUP_LIMITS:
        text = _read(path).strip()
        if text.isdecimal():
            total = min(total, int(text))
    return total


def _read(path: str) -> str:
    """The text of a small kernel file; empty where this kernel does not have it."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
