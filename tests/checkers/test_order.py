import pytest

from jstyle.checkers import order
from jstyle.history.op import HistoryError
from tests.checkers.collection_histories import Recorder, names, ops_of


def recorded(seed):
    log, places = [], {}
    # An observation that is never answered would leave a gap that is no fault.
    run = Recorder(seed, crash=0.0)

    def look(now_ms):
        begin = places.setdefault(run.acting, len(log) // 2)
        places[run.acting] = len(log)
        return "ok", {"observer": run.acting, "seen": log[begin:]}, None

    def draw(dice, n):
        if dice.random() < 0.4:
            return "observe", None, None, look

        def publish(now_ms):
            if dice.random() < 0.1:
                return "fail", n, "refused"
            log.append(n)
            return "ok", n, None

        return "publish", None, n, publish

    return run.run(80, draw)


def with_crashed_publications(ops, seed):
    """Some acknowledgements of publications never arrived: their processes do nothing more in the history."""
    for op in ops:
        if op.f == "publish" and op.type == "ok" and (op.index * 7 + seed) % 5 == 0:
            op.type = "info"
    return ops


@pytest.mark.parametrize("seed", range(60))
def test_streams_that_behave_are_true(seed):
    ops = with_crashed_publications(recorded(seed).ops, seed)
    verdict = order.check(ops, {})
    assert (verdict.valid, verdict.anomalies) == ("true", [])
    assert verdict.counts["observers"] >= 2 and verdict.counts["pairs"] >= 1


@pytest.mark.parametrize("seed", range(30))
def test_two_neighbours_in_the_other_order_are_found(seed):
    ops = recorded(seed).ops
    long = max((op for op in ops if op.f == "observe" and op.type == "ok"), key=lambda op: len(op.value["seen"]))
    seen = long.value["seen"]
    long.value = {**long.value, "seen": [*seen[:-2], seen[-1], seen[-2]]}
    verdict = order.check(ops, {})
    shared = {tuple(anomaly.ops) for anomaly in verdict.anomalies}
    if verdict.valid == "true":
        # Only possible when they were published at once and nobody else saw both.
        others = [op.value["seen"] for op in ops if op.f == "observe" and op.type == "ok" and op is not long]
        assert not any({seen[-1], seen[-2]} <= set(other) for other in others)
    else:
        assert set(names(verdict)) <= {"step-back", "order-disagreement"} and shared


@pytest.mark.parametrize("seed", range(30))
def test_one_left_out_of_the_middle_is_a_gap(seed):
    ops = recorded(seed).ops
    long = max((op for op in ops if op.f == "observe" and op.type == "ok"), key=lambda op: len(op.value["seen"]))
    seen = long.value["seen"]
    assert len(seen) >= 3
    long.value = {**long.value, "seen": [seen[0], *seen[2:]]}
    other = Recorder(seed)
    other.ops = ops
    other.call("observe", None, lambda now_ms: ("ok", {"observer": "z", "seen": seen}, None))
    assert names(order.check(ops, {})) == ["gap"]
    verdict = order.check(ops, {"gaps": True})
    assert verdict.valid == "true" and verdict.counts["gaps"] == 1


def test_keyspace_events_need_no_publications():
    ops = ops_of(
        (0, "invoke", "observe", None), (0, "ok", "observe", ["set a", "del a"]),
        (1, "invoke", "observe", None), (1, "ok", "observe", ["del a", "set a"]),
    )  # fmt: skip
    assert names(order.check(ops, {})) == ["order-disagreement"]
    assert order.check(ops[:2], {}).valid == "true"


def test_what_it_cannot_read_is_an_error():
    with pytest.raises(HistoryError, match="operation 1: observe must answer a list"):
        order.check(ops_of((0, "invoke", "observe", None), (0, "ok", "observe", {"observer": "a"})), {})
