"""What a group's log says about its slots and their migrations: replicated state of every node of the group.

``serves[slot]`` is the gate's one look: 1 as long as the group executes commands on the slot. The decision about a
migration lives in the target's record of it and nowhere else; what is remembered of ended ones is, for each slot, the
highest (epoch, order) that was decided, so that nothing that comes late can begin again.
Rule: changes only in apply.py (and when a checkpoint is taken over). It knows no key, no clock and no peer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from durakv.cluster.handoff.entries import (
    NO_DIGEST,
    Runs,
    Session,
    number,
    packed,
    parse_digest,
    parse_runs,
    runs_bytes,
    unpacked,
    valid_mid,
)
from durakv.keyspace.slots import SLOTS

# -- what a group is to a slot
NONE: Final = 0
OWNED: Final = 1
EXPORTING: Final = 2
FENCED: Final = 3
IMPORTING: Final = 4
# -- phases of a record are the last three, and
ENDED: Final = 5
PHASE_NAMES: Final = ("none", "owned", "exporting", "fenced", "importing", "ended")

# -- roles
EXPORT: Final = 0
IMPORT: Final = 1

# -- results
ONGOING: Final = 0
# The slots are the target's.
MOVED: Final = 1
# They stayed the source's: the target has decided so,
ABORTED: Final = 2
# or the source gave up before its fence,
CANCELLED: Final = 3
# or its operator took them back.
FORCED: Final = 4
RESULT_NAMES: Final = ("ongoing", "moved", "aborted", "cancelled", "forced")

FINISHED_MAX: Final = 1000
_FORMAT: Final = b"1"
_RECORD_WORDS: Final = 19
_SLOT_WORDS: Final = 6
_KEPT: Final = -1


class Record:
    """One migration as this group sees it. Times are log time, Unix ms.

    ``order`` is the index of EXPORT_BEGIN in the source's log. ``session``, ``seq`` and ``chain``: at the target the
    stream being staged, how many batches of it are in and the digest over them; at the source the session of the
    fence. ``keys`` is how many keys went live or away.
    """

    __slots__ = (
        "began_ms", "chain", "ended_ms", "f_index", "fenced_ms", "keys", "mid", "order", "peer", "phase", "reason",
        "result", "role", "runs", "seq", "session", "trouble", "updated_ms",
    )  # fmt: skip

    def __init__(self, mid: bytes, role: int, peer: int, order: int, runs: Runs) -> None:
        self.mid = mid
        self.role = role
        self.peer = peer
        self.order = order
        self.runs = runs
        self.phase = EXPORTING if role == EXPORT else IMPORTING
        self.session: Session = (0, 0)
        self.seq = 0
        self.chain = NO_DIGEST
        self.f_index = 0
        self.fenced_ms = 0
        self.keys = 0
        self.result = ONGOING
        self.reason = b""
        # Why the last item for it took no effect, when that says something about its content.
        self.trouble = b""
        self.began_ms = 0
        self.updated_ms = 0
        self.ended_ms = 0

    def slots(self) -> list[int]:
        """Every slot of it, ascending."""
        out: list[int] = []
        for first, last, _ in self.runs:
            out.extend(range(first, last + 1))
        return out

    def covers(self, slot: int) -> bool:
        """Whether the slot is one of its."""
        for first, last, _ in self.runs:
            if first <= slot <= last:
                return True
        return False

    def overlaps(self, runs: Runs) -> bool:
        """Whether one of its slots is in ``runs``."""
        for first, last, _ in self.runs:
            for other_first, other_last, _ in runs:
                if first <= other_last and other_first <= last:
                    return True
        return False

    def to_words(self) -> list[bytes]:
        """All of it as byte strings."""
        numbers = (
            self.role, self.peer, self.order, self.phase, self.session[0], self.session[1], self.seq, self.f_index,
            self.fenced_ms, self.keys, self.result, self.began_ms, self.updated_ms, self.ended_ms,
        )  # fmt: skip
        texts = [self.mid, runs_bytes(self.runs), self.chain.hex().encode(), self.reason, self.trouble]
        return texts + [b"%d" % value for value in numbers]

    @staticmethod
    def of_words(words: list[bytes]) -> Record:
        """The inverse of to_words(). Raises ValueError."""
        if len(words) != _RECORD_WORDS:
            raise ValueError("a migration's record has the wrong size")
        values = [number(word) for word in words[5:]]
        if values[0] not in (EXPORT, IMPORT) or not EXPORTING <= values[3] <= ENDED or values[10] > FORCED:
            raise ValueError("a migration's record says what none can say")
        made = Record(valid_mid(words[0]), values[0], values[1], values[2], parse_runs(words[1]))
        made.chain = parse_digest(words[2])
        made.reason, made.trouble = words[3], words[4]
        made.phase = values[3]
        made.session = (values[4], values[5])
        made.seq, made.f_index, made.fenced_ms, made.keys = values[6], values[7], values[8], values[9]
        made.result, made.began_ms, made.updated_ms, made.ended_ms = values[10], values[11], values[12], values[13]
        return made


class State:
    """See the module's text. ``group`` is this group's id; ``owned`` what it owns from the beginning, with epochs.

    ``records`` are migrations that need something yet, ``finished`` the last that do not, oldest first.
    """

    __slots__ = (
        "_blob", "_owned", "_slots_blob", "applied", "decided_epoch", "decided_order", "epochs", "finished",
        "finished_moved", "group", "last_refusal", "moved", "own", "records", "refused", "serves",
    )  # fmt: skip

    def __init__(self, group: int, owned: Runs = ()) -> None:
        self.group = group
        self.epochs = [0] * SLOTS
        self.own = bytearray(SLOTS)
        self.serves = bytearray(SLOTS)
        # The highest (base epoch, order) of a migration decided here.
        self.decided_epoch = [0] * SLOTS
        self.decided_order = [0] * SLOTS
        self.records: dict[bytes, Record] = {}
        self.finished: dict[bytes, Record] = {}
        # Index of the last item applied, effective or not.
        self.applied = 0
        # Items that took no effect, and why the last one did not.
        self.refused = 0
        self.last_refusal = b""
        # Something differs from what to_bytes(), and finished_to_bytes(), said last.
        self.moved = True
        self.finished_moved = True
        self._slots_blob = b""
        self._blob = b""
        # What owned_runs() said last, until something moves.
        self._owned: Runs | None = None
        for first, last, epoch in owned:
            self.set_own(first, last, OWNED, epoch)

    # -- looking ----------------------------------------------------------------------------------------------------

    def find(self, mid: bytes) -> Record | None:
        """The migration, ongoing or among the last finished."""
        return self.records.get(mid) or self.finished.get(mid)

    def active(self, role: int) -> list[Record]:
        """The ongoing exports, or imports the source has not confirmed, in order of their beginning."""
        return [record for record in self.records.values() if record.role == role]

    def at(self, slot: int) -> Record | None:
        """The migration the slot is in now."""
        if self.own[slot] in {NONE, OWNED}:
            return None
        for record in self.records.values():
            if record.phase == self.own[slot] and record.covers(slot):
                return record
        raise AssertionError(f"slot {slot} is in a migration nobody knows")

    def may_flush(self) -> bool:
        """Whether FLUSHALL and FLUSHDB may run: not while fenced slots must stay as they are."""
        return FENCED not in self.own

    def moved_away(self, runs: Runs) -> bool:
        """Whether the target of a migration from ``runs`` took them over, as far as epochs here tell."""
        return all(self.epochs[first] > epoch for first, _, epoch in runs)

    def owned_runs(self) -> Runs:
        """What the group owns now, fenced slots included, with epochs: what it tells others."""
        if self._owned is None:
            out: list[tuple[int, int, int]] = []
            for first, last, epoch, own, _, _ in self._runs():
                if own in {NONE, IMPORTING}:
                    continue
                if out and out[-1][1] == first - 1 and out[-1][2] == epoch:
                    out[-1] = (out[-1][0], last, epoch)
                else:
                    out.append((first, last, epoch))
            self._owned = tuple(out)
        return self._owned

    # -- changing, in apply -------------------------------------------------------------------------------------------

    def set_own(self, first: int, last: int, own: int, epoch: int = _KEPT) -> None:
        """What the group is to the slots ``first`` up to ``last`` from now on; without ``epoch`` theirs stay."""
        count = last + 1 - first
        self.own[first : last + 1] = bytes((own,)) * count
        self.serves[first : last + 1] = (b"\x01" if own in {OWNED, EXPORTING} else b"\x00") * count
        if epoch != _KEPT:
            self.epochs[first : last + 1] = [epoch] * count
        self._slots_blob = b""
        self._owned = None
        self.moved = True

    def decide(self, record: Record) -> None:
        """Nothing of this migration, nor of an earlier one of its slots, may begin here any more."""
        for first, last, epoch in record.runs:
            for slot in range(first, last + 1):
                if (epoch, record.order) > (self.decided_epoch[slot], self.decided_order[slot]):
                    self.decided_epoch[slot] = epoch
                    self.decided_order[slot] = record.order
        self._slots_blob = b""
        self.moved = True

    def finish(self, record: Record) -> None:
        """The migration needs nothing any more."""
        del self.records[record.mid]
        self.finished[record.mid] = record
        if len(self.finished) > FINISHED_MAX:
            del self.finished[next(iter(self.finished))]
        self.moved = True
        self.finished_moved = True

    # -- digest, checkpoint -----------------------------------------------------------------------------------------

    def canonical(self) -> bytes:
        """Content as bytes for the state digest; who asks for it takes nothing from the next checkpoint."""
        moved, finished_moved = self.moved, self.finished_moved
        content = self.to_bytes() + self.finished_to_bytes()
        self.moved, self.finished_moved = moved, finished_moved
        return content

    def to_bytes(self) -> bytes:
        """Slots and ongoing migrations; the same state gives the same bytes. Costs nothing while nothing moves."""
        if not self.moved:
            return self._blob
        self.moved = False
        if not self._slots_blob:
            self._slots_blob = b",".join([b"%d %d %d %d %d %d" % run for run in self._runs()])
        head = b"%d %d %d" % (self.group, self.applied, self.refused)
        records = [packed(record.to_words()) for record in self.records.values()]
        self._blob = packed([_FORMAT, head, self.last_refusal, self._slots_blob, *records])
        return self._blob

    def from_bytes(self, blob: bytes) -> None:
        """Become what to_bytes() wrote. Raises ValueError."""
        parts = unpacked(blob)
        if len(parts) < 4 or parts[0] != _FORMAT:
            raise ValueError("the state of the slots is in a form this version does not know; use a newer durakv")
        group, applied, refused = (number(word) for word in parts[1].split(b" "))
        made = State(group)
        at = 0
        for text in parts[3].split(b","):
            words = [number(word) for word in text.split(b" ")]
            if len(words) != _SLOT_WORDS or words[0] != at or not at <= words[1] < SLOTS or words[3] > IMPORTING:
                raise ValueError("the state of the slots is damaged; take an older checkpoint")
            first, at = at, words[1] + 1
            count = at - first
            made.set_own(first, words[1], words[3], words[2])
            made.decided_epoch[first:at] = [words[4]] * count
            made.decided_order[first:at] = [words[5]] * count
        if at != SLOTS:
            raise ValueError("the state of the slots is incomplete; take an older checkpoint")
        for part in parts[4:]:
            record = Record.of_words(unpacked(part))
            made.records[record.mid] = record
        self.group, self.applied, self.refused, self.last_refusal = group, applied, refused, parts[2]
        self.epochs, self.own = made.epochs, made.own
        # The gate keeps hold of this one.
        self.serves[:] = made.serves
        self.decided_epoch, self.decided_order = made.decided_epoch, made.decided_order
        self.records = made.records
        self._slots_blob, self._blob = parts[3], blob
        self._owned = None
        self.moved = False

    def finished_to_bytes(self) -> bytes:
        """The last finished migrations, apart because they are many and change seldom."""
        self.finished_moved = False
        return packed([_FORMAT, *[packed(record.to_words()) for record in self.finished.values()]])

    def finished_from_bytes(self, blob: bytes) -> None:
        """Become what finished_to_bytes() wrote. Raises ValueError."""
        parts = unpacked(blob)
        if not parts or parts[0] != _FORMAT:
            raise ValueError("the finished migrations are in a form this version does not know; use a newer durakv")
        made = [Record.of_words(unpacked(part)) for part in parts[1:]]
        self.finished = {record.mid: record for record in made}
        self.finished_moved = False

    def _runs(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        """(first, last, epoch, own, decided epoch, decided order) of neighbours that are alike."""
        first = 0
        for facts, alike in groupby(zip(self.epochs, self.own, self.decided_epoch, self.decided_order, strict=True)):
            last = first + len(list(alike)) - 1
            yield (first, last, *facts)
            first = last + 1
