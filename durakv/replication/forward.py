"""Requests of a follower's clients, run by the leader, and pushes to other nodes' subscribers.

Each request is sent at most once. When the link or the leader is lost while a write is out, the client is told that its
outcome is unknown and is disconnected; a lost read is answered with a definite error. ``epoch`` counts such losses per
session, so a late reply of an earlier time is recognised and dropped. Requests of an epoch are numbered from 1: a
leader that no longer knows the session takes no other first request, or its reply would be taken for an older one's.
Forward frame: per request u64 uid, u32 epoch, u32 number, u16 db, u8 protocol, u8 type, u32 length, RESP arrays.
Reply frame: per reply u64 uid, u32 epoch, u8 flags (1 = close the client), u32 length, encoded reply (absent for a bare
close).
"""

from __future__ import annotations

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
    """What a home node has out for one of its sessions."""

    __slots__ = ("epoch", "leader", "parts", "requests", "session", "writes")

    def __init__(self, session: Session, leader: int, epoch: int) -> None:
        self.session = session
        self.leader = leader
        self.epoch = epoch
        self.requests = 0
        self.writes = 0
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
        self._request(session, session.db, TYPE_COMMAND, b"".join(body), row.kind == WRITE)

    def forward_exec(self, session: Session, commands: list[list[bytes]], parts: list[Part], *, watching: bool) -> None:
        """See Forwarder."""
        body: list[bytes] = []
        for argv in commands:
            put_array(body, argv)
        kind = TYPE_EXEC_WATCHED if watching else TYPE_EXEC
        self._request(session, session.db, kind, b"".join(body), True, parts)

    def drop(self, session: Session) -> None:
        """See Forwarder."""
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
        self, s: Session, db: int, kind: int, body: bytes, is_write: bool, parts: list[Part] | None = None
    ) -> None:  # fmt: skip
        out = self.outstanding.get(s.uid)
        if out is None:
            self.epochs += 1
            out = Out(s, self.engine.leader_id, self.epochs)
            self.outstanding[s.uid] = out
        out.requests += 1
        out.writes += is_write
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
        gone = [out for out in self.outstanding.values() if node_id in (0, out.leader)]
        for out in gone:
            del self.outstanding[out.session.uid]
            if out.session.watched:
                # The leader forgets this session with the link; EXEC must not succeed unwatched.
                out.session.watched = {WATCH_LOST: 0}
            if out.session.pending:
                self.engine.forward_lost(out.session, maybe_logged=out.writes > 0)
        if node_id:
            images = [s for origin, s in self.engine.by_origin.items() if origin[0] == node_id != self.engine.node_id]
            if images:
                # Whatever broke, the home node must hear of it: nobody will answer these clients any more.
                self.transport.cut(node_id)
            for session in images:
                self.engine.close_session(session)

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
            s.pending -= 1
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
