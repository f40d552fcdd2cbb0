"""What each node of a local cluster says about itself, as data and as a table.

Rule: the only place that knows which INFO fields the command line reads. Rates come from two samples. Knows nothing of
processes: a node that does not answer is ``down``, whatever the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from durakv.cli.client import Client, Refused, Unreachable
from durakv.cli.layout import HOST, Cluster, Node

ANSWER_TIMEOUT_S: Final = 1.0
LAG_WARN: Final = 1000
HEALTHY: Final = "ok"


class NodeStatus:
    """One row. Numbers are None where the node did not say; ``health`` is ``ok`` or one short reason."""

    __slots__ = (
        "applied", "clients", "commit", "fsync_p99_us", "health", "leader_id", "node_id", "ops_per_s", "port", "role",
        "term",
    )  # fmt: skip

    def __init__(self, node_id: int, port: int) -> None:
        self.node_id = node_id
        self.port = port
        self.role = "down"
        self.leader_id: int | None = None
        self.term: int | None = None
        self.commit: int | None = None
        self.applied: int | None = None
        self.fsync_p99_us: int | None = None
        self.clients: int | None = None
        self.ops_per_s: int | None = None
        self.health = "no answer"

    def as_json(self) -> dict[str, Any]:
        """The row for ``--json``; the address is spelt out for scripts."""
        fields = {name: getattr(self, name) for name in sorted(self.__slots__)}
        return {**fields, "address": f"{HOST}:{self.port}"}


def status_of(node_id: int, port: int, fields: dict[str, str]) -> NodeStatus:
    """Read a node's INFO fields into a row."""
    row = NodeStatus(node_id, port)
    row.role = fields.get("durakv_role") or {"master": "leader", "slave": "follower"}.get(fields.get("role", ""), "?")
    row.leader_id = _number(fields.get("durakv_leader_id"))
    row.term = _number(fields.get("durakv_term"))
    row.commit = _number(fields.get("durakv_commit_index"))
    row.applied = _number(fields.get("durakv_applied_index"))
    row.fsync_p99_us = _number(fields.get("durakv_fsync_p99_usec"))
    row.clients = _number(fields.get("connected_clients"))
    row.ops_per_s = _number(fields.get("instantaneous_ops_per_sec"))
    row.health = health_of(row, fields)
    return row


def health_of(row: NodeStatus, fields: dict[str, str]) -> str:
    """The most important thing that is wrong, or ``ok``."""
    if fields.get("loading", "0") != "0":
        return "loading"
    refusal = fields.get("durakv_writes_refused", "no")
    if refusal != "no":
        return refusal
    if row.leader_id == 0:
        return "no leader"
    if row.commit is not None and row.applied is not None and row.commit - row.applied > LAG_WARN:
        return "applying late"
    return HEALTHY


def ask(node: Node, password: str = "") -> NodeStatus:
    """One node's row; never raises for a node that does not answer."""
    try:
        with Client(HOST, node.port, timeout_s=ANSWER_TIMEOUT_S, password=password) as client:
            return status_of(node.node_id, node.port, client.info())
    except Unreachable:
        return NodeStatus(node.node_id, node.port)
    except Refused as error:
        row = NodeStatus(node.node_id, node.port)
        row.role = "?"
        row.health = str(error)
        return row


def survey(cluster: Cluster, password: str = "") -> list[NodeStatus]:
    """All rows, in node order."""
    return [ask(node, password) for node in cluster.nodes]


def leader_of(rows: Sequence[NodeStatus]) -> NodeStatus | None:
    """The node that leads in the highest term; a deposed leader that has not noticed yet is passed over."""
    leaders = [row for row in rows if row.role == "leader"]
    return max(leaders, key=lambda row: row.term or 0) if leaders else None


def lag_of(row: NodeStatus, leader: NodeStatus | None) -> int | None:
    """Entries the node has yet to apply of what the leader has committed."""
    if leader is None or leader.commit is None or row.applied is None:
        return None
    return max(0, leader.commit - row.applied)


def document(cluster: Cluster, rows: Sequence[NodeStatus]) -> dict[str, Any]:
    """The ``--json`` form."""
    leader = leader_of(rows)
    return {
        "cluster_id": cluster.cluster_id,
        "dir": str(cluster.root),
        "leader": leader.node_id if leader else None,
        "nodes": [{**row.as_json(), "lag": lag_of(row, leader)} for row in rows],
    }


def table(cluster: Cluster, rows: Sequence[NodeStatus]) -> Table:
    """The human form."""
    leader = leader_of(rows)
    out = Table(
        box=box.SIMPLE_HEAD,
        # Eleven columns have to fit a terminal of 80.
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=f"cluster {cluster.cluster_id[:8] or '-'} in {cluster.root}",
        title_justify="left",
    )
    for heading, side in (
        ("node", "left"), ("port", "right"), ("role", "left"), ("term", "right"), ("commit", "right"),
        ("applied", "right"), ("lag", "right"), ("fsync99", "right"), ("clients", "right"), ("ops/s", "right"),
        ("health", "left"),
    ):  # fmt: skip
        out.add_column(heading, justify="right" if side == "right" else "left", no_wrap=heading != "health")
    for row in rows:
        fsync = "-" if row.fsync_p99_us is None else f"{row.fsync_p99_us / 1000:.1f}ms"
        out.add_row(
            f"n{row.node_id}",
            str(row.port),
            Text(row.role, style={"leader": "bold green", "down": "red"}.get(row.role, "")),
            _shown(row.term),
            _shown(row.commit),
            _shown(row.applied),
            _shown(lag_of(row, leader)),
            fsync,
            _shown(row.clients),
            _shown(row.ops_per_s),
            Text(row.health, style="green" if row.health == HEALTHY else "red"),
        )
    return out


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)
