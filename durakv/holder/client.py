"""A data node's half of an embedded holder: finds the member that leads and sends it a call, once.

Rule: a call that may have been proposed is never sent again, here or elsewhere; its outcome is then UNKNOWN, unless it
is a read. As long as every member asked has said that it did not take the call, the next one is asked, first the one
that is said to lead, then the one in this process. Never calls back from within submit(). Must not know what calls
mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.holder import wire
from durakv.holder.address import Members, format_members
from durakv.holder.health import EMBEDDED, HolderHealth
from durakv.holder.member import HolderMember
from durakv.world.ports import Clock, Network, Stream, Timer
from raft.primary_backup.codec import decode_answer, encode_call
from raft.primary_backup.messages import HolderAnswer, HolderCall, Outcome, ReadCall, Reason

TIMEOUT_MS: Final = 400
CONNECT_TIMEOUT_MS: Final = 300
# Between two rounds through all members while none of them leads.
ROUND_MS: Final = 50
_NS_PER_MS: Final = 1_000_000


class _Pending:
    """One call and how far it got. ``at`` is the member it was given to, 0 for none."""

    __slots__ = ("at", "call", "left", "number", "timer")

    def __init__(self, number: int, call: HolderCall) -> None:
        self.number = number
        self.call = call
        self.at = 0
        # Members not asked in this round, the next one last.
        self.left: list[int] = []
        self.timer: Timer | None = None


class HolderClient:
    """Implements HolderPort. ``members`` say where all are; ``member`` is the one in this process, if there is one.

    ``timeout_ms`` after submit() a call is answered UNKNOWN, or REFUSED with NOT_SENT when nobody took it.
    """

    def __init__(
        self, clock: Clock, network: Network, cluster_id: bytes, node_id: int, members: Members,
        on_answer: Callable[[HolderAnswer], None], timeout_ms: int = TIMEOUT_MS, member: HolderMember | None = None,
        tls: str | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.network = network
        self.tls = tls
        self._members = members
        self._on_answer = on_answer
        self._timeout_ms = timeout_ms
        self._member = member
        self._pending: dict[int, _Pending] = {}
        self._number = 0
        # Who is believed to lead.
        self._leader = 0
        self._closed = False
        self._answered = 0
        self._unknown = 0
        self._answered_ns = -1
        self._trouble = ""
        self._doors = {
            member_id: _Door(self, member_id, address, wire.Hello(cluster_id, wire.AS_CALLER, node_id, member_id))
            for member_id, address in members.items()
            if member is None or member_id != member.member_id
        }

    # -- HolderPort ----------------------------------------------------------------------------------------------------

    def submit(self, call: HolderCall) -> None:
        """See HolderPort."""
        if self._closed:
            return
        self._number += 1
        pending = self._pending[self._number] = _Pending(self._number, call)
        pending.timer = self.clock.call_later(self._timeout_ms, lambda: self._late(pending))
        self.clock.call_soon(lambda: self._round(pending))

    def close(self) -> None:
        """Answer nothing more and hang up."""
        self._closed = True
        for pending in self._pending.values():
            if pending.timer is not None:
                pending.timer.cancel()
        self._pending.clear()
        for door in self._doors.values():
            door.close()

    def health(self) -> HolderHealth:
        """How the holder is, as far as this node can tell."""
        age = -1 if self._answered_ns < 0 else (self.clock.monotonic_ns() - self._answered_ns) // _NS_PER_MS
        own = None if self._member is None or self._member.closed else self._member.health()
        return HolderHealth(
            EMBEDDED, format_members(self._members), self._leader, age, self._answered, self._unknown,
            len(self._pending), self._trouble, own,
        )  # fmt: skip

    # -- one call ------------------------------------------------------------------------------------------------------

    def _round(self, pending: _Pending) -> None:
        if pending.number not in self._pending:
            return
        own = 0 if self._member is None else self._member.member_id
        order = [member for member in self._members if member not in (self._leader, own)]
        # Which of the others is asked first must not always be the same one.
        if order:
            turn = pending.number % len(order)
            order = order[turn:] + order[:turn]
        pending.left = order
        pending.left += [member for member in (own, self._leader) if member in self._members]
        if own == self._leader and own:
            pending.left.pop()
        self._next(pending)

    def _next(self, pending: _Pending) -> None:
        """Ask the next member, or all of them again a little later."""
        if not pending.left:
            self.clock.call_later(ROUND_MS, lambda: self._round(pending))
            return
        member_id = pending.at = pending.left.pop()
        data = encode_call(pending.call)
        own = self._member
        if own is not None and member_id == own.member_id:
            own.call(data, lambda kind, payload: self._own_reply(pending, member_id, kind, payload))
            return
        self._doors[member_id].carry(pending.number, wire.request(wire.CALL, pending.number, data))

    def _own_reply(self, pending: _Pending, member_id: int, kind: int, payload: bytes) -> None:
        # A member may reply at once; the next step is another turn's.
        self.clock.call_soon(lambda: self.replied(pending.number, member_id, kind, payload))

    def replied(self, number: int, member_id: int, kind: int, payload: bytes) -> None:
        """What a member said to a call. Raises ValueError when it makes no sense."""
        pending = self._pending.get(number)
        if kind == wire.NOT_HERE:
            leader = wire.read_leader(payload)
            if pending is not None and pending.at == member_id:
                self._not_here(pending, member_id, leader)
            return
        if kind != wire.ANSWER:
            raise ValueError(f"a frame of kind {kind}")
        answer = decode_answer(payload)
        if pending is None or pending.at != member_id:
            return
        if answer.call_id != pending.call.call_id:
            raise ValueError(f"an answer to call {answer.call_id} for call {pending.call.call_id}")
        self._leader = member_id
        self._answered_ns = self.clock.monotonic_ns()
        self._trouble = ""
        self._end(pending, answer)

    def _not_here(self, pending: _Pending, member_id: int, leader: int) -> None:
        pending.at = 0
        self._leader = leader if leader in self._members and leader != member_id else 0
        if self._leader in pending.left:
            pending.left.remove(self._leader)
            pending.left.append(self._leader)
        self._next(pending)

    def unreached(self, numbers: list[int], member_id: int, why: str) -> None:
        """No connection to the member could be made, so these calls were not sent to it."""
        self._forget_leader(member_id, why)
        for number in numbers:
            pending = self._pending.get(number)
            if pending is not None and pending.at == member_id:
                pending.at = 0
                self._next(pending)

    def lost(self, numbers: list[int], member_id: int, why: str) -> None:
        """The connection broke after these calls were sent on it."""
        self._forget_leader(member_id, why)
        for number in numbers:
            pending = self._pending.get(number)
            if pending is None or pending.at != member_id:
                continue
            if isinstance(pending.call, ReadCall):
                pending.at = 0
                self._next(pending)
            else:
                self._end_unknown(pending)

    def _forget_leader(self, member_id: int, why: str) -> None:
        if why:
            self._trouble = f"member {member_id} of the config holder cannot be reached: {why}"
        if self._leader == member_id:
            self._leader = 0

    def _late(self, pending: _Pending) -> None:
        member_id = pending.at
        door = self._doors.get(member_id)
        sent = member_id != 0 and (door is None or door.stands())
        if sent:
            self._trouble = f"member {member_id} of the config holder gives no answer within {self._timeout_ms} ms"
            self._end_unknown(pending)
        else:
            self._trouble = self._trouble or f"no member of the config holder led within {self._timeout_ms} ms"
            self._end(pending, HolderAnswer(pending.call.call_id, Outcome.REFUSED, Reason.NOT_SENT, None))
        if self._leader == member_id:
            self._leader = 0
        if door is not None:
            # It may lead nowhere any more; the next call dials anew.
            door.hang_up()

    def _end_unknown(self, pending: _Pending) -> None:
        self._unknown += 1
        self._end(pending, HolderAnswer(pending.call.call_id, Outcome.UNKNOWN, Reason.NONE, None))

    def _end(self, pending: _Pending, answer: HolderAnswer) -> None:
        del self._pending[pending.number]
        assert pending.timer is not None
        pending.timer.cancel()
        self._answered += 1
        self._on_answer(answer)


class _Door:
    """The way to one member: a connection that is made when a call needs it, and kept."""

    def __init__(self, client: HolderClient, member_id: int, address: tuple[str, int], hello: wire.Hello) -> None:
        self.client = client
        self.member_id = member_id
        self.hello = hello.frame()
        self._address = address
        self._connection: _Connection | None = None

    def carry(self, number: int, data: bytes) -> None:
        """Send a request, when the connection stands."""
        connection = self._connection
        if connection is None:
            connection = self._connection = _Connection(self)
            host, port = self._address
            self.client.network.connect(host, port, connection, CONNECT_TIMEOUT_MS, self.client.tls)
        connection.carry(number, data)

    def stands(self) -> bool:
        """Whether what was carried has left."""
        return self._connection is not None and self._connection.stream is not None

    def hang_up(self) -> None:
        """Give the connection up; what was carried on it is lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop("")

    def close(self) -> None:
        """Hang up and tell nobody."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.forget()

    def ended(self, connection: _Connection) -> None:
        """The connection is gone by itself."""
        if self._connection is connection:
            self._connection = None


class _Connection:
    """Implements StreamHandler for one attempt. After its end nothing of it reaches the client."""

    def __init__(self, door: _Door) -> None:
        self._door: _Door | None = door
        self._reader = wire.FrameReader(wire.FRAME_BYTES_MAX)
        self.stream: Stream | None = None
        self._waiting: dict[int, bytes] = {}
        self._sent: dict[int, None] = {}

    def carry(self, number: int, data: bytes) -> None:
        if self.stream is None:
            self._waiting[number] = data
            return
        self._sent[number] = None
        self.stream.write(data)

    def forget(self) -> None:
        """Close without another word."""
        self._door = None
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.abort()

    def drop(self, why: str) -> None:
        """Close, and say what becomes of the requests."""
        door = self._door
        if door is None:
            return
        self.forget()
        door.ended(self)
        sent, waiting = list(self._sent), list(self._waiting)
        self._sent, self._waiting = {}, {}
        if sent:
            door.client.lost(sent, door.member_id, why)
        if waiting:
            door.client.unreached(waiting, door.member_id, why)

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        door = self._door
        if door is None:
            stream.abort()
            return
        self.stream = stream
        stream.write(door.hello)
        waiting, self._waiting = self._waiting, {}
        for number, data in waiting.items():
            self.carry(number, data)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        try:
            for kind, payload in self._reader.feed(data):
                # An answer's callback may have closed the client.
                door = self._door
                if door is None:
                    return
                number, rest = wire.numbered(payload)
                self._sent.pop(number, None)
                door.client.replied(number, door.member_id, kind, rest)
        except ValueError as e:
            self.drop(f"what it says is not understood: {e}")

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self.stream = None
        self.drop(str(error) or type(error).__name__ if error is not None else "it closed the connection")
