"""The config holder's state machine: who may change what, what is certain after an answer, and force."""

import pytest

from raft import DecodeError
from raft.primary_backup import Outcome, Reason, Register, RegisterClock, RequestId, ShardConfig, codec
from raft.primary_backup.messages import CasCall, CreateCall, ForceCall, ReadCall, RenewCall
from raft.primary_backup.register import GRACE_NS_MAX, judge_cas
from raft.primary_backup.types import FORCE_STEP
from tests.raft.cluster import Dice

FOUNDED = ShardConfig(7, 1, 1, (1, 2, 3), (4,), min_isr=2, context=b"book")


class Holder:
    def __init__(self) -> None:
        self.register = Register()
        self.now_ns = 100
        assert self.ask(CreateCall, FOUNDED.request, FOUNDED).outcome == Outcome.OK

    def ask(self, kind, request, *rest, shard=7):
        data = codec.encode_call(kind(5, shard, request, *rest))
        answer = codec.decode_answer(self.register.apply(data, self.now_ns))
        assert answer.call_id == 5
        return answer

    def cas(self, request, epoch, primary, isr, learners, min_isr=2, forced=0, context=b"book"):
        config = ShardConfig(7, epoch, primary, isr, learners, min_isr, forced, request, context)
        return self.ask(CasCall, request, config)

    def read(self):
        return self.ask(ReadCall, RequestId(9, 9, 0)).config


def test_a_shard_is_founded_once():
    holder = Holder()
    assert holder.ask(CreateCall, FOUNDED.request, FOUNDED).outcome == Outcome.OK
    other = ShardConfig(7, 1, 2, (2,))
    answer = holder.ask(CreateCall, other.request, other)
    assert (answer.outcome, answer.reason, answer.config) == (Outcome.REFUSED, Reason.INVALID, FOUNDED)
    late = ShardConfig(8, 2, 1, (1,))
    assert holder.ask(CreateCall, late.request, late, shard=8).reason == Reason.INVALID
    missing = holder.ask(ReadCall, RequestId(1, 1, 0), shard=8)
    assert (missing.outcome, missing.reason, missing.config) == (Outcome.REFUSED, Reason.MISSING, None)


def test_compare_and_swap_by_epoch():
    holder = Holder()
    one, two = RequestId(1, 5, 1), RequestId(2, 6, 1)
    assert holder.cas(one, 2, 1, (1, 2), (3, 4)).outcome == Outcome.OK
    loser = holder.cas(two, 2, 2, (2, 3), (1, 4))
    assert (loser.outcome, loser.reason) == (Outcome.REFUSED, Reason.EPOCH)
    assert loser.config == holder.read()
    assert holder.read().isr == (1, 2)


def test_a_wish_sent_twice_takes_effect_once():
    holder = Holder()
    request = RequestId(1, 5, 1)
    first = holder.cas(request, 2, 1, (1, 2), (3, 4))
    again = holder.cas(request, 2, 1, (1, 2), (3, 4))
    assert first.outcome == again.outcome == Outcome.OK
    assert again.config.epoch == 2
    # Something followed it: refused, and what is in force tells the rest.
    holder.cas(RequestId(2, 6, 1), 3, 2, (2,), (1, 3, 4))
    late = holder.cas(request, 2, 1, (1, 2), (3, 4))
    assert (late.reason, late.config.primary, late.config.epoch) == (Reason.EPOCH, 2, 3)


@pytest.mark.parametrize(
    ("author", "config"),
    [
        # Nobody asks for another.
        (2, (2, 1, (1, 2, 3), (4,))),
        # A primary adds only whom it has seen catching up.
        (1, (2, 1, (1, 2, 3, 5), (4,))),
        # Only an in-sync member takes over.
        (4, (2, 4, (2, 3, 4), (1,))),
        # And it changes nothing but the primary's place.
        (2, (2, 2, (2,), (1, 3, 4))),
        (2, (2, 2, (1, 2, 3), (4,))),
        (2, (2, 2, (2, 3), (4,))),
        (2, (2, 2, (2, 3), (1, 4), 1)),
        (2, (2, 2, (2, 3), (1, 4), 2, 0, b"another book")),
        # The history of force is the holder's.
        (1, (2, 1, (1, 2, 3), (4,), 2, 9)),
    ],
)
def test_what_the_rules_forbid(author, config):
    holder = Holder()
    answer = holder.cas(RequestId(author, 5, 1), *config)
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.INVALID)
    assert holder.read() == FOUNDED


def test_what_the_rules_allow():
    holder = Holder()
    steps = [
        (1, (2, 1, (1, 2, 3, 4), ())),
        (1, (3, 1, (1, 2), (3, 5), 1, 0, b"new")),
        (2, (4, 2, (2,), (1, 3, 5), 1, 0, b"new")),
        (2, (5, 2, (2,), (1, 3, 5), 1, 0, b"new")),
    ]
    for number, (author, config) in enumerate(steps, 1):
        assert holder.cas(RequestId(author, 5, number), *config).outcome == Outcome.OK, config
    assert holder.read().primary == 2


def test_force_waits_for_the_lease_and_names_what_it_gives_up():
    holder = Holder()
    renew = holder.ask(RenewCall, RequestId(1, 5, 0), 1, 1000)
    assert renew.outcome == Outcome.OK
    force = RequestId(0, 77, 1)
    assert holder.ask(ForceCall, force, 1, 4, (1, 2, 3), 8, 9).reason == Reason.LEASED
    holder.now_ns = 1099
    assert holder.ask(ForceCall, force, 1, 4, (1, 2, 3), 8, 9).reason == Reason.LEASED
    holder.now_ns = 1100
    assert holder.ask(ForceCall, force, 1, 4, (1, 2), 8, 9).reason == Reason.INVALID
    assert holder.ask(ForceCall, force, 1, 9, (1, 2, 3), 8, 9).reason == Reason.INVALID
    assert holder.ask(ForceCall, force, 2, 4, (1, 2, 3), 8, 9).reason == Reason.EPOCH
    answer = holder.ask(ForceCall, force, 1, 4, (1, 2, 3), 8, 9)
    assert answer.outcome == Outcome.OK
    config = answer.config
    assert (config.epoch, config.forced_epoch, config.primary) == (1 + FORCE_STEP, 1 + FORCE_STEP, 4)
    assert (config.isr, config.learners, config.min_isr, config.context) == ((4,), (1, 2, 3), 2, b"book")
    # Sent again it is the same promotion.
    assert holder.ask(ForceCall, force, 1, 4, (1, 2, 3), 8, 9).config == config


def test_a_wish_without_a_number_is_none():
    holder = Holder()
    nobody = RequestId(0, 0, 0)
    assert holder.ask(ForceCall, nobody, 1, 4, (1, 2, 3), 8, 9).reason == Reason.INVALID
    assert holder.cas(RequestId(1, 5, 0), 2, 1, (1, 2), (3, 4)).reason == Reason.INVALID
    assert holder.read() == FOUNDED


def test_only_the_primary_in_office_renews_and_not_for_ever():
    holder = Holder()
    assert holder.ask(RenewCall, RequestId(2, 5, 0), 1, 1000).reason == Reason.EPOCH
    assert holder.ask(RenewCall, RequestId(1, 5, 0), 2, 1000).reason == Reason.EPOCH
    assert holder.ask(RenewCall, RequestId(1, 5, 0), 1, GRACE_NS_MAX + 1).reason == Reason.INVALID
    assert holder.register.leased_until_ns(7) == 0
    holder.ask(RenewCall, RequestId(1, 5, 0), 1, 5000)
    holder.ask(RenewCall, RequestId(1, 5, 0), 1, 10)
    assert holder.register.leased_until_ns(7) == 5100


def test_logical_time_neither_jumps_nor_hurries():
    clock = RegisterClock()
    clock.begin(500, 1_000_000)
    assert clock.stamp(1_000_000) == 500
    assert clock.stamp(1_000_250) == 750
    # Another member leads, with quite another clock.
    other = RegisterClock()
    other.begin(750, 3)
    assert other.stamp(3) == 750
    assert other.stamp(1) == 750
    register = Register()
    register.apply(b"", 900)
    register.apply(b"", 800)
    assert register.last_ns == 900


def test_the_state_survives_and_damage_is_noticed():
    holder = Holder()
    holder.cas(RequestId(1, 5, 1), 2, 1, (1, 2), (3, 4))
    other = ShardConfig(3, 1, 9, (9,))
    holder.ask(CreateCall, other.request, other, shard=3)
    data = holder.register.to_bytes()
    again = Register.from_bytes(data)
    assert again.to_bytes() == data
    assert again.shard(7) == holder.read()
    assert again.last_ns == holder.register.last_ns
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            Register.from_bytes(data[:cut])
    with pytest.raises(DecodeError):
        Register.from_bytes(data + b"\x00")


def test_no_command_raises_and_members_agree():
    dice = Dice(3)
    members = [Register(), Register()]
    founded = codec.encode_call(CreateCall(1, 7, FOUNDED.request, FOUNDED))
    config = ShardConfig(7, 2, 1, (1, 2), (3, 4), 2, 0, RequestId(1, 1, 1), b"book")
    cas = codec.encode_call(CasCall(2, 7, config.request, config))
    for step in range(400):
        command = bytearray(founded if step == 0 else cas)
        for _ in range(dice.below(3) if step else 0):
            command[dice.below(len(command))] = dice.below(256)
        answers = {member.apply(bytes(command), step) for member in members}
        assert len(answers) == 1
    assert members[0].to_bytes() == members[1].to_bytes()
    assert members[0].shard(7).epoch == 2


def test_an_adapter_judges_by_the_same_rules():
    request = RequestId(2, 6, 1)
    taken = ShardConfig(7, 2, 2, (2, 3), (1, 4), 2, 0, request, b"book")
    assert judge_cas(FOUNDED, CasCall(1, 7, request, taken)) == Reason.NONE
    later = ShardConfig(7, 3, 2, (2, 3), (1, 4), 2, 0, request, b"book")
    assert judge_cas(FOUNDED, CasCall(1, 7, request, later)) == Reason.EPOCH
