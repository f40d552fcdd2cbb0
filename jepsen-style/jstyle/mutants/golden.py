"""The hand-written histories as a probe of the checkers: each must be judged as its header says.

Rule: direct; needs the repository's ``tests/checkers/golden``, since the histories are tests first. It must not know
which checker is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jstyle.checkers import registry
from jstyle.checkers.verdict import UNKNOWN
from jstyle.history import files
from jstyle.mutants.probes import Sighting

# Enough for every history that is meant to be decided; some are meant not to be.
_BUDGET_STEPS: Final = 5000


def golden_directory() -> Path:
    """Where the histories lie in a checkout."""
    return Path(__file__).resolve().parents[3] / "tests" / "checkers" / "golden"


class GoldenProbe:
    """GOLDEN: verdict and anomalies of every golden history below ``folders`` are those its header names."""

    def __init__(self, *folders: str) -> None:
        self.folders = folders
        self.name = f"golden {'+'.join(folders)}"

    def run(self, seed: int) -> list[Sighting]:
        found: list[Sighting] = []
        paths = list(self._paths())
        if not paths:
            return [Sighting("EMPTY", f"no golden histories below {golden_directory()}; run from a checkout")]
        for path in paths:
            recorded = files.load(path)
            meta: dict[str, Any] = recorded.meta
            options = {"budget_steps": _BUDGET_STEPS, **meta.get("options", {})}
            verdict = registry.check(meta["workload"], recorded.ops, options)[0]
            if verdict.valid != meta["valid"]:
                text = f"{path.stem} is {meta['valid']}, but the checker says {verdict.valid}"
                found.append(Sighting("GOLDEN", text, f"jstyle check {path} --workload {meta['workload']}"))
            elif verdict.valid != UNKNOWN:
                names = sorted({anomaly.name for anomaly in verdict.anomalies})
                if names != sorted(meta["anomalies"]):
                    text = f"{path.stem} has {meta['anomalies']}, but the checker says {names}"
                    found.append(Sighting("GOLDEN", text, f"jstyle check {path} --workload {meta['workload']}"))
        return found

    def _paths(self) -> Iterator[Path]:
        for folder in self.folders:
            yield from sorted((golden_directory() / folder).rglob("*.jsonl"))
