"""The process in the simulator: power cuts at every disk call, crashes, a lossy network; no vote is given twice, and
what the witness confirmed it still says after any of it. Twice the same seed is twice the same run.
"""

from __future__ import annotations

from random import Random

import pytest

from durakv.witness.address import WitnessAddress
from durakv.witness.link import create_state, open_link
from durakv.witness.parts import WitnessParts
from durakv.witness.service import WitnessService
from durakv.witness.tcp import TcpLink
from jstyle.sim.atlas import MODES, Atlas
from jstyle.sim.clock import NodeClock, OpenDoor
from jstyle.sim.disk import DiskOptions, SimDisk
from jstyle.sim.disk_crash import CrashPolicy, after_power_cut
from jstyle.sim.disk_faults import DiskFaults, FaultOptions
from jstyle.sim.guard import no_real_world
from jstyle.sim.net import Fabric, HostNetwork, NetOptions
from jstyle.sim.rng import NodeRng
from jstyle.sim.timeline import MS, Timeline
from raft.messages import Message, WitnessVoteResp
from raft.witness import answer
from tests.witness.fakes import FakeClock, FakeNetwork, FakeRng, lane_disk
from tests.witness.places import WITNESS, append, key, vote
from tests.witness.test_crash import TALK, states

PORT = 7400


class World:
    """A witness machine and nodes 1 and 2 that talk to it."""

    def __init__(self, seed: int) -> None:
        self.timeline = Timeline()
        self.seed = seed
        self.random = Random(seed)
        options = NetOptions(loss=(0.0, 0.05), give_up_ms=(500, 2000))
        self.fabric = Fabric(self.timeline, seed, options, 17000)
        self.disk = SimDisk(self.timeline, seed, "w", DiskOptions())
        self.clock: NodeClock | None = None
        self.boots = 0
        self.cuts = 0
        self.crashes = 0
        self.policy: CrashPolicy | None = None
        self.answers: list[Message] = []
        self.troubles: list[str] = []
        self.links = {}
        for node in (1, 2):
            self.fabric.host(f"n{node}").door = OpenDoor()
            self.links[node] = TcpLink(
                HostNetwork(self.fabric, f"n{node}"), FakeClock(self.timeline), "w", PORT, key(), node, "w",
                self.answers.append, self.troubles.append,
            )  # fmt: skip

    def boot(self) -> None:
        self.boots += 1
        clock = self.clock = NodeClock(
            self.timeline, self.boots * 10**15, 0, 1_000_000, 0, self.power_cut, self.failed
        )  # fmt: skip
        self.disk.boot(clock)
        self.fabric.host("w").start(clock)

        def start() -> None:
            service = WitnessService(
                clock, NodeRng(Random(self.seed * 1000 + self.boots)), self.disk, HostNetwork(self.fabric, "w"),
                "/witness", lambda _: None, self.fatal,
            )  # fmt: skip
            service.open("w", PORT)

        clock.enter(start)

    def fatal(self, error: OSError) -> None:
        raise AssertionError(f"the simulated disk fails no sync: {error}")

    def failed(self, error: BaseException) -> None:
        raise error

    def power_cut(self) -> None:
        """The power fails now and comes back a little later."""
        assert self.clock is not None
        self.clock.kill()
        self.disk.boot(None)
        self.fabric.host("w").stop(power_cut=True)
        self.cuts += 1
        after_power_cut(self.disk, self.policy or CrashPolicy.draw(self.random), self.random)
        self.timeline.at(20 * MS, self.boot)

    def crash(self) -> None:
        """The process dies, its files stay as they are; nothing happens while there is none."""
        assert self.clock is not None
        if not self.clock.alive:
            return
        self.crashes += 1
        self.disk.interrupt()
        self.clock.kill()
        self.disk.boot(None)
        self.fabric.host("w").stop(power_cut=False)
        self.timeline.at(20 * MS, self.boot)

    def found(self) -> None:
        from durakv.witness.call import create_at_process

        told: list[OSError | None] = []
        clock = FakeClock(self.timeline)
        create_at_process(HostNetwork(self.fabric, "n1"), clock, "w", PORT, None, key(), told.append)
        assert self.timeline.run_for(6000 * MS, lambda: bool(told)) and told == [None]

    def ask(self, message: Message, limit_ms: int = 20_000) -> Message:
        """As raft does: again on each heartbeat until it is answered."""
        before = len(self.answers)
        link = self.links[message.from_]
        for _ in range(limit_ms // 100):
            link.send(message)
            if self.timeline.run_for(100 * MS, lambda: len(self.answers) > before):
                return self.answers[-1]
        raise AssertionError(f"no answer within {limit_ms} ms; trouble: {self.troubles[-1:]}")


def calls_of_the_talk() -> int:
    world = World(1)
    world.boot()
    world.found()
    count = [0]
    original = world.disk.change

    def change(kind: str, path: str) -> None:
        count[0] += 1
        original(kind, path)

    world.disk.change = change  # type: ignore[method-assign]
    for message in TALK:
        world.ask(message)
    return count[0]


def test_a_power_cut_at_any_disk_call_forgets_no_answer():
    expected = states()
    policies = [CrashPolicy("nothing"), CrashPolicy("any-subset", 0.5, 0.5), CrashPolicy("rename-before-data"), None]
    total = calls_of_the_talk()
    assert total > 30
    with no_real_world():
        for calls in range(total):
            world = World(calls)
            world.policy = policies[calls % len(policies)]
            world.boot()
            world.found()
            world.disk.cut_after = calls
            for place, message in enumerate(TALK):
                reply = world.ask(message)
                _, right = answer(expected[place], message)
                assert type(reply) is type(right)
                if isinstance(right, WitnessVoteResp):
                    assert reply.granted == right.granted, (calls, place)
                else:
                    assert reply.ok == right.ok, (calls, place)
            assert world.cuts == 1
            assert not any("WITNESS_STATE_LOST" in text for text in world.troubles)


def contest(seed: int) -> tuple[World, dict[int, int]]:
    """Two candidates, crashes and power cuts at random; (world, votes by term)."""
    world = World(seed)
    random = Random(seed)
    world.boot()
    world.found()
    votes: dict[int, int] = {}
    term = 1
    for _ in range(25):
        term += random.choice((0, 1))
        node = random.choice((1, 2))
        if random.random() < 0.3:
            world.disk.cut_after = random.randrange(12)
        elif random.random() < 0.3:
            world.timeline.at(random.randrange(30 * MS), world.crash)
        reply = world.ask(vote(node, term, (term, 0)))
        assert isinstance(reply, WitnessVoteResp)
        if reply.granted:
            assert votes.setdefault(reply.term, node) == node
            assert reply.term == term
        world.timeline.run_for(100 * MS)
    assert not any("WITNESS_STATE_LOST" in text for text in world.troubles), world.troubles
    return world, votes


def test_crashes_power_cuts_and_loss_give_no_vote_twice():
    cuts = crashes = voted = 0
    with no_real_world():
        for seed in range(40):
            world, votes = contest(seed)
            cuts += world.cuts
            crashes += world.crashes
            voted += len(votes)
    assert cuts > 50 and crashes > 50 and voted > 400, (cuts, crashes, voted)


def test_the_same_seed_is_the_same_run():
    with no_real_world():
        first, second, other = contest(3)[0], contest(3)[0], contest(4)[0]
    assert first.timeline.digest() == second.timeline.digest() != other.timeline.digest()


def test_a_partitioned_witness_answers_when_the_network_heals():
    world = World(2)
    world.boot()
    world.found()
    world.ask(append(1, 2, (2, 1), (1, WITNESS)))
    world.fabric.partition(["w"], ["n1", "n2"])
    with pytest.raises(AssertionError, match="no answer"):
        world.ask(append(1, 2, (2, 2), (1, WITNESS)), 3000)
    assert any("gives no answer" in text or "cannot be reached" in text for text in world.troubles)
    world.fabric.heal()
    assert world.ask(append(1, 2, (2, 2), (1, WITNESS))).ok
    assert world.troubles[-1] == ""


def shared_file_contest(seed: int) -> tuple[str, list[str], dict[int, int]]:
    """Two nodes whose witness is a directory they share; (digest, troubles, votes by term)."""
    clock = FakeClock()
    disk = lane_disk(clock, seed)
    rng = FakeRng(seed)
    parts = WitnessParts(clock, rng, FakeNetwork(), disk)
    where = WitnessAddress.parse("file:///shared/witness")
    told: list[OSError | None] = []
    create_state(where, parts, key(), told.append)
    clock.run(50)
    assert told == [None]
    votes: dict[int, int] = {}
    troubles: list[str] = []

    def heard(reply: Message) -> None:
        assert isinstance(reply, WitnessVoteResp)
        clock.timeline.fold("answer", reply.to, reply.term, reply.granted)
        if reply.granted:
            assert votes.setdefault(reply.term, reply.to) == reply.to

    links = {node: open_link(where, parts, key(), node, heard, troubles.append) for node in (1, 2)}
    random = Random(seed)
    disk.faults = DiskFaults(disk, 1, Random(seed), FaultOptions(write_short=0.1, write_eio=0.05, fsync_eio=0.02),
                             Atlas(seed, [1], MODES[0]))  # fmt: skip
    for turn in range(60):
        node = random.choice((1, 2))
        term = 2 + turn // 3
        links[node].send(vote(node, term, (term, 0)))
        clock.run(random.choice((0, 1, 5)))
    disk.faults.enabled = False
    for node in (1, 2):
        links[node].send(vote(node, 99, (98, 0)))
        clock.run(50)
    assert 99 in votes
    return clock.timeline.digest(), troubles, votes


def test_a_file_witness_runs_in_the_simulator_on_one_seed():
    with no_real_world():
        runs = [shared_file_contest(seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert len(runs[0][2]) > 10
    assert any("gives no answer: " in text for text in runs[0][1]) and runs[0][1][-1] == ""
