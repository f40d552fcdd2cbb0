"""What can happen to two voters and a witness, case by case: whether the group stays available, and whether a write
that was acknowledged is lost. Node 1 leads at first, 2 is the other voter, 9 the witness."""

import pytest

from raft import ProposalDropped, Role
from raft.invariants import InvariantViolation
from raft.messages import WitnessAppend, WitnessVote, WitnessVoteResp
from raft.witness import WitnessState, answer
from tests.raft.cluster import Cluster
from tests.raft.rules import sent


class Pair(Cluster):
    """Two voters and a witness, all well, node 1 leading; remembers every acknowledged write."""

    def __init__(self, **settings) -> None:
        super().__init__(voters=(1, 2), witness=9, **settings)
        self.acked: list[bytes] = []
        self.elect(1)
        self.tick(4)
        assert self.core(1).witness_state().replication_set == (1, 2)
        self.write()
        self.sent.clear()

    @property
    def witness(self):
        return self.witnesses[9]

    def write(self) -> bool:
        """Try a write at every leader, newest term first; True if it is acknowledged."""
        data = b"write %d" % len(self.sent)
        for node in sorted(self.leaders(), key=lambda n: -self.core(n).term):
            core = self.core(node)
            try:
                index = core.propose(data)
            except ProposalDropped:
                continue
            self.settle()
            if core.log.commit >= index and core.role == Role.LEADER:
                self.acked.append(data)
                return True
        return False

    def available(self, ticks: int = 40) -> bool:
        self.tick(ticks)
        return self.write()

    def pin(self) -> None:
        """Node 2 crashes, node 1 is pinned and acknowledges what only it has."""
        self.crash(2)
        self.tick(12)
        assert self.core(1).witness_state().pinned
        for _ in range(3):
            assert self.write()

    def nothing_lost(self) -> bool:
        """Everybody that can return does; what was acknowledged is there."""
        self.heal()
        self.stalled.clear()
        self.witness.up = True
        for node, server in self.servers.items():
            if server.core is None:
                self.start(node)
        self.tick(80)
        assert self.write()
        self.tick(5)
        return all(set(self.acked) <= set(server.app.normal) for server in self.servers.values())


def case_01():
    """B down: available after suspicion and one write of the witness."""
    c = Pair()
    c.crash(2)
    assert not c.write(), "nobody else holds it yet"
    assert c.available(11)
    for _ in range(20):
        assert c.write()
    assert len(sent(c, WitnessAppend)) == 1
    assert c.nothing_lost()


def case_02():
    """W down: nobody notices."""
    c = Pair()
    c.witness.up = False
    term = c.core(1).term
    for _ in range(10):
        assert c.available(10)
    assert (c.leaders(), c.core(1).term) == ([1], term)
    assert sent(c, WitnessAppend) == sent(c, WitnessVote) == []
    assert c.nothing_lost()


def case_03():
    """A down while the set is {A, B}: B leads with W's vote; A's uncommitted tail goes."""
    c = Pair()
    c.isolate(1)
    c.core(1).propose(b"tail")
    c.settle()
    c.crash(1)
    assert c.available()
    assert c.leaders() == [2]
    assert c.nothing_lost()
    assert all(b"tail" not in server.app.normal for server in c.servers.values())


def case_04():
    """A pinned, then down, B up: unavailable rather than without A's writes."""
    c = Pair()
    c.pin()
    c.crash(1)
    c.start(2)
    assert not c.available(100)
    assert c.leaders() == []
    c.start(1)
    assert c.available()
    assert c.nothing_lost()


def case_05():
    """A pinned, B back in the set with an entry of the new subterm, A down: B leads."""
    c = Pair()
    c.pin()
    c.start(2)
    c.tick(30)
    assert c.core(1).witness_state().replication_set == (1, 2)
    c.crash(1)
    assert c.available()
    assert c.leaders() == [2]
    assert c.nothing_lost()


def case_06():
    """A pinned, B still catching up, A down: unavailable until A returns."""
    c = Pair(max_size_per_msg=1, max_inflight_msgs=1)
    c.pin()
    c.start(2)
    before = c.core(2).log.last
    while c.core(2).log.last == before:
        c.core(1).tick()
        c.take(1)
        while c.wire:
            c.deliver()
        if c.core(2).has_ready():
            c.take(2)
            c.fsync(2)
    assert before < c.core(2).log.last < c.core(1).log.last
    c.crash(1)
    assert not c.available(100)
    c.start(1)
    assert c.available()
    assert c.nothing_lost()


def case_07():
    """A pinned, B has everything but nothing of a new subterm, A down: W cannot know, so unavailable."""
    c = Pair(hold_ticks=1000)
    c.pin()
    c.start(2)
    c.tick(10)
    assert c.core(2).log.last == c.core(1).log.last
    assert c.core(1).witness_state().pinned
    c.crash(1)
    assert not c.available(100)
    c.start(1)
    assert c.available()
    assert c.nothing_lost()


def case_08():
    """A cut off from both while the set is {A, B}: the other side goes on, A steps down."""
    c = Pair()
    c.isolate(1)
    tail = c.core(1).propose(b"tail")
    assert c.available()
    assert c.leaders() == [2]
    assert c.core(1).log.commit < tail
    assert c.nothing_lost()


def case_09():
    """B cut off from both: A pins, B's pre-votes are refused and raise no term."""
    c = Pair()
    term = c.core(1).term
    c.isolate(2)
    assert c.available()
    assert c.available(100)
    assert (c.leaders(), c.core(2).term) == ([1], term)
    c.heal()
    c.tick(30)
    assert (c.leaders(), c.core(1).term) == ([1], term)
    assert c.nothing_lost()


def case_10():
    """Only the link between A and B is down: one of them wins, and stays."""
    c = Pair()
    c.cut |= {(1, 2), (2, 1)}
    assert c.available()
    leader = max(c.leaders(), key=lambda n: c.core(n).term)
    term = c.core(leader).term
    for _ in range(10):
        assert c.available(20)
    assert c.leaders() == [leader]
    assert c.core(leader).term == term
    assert c.nothing_lost()


def case_11():
    """A pinned and then cut off from both, clients reach it: it writes and reads alone, B is never elected."""
    c = Pair()
    c.isolate(2)
    assert c.available()
    c.heal()
    c.isolate(1)
    for _ in range(5):
        assert c.available(20)
    assert c.leaders() == [1]
    before = len(c.sent)
    c.core(1).read_index("alone")
    c.settle()
    assert c.reads[1][-1] == ("alone", c.core(1).log.commit)
    assert len(c.sent) == before
    assert c.nothing_lost()


def case_12():
    """A pinned, W down: no message is needed."""
    c = Pair()
    c.pin()
    c.witness.up = False
    assert c.available(100)
    assert c.leaders() == [1]
    assert c.nothing_lost()


def case_13():
    """A pinned, W down, A restarts, B up: A wins with B's vote."""
    c = Pair()
    c.pin()
    c.witness.up = False
    c.crash(1)
    c.start(2)
    c.tick(50)
    assert c.leaders() == []
    c.start(1)
    assert c.available(60)
    assert c.leaders() == [1]
    assert c.nothing_lost()


def case_14():
    """A pinned, W lost its state, A down, B up: W must not answer, so unavailable."""
    c = Pair()
    c.pin()
    c.witness.state = None
    c.crash(1)
    c.start(2)
    assert not c.available(100)
    # What would have happened had it started over.
    question = sent(c, WitnessVote, from_=2)[-1]
    _, reply = answer(WitnessState(1, 9), question)
    assert isinstance(reply, WitnessVoteResp)
    assert reply.granted
    c.start(1)
    assert c.available()
    assert c.nothing_lost()


def case_15():
    """A pinned and its disk destroyed: what it acknowledged meanwhile is gone, and the group says so by standing."""
    c = Pair()
    c.pin()
    c.crash(1)
    c.start(2)
    assert not c.available(300)
    log = c.core(2).log
    stale = {e.data for e in log.entries(1, log.last + 1, 1 << 30)}
    assert [data for data in c.acked if data not in stale] == c.acked[-3:]


def case_16():
    """A and B crash together, both return."""
    c = Pair()
    c.crash(1)
    c.crash(2)
    c.start(1)
    c.start(2)
    assert c.available()
    assert c.nothing_lost()


def case_17():
    """A loses its link to B, pins, and dies: unavailable, unless the pin waited and A died meanwhile."""
    for pause, available in ((0, False), (8, True)):
        c = Pair(pin_delay_ticks=pause)
        c.cut |= {(1, 2), (2, 1)}
        # B's own timeout is longer than the suspicion of its leader.
        while 9 not in c.core(1).witness_state().replication_set:
            c.tick(1, nodes=[1])
        c.tick(1, nodes=[1])
        assert c.core(1).witness_state().engaged is not available
        c.crash(1)
        assert c.available(100) is available
        if not available:
            c.start(1)
            assert c.available()
        assert c.nothing_lost()


def case_18():
    """A's disk hangs while the set is {A, B}: nothing is acknowledged, and B leads once A hands over."""
    c = Pair()
    c.stalled.add(1)
    assert not c.write()
    c.core(1).transfer_leader(2)
    assert c.available()
    assert max(c.leaders(), key=lambda n: c.core(n).term) == 2
    c.crash(1)
    assert c.nothing_lost()


def case_19():
    """A pinned on a disk that lies, power fails: the write is lost in silence, for W knows no index."""
    c = Pair()
    c.pin()
    kept = c.servers[1].durable.copy()
    assert c.write()
    c.crash(1)
    c.servers[1].durable = kept
    with pytest.raises(InvariantViolation, match="LeaderCompleteness"):
        return_of(c, 1)
    leader = c.core(1)
    assert leader.role == Role.LEADER
    data = {e.data for e in leader.log.entries(1, leader.log.last + 1, 1 << 30)}
    assert [d for d in c.acked if d not in data] == c.acked[-1:]


def return_of(c, node):
    c.start(node)
    c.tick(60)


def case_20():
    """B answers but acknowledges nothing: writes wait for it until W stands in."""
    c = Pair()
    c.stalled.add(2)
    assert not c.write()
    c.tick(8)
    assert not c.write()
    assert c.available(6)
    assert c.core(1).peers[2].recent_active
    assert c.core(1).witness_state().pinned
    assert c.nothing_lost()


CASES = [value for name, value in sorted(globals().items()) if name.startswith("case_")]


@pytest.mark.parametrize("case", CASES, ids=[case.__name__.replace("_", "-") for case in CASES])
def test_two_voters_and_a_witness(case):
    case()


def test_no_case_is_missing():
    assert [case.__name__ for case in CASES] == [f"case_{n:02}" for n in range(1, 21)]
