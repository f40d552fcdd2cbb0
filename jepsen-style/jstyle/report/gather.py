"""From files to a ``Report``: a history alone, a store directory, a simulated run, or a campaign of several of these.

Rule: the only place of the report that reads files. A part that is missing or unusable becomes a sentence of
``Report.missing``; only what leaves nothing to show raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jstyle.checkers import registry
from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, OptionError, Verdict
from jstyle.history import files
from jstyle.history.op import HistoryError, Op, calls, is_client
from jstyle.report import gather_sim, windows
from jstyle.report.markup import words
from jstyle.report.model import Judged, Report, Run, Sample
from jstyle.sim import artifact

SEED: Final = "seed.json"
_HISTORIES: Final = ("history.jsonl", "history.edn", "history.json")
_ERRORS: Final = (HistoryError, OptionError, registry.UnknownWorkload, ImportError, AttributeError)
_RUNS_MAX: Final = 2_000


class NothingToShow(ValueError):
    """The paths hold no history and no run; the text says what would do."""


@dataclass
class Wanted:
    """What the caller asked for. ``rerun``: run a stored simulation again for what its files do not keep."""

    workload: str = ""
    nemesis: Path | None = None
    budget_s: float = 20.0
    rerun: bool = True


def gather(paths: Sequence[Path], wanted: Wanted) -> Report:
    """The report on all paths; of several runs the worst one is shown in full. Raises NothingToShow."""
    runs = [run for path in paths for run in _runs_below(path)]
    listed = _listed(paths)
    if not runs and not listed:
        raise NothingToShow(f"{', '.join(map(str, paths))}: no history, no store directory and no seed.json below")
    if len(runs) == 1 and not listed:
        return _whole(runs[0], wanted)
    briefs = [_brief(path, wanted) for path in runs[:_RUNS_MAX]]
    report = _worst(runs, briefs, wanted) if briefs else Report(f"{len(listed)} runs")
    names = {run.name for run in briefs}
    # A line about a run that has a directory says nothing more than the directory does.
    report.runs = briefs + [run for run in listed if run.name not in names]
    if briefs:
        report.title = f"{len(report.runs)} runs; shown in full: {report.title}"
    if len(runs) > _RUNS_MAX:
        report.missing.append(f"{len(runs) - _RUNS_MAX} runs beyond the first {_RUNS_MAX} are left out")
    return report


def _worst(runs: Sequence[Path], briefs: Sequence[Run], wanted: Wanted) -> Report:
    """The report on the worst of several runs."""
    rank = {FALSE: 0, UNKNOWN: 1, TRUE: 2}
    shown = min(range(len(briefs)), key=lambda at: (rank[briefs[at].valid], at))
    report = _whole(runs[shown], wanted)
    full = briefs[shown]
    if len(report.judged) == 1 and not full.ops:
        full.ops = {report.judged[0].workload or "?": outcomes(report.judged[0].ops)}
    report.facts.insert(0, ("shown in full", report.title))
    report.title = full.name
    return report


def _listed(paths: Sequence[Path]) -> list[Run]:
    """The runs of the campaigns' lists at or below the paths. Raises NothingToShow for one that cannot be read."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob(artifact.RESULTS_NAME)) if path.is_dir() else []
        found += [path] if path.name == artifact.RESULTS_NAME and path.is_file() else []
    try:
        return [run for path in found for run in gather_sim.listed(path)]
    except (OSError, ValueError) as error:
        raise NothingToShow(f"a list of runs cannot be read: {error}") from error


def _runs_below(path: Path) -> list[Path]:
    """The path itself when it is a run, else every run below it, in order of names."""
    if not path.is_dir():
        return [path] if path.exists() and path.name != artifact.RESULTS_NAME else []
    if _is_run(path):
        return [path]
    found = {entry.parent for name in (SEED, "test.json", *_HISTORIES) for entry in path.rglob(name)}
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else -1, part) for part in path.parts]


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in (SEED, "test.json", *_HISTORIES)) or bool(_named(path))


def _named(path: Path) -> list[Path]:
    """Histories named after their workloads."""
    return sorted(path.glob("history-*.jsonl"))


def _whole(path: Path, wanted: Wanted) -> Report:
    if path.is_dir() and not (path / SEED).is_file():
        return _of_store(path, wanted)
    if path.name == SEED or path.is_dir() or gather_sim.is_plan(path):
        return gather_sim.report_on(path / SEED if path.is_dir() else path, wanted.budget_s, rerun=wanted.rerun)
    return _of_history(path, wanted)


def _brief(path: Path, wanted: Wanted) -> Run:
    seed = path / SEED if path.is_dir() else path
    if seed.is_file() and (path.is_dir() or gather_sim.is_plan(path)):
        return gather_sim.brief(seed)
    report = _of_store(path, wanted) if path.is_dir() else _of_history(path, wanted)
    found = [anomaly for judged in report.judged for _, anomaly in judged.anomalies()]
    run = Run(str(path), report.valid(), repeat=report.repeat[0] if report.repeat else "")
    if found:
        run.broke, run.text = found[0].name, found[0].text
    run.ops = {judged.workload or "?": outcomes(judged.ops) for judged in report.judged}
    for window in report.windows:
        run.faults[window.kind] = run.faults.get(window.kind, 0) + 1
    return run


def outcomes(ops: Sequence[Op]) -> dict[str, int]:
    """Completed client operations by outcome."""
    counts: dict[str, int] = {}
    for op in ops:
        if is_client(op) and op.type != "invoke":
            counts[op.type] = counts.get(op.type, 0) + 1
    return counts


# -- a history ---------------------------------------------------------------------------------------------------------


def _of_history(path: Path, wanted: Wanted) -> Report:
    try:
        recorded = files.load(path)
        list(calls(recorded.ops))
    except (HistoryError, OSError) as error:
        raise NothingToShow(f"{path}: {error}") from error
    report = Report(path.name)
    named = recorded.meta.get("workload")
    workload = wanted.workload or (named if isinstance(named, str) else "")
    if recorded.meta:
        report.facts += [(str(name), _fact(value)) for name, value in recorded.meta.items()]
    _judge(report, path.name, workload, recorded.ops, wanted)
    report.windows = windows.of_ops(recorded.ops)
    if wanted.nemesis is not None:
        _nemesis(report, wanted.nemesis)
    elif not report.windows:
        report.missing.append("No faults: the history has no nemesis operations and no --nemesis file was given.")
    report.repeat.append(f"jstyle check {path} --workload {workload or 'WORKLOAD'}")
    return report


def _fact(value: object) -> str:
    return value if isinstance(value, str) else words(value)


def _judge(report: Report, name: str, workload: str, ops: list[Op], wanted: Wanted) -> None:
    judged = Judged(name, workload, ops)
    report.judged.append(judged)
    if not workload:
        report.missing.append(f"No verdict on {name}: name its --workload; jstyle check --list shows them.")
        return
    options: dict[str, object] = {"workload": workload, "budget_s": wanted.budget_s, "jobs": 1}
    try:
        judged.verdicts = registry.check(workload, ops, options)
    except _ERRORS as error:
        report.missing.append(f"No verdict on {name}: {error}")
    except RecursionError:
        report.missing.append(f"No verdict on {name}: a value in it is nested too deeply to be compared.")


def _nemesis(report: Report, path: Path) -> None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found, unclear = windows.of_records([json.loads(line) for line in lines if line.strip()])
    except (OSError, ValueError, KeyError, TypeError) as error:
        report.missing.append(f"{path.name} cannot be read, so its faults are not shown: {error}")
        return
    report.windows = sorted(report.windows + found, key=lambda window: window.begin_ns)
    if unclear:
        report.missing.append(f"{unclear} lines of {path.name} name no fault with a time and are left out.")


# -- a store directory -------------------------------------------------------------------------------------------------


def _of_store(path: Path, wanted: Wanted) -> Report:
    report = Report(path.name or str(path))
    test = _mapping(report, path / "test.json", "options, seed and versions are not shown")
    for name, value in test.items():
        if isinstance(value, str | int | float | bool):
            report.facts.append((str(name), _fact(value)))
        elif value not in (None, [], {}):
            report.details[str(name)] = json.dumps(value, indent=1, default=str)[:20_000]
    results = _mapping(report, path / "results.json", "the histories are judged again here")
    histories = [found for name in _HISTORIES if (found := path / name).is_file()][:1] or _named(path)
    if not histories:
        report.missing.append("history.jsonl is missing: no operations can be shown.")
    for entry in histories:
        _store_history(report, entry, test, results, wanted)
    nemesis = wanted.nemesis or path / "nemesis.jsonl"
    for judged in report.judged:
        report.windows += windows.of_ops(judged.ops)
    if nemesis.is_file():
        _nemesis(report, nemesis)
    elif not report.windows:
        report.missing.append("nemesis.jsonl is missing: no faults are shown.")
    _samples(report, path / "cluster.jsonl")
    _repeat(report, path)
    return report


def _mapping(report: Report, path: Path, without: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        report.missing.append(f"{path.name} is missing: {without}.")
        return {}
    except (OSError, ValueError, RecursionError) as error:
        report.missing.append(f"{path.name} cannot be read ({error}): {without}.")
        return {}
    if isinstance(data, dict):
        return data
    report.missing.append(f"{path.name} holds no map: {without}.")
    return {}


def _store_history(
    report: Report, path: Path, test: Mapping[str, Any], results: Mapping[str, Any], wanted: Wanted
) -> None:
    try:
        recorded = files.load(path)
        list(calls(recorded.ops))
    except (HistoryError, OSError) as error:
        report.missing.append(f"{path.name} cannot be read: {error}")
        return
    named = path.stem.removeprefix("history").removeprefix("-")
    known = [wanted.workload, named, test.get("workload"), results.get("workload"), recorded.meta.get("workload")]
    workload = next((word for word in known if isinstance(word, str) and word), "")
    stored = _stored(results.get("verdicts"))
    if stored and not named:
        report.judged.append(Judged(path.name, workload, recorded.ops, stored))
    else:
        _judge(report, path.name, workload, recorded.ops, wanted)


def _stored(data: object) -> list[Verdict]:
    """Verdicts as ``as_json`` writes them; what is not understood counts as unknown."""
    found: list[Verdict] = []
    for item in data if isinstance(data, list) else []:
        if not isinstance(item, Mapping):
            continue
        valid = item.get("valid")
        why = str(item.get("why") or "")
        if valid not in (TRUE, FALSE, UNKNOWN):
            valid, why = UNKNOWN, f"results.json says {words(valid)}, which is no verdict"
        counts = item.get("counts")
        known = {str(k): v for k, v in counts.items() if isinstance(v, int)} if isinstance(counts, Mapping) else {}
        anomalies = [_anomaly(one) for one in item.get("anomalies") or [] if isinstance(one, Mapping)]
        if anomalies and valid == TRUE:
            # Anomalies that rule out no requested model are listed with a true verdict.
            why = why or "the anomalies below are allowed by the models that were asked for"
        found.append(Verdict(str(item.get("checker") or "?"), str(valid), anomalies, known, why))
    return found


def _anomaly(item: Mapping[str, Any]) -> Anomaly:
    ops = [index for index in item.get("ops") or [] if type(index) is int]
    return Anomaly(str(item.get("name") or "?"), str(item.get("text") or ""), ops, item.get("key"), item.get("data"))


def _samples(report: Report, path: Path) -> None:
    """``cluster.jsonl``: lines of {time, node, role, term, commit}."""
    if not path.is_file():
        report.missing.append("cluster.jsonl is missing: roles, terms and commit indexes over time are not shown.")
        return
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            term, commit = int(item.get("term", 0)), int(item.get("commit", -1))
            report.samples.append(Sample(int(item["time"]), str(item["node"]), str(item["role"]), term, commit))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        report.missing.append(f"{path.name} cannot be read beyond {len(report.samples)} samples: {error!r}")
    report.samples.sort(key=lambda sample: sample.time_ns)


def _repeat(report: Report, path: Path) -> None:
    script = path / "repro.sh"
    try:
        text = script.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, ValueError) as error:
        text = ""
        report.missing.append(f"repro.sh cannot be read: {error}")
    report.repeat += [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for judged in report.judged:
        report.repeat.append(f"jstyle check {path / judged.name} --workload {judged.workload or 'WORKLOAD'}")
