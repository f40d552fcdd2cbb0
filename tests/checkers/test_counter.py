import pytest

from jstyle.checkers import counter, registry
from jstyle.history.op import HistoryError
from tests.checkers.collection_histories import Recorder, names, ops_of


def recorded(seed, least=1, kinds=("incr", "add")):
    held = {"value": 0}

    def read(now_ms):
        return "ok", held["value"], None

    def draw(dice, n):
        if dice.random() < 0.3:
            return "read", None, None, read
        amount, f = dice.randint(least, 9), dice.choice(kinds)

        def add(now_ms):
            if dice.random() < 0.1:
                return "fail", amount, "refused"
            held["value"] += amount
            return "ok", held["value"] if f == "incr" else amount, None

        return f, None, amount, add

    return Recorder(seed).run(60, draw).call("read", None, read)


@pytest.mark.parametrize("seed", range(60))
def test_counters_that_behave_are_true(seed):
    assert counter.check(recorded(seed).ops, {}).valid == "true"
    assert counter.check(recorded(seed, least=-9).ops, {}).valid == "true"


@pytest.mark.parametrize("seed", range(20))
def test_a_last_read_beyond_all_additions_is_found(seed):
    ops = recorded(seed).ops
    unsure = sum(op.value for op in ops if op.type == "info" and op.f != "read")
    ops[-1].value += unsure + 1
    verdict = counter.check(ops, {})
    assert names(verdict) == ["too-high"]
    assert verdict.anomalies[0].ops == [ops[-2].index, ops[-1].index]


@pytest.mark.parametrize("seed", range(40))
def test_it_never_accuses_what_the_exact_checker_acquits(seed):
    ops = recorded(seed, kinds=("incr",)).ops
    told = [op for op in ops if op.type == "ok"]
    told[seed % len(told)].value += seed % 3 - 1
    if counter.check(ops, {}).valid == "false":
        assert registry.check("counter-linear", ops, {})[0].valid == "false"


@pytest.mark.parametrize("seed", range(30))
def test_requests_sent_again_count_once(seed):
    held, done = {"value": 0}, {}

    def draw(dice, n):
        if dice.random() < 0.3:
            return "read", None, None, lambda now_ms: ("ok", held["value"], None)
        req = f"r{dice.randrange(12)}"
        amount = len(req) + int(req[1:])

        def add(now_ms):
            if req not in done:
                held["value"] += amount
                done[req] = held["value"]
            return "ok", done[req], None

        return "incr", None, amount, add, req

    verdict = counter.check(Recorder(seed, crash=0.3).run(60, draw).ops, {})
    assert verdict.valid == "true"
    assert verdict.counts["resubmitted"] > 0


def test_two_keys_are_two_counters():
    ops = ops_of(
        (0, "invoke", "add", 5, {"key": "a"}), (0, "ok", "add", 5, {"key": "a"}),
        (0, "invoke", "read", None, {"key": "b"}), (0, "ok", "read", 5, {"key": "b"}),
    )  # fmt: skip
    verdict = counter.check(ops, {})
    assert [(anomaly.name, anomaly.key) for anomaly in verdict.anomalies] == [("too-high", "b")]


def test_what_it_cannot_read_is_an_error():
    with pytest.raises(HistoryError, match="operation 0: 'x' in add must be a whole number"):
        counter.check(ops_of((0, "invoke", "add", "x"), (0, "ok", "add", "x")), {})
    with pytest.raises(HistoryError, match="operation 1: None in read must be a whole number"):
        counter.check(ops_of((0, "invoke", "read", None), (0, "ok", "read", None)), {})
