import pytest

from jstyle.checkers import queue
from jstyle.history.op import HistoryError
from tests.checkers.collection_histories import Recorder, names, ops_of


def recorded(seed, *, crash=0.1):
    held, ids = [], []

    def drain(now_ms):
        return "ok", list(held), None

    def dequeue(now_ms):
        return ("ok", held.pop(0), None) if held else ("fail", None, "empty")

    def draw(dice, n):
        if dice.random() < 0.5:
            return "dequeue", None, None, dequeue
        f = dice.choice(("enqueue", "xadd"))

        def enqueue(now_ms):
            if dice.random() < 0.1:
                return "fail", n, "refused"
            held.append(n)
            ids.append(n)
            return "ok", f"{len(ids) // 3}-{len(ids) % 3}" if f == "xadd" else n, None

        return f, None, n, enqueue

    return Recorder(seed, crash=crash).run(60, draw).call("drain", None, drain)


@pytest.mark.parametrize("seed", range(60))
def test_queues_that_behave_are_true(seed):
    verdict = queue.check(recorded(seed).ops, {"fifo": True})
    assert (verdict.valid, verdict.anomalies) == ("true", [])
    assert verdict.counts["dequeued"] > 0 and verdict.counts["drains"] == 1


@pytest.mark.parametrize("seed", range(20))
def test_one_more_missing_than_crashed_dequeues_explain_is_lost(seed):
    ops = recorded(seed, crash=0.0).ops
    answered = [at for at, op in enumerate(ops) if op.f == "dequeue" and op.type == "ok"]
    at = answered[seed % len(answered)]
    element = ops[at].value
    ops[at].type, ops[at].value, ops[at].error = "fail", None, "refused"
    verdict = queue.check(ops, {})
    assert "lost" in names(verdict)
    assert verdict.anomalies[0].data["elements"] == [element]
    ops[at].type = "info"
    assert queue.check(ops, {}).valid == "true"


@pytest.mark.parametrize("seed", range(20))
def test_an_element_that_comes_out_again_is_duplicated(seed):
    ops = recorded(seed).ops
    out = next(op.value for op in ops if op.f == "dequeue" and op.type == "ok")
    ops[-1].value = [*ops[-1].value, out]
    assert names(queue.check(ops, {})) == ["duplicated"]


def test_an_element_may_come_out_as_often_as_it_went_in_under_one_key_only():
    ops = ops_of(
        (0, "invoke", "enqueue", 1, {"key": "a"}), (0, "ok", "enqueue", 1, {"key": "a"}),
        (0, "invoke", "dequeue", None, {"key": "b"}), (0, "ok", "dequeue", 1, {"key": "b"}),
    )  # fmt: skip
    verdict = queue.check(ops, {})
    assert [(anomaly.name, anomaly.key) for anomaly in verdict.anomalies] == [("unexpected", "b")]


def test_what_a_drain_has_shown_must_still_be_there_though_its_addition_was_never_answered():
    steps = [(0, "invoke", "enqueue", 1), (0, "info", "enqueue", 1)]
    steps += [(1, "invoke", "drain", None), (1, "ok", "drain", [1])]
    unseen = ops_of(*steps[:2], (1, "invoke", "drain", None), (1, "ok", "drain", []))
    assert queue.check(unseen, {}).valid == "unknown"
    lost = queue.check(ops_of(*steps, (1, "invoke", "drain", None), (1, "ok", "drain", [])), {})
    assert names(lost) == ["lost"] and lost.counts["acknowledged"] == 0
    empty = queue.check(
        ops_of(*steps, (1, "invoke", "dequeue", None), (1, "fail", "dequeue", None, {"error": "empty"})), {}
    )
    assert names(empty) == ["wrongly-empty"]
    # The same answers, but the first drain is not over when the second look begins.
    overlap = ops_of(
        *steps[:2],
        (1, "invoke", "drain", None), (2, "invoke", "drain", None), (1, "ok", "drain", [1]), (2, "ok", "drain", []),
    )  # fmt: skip
    assert queue.check(overlap, {}).valid == "true"


def test_a_drain_of_nothing_tells_nothing():
    verdict = queue.check(ops_of((0, "invoke", "drain", None), (0, "ok", "drain", [])), {})
    assert verdict.valid == "unknown" and verdict.why


def test_what_it_cannot_read_is_an_error():
    with pytest.raises(HistoryError, match="operation 1: xadd must answer an id"):
        queue.check(ops_of((0, "invoke", "xadd", 1), (0, "ok", "xadd", 1)), {})
    with pytest.raises(HistoryError, match="operation 0: a drain that takes elements was not answered"):
        queue.check(ops_of((0, "invoke", "drain", None)), {"drain_takes": True})
