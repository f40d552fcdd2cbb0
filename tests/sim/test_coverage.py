"""What was tried and what never was: the lists of faults and sites are those there are, and gaps are named."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path

from click.testing import CliRunner
from rich.console import Console

from jstyle.cli.sim import command
from jstyle.report.gather import Wanted, gather
from jstyle.sim import artifact
from jstyle.sim.buggify import FIRE_RARELY, SITES
from jstyle.sim.coverage import Coverage
from jstyle.sim.runner import Result, run
from jstyle.sim.swarm import CLASSES, KINDS, TIMED, Draw, draw_plan

ROOT = Path(__file__).resolve().parents[2]


def test_every_site_of_the_code_is_known_and_no_other() -> None:
    sources = [path.read_text() for package in ("durakv", "raft") for path in (ROOT / package).rglob("*.py")]
    assert {name for text in sources for name in re.findall(r'buggify\("([^"]+)"\)', text)} == set(SITES)
    assert set(FIRE_RARELY) <= set(SITES)


def test_every_kind_of_strike_is_drawn_and_no_other() -> None:
    found = {(strike.cls, strike.kind) for seed in range(300) for strike in draw_plan(seed, Draw("5")).strikes}
    assert found == {(cls, kind) for cls in KINDS for kind in KINDS[cls]}
    assert set(KINDS) == set(TIMED)


def test_buggify_is_drawn_as_any_class() -> None:
    plans = [draw_plan(seed) for seed in range(200)]
    assert all(plan.options.buggify == ("buggify" in plan.classes) for plan in plans)
    assert 60 < sum(plan.options.buggify for plan in plans) < 140


def shown(coverage: Coverage) -> str:
    out = StringIO()
    coverage.show(Console(file=out, width=140))
    return out.getvalue()


def test_what_never_happened_is_said() -> None:
    coverage = Coverage()
    result = Result(1, classes=["kill", "wan", "rot"], injected={"kill/kill": 3, "medium/lost-write": 2})
    result.sites = {"yield": 5, "drop-ack": 0}
    coverage.add(result)
    faults, sites = coverage.never()
    assert "kill/stop" in faults and "kill/kill" not in faults and "rot/flip-bit" in faults
    assert "skew" in faults and "wan" not in faults
    assert "drop-ack" in sites and "yield" not in sites and len(sites) == len(SITES) - 1
    assert (coverage.allowed["rot"], coverage.struck["rot"]) == (1, 0)
    assert (coverage.struck["kill"], coverage.struck["wan"], coverage.struck["medium"]) == (1, 1, 0)
    text = shown(coverage)
    assert "never struck: kill/stop" in text and "never chosen: drop-ack" in text and "lost-write 2" in text
    assert "yield 5 in 1" in text
    coverage.add(Result(2, sites={"new-site": 1}))
    assert "SITES does not name: new-site" in shown(coverage)


def test_sites_of_a_run_are_counted() -> None:
    plan = draw_plan(5, Draw("3", ("buggify",), ("set",), 4000))
    result = run(plan)
    assert result.classes == ["buggify"] and len(result.sites) >= 8
    assert any(result.sites.values()) and not all(result.sites.values())
    assert run(draw_plan(5, Draw("3", (), ("set",), 2000))).sites == {}


def test_a_campaign_keeps_a_line_about_each_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(artifact, "store_directory", lambda: tmp_path)
    asked = ["--seeds", "0:2", "--shape", "3", "--faults", "kill", "--workload", "set", "--time", "4"]
    done = CliRunner().invoke(command, asked)
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.rglob(artifact.RESULTS_NAME)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1] and all("kill" in line["classes"] for line in lines)
    assert "never struck: power/power-cut" in " ".join(done.output.split())
    report = gather([tmp_path], Wanted())
    assert [run.name for run in report.runs] == ["seed 0", "seed 1"] and report.valid() == "true"
    assert report.runs[0].ops["set"]["ok"] > 0
    assert set(report.runs[0].faults) <= set(CLASSES)


def test_unknown_runs_are_allowed_only_as_asked(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(artifact, "store_directory", lambda: tmp_path)
    asked = ["--seeds", "0:2", "--shape", "1", "--faults", "", "--workload", "set", "--time", "0", "--no-store"]
    results = iter([("unknown", ""), ("true", ""), ("unknown", ""), ("true", ""), ("unknown", "R5"), ("true", "")])

    def scripted(seed: int, *_: object) -> tuple[Result, str]:
        valid, invariant = next(results)
        return Result(seed, valid="false" if invariant else valid, invariant=invariant), "again"

    monkeypatch.setattr("jstyle.cli.sim.Task.one", lambda self, seed: scripted(seed))
    assert CliRunner().invoke(command, asked).exit_code == 2
    assert CliRunner().invoke(command, [*asked, "--unknown", "50"]).exit_code == 0
    assert CliRunner().invoke(command, [*asked, "--unknown", "50"]).exit_code == 1
