"""What all clients of a proxy share: the table, the connections, the plans, and the counters.

Rule: no behaviour beyond choosing a node; one object per proxy, made by service.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from durakv.proxy.lanes import Lanes
from durakv.proxy.plans import Plans
from durakv.proxy.settings import ProxySettings
from durakv.proxy.topology import Node, Table
from durakv.proxy.turn import Turn
from durakv.world.ports import Clock, Network, Rng

if TYPE_CHECKING:
    from durakv.proxy.client import Client


class Tally:
    """What clients count, for metrics and INFO."""

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected = 0
        self.requests = 0
        self.split = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.moved = 0
        self.asked = 0
        self.again = 0
        self.unknown = 0
        self.gave_up = 0
        self.dropped_slow = 0
        self.dropped_input = 0


class Hub:
    """``refresh`` asks for a newer table soon; ``slow`` are clients that must read before more is done for them."""

    def __init__(
        self, network: Network, clock: Clock, rng: Rng, settings: ProxySettings, plans: Plans,
        tell: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.clock = clock
        self.rng = rng
        self.settings = settings
        self.plans = plans
        # (event, text) for the operators.
        self.tell = tell
        self.turn = Turn(clock)
        self.table = Table()
        self.lanes = Lanes(network, clock, self.turn, settings, self.table)
        self.tally = Tally()
        self.clients: dict[int, Client] = {}
        self.slow: dict[Client, None] = {}
        self.refresh: Callable[[], None] = self.turn.tick
        self._last_number = 0
        self._slow_timer = False

    def next_number(self) -> int:
        """A client's number, never used before."""
        self._last_number += 1
        return self._last_number

    def any_node(self, number: int) -> Node:
        """A leader, the same for the same ``number`` while the table stays; a seed while no leader is known."""
        homes = self.table.homes()
        if homes:
            node = self.table.leaders[homes[number % len(homes)]]
            if node is not None:
                return node
        host, port = self.settings.seeds[number % len(self.settings.seeds)]
        return self.table.node(host, port)

    def watch_slow(self, client: Client) -> None:
        """Look again soon whether the client has read its replies."""
        self.slow[client] = None
        if not self._slow_timer:
            self._slow_timer = True
            self.clock.call_later(5, self._look_at_slow)

    def _look_at_slow(self) -> None:
        self._slow_timer = False
        for client in list(self.slow):
            if client.has_read():
                del self.slow[client]
        if self.slow:
            self._slow_timer = True
            self.clock.call_later(5, self._look_at_slow)
