from importlib import import_module
from pathlib import Path

import pytest

from jstyle.checkers import registry
from jstyle.history import files
from jstyle.mutants.collection_checker_mutants import CATALOGUE, FOLDERS, MUTANTS

ROOT = Path(__file__).parent / "golden"
GOLDEN = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.jsonl"))]
NAMES = {
    "set": {"lost", "stale", "duplicated", "phantom", "failed-add-visible"},
    "bank": {"wrong-total", "negative-balance", "unexpected-account", "missing-account", "unexplained-balance"},
    "counter": {"too-low", "too-high", "applied-twice", "unequal-replies", "step-back", "repeated-reply"},
    "queue": {
        "lost", "duplicated", "unexpected", "failed-enqueue-visible", "wrongly-empty", "out-of-order",
        "id-not-increasing",
    },
    "lock": {"older-token-accepted", "two-holders", "refused-while-free", "token-not-increasing"},
    "expiry": {
        "readable-after-deadline", "gone-before-deadline", "resurrected", "deadline-lost", "wrong-ttl", "phantom",
        "failed-write-visible",
    },
    "order": {"order-disagreement", "gap", "repeat", "step-back", "phantom", "failed-publish-visible"},
}  # fmt: skip


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def check(path, **more):
    folder = path.parent.name
    recorded = files.load(path)
    checker = import_module(f"jstyle.checkers.{'set_full' if folder == 'set' else folder}")
    return checker.check(recorded.ops, {**recorded.meta.get("options", {}), **more})


def found(path):
    verdict = check(path)
    return verdict.valid, sorted({anomaly.name for anomaly in verdict.anomalies})


def wanted(path):
    meta = files.load(path).meta
    return meta["valid"], sorted(meta["anomalies"])


@pytest.mark.parametrize("path", GOLDEN, ids=name_of)
def test_verdict_and_anomalies(path):
    assert found(path) == wanted(path)
    verdict = check(path)
    assert (verdict.valid == "unknown") == bool(verdict.why)
    assert verdict.counts and all(isinstance(count, int) for count in verdict.counts.values())


@pytest.mark.parametrize("path", GOLDEN, ids=name_of)
def test_anomalies_are_sentences_that_point_into_the_history(path):
    indexes = {op.index for op in files.load(path).ops}
    for anomaly in check(path).anomalies:
        assert anomaly.ops and set(anomaly.ops) <= indexes
        assert len(anomaly.text.split()) > 5 and not anomaly.text.endswith(".")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_verdict_and_every_anomaly_has_its_history(folder):
    metas = [files.load(path).meta for path in GOLDEN if path.parent.name == folder]
    assert {meta["valid"] for meta in metas} == {"true", "false", "unknown"}
    assert {name for meta in metas for name in meta["anomalies"]} == NAMES[folder]
    assert all(meta["workload"] == folder for meta in metas)


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder in registry.WORKLOADS])
def test_the_table_of_workloads_leads_to_the_checker(folder):
    path = next(path for path in GOLDEN if path.parent.name == folder)
    recorded = files.load(path)
    verdicts = registry.check(folder, recorded.ops, recorded.meta.get("options", {}))
    assert [verdict.valid for verdict in verdicts] == [recorded.meta["valid"]]


@pytest.mark.parametrize(
    ("name", "folder"), [(name, folder) for name in sorted(MUTANTS) for folder in CATALOGUE[name].folders]
)
def test_golden_histories_of_the_folder_kill_the_mutant(name, folder):
    paths = [path for path in GOLDEN if path.parent.name == folder]
    with MUTANTS[name]():
        killed = [path.stem for path in paths if found(path) != wanted(path)]
    assert killed
    assert [path.stem for path in paths if found(path) != wanted(path)] == []


def test_golden_histories_kill_mutants_by_verdict_alone():
    weak = []
    for name, mutant in CATALOGUE.items():
        paths = [path for path in GOLDEN if path.parent.name in mutant.folders]
        with mutant.patch():
            if not any(check(path).valid != wanted(path)[0] for path in paths):
                weak.append(name)
    assert weak == []
