"""The client port: binds the configured addresses, accepts within the limits, and looks after idle and slow clients.

Rule: the only place that opens client ports and walks over all connections. It knows neither requests nor replies.
"""

from __future__ import annotations

import errno
from typing import Final

from durakv.config.settings import Settings
from durakv.server.connection import ClientConnection, ClientEngine, ClientRules
from durakv.world.ports import Clock, Listener, Network, StreamHandler, Timer

TICK_MS: Final = 250
_TICKS_PER_SCAN: Final = 4
# The name under which the world keeps the TLS context for clients.
TLS_CLIENTS: Final = "clients"
_WATCHED: Final = (
    "client-output-buffer-limit", "client-query-buffer-limit", "commandlog-request-larger-than", "maxclients",
    "proto-max-bulk-len", "timeout",
)  # fmt: skip
# What a "-" in front of an address forgives (valkey's listenToPort()).
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)
_EVERY_ADDRESS: Final = {"*": "0.0.0.0", "::*": "::"}  # noqa: S104 - only where the user asked for it


class ListenError(OSError):
    """A client port could not be opened; ``str()`` is one line that says what to change."""

    def __str__(self) -> str:
        return str(self.strerror)


class ClientListener:
    """Opens the ports in listen(); ``connections`` are the clients served now."""

    def __init__(self, engine: ClientEngine, network: Network, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._network = network
        self._settings = settings
        self._clock = clock
        self.rules = ClientRules(settings, clock)
        self.connections: dict[ClientConnection, None] = {}
        self.over_soft: dict[ClientConnection, int] = {}
        self.listeners: list[Listener] = []
        self._timer: Timer | None = None
        self._ticks = 0
        for name in _WATCHED:
            settings.watch(name, self._changed)

    def listen(self) -> None:
        """Bind every address of ``bind``; raises ListenError.

        ``port`` 0 takes a free port, the same on all addresses.
        """
        try:
            self._bind_all(self._settings.port, None, "port")
            if self._settings.tls_port:
                self._bind_all(self._settings.tls_port, TLS_CLIENTS, "tls-port")
        except OSError:
            self._close_ports()
            raise
        self._timer = self._clock.call_later(TICK_MS, self._tick)

    def port(self) -> int:
        """The port listened on."""
        return self.listeners[0].port()

    def close(self) -> None:
        """Close the ports, then every client once its queued replies are sent."""
        self._close_ports()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self.connections):
            connection.finish()

    # -- ports -----------------------------------------------------------------------------------------------------

    def _bind_all(self, port: int, tls: str | None, directive: str) -> None:
        bound = 0
        for word in self._settings.bind:
            optional = word.startswith("-")
            name = word.removeprefix("-")
            try:
                listener = self._network.listen(_EVERY_ADDRESS.get(name, name), port, self._accept, tls)
            except OSError as e:
                if optional and e.errno in _ABSENT:
                    continue
                raise explained(e, name, port, directive) from e
            self.listeners.append(listener)
            port = listener.port()
            bound += 1
        if not bound:
            words = " ".join(self._settings.bind)
            raise ListenError(
                errno.EADDRNOTAVAIL,
                f"no client can connect: none of the addresses of `bind` ({words or 'empty'}) exists on this machine; "
                "set `bind` to one that does, such as 127.0.0.1",
            )

    def _close_ports(self) -> None:
        for listener in self.listeners:
            listener.close()
        self.listeners = []

    def _accept(self) -> StreamHandler:
        return ClientConnection(self._engine, self._clock, self.rules, self.connections, self.over_soft)

    # -- looking after clients -------------------------------------------------------------------------------------

    def _changed(self, name: str) -> None:
        self.rules.refresh()
        for connection in self.connections:
            connection.parser.arg_max_bytes = self.rules.arg_max_bytes
            connection.parser.query_buffer_max_bytes = self.rules.query_buffer_max_bytes

    def _tick(self) -> None:
        self._timer = self._clock.call_later(TICK_MS, self._tick)
        self.rules.tick()
        self._ticks += 1
        if self._ticks % _TICKS_PER_SCAN:
            return
        for connection, since_ns in list(self.over_soft.items()):
            connection.check_soft(since_ns)
        if self.rules.idle_max_s:
            for connection in list(self.connections):
                if connection.is_idle():
                    connection.finish()


def explained(error: OSError, host: str, port: int, directive: str) -> ListenError:
    """The same error, saying what to change."""
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        advice = f"another process has the port: stop it or choose another `{directive}`"
    elif error.errno in (errno.EACCES, errno.EPERM):
        advice = f"this user may not open the port: choose a `{directive}` above 1023 or grant CAP_NET_BIND_SERVICE"
    elif error.errno in _ABSENT:
        advice = "the address is not on this machine: correct `bind`, or put a - in front of it to do without"
    else:
        advice = f"check `bind` and `{directive}`"
    return ListenError(error.errno, f"cannot listen on {host} port {port}: {reason}; {advice}")
