"""HTTP/1.1 requests over the world's network, for an adapter to a service that speaks it. h11 knows the protocol.

Rule: each exchange ends in exactly one call of ``done``, with the reply, or with whether the request had left. Nothing
is sent twice. Must not know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import h11

from durakv.world.ports import Clock, Network, Stream

CONNECT_TIMEOUT_MS: Final = 300
REPLY_BYTES_MAX: Final = 4 << 20
# Connections kept to one place for the next exchange, and for how long.
IDLE_MAX: Final = 4
IDLE_MS: Final = 10_000


class Reply:
    """What the service said, or why it said nothing: then ``status`` is 0, and ``sent`` whether it may have heard."""

    __slots__ = ("body", "sent", "status", "why")

    def __init__(self, status: int, body: bytes, why: str = "", *, sent: bool = True) -> None:
        self.status = status
        self.body = body
        self.why = why
        self.sent = sent


Done = Callable[[Reply], None]


class HttpPlace:
    """One host and port. ``tls`` names a context of the network."""

    def __init__(self, network: Network, clock: Clock, host: str, port: int, tls: str | None = None) -> None:
        self.clock = clock
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._network = network
        self._host = host
        self._port = port
        self._tls = tls
        self._idle: list[_Connection] = []
        self._closed = False

    def post(self, path: str, headers: list[tuple[str, str]], body: bytes, done: Done) -> Exchange:
        """Send a request; ``done`` hears the outcome, never from within this call."""
        rows = [
            ("Host", self.name), ("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers,
        ]  # fmt: skip
        exchange = Exchange(path, rows, body, done)
        connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = _Connection(self, exchange)
            self._network.connect(self._host, self._port, connection, CONNECT_TIMEOUT_MS, self._tls)
        else:
            connection.begin(exchange)
        return exchange

    def keep(self, connection: _Connection) -> bool:
        """Whether the connection, done with its exchange, is kept."""
        if self._closed or len(self._idle) >= IDLE_MAX:
            return False
        self._idle.append(connection)
        return True

    def gone(self, connection: _Connection) -> None:
        """A kept connection ended."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Drop what is kept, and keep nothing more."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.drop()


class Exchange:
    """A request on its way. abandon() ends it without a word."""

    def __init__(self, path: str, headers: list[tuple[str, str]], body: bytes, done: Done) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.sent = False
        self.connection: _Connection | None = None
        self._done: Done | None = done

    def abandon(self) -> bool:
        """Give up; whether the request may have been heard."""
        self._done = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.drop()
        return self.sent

    def end(self, reply: Reply) -> None:
        """Tell the outcome."""
        done, self._done, self.connection = self._done, None, None
        if done is not None:
            done(reply)


class _Connection:
    """Implements StreamHandler: one exchange after another."""

    def __init__(self, place: HttpPlace, exchange: Exchange) -> None:
        self._place = place
        self._exchange: Exchange | None = exchange
        exchange.connection = self
        self._stream: Stream | None = None
        self._over = False
        self._http = h11.Connection(our_role=h11.CLIENT)
        self._status = 0
        self._body = bytearray()
        self._idle_since_ns = 0

    def begin(self, exchange: Exchange) -> None:
        """Send the request of the next exchange."""
        assert self._stream is not None
        self._exchange = exchange
        exchange.connection = self
        http = self._http
        self._status = 0
        self._body.clear()
        request = h11.Request(method="POST", target=exchange.path, headers=exchange.headers)
        data = (http.send(request) or b"") + (http.send(h11.Data(data=exchange.body)) or b"")
        data += http.send(h11.EndOfMessage()) or b""
        exchange.sent = True
        self._stream.write(data)

    def drop(self) -> None:
        """Close without another word."""
        self._over = True
        self._exchange = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        exchange = self._exchange
        if self._over or exchange is None:
            stream.abort()
            return
        self._stream = stream
        self.begin(exchange)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        if self._over:
            return
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as e:
            self._fail(f"what it says is not HTTP: {e}")

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self._stream = None
        if not self._over:
            self._fail(str(error) or type(error).__name__ if error is not None else "it closed the connection")

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self._status = event.status_code
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > REPLY_BYTES_MAX:
                    self._fail(f"its reply is longer than {REPLY_BYTES_MAX} bytes")
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._complete()
                return
            elif isinstance(event, h11.InformationalResponse):
                continue
            else:
                # More is needed, or it closed.
                return

    def _complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        reply = Reply(self._status, bytes(self._body))
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError:
            # It said that it closes.
            self.drop()
        else:
            if self._place.keep(self):
                self._idle_since_ns = self._place.clock.monotonic_ns()
                self._place.clock.call_later(IDLE_MS, self._look)
            else:
                self.drop()
        if exchange is not None:
            exchange.end(reply)

    def _look(self) -> None:
        idle_ns = self._place.clock.monotonic_ns() - self._idle_since_ns
        if self._exchange is None and not self._over and idle_ns >= IDLE_MS * 1_000_000:
            self._place.gone(self)
            self.drop()

    def _fail(self, why: str) -> None:
        exchange = self._exchange
        self._place.gone(self)
        self.drop()
        if exchange is not None:
            exchange.end(Reply(0, b"", why, sent=exchange.sent))
