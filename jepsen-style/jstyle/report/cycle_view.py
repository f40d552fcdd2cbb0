"""A cycle of transactions as a graph, and edge by edge in words: "T1 < T2 because ...".

Transactions stand in two columns, down the left and up the right, so that a cycle of any length is a ring. Rule: draws
what the checker says (``cycle``, ``component``); it infers no edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jstyle.checkers.verdict import Anomaly
from jstyle.history.op import Call, Op, calls
from jstyle.report.markup import Html, join, shortened, tag, words
from jstyle.report.scene import micro, tip

_WIDTH: Final = 1040
_BOX: Final = 320
_LINE_PX: Final = 17
_HEAD_PX: Final = 26
_GAP_PX: Final = 56
_MICROS: Final = 6
_TXNS: Final = 24
_CHARS: Final = 44

KINDS: Final = {
    "ww": "wrote over what the other wrote",
    "wr": "was read by",
    "rw": "read what the other then changed",
    "process": "came first in the same process",
    "realtime": "was done before the other began",
}

Point = tuple[float, float]


def can_draw(anomaly: Anomaly) -> bool:
    """Whether the anomaly is a cycle, or transactions that are in one."""
    data = anomaly.data
    return bool(steps_of(anomaly)) or (isinstance(data, Mapping) and isinstance(data.get("component"), list))


def steps_of(anomaly: Anomaly) -> list[Mapping[str, Any]]:
    """The edges of the cycle, each with the operation it leaves; empty when the anomaly is none."""
    cycle = anomaly.data.get("cycle") if isinstance(anomaly.data, Mapping) else None
    if not isinstance(cycle, list):
        return []
    return [step for step in cycle if isinstance(step, Mapping) and type(step.get("op")) is int]


def cycle_view(history: Sequence[Op], anomaly: Anomaly, number: int) -> Html:
    """The graph and the sentences of an anomaly that ``can_draw``."""
    assert isinstance(anomaly.data, Mapping)
    steps = steps_of(anomaly)
    by_op: dict[int, Call] = {}
    for call in calls(history):
        by_op[call.start.index] = call
        if call.done is not None:
            by_op[call.done.index] = call
    ruled = anomaly.data.get("rules_out")
    models = [words(model) for model in ruled] if isinstance(ruled, list | tuple) else []
    out = tag("p", {"class": "note"}, "This rules out ", join(_listed(models)), ".") if models else Html("")
    if not steps:
        return join([_unfinished(anomaly, by_op), out])
    graph = _graph(steps, by_op, number) if len(steps) <= _TXNS else _too_long(len(steps))
    sentences = [_sentence(step, steps[(at + 1) % len(steps)]) for at, step in enumerate(steps)]
    return join([graph, tag("ol", {"class": "because"}, *sentences), out])


def _listed(models: list[str]) -> list[object]:
    parts: list[object] = []
    for at, model in enumerate(models):
        parts += ([" and "] if at else []) + [tag("b", None, model)]
    return parts + ([" and all that is stronger"] if models else [])


def _too_long(count: int) -> Html:
    return tag("p", {"class": "note"}, f"The cycle has {count} transactions, too many to draw; here are its edges.")


def _kind(step: Mapping[str, Any]) -> str:
    """The edge's class: its kind without what refines it."""
    name = str(step.get("edge") or "")
    base = name.split("-", maxsplit=1)[0].split("/", maxsplit=1)[0].lower()
    return base if base in KINDS else "realtime" if "time" in name else "other"


def _sentence(step: Mapping[str, Any], after: Mapping[str, Any]) -> Html:
    badge = tag("span", {"class": f"edge {_kind(step)}"}, words(step.get("edge"), 20))
    names = tag("b", None, f"T{step['op']} < T{after['op']}")
    return tag("li", None, badge, " ", names, f" because {words_of(step.get('why'))}")


def words_of(value: object) -> str:
    """A sentence of a checker as it is, anything else in words."""
    return shortened(value, 1200) if isinstance(value, str) else words(value)


def _unfinished(anomaly: Anomaly, by_op: Mapping[int, Call]) -> Html:
    assert isinstance(anomaly.data, Mapping)
    ops = [index for index in anomaly.data["component"] if type(index) is int]
    chips = [
        tag("span", {"class": "chip", "data-tip": tip(by_op[index]) if index in by_op else None}, f"T{index}")
        for index in ops[:200]
    ]
    more = f" and {len(ops) - 200} more" if len(ops) > 200 else ""
    text = f"Each of these {len(ops)} transactions comes before itself; the search ended before it found a short cycle:"
    return join([tag("p", {"class": "note"}, text), tag("p", {"class": "chips"}, *chips, more)])


# -- the graph ---------------------------------------------------------------------------------------------------------


class _Node:
    """A transaction's box."""

    def __init__(self, index: int, call: Call | None) -> None:
        self.index = index
        self.call = call
        self.lines = _lines(call)
        self.height = _HEAD_PX + _LINE_PX * len(self.lines) + 8.0
        self.x = self.y = 0.0
        self.right = False

    def draw(self) -> Html:
        who = f"T{self.index}"
        about = f"process {self.call.start.process}, {self.call.outcome}" if self.call is not None else ""
        rect = tag("rect", {"x": self.x, "y": self.y, "width": _BOX, "height": self.height, "rx": 8})
        name = tag("text", {"class": "who", "x": self.x + 12, "y": self.y + 19}, who)
        place = {"class": "about", "x": self.x + _BOX - 12, "y": self.y + 19, "text-anchor": "end"}
        body = [
            tag("text", {"x": self.x + 12, "y": self.y + _HEAD_PX + 12 + _LINE_PX * at}, line)
            for at, line in enumerate(self.lines)
        ]
        hint = tip(self.call) if self.call is not None else None
        return tag("g", {"class": "txn", "data-tip": hint}, rect, name, tag("text", place, about), *body)


def _lines(call: Call | None) -> list[str]:
    if call is None:
        return ["not in this history"]
    value = call.start.value
    if call.done is not None and call.done.type == "ok" and call.done.value is not None:
        value = call.done.value
    steps = value if isinstance(value, list | tuple) else [value]
    lines = [shortened(micro(step), _CHARS) for step in steps[:_MICROS]]
    return lines + ([f"… {len(steps) - _MICROS} more"] if len(steps) > _MICROS else [])


def _graph(steps: Sequence[Mapping[str, Any]], by_op: Mapping[int, Call], number: int) -> Html:
    nodes = [_Node(step["op"], by_op.get(step["op"])) for step in steps]
    half = (len(nodes) + 1) // 2
    left, right = nodes[:half], nodes[half:]
    height = max(_column(left, 8.0), _column(list(reversed(right)), _WIDTH - _BOX - 8.0))
    for column in (left, right):
        spare = (height - max((node.y + node.height for node in column), default=height)) / 2
        for node in column:
            node.y += spare
            node.right = column is right
    pad = 44.0 if len(nodes) == 2 else 12.0
    for node in nodes:
        node.y += pad
    count = len(nodes)
    edges = [_edge(step, nodes[at], nodes[(at + 1) % count], at, number, count) for at, step in enumerate(steps)]
    kinds = sorted({_kind(step) for step in steps})
    markers = tag("defs", None, *[_marker(kind, number) for kind in kinds])
    height += 2 * pad
    frame = {"class": "cycle", "viewBox": f"0 0 {_WIDTH} {height:.0f}", "role": "img", "aria-label": "the cycle"}
    return tag("div", {"class": "graph"}, tag("svg", frame, markers, *[n.draw() for n in nodes], *edges))


def _column(nodes: Sequence[_Node], x: float) -> float:
    y = 0.0
    for node in nodes:
        node.x, node.y = x, y
        y += node.height + _GAP_PX
    return max(y - _GAP_PX, 0.0)


def _marker(kind: str, number: int) -> Html:
    shape = tag("path", {"class": f"head {kind}", "d": "M0 0L9 4.5L0 9z"})
    size = {"markerWidth": 9, "markerHeight": 9, "refX": 8, "refY": 4.5, "markerUnits": "userSpaceOnUse"}
    return tag("marker", {"id": f"arrow-{number}-{kind}", "orient": "auto", **size}, shape)


def _edge(step: Mapping[str, Any], one: _Node, two: _Node, at: int, number: int, count: int) -> Html:
    kind = _kind(step)
    path, middle = _curve(one, two, at, count)
    line = tag("path", {"class": f"link {kind}", "d": path, "marker-end": f"url(#arrow-{number}-{kind})"})
    key = step.get("key")
    name = words(step.get("edge"), 16) + ("" if key is None else f"  {words(key, 18)}")
    wide = 7.2 * len(name) + 16
    back = {"x": middle[0] - wide / 2, "y": middle[1] - 11, "width": wide, "height": 22, "rx": 11}
    label = tag("text", {"x": middle[0], "y": middle[1] + 4, "text-anchor": "middle"}, name)
    hint = f"T{one.index} < T{two.index} because {words_of(step.get('why'))}"
    return tag("g", {"class": f"tie {kind}", "data-tip": hint}, line, tag("rect", back), label)


def _curve(one: _Node, two: _Node, at: int, count: int) -> tuple[str, Point]:
    """The path of an edge and where its label is."""
    if one.right == two.right:
        down = two.y > one.y
        x = one.x + _BOX / 2
        begin = one.y + one.height if down else one.y
        end = two.y if down else two.y + two.height
        return f"M{x:.1f} {begin:.1f}L{x:.1f} {end:.1f}", (x, (begin + end) / 2)
    begin_x = one.x if one.right else one.x + _BOX
    end_x = two.x if two.right else two.x + _BOX
    # Between two boxes alone the way there is above and the way back below.
    bow = 0.0 if count > 2 else (-34.0 if at % 2 == 0 else 34.0)
    shift = -9.0 if bow < 0 else 9.0 if bow > 0 else 0.0
    y1, y2 = one.y + one.height / 2 + shift, two.y + two.height / 2 + shift
    mid_x, mid_y = (begin_x + end_x) / 2, (y1 + y2) / 2
    path = f"M{begin_x:.1f} {y1:.1f}Q{mid_x:.1f} {mid_y + 2 * bow:.1f} {end_x:.1f} {y2:.1f}"
    return path, (mid_x, mid_y + bow)
