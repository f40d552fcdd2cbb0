"""What the leader-side drivers of a handoff ask of their host, and the bounds they keep to.

Rule: drivers touch nothing: after every call into one the host takes what has gathered here and does it, in this order:
notices first (a fence parks clients before it is proposed), then proposals, then messages.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.handoff.entries import Runs
from durakv.cluster.handoff.messages import Message

# -- notices
# Admit nothing on these slots any more: clients wait (reads too), for handoff-park-limit at most.
PARK: Final = "park"
# Serve who waits: the slots stay.
SERVE: Final = "serve"
# Who waits, parked or blocked in a command, gets MOVED; shard channels lose their subscribers.
MOVED: Final = "moved"
# Delay each write on these slots by ``delay_ms``; 0: no longer.
THROTTLE: Final = "throttle"
# Something an operator has to know; ``text``.
ALARM: Final = "alarm"


class Notice:
    """See the constants above."""

    __slots__ = ("delay_ms", "kind", "mid", "runs", "text")

    def __init__(self, kind: str, mid: bytes, runs: Runs, *, delay_ms: int = 0, text: str = "") -> None:
        self.kind = kind
        self.mid = mid
        self.runs = runs
        self.delay_ms = delay_ms
        self.text = text


class Actions:
    """Filled by drivers, emptied by the host. ``messages`` are (to the leader of which group, what)."""

    __slots__ = ("messages", "notices", "proposals")

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.proposals: list[list[bytes]] = []
        self.messages: list[tuple[int, Message]] = []

    def take(self) -> tuple[list[Notice], list[list[bytes]], list[tuple[int, Message]]]:
        """All that has gathered: (notices, proposals, messages)."""
        taken = (self.notices, self.proposals, self.messages)
        self.notices, self.proposals, self.messages = [], [], []
        return taken


class Limits:
    """Bounds and patience; the defaults suit a local network. Set what differs before drivers are made."""

    __slots__ = (
        "aim_for_ms", "batch_bytes", "drain_ms_aimed", "election_timeout_ms", "fenced_bytes_max", "fenced_ms_max",
        "give_up_after_ms", "pause_ms_max",
        "prepare_ms_max", "query_after_ms", "resolve_after_ms", "retry_ms", "throttle_after_ms", "throttle_ms_max",
        "turn_bytes", "window_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        # About a hundred small keys: a millisecond of one turn of the loop, in which clients wait.
        self.batch_bytes = 16 << 10
        self.turn_bytes = 16 << 10
        # Sent and not yet committed by the target, which may apply all of it in one turn: some ten milliseconds.
        self.window_bytes = 192 << 10
        # How long an answer, or one's own proposal, may take before it is asked for again.
        self.retry_ms = 500
        # A target that was not heard of for as long is not trusted with a fence.
        self.election_timeout_ms = 1000
        # handoff-max-pause-ms: fence when the rest is expected to take no longer.
        self.pause_ms_max = 100
        # That is the most. What is on its way at the end of the scan is soon gone, so this is waited for, for so long.
        self.drain_ms_aimed = 5
        self.aim_for_ms = 500
        # How long a session may fail to begin before the migration is given up.
        self.prepare_ms_max = 30_000
        # handoff-throttle-after-ms: slow down writers of the slots when catching up takes longer.
        self.throttle_after_ms = 5000
        self.throttle_ms_max = 100
        # Give up when even that does not help.
        self.give_up_after_ms = 60_000
        # Fenced and nothing moves: ask the target for a decision.
        self.resolve_after_ms = 2000
        # Fenced for so long, which handoff-park-limit should not be below: ask, even when it moves.
        self.fenced_ms_max = 5000
        # A new leader that finds itself fenced sends no more than this once again; it asks for a decision instead.
        self.fenced_bytes_max = 16 << 20
        # The target heard nothing: ask the source what is with it.
        self.query_after_ms = 5000
