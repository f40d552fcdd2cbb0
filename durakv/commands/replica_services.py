"""What commands may ask of those parts of a node that send its data out: replicas and files.

Rule: protocols and plain facts only; durakv.replicas implements them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from durakv.resp.types import Reply

if TYPE_CHECKING:
    from durakv.commands.session import Session


class ReplicaRow:
    """A connected replica: ``state`` is INFO's word, ``offset`` counts bytes, ``lag_s`` is -1 when it never says."""

    __slots__ = ("host", "lag_s", "offset", "port", "state")

    def __init__(self, host: str, port: int, state: str, offset: int, lag_s: int) -> None:
        self.host = host
        self.port = port
        self.state = state
        self.offset = offset
        self.lag_s = lag_s


class ReplicaFacts:
    """The stream replicas follow: its id, how many bytes it has, which of them are kept; and the replicas."""

    __slots__ = ("held_bytes", "offset", "replid", "rows", "start")

    def __init__(self, replid: str, offset: int, start: int, held_bytes: int) -> None:
        self.replid = replid
        self.offset = offset
        self.start = start
        self.held_bytes = held_bytes
        self.rows: list[ReplicaRow] = []


class ReplicaService(Protocol):
    """Servers of Redis and Valkey that follow this node."""

    full_syncs: int
    partial_syncs: int
    partial_refusals: int

    def configure(self, s: Session, argv: list[bytes]) -> Reply:
        """REPLCONF. Raises CommandError."""

    def sync(self, s: Session, argv: list[bytes]) -> Reply:
        """SYNC or PSYNC; what follows is written to the session. Raises CommandError."""

    def forget(self, s: Session) -> None:
        """The connection is gone."""

    def facts(self) -> ReplicaFacts | None:
        """None while there is no stream."""


class SaveService(Protocol):
    """RDB files in the data directory. Times are Unix ms; durations are seconds, -1 for none yet."""

    last_save_ms: int
    last_ok: bool
    last_duration_s: int
    saves: int

    def save(self, s: Session) -> Reply:
        """SAVE: answers the session when the file is there. Raises CommandError."""

    def begin(self, *, schedule: bool) -> Reply:
        """BGSAVE. Raises CommandError."""

    def cancel(self) -> Reply:
        """BGSAVE CANCEL. Raises CommandError."""

    def running_s(self) -> int:
        """For how many seconds a file has been written; -1 when none is."""

    def changes(self) -> int:
        """Units of change applied since the last file."""
