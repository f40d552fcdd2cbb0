from pathlib import Path

import pytest

from jstyle.checkers import elle_append, elle_wr, registry, txn_graph
from jstyle.checkers.txn_models import ANOMALIES
from jstyle.history import files
from jstyle.mutants.golden import GoldenProbe
from jstyle.mutants.txn_checker_mutants import MUTANTS

FOLDERS = ("append", "wr")
GOLDEN = [path for folder in FOLDERS for path in sorted((Path(__file__).parent / "golden" / folder).glob("*.jsonl"))]

# What reads of registers cannot show.
NOT_SEEN = {"append": set(), "wr": {"duplicate-elements", "incompatible-order"}}


def name_of(path):
    return f"{path.parent.name}-{path.stem}"


def judged(path):
    recorded = files.load(path)
    return registry.check(recorded.meta["workload"], recorded.ops, recorded.meta.get("options", {}))[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_anomaly_has_a_golden_history(folder):
    metas = [files.load(path).meta for path in GOLDEN if path.parent.name == folder]
    named = {name for meta in metas for name in meta["anomalies"]}
    assert named == set(ANOMALIES) - NOT_SEEN[folder]
    assert {meta["valid"] for meta in metas} == {"true", "false", "unknown"}
    assert sum(meta["valid"] == "true" for meta in metas) >= 10


@pytest.mark.parametrize("path", GOLDEN, ids=name_of)
def test_verdict_and_anomalies(path):
    meta = files.load(path).meta
    verdict = judged(path)
    assert verdict.valid == meta["valid"]
    assert sorted({anomaly.name for anomaly in verdict.anomalies}) == sorted(meta["anomalies"])
    assert (verdict.valid == "unknown") == bool(verdict.why)


@pytest.mark.parametrize("path", GOLDEN, ids=name_of)
def test_an_anomaly_points_into_the_history(path):
    ops = {op.index: op for op in files.read(path)}
    for anomaly in judged(path).anomalies:
        assert anomaly.ops and set(anomaly.ops) <= set(ops)
        assert anomaly.text and anomaly.data["rules_out"]
        assert all(ops[index].f == "txn" for index in anomaly.ops)
        for at, step in enumerate(anomaly.data.get("cycle", ())):
            following = anomaly.data["cycle"][(at + 1) % len(anomaly.data["cycle"])]
            assert f"T{step['op']} < T{following['op']} because {step['why']}" in anomaly.text
            assert (step["key"] is None) == (step["edge"] in {"process", "realtime"})


def test_the_probe_of_the_mutants_agrees():
    assert GoldenProbe(*FOLDERS).run(0) == []


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_golden_histories_kill_the_mutant(folder, name):
    with MUTANTS[name]():
        assert GoldenProbe(folder).run(0)
    assert GoldenProbe(folder).run(0) == []


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_gone_after_its_block(name):
    modules = (txn_graph, elle_append, elle_wr)
    sound = [dict(vars(module)) for module in modules]
    with MUTANTS[name]():
        assert [dict(vars(module)) for module in modules] != sound
    assert [dict(vars(module)) for module in modules] == sound
