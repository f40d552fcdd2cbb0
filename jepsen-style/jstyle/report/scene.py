"""Calls as bars: which are near a place in the history, their lanes, their widths, what they say.

Horizontal places count events, not seconds: each invocation or completion in view is one column, so that what
happened at once can be told apart and waiting takes no room. Rule: the one geometry that the timeline and the
linearizability view share.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from jstyle.history.op import INFO, INVOKE, OK, Call, Op, calls
from jstyle.report.markup import Html, join, shortened, tag, words

LANE_PX: Final = 26
# Room below a bar for the dots of an order.
DOTTED_LANE_PX: Final = 34
BAR_PX: Final = 20
TOP_PX: Final = 26
_MARGIN_PX: Final = 14
_VIEW_PX: Final = 1010
_COLUMN_PX: Final = (15.0, 150.0)
_CHAR_PX: Final = 6.3
_TIP_CHARS: Final = 300
_LABELS_PX: Final = 106
# So many processes have a lane each; more of them share.
_LANES_OWN: Final = 12


class Scene:
    """The calls in view with their places. ``clipped``: calls left out because there were too many."""

    def __init__(self, found: Sequence[Call], total: int, lane_px: int = LANE_PX) -> None:
        self.lane_px = lane_px
        self.calls = list(found)
        self.clipped = total - len(self.calls)
        self.columns = sorted({index for call in self.calls for index in _indexes(call)})
        lowest, highest = _COLUMN_PX
        self.column_px = min(max(_VIEW_PX / max(len(self.columns) + 1, 1), lowest), highest)
        # Processes of each lane, and the lane of each process.
        self.lanes = _lanes(self.calls)
        self._lane = {process: at for at, lane in enumerate(self.lanes) for process in lane}
        self._next = {one: after for lane in self.lanes for one, after in pairwise(lane)}
        self._first: dict[int | str, int] = {}
        for call in self.calls:
            self._first.setdefault(call.start.process, call.start.index)
        self.width_px = 2 * _MARGIN_PX + self.column_px * (len(self.columns) + 1)
        self.height_px = TOP_PX + lane_px * len(self.lanes) + 8

    def x(self, index: float) -> float:
        """Where the operation of that index is; one out of view is at the edge."""
        return _MARGIN_PX + self.column_px * (bisect_left(self.columns, index) + 0.5)

    def gap_x(self, column: int, share: float) -> float:
        """A place between a column and the next one; ``share`` from 0 to 1."""
        return _MARGIN_PX + self.column_px * (column + 0.5 + share)

    def column(self, index: int) -> int:
        """The number of columns before the operation."""
        return bisect_left(self.columns, index)

    def lane_y(self, process: int | str) -> float:
        """The upper edge of the bars of a process."""
        return TOP_PX + self.lane_px * self._lane[process] + 3

    def span(self, call: Call) -> tuple[float, float]:
        """Left and right end of a call's bar; one that never returned goes on to the end."""
        left = self.x(call.start.index)
        if call.done is None:
            return left, self.width_px - _MARGIN_PX
        return left, max(self.x(call.done.index), left + 6)

    def _tail(self, call: Call, right: float, top: float) -> Html:
        """What stands for an outcome that may still come: a line to the end, or to who takes the lane over."""
        if call.done is None or call.outcome != INFO:
            return Html("")
        after = self._next.get(call.start.process)
        end = self.width_px - _MARGIN_PX if after is None else self.x(self._first[after]) - 4
        y = top + BAR_PX / 2
        return tag("line", {"class": "tail", "x1": right, "x2": max(end, right), "y1": y, "y2": y})

    def bar(self, call: Call, kind: str, *, accused: bool = False, number: int = 0) -> Html:
        """The bar of a call; ``kind`` is its class, ``number`` its place in an order that is shown."""
        left, right = self.span(call)
        top = self.lane_y(call.start.process)
        names = f"op {kind}" + (" accused" if accused else "")
        box = tag("rect", {"x": left, "y": top, "width": right - left, "height": BAR_PX, "rx": 4})
        room = int((right - left - 8) / _CHAR_PX)
        label = shortened(said(call, short=True), room) if room >= 3 else ""
        text = tag("text", {"x": left + 5, "y": top + 14}, label) if label else ""
        return tag("g", {"class": names, "data-tip": tip(call, number)}, self._tail(call, right, top), box, text)

    def frame(self, *layers: object, scroll_to: tuple[float, float], title: str) -> Html:
        """The drawing in a box that scrolls, with the names of the lanes beside it."""
        rows: list[Html] = []
        labels: list[Html] = []
        for at, lane in enumerate(self.lanes):
            y = TOP_PX + self.lane_px * at
            if at % 2 == 0:
                place = {"x": 0, "y": y, "width": "100%", "height": self.lane_px}
                rows.append(tag("rect", {"class": "lane", **place}))
            labels.append(tag("text", {"x": 0, "y": y + 17}, _named(lane)))
        side = tag(
            "svg", {"class": "names", "width": _LABELS_PX, "height": self.height_px, "aria-hidden": "true"}, *labels
        )
        drawing = tag(
            "svg",
            {"width": self.width_px, "height": self.height_px, "role": "img", "aria-label": title},
            join(rows), self.ticks(), *layers,
        )  # fmt: skip
        box = {"class": "lanes", "data-x": scroll_to[0], "data-y": scroll_to[1], "tabindex": "0"}
        return tag("div", box, side, drawing)

    def ticks(self) -> Html:
        """Times above the columns, as many as there is room for."""
        times = {op.index: op.time for call in self.calls for op in _ends(call)}
        out: list[Html] = []
        free_px = 0.0
        for index in self.columns:
            x = self.x(index)
            if x < free_px or times.get(index, -1) < 0:
                continue
            free_px = x + 84
            out.append(tag("text", {"class": "tick", "x": x, "y": 13}, moment(times[index])))
            out.append(tag("line", {"class": "grid", "x1": x, "x2": x, "y1": 18, "y2": self.height_px - 6}))
        return join(out)


def _lanes(found: Sequence[Call]) -> list[list[int | str]]:
    """A lane for each process; where many crashed, those that replaced them go on in their lanes."""
    spans: dict[int | str, tuple[int, int]] = {}
    for call in found:
        first, last = _indexes(call)[0], _indexes(call)[-1]
        known = spans.get(call.start.process, (first, last))
        spans[call.start.process] = (min(known[0], first), max(known[1], last))
    order = sorted(spans, key=lambda process: (isinstance(process, str), process))
    if len(order) <= _LANES_OWN:
        return [[process] for process in order]
    lanes: list[list[int | str]] = []
    for process in sorted(order, key=lambda process: spans[process]):
        free = next((lane for lane in lanes if spans[lane[-1]][1] < spans[process][0]), None)
        if free is None:
            lanes.append([process])
        else:
            free.append(process)
    return lanes


def _named(lane: Sequence[int | str]) -> str:
    if len(lane) == 1:
        return shortened(f"process {lane[0]}", 14)
    return shortened(" > ".join(map(str, lane)), 13)


def _ends(call: Call) -> list[Op]:
    return [call.start] if call.done is None else [call.start, call.done]


def _indexes(call: Call) -> list[int]:
    return [op.index for op in _ends(call)]


def near(history: Iterable[Op], index: int, cap: int) -> Scene:
    """At most ``cap`` calls around an operation: those open there, then the nearest on both sides."""
    found = list(calls(history))
    last = [call.start.index if call.done is None else call.done.index for call in found]
    order = sorted(
        range(len(found)),
        key=lambda at: 0 if found[at].start.index <= index <= last[at]
        else min(abs(found[at].start.index - index), abs(last[at] - index)),
    )  # fmt: skip
    return Scene([found[at] for at in sorted(order[:cap])], len(found))


def moment(time_ns: int) -> str:
    """A time since the start, in the unit that suits it."""
    if time_ns < 0:
        return "no time"
    if time_ns < 1_000_000:
        return f"{time_ns / 1000:g} µs"
    return f"{time_ns / 1e6:.4g} ms" if time_ns < 1_000_000_000 else f"{time_ns / 1e9:.3f} s"


def said(call: Call, *, short: bool = False) -> str:
    """A call in a few words: what was asked and what was answered."""
    start, done = call.start, call.done
    value = done.value if done is not None and done.type == OK and done.value is not None else start.value
    limit = 60 if short else _TIP_CHARS
    if start.f == "txn" and isinstance(value, list | tuple):
        return shortened(" · ".join(micro(step) for step in value), limit)
    key = "" if start.key is None else f" {words(start.key, 40)}"
    if start.value is None and done is not None and done.type == OK:
        return shortened(f"{start.f}{key} → {words(done.value, limit)}", limit)
    answer = "" if done is None or done.type != OK or done.value == start.value else f" → {words(done.value, limit)}"
    asked = "" if start.value is None else f" {words(start.value, limit)}"
    return shortened(f"{start.f}{key}{asked}{answer}", limit)


def micro(step: object) -> str:
    """One step of a transaction."""
    if not isinstance(step, list | tuple) or len(step) != 3:
        return words(step, 60)
    what, key, value = step
    arrow = " →" if what == "r" else ""
    return f"{words(what, 20)} {words(key, 30)}{arrow} {words(value, 80)}"


def tip(call: Call, number: int = 0) -> str:
    """All that is known of a call, for whoever points at it."""
    start, done = call.start, call.done
    lines = [f"process {start.process}: {said(call)}"]
    if done is None:
        lines.append(f"no answer was ever recorded; operation {start.index}")
    else:
        lines.append(f"{OUTCOMES.get(done.type, done.type)}; operations {start.index} to {done.index}")
    if start.time >= 0:
        if done is not None and done.time >= 0:
            lines.append(f"{moment(start.time)} to {moment(done.time)}, {moment(done.time - start.time)} long")
        else:
            lines.append(f"begun at {moment(start.time)}")
    if start.node:
        lines.append(f"on {start.node}")
    if done is not None and done.error:
        lines.append(f"error: {shortened(done.error, _TIP_CHARS)}")
    if number:
        lines.append(f"number {number} in this order")
    return "\n".join(lines)


OUTCOMES: Final = {OK: "ok", "fail": "failed for certain", "info": "outcome unknown", INVOKE: "invoked"}
