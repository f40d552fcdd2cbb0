"""One connection to a member: who calls, what is asked, and when to hang up.

Rule: the only reader of a stranger's bytes. Before HELLO nothing is done for a caller; one who is silent at first,
greedy, or says anything unexpected is cut off. It must not know how requests are carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from durakv.holder import wire
from durakv.world.ports import Clock, Stream

HELLO_MS: Final = 5000
OPEN_MAX: Final = 1024
UNREAD_BYTES_MAX: Final = 4 << 20
_KINDS: Final = {wire.AS_MEMBER: "member", wire.AS_CALLER: "node", wire.AS_STRANGER: "stranger"}

Reply = Callable[[int, bytes], None]
"""Takes the kind and payload of the one answer to a request."""


class Host(Protocol):
    """What a visitor's frames go to."""

    clock: Clock

    def came(self, visitor: Visitor) -> bool: ...

    def went(self, visitor: Visitor) -> None: ...

    def refused(self, visitor: Visitor, why: str) -> None: ...

    def greet(self, hello: wire.Hello) -> str:
        """Why this caller must go; "" when it may stay."""

    def raft(self, from_id: int, payload: bytes) -> None:
        """A message of another member. Raises ValueError."""

    def call(self, payload: bytes, reply: Reply) -> None:
        """A call to the holder. Raises ValueError."""

    def status(self, reply: Reply) -> None: ...

    def replace(self, old_id: int, new_id: int, reply: Reply) -> None: ...


class Visitor:
    """Implements StreamHandler."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reader = wire.FrameReader(wire.FRAME_BYTES_MAX)
        self._stream: Stream | None = None
        self._hello: wire.Hello | None = None
        self._open = 0
        self._peer = ("", 0)

    def name(self) -> str:
        """For the log."""
        hello = self._hello
        who = "" if hello is None else f"{_KINDS[hello.kind]} {hello.from_id} "
        return f"{who}[{self._peer[0]}]:{self._peer[1]}"

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        self._peer = stream.peer_address()
        if not self._host.came(self):
            stream.abort()
            return
        self._stream = stream
        self._host.clock.call_later(HELLO_MS, self._look)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        if self._stream is None:
            return
        try:
            for kind, payload in self._reader.feed(data):
                # A frame before this one may have made the host hang up.
                if self._stream is not None:
                    self._frame(kind, payload)
        except ValueError as e:
            self._host.refused(self, str(e))
            self.drop()

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self._stream = None
        self._host.went(self)

    def drop(self) -> None:
        """Cut the caller off."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._host.went(self)
            stream.abort()

    def _frame(self, kind: int, payload: bytes) -> None:
        hello = self._hello
        if hello is None:
            if kind != wire.HELLO:
                raise ValueError("it did not say who it is")
            hello = wire.Hello.read(payload)
            why = self._host.greet(hello)
            if why:
                raise ValueError(why)
            self._hello = hello
            return
        if hello.kind == wire.AS_MEMBER:
            if kind != wire.RAFT:
                raise ValueError(f"a frame of kind {kind} from a member")
            self._host.raft(hello.from_id, payload)
            return
        number, rest = wire.numbered(payload)
        self._open += 1
        if self._open > OPEN_MAX:
            raise ValueError(f"more than {OPEN_MAX} requests at once")
        if kind == wire.STATUS and not rest:
            self._host.status(self._reply(number))
        elif hello.kind == wire.AS_STRANGER:
            raise ValueError(f"a frame of kind {kind} from a stranger")
        elif kind == wire.CALL:
            self._host.call(rest, self._reply(number))
        elif kind == wire.REPLACE:
            self._host.replace(*wire.read_replacement(rest), self._reply(number))
        else:
            raise ValueError(f"a frame of kind {kind}")

    def _reply(self, number: int) -> Reply:
        def reply(kind: int, payload: bytes) -> None:
            self._open -= 1
            stream = self._stream
            if stream is None:
                return
            stream.write(wire.request(kind, number, payload))
            if stream.write_buffer_bytes() > UNREAD_BYTES_MAX:
                self._host.refused(self, "it does not read its answers")
                self.drop()

        return reply

    def _look(self) -> None:
        if self._stream is not None and self._hello is None:
            self._host.refused(self, f"it said nothing for {HELLO_MS} ms")
            self.drop()
