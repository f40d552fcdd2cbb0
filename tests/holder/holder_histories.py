"""Histories of the embedded holder: random ones under faults, and those that random ones meet too seldom."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from unittest import mock

from durakv.holder import durable, journal
from jstyle.sim.timeline import MS
from raft.codec import decode, encode
from raft.messages import Vote, VoteResp
from raft.primary_backup.messages import CasCall, HolderAnswer, HolderCall, Outcome, Reason
from raft.primary_backup.types import ShardConfig
from raft.types import Role
from tests.holder.holder_world import MEMBERS, NODES, HolderWorld

MACHINES = ["m1", "m2", "m4", "m9"]


def certain(world: HolderWorld, node: int, make: Callable[[], HolderCall]) -> HolderAnswer:
    """Ask anew until the answer says something; the network loses some."""
    for _ in range(40):
        answer = world.ask(node, make())
        if answer.outcome != Outcome.UNKNOWN and answer.reason != Reason.NOT_SENT:
            return answer
    raise AssertionError("nothing but unknown")


def led(seed: int = 1) -> HolderWorld:
    world = HolderWorld(seed)
    assert world.run(10_000, lambda: world.leader() is not None)
    return world


def founded(seed: int = 1) -> HolderWorld:
    world = led(seed)
    world.run(500)
    assert certain(world, 4, lambda: world.create(4)).outcome == Outcome.OK
    return world


def workload(world: HolderWorld, random: Random, turns: int) -> None:
    seen: dict[int, ShardConfig] = {}
    wishes: list[CasCall] = []
    for _ in range(turns):
        for op in list(world.ops.values())[-30:]:
            if op.answer is not None and op.answer.config is not None:
                known = seen.get(op.call.request.node)
                if known is None or op.answer.config.epoch > known.epoch:
                    seen[op.call.request.node or 1] = op.answer.config
        node = random.choice(NODES)
        known = seen.get(node)
        kind = random.random()
        if known is None or kind < 0.25:
            world.send(node, world.read(node) if random.random() < 0.8 else world.create(node))
        elif kind < 0.75:
            wish = world.change(node, known)
            wishes.append(wish)
            world.send(node, wish)
        elif kind < 0.85 and wishes:
            wish = random.choice(wishes[-3:])
            world.send(wish.request.node, world.again(wish))
        elif kind < 0.92:
            world.send(node, world.renew(node, known.epoch, random.choice((200, 1500))))
        elif node in known.members():
            world.send(node, world.force(node, known))
        world.run(random.choice((0, 1, 5, 20, 80)))
        if random.random() < 0.03:
            fault(world, random)


def fault(world: HolderWorld, random: Random) -> None:
    machine = world.machines[random.choice((1, 2, 9))]
    kind = random.randrange(6)
    if kind == 0:
        machine.disk.cut_after = random.randrange(12)
    elif kind == 1:
        world.timeline.at(random.randrange(30 * MS), machine.crash)
    elif kind == 2:
        names = list(MACHINES)
        random.shuffle(names)
        cut = random.randint(1, 3)
        world.fabric.partition(names[:cut], names[cut:])
        world.timeline.at(random.randrange(100, 3000) * MS, world.fabric.heal)
    elif kind == 3:
        a, b = random.sample(MACHINES, 2)
        world.fabric.clog(a, b, random.randrange(50, 2000) * MS)
    elif machine.clock is not None and machine.alive():
        clock = machine.clock
        clock.pause()
        world.timeline.at(random.randrange(50, 2500) * MS, lambda: clock.resume() if clock.alive else None)


def history(seed: int, turns: int = 250) -> tuple[HolderWorld, dict[str, int]]:
    """Files are made anew so often, and so little of the log is kept, that members need snapshots."""
    with mock.patch.object(journal, "REPLACE_BYTES", 3000), mock.patch.object(durable, "KEPT_ENTRIES", 4):
        return _history(seed, turns)


def _history(seed: int, turns: int) -> tuple[HolderWorld, dict[str, int]]:
    random = Random(seed * 7 + 1)
    world = HolderWorld(seed)
    world.run(random.randrange(3000))
    workload(world, random, turns)
    for machine in world.machines.values():
        machine.disk.cut_after = -1
    world.fabric.heal()
    world.run(4000)
    for node in NODES:
        assert world.run(10_000, world.machines[node].alive)
        world.settled(node)
    return world, world.judge()


def a_paused_leader_is_asked_when_it_wakes(seed):
    """Cut off from the other members it cannot know that they went on without it."""
    world = founded(seed)
    world.settled(4)
    leader = world.leader()
    others = [i for i in MEMBERS if i != leader.id]
    world.fabric.partition([leader.name], [f"m{i}" for i in others])
    leader.clock.pause()
    assert world.run(10_000, lambda: any(world.machines[i].member.core.role == Role.LEADER for i in others))
    node = next(i for i in others if i in (1, 2))
    world.run(500)
    certain(world, node, lambda: world.change(node, world.settled(node)))
    op = world.send(4, world.read(4))
    world.run(100)
    leader.clock.resume()
    world.run(1000)
    assert op.answer is not None
    world.judge()


def a_vote_is_asked_for_twice(seed):
    """Once before and once after a crash, by different candidates of one term."""
    world = HolderWorld(seed)
    said: list[VoteResp] = []
    for other in (1, 2):
        world.machines[other].crash()
        world.machines[other].boot = lambda: None
    world.run(300)
    voter = world.machines[9]

    def ask(candidate: int) -> None:
        member = voter.member
        send = member._peers.send

        def heard(to, data):
            message = decode(data)
            if isinstance(message, VoteResp):
                said.append(message)
            return send(to, data)

        member._peers.send = heard
        vote = Vote(1, candidate, 9, 50, 1, 1, False, 0)
        voter.clock.enter(lambda: member.raft(candidate, encode(vote)))
        world.run(100)

    ask(1)
    assert [message.granted for message in said] == [True]
    voter.crash()
    assert world.run(5000, lambda: voter.boots == 2)
    ask(2)
    assert [message.granted for message in said] == [True, False], "two candidates got the vote of one term"


def forced_when_another_member_leads(seed):
    """A lease holds for its whole time whoever leads the holder, and a little longer, but not for ever."""
    world = founded(seed)
    seen = world.settled(4)
    begin_ns = world.timeline.now_ns
    assert certain(world, 1, lambda: world.renew(1, seen.epoch, 6000)).outcome == Outcome.OK
    # Another one leads, or the same machine in another life, by a clock that has nothing to do with the former.
    world.leader().crash()
    assert world.run(10_000, lambda: world.leader() is not None)
    world.run(600)
    answer = certain(world, 4, lambda: world.force(4, seen))
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.LEASED), (answer.outcome, answer.reason)
    for _ in range(100):
        answer = world.ask(4, world.force(4, seen))
        if answer.outcome == Outcome.OK:
            break
        world.run(100)
    assert answer.outcome == Outcome.OK and answer.config.epoch == seen.epoch + 1000
    assert 6000 * MS <= world.timeline.now_ns - begin_ns <= 20_000 * MS
    world.judge()


def random_history(seed):
    history(seed)


SCENARIOS = (
    a_paused_leader_is_asked_when_it_wakes, a_vote_is_asked_for_twice, forced_when_another_member_leads, random_history,
)  # fmt: skip
