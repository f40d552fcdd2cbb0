"""One connection to a witness process: who calls, what is asked, and when to hang up.

Rule: the only reader of bytes from strangers. Before HELLO nothing is done for a caller, nothing larger than one small
request is buffered, and a caller that is silent, greedy, or says anything unexpected is cut off. It must not know how
requests are carried out.
"""

from __future__ import annotations

from typing import Final, Protocol

from durakv.witness import wire
from durakv.witness.parts import StateKey
from durakv.witness.store import check_question
from durakv.world.ports import Clock, Stream
from raft.codec import decode
from raft.messages import Message

HELLO_MS: Final = 5000
IDLE_MS: Final = 60_000
# A link has at most one question of each of three kinds on its way.
OPEN_MAX: Final = 8
UNREAD_BYTES_MAX: Final = 64 << 10
_NS_PER_MS: Final = 1_000_000


class Service(Protocol):
    """What a caller's requests go to. Each ends in one reply()."""

    clock: Clock

    def came(self, caller: Caller) -> bool: ...

    def went(self, caller: Caller) -> None: ...

    def refused(self, caller: Caller, why: str) -> None: ...

    def question(self, caller: Caller, key: StateKey, number: int, message: Message) -> None: ...

    def creation(self, caller: Caller, key: StateKey, number: int) -> None: ...

    def status(self, caller: Caller, number: int) -> None: ...


class Caller:
    """Implements StreamHandler."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reader = wire.FrameReader(wire.REQUEST_BYTES_MAX)
        self._stream: Stream | None = None
        self._key: StateKey | None = None
        self._node_id = 0
        self._open = 0
        self._heard_ns = 0
        self._peer = ("", 0)

    def name(self) -> str:
        """For the log."""
        who = f"node {self._node_id} " if self._node_id else ""
        return f"{who}[{self._peer[0]}]:{self._peer[1]}"

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        self._peer = stream.peer_address()
        if not self._service.came(self):
            stream.abort()
            return
        self._stream = stream
        self._heard_ns = self._service.clock.monotonic_ns()
        self._service.clock.call_later(HELLO_MS, self._look)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        if self._stream is None:
            return
        self._heard_ns = self._service.clock.monotonic_ns()
        try:
            for kind, payload in self._reader.feed(data):
                self._frame(kind, payload)
        except ValueError as e:
            self._service.refused(self, str(e))
            self.drop()

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self._stream = None
        self._service.went(self)

    def reply(self, data: bytes) -> None:
        """Send the reply to one request; nothing happens when the caller is gone."""
        self._open -= 1
        stream = self._stream
        if stream is None:
            return
        stream.write(data)
        if stream.write_buffer_bytes() > UNREAD_BYTES_MAX:
            self._service.refused(self, "it does not read its answers")
            self.drop()

    def drop(self) -> None:
        """Cut the caller off."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._service.went(self)
            stream.abort()

    def _frame(self, kind: int, payload: bytes) -> None:
        if self._key is None:
            if kind == wire.HELLO:
                self._key, self._node_id = wire.read_hello(payload)
                return
            number, rest = wire.numbered(payload)
            if kind != wire.STATUS or rest != wire.STATUS_MAGIC:
                raise ValueError("it did not say who it is")
            self._count()
            self._service.status(self, number)
            return
        number, rest = wire.numbered(payload)
        if kind == wire.QUESTION:
            message = decode(rest)
            check_question(self._key, message)
            if not self._node_id or message.from_ != self._node_id:
                raise ValueError(f"a question of node {message.from_} from node {self._node_id}")
            self._count()
            self._service.question(self, self._key, number, message)
        elif kind == wire.CREATE and not rest:
            self._count()
            self._service.creation(self, self._key, number)
        else:
            raise ValueError(f"a frame of kind {kind}")

    def _count(self) -> None:
        self._open += 1
        if self._open > OPEN_MAX:
            raise ValueError(f"more than {OPEN_MAX} requests at once")

    def _look(self) -> None:
        if self._stream is None:
            return
        clock = self._service.clock
        limit_ms = HELLO_MS if self._key is None else IDLE_MS
        left_ns = self._heard_ns + limit_ms * _NS_PER_MS - clock.monotonic_ns()
        if left_ns <= 0 and self._open == 0:
            if self._key is None:
                self._service.refused(self, f"it said nothing for {HELLO_MS} ms")
            self.drop()
            return
        clock.call_later(max(left_ns / _NS_PER_MS, 1000), self._look)
