"""A failure as a directory: seed.json, from which the run can be had again, and the history beside it.

Rule: the only place of the runner that touches files. ``seed.json`` holds the plan (nemesis schedule and client script
as data) and what came of it; replaying needs nothing else but the same commit.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from jstyle.history.op import Op
from jstyle.sim.runner import Result
from jstyle.sim.schedule import Plan, PlanError, plan_json, plan_of

SEED_NAME: Final = "seed.json"
HISTORY_NAME: Final = "history.jsonl"
RESULTS_NAME: Final = "results.jsonl"


def store_directory() -> Path:
    """Where runs are kept: ``jepsen-style/store`` of the checkout."""
    return Path(__file__).resolve().parent.parent.parent / "store"


def commit_id() -> str:
    """The checkout's commit, ``+`` when files differ from it, ``unknown`` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def op_json(op: Op) -> dict[str, Any]:
    """One line of history.jsonl."""
    out: dict[str, Any] = {
        "index": op.index, "time": op.time, "process": op.process, "type": op.type, "f": op.f, "value": op.value,
    }  # fmt: skip
    out |= {
        name: value for name, value in (("error", op.error), ("key", op.key), ("node", op.node)) if value is not None
    }
    return out


def write(directory: Path, plan: Plan, result: Result, histories: dict[str, list[Op]]) -> Path:
    """Write a run's files; returns the path of seed.json. Histories of several workloads get a file each."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / SEED_NAME
    data = {**plan_json(plan), "commit": commit_id(), "result": asdict(result)}
    path.write_text(json.dumps(data, indent=1) + "\n")
    for name, ops in histories.items():
        lines = "".join(json.dumps(op_json(op)) + "\n" for op in ops)
        (directory / HISTORY_NAME.replace(".", f"-{name}.")).write_text(lines)
    return path


def note(directory: Path, result: Result, repeat: str) -> None:
    """Add a line about a run to the campaign's results.jsonl: what came of it and what it tried, passed or failed."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / RESULTS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**asdict(result), "repeat": repeat}) + "\n")


def read(path: Path) -> tuple[Plan, dict[str, Any]]:
    """The plan of a seed.json and everything else in it. Raises PlanError or OSError."""
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise PlanError(f"{path} is no seed.json: {error}") from None
    if not isinstance(data, dict):
        raise PlanError(f"{path} is no seed.json: it holds a {type(data).__name__}")
    result = data.pop("result", {})
    commit = data.pop("commit", "unknown")
    return plan_of(data), {"result": result, "commit": commit}
