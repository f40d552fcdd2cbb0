"""Stages: all run, each is timed, and the last one's own words end the output of a good run."""

from __future__ import annotations

from itertools import count

import pytest

from tools import dev, native_build, system_packages
from tools.stages import Stage, run_stages


def ticking():
    times = count(step=7)
    return lambda: float(next(times))


def test_every_stage_runs_although_one_fails(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []
    codes = {"first": 0, "second": 2, "third": 0}

    def stage(name: str) -> Stage:
        def action() -> int:
            ran.append(name)
            return codes[name]

        return Stage(name, action)

    assert run_stages([stage(name) for name in codes], ticking()) == 1
    assert ran == list(codes)
    lines = capsys.readouterr().out.splitlines()
    assert "== first: passed in 7 s" in lines and "== second: FAILED with exit code 2 after 7 s" in lines
    assert lines[-1] == "== 1 of 3 stages failed: second"


def test_the_last_stage_has_the_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    def closing() -> int:
        print("12 passed in 3 s")
        return 0

    assert run_stages([Stage("one", lambda: 0), Stage("two", closing)], ticking()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "12 passed in 3 s"
    assert lines[-3] == "== so far: one 7 s"


@pytest.mark.parametrize(("code", "passed"), [(0, 0), (1, 1), (2, 0), (3, 3)])
def test_crash_enumeration_passes_where_strace_may_not_watch(
    monkeypatch: pytest.MonkeyPatch, code: int, passed: int
) -> None:
    monkeypatch.setattr(dev, "run", lambda *command: code)
    assert dev.crash("-j1") == passed


def test_ci_runs_the_harness_and_every_test_directory_once_as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []

    def run(*command: str, **environment: str) -> int:
        commands.append((*command, *environment))
        return 0

    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(system_packages, "ensure", lambda root: [])
    monkeypatch.setattr(native_build, "settle", lambda *arguments, **options: True)
    monkeypatch.setattr(native_build, "current", lambda *arguments: True)
    assert dev.test([]) == 0
    verbs = [command[1] for command in commands if command[0] == "jstyle"]
    assert verbs == ["sim", "sim", "sim", "sim", "crash", "mutants"]
    assert commands[[c[0] for c in commands].index("jstyle")][:4] == ("jstyle", "sim", "--seeds", "0:200")
    shipped = [c for c in commands if "pytest" in c and "DURAKV_INTERPRETED" not in c]
    directories = [part for command in shipped for part in command if part.startswith("tests/")]
    existing = dev.present(tuple(f"tests/{path.name}" for path in (dev.ROOT / "tests").iterdir() if path.is_dir()))
    assert sorted(directories) == sorted([*existing, *dev.ALONE_FILES])
    assert "pytest" in commands[-1] and "-n" in commands[-1]
    beside = [part for command in commands if "-n" in command for part in command]
    assert not set(beside) & set(dev.ALONE_DIRS)
    interpreted = [part for c in commands if "DURAKV_INTERPRETED" in c for part in c if part.startswith("tests/")]
    assert "tests/raft" in interpreted and "tests/checkers" not in interpreted
    assert set(interpreted) >= set(dev.REPLACING_FILES)
