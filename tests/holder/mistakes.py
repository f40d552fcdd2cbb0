"""Planted mistakes in the embedded holder, one per rule; histories under faults must find each."""

from __future__ import annotations

from contextlib import contextmanager

from durakv.holder import client, durable, journal, member, wire
from raft.messages import Vote, VoteResp
from raft.primary_backup.codec import encode_answer
from raft.primary_backup.messages import HolderAnswer, Outcome, ReadCall, Reason
from raft.types import Role


@contextmanager
def instead(place, name, make):
    original = place.__dict__[name]
    setattr(place, name, make(original))
    try:
        yield
    finally:
        setattr(place, name, original)


def answered_when_proposed():
    """OK before the change is committed."""

    def make(call):
        def eager(self, payload, reply):
            before = len(self._proposed)
            call(self, payload, reply)
            if len(self._proposed) > before:
                asked = list(self._proposed.values())[-1]
                asked.reply = lambda kind, payload: None
                copy = type(self.register).from_bytes(self.register.to_bytes())
                reply(wire.ANSWER, copy.apply(payload, self._stamps.stamp(self.clock.monotonic_ns())))

        return eager

    return instead(member.HolderMember, "call", make)


def reads_ask_nobody():
    """Whoever believes to lead answers reads out of its own state."""

    def make(call):
        def local(self, payload, reply):
            asked = member.decode_call(payload)
            if isinstance(asked, ReadCall) and self.core.role == Role.LEADER:
                self._answer_read(member._Asked(asked, 0, reply))
                return
            call(self, payload, reply)

        return local

    return instead(member.HolderMember, "call", make)


def followers_answer_reads():
    def make(call):
        def local(self, payload, reply):
            asked = member.decode_call(payload)
            if isinstance(asked, ReadCall):
                self._answer_read(member._Asked(asked, 0, reply))
                return
            call(self, payload, reply)

        return local

    return instead(member.HolderMember, "call", make)


def nothing_is_synced():
    return instead(journal, "sync_timed", lambda _: lambda lane, sync, path: None)


def votes_are_not_kept():
    def make(hand_over):
        def forgetful(self, rd):
            hand_over(self, rd)
            if not self._entries:
                self._vote_changed = False

        return forgetful

    return instead(durable.DurableLog, "hand_over", make)


def promises_leave_before_the_sync():
    def make(hand_over):
        def hasty(self, rd):
            early = [m for m in rd.after_persist if not isinstance(m, (Vote, VoteResp))]
            rd.after_persist = [m for m in rd.after_persist if isinstance(m, (Vote, VoteResp))]
            hand_over(self, rd)
            self._send(early)

        return hasty

    return instead(durable.DurableLog, "hand_over", make)


def a_lost_call_is_sent_again():
    def make(lost):
        def repeated(self, numbers, member_id, why):
            self.unreached(numbers, member_id, why)

        return repeated

    return instead(client.HolderClient, "lost", make)


def silence_means_not_sent():
    def make(_):
        def guess(self, pending):
            self._end(pending, HolderAnswer(pending.call.call_id, Outcome.REFUSED, Reason.NOT_SENT, None))

        return guess

    return instead(client.HolderClient, "_end_unknown", make)


def a_deposed_leader_says_not_sent():
    def make(_):
        def certain(self):
            asked, self._proposed = self._proposed, {}
            for one in asked.values():
                answer = HolderAnswer(one.call_id, Outcome.REFUSED, Reason.NOT_SENT, None)
                one.reply(wire.ANSWER, encode_answer(answer))

        return certain

    return instead(member.HolderMember, "_give_up", make)


def the_log_is_cut_without_a_snapshot():
    """A file made anew keeps the newest entries and forgets what they stand on."""

    def make(image):
        def bare(self):
            out = image(self)
            out.data = b"" if out.meta is None else member.Register().to_bytes()
            return out

        return bare

    return instead(durable.DurableLog, "_image", make)


def time_is_the_leaders_own():
    """Commands are stamped by the clock of whoever leads, not by the group's."""

    def make(_):
        return lambda self, own_ns: own_ns

    return instead(member.RegisterClock, "stamp", make)


ALL = (
    answered_when_proposed,
    reads_ask_nobody,
    followers_answer_reads,
    nothing_is_synced,
    votes_are_not_kept,
    promises_leave_before_the_sync,
    a_lost_call_is_sent_again,
    silence_means_not_sent,
    a_deposed_leader_says_not_sent,
    the_log_is_cut_without_a_snapshot,
    time_is_the_leaders_own,
)
