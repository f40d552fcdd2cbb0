"""Requests of a follower's clients, run by the leader, and pushes to other nodes' subscribers.

Each request is sent at most once. When the link or the leader is lost while a write is out, the client waits for this
node's own apply to execute it, until a new leader's first entry is applied and a few election timeouts at most: entries
name the requests of followers' clients, and every node has the same reply. What does not show up is told to be unknown
and its client is disconnected; a lost read, or what was never handed to the link, is answered with a definite error.
``epoch`` counts losses per session, so a late reply of an earlier time is recognised and dropped. Requests of an epoch
are numbered from 1: a leader that no longer knows the session takes no other first request, or its reply would be taken
for an older one's.
Forward frame: per request u64 uid, u32 epoch, u32 number, u16 db, u8 protocol, u8 type, u32 length, RESP arrays.
Reply frame: per reply u64 uid, u32 epoch, u8 flags (1 = close the client), u32 length, encoded reply (absent for a bare
close).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol

import hiredis

from durakv.commands.session import Session
from durakv.commands.spec import WRITE
from durakv.engine.entry import put_array
from durakv.engine.transactions import WATCH_LOST, weave
from durakv.replication.transport import KIND_FORWARD, KIND_PUBLISH, KIND_REPLY, LANE_BULK
from durakv.resp.encoder import encode
from durakv.resp.errors import CommandError
from durakv.resp.types import NULL_ARRAY

if TYPE_CHECKING:
    from durakv.engine.batch import Part
    from durakv.engine.engine import Engine
    from durakv.world.ports import Buggify

_REQUEST: Final = Struct("<QIIHBBI")
_REPLY: Final = Struct("<QIBI")
_PUBLISH: Final = Struct("<BI")

TYPE_COMMAND: Final = 0
TYPE_EXEC: Final = 1
TYPE_DROP: Final = 2
# A transaction of a client that watches keys.
TYPE_EXEC_WATCHED: Final = 3

FLAG_CLOSE: Final = 1
_ABORTED: Final = b"*-1\r\n"
# What a request is to the home node: a read; a write, whose reply own apply has too; one whose reply it has not.
READ_OUT: Final = 0
WRITE_OUT: Final = 1
OPAQUE_OUT: Final = 2
# An election is drawn from one to two timeouts, and the new leader must commit what the old one left.
_DOUBT_TIMEOUTS: Final = 3
_LOST_READ: Final = "CLUSTERDOWN the leader was lost before it answered this read; send it again"
_NOT_LEADING: Final = "CLUSTERDOWN this node no longer leads; nothing was logged, try again"
# Keeps one frame of forwarded requests well under what a peer accepts.
_FRAME_BYTES_SOFT: Final = 1 << 20


class Links(Protocol):
    """What forwarding needs of the peer links; see Transport."""

    @property
    def lanes(self) -> Mapping[int, object]:
        """By node id, those that are dialled."""

    def send(self, node_id: int, lane: int, kind: int, payload: bytes) -> bool: ...

    def cut(self, node_id: int) -> None: ...


class Out:
    """What a home node has out for one of its sessions.

    ``owed``: one of READ_OUT, WRITE_OUT, OPAQUE_OUT per request without a reply, in order; the last has number
    ``requests``. ``unsent`` of them wait for the end of the turn. ``executed``: replies of own apply, by number.
    """

    __slots__ = ("epoch", "executed", "leader", "owed", "parts", "requests", "session", "unsent", "writes")

    def __init__(self, session: Session, leader: int, epoch: int) -> None:
        self.session = session
        self.leader = leader
        self.epoch = epoch
        self.requests = 0
        self.writes = 0
        self.owed: deque[int] = deque()
        self.unsent = 0
        self.executed: dict[int, bytes] = {}
        # The queue of a transaction that is out.
        self.parts: list[Part] | None = None


class RemoteSink:
    """The leader's end of a forwarded session: replies go back to the home node."""

    def __init__(self, hub: ForwardHub, session: Session, epoch: int) -> None:
        self.hub = hub
        self.session = session
        self.epoch = epoch

    def flush(self) -> None:
        """See Sink."""
        s = self.session
        if s.out:
            for wire in s.out:
                self.hub.queue_reply(s.origin_node, s.uid, self.epoch, 0, wire)
            s.answered += len(s.out)
            s.out.clear()
            s.out_bytes = 0

    def close_after_flush(self) -> None:
        """See Sink."""
        self.flush()
        s = self.session
        self.hub.queue_reply(s.origin_node, s.uid, self.epoch, FLAG_CLOSE, b"")
        self.hub.engine.close_session(s)

    def kill(self) -> None:
        """See Sink."""
        self.close_after_flush()

    def pause_reading(self) -> None:
        """The home node bounds what one client may have out."""

    def resume_reading(self) -> None:
        """See pause_reading."""


class ForwardHub:
    """Both ends of forwarding on one node. flush() is called at the end of each turn."""

    def __init__(self, engine: Engine, transport: Links) -> None:
        self.engine = engine
        self.transport = transport
        self.outstanding: dict[int, Out] = {}
        # Lost with writes out; by uid, until own apply shows them or the wait ends.
        self.doubtful: dict[int, Out] = {}
        self.queued: list[Out] = []
        engine.applier.on_executed = self.executed
        self.epochs = 0
        self.requests: list[bytes] = []
        self.requests_bytes = 0
        self.replies: dict[int, list[bytes]] = {}
        self.reader = hiredis.Reader()
        self.forwarded = 0
        self.buggify: Buggify | None = None

    # -- home node -------------------------------------------------------------------------------------------------

    def forward(self, session: Session, argv: list[bytes]) -> None:
        """See Forwarder."""
        row = self.engine.table.find(argv)
        body: list[bytes] = []
        put_array(body, argv)
        if row.kind == WRITE:
            kind = OPAQUE_OUT if row.is_blocking else WRITE_OUT
        else:
            kind = OPAQUE_OUT if row.name == "client|unblock" else READ_OUT
        self._request(session, session.db, TYPE_COMMAND, b"".join(body), kind)

    def forward_exec(self, session: Session, commands: list[list[bytes]], parts: list[Part], *, watching: bool) -> None:
        """See Forwarder."""
        body: list[bytes] = []
        for argv in commands:
            put_array(body, argv)
        kind = TYPE_EXEC_WATCHED if watching else TYPE_EXEC
        # Other nodes run its writes only.
        told = WRITE_OUT if all(part.row.kind == WRITE for part in parts) else OPAQUE_OUT
        self._request(session, session.db, kind, b"".join(body), told, parts)

    def drop(self, session: Session) -> None:
        """See Forwarder."""
        self.doubtful.pop(session.uid, None)
        out = self.outstanding.pop(session.uid, None)
        if out is not None:
            self._queue(_REQUEST.pack(session.uid, out.epoch, 0, 0, 2, TYPE_DROP, 0))
            self.engine.schedule()

    def publish(self, channel: bytes, message: bytes, shard: bool) -> None:
        """See Forwarder."""
        payload = _PUBLISH.pack(1 if shard else 0, len(channel)) + channel + message
        for node_id in self.transport.lanes:
            self.transport.send(node_id, LANE_BULK, KIND_PUBLISH, payload)

    def _request(
        self, s: Session, db: int, kind: int, body: bytes, told: int, parts: list[Part] | None = None
    ) -> None:  # fmt: skip
        out = self.outstanding.get(s.uid)
        if out is None:
            self.epochs += 1
            out = Out(s, self.engine.leader_id, self.epochs)
            self.outstanding[s.uid] = out
        out.requests += 1
        out.writes += told != READ_OUT
        out.owed.append(told)
        out.unsent += 1
        self.queued.append(out)
        if parts is not None:
            # Before anything is sent: when the link turns out to be broken, nothing is outstanding afterwards.
            out.parts = parts
        self.forwarded += 1
        self._queue(_REQUEST.pack(s.uid, out.epoch, out.requests, db, s.protocol, kind, len(body)) + body)

    def _queue(self, request: bytes) -> None:
        self.requests.append(request)
        self.requests_bytes += len(request)
        if self.requests_bytes > _FRAME_BYTES_SOFT or (self.buggify is not None and self.buggify("one-request-frames")):
            self._flush_requests()

    def lost(self, node_id: int) -> None:
        """The link to ``node_id`` broke (0: the leader changed): answer what was out there, forget its clients."""
        if node_id in (0, self.engine.leader_id):
            self.requests = []
            self.requests_bytes = 0
            self.queued = []
        if self.engine.leading and not node_id:
            # Whatever ends with this node's own time as leader is answered with that.
            self._end_doubts(list(self.doubtful.values()))
        gone = [out for out in self.outstanding.values() if node_id in (0, out.leader)]
        for out in gone:
            del self.outstanding[out.session.uid]
            if out.session.watched:
                # The leader forgets this session with the link; EXEC must not succeed unwatched.
                out.session.watched = {WATCH_LOST: 0}
            if out.session.pending:
                if out.unsent == len(out.owed):
                    # Nothing of it left this node, whatever it was going to wait for.
                    out.session.blocked = False
                    self.engine.forward_lost(out.session, maybe_logged=False)
                else:
                    self._doubt(out)
        if node_id:
            images = [s for origin, s in self.engine.by_origin.items() if origin[0] == node_id != self.engine.node_id]
            if images:
                # Whatever broke, the home node must hear of it: nobody will answer these clients any more.
                self.transport.cut(node_id)
            for session in images:
                self.engine.close_session(session)

    # -- home node: what was out when the leader was lost --------------------------------------------------------

    def executed(self, asked: list[bytes], reply: object) -> None:
        """Own apply has run a follower's request: ``asked`` is its node, uid, epoch and number."""
        if int(asked[0]) != self.engine.node_id:
            return
        uid, number = int(asked[1]), int(asked[3])
        doubtful = self.doubtful.get(uid)
        out = self.outstanding.get(uid) if doubtful is None else doubtful
        if out is None or out.epoch != int(asked[2]):
            return
        at = number - out.requests + len(out.owed) - 1
        # Answered already, or parked.
        if not 0 <= at < len(out.owed) or out.owed[at] != WRITE_OUT:
            return
        out.executed[number] = encode(reply, out.session.protocol)
        if doubtful is not None:
            self._settle(doubtful)

    def _may_wait(self, out: Out) -> bool:
        """Whether own apply can answer: it has all the replies, and that an entry is committed is all that counts.

        With min-data-copies 2 only the leader knows whether two nodes hold it.
        """
        return OPAQUE_OUT not in out.owed and self.engine.settings.min_data_copies < 2

    def _doubt(self, out: Out) -> None:
        """Answer what can be answered, and wait for own apply with the rest."""
        s = out.session
        if not out.writes or not self._may_wait(out):
            self.engine.forward_lost(s, maybe_logged=out.writes > 0)
            return
        # Nothing may overtake what is owed.
        s.blocked = True
        self.doubtful[s.uid] = out
        self._settle(out)
        if out.owed:
            wait_ms = _DOUBT_TIMEOUTS * self.engine.settings.election_timeout_ms
            self.engine.clock.call_later(wait_ms, lambda: self._end_doubts([out]))

    def new_leader(self) -> None:
        """A leader's first entry is applied: whatever earlier leaders left in the log came before it."""
        if self.doubtful:
            self._end_doubts(list(self.doubtful.values()))

    def _settle(self, out: Out) -> None:
        """Answer owed requests in order, up to the first write that own apply has not run yet."""
        s = out.session
        while out.owed and not s.closing:
            number = out.requests - len(out.owed) + 1
            wire = encode(CommandError(_LOST_READ), s.protocol)
            if out.owed[0] == WRITE_OUT:
                found = out.executed.pop(number, None)
                if found is None:
                    return
                wire = found
            out.owed.popleft()
            s.pending -= 1
            self.engine.emit(s, wire)
        self.doubtful.pop(s.uid, None)
        if not s.closing:
            s.blocked = False
            self.engine.wake(s)

    def _end_doubts(self, outs: list[Out]) -> None:
        """The wait is over: what own apply has not run may still have happened."""
        for out in outs:
            if self.doubtful.get(out.session.uid) is out:
                del self.doubtful[out.session.uid]
                self.engine.forward_lost(out.session, maybe_logged=True)
                self.engine.schedule()

    # -- both ------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what this turn queued."""
        if self.requests:
            self._flush_requests()
        if self.replies:
            replies = self.replies
            self.replies = {}
            for node_id, parts in replies.items():
                if not self.transport.send(node_id, LANE_BULK, KIND_REPLY, b"".join(parts)):
                    # The home node must hear that these answers will not come, or its clients wait for ever.
                    self.transport.cut(node_id)
                    self.lost(node_id)

    def _flush_requests(self) -> None:
        requests = self.requests
        self.requests = []
        self.requests_bytes = 0
        leader = self.engine.leader_id
        if leader == 0 or not self.transport.send(leader, LANE_BULK, KIND_FORWARD, b"".join(requests)):
            self.lost(leader)
            return
        for out in self.queued:
            out.unsent = 0
        self.queued = []

    def on_frame(self, from_id: int, kind: int, payload: bytes) -> None:
        """A frame of one of this module's kinds. Raises ValueError or struct.error when malformed."""
        if kind == KIND_FORWARD:
            self._on_requests(from_id, payload)
        elif kind == KIND_REPLY:
            self._on_replies(from_id, payload)
        elif kind == KIND_PUBLISH:
            shard, size = _PUBLISH.unpack_from(payload)
            at = _PUBLISH.size
            channel, message = payload[at : at + size], payload[at + size :]
            if shard:
                self.engine.pubsub.deliver_shard(channel, message)
            else:
                self.engine.pubsub.deliver(channel, message)
        else:
            raise ValueError(f"unknown frame kind {kind}")

    def _on_replies(self, from_id: int, payload: bytes) -> None:
        at = 0
        while at < len(payload):
            uid, epoch, flags, size = _REPLY.unpack_from(payload, at)
            at += _REPLY.size
            wire = payload[at : at + size]
            at += size
            out = self.outstanding.get(uid)
            if out is None or out.epoch != epoch or out.leader != from_id:
                continue
            s = out.session
            if flags & FLAG_CLOSE:
                del self.outstanding[uid]
                self.engine.forward_lost(s, maybe_logged=out.writes > 0)
                self.engine.close_client(s)
                continue
            if wire.startswith(b"-UNKNOWN ") and self._may_wait(out):
                # The leader is none any more; this node may still see the request executed.
                del self.outstanding[uid]
                self._doubt(out)
                continue
            s.pending -= 1
            out.owed.popleft()
            if out.executed:
                out.executed.pop(out.requests - len(out.owed), None)
            if s.pending == 0:
                s.blocked = False
                out.writes = 0
                if out.parts is not None:
                    # A transaction is a session's last request; aborted or refused, nothing of it runs here either.
                    if wire[:1] == b"*" and wire != _ABORTED:
                        wire = weave(self.engine, s, out.parts, wire)
                    out.parts = None
            self.engine.emit(s, wire)
            if s.late:
                self.engine.pubsub.show_late(s)

    # -- leader ----------------------------------------------------------------------------------------------------

    def queue_reply(self, node_id: int, uid: int, epoch: int, flags: int, wire: bytes) -> None:
        """One reply for a forwarded session."""
        parts = self.replies.setdefault(node_id, [])
        parts.append(_REPLY.pack(uid, epoch, flags, len(wire)))
        parts.append(wire)

    def _on_requests(self, from_id: int, payload: bytes) -> None:
        engine = self.engine
        at = 0
        while at < len(payload):
            uid, epoch, number, db, protocol, kind, size = _REQUEST.unpack_from(payload, at)
            at += _REQUEST.size
            body = payload[at : at + size]
            at += size
            s = engine.by_origin.get((from_id, uid))
            if kind == TYPE_DROP:
                if s is not None:
                    engine.close_session(s)
                continue
            if s is not None and isinstance(s.sink, RemoteSink) and s.sink.epoch != epoch:
                if epoch < s.sink.epoch:
                    # Late, from a broken stream: the home node has already answered it.
                    continue
                engine.close_session(s)
                s = None
            if not engine.leading:
                # Refused, never forwarded again.
                self.queue_reply(from_id, uid, epoch, 0, encode(CommandError(_NOT_LEADING), protocol))
                continue
            if s is None:
                if number != 1:
                    self.queue_reply(from_id, uid, epoch, FLAG_CLOSE, b"")
                    continue
                s = engine.open_remote(from_id, uid)
                s.sink = RemoteSink(self, s, epoch)
                s.epoch = epoch
            s.protocol = protocol
            s.db = db
            self._run(s, kind, body)
        engine.schedule()

    def _run(self, s: Session, kind: int, body: bytes) -> None:
        """Dispatch one forwarded request."""
        engine = self.engine
        argvs = self._parse(body)
        if kind == TYPE_COMMAND:
            engine.dispatch(s, argvs[0])
            return
        if kind == TYPE_EXEC_WATCHED and not s.watched:
            # The image that knew the watched keys went with a broken link.
            engine.respond(s, NULL_ARRAY)
            return
        s.multi = [(engine.table.find(argv), argv) for argv in argvs]
        engine.dispatch(s, [b"EXEC"])

    def end_images(self) -> None:
        """This node no longer leads: forget other nodes' clients, which were all answered."""
        engine = self.engine
        for s in list(engine.by_origin.values()):
            if isinstance(s.sink, RemoteSink):
                s.sink.flush()
                engine.close_session(s)

    def _parse(self, body: bytes) -> list[list[bytes]]:
        self.reader.feed(body)
        out: list[list[bytes]] = []
        try:
            while True:
                argv = self.reader.gets()
                if argv is False:
                    return out
                out.append(argv)
        except hiredis.ProtocolError as e:
            self.reader = hiredis.Reader()
            raise ValueError(f"malformed forwarded request: {e}") from None
