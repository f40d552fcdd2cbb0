"""WAIT and WAITAOF: asked, in short turns, on the connections that carried the client's writes.

Rule: never counts too much. A node counts for a whole connection, so the answer covers this client's writes and maybe
later ones of others; a connection that has ended cannot be asked any more and counts nothing. Since others use the same
connections, a node is never asked to wait for long at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.proxy.lane import CLOSED, Lane
from durakv.proxy.request import Request, request_wire
from durakv.proxy.task import Task
from durakv.resp import split
from durakv.resp.encoder import encode, error_line
from durakv.world.ports import Timer

if TYPE_CHECKING:
    from durakv.proxy.client import Client
    from durakv.proxy.plans import Plan

_TURN_MS: Final = 5
_PAUSE_MS: Final = 20
_NUMBER_MAX: Final = 1 << 31


class Wait(Task):
    """One WAIT or WAITAOF."""

    _timer: Timer | None = None

    def __init__(self, client: Client, plan: Plan, argv: list[bytes], muted: bool) -> None:
        super().__init__(client, plan, argv, muted)
        self.endless = True
        self._lanes: list[Lane] = []
        self._wanted: list[int] = []
        # The lowest count of all nodes in this turn, per number asked for.
        self._lowest: list[int] = []
        self._missing = 0
        self._deadline_ns = 0
        self._gone = False

    def start(self) -> None:
        """Read the numbers, then ask."""
        client = self.client
        if not all(word.isdigit() and int(word[:24]) < _NUMBER_MAX for word in self.argv[1:]):
            self.finish(error_line("ERR value is not an integer or out of range"))
            return
        numbers = [int(word) for word in self.argv[1:]]
        self._wanted = numbers[:-1]
        if numbers[-1]:
            self._deadline_ns = client.hub.clock.monotonic_ns() + numbers[-1] * 1_000_000
        self._lanes = list(client.wrote)
        if not self._lanes:
            node = client.hub.any_node(client.number)
            self._lanes = [client.hub.lanes.shared(node, client.profile, client.number)]
        self._ask()

    def abandon(self) -> None:
        """See Task."""
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()

    def on_reply(self, request: Request, wire: bytes) -> None:
        """One node's count."""
        if self._gone:
            return
        if wire[:1] == b"-":
            self._gone = True
            self.finish(wire)
            return
        counts = [int(item[1:]) for item in split.items(wire)] if wire[:1] == b"*" else [int(wire[1:])]
        self._lowest = [min(pair) for pair in zip(self._lowest, counts, strict=True)]
        self._one_less()

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        """A node that cannot be asked counts nothing."""
        if not self._gone:
            self._lowest = [0] * len(self._wanted)
            self._one_less()

    def _ask(self) -> None:
        self._timer = None
        self._lowest = [_NUMBER_MAX] * len(self._wanted)
        self._missing = len(self._lanes)
        wire = request_wire([self.argv[0], *self.argv[1:-1], b"%d" % _TURN_MS])
        for lane in list(self._lanes):
            # One that waits for somebody's keys would answer when they come.
            if lane.state == CLOSED or (lane.exclusive and lane.pending):
                self._lowest = [0] * len(self._wanted)
                self._one_less()
                continue
            request = Request(0, False, self, self.argv, self.plan, -1)
            request.node = lane.node
            lane.send(request, wire)

    def _one_less(self) -> None:
        self._missing -= 1
        if self._missing:
            return
        enough = all(got >= wanted for got, wanted in zip(self._lowest, self._wanted, strict=True))
        clock = self.client.hub.clock
        over = self._deadline_ns and clock.monotonic_ns() >= self._deadline_ns
        if not enough and not over:
            self._timer = clock.call_later(_PAUSE_MS, self._ask)
            return
        wrote = self.client.wrote
        for lane in [lane for lane in wrote if lane.state == CLOSED]:
            del wrote[lane]
        self._gone = True
        aof = self.plan.name == "waitaof"
        self.finish(encode(self._lowest if aof else self._lowest[0], 2))
