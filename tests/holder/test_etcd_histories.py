"""The etcd adapter in the simulator, before an etcd that loses replies, answers late and says errors of what it did:
what it says is certain is certain.
"""

from __future__ import annotations

from base64 import b64decode
from contextlib import contextmanager
from random import Random

import pytest

from durakv.holder import etcd, etcd_json
from durakv.holder.etcd import EtcdHolder, EtcdOptions
from jstyle.sim.guard import no_real_world
from jstyle.sim.timeline import MS
from raft.primary_backup.messages import (
    CasCall,
    CreateCall,
    ForceCall,
    HolderAnswer,
    HolderCall,
    Outcome,
    ReadCall,
    Reason,
    RenewCall,
)
from raft.primary_backup.register import judge_cas, judge_force
from raft.primary_backup.types import RequestId, ShardConfig
from tests.holder.fake_etcd import PORT, EtcdWorld
from tests.holder.holder_world import CLUSTER, NODES, SHARD
from tests.holder.mistakes import instead

CONFIG_KEY = b"/durakv/%s/3/config" % CLUSTER.hex().encode()


class Op:
    def __init__(self, call: HolderCall, at_ns: int) -> None:
        self.call = call
        self.at_ns = at_ns
        self.end_ns = 1 << 63
        self.answer: HolderAnswer | None = None


class History:
    def __init__(self, seed: int) -> None:
        self.world = EtcdWorld(seed)
        self.random = Random(seed + 1)
        self.ops: dict[int, Op] = {}
        self.number = 0
        # A process never changes it.
        self.grace_ns = self.random.choice((1, 3)) * 10**9
        self.seen: dict[int, ShardConfig] = {}
        self.holders = {
            node: EtcdHolder(
                self.world.clock, self.world.network(node), EtcdOptions([f"etcd:{PORT}"]), CLUSTER, self.answered
            )
            for node in NODES
        }

    def answered(self, answer: HolderAnswer) -> None:
        op = self.ops[answer.call_id]
        assert op.answer is None, "answered twice"
        op.answer, op.end_ns = answer, self.world.timeline.now_ns
        if answer.config is not None:
            for node in NODES:
                known = self.seen.get(node)
                if (known is None or answer.config.epoch > known.epoch) and self.random.random() < 0.6:
                    self.seen[node] = answer.config

    def submit(self, node: int, call: HolderCall) -> Op:
        op = self.ops[call.call_id] = Op(call, self.world.timeline.now_ns)
        self.holders[node].submit(call)
        return op

    def call(self, node: int) -> HolderCall:
        self.number += 1
        number, random = self.number, self.random
        request, seen = RequestId(node, 1, number), self.seen.get(node)
        kind = random.random()
        if seen is None or kind < 0.2:
            founding = RequestId(0, 0, 0)
            if kind < 0.1:
                return ReadCall(number, SHARD, request)
            return CreateCall(number, SHARD, founding, ShardConfig(SHARD, 1, 1, (1, 2), (4,), 1, 0, founding, b""))
        if kind < 0.3:
            wishes = [op.call for op in list(self.ops.values())[-10:] if isinstance(op.call, CasCall)]
            if wishes:
                return CasCall(number, SHARD, wishes[-1].request, wishes[-1].config)
        if kind < 0.5:
            return RenewCall(number, SHARD, request, seen.epoch, self.grace_ns)
        if kind < 0.65:
            given_up = tuple(member for member in seen.isr if member != node)
            return ForceCall(number, SHARD, request, seen.epoch, node, given_up, 0, 0)
        isr, learners = seen.isr, seen.learners
        if node != seen.primary:
            isr = tuple(member for member in isr if member != seen.primary)
            learners = tuple(sorted((*learners, seen.primary)))
        elif random.random() < 0.5:
            isr, learners = (1, 2, 4), ()
        if node not in isr:
            return ReadCall(number, SHARD, request)
        config = ShardConfig(SHARD, seen.epoch + 1, node, isr, learners, 1, seen.forced_epoch, request, b"")
        return CasCall(number, SHARD, request, config)

    def run(self, turns: int) -> None:
        random, fake = self.random, self.world.etcd
        for _ in range(turns):
            node = random.choice(NODES)
            self.submit(node, self.call(node))
            if random.random() < 0.1:
                bad = random.random() < 0.5
                fake.silent, fake.late, fake.lying, fake.refusing = (
                    [random.choice((0.0, 0.1, 0.3)) for _ in range(4)] if bad else [0.0] * 4
                )
            if random.random() < 0.03:
                self.world.fabric.cut("etcd", f"m{node}")
                self.world.timeline.at(random.randrange(100, 1500) * MS, self.world.fabric.heal)
            self.world.timeline.run_for(random.choice((0, 1, 3, 30, 200, 500)) * MS)
        fake.silent = fake.late = fake.lying = fake.refusing = 0.0
        self.world.fabric.heal()
        self.world.timeline.run_for(5000 * MS)

    def judge(self) -> dict[str, int]:
        """Whatever etcd wrote is a change the register allows; every certain answer is in agreement with that."""
        in_force: list[tuple[int, ShardConfig]] = []
        owners: dict[RequestId, HolderCall] = {op.call.request: op.call for op in self.ops.values()}
        for at_ns, key, value in self.world.etcd.written:
            if key != CONFIG_KEY:
                continue
            new = ShardConfig.decode(value)
            if in_force:
                call, current = owners[new.request], in_force[-1][1]
                if isinstance(call, CasCall):
                    assert judge_cas(current, call) == Reason.NONE
                else:
                    assert isinstance(call, ForceCall)
                    assert judge_force(current, call, leased=False) == Reason.NONE
                    for op in self.ops.values():
                        ok = op.answer is not None and op.answer.outcome == Outcome.OK
                        if isinstance(op.call, RenewCall) and ok and op.end_ns < at_ns and op.call.epoch <= call.epoch:
                            assert at_ns >= op.at_ns + op.call.grace_ns, "forced within a lease"
            in_force.append((at_ns, new))
        counts = {"ok": 0, "refused": 0, "not sent": 0, "unknown": 0}
        effects = [config.request for _, config in in_force]
        assert len(set(effects)) == len(effects), "one wish took effect twice"
        for op in self.ops.values():
            assert op.answer is not None, "no answer"
            self._judge(op, op.answer, in_force, counts)
        return counts

    def _judge(
        self, op: Op, answer: HolderAnswer, in_force: list[tuple[int, ShardConfig]], counts: dict[str, int]
    ) -> None:
        call = op.call
        mine = [at_ns for at_ns, config in in_force if config.request == call.request]
        during = [
            config
            for i, (at_ns, config) in enumerate(in_force)
            if at_ns <= op.end_ns and (i + 1 == len(in_force) or in_force[i + 1][0] >= op.at_ns)
        ]
        if answer.outcome == Outcome.UNKNOWN:
            counts["unknown"] += 1
            return
        if answer.reason == Reason.NOT_SENT:
            counts["not sent"] += 1
        else:
            counts["ok" if answer.outcome == Outcome.OK else "refused"] += 1
            if answer.config is not None:
                assert answer.config in during, "not in force at any time of the call"
            elif answer.reason == Reason.MISSING:
                assert not in_force or op.at_ns <= in_force[0][0]
        if answer.outcome == Outcome.OK and isinstance(call, (CasCall, ForceCall)):
            assert mine and mine[0] <= op.end_ns, "never took effect"
        if answer.outcome == Outcome.REFUSED and isinstance(call, (CasCall, ForceCall)):
            # By another sending of the same wish, if at all.
            others = [one for one in self.ops.values() if one.call.request == call.request and one is not op]
            assert not mine or others, "refused, and took effect"


def history(seed: int, turns: int = 120) -> dict[str, int]:
    made = History(seed)
    made.run(turns)
    return made.judge()


@pytest.mark.slow
def test_what_is_said_to_be_certain_is_certain():
    total: dict[str, int] = {}
    with no_real_world():
        for seed in range(40):
            for name, count in history(seed).items():
                total[name] = total.get(name, 0) + count
    assert total["ok"] > 800 and total["refused"] > 800 and total["unknown"] > 100 and total["not sent"] > 100, total


# -- mistakes ------------------------------------------------------------------------------------------------------


def a_lost_transaction_is_sent_again():
    def make(lost):
        return lambda self, task, at, why, *, changes: lost(self, task, at, why, changes=False)

    return instead(EtcdHolder, "_lost", make)


def an_error_means_nothing_was_done():
    return instead(etcd_json, "DEFINITE", lambda known: (*known, 14))


def silence_means_not_sent():
    def make(late):
        def guess(self, task):
            if task.ask is not None:
                task.ask = etcd._Ask(task.ask.path, task.ask.body)
            late(self, task)

        return guess

    return instead(EtcdHolder, "_late", make)


def nobody_asks_for_the_office():
    def make(txn):
        return lambda compare, success, otherwise: txn(
            [row for row in compare if row["target"] != "CREATE" or "office" not in str(_key(row))], success, otherwise
        )

    return instead(etcd, "txn", make)


def _key(row) -> bytes:
    return b64decode(row["key"])


def force_does_not_look_at_the_office():
    @contextmanager
    def both():
        with (
            instead(
                etcd, "judge_force", lambda judge: lambda current, call, leased: judge(current, call, leased=False)
            ),
            nobody_asks_for_the_office(),
        ):
            yield

    return both()


def a_change_does_not_ask_what_it_replaces():
    return instead(etcd, "unchanged", lambda _: lambda key, revision: {**etcd_json.absent(b"none")})


def an_expired_lease_is_trusted():
    def make(live):
        def trusting(self, shard, ttl_s):
            lease = self._leases.get(shard, 0)
            if lease:
                return lease
            return (yield from live(self, shard, ttl_s))

        return trusting

    return instead(EtcdHolder, "_live_lease", make)


def a_read_is_what_was_read_before():
    def make(read):
        def remembered(self, call):
            if getattr(self, "remembered", None) is not None:
                return self.remembered
            answer = yield from read(self, call)
            if answer.config is not None:
                self.remembered = HolderAnswer(0, Outcome.OK, Reason.NONE, answer.config)
            return answer

        def fresh(self, call):
            answer = yield from remembered(self, call)
            return HolderAnswer(call.call_id, answer.outcome, answer.reason, answer.config)

        return fresh

    return instead(EtcdHolder, "_read", make)


MISTAKES = (
    a_lost_transaction_is_sent_again, an_error_means_nothing_was_done, silence_means_not_sent,
    force_does_not_look_at_the_office, a_change_does_not_ask_what_it_replaces, an_expired_lease_is_trusted,
    a_read_is_what_was_read_before,
)  # fmt: skip


def found(mistake) -> str:
    with no_real_world(), mistake():
        for seed in range(40):
            try:
                history(seed)
            except Exception as error:  # noqa: BLE001 - whatever a mistake leads to
                return f"{seed}: {error!r}"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_planted_mistake_is_found(mistake):
    assert found(mistake)


# -- replies that make no sense ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"kvs": 3}', b'{"kvs": [3]}', b'{"kvs": [{}, {}]}', b'{"kvs": [{"value": "%%"}]}',
     b'{"kvs": [{"mod_revision": "x"}]}', b'{"kvs": [{"value": "AAAA", "mod_revision": "3"}]}'],
)  # fmt: skip
def test_a_reply_that_makes_no_sense_decides_nothing(body: bytes):
    made = History(1)
    made.world.etcd.handle = lambda path, _: (200, body)  # type: ignore[method-assign, assignment]
    number = 900
    op = made.submit(4, ReadCall(number, SHARD, RequestId(4, 1, 1)))
    made.world.timeline.run_for(2000 * MS)
    assert op.answer is not None and op.answer.config is None
    assert op.answer.outcome == Outcome.UNKNOWN or op.answer.reason == Reason.NOT_SENT
    assert "not understood" in made.holders[4].health().trouble
