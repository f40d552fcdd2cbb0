"""Power cuts at every disk call of the file store: an answer that was given is never forgotten, a state never lost."""

from __future__ import annotations

from random import Random

import pytest

from durakv.witness.errors import ExistsError, StateLostError, SyncError
from durakv.witness.store import ask, create
from durakv.witness.store_file import FileRegister
from jstyle.sim.atlas import MODES, Atlas
from jstyle.sim.clock import PowerCut
from jstyle.sim.disk import DiskOptions, SimDisk
from jstyle.sim.disk_crash import ORDERS, CrashPolicy, after_power_cut
from jstyle.sim.disk_faults import DiskFaults, FaultOptions
from jstyle.sim.streams import stream
from jstyle.sim.timeline import Timeline
from raft.messages import Message, WitnessVoteResp
from raft.witness import WitnessState, answer
from tests.witness.places import WITNESS, append, key, vote

ROOT = "/shared/witness"
TALK: list[Message] = [
    vote(1, 2, (1, 0)),
    append(1, 2, (2, 1), (1, WITNESS)),
    append(1, 2, (2, 1), (1, WITNESS)),
    vote(2, 3, (2, 0)),
    vote(1, 4, (2, 1)),
    vote(1, 4, (2, 1)),
    append(1, 4, (4, 1), (1, 2)),
    append(1, 4, (4, 2), (1, WITNESS)),
]
POLICIES = [
    CrashPolicy(order, keep, 0.5, strict_names=strict) for order in ORDERS for keep in (0.1, 0.9)
    for strict in (True, False)
]  # fmt: skip


def new_disk(seed: int = 1) -> SimDisk:
    return SimDisk(Timeline(), seed, "w", DiskOptions())


def register(disk: SimDisk, writer: str = "n1") -> FileRegister:
    return FileRegister(disk, ROOT, key(), writer)


def tokens(seed: int):
    random = Random(seed)
    while True:
        yield random.randbytes(8)


def found(disk: SimDisk) -> None:
    create(register(disk, "create"), bytes(16), b"creation")


def talk(disk: SimDisk, start: int, answered: list[Message], names) -> None:
    made = register(disk)
    # One by one: what was answered before a cut must be there after it.
    for message in TALK[start:]:
        reply = ask(made, message, next(names)).reply
        answered.append(reply)


def states() -> list[WitnessState]:
    """What the state is after 0, 1, ... questions."""
    out = [WitnessState(1, WITNESS)]
    for message in TALK:
        out.append(answer(out[-1], message)[0])
    return out


def changing_calls(run) -> int:
    disk = new_disk()
    counted = [0]
    original = disk.change

    def change(kind: str, path: str) -> None:
        counted[0] += 1
        original(kind, path)

    run(disk, change)
    return counted[0]


def count_talk() -> int:
    def run(disk: SimDisk, change) -> None:
        found(disk)
        disk.change = change  # type: ignore[method-assign]
        talk(disk, 0, [], tokens(1))

    return changing_calls(run)


def count_creation() -> int:
    def run(disk: SimDisk, change) -> None:
        disk.change = change  # type: ignore[method-assign]
        found(disk)

    return changing_calls(run)


def cut_during(calls: int, policy: CrashPolicy, seed: int) -> tuple[SimDisk, list[Message]]:
    disk = new_disk(seed)
    found(disk)
    answered: list[Message] = []
    disk.cut_after = calls
    with pytest.raises(PowerCut):
        talk(disk, 0, answered, tokens(seed))
    disk.boot(None)
    after_power_cut(disk, policy, stream(seed, "cut", "test"))
    return disk, answered


def test_a_power_cut_at_any_call_forgets_no_answer():
    expected = states()
    total = count_talk()
    assert total > 30
    cases = 0
    for calls in range(total):
        for number, policy in enumerate(POLICIES):
            disk, answered = cut_during(calls, policy, number)
            state = register(disk).load().sealed.state
            assert state in expected[len(answered) : len(answered) + 2], (calls, policy)
            # The candidate or leader asks again, with its fresh start: everything goes on as if nothing had been.
            again: list[Message] = []
            talk(disk, len(answered), again, tokens(99))
            assert register(disk).load().sealed.state == expected[-1]
            cases += 1
    assert cases == total * len(POLICIES)


def test_what_a_reader_rests_its_answer_on_is_durable_though_another_wrote_it():
    """A duplicate is answered without writing; the first writer died before it synced the directory."""
    total = count_talk()
    confirmed = 0
    for calls in range(total):
        disk = new_disk()
        found(disk)
        disk.cut_after = calls
        answered: list[Message] = []
        with pytest.raises(PowerCut):
            talk(disk, 0, answered, tokens(1))
        disk.cut_after = -1
        # That process is dead, not the machine: what it did can be read. Another node asks the same next.
        if len(answered) == len(TALK):
            continue
        reply = ask(register(disk, "n2"), TALK[len(answered)], b"another1").reply
        after_power_cut(disk, CrashPolicy("nothing"), Random(1))
        disk.boot(None)
        assert register(disk).load().sealed.state == states()[len(answered) + 1]
        confirmed += isinstance(reply, WitnessVoteResp) and reply.granted
    assert confirmed > 3


def test_a_power_cut_while_creating_leaves_a_state_or_none_but_never_an_answering_half():
    total = count_creation()
    assert total >= 9
    outcomes: dict[str, int] = {}
    for calls in range(total):
        for number, policy in enumerate(POLICIES):
            disk = new_disk(number)
            disk.cut_after = calls
            with pytest.raises(PowerCut):
                found(disk)
            disk.boot(None)
            after_power_cut(disk, policy, stream(number, "cut", "test"))
            try:
                create(register(disk, "create"), b"\x01" * 16, b"secondly")
                outcome = "created"
            except ExistsError:
                outcome = "existed"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            assert register(disk).load().sealed.state == states()[0]
            with pytest.raises(ExistsError):
                create(register(disk, "create"), b"\x02" * 16, b"thirdly!")
    assert set(outcomes) == {"created", "existed"}


def test_a_finished_creation_survives_any_power_cut():
    for number, policy in enumerate(POLICIES):
        disk = new_disk(number)
        found(disk)
        after_power_cut(disk, policy, stream(number, "cut", "test"))
        assert register(disk).load().sealed.version == 1


def tried(made: FileRegister, message: Message, token: bytes) -> tuple[Message | None, OSError | None]:
    """The answer, or the error that there is none; a state is never lost."""
    try:
        return ask(made, message, token).reply, None
    except StateLostError:
        raise
    except OSError as error:
        return None, error


def faulty(disk: SimDisk, failing: list[int], number: int = 5) -> list[tuple[str, str]]:
    """Let the changing calls of these numbers fail with an error; returns the record of all of them."""
    seen: list[tuple[str, str]] = []

    def change(kind: str, path: str) -> None:
        seen.append((kind, path))
        if len(seen) - 1 in failing:
            raise OSError(number, "simulated", path)

    disk.change = change  # type: ignore[method-assign]
    return seen


def test_an_error_at_any_call_gives_no_answer_and_the_next_try_is_right():
    total = count_talk()
    expected = states()
    synced = 0
    for calls in range(total):
        disk = new_disk()
        found(disk)
        faulty(disk, [calls])
        made = register(disk)
        names = tokens(calls)
        failures = 0
        for place, message in enumerate(TALK):
            reply, error = tried(made, message, next(names))
            if error is not None:
                failures += 1
                synced += isinstance(error, SyncError)
                reply = ask(made, message, next(names)).reply
            _, right = answer(expected[place], message)
            assert type(reply) is type(right)
            if isinstance(right, WitnessVoteResp):
                assert reply.granted == right.granted
        assert failures == 1
        after_power_cut(disk, CrashPolicy("nothing"), Random(1))
        assert register(disk).load().sealed.state == expected[-1]
    assert synced > 10


def test_after_a_failed_sync_of_the_directory_the_state_is_written_anew_before_it_is_answered():
    disk = new_disk()
    found(disk)
    made = register(disk)
    original = disk.fsync_dir
    failures = [True]

    def fsync_dir(path: str) -> None:
        if failures.pop() if failures else False:
            # As a kernel does: the change is forgotten as to be written, the next sync says all is well.
            disk.pending_names = []
            raise OSError(5, "simulated", path)
        original(path)

    disk.fsync_dir = fsync_dir
    with pytest.raises(SyncError):
        ask(made, TALK[0], b"question")
    assert ask(made, TALK[0], b"again...").reply.granted
    after_power_cut(disk, CrashPolicy("nothing"), Random(1))
    assert register(disk).load().sealed.state == states()[1]


def test_random_faults_never_let_an_answer_be_forgotten():
    """Short writes, failing syncs, full disks, crashes of the process, power cuts, in any order."""
    cuts = 0
    for seed in range(150):
        random = Random(seed)
        disk = new_disk(seed)
        found(disk)
        options = FaultOptions(write_short=0.2, write_eio=0.05, fsync_eio=0.03)
        disk.faults = DiskFaults(disk, 1, stream(seed, "faults", "w"), options, Atlas(seed, [1], MODES[0]))
        disk.faults.enabled = True
        granted: dict[int, int] = {}
        names = tokens(seed)
        made = [register(disk, f"n{n}") for n in (1, 2)]
        for _ in range(40):
            node = random.choice((1, 2))
            term = max(granted, default=1) + random.choice((0, 0, 1))
            disk.faults.full = random.random() < 0.1
            if random.random() < 0.2:
                disk.cut_after = random.randrange(6)
            try:
                reply, _ = tried(made[node - 1], vote(node, term, (term, 0)), next(names))
                if isinstance(reply, WitnessVoteResp) and reply.granted:
                    assert granted.setdefault(term, node) == node
            except PowerCut:
                cuts += 1
                disk.boot(None)
                after_power_cut(disk, CrashPolicy.draw(random), random)
                made = [register(disk, f"n{n}") for n in (1, 2)]
            disk.cut_after = -1
    assert cuts > 300
