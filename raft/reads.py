"""ReadIndex in batches: which reads wait for which round, and which are proven (dissertation 6.4).

A read may be answered at index i once a quorum answered a round that was sent after the read arrived, because then no
later leader had been elected when it arrived. Rule: the only place that holds reads; it must not know peers or clocks.
"""

from collections import deque
from typing import Final

from raft.quorum import INFINITE

# Rounds count up within an epoch; an epoch ends when a leadership transfer that was under way is given up. A vote
# forced by a transfer of an older epoch than a voter has heard of since is not exempt from the voter's promise.
ROUND_EPOCH: Final = 1 << 40


class RemoteRead:
    """A read asked for by a follower; its answer goes back in a message."""

    __slots__ = ("node", "read_id")

    def __init__(self, node: int, read_id: int) -> None:
        self.node = node
        self.read_id = read_id


class Reads:
    """Reads in the three stages they pass, in order of arrival: unsent, waiting for a round, proven."""

    __slots__ = ("proven", "proven_min", "unsent", "waiting")

    def __init__(self) -> None:
        self.unsent: list[tuple[object, int]] = []
        self.waiting: deque[tuple[int, list[tuple[object, int]]]] = deque()
        self.proven: list[tuple[object, int]] = []
        # The least index of `proven`, so that "is one releasable" is one comparison.
        self.proven_min = INFINITE

    def open(self, round_: int) -> None:
        """All unsent reads ride on `round_`, which goes out now."""
        self.waiting.append((round_, self.unsent))
        self.unsent = []

    def prove(self, round_: int) -> list[tuple[object, int]]:
        """A quorum answered `round_`: take out the reads of that round and before."""
        out: list[tuple[object, int]] = []
        while self.waiting and self.waiting[0][0] <= round_:
            out.extend(self.waiting.popleft()[1])
        return out

    def add_proven(self, ctx: object, index: int) -> None:
        """The read may be answered once the state at `index` is applied."""
        self.proven.append((ctx, index))
        if index < self.proven_min:
            self.proven_min = index

    def release(self, emitted: int) -> list[tuple[object, int]]:
        """Take out the proven reads whose entries were all given out to apply."""
        out = [read for read in self.proven if read[1] <= emitted]
        self.proven = [read for read in self.proven if read[1] > emitted]
        self.proven_min = min((read[1] for read in self.proven), default=INFINITE)
        return out

    def fail(self) -> list[object]:
        """Leadership is gone: take out all unproven reads."""
        out = [ctx for _, batch in self.waiting for ctx, _ in batch]
        out.extend(ctx for ctx, _ in self.unsent)
        self.waiting.clear()
        self.unsent = []
        return out
