import random
import time

import pytest

from jstyle.checkers import linear, wgl, zones
from jstyle.checkers.linear_machine import Machine
from jstyle.checkers.linear_search import Budget, Search
from jstyle.checkers.models import Register
from jstyle.checkers.partition import partitions
from jstyle.checkers.verdict import OptionError
from jstyle.history.op import HistoryError, Op
from tests.checkers.linear_histories import Shape, draw


def honest(seed=1, **changes):
    settings = {"calls": 6000, "clients": 10, "crash": 0.01, "fail": 0.02, "lies": 0.0, "values": 5, "keys": 60}
    return draw(random.Random(seed), Shape(**{**settings, **changes}))


def history(*steps):
    return [Op(at, at, *step) for at, step in enumerate(steps)]


def test_many_timeouts_stay_affordable():
    # Each crashed write alone doubles what a search that tracks calls one by one must remember.
    found = linear.check(honest(calls=600, keys=1, crash=0.35, clients=6), {})
    assert found.valid == "true"
    assert found.counts["crashed"] > 150
    assert found.counts["configs_peak"] < 3000


def test_crashed_writes_nobody_looks_for_cost_nothing():
    ops = honest(calls=8000, keys=1, crash=0.05, clients=8, unique=True, ops=("read", "write"))
    found = linear.check(ops, {})
    assert found.valid == "true"
    assert found.counts["crashed"] > 100
    assert found.counts["steps"] < 100 * found.counts["calls"]


def test_work_grows_with_the_history_and_not_faster():
    small, large = (linear.check(honest(calls=calls, keys=calls // 100), {}) for calls in (2000, 8000))
    assert small.valid == large.valid == "true"
    assert large.counts["steps"] < 8 * small.counts["steps"]


def test_several_processes_find_what_one_finds():
    ops = honest(lies=0.0005, seed=3)
    one, two = linear.check(ops, {}), linear.check(ops, {"jobs": 2})
    assert one.valid == two.valid == "false"
    assert one.counts == two.counts
    assert [(a.name, a.key, a.ops) for a in one.anomalies] == [(a.name, a.key, a.ops) for a in two.anomalies]


def test_a_spent_step_budget_is_unknown_and_names_key_and_operations():
    found = linear.check(honest(keys=2, calls=2000), {"budget_steps": 300})
    assert found.valid == "unknown"
    assert found.counts["unknown"] == 2
    assert "300 steps" in found.why and "key 0 operations " in found.why


def test_a_spent_configuration_budget_is_unknown():
    writes = [(process, "invoke", "write", process) for process in range(12)]
    done = [(process, "ok", "write", process) for process in range(12)]
    ops = history(*writes, *done, (12, "invoke", "read", None), (12, "ok", "read", 3))
    assert linear.check(ops, {}).valid == "true"
    found = linear.check(ops, {"budget_configs": 100})
    assert found.valid == "unknown"
    assert "100 configurations" in found.why


def test_a_spent_time_budget_is_unknown_but_a_fault_found_before_stays_false():
    ops = honest(keys=2, calls=4000)
    assert linear.check(ops, {"budget_s": 0.0}).valid == "unknown"
    part = partitions(history((0, "invoke", "read", None), (0, "ok", "read", 1)), Register())
    ticks = iter([0.0, 99.0, 99.0])
    budget = Budget(10**6, 10**6, 10.0, lambda: next(ticks))
    found = linear.search_all([part[0], partitions(ops, Register())[0]], budget)
    assert [finding.linearizable for finding in found] == [False, None]


def test_false_outranks_unknown():
    bad = history((0, "invoke", "read", None), (0, "ok", "read", 9))
    for op in bad:
        op.key = "bad"
    long = honest(keys=1, calls=2000)
    for op in long:
        op.index += 2
    found = linear.check([*bad, *long], {"budget_steps": 300})
    assert found.valid == "false"
    assert found.counts["unknown"] == 1 and found.why


def test_longest_prefixes_tell_how_far_it_got():
    ops = history(
        (0, "invoke", "write", 1), (0, "ok", "write", 1), (1, "invoke", "write", 2), (2, "invoke", "read", None),
        (2, "ok", "read", 7), (1, "ok", "write", 2),
    )  # fmt: skip
    part = partitions(ops, Register())[0]
    finding = Search(part, Machine(Register()), Budget(1000, 1000, time.monotonic() + 10, time.monotonic)).run()
    assert finding.linearizable is False
    (prefix,) = finding.prefixes
    assert prefix.taken == [0, 1]
    assert prefix.state == 2
    assert prefix.illegal == [2]


def test_operations_out_of_order_are_refused():
    ops = history((0, "invoke", "read", None), (0, "ok", "read", None), (1, "invoke", "read", None))
    ops[2].index = 0
    with pytest.raises(HistoryError, match="indexes must rise"):
        linear.check(ops, {})


@pytest.mark.parametrize("engine", [linear, wgl])
def test_an_option_of_the_wrong_kind_is_refused(engine):
    with pytest.raises(OptionError, match="budget_steps must be a number"):
        engine.check([], {"budget_steps": "many"})


def test_booleans_are_not_numbers():
    ops = history(
        (0, "invoke", "write", True), (0, "ok", "write", True), (0, "invoke", "read", None), (0, "ok", "read", 1)
    )
    assert linear.check(ops, {}).valid == "false"


# ---- Zones ----------------------------------------------------------------------------------------------------------


def unique(seed=1, **changes):
    settings = {"calls": 3000, "clients": 8, "crash": 0.01, "fail": 0.02, "lies": 0.0, "values": 1, "keys": 2}
    return draw(random.Random(seed), Shape(**{**settings, **changes}, unique=True, ops=("read", "write")))


def test_zones_accept_a_long_honest_history():
    assert zones.check(unique(), {}).valid == "true"


@pytest.mark.parametrize("seed", range(5))
def test_zones_find_one_lie_in_a_long_history(seed):
    ops = unique(seed)
    dice = random.Random(seed)
    reads = [op for op in ops if op.type == "ok" and op.f == "read" and op.key == 1]
    victim = dice.choice(reads[len(reads) // 2 :])
    victim.value = next(op.value for op in reads if op.value is not None)
    found = zones.check(ops, {})
    assert found.valid == "false"
    assert {anomaly.key for anomaly in found.anomalies} == {1}


def test_zones_do_not_guess_where_values_repeat():
    ops = history((0, "invoke", "write", 1), (0, "ok", "write", 1), (0, "invoke", "write", 1), (0, "ok", "write", 1))
    found = zones.check(ops, {})
    assert found.valid == "unknown"
    assert "operation 2 writes 1" in found.why


def test_zones_do_not_guess_at_other_operations():
    found = zones.check(history((0, "invoke", "cas", [1, 2]), (0, "ok", "cas", [1, 2])), {"independent": False})
    assert found.valid == "unknown"
    assert "neither a read nor a write" in found.why


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([(0, "invoke", "write", 1), (0, "fail", "write", 1), (1, "invoke", "read", None), (1, "ok", "read", 1)],
         "failed-write-visible"),
        ([(1, "invoke", "read", None), (1, "ok", "read", 1)], "phantom-read"),
        ([(1, "invoke", "read", None), (1, "ok", "read", 1), (0, "invoke", "write", 1)], "future-read"),
        ([(0, "invoke", "write", 1), (0, "ok", "write", 1), (1, "invoke", "read", None), (1, "ok", "read", None)],
         "lost-write"),
        ([(0, "invoke", "write", 1), (0, "ok", "write", 1), (0, "invoke", "write", 2), (0, "ok", "write", 2),
          (1, "invoke", "read", None), (1, "ok", "read", 1)], "stale-read"),
        ([(0, "invoke", "write", 1), (0, "ok", "write", 1), (0, "invoke", "write", 2),
          (1, "invoke", "read", None), (1, "ok", "read", 2), (1, "invoke", "read", None), (1, "ok", "read", 1)],
         "non-monotonic-read"),
    ],
)  # fmt: skip
def test_zones_name_what_they_find(steps, name):
    found = zones.check(history(*steps), {})
    assert found.valid == "false"
    assert [anomaly.name for anomaly in found.anomalies] == [name]
