"""What applying an entry tells the node it runs on, beside the change of state. [compiled]

Rule: knows nothing of how entries are applied; nodes that nobody waits at use it as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.cluster.redirect import NOT_SERVED

if TYPE_CHECKING:
    from durakv.cluster.handoff.apply import Outcome as SlotsOutcome
    from durakv.commands.session import Session
    from durakv.commands.table import Row
    from durakv.engine.blocking import Origin, Waiter


class UnknownFormat(Exception):
    """An entry was written by a newer version; this node must stop applying rather than guess."""


class Outcome:
    """What apply tells the node beyond the state change; every method is a no-op on nodes nobody waits at."""

    def reply(self, session: Session, reply: object) -> None:
        """The answer of an item of a local batch."""

    def parked(self, session: Session, waiter: Waiter) -> None:
        """The session's request now waits in replicated state."""

    def woken(self, origin: Origin, reply: object) -> None:
        """A parked request was served or timed out."""

    def released(self, session: Session) -> None:
        """Log time has passed a deadline that a read of this session already relied on."""

    def local(self, session: Session, row: Row, argv: list[bytes]) -> object:
        """Run a node-local command queued by MULTI; returns its reply."""
        raise AssertionError("no local commands at replay")

    def evicted(self, db: int, key: bytes) -> None:
        """A key that was to make room is gone."""

    def not_served(self, slot: int) -> str:
        """The error for whoever asked for a slot that this group does not serve now; nothing keeps it."""
        return NOT_SERVED

    def slots_moved(self, outcome: SlotsOutcome) -> None:
        """An item of a slot handoff was applied."""

    def slots_stirred(self) -> None:
        """Something else was applied that slot handoffs may have to act upon."""

    def internal_error(self, index: int, command: str, error: Exception) -> None:
        """A handler failed and its unit was undone."""
