"""A member's connections to the other members: dialled for ever, written to, never read.

Rule: a message that cannot leave now is dropped, for Raft sends again what still matters. Nothing but the holder's own
small messages travels here, so no entry of a data shard is ever in their way. Must not know what messages mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.holder import wire
from durakv.holder.address import Members
from durakv.world.ports import Clock, Network, Stream

CONNECT_TIMEOUT_MS: Final = 1000
RETRY_MIN_MS: Final = 50
RETRY_MAX_MS: Final = 500
# A connection that ended sooner was not wanted at the other end.
WELCOME_NS: Final = 1_000_000_000
# A peer that leaves so much unread is as good as gone.
UNREAD_BYTES_MAX: Final = 1 << 20


class Peers:
    """Links to all members but the own one. ``on_down(member)`` hears when one broke."""

    def __init__(
        self, network: Network, clock: Clock, cluster_id: bytes, own_id: int, members: Members,
        on_down: Callable[[int], None], tls: str | None = None,
    ) -> None:  # fmt: skip
        self.network = network
        self.clock = clock
        self.tls = tls
        self.on_down = on_down
        self._links = {
            member_id: _Link(self, member_id, address, wire.Hello(cluster_id, wire.AS_MEMBER, own_id, member_id))
            for member_id, address in members.items()
            if member_id != own_id
        }

    def start(self) -> None:
        """Begin to dial."""
        for link in self._links.values():
            link.dial()

    def send(self, member_id: int, message: bytes) -> bool:
        """Whether the message is on its way."""
        link = self._links.get(member_id)
        return link is not None and link.send(wire.frame(wire.RAFT, message))

    def connected(self, member_id: int) -> bool:
        """Whether the link to that member stands."""
        link = self._links.get(member_id)
        return link is not None and link.stream is not None

    def close(self) -> None:
        """Hang up and dial no more."""
        for link in self._links.values():
            link.close()


class _Link:
    """Implements StreamHandler for one peer."""

    def __init__(self, peers: Peers, member_id: int, address: tuple[str, int], hello: wire.Hello) -> None:
        self.stream: Stream | None = None
        self._peers = peers
        self._member_id = member_id
        self._address = address
        self._hello = hello.frame()
        self._retry_ms = RETRY_MIN_MS
        self._opened_ns = 0
        self._closed = False

    def dial(self) -> None:
        if not self._closed:
            host, port = self._address
            self._peers.network.connect(host, port, self, CONNECT_TIMEOUT_MS, self._peers.tls)

    def send(self, data: bytes) -> bool:
        stream = self.stream
        if stream is None:
            return False
        stream.write(data)
        if stream.write_buffer_bytes() > UNREAD_BYTES_MAX:
            stream.abort()
        return True

    def close(self) -> None:
        self._closed = True
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.abort()

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        if self._closed:
            stream.abort()
            return
        self.stream = stream
        self._opened_ns = self._peers.clock.monotonic_ns()
        stream.write(self._hello)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler. A member that was dialled says nothing; what is wrong it logs itself."""
        if self.stream is not None:
            self.stream.abort()

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        opened, self.stream = self.stream is not None, None
        if self._closed:
            return
        clock = self._peers.clock
        stood = opened and clock.monotonic_ns() - self._opened_ns >= WELCOME_NS
        self._retry_ms = RETRY_MIN_MS if stood else min(self._retry_ms * 2, RETRY_MAX_MS)
        clock.call_later(self._retry_ms, self.dial)
        if opened:
            self._peers.on_down(self._member_id)
