"""The regression seeds of ``jepsen-style/seeds.toml``: each a plan and the outcome it must have.

Rule: the only reader of that file. A seed is named by what it shows, not by its number.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jstyle.sim import artifact
from jstyle.sim.schedule import Plan
from jstyle.sim.swarm import Draw, draw_plan

_HERE: Final = Path(__file__).resolve().parent.parent.parent
FILE: Final = _HERE / "seeds.toml"
PLANS: Final = _HERE / "seeds"


class SeedsError(ValueError):
    """seeds.toml has an entry that cannot be used; the text names it."""


@dataclass(frozen=True)
class Regression:
    """One entry. ``expect`` is ``true`` or the id of the invariant that must break."""

    name: str
    expect: str
    plan: Plan


def load(path: Path = FILE) -> list[Regression]:
    """All entries. Raises SeedsError, PlanError or OSError."""
    found = []
    for entry in tomllib.loads(path.read_text())["seed"]:
        name = entry.get("name", "?")
        if ("plan" in entry) == ("seed" in entry):
            raise SeedsError(f"{path}: {name!r} needs either a plan or a seed")
        if "plan" in entry:
            plan, _ = artifact.read(PLANS / entry["plan"])
        else:
            faults = entry.get("faults")
            draw = Draw(
                entry.get("shape", ""), None if faults is None else tuple(faults),
                tuple(entry.get("workloads", ())), int(entry.get("time_s", 40)) * 1000,
            )  # fmt: skip
            plan = draw_plan(int(entry["seed"]), draw)
        found.append(Regression(name, entry["expect"], plan))
    return found
