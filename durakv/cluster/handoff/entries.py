"""The log items of a slot handoff: what the source's and the target's log say about a migration.

An item is an argv behind the control record ``@handoff``: a verb, the migration's id, then what the verb needs. Runs
say which slots under which epoch: ``first-last:epoch`` joined by commas, ascending. Rule: the only place that knows
the bytes of items. ``decode`` refuses whatever ``encode`` does not write; whether an item may take effect is apply's.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from struct import error as StructError
from typing import Final

from durakv.keyspace.slots import SLOTS

# -- the source's log
EXPORT_BEGIN: Final = b"export-begin"
FENCE: Final = b"fence"
UNFENCE: Final = b"unfence"
RELEASE: Final = b"release"
EXPORT_CANCEL: Final = b"export-cancel"
FORCE_ABORT: Final = b"force-abort"
# -- the target's log
IMPORT_BEGIN: Final = b"import-begin"
IMPORT_BATCH: Final = b"import-batch"
ACTIVATE: Final = b"activate"
ABORT: Final = b"abort"
IMPORT_FORGET: Final = b"import-forget"
# A forced abort at the source has overruled this target's activation.
YIELD: Final = b"yield"

# -- kinds of operations on staged keys
PUT: Final = b"P"
DELETE: Final = b"D"
WIPE: Final = b"W"

MID_DIGITS: Final = 40
DIGEST_BYTES: Final = 16
NO_DIGEST: Final = bytes(DIGEST_BYTES)
REASON_BYTES_MAX: Final = 512
_NUMBER_MAX: Final = (1 << 63) - 1
_NUMBER_DIGITS_MAX: Final = 19
_HEX: Final = b"0123456789abcdef"
_COUNT: Final = Struct("<I")

# (first slot, last slot, epoch)
Run = tuple[int, int, int]
Runs = tuple[Run, ...]
# (term of the source's leader, number of the attempt under it)
Session = tuple[int, int]


class Op:
    """One operation on staged keys. ``at_ms``: the key's deadline in Unix ms, -1 without. ``payload``: the value."""

    __slots__ = ("at_ms", "db", "key", "kind", "payload")

    def __init__(self, kind: bytes, db: int, key: bytes = b"", at_ms: int = -1, payload: bytes = b"") -> None:
        self.kind = kind
        self.db = db
        self.key = key
        self.at_ms = at_ms
        self.payload = payload

    def size_bytes(self) -> int:
        """About what it takes in a log entry or a message."""
        return 32 + len(self.key) + len(self.payload)


class Item:
    """A decoded item; what its verb does not carry is as __init__ leaves it.

    ``peer`` is the other group. ``order`` is the index of the export's beginning in the source's log: it tells the
    migrations of one slot and epoch apart. ``seq`` numbers the batches of a session from 1, in ACTIVATE it is how many
    there are. ``digest`` is over the session's batches, ``counts`` over the keys of each slot.
    """

    __slots__ = (
        "counts", "digest", "f_index", "mid", "ops", "order", "peer", "reason", "runs", "seq", "session", "time_ms",
        "verb",
    )  # fmt: skip

    def __init__(self, verb: bytes, mid: bytes) -> None:
        self.verb = verb
        self.mid = mid
        self.peer = 0
        self.order = 0
        self.session: Session = (0, 0)
        self.runs: Runs = ()
        self.seq = 0
        self.f_index = 0
        self.time_ms = 0
        self.digest = NO_DIGEST
        self.counts = NO_DIGEST
        self.reason = b""
        # As it stands in the item, so that its digest can be taken; see ops_of().
        self.ops = b""


# -- numbers, runs, byte strings ------------------------------------------------------------------------------------


def number(text: bytes) -> int:
    """A canonical decimal number, 0 up to 2^63 - 1. Raises ValueError."""
    if not text.isdigit() or len(text) > _NUMBER_DIGITS_MAX or (text[0] == 0x30 and len(text) > 1):
        raise ValueError(f"{text[:40]!r} is no number of a handoff item")
    value = int(text)
    if value > _NUMBER_MAX:
        raise ValueError(f"{value} is too large a number for a handoff item")
    return value


def valid_mid(mid: bytes) -> bytes:
    """``mid`` when it is 40 lower-case hex digits. Raises ValueError."""
    if len(mid) != MID_DIGITS or mid.strip(_HEX):
        raise ValueError(f"{mid[:60]!r} is no migration's id")
    return mid


def runs_bytes(runs: Runs) -> bytes:
    """As items and messages carry runs."""
    return b",".join([b"%d-%d:%d" % run for run in runs])


def parse_runs(text: bytes) -> Runs:
    """The inverse of runs_bytes(). Raises ValueError for anything but ascending runs of slots that are apart."""
    out: list[Run] = []
    before = -1
    for part in text.split(b","):
        span, colon, epoch = part.partition(b":")
        first_text, dash, last_text = span.partition(b"-")
        if not colon or not dash:
            raise ValueError(f"{part[:60]!r} is no run of slots")
        first, last = number(first_text), number(last_text)
        if not before < first <= last < SLOTS:
            raise ValueError(f"the run {part[:60]!r} is out of range or out of order")
        before = last
        out.append((first, last, number(epoch)))
    return tuple(out)


def packed(parts: list[bytes]) -> bytes:
    """Byte strings, each behind its length, all behind their number."""
    out = [_COUNT.pack(len(parts))]
    for part in parts:
        out.append(_COUNT.pack(len(part)))
        out.append(part)
    return b"".join(out)


def unpacked(blob: bytes) -> list[bytes]:
    """The inverse of packed(). Raises ValueError."""
    size_of = _COUNT.size
    try:
        (count,) = _COUNT.unpack_from(blob)
        at = size_of
        if count > len(blob) // size_of:
            raise ValueError("more parts are announced than there can be")
        out: list[bytes] = []
        for _ in range(count):
            (size,) = _COUNT.unpack_from(blob, at)
            at += size_of + size
            if at > len(blob):
                raise ValueError("a part is cut short")
            out.append(blob[at - size : at])
    except StructError:
        raise ValueError("a length is cut short") from None
    if at != len(blob):
        raise ValueError("bytes behind the last part")
    return out


def chained(digest: bytes, ops: bytes) -> bytes:
    """The digest of a session's batches with one more of them."""
    state = blake2b(digest, digest_size=DIGEST_BYTES)
    state.update(ops)
    return state.digest()


def counts_digest(counts: list[tuple[int, int]]) -> bytes:
    """Over (slot, number of keys in all databases) of every slot that has keys, ascending."""
    text = b"".join([b"%d=%d;" % pair for pair in counts])
    return blake2b(text, digest_size=DIGEST_BYTES).digest()


# -- operations -----------------------------------------------------------------------------------------------------


def put_op(out: list[bytes], op: Op) -> None:
    """Append an operation to the parts of a batch: its kind, its numbers, then key and payload as they are."""
    if op.kind == PUT:
        out.append(_PUT_HEAD.pack(PUT, op.db, op.at_ms, len(op.key), len(op.payload)))
        out.append(op.key)
        out.append(op.payload)
    elif op.kind == DELETE:
        out.append(_DELETE_HEAD.pack(DELETE, op.db, len(op.key)))
        out.append(op.key)
    else:
        assert op.kind == WIPE, f"no operation is called {op.kind!r}"
        out.append(_WIPE_HEAD.pack(WIPE, op.db))


def ops_of(batch: bytes, databases: int) -> list[Op]:
    """The operations of a batch; ``databases``: how many there are. Raises ValueError."""
    out: list[Op] = []
    at = 0
    total = len(batch)
    try:
        while at < total:
            kind = batch[at : at + 1]
            if kind == PUT:
                _, db, at_ms, key_bytes, payload_bytes = _PUT_HEAD.unpack_from(batch, at)
                begin = at + _PUT_HEAD_BYTES
                middle = begin + key_bytes
                at = middle + payload_bytes
                op = Op(PUT, db, batch[begin:middle], at_ms, batch[middle:at])
                if at_ms < -1:
                    raise ValueError(f"{at_ms} is no deadline")
            elif kind == DELETE:
                _, db, key_bytes = _DELETE_HEAD.unpack_from(batch, at)
                begin = at + _DELETE_HEAD_BYTES
                at = begin + key_bytes
                op = Op(DELETE, db, batch[begin:at])
            elif kind == WIPE:
                _, db = _WIPE_HEAD.unpack_from(batch, at)
                at += _WIPE_HEAD_BYTES
                op = Op(WIPE, db)
            else:
                raise ValueError(f"no operation on staged keys is called {kind!r}")
            if op.db >= databases:
                raise ValueError(f"there is no database {op.db}")
            out.append(op)
    except StructError:
        raise ValueError("an operation on staged keys is cut short") from None
    if at != total:
        raise ValueError("an operation on staged keys is cut short")
    return out


# kind, database, deadline (-1: none), bytes of the key and of the payload
_PUT_HEAD: Final = Struct("<cHqII")
_PUT_HEAD_BYTES: Final = 19
# kind, database, bytes of the key
_DELETE_HEAD: Final = Struct("<cHI")
_DELETE_HEAD_BYTES: Final = 7
# kind, database
_WIPE_HEAD: Final = Struct("<cH")
_WIPE_HEAD_BYTES: Final = 3


# -- items ----------------------------------------------------------------------------------------------------------


def export_begin(mid: bytes, target: int, runs: Runs) -> list[bytes]:
    """The slots of ``runs`` shall go to group ``target``."""
    return [EXPORT_BEGIN, mid, b"%d" % target, runs_bytes(runs)]


def fence(mid: bytes, session: Session) -> list[bytes]:
    """From here on the source executes nothing on these slots."""
    return [FENCE, mid, *_session(session)]


def unfence(mid: bytes, reason: bytes) -> list[bytes]:
    """The target has decided against it: the source goes on."""
    return [UNFENCE, mid, reason[:REASON_BYTES_MAX]]


def release(mid: bytes) -> list[bytes]:
    """The target has decided for it: the source forgets the slots' keys."""
    return [RELEASE, mid]


def export_cancel(mid: bytes, reason: bytes) -> list[bytes]:
    """Given up before the fence."""
    return [EXPORT_CANCEL, mid, reason[:REASON_BYTES_MAX]]


def force_abort(mid: bytes) -> list[bytes]:
    """An operator takes fenced slots back, whatever the target decided: what it acknowledged may be lost."""
    return [FORCE_ABORT, mid]


def import_begin(mid: bytes, source: int, order: int, session: Session, runs: Runs) -> list[bytes]:
    """An empty staging area for a session of the source's."""
    return [IMPORT_BEGIN, mid, b"%d" % source, b"%d" % order, *_session(session), runs_bytes(runs)]


def import_batch(mid: bytes, session: Session, seq: int, ops: bytes) -> list[bytes]:
    """The next operations of the session, as put_op() writes them."""
    return [IMPORT_BATCH, mid, *_session(session), b"%d" % seq, ops]


def activate(
    mid: bytes, session: Session, f_index: int, time_ms: int, seq: int, digest: bytes, counts: bytes
) -> list[bytes]:
    """The instant of transfer, when it takes effect. ``time_ms``: the source's log time at its fence."""
    return [
        ACTIVATE, mid, *_session(session), b"%d" % f_index, b"%d" % time_ms, b"%d" % seq,
        digest.hex().encode(), counts.hex().encode(),
    ]  # fmt: skip


def abort(mid: bytes, source: int, order: int, runs: Runs, reason: bytes) -> list[bytes]:
    """Decided against, for good; also for a migration this group never heard of."""
    return [ABORT, mid, b"%d" % source, b"%d" % order, runs_bytes(runs), reason[:REASON_BYTES_MAX]]


def import_forget(mid: bytes) -> list[bytes]:
    """The source knows the decision and has acted on it."""
    return [IMPORT_FORGET, mid]


def yield_slots(mid: bytes) -> list[bytes]:
    """The source's operator has overruled the activation."""
    return [YIELD, mid]


def decode(argv: list[bytes]) -> Item:
    """The item in ``argv``, without its ``@handoff``. Raises ValueError with what is wrong."""
    if len(argv) < 2 or argv[0] not in _WORDS:
        raise ValueError(f"no handoff item begins with {argv[:1]!r}; a newer durakv may know it")
    verb = argv[0]
    least, most = _WORDS[verb]
    if not least <= len(argv) <= most:
        raise ValueError(f"the handoff item {verb.decode()} has {len(argv)} words")
    item = Item(verb, valid_mid(argv[1]))
    if verb == EXPORT_BEGIN:
        item.peer = number(argv[2])
        item.runs = parse_runs(argv[3])
    elif verb == FENCE:
        item.session = (number(argv[2]), number(argv[3]))
    elif verb in {UNFENCE, EXPORT_CANCEL}:
        item.reason = _reason(argv[2])
    elif verb == IMPORT_BEGIN:
        item.peer = number(argv[2])
        item.order = number(argv[3])
        item.session = (number(argv[4]), number(argv[5]))
        item.runs = parse_runs(argv[6])
    elif verb == IMPORT_BATCH:
        item.session = (number(argv[2]), number(argv[3]))
        item.seq = number(argv[4])
        item.ops = argv[5]
        if not item.ops:
            raise ValueError("a batch of a handoff holds nothing")
    elif verb == ACTIVATE:
        item.session = (number(argv[2]), number(argv[3]))
        item.f_index, item.time_ms, item.seq = number(argv[4]), number(argv[5]), number(argv[6])
        item.digest, item.counts = parse_digest(argv[7]), parse_digest(argv[8])
    elif verb == ABORT:
        item.peer = number(argv[2])
        item.order = number(argv[3])
        item.runs = parse_runs(argv[4])
        item.reason = _reason(argv[5])
    return item


_WORDS: Final = {
    EXPORT_BEGIN: (4, 4), FENCE: (4, 4), UNFENCE: (3, 3), RELEASE: (2, 2), EXPORT_CANCEL: (3, 3), FORCE_ABORT: (2, 2),
    IMPORT_BEGIN: (7, 7), IMPORT_BATCH: (6, 6), ACTIVATE: (9, 9), ABORT: (6, 6), IMPORT_FORGET: (2, 2),
    YIELD: (2, 2),
}  # fmt: skip


def parse_digest(text: bytes) -> bytes:
    """16 bytes from 32 lower-case hex digits. Raises ValueError."""
    if len(text) != 2 * DIGEST_BYTES or text.strip(_HEX):
        raise ValueError(f"{text[:60]!r} is no digest")
    return bytes.fromhex(text.decode())


def _session(session: Session) -> tuple[bytes, bytes]:
    return b"%d" % session[0], b"%d" % session[1]


def _reason(text: bytes) -> bytes:
    if len(text) > REASON_BYTES_MAX:
        raise ValueError("the reason in a handoff item is too long")
    return text
