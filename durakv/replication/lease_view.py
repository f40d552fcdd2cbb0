"""What a node of lease mode tells operators: the picture of view.py, and who is in sync, for how long, by whose word.

Rule: reads only. The primary alone knows how far the others are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.commands.services import GroupView, LeaseFacts, Member
from durakv.replication.history import History
from durakv.replication.view import checkpoint_facts

if TYPE_CHECKING:
    from durakv.replication.lease_node import LeaseNode


def lease_view(node: LeaseNode) -> GroupView:
    """The picture of this moment."""
    core = node.core
    out = GroupView()
    out.cluster_id = node.transport.cluster_id.hex()
    out.node_id = node.node_id
    out.group_id = core.group
    status = core.status()
    known = core.known
    if node.leading:
        out.role = "leader"
    elif known is not None and node.node_id not in known.isr:
        out.role = "learner"
    else:
        out.role = "follower"
    out.term = core.term
    out.leader_id = node.leader_id
    out.commit_index = core.log.commit
    out.last_index = core.log.last
    out.durable_index = node.log.durable_index()
    stats = node.log.lane.stats
    out.fsync_p99_us = stats.percentile_us(99)
    out.log_bytes = stats.bytes_written
    out.lease_left_ms = status.lease_left_ns // 1_000_000 if node.leading else -1
    match = {peer.node: peer.match for peer in status.peers}
    learners = known.learners if known is not None else ()
    for node_id in node.members.ids:
        address = node.members.book.get(node_id)
        if address is None:
            continue
        member = Member(node_id, address.host, address.client_port, address.peer_port, learner=node_id in learners)
        member.connected = node_id == node.node_id or node.transport.connected(node_id)
        member.match_index = member.stable_index = match.get(node_id, 0)
        if node_id == node.node_id:
            member.match_index = out.last_index
            member.stable_index = out.durable_index
        out.members.append(member)
    out.copies_refusal = node.not_serving()
    out.history = History(node.log, out.commit_index, out.cluster_id, core.group)
    if node.neighbours is not None:
        out.tables = node.neighbours.tables_for
        out.rebalance = node.neighbours.rebalancing
        out.forget_shard = node.neighbours.forget_shard
    if node.checkpoints is not None:
        out.checkpoint = checkpoint_facts(node, node.checkpoints)
    facts = LeaseFacts()
    facts.epoch = status.config_epoch
    facts.isr = status.isr
    facts.learners = status.learners
    facts.min_isr = status.min_isr
    facts.joining = status.joining
    facts.change_open = status.change_open
    facts.forced_epoch = status.forced_epoch
    facts.rebuilding = node.rebuilding()
    facts.pauses = status.pauses
    facts.clock_drops = status.clock_drops
    facts.holder = node.holder.rows()
    out.lease = facts
    return out
