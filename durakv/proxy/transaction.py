"""MULTI, EXEC, DISCARD, WATCH: queued here, run by one node in one piece.

Rule: a transaction's commands leave only after the node has said OK to its MULTI on a connection of its own, so they
can never run one by one. A transaction that was refused before EXEC ran is sent again whole; one that was out when its
connection broke is not, unless it only reads. With watched keys nothing is sent again: the reply is the null of a key
that changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.cluster.redirect import slot_of_keys
from durakv.proxy import texts
from durakv.proxy.lane import CLOSED, Lane
from durakv.proxy.plans import ANY, BLOCKING, KEYED, REFUSED, SPLIT, Plan
from durakv.proxy.refusal import ASK, LOST_READ, UNSENT, kind_of
from durakv.proxy.request import ASKING, Owner, Request, request_wire
from durakv.proxy.resend import delay_ms, follow
from durakv.proxy.task import Call, Task
from durakv.proxy.topology import Node
from durakv.resp.encoder import encode, error_line
from durakv.resp.errors import (
    CROSSSLOT,
    DISCARD_WITHOUT_MULTI,
    EXEC_WITHOUT_MULTI,
    EXECABORT,
    WATCH_IN_MULTI,
)
from durakv.resp.types import NULL_ARRAY, OK, QUEUED
from durakv.world.ports import Timer

if TYPE_CHECKING:
    from durakv.proxy.client import Client

_MULTI: Final = request_wire([b"MULTI"])
_EXEC: Final = request_wire([b"EXEC"])
_NO_SLOT: Final = -1
_MIXED: Final = -2
_IN_MULTI: Final = (KEYED, SPLIT, ANY, BLOCKING)
_COMMANDS_MAX: Final = 1 << 20


class Transaction:
    """What is queued. ``slot`` is that of all keys, -1 while there are none; ``spoiled`` is why EXEC will abort."""

    def __init__(self) -> None:
        self.queued: list[list[bytes]] = []
        self.slot = _NO_SLOT
        self.spoiled = ""
        # Nothing in it writes: it may be sent again whatever happened.
        self.again = True


class Watch:
    """Watched keys and the connection that watches them; ``lost`` when that is gone."""

    def __init__(self, client: Client, slot: int, pin: Lane) -> None:
        self._client = client
        self.slot = slot
        self.pin = pin
        self.profile = client.profile

    def lost(self) -> bool:
        """Whether nobody can say any more if a key changed."""
        return self.pin.state == CLOSED

    def end(self) -> None:
        """Watch no more."""
        self.pin.close("no longer used")


def multi(client: Client) -> None:
    """Begin to queue."""
    if client.transaction is not None:
        client.answer(error_line("ERR MULTI calls can not be nested"))
        return
    client.transaction = Transaction()
    client.answer(OK.wire)


def queue(client: Client, plan: Plan, argv: list[bytes]) -> None:
    """Take one command, or say why the transaction cannot have it."""
    transaction = client.transaction
    if transaction is None:
        raise AssertionError("queue() is called in a transaction only")
    error = ""
    slot = _NO_SLOT
    if plan.code == REFUSED:
        error = plan.refusal
    elif plan.code not in _IN_MULTI and plan.name not in ("publish", "unwatch"):
        error = f"ERR '{plan.name.replace('|', ' ')}' cannot be part of a transaction through the proxy"
    else:
        slot = slot_of_keys(plan.keys(argv))
        if slot == _MIXED or (slot >= 0 <= transaction.slot != slot):
            error = CROSSSLOT
    if len(transaction.queued) >= _COMMANDS_MAX:
        error = "ERR a transaction has at most a million commands"
    if error:
        transaction.spoiled = error
        client.answer(error_line(error))
        return
    if slot >= 0:
        transaction.slot = slot
    transaction.again = transaction.again and plan.again
    transaction.queued.append(argv)
    client.answer(QUEUED.wire)


class Discard(Task):
    """DISCARD."""

    def start(self) -> None:
        """Forget what was queued and watched."""
        client = self.client
        if client.transaction is None:
            self.finish(error_line(DISCARD_WITHOUT_MULTI))
            return
        client.transaction = None
        if client.watch is not None:
            client.watch.end()
            client.watch = None
        self.finish(OK.wire)


class Unwatch(Task):
    """UNWATCH."""

    def start(self) -> None:
        """Forget what was watched."""
        client = self.client
        if client.watch is not None:
            client.watch.end()
            client.watch = None
        self.finish(OK.wire)


class WatchKeys(Task):
    """WATCH."""

    _call: Call | None = None

    def start(self) -> None:
        """Watch on a borrowed connection, which the transaction will then use."""
        client = self.client
        if client.transaction is not None:
            self.finish(error_line(WATCH_IN_MULTI))
            return
        slot = slot_of_keys(self.plan.keys(self.argv))
        watch = client.watch
        if slot == _MIXED or (watch is not None and watch.slot != slot):
            self.finish(error_line(CROSSSLOT))
            return
        if watch is not None and not watch.lost():
            request = Request(0, False, _More(self), self.argv, self.plan, slot)
            request.node = watch.pin.node
            watch.pin.send(request, request_wire(self.argv))
            return
        if watch is not None:
            # Those watched before are lost: EXEC will say so.
            self.finish(OK.wire)
            return
        call = Call(
            client.hub, client.profile, self.plan, self.argv, slot, self._watching, exclusive=True, number=client.number
        )
        self._call = call
        call.start()

    def abandon(self) -> None:
        """See Task."""
        if self._call is not None:
            self._call.cancel()

    def _watching(self, call: Call, wire: bytes) -> None:
        client = self.client
        if call.pin is not None:
            if wire[:1] == b"-":
                client.hub.lanes.give_back(call.pin)
            else:
                client.watch = Watch(client, call.slot, call.pin)
        self.finish(wire)


class _More(Owner):
    """The answer to a further WATCH on the same connection."""

    def __init__(self, task: WatchKeys) -> None:
        self._task = task

    def on_reply(self, request: Request, wire: bytes) -> None:
        self._task.finish(wire)

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        # The watch is lost with it, so the transaction will not run.
        self._task.finish(OK.wire)


class Exec(Task):
    """EXEC."""

    _pin: Lane | None = None
    _timer: Timer | None = None
    _node: Node | None = None
    _ask: Node | None = None
    _tries = 0
    _deadline_ns = 0
    _running = False
    _gone = False
    _transaction = Transaction()

    def start(self) -> None:
        """Run what was queued, if it is fit to run."""
        client = self.client
        transaction = client.transaction
        if transaction is None:
            self.finish(error_line(EXEC_WITHOUT_MULTI))
            return
        client.transaction = None
        self._transaction = transaction
        watch = client.watch
        if transaction.spoiled:
            self._end(error_line(EXECABORT))
        elif watch is not None and watch.lost():
            self._end(self._null())
        elif watch is not None and transaction.slot >= 0 and transaction.slot != watch.slot:
            self._end(error_line(CROSSSLOT))
        elif not transaction.queued and watch is None:
            self._end(b"*0\r\n")
        else:
            self._open()

    def abandon(self) -> None:
        """See Task."""
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pin is not None:
            self._pin.close("no longer used")
            self._pin = None

    def on_reply(self, request: Request, wire: bytes) -> None:
        """First MULTI's reply, then those of the rest."""
        if self._gone:
            return
        if not self._running:
            if wire[:1] == b"-":
                self._refused(request, wire)
                return
            self._running = True
            queued = self._transaction.queued
            rest = self._request()
            rest.need = len(queued) + 1
            pin = self._pin
            if pin is not None:
                pin.send(rest, b"".join([request_wire(argv) for argv in queued] + [_EXEC]))
            return
        if wire[:1] == b"-":
            self._failed(request, wire)
            return
        self._end(wire)

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        """Nothing ran unless EXEC was out."""
        if self._gone:
            return
        self._pin = None
        client = self.client
        client.hub.refresh()
        name = request.node.name if request.node is not None else "a node"
        executed = self._running and sent
        if executed and not self._transaction.again:
            client.hub.tally.unknown += 1
            self._end(texts.unknown(name, why))
            return
        request.refused = texts.lost_read(name, why) if executed else texts.unsent(name, why)
        self._again(request, LOST_READ if executed else UNSENT)

    # -- one attempt -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """MULTI on a connection of its own."""
        self._timer = None
        self._running = False
        client = self.client
        hub = client.hub
        wire = _MULTI
        request = self._request()
        watch = client.watch
        slot = self._transaction.slot
        node: Node | None = self._ask
        if watch is not None:
            pin = watch.pin
        else:
            if node is not None:
                self._ask = None
                # Holds until EXEC: a node forgets it after the first command outside a transaction.
                wire = ASKING + wire
                request.need = 2
            else:
                node = hub.table.leaders[slot] if slot >= 0 else hub.any_node(client.number + self._tries)
            if node is None:
                request.refused = texts.NOT_SERVED
                hub.refresh()
                self._again(request, UNSENT)
                return
            pin = hub.lanes.borrow(node, client.profile)
        self._pin = pin
        request.node = pin.node
        self._node = pin.node
        pin.send(request, wire)

    def _request(self) -> Request:
        request = Request(0, False, self, self.argv, self.plan, self._transaction.slot)
        request.node = self._node
        return request

    def _failed(self, request: Request, wire: bytes) -> None:
        """EXEC refused to run: for one of the commands, or as the slot has moved."""
        for reply in request.got or []:
            if reply[:1] == b"-":
                if kind_of(reply, script=False):
                    self._refused(request, reply)
                else:
                    self._end(error_line("EXECABORT Transaction discarded because of: " + _text(reply)))
                return
        self._refused(request, wire)

    def _refused(self, request: Request, wire: bytes) -> None:
        kind = kind_of(wire, script=False)
        if not kind or not follow(self.client.hub, request, kind, wire):
            self._end(wire)
            return
        self._ask = request.ask_node
        request.refused = wire
        self._give_back()
        self._again(request, kind)

    def _again(self, request: Request, kind: int) -> None:
        """Nothing ran: try again, unless keys are watched or the time is over."""
        client = self.client
        if client.watch is not None:
            self._end(self._null())
            return
        hub = client.hub
        now_ns = hub.clock.monotonic_ns()
        if self._deadline_ns == 0:
            self._deadline_ns = now_ns + hub.settings.retry_ms * 1_000_000
        if now_ns >= self._deadline_ns:
            hub.tally.gave_up += 1
            request.kind = kind
            self._end(texts.gave_up(request, hub.settings.retry_ms))
            return
        if kind != ASK:
            self._ask = None
        wait_ms = delay_ms(kind, self._tries)
        self._tries += 1
        self._timer = hub.clock.call_later(wait_ms, self._open)

    def _give_back(self) -> None:
        pin = self._pin
        self._pin = None
        if pin is not None and self.client.watch is None:
            if pin.state != CLOSED:
                self.client.wrote[pin] = None
            self.client.hub.lanes.give_back(pin)

    def _end(self, wire: bytes) -> None:
        client = self.client
        self._give_back()
        watch = client.watch
        if watch is not None:
            client.watch = None
            if self._running and not watch.lost():
                # EXEC has forgotten the watched keys.
                client.wrote[watch.pin] = None
                client.hub.lanes.give_back(watch.pin)
            else:
                watch.end()
        self._pin = None
        self.finish(wire)

    def _null(self) -> bytes:
        return encode(NULL_ARRAY, self.client.profile.protocol)


def _text(wire: bytes) -> str:
    return wire[1:].rstrip().decode("utf-8", "surrogateescape")
