"""Standard input and output of a helper process, line by line, and the clock between lines.

Rule: for processes that do nothing else at the same time: reading waits. A reader that went away is no error, since the
end of input says so too. It must not know what lines mean.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import Final

_READ_BYTES: Final = 65536
_NICE: Final = 10


class RealLines:
    """Makes this process a considerate helper: lower priority, and Ctrl-C is left to whoever started it."""

    def __init__(self, fd_in: int = 0, fd_out: int = 1) -> None:
        self._in = fd_in
        self._out = fd_out
        self._rest = b""
        os.nice(_NICE)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def now_ms(self) -> int:
        """Milliseconds since an arbitrary start; never steps back."""
        return time.monotonic_ns() // 1_000_000

    def read(self, timeout_ms: int) -> list[str] | None:
        """Lines that are there, after waiting for one up to ``timeout_ms``; None at the end of input."""
        poll = select.poll()
        poll.register(self._in, select.POLLIN)
        if not poll.poll(timeout_ms):
            return []
        data = os.read(self._in, _READ_BYTES)
        if not data:
            return None
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def write(self, line: str) -> None:
        """One line of output."""
        data = line.encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._out, data) :]
