"""What a node tells its operators: one class per event, with the facts that matter then.

Rule: code that notices something builds an event and hands it to an Observer; it makes no text. Nothing is emitted per
command on the success path.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Protocol

DEBUG = "debug"
VERBOSE = "verbose"
NOTICE = "notice"
WARNING = "warning"
LEVELS = (DEBUG, VERBOSE, NOTICE, WARNING, "nothing")


@dataclass(frozen=True, slots=True)
class Event:
    """``level`` is one of LEVELS; ``kind()`` is the event's name in log lines."""

    level: ClassVar[str] = NOTICE

    @classmethod
    def kind(cls) -> str:
        """``LeaderElected`` -> ``leader-elected``."""
        return "".join("-" + c.lower() if c.isupper() else c for c in cls.__name__).lstrip("-")

    def facts(self) -> list[tuple[str, object]]:
        """(name, value) in declaration order."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


@dataclass(frozen=True, slots=True)
class NodeStarted(Event):
    """Ready to serve: the log is replayed and clients are accepted."""

    version: str
    node_id: int
    cluster_id: str
    port: int
    peer_port: int
    applied_index: int
    keys: int


@dataclass(frozen=True, slots=True)
class NodeStopping(Event):
    """An orderly stop began; ``reason`` is SHUTDOWN or a signal's name."""

    reason: str


@dataclass(frozen=True, slots=True)
class RoleChanged(Event):
    """This node became leader, follower, candidate or learner; ``leader_id`` 0 when nobody leads."""

    role: str
    term: int
    leader_id: int


@dataclass(frozen=True, slots=True)
class LogRecovered(Event):
    """Boot read the log: its range, and the torn bytes dropped from its end."""

    first_index: int
    last_index: int
    torn_bytes: int
    took_ms: int


@dataclass(frozen=True, slots=True)
class SlowSync(Event):
    """An fsync took long; writes waited for it."""

    level: ClassVar[str] = WARNING
    took_ms: int
    pending_bytes: int


@dataclass(frozen=True, slots=True)
class DiskRefusal(Event):
    """Writes are refused (or accepted again, ``reason`` empty) because of the disk."""

    level: ClassVar[str] = WARNING
    reason: str
    free_bytes: int


@dataclass(frozen=True, slots=True)
class InternalError(Event):
    """A handler failed with something other than a client's error and was undone; ``index`` 0 outside apply."""

    level: ClassVar[str] = WARNING
    index: int
    command: str
    error: str


@dataclass(frozen=True, slots=True)
class PeerConnected(Event):
    """A link to another node is up."""

    peer_id: int
    address: str


@dataclass(frozen=True, slots=True)
class PeerLost(Event):
    """A link to another node broke."""

    level: ClassVar[str] = WARNING
    peer_id: int
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class MembersChanged(Event):
    """A membership change was committed; ids in ascending order."""

    index: int
    voters: tuple[int, ...]
    learners: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClientRefused(Event):
    """A connection was closed or not accepted, and why."""

    level: ClassVar[str] = VERBOSE
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigChanged(Event):
    """CONFIG SET changed directives; values of secrets are not told."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopStalled(Event):
    """The event loop did not run for a while; elections may follow."""

    level: ClassVar[str] = WARNING
    took_ms: int


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something worth a line that needs no class of its own."""

    what: str
    detail: str


class Observer(Protocol):
    """Whoever wants to hear: the log, a test, a simulator."""

    def event(self, event: Event) -> None:
        """Called on the loop thread; must return quickly and never raise."""
