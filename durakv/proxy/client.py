"""One client: its bytes to requests for nodes, and the nodes' replies back in the order of the requests. [compiled]

Rule: keeps the client's order. Requests go out at once while everything before them went out by the same version of the
table; anything that changes the connection's state, or must not overlap, runs alone as a Task. Replies are written only
in flush(). A client that does not read its replies gets no more requests taken.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from durakv.cluster.redirect import slot_of_keys
from durakv.commands.spec import READ
from durakv.keyspace.slots import slot_of
from durakv.proxy import texts
from durakv.proxy.begin import begin, queue_in
from durakv.proxy.lane import CLOSED, Lane
from durakv.proxy.plans import ANY, KEYED, SPLIT, Plan, blocks
from durakv.proxy.profile import Profile
from durakv.proxy.refusal import LATER, LOST_READ, UNSENT, kind_of
from durakv.proxy.request import ASKING, Entry, Gather, Owner, Request, request_wire
from durakv.proxy.resend import follow, resend
from durakv.proxy.split import gather, merged
from durakv.proxy.task import Task
from durakv.proxy.topology import Node
from durakv.resp.encoder import error_line, protocol_error_line
from durakv.resp.errors import CROSSSLOT, CommandError
from durakv.resp.parser import Parser
from durakv.world.ports import Stream, Timer

if TYPE_CHECKING:
    from durakv.proxy.hub import Hub
    from durakv.proxy.subscriptions import Subscriptions
    from durakv.proxy.tracking import Tracking
    from durakv.proxy.transaction import Transaction, Watch

_MINUS: Final = 0x2D
# Requests out per client: at most, and at first, before it is known how large its replies are.
WINDOW_MAX: Final = 1024
_WINDOW_FIRST: Final = 16
# Requests and bytes that may wait before input is left to the kernel.
_HELD_MAX: Final = 1024
_HELD_BYTES_MAX: Final = 4 << 20
_WROTE_MAX: Final = 64
_LINGER_MS: Final = 10_000
_CACHING: Final = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$%d\r\n%b\r\n"
MAX_CLIENTS: Final = b"-ERR max number of clients reached\r\n"


class Client(Owner):
    """A StreamHandler. ``window``: requests in order whose replies were not passed on; ``held``: those not begun."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.number = 0
        self.profile: Profile = hub.lanes.profiles.get(None, None, 2, 0)
        self.replica_profile: Profile | None = None
        self.readonly = hub.settings.read_from_replicas
        self.window: deque[Entry] = deque()
        self.held: deque[list[bytes]] = deque()
        self.inflight = 0
        self.refused: list[Request] = []
        self.retry_timer: Timer | None = None
        self.version = 0
        self.task: Task | None = None
        self.transaction: Transaction | None = None
        self.watch: Watch | None = None
        self.subscriptions: Subscriptions | None = None
        self.tracking: Tracking | None = None
        # Leaders that got a write of this client since its last WAIT, by connection.
        self.wrote: dict[Lane, None] = {}
        # CLIENT REPLY: off for good, and for one more request.
        self.muted = False
        self.skip = False
        # CLIENT CACHING for the next request.
        self.caching = b""
        self.name = b""
        self.library = b""
        self.library_version = b""
        self.address = ""
        self.since_ns = hub.turn.now_ns
        self.active_ns = hub.turn.now_ns
        self.commands = 0
        self.closed = False
        # No further request is read; the link closes once all replies are out.
        self.stopped = False
        self._parser = Parser(hub.settings.arg_max, hub.settings.query_max)
        self._stream: Stream | None = None
        self._plans = hub.plans.by_name
        self._table = hub.table
        self._lane_of: dict[Node, Lane] = {}
        self._out: list[bytes] = []
        self._unread = 0
        self._window_max = _WINDOW_FIRST
        self._last_number = 0
        self._held_bytes = 0
        self._paused = False
        self._dirty = False
        self._last_words = b""
        self._linger: Timer | None = None

    # -- StreamHandler ---------------------------------------------------------------------------------------------

    def on_open(self, stream: Stream) -> None:
        """Take a place among the clients, or turn this one away."""
        hub = self.hub
        if len(hub.clients) >= hub.settings.clients_max:
            hub.tally.rejected += 1
            self.stopped = True
            stream.write(MAX_CLIENTS)
            stream.close()
            return
        host, port = stream.peer_address()
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._stream = stream
        self.number = hub.next_number()
        self.version = self._table.version
        hub.clients[self.number] = self
        hub.tally.accepted += 1

    def on_data(self, data: bytes) -> None:
        """Read requests, and begin those that may go at once."""
        if self.stopped:
            return
        hub = self.hub
        self.active_ns = hub.turn.now_ns
        hub.tally.bytes_in += len(data)
        parser = self._parser
        argvs = parser.feed(data)
        self.commands += len(argvs)
        hub.tally.requests += len(argvs)
        for argv in argvs:
            if self.stopped:
                return
            if self.held or not self._may_begin() or not self._begin(argv):
                self.held.append(argv)
        if parser.error is not None or parser.dropped:
            self._input_refused()
        if self.held:
            self._held_bytes += len(data)
            if not self._paused and (len(self.held) > _HELD_MAX or self._held_bytes > _HELD_BYTES_MAX):
                self._paused = True
                if self._stream is not None:
                    self._stream.pause_reading()

    def on_eof(self) -> bool:
        """The client sends no more; True keeps the link until what it asked is answered."""
        waits = bool(self.window or self.held or self._out or self._last_words)
        if not waits or (self.task is not None and self.task.endless):
            return False
        self.stopped = True
        return True

    def on_close(self, error: Exception | None) -> None:
        """The link is gone."""
        if self.closed:
            return
        self.closed = True
        self.stopped = True
        self._stream = None
        hub = self.hub
        hub.clients.pop(self.number, None)
        hub.slow.pop(self, None)
        for timer in (self._linger, self.retry_timer):
            if timer is not None:
                timer.cancel()
        self.window.clear()
        self.held.clear()
        self.refused.clear()
        self._out.clear()
        self.let_go()

    def let_go(self) -> None:
        """Give up everything this client alone had at the nodes (it closed, or sent RESET)."""
        if self.task is not None:
            task = self.task
            self.task = None
            task.abandon()
        if self.watch is not None:
            self.watch.end()
            self.watch = None
        self.transaction = None
        if self.subscriptions is not None:
            self.subscriptions.end()
            self.subscriptions = None
        if self.tracking is not None:
            self.tracking.end()
            self.tracking = None

    # -- what others call ------------------------------------------------------------------------------------------

    def push(self, wire: bytes) -> None:
        """A message out of order: after the replies that are ready."""
        if not self.closed:
            self._out.append(wire)
            self._flush_soon()

    def answer(self, wire: bytes) -> None:
        """Answer the request being begun without a node."""
        entry = Entry(self._next(), self._silent())
        entry.reply = wire
        self.window.append(entry)
        self.settle()

    def task_done(self, task: Task, wire: bytes) -> None:
        """What ran alone is over."""
        if self.task is task:
            self.task = None
            task.reply = wire
            self.settle()
            self._flush_soon()

    def set_profile(self, profile: Profile) -> None:
        """Requests from now on are this identity's."""
        self.profile = profile
        self.replica_profile = None
        self._lane_of = {}

    def flush(self) -> None:
        """Send the replies that are ready, then begin what had to wait for them."""
        self._dirty = False
        stream = self._stream
        if stream is None:
            return
        out = self._out
        if out:
            count = len(out)
            data = out[0] if count == 1 else b"".join(out)
            out.clear()
            size = len(data)
            self.hub.tally.bytes_out += size
            stream.write(data)
            self._unread = unread = stream.write_buffer_bytes()
            self._adapt(count, size)
            if unread > self.hub.settings.output_high:
                self._is_slow(unread)
                stream = self._stream
                if stream is None:
                    return
        if self.held:
            self._pump()
            if not self.held:
                self._held_bytes = 0
                if self._paused and not self._last_words:
                    self._paused = False
                    stream.resume_reading()
        if self.stopped and not self.window and not self.held and not self._out:
            self._finish()

    def has_read(self) -> bool:
        """Whether a slow client has caught up; then go on with it."""
        stream = self._stream
        if stream is None:
            return True
        self._unread = stream.write_buffer_bytes()
        if self._unread > self.hub.settings.output_high // 2:
            return False
        self._flush_soon()
        return True

    def stop(self) -> None:
        """Read nothing more, answer what was read, close."""
        if self.task is not None and self.task.endless:
            self.kill()
            return
        self.stopped = True
        self._flush_soon()

    def kill(self) -> None:
        """Close now."""
        self.stopped = True
        if self._stream is not None:
            self._stream.abort()

    def retry(self) -> None:
        """The wait before a request is sent again is over."""
        self.retry_timer = None
        if not self.closed and not self.inflight:
            resend(self)

    # -- Owner: replies of nodes -----------------------------------------------------------------------------------

    def on_reply(self, request: Request, wire: bytes) -> None:
        """A node answered one request."""
        if self.closed:
            return
        if wire[0] == _MINUS:
            kind = kind_of(wire, request.plan.script)
            if kind and self._refuse(request, kind, wire):
                return
        self.inflight -= 1
        request.reply = wire
        parent = request.parent
        if parent is not None:
            parent.missing -= 1
            if parent.missing == 0:
                parent.reply = merged(parent, self.profile.protocol)
        window = self.window
        if window[0].reply is not None:
            self.settle()
        if self.refused and not self.inflight:
            resend(self)

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        """A connection broke: only what is certainly harmless is sent again."""
        if self.closed:
            return
        node = request.node
        name = node.name if node is not None else "a node"
        if not sent:
            self._refuse(request, UNSENT, texts.unsent(name, why))
        elif request.plan.again:
            self._refuse(request, LOST_READ, texts.lost_read(name, why))
        else:
            self.hub.tally.unknown += 1
            self.hub.refresh()
            self.on_reply(request, texts.unknown(name, why))

    def answer_refused(self, request: Request, wire: bytes) -> None:
        """A refused request is not sent again after all."""
        request.reply = wire
        parent = request.parent
        if parent is not None:
            parent.missing -= 1
            if parent.missing == 0:
                parent.reply = merged(parent, self.profile.protocol)
        self.settle()
        self._flush_soon()

    def send_again(self, request: Request) -> None:
        """Hand a refused request to the node that should serve it now."""
        self.inflight += 1
        request.got = None
        request.need = 1
        self.version = self._table.version
        self._send(request)

    def settle(self) -> None:
        """Pass on the replies at the head of the window."""
        window = self.window
        while window:
            reply = window[0].reply
            if reply is None:
                break
            entry = window.popleft()
            if not entry.muted:
                self._out.append(reply)
        if not self._dirty:
            self._flush_soon()

    # -- requests --------------------------------------------------------------------------------------------------

    def _begin(self, argv: list[bytes]) -> bool:
        """Begin one request; False when it must wait for what is out."""
        plan = self._plans.get(argv[0])
        if plan is None or plan.subs is not None or not plan.argc_min <= len(argv) <= plan.argc_max:
            try:
                plan = self.hub.plans.find(argv)
            except CommandError as e:
                if self.transaction is not None:
                    self.transaction.spoiled = e.text
                self.answer(error_line(e.text))
                return True
        if self.transaction is not None and not plan.immediate:
            queue_in(self, plan, argv)
            return True
        if self.subscriptions is not None and not plan.pubsub_ok and self.subscriptions.confines(self.profile.protocol):
            self.answer(
                error_line(
                    f"ERR Can't execute '{plan.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
                    "are allowed in this context"
                )
            )
            return True
        code = plan.code
        if code == KEYED:
            if plan.key_at > 0:
                return self._one(plan, argv, slot_of(argv[plan.key_at]))
            if plan.may_block and blocks(argv):
                return begin(self, plan, argv)
            slot = slot_of_keys(plan.keys(argv))
            if slot < -1:
                self.answer(error_line(CROSSSLOT))
                return True
            return self._one(plan, argv, slot)
        if code == SPLIT:
            if plan.name == "mset" and len(argv) % 2 == 0:
                self.answer(error_line("ERR wrong number of arguments for 'mset' command"))
                return True
            slot = slot_of_keys(plan.keys(argv))
            return self._one(plan, argv, slot) if slot >= -1 else self._many(plan, argv)
        if code == ANY and not (plan.name == "ping" and self.subscriptions is not None):
            return self._one(plan, argv, -1)
        return begin(self, plan, argv)

    def _one(self, plan: Plan, argv: list[bytes], slot: int) -> bool:
        """A request for one node."""
        version = self._table.version
        if self.version != version:
            if self.inflight:
                return False
            self.version = version
        self._last_number += 1
        muted = self.muted
        if self.skip:
            muted = self._silent()
        request = Request(self._last_number, muted, self, argv, plan, slot)
        self.window.append(request)
        self.inflight += 1
        self._send(request)
        return True

    def _many(self, plan: Plan, argv: list[bytes]) -> bool:
        """A request split over slots."""
        version = self._table.version
        if self.version != version:
            if self.inflight:
                return False
            self.version = version
        self.hub.tally.split += 1
        entry: Gather = gather(self._next(), self._silent(), self, plan, argv)
        self.window.append(entry)
        self.inflight += len(entry.parts)
        caching = self.caching
        for part in entry.parts:
            self.caching = caching
            self._send(part)
        return True

    def _send(self, request: Request) -> None:
        """Choose the node and queue the request there."""
        slot = request.slot
        ask = request.ask_node
        wire = request_wire(request.argv)
        node: Node | None
        if ask is not None:
            request.ask_node = None
            node = ask
            wire = ASKING + wire
            request.need = 2
        elif slot >= 0:
            if self.readonly and request.tries == 0 and request.plan.row.kind == READ:
                if self._to_replica(request, wire):
                    return
            node = self._table.leaders[slot]
        else:
            node = self.hub.any_node(self.number)
        request.on_replica = False
        request.node = node
        if node is None:
            self._refuse(request, LATER, texts.NOT_SERVED)
            return
        if self.caching:
            wire = _CACHING % (len(self.caching), self.caching) + wire
            request.need += 1
            self.caching = b""
        lane = self._lane_of.get(node)
        if lane is None or lane.state == CLOSED:
            lane = self.hub.lanes.shared(node, self.profile, self.number)
            self._lane_of[node] = lane
            if len(self.wrote) > _WROTE_MAX:
                self._forget_wrote()
        if not request.plan.again:
            self.wrote[lane] = None
        lane.send(request, wire)

    def _to_replica(self, request: Request, wire: bytes) -> bool:
        """Send a read to the nearest replica, if there is one."""
        hub = self.hub
        node = self._table.nearest(request.slot, hub.settings.availability_zone, hub.turn.now_ns)
        if node is None or node is self._table.leaders[request.slot]:
            return False
        profile = self.replica_profile
        if profile is None:
            profile = self.replica_profile = hub.lanes.profiles.like(self.profile, replica=True)
        request.on_replica = True
        request.node = node
        hub.lanes.shared(node, profile, self.number).send(request, wire)
        return True

    def _refuse(self, request: Request, kind: int, wire: bytes) -> bool:
        """Keep a request that was certainly not executed, to be sent again; False when the reply is the client's."""
        if not follow(self.hub, request, kind, wire):
            return False
        self.inflight -= 1
        request.kind = kind
        request.refused = wire
        self.refused.append(request)
        if not self.inflight:
            resend(self)
        return True

    def _may_begin(self) -> bool:
        return (
            self.task is None
            and not self.refused
            and self.inflight < self._window_max
            and self._unread <= self.hub.settings.output_high
        )

    def _pump(self) -> None:
        """Begin held requests, as far as they may."""
        held = self.held
        while held and self._may_begin():
            # QUIT drops what is behind it.
            argv = held.popleft()
            if not self._begin(argv):
                held.appendleft(argv)
                return

    def _forget_wrote(self) -> None:
        """Keep one of the connections that have ended: enough for WAIT to know that it cannot tell."""
        ended = [lane for lane in self.wrote if lane.state == CLOSED]
        for lane in ended[1:]:
            del self.wrote[lane]

    def _next(self) -> int:
        self._last_number += 1
        return self._last_number

    def _silent(self) -> bool:
        """Whether the request being begun gets no reply."""
        muted = self.muted or self.skip
        self.skip = False
        return muted

    # -- limits and the end ----------------------------------------------------------------------------------------

    def _adapt(self, count: int, size: int) -> None:
        """Let as many requests be out as fit ``output_high``, judging by the replies just sent."""
        allowed = self.hub.settings.output_high * count // (size or 1)
        grown = self._window_max + count
        if grown > allowed:
            grown = allowed
        if grown > WINDOW_MAX:
            grown = WINDOW_MAX
        self._window_max = grown if grown > 1 else 1

    def _is_slow(self, unread: int) -> None:
        limit = self.hub.settings.output_max
        if unread > limit:
            self.hub.tally.dropped_slow += 1
            self.hub.tell("client-dropped", f"client {self.address} left {unread} bytes unread, the limit is {limit}")
            self.kill()
            return
        self.hub.watch_slow(self)

    def _input_refused(self) -> None:
        """The client broke the protocol or a limit: replies owed to it come first."""
        parser = self._parser
        self.hub.tally.dropped_input += 1
        self.stopped = True
        if parser.error is None:
            self.hub.tell("client-dropped", f"client {self.address}: {parser.dropped}")
            self.kill()
            return
        self._last_words = protocol_error_line(parser.error)
        self._paused = True
        if self._stream is not None:
            self._stream.pause_reading()
        self._flush_soon()

    def _finish(self) -> None:
        stream = self._stream
        if stream is None:
            return
        if self._last_words:
            stream.write(self._last_words)
            self._last_words = b""
        stream.close()
        if self._stream is not None and self._linger is None and stream.write_buffer_bytes():
            self._linger = self.hub.clock.call_later(_LINGER_MS, stream.abort)

    def _flush_soon(self) -> None:
        if not self._dirty:
            self._dirty = True
            self.hub.turn.add_client(self)
