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
from durakv.cli.layout import HOST, Cluster, Member, Node, Witness

POLL_S: Final = 0.05
STOP_GRACE_S: Final = 15.0

Say = Callable[[str], None]


class OperationError(Exception):
    """The command could not be carried out."""


class RequestRefused(OperationError):
    """The leader said no: nothing was changed."""


class NotStarted(OperationError):
    """A process did not come up: nothing was changed."""


def prepare(
    root: Path, count: int | None, base_port: int | None, directives: Sequence[str], witness: str = "", mode: str = "",
    etcd: Sequence[str] = (),
) -> Cluster:  # fmt: skip
    """Load the cluster of ``root`` or create and bootstrap a new one; starts nothing but a new cluster's witness.

    ``mode``: raft, lease, or empty for that of an existing cluster, Raft's for a new one. ``etcd``: host:port of the
    one that is to be the config holder of a new cluster of lease mode.
    """
    if layout.exists(root):
        cluster = layout.load(root)
        refuse_other_mode(cluster, mode)
        _refuse_changed_shape(cluster, count, base_port, directives, witness)
    else:
        if root.exists() and any(path.name != layout.LOCK_FILE for path in root.iterdir()):
            raise OperationError(f"{root} is in use by something else; choose another --dir or empty it")
        cluster = plan(
            root, count or (2 if witness else 3), base_port or 7000, directives, witness, mode, etcd, first_id=1
        )
        refuse_taken_ports(cluster.members())
        cluster.save()
    bootstrap(cluster)
    return cluster


def plan(
    root: Path, count: int, base_port: int, directives: Sequence[str], witness: str, mode: str, etcd: Sequence[str], *,
    first_id: int,
) -> Cluster:  # fmt: skip
    """A group of either mode that does not exist yet. Raises OperationError, LayoutError."""
    if etcd and mode != "lease":
        raise OperationError("only lease mode asks an etcd; write --mode lease, or leave --holder-etcd out")
    if mode == "lease" and witness:
        raise OperationError("lease mode has no witness; leave --witness out, two data nodes get an arbiter")
    if mode == "lease":
        return layout.plan_lease(root, count, base_port, directives, etcd, first_id)
    return layout.plan(root, count, base_port, directives, witness, first_id)


def refuse_other_mode(cluster: Cluster, mode: str) -> None:
    """Raises OperationError for another mode than the group was founded in; empty is any."""
    if mode not in ("", mode_of(cluster)):
        raise OperationError(
            f"{cluster.root} holds a cluster of {mode_of(cluster)} mode, which never changes; use another --dir"
        )


def mode_of(cluster: Cluster) -> str:
    """``raft`` or ``lease``, as it was founded."""
    return "lease" if cluster.is_lease() else "raft"


def bootstrap(cluster: Cluster) -> None:
    """Give every node of a new cluster its first entry; nothing to do for one that has them."""
    if cluster.bootstrapped:
        return
    try:
        _bootstrap(cluster)
    except BaseException:
        stop_started(cluster)
        raise


def any_stopped(cluster: Cluster) -> bool:
    """Whether a process of the group does not run."""
    return any(not processes.alive(member) for member in cluster.processes())


def start_stopped(cluster: Cluster) -> list[Member]:
    """Start every process that does not run; returns those started."""
    stopped = [member for member in cluster.processes() if not processes.alive(member)]
    if not stopped:
        raise OperationError(
            f"the cluster in {cluster.root} is already running; see `durakv cluster status --dir {cluster.root}`"
        )
    refuse_taken_ports(stopped)
    # The witness, which stands last, first: the nodes may need it for their election.
    for member in reversed(stopped):
        processes.start(cluster, member)
        cluster.save()
    for member in stopped:
        if isinstance(member, Witness):
            _wait_for_witness(cluster, member, STOP_GRACE_S)
    return stopped


def wait_for_leader(cluster: Cluster, password: str, timeout_s: float) -> status.NodeStatus:
    """Wait until one node leads and every running node answers; raises with the log's end when a process has died."""
    deadline = time.monotonic() + timeout_s
    while True:
        for member in cluster.processes():
            _refuse_dead(cluster, member)
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


def stop_all(cluster: Cluster, grace_s: float = STOP_GRACE_S) -> tuple[int, list[Member]]:
    """Stop every running process, the witness last; (how many nodes ran, what had to be killed)."""
    running = sum(1 for node in cluster.nodes if processes.alive(node))
    killed = processes.stop(cluster.nodes, grace_s)
    if cluster.witness is not None:
        killed += processes.stop([cluster.witness], grace_s)
    if cluster.arbiter is not None:
        killed += processes.stop([cluster.arbiter], grace_s)
    cluster.save()
    return running, killed


def stop_started(cluster: Cluster) -> None:
    """Stop what this very program has started: a start that did not work must not hold its ports."""
    processes.stop([member for member in cluster.processes() if member.child is not None], STOP_GRACE_S)
    cluster.save()


def add_node(cluster: Cluster, port: int | None, password: str, timeout_s: float, say: Say) -> Node:
    """Add one member: learner first, voter once it has caught up."""
    leader = _leader(cluster, password)
    node_id = cluster.next_id
    free = _next_port(cluster)
    node = Node(node_id, port or free, (port or free) + layout.PEER_PORT_OFFSET, joining=True)
    refuse_taken_ports([node])
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
        _refuse_dead(cluster, node)
        if status.ask(node, password).role in ("follower", "leader"):
            node.joining = False
            cluster.save()
            return node
        time.sleep(POLL_S)
    raise OperationError(
        f"{node.name} is still a learner after {timeout_s:.0f} s; it goes on catching up, watch it with"
        f" `durakv cluster status --dir {cluster.root} --watch`"
    )


def add_witness(cluster: Cluster, kind: str, port: int | None, password: str, timeout_s: float) -> Witness:
    """Add a witness: its process (``kind`` ``tcp``), then its state, then its membership."""
    if cluster.witness is not None:
        raise OperationError(
            f"{cluster.witness.name} is the witness already; take it out with `durakv cluster remove-node --node"
            f" {cluster.witness.node_id} --dir {cluster.root}` first"
        )
    leader = _leader(cluster, password)
    witness = layout.plan_witness(cluster.next_id, port or _next_port(cluster), kind)
    refuse_taken_ports([witness])
    # Saved first: an id serves once, whatever becomes of it.
    cluster.next_id += 1
    cluster.witness = witness
    cluster.save()
    try:
        _start_witness(cluster, timeout_s)
        _ask_leader(leader, password, timeout_s, "CLUSTER", "ADDWITNESS", witness.node_id, witness.address)
    except (RequestRefused, NotStarted):
        processes.stop([witness], STOP_GRACE_S)
        cluster.witness = None
        cluster.save()
        raise
    return witness


def remove_node(cluster: Cluster, node_id: int, password: str, timeout_s: float) -> str:
    """Take a member, full or witness, out of the group, then stop it; returns where its files are, which are kept."""
    if cluster.witness is not None and cluster.witness.node_id == node_id:
        return _remove_witness(cluster, cluster.witness, password, timeout_s)
    node = cluster.node(node_id)
    if any(member.startswith(f"{node_id}=") for member in cluster.holder):
        raise OperationError(
            f"n{node_id} has a member of the config holder, which would lose it; name another node, or found a new "
            "cluster and move the data"
        )
    if len(cluster.nodes) == 1:
        raise OperationError(f"n{node_id} is the only node; stop it with `durakv cluster stop --dir {cluster.root}`")
    leader = _leader(cluster, password)
    if leader.node_id == node_id:
        rows = status.survey(cluster, password)
        successor = next((row for row in rows if row.role == "follower"), None)
        if successor is None:
            raise OperationError(
                f"n{node_id} leads and no other node can take over; start one with `durakv cluster up --dir"
                f" {cluster.root}` first"
            )
        transfer(cluster, successor.node_id, password, timeout_s)
        leader = _leader(cluster, password)
    _ask_leader(leader, password, timeout_s, "CLUSTER", "REMOVENODE", node_id)
    processes.stop([node], STOP_GRACE_S)
    cluster.nodes.remove(node)
    cluster.save()
    return str(cluster.home(node))


def _remove_witness(cluster: Cluster, witness: Witness, password: str, timeout_s: float) -> str:
    _ask_leader(_leader(cluster, password), password, timeout_s, "CLUSTER", "REMOVENODE", witness.node_id)
    processes.stop([witness], STOP_GRACE_S)
    cluster.witness = None
    cluster.save()
    return str(cluster.home(witness)) if witness.port else witness.address


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
    # These load the whole server, which status and stop do not need.
    from durakv.cli.witness import WitnessError, create_now
    from durakv.founding import GROUP_ID, bootstrap_cluster
    from durakv.replication.addresses import Founding
    from durakv.world.real_rng import RealRng

    for node in cluster.nodes:
        # Left by a bootstrap that was cut short; no server has ever run on it, or `bootstrapped` would be set.
        if cluster.data_dir(node).exists():
            shutil.rmtree(cluster.data_dir(node))
        cluster.data_dir(node).mkdir(parents=True)
    members = [(node.node_id, HOST, node.port, node.peer_port) for node in cluster.nodes]
    witness = cluster.witness
    # A new one at each attempt: the id of a witness serves once in a cluster, even if the attempt came to nothing.
    cluster_id = RealRng().token(16)
    group, founding = GROUP_ID, None
    if cluster.shard is not None:
        # All groups of a cluster have its id.
        cluster_id = bytes.fromhex(cluster.cluster_id)
        group = cluster.shard.group
        founding = Founding(group, [cluster.shard.slots] if cluster.shard.slots else [])
    _start_witness(cluster, STOP_GRACE_S)
    try:
        if witness is not None:
            create_now(witness.address, cluster_id, group, witness.node_id)
        cluster.cluster_id = bootstrap_cluster(
            [str(cluster.data_dir(node)) for node in cluster.nodes], members, cluster_id,
            (witness.node_id, witness.address) if witness is not None else None, founding, _min_isr(cluster),
        )  # fmt: skip
        if cluster.holder:
            _found_holder(cluster, cluster_id)
    except (OSError, WitnessError) as error:
        raise OperationError(
            f"cannot create the cluster: {error}; correct that, or choose another --dir or --witness, and run it again"
        ) from error
    for node in cluster.nodes:
        cluster.write_conf(node)
    cluster.bootstrapped = True
    cluster.save()


def _min_isr(cluster: Cluster) -> int:
    """What a new shard of lease mode demands; 0 for Raft mode."""
    from durakv.replication.lease_settings import default_min_isr

    if not cluster.is_lease():
        return 0
    nodes = len(cluster.nodes)
    for line in cluster.directives:
        name, _, value = line.partition(" ")
        if name == "min-isr" and value.isdecimal() and int(value):
            if int(value) > nodes:
                raise OperationError(f"min-isr {value} with {nodes} nodes: no write would ever be taken; choose less")
            return int(value)
    return default_min_isr(nodes)


def _found_holder(cluster: Cluster, cluster_id: bytes) -> None:
    from durakv.holding import found_holder
    from durakv.world.real_disk import RealDisk

    members = tuple(int(member.partition("=")[0]) for member in cluster.holder)
    homes = {member.node_id: str(cluster.data_dir(member)) for member in cluster.members()}
    if cluster.arbiter is not None and cluster.data_dir(cluster.arbiter).exists():
        # Left by a bootstrap that was cut short.
        shutil.rmtree(cluster.data_dir(cluster.arbiter))
    disk = RealDisk(_never)
    try:
        found_holder(disk, homes, cluster_id, members)
    finally:
        disk.close()


def _never(done: Callable[[], None]) -> None:
    """Nothing is handed to that disk's lane."""
    raise AssertionError("a job on a lane without a loop")


def _start_witness(cluster: Cluster, timeout_s: float) -> None:
    """Its process must listen before a state can be created there; nothing to do for one that is no process."""
    witness = cluster.witness
    if witness is None or not witness.port:
        return
    if not processes.alive(witness):
        processes.start(cluster, witness)
        cluster.save()
    _wait_for_witness(cluster, witness, timeout_s)


def _wait_for_witness(cluster: Cluster, witness: Witness, timeout_s: float) -> None:
    try:
        processes.wait_listening(witness, timeout_s)
    except processes.NotListening as error:
        tail = processes.last_lines(cluster.log_file(witness))
        raise NotStarted(f"{error}; the end of its log:\n{tail}") from error


def _refuse_dead(cluster: Cluster, member: Member) -> None:
    if not processes.alive(member):
        tail = processes.last_lines(cluster.log_file(member))
        raise OperationError(f"{member.name} stopped right after its start; the end of its log:\n{tail}")


def _next_port(cluster: Cluster) -> int:
    # An arbiter's is far behind those of nodes.
    return max(member.port for member in cluster.members() if member is not cluster.arbiter) + 1


def _refuse_changed_shape(
    cluster: Cluster, count: int | None, base_port: int | None, directives: Sequence[str], witness: str
) -> None:
    if count is not None and cluster.bootstrapped and count != len(cluster.nodes):
        raise OperationError(
            f"{cluster.root} holds {len(cluster.nodes)} nodes, not {count}; use `durakv cluster add-node` or"
            " `remove-node`, or another --dir"
        )
    _refuse_other_witness(cluster, witness)
    if base_port is not None and all(node.port != base_port for node in cluster.nodes):
        raise OperationError(
            f"{cluster.root} was created on port {cluster.nodes[0].port}; leave --base-port out, or use another --dir"
        )
    if directives and list(directives) != cluster.directives:
        raise OperationError(
            f"{cluster.root} was created with other directives; edit its n*/durakv.conf, or use another --dir"
        )


def _refuse_other_witness(cluster: Cluster, kind: str) -> None:
    if not kind:
        return
    if cluster.witness is None:
        raise OperationError(
            f"{cluster.root} holds a cluster without a witness; use `durakv cluster add-witness`, or another --dir"
        )
    now = cluster.witness
    wanted = layout.plan_witness(now.node_id, now.port, kind)
    if (wanted.address, wanted.port) != (now.address, now.port):
        raise OperationError(
            f"{cluster.root} has its witness at {cluster.witness.address}; leave --witness out, or replace it with"
            " `durakv cluster remove-node` and `add-witness`"
        )


def refuse_taken_ports(members: Sequence[Member]) -> None:
    """Raises OperationError for the first port somebody listens on."""
    for member in members:
        for port in member.ports():
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
