from pathlib import Path

import pytest

from jstyle.checkers import registry, zones
from jstyle.history import files
from jstyle.mutants.checker_mutants import CHECKER_MUTANTS, planted

GOLDEN = sorted((Path(__file__).parent / "golden" / "linear").glob("*.jsonl"))


def options_of(meta):
    return meta.get("options", {})


def engine_verdict(path, **options):
    recorded = files.load(path)
    return registry.check(recorded.meta["workload"], recorded.ops, {**options, **options_of(recorded.meta)})[0]


def differs(path):
    return engine_verdict(path, budget_steps=5000).valid != files.load(path).meta["valid"]


def test_there_are_golden_histories_of_every_verdict():
    verdicts = [files.load(path).meta["valid"] for path in GOLDEN]
    assert len(GOLDEN) >= 60
    assert min(verdicts.count("true"), verdicts.count("false")) >= 25
    assert verdicts.count("unknown") >= 5


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_verdict_and_anomalies(path):
    meta = files.load(path).meta
    verdict = engine_verdict(path)
    assert verdict.valid == meta["valid"]
    assert sorted({anomaly.name for anomaly in verdict.anomalies}) == sorted(meta["anomalies"])
    assert (verdict.valid == "unknown") == bool(verdict.why)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_other_engines_agree(path):
    recorded = files.load(path)
    meta = recorded.meta
    second = registry.checker(registry.find(meta["workload"]).second)(recorded.ops, options_of(meta))
    assert second.valid == meta["valid"]
    if meta.get("zones"):
        assert zones.check(recorded.ops, {}).valid == meta["valid"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_false_verdict_points_into_the_history(path):
    recorded = files.load(path)
    indexes = {op.index for op in recorded.ops}
    for anomaly in engine_verdict(path).anomalies:
        assert anomaly.ops and set(anomaly.ops) <= indexes
        assert anomaly.data["at"] in indexes
        prefixes = anomaly.data["prefixes"]
        assert prefixes and all(prefix["illegal"] for prefix in prefixes)
        for prefix in prefixes:
            assert set(prefix["taken"]) | set(prefix["illegal"]) <= indexes
            assert not set(prefix["taken"]) & set(prefix["illegal"])


@pytest.mark.parametrize("name", sorted(CHECKER_MUTANTS))
def test_golden_histories_kill_the_mutant(name):
    with planted(name):
        killed = [path.stem for path in GOLDEN if differs(path)]
    assert killed


def test_the_sound_checker_passes_what_kills_the_mutants():
    assert not [path.stem for path in GOLDEN if differs(path)]


def test_a_mutant_is_gone_after_its_block():
    path = next(path for path in GOLDEN if path.stem == "stale-read")
    with planted("C1-linear"):
        assert engine_verdict(path).valid == "true"
    assert engine_verdict(path).valid == "false"
