import pytest

from jstyle.checkers import set_full
from jstyle.history.op import HistoryError
from tests.checkers.collection_histories import Recorder, names, ops_of


def recorded(seed):
    held = set()

    def draw(dice, n):
        if dice.random() < 0.3:
            return "read", None, None, lambda now_ms: ("ok", dice.sample(sorted(held), len(held)), None)

        def add(now_ms):
            if dice.random() < 0.1:
                return "fail", n, "refused"
            held.add(n)
            return "ok", n, None

        return "add", None, n, add

    return Recorder(seed).run(60, draw).call("read", None, lambda now_ms: ("ok", sorted(held), None)), held


@pytest.mark.parametrize("seed", range(60))
def test_sets_that_behave_are_true(seed):
    verdict = set_full.check(recorded(seed)[0].ops, {})
    assert (verdict.valid, verdict.why) == ("true", "")
    assert verdict.counts["stable"] > 0 and verdict.counts["lost"] == verdict.counts["stale"] == 0


@pytest.mark.parametrize("seed", range(20))
def test_an_element_taken_out_of_the_last_read_is_lost(seed):
    run, held = recorded(seed)
    acked = min(op.value for op in run.ops if op.type == "ok" and op.f == "add")
    run.ops[-1].value = sorted(held - {acked})
    verdict = set_full.check(run.ops, {})
    assert verdict.valid == "false" and names(verdict) == ["lost"]
    assert verdict.counts["lost"] == 1
    assert verdict.anomalies[0].ops[-1] == run.ops[-1].index


def test_stable_latency_is_from_the_proof_to_the_end_of_the_last_read_that_missed_it():
    ops = ops_of(
        (0, "invoke", "add", 1), (0, "ok", "add", 1), (1, "invoke", "read", None), (1, "ok", "read", []),
        (1, "invoke", "read", None), (1, "ok", "read", [1]),
    )  # fmt: skip
    for op in ops:
        op.time = op.index * 7_000_000
    assert set_full.check(ops, {}).counts["stable_ms_max"] == 14
    for op in ops:
        op.time = -1
    assert set_full.check(ops, {}).counts["stable_ms_max"] == 0


def test_pairs_of_key_and_value_are_taken_apart():
    ops = ops_of(
        (0, "invoke", "add", ["a", 1]), (0, "ok", "add", ["a", 1]), (0, "invoke", "read", ["b", None]),
        (0, "ok", "read", ["b", []]), (0, "invoke", "read", ["a", None]), (0, "ok", "read", ["a", []]),
    )  # fmt: skip
    verdict = set_full.check(ops, {})
    assert [(anomaly.name, anomaly.key) for anomaly in verdict.anomalies] == [("lost", "a")]


def test_what_it_cannot_read_is_an_error_that_names_the_operation():
    with pytest.raises(HistoryError, match=r"operation 0 is 'remove'.*name the workload"):
        set_full.check(ops_of((0, "invoke", "remove", 1)), {})
    with pytest.raises(HistoryError, match="operation 1: read must answer a list"):
        set_full.check(ops_of((0, "invoke", "read", None), (0, "ok", "read", 5)), {})


def test_a_nemesis_is_no_client():
    ops = ops_of(
        ("nemesis", "info", "kill", None), (0, "invoke", "add", 1), (0, "ok", "add", 1), (0, "invoke", "read", None),
        (0, "ok", "read", [1]),
    )  # fmt: skip
    assert set_full.check(ops, {}).valid == "true"
