"""What a node tells operators of its group: role, positions in the log, and the members as it sees them.

Rule: reads only. The leader alone knows how far the others are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.commands.services import CheckpointFacts, GroupView, Member, WitnessFacts
from durakv.replication.history import History
from raft.types import Role

if TYPE_CHECKING:
    from durakv.replication.checkpoints import Checkpoints
    from durakv.replication.lease_node import LeaseNode
    from durakv.replication.node import GroupNode


def group_view(node: GroupNode) -> GroupView:
    """The picture of this moment."""
    core = node.core
    out = GroupView()
    out.cluster_id = node.transport.cluster_id.hex()
    out.node_id = node.node_id
    out.group_id = core.config.group
    membership = core.membership
    if node.leading:
        out.role = "leader"
    elif node.node_id in membership.learners:
        out.role = "learner"
    elif core.role == Role.FOLLOWER:
        out.role = "follower"
    else:
        out.role = "candidate"
    out.term = core.term
    out.leader_id = node.leader_id
    out.commit_index = core.log.commit
    out.last_index = core.log.last
    out.durable_index = node.log.durable_index()
    stats = node.log.lane.stats
    out.fsync_p99_us = stats.percentile_us(99)
    out.log_bytes = stats.bytes_written
    match = {peer.node: peer.match for peer in core.status().peers} if node.leading else {}
    for node_id in membership.members():
        address = node.members.book.get(node_id)
        if address is None:
            continue
        member = Member(
            node_id, address.host, address.client_port, address.peer_port, learner=node_id in membership.learners
        )
        member.connected = node_id == node.node_id or node.transport.connected(node_id)
        member.match_index = member.stable_index = match.get(node_id, 0)
        if node_id == node.node_id:
            member.match_index = out.last_index
            member.stable_index = out.durable_index
        out.members.append(member)
    if node.witness.node_id:
        _add_witness(node, out)
    out.copies_refusal = node.copies.refusal() or ""
    out.history = History(node.log, out.commit_index, out.cluster_id, core.config.group)
    if node.neighbours is not None:
        out.tables = node.neighbours.tables_for
        out.rebalance = node.neighbours.rebalancing
        out.forget_shard = node.neighbours.forget_shard
    if node.checkpoints is not None:
        out.checkpoint = checkpoint_facts(node, node.checkpoints)
    return out


def checkpoint_facts(node: GroupNode | LeaseNode, checkpoints: Checkpoints) -> CheckpointFacts:
    """How far the node's checkpoint is."""
    facts = CheckpointFacts()
    facts.index = checkpoints.saved_index
    facts.age_ms = max(0, node.clock.wall_ms() - checkpoints.saved_ms)
    facts.lag_bytes = checkpoints.lag_bytes()
    facts.bytes = checkpoints.used_bytes
    facts.commits = checkpoints.saves
    facts.last_ms = checkpoints.duration_ms
    facts.failed = checkpoints.last_failed
    facts.snapshots_installed = node.snapshots.installs if node.snapshots is not None else 0
    facts.log_first_index = node.log.first_index()
    facts.log_bytes = node.log.bytes_held()
    return facts


def _add_witness(node: GroupNode, out: GroupView) -> None:
    port = node.witness
    member = Member(port.node_id, port.address, 0, 0, witness=True)
    # It holds no connection for nothing; it counts as there unless it is known not to be.
    member.connected = not port.trouble
    out.members.append(member)
    facts = WitnessFacts(port.node_id, port.address)
    facts.asked = port.asked()
    facts.state_bytes = port.link.bytes if port.link is not None else 0
    facts.trouble = port.trouble
    if node.leading:
        now = node.core.witness_state()
        facts.replication_set = now.replication_set
        facts.subterm = now.subterm
        facts.engaged = now.engaged
        facts.pinned = now.pinned
        facts.copies = node.core.copies(node.core.log.commit)
    out.witness = facts
