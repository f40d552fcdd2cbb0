"""Power cuts at every disk call of a scripted life: acknowledged data survives, nothing is invented, nothing is
refused.
"""

from __future__ import annotations

import pytest

from durakv.storage.errors import RecoveryRefused
from durakv.storage.recovery import Outcome

from .sim_disk import PowerCut, SimDisk
from .world import Entry, Node, normal

Key = tuple[int, int, int, int, bytes]

IMAGES = [("all", 0), ("none", 0), *(("torn", seed) for seed in range(6))]


class Life:
    """One scripted run: what was issued, what was acknowledged."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.histories: list[list[Key]] = [[]]
        self.acked = 0
        self.votes: list[tuple[int, int]] = [(0, 0)]
        self.vote_acked = 0

    def run(self) -> None:
        node = Node(self.disk)
        self.vote(node, 1, 7)
        index = 0
        for size in (20, 700, 30, 1500, 10):
            self.add(node, [normal(index + 1, 1, size), normal(index + 2, 1, size // 2 + 8)])
            index += 2
            node.settle()
            node.clock.advance(25)
            node.settle()
        node.log.set_committed(3)
        self.vote(node, 2, 9)
        self.add(node, [Entry(6, 2, 0, 1, b""), Entry(7, 2, 1, 2, b"config\x00\xff"), normal(8, 2, 600)])
        self.add(node, [normal(9, 2, 100)])
        node.settle()
        self.add(node, [normal(8, 3, 900), normal(9, 3, 900), normal(10, 3, 900)])
        self.add(node, [normal(11, 3, 9000), normal(12, 3, 10)])
        node.settle()
        self.add(node, [normal(index, 3, 2500) for index in range(13, 17)])
        node.settle()
        self.add(node, [normal(13, 4, 30)])
        node.settle()
        self.vote(node, 4, 0)
        assert node.close() == [None]
        self.disk.locked.clear()
        again = Node(self.disk)
        assert again.held() == self.histories[-1]
        self.vote(again, 4, 8)
        self.add(again, [normal(14, 4, 50)])
        again.settle()

    def add(self, node: Node, entries: list[Entry]) -> None:
        history = list(self.histories[-1])
        cut = entries[0].index - 1
        if cut < len(history):
            self.acked = min(self.acked, cut)
            del history[cut:]
        last = entries[-1].index

        def done(error: OSError | None) -> None:
            assert error is None
            self.acked = max(self.acked, last)

        self.histories.append(history + [entry.key() for entry in entries])
        node.log.append(entries, done)

    def vote(self, node: Node, term: int, voted_for: int) -> None:
        self.votes.append((term, voted_for))
        count = len(self.votes) - 1

        def done(error: OSError | None) -> None:
            assert error is None
            self.vote_acked = count

        node.store.hard.write(node.store.hard.current.voted(term, voted_for, synced_hint=node.log.synced_hint()), done)
        node.settle()

    def check(self, node: Node) -> None:
        held = node.held()
        assert len(held) >= self.acked, f"{self.acked} were acknowledged, {len(held)} recovered"
        assert any(held == history[: len(held)] for history in self.histories), "invented or mixed entries"
        newest = self.histories[-1]
        assert held[: self.acked] == newest[: self.acked]
        state = node.store.hard.current
        assert (state.term, state.voted_for) in self.votes[self.vote_acked :]
        assert node.store.recovered.verdict.outcome is not Outcome.CORRUPT


def life_calls() -> int:
    disk = SimDisk()
    Life(disk).run()
    return disk.calls


TOTAL = life_calls()


def cut_at(call: int) -> Life:
    disk = SimDisk()
    disk.cut_power_at = call
    life = Life(disk)
    with pytest.raises(PowerCut):
        life.run()
    return life


def test_the_scripted_life_rolls_cuts_and_seals() -> None:
    disk = SimDisk()
    Life(disk).run()
    kinds = [kind for kind, _ in disk.trace]
    assert kinds.count("rename") >= 5
    assert kinds.count("truncate") >= 5
    assert kinds.count("unlink") >= 4, "one cut removes several segments"
    assert TOTAL > 100


@pytest.mark.parametrize("call", range(1, TOTAL + 1))
def test_power_cut_at_every_call(call: int) -> None:
    life = cut_at(call)
    for mode, seed in IMAGES:
        left = life.disk.after_crash(mode, seed * 1000 + call)
        first = Node(left)
        life.check(first)
        before = first.held()
        twice = Node(left.after_crash("all"))
        life.check(twice)
        assert twice.held() == before
        # Life goes on after recovery.
        heard = twice.append(normal(len(before) + 1, 90, 300))
        twice.settle()
        assert heard == [None]
        assert Node(twice.disk.after_crash("none")).held()[-1] == normal(len(before) + 1, 90, 300).key()


@pytest.mark.parametrize("call", range(1, TOTAL + 1, 7))
def test_power_cut_inside_recovery(call: int) -> None:
    life = cut_at(call)
    for mode, seed in IMAGES[:4]:
        step = 1
        while True:
            left = life.disk.after_crash(mode, seed * 1000 + call)
            left.cut_power_at = step
            try:
                Node(left)
            except PowerCut:
                pass
            else:
                break
            for inner, inner_seed in IMAGES[:4]:
                life.check(Node(left.after_crash(inner, inner_seed + step)))
            step += 1
        assert step > 1


def test_a_disk_that_lies_about_syncs_is_noticed() -> None:
    disk = SimDisk()
    node = Node(disk)
    node.append(normal(1))
    node.settle()
    node.log.set_committed(1)
    disk.lose_syncs = True
    lost = node.append(normal(2))
    node.settle()
    assert lost == [None]
    disk.lose_syncs = False
    node.log.set_committed(2)
    node.store.hard.write(node.store.hard.current.voted(1, 7, synced_hint=node.log.synced_hint()), lambda _: None)
    node.settle()
    with pytest.raises(RecoveryRefused, match="hard state proves that index 2 was synced"):
        Node(disk.after_crash("none"))
