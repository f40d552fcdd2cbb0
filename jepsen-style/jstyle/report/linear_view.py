"""How far a key's operations can be put in order: the order as a line through the bars, and where it cannot go on.

Each dot is the instant at which an operation of the partial order takes effect: as early as the order allows, always
inside its bar. Red bars are the operations of which none can come next. Rule: draws the checker's own findings
(``prefixes``); it decides nothing about a history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jstyle.checkers.verdict import Anomaly
from jstyle.history.keys import lift
from jstyle.history.op import Call, HistoryError, Op, calls
from jstyle.report.markup import Html, join, tag, words
from jstyle.report.scene import BAR_PX, DOTTED_LANE_PX, Scene, said
from jstyle.report.timeline_view import kind_of, legend

_SHOWN: Final = 160
_PREFIXES: Final = 6


def can_draw(anomaly: Anomaly) -> bool:
    """Whether the anomaly carries partial orders."""
    data = anomaly.data
    return isinstance(data, Mapping) and isinstance(data.get("prefixes"), list) and bool(data["prefixes"])


def linear_view(history: list[Op], anomaly: Anomaly, number: int) -> Html:
    """The picture of an anomaly that ``can_draw``; ``number`` tells it from the page's other pictures."""
    prefixes = [_numbers(item) for item in _prefixes(anomaly)]
    prefixes.sort(key=lambda prefix: -len(prefix.taken))
    prefixes = prefixes[:_PREFIXES]
    named = {index for prefix in prefixes for index in (*prefix.taken, *prefix.illegal)} | set(anomaly.ops)
    part = _partition(history, anomaly.key, named)
    scene = _cut(part, prefixes, anomaly)
    if not scene.calls:
        return tag("p", {"class": "note"}, "The operations of this key are not in the history, so no order is drawn.")
    by_start = {call.start.index: call for call in scene.calls}
    red = {index for prefix in prefixes for index in prefix.illegal}
    bars = [scene.bar(call, kind_of(call), accused=call.start.index in red) for call in scene.calls]
    orders = [_order(scene, by_start, prefix, at) for at, prefix in enumerate(prefixes)]
    first = by_start.get(min((index for index in red if index in by_start), default=-1))
    jump = (scene.x(first.start.index), scene.lane_y(first.start.process)) if first is not None else (0.0, 0.0)
    drawing = scene.frame(join(bars), join(orders), scroll_to=jump, title="longest partial linearization of the key")
    keys = [("dots", "the order found, dot by dot"), ("stuck", "cannot come next")]
    head = _head(anomaly, scene, prefixes, jump)
    return tag(
        "div", {"class": "linear", "id": f"linear-{number}"}, head, drawing, legend(accused=False, extra=keys)
    )  # fmt: skip


class _Prefix:
    """A partial order: calls by the index of their invocation."""

    __slots__ = ("illegal", "state", "taken")

    def __init__(self, taken: list[int], state: object, illegal: list[int]) -> None:
        self.taken = taken
        self.state = state
        self.illegal = illegal


def _prefixes(anomaly: Anomaly) -> list[Mapping[str, Any]]:
    assert isinstance(anomaly.data, Mapping)
    return [item for item in anomaly.data["prefixes"] if isinstance(item, Mapping)]


def _numbers(item: Mapping[str, Any]) -> _Prefix:
    taken = [index for index in item.get("taken") or [] if type(index) is int]
    illegal = [index for index in item.get("illegal") or [] if type(index) is int]
    return _Prefix(taken, item.get("state"), illegal)


def _partition(history: list[Op], key: object, named: set[int]) -> list[Call]:
    """The calls of the key, and all that the anomaly names."""
    try:
        lifted = lift(history)
    except HistoryError:
        lifted = history
    wanted = {words(key)} | ({words(one) for one in key} if isinstance(key, list | tuple) else set())
    return [call for call in calls(lifted) if call.start.index in named or words(call.start.key) in wanted]


def _cut(part: list[Call], prefixes: Iterable[_Prefix], anomaly: Anomaly) -> Scene:
    """The calls around the one that cannot be placed."""
    assert isinstance(anomaly.data, Mapping)
    at = anomaly.data.get("at")
    middle = at if type(at) is int else max(anomaly.ops, default=0)
    must = {index for prefix in prefixes for index in (*prefix.illegal, *prefix.taken[-40:])} | set(anomaly.ops)
    if len(part) <= _SHOWN:
        return Scene(part, len(part), DOTTED_LANE_PX)
    # Calls after the failure explain little.
    order = sorted(part, key=lambda call: abs(call.start.index - middle) * (4 if call.start.index > middle else 1))
    kept = {call.start.index for call in order[:_SHOWN]} | must
    return Scene([call for call in part if call.start.index in kept], len(part), DOTTED_LANE_PX)


def _order(scene: Scene, by_start: Mapping[int, Call], prefix: _Prefix, at: int) -> Html:
    """One partial order: the line, its dots, the state it ends in, and the steps that are not possible."""
    shown = [(number, by_start[index]) for number, index in enumerate(prefix.taken, 1) if index in by_start]
    columns: list[int] = []
    reached = 0
    for _, call in shown:
        reached = max(reached, scene.column(call.start.index))
        columns.append(reached)
    points: list[tuple[float, float]] = []
    for n, (_, call) in enumerate(shown):
        same = columns.count(columns[n])
        share = (n - columns.index(columns[n]) + 1) / (same + 1)
        points.append((scene.gap_x(columns[n], share), scene.lane_y(call.start.process) + BAR_PX + 2))
    line = tag("polyline", {"class": "order", "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points)})
    dots = [
        tag("g", {"class": "dot small" if number > 99 else "dot", "data-tip": f"{number}: {said(call)}"},
            tag("circle", {"cx": x, "cy": y, "r": 7.5}),
            tag("text", {"x": x, "y": y + 3.2}, str(number) if number < 1000 else ""))
        for (number, call), (x, y) in zip(shown, points, strict=True)
    ]  # fmt: skip
    last = points[-1] if points else (scene.gap_x(0, 0) - 8, scene.height_px - 10)
    stuck = [_stuck(scene, by_start[index], last) for index in prefix.illegal if index in by_start]
    names = "prefix" if at == 0 else "prefix hidden"
    return tag("g", {"class": names, "data-prefix": at}, line, *stuck, *dots)


def _stuck(scene: Scene, call: Call, last: tuple[float, float]) -> Html:
    left, right = scene.span(call)
    x = min(max(left, last[0]) + 12, max(right - 4, left + 4))
    y = scene.lane_y(call.start.process) + BAR_PX + 2
    line = tag("line", {"class": "no", "x1": last[0], "y1": last[1], "x2": x, "y2": y})
    cross = tag("path", {"class": "cross", "d": f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"})
    return tag("g", None, line, cross)


def _head(anomaly: Anomaly, scene: Scene, prefixes: list[_Prefix], jump: tuple[float, float]) -> Html:
    key = "" if anomaly.key is None else f" of key {words(anomaly.key, 60)}"
    left_out = f" {scene.clipped:,} further calls are left out." if scene.clipped else ""
    where = {"type": "button", "data-jump": True, "data-x": jump[0], "data-y": jump[1]}
    buttons: list[Html] = [tag("button", where, "Jump to first error")]
    notes: list[Html] = []
    for at, prefix in enumerate(prefixes):
        many = len(prefix.taken)
        if len(prefixes) > 1:
            pressed = {"type": "button", "data-show": at, "aria-pressed": "true" if at == 0 else "false"}
            buttons.append(tag("button", pressed, f"Order {at + 1}: {many} placed"))
        state = words(prefix.state, 120)
        text = f"{many:,} calls{key} can be put in order"
        ends = tag("span", None, f"{text}, which leaves the value ", tag("b", None, state), ".")
        names = "prefix note" if at == 0 else "prefix note hidden"
        notes.append(tag("p", {"class": names, "data-prefix": at}, ends, " No red call can come next.", left_out))
    return join([*notes, tag("p", {"class": "buttons"}, *buttons)])
