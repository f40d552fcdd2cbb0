"""CLUSTER: the group as cluster clients see it, and durakv's own membership commands.

Rule: shapes are the cluster protocol's; facts come from the node's GroupView only. In cluster mode its tables show all
groups; otherwise one group owns all slots, its members are its nodes, the leader is the master and the term is the
epoch. A witness is shown by durakv's own commands only: clients would dial it.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.names import node_name, shard_name
from durakv.commands.cluster_log import COMMANDS as _LOG_COMMANDS
from durakv.commands.cluster_migrate import COMMANDS as _MIGRATE_COMMANDS
from durakv.commands.cluster_rebalance import COMMANDS as _REBALANCE_COMMANDS
from durakv.commands.cluster_slots import COMMANDS as _SLOT_COMMANDS
from durakv.commands.connection import NO_CLUSTER
from durakv.commands.context import LocalContext
from durakv.commands.lease import COMMANDS as _LEASE_COMMANDS
from durakv.commands.local_text import help_reply, text
from durakv.commands.services import GroupView, Member
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.slots import SLOTS
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import NO_REPLY, OK, Map, Reply, Verbatim

COMMANDS: Final[Commands] = Commands("cluster")
COMMANDS.declarations.extend(_LEASE_COMMANDS.declarations)
COMMANDS.declarations.extend(_SLOT_COMMANDS.declarations)
COMMANDS.declarations.extend(_LOG_COMMANDS.declarations)
COMMANDS.declarations.extend(_MIGRATE_COMMANDS.declarations)
COMMANDS.declarations.extend(_REBALANCE_COMMANDS.declarations)

LOG_DECIDES: Final = (
    "ERR membership and slots are decided by the group's log; use CLUSTER ADDNODE, CLUSTER REMOVENODE and CLUSTER "
    "TRANSFER"
)
NO_TAKEOVER: Final = (
    "ERR TAKEOVER would lead without a majority's votes and could lose acknowledged writes; use CLUSTER FAILOVER, or "
    "CLUSTER FAILOVER FORCE when no node leads"
)
NO_MIGRATION: Final = (
    "ERR the log of each group says which slots it owns, and slots move with all their keys; use CLUSTER MIGRATESLOTS"
)


class Nodes:
    """What the shapes below need: shown members with names, the leader first then ascending ids."""

    def __init__(self, ctx: LocalContext) -> None:
        view = ctx.node.group()
        self.view: GroupView = view
        shown = sorted((m for m in view.members if not m.witness), key=lambda m: m.node_id)
        voters = [m for m in shown if not m.learner] or shown
        # Without a leader clients still need somebody to ask; every node then names the same one.
        leader_id = view.leader_id or (voters[0].node_id if voters else 0)
        self.leader_id = leader_id
        self.members = sorted(shown, key=lambda m: (m.node_id != leader_id, m.node_id))
        self.names = {m.node_id: node_name(view.cluster_id, m.node_id) for m in shown}
        self.endpoint_type = ctx.node.settings.cluster_preferred_endpoint_type
        # Of all groups, in cluster mode.
        self.tables = view.tables(False) if view.tables is not None else None

    def health(self, m: Member) -> str:
        """online, fail or loading, as far as this node can tell."""
        view = self.view
        if m.node_id == view.node_id:
            return "loading" if view.loading else "online"
        if m.learner and view.role == "leader" and m.match_index < view.commit_index:
            return "loading"
        # Only the leader hears from everybody.
        if view.role == "leader" and not m.connected:
            return "fail"
        return "online"

    def endpoint(self, m: Member) -> bytes | None:
        """What clients should connect to; None means the host they already use."""
        return None if self.endpoint_type == "unknown-endpoint" else m.client_host.encode()

    def by_name(self, name: bytes) -> Member:
        """The member called ``name``. Raises CommandError."""
        wanted = text(name).lower()
        for m in self.members:
            if self.names[m.node_id] == wanted:
                return m
        raise CommandError(f"ERR Unknown node {text(name)}")

    def line(self, m: Member) -> str:
        """A line of CLUSTER NODES."""
        leading = m.node_id == self.leader_id
        me = m.node_id == self.view.node_id
        flags = ("myself," if me else "") + ("master" if leading else "slave")
        failing = self.health(m) == "fail"
        if failing:
            flags += ",fail"
        of = "-" if leading else self.names.get(self.leader_id, "-")
        link = "disconnected" if failing else "connected"
        slots = f" 0-{SLOTS - 1}" if leading else ""
        return (
            f"{self.names[m.node_id]} {m.client_host}:{m.client_port}@{m.peer_port} {flags} {of} 0 0 {self.view.term} "
            f"{link}{slots}"
        )


@COMMANDS.local("CLUSTER|SLOTS", arity=2, since="3.0.0", summary="Which nodes serve which slots.",
                flags="loading stale", tips="nondeterministic_output")  # fmt: skip
def cluster_slots(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: [start, end, [endpoint, port, name, metadata], ...], the leader first. Source: cluster.c."""
    nodes = Nodes(ctx)
    if nodes.tables is not None:
        return nodes.tables.slots()
    serving: list[Reply] = [
        [nodes.endpoint(m), m.client_port, nodes.names[m.node_id].encode(), []]
        for m in nodes.members
        if m.node_id == nodes.leader_id or nodes.health(m) == "online"
    ]
    return [[0, SLOTS - 1, *serving]] if serving else []


@COMMANDS.local("CLUSTER|SHARDS", arity=2, since="7.0.0",
                summary="Which nodes serve which slots, with their health.", flags="loading stale",
                tips="nondeterministic_output")  # fmt: skip
def cluster_shards(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of maps. Source: cluster_legacy.c clusterGenNodesSlotsInfo()."""
    nodes = Nodes(ctx)
    if nodes.tables is not None:
        return nodes.tables.shards()
    view = nodes.view
    shown: list[Reply] = []
    for m in nodes.members:
        leading = m.node_id == nodes.leader_id
        offset = view.applied_index if m.node_id == view.node_id else m.match_index
        endpoint = nodes.endpoint(m)
        shown.append(Map([
            b"id", nodes.names[m.node_id].encode(), b"port", m.client_port, b"ip", m.client_host.encode(),
            b"endpoint", b"" if endpoint is None else endpoint, b"role", b"master" if leading else b"replica",
            b"replication-offset", offset, b"health", nodes.health(m).encode(),
        ]))  # fmt: skip
    name = shard_name(view.cluster_id, view.group_id)
    return [Map([b"slots", [0, SLOTS - 1], b"nodes", shown, b"id", name.encode()])]


@COMMANDS.local("CLUSTER|NODES", arity=2, since="3.0.0", summary="A line per node.",
                flags="loading stale", tips="nondeterministic_output")  # fmt: skip
def cluster_nodes(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text. Source: cluster_legacy.c clusterGenNodeDescription()."""
    nodes = Nodes(ctx)
    if nodes.tables is not None:
        return Verbatim(nodes.tables.nodes())
    return Verbatim("".join(nodes.line(m) + "\n" for m in nodes.members).encode())


@COMMANDS.local("CLUSTER|REPLICAS", arity=3, since="5.0.0",
                summary="The lines of CLUSTER NODES of one node's replicas.", flags="admin stale",
                tips="nondeterministic_output")  # fmt: skip
def cluster_replicas(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of lines."""
    nodes = Nodes(ctx)
    if nodes.by_name(argv[2]).node_id != nodes.leader_id:
        raise CommandError("ERR The specified node is not a master")
    return [nodes.line(m).encode() for m in nodes.members if m.node_id != nodes.leader_id]


@COMMANDS.local("CLUSTER|SLAVES", arity=3, since="3.0.0", summary="The old name of CLUSTER REPLICAS.",
                flags="admin stale", tips="nondeterministic_output")  # fmt: skip
def cluster_slaves(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of lines."""
    return cluster_replicas(ctx, argv)


@COMMANDS.local("CLUSTER|INFO", arity=2, since="3.0.0",
                summary="The state of the cluster as this node sees it.", flags="loading stale",
                tips="nondeterministic_output")  # fmt: skip
def cluster_info(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text. Source: cluster_legacy.c genClusterInfoString()."""
    nodes = Nodes(ctx)
    view = nodes.view
    up = view.leader_id != 0
    lines: list[tuple[str, object]] = nodes.tables.info() if nodes.tables is not None else [
        ("cluster_state", "ok" if up else "fail"), ("cluster_slots_assigned", SLOTS),
        ("cluster_slots_ok", SLOTS if up else 0), ("cluster_slots_pfail", 0 if up else SLOTS),
        ("cluster_slots_fail", 0), ("cluster_known_nodes", len(nodes.members)), ("cluster_size", 1),
        ("cluster_current_epoch", view.term), ("cluster_my_epoch", view.term), ("cluster_stats_messages_sent", 0),
        ("cluster_stats_messages_received", 0), ("total_cluster_links_buffer_limit_exceeded", 0),
    ]  # fmt: skip
    w = view.witness
    if w is not None:
        lines += [("cluster_witness_id", w.node_id), ("cluster_witness_trouble", " ".join(w.trouble.split()))]
        if view.role == "leader":
            lines.append(("cluster_witness_pinned", int(w.pinned)))
    return Verbatim("".join(f"{name}:{value}\r\n" for name, value in lines).encode())


@COMMANDS.local("CLUSTER|MYID", arity=2, since="3.0.0", summary="The name of this node.",
                flags="loading stale")  # fmt: skip
def cluster_myid(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: 40 hex digits."""
    view = Nodes(ctx).view
    return node_name(view.cluster_id, view.node_id).encode()


@COMMANDS.local("CLUSTER|MYSHARDID", arity=2, since="7.2.0", summary="The name of this node's group.",
                flags="loading stale", tips="nondeterministic_output")  # fmt: skip
def cluster_myshardid(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: 40 hex digits."""
    view = Nodes(ctx).view
    return shard_name(view.cluster_id, view.group_id).encode()


@COMMANDS.local("CLUSTER|LINKS", arity=2, since="7.0.0",
                summary="Links between this node and the others.", flags="stale",
                tips="nondeterministic_output")  # fmt: skip
def cluster_links(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of maps, two directions per connected node. Source: cluster_legacy.c."""
    nodes = Nodes(ctx)
    linked = [m for m in nodes.members if m.connected and m.node_id != nodes.view.node_id]
    return [_link(nodes.names[m.node_id], direction) for m in linked for direction in (b"to", b"from")]


def _link(name: str, direction: bytes) -> Reply:
    return Map([
        b"direction", direction, b"node", name.encode(), b"create-time", 0, b"events", b"r",
        b"send-buffer-allocated", 0, b"send-buffer-used", 0,
    ])  # fmt: skip


@COMMANDS.local("CLUSTER|COUNT-FAILURE-REPORTS", arity=3, since="3.0.0",
                summary="Failure reports about a node: none, the group elects its leader.",
                flags="admin stale", tips="nondeterministic_output")  # fmt: skip
def cluster_count_failure_reports(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: 0 for a known node."""
    Nodes(ctx).by_name(argv[2])
    return 0


@COMMANDS.local("CLUSTER|FAILOVER", arity=-2, since="3.0.0",
                summary="Asks the leader to hand over to this node.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_failover(ctx: LocalContext, argv: Argv) -> Reply:
    """The leader is asked; it hands over when this node has caught up. FORCE starts an election if no leader is known.

    Source: cluster_legacy.c clusterCommandSpecial().
    """
    nodes = Nodes(ctx)
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"FORCE", b"TAKEOVER")):
        raise CommandError(SYNTAX)
    if nodes.view.role == "leader":
        raise CommandError("ERR You should send CLUSTER FAILOVER to a replica")
    mode = argv[2].upper() if len(argv) == 3 else b""
    if mode == b"TAKEOVER":
        raise CommandError(NO_TAKEOVER)
    ctx.node.transfer_leadership(nodes.view.node_id, force=mode == b"FORCE")
    return OK


# -- durakv's own ----------------------------------------------------------------------------------------------------


@COMMANDS.local("CLUSTER|ADDNODE", arity=4, since="9.1.0",
                summary="Adds a node to the group as a learner.", flags="no_async_loading admin stale")  # fmt: skip
def cluster_addnode(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER ADDNODE <id> <host:port[@peer-port]>. Answered when the change is committed."""
    ctx.node.change_members(ctx.session, "add-learner", _new_id(argv[2]), text(argv[3]))
    return NO_REPLY


@COMMANDS.local("CLUSTER|ADDWITNESS", arity=4, since="9.1.0",
                summary="Creates a witness's state and adds the witness to the group.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_addwitness(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER ADDWITNESS <id> <tcp://host:port | file:///path | s3://bucket/prefix>. Answered when committed."""
    ctx.node.change_members(ctx.session, "add-witness", _new_id(argv[2]), text(argv[3]))
    return NO_REPLY


@COMMANDS.local("CLUSTER|PROMOTENODE", arity=3, since="9.1.0",
                summary="Makes a learner that has caught up a voter.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_promotenode(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER PROMOTENODE <id>. Answered when the change is committed."""
    ctx.node.change_members(ctx.session, "promote", _member_id(ctx, argv[2]), "")
    return NO_REPLY


@COMMANDS.local("CLUSTER|REMOVENODE", arity=3, since="9.1.0", summary="Removes a node, or the witness, from the group.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_removenode(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER REMOVENODE <id>. Answered when the change is committed."""
    ctx.node.change_members(ctx.session, "remove", _member_id(ctx, argv[2]), "")
    return NO_REPLY


@COMMANDS.local("CLUSTER|TRANSFER", arity=3, since="9.1.0", summary="Hands leadership to a node.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_transfer(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER TRANSFER <id>; 0 means the voter that has caught up best."""
    ctx.node.transfer_leadership(0 if argv[2] == b"0" else _member_id(ctx, argv[2]))
    return OK


@COMMANDS.local("CLUSTER|MEMBERS", arity=2, since="9.1.0",
                summary="The group's members, in and out of cluster mode.", flags="loading stale")  # fmt: skip
def cluster_members(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of maps, ascending ids, witnesses included."""
    view = ctx.node.group()
    out: list[Reply] = []
    for m in sorted(view.members, key=lambda m: m.node_id):
        kind = b"witness" if m.witness else b"learner" if m.learner else b"voter"
        role = b"leader" if m.node_id == view.leader_id else b"follower"
        address = m.client_host if m.witness else f"{m.client_host}:{m.client_port}"
        out.append(Map([
            b"id", m.node_id, b"name", node_name(view.cluster_id, m.node_id).encode(), b"kind", kind, b"role", role,
            b"address", address.encode(), b"peer-port", m.peer_port,
            b"connected", int(m.connected or m.node_id == view.node_id), b"match", m.match_index,
            b"stable", m.stable_index,
        ]))  # fmt: skip
    return out


def _new_id(argument: bytes) -> int:
    if not argument.isdigit() or len(argument) > 10 or not 0 < int(argument) < 1 << 32:
        raise CommandError(f"ERR '{text(argument)}' is not a node id; write its node-id, a number from 1")
    return int(argument)


def _member_id(ctx: LocalContext, argument: bytes) -> int:
    """A member by number or by its 40-digit name. Raises CommandError."""
    view = ctx.node.group()
    wanted = text(argument).lower()
    for m in view.members:
        if wanted in (str(m.node_id), node_name(view.cluster_id, m.node_id)):
            return m.node_id
    raise CommandError(f"ERR Unknown node {text(argument)}; CLUSTER MEMBERS lists all")


# -- refused ---------------------------------------------------------------------------------------------------------


def _log_decides(ctx: LocalContext, argv: Argv) -> Reply:
    if not ctx.node.settings.cluster_enabled:
        raise CommandError(NO_CLUSTER)
    raise CommandError(LOG_DECIDES)


def _no_migration(ctx: LocalContext, argv: Argv) -> Reply:
    if not ctx.node.settings.cluster_enabled:
        raise CommandError(NO_CLUSTER)
    raise CommandError(NO_MIGRATION)


def _refuse(name: str, arity: int, since: str, more_flags: str, *, moves: bool) -> None:
    flags = f"no_async_loading admin stale{more_flags}"
    summary = "Refused: slots move by CLUSTER MIGRATESLOTS." if moves else "Refused: the group's log decides."
    declare = COMMANDS.local(f"CLUSTER|{name}", arity=arity, since=since, summary=summary, flags=flags)
    declare(_no_migration if moves else _log_decides)


_refuse("MEET", -4, "3.0.0", "", moves=False)
_refuse("FORGET", 3, "3.0.0", "", moves=False)
_refuse("REPLICATE", -3, "3.0.0", "", moves=False)
_refuse("SET-CONFIG-EPOCH", 3, "3.0.0", "", moves=False)
_refuse("ADDSLOTS", -3, "3.0.0", "", moves=True)
_refuse("ADDSLOTSRANGE", -4, "7.0.0", "", moves=True)
_refuse("DELSLOTS", -3, "3.0.0", "", moves=True)
_refuse("DELSLOTSRANGE", -4, "7.0.0", "", moves=True)
_refuse("FLUSHSLOTS", 2, "3.0.0", "", moves=True)
_refuse("SETSLOT", -4, "3.0.0", " may_replicate", moves=True)
_refuse("SYNCSLOTS", -3, "9.0.0", " may_replicate", moves=True)


@COMMANDS.local("CLUSTER|BUMPEPOCH", arity=2, since="3.0.0",
                summary="Refused: the epoch is the group's term.", flags="no_async_loading admin stale",
                tips="nondeterministic_output")  # fmt: skip
def cluster_bumpepoch(ctx: LocalContext, argv: Argv) -> Reply:
    """Always refused."""
    return _log_decides(ctx, argv)


@COMMANDS.local("CLUSTER|RESET", arity=-2, since="3.0.0",
                summary="Refused: a node forgets its group only with its data directory.",
                flags="admin stale noscript")  # fmt: skip
def cluster_reset(ctx: LocalContext, argv: Argv) -> Reply:
    """Always refused."""
    return _log_decides(ctx, argv)


@COMMANDS.local("CLUSTER|SAVECONFIG", arity=2, since="3.0.0",
                summary="Accepted; membership is in the durable log.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_saveconfig(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK."""
    Nodes(ctx)
    return OK


@COMMANDS.local("CLUSTER|HELP", arity=2, since="5.0.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def cluster_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("ADDNODE <id> <host:port>", "Add a node as a learner; it becomes a voter once it has caught up."),
        ("ADDWITNESS <id> <address>", "Create a witness's state under an id never used before, and add the witness."),
        ("CANCELSLOTMIGRATIONS", "Cancel the slot migrations that this group is the source of."),
        ("COUNTKEYSINSLOT <slot>", "Number of keys in a slot of the selected database."),
        ("FAILOVER [FORCE]", "Ask the leader to hand over to this node; FORCE: without a leader start an election."),
        ("FORCE-PROMOTE [CONFIRM <id> ...]", "Lease mode: what promoting this node loses; CONFIRM: do it."),
        ("FLUSHSLOT <slot> [ASYNC|SYNC]", "Delete all keys of a slot of the selected database."),
        ("FORGETSHARD <shard-id>", "Forget a shard that owns no slots and will not come back."),
        ("GETKEYSINSLOT <slot> <count>", "Keys of a slot of the selected database."),
        ("GETSLOTMIGRATIONS", "Slot migrations of this group, running and finished."),
        ("INFO", "State of the cluster as this node sees it."),
        ("KEYSLOT <key>", "Slot of a key."),
        ("LINKS", "Links to the other nodes."),
        ("LOGENTRIES <first> <count>", "Committed log entries, for durakv-cli repair --from-peer."),
        ("MEMBERS", "Members of the group, in and out of cluster mode."),
        ("MIGRATESLOTS SLOTSRANGE <start> <end> [<start> <end> ...] NODE <name> ...", "Move slots to a node's group."),
        ("MIGRATIONS FORCE-ABORT <migration>", "Take slots back whose target group is lost for good."),
        ("MIN-ISR <count>", "Lease mode: how many in-sync members a write needs from now on."),
        ("MYID", "Name of this node."),
        ("MYSHARDID", "Name of this node's group."),
        ("NODES", "A line per node."),
        ("PROMOTENODE <id>", "Make a learner that has caught up a voter."),
        ("REBALANCE (PLAN|STATUS|RESUME)", "Slots that should move, what the rebalancer does, go on after a stop."),
        ("REMOVENODE <id>", "Remove a node, or the witness, from the group."),
        ("REPLICAS <name>", "Lines of a node's replicas."),
        ("SHARDS", "Nodes and slots, with health."),
        ("SLOT-STATS (SLOTSRANGE <start> <end> | ORDERBY <metric> [LIMIT <n>] [ASC|DESC])", "Use of slots."),
        ("SLOTS", "Nodes and slots."),
        ("TRANSFER <id>", "Hand leadership to a node; 0 for the best."),
    ])  # fmt: skip
