"""What a plan consists of: moves, reports on what no move can mend, and the limits a plan keeps.

Rule: data only. Shares are of a group's fullest resource, 1.0 being all it can take.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.rebalance.load import MIB, Load

# Why a move is made.
HOT: Final = "hot"
MEMORY: Final = "memory"
SKEW: Final = "skew"
JOIN: Final = "join"
DRAIN: Final = "drain"

# What no move can mend.
UNSPLITTABLE: Final = "unsplittable-hot-slot"
NO_TARGET: Final = "no-target"
CLUSTER_FULL: Final = "cluster-full"
DOES_NOT_FIT: Final = "does-not-fit"
STOPPED: Final = "stopped"


class Limits:
    """All knobs of the rebalancer, with their defaults. Times in milliseconds, sizes in bytes."""

    def __init__(self) -> None:
        # -- when ----------------------------------------------------------------------------------------------------
        self.high = 0.75
        self.hot_for_ms = 60_000
        self.skew = 0.2
        self.skew_for_ms = 600_000
        self.memory_high = 0.85
        self.slot_cooldown_ms = 600_000
        self.group_cooldown_ms = 60_000
        # -- what ----------------------------------------------------------------------------------------------------
        self.job_bytes = 256 * MIB
        self.job_slots = 1024
        # A slot costs this much apart from its bytes: a fence, routing news, a line in every client's table. It is what
        # keeps thousands of nearly idle slots from looking cheap.
        self.slot_overhead_bytes = 1.0 * MIB
        # A slot below this share of its group is not worth a move.
        self.negligible = 5e-5
        # A plan that lowers nothing by this much is not worth making.
        self.gain = 0.01
        # -- where ---------------------------------------------------------------------------------------------------
        self.memory_target = 0.75
        # -- how many at once ----------------------------------------------------------------------------------------
        self.streams_per_source = 2
        self.streams_per_target = 2
        self.stream_bytes_s = 50.0 * MIB
        self.bandwidth_bytes_s = 400.0 * MIB
        # -- whether it helped ---------------------------------------------------------------------------------------
        self.settle_ms = 60_000
        self.failures = 3

    def streams(self) -> int:
        """Streams that may run at once in the whole cluster."""
        return max(1, int(self.bandwidth_bytes_s / self.stream_bytes_s))


class Move:
    """Slots to move together, ascending, and what that does to both groups' shares."""

    __slots__ = ("copy_bytes", "load", "reason", "slots", "source", "source_after", "source_before", "target",
                 "target_after", "target_before")  # fmt: skip

    def __init__(self, source: int, target: int, reason: str) -> None:
        self.source = source
        self.target = target
        self.reason = reason
        self.slots: list[int] = []
        self.load = Load()
        self.copy_bytes = 0.0
        self.source_before = 0.0
        self.source_after = 0.0
        self.target_before = 0.0
        self.target_after = 0.0


class Report:
    """What an operator should know of a group. ``slot`` is -1 where it is not about one; ``share`` is what is at issue.

    ``missing_bytes``: of slots that find no room, for DOES_NOT_FIT.
    """

    __slots__ = ("group", "kind", "missing_bytes", "share", "slot", "text")

    def __init__(self, kind: str, group: int, share: float, text: str) -> None:
        self.kind = kind
        self.group = group
        self.share = share
        self.text = text
        self.slot = -1
        self.missing_bytes = 0.0


class Plan:
    """Moves to start now, in order, and reports. ``high_before`` and ``high_after``: the highest share of any group."""

    __slots__ = ("high_after", "high_before", "mean", "moves", "reports", "shares_after", "shares_before")

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.reports: list[Report] = []
        self.shares_before: dict[int, float] = {}
        self.shares_after: dict[int, float] = {}
        self.high_before = 0.0
        self.high_after = 0.0
        self.mean = 0.0

    def filled(self, group: int, gain: float) -> bool:
        """Whether a joining group has its part of the load now, so that it need not be called joining any more.

        ``gain`` is that of the limits.
        """
        return self.shares_before.get(group, 0.0) >= self.mean - gain


def ranges_of(slots: list[int]) -> list[tuple[int, int]]:
    """Ascending slots as ranges, both ends included: what MIGRATESLOTS takes."""
    out: list[tuple[int, int]] = []
    for slot in slots:
        if out and out[-1][1] == slot - 1:
            out[-1] = (out[-1][0], slot)
        else:
            out.append((slot, slot))
    return out
