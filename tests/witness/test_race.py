"""Several writers at once on one state: nobody's vote is given twice, whoever gets in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from durakv.witness.store import Outcome, Register, ask, create
from durakv.witness.store_file import KEPT, FileRegister
from durakv.witness.store_object import ObjectRegister
from durakv.world.real_disk import RealDisk
from durakv.world.real_object_store import RealObjectStore
from durakv.world.real_rng import RealRng
from raft.messages import WitnessAppend, WitnessAppendResp, WitnessVoteResp
from tests.witness.places import WITNESS, append, key, vote

RNG = RealRng()
THREADS = 3


@pytest.fixture
def disk():
    made = RealDisk(lambda fn: fn())
    yield made
    made.close()


def registers(kind: str, disk: RealDisk, root: Path) -> list[Register]:
    """One for each thread, all on the same state."""
    made: list[Register]
    if kind == "file":
        made = [FileRegister(disk, str(root), key(), f"n{n}") for n in range(1, THREADS + 1)]
    else:
        store = RealObjectStore(MemoryStore(), "memory")
        made = [ObjectRegister(store, "", key()) for _ in range(THREADS)]
    create(made[0], RNG.token(16), RNG.token(8))
    return made


def race(tasks: list) -> list:
    barrier = threading.Barrier(len(tasks))
    results: list = [None] * len(tasks)

    def run(place: int) -> None:
        barrier.wait()
        try:
            results[place] = tasks[place]()
        except OSError as e:
            results[place] = e

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("kind", ["file", "object"])
def test_candidates_of_one_term_get_exactly_one_vote(kind: str, disk: RealDisk, tmp_path: Path):
    nodes = registers(kind, disk, tmp_path)
    winners: dict[int, int] = {}
    for term in range(1, 151):
        tasks = [
            lambda n=n: ask(nodes[n], vote(n + 1, term, (1, 0)), RNG.token(8))  # noqa: B023
            for n in range(THREADS)
        ]
        out = race(tasks)
        granted = [n for n, o in enumerate(out) if isinstance(o, Outcome) and o.reply.granted]  # type: ignore[attr-defined]
        assert len(granted) == 1, (term, out)
        winners[granted[0]] = winners.get(granted[0], 0) + 1
    assert len(winners) > 1, "nobody ever raced"


@pytest.mark.parametrize("kind", ["file", "object"])
def test_a_pin_and_the_rivals_vote_never_both_succeed(kind: str, disk: RealDisk, tmp_path: Path):
    """The leader pins in its term while the other asks for the next: either it is refused, or the pin is."""
    nodes = registers(kind, disk, tmp_path)
    seen = {"pinned": 0, "elected": 0}
    for turn in range(1, 121):
        term = 2 * turn
        pin, ballot = race(
            [
                lambda: ask(nodes[0], append(1, term, (term, 1), (1, WITNESS)), RNG.token(8)),  # noqa: B023
                lambda: ask(nodes[1], vote(2, term + 1, (term, 0)), RNG.token(8)),  # noqa: B023
            ]
        )
        assert isinstance(pin.reply, WitnessAppendResp) and isinstance(ballot.reply, WitnessVoteResp)
        assert pin.reply.ok != ballot.reply.granted, (pin.reply.ok, ballot.reply.granted)
        seen["pinned" if pin.reply.ok else "elected"] += 1
    assert all(seen.values()), seen


@pytest.mark.parametrize("kind", ["file", "object"])
def test_one_creator_succeeds(kind: str, disk: RealDisk, tmp_path: Path):
    for turn in range(40):
        state = key(group=turn + 2)
        store = RealObjectStore(MemoryStore(), "memory")
        made = [
            FileRegister(disk, str(tmp_path), state, "create") if kind == "file" else ObjectRegister(store, "", state)
            for _ in range(THREADS)
        ]
        out = race([lambda r=r: create(r, RNG.token(16), RNG.token(8)) for r in made])
        assert out.count(None) == 1, out
        assert ask(made[0], vote(1, 1, (1, 0), group=turn + 2), RNG.token(8)).reply.granted  # type: ignore[attr-defined]


SCRIPT = """
import json, sys
from durakv.witness.parts import StateKey
from durakv.witness.store import ask
from durakv.witness.store_file import FileRegister
from durakv.world.real_disk import RealDisk
from durakv.world.real_rng import RealRng
from raft.messages import WitnessVote
root, node, terms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
register = FileRegister(RealDisk(lambda fn: fn()), root, StateKey(bytes(range(16)), 1, 9), f"n{node}")
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
won, rng, term = [], RealRng(), 0
while term < terms:
    term += 1
    reply = ask(register, WitnessVote(1, node, 9, term, 1, 0, False, (node,)), rng.token(8)).reply
    if reply.granted:
        won.append(term)
    term = max(term, reply.term - 1 if reply.granted else reply.term - 2)
print(json.dumps(won))
"""


def test_two_processes_never_win_the_same_term(disk: RealDisk, tmp_path: Path):
    create(FileRegister(disk, str(tmp_path), key(), "create"), RNG.token(16), RNG.token(8))
    processes = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), str(node), "400"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for node in (1, 2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    won = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        won.append(json.loads(out))
    assert won[0] and won[1]
    assert not set(won[0]) & set(won[1])
    assert max(won[0] + won[1]) == 400


def test_a_writer_that_slept_through_pruning_does_not_believe_its_old_number(disk: RealDisk, tmp_path: Path):
    sleeper, *_ = registers("file", disk, tmp_path)
    awake = FileRegister(disk, str(tmp_path), key(), "n7")
    before = sleeper.load()
    for term in range(1, KEPT + 4):
        assert ask(awake, vote(7, term, (1, 0)), RNG.token(8)).reply.granted  # type: ignore[attr-defined]
    taken = {path.name for path in (tmp_path / key().name()).iterdir()}
    assert "2.st" not in taken, "the number must be free again for this test to mean anything"
    data = awake.load().data
    assert not sleeper.publish(before, data, RNG.token(8))
    assert {path.name for path in (tmp_path / key().name()).iterdir()} == taken


def test_old_versions_and_left_overs_go_and_the_newest_stay(disk: RealDisk, tmp_path: Path):
    register, *_ = registers("file", disk, tmp_path)
    directory = tmp_path / key().name()
    (directory / "n1.0011223344556677.tmp").write_bytes(b"an earlier process of this node died here")
    (directory / "n2.0011223344556677.tmp").write_bytes(b"another node is writing this")
    (directory / "notes.st").write_bytes(b"not a version")
    (directory / "007.st").write_bytes(b"not a version either")
    for term in range(1, 30):
        ask(register, vote(1, term, (1, 0)), RNG.token(8))
    names = sorted(path.name for path in directory.iterdir())
    assert names == sorted(
        ["CREATED", "n2.0011223344556677.tmp", "notes.st", "007.st", *(f"{30 - n}.st" for n in range(KEPT))]
    )


def test_the_busiest_state_gives_up_after_many_attempts():
    class Restless:
        key = key()

        def __init__(self) -> None:
            self.loads = 0

        def load(self):
            self.loads += 1
            return self.inner.load()

        def publish(self, before, data, token):
            return False

    restless = Restless()
    store = RealObjectStore(MemoryStore(), "memory")
    restless.inner = ObjectRegister(store, "", key())
    create(restless.inner, RNG.token(16), RNG.token(8))
    question: WitnessAppend = append(1, 2, (2, 1), (1, WITNESS))
    with pytest.raises(OSError, match="changed 32 times"):
        ask(restless, question, RNG.token(8))
    assert restless.loads == 32
