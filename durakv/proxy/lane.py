"""One connection to a node: requests of many clients go out in order, replies come back in that order. [compiled]

Rule: sends everything at most once. When the connection ends every owner is told whether its request had been handed
to the network. It knows no slots and reads no reply but those of its own greeting.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from durakv.proxy.profile import Profile
from durakv.proxy.replies import ReplyCutter
from durakv.proxy.request import LaneWatcher, Request
from durakv.world.ports import Clock, Stream

if TYPE_CHECKING:
    from durakv.proxy.topology import Node
    from durakv.proxy.turn import Turn

DIALLING: Final = 0
GREETING: Final = 1
OPEN: Final = 2
CLOSED: Final = 3
_MINUS: Final = 0x2D
_PUSH: Final = 0x3E


class Counts:
    """What nodes' connections count, for metrics."""

    def __init__(self) -> None:
        self.dialled = 0
        self.failed = 0
        self.sent = 0
        self.silent = 0


class Lane:
    """A StreamHandler.

    ``pending`` are the requests without a reply; the first ``written`` of them were handed to the network.
    ``exclusive``: serves one client at a time. ``progress_ns`` is when something last arrived, by the turn's clock.
    """

    def __init__(self, node: Node, profile: Profile, turn: Turn, clock: Clock, counts: Counts, exclusive: bool) -> None:
        self.node = node
        self.profile = profile
        self.exclusive = exclusive
        self.state = DIALLING
        self.pending: deque[Request] = deque()
        self.written = 0
        self.out: list[bytes] = []
        self.dirty = False
        self.progress_ns = turn.now_ns
        self.used_ns = turn.now_ns
        self.watcher: LaneWatcher | None = profile.watcher
        # It has subscriptions: nobody else can use it any more.
        self.raw = False
        # When it was last asked for a sign of life.
        self.probed_ns = 0
        # A request that may wait for keys is not late before this time.
        self.patient_ns = 0
        self.why = ""
        self._turn = turn
        self._clock = clock
        self._counts = counts
        self._cutter = ReplyCutter()
        self._stream: Stream | None = None
        self._greetings = 0
        self._refusal = b""
        # When a request left alone, to measure how long its answer takes.
        self._probe_ns = 0

    # -- towards the node ------------------------------------------------------------------------------------------

    def send(self, request: Request, wire: bytes) -> None:
        """Queue a request; it leaves at the end of the turn. Only while not CLOSED."""
        request.lane = self
        self.pending.append(request)
        self.out.append(wire)
        if not self.dirty:
            self.dirty = True
            self._turn.add_lane(self)

    def say(self, wire: bytes) -> None:
        """Queue what gets no reply of its own: the watcher hears whatever comes."""
        self.out.append(wire)
        if not self.dirty:
            self.dirty = True
            self._turn.add_lane(self)

    def flush(self) -> None:
        """Hand everything queued to the network, once the connection is greeted."""
        self.dirty = False
        out = self.out
        stream = self._stream
        if not out or self.state != OPEN or stream is None:
            return
        turn = self._turn
        if self.written == 0 and self.pending:
            self.progress_ns = turn.now_ns
            if self.profile.replica:
                self._probe_ns = self._clock.monotonic_ns()
        self.used_ns = turn.now_ns
        self._counts.sent += len(self.pending) - self.written
        self.written = len(self.pending)
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        stream.write(data)

    def close(self, why: str) -> None:
        """End the connection now; whatever is pending is lost."""
        if self.state != CLOSED:
            self.why = self.why or why
            stream = self._stream
            # At once, so that nobody sends on it any more; while it is still dialled on_open() will see that.
            self.on_close(None)
            if stream is not None:
                stream.abort()

    def unread_bytes(self) -> int:
        """Bytes the node has not taken yet."""
        return self._stream.write_buffer_bytes() if self._stream is not None else 0

    def overdue(self, answer_ns: int) -> bool:
        """Whether the node has been silent for too long while it owes an answer."""
        waits = self.written > 0 or self.state == GREETING
        return waits and self._turn.now_ns - max(self.progress_ns, self.patient_ns) > answer_ns

    # -- StreamHandler ---------------------------------------------------------------------------------------------

    def on_open(self, stream: Stream) -> None:
        """Say who we are before anything else."""
        if self.state == CLOSED:
            stream.abort()
            return
        self._stream = stream
        self.state = GREETING
        self.progress_ns = self._turn.now_ns
        self._greetings = self.profile.greetings
        stream.write(self.profile.greeting)

    def on_data(self, data: bytes) -> None:
        """Give each reply to the request that waits for it."""
        self.progress_ns = self._turn.now_ns
        if self._probe_ns:
            self.node.measured((self._clock.monotonic_ns() - self._probe_ns) / 1000)
            self._probe_ns = 0
        try:
            replies = self._cutter.feed(data)
        except ValueError as e:
            self.close(f"{self.node.name} sent no RESP: {e}")
            return
        pending = self.pending
        for wire in replies:
            if self.state != OPEN:
                if self.state == CLOSED:
                    return
                self._greeted(wire)
                continue
            if wire[0] == _PUSH or not self.written:
                if self.watcher is not None:
                    self.watcher.on_push(self, wire)
                elif wire[0] != _PUSH:
                    self.close(f"{self.node.name} sent {wire[:80]!r} unasked")
                continue
            request = pending[0]
            if request.need > 1:
                request.need -= 1
                if request.got is None:
                    request.got = []
                request.got.append(wire)
                continue
            pending.popleft()
            self.written -= 1
            request.lane = None
            request.owner.on_reply(request, wire)

    def on_close(self, error: Exception | None) -> None:
        """Tell every owner what became of its request."""
        if self.state == CLOSED:
            return
        was_open = self.state == OPEN
        self.state = CLOSED
        self._stream = None
        if not was_open:
            self._counts.failed += 1
        why = self.why or str(error or ("closed by the node" if was_open else "cannot connect"))
        self.why = why
        self._turn.lane_closed(self, was_open)
        written = self.written
        self.written = 0
        self.out.clear()
        pending = self.pending
        self.pending = deque()
        for i, request in enumerate(pending):
            request.lane = None
            if self._refusal and i >= written:
                request.owner.on_reply(request, self._refusal)
            else:
                request.owner.on_lost(request, i < written, why)
        if self.watcher is not None:
            self.watcher.on_end(self)

    # -- greeting --------------------------------------------------------------------------------------------------

    def _greeted(self, wire: bytes) -> None:
        if wire[0] == _PUSH:
            return
        if wire[0] == _MINUS and not self.profile.may_refuse(wire):
            # Refused for good: that is the answer to whoever waits. Anything else passes, so they try again.
            if not wire.startswith((b"-LOADING", b"-MASTERDOWN", b"-CLUSTERDOWN", b"-ERR max number of clients")):
                self._refusal = wire
            self.close(wire[1:].rstrip().decode("utf-8", "replace"))
            return
        self._greetings -= 1
        if self._greetings == 0:
            self.state = OPEN
            self.flush()
