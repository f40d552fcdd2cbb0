"""An orderly stop: hand leadership over first where somebody can take it, within a bounded time.

Rule: the only place that decides when a node that was told to stop does. A pinned leader, whose stop leaves the group
without a leader, first waits for the node the witness stands in for; when that does not come back it stops all the
same and says what that means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from durakv.observe.events import WARNING, Event

if TYPE_CHECKING:
    from durakv.replication.node import GroupNode

# How long a successor may take.
_PATIENCE_MS: Final = 3000


@dataclass(frozen=True, slots=True)
class StoppedPinned(Event):
    """The group cannot serve until this node is back."""

    level = WARNING

    detail: str


class Stopping:
    """One node's end. ``begun_ns`` 0 = nobody has asked for it."""

    def __init__(self, node: GroupNode) -> None:
        self.node = node
        self.begun_ns = 0

    def begin(self, *, transfer: bool, now: bool) -> None:
        """See Consensus.stop; a second call changes nothing."""
        node = self.node
        if node.stopping is None or self.begun_ns:
            return
        self.begun_ns = node.clock.monotonic_ns()
        if transfer and not now:
            self._step()
        else:
            self._finish()

    def _step(self) -> None:
        node = self.node
        waited_ms = (node.clock.monotonic_ns() - self.begun_ns) // 1_000_000
        if not node.leading or waited_ms > self._patience_ms():
            self._finish()
            return
        if not node.core.transferee and not self._hand_over() and not node.witness.stands_in():
            self._finish()
            return
        node.clock.call_later(node.tick_ms, self._step)

    def _patience_ms(self) -> int:
        node = self.node
        if node.witness.stands_in() and node.most_caught_up():
            # The other node is back and catches up: worth the whole grace period.
            return max(_PATIENCE_MS, int(node.engine.settings.shutdown_timeout) * 1000)
        return _PATIENCE_MS

    def _hand_over(self) -> bool:
        """Whether somebody was asked to take over."""
        node = self.node
        if not node.try_transfer(node.most_caught_up()):
            return False
        node.engine.schedule()
        return True

    def _finish(self) -> None:
        node = self.node
        if node.witness.pinned():
            node.engine.observer.event(
                StoppedPinned(
                    f"stops as the only node with the newest writes, while witness {node.witness.node_id} stands in "
                    "for the other: nobody can lead until this node is started again; start it first"
                )
            )
        if node.stopping is not None:
            node.stopping()
