"""A simulated run as a ``Report``: its seed.json, the histories beside it, and the run itself once more.

Rule: what a stored run was is said by its files; the run again only adds to them, and only when it is the same run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jstyle.checkers import registry
from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, OptionError, Verdict
from jstyle.history import files
from jstyle.history.op import HistoryError, Op
from jstyle.report import windows
from jstyle.report.model import Held, Judged, Report, Run
from jstyle.report.rerun import Seen, again
from jstyle.sim import artifact
from jstyle.sim.judge import judge_with
from jstyle.sim.runner import HARNESS
from jstyle.sim.schedule import Plan, PlanError
from jstyle.sim.swarm import STANDING
from jstyle.sim.workloads.catalogue import WORKLOADS

_MEDIUM: Final = "medium"
_HEALTH: Final = "K1"
_PROTOCOL: Final = "R1-R9, D1-D4, P3, P9, P10"
_COUNTED: Final = ("event", "elections", "commits", "certificates", "digests_compared", "recoveries")


def is_plan(path: Path) -> bool:
    """Whether the file is a seed.json under any name."""
    if path.suffix != ".json":
        return False
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and "strikes" in data and "seed" in data


def brief(path: Path) -> Run:
    """A stored run for the list of runs; unknown when its file cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        result = {"classes": data.get("classes"), **(data.get("result") or {}), "seed": data["seed"]}
        return _brief(result, f"jstyle replay {path}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Run(str(path), UNKNOWN, text=f"cannot be read: {error!r}")


def listed(path: Path) -> list[Run]:
    """The runs of a campaign's results.jsonl, of which only those that failed have a directory."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            data = json.loads(line)
            found.append(_brief(data, str(data["repeat"])))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.append(Run(f"{path}:{number}", UNKNOWN, text=f"cannot be read: {error!r}"))
    return found


def _brief(result: Mapping[str, Any], repeat: str) -> Run:
    valid = str(result.get("valid", UNKNOWN))
    run = Run(f"seed {result['seed']}", valid if valid in (TRUE, FALSE) else UNKNOWN, repeat=repeat)
    run.broke, run.text = str(result.get("invariant", "")), str(result.get("text", ""))
    for name, count in (result.get("ops") or {}).items():
        workload, _, outcome = str(name).split(" ")
        if workload in WORKLOADS:
            counts = run.ops.setdefault(workload, {})
            counts[outcome] = counts.get(outcome, 0) + int(count)
    for name, count in (result.get("injected") or {}).items():
        group = str(name).split("/")[0]
        # What a disk did because of another fault is no class of its own.
        if group != _MEDIUM:
            run.faults[group] = run.faults.get(group, 0) + int(count)
    run.faults.update(dict.fromkeys([name for name in result.get("classes") or [] if name in STANDING], 1))
    return run


def report_on(path: Path, budget_s: float, *, rerun: bool) -> Report:
    """The report on a seed.json. Raises HistoryError when it is none."""
    try:
        plan, kept = artifact.read(path)
    except (PlanError, OSError) as error:
        raise HistoryError(f"{path}: {error}") from error
    result: Mapping[str, Any] = kept["result"]
    report = Report(f"simulated run, seed {plan.seed}")
    _facts(report, plan, result, str(kept["commit"]))
    histories = _histories(report, path.parent)
    seen = _seen(report, plan, str(result.get("digest", ""))) if rerun else None
    if not rerun:
        report.missing.append("The run was not repeated: who led when, and which faults bit, is not known.")
    if seen is not None:
        report.samples, report.windows = seen.samples, seen.windows
        histories = histories or seen.histories
    else:
        report.windows = windows.of_strikes([vars(strike) for strike in plan.strikes], _origin_ns(histories))
        if plan.strikes and histories:
            report.missing.append("Faults are drawn where the plan puts them; it does not say which of them bit.")
    _hold(report, result, seen)
    judge = judge_with(plan, budget_s)
    for name, ops in sorted(histories.items()):
        if name not in WORKLOADS:
            continue
        judged = Judged(f"clients of {name}", name, ops)
        report.judged.append(judged)
        try:
            judged.verdicts = judge(name, ops)
        except (HistoryError, OptionError, registry.UnknownWorkload) as error:
            judged.verdicts = [Verdict(name, UNKNOWN, why=str(error))]
    if not report.judged:
        report.missing.append("No client's history was stored, so there are no operations to show.")
    report.repeat += [f"jstyle replay {path}", f"jstyle shrink {path}"]
    return report


def _facts(report: Report, plan: Plan, result: Mapping[str, Any], commit: str) -> None:
    report.facts = [
        ("seed", str(plan.seed)),
        ("commit", commit),
        ("nodes", f"{plan.options.nodes}{f' and a witness ({plan.options.witness})' if plan.options.witness else ''}"),
        ("clients", str(len(plan.clients))),
        ("faults allowed", ", ".join(plan.classes) or "none"),
    ]
    if "sim_ms" in result:
        report.facts.append(("simulated", f"{result['sim_ms'] / 1000:.1f} s"))
    injected = result.get("injected") or {}
    if injected:
        report.details["faults that bit"] = "\n".join(f"{count:6} {name}" for name, count in sorted(injected.items()))
    report.details["options"] = json.dumps(vars(plan.options), indent=1, default=vars)[:20_000]


def _histories(report: Report, directory: Path) -> dict[str, list[Op]]:
    found: dict[str, list[Op]] = {}
    for path in sorted(directory.glob("history-*.jsonl")):
        try:
            found[path.stem.removeprefix("history-")] = files.read(path)
        except (HistoryError, OSError) as error:
            report.missing.append(f"{path.name} cannot be read: {error}")
    return found


def _origin_ns(histories: Mapping[str, list[Op]]) -> int:
    """About when the clients began, from which a plan's times count."""
    return min((ops[0].time for name, ops in histories.items() if ops and name in WORKLOADS), default=0)


def _seen(report: Report, plan: Plan, digest: str) -> Seen | None:
    try:
        seen = again(plan)
    except Exception as error:  # noqa: BLE001 - whatever a world of another commit cannot do is said on the page
        report.missing.append(f"The run cannot be repeated, so roles and terms are not shown: {error!r}")
        return None
    if digest and seen.digest != digest:
        why = f"; now it ends with {seen.broke}" if seen.broke else ""
        report.missing.append(
            f"Repeated with this commit it is another run{why}, so roles, terms and commit indexes are not shown:"
            " go back to the commit named above to see them."
        )
        return None
    return seen


def _hold(report: Report, result: Mapping[str, Any], seen: Seen | None) -> None:
    """The promises that were watched during the run."""
    if result:
        broke, text = str(result.get("invariant", "")), str(result.get("text", ""))
        counts = {name: int(result[name]) for name in _COUNTED if isinstance(result.get(name), int)}
    elif seen is not None:
        broke, text, counts = seen.broke, seen.text, seen.counts
    else:
        report.held.append(Held(_PROTOCOL, UNKNOWN, "the file holds no result and the run was not repeated"))
        return
    if broke == HARNESS:
        report.held.append(Held(_PROTOCOL, UNKNOWN, f"the harness itself failed: {text}", counts))
    elif broke in {"", _HEALTH}:
        report.held.append(Held(_PROTOCOL, TRUE, "", counts))
        if broke:
            report.held.append(Held(broke, FALSE, text))
    else:
        report.held.append(Held(broke, FALSE, text, counts))
