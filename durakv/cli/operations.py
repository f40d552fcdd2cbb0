"""What ``durakv cluster`` does, step by step, each step bounded in time; the click layer only parses and prints.

Rule: every change of ``cluster.json`` happens here, under its lock, and is saved before the process it speaks of can
outlive this one. Failures are ``OperationError`` in one line that names the fix.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from durakv.cli import layout, processes, status
from durakv.cli.client import Client, Refused, Unreachable
from durakv.cli.layout import HOST, Cluster, Node

POLL_S: Final = 0.05
STOP_GRACE_S: Final = 15.0

Say = Callable[[str], None]


class OperationError(Exception):
    """The command could not be carried out."""


class RequestRefused(OperationError):
    """The leader said no: nothing was changed."""


def prepare(root: Path, count: int | None, base_port: int | None, directives: Sequence[str]) -> Cluster:
    """Load the cluster of ``root`` or create and bootstrap a new one; starts nothing."""
    if layout.exists(root):
        cluster = layout.load(root)
        _refuse_changed_shape(cluster, count, base_port, directives)
    else:
        if root.exists() and any(path.name != layout.LOCK_FILE for path in root.iterdir()):
            raise OperationError(f"{root} is in use by something else; choose another --dir or empty it")
        cluster = layout.plan(root, count or 3, base_port or 7000, directives)
        _refuse_taken_ports(cluster.nodes)
        cluster.save()
    if not cluster.bootstrapped:
        _bootstrap(cluster)
    return cluster


def start_stopped(cluster: Cluster) -> list[Node]:
    """Start every node that does not run; returns those started."""
    stopped = [node for node in cluster.nodes if not processes.alive(node)]
    if not stopped:
        raise OperationError(
            f"the cluster in {cluster.root} is already running; see `durakv cluster status --dir {cluster.root}`"
        )
    _refuse_taken_ports(stopped)
    for node in stopped:
        processes.start(cluster, node)
        cluster.save()
    return stopped


def wait_for_leader(cluster: Cluster, password: str, timeout_s: float) -> status.NodeStatus:
    """Wait until one node leads and every running node answers; raises with the log's end when a node has died."""
    deadline = time.monotonic() + timeout_s
    while True:
        for node in cluster.nodes:
            if not processes.alive(node):
                tail = processes.last_lines(cluster.log_file(node))
                raise OperationError(f"{node.name} stopped right after its start; the end of its log:\n{tail}")
        rows = status.survey(cluster, password)
        leader = status.leader_of(rows)
        if leader is not None and leader.health == status.HEALTHY and all(row.role != "down" for row in rows):
            return leader
        if time.monotonic() > deadline:
            states = ", ".join(f"n{row.node_id} {row.role} ({row.health})" for row in rows)
            raise OperationError(
                f"no leader within {timeout_s:.0f} s: {states}; look at {cluster.root}/n*/durakv.log, or allow more"
                " with --timeout"
            )
        time.sleep(POLL_S)


def stop_all(cluster: Cluster, grace_s: float = STOP_GRACE_S) -> tuple[int, list[Node]]:
    """Stop every running node; (how many ran, which had to be killed)."""
    running = sum(1 for node in cluster.nodes if processes.alive(node))
    killed = processes.stop(cluster.nodes, grace_s)
    cluster.save()
    return running, killed


def add_node(cluster: Cluster, port: int | None, password: str, timeout_s: float, say: Say) -> Node:
    """Add one member: learner first, voter once it has caught up."""
    leader = _leader(cluster, password)
    node_id = cluster.next_id
    free = max(node.port for node in cluster.nodes) + 1
    node = Node(node_id, port or free, (port or free) + layout.PEER_PORT_OFFSET, joining=True)
    _refuse_taken_ports([node])
    # Saved first: the id is then never given to another node, and an unanswered request still has its node listed.
    cluster.next_id += 1
    cluster.nodes.append(node)
    cluster.save()
    cluster.write_conf(node)
    try:
        _ask_leader(leader, password, timeout_s, "CLUSTER", "ADDNODE", node_id, f"{HOST}:{node.port}@{node.peer_port}")
    except RequestRefused:
        cluster.nodes.remove(node)
        cluster.save()
        raise
    processes.start(cluster, node)
    cluster.save()
    say(f"{node.name} is a learner on {HOST}:{node.port}; waiting until it has caught up")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not processes.alive(node):
            tail = processes.last_lines(cluster.log_file(node))
            raise OperationError(f"{node.name} stopped right after its start; the end of its log:\n{tail}")
        if status.ask(node, password).role in ("follower", "leader"):
            node.joining = False
            cluster.save()
            return node
        time.sleep(POLL_S)
    raise OperationError(
        f"{node.name} is still a learner after {timeout_s:.0f} s; it goes on catching up, watch it with"
        f" `durakv cluster status --dir {cluster.root} --watch`"
    )


def remove_node(cluster: Cluster, node_id: int, password: str, timeout_s: float) -> Path:
    """Take a member out of the group, then stop it; returns its directory, which is kept."""
    node = cluster.node(node_id)
    if len(cluster.nodes) == 1:
        raise OperationError(f"n{node_id} is the only node; stop it with `durakv cluster stop --dir {cluster.root}`")
    leader = _leader(cluster, password)
    if leader.node_id == node_id:
        successor = next(row for row in status.survey(cluster, password) if row.role == "follower")
        transfer(cluster, successor.node_id, password, timeout_s)
        leader = _leader(cluster, password)
    _ask_leader(leader, password, timeout_s, "CLUSTER", "REMOVENODE", node_id)
    processes.stop([node], STOP_GRACE_S)
    cluster.nodes.remove(node)
    cluster.save()
    return cluster.home(node)


def transfer(cluster: Cluster, node_id: int, password: str, timeout_s: float) -> None:
    """Hand leadership to a voter and wait until it leads."""
    cluster.node(node_id)
    leader = _leader(cluster, password)
    if leader.node_id == node_id:
        return
    _ask_leader(leader, password, timeout_s, "CLUSTER", "TRANSFER", node_id)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        now = status.leader_of(status.survey(cluster, password))
        if now is not None and now.node_id == node_id:
            return
        time.sleep(POLL_S)
    raise OperationError(
        f"n{node_id} did not become leader within {timeout_s:.0f} s; see its lag in `durakv cluster status --dir"
        f" {cluster.root}` and try again"
    )


def _bootstrap(cluster: Cluster) -> None:
    from durakv.founding import bootstrap_cluster  # loads the whole server, which status and stop do not need

    for node in cluster.nodes:
        # Left by a bootstrap that was cut short; no server has ever run on it, or `bootstrapped` would be set.
        if cluster.data_dir(node).exists():
            shutil.rmtree(cluster.data_dir(node))
        cluster.data_dir(node).mkdir(parents=True)
    members = [(node.node_id, HOST, node.port, node.peer_port) for node in cluster.nodes]
    try:
        cluster.cluster_id = bootstrap_cluster([str(cluster.data_dir(node)) for node in cluster.nodes], members)
    except OSError as error:
        raise OperationError(
            f"cannot create data directories: {error}; free the disk or choose another --dir"
        ) from error
    for node in cluster.nodes:
        cluster.write_conf(node)
    cluster.bootstrapped = True
    cluster.save()


def _refuse_changed_shape(
    cluster: Cluster, count: int | None, base_port: int | None, directives: Sequence[str]
) -> None:
    if count is not None and cluster.bootstrapped and count != len(cluster.nodes):
        raise OperationError(
            f"{cluster.root} holds {len(cluster.nodes)} nodes, not {count}; use `durakv cluster add-node` or"
            " `remove-node`, or another --dir"
        )
    if base_port is not None and all(node.port != base_port for node in cluster.nodes):
        raise OperationError(
            f"{cluster.root} was created on port {cluster.nodes[0].port}; leave --base-port out, or use another --dir"
        )
    if directives and list(directives) != cluster.directives:
        raise OperationError(
            f"{cluster.root} was created with other directives; edit its n*/durakv.conf, or use another --dir"
        )


def _refuse_taken_ports(nodes: Sequence[Node]) -> None:
    for node in nodes:
        for port in (node.port, node.peer_port):
            if not processes.port_free(port):
                raise OperationError(
                    f"port {port} is in use; stop what listens there, or choose another port (--base-port, --port)"
                )


def _leader(cluster: Cluster, password: str) -> status.NodeStatus:
    leader = status.leader_of(status.survey(cluster, password))
    if leader is None:
        raise OperationError(
            f"no node of {cluster.root} leads now; look at `durakv cluster status --dir {cluster.root}`, and start"
            f" stopped nodes with `durakv cluster up --dir {cluster.root}`"
        )
    return leader


def _ask_leader(leader: status.NodeStatus, password: str, timeout_s: float, *words: str | int) -> None:
    try:
        with Client(HOST, leader.port, timeout_s=timeout_s, password=password) as client:
            client.call(*words)
    except Refused as error:
        raise RequestRefused(f"n{leader.node_id} refused: {error}") from error
    except Unreachable as error:
        raise OperationError(
            f"n{leader.node_id} did not answer ({error}): the change may or may not have been made; look at"
            " `durakv cluster status` before trying again"
        ) from error
