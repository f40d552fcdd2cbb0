import pytest

from jstyle.checkers import lock
from jstyle.history.op import HistoryError
from tests.checkers.collection_histories import Recorder, names, ops_of


def recorded(seed, px):
    state = {"token": 0, "until": -1, "fence": 0}

    def draw(dice, n):
        known = state["token"]
        kind = dice.random()
        if kind < 0.5 or not known:

            def acquire(now_ms):
                if state["until"] > now_ms:
                    return "fail", {"px": px}, "held"
                state["token"] += 1
                state["until"] = now_ms + px
                return "ok", {"token": state["token"], "px": px}, None

            return "acquire", None, {"px": px}, acquire
        token = max(1, known - dice.randrange(2))
        if kind < 0.7:

            def release(now_ms):
                held = state["token"] == token and state["until"] > now_ms
                if held:
                    state["until"] = -1
                return "ok", held, None

            return "release", None, {"token": token}, release

        def write(now_ms):
            if token < state["fence"]:
                return "ok", False, None
            state["fence"] = token
            return "ok", True, None

        return "fenced-write", None, {"token": token, "value": n}, write

    return Recorder(seed).run(120, draw)


@pytest.mark.parametrize("seed", range(60))
def test_locks_that_behave_are_true(seed):
    ops = recorded(seed, (10, 40, 200)[seed % 3]).ops
    verdict = lock.check(ops, {"bound_ms": 1})
    assert (verdict.valid, verdict.anomalies) == ("true", [])
    assert lock.check(ops, {}).valid == "true"


@pytest.mark.parametrize("seed", range(30))
def test_a_write_with_a_token_that_was_passed_is_found(seed):
    run = recorded(seed, 10)
    run.call("fenced-write", {"token": 900, "value": 0}, lambda now_ms: ("ok", True, None))
    assert lock.check(run.ops, {}).valid == "true"
    run.call("fenced-write", {"token": 899, "value": 0}, lambda now_ms: ("ok", True, None))
    verdict = lock.check(run.ops, {})
    assert names(verdict) == ["older-token-accepted"]
    assert verdict.anomalies[0].ops == [op.index for op in run.ops[-3:]]


def test_overlaps_past_the_time_are_counted():
    fields = [{"time": ms * 1_000_000} for ms in (0, 1, 200, 201)]
    ops = ops_of(
        (0, "invoke", "acquire", {"px": 100}), (0, "ok", "acquire", {"token": 1, "px": 100}),
        (1, "invoke", "acquire", {"px": 100}), (1, "ok", "acquire", {"token": 2, "px": 100}),
    )  # fmt: skip
    for op, at in zip(ops, fields, strict=True):
        op.time = at["time"]
    verdict = lock.check(ops, {"bound_ms": 0})
    assert verdict.valid == "true" and verdict.counts["overlaps"] == 1


def test_without_times_or_bound_only_locks_for_ever_are_exclusive():
    ops = ops_of(
        (0, "invoke", "acquire", {"px": 10**9}), (0, "ok", "acquire", {"token": 1, "px": 10**9}),
        (1, "invoke", "acquire", {"px": 10**9}), (1, "ok", "acquire", {"token": 2, "px": 10**9}),
    )  # fmt: skip
    assert lock.check(ops, {}).valid == "true"
    assert names(lock.check(ops, {"bound_ms": 0})) == ["two-holders"]
    for op in ops:
        op.time = -1
    assert lock.check(ops, {"bound_ms": 0}).valid == "true"


def test_what_it_cannot_read_is_an_error():
    with pytest.raises(HistoryError, match="operation 0: the value of acquire must be a map with 'px'"):
        lock.check(ops_of((0, "invoke", "acquire", 1)), {})
    with pytest.raises(HistoryError, match="operation 1: release must be answered by true or false"):
        lock.check(ops_of((0, "invoke", "release", {"token": 1}), (0, "ok", "release", 1)), {})
