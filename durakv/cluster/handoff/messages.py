"""What the leaders of two groups say to each other about a migration, and its bytes.

Messages may be lost, doubled, late and out of order: each carries the migration's id, the session and its number in
that, and whoever gets it compares them with its own log. Rule: the only place that knows these bytes. A message of
another cluster, of an unknown form or not addressed to this group is refused before anything of it is believed.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.handoff.entries import (
    NO_DIGEST,
    REASON_BYTES_MAX,
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

# -- from the source's leader
# A session begins: runs, order, estimate_bytes.
PREPARE: Final = b"prepare"
# seq, ops.
BATCH: Final = b"batch"
# The session is complete: seq (its batches), f_index, time_ms, digest, counts.
DIGEST: Final = b"digest"
# Decide now, against it unless it is decided: order, runs, reason.
RESOLVE: Final = b"resolve"
# Answers QUERY, and tells of an end: status.
STATUS: Final = b"status"
# -- from the target's leader
# Batches up to seq are committed.
ACK: Final = b"ack"
# The session cannot begin: reason; status 0 when it is worth trying again, 1 when not.
REFUSED: Final = b"refused"
# What the target's log says, for good: result (state.MOVED or state.ABORTED), reason.
DECIDED: Final = b"decided"
# What is with it at the source: order, runs.
QUERY: Final = b"query"

# -- status
ACTIVE: Final = 0
GONE: Final = 1
FORCED: Final = 2

# Room for one value of the largest size beside what else a batch holds. A transport refuses more unread.
MESSAGE_BYTES_MAX: Final = 1 << 30
CLUSTER_ID_BYTES_MAX: Final = 128
_FORMAT: Final = b"H2"
_KINDS: Final = {PREPARE: 4, BATCH: 3, DIGEST: 6, RESOLVE: 3, STATUS: 1, ACK: 2, REFUSED: 3, DECIDED: 2, QUERY: 2}
_HEAD_WORDS: Final = 6


class Message:
    """One message; what its kind does not carry is as __init__ leaves it. Names are those of entries.Item."""

    __slots__ = (
        "counts", "digest", "estimate_bytes", "f_index", "kind", "mid", "ops", "order", "reason", "result", "runs",
        "seq", "session", "status", "time_ms",
    )  # fmt: skip

    def __init__(self, kind: bytes, mid: bytes) -> None:
        self.kind = kind
        self.mid = mid
        self.session: Session = (0, 0)
        self.order = 0
        self.runs: Runs = ()
        self.estimate_bytes = 0
        self.seq = 0
        # A batch, as entries.put_op() writes it.
        self.ops = b""
        self.f_index = 0
        self.time_ms = 0
        self.digest = NO_DIGEST
        self.counts = NO_DIGEST
        self.reason = b""
        self.result = 0
        self.status = 0

    def to_bytes(self, cluster_id: bytes, sender: int, receiver: int) -> bytes:
        """For the wire, from the leader of group ``sender`` to that of ``receiver``."""
        return packed([_FORMAT, cluster_id, b"%d" % sender, b"%d" % receiver, self.mid, self.kind, *self._words()])

    def _words(self) -> list[bytes]:
        kind = self.kind
        session = b"%d %d" % self.session
        if kind == PREPARE:
            return [session, b"%d" % self.order, runs_bytes(self.runs), b"%d" % self.estimate_bytes]
        if kind == BATCH:
            return [session, b"%d" % self.seq, self.ops]
        if kind == DIGEST:
            numbers = [b"%d" % self.f_index, b"%d" % self.time_ms, b"%d" % self.seq]
            return [session, *numbers, self.digest.hex().encode(), self.counts.hex().encode()]
        if kind == RESOLVE:
            return [b"%d" % self.order, runs_bytes(self.runs), self.reason]
        if kind == STATUS:
            return [b"%d" % self.status]
        if kind == ACK:
            return [session, b"%d" % self.seq]
        if kind == REFUSED:
            return [session, self.reason, b"%d" % self.status]
        if kind == DECIDED:
            return [b"%d" % self.result, self.reason]
        assert kind == QUERY, f"no message is called {kind!r}"
        return [b"%d" % self.order, runs_bytes(self.runs)]


def of_bytes(blob: bytes, cluster_id: bytes, receiver: int) -> tuple[int, Message]:
    """(group of the sender, message) from the wire. Raises ValueError: drop the message, and say why in the log."""
    if len(blob) > MESSAGE_BYTES_MAX:
        raise ValueError("a handoff message is too long")
    parts = unpacked(blob)
    if len(parts) < _HEAD_WORDS or parts[0] != _FORMAT:
        raise ValueError("a handoff message is in a form this version does not know; upgrade both groups")
    if parts[1] != cluster_id:
        raise ValueError(f"a handoff message comes from cluster {parts[1][:CLUSTER_ID_BYTES_MAX]!r}, not this one")
    sender, addressee = number(parts[2]), number(parts[3])
    if addressee != receiver or sender == receiver:
        raise ValueError(f"a handoff message from group {sender} is addressed to group {addressee}, not {receiver}")
    words = parts[_HEAD_WORDS:]
    kind = parts[5]
    wanted = _KINDS.get(kind, 0)
    if not wanted or len(words) != wanted:
        raise ValueError(f"no handoff message is called {kind[:20]!r} and has {len(words)} words")
    message = Message(kind, valid_mid(parts[4]))
    _fill(message, words)
    if len(message.reason) > REASON_BYTES_MAX:
        raise ValueError("the reason in a handoff message is too long")
    return sender, message


def _fill(message: Message, words: list[bytes]) -> None:
    kind = message.kind
    if kind in {PREPARE, BATCH, DIGEST, ACK, REFUSED}:
        term, _, attempt = words[0].partition(b" ")
        message.session = (number(term), number(attempt))
    if kind == PREPARE:
        message.order, message.runs, message.estimate_bytes = number(words[1]), parse_runs(words[2]), number(words[3])
    elif kind == BATCH:
        message.seq, message.ops = number(words[1]), words[2]
    elif kind == DIGEST:
        message.f_index, message.time_ms, message.seq = number(words[1]), number(words[2]), number(words[3])
        message.digest, message.counts = parse_digest(words[4]), parse_digest(words[5])
    elif kind == RESOLVE:
        message.order, message.runs, message.reason = number(words[0]), parse_runs(words[1]), words[2]
    elif kind == STATUS:
        message.status = number(words[0])
    elif kind == ACK:
        message.seq = number(words[1])
    elif kind == REFUSED:
        message.reason, message.status = words[1], number(words[2])
    elif kind == DECIDED:
        message.result, message.reason = number(words[0]), words[1]
    else:
        message.order, message.runs = number(words[0]), parse_runs(words[1])
