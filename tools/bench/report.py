"""The text of docs/benchmarks.md from the measured medians.

Rule: pure; everything it prints was handed to it. A row that could not be measured appears with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.bench.measure import Median
from tools.bench.rows import SECTIONS, Row

COUNTERPARTS = {"durakv-3": "durakv-2w", "durakv-always": "durakv-2w-degraded"}
RIVALS = ("valkey", "redis", "etcd")


def render(
    machine: Sequence[str], abouts: Mapping[str, str], medians: Mapping[Row, Median], reasons: Mapping[str, str],
    incidents: Sequence[str], commands: Sequence[str],
) -> str:  # fmt: skip
    """The whole document."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python3 -m tools.dev bench`; do not edit. Medians over interleaved rounds on one machine, load",
        "generator and servers sharing its cores: read the ratios, not the absolute numbers.",
        "",
        "## Machine and method",
        "",
        *(f"- {line}" for line in machine),
        "",
    ]
    for section, title in SECTIONS.items():
        rows = {row: median for row, median in medians.items() if row.section == section}
        if rows:
            lines += [f"## {title}", "", *_table(rows, abouts), ""]
    if incidents:
        lines += ["## Failover, idling, connections", "", *(f"- {line}" for line in incidents), ""]
    if reasons:
        lines += ["## Not measured", "", *(f"- {name}: {reason}" for name, reason in sorted(reasons.items())), ""]
    lines += ["## Commands", "", "```", *commands, "```", ""]
    return "\n".join(lines)


def _table(rows: Mapping[Row, Median], abouts: Mapping[str, str]) -> list[str]:
    out = [
        "| operation | clients | pipeline | target | requests/s | p50 ms | p99 ms | CPU us/request | durakv is |",
        "|---|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for row in sorted(rows, key=lambda r: (_operation(r) != "SET", r.clients * r.pipeline, r.pipeline, r.target)):
        m = rows[row]
        out.append(
            f"| {row.operation} | {row.clients} | {row.pipeline} | {abouts.get(row.target, row.target)} |"
            f" {m.per_s:,.0f} | {m.p50_us / 1000:.3f} | {m.p99_us / 1000:.3f} | {m.cpu_us:.1f} |"
            f" {ratio(row, rows)} |"
        )
    return out


def _operation(row: Row) -> str:
    """Operations that do the same work are compared with each other, however they are spelt."""
    return "GET" if row.operation == "GET" else "SET"


def ratio(row: Row, rows: Mapping[Row, Median]) -> str:
    """On a rival's row: durakv's requests a second over the rival's, generator and shape being the same.

    With a witness the rivals are durakv's own: three nodes for two healthy ones, a single node for the survivor.
    """
    if row.section == "witness":
        for other, median in rows.items():
            if other.target == COUNTERPARTS.get(row.target) and other.clients == row.clients:
                return f"{median.per_s / rows[row].per_s:.2f}x"
        return ""
    if not row.target.startswith(RIVALS):
        return ""
    looped = row.operation not in ("SET", "GET")
    for other, median in rows.items():
        same_shape = (other.clients, other.pipeline) == (row.clients, row.pipeline)
        same_loop = (other.operation not in ("SET", "GET")) == looped
        if other.target.startswith("durakv") and same_shape and same_loop and _operation(other) == _operation(row):
            return f"{median.per_s / rows[row].per_s:.2f}x"
    return "-"
