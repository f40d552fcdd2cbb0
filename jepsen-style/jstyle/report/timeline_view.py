"""The operations around a place of the history: a lane for each process, a bar for each call, faults behind them.

Rule: at most ``CAP`` calls are drawn, whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jstyle.checkers.verdict import Anomaly
from jstyle.history.op import Call
from jstyle.report import scene
from jstyle.report.markup import Html, join, tag
from jstyle.report.model import OPEN_END, Judged, Window

CAP: Final = 10_000
_AROUND: Final = 600
_WHOLE: Final = 120

LEGEND: Final = (
    ("ok", "ok"),
    ("fail", "failed for certain"),
    ("info", "outcome unknown, may take effect until the end"),
)


def timeline(judged: Judged, anomaly: Anomaly | None, windows: Sequence[Window], *, at_end: bool = False) -> Html:
    """The timeline around an anomaly; without one from the beginning, or at the end, where a run broke off."""
    accused = set(anomaly.ops) if anomaly is not None else set()
    edge = max([op.index for op in judged.ops], default=0) if at_end else 0
    middle = max(accused, default=edge)
    cap = min(_AROUND if anomaly is not None else _WHOLE, CAP)
    view = scene.near(judged.ops, middle, cap)
    if not view.calls:
        return tag("p", {"class": "note"}, "No client operation was recorded.")
    bars = []
    first = middle
    for call in view.calls:
        hit = _involved(call, accused)
        if hit:
            first = min(first, call.start.index)
        bars.append(view.bar(call, kind_of(call), accused=hit))
    marks = [_mark(view, call) for call in view.calls if _involved(call, accused)]
    start = next((call.start for call in view.calls if call.start.index == first and accused), None)
    scroll = (view.x(first), view.lane_y(start.process)) if start is not None else (view.x(edge), 0.0)
    title = "operations around the first anomaly" if accused else "the first operations"
    drawing = view.frame(_shades(view, windows), join(bars), join(marks), scroll_to=scroll, title=title)
    note = _note(view, anomaly, "last" if at_end else "first")
    return join([note, drawing, legend(accused=bool(accused), faults=bool(windows))])


def kind_of(call: Call) -> str:
    """The class that colours a call."""
    return call.outcome


def _involved(call: Call, accused: set[int]) -> bool:
    return call.start.index in accused or (call.done is not None and call.done.index in accused)


def _mark(view: scene.Scene, call: Call) -> Html:
    left, _ = view.span(call)
    y = view.lane_y(call.start.process)
    return tag("path", {"class": "mark", "d": f"M{left - 5:.1f} {y - 5:.1f}h10l-5 7z"})


def _shades(view: scene.Scene, windows: Sequence[Window]) -> Html:
    """Columns whose time lies in a fault's window."""
    timed = sorted((op.index, op.time) for call in view.calls for op in (call.start, call.done) if op is not None)
    timed = [(index, time) for index, time in timed if time >= 0]
    out: list[Html] = []
    for window in windows:
        end_ns = window.end_ns if window.end_ns != OPEN_END else 1 << 62
        inside = [index for index, time in timed if window.begin_ns <= time <= end_ns]
        if not inside:
            continue
        left, right = view.x(inside[0]), view.x(inside[-1])
        tip = f"{window.kind} {window.about}\nfrom {scene.moment(window.begin_ns)}"
        place = {"x": left - 2, "y": 18, "width": right - left + 4, "height": view.height_px - 24}
        out.append(tag("rect", {"class": "shade", "data-tip": tip, **place}))
    return join(out)


def _note(view: scene.Scene, anomaly: Anomaly | None, which: str) -> Html:
    shown, total = len(view.calls), len(view.calls) + view.clipped
    if anomaly is None:
        text = f"No anomaly in this history. {'The ' + which if view.clipped else 'All'} {shown:,} of {total:,} calls."
    else:
        where = f"the {shown:,} nearest of {total:,} calls" if view.clipped else f"all {total:,} calls"
        text = f"Around {anomaly.name}: {where}; those involved are marked red."
    scale = " Each column is one event, so distances are not to scale; point at a bar for its times."
    if any(len(lane) > 1 for lane in view.lanes):
        scale += " A process that crashed is followed in its lane by the one that took its place."
    return tag("p", {"class": "note"}, text, scale)


def legend(*, accused: bool, faults: bool = False, extra: Sequence[tuple[str, str]] = ()) -> Html:
    """What the colours mean."""
    shown = list(LEGEND) + ([("accused", "involved in the anomaly")] if accused else []) + list(extra)
    shown += [("shade", "while a fault was active")] if faults else []
    items = [tag("span", {"class": "key"}, tag("i", {"class": f"swatch {kind}"}), text) for kind, text in shown]
    return tag("p", {"class": "legend"}, *items)
