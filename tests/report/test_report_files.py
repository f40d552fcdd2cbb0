"""What a report is made from: history files, store directories with parts missing, simulated runs, nemesis records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN
from jstyle.cli.report import command
from jstyle.history.op import Op
from jstyle.report import gather_sim
from jstyle.report.gather import NothingToShow, Wanted, gather
from jstyle.report.model import Window
from jstyle.report.windows import of_ops, of_records
from jstyle.sim.schedule import plan_json
from jstyle.sim.swarm import Draw, draw_plan

GOLDEN = Path(__file__).parent.parent / "checkers" / "golden"
STALE = GOLDEN / "linear" / "stale-read.jsonl"


def nemesis(*steps):
    return [Op(n, time, "nemesis", "info", f, value) for n, (time, f, value) in enumerate(steps)]


def test_windows_of_nemesis_operations():
    ops = nemesis(
        (1, "start-partition", None), (2, "start-partition", "n1 | n2"), (5, "stop-partition", None),
        (6, "kill", "n3"), (7, "start", None), (8, "pause", "n1"), (9, "heal", None), (10, "start", None),
    )  # fmt: skip
    assert of_ops(ops) == [
        Window("partition", 1, 5, "n1 | n2"), Window("kill", 6, 7, "n3"), Window("pause", 8, 9, "n1"),
        Window("fault", 10, -1, ""),
    ]  # fmt: skip


def test_windows_of_nemesis_records():
    found, unclear = of_records(
        [
            {"at_ms": 2, "for_ms": 3, "cls": "power", "kind": "power-cut", "target": "leader"},
            {"time": 1, "until": 4, "kind": "partition", "target": "n1"},
            {"time": 7, "f": "start-clog", "value": ["n1"]},
            {"hello": 1},
            5,
        ]
    )
    assert found == [
        Window("partition", 1, 4, "n1"), Window("clog", 7, -1, "[n1]"),
        Window("power", 2_000_000, 5_000_000, "power-cut leader"),
    ]  # fmt: skip
    assert unclear == 2


def test_a_history_and_its_nemesis_file(tmp_path):
    faults = tmp_path / "nemesis.jsonl"
    faults.write_text('{"time": 1000, "until": 2000, "kind": "pause"}\n')
    report = gather([STALE], Wanted(nemesis=faults))
    assert report.valid() == FALSE and report.missing == []
    assert report.windows == [Window("pause", 1000, 2000)]
    assert report.repeat == [f"jstyle check {STALE} --workload register"]


def test_a_history_of_an_unnamed_workload_is_unknown(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_text("\n".join(STALE.read_text().splitlines()[1:]))
    report = gather([path], Wanted())
    assert report.valid() == UNKNOWN
    assert any("--workload" in text for text in report.missing)


def test_what_a_store_directory_lacks_is_said(tmp_path):
    (tmp_path / "history.jsonl").write_bytes(STALE.read_bytes())
    (tmp_path / "nemesis.jsonl").write_text("{broken")
    report = gather([tmp_path], Wanted())
    assert report.valid() == FALSE
    told = " ".join(report.missing)
    for name in ("test.json is missing", "results.json is missing", "nemesis.jsonl cannot be read", "cluster.jsonl"):
        assert name in told


def test_a_whole_store_directory(tmp_path):
    (tmp_path / "history.jsonl").write_bytes(STALE.read_bytes())
    (tmp_path / "test.json").write_text('{"workload": "register", "seed": 7, "versions": {"durakv": "1"}}')
    verdicts = [{"checker": "mine", "valid": "true"}, {"checker": "other", "valid": 1, "anomalies": [{"ops": "x"}]}]
    (tmp_path / "results.json").write_text(json.dumps({"verdicts": verdicts}))
    (tmp_path / "nemesis.jsonl").write_text("")
    (tmp_path / "repro.sh").write_text("#!/bin/sh\njstyle test --seed 7\n")
    (tmp_path / "cluster.jsonl").write_text('{"time": 5, "node": "n1", "role": "leader", "term": 2, "commit": 4}\n')
    report = gather([tmp_path], Wanted())
    assert report.missing == []
    assert [verdict.valid for verdict in report.judged[0].verdicts] == [TRUE, UNKNOWN]
    assert report.repeat[0] == "jstyle test --seed 7"
    assert ("seed", "7") in report.facts and "versions" in report.details
    assert (report.samples[0].node, report.samples[0].term) == ("n1", 2)


def test_a_simulated_run_is_repeated_for_its_leaders(tmp_path):
    plan = draw_plan(11, Draw("3", ("kill",), ("register",), 6_000))
    path = tmp_path / "seed.json"
    path.write_text(json.dumps(plan_json(plan)))
    report = gather([tmp_path], Wanted())
    assert report.valid() in {TRUE, UNKNOWN} and report.held[0].valid == TRUE, report.held
    assert [judged.workload for judged in report.judged] == ["register"] and report.judged[0].ops
    assert {sample.node for sample in report.samples} == {"n1", "n2", "n3"}
    leaders = [sample for sample in report.samples if sample.role == "leader"]
    assert leaders and max(sample.commit for sample in leaders) > 0
    assert report.windows and {window.kind for window in report.windows} == {"kill"}
    other = gather_sim.report_on(path, 5.0, rerun=False)
    assert other.samples == [] and other.held[0].valid == UNKNOWN


def test_another_run_than_the_stored_one_adds_nothing(tmp_path):
    plan = draw_plan(11, Draw("1", (), ("register",), 1_000))
    result = {"valid": "false", "invariant": "R1", "text": "two leaders", "digest": "0" * 16}
    (tmp_path / "seed.json").write_text(json.dumps({**plan_json(plan), "result": result}))
    report = gather([tmp_path], Wanted())
    assert report.samples == [] and report.judged == []
    assert [(held.promise, held.valid) for held in report.held] == [("R1", FALSE)]
    assert any("it is another run" in text for text in report.missing)


def test_of_several_runs_the_worst_is_shown_in_full(tmp_path):
    for name in ("sequential", "stale-read", "only-info"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "history.jsonl").write_bytes((GOLDEN / "linear" / f"{name}.jsonl").read_bytes())
    report = gather([tmp_path], Wanted(workload="register"))
    assert sorted(run.valid for run in report.runs) == [FALSE, TRUE, UNKNOWN]
    assert report.title.startswith("3 runs") and "stale-read" in report.title
    assert report.judged[0].anomalies()[0][1].name == "stale-read"


def test_nothing_to_show(tmp_path):
    with pytest.raises(NothingToShow, match="no history"):
        gather([tmp_path], Wanted())
    (tmp_path / "seed.json").write_text("[]")
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert result.exit_code == 3 and "no seed.json" in result.stderr


def test_the_command_writes_the_page(tmp_path):
    out = tmp_path / "page.html"
    result = CliRunner().invoke(command, [str(STALE), "--out", str(out)])
    assert result.exit_code == 0 and result.stdout == f"false: {out}\n"
    assert out.read_text().startswith("<!DOCTYPE html>")
    wrong = CliRunner().invoke(command, [str(STALE), "-w", "nope"])
    assert wrong.exit_code == 3 and "no workload 'nope'" in wrong.stderr
    lost = CliRunner().invoke(command, [str(STALE), "--out", str(tmp_path / "no" / "p.html")])
    assert lost.exit_code == 3 and "--out" in lost.stderr
