"""The end of a turn of the event loop: what was queued for clients and nodes goes out, each in one piece. [compiled]

Rule: the only place that decides when queued bytes leave. Also the turn's coarse clock, so that nobody asks the real
one per request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.world.ports import Clock

if TYPE_CHECKING:
    from durakv.proxy.client import Client
    from durakv.proxy.lane import Lane
    from durakv.proxy.lanes import Lanes


class Turn:
    """``now_ns`` is the clock as of the last tick."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now_ns = clock.monotonic_ns()
        self.keeper: Lanes | None = None
        self._clients: list[Client] = []
        self._lanes: list[Lane] = []
        self._scheduled = False

    def add_client(self, client: Client) -> None:
        """Flush it at the end of this turn."""
        self._clients.append(client)
        if not self._scheduled:
            self._scheduled = True
            self._clock.call_soon(self._end)

    def add_lane(self, lane: Lane) -> None:
        """Flush it at the end of this turn."""
        self._lanes.append(lane)
        if not self._scheduled:
            self._scheduled = True
            self._clock.call_soon(self._end)

    def lane_closed(self, lane: Lane, was_open: bool) -> None:
        """A node's connection has ended."""
        if self.keeper is not None:
            self.keeper.closed(lane, was_open)

    def tick(self) -> None:
        """Look at the clock."""
        self.now_ns = self._clock.monotonic_ns()

    def _end(self) -> None:
        """Clients first: what they were waiting to send goes out with the rest."""
        self._scheduled = False
        clients = self._clients
        if clients:
            self._clients = []
            for client in clients:
                client.flush()
        lanes = self._lanes
        if lanes:
            self._lanes = []
            for lane in lanes:
                lane.flush()
