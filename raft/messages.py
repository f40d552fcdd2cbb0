"""One class per message between members of a group, and the one a node sends to itself.

Rule: a message is immutable once sent; entry lists inside may be shared by several messages. `term` is the sender's
term (for PreVote and a granted PreVoteResp, the term being asked about). Nothing here knows bytes: see codec.py.
"""

from raft.types import Entry, SnapshotMeta


class Message:
    """What all have in common: the group, both ends and the term."""

    __slots__ = ("from_", "group", "term", "to")

    def __init__(self, group: int, from_: int, to: int, term: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term


class Vote(Message):
    """RequestVote (dissertation 3.4). `force` skips stickiness and is sound only up to `force_round`, see reads.py."""

    __slots__ = ("force", "force_round", "last_index", "last_term")

    def __init__(
        self,
        group: int,
        from_: int,
        to: int,
        term: int,
        last_index: int,
        last_term: int,
        force: bool,
        force_round: int,
    ) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.last_index = last_index
        self.last_term = last_term
        self.force = force
        self.force_round = force_round


class VoteResp(Message):
    """Answer to Vote; leaves only when the vote is durable."""

    __slots__ = ("granted",)

    def __init__(self, group: int, from_: int, to: int, term: int, granted: bool) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.granted = granted


class PreVote(Message):
    """Would you vote for me in `term`? Changes nothing at the receiver (dissertation 9.6)."""

    __slots__ = ("last_index", "last_term")

    def __init__(self, group: int, from_: int, to: int, term: int, last_index: int, last_term: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.last_index = last_index
        self.last_term = last_term


class PreVoteResp(Message):
    """Granted: `term` echoes the question. Refused: `term` is the responder's own."""

    __slots__ = ("granted",)

    def __init__(self, group: int, from_: int, to: int, term: int, granted: bool) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.granted = granted


class Append(Message):
    """AppendEntries (dissertation 3.5). `round` and `t_sent_ns` come back in the answer and prove leadership."""

    __slots__ = ("commit", "entries", "prev_index", "prev_term", "round", "t_sent_ns")

    def __init__(
        self,
        group: int,
        from_: int,
        to: int,
        term: int,
        prev_index: int,
        prev_term: int,
        commit: int,
        round_: int,
        t_sent_ns: int,
        entries: list[Entry],
    ) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.prev_index = prev_index
        self.prev_term = prev_term
        self.commit = commit
        self.round = round_
        self.t_sent_ns = t_sent_ns
        self.entries = entries


class AppendResp(Message):
    """ok: the sender's durable log equals the leader's through `match`.

    Otherwise `match` is the refused prev_index and (hint_index, hint_term) the last place where the logs may agree.
    """

    __slots__ = ("hint_index", "hint_term", "match", "ok", "round", "t_sent_ns")

    def __init__(
        self,
        group: int,
        from_: int,
        to: int,
        term: int,
        ok: bool,
        match: int,
        hint_index: int,
        hint_term: int,
        round_: int,
        t_sent_ns: int,
    ) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.ok = ok
        self.match = match
        self.hint_index = hint_index
        self.hint_term = hint_term
        self.round = round_
        self.t_sent_ns = t_sent_ns


class Heartbeat(Message):
    """Leader is alive. `round` 0 is a commit notice that wants no answer and promises nothing."""

    __slots__ = ("commit", "round", "t_sent_ns")

    def __init__(self, group: int, from_: int, to: int, term: int, commit: int, round_: int, t_sent_ns: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.commit = commit
        self.round = round_
        self.t_sent_ns = t_sent_ns


class HeartbeatResp(Message):
    """Echo of a Heartbeat."""

    __slots__ = ("round", "t_sent_ns")

    def __init__(self, group: int, from_: int, to: int, term: int, round_: int, t_sent_ns: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.round = round_
        self.t_sent_ns = t_sent_ns


class Snapshot(Message):
    """One chunk of a snapshot's bytes. `crc` covers data, `crc_total` all bytes from offset 0 to this chunk's end."""

    __slots__ = ("crc", "crc_total", "data", "done", "meta", "offset")

    def __init__(
        self,
        group: int,
        from_: int,
        to: int,
        term: int,
        meta: SnapshotMeta,
        offset: int,
        done: bool,
        crc: int,
        crc_total: int,
        data: bytes,
    ) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.meta = meta
        self.offset = offset
        self.done = done
        self.crc = crc
        self.crc_total = crc_total
        self.data = data


class SnapshotResp(Message):
    """The receiver of snapshot `index` wants the bytes at `next_offset`."""

    __slots__ = ("index", "next_offset")

    def __init__(self, group: int, from_: int, to: int, term: int, index: int, next_offset: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.index = index
        self.next_offset = next_offset


class TimeoutNow(Message):
    """Campaign at once (dissertation 3.10), unless a round of a later epoch than `round`'s was heard."""

    __slots__ = ("round",)

    def __init__(self, group: int, from_: int, to: int, term: int, round_: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.round = round_


class ReadIndexReq(Message):
    """A follower asks for an index to read at; `read_id` is its own number for the question."""

    __slots__ = ("read_id",)

    def __init__(self, group: int, from_: int, to: int, term: int, read_id: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.read_id = read_id


class ReadIndexResp(Message):
    """Answer to ReadIndexReq; not ok when leadership was lost before the proof."""

    __slots__ = ("index", "ok", "read_id")

    def __init__(self, group: int, from_: int, to: int, term: int, read_id: int, ok: bool, index: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.read_id = read_id
        self.ok = ok
        self.index = index


class WitnessAppend(Message):
    """The leader's subterm has begun: its log ends with (`last_log_term`, `last_log_subterm`) on a subquorum of
    `replication_set`, durable through `index`. `replication_set` is sorted and includes the witness.
    """

    __slots__ = ("index", "last_log_subterm", "last_log_term", "replication_set")

    def __init__(
        self,
        group: int,
        from_: int,
        to: int,
        term: int,
        last_log_term: int,
        last_log_subterm: int,
        index: int,
        replication_set: tuple[int, ...],
    ) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.last_log_term = last_log_term
        self.last_log_subterm = last_log_subterm
        self.index = index
        self.replication_set = replication_set


class WitnessAppendResp(Message):
    """Answer to WitnessAppend; `subterm` and `index` are the question's, `term` the witness's own."""

    __slots__ = ("index", "ok", "subterm")

    def __init__(self, group: int, from_: int, to: int, term: int, ok: bool, subterm: int, index: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.ok = ok
        self.subterm = subterm
        self.index = index


class WitnessVote(Message):
    """A vote, or pre-vote, that only the witness is missing. `votes_granted`: the full members that granted, sorted,
    the candidate included. For `pre`, `term` is the term being asked about and nothing changes at the witness.
    """

    __slots__ = ("last_log_subterm", "last_log_term", "pre", "votes_granted")

    def __init__(
        self,
        group: int,
        from_: int,
        to: int,
        term: int,
        last_log_term: int,
        last_log_subterm: int,
        pre: bool,
        votes_granted: tuple[int, ...],
    ) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.last_log_term = last_log_term
        self.last_log_subterm = last_log_subterm
        self.pre = pre
        self.votes_granted = votes_granted


class WitnessVoteResp(Message):
    """Answer to WitnessVote. A granted pre-vote echoes the question's term, all others carry the witness's own."""

    __slots__ = ("granted", "pre")

    def __init__(self, group: int, from_: int, to: int, term: int, granted: bool, pre: bool) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.granted = granted
        self.pre = pre


class StorageAppendDone(Message):
    """To self: this Ready and all before it are durable. (index, term_last) was its last entry; give it back as is.

    `seq` orders hand-overs: an answer about an entry that was truncated or replaced since then counts only up to the
    part that was not.
    """

    __slots__ = ("index", "seq", "term_last")

    def __init__(self, group: int, from_: int, to: int, term: int, index: int, term_last: int, seq: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.index = index
        self.term_last = term_last
        self.seq = seq
