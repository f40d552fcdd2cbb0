"""Each planted bug in its own process, and the program without them on the same seeds.

Rule: decides what counts as killed: a named check failed within the budget. A twin that fails is a bug of the program
or of the harness, and as bad as a survivor. It must not know what the bugs are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from durakv.native import INTERPRETED_VARIABLE
from jstyle.mutants.registry import Mutant

KILLED: Final = "killed"
SURVIVED: Final = "survived"
OTHER_CHECK: Final = "other check"
BROKEN: Final = "harness error"
CLEAN: Final = "clean"
GUILTY: Final = "fails"

# The id under which the simulator reports a failure of its own.
HARNESS: Final = "HARNESS"
_TIMEOUT_S: Final = 3600


class Report:
    """What a worker came to. ``verdict`` is KILLED, SURVIVED, OTHER_CHECK or BROKEN; a twin's CLEAN, GUILTY or BROKEN.

    ``cpu_s`` is the worker's own; ``text`` is what it saw and ``repeat`` the command that shows it, where there is one.
    """

    __slots__ = ("checks", "cpu_s", "mutant", "repeat", "seeds", "text", "verdict")

    def __init__(
        self, mutant: Mutant, verdict: str, checks: Sequence[str], seeds: int, cpu_s: float, text: str, repeat: str
    ) -> None:
        self.mutant = mutant
        self.verdict = verdict
        self.checks = list(checks)
        self.seeds = seeds
        self.cpu_s = cpu_s
        self.text = text
        self.repeat = repeat


def kill(mutant: Mutant) -> Report:
    """Plant a bug and look for it."""
    line = _work([mutant.id])
    if "error" in line:
        return Report(mutant, BROKEN, (), 0, 0.0, str(line["error"]), "")
    checks = _texts(line["checks"])
    if checks == [HARNESS]:
        return _report(mutant, BROKEN, checks, line)
    named = [check for check in checks if check in mutant.checks]
    return _report(mutant, KILLED if named else OTHER_CHECK if checks else SURVIVED, named or checks, line)


def twin(mutant: Mutant, seeds: int) -> Report:
    """Run a mutant's probe on ``seeds`` seeds without the bug."""
    line = _work([mutant.id, "--twin", str(seeds)])
    if "error" in line:
        return Report(mutant, BROKEN, (), 0, 0.0, str(line["error"]), "")
    checks = _texts(line["checks"])
    if checks == [HARNESS]:
        return _report(mutant, BROKEN, checks, line)
    return _report(mutant, GUILTY if checks else CLEAN, checks, line)


def run(
    mutants: Sequence[Mutant], *, twins: bool, heard: Callable[[Report], None], jobs: int = 1
) -> tuple[list[Report], list[Report]]:
    """All reports: of the mutants, and of one twin per probe over the most seeds that a mutant of it took.

    ``heard`` is told of each in their order; ``jobs`` worker processes are busy at a time.
    """
    # Threads only wait for their workers.
    with ThreadPoolExecutor(jobs) as pool:
        killed = _heard(pool.map(kill, mutants), heard)
        needed: dict[str, Report] = {}
        for report in killed:
            name = report.mutant.probe.name
            if name not in needed or needed[name].seeds < report.seeds:
                needed[name] = report
        wanted = list(needed.values()) if twins else []
        checked = _heard(pool.map(lambda report: twin(report.mutant, max(report.seeds, 1)), wanted), heard)
    return killed, checked


def _heard(reports: Iterable[Report], heard: Callable[[Report], None]) -> list[Report]:
    found = []
    for report in reports:
        heard(report)
        found.append(report)
    return found


def _report(mutant: Mutant, verdict: str, checks: list[str], line: dict[str, object]) -> Report:
    return Report(
        mutant,
        verdict,
        checks,
        int(str(line["seeds"])),
        float(str(line["cpu_s"])),
        str(line["text"]),
        str(line["repeat"]),
    )


def _texts(value: object) -> list[str]:
    assert isinstance(value, list), "a worker's checks are a list"
    return [str(item) for item in value]


def _work(arguments: list[str]) -> dict[str, object]:
    command = [sys.executable, "-m", "jstyle.mutants.worker", *arguments]
    environment = {
        **os.environ,
        INTERPRETED_VARIABLE: "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {_TIMEOUT_S} s"}
    if done.returncode:
        return {"error": f"exit code {done.returncode}: {done.stderr.strip()[-600:]}"}
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found
