"""The Raft log: segments seen as one sequence of entries, written by group commit.

Rule: the only place that decides what the next disk write holds. While one job is on the lane, appended entries gather;
when it ends they leave together as one write and one sync. There is no timer: a busy disk makes bigger batches by
itself. It must not know Raft's roles, what a payload means, or why the driver cuts.

Indices, low to high: first_index .. durable .. written .. handed .. last_index. ``handed`` entries have frames, the
ones above wait in memory. Callbacks run on the loop thread, in the order of the appends.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic

from durakv.storage.batch import Batch
from durakv.storage.entries import E, EntryFactory, EntryTail, TermRuns, frame_body, frame_type
from durakv.storage.lane import FULL_ERRNOS, Done, Lane
from durakv.storage.options import MARK_DELAY_MS, READ_BYTES_MAX, SYNC_ALWAYS, SYNC_EVERYSEC, SYNC_NO, LogOptions
from durakv.storage.reading import decoded
from durakv.storage.record import HEADER_BYTES, MARK, SEAL, FrameBuilder
from durakv.storage.segment import (
    SEAL_BYTES,
    SEGMENT_HEADER_BYTES,
    Covered,
    Segment,
    SegmentHeader,
    SegmentWriter,
    droppable,
    seal_body,
    segment_name,
)
from durakv.world.ports import File, Rng


class Log(Generic[E]):
    """The log of one group on one node. All methods are for the loop thread."""

    def __init__(
        self, lane: Lane, writer: SegmentWriter, rng: Rng, segments: list[Segment], runs: TermRuns,
        entry_factory: EntryFactory[E], on_full: Callable[[], None], options: LogOptions, *, must_roll: bool = False,
        older: list[Segment] | None = None, proven: int = 0,
    ) -> None:  # fmt: skip
        """``segments`` as recovery found them, the last one open; ``must_roll`` when it already ends in a seal.

        ``older``: files before the first of them, which only wait to be removed. ``proven``: up to which index they
        show that it was synced.
        """
        self.lane = lane
        self._writer = writer
        self._rng = rng
        self._segments = segments
        self._older = older if older is not None else []
        self._bases = [segment.base for segment in segments]
        self._runs = runs
        self._make = entry_factory
        self._on_full = on_full
        self._options = options
        self._sync = options.sync
        self._last = segments[-1].last()
        self._handed = self._written = self._durable = self._last
        # A seal ends its segment; the next one's first line proves all before it.
        self._marked = self._last if must_roll else min(proven, self._last)
        self._committed = 0
        self._tail: EntryTail[E] = EntryTail(self._last + 1, options.cache_bytes)
        self._next_number = segments[-1].number + 1
        self._waiters: list[tuple[int, Done]] = []
        self._ready: list[Done] = []
        self._inflight: Batch | None = None
        self._cut_index: int | None = None
        # The caller of the newest append would have had it written on its own thread.
        self._inline_next = False
        self._must_roll = must_roll
        self._sync_wanted = False
        self._mark_wanted = False
        self._spare_asked = False
        self._tick_armed = self._mark_armed = False
        self._closing = False
        self._closing_done: Done | None = None
        self._failing = False
        self._close_marked = self._close_sent = self.stalled = False
        self._idle_since_ns = 0
        self.archive_error = ""  # why segments that should go stay
        self._arm_tick()
        # What recovery synced counts from now on; it must not pass for a torn write should it rot.
        self._arm_mark()

    # -- reading -----------------------------------------------------------------------------------------------------

    def first_index(self) -> int:
        """Index of the oldest entry held (last_index + 1 when there is none)."""
        return self._segments[0].base

    def last_index(self) -> int:
        """Index of the newest entry appended, durable or not; first_index - 1 when there is none."""
        return self._last

    def durable_index(self) -> int:
        """Highest index whose entry, and all before it, have been synced."""
        return self._durable

    def synced_hint(self) -> int:
        """What the hard state may claim as synced: durable and committed, so that no later cut can contradict it."""
        return min(self._durable, self._committed)

    def term(self, index: int) -> int:
        """Term of an entry, first_index - 1 .. last_index."""
        first = self._segments[0].base
        if index == first - 1:
            return self._segments[0].header.prev_term
        assert first <= index <= self._last, f"no entry {index} in {first}..{self._last}"
        return self._runs.term(index)

    def chain(self, index: int) -> int:
        """The digest after an entry, first_index - 1 .. the last one handed to the disk; the same on every node."""
        first = self._segments[0]
        if index >= first.base:
            first = self._segments[bisect_right(self._bases, index) - 1]
        return first.chains[index - first.base] if index >= first.base else first.header.prev_chain

    def bytes_held(self) -> int:
        """Bytes of all segments, the space allocated ahead left out."""
        return sum([segment.end for segment in self._segments])

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[E]:
        """Entries lo..hi-1, cut off before the payloads exceed ``max_bytes``, but at least one if lo < hi.

        Raises CorruptionError when what the disk returns is not what was written.
        """
        assert self._segments[0].base <= lo <= hi <= self._last + 1, f"no entries {lo}..{hi - 1}"
        found: list[E] = []
        room = max_bytes
        while lo < hi:
            if lo >= self._tail.base:
                piece = self._tail.span(lo, hi)
            else:
                piece = self._read(lo, min(hi, self._tail.base), room)
            for entry in piece:
                room -= len(entry.data)
                if room < 0 and found:
                    return found
                found.append(entry)
            lo += len(piece)
        return found

    def _read(self, lo: int, hi: int, room: int) -> list[E]:
        segment = self._segments[bisect_right(self._bases, lo) - 1]
        file = self._open(segment)
        at = lo - segment.base
        begin = segment.offsets[at]
        stop = min(hi - segment.base, len(segment.offsets))
        # One frame more than fits costs little; one less would make the caller come back for a single entry.
        wanted = begin + min(room, READ_BYTES_MAX) + HEADER_BYTES
        stop = max(min(stop, bisect_right(segment.offsets, wanted, at)), at + 1)
        end = segment.offsets[stop] if stop < len(segment.offsets) else segment.end
        data = file.pread(end - begin, begin)
        return [
            decoded(segment, data, begin, segment.base + place, self._runs.term(segment.base + place), self._make)
            for place in range(at, stop)
        ]

    def _open(self, segment: Segment) -> File:
        """The file of a segment that exists on disk; only the loop thread opens those found at boot."""
        if segment.file is None:
            segment.file = self.lane.disk.open(segment.path)
        return segment.file

    # -- appending ---------------------------------------------------------------------------------------------------

    def set_committed(self, index: int) -> None:
        """Tell the log what is committed: such entries are never cut."""
        self._committed = max(self._committed, index)

    def set_sync(self, policy: str) -> None:
        """Change the sync policy: always, everysec or no. Going to always syncs what was written before."""
        assert policy in (SYNC_ALWAYS, SYNC_EVERYSEC, SYNC_NO), f"sync policy {policy!r}"
        self._sync = policy
        if policy == SYNC_ALWAYS and self._handed > self._durable:
            self._sync_wanted = True
            self._flush()
        self._arm_tick()

    def append(self, entries: Sequence[E], done: Done) -> None:
        """Append entries, cutting a conflicting suffix first; ``done(None)`` when they are as safe as the policy says.

        Entries already present with the same term are kept as they are. A conflict at or below the committed index is
        a bug. ``done`` never runs inside this call. When the disk is full it waits until ``retry`` succeeds; after any
        other I/O error it is called with the error, once the owner's ``on_fatal`` has returned.
        """
        self._accept(entries)
        self._waiters.append((self._last, done))
        self._flush()

    def append_inline(self, entries: Sequence[E], done: Done | None = None) -> bool:
        """As ``append``, but when the lane is idle the disk work happens now, on this thread, and ``done`` runs in
        here.

        True when the entries are on disk as the policy says; False when they still are on their way.
        """
        self._accept(entries)
        if done is not None:
            self._waiters.append((self._last, done))
        if self._inflight is not None or self.stalled or self.lane.outstanding > 0 or self.lane.failure is not None:
            self._inline_next = True
            self._flush()
            return False
        return self._run_inline()

    def _run_inline(self) -> bool:
        batch = self._build()
        if batch is None:
            return True
        self._inflight = batch
        error = self.lane.run_inline(batch.run)
        self._finish(batch, error)
        return error is None and not batch.full and self._handed == self._last and not self._busy()

    def lazy(self) -> bool:
        """Whether appends are acknowledged without a sync: then a write on the calling thread beats the hand-over."""
        return self._sync != SYNC_ALWAYS

    def _busy(self) -> bool:
        return self._inflight is not None

    def retry(self) -> None:
        """There is space again: write what had to wait."""
        self.stalled = False
        self._flush()

    def drop_through(self, index: int, keep_bytes: int, archive: str = "") -> int:
        """Remove sealed segments that end at or below ``index``, except the newest ones of up to ``keep_bytes``; how
        many. ``archive``: a directory that keeps them.
        """
        if self._closing or self.lane.failure is not None or self._cut_index is not None:
            return 0
        count = droppable(self._segments, min(index, self._durable), keep_bytes)
        if not count and not self._older:
            return 0
        doomed = self._older + self._segments[:count]
        self._older = []
        del self._segments[:count]
        del self._bases[:count]
        self._runs.trim_before(self._segments[0].base)
        refused: list[OSError] = []

        def dropped(error: OSError | None) -> None:
            # What the archive did not take waits for the next time.
            self._older = doomed + self._older
            self.archive_error = str(refused[0]) if refused else ""

        count = len(doomed)
        self.lane.submit(partial(self._writer.drop, doomed, archive, refused), dropped)
        return count

    def idle(self) -> bool:
        """Whether nothing that was appended is still on its way to the disk."""
        return self._inflight is None and self._handed == self._last and not self._waiters and not self.stalled

    def begin_after(self, covered: Covered, done: Done) -> None:
        """A durable snapshot stands in for all entries: start an empty log behind it. Nothing may be on its way."""
        assert self._inflight is None and self._handed == self._last, "a log is replaced while entries are written"
        doomed = self._older + self._segments
        self._older = []
        fresh = self._next_segment(covered)
        self._segments = [fresh]
        self._bases = [fresh.base]
        self._runs.clear()
        self._tail.restart(fresh.base)
        self._last = self._handed = self._written = self._durable = self._marked = covered.index
        self._committed = covered.index  # further back than before, when a forced promotion gave entries up
        self._cut_index = None
        self._must_roll = self._spare_asked = self._sync_wanted = self._mark_wanted = False
        self.lane.submit(partial(self._writer.replace, doomed, fresh), done)

    def close(self, done: Done) -> None:
        """Write and sync all that waits, give back unused space, then ``done``. Nothing may be appended afterwards.

        On a full disk one more attempt is made, then ``done`` and all who wait get the error.
        """
        assert not self._closing, "log closed twice"
        self._closing = True
        self._closing_done = done
        self._sync_wanted = self._last > self._durable
        self.stalled = False
        self._flush()

    def _accept(self, entries: Sequence[E]) -> None:
        assert not self._closing, "append to a closed log"
        for entry in entries:
            index = entry.index
            if index <= self._last:
                if entry.term == self.term(index):
                    continue
                self._cut(index)
            assert index == self._last + 1, f"entry {index} after {self._last}"
            self._runs.append(index, entry.term)
            self._tail.append(entry)
            self._last = index
            self.lane.stats.queued_bytes += len(entry.data)

    def _cut(self, index: int) -> None:
        assert index > self._committed, f"entry {index} is committed (up to {self._committed}) and cannot be replaced"
        assert index >= self._segments[0].base, f"cut at {index} below the first entry"
        if self._last > self._handed:
            for entry in self._tail.span(max(index, self._handed + 1), self._last + 1):
                self.lane.stats.queued_bytes -= len(entry.data)
        self._last = index - 1
        self._runs.trim_after(self._last)
        self._tail.trim_after(self._last)
        if index <= self._handed:
            self._cut_index = index if self._cut_index is None else min(index, self._cut_index)
            if self._inflight is not None:
                self._inflight.last = min(self._inflight.last, self._last)
                self._inflight.durable_to = min(self._inflight.durable_to, self._last)
            self._handed = self._last
            self._written = min(self._written, self._last)
            self._durable = min(self._durable, self._last)
            self._marked = min(self._marked, self._last)

    # -- the lane ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Send the next batch unless one is on its way."""
        if self._inflight is not None or self.stalled:
            return
        if self.lane.failure is not None:
            if not self._failing:
                self._failing = True
                self.lane.clock.call_soon(self._fail_late)
            return
        batch = self._build()
        if batch is None:
            if self._closing:
                self._finish_close()
            return
        self._inflight = batch
        self.lane.submit(batch.run, partial(self._finish, batch))
        if self._sync != SYNC_ALWAYS and batch.waiters:
            if not self._ready:
                self.lane.clock.call_soon(self._drain)
            self._ready += [done for _, done in batch.waiters]
            batch.waiters = []

    def _drain(self) -> None:
        ready, self._ready = self._ready, []
        for done in ready:
            done(None)

    def _build(self) -> Batch | None:
        """Frames for all that waits, and the steps that put them on disk; None when nothing waits."""
        idle = self._handed == self._last and self._cut_index is None
        if idle and not (self._sync_wanted or self._mark_wanted or self._waiters):
            return None
        cut_steps = self._build_cut() if self._cut_index is not None else None
        batch = Batch(self._writer, self._segments[-1], self._handed + 1, self._must_roll)
        if cut_steps is not None:
            batch.steps += cut_steps
        self._build_frames(batch)
        batch.last = self._handed
        if self._sync_wanted or (self._sync == SYNC_ALWAYS and batch.last >= batch.first):
            batch.synced = True
            batch.durable_to = batch.last
        if self._handed == self._last:
            self._sync_wanted = False
            batch.waiters = self._waiters
            self._waiters = []
            return batch
        ripe = 0
        while ripe < len(self._waiters) and self._waiters[ripe][0] <= self._handed:
            batch.waiters.append(self._waiters[ripe])
            ripe += 1
        del self._waiters[:ripe]
        return batch

    def _build_cut(self) -> list[Callable[[], None]]:
        index = self._cut_index
        if index is None:
            return []
        self._cut_index = None
        at = bisect_right(self._bases, index) - 1
        doomed = self._segments[at + 1 :]
        del self._segments[at + 1 :]
        del self._bases[at + 1 :]
        segment = self._segments[at]
        segment.trim_after(index - 1)
        self._must_roll = True
        self._open(segment)
        return [partial(self._writer.cut, segment, segment.end, doomed)]

    def _build_frames(self, batch: Batch) -> None:
        stamp = self._options.stamp
        segment = batch.origin
        limit = self._writer.segment_bytes - SEAL_BYTES
        builder = FrameBuilder(segment.number, segment.header.salt, segment.end, segment.last_chain())
        size = 0
        for entry in self._tail.span(self._handed + 1, self._last + 1):
            body = frame_body(entry.kind, entry.data)
            after = builder.offset + HEADER_BYTES + len(body)
            if self._must_roll or (after > limit and builder.offset > SEGMENT_HEADER_BYTES):
                segment, builder = self._build_roll(batch, segment, builder, HEADER_BYTES + len(body))
            segment.offsets.append(builder.offset)
            ts_ms, ncmd = (0, 0) if stamp is None or entry.kind != 0 else stamp(entry.data)
            kind = frame_type(entry.kind)
            builder.add_entry(kind, entry.index, entry.term, entry.subterm, body, self._durable, ts_ms, ncmd)
            segment.chains.append(builder.chain)
            self._handed = entry.index
            self.lane.stats.queued_bytes -= len(entry.data)
            size += HEADER_BYTES + len(body)
            if size >= self._options.batch_bytes_max:
                break
        if self._mark_wanted and self._handed == self._last:
            self._mark_wanted = False
            if not self._must_roll and builder.offset + HEADER_BYTES <= limit and self._durable == self._handed:
                builder.add_note(MARK, self._handed, self.term(self._handed), self._durable, b"")
                self._marked = self._handed
        batch.target = segment
        batch.data = builder.take()
        batch.offset = segment.end
        segment.end = builder.offset

    def _build_roll(
        self, batch: Batch, segment: Segment, builder: FrameBuilder, frame_bytes: int
    ) -> tuple[Segment, FrameBuilder]:
        """Seal ``segment`` and go on in a new one. Space comes first: a full disk must show before anything changed."""
        last = segment.last()
        size = max(self._writer.segment_bytes, SEGMENT_HEADER_BYTES + frame_bytes + SEAL_BYTES)
        batch.steps.append(partial(self._writer.prepare_spare, size))
        if not segment.sealed:
            builder.add_note(SEAL, last, self.term(last), min(self._durable, last), seal_body(segment.base, last))
            # Never empty: it ends in the seal.
            batch.steps.append(partial(self._writer.write, segment, builder.take(), segment.end))
            segment.end = builder.offset
            batch.steps.append(partial(self._writer.seal, segment, segment.end))
            segment.sealed = True
        batch.durable_to = last
        fresh = self._next_segment(Covered(last, self.term(last), segment.last_chain()))
        batch.created.append(fresh)
        self._segments.append(fresh)
        self._bases.append(fresh.base)
        batch.steps.append(partial(self._writer.start, fresh, size))
        self._must_roll = False
        self._spare_asked = False
        return fresh, FrameBuilder(fresh.number, fresh.header.salt, SEGMENT_HEADER_BYTES, fresh.header.prev_chain)

    def _next_segment(self, before: Covered) -> Segment:
        """A segment to begin behind ``before``."""
        ids = self._segments[-1].header
        salt = self._rng.bits64() & 0xFFFFFFFF
        header = SegmentHeader(
            ids.cluster_id, ids.node_id, self._next_number, before.index + 1, before.term, before.chain,
            self.lane.clock.wall_ms(), salt,
        )  # fmt: skip
        self._next_number += 1
        return Segment(header, f"{self._writer.directory}/{segment_name(header.number)}")

    def _finish(self, batch: Batch, error: OSError | None) -> None:
        """The job ended: publish what is durable, keep the disk busy, then tell those who waited."""
        self._inflight = None
        if error is not None:
            self._waiters = batch.waiters + self._waiters
            self._fail(error)
            return
        if batch.full:
            self._undo(batch)
            self.stalled = True
            self._on_full()
            if self._closing:
                self._fail(OSError(errno.ENOSPC, "disk full at shutdown: the entries appended last were not written"))
            return
        self._written = max(self._written, batch.last)
        self._durable = max(self._durable, batch.durable_to)
        self._tail.evict(self._written)
        # Taken before the flush: under a laxer policy it makes later appends ready at once.
        ready = self._ready
        if ready:
            self._ready = []
        else:
            ready = []
        for _, done in batch.waiters:
            ready.append(done)
        inline_next = self._inline_next and not self._closing
        self._inline_next = False
        if not inline_next:
            self._flush()
        if not self._busy():
            self._idle_since_ns = self.lane.clock.monotonic_ns()
            self._arm_mark()
        if not self._spare_asked and self._segments[-1].end > self._writer.segment_bytes // 2 and not self._closing:
            self._spare_asked = True
            self.lane.submit(self._prepare_spare, lambda _: None)  # a failure reaches the owner
        for done in ready:
            done(None)
        if inline_next and not self._busy():
            # What was to be written inline found the lane busy; it need not go through the lane now.
            if self.lane.outstanding or self.stalled or self.lane.failure is not None or self._closing:
                self._flush()
            else:
                self._run_inline()

    def _fail(self, error: OSError) -> None:
        self._drain()
        waiters, self._waiters = self._waiters, []
        for _, done in waiters:
            done(error)
        closing, self._closing_done = self._closing_done, None
        if closing is not None:
            closing(error)

    def _fail_late(self) -> None:
        """Answer what was appended after the lane had failed."""
        self._failing = False
        failure = self.lane.failure
        assert failure is not None
        self._fail(failure)

    def _undo(self, batch: Batch) -> None:
        """The disk was full and the batch's bytes are gone again; its entries wait in memory as before."""
        del self._segments[len(self._segments) - len(batch.created) :]
        del self._bases[len(self._segments) :]
        batch.origin.trim_after(batch.first - 1)
        batch.origin.end = batch.origin_end
        batch.origin.sealed = batch.origin_sealed
        self._must_roll = batch.must_roll
        self._sync_wanted = self._sync_wanted or batch.synced
        for entry in self._tail.span(batch.first, self._handed + 1):
            self.lane.stats.queued_bytes += len(entry.data)
        self._handed = min(self._handed, batch.first - 1)
        if self._cut_index is not None and self._cut_index >= batch.first:
            self._cut_index = None
        self._waiters = batch.waiters + self._waiters

    def _prepare_spare(self) -> None:
        """On the log thread. A full disk is not news here: the roll that needs the space will meet it."""
        try:
            self._writer.prepare_spare(self._writer.segment_bytes)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise

    def _finish_close(self) -> None:
        if self._close_sent:
            return
        segment = self._segments[-1]
        if not self._close_marked and self._durable == self._last > self._marked:
            self._close_marked = self._mark_wanted = True
            self._flush()
            return

        def stop() -> None:
            self._writer.sync(segment)
            self._writer.trim(segment)
            self._writer.discard_spare()

        def stopped(error: OSError | None) -> None:
            closing, self._closing_done = self._closing_done, None
            if closing is not None:
                closing(error)

        self._close_sent = True
        self.lane.submit(stop, stopped)

    # -- timers ------------------------------------------------------------------------------------------------------

    def _arm_tick(self) -> None:
        if self._sync == SYNC_EVERYSEC and not self._tick_armed and not self._closing:
            self._tick_armed = True
            self.lane.clock.call_later(1000, self._tick)

    def _tick(self) -> None:
        """Once a second under everysec: sync what was written since."""
        self._tick_armed = False
        if self.lane.failure is not None or self._closing:
            return
        if self._sync == SYNC_EVERYSEC and self._last > self._durable:
            self._sync_wanted = True
            self._flush()
        self._arm_tick()

    def _arm_mark(self) -> None:
        if not self._mark_armed and self._durable == self._last > self._marked and not self._closing:
            self._mark_armed = True
            self.lane.clock.call_later(MARK_DELAY_MS, self._mark)

    def _mark(self) -> None:
        """Idle for a while after a sync: leave proof on disk that all before was synced, for recovery to judge by."""
        self._mark_armed = False
        if self._inflight is not None or self.lane.failure is not None or self.stalled or self._closing:
            return
        if self.lane.clock.monotonic_ns() - self._idle_since_ns < MARK_DELAY_MS * 1_000_000:
            self._arm_mark()
        elif self._durable == self._last > self._marked:
            self._mark_wanted = True
            self._flush()
