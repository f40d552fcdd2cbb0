"""What each node of a local cluster says about itself and about the witness, as data and as a table.

Rule: the only place that knows which INFO fields the command line reads. Rates come from two samples. Knows nothing of
processes: a node that does not answer is ``down``, whatever the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from durakv.cli.client import Client, Refused, Unreachable, answers
from durakv.cli.layout import HOST, Cluster, Node, Witness

ANSWER_TIMEOUT_S: Final = 1.0
LAG_WARN: Final = 1000
HEALTHY: Final = "ok"
# INFO's fields that speak of the witness; only the leader has those of the second line.
_WITNESS_FIELDS: Final = (
    "witness_id", "witness_address", "witness_messages_sent", "witness_trouble", "witness_state_bytes",
    "replication_set", "subterm", "witness_engaged", "pinned", "newest_write_copies",
)  # fmt: skip


# INFO's fields of lease mode.
_LEASE_FIELDS: Final = (
    "replication_mode", "epoch", "isr", "min_isr", "candidates", "joining", "lease_left_ms", "forced_epoch",
    "rebuilding", "holder_kind", "holder_leader", "holder_last_answer_ms", "holder_trouble",
)  # fmt: skip


class NodeStatus:
    """One row. Numbers are None where the node did not say; ``health`` is ``ok`` or one short reason."""

    __slots__ = (
        "applied", "clients", "commit", "fsync_p99_us", "health", "leader_id", "lease", "node_id", "ops_per_s", "port",
        "role", "term", "witness",
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
        # What it says of the witness, as INFO has it.
        self.witness: dict[str, str] = {}
        # What it says of lease mode, likewise; empty in Raft mode.
        self.lease: dict[str, str] = {}

    def as_json(self) -> dict[str, Any]:
        """The row for ``--json``; the address is spelt out for scripts."""
        fields = {name: getattr(self, name) for name in sorted(self.__slots__) if name not in ("witness", "lease")}
        if self.lease:
            fields["lease"] = self.lease
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
    row.witness = {name: fields[name] for name in _WITNESS_FIELDS if name in fields}
    row.lease = {name: fields[name] for name in _LEASE_FIELDS if name in fields}
    return row


class WitnessStatus:
    """The witness, as the nodes know it; numbers are None where nobody said.

    ``replication_set``: whose acknowledgements commit. ``copies``: full nodes with the newest committed write.
    ``messages``: questions of all nodes since they started. ``health`` is ``ok`` or what is wrong.
    """

    __slots__ = (
        "address", "copies", "engaged", "health", "messages", "node_id", "pinned", "replication_set", "state_bytes",
        "subterm",
    )  # fmt: skip

    def __init__(self, node_id: int, address: str) -> None:
        self.node_id = node_id
        self.address = address
        self.health = HEALTHY
        self.messages: int | None = None
        self.state_bytes: int | None = None
        self.replication_set: list[int] | None = None
        self.subterm: int | None = None
        self.engaged: bool | None = None
        self.pinned: bool | None = None
        self.copies: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The object for ``--json``."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


def witness_of(cluster: Cluster, rows: Sequence[NodeStatus]) -> WitnessStatus | None:
    """The group's witness, None without one; asks its process whether it is there."""
    telling = [row.witness for row in rows if row.witness]
    known = cluster.witness
    if known is not None:
        out = WitnessStatus(known.node_id, known.address)
    elif telling:
        out = WitnessStatus(_number(telling[0].get("witness_id")) or 0, telling[0].get("witness_address", ""))
    else:
        return None
    if telling:
        out.messages = sum(_number(each.get("witness_messages_sent")) or 0 for each in telling)
        out.state_bytes = max((_number(each.get("witness_state_bytes")) or 0 for each in telling), default=0)
        troubles = [each["witness_trouble"] for each in telling if each.get("witness_trouble")]
        out.health = troubles[0] if troubles else HEALTHY
    leader = leader_of(rows)
    if leader is not None and leader.witness:
        said = leader.witness
        out.replication_set = [int(n) for n in said.get("replication_set", "").split(",") if n.isdigit()]
        out.subterm = _number(said.get("subterm"))
        out.engaged = said.get("witness_engaged") == "1"
        out.pinned = said.get("pinned") == "1"
        out.copies = _number(said.get("newest_write_copies"))
    if known is not None and known.port:
        out.health = _process_trouble(cluster, known) or out.health
    return out


def _process_trouble(cluster: Cluster, known: Witness) -> str:
    """What is wrong with a witness's process; empty when it is there and has the state. Nodes at rest cannot know."""
    # Only needed here, and not cheap to load.
    from durakv.cli.witness import WitnessError, status
    from durakv.witness.errors import lost_text

    if not answers(HOST, known.port, ANSWER_TIMEOUT_S):
        return f"down; start it with `durakv cluster up --dir {cluster.root}`"
    try:
        document = status(f"{HOST}:{known.port}")
    except WitnessError as error:
        return f"down; {error}"
    groups = document.get("groups")
    for row in groups if isinstance(groups, list) else []:
        if (row.get("cluster_id"), row.get("witness_id")) == (cluster.cluster_id, known.node_id):
            trouble = str(row.get("trouble", ""))
            return lost_text(known.node_id, known.address, trouble) if trouble else ""
    return lost_text(known.node_id, known.address, "its process has no state of this cluster")


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
    witness = witness_of(cluster, rows)
    return {
        "cluster_id": cluster.cluster_id,
        "dir": str(cluster.root),
        "leader": leader.node_id if leader else None,
        "nodes": [{**row.as_json(), "lag": lag_of(row, leader)} for row in rows],
        "witness": witness.as_json() if witness is not None else None,
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
    witness = witness_of(cluster, rows)
    if witness is not None:
        _add_witness(out, cluster, witness, leader)
    if cluster.is_lease():
        _add_lease(out, cluster, rows, leader)
    return out


def _add_lease(out: Table, cluster: Cluster, rows: Sequence[NodeStatus], leader: NodeStatus | None) -> None:
    arbiter = cluster.arbiter
    if arbiter is not None:
        health = HEALTHY if answers(HOST, arbiter.port, ANSWER_TIMEOUT_S) else "down"
        style = "green" if health == HEALTHY else "red"
        out.add_row(f"a{arbiter.node_id}", str(arbiter.port), "arbiter", *("-" for _ in range(7)), Text(health, style))
    telling = leader if leader is not None else next((row for row in rows if row.lease), None)
    said = telling.lease if telling is not None else {}
    caption = Text("lease mode", style="default")
    if said:
        names = "+".join(f"n{n}" for n in said.get("isr", "").split(",") if n) or "nobody known"
        caption.append(f": epoch {said.get('epoch', '-')}, in sync {names} (min-isr {said.get('min_isr', '-')})")
        if leader is not None:
            caption.append(f", lease left {said.get('lease_left_ms', '-')} ms")
        trouble = said.get("holder_trouble", "")
        caption.append(f"\nconfig holder: {said.get('holder_kind', '-')}")
        if cluster.holder:
            caption.append(f", member {said.get('holder_leader', '-')} leads")
        caption.append(f"\n{trouble}" if trouble else ", ok", style="red" if trouble else "green")
    caption.append("\n")
    out.caption = caption
    out.caption_justify = "left"


def _add_witness(out: Table, cluster: Cluster, witness: WitnessStatus, leader: NodeStatus | None) -> None:
    port = cluster.witness.port if cluster.witness is not None else 0
    # A long trouble goes below the table, where there is room for it.
    health = witness.health if witness.health == HEALTHY else "see below"
    out.add_row(
        f"w{witness.node_id}", str(port or "-"), "witness", *("-" for _ in range(7)),
        Text(health, style="green" if witness.health == HEALTHY else "red"),
    )  # fmt: skip
    caption = Text(f"witness {witness.address}", style="default")
    caption.append(f", state {_shown(witness.state_bytes)} bytes, messages {_shown(witness.messages)}\n")
    if leader is not None and witness.replication_set is not None:
        names = "+".join(f"{'w' if n == witness.node_id else 'n'}{n}" for n in witness.replication_set)
        stands = "pinned" if witness.pinned else "not pinned"
        caption.append(f"new writes go to {names} (subterm {_shown(witness.subterm)}, {stands})")
        caption.append(f", copies of the newest: {_shown(witness.copies)}\n")
        if witness.pinned:
            caption.append(
                f"PINNED: only n{leader.node_id} has the newest writes and can lead; start the other node\n",
                style="red",
            )
    if witness.health != HEALTHY:
        caption.append(f"{witness.health}\n", style="red")
    out.caption = caption
    out.caption_justify = "left"


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)
