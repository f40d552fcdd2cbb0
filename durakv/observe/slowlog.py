"""SLOWLOG and COMMANDLOG: the last requests that took longer, or were larger, than a threshold, newest first.

Rule: keeps shortened, redacted copies; a large argument costs at most 128 bytes here.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from durakv.observe.redact import redacted

_ARGS_MAX: Final = 32
_ARG_BYTES_MAX: Final = 128


class SlowEntry:
    """One request. ``at_s`` Unix seconds, ``took_us`` microseconds, or bytes in the logs of large ones."""

    __slots__ = ("address", "argv", "at_s", "entry_id", "name", "took_us")

    def __init__(self, entry_id: int, at_s: int, took_us: int, argv: list[bytes], address: str, name: bytes) -> None:
        self.entry_id = entry_id
        self.at_s = at_s
        self.took_us = took_us
        self.argv = argv
        self.address = address
        self.name = name


class SlowLog:
    """A ring of ``length_max`` entries. Callers compare with ``threshold_us`` first (-1: nothing is kept).

    The logs of large requests and replies count bytes where this says microseconds.
    """

    def __init__(self, threshold_us: int = 10_000, length_max: int = 128) -> None:
        self.threshold_us = threshold_us
        self.length_max = length_max
        self.next_id = 0
        self.entries: deque[SlowEntry] = deque()

    def note(self, took_us: int, argv: list[bytes], address: str, name: bytes, now_ms: int) -> None:
        """Keep a request when it is slow enough."""
        if self.threshold_us < 0 or took_us < self.threshold_us:
            return
        entry = SlowEntry(self.next_id, now_ms // 1000, took_us, shortened(redacted(argv)), address, name)
        self.next_id += 1
        self.entries.appendleft(entry)
        self.trim()

    def trim(self) -> None:
        """Drop what is beyond ``length_max``; call after lowering it."""
        while len(self.entries) > self.length_max:
            self.entries.pop()

    def newest(self, count: int) -> list[SlowEntry]:
        """Up to ``count`` entries; -1 for all."""
        entries = list(self.entries)
        return entries if count < 0 else entries[:count]

    def clear(self) -> None:
        """SLOWLOG RESET."""
        self.entries.clear()


def shortened(argv: list[bytes]) -> list[bytes]:
    """At most 32 arguments of at most 128 bytes, the rest told in words as Valkey does."""
    out: list[bytes] = []
    count = len(argv)
    for at in range(min(count, _ARGS_MAX)):
        if count > _ARGS_MAX and at == _ARGS_MAX - 1:
            out.append(b"... (%d more arguments)" % (count - _ARGS_MAX + 1))
            break
        arg = argv[at]
        if len(arg) > _ARG_BYTES_MAX:
            arg = arg[:_ARG_BYTES_MAX] + b"... (%d more bytes)" % (len(arg) - _ARG_BYTES_MAX)
        out.append(arg)
    return out
