"""How long a planted bug is looked for: until the check that must find it does, whatever else it breaks before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from jstyle.mutants import worker
from jstyle.mutants.probes import Sighting
from jstyle.mutants.runner import HARNESS


class Subject:
    """A planted bug that shows as told, seed by seed, and only while it is planted."""

    def __init__(self, shows: list[str]) -> None:
        self.id = "X1"
        self.checks = ("D1",)
        self.seeds = len(shows)
        self.probe = SimpleNamespace(run=self._run)
        self._shows = shows
        self.planted = False

    @contextmanager
    def patch(self) -> Iterator[None]:
        self.planted = True
        yield
        self.planted = False

    def _run(self, seed: int) -> list[Sighting]:
        shown = self._shows[seed]
        return [Sighting(shown, f"seed {seed}", f"again {seed}")] if shown and self.planted else []


def ran(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str
) -> dict[str, object]:
    monkeypatch.setattr(worker, "mutant", lambda name: subject)
    worker.main([subject.id, *more])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_another_broken_promise_does_not_end_the_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ran(Subject(["", "P10", "", "D1", "D1"]), monkeypatch, capsys)
    assert (found["seeds"], found["checks"], found["text"]) == (4, ["D1"], "seed 3")


def test_what_was_seen_is_told_when_the_named_check_saw_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ran(Subject(["", "P10", ""]), monkeypatch, capsys)
    assert (found["seeds"], found["checks"], found["repeat"]) == (3, ["P10"], "again 1")


def test_a_broken_harness_ends_the_search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(Subject([HARNESS, "D1"]), monkeypatch, capsys)
    assert (found["seeds"], found["checks"]) == (1, [HARNESS])


def test_the_twin_has_no_bug_and_runs_the_seeds_it_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ran(Subject(["D1", "D1", "D1"]), monkeypatch, capsys, "--twin", "2")
    assert (found["seeds"], found["checks"]) == (2, [])
