"""Peer links: framed byte streams between the nodes of a cluster, with reconnection and a lane for urgent messages.

Each node dials every other one twice and sends only on what it dialled: the control lane carries heartbeats, votes and
acknowledgements, the bulk lane entries, snapshots and forwarded requests, so a heartbeat never queues behind bytes.
Frame: u32 payload length, u32 crc32c of kind and payload, u8 kind, payload (little-endian). The first frame of a
stream is HELLO and says who calls whom in which cluster. It must not know what a payload means.
Nodes of other groups are dialled when there is something for them, and heard of what concerns several groups only.
Two things are answered on the stream they came in on: a caller that was removed from the group, whom nobody dials, is
told; and gossip, whose sender may not be known yet.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Final

from durakv.storage.record import crc
from durakv.world.ports import Buggify, Clock, Listener, Network, Stream

KIND_HELLO: Final = 0
KIND_RAFT: Final = 1
# Lease mode's messages; a node of Raft mode refuses them.
KIND_LEASE: Final = 16
KIND_FORWARD: Final = 2
KIND_REPLY: Final = 3
KIND_PUBLISH: Final = 4
# "The removal of your node is committed", to the node removed, with the index of the membership that leaves it out.
KIND_REMOVED: Final = 5
# See handover.py.
KIND_HANDOVER: Final = 6
# See neighbours.py; the only kinds between nodes of different groups.
KIND_GOSSIP: Final = 7
KIND_SLOTS: Final = 8
# A message published in another group: u32 size of the channel, channel, message.
KIND_SHOUT: Final = 9
# What a member says of itself to its leader, who tells other groups.
KIND_ABOUT: Final = 10

LANE_CONTROL: Final = 0
LANE_BULK: Final = 1

_FRAME: Final = Struct("<IIB")
_HELLO: Final = Struct("<8s16sQQBHI")
# Calls a node by its address alone, which a newcomer knows from its configuration.
ANYBODY: Final = 0
_BETWEEN_GROUPS: Final = (KIND_GOSSIP, KIND_SLOTS, KIND_SHOUT)
# Index of the committed membership.
REMOVED: Final = Struct("<Q")
_MAGIC: Final = b"DKPEER2\x00"
# A frame is at most one message: entries of max_size_per_msg, or one client request.
FRAME_BYTES_MAX: Final = 1 << 30
# The most that comes back on a dialled stream.
GOSSIP_BYTES_MAX: Final = 1 << 16
# What is published and cannot be sent yet, to each node of another group: while the link opens, and once it is open.
# Beyond that it is lost for that node, as it is for a client that does not read.
SHOUT_BYTES_WAITING: Final = 1 << 20
SHOUT_BYTES_QUEUED: Final = 32 << 20
# Beyond this much unsent data a peer is as good as unreachable; Raft resends when it comes back.
QUEUE_BYTES_MAX: Final = 96 << 20
_CONNECT_TIMEOUT_MS: Final = 1000
_RETRY_MIN_MS: Final = 50
_RETRY_MAX_MS: Final = 500

OnFrame = Callable[[int, int, bytes], None]


def _unheard(payload: bytes, stream: Stream | None) -> None:
    """This node does not gossip."""


def _untold(from_id: int, payload: bytes) -> None:
    """This node tells nobody of other members."""


def _unpublished(payload: bytes) -> None:
    """There is no other group."""


def frame(kind: int, payload: bytes) -> bytes:
    """One frame's bytes."""
    return _FRAME.pack(len(payload), crc(payload, kind), kind) + payload


class FrameReader:
    """Cuts a byte stream into frames. Raises ValueError on a damaged or oversize frame."""

    def __init__(self, first_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        # A stranger must not make this node buffer a large frame before it has said who it is.
        self._bytes_max = first_bytes_max

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """All frames completed by ``data``, in order."""
        buffer = self._buffer
        if buffer:
            buffer += data
            source: bytes | bytearray = buffer
        else:
            source = data
        out: list[tuple[int, bytes]] = []
        at = 0
        total = len(source)
        while total - at >= _FRAME.size:
            size, check, kind = _FRAME.unpack_from(source, at)
            if size > self._bytes_max:
                raise ValueError(f"frame of {size} bytes")
            end = at + _FRAME.size + size
            if end > total:
                break
            payload = bytes(source[at + _FRAME.size : end])
            if crc(payload, kind) != check:
                raise ValueError("frame checksum mismatch")
            out.append((kind, payload))
            self._bytes_max = FRAME_BYTES_MAX
            at = end
        if source is buffer:
            del buffer[:at]
        elif at < total:
            buffer += data[at:]
        return out


class OutLane:
    """One dialled stream to one peer; redials for ever with back-off while wanted."""

    def __init__(self, transport: Transport, node_id: int, address: tuple[str, int], lane: int) -> None:
        self.transport = transport
        self.node_id = node_id
        self.address = address
        self.lane = lane
        self.stream: Stream | None = None
        self.wanted = True
        self.retry_ms = _RETRY_MIN_MS
        self.reader = FrameReader(GOSSIP_BYTES_MAX)
        # What opened a link to another group goes first, then what was published meanwhile.
        self.waiting = b""
        self.shouts: list[bytes] = []
        self.shouts_bytes = 0
        self.dial()

    def dial(self) -> None:
        """Begin to connect."""
        if self.wanted and self.stream is None:
            host, port = self.address
            self.transport.network.connect(host, port, self, _CONNECT_TIMEOUT_MS, self.transport.tls)

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        if not self.wanted:
            stream.abort()
            return
        self.stream = stream
        self.retry_ms = _RETRY_MIN_MS
        self.reader = FrameReader(GOSSIP_BYTES_MAX)
        t = self.transport
        hello = _HELLO.pack(_MAGIC, t.cluster_id, t.node_id, self.node_id, self.lane, t.port, t.group)
        stream.write(frame(KIND_HELLO, hello))
        if self.waiting:
            stream.write(self.waiting)
            self.waiting = b""
        for data in self.shouts:
            stream.write(data)
        self._drop_shouts()

    def on_data(self, data: bytes) -> None:
        """Nothing is ever sent back on a dialled stream, but gossip, and that this node is a member no more."""
        try:
            for kind, payload in self.reader.feed(data):
                if kind == KIND_GOSSIP:
                    self.transport.on_gossip(payload, self.stream)
                    continue
                if kind != KIND_REMOVED or self.node_id not in self.transport.lanes:
                    raise ValueError(f"frame of kind {kind} on a dialled stream")
                self.transport.on_frame(self.node_id, kind, payload)
        except (ValueError, StructError) as e:
            self.transport.on_refused(f"stream to node {self.node_id} closed: {e}")
            if self.stream is not None:
                self.stream.abort()

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        was_open = self.stream is not None
        self.stream = None
        # Nobody wants to hear them when the node is back.
        self._drop_shouts()
        if was_open and self.wanted and self.node_id in self.transport.lanes:
            self.transport.on_down(self.node_id)
        if self.wanted:
            self.transport.clock.call_later(self.retry_ms, self.dial)
            self.retry_ms = min(self.retry_ms * 2, _RETRY_MAX_MS)

    def shout(self, data: bytes) -> bool:
        """Send a frame, or keep it while the link opens; False when there is no room."""
        if self.stream is not None:
            if self.stream.write_buffer_bytes() + len(data) > SHOUT_BYTES_QUEUED:
                return False
            self.stream.write(data)
            return True
        if self.shouts_bytes + len(data) > SHOUT_BYTES_WAITING:
            return False
        self.shouts.append(data)
        self.shouts_bytes += len(data)
        return True

    def _drop_shouts(self) -> None:
        self.shouts = []
        self.shouts_bytes = 0

    def stop(self) -> None:
        """Close and do not redial."""
        self.wanted = False
        if self.stream is not None:
            self.stream.close()


class Inbound:
    """An accepted stream; its first frame must be a HELLO of this cluster to this node."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.reader = FrameReader(_HELLO.size)
        self.stream: Stream | None = None
        self.from_id = 0
        self.group = 0

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        self.stream = stream
        self.transport.inbound[self] = None

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        t = self.transport
        try:
            frames = self.reader.feed(data)
            for kind, payload in frames:
                if kind == KIND_GOSSIP and self.from_id:
                    t.on_gossip(payload, self.stream)
                elif kind == KIND_SHOUT and self.from_id:
                    t.on_shout(payload)
                elif self.from_id:
                    if self.group != t.group and kind not in _BETWEEN_GROUPS:
                        raise ValueError(f"frame of kind {kind} from group {self.group}, this is {t.group}")
                    if kind == KIND_ABOUT:
                        t.on_about(self.from_id, payload)
                    else:
                        t.on_frame(self.from_id, kind, payload)
                else:
                    self._hello(kind, payload)
        except (ValueError, StructError) as e:
            t.on_refused(f"peer stream from node {self.from_id or 'unknown'} closed: {e}")
            if self.stream is not None:
                self.stream.abort()

    def _hello(self, kind: int, payload: bytes) -> None:
        if kind != KIND_HELLO or len(payload) != _HELLO.size:
            raise ValueError("no HELLO")
        magic, cluster_id, from_id, to_id, _, port, group = _HELLO.unpack(payload)
        t = self.transport
        if magic != _MAGIC:
            raise ValueError("not a durakv peer of this version")
        if cluster_id != t.cluster_id:
            raise ValueError(f"node {from_id} belongs to cluster {cluster_id.hex()}, this is {t.cluster_id.hex()}")
        if to_id not in (t.node_id, ANYBODY) or from_id in (t.node_id, ANYBODY):
            raise ValueError(f"node {from_id} calls node {to_id}, this is {t.node_id}; check the addresses")
        self.from_id = from_id
        self.group = group
        if self.stream is not None and group == t.group and to_id != ANYBODY:
            t.met(from_id, self.stream.peer_address()[0], port)

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self.transport.inbound.pop(self, None)
        self.stream = None
        if self.from_id and self.group == self.transport.group:
            self.transport.left(self.from_id)
            self.transport.on_down(self.from_id)


class Transport:
    """All peer links of one node; calls ``on_frame(from, kind, payload)``, ``on_down(node)``, ``on_refused(text)``."""

    def __init__(
        self, network: Network, clock: Clock, cluster_id: bytes, node_id: int, on_frame: OnFrame,
        on_down: Callable[[int], None], on_refused: Callable[[str], None], tls: str | None = None, group: int = 1,
    ) -> None:  # fmt: skip
        self.network = network
        self.clock = clock
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.group = group
        self.on_frame = on_frame
        # Called with a message and the stream to answer on.
        self.on_gossip: Callable[[bytes, Stream | None], None] = _unheard
        # Called with a member and what it says of itself.
        self.on_about: Callable[[int, bytes], None] = _untold
        # Called with what was published in another group.
        self.on_shout: Callable[[bytes], None] = _unpublished
        self.on_down = on_down
        self.on_refused = on_refused
        self.tls = tls
        self.lanes: dict[int, tuple[OutLane, OutLane]] = {}
        self.inbound: dict[Inbound, None] = {}
        self.listener: Listener | None = None
        self.port = 0
        # Addresses of callers whom the membership in force here does not name.
        self.callers: dict[int, tuple[str, int]] = {}
        # Links to nodes of other groups, by address.
        self.others: dict[tuple[str, int], tuple[OutLane, OutLane]] = {}
        self.sent = 0
        self.sent_bytes = 0
        self.buggify: Buggify | None = None

    def listen(self, host: str, port: int) -> None:
        """Accept peers. Raises OSError."""
        self.port = port
        self.listener = self.network.listen(host, port, lambda: Inbound(self), self.tls)

    def met(self, node_id: int, host: str, port: int) -> None:
        """A node of this cluster called. One whom the membership here does not name is dialled back while it calls.

        This node has just joined, or its log ends before the caller came; its leader would never hear an answer.
        """
        if node_id not in self.lanes:
            self.callers[node_id] = (host, port)
            self._dial(node_id, (host, port))

    def left(self, node_id: int) -> None:
        """A stream of a caller ended."""
        if node_id not in self.callers:
            return
        for inbound in self.inbound:
            if inbound.from_id == node_id:
                return
        del self.callers[node_id]
        lanes = self.lanes.pop(node_id)
        lanes[0].stop()
        lanes[1].stop()

    def _dial(self, node_id: int, address: tuple[str, int]) -> None:
        self.lanes[node_id] = (
            OutLane(self, node_id, address, LANE_CONTROL),
            OutLane(self, node_id, address, LANE_BULK),
        )

    def set_peers(self, addresses: dict[int, tuple[str, int]]) -> None:
        """Dial exactly these nodes (this one excepted)."""
        for node_id in addresses:
            self.callers.pop(node_id, None)
        for node_id in list(self.lanes):
            lanes = self.lanes[node_id]
            if node_id not in self.callers and addresses.get(node_id) != lanes[0].address:
                lanes[0].stop()
                lanes[1].stop()
                del self.lanes[node_id]
        for node_id, address in addresses.items():
            if node_id != self.node_id and node_id not in self.lanes:
                self._dial(node_id, address)

    def connected(self, node_id: int) -> bool:
        """Whether both lanes to the node are open."""
        lanes = self.lanes.get(node_id)
        return lanes is not None and lanes[0].stream is not None and lanes[1].stream is not None

    def send(self, node_id: int, lane: int, kind: int, payload: bytes) -> bool:
        """Queue one frame; False when there is no link or too much is queued: the frame is dropped."""
        lanes = self.lanes.get(node_id)
        if lanes is None:
            return False
        stream = lanes[lane].stream
        if stream is None or stream.write_buffer_bytes() > QUEUE_BYTES_MAX:
            return False
        if self.buggify is not None and self.buggify("reconnect"):
            stream.abort()
            return False
        data = frame(kind, payload)
        self.sent += 1
        self.sent_bytes += len(data)
        stream.write(data)
        return True

    def send_other(self, node_id: int, address: tuple[str, int], lane: int, kind: int, payload: bytes) -> bool:
        """Queue one frame for a node of another group; False while its link opens, or too much is queued.

        The last small frame of each lane that comes while the link opens is sent all the same. ``node_id`` ANYBODY:
        whoever is at that address.
        """
        lanes = self._lanes_of_other(node_id, address)
        stream = lanes[lane].stream
        data = frame(kind, payload)
        if stream is None and len(data) <= GOSSIP_BYTES_MAX:
            lanes[lane].waiting = data
        if stream is None or stream.write_buffer_bytes() > QUEUE_BYTES_MAX:
            return False
        self.sent += 1
        self.sent_bytes += len(data)
        stream.write(data)
        return True

    def shout(self, node_id: int, address: tuple[str, int], data: bytes) -> bool:
        """Queue a frame of something published for a node of another group; False when it is lost for that node.

        On the control lane: what moves slots, and must be quick, is on the other one.
        """
        sent = self._lanes_of_other(node_id, address)[LANE_CONTROL].shout(data)
        if sent:
            self.sent += 1
            self.sent_bytes += len(data)
        return sent

    def _lanes_of_other(self, node_id: int, address: tuple[str, int]) -> tuple[OutLane, OutLane]:
        lanes = self.others.get(address)
        if lanes is not None and node_id not in (lanes[0].node_id, ANYBODY):
            # Another node lives there now, or its number has become known.
            self.leave_other(address)
            lanes = None
        if lanes is None:
            lanes = (OutLane(self, node_id, address, LANE_CONTROL), OutLane(self, node_id, address, LANE_BULK))
            self.others[address] = lanes
        return lanes

    def leave_other(self, address: tuple[str, int]) -> None:
        """Drop the links to that address."""
        lanes = self.others.pop(address, None)
        if lanes is not None:
            lanes[0].stop()
            lanes[1].stop()

    def answer_strangers(self, members: tuple[int, ...], payload: bytes) -> None:
        """Send KIND_REMOVED to callers that are no members, on the streams they dialled: nobody dials them."""
        for inbound in self.inbound:
            mine = inbound.from_id and inbound.group == self.group
            if mine and inbound.from_id not in members and inbound.stream is not None:
                inbound.stream.write(frame(KIND_REMOVED, payload))

    def cut(self, node_id: int) -> None:
        """Drop the streams a node dialled: it hears that the link is broken, and dials again."""
        for inbound in list(self.inbound):
            if inbound.from_id == node_id and inbound.stream is not None:
                inbound.stream.abort()

    def close(self) -> None:
        """Stop listening and drop all links."""
        if self.listener is not None:
            self.listener.close()
        for lanes in self.lanes.values():
            lanes[0].stop()
            lanes[1].stop()
        for address in list(self.others):
            self.leave_other(address)
        self.lanes = {}
        self.callers = {}
        for inbound in list(self.inbound):
            if inbound.stream is not None:
                inbound.stream.abort()
