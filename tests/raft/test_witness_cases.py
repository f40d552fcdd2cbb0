"""What can happen to two voters and a witness, case by case: whether the group stays available, and whether a write
that was acknowledged is lost. Node 1 (A) leads at first, 2 (B) is the other voter, 9 (W) the witness.

Each case reports what it saw and is held to its row of TABLE; `python -m tests.raft.test_witness_cases` prints the
rows with what was seen, as Markdown.
"""

from dataclasses import dataclass

import pytest

from raft import ProposalDropped, Role
from raft.invariants import InvariantViolation
from raft.messages import WitnessAppend, WitnessVote, WitnessVoteResp
from raft.witness import WitnessState, answer
from tests.raft.cluster import Cluster
from tests.raft.rules import sent


@dataclass(frozen=True)
class Seen:
    """What a case saw: whether a write was acknowledged after what happened, and whether any was missing later."""

    available: bool
    lost: bool

    def __str__(self) -> str:
        return f"available {'yes' if self.available else 'no'}, lost {'yes' if self.lost else 'no'}"


@dataclass(frozen=True)
class Row:
    """A row of the table: what happens, and in words what comes of it; each begins with yes or no."""

    sequence: str
    available: str
    lost: str

    def expected(self) -> Seen:
        return Seen(self.available.startswith("yes"), self.lost.startswith("yes"))


TABLE = {
    1: Row("B down", "yes, after suspicion and one write of W", "no"),
    2: Row("W down, A and B up", "yes, nobody notices", "no"),
    3: Row("A down while the set is {A, B}", "yes, after an election", "no"),
    4: Row("B down, A pinned, A down, B up", "no, until A returns", "no"),
    5: Row("A pinned, B back in the set and has acknowledged, A down", "yes", "no"),
    6: Row("A pinned, B back but still catching up, A down", "no, until A returns", "no"),
    7: Row("A pinned, B caught up but without the new subterm, A down", "no, until A returns", "no"),
    8: Row("A cut off from B and W while the set is {A, B}", "yes, on the side of B and W", "no"),
    9: Row("A and W cut off from B", "yes, on the side of A", "no"),
    10: Row("only the link between A and B is down", "yes, on one side, which stays the same", "no"),
    11: Row("A pinned, then cut off from B and W, clients reach it", "yes, at A only", "no"),
    12: Row("A pinned, W down", "yes", "no"),
    13: Row("A pinned, W down, A restarts, B up", "yes", "no"),
    14: Row("A pinned, W loses its state, A down, B up", "no: W must not answer", "no"),
    15: Row(
        "A pinned, A's disk destroyed, B stale", "no: an operator decides", "yes, what A acknowledged since the pin"
    ),
    16: Row("A and B crash together, both return", "yes", "no"),
    17: Row("A loses its link to B, pins, then dies", "no, until A returns (yes if the pin was delayed)", "no"),
    18: Row("A's disk hangs while the set is {A, B}", "yes, after a transfer", "no"),
    19: Row("A pinned on a disk that lies, A's power fails", "yes, once A returns", "yes, silently: W knows no index"),
    20: Row("B is slow, not dead", "yes, writes wait for B until W stands in", "no"),
}


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

    def seen(self, available: bool) -> Seen:
        """`available` is what the case found; what was lost is found by everybody's return."""
        return Seen(available, not self.nothing_lost())

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


def case_01() -> Seen:
    """B down: available after suspicion and one write of the witness."""
    c = Pair()
    c.crash(2)
    assert not c.write(), "nobody else holds it yet"
    available = c.available(11)
    for _ in range(20):
        assert c.write()
    assert len(sent(c, WitnessAppend)) == 1
    return c.seen(available)


def case_02() -> Seen:
    """W down: nobody notices."""
    c = Pair()
    c.witness.up = False
    term = c.core(1).term
    available = all(c.available(10) for _ in range(10))
    assert (c.leaders(), c.core(1).term) == ([1], term)
    assert sent(c, WitnessAppend) == sent(c, WitnessVote) == []
    return c.seen(available)


def case_03() -> Seen:
    """A down while the set is {A, B}: B leads with W's vote; A's uncommitted tail goes."""
    c = Pair()
    c.isolate(1)
    c.core(1).propose(b"tail")
    c.settle()
    c.crash(1)
    available = c.available()
    assert c.leaders() == [2]
    seen = c.seen(available)
    assert all(b"tail" not in server.app.normal for server in c.servers.values())
    return seen


def case_04() -> Seen:
    """A pinned, then down, B up: unavailable rather than without A's writes."""
    c = Pair()
    c.pin()
    c.crash(1)
    c.start(2)
    available = c.available(100)
    assert c.leaders() == []
    c.start(1)
    assert c.available()
    return c.seen(available)


def case_05() -> Seen:
    """A pinned, B back in the set with an entry of the new subterm, A down: B leads."""
    c = Pair()
    c.pin()
    c.start(2)
    c.tick(30)
    assert c.core(1).witness_state().replication_set == (1, 2)
    c.crash(1)
    available = c.available()
    assert c.leaders() == [2]
    return c.seen(available)


def case_06() -> Seen:
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
    available = c.available(100)
    c.start(1)
    assert c.available()
    return c.seen(available)


def case_07() -> Seen:
    """A pinned, B has everything but nothing of a new subterm, A down: W cannot know, so unavailable."""
    c = Pair(hold_ticks=1000)
    c.pin()
    c.start(2)
    c.tick(10)
    assert c.core(2).log.last == c.core(1).log.last
    assert c.core(1).witness_state().pinned
    c.crash(1)
    available = c.available(100)
    c.start(1)
    assert c.available()
    return c.seen(available)


def case_08() -> Seen:
    """A cut off from both while the set is {A, B}: the other side goes on, A steps down."""
    c = Pair()
    c.isolate(1)
    tail = c.core(1).propose(b"tail")
    available = c.available()
    assert c.leaders() == [2]
    assert c.core(1).log.commit < tail
    return c.seen(available)


def case_09() -> Seen:
    """B cut off from both: A pins, B's pre-votes are refused and raise no term."""
    c = Pair()
    term = c.core(1).term
    c.isolate(2)
    available = all([c.available(), c.available(100)])
    assert (c.leaders(), c.core(2).term) == ([1], term)
    c.heal()
    c.tick(30)
    assert (c.leaders(), c.core(1).term) == ([1], term)
    return c.seen(available)


def case_10() -> Seen:
    """Only the link between A and B is down: one of them wins, and stays."""
    c = Pair()
    c.cut |= {(1, 2), (2, 1)}
    assert c.available()
    leader = max(c.leaders(), key=lambda n: c.core(n).term)
    term = c.core(leader).term
    available = all(c.available(20) for _ in range(10))
    assert c.leaders() == [leader]
    assert c.core(leader).term == term
    return c.seen(available)


def case_11() -> Seen:
    """A pinned and then cut off from both, clients reach it: it writes and reads alone, B is never elected."""
    c = Pair()
    c.isolate(2)
    assert c.available()
    c.heal()
    c.isolate(1)
    available = all(c.available(20) for _ in range(5))
    assert c.leaders() == [1]
    before = len(c.sent)
    c.core(1).read_index("alone")
    c.settle()
    assert c.reads[1][-1] == ("alone", c.core(1).log.commit)
    assert len(c.sent) == before
    return c.seen(available)


def case_12() -> Seen:
    """A pinned, W down: no message is needed."""
    c = Pair()
    c.pin()
    c.witness.up = False
    available = c.available(100)
    assert c.leaders() == [1]
    return c.seen(available)


def case_13() -> Seen:
    """A pinned, W down, A restarts, B up: A wins with B's vote."""
    c = Pair()
    c.pin()
    c.witness.up = False
    c.crash(1)
    c.start(2)
    c.tick(50)
    assert c.leaders() == []
    c.start(1)
    available = c.available(60)
    assert c.leaders() == [1]
    return c.seen(available)


def case_14() -> Seen:
    """A pinned, W lost its state, A down, B up: W must not answer, so unavailable."""
    c = Pair()
    c.pin()
    c.witness.state = None
    c.crash(1)
    c.start(2)
    available = c.available(100)
    # What would have happened had it started over.
    question = sent(c, WitnessVote, from_=2)[-1]
    _, reply = answer(WitnessState(1, 9), question)
    assert isinstance(reply, WitnessVoteResp)
    assert reply.granted
    c.start(1)
    assert c.available()
    return c.seen(available)


def case_15() -> Seen:
    """A pinned and its disk destroyed: what it acknowledged meanwhile is gone, and the group says so by standing."""
    c = Pair()
    c.pin()
    c.crash(1)
    c.start(2)
    available = c.available(300)
    gone = missing(c, 2)
    assert gone in ([], c.acked[-3:])
    return Seen(available, bool(gone))


def case_16() -> Seen:
    """A and B crash together, both return."""
    c = Pair()
    c.crash(1)
    c.crash(2)
    c.start(1)
    c.start(2)
    return c.seen(c.available())


def case_17() -> Seen:
    """A loses its link to B, pins, and dies: unavailable, unless the pin waited and A died meanwhile."""
    assert died_after_losing_its_link(8) == Seen(True, False)
    return died_after_losing_its_link(0)


def died_after_losing_its_link(pause: int) -> Seen:
    c = Pair(pin_delay_ticks=pause)
    c.cut |= {(1, 2), (2, 1)}
    # B's own timeout is longer than the suspicion of its leader.
    while 9 not in c.core(1).witness_state().replication_set:
        c.tick(1, nodes=[1])
    c.tick(1, nodes=[1])
    assert c.core(1).witness_state().engaged is (pause == 0)
    c.crash(1)
    available = c.available(100)
    if not available:
        c.start(1)
        assert c.available()
    return c.seen(available)


def case_18() -> Seen:
    """A's disk hangs while the set is {A, B}: nothing is acknowledged, and B leads once A hands over."""
    c = Pair()
    c.stalled.add(1)
    assert not c.write()
    c.core(1).transfer_leader(2)
    available = c.available()
    assert max(c.leaders(), key=lambda n: c.core(n).term) == 2
    c.crash(1)
    return c.seen(available)


def case_19() -> Seen:
    """A pinned on a disk that lies, power fails: the write is lost in silence, for W knows no index."""
    c = Pair()
    c.pin()
    kept = c.servers[1].durable.copy()
    assert c.write()
    c.crash(1)
    c.servers[1].durable = kept
    with pytest.raises(InvariantViolation, match="LeaderCompleteness"):
        return_of(c, 1)
    # The checker stopped the run there; the group itself noticed nothing.
    gone = missing(c, 1)
    assert gone in ([], c.acked[-1:])
    return Seen(c.core(1).role == Role.LEADER, bool(gone))


def missing(c: Pair, node: int) -> list[bytes]:
    """Acknowledged writes that a node's log lacks."""
    log = c.core(node).log
    data = {e.data for e in log.entries(1, log.last + 1, 1 << 30)}
    return [d for d in c.acked if d not in data]


def return_of(c, node):
    c.start(node)
    c.tick(60)


def case_20() -> Seen:
    """B answers but acknowledges nothing: writes wait for it until W stands in."""
    c = Pair()
    c.stalled.add(2)
    assert not c.write()
    c.tick(8)
    assert not c.write()
    available = c.available(6)
    assert c.core(1).peers[2].recent_active
    assert c.core(1).witness_state().pinned
    return c.seen(available)


CASES = {int(name.removeprefix("case_")): value for name, value in sorted(globals().items()) if name[:5] == "case_"}


def report(number: int, seen: Seen) -> str:
    """One row of the report."""
    row = TABLE[number]
    return f"| {number} | {row.sequence} | {row.available} | {row.lost} | {seen} |"


@pytest.mark.parametrize("number", TABLE)
def test_two_voters_and_a_witness(number, record_property):
    seen = CASES[number]()
    line = report(number, seen)
    record_property("case", line)
    print(line)
    assert seen == TABLE[number].expected(), line


def test_no_case_is_missing():
    assert list(CASES) == list(TABLE) == list(range(1, 21))
    for row in TABLE.values():
        assert row.available.startswith(("yes", "no")) and row.lost.startswith(("yes", "no"))


if __name__ == "__main__":
    print("| # | what happens | available? | acknowledged writes lost? | seen |\n|---|---|---|---|---|")
    for number, case in CASES.items():
        print(report(number, case()))
