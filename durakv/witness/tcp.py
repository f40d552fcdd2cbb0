"""A link to a witness process: dials when there is a question, redials with back-off while there is one, and hangs up
when it has been quiet for a while, so that no stale connection stands in the way of the next question.

Rule: what was on its way when a connection broke is asked again on the next one, unless it has been answered or
something newer waits. Must not know what the messages decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.witness import wire
from durakv.witness.exchange import Exchange, Question
from durakv.witness.parts import StateKey
from durakv.world.ports import Clock, Network, Stream
from raft.codec import decode
from raft.messages import Message

CONNECT_TIMEOUT_MS: Final = 1000
RETRY_MIN_MS: Final = 50
RETRY_MAX_MS: Final = 1000
IDLE_MS: Final = 10_000
_NS_PER_MS: Final = 1_000_000


class TcpLink:
    """Implements WitnessLink and Carrier."""

    def __init__(
        self, network: Network, clock: Clock, host: str, port: int, key: StateKey, node_id: int, where: str,
        on_answer: Callable[[Message], None], on_trouble: Callable[[str], None], tls: str | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.exchange = Exchange(clock, key, node_id, where, self, on_answer, on_trouble)
        self.hello = wire.hello(key, node_id)
        self._network = network
        self._host = host
        self._port = port
        self._where = where
        self._tls = tls
        self._retry_ms = RETRY_MIN_MS
        # At most one of the two: a connection that is being made or stands, a pause before the next one.
        self._connection: _Connection | None = None
        self._pausing = False

    @property
    def sent(self) -> int:
        """See WitnessLink."""
        return self.exchange.sent

    @property
    def answered(self) -> int:
        """See WitnessLink."""
        return self.exchange.answered_count

    @property
    def bytes(self) -> int:
        """See WitnessLink."""
        return self.exchange.state_bytes

    def send(self, message: Message) -> None:
        """See WitnessLink."""
        self.exchange.ask(message)

    def close(self) -> None:
        """See WitnessLink."""
        self.exchange.close()
        if self._connection is not None:
            self._connection.drop()
            self._connection = None

    # -- Carrier -----------------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """See Carrier."""
        connection = self._connection
        if connection is None and not self._pausing:
            self._dial()
        return connection is not None and connection.stream is not None

    def carry(self, question: Question) -> None:
        """See Carrier."""
        assert self._connection is not None and self._connection.stream is not None, "ready() said so"
        self._connection.heard_ns = self.clock.monotonic_ns()
        self._connection.stream.write(wire.request(wire.QUESTION, question.number, question.data))

    def on_overdue(self) -> None:
        """See Carrier."""
        self._hang_up("")

    # -- connections -------------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        connection = self._connection = _Connection(self)
        self._network.connect(self._host, self._port, connection, CONNECT_TIMEOUT_MS, self._tls)

    def opened(self, connection: _Connection) -> None:
        """The connection stands."""
        if self._connection is not connection:
            connection.drop()
            return
        self.exchange.forget_old()
        self.exchange.pump()

    def closed(self, connection: _Connection, error: Exception | None) -> None:
        """The connection could not be made, or broke."""
        if self._connection is connection:
            self._ended(str(error) or type(error).__name__ if error is not None else "it closed the connection")

    def frame(self, kind: int, payload: wire.Payload) -> None:
        """What the witness says. Raises ValueError."""
        if kind == wire.ANSWER:
            number, trace, message = wire.read_answer(payload)
            reply = decode(message)
            self._retry_ms = RETRY_MIN_MS
            self.exchange.answered(number, reply, trace)
            return
        number, text = wire.numbered(payload)
        if kind == wire.LOST:
            self.exchange.lost(number, wire.shown(text))
        elif kind == wire.REFUSED:
            self.exchange.failed(number, wire.shown(text))
        else:
            raise ValueError(f"a frame of kind {kind}")

    def misbehaved(self, connection: _Connection, text: str) -> None:
        """What came over the connection is not the protocol."""
        if self._connection is connection:
            self._hang_up(f"what it says is not understood: {text}")

    def quiet(self, connection: _Connection) -> None:
        """Nothing was said for IDLE_MS."""
        if self._connection is connection and not self.exchange.on_way:
            self._connection = None
            connection.drop()

    def _hang_up(self, why: str) -> None:
        connection = self._connection
        if connection is not None:
            connection.drop()
            self._ended(why)

    def _ended(self, why: str) -> None:
        """``why`` is "" when the trouble was reported already."""
        self._connection = None
        exchange = self.exchange
        if exchange.closed:
            return
        exchange.scattered()
        if not exchange.waiting:
            return
        if why:
            exchange.trouble(f"witness {exchange.key.witness_id} at {self._where} cannot be reached: {why}")
        self._pausing = True
        self.clock.call_later(self._retry_ms, self._retry)
        self._retry_ms = min(self._retry_ms * 2, RETRY_MAX_MS)

    def _retry(self) -> None:
        self._pausing = False
        if not self.exchange.closed:
            self.exchange.forget_old()
            self.exchange.pump()


class _Connection:
    """Implements StreamHandler for one attempt. After drop() nothing of it reaches the link."""

    def __init__(self, link: TcpLink) -> None:
        self._link: TcpLink | None = link
        self._reader = wire.FrameReader(wire.REPLY_BYTES_MAX)
        self.stream: Stream | None = None
        self.heard_ns = 0

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        link = self._link
        if link is None:
            stream.abort()
            return
        self.stream = stream
        self.heard_ns = link.clock.monotonic_ns()
        link.clock.call_later(IDLE_MS, self._look)
        stream.write(link.hello)
        link.opened(self)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        if self._link is None:
            return
        self.heard_ns = self._link.clock.monotonic_ns()
        try:
            for kind, payload in self._reader.feed(data):
                # An answer's callback may have closed the link.
                if self._link is not None:
                    self._link.frame(kind, payload)
        except ValueError as e:
            if self._link is not None:
                self._link.misbehaved(self, str(e))

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self.stream = None
        link, self._link = self._link, None
        if link is not None:
            link.closed(self, error)

    def drop(self) -> None:
        """Close without another word."""
        self._link = None
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.abort()

    def _look(self) -> None:
        link = self._link
        if link is None:
            return
        left_ns = self.heard_ns + IDLE_MS * _NS_PER_MS - link.clock.monotonic_ns()
        if left_ns <= 0:
            link.quiet(self)
        if self._link is not None:
            link.clock.call_later(max(left_ns / _NS_PER_MS, 1000), self._look)
