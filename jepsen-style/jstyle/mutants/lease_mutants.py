"""Planted bugs of lease mode: of clocks and promises, of who counts for a commit, and of who may take office.

Rule: the replacement is the mistake itself, not a fault that imitates its effect. Where several guards would each catch
a mistake, the mutant takes those away too, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from durakv.replication.lease_node import LeaseNode
from durakv.world.ports import Clock, Timer
from jstyle.mutants.patching import replaced
from raft.messages import Snapshot
from raft.primary_backup import candidate, changes, leases, office, register, secondary
from raft.primary_backup import primary as reign
from raft.primary_backup.messages import CasCall, Message, PrepareOk, Reason
from raft.primary_backup.node import ChangeKind, Member, Peer
from raft.primary_backup.types import ShardConfig
from raft.types import Role

Patch = AbstractContextManager[None]


# ---- Clocks and promises ---------------------------------------------------------------------------------------------


def serves_without_a_lease() -> Patch:
    """M11."""

    def make(_: object) -> Callable[[Member], str]:
        def sure(r: Member) -> str:
            return "" if r.role == Role.LEADER and not r.resigned else "this node is not in office"

        return sure

    return replaced(leases, "missing", make)


class _WallClock:
    """A clock whose every reading is of the wall."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic_ns(self) -> int:
        return self._clock.wall_ms() * 1_000_000

    def raw_ns(self) -> int:
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        return self._clock.wall_ms()

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        return self._clock.call_later(delay_ms, fn)

    def call_soon(self, fn: Callable[[], None]) -> None:
        self._clock.call_soon(fn)


def leases_by_the_wall_clock() -> Patch:
    """M12."""

    def make(init: Callable[..., None]) -> Callable[..., None]:
        def walled(self: LeaseNode, *parts: Any) -> None:
            init(self, *parts)
            self.clock = _WallClock(self.clock)

        return walled

    return replaced(LeaseNode, "__init__", make)


def a_started_node_forgets_its_promise() -> Patch:
    """M13: it is as if nobody had been heard before, and nothing promised."""

    def make(note_now: Callable[[Member, int, int], None]) -> Callable[..., None]:
        def forgetful(r: Member, now_ns: int, raw_ns: int = -1) -> None:
            first = r.now_ns < 0
            note_now(r, now_ns, raw_ns)
            if first:
                r.promise_over = True
                r.heard_ns -= r.config.grace_ns

        return forgetful

    return replaced(leases, "note_now", make)


def a_lease_counts_from_the_answer() -> Patch:
    """LS1."""

    def make(_: object) -> Callable[[Member, Peer, int, int], None]:
        def late(r: Member, peer: Peer, round_: int, t_sent_ns: int) -> None:
            del t_sent_ns
            peer.heard_ns = r.now_ns
            if r.lease_floor <= round_ <= r.round:
                peer.progress.ack_sent_ns = r.now_ns

        return late

    return replaced(leases, "extend", make)


def the_promise_ends_with_the_office() -> Patch:
    """LS2: who takes over serves at once."""
    return replaced(leases, "promise_kept", lambda _: _always)


def _always(r: Member) -> bool:
    del r
    return True


def the_old_primary_serves_while_it_hands_over() -> Patch:
    """LS3."""

    def make(hand_over: Callable[[Member, Peer], None]) -> Callable[[Member, Peer], None]:
        def stays(r: Member, peer: Peer) -> None:
            acks = [(other, other.progress.ack_sent_ns) for other in r.peer_list]
            floor, was = r.lease_floor, r.resigned
            hand_over(r, peer)
            if r.resigned and not was:
                r.resigned = False
                r.lease_floor = floor
                for other, ack_ns in acks:
                    other.progress.ack_sent_ns = ack_ns

        return stays

    return replaced(reign, "hand_over_when_ready", make)


def a_pause_is_silence() -> Patch:
    """LS10: what was not heard while the node itself stood still counts as silence of the others."""

    def make(_: object) -> Callable[[Member], None]:
        def unmoved(r: Member) -> None:
            del r

        return unmoved

    return replaced(leases, "_was_paused", make)


# ---- Who counts for a commit -----------------------------------------------------------------------------------------


def commits_without_the_union() -> Patch:
    """LS4: only what was asked for last counts, whether it is in force or not."""

    def make(_: object) -> Callable[[Member], list[tuple[int, ...]]]:
        def newest(r: Member) -> list[tuple[int, ...]]:
            change = r.change
            return [change.call.config.isr if change is not None and isinstance(change.call, CasCall) else r.isr]

        return newest

    return replaced(Member, "possible_sets", make)


def admitted_by_lag() -> Patch:
    """LS5."""

    def make(_: object) -> Callable[[Member, Peer], bool]:
        return lambda r, peer: r.log.last - peer.progress.match <= 3

    return replaced(candidate, "covered", make)


def a_joining_node_does_not_count() -> Patch:
    """LS6."""

    def make(effective: Callable[[Member], tuple[int, ...]]) -> Callable[[Member], tuple[int, ...]]:
        def without(self: Member) -> tuple[int, ...]:
            joining, self.joining = self.joining, 0
            out = effective(self)
            self.joining = joining
            return out

        return without

    return replaced(Member, "effective", make)


def acknowledged_before_it_is_durable() -> Patch:
    """LS7."""

    def make(_: object) -> Callable[[Member, Message | Snapshot, int, int, int], None]:
        def hasty(r: Member, m: Message | Snapshot, match: int, round_: int, t_sent_ns: int) -> None:
            r.messages.append(PrepareOk(r.group, r.id, m.from_, r.term, True, False, match, 0, 0, round_, t_sent_ns))

        return hasty

    return replaced(secondary, "_acknowledge", make)


# ---- Who takes office ------------------------------------------------------------------------------------------------


def an_epoch_is_resumed() -> Patch:
    """LS8: what an earlier run asked for is taken for this one's wish."""

    def make(note_config: Callable[[Member, ShardConfig], None]) -> Callable[[Member, ShardConfig], None]:
        def trusting(r: Member, config: ShardConfig) -> None:
            if config.primary == r.id:
                config.request.nonce = r.nonce
                config.request.node = r.id
                if config.epoch == r.term and r.role != Role.LEADER:
                    r.term -= 1
            note_config(r, config)

        return trusting

    return replaced(office, "note_config", make)


@contextmanager
def anyone_is_promoted() -> Iterator[None]:
    """LS9: a member asks that is not in sync, and the holder does not mind."""

    def make_willing(_: object) -> Callable[[Member], bool]:
        def willing(r: Member) -> bool:
            sound = r.log.pending_snapshot is None and not r.rebuild_for
            return r.known is not None and r.change is None and sound

        return willing

    def make_take_over(_: object) -> Callable[[Member], None]:
        def take(r: Member) -> None:
            known = r.known
            r.armed = False
            if known is None or r.change is not None or known.epoch != r.term or known.primary == r.id:
                return
            isr = tuple(sorted([r.id, *(n for n in known.isr if n not in (r.id, known.primary))]))
            learners = tuple(n for n in known.members() if n not in isr)
            changes.ask_change(r, ChangeKind.PROMOTE, r.id, isr, learners)

        return take

    with (
        replaced(secondary, "_may_take_over", make_willing),
        replaced(secondary, "_take_over", make_take_over),
        replaced(register, "_judge_promotion", lambda _: _any_promotion),
    ):
        yield


def _any_promotion(current: ShardConfig, new: ShardConfig) -> int:
    del current, new
    return Reason.NONE
