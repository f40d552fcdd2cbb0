"""One class per message between data nodes, and one per call to the config holder and its answer.

Rule: a message is immutable once sent; entry lists inside may be shared. `term` is the sender's epoch. Snapshots travel
in raft's own Snapshot and SnapshotResp, and a node tells itself with raft's StorageAppendDone what is durable. Nothing
here knows bytes: see codec.py.
"""

from typing import Final, TypeAlias

from raft.messages import Snapshot, SnapshotResp, StorageAppendDone
from raft.primary_backup.types import RequestId, ShardConfig
from raft.types import Entry


class Message:
    """What all have in common, as in raft.messages: the group (shard), both ends and the epoch.

    Not a subclass of raft's, which may be compiled and closed to others.
    """

    __slots__ = ("from_", "group", "term", "to")

    def __init__(self, group: int, from_: int, to: int, term: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term


class Prepare(Message):
    """Entries behind (prev_index, prev_term). `round` and `t_sent_ns` come back in the answer and prolong the lease.

    `forced_epoch` tells a member whose committed entries a forced promotion gave up that they may be replaced.
    """

    __slots__ = ("commit", "entries", "forced_epoch", "prev_index", "prev_term", "round", "t_sent_ns")

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
        forced_epoch: int,
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
        self.forced_epoch = forced_epoch
        self.entries = entries


class PrepareOk(Message):
    """ok: the sender's durable log equals the primary's through `match`.

    Otherwise `match` is the refused prev_index and (hint_index, hint_term) the last place where the logs may agree;
    `rebuild` asks for a snapshot, because what was given up by force is committed here. All zero under a larger term:
    the receiver was deposed.
    """

    __slots__ = ("hint_index", "hint_term", "match", "ok", "rebuild", "round", "t_sent_ns")

    def __init__(
        self,
        group: int,
        from_: int,
        to: int,
        term: int,
        ok: bool,
        rebuild: bool,
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
        self.rebuild = rebuild
        self.match = match
        self.hint_index = hint_index
        self.hint_term = hint_term
        self.round = round_
        self.t_sent_ns = t_sent_ns


class Beacon(Message):
    """The primary lives; `commit` never exceeds what the receiver acknowledged. round 0 asks for no answer."""

    __slots__ = ("commit", "round", "t_sent_ns")

    def __init__(self, group: int, from_: int, to: int, term: int, commit: int, round_: int, t_sent_ns: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.commit = commit
        self.round = round_
        self.t_sent_ns = t_sent_ns


class BeaconOk(Message):
    """The receiver helps nobody else into office for its grace time, counted from before this was sent."""

    __slots__ = ("round", "t_sent_ns")

    def __init__(self, group: int, from_: int, to: int, term: int, round_: int, t_sent_ns: int) -> None:
        self.group = group
        self.from_ = from_
        self.to = to
        self.term = term
        self.round = round_
        self.t_sent_ns = t_sent_ns


class Relinquish(Message):
    """The primary of `term` will never serve in it again; the receiver, which has all its entries, may take over."""

    __slots__ = ()


PeerMessage: TypeAlias = Message | Snapshot | SnapshotResp | StorageAppendDone
"""Whatever may pass between data nodes, or from one to itself."""


# The config holder


class Outcome:
    """What is known of a call to the holder.

    OK: it took effect (now or when it was first sent). REFUSED: this call had no effect and never will.
    UNKNOWN: it may take effect, now or later.
    """

    OK: Final = 0
    REFUSED: Final = 1
    UNKNOWN: Final = 2


class Reason:
    """Why a call was refused."""

    NONE: Final = 0
    EPOCH: Final = 1  # another epoch is in force
    INVALID: Final = 2  # the rules forbid it, in this epoch for ever
    LEASED: Final = 3  # a forced promotion while the primary may still serve
    MISSING: Final = 4  # no such shard
    NOT_SENT: Final = 5  # the holder never got this call


REASON_TEXTS: Final = (
    "",
    "another epoch is in force",
    "the rules forbid it",
    "the primary's lease with the config holder has not expired; retry when it has",
    "the config holder knows no such shard; create it first",
    "the config holder was not reached",
)


class HolderCall:
    """What all have in common. `call_id` names this sending; `request` the wish, the same in every repetition."""

    __slots__ = ("call_id", "request", "shard")

    def __init__(self, call_id: int, shard: int, request: RequestId) -> None:
        self.call_id = call_id
        self.shard = shard
        self.request = request


class CreateCall(HolderCall):
    """Found a shard; ok also if it exists exactly so."""

    __slots__ = ("config",)

    def __init__(self, call_id: int, shard: int, request: RequestId, config: ShardConfig) -> None:
        self.call_id = call_id
        self.shard = shard
        self.request = request
        self.config = config


class ReadCall(HolderCall):
    """A linearizable read."""

    __slots__ = ()


class CasCall(HolderCall):
    """Put `config` in force if the epoch before it, config.epoch - 1, is; config.request is this call's."""

    __slots__ = ("config",)

    def __init__(self, call_id: int, shard: int, request: RequestId, config: ShardConfig) -> None:
        self.call_id = call_id
        self.shard = shard
        self.request = request
        self.config = config


class RenewCall(HolderCall):
    """The primary of `epoch` asks that nobody be promoted by force for grace_ns from when this is applied."""

    __slots__ = ("epoch", "grace_ns")

    def __init__(self, call_id: int, shard: int, request: RequestId, epoch: int, grace_ns: int) -> None:
        self.call_id = call_id
        self.shard = shard
        self.request = request
        self.epoch = epoch
        self.grace_ns = grace_ns


class ForceCall(HolderCall):
    """Promote `node` whatever it lacks, if `epoch` is in force; the operator names the in-sync members it gives up.

    (certain_through, kept_through) are of ForceLoss, for the record.
    """

    __slots__ = ("certain_through", "epoch", "given_up", "kept_through", "node")

    def __init__(
        self,
        call_id: int,
        shard: int,
        request: RequestId,
        epoch: int,
        node: int,
        given_up: tuple[int, ...],
        certain_through: int,
        kept_through: int,
    ) -> None:
        self.call_id = call_id
        self.shard = shard
        self.request = request
        self.epoch = epoch
        self.node = node
        self.given_up = given_up
        self.certain_through = certain_through
        self.kept_through = kept_through


class HolderAnswer:
    """The answer to a call. `config` is what is in force, None if the holder did not say."""

    __slots__ = ("call_id", "config", "outcome", "reason")

    def __init__(self, call_id: int, outcome: int, reason: int, config: ShardConfig | None) -> None:
        self.call_id = call_id
        self.outcome = outcome
        self.reason = reason
        self.config = config
