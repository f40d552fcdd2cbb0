"""Per-connection state that commands may see and change: user, database, protocol, transaction, subscriptions.

Rule: plain state and the outgoing byte queue; no parsing, no sockets, no engine. A forwarded client has a Session on
the leader too (``origin_node`` tells whose). [compiled]
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from durakv.acl.users import User
    from durakv.commands.table import Row


class Sink(Protocol):
    """Where a session's output goes; implemented by client connections and by peer links."""

    def flush(self) -> None:
        """Send what the session has queued."""

    def close_after_flush(self) -> None:
        """Send what is queued, then close."""

    def kill(self) -> None:
        """Close now."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Link(Protocol):
    """What CLIENT LIST and INFO show of a client's connection; asked only then."""

    def waiting_bytes(self) -> tuple[int, int]:
        """(received and not yet run, handed to the connection and not yet taken by the kernel)."""


class Tracked:
    """How CLIENT TRACKING is on: its options, and the messages that wait for replies to go first.

    ``answered`` counts replies since tracking began; ``waiting`` holds (its value to wait for, keys or None for all).
    """

    def __init__(self) -> None:
        self.bcast = False
        self.optin = False
        self.optout = False
        self.noloop = False
        # CLIENT CACHING was sent and holds for the next command.
        self.caching = False
        # Id of the client that is told instead; 0 is the tracked one itself.
        self.redirect = 0
        self.broken = False
        self.prefixes: dict[bytes, None] = {}
        self.answered = 0
        self.waiting: deque[tuple[int, list[bytes] | None]] = deque()


class Session:
    """One client. ``out`` collects encoded replies; whoever owns the transport flushes it.

    ``pending`` counts requests accepted and not answered; while it is above zero replies must wait their turn, which
    the engine arranges. ``held`` are parsed requests that may not start before ``pending`` is zero again.
    """

    def __init__(self, session_id: int, origin_node: int) -> None:
        self.id = session_id
        self.origin_node = origin_node
        # Names the session in the log; unique across restarts of its node.
        self.uid = session_id
        self.user: User | None = None
        self.authenticated = False
        self.db = 0
        self.protocol = 2
        self.name = b""
        self.lib_name = b""
        self.lib_ver = b""
        self.address = ""
        self.local_address = ""
        # Letters of what CLIENT CAPA claimed.
        self.capa = ""
        self.created_ms = 0
        self.last_ms = 0
        # The request that runs, waits or ran last, for CLIENT LIST; a reference is all it costs.
        self.last_row: Row | None = None
        self.commands = 0
        self.bytes_in = 0
        self.bytes_out = 0
        # Transactions: None outside MULTI, else queued (row, argv); `multi_error` makes EXEC abort.
        self.multi: list[tuple[Row, list[bytes]]] | None = None
        self.multi_error = False
        # (db, key) -> log index at which WATCH was applied.
        self.watched: dict[tuple[int, bytes], int] = {}
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        # Messages this session's own PUBLISH sent to it: they follow the reply.
        self.late: list[bytes] = []
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.flush_wanted = False
        self.pending = 0
        self.held: deque[list[bytes]] = deque()
        self.blocked = False
        self.readonly = False
        self.closing = False
        # CLIENT REPLY: b"on", b"off" or b"skip" (the next reply only).
        self.reply_mode = b"on"
        self.skip_next = False
        self.no_evict = False
        self.no_touch = False
        self.monitor = False
        # A Redis or Valkey server that follows this node; only durakv/replicas sets it.
        self.replica = False
        # None while CLIENT TRACKING is off; only engine/tracking.py sets it.
        self.tracking: Tracked | None = None
        # Log index of this session's last write, for WAIT, WAITAOF and durability tokens.
        self.last_write_index = 0
        # Another node's client: its epoch there (0: this node's own), and how many of its requests were answered.
        self.epoch = 0
        self.answered = 0
        # Replies computed from an expired key wait in `gated` until log time has passed the deadline.
        self.gates = 0
        self.gated: list[bytes] = []
        # The transport: connection, peer link or None (closed, or tests reading `out`).
        self.sink: Sink | None = None
        # None for another node's client.
        self.link: Link | None = None

    def write(self, wire: bytes) -> None:
        """Queue encoded bytes."""
        self.out.append(wire)
        self.out_bytes += len(wire)

    def next_number(self) -> int:
        """Which request of its epoch the one is that is accepted next; each gets exactly one reply."""
        return self.answered + len(self.out) + len(self.gated) - self.gates + self.pending + 1

    def in_pubsub(self) -> bool:
        """Whether RESP2's restricted subscriber mode applies."""
        return bool(self.channels or self.patterns or self.shard_channels)
