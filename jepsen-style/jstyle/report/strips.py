"""The run over time: latency of each call, operations per second, faults, and who led in which term.

All strips share one axis of seconds since the start. Rule: each picture is bounded: dots that would fall on the same
spot are drawn once, and no strip has more than some hundred parts per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import floor, log10
from typing import Final

from jstyle.history.op import Call, Op, calls
from jstyle.report.markup import Html, join, shortened, tag
from jstyle.report.model import OPEN_END, Sample, Window
from jstyle.report.scene import moment

WIDTH: Final = 1120
LEFT: Final = 118
RIGHT: Final = 12
_LATENCY_PX: Final = 150
_RATE_PX: Final = 84
_ROW_PX: Final = 18
_BUCKETS: Final = 140
# Powers of ten nanoseconds.
_UNITS: Final = dict(enumerate("1 µs,10 µs,100 µs,1 ms,10 ms,100 ms,1 s,10 s,100 s,1000 s".split(","), 3))
_ORDER: Final = ("info", "fail", "ok")


class Axis:
    """Nanoseconds from 0 to ``end_ns`` as places."""

    def __init__(self, end_ns: int) -> None:
        self.end_ns = max(end_ns, 1)

    def x(self, time_ns: int) -> float:
        """Where a moment is."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(time_ns, 0), self.end_ns) / self.end_ns

    def ticks(self) -> list[int]:
        """Round moments, about eight of them."""
        rough = self.end_ns / 8
        power = 10 ** floor(log10(max(rough, 1)))
        step = next((power * m for m in (1, 2, 5) if power * m >= rough), power * 10)
        return [int(at * step) for at in range(int(self.end_ns / step) + 1)]

    def ruler(self) -> Html:
        """The row of times below the strips."""
        parts = [
            tag("text", {"class": "tick", "x": self.x(t), "y": 14, "text-anchor": "middle"}, _brief(t, self.end_ns))
            for t in self.ticks()
        ]
        return strip(20, "time", *parts)

    def grid(self, height: float) -> Html:
        """Vertical lines at the ticks."""
        lines = [{"class": "grid", "x1": self.x(t), "x2": self.x(t), "y1": 0, "y2": height} for t in self.ticks()]
        return join([tag("line", line) for line in lines])


def _brief(time_ns: int, end_ns: int) -> str:
    if end_ns >= 2_000_000_000:
        return f"{time_ns / 1e9:g} s"
    return f"{time_ns / 1e6:g} ms" if end_ns >= 2_000_000 else f"{time_ns / 1e3:g} µs"


def strip(height: float, title: str, *parts: object) -> Html:
    """One picture as wide as the page; ``height`` in the units of ``WIDTH``."""
    frame = {"class": "strip", "viewBox": f"0 0 {WIDTH} {height:.0f}", "role": "img", "aria-label": title}
    return tag("svg", frame, *parts)


def _title(text: str, y: float) -> Html:
    return tag("text", {"class": "title", "x": 0, "y": y}, text)


def axis_of(history: Sequence[Op], windows: Sequence[Window], samples: Sequence[Sample]) -> Axis | None:
    """The axis all strips need; None when no times were recorded."""
    if not any(op.time > 0 for op in history) and not samples:
        return None
    ends = [op.time for op in history] + [window.end_ns for window in windows] + [sample.time_ns for sample in samples]
    return Axis(max(ends, default=1))


def strips(history: Sequence[Op], windows: Sequence[Window], samples: Sequence[Sample], axis: Axis) -> Html:
    """Latency, rate, faults and leaders, one above the other."""
    timed = [call for call in calls(history) if call.start.time >= 0]
    shade = _shades(axis, windows)
    parts = [_latency(timed, axis, shade), _rate(timed, axis, shade)] if timed else []
    parts += [_faults(axis, windows)] if windows else []
    parts += [_leaders(axis, samples)] if samples else []
    return tag("div", {"class": "strips", "data-end": axis.end_ns}, *parts, axis.ruler())


def _shades(axis: Axis, windows: Sequence[Window]) -> Html:
    """The union of all windows: many faults at once must not paint the strip solid."""
    spans: list[tuple[int, int]] = []
    for begin, end in sorted((w.begin_ns, axis.end_ns if w.end_ns == OPEN_END else w.end_ns) for w in windows):
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((begin, end))
    places = [(axis.x(begin), max(axis.x(end) - axis.x(begin), 1.0)) for begin, end in spans]
    return join([tag("rect", {"class": "shade", "x": x, "y": 0, "width": w, "height": "100%"}) for x, w in places])


def _latency(found: Sequence[Call], axis: Axis, shade: Html) -> Html:
    done = [(call, call.done.time - call.start.time) for call in found if call.done is not None and call.done.time >= 0]
    if not done:
        return Html("")
    lowest = log10(max(min(ns for _, ns in done), 1000))
    highest = log10(max(*(ns for _, ns in done), 2000))
    if highest - lowest < 0.6:
        lowest, highest = lowest - 0.3, highest + 0.3
    floor_px = _LATENCY_PX - 8.0

    def y(ns: float) -> float:
        return floor_px - (floor_px - 10) * (log10(max(ns, 1000)) - lowest) / (highest - lowest)

    marks: list[Html] = []
    for power in range(3, 13):
        if lowest <= power <= highest:
            at = y(10**power)
            marks.append(tag("line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": at, "y2": at}))
            place = {"class": "tick", "x": LEFT - 6, "y": at + 4, "text-anchor": "end"}
            marks.append(tag("text", place, _UNITS[power]))
    spots: dict[str, dict[tuple[int, int], None]] = {kind: {} for kind in _ORDER}
    for call, ns in done:
        spots[call.outcome][round(axis.x(call.start.time)), round(y(ns))] = None
    dots = [
        tag("path", {"class": f"dots {kind}", "d": "".join(f"M{x} {at}h.01" for x, at in spots[kind])})
        for kind in reversed(_ORDER) if spots[kind]
    ]  # fmt: skip
    return strip(_LATENCY_PX, "latency", shade, axis.grid(floor_px), *marks, *dots, _title("latency", 14))


def _rate(found: Sequence[Call], axis: Axis, shade: Html) -> Html:
    width_ns = axis.end_ns / _BUCKETS
    stacks = [dict.fromkeys(_ORDER, 0) for _ in range(_BUCKETS)]
    for call in found:
        at = call.done.time if call.done is not None and call.done.time >= 0 else call.start.time
        stacks[min(int(at / width_ns), _BUCKETS - 1)][call.outcome] += 1
    peak = max(sum(stack.values()) for stack in stacks)
    floor_px = _RATE_PX - 6.0
    scale = (floor_px - 12) / max(peak, 1)
    wide = (WIDTH - LEFT - RIGHT) / _BUCKETS
    paths: dict[str, list[str]] = {kind: [] for kind in _ORDER}
    for at, stack in enumerate(stacks):
        base = floor_px
        for kind in reversed(_ORDER):
            high = stack[kind] * scale
            if high:
                paths[kind].append(f"M{LEFT + at * wide:.1f} {base:.1f}h{wide - 1:.1f}v{-high:.1f}h{1 - wide:.1f}z")
                base -= high
    bars = [tag("path", {"class": f"fill {kind}", "d": "".join(parts)}) for kind, parts in paths.items() if parts]
    per_s = peak / (width_ns / 1e9)
    label = f"{per_s:.3g}/s" if axis.end_ns >= 1_000_000_000 else f"{peak} ops"
    top = tag("text", {"class": "tick", "x": LEFT - 6, "y": 16, "text-anchor": "end"}, label)
    base_line = tag("line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": floor_px, "y2": floor_px})
    title = _title("completed", 32)
    return strip(_RATE_PX, "operations completed over time", shade, axis.grid(floor_px), base_line, *bars, top, title)


def _faults(axis: Axis, windows: Sequence[Window]) -> Html:
    rows = sorted({window.kind for window in windows})
    height = _ROW_PX * len(rows) + 4
    parts: list[Html] = [axis.grid(height)]
    for at, kind in enumerate(rows):
        y = at * _ROW_PX
        parts.append(tag("text", {"class": "row", "x": 0, "y": y + 13}, shortened(kind, 17)))
        for window in windows:
            if window.kind != kind:
                continue
            end_ns = axis.end_ns if window.end_ns == OPEN_END else window.end_ns
            left, wide = axis.x(window.begin_ns), max(axis.x(end_ns) - axis.x(window.begin_ns), 3.0)
            until = "never ended" if window.end_ns == OPEN_END else f"until {moment(end_ns)}"
            tip = f"{kind} {window.about}".rstrip() + f"\nfrom {moment(window.begin_ns)}, {until}"
            bar = {"x": left, "y": y + 3, "width": wide, "height": _ROW_PX - 6, "rx": 2}
            parts.append(tag("rect", {"class": "fault", "data-tip": tip, **bar}))
    return strip(height, "faults over time", *parts)


def _leaders(axis: Axis, samples: Sequence[Sample]) -> Html:
    """Who leads: of several leaders the one of the highest term."""
    leads: dict[str, int] = {}
    spans: list[tuple[int, str, int]] = []
    for sample in sorted(samples, key=lambda sample: sample.time_ns):
        if sample.role == "leader":
            leads[sample.node] = sample.term
        else:
            leads.pop(sample.node, None)
        now = max(((term, node) for node, term in leads.items()), default=(0, ""))
        if not spans or (spans[-1][1], spans[-1][2]) != (now[1], now[0]):
            spans.append((sample.time_ns, now[1], now[0]))
    names = sorted({node for _, node, _ in spans if node})
    parts: list[Html] = [tag("text", {"class": "row", "x": 0, "y": 16}, "leader")]
    for (begin, node, term), (end, _, _) in pairwise([*spans, (axis.end_ns, "", 0)]):
        if not node:
            continue
        left, wide = axis.x(begin), max(axis.x(end) - axis.x(begin), 2.0)
        tip = f"{node} leads term {term}\nfrom {moment(begin)} until {moment(end)}"
        box = tag("rect", {"x": left, "y": 3, "width": wide, "height": 18, "rx": 3})
        label = f"{node} · {term}"
        text = tag("text", {"x": left + 5, "y": 16}, label) if wide > 7 * len(label) + 8 else ""
        parts.append(tag("g", {"class": f"leads tone{names.index(node) % 6}", "data-tip": tip}, box, text))
    return strip(24, "leader over time", *parts)
