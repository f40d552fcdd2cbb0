"""The nouns of the lease protocol: who is in office, by whose request, and what a forced promotion may have lost.

Rule: values; nobody changes one after it was made. An epoch is a log entry's term and a message's term: one number, one
word per context. This file must not know roles, messages between members or how a register is kept.
"""

import struct
from collections.abc import Sequence
from typing import Final

from raft.types import DecodeError

MEMBERS_MAX: Final = 64
CONTEXT_BYTES_MAX: Final = 64 * 1024
# A forced promotion leaves a gap no ordinary sequence of changes fills, so it is seen in every log for ever.
FORCE_STEP: Final = 1000

_VERSION: Final = 1
# version, shard, epoch, primary, min_isr, forced_epoch, request (node, nonce, number), |isr|, |learners|, |context|
_HEAD: Final = struct.Struct("<BQQQHQQQQHHI")


class RequestId:
    """Names one wish of one process, however often it is sent; `nonce` differs between runs of a node."""

    __slots__ = ("node", "nonce", "number")

    def __init__(self, node: int, nonce: int, number: int) -> None:
        self.node = node
        self.nonce = nonce
        self.number = number

    def made_by(self, node: int, nonce: int) -> bool:
        """True if that very run of that node asked."""
        return self.node == node and self.nonce == nonce

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RequestId)
            and self.node == other.node
            and self.nonce == other.nonce
            and self.number == other.number
        )

    def __hash__(self) -> int:
        return hash((self.node, self.nonce, self.number))

    def __repr__(self) -> str:
        return f"RequestId({self.node}, {self.nonce}, {self.number})"


def sorted_members(ids: Sequence[int]) -> tuple[int, ...]:
    """Ids in order. Raises ValueError when one is not positive, is listed twice, or there are too many."""
    out = tuple(sorted(ids))
    if len(out) > MEMBERS_MAX:
        raise ValueError(f"{len(out)} members; a shard has at most {MEMBERS_MAX}")
    if out and out[0] <= 0:
        raise ValueError(f"node ids are positive, got {out[0]}")
    for i in range(1, len(out)):
        if out[i] == out[i - 1]:
            raise ValueError(f"node id {out[i]} is listed twice; list each member once")
    return out


class ShardConfig:
    """What the config holder keeps of one shard, in one epoch.

    `isr` are the in-sync members, the primary among them: each holds every committed entry, and only one of them may
    be promoted. `learners` are data nodes that are catching up. Fewer than `min_isr` in-sync members take no writes.
    `forced_epoch` is that of the last forced promotion, 0 if there was none. `request` is whose wish made this epoch.
    `context` is the application's (an address book), carried and never read here.
    """

    __slots__ = ("context", "epoch", "forced_epoch", "isr", "learners", "min_isr", "primary", "request", "shard")

    def __init__(
        self,
        shard: int,
        epoch: int,
        primary: int,
        isr: Sequence[int],
        learners: Sequence[int] = (),
        min_isr: int = 1,
        forced_epoch: int = 0,
        request: RequestId | None = None,
        context: bytes = b"",
    ) -> None:
        self.shard = shard
        self.epoch = epoch
        self.primary = primary
        self.isr = sorted_members(isr)
        self.learners = sorted_members(learners)
        self.min_isr = min_isr
        self.forced_epoch = forced_epoch
        self.request = request if request is not None else RequestId(0, 0, 0)
        self.context = context
        if epoch < 1:
            raise ValueError("epochs start at 1")
        if primary not in self.isr:
            raise ValueError(f"primary {primary} is not one of the in-sync members {list(self.isr)}")
        for node in self.learners:
            if node in self.isr:
                raise ValueError(f"node {node} is both in sync and a learner; list it once")
        if not 1 <= min_isr <= MEMBERS_MAX:
            raise ValueError(f"min_isr is {min_isr}; it must be between 1 and {MEMBERS_MAX}")
        if len(context) > CONTEXT_BYTES_MAX:
            raise ValueError(f"a context of {len(context)} bytes; at most {CONTEXT_BYTES_MAX} fit")

    def members(self) -> tuple[int, ...]:
        """Every data node, sorted."""
        return tuple(sorted((*self.isr, *self.learners)))

    def same_terms(self, other: "ShardConfig") -> bool:
        """True if only membership differs: the shard's minimum, history of force and context are the other's."""
        return (
            self.shard == other.shard
            and self.min_isr == other.min_isr
            and self.forced_epoch == other.forced_epoch
            and self.context == other.context
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardConfig) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash((self.shard, self.epoch))

    def __repr__(self) -> str:
        text = f"ShardConfig(shard={self.shard}, epoch={self.epoch}, primary={self.primary}, isr={list(self.isr)}"
        if self.learners:
            text += f", learners={list(self.learners)}"
        if self.forced_epoch:
            text += f", forced_epoch={self.forced_epoch}"
        return f"{text}, min_isr={self.min_isr}, request={self.request!r})"

    def encode(self) -> bytes:
        """The same configuration always gives the same bytes, so a store may compare them."""
        head = _HEAD.pack(
            _VERSION, self.shard, self.epoch, self.primary, self.min_isr, self.forced_epoch,
            self.request.node, self.request.nonce, self.request.number,
            len(self.isr), len(self.learners), len(self.context),
        )  # fmt: skip
        ids = (*self.isr, *self.learners)
        return head + struct.pack(f"<{len(ids)}Q", *ids) + self.context

    @staticmethod
    def decode(data: bytes) -> "ShardConfig":
        """The inverse of encode(). Raises DecodeError for anything else, trailing bytes included."""
        if len(data) < _HEAD.size:
            raise DecodeError(f"a shard configuration of {len(data)} bytes is shorter than its header")
        version, shard, epoch, primary, min_isr, forced, node, nonce, number, n_isr, n_learners, n_context = (
            _HEAD.unpack_from(data)
        )
        if version != _VERSION:
            raise DecodeError(f"shard configuration version {version} unknown; run a newer release")
        total = n_isr + n_learners
        if n_isr > MEMBERS_MAX or n_learners > MEMBERS_MAX or len(data) != _HEAD.size + 8 * total + n_context:
            raise DecodeError("shard configuration length does not match its header")
        ids: tuple[int, ...] = struct.unpack_from(f"<{total}Q", data, _HEAD.size)
        context = bytes(data[_HEAD.size + 8 * total :])
        try:
            out = ShardConfig(
                shard, epoch, primary, ids[:n_isr], ids[n_isr:], min_isr, forced,
                RequestId(node, nonce, number), context,
            )  # fmt: skip
        except ValueError as error:
            raise DecodeError(str(error)) from None
        if ids != (*out.isr, *out.learners):
            raise DecodeError("shard configuration ids are not sorted")
        return out


class ForceLoss:
    """What a forced promotion may have lost, as exactly as the promoted node can say it.

    Every acknowledged entry through `certain_through` is kept. Those above it, through `kept_through`, are kept as the
    promoted node has them on disk; one of them may differ from what was acknowledged. Acknowledged entries above
    `kept_through` may be lost. `given_up` are the in-sync members whose logs were abandoned.
    """

    __slots__ = ("certain_through", "epoch_after", "epoch_before", "given_up", "kept_through", "node")

    def __init__(
        self,
        node: int,
        epoch_before: int,
        epoch_after: int,
        given_up: tuple[int, ...],
        certain_through: int,
        kept_through: int,
    ) -> None:
        self.node = node
        self.epoch_before = epoch_before
        self.epoch_after = epoch_after
        self.given_up = given_up
        self.certain_through = certain_through
        self.kept_through = kept_through

    def text(self) -> str:
        """One line for the log and the operator."""
        return (
            f"node {self.node} was promoted by force, epoch {self.epoch_before} -> {self.epoch_after}, giving up "
            f"{list(self.given_up)}: entries through {self.certain_through} are kept, "
            f"{self.certain_through + 1}..{self.kept_through} are kept as this node has them, acknowledged entries "
            f"above {self.kept_through} may be lost"
        )
