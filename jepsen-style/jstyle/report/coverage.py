"""What the runs of a campaign tried: workloads against classes of faults, and the list of the runs themselves.

A cell counts the runs in which the workload had an operation answered and the fault was injected at least once. Rule:
what was never tried together is shown as a red zero, also for workloads and faults that no run touched at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jstyle.report.markup import Html, join, shortened, tag
from jstyle.report.model import Run

_LISTED: Final = 200


def matrix(runs: Sequence[Run], workloads: Sequence[str], classes: Sequence[str]) -> Html:
    """The table; the names given are shown even when no run has them."""
    rows = sorted({*workloads, *(name for run in runs for name in run.ops)})
    columns = sorted({*classes, *(name for run in runs for name in run.faults)})
    head = [tag("th", {"scope": "col", "class": "up"}, tag("span", None, name)) for name in columns]
    body: list[Html] = []
    empty = 0
    for row in rows:
        cells: list[Html] = []
        for column in columns:
            hits = [run for run in runs if run.ops.get(row, {}).get("ok", 0) and run.faults.get(column, 0)]
            injected = sum(run.faults[column] for run in hits)
            answered = sum(run.ops[row]["ok"] for run in hits)
            empty += not hits
            tip = f"{row} under {column}: {len(hits)} runs, {injected} faults, {answered} operations answered ok"
            shade = "zero" if not hits else f"some heat{min(len(hits).bit_length(), 5)}"
            cells.append(tag("td", {"class": shade, "data-tip": tip}, str(len(hits))))
        body.append(tag("tr", None, tag("th", {"scope": "row"}, row), *cells))
    table = tag(
        "table", {"class": "matrix"},
        tag("thead", None, tag("tr", None, tag("td"), *head)), tag("tbody", None, *body),
    )  # fmt: skip
    total = len(rows) * len(columns)
    text = f"{total - empty} of {total} pairs were tried in {len(runs)} runs."
    text += " A number counts runs; a red zero was never tried."
    return join([tag("p", {"class": "note"}, text), tag("div", {"class": "scroll"}, table)])


def run_list(runs: Sequence[Run]) -> Html:
    """The runs, those that are not true first."""
    rank = {"false": 0, "unknown": 1, "true": 2}
    order = sorted(runs, key=lambda run: rank.get(run.valid, 1))
    rows = [
        tag("tr", None,
            tag("td", None, pill(run.valid)),
            tag("th", {"scope": "row"}, run.name),
            tag("td", None, tag("b", None, run.broke), " ", shortened(run.text, 260)),
            tag("td", None, tag("code", None, run.repeat) if run.repeat else ""))
        for run in order[:_LISTED]
    ]  # fmt: skip
    head = tag("tr", None, *[tag("th", {"scope": "col"}, name) for name in ("verdict", "run", "what broke", "again")])
    table = tag("table", {"class": "runs"}, tag("thead", None, head), tag("tbody", None, *rows))
    more = f"{len(order) - _LISTED} more runs are not listed." if len(order) > _LISTED else ""
    return join([tag("div", {"class": "scroll"}, table), tag("p", {"class": "note"}, more) if more else ""])


_WORDS: Final = {"true": ("yes", "✓ holds"), "false": ("no", "✗ broken"), "unknown": ("maybe", "? unknown")}


def pill(valid: str) -> Html:
    """A verdict as a coloured word; what is no verdict counts as unknown."""
    shade, text = _WORDS.get(valid, _WORDS["unknown"])
    return tag("span", {"class": f"pill {shade}"}, text)
