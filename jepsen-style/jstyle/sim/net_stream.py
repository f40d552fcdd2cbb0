"""One end of a simulated byte stream: bytes arrive in order, late, in pieces, held up, or cut off at any byte.

Rule: order within a stream is kept by a queue per end; each scheduled arrival takes whatever is first in it, so a
delayed, split or held piece can never be overtaken. It must not know what the bytes mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final
from zlib import crc32

from durakv.world.ports import StreamHandler
from jstyle.sim.timeline import MS, SECOND

if TYPE_CHECKING:
    from jstyle.sim.net import Host, Link

# What travels besides bytes.
FIN: Final = "fin"
RST: Final = "rst"
ACCEPT: Final = "accept"

Item = list[bytes] | str

_KEEPALIVE_NS: Final = 300 * SECOND
# So long an end may believe in a stream that is broken.
_RESET_LATE_NS_MAX: Final = 5 * SECOND


class End:
    """Implements ports.Stream. ``out`` is the link its bytes take; ``flight`` what is on its way to the peer."""

    def __init__(self, host: Host, out: Link, port: int, local_port: int) -> None:
        self.host = host
        self.out = out
        # The port that was dialled, the same on both ends, and this end's own.
        self.port = port
        self.local_port = local_port
        self.door = host.door
        self.peer: End
        self.handler: StreamHandler | None = None
        self.factory: Callable[[], StreamHandler] | None = None
        # Set on the dialling end of a stream between nodes, which is the end that writes.
        self.is_peer_lane = False
        self.closed = False
        # The machine lost power: nobody is here who would answer, not even with a reset.
        self.silent = False
        self.reading = True
        self.inbox: list[bytes] = []
        self.flight: deque[Item] = deque()
        self.unacked_bytes = 0
        self.stuck_since_ns = -1
        self._filling: list[bytes] | None = None
        self._filling_ns = -1
        self._arrives_ns = 0

    # -- ports.Stream ------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See Stream."""
        if self.closed or not data:
            return
        interposer = self.out.interposer
        if interposer is not None and interposer.takes(self, data):
            return
        self.send(data)

    def send(self, data: bytes) -> None:
        """Put bytes on the link; what is written at one instant travels together."""
        self.unacked_bytes += len(data)
        lead_ns = self.door.lead_ns()
        at_ns = self.out.timeline.now_ns + lead_ns
        if self._filling is not None and self._filling_ns == at_ns:
            self._filling.append(bytes(data))
            return
        self._filling, self._filling_ns = [bytes(data)], at_ns
        self._set_out(self._filling, lead_ns)

    def write_buffer_bytes(self) -> int:
        """See Stream: what the window does not take."""
        return max(0, self.unacked_bytes - self.out.window_bytes)

    def close(self) -> None:
        """See Stream. Everything written arrives, then the peer hears of the end."""
        if not self.closed:
            self._put(FIN)
            self.end(None)

    def abort(self) -> None:
        """See Stream."""
        if not self.closed:
            if self.out.random.random() < 0.5:
                # What the kernel had not sent yet goes with the stream.
                self.cut_flight()
            self._put(RST)
            self.end(ConnectionAbortedError("aborted"))

    def pause_reading(self) -> None:
        """See Stream."""
        self.reading = False

    def resume_reading(self) -> None:
        """See Stream."""
        if not self.reading:
            self.reading = True
            if self.inbox:
                self.out.timeline.at(0, lambda: self.door.enter(self._read_inbox))

    def peer_address(self) -> tuple[str, int]:
        """See Stream."""
        return (self.peer.host.name, self.peer.local_port)

    def local_address(self) -> tuple[str, int]:
        """See Stream."""
        return (self.host.name, self.local_port)

    # -- on the way --------------------------------------------------------------------------------------------------

    def _put(self, item: Item) -> None:
        self._set_out(item, self.door.lead_ns())

    def _set_out(self, item: Item, lead_ns: int) -> None:
        timeline = self.out.timeline
        delay_ns = lead_ns + self.out.delay_ns()
        arrives_ns = timeline.now_ns + delay_ns
        if arrives_ns < self._arrives_ns:
            arrives_ns = self._arrives_ns
            delay_ns = arrives_ns - timeline.now_ns
        self._arrives_ns = arrives_ns
        self.flight.append(item)
        timeline.at(delay_ns, self.advance)

    def advance(self) -> None:
        """One arrival: the first thing in flight reaches the peer, if the link and the peer's machine let it."""
        if not self.flight:
            return
        out = self.out
        if out.blocked:
            out.held.append(self)
            self._stuck()
            return
        if self.peer.silent:
            self._knock()
            return
        item = self.flight.popleft()
        if item is self._filling:
            self._filling = None
        if isinstance(item, str):
            out.timeline.fold(item, self.host.name, self.peer.host.name, self.port)
            self.peer.door.enter(partial(self.peer.hear, item))
            return
        data = item[0] if len(item) == 1 else b"".join(item)
        if len(data) > 1 and out.splits():
            at = out.random.randrange(1, len(data))
            self.flight.appendleft([data[at:]])
            data = data[:at]
            out.timeline.at(out.delay_ns(), self.advance)
        out.timeline.mix(crc32(data))
        self.peer.door.enter(partial(self.peer.receive, data))

    def again(self) -> None:
        """The link is open again: what was held is sent once more."""
        self.stuck_since_ns = -1
        self._arrives_ns = max(self.out.timeline.now_ns + self.out.delay_ns(), self._arrives_ns)
        self.out.timeline.at(self._arrives_ns - self.out.timeline.now_ns, self.advance)

    def hurry(self) -> None:
        """What set out on a slow path arrives in the time the link takes now."""
        timeline = self.out.timeline
        self._arrives_ns = timeline.now_ns
        for _ in self.flight:
            self._arrives_ns = max(timeline.now_ns + self.out.delay_ns(), self._arrives_ns)
            timeline.at(self._arrives_ns - timeline.now_ns, self.advance)

    def _stuck(self) -> None:
        """Nothing is acknowledged: TCP goes on trying, and gives the stream up in the end."""
        if self.stuck_since_ns >= 0:
            return
        timeline = self.out.timeline
        since_ns = self.stuck_since_ns = timeline.now_ns

        def give_up() -> None:
            if self.stuck_since_ns == since_ns:
                self.end(TimeoutError("no acknowledgement from the peer's host"))

        timeline.at(self.out.give_up_ms * MS, give_up)

    def _knock(self) -> None:
        """The peer's machine has lost this stream; once it is up, it answers whatever arrives with a reset."""
        if self.peer.host.powered:
            self.flight.clear()
            self.out.timeline.at(self.out.back().delay_ns(), lambda: self.end(ConnectionResetError("no such stream")))
        else:
            self.peer.host.knocking[self] = None
            self._stuck()

    def cut_flight(self) -> None:
        """What is in flight is lost from an arbitrary byte on."""
        random = self.out.random
        keep = random.randrange(len(self.flight) + 1)
        if keep == len(self.flight):
            return
        part = self.flight[keep]
        while len(self.flight) > keep:
            self.flight.pop()
        self._filling = None
        if not isinstance(part, str):
            data = b"".join(part)
            size = random.randrange(len(data))
            if size:
                self.flight.append([data[:size]])

    def send_reset(self, times: int = 1) -> None:
        """The peer hears of a broken stream after what is left in flight, ``times`` the usual delay from now."""
        late_ns = min(self.out.delay_ns() * (times - 1), _RESET_LATE_NS_MAX)
        self._arrives_ns = max(self._arrives_ns, self.out.timeline.now_ns + late_ns)
        self._put(RST)

    # -- at the peer -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes arrived here; runs inside the host."""
        if self.closed or self.handler is None:
            self._refuse()
            return
        if not self.reading:
            self.inbox.append(data)
            return
        self.peer.unacked_bytes -= len(data)
        self.handler.on_data(data)

    def hear(self, what: str) -> None:
        """A FIN, a reset, or the end of the handshake arrived; runs inside the host."""
        if self.closed:
            if what == ACCEPT:
                self._refuse()
            return
        if what == ACCEPT:
            factory = self.host.listeners.get(self.port)
            if factory is None:
                self.end(None)
                self._refuse()
                return
            self.handler = factory()
            self.handler.on_open(self)
        elif what == RST:
            self.end(ConnectionResetError("reset by peer"))
        elif self.inbox:
            # The end of the stream comes after what has not been read yet.
            self.out.timeline.at(MS, lambda: self.door.enter(partial(self.hear, FIN)))
        else:
            on_eof: Callable[[], bool] | None = getattr(self.handler, "on_eof", None)
            if on_eof is None or not on_eof():
                self.close()

    def _refuse(self) -> None:
        """Data for a closed stream: the sender is told by a reset."""
        if not self.peer.closed:
            self._put(RST)

    def _read_inbox(self) -> None:
        while self.inbox and self.reading and not self.closed:
            data = self.inbox.pop(0)
            self.receive(data)

    def end(self, error: Exception | None) -> None:
        """This end is over; its handler hears of it after the present call."""
        if self.closed:
            return
        self.closed = True
        self.host.ends.pop(self, None)
        handler, self.handler = self.handler, None
        if handler is not None:
            self.out.timeline.at(self.door.lead_ns(), lambda: self.door.enter(partial(handler.on_close, error)))

    def vanish(self, *, silent: bool) -> None:
        """The process is gone. Without power nothing more leaves, and nobody answers; else the kernel says goodbye."""
        if self.closed:
            return
        self.closed = True
        self.handler = None
        self.host.ends.pop(self, None)
        if silent:
            self.silent = True
            self.cut_flight()
            # A peer that never sends anything finds out by keepalive.
            peer = self.peer
            self.out.timeline.at(_KEEPALIVE_NS, lambda: peer.end(TimeoutError("no answer to keepalive probes")))
        else:
            chance = self.out.random.random()
            if chance < 0.25:
                # What the process had not yet given to the kernel goes with it.
                self.cut_flight()
            self._put(RST if self.inbox or chance < 0.5 else FIN)
