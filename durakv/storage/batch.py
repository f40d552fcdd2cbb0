"""One lane job of the log: its steps, and what the log must do when it ends.

Rule: a batch happens wholly or, when the disk is full, not at all; any other error leaves it undecided and stops the
node. It must not know how its frames came about. [compiled]
"""

from __future__ import annotations

from collections.abc import Callable

from durakv.storage.lane import FULL_ERRNOS, Done
from durakv.storage.segment import Segment, SegmentWriter


class Batch:
    """The steps of one lane job, and what to do with the log when it ends.

    ``steps`` are rare (a cut, a new segment); then ``data`` goes to ``offset`` of ``target``, which is synced when
    ``synced`` says so.
    """

    def __init__(self, writer: SegmentWriter, origin: Segment, first: int, must_roll: bool) -> None:
        self.writer = writer
        self.steps: list[Callable[[], None]] = []
        self.target = origin
        self.data = b""
        self.offset = 0
        self.origin = origin
        self.origin_end = origin.end
        self.origin_sealed = origin.sealed
        self.must_roll = must_roll
        self.synced = False
        self.first = first
        self.last = first - 1
        self.durable_to = 0
        self.created: list[Segment] = []
        self.waiters: list[tuple[int, Done]] = []
        self.full = False

    def run(self) -> None:
        """On the log thread. A full disk undoes the whole batch, so that it can be tried again; other errors escape."""
        writer = self.writer
        try:
            for step in self.steps:
                step()
            if self.data:
                writer.write(self.target, self.data, self.offset)
            if self.synced:
                writer.sync(self.target)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            writer.cut(self.origin, self.origin_end, self.created)
            self.full = True
