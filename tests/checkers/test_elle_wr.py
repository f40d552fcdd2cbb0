import pytest

from jstyle.checkers import elle_wr
from jstyle.checkers.verdict import OptionError
from jstyle.history.op import HistoryError, Op


def history(*steps):
    """Operations from (process, type, micro-operations)."""
    return [Op(at, at, process, type_, "txn", value) for at, (process, type_, value) in enumerate(steps)]


def in_turn(*values):
    """Transactions one after the other, each in a process of its own."""
    steps = []
    for process, value in enumerate(values):
        asked = [[what, key, None if what == "r" else item] for what, key, item in value]
        steps += [(process, "invoke", asked), (process, "ok", value)]
    return history(*steps)


def names(verdict):
    return [anomaly.name for anomaly in verdict.anomalies]


def test_a_stale_read_is_told_with_the_reason_for_the_order_of_the_writes():
    ops = in_turn([["w", "x", 1]], [["w", "x", 2]], [["r", "x", 1]])
    (anomaly,) = elle_wr.check(ops, {}).anomalies
    assert anomaly.text == (
        "T3 < T5 because T3 was done at 3 before T5 began at 4; T5 < T3 because T5 read x as 1, which by the times of"
        " its reads and writes came before 2, which T3 wrote: a cycle"
    )
    assert [step["edge"] for step in anomaly.data["cycle"]] == ["realtime", "rw"]


def test_order_by_the_clock_accuses_only_what_promises_real_time():
    ops = in_turn([["w", "x", 1]], [["w", "x", 2]], [["r", "x", 1]])
    assert elle_wr.check(ops, {"models": ["serializable"]}).valid == "true"
    assert elle_wr.check(ops, {"models": ["strong-snapshot-isolation"]}).valid == "false"
    assert names(elle_wr.check(ops, {"linearizable_keys": False})) == []


def test_a_read_of_nil_is_stale_among_more_writers_than_are_linked():
    count = elle_wr.FIRST_LINKED * 3
    ops = in_turn(*([["w", "x", value]] for value in range(count)), [["r", "x", None]])
    assert names(elle_wr.check(ops, {"linearizable_keys": False})) == ["G-single-realtime"]


def test_nil_comes_before_a_chain_of_updates():
    chain = [[["r", "x", value or None], ["w", "x", value + 1]] for value in range(100)]
    assert elle_wr.check(in_turn(*chain), {}).valid == "true"
    assert names(elle_wr.check(in_turn(*chain, [["r", "x", None]]), {})) == ["G-single-realtime"]
    assert names(elle_wr.check(in_turn(*chain, [["r", "x", 50]]), {})) == ["G-single-realtime"]


def test_versions_in_a_circle_are_reported_and_not_used():
    steps = [(at, "invoke", [["r", "x", None], ["w", "x", at]]) for at in range(3)]
    steps += [(at, "ok", [["r", "x", (at + 1) % 3], ["w", "x", at]]) for at in range(3)]
    verdict = elle_wr.check(history(*steps), {})
    assert names(verdict) == ["cyclic-versions", "G1c"]
    assert verdict.anomalies[0].ops == [3, 4, 5]
    assert verdict.anomalies[0].text == "versions 0, 1, 2 of x were each written on top of one another"


def test_an_intermediate_value_comes_before_what_replaced_it():
    steps = [(0, "invoke", [["w", "x", 1], ["w", "x", 2]]), (1, "invoke", [["r", "x", None], ["r", "y", None]])]
    steps += [(0, "ok", [["w", "x", 1], ["w", "x", 2]]), (1, "ok", [["r", "x", 1], ["r", "y", None]])]
    verdict = elle_wr.check(history(*steps), {})
    assert names(verdict) == ["G1b", "G-single"]
    assert "T3 read x as 1, before T2 wrote 2 to it" in verdict.anomalies[1].text


def test_keys_that_cannot_be_judged_do_not_hide_the_others():
    ops = in_turn([["w", "y", 1]], [["w", "y", 1]], [["w", "z", None]], [["w", "x", 1]], [["r", "x", None]])
    assert names(elle_wr.check(ops, {})) == ["G-single-realtime"]
    verdict = elle_wr.check(ops[:-4], {})
    assert verdict.valid == "unknown"
    assert "key y: 1 was written to it twice" in verdict.why
    assert "key z: nil was written" in verdict.why
    assert verdict.counts["unjudged_keys"] == 2


def test_true_and_one_are_different_values():
    ops = in_turn([["w", "x", 1]], [["w", "x", True]], [["r", "x", True]])
    assert elle_wr.check(ops, {}).valid == "true"
    verdict = elle_wr.check(in_turn([["w", "x", 1]], [["r", "x", True]]), {})
    assert "garbage-read" in names(verdict)
    assert "T3 read true in x, which no transaction wrote" in [anomaly.text for anomaly in verdict.anomalies]


def test_lists_are_refused():
    with pytest.raises(HistoryError, match='operation 0: a part of a transaction is \\["w", key, value\\]'):
        elle_wr.check(in_turn([["append", "x", 1]]), {})


def test_options_that_cannot_be_used_are_refused():
    with pytest.raises(OptionError):
        elle_wr.check([], {"linearizable_keys": "yes"})
