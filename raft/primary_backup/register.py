"""The config holder's state machine: per shard one configuration that only compare-and-swap changes, and one lease.

Rule: the only place that decides who may change what. apply() is a pure function of state, command and time, and never
raises: it runs in the log of a small group, every member alike. The judge_* functions are the same rules for an adapter
over another store. Must not know how calls travel; holds no data of the shard.

A wish carries a request id and the epoch it starts from, so sending it twice does no harm: the second finds its own
request in force and is told that it took effect, or finds a later epoch and is told what is in force now.

`now_ns` is the group's logical time: RegisterClock makes it, so that it never runs faster than the clock of whoever
leads the group and never jumps when another member leads. A forced promotion may be late for it, never early.
"""

import struct
from typing import Final

from raft.primary_backup.codec import decode_call, encode_answer
from raft.primary_backup.messages import (
    CasCall,
    CreateCall,
    ForceCall,
    HolderAnswer,
    HolderCall,
    Outcome,
    Reason,
    RenewCall,
)
from raft.primary_backup.types import FORCE_STEP, ShardConfig
from raft.types import DecodeError

# Nobody may fence off an operator for longer than this by asking.
GRACE_NS_MAX: Final = 3600 * 1_000_000_000
SHARDS_MAX: Final = 1 << 16

_VERSION: Final = 1
_HEAD: Final = struct.Struct("<BQI")
_ROW: Final = struct.Struct("<QI")


class RegisterClock:
    """Logical time for commands, kept by the member that leads the holder's group.

    begin() when it starts to lead, with the register's last time; it adds what passed on its own monotonic clock since.
    """

    __slots__ = ("_base_ns", "_own_ns")

    def __init__(self) -> None:
        self._base_ns = 0
        self._own_ns = 0

    def begin(self, last_ns: int, own_ns: int) -> None:
        """Lead from `own_ns` of this member's clock on; the last applied command was stamped `last_ns`."""
        self._base_ns = last_ns
        self._own_ns = own_ns

    def stamp(self, own_ns: int) -> int:
        """The time to put into a command."""
        return self._base_ns + max(0, own_ns - self._own_ns)


class Slot:
    """One shard's configuration, and until when the primary may rely on nobody being forced into its place."""

    __slots__ = ("config", "leased_until_ns")

    def __init__(self, config: ShardConfig, leased_until_ns: int = 0) -> None:
        self.config = config
        self.leased_until_ns = leased_until_ns


def judge_cas(current: ShardConfig, call: CasCall) -> int:
    """Reason.NONE if the change may be made to `current`; EPOCH or INVALID if not, for every repetition too."""
    new = call.config
    if new.epoch != current.epoch + 1:
        return Reason.EPOCH
    author = call.request.node
    if author != new.primary or new.forced_epoch != current.forced_epoch:
        return Reason.INVALID
    if author == current.primary:
        for node in new.isr:
            # Only who was seen catching up can have caught up.
            if node not in current.isr and node not in current.learners:
                return Reason.INVALID
        return Reason.NONE
    return _judge_promotion(current, new)


def _judge_promotion(current: ShardConfig, new: ShardConfig) -> int:
    """A member takes over: from the in-sync ones only, and changing nothing but the primary's place."""
    if new.primary not in current.isr or not new.same_terms(current):
        return Reason.INVALID
    isr = tuple(node for node in current.isr if node != current.primary)
    learners = tuple(sorted((*current.learners, current.primary)))
    return Reason.NONE if new.isr == isr and new.learners == learners else Reason.INVALID


def judge_force(current: ShardConfig, call: ForceCall, leased: bool) -> int:
    """Reason.NONE if the forced promotion may be made; LEASED while the primary may still serve alone.

    A primary with other in-sync members serves without the holder's lease, so the operator has to name all members that
    are given up: naming them says that they are stopped.
    """
    if call.epoch != current.epoch:
        return Reason.EPOCH
    if call.node not in current.members() or call.request.node not in (0, call.node):
        return Reason.INVALID
    if call.given_up != tuple(node for node in current.isr if node != call.node):
        return Reason.INVALID
    return Reason.LEASED if leased else Reason.NONE


def forced(current: ShardConfig, call: ForceCall) -> ShardConfig:
    """The configuration a forced promotion puts in force."""
    epoch = current.epoch + FORCE_STEP
    learners = [node for node in current.members() if node != call.node]
    return ShardConfig(
        current.shard, epoch, call.node, (call.node,), learners, current.min_isr, epoch, call.request, current.context
    )


class Register:
    """All shards of one holder. `last_ns` is the logical time of the last command."""

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}
        self.last_ns = 0

    def shard(self, shard: int) -> ShardConfig | None:
        """What is in force, for a read that was made linearizable by other means."""
        slot = self._slots.get(shard)
        return None if slot is None else slot.config

    def shards(self) -> list[ShardConfig]:
        """What is in force in each shard, in order of their numbers."""
        return [self._slots[shard].config for shard in sorted(self._slots)]

    def leased_until_ns(self, shard: int) -> int:
        """Until when, in logical time, a forced promotion is refused."""
        slot = self._slots.get(shard)
        return 0 if slot is None else slot.leased_until_ns

    def apply(self, command: bytes, now_ns: int) -> bytes:
        """Apply one command; the answer's bytes. A command nobody could have meant changes nothing."""
        self.last_ns = max(self.last_ns, now_ns)
        try:
            call = decode_call(command)
        except DecodeError:
            return encode_answer(HolderAnswer(0, Outcome.REFUSED, Reason.INVALID, None))
        return encode_answer(self._answer(call))

    def _answer(self, call: HolderCall) -> HolderAnswer:
        slot = self._slots.get(call.shard)
        if isinstance(call, CreateCall):
            return self._create(call, slot)
        if slot is None:
            return HolderAnswer(call.call_id, Outcome.REFUSED, Reason.MISSING, None)
        if isinstance(call, (CasCall, ForceCall)):
            reason = self._change(call, slot)
        elif isinstance(call, RenewCall):
            reason = self._renew(call, slot)
        else:
            reason = Reason.NONE
        outcome = Outcome.OK if reason == Reason.NONE else Outcome.REFUSED
        return HolderAnswer(call.call_id, outcome, reason, slot.config)

    def _create(self, call: CreateCall, slot: Slot | None) -> HolderAnswer:
        if slot is None and len(self._slots) < SHARDS_MAX and call.config.epoch == 1 and not call.config.forced_epoch:
            slot = self._slots[call.shard] = Slot(call.config)
        if slot is not None and slot.config == call.config:
            return HolderAnswer(call.call_id, Outcome.OK, Reason.NONE, slot.config)
        return HolderAnswer(call.call_id, Outcome.REFUSED, Reason.INVALID, None if slot is None else slot.config)

    def _change(self, call: CasCall | ForceCall, slot: Slot) -> int:
        current = slot.config
        if call.request.number == 0:
            # Numbers of wishes start at 1; the founding is nobody's wish.
            return Reason.INVALID
        if current.request == call.request:
            # It is this very wish that is in force.
            return Reason.NONE
        if isinstance(call, ForceCall):
            reason = judge_force(current, call, self.last_ns < slot.leased_until_ns)
            new = forced(current, call) if reason == Reason.NONE else current
        else:
            reason = judge_cas(current, call)
            new = call.config
        if reason == Reason.NONE:
            slot.config = new
        return reason

    def _renew(self, call: RenewCall, slot: Slot) -> int:
        if call.epoch != slot.config.epoch or call.request.node != slot.config.primary:
            return Reason.EPOCH
        if not 0 < call.grace_ns <= GRACE_NS_MAX:
            return Reason.INVALID
        slot.leased_until_ns = max(slot.leased_until_ns, self.last_ns + call.grace_ns)
        return Reason.NONE

    def to_bytes(self) -> bytes:
        """The whole state; equal states give equal bytes."""
        parts = [_HEAD.pack(_VERSION, self.last_ns, len(self._slots))]
        for shard in sorted(self._slots):
            slot = self._slots[shard]
            body = slot.config.encode()
            parts.append(_ROW.pack(slot.leased_until_ns, len(body)))
            parts.append(body)
        return b"".join(parts)

    @staticmethod
    def from_bytes(data: bytes) -> "Register":
        """The inverse of to_bytes(). Raises DecodeError."""
        try:
            version, last_ns, count = _HEAD.unpack_from(data)
            if version != _VERSION or count > SHARDS_MAX:
                raise DecodeError(f"register version {version} with {count} shards unknown; run a newer release")
            out = Register()
            out.last_ns = last_ns
            at = _HEAD.size
            before = -1
            for _ in range(count):
                leased, length = _ROW.unpack_from(data, at)
                at += _ROW.size
                config = ShardConfig.decode(data[at : at + length])
                at += length
                if config.shard <= before:
                    raise DecodeError("shards of a register are not sorted")
                before = config.shard
                out._slots[config.shard] = Slot(config, leased)
        except struct.error as error:
            raise DecodeError(f"malformed register: {error}") from None
        if at != len(data):
            raise DecodeError(f"{len(data) - at} bytes follow the last shard")
        return out
