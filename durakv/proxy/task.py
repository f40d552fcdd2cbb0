"""What a client does alone: nothing of it before is out, nothing after is begun until it is over.

Rule: a task ends exactly once, by finish() or by abandon() when its client is gone. Call is how tasks, and whoever else
is no client, ask a node one thing with the same rules about sending again as clients have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from durakv.proxy import texts
from durakv.proxy.lane import CLOSED, Lane
from durakv.proxy.profile import Profile
from durakv.proxy.refusal import LATER, LOST_READ, UNSENT, kind_of
from durakv.proxy.request import ASKING, Entry, Request, request_wire
from durakv.proxy.resend import delay_ms, follow
from durakv.proxy.topology import Node
from durakv.world.ports import Timer

if TYPE_CHECKING:
    from durakv.proxy.client import Client
    from durakv.proxy.hub import Hub
    from durakv.proxy.plans import Plan

_MINUS = 0x2D


class Task(Entry):
    """One thing done alone. ``endless``: it may wait for as long as the client likes and changes nothing till then."""

    def __init__(self, client: Client, plan: Plan, argv: list[bytes], muted: bool) -> None:
        super().__init__(0, muted)
        self.client = client
        self.plan = plan
        self.argv = argv
        self.endless = False

    def start(self) -> None:
        """Begin; nothing else of the client is out."""
        raise NotImplementedError

    def abandon(self) -> None:
        """The client is gone: leave nothing behind."""

    def finish(self, wire: bytes) -> None:
        """This is the reply."""
        self.client.task_done(self, wire)


class Call(Entry):
    """One request to the leader of ``slot`` (-1: to any node), answered through ``done`` once.

    ``exclusive``: on a borrowed connection, which ``done`` finds in ``pin`` and must give back or close. ``lane`` is
    the connection used last, of either sort.
    """

    def __init__(
        self, hub: Hub, profile: Profile, plan: Plan, argv: list[bytes], slot: int, done: Callable[[Call, bytes], None],
        *, exclusive: bool = False, number: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(number, False)
        self.hub = hub
        self.profile = profile
        self.plan = plan
        self.argv = argv
        self.slot = slot
        self.done: Callable[[Call, bytes], None] | None = done
        self.exclusive = exclusive
        self.pin: Lane | None = None
        self.lane: Lane | None = None
        self.began_ns = hub.clock.monotonic_ns()
        self._deadline_ns = 0
        self._timer: Timer | None = None
        self._tries = 0
        self._ask: Node | None = None

    def start(self) -> Call:
        """Send it."""
        hub = self.hub
        request = Request(self.number, False, self, self.argv, self.plan, self.slot)
        wire = request_wire(self.argv)
        node = self._ask
        if node is not None:
            self._ask = None
            wire = ASKING + wire
            request.need = 2
        else:
            node = hub.table.leaders[self.slot] if self.slot >= 0 else hub.any_node(self.number + self._tries)
        request.node = node
        if node is None:
            self._again(request, LATER, texts.NOT_SERVED)
            return self
        if self.exclusive:
            lane = self.pin = hub.lanes.borrow(node, self.profile)
        else:
            lane = hub.lanes.shared(node, self.profile, self.number)
        self.lane = lane
        lane.send(request, wire)
        return self

    def cancel(self) -> None:
        """Nobody wants the answer any more; a borrowed connection is closed."""
        self.done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_pin()

    def on_reply(self, request: Request, wire: bytes) -> None:
        """See Owner."""
        if self.done is None:
            return
        if wire[0] == _MINUS:
            kind = kind_of(wire, self.plan.script)
            if kind and follow(self.hub, request, kind, wire):
                self._ask = request.ask_node
                if self.pin is not None:
                    self.hub.lanes.give_back(self.pin)
                    self.pin = None
                self._again(request, kind, wire)
                return
        self._finish(wire)

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        """See Owner."""
        if self.done is None:
            return
        self.pin = None
        name = request.node.name if request.node is not None else "a node"
        self.hub.refresh()
        if not sent:
            self._again(request, UNSENT, texts.unsent(name, why))
        elif self.plan.again:
            self._again(request, LOST_READ, texts.lost_read(name, why))
        else:
            self.hub.tally.unknown += 1
            self._finish(texts.unknown(name, why))

    def _again(self, request: Request, kind: int, wire: bytes) -> None:
        now_ns = self.hub.clock.monotonic_ns()
        if self._deadline_ns == 0:
            self._deadline_ns = now_ns + self.hub.settings.retry_ms * 1_000_000
        if now_ns >= self._deadline_ns:
            request.kind = kind
            request.refused = wire
            self.hub.tally.gave_up += 1
            self._finish(texts.gave_up(request, self.hub.settings.retry_ms))
            return
        wait_ms = delay_ms(kind, self._tries)
        self._tries += 1
        self._timer = self.hub.clock.call_later(wait_ms, self._due)

    def _due(self) -> None:
        self._timer = None
        if self.done is not None:
            self.start()

    def _finish(self, wire: bytes) -> None:
        done = self.done
        self.done = None
        if done is not None:
            done(self, wire)

    def _drop_pin(self) -> None:
        if self.pin is not None and self.pin.state != CLOSED:
            self.pin.close("no longer used")
        self.pin = None
