import random

import pytest

from jstyle.checkers import elle_append, txn_cycles
from jstyle.checkers.txn_graph import (
    PROCESS,
    REALTIME,
    RW,
    WW,
    Graph,
    components,
    process_edges,
    real_time_edges,
    transactions,
)
from jstyle.checkers.txn_models import ANOMALIES, MODELS, breaks
from jstyle.checkers.verdict import OptionError, as_json
from jstyle.history import files
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


STALE = in_turn([["append", "x", 1]], [["r", "x", []]])


def test_a_cycle_is_told_in_one_sentence_and_as_data():
    verdict = elle_append.check(STALE, {})
    (anomaly,) = verdict.anomalies
    assert anomaly.text == (
        "T1 < T3 because T1 was done at 1 before T3 began at 2; T3 < T1 because T3 read x as [], before T1 appended 1"
        " to it: a cycle"
    )
    assert anomaly.ops == [1, 3]
    assert anomaly.key == "x"
    assert [(step["op"], step["edge"], step["key"]) for step in anomaly.data["cycle"]] == [
        (1, "realtime", None),
        (3, "rw", "x"),
    ]
    assert anomaly.data["rules_out"] == ["strong-snapshot-isolation"]


def test_counts_say_what_was_checked():
    ops = [*STALE, Op(9, 9, 7, "invoke", "read", None), Op(10, 10, "nemesis", "info", "kill", None)]
    counts = elle_append.check(ops, {}).counts
    assert counts["transactions"] == counts["ok"] == 2
    assert (counts["reads"], counts["writes"], counts["other_calls"]) == (1, 1, 1)
    assert (counts["edges"], counts["in_cycles"], counts["G-single-realtime"]) == (2, 2, 1)


def test_an_empty_history_is_unknown():
    verdict = elle_append.check([], {})
    assert verdict.valid == "unknown"
    assert "read anything" in verdict.why


def test_null_is_the_empty_list_and_keys_may_be_any_value():
    good = in_turn(
        [["r", True, None]], [["append", True, [1]]], [["append", 1, 2]], [["r", True, [[1]]], ["r", 1, [2]]]
    )
    assert elle_append.check(good, {}).valid == "true"


def test_edn_histories_are_read_as_they_are():
    text = """
    {:index 0 :time 0 :process 0 :type :invoke :f :txn :value [[:append 3 1]]}
    {:index 1 :time 1 :process 0 :type :ok :f :txn :value [[:append 3 1]]}
    {:index 2 :time 2 :process 1 :type :invoke :f :txn :value [[:r 3 nil]]}
    {:index 3 :time 3 :process 1 :type :ok :f :txn :value [[:r 3 nil]]}
    """
    assert names(elle_append.check(files.loads(text, "edn").ops, {})) == ["G-single-realtime"]


@pytest.mark.parametrize(
    ("asked", "answered", "says"),
    [
        (7, 7, "a transaction is a list"),
        ([["cas", "x", 1]], [["cas", "x", 1]], "a part of a transaction"),
        ([["append", "x"]], [["append", "x"]], "what it writes"),
        ([["append", "x", 1]], [["append", "x", 2]], "not those of its request"),
        ([["append", "x", 1]], [], "not those of its request"),
        ([["r", "x", None]], [["r", "x", 5]], "a list or null"),
    ],
)
def test_what_is_no_list_append_history_is_refused_by_its_operation(asked, answered, says):
    with pytest.raises(HistoryError, match=f"operation [01]: .*{says}"):
        elle_append.check(history((0, "invoke", asked), (0, "ok", answered)), {})


@pytest.mark.parametrize("options", [{"models": ["linear"]}, {"models": 3}, {"budget_steps": "many"}])
def test_options_that_cannot_be_used_are_refused(options):
    with pytest.raises(OptionError):
        elle_append.check(STALE, options)


def test_a_model_is_ruled_out_with_all_that_include_it():
    for name in ANOMALIES:
        broken = [model for model in MODELS if breaks(name, [model])]
        assert "strict-serializable" in broken
        assert ("read-uncommitted" in broken) == (broken == list(MODELS))
    assert [model for model in MODELS if breaks("G2-item", [model])] == [
        "repeatable-read",
        "serializable",
        "strong-session-serializable",
        "strict-serializable",
    ]


def test_keys_that_cannot_be_judged_do_not_hide_the_others():
    twice = [["append", "y", 1]]
    ops = in_turn(twice, twice, [["append", "x", 1]], [["r", "x", []]])
    assert names(elle_append.check(ops, {})) == ["G-single-realtime"]
    good = elle_append.check(ops[:-2], {})
    assert good.valid == "unknown"
    assert "key y: 1 was written to it twice" in good.why


def test_a_stale_read_is_found_among_more_unread_appends_than_are_linked():
    count = elle_append.UNREAD_LINKED * 3
    ops = in_turn(*([["append", "x", value]] for value in range(count)), [["r", "x", []]])
    assert names(elle_append.check(ops, {})) == ["G-single-realtime"]


def test_orders_are_trusted_only_as_far_as_reads_agree():
    steps = [(process, "invoke", [["append", "x", process]]) for process in range(4)]
    steps += [(process, "invoke", [["r", "x", None]]) for process in (4, 5)]
    steps += [(4, "ok", [["r", "x", [0, 1, 2]]]), (5, "ok", [["r", "x", [0, 2, 1, 3]]])]
    verdict = elle_append.check(history(*steps), {})
    assert names(verdict) == ["incompatible-order"]
    assert "differ at element 2" in verdict.anomalies[0].text


def test_the_steps_of_one_transaction_are_held_against_the_order_they_are_read_in():
    ours = [["append", "x", value] for value in (1, 2, 3)]
    verdict = elle_append.check(in_turn(ours, [["r", "x", [1, 3, 2]]]), {})
    (anomaly,) = verdict.anomalies
    assert (verdict.valid, anomaly.name, anomaly.ops, anomaly.key) == ("false", "cyclic-versions", [1, 3], "x")
    assert anomaly.text == "T3 read 3 before 2 in x, but T1 appended 2 before 3"
    assert elle_append.check(in_turn(ours, [["r", "x", [1, 2, 3]]]), {}).valid == "true"
    # Told once of a transaction, and not at all of one that failed: that it is seen is worse.
    assert names(elle_append.check(in_turn(ours, [["r", "x", [3, 2, 1]]]), {})) == ["cyclic-versions"]
    steps = [(0, "invoke", ours), (0, "fail", ours), (1, "invoke", [["r", "x", None]])]
    steps += [(1, "ok", [["r", "x", [1, 3, 2]]])]
    assert set(names(elle_append.check(history(*steps), {}))) == {"G1a"}


def test_anomalies_of_one_name_are_listed_up_to_a_number_and_all_counted():
    values = [[["r", f"k{at}", [9]]] for at in range(40)]
    verdict = elle_append.check(in_turn([["append", "x", 1]], *values), {})
    assert verdict.counts["garbage-read"] == 40
    assert len(verdict.anomalies) == 25
    assert as_json(verdict)["valid"] == "false"


def test_long_lists_are_cut_in_texts():
    lists = [list(range(at)) for at in range(40)]
    values = [[["r", "x", held], ["append", "x", len(held)]] for held in lists]
    verdict = elle_append.check(in_turn(*values, [["r", "x", lists[-1]]]), {})
    assert names(verdict) == ["G-single-realtime"]
    assert "x as [39 elements to 35 36 37 38], before" in verdict.anomalies[0].text


def test_a_search_out_of_steps_names_the_knot_and_does_not_pass():
    skew = [
        (0, "invoke", [["r", "x", None], ["append", "y", 1]]),
        (1, "invoke", [["r", "y", None], ["append", "x", 1]]),
        (0, "ok", [["r", "x", []], ["append", "y", 1]]),
        (1, "ok", [["r", "y", []], ["append", "x", 1]]),
    ]
    verdict = elle_append.check(history(*skew), {"budget_steps": 1})
    assert verdict.valid == "false"
    assert verdict.anomalies[0].data["component"] == [2, 3]
    assert verdict.anomalies[0].data["unfinished"]
    assert "T2, T3" in verdict.anomalies[0].text
    lenient = elle_append.check(history(*skew), {"budget_steps": 1, "models": ["snapshot-isolation"]})
    assert lenient.valid == "unknown"
    assert "gave up on 1 knots" in lenient.why


def graph_of(size, edges):
    steps = [step for at in range(size) for step in ((at, "invoke", [["append", 0, at]]),)]
    graph = Graph(transactions(history(*steps), "append", tuple), "appended")
    for a, b, kind in edges:
        graph.add(a, b, kind, "x", 1, 2)
    return graph


def found(graph, steps=10**6):
    return txn_cycles.find_cycles(graph, txn_cycles.SearchBudget(steps, 1.0, lambda: 0.0)).anomalies


def test_the_shortest_cycle_is_reported():
    ring = [(at, (at + 1) % 50, WW) for at in range(50)]
    (long,) = found(graph_of(50, ring))
    assert len(long.data["cycle"]) == 50
    (short,) = found(graph_of(50, [*ring, (17, 15, WW)]))
    assert short.ops == [15, 16, 17]
    (hasty,) = found(graph_of(50, [*ring, (17, 15, WW)]), steps=60)
    assert len(hasty.data["cycle"]) == 50


def test_a_worse_shape_over_weaker_edges_is_reported_beside_a_milder_one():
    edges = [(0, 1, RW), (1, 0, RW), (2, 1, RW), (1, 2, PROCESS)]
    assert [anomaly.name for anomaly in found(graph_of(3, edges))] == ["G2-item", "G-single-process"]
    edges = [(0, 1, RW), (1, 0, WW), (2, 1, RW), (1, 2, REALTIME)]
    assert [anomaly.name for anomaly in found(graph_of(3, edges))] == ["G-single"]


def test_dependencies_that_alternate_are_told_from_those_that_follow_one_another():
    spaced = [(0, 1, RW), (1, 2, WW), (2, 3, RW), (3, 0, WW)]
    assert [anomaly.name for anomaly in found(graph_of(4, spaced))] == ["G-nonadjacent"]
    assert [anomaly.name for anomaly in found(graph_of(4, [*spaced[:3], (3, 0, RW)]))] == ["G2-item"]


@pytest.mark.parametrize("seed", range(40))
def test_cycles_are_what_their_names_say_and_none_is_missed(seed):
    dice = random.Random(seed)
    size = dice.randint(2, 7)
    kinds = (WW, 2, RW, PROCESS, REALTIME)
    edges = [(dice.randrange(size), dice.randrange(size), dice.choice(kinds)) for _ in range(dice.randint(2, 14))]
    graph = graph_of(size, edges)
    anomalies = found(graph)
    assert bool(anomalies) == bool(components(graph.out, range(size), 31))
    for anomaly in anomalies:
        steps = [step["edge"] for step in anomaly.data["cycle"]]
        assert len(set(anomaly.ops)) == len(steps)
        shape = anomaly.name.removesuffix("-process").removesuffix("-realtime")
        assert ("realtime" in steps) == anomaly.name.endswith("-realtime")
        assert shape == {0: "G1c" if "wr" in steps else "G0", 1: "G-single"}.get(steps.count("rw"), shape)


def test_components_of_a_graph_deeper_than_the_stack():
    size = 20_000
    out = [{at + 1: 1} for at in range(size - 1)] + [{0: 1}]
    assert components(out, range(size), 1) == [list(range(size))]
    assert components(out, range(size - 1), 1) == []
    assert components(out, range(size), 2) == []


def random_txns(seed):
    dice = random.Random(seed)
    steps = []
    open_processes = []
    for process in range(dice.randint(1, 12)):
        steps.append((process, "invoke", [["append", 0, process]]))
        open_processes.append(process)
        dice.shuffle(open_processes)
        while open_processes and dice.random() < 0.5:
            done = open_processes.pop()
            steps.append((done, dice.choice(["ok", "ok", "info"]), [["append", 0, done]]))
    return transactions(history(*steps), "append", tuple)


@pytest.mark.parametrize("seed", range(40))
def test_real_time_edges_reach_exactly_who_began_after_and_none_follows_from_others(seed):
    txns = random_txns(seed)
    pairs = real_time_edges(txns, [True] * len(txns))
    assert all(txns[a].end < txns[b].start for a, b in pairs)
    for a in txns:
        for b in txns:
            between = any(a.end < one.start and one.end < b.start for one in txns)
            assert ((a.number, b.number) in pairs) == (a.end < b.start and not between)


def test_nothing_follows_in_process_order_from_a_transaction_in_doubt():
    micro = [["append", 0, 0]]
    steps = [(0, "invoke", micro), (0, "ok", micro), (0, "invoke", [["append", 0, 1]]), (0, "info", [["append", 0, 1]])]
    steps += [(0, "invoke", [["append", 0, 2]]), (0, "ok", [["append", 0, 2]])]
    txns = transactions(history(*steps), "append", tuple)
    assert process_edges(txns, [True] * 3) == [(0, 1), (0, 2)]
    assert process_edges(txns, [True, False, True]) == [(0, 2)]
