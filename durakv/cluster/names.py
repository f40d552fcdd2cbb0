"""The 40-digit names under which cluster clients know nodes and shards.

Rule: derived from the cluster id and the node's number alone, so every node names everybody alike without asking.
"""

from __future__ import annotations

import hashlib


def node_name(cluster_id: str, node_id: int) -> str:
    """A node's name: 40 hex digits."""
    return hashlib.sha1(f"node:{cluster_id}:{node_id}".encode()).hexdigest()


def shard_name(cluster_id: str, group_id: int = 1) -> str:
    """A replication group's name: 40 hex digits."""
    return hashlib.sha1(f"shard:{cluster_id}:{group_id}".encode()).hexdigest()
