"""All connections to nodes: shared ones by node and profile, exclusive ones to borrow.

Rule: the only place that dials nodes. Idle connections are closed here, and profiles nobody uses are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.proxy.lane import CLOSED, OPEN, Counts, Lane
from durakv.proxy.profile import Profile, Profiles
from durakv.proxy.request import request_wire
from durakv.proxy.settings import ProxySettings
from durakv.proxy.topology import Node, Table
from durakv.proxy.turn import Turn
from durakv.world.ports import Clock, Network

# The name under which the world keeps the TLS context for nodes.
TLS_NODES: Final = "nodes"
_IDLE_NS: Final = 60 * 1_000_000_000
_PINS_IDLE_MAX: Final = 16
_PING: Final = request_wire([b"PING"])
# A node that could not be reached is not asked for reads for this long.
_SUSPECT_NS: Final = 2 * 1_000_000_000


class Lanes:
    """``on_trouble`` hears of every connection that ended otherwise than by this proxy's wish."""

    def __init__(self, network: Network, clock: Clock, turn: Turn, settings: ProxySettings, table: Table) -> None:
        self._network = network
        self._clock = clock
        self._turn = turn
        self._settings = settings
        self._table = table
        self._tls = TLS_NODES if settings.tls_nodes else None
        self.counts = Counts()
        self.profiles = Profiles()
        self.on_trouble: Callable[[], None] = turn.tick
        # Borrowed ones, and those of closed profiles: everything that is in no node's list.
        self._borrowed: dict[Lane, None] = {}
        turn.keeper = self

    def shared(self, node: Node, profile: Profile, number: int) -> Lane:
        """A shared connection; the same for the same ``number`` while it lasts."""
        lanes = node.lanes.get(profile.number)
        if lanes is None:
            lanes = node.lanes[profile.number] = []
        count = 1 if profile.private else self._settings.lanes
        place = number % count
        while len(lanes) <= place:
            lanes.append(self._dial(node, profile, exclusive=False))
        lane = lanes[place]
        if lane.state == CLOSED:
            lane = lanes[place] = self._dial(node, profile, exclusive=False)
        return lane

    def borrow(self, node: Node, profile: Profile) -> Lane:
        """An exclusive connection, until give_back() or its close()."""
        idle = node.pins.get(profile.number)
        while idle:
            lane = idle.pop()
            if lane.state == OPEN:
                self._borrowed[lane] = None
                return lane
        lane = self._dial(node, profile, exclusive=True)
        self._borrowed[lane] = None
        return lane

    def give_back(self, lane: Lane) -> None:
        """Only a connection in the state it was borrowed in; any other is to be closed instead."""
        self._borrowed.pop(lane, None)
        lane.watcher = None
        lane.patient_ns = 0
        if lane.state != OPEN or lane.pending or lane.raw:
            lane.close("no longer used")
            return
        idle = lane.node.pins.setdefault(lane.profile.number, [])
        if len(idle) >= _PINS_IDLE_MAX:
            lane.close("no longer used")
            return
        lane.used_ns = self._turn.now_ns
        idle.append(lane)

    def closed(self, lane: Lane, was_open: bool) -> None:
        """A connection ended."""
        self._borrowed.pop(lane, None)
        idle = lane.node.pins.get(lane.profile.number)
        if idle is not None and lane in idle:
            idle.remove(lane)
        if lane.why != "no longer used":
            if not was_open:
                lane.node.suspect_ns = self._turn.now_ns + _SUSPECT_NS
            self.on_trouble()

    def close_private(self, profile: Profile) -> None:
        """The one client of this profile is gone."""
        for node in self._table.nodes.values():
            for lane in node.lanes.pop(profile.number, []):
                lane.close("no longer used")
            for lane in node.pins.pop(profile.number, []):
                lane.close("no longer used")
        self.profiles.forget([profile.number])

    def close_all(self) -> None:
        """The proxy ends."""
        for lane in self.every():
            lane.close("no longer used")

    def every(self) -> list[Lane]:
        """All connections."""
        found = list(self._borrowed)
        for node in self._table.nodes.values():
            for lanes in node.lanes.values():
                found += lanes
            for lanes in node.pins.values():
                found += lanes
        return [lane for lane in found if lane.state != CLOSED]

    def end_silent(self) -> None:
        """End the connections of nodes that owe an answer for too long."""
        answer_ns = self._settings.answer_ms * 1_000_000
        for lane in self.every():
            if lane.overdue(answer_ns) or (lane.raw and self._hears_nothing(lane, answer_ns)):
                self.counts.silent += 1
                lane.close(f"{lane.node.name} did not answer within {self._settings.answer_ms} ms")

    def end_idle(self, used: dict[int, None]) -> None:
        """End idle connections and forget profiles; ``used`` are the numbers of the profiles clients have."""
        now_ns = self._turn.now_ns
        kept: dict[int, None] = {}
        for node in self._table.nodes.values():
            for number in list(node.lanes):
                lanes = [lane for lane in node.lanes[number] if lane.state != CLOSED]
                if number not in used and not any(lane.pending for lane in lanes):
                    if all(now_ns - lane.used_ns > _IDLE_NS for lane in lanes):
                        del node.lanes[number]
                        for lane in lanes:
                            lane.close("no longer used")
                        continue
                kept[number] = None
            for number, idle in list(node.pins.items()):
                for lane in [lane for lane in idle if now_ns - lane.used_ns > _IDLE_NS]:
                    lane.close("no longer used")
                if node.pins.get(number):
                    kept[number] = None
                else:
                    node.pins.pop(number, None)
        for lane in self._borrowed:
            kept[lane.profile.number] = None
        self.profiles.forget([p.number for p in self.profiles.all() if p.number not in kept and p.number not in used])

    def _hears_nothing(self, lane: Lane, answer_ns: int) -> bool:
        """Whether a connection on which nothing is asked has not even answered a PING."""
        now_ns = self._turn.now_ns
        quiet_ns = now_ns - lane.progress_ns
        if lane.probed_ns > lane.progress_ns:
            return quiet_ns > answer_ns
        if quiet_ns > answer_ns // 3 and lane.state == OPEN:
            lane.probed_ns = now_ns
            lane.say(_PING)
        return False

    def _dial(self, node: Node, profile: Profile, *, exclusive: bool) -> Lane:
        lane = Lane(node, profile, self._turn, self._clock, self.counts, exclusive)
        self.counts.dialled += 1
        self._network.connect(node.host, node.port, lane, self._settings.connect_ms, self._tls)
        return lane
