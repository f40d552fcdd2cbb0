"""One request of an operator's tool to a member, on a connection of its own.

Rule: ``done`` is called exactly once. A request whose answer is lost has an unknown outcome and is said to have. Must
not know what asks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from durakv.holder import wire
from durakv.world.ports import Clock, Network, Stream

TIMEOUT_MS: Final = 3000
_CONNECT_TIMEOUT_MS: Final = 2000
_NUMBER: Final = 1

Done = Callable[[str, OSError | None], None]
"""(what the member said, None) or ("", error)."""


def ask_status(network: Network, clock: Clock, host: str, port: int, done: Done) -> None:
    """How the member is, as JSON text."""
    hello = wire.Hello(bytes(16), wire.AS_STRANGER, 0, wire.ANYBODY)
    _Question(network, clock, host, port, hello.frame() + wire.request(wire.STATUS, _NUMBER), wire.REPORT, done)


def ask_replacement(
    network: Network, clock: Clock, host: str, port: int, cluster_id: bytes, old_id: int, new_id: int, done: Done
) -> None:
    """Put a member in another's place; says "" when that is under way, else why not."""
    hello = wire.Hello(cluster_id, wire.AS_CALLER, 0, wire.ANYBODY)
    data = wire.request(wire.REPLACE, _NUMBER, wire.replacement(old_id, new_id))
    _Question(network, clock, host, port, hello.frame() + data, wire.REPLACED, done)


class _Question:
    """Implements StreamHandler."""

    def __init__(
        self, network: Network, clock: Clock, host: str, port: int, data: bytes, expected: int, done: Done
    ) -> None:
        self._data = data
        self._expected = expected
        self._done = done
        self._where = f"{host}:{port}"
        self._reader = wire.FrameReader(wire.FRAME_BYTES_MAX)
        self._stream: Stream | None = None
        self._sent = False
        self._over = False
        clock.call_later(TIMEOUT_MS, self._late)
        network.connect(host, port, self, _CONNECT_TIMEOUT_MS)

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        if self._over:
            stream.abort()
            return
        self._stream = stream
        self._sent = True
        stream.write(self._data)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        if self._over:
            return
        try:
            for kind, payload in self._reader.feed(data):
                number, rest = wire.numbered(payload)
                if (number, kind) != (_NUMBER, self._expected):
                    raise ValueError(f"a frame of kind {kind} with number {number}")
                self._end()
                self._done(rest.decode("utf-8", "replace"), None)
                return
        except ValueError as e:
            self._fail(f"what it says is not understood: {e}")

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self._stream = None
        self._fail(str(error) or type(error).__name__ if error is not None else "it closed the connection")

    def _late(self) -> None:
        self._fail(f"no answer within {TIMEOUT_MS} ms")

    def _fail(self, why: str) -> None:
        if self._over:
            return
        self._end()
        outcome = "; whether it was done is unknown" if self._sent and self._expected != wire.REPORT else ""
        text = f"the member of the config holder at {self._where} gave no answer: {why}{outcome}"
        self._done("", OSError(errno.EIO, text))

    def _end(self) -> None:
        self._over = True
        if self._stream is not None:
            self._stream.abort()
            self._stream = None
