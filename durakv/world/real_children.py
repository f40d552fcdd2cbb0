"""Processes this one starts: ports.Spawn with pipes on the event loop.

Rule: the only place that starts a process while a server runs. It runs this program anew and shares no memory with it:
the kernel is asked for vfork, which copies nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

_READ_BYTES: Final = 65536
# A child that said its last is waited for this long before it is ended.
_LEAVE_S: Final = 5


class RealChild:
    """Implements Child. ``on_line`` and ``on_exit`` run on the loop thread, ``on_exit`` exactly once and last."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, args: list[str], on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._on_line = on_line
        self._on_exit = on_exit
        # The arguments are this program's own, never a client's.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "durakv", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._unsent = bytearray()
        self._unread = b""
        self._writing = False
        self._input_open = True
        self._closing = False
        loop.add_reader(self._out, self._readable)

    def send(self, line: str) -> None:
        """See Child."""
        if not self._input_open or self._closing:
            return
        self._unsent += line.encode() + b"\n"
        if not self._writing:
            self._writable()

    def close(self) -> None:
        """See Child."""
        self._closing = True
        if not self._unsent:
            self._end_input()

    def kill(self) -> None:
        """See Child."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> int:
        """For a process that is about to end itself: wait for the child to leave, end it when it does not."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _writable(self) -> None:
        try:
            count = os.write(self._in, self._unsent)
            del self._unsent[:count]
        except BlockingIOError:
            pass
        except OSError:
            # It has ended; that is seen, and told, where its output is read.
            self._unsent.clear()
            self._end_input()
            return
        if self._unsent and not self._writing:
            self._writing = True
            self._loop.add_writer(self._in, self._writable)
        elif not self._unsent:
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._in)
            if self._closing:
                self._end_input()

    def _end_input(self) -> None:
        if not self._input_open:
            return
        self._input_open = False
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._in)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _readable(self) -> None:
        try:
            data = os.read(self._out, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._on_line(line.decode("utf-8", "replace"))
            return
        self._loop.remove_reader(self._out)
        self._end_input()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._on_exit(self.wait(_LEAVE_S))


class Children:
    """Starts processes and, at the end of this one, sees them off."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: list[RealChild] = []

    def spawn(self, args: list[str], on_line: Callable[[str], None], on_exit: Callable[[int], None]) -> RealChild:
        """See ports.Spawn. Raises OSError."""
        made: list[RealChild] = []

        def ended(code: int) -> None:
            if made[0] in self._running:
                self._running.remove(made[0])
            on_exit(code)

        child = RealChild(self._loop, args, on_line, ended)
        made.append(child)
        self._running.append(child)
        return child

    def see_off(self, timeout_s: float) -> None:
        """End the input of those that still run and wait for them; after that, end them."""
        for child in self._running:
            child.close()
        for child in self._running:
            child.wait(timeout_s)
