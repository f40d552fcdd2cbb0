import pytest

from jstyle.checkers import bank
from jstyle.checkers.verdict import OptionError
from jstyle.history.op import HistoryError
from tests.checkers.collection_histories import Recorder, names, ops_of

ACCOUNTS = ["0", "1", "2"]
OPTIONS = {"total": 30, "accounts": ACCOUNTS}


def recorded(seed):
    held = dict.fromkeys(ACCOUNTS, 10)

    def read(now_ms):
        return "ok", dict(held), None

    def draw(dice, n):
        if dice.random() < 0.4:
            return "read", None, None, read
        payer, payee = dice.sample(ACCOUNTS, 2)
        value = {"from": payer, "to": payee, "amount": dice.randint(1, 5)}

        def transfer(now_ms):
            if held[payer] < value["amount"]:
                return "fail", value, "insufficient"
            held[payer] -= value["amount"]
            held[payee] += value["amount"]
            return "ok", value, None

        return "transfer", None, value, transfer

    return Recorder(seed).run(60, draw).call("read", None, read)


@pytest.mark.parametrize("seed", range(60))
def test_banks_that_behave_are_true(seed):
    ops = recorded(seed).ops
    assert bank.check(ops, OPTIONS).valid == "true"
    verdict = bank.check(ops, {})
    assert verdict.valid == "true"
    assert verdict.counts["balances"] == 3 * verdict.counts["reads"]


@pytest.mark.parametrize("seed", range(20))
def test_money_moved_by_nobody_is_found_though_the_total_is_right(seed):
    ops = recorded(seed).ops
    last = ops[-1].value
    payer = max(last, key=last.get)
    payee = next(name for name in ACCOUNTS if name != payer)
    moved = 1 + sum(op.value["amount"] for op in ops if op.f == "transfer" and op.type == "info")
    ops[-1].value = {**last, payer: last[payer] - moved, payee: last[payee] + moved}
    verdict = bank.check(ops, {**OPTIONS, "negative_balances": True})
    assert verdict.valid == "false" and names(verdict) == ["unexplained-balance"]
    assert all(ops[-1].index in anomaly.ops for anomaly in verdict.anomalies)


def test_accounts_may_be_numbers_and_balances_null():
    ops = ops_of(
        (0, "invoke", "read", None), (0, "ok", "read", {0: 5, 1: 5}), (0, "invoke", "read", None),
        (0, "ok", "read", {0: 10, 1: None}),
    )  # fmt: skip
    verdict = bank.check(ops, {"accounts": ["0", "1"], "total": 10})
    assert names(verdict) == ["missing-account", "unexplained-balance"]


def test_what_it_cannot_read_is_an_error():
    with pytest.raises(HistoryError, match="operation 1: a read must answer a map"):
        bank.check(ops_of((0, "invoke", "read", None), (0, "ok", "read", [1])), {})
    read = ((0, "invoke", "read", None), (0, "ok", "read", {"0": 1}))
    with pytest.raises(HistoryError, match="operation 2: None in transfer must be a whole number"):
        bank.check(ops_of(*read, (0, "invoke", "transfer", {"from": "0", "to": "1"})), {})
    with pytest.raises(OptionError, match="total"):
        bank.check(ops_of(*read), {"total": "much"})
