"""The catalogue is whole; a few of its bugs are planted and killed here, the rest by ``jstyle mutants``."""

from __future__ import annotations

import pytest

from jstyle.mutants.figure8 import Figure8Probe, StaleTailProbe
from jstyle.mutants.probes import CrashProbe, Sighting
from jstyle.mutants.queues import QueueProbe
from jstyle.mutants.registry import MUTANTS, WAITING, Mutant, mutant, quick
from jstyle.mutants.runner import BROKEN, CLEAN, KILLED, OTHER_CHECK, SURVIVED, kill, run, twin


def test_no_number_of_the_catalogue_is_missing():
    numbers = {known.id for known in (*MUTANTS, *WAITING)}
    assert {f"M{n}" for n in range(1, 37)} <= numbers
    assert len(numbers) == len(MUTANTS) + len(WAITING)
    assert all(waiting.why for waiting in WAITING)


def test_direct_mutants_and_a_rotating_few_are_quick():
    others = [known for known in MUTANTS if not known.direct]
    first, second = quick(0), quick(1)
    assert [known for known in MUTANTS if known.direct and known not in first] == []
    assert len(first) == len(MUTANTS) - len(others) + 6
    assert first != second
    seen = {known.id for rotation in range(len(others)) for known in quick(rotation)}
    assert seen == {known.id for known in MUTANTS}


def test_unknown_and_impossible_numbers_say_why():
    with pytest.raises(KeyError, match="waits for checkpoints"):
        mutant("M24")
    with pytest.raises(KeyError, match="no mutant 'M99'"):
        mutant("M99")


@pytest.mark.parametrize("name", ["M5", "M7", "M16", "M20", "M21", "M23", "M31", "M36", "X10"])
def test_killed_by_its_named_check(name):
    report = kill(mutant(name))
    assert (report.verdict, report.text != "") == (KILLED, True), (report.verdict, report.checks, report.text)
    assert set(report.checks) <= set(mutant(name).checks)


def test_the_program_without_a_bug_passes_the_same_probe():
    report = twin(mutant("M23"), 1)
    assert (report.verdict, report.seeds, report.text) == (CLEAN, 1, "")
    assert Figure8Probe().run(0) == []
    assert StaleTailProbe().run(0) == []
    assert QueueProbe().run(0) == []


class Scripted:
    name = "scripted"

    def __init__(self, *checks):
        self.checks = checks

    def run(self, seed):
        return [Sighting(check, f"{check} broke") for check in self.checks]


def test_what_counts_as_killed(monkeypatch):
    lines = {
        "named": {"checks": ["D1", "P9"], "seeds": 3, "cpu_s": 0.5, "text": "lost", "repeat": "again"},
        "other": {"checks": ["P9"], "seeds": 1, "cpu_s": 0.5, "text": "refused", "repeat": ""},
        "alive": {"checks": [], "seeds": 9, "cpu_s": 2.0, "text": "", "repeat": ""},
        "stuck": {"error": "no result within 1 s"},
    }
    monkeypatch.setattr("jstyle.mutants.runner._work", lambda arguments: lines[arguments[0]])
    mutants = [Mutant(name, "a bug", "crash", ("D1",), dict, Scripted(), 9) for name in lines]
    heard = []
    killed, twins = run(mutants, twins=True, heard=heard.append, jobs=2)
    assert [report.verdict for report in killed] == [KILLED, OTHER_CHECK, SURVIVED, BROKEN]
    assert killed[0].checks == ["D1"]
    assert (len(twins), twins[0].mutant.id, twins[0].verdict) == (1, "alive", CLEAN), "once, on the most seeds needed"
    assert heard == [*killed, *twins]


def test_a_probe_of_the_real_storage_has_nothing_to_report():
    assert CrashProbe(("bootstrap",), ("states", "faults", "damages"), subsets=0).run(0) == []
