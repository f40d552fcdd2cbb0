"""A damaged log put together again: what survived of it on this disk, and in between what members of the group have.

Rule: the result holds the very entries that were there, or there is none. What is fetched must lead, by the running
digest, from the entry before the damage to a frame of this node's own behind it; so nothing this node ever
acknowledged to others is forgotten, and its vote stays as it is. Damage at the very end of the log, behind which no
frame is left to say what was there, is therefore refused. Plans only; recovery_repair.py carries it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from durakv.cli.recovery_found import Survey
from durakv.cli.recovery_outcome import NeedsDecision
from durakv.cli.recovery_peer import Fetched, FetchedEntry, Peers, Point
from durakv.cli.recovery_quarantine import used_length
from durakv.cli.recovery_survivors import Frame, Survivor
from durakv.storage.errors import CorruptionError
from durakv.storage.record import HEADER_BYTES, MARK, SEAL, FrameBuilder, Header, crc, next_chain, parse_header
from durakv.storage.scan import Window
from durakv.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader, seal_body, segment_name, segment_number

_REPLACE: Final = (
    "replace the node, which fetches everything: 'durakv cluster remove-node', move its directory away, 'durakv "
    "cluster add-node' under a new node id"
)


class Mended:
    """A segment as it is to be. ``old`` is None for one that is missing altogether; ``anew``: it must be written."""

    def __init__(self, number: int, old: Survivor | None, start: Point) -> None:
        self.number = number
        self.old = old
        self.start = start
        self.parts: list[Frame | FetchedEntry] = []
        self.fetched: list[Fetched] = []
        self.end = start
        self.sealed = False
        self.anew = old is None
        # Bytes behind the last frame of the log that make none.
        self.left_out = 0

    @property
    def name(self) -> str:
        """Its file name."""
        return segment_name(self.number)

    def line(self) -> str:
        """What is done to it, for a person."""
        first, last = self.start.index + 1, self.end.index
        what = "is missing" if self.old is None else "is damaged"
        text = f"log/{self.name} {what}: written anew with entries {first:,} to {last:,}; "
        if self.left_out:
            text += (
                f"{self.left_out:,} bytes behind them are left out, an unfinished write that nothing proves to have "
                "been synced; "
            )
        if not self.fetched:
            return text + "all of them are whole, and proven by the running digest"
        pieces = []
        for got in self.fetched:
            low, high = got.entries[0].index, got.entries[-1].index
            size = sum(len(entry.body) for entry in got.entries)
            pieces.append(
                f"{low:,} to {high:,} (term {got.entries[0].term} to {got.entries[-1].term}, {size:,} bytes, digest "
                f"{got.end.chain:08x} after them) from {got.source}"
            )
        return text + f"{', '.join(pieces)}; the others are its own; proven by the running digest on both sides"


class Refill:
    """The plan: segments to write, oldest first."""

    def __init__(self) -> None:
        self.segments: list[Mended] = []

    def fetches(self) -> bool:
        """Whether anything comes from another node."""
        return any(mended.fetched for mended in self.segments)


def plan_refill(found: Survey, peers: Peers) -> Refill:
    """Raises NeedsDecision when the log cannot be made what it was; OSError."""
    walk = _Walk(found, peers)
    walk.run()
    plan = Refill()
    plan.segments = [mended for mended in walk.done if mended.anew]
    return plan


class _Walk:
    """From where the checkpoint ends, or the log's first entry, frame by frame to the log's last one."""

    def __init__(self, found: Survey, peers: Peers) -> None:
        self.found = found
        self.peers = peers
        self.done: list[Mended] = []
        self.at = Point(0, 0, 0)
        self.evidence = found.hard.synced_hint if found.hard is not None else 0

    def run(self) -> None:
        pieces = self._needed()
        for place, piece in enumerate(pieces):
            following = pieces[place + 1] if place + 1 < len(pieces) else None
            self._begin(piece, first=place == 0)
            if not self._as_it_is(piece, following):
                self._mend(piece, following)
            if following is not None:
                self._up_to(piece, following)
        if self.evidence > self.at.index:
            raise NeedsDecision(
                f"{self.found.directory}: nothing readable is left behind index {self.at.index:,}, but index "
                f"{self.evidence:,} was synced here. Which entries this node had behind it, and promised to others to "
                f"keep, cannot be known, so fetching some would make it forget the rest. Nothing was changed. Do: "
                f"{_REPLACE}"
            )

    # -- which segments count ----------------------------------------------------------------------------------------

    def _needed(self) -> list[Survivor]:
        """The segments a server reads, oldest first; ``at`` is put before the first of them."""
        found, covered = self.found, self.found.covered()
        log = f"{found.directory}/log"
        numbers = sorted(n for n in map(segment_number, found.segment_files) if n is not None)
        pieces: list[Survivor] = []
        for number in reversed(numbers):
            piece = Survivor(found.disk, log, number)
            self._own(piece)
            pieces.insert(0, piece)
            first = piece.first_index()
            if covered is not None and first and first <= covered.index + 1:
                break
        if not pieces:
            raise NeedsDecision(f"{log}: no log segment is left; nothing was changed. Do: {_REPLACE}")
        if covered is not None:
            self.at = Point(covered.index, covered.term, covered.chain)
        return pieces

    def _own(self, piece: Survivor) -> None:
        """Raises NeedsDecision for another node's file."""
        header, identity = piece.header, self.found.identity
        assert identity is not None, "whose directory it is was found out before"
        if header is not None and (header.cluster_id, header.node_id, header.number) != (
            identity.cluster_id, identity.node_id, piece.number,
        ):  # fmt: skip
            raise NeedsDecision(
                f"{piece.path}: is segment {header.number} of node {header.node_id} of cluster "
                f"{header.cluster_id.hex()}; move it out of log/ and put this node's own file back, or run this again "
                "without it: missing segments are fetched. Nothing was changed"
            )

    def _begin(self, piece: Survivor, *, first: bool) -> None:
        """Put ``at`` before the first entry of ``piece``."""
        scan = piece.scan
        if not first or scan is None:
            return
        base = scan.header.base
        if base > self.at.index + 1:
            self._missing(piece, base - 1, scan.header.prev_chain)
        elif scan.last_index >= self.at.index or not self.at.chain:
            # Else the damage is before the checkpoint's end: what was there is in no segment any more.
            self.at = Point(base - 1, scan.header.prev_term, scan.header.prev_chain)

    def _missing(self, before: Survivor, last: int, chain: int | None) -> None:
        """A whole segment is not there."""
        number = before.number - 1
        taken = self.done[-1].number if self.done else 0
        if number <= taken:
            raise NeedsDecision(
                f"{before.path}: begins at index {last + 1:,}, but the segment before ends at {self.at.index:,}, and "
                f"no number is free between them: a file is foreign. Nothing was changed. Do: {_REPLACE}"
            )
        mended = Mended(number, None, self.at)
        self._fill(mended, last, chain)
        mended.sealed = True
        self.done.append(mended)

    # -- one segment -------------------------------------------------------------------------------------------------

    def _as_it_is(self, piece: Survivor, following: Survivor | None) -> bool:
        """Pass over a segment that needs nothing."""
        scan = piece.scan
        if scan is None or (scan.header.base, scan.header.prev_chain) != (self.at.index + 1, self.at.chain):
            return False
        if following is not None and not piece.closed():
            return False
        if following is None and scan.bad_reason and any(
            frame.end > scan.end and (frame.sound or not frame.note()) for frame in piece.frames()
        ):  # fmt: skip
            return False
        self.evidence = max(self.evidence, scan.evidence)
        if scan.bad_reason:
            self.evidence = max(self.evidence, *(frame.header.synced_evidence() for frame in piece.frames()), 0)
        self.at = Point(scan.last_index, scan.last_term, scan.last_chain)
        whole = Mended(piece.number, piece, self.at)
        whole.sealed = scan.sealed
        self.done.append(whole)
        return True

    def _mend(self, piece: Survivor, following: Survivor | None) -> None:
        if piece.salt is None and following is None:
            raise NeedsDecision(
                f"{piece.path}: its first line is damaged, and too few of its frames are left to tell what it held, "
                f"which is the end of the log. Nothing was changed. Do: {_REPLACE}"
            )
        mended = Mended(piece.number, piece, self.at)
        mended.anew = True
        skipped = self.at.index
        for frame in piece.frames():
            header = frame.header
            self.evidence = max(self.evidence, header.synced_evidence())
            if header.index <= skipped:
                continue
            if frame.note():
                if frame.sound:
                    self._fill(mended, header.index, header.chain)
                    self._same(piece, frame)
                mended.sealed = header.kind == SEAL and frame.sound
                continue
            self._fill(mended, header.index - (1 if frame.sound else 0), None if frame.sound else header.chain)
            if frame.sound:
                self._take(piece, frame)
                mended.parts.append(frame)
            elif not _fits(header, mended.parts[-1]):
                raise self._contradiction(piece, frame)
            self._same(piece, frame)
        mended.end = self.at
        mended.sealed = mended.sealed or following is not None
        if following is None:
            end = max((frame.end for frame in piece.frames()), default=SEGMENT_HEADER_BYTES)
            mended.left_out = used_length(Path(piece.path), end) - end
        self.done.append(mended)

    def _take(self, piece: Survivor, frame: Frame) -> None:
        header = frame.header
        chain = next_chain(self.at.chain, header.index, header.term, header.body_crc)
        if header.index != self.at.index + 1 or header.term < self.at.term:
            raise self._contradiction(piece, frame)
        self.at = Point(header.index, header.term, chain)

    def _same(self, piece: Survivor, frame: Frame) -> None:
        """What a frame says of the log up to it must be what was put together."""
        header = frame.header
        if (header.index, header.chain) != (self.at.index, self.at.chain):
            raise self._contradiction(piece, frame)

    def _contradiction(self, piece: Survivor, frame: Frame) -> NeedsDecision:
        header = frame.header
        return NeedsDecision(
            f"{piece.path} offset {header.offset:#x}: the frame of index {header.index:,} term {header.term} digest "
            f"{header.chain:08x} does not go on from index {self.at.index:,} term {self.at.term} digest "
            f"{self.at.chain:08x}: entries of another history were written between. Nothing was changed. Do: {_REPLACE}"
        )

    def _fill(self, mended: Mended, last: int, chain: int | None) -> None:
        """Fetch up to entry ``last``, if it is not there yet."""
        if last <= self.at.index:
            return
        got = self.peers.fetch(self.at, last, chain)
        mended.fetched.append(got)
        mended.parts += got.entries
        mended.anew = True
        self.at = mended.end = got.end

    def _up_to(self, piece: Survivor, following: Survivor) -> None:
        """Go on to where the next segment begins."""
        header = following.header
        if header is None:
            # What is missing of it is fetched when its first frame is met, which may be in the one after it.
            return
        if header.base > self.at.index + 1:
            if self.done[-1].anew:
                self._fill(self.done[-1], header.base - 1, header.prev_chain)
            else:
                self._missing(following, header.base - 1, header.prev_chain)
        if (header.base, header.prev_chain) != (self.at.index + 1, self.at.chain):
            raise NeedsDecision(
                f"{following.path}: begins at index {header.base:,} with digest {header.prev_chain:08x}, but the log "
                f"before ends at index {self.at.index:,} with {self.at.chain:08x}: one of them belongs to another "
                f"history. Nothing was changed. Do: {_REPLACE}"
            )


def _fits(header: Header, part: Frame | FetchedEntry) -> bool:
    """Whether a fetched entry is the one whose header is left; the digest does not cover all that a header says."""
    return isinstance(part, FetchedEntry) and (part.index, part.term, part.subterm, part.kind, crc(part.body)) == (
        header.index, header.term, header.subterm, header.kind, header.body_crc,
    )  # fmt: skip


def written_anew(mended: Mended, found: Survey, salt: int, created_ms: int) -> Iterator[bytes]:
    """The segment's bytes, piece by piece; they end in its seal or, for the last one, with the proof that all of it is
    synced. Raises CorruptionError, OSError.
    """
    identity, start = found.identity, mended.start
    assert identity is not None, "whose directory it is was found out before"
    ids = (identity.cluster_id, identity.node_id)
    yield SegmentHeader(*ids, mended.number, start.index + 1, start.term, start.chain, created_ms, salt).encode()
    builder = FrameBuilder(mended.number, salt, SEGMENT_HEADER_BYTES, start.chain)
    file = None if mended.old is None else found.disk.open(mended.old.path, direct=True)
    window = None if file is None else Window(file)
    try:
        for part in mended.parts:
            if isinstance(part, FetchedEntry):
                builder.add_entry(
                    part.kind, part.index, part.term, part.subterm, part.body, start.index, part.ts_ms, part.ncmd
                )
            else:
                assert window is not None and mended.old is not None and mended.old.salt is not None
                _copy(builder, window, mended.old.path, mended.old.salt, part, start.index)
            yield builder.take()
    finally:
        if file is not None:
            file.close()
    assert builder.chain == mended.end.chain, "what was planned is what is written"
    last, term = mended.end.index, mended.end.term
    if mended.sealed:
        builder.add_note(SEAL, last, term, last, seal_body(start.index + 1, last))
    else:
        builder.add_note(MARK, last, term, last, b"")
    yield builder.take()


def _copy(builder: FrameBuilder, window: Window, path: str, salt: int, frame: Frame, durable: int) -> None:
    """Add a frame that survived, read once more."""
    wanted = frame.header
    header = parse_header(window.view(wanted.offset, HEADER_BYTES), salt)
    body = bytes(window.view(wanted.offset + HEADER_BYTES, wanted.body_len)) if wanted.body_len else b""
    if header is None or header.index != wanted.index or crc(body) != wanted.body_crc:
        raise CorruptionError(path, wanted.offset, f"the frame of index {wanted.index} changed while it was read")
    builder.add_entry(
        header.kind, header.index, header.term, header.subterm, body, durable, header.ts_ms, header.ncmd, header.flags
    )
