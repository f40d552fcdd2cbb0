"""What clients do: every workload works on a calm group and is judged; locks, fences and logs mean what they say."""

from __future__ import annotations

from random import Random

import pytest

from jstyle.checkers import registry
from jstyle.checkers.verdict import FALSE, TRUE
from jstyle.history.op import FAIL, INFO, OK, Op
from jstyle.sim.judge import judge_with
from jstyle.sim.outcomes import CLOSED, TIMEOUT, ErrorText
from jstyle.sim.runner import Run, run
from jstyle.sim.swarm import Draw, draw_plan
from jstyle.sim.workloads.action import Action, Done, Guarded, UnexpectedReply, okay
from jstyle.sim.workloads.catalogue import WORKLOADS
from jstyle.sim.workloads.collections import Logs
from jstyle.sim.workloads.lock import Locks


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_calm_group_answers_everything_and_the_checkers_see_something(name: str) -> None:
    plan = draw_plan(21, Draw("3", (), (name,), 15_000))
    result = run(plan, judge_with(plan))
    assert (result.valid, result.text, result.why) == (TRUE, "", [])
    assert result.verdicts and set(result.verdicts.values()) == {TRUE}
    done = [entry.split(" ") for entry in result.ops]
    assert sum(result.ops[" ".join(one)] for one in done if one[0] == name and one[2] == "ok") > 30
    assert {one[2] for one in done if one[0] == name} <= {"ok", "fail"}


def guarded() -> Guarded:
    return Guarded("cas", b"k", lambda found: found == b"1", [[b"SET", b"k", b"2"]], okay(False), key="k", value=[1, 2])


def ended(action: Action, *replies: list[object]) -> Done:
    action.first()
    found: object = None
    for some in replies:
        found = action.next(some)
    assert isinstance(found, Done)
    return found


def test_a_guarded_write_happens_or_not() -> None:
    exec_ = [b"OK", b"QUEUED"]
    assert (ended(guarded(), [b"OK", b"1"], [*exec_, [b"OK"]]).type) == OK
    assert ended(guarded(), [b"OK", b"5"], [b"OK"]).value is False
    aborted = ended(guarded(), [b"OK", b"1"], [*exec_, None])
    assert (aborted.type, aborted.error) == (FAIL, "aborted")
    with pytest.raises(UnexpectedReply):
        ended(guarded(), [b"OK", b"1"], [*exec_, [b"OK", b"OK"]])


def test_a_watch_that_failed_halfway_does_not_fail_the_next_transaction() -> None:
    action = guarded()
    action.first()
    assert action.next([b"OK", ErrorText("CLUSTERDOWN no leader")]) == [[b"UNWATCH"]]
    done = action.next([b"OK"])
    assert isinstance(done, Done) and (done.type, done.error) == (FAIL, "CLUSTERDOWN no leader")


def locked() -> Locks:
    """A client that holds every lock, with token 7."""
    locks = Locks()
    for turn in range(200):
        action = locks.draw(Random(turn), turn + 1, turn)
        if action.f == "acquire":
            done = action.next([b"OK", b"QUEUED", b"QUEUED", [b"OK", 7]])
            assert isinstance(done, Done)
            locks.saw(action, done.value)
    assert set(locks.holds) == {"0", "1"}
    return locks


def drawn(locks: Locks, f: str) -> Action:
    return next(action for turn in range(400) if (action := locks.draw(Random(turn), 1000 + turn, turn)).f == f)


def test_a_lock_is_refused_while_held_and_its_token_is_spent() -> None:
    action = Locks().draw(Random(1), 1, 0)
    assert action.f == "acquire"
    done = action.next([b"OK", b"QUEUED", b"QUEUED", [None, 3]])
    assert isinstance(done, Done) and (done.type, done.error) == (FAIL, "held")


def test_a_fence_refuses_an_older_token_only() -> None:
    def outcome(stored: bytes | None) -> object:
        write = drawn(locked(), "fenced-write")
        following = write.next([b"OK", stored])
        assert isinstance(following, list)
        return following[0][0]

    assert [outcome(stored) for stored in (None, b"6:1", b"7:9", b"8:1", b"10:1")] == [
        b"MULTI", b"MULTI", b"MULTI", b"UNWATCH", b"UNWATCH",
    ]  # fmt: skip


def test_only_the_own_lock_is_released() -> None:
    locks = locked()

    def asked(owner_off_by: int) -> object:
        release = drawn(locks, "release")
        assert isinstance(release.key, str)
        owner = locks.newest[release.key][1] + owner_off_by
        following = release.next([b"OK", b"%d" % owner])
        assert isinstance(following, list)
        return [argv[0] for argv in following]

    assert asked(1) == [b"UNWATCH"]
    assert asked(0) == [b"MULTI", b"DEL", b"EXEC"]
    release = drawn(locks, "release")
    assert isinstance(release.key, str)
    release.next([b"OK", b"%d" % locks.newest[release.key][1]])
    too_late = release.next([b"OK", b"QUEUED", [0]])
    assert isinstance(too_late, Done) and (too_late.type, too_late.value) == (OK, False)


def test_an_observer_reads_on_from_where_it_was() -> None:
    logs = Logs()
    observe = next(action for turn in range(99) if (action := logs.draw(Random(turn), 5, 0)).f == "observe")
    done = observe.next([[b"1", b"2"]])
    assert isinstance(done, Done)
    logs.saw(observe, done.value)
    later = next(action for turn in range(99) if (action := logs.draw(Random(turn), 99, 0)).f == "observe")
    assert later.first()[0][2:] == [b"2", b"-1"]
    second = later.next([[b"3"]])
    assert isinstance(second, Done)
    history = [
        op
        for index, (action, value) in enumerate([(observe, done.value), (later, second.value)])
        for op in (
            Op(4 * index, index, 0, "invoke", "observe", None, None, action.key, None),
            Op(4 * index + 1, index, 0, "ok", "observe", value, None, action.key, None),
        )
    ]
    verdict = registry.check("order", history, {"workload": "order"})[0]
    assert verdict.valid == TRUE and verdict.counts["seen"] == 3
    assert isinstance(second.value, dict)
    second.value["seen"] = [2]
    assert registry.check("order", history, {"workload": "order"})[0].valid == FALSE


@pytest.mark.parametrize(("done", "served"), [
    (okay(1), 1), (Done(FAIL, None, "held"), 1), (Done(FAIL, None, "empty"), 1), (Done(INFO, None, TIMEOUT), 0),
    (Done(FAIL, None, CLOSED), 0), (Done(FAIL, None, ErrorText("CLUSTERDOWN no leader")), 0),
])  # fmt: skip
def test_any_answer_but_an_error_serves_a_client(done: Done, served: int) -> None:
    client = Run(draw_plan(21, Draw("1", (), ("lock",), 1000))).clients[0]
    client.action = client.workload.draw(Random(1), 1, 0)
    if done.type == OK:
        done.value = {"token": 1, "px": 300}
    client._end(done)
    assert (client.served, client.ok) == (served, int(done.type == OK))
