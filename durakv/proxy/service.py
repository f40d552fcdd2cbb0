"""A proxy put together: ports, table, connections, clients, and its end.

Rule: the only place that makes the parts and the only one with a regular tick. It keeps nothing that another proxy
would need: any number of them may run in front of the same cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.commands.table import build_table
from durakv.proxy.client import Client
from durakv.proxy.hub import Hub
from durakv.proxy.metrics import MetricsPage
from durakv.proxy.plans import Plans
from durakv.proxy.refresher import Refresher
from durakv.proxy.settings import ProxySettings
from durakv.world.ports import Clock, Listener, Network, Rng, StreamHandler, Timer

# The name under which the world keeps the TLS context for clients.
TLS_CLIENTS: Final = "clients"
_TICK_MS: Final = 100
_TICKS_PER_SWEEP: Final = 10


class Proxy:
    """open(), then stop(). ``user`` and ``password`` (None: no login) are for asking for the table only."""

    def __init__(
        self, network: Network, clock: Clock, rng: Rng, settings: ProxySettings, tell: Callable[[str, str], None],
        user: bytes | None = None, password: bytes | None = None,
    ) -> None:  # fmt: skip
        self._network = network
        self._clock = clock
        self._settings = settings
        self.hub = Hub(network, clock, rng, settings, Plans(build_table()), tell)
        self._profile = self.hub.lanes.profiles.get(user, password, 2, 0)
        self._refresher = Refresher(self.hub, self._profile)
        self.hub.refresh = self._refresher.soon
        self.hub.lanes.on_trouble = self._refresher.soon
        self._listeners: list[Listener] = []
        self._timer: Timer | None = None
        self._stopped: Callable[[], None] | None = None
        self._stop_ns = 0
        self._ticks = 0

    def open(self) -> int:
        """Listen and ask for the table; the port. Raises OSError."""
        settings = self._settings
        tls = TLS_CLIENTS if settings.tls_listen else None
        listener = self._network.listen(settings.host, settings.port, self._accept, tls)
        self._listeners.append(listener)
        if settings.metrics_port >= 0:
            try:
                self._listeners.append(
                    self._network.listen(settings.metrics_host, settings.metrics_port, self._page, None)
                )
            except OSError:
                listener.close()
                raise
        self._refresher.start()
        self._timer = self._clock.call_later(_TICK_MS, self._tick)
        return listener.port()

    def metrics_port(self) -> int:
        """Where /metrics is; 0 when it is off."""
        return self._listeners[1].port() if len(self._listeners) > 1 else 0

    def stop(self, done: Callable[[], None]) -> None:
        """Take no new client, answer what was asked, for at most ``stop_grace_ms``; then ``done()``."""
        if self._stopped is not None:
            return
        self._stopped = done
        self._stop_ns = self._clock.monotonic_ns() + self._settings.stop_grace_ms * 1_000_000
        for listener in self._listeners:
            listener.close()
        for client in list(self.hub.clients.values()):
            client.stop()

    def _accept(self) -> StreamHandler:
        return Client(self.hub)

    def _page(self) -> StreamHandler:
        return MetricsPage(self.hub)

    def _tick(self) -> None:
        hub = self.hub
        hub.turn.tick()
        if self._stopped is not None and (not hub.clients or hub.turn.now_ns > self._stop_ns):
            self._end(self._stopped)
            return
        self._timer = self._clock.call_later(_TICK_MS, self._tick)
        hub.lanes.end_silent()
        self._refresher.tick()
        self._ticks += 1
        if self._ticks % _TICKS_PER_SWEEP == 0:
            self._sweep()

    def _sweep(self) -> None:
        """Look at every client and connection."""
        hub = self.hub
        idle_ns = self._settings.idle_s * 1_000_000_000
        used = {self._profile.number: None}
        for client in list(hub.clients.values()):
            used[client.profile.number] = None
            if client.replica_profile is not None:
                used[client.replica_profile.number] = None
            if client.tracking is not None:
                client.tracking.probe()
            waits = client.window or client.held or client.subscriptions is not None
            if idle_ns and not waits and hub.turn.now_ns - client.active_ns > idle_ns:
                client.stop()
        hub.lanes.end_idle(used)

    def _end(self, done: Callable[[], None]) -> None:
        self._refresher.stop()
        for client in list(self.hub.clients.values()):
            client.kill()
        self.hub.lanes.close_all()
        done()
