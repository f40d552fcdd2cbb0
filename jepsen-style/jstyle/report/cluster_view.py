"""Each node over time: its role as colour, a mark where its term changes, its commit index as a line.

Rule: between two samples of a node nothing is known to have changed, so each holds until the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from jstyle.report.markup import Html, join, shortened, tag
from jstyle.report.model import Sample
from jstyle.report.scene import moment
from jstyle.report.strips import RIGHT, WIDTH, Axis, strip

_ROW_PX: Final = 44
_BAND_PX: Final = 34
_PARTS: Final = 1500
_ROLES: Final = ("leader", "candidate", "follower", "down")


def role_class(role: str) -> str:
    """The class that colours a role."""
    if role in {"pre-candidate", "candidate"}:
        return "candidate"
    return role if role in _ROLES else "follower"


def cluster_view(samples: Sequence[Sample], axis: Axis) -> Html:
    """All nodes, one row each."""
    by_node: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.time_ns):
        by_node.setdefault(sample.node, []).append(sample)
    height = _ROW_PX * len(by_node)
    highest = max((sample.commit for sample in samples), default=0)
    rows = [_row(axis, node, by_node[node], at * _ROW_PX, highest) for at, node in enumerate(sorted(by_node))]
    picture = strip(height, "nodes over time", axis.grid(height), *rows)
    keys = [tag("span", {"class": "key"}, tag("i", {"class": f"swatch {role}"}), role) for role in _ROLES]
    keys.append(tag("span", {"class": "key"}, tag("i", {"class": "swatch commit"}), f"commit index, up to {highest}"))
    legend = tag("p", {"class": "legend"}, *keys)
    return join([tag("div", {"class": "strips", "data-end": axis.end_ns}, picture, axis.ruler()), legend])


def _row(axis: Axis, node: str, found: list[Sample], top: int, highest: int) -> Html:
    bottom = top + 4 + _BAND_PX
    parts: list[Html] = [tag("text", {"class": "row", "x": 0, "y": top + 25}, shortened(node, 15))]
    bands = _bands(found)
    for band, after in pairwise([*bands, Sample(axis.end_ns, node, "", 0)]):
        left = axis.x(band.time_ns)
        wide = axis.x(after.time_ns) - left
        tip = f"{node}: {band.role} in term {band.term}\nfrom {moment(band.time_ns)} until {moment(after.time_ns)}"
        place = {"x": left, "y": top + 4, "width": max(wide, 0.8), "height": _BAND_PX}
        parts.append(tag("rect", {"class": f"role {role_class(band.role)}", "data-tip": tip, **place}))
    term, free_px = -1, 0.0
    for band in bands:
        left = axis.x(band.time_ns)
        if band.term != term and band.role != "down":
            term = band.term
            parts.append(tag("line", {"class": "term", "x1": left, "x2": left, "y1": top + 4, "y2": bottom}))
            if left >= free_px:
                parts.append(tag("text", {"class": "term", "x": left + 4, "y": top + 16}, f"t{term}"))
                free_px = left + 34
    return tag("g", None, *parts, _commits(axis, found, bottom, highest))


def _bands(found: list[Sample]) -> list[Sample]:
    """The samples at which role or term changed."""
    bands: list[Sample] = []
    for sample in found:
        if not bands or (bands[-1].role, bands[-1].term) != (sample.role, sample.term):
            bands.append(sample)
    return bands[:_PARTS]


def _commits(axis: Axis, found: list[Sample], bottom: float, highest: int) -> Html:
    if highest <= 0:
        return Html("")
    path: list[str] = []
    up = False
    last_x = -2.0
    for sample in found:
        if sample.commit < 0:
            if up:
                path.append(f"H{axis.x(sample.time_ns):.1f}")
            up = False
            continue
        x, y = axis.x(sample.time_ns), bottom - 2 - (_BAND_PX - 6) * sample.commit / highest
        if up and x - last_x < 1.0:
            continue
        path.append(f"H{x:.1f}V{y:.1f}" if up else f"M{x:.1f} {y:.1f}")
        up, last_x = True, x
    if up:
        path.append(f"H{WIDTH - RIGHT}")
    line = "".join(path)
    return join([tag("path", {"class": f"commit{halo}", "d": line}) for halo in (" halo", "")]) if path else Html("")
