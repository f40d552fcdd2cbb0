"""TCP (and TLS) on the event loop: ports.Network on uvloop's transports.

Rule: with real_clock.py the only place that knows the event loop, and the only one that touches sockets. A connection's
failure reaches its handler's on_close() and nobody else. It must not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Final, cast

from durakv.world.ports import StreamHandler

DEFAULT_BACKLOG: Final = 511
DEFAULT_KEEPALIVE_S: Final = 300
# Sent bytes nobody acknowledges for this long end a dialled connection: without it a peer that vanished would be
# written to until the kernel's own patience ends, which takes a quarter of an hour.
UNACKNOWLEDGED_MAX_MS: Final = 10_000
# Valkey's anetKeepAlive(): three probes, a third of the interval apart.
_KEEPALIVE_PROBES: Final = 3


def _discard(_data: bytes) -> None:
    """Takes the place of write() once a stream is closed."""


class RealStream(asyncio.BaseProtocol):
    """One connection: the loop's protocol and our Stream at once, so that neither direction costs an extra call.

    ``data_received`` is the handler's own on_data and ``write`` the transport's own write.
    """

    def __init__(self, handler: StreamHandler, keepalive_s: int | None) -> None:
        self.data_received: Callable[[bytes], None] = handler.on_data
        self.write: Callable[[bytes], None] = _discard
        self.opened = False
        self._handler = handler
        # Accepted sockets inherit keepalive from the listening one; None says so.
        self._keepalive_s = keepalive_s
        self._transport: asyncio.Transport | None = None
        self._paused = False

    # -- what the loop calls ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection (and its TLS session) is up."""
        # uvloop's transports have the interface without being subclasses.
        stream = cast(asyncio.Transport, transport)
        if self._keepalive_s is not None:
            sock = transport.get_extra_info("socket")
            _set_options(sock, self._keepalive_s)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MAX_MS)
        self._transport = stream
        self.write = stream.write
        self.opened = True
        self._handler.on_open(self)

    def eof_received(self) -> bool:
        """The peer will send no more. A handler with ``on_eof`` may keep the other direction open by returning True."""
        on_eof: Callable[[], bool] | None = getattr(self._handler, "on_eof", None)
        transport = self._transport
        if on_eof is None or transport is None or transport.get_extra_info("ssl_object") is not None:
            return False
        return on_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side, or given up while it opened; heard once."""
        if self._transport is None:
            return
        self.write = _discard
        self._transport = None
        self._handler.on_close(exc)

    # -- ports.Stream ----------------------------------------------------------------------------------------------

    def write_buffer_bytes(self) -> int:
        """Bytes not yet taken by the kernel."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self) -> None:
        """Flush, then close."""
        self.write = _discard
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self.write = _discard
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Leave input to the kernel, which slows the peer down."""
        transport = self._transport
        if transport is not None and not self._paused and not transport.is_closing():
            self._paused = True
            transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo pause_reading()."""
        transport = self._transport
        if transport is not None and self._paused and not transport.is_closing():
            self._paused = False
            transport.resume_reading()

    def peer_address(self) -> tuple[str, int]:
        """Host and port; ("", 0) when the peer left before anybody asked."""
        return self._address("peername")

    def local_address(self) -> tuple[str, int]:
        """Host and port of this end."""
        return self._address("sockname")

    def _address(self, which: str) -> tuple[str, int]:
        name = self._transport.get_extra_info(which) if self._transport is not None else None
        return (str(name[0]), int(name[1])) if name else ("", 0)


class RealListener:
    """A bound socket; accepting begins with the loop's next round."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        factory: Callable[[], RealStream],
        backlog: int,
        context: ssl.SSLContext | None,
    ) -> None:
        self._port = int(sock.getsockname()[1])
        self._sock = sock
        self._server: asyncio.AbstractServer | None = None
        self._closed = False
        self._starting = loop.create_task(loop.create_server(factory, sock=sock, backlog=backlog, ssl=context))
        self._starting.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[asyncio.Server]) -> None:
        if task.cancelled():
            self._sock.close()
            return
        # Bound and listening already: an exception here is a bug and goes to the loop's handler.
        self._server = task.result()
        if self._closed:
            self._server.close()

    def port(self) -> int:
        """The port, also when 0 was asked for."""
        return self._port

    def set_keepalive(self, keepalive_s: int) -> None:
        """For connections accepted from now on."""
        if not self._closed:
            _set_options(self._sock, keepalive_s)

    def close(self) -> None:
        """Stop accepting; open connections stay."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        else:
            self._starting.cancel()


class RealNetwork:
    """See ports.Network. ``contexts`` are the TLS contexts by name; ``keepalive_s`` 0 turns keepalive off."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        backlog: int = DEFAULT_BACKLOG,
        keepalive_s: int = DEFAULT_KEEPALIVE_S,
        contexts: Mapping[str, ssl.SSLContext] | None = None,
    ) -> None:
        self._loop = loop
        self._backlog = backlog
        self._keepalive_s = keepalive_s
        self._contexts = dict(contexts or {})
        self._listeners: list[RealListener] = []
        # The loop itself holds tasks only weakly.
        self._dialling: dict[asyncio.Task[None], None] = {}

    def listen(
        self, host: str, port: int, factory: Callable[[], StreamHandler], tls: str | None = None
    ) -> RealListener:
        """Bind and listen at once; raises OSError. ``host`` is a literal or a name, ``::`` does not include IPv4."""
        context = self._context(tls)
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _set_options(sock, self._keepalive_s)
            sock.setblocking(False)
            sock.bind(address)
            sock.listen(self._backlog)
        except OSError:
            sock.close()
            raise
        listener = RealListener(self._loop, sock, lambda: RealStream(factory(), None), self._backlog, context)
        self._listeners.append(listener)
        return listener

    def set_keepalive(self, keepalive_s: int) -> None:
        """Change ``keepalive_s`` for new connections in both directions; open ones keep theirs, as in Valkey."""
        self._keepalive_s = keepalive_s
        for listener in self._listeners:
            listener.set_keepalive(keepalive_s)

    def connect(self, host: str, port: int, handler: StreamHandler, timeout_ms: int, tls: str | None = None) -> None:
        """Dial; the handler hears on_open or on_close, never both failing and opening."""
        stream = RealStream(handler, self._keepalive_s)
        task = self._loop.create_task(self._dial(host, port, stream, handler, timeout_ms, self._context(tls)))
        self._dialling[task] = None
        task.add_done_callback(self._dialled)

    async def _dial(
        self, host: str, port: int, stream: RealStream, handler: StreamHandler, timeout_ms: int,
        context: ssl.SSLContext | None,
    ) -> None:  # fmt: skip
        opening = self._loop.create_connection(
            lambda: stream, host, port, ssl=context, server_hostname=host if context is not None else None
        )
        try:
            await asyncio.wait_for(opening, timeout_ms / 1000)
        except OSError as e:
            # A timeout is an OSError too.
            if not stream.opened:
                handler.on_close(e)
            else:
                # The timeout struck between the opening and its end: the loop has closed the connection and tells
                # nobody, and whoever holds the stream would write to it for ever.
                stream.abort()
                stream.connection_lost(e)

    def _dialled(self, task: asyncio.Task[None]) -> None:
        del self._dialling[task]
        if not task.cancelled():
            task.result()

    def _context(self, tls: str | None) -> ssl.SSLContext | None:
        if tls is None:
            return None
        context = self._contexts.get(tls)
        if context is None:
            raise ValueError(f"no TLS context is called {tls!r}; give RealNetwork one by that name")
        return context


def _set_options(sock: socket.socket, keepalive_s: int) -> None:
    """No Nagle delay, and probes that find dead peers."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1 if keepalive_s > 0 else 0)
    if keepalive_s <= 0:
        return
    # These three exist on Linux and recent BSDs under the same names.
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, keepalive_s // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
