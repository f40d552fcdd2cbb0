"""The seam between the engine and whatever makes entries durable: Raft now, the lease protocol later.

Rule: the engine knows batches, payloads and indexes; it knows no terms beyond equality, no peers and no disks.
"""

from __future__ import annotations

from typing import Protocol

from durakv.commands.services import GroupView
from durakv.commands.session import Session
from durakv.engine.batch import Batch, Part


class Dropped(Exception):
    """A proposal was refused before it was appended: definitely no effect. ``text`` is the client's error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Committed(Protocol):
    """A log entry as apply needs it; kind 0 carries commands, 1 starts a leader's term, 2 changes membership."""

    index: int
    term: int
    kind: int
    data: bytes


class Consensus(Protocol):
    """What the engine asks of replication. All calls are on the loop thread."""

    def propose(self, data: bytes) -> tuple[int, int]:
        """Append one entry; returns (index, term). Raises Dropped."""

    def read_index(self, batch: Batch) -> None:
        """Prove leadership for a batch of reads; answers through Engine.reads_ready or reads_failed, in order.

        A batch given before an entry was proposed is answered before that entry is committed: replies of a session
        that reads and then writes would change places otherwise.
        """

    def can_take(self, batch: Batch) -> bool:
        """Whether ``batch`` may become an entry now; otherwise Engine.turn_end is called again when it may."""

    def lease_valid(self) -> bool:
        """Whether reads may be served at once without a round."""

    def pump(self) -> None:
        """Let the protocol act on what was proposed in this turn."""

    def uncommitted_bytes(self) -> int: ...

    def durable_index(self) -> int:
        """Highest index on this node's disk."""

    def stable_replicas(self, index: int) -> int:
        """How many other full nodes hold ``index`` on disk; leader only."""

    def quorum(self) -> int:
        """Voters needed to commit."""

    def view(self) -> GroupView: ...

    def transfer(self, node_id: int, *, force: bool) -> None:
        """Begin to hand leadership over (0: to the most caught-up voter). Raises CommandError.

        On a follower only to itself: it asks its leader. ``force``: without a leader it starts an election.
        """

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """Propose a membership change; answers the session. Raises CommandError."""

    def stop(self, *, transfer: bool, now: bool) -> None: ...


class Forwarder(Protocol):
    """Sends a follower's client requests to the leader, each at most once."""

    def forward(self, session: Session, argv: list[bytes]) -> None: ...

    def forward_exec(self, session: Session, commands: list[list[bytes]], parts: list[Part], *, watching: bool) -> None:
        """A transaction: ``commands`` for the leader, SELECTs included, of the whole queue ``parts``.

        It starts in the session's database. Its answer goes through transactions.weave() when it ran.
        ``watching``: the client watches keys, so the leader refuses to run it when it no longer knows them.
        """

    def drop(self, session: Session) -> None:
        """The client has gone; the leader may forget it."""

    def publish(self, channel: bytes, message: bytes, shard: bool) -> None:
        """Tell the other nodes' subscribers."""
