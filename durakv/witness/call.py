"""One request to a witness process on a connection of its own: founding a state, asking how the process is.

Rule: ``done`` is called exactly once. A request whose answer is lost has an unknown outcome and is said to have. It
must not know what asks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from durakv.witness import wire
from durakv.witness.errors import ExistsError
from durakv.witness.parts import StateKey
from durakv.world.ports import Clock, Network, Stream

TIMEOUT_MS: Final = 5000
_CONNECT_TIMEOUT_MS: Final = 2000
_NUMBER: Final = 1

Replied = Callable[[int, bytes], None]
Failed = Callable[[OSError], None]


class Call:
    """Implements StreamHandler. ``replied(kind, rest of the payload)`` or ``failed(error)``, once."""

    def __init__(
        self, network: Network, clock: Clock, host: str, port: int, tls: str | None, data: bytes, replied: Replied,
        failed: Failed,
    ) -> None:  # fmt: skip
        self._data = data
        self._replied = replied
        self._failed = failed
        self._where = f"{host}:{port}"
        self._reader = wire.FrameReader(wire.REPLY_BYTES_MAX)
        self._stream: Stream | None = None
        self._sent = False
        self._over = False
        clock.call_later(TIMEOUT_MS, self._late)
        network.connect(host, port, self, _CONNECT_TIMEOUT_MS, tls)

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
                if number != _NUMBER:
                    raise ValueError(f"an answer to request {number}")
                self._end()
                self._replied(kind, rest)
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
        outcome = "; whether it was done is unknown" if self._sent else ""
        self._failed(OSError(errno.EIO, f"the witness process at {self._where} gave no answer: {why}{outcome}"))

    def _end(self) -> None:
        self._over = True
        if self._stream is not None:
            self._stream.abort()
            self._stream = None


def create_at_process(
    network: Network, clock: Clock, host: str, port: int, tls: str | None, key: StateKey,
    done: Callable[[OSError | None], None],
) -> None:  # fmt: skip
    """Found a state at a process; ``done(error)``."""

    def replied(kind: int, rest: bytes) -> None:
        if kind == wire.CREATED:
            done(None)
        elif kind == wire.EXISTS:
            done(ExistsError(errno.EEXIST, wire.shown(rest)))
        elif kind == wire.REFUSED:
            done(OSError(errno.EIO, f"the witness process at {host}:{port} refused: {wire.shown(rest)}"))
        else:
            done(OSError(errno.EPROTO, f"the witness process at {host}:{port} answered with a frame of kind {kind}"))

    data = wire.hello(key, 0) + wire.request(wire.CREATE, _NUMBER)
    Call(network, clock, host, port, tls, data, replied, done)


def ask_status(
    network: Network, clock: Clock, host: str, port: int, tls: str | None, done: Callable[[str, OSError | None], None]
) -> None:
    """How a process is: ``done(JSON text, None)`` or ``done("", error)``."""

    def replied(kind: int, rest: bytes) -> None:
        if kind == wire.REPORT:
            done(rest.decode("utf-8", "replace"), None)
        elif kind == wire.REFUSED:
            done("", OSError(errno.EIO, f"the witness process at {host}:{port} refused: {wire.shown(rest)}"))
        else:
            done("", OSError(errno.EPROTO, f"{host}:{port} answered with a frame of kind {kind}"))

    data = wire.request(wire.STATUS, _NUMBER, wire.STATUS_MAGIC)
    Call(network, clock, host, port, tls, data, replied, lambda error: done("", error))
