"""Listens in on a witness process: every question as it arrives, every answer as it leaves.

Rule: changes nothing and delays nothing. Bytes are cut into frames by a reader of its own, so that what is judged is
what really travelled. It must not know what an answer should have been.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from durakv.witness import wire
from durakv.witness.parts import StateKey
from durakv.witness.store import Trace
from durakv.world.ports import Listener, Network, Stream, StreamHandler
from raft.codec import decode
from raft.messages import Message


class Overheard(Protocol):
    """What is told."""

    def asked(self, key: StateKey, message: Message) -> None:
        """A question arrived."""

    def answered(self, key: StateKey, question: Message, answer: Message, trace: Trace) -> None:
        """Its answer leaves. May raise Violation."""

    def refused(self, key: StateKey, question: Message, kind: int) -> None:
        """It leaves unanswered: ``wire.LOST`` or ``wire.REFUSED``."""


class WitnessNetwork:
    """Implements ports.Network around another one; ``ears()`` None: nobody listens."""

    def __init__(self, network: Network, ears: Callable[[], Overheard | None]) -> None:
        self._network = network
        self._ears = ears

    def listen(self, host: str, port: int, factory: Callable[[], StreamHandler], tls: str | None = None) -> Listener:
        """See Network."""
        return self._network.listen(host, port, lambda: _Tapped(factory(), self._ears), tls)

    def connect(self, host: str, port: int, handler: StreamHandler, timeout_ms: int, tls: str | None = None) -> None:
        """See Network."""
        self._network.connect(host, port, handler, timeout_ms, tls)


class _Tapped:
    """Implements StreamHandler around a caller's."""

    def __init__(self, handler: StreamHandler, ears: Callable[[], Overheard | None]) -> None:
        self._handler = handler
        self._ears = ears
        self._in = wire.FrameReader(wire.REQUEST_BYTES_MAX)
        self._key: StateKey | None = None
        self._open: dict[int, Message] = {}

    def on_open(self, stream: Stream) -> None:
        self._handler.on_open(_TappedStream(stream, self._leaves))

    def on_data(self, data: bytes) -> None:
        for kind, payload in self._in.feed(data):
            if kind == wire.HELLO:
                self._key, _ = wire.read_hello(payload)
            elif kind == wire.QUESTION and self._key is not None:
                number, rest = wire.numbered(payload)
                message = self._open[number] = decode(rest)
                ears = self._ears()
                if ears is not None:
                    ears.asked(self._key, message)
        self._handler.on_data(data)

    def on_close(self, error: Exception | None) -> None:
        self._handler.on_close(error)

    def _leaves(self, data: bytes) -> None:
        ears, key = self._ears(), self._key
        # A reply is written whole.
        for kind, payload in wire.FrameReader(wire.REPLY_BYTES_MAX).feed(data):
            number, _ = wire.numbered(payload)
            question = self._open.pop(number, None)
            if ears is None or key is None or question is None:
                continue
            if kind == wire.ANSWER:
                _, trace, message = wire.read_answer(payload)
                ears.answered(key, question, decode(message), trace)
            else:
                ears.refused(key, question, kind)


class _TappedStream:
    """Implements Stream around another one."""

    def __init__(self, stream: Stream, leaves: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._leaves = leaves

    def write(self, data: bytes) -> None:
        self._leaves(data)
        self._stream.write(data)

    def write_buffer_bytes(self) -> int:
        return self._stream.write_buffer_bytes()

    def close(self) -> None:
        self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._stream.resume_reading()

    def peer_address(self) -> tuple[str, int]:
        return self._stream.peer_address()

    def local_address(self) -> tuple[str, int]:
        return self._stream.local_address()
