"""Which states can be built from what a survey found, and from which base: nothing, or a checkpoint.

Rule: decides, builds nothing. A state at an index is in reach when a base at or before it and an unbroken stretch of
log from there exist that fit by term and running digest. Whatever cannot be reached is refused with what can.
"""

from __future__ import annotations

from durakv.cli.recovery_checkpoint import CheckpointLook
from durakv.cli.recovery_entries import entry_at
from durakv.cli.recovery_found import Survey
from durakv.cli.recovery_outcome import NeedsDecision
from durakv.cli.recovery_segments import end_at
from durakv.storage.scan import SegmentScan


class Base:
    """Where building begins: after entry ``index``, with ``look``'s checkpoint or, without one, with nothing. ``scans``
    is the log that goes on from there, empty for none, and ``last`` where it ends.
    """

    def __init__(self, look: CheckpointLook | None, scans: list[SegmentScan]) -> None:
        self.look = look
        self.scans = scans
        self.index = 0 if look is None else look.index
        self.last = max(scans[-1].last_index if scans else 0, self.index)


def bases(found: Survey) -> list[Base]:
    """All of them, the newest first; of the log from 1, or behind a checkpoint, the longest stretch."""
    # The directory's own log first: of two equally long stretches it is the one that was judged.
    runs = [found.scans, *found.pool] if found.scans else found.pool
    out: list[Base] = []
    own = [found.checkpoint] if found.covered() is not None and found.checkpoint is not None else []
    for look in [*own, *found.other_checkpoints]:
        fitting = [run for run in runs if _fits(found, look, run)]
        out.append(Base(look, max(fitting, key=lambda run: run[-1].last_index, default=[])))
    from_one = [run for run in runs if run[0].header.base == 1]
    if from_one:
        out.append(Base(None, max(from_one, key=lambda run: run[-1].last_index)))
    out.sort(key=lambda base: -base.index)
    return out


def _fits(found: Survey, look: CheckpointLook, run: list[SegmentScan]) -> bool:
    at = look.applied
    if at is None or not run[0].header.base - 1 <= at.index <= run[-1].last_index:
        return False
    if at.chain:
        # Terms are part of it. Nothing is read: beside a server the segment may be gone by now.
        return chain_in(run, at.index) == at.chain
    end = end_at(found, run, at.index)
    return end is not None and end[0] == at.term


def chain_in(run: list[SegmentScan], index: int) -> int:
    """The running digest after an entry of a stretch, or after the one before its first."""
    for scan in run:
        if scan.header.base <= index <= scan.last_index:
            return int(scan.chains[index - scan.header.base])
    return run[0].header.prev_chain


def base_for(found: Survey, index: int, last: int = 0) -> Base:
    """The nearest base from which the state after entry ``index`` can be built, with a log that goes on to ``last`` if
    that is more. Raises NeedsDecision.
    """
    all_bases = bases(found)
    for base in all_bases:
        if base.index <= index and max(index, last) <= base.last:
            return base
    raise NeedsDecision(f"{found.directory}: the state after index {index} cannot be built; {_reach(all_bases)}")


def end_of_reach(found: Survey) -> int:
    """The last index whose state can be built; 0 when there is none."""
    return max((base.last for base in bases(found)), default=0)


def time_at(found: Survey, base: Base, index: int) -> int:
    """The log's time after entry ``index``, Unix ms; 0 when the entry has none of its own."""
    if base.look is not None and base.look.applied is not None and index == base.index:
        return base.look.applied.ts_ms
    return entry_at(found.disk, base.scans, index).ts_ms if index else 0


def term_at(found: Survey, base: Base, index: int) -> int:
    """Term of entry ``index``, 0 for index 0."""
    if base.look is not None and base.look.applied is not None and index == base.index:
        return base.look.applied.term
    return entry_at(found.disk, base.scans, index).term if index else 0


def ranges(all_bases: list[Base]) -> list[tuple[int, int]]:
    """The (first, last) indexes whose states can be built, joined where they touch, oldest first."""
    out: list[tuple[int, int]] = []
    for base in reversed(all_bases):
        if out and base.index <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], base.last))
        else:
            out.append((base.index, base.last))
    return out


def _reach(all_bases: list[Base]) -> str:
    spans = " and ".join(f"{low}..{high}" if low < high else f"{low}" for low, high in ranges(all_bases))
    if not spans:
        return "nothing here can be built: no log from index 1 and no usable checkpoint; name a backup with --archive"
    return (
        f"from here index {spans} can be reached; for another one name what holds older or later log with --archive "
        "DIR: archive-dir, a backup, or another node's data directory"
    )


def nothing_older(found: Survey) -> str:
    """What to say to who asks for a time or command before all that can be reached."""
    return _reach(bases(found))
