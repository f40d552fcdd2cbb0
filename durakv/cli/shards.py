"""Several groups on this machine as one cluster: a directory with a ``shards.json`` and one cluster directory a group.

Each group's directory is an ordinary one, so `durakv cluster add-node`, `transfer` and the others work on it. Rule: the
only reader and writer of ``shards.json``. Node ids are unique in the whole cluster: each group has a range of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from durakv.cli import layout, operations
from durakv.cli.layout import HOST, Cluster, LayoutError, Shard
from durakv.cli.operations import OperationError
from durakv.keyspace.slots import SLOTS

SHARDS_FILE: Final = "shards.json"
FORMAT: Final = 1
# Ids and ports that a group may grow into.
_IDS_EACH: Final = 1000
_PORTS_EACH: Final = 10
# Nodes of each other group that a node is told of.
_SEEDS_EACH: Final = 2


def exists(root: Path) -> bool:
    """Whether the directory holds several groups."""
    return (root / SHARDS_FILE).exists()


def load(root: Path) -> list[Cluster]:
    """The groups, ascending. Raises LayoutError."""
    path = root / SHARDS_FILE
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise LayoutError(f"{path} has format {document['format']}, not {FORMAT}; use the durakv that wrote it")
        return [layout.load(root / str(name)) for name in document["groups"]]
    except (KeyError, TypeError, ValueError) as error:
        raise LayoutError(f"{path} is damaged ({error}); restore it, or move {root} away and start afresh") from error


def of_group(root: Path, group: int) -> Cluster:
    """The group of that number. Raises LayoutError naming those that exist."""
    made = load(root)
    for cluster in made:
        if cluster.shard is not None and cluster.shard.group == group:
            return cluster
    known = ", ".join(str(cluster.shard.group) for cluster in made if cluster.shard is not None)
    raise LayoutError(f"there is no group {group} in {root}; choose one of {known}")


def of_node(root: Path, node_id: int) -> Cluster:
    """The group of a node or witness, whose ids are unique. Raises LayoutError."""
    for cluster in load(root):
        if any(member.node_id == node_id for member in cluster.members()):
            return cluster
    raise LayoutError(f"there is no node {node_id} in {root}; `durakv cluster status --dir {root}` lists all")


def root_of(root: Path, group: int | None, node_id: int = 0) -> Path:
    """The directory of one group: ``root`` itself where it holds but one. Raises OperationError, LayoutError."""
    if not exists(root):
        if group is not None:
            raise OperationError(f"{root} holds one group; leave --group out")
        return root
    if node_id:
        return of_node(root, node_id).root
    if group is None:
        raise OperationError(f"{root} holds several groups; say which one with --group")
    return of_group(root, group).root


def slot_shares(count: int) -> list[tuple[int, int]]:
    """First and last slot of each of ``count`` equal shares."""
    return [(SLOTS * n // count, SLOTS * (n + 1) // count - 1) for n in range(count)]


def prepare(
    root: Path, count: int | None, nodes: int | None, base_port: int | None, directives: Sequence[str], witness: str,
    mode: str = "", etcd: Sequence[str] = (),
) -> list[Cluster]:  # fmt: skip
    """The groups of ``root``, created and bootstrapped when there are none. Raises OperationError, LayoutError.

    ``mode`` and ``etcd`` as for operations.prepare(), of all new groups; in lease mode each has a config holder of its
    own, or its own place in the etcd.
    """
    if exists(root):
        made = load(root)
        if count is not None and count != len(made):
            raise OperationError(
                f"{root} holds {len(made)} groups, not {count}; leave --shards out, or choose another --dir"
            )
        if made:
            # Groups that joined later may be of another.
            operations.refuse_other_mode(made[0], mode)
    else:
        assert count is not None
        made = _plan(root, count, nodes or (2 if witness else 3), base_port or 7000, directives, witness, mode, etcd)
    for cluster in made:
        operations.bootstrap(cluster)
    return made


def _plan(
    root: Path, count: int, nodes: int, base_port: int, directives: Sequence[str], witness: str, mode: str,
    etcd: Sequence[str],
) -> list[Cluster]:  # fmt: skip
    from durakv.world.real_rng import RealRng  # loads what status and stop do not need

    if any(path.name != layout.LOCK_FILE for path in root.iterdir()):
        raise OperationError(f"{root} is in use by something else; choose another --dir or empty it")
    if nodes + (1 if witness else 0) > _PORTS_EACH:
        raise OperationError(f"a group of {nodes} nodes does not fit its {_PORTS_EACH} ports; choose fewer")
    if witness and witness != "tcp":
        # Groups share no witness's state, and one address is one state.
        raise OperationError("several groups cannot share the witness's address; write --witness without one")
    cluster_id = RealRng().token(16).hex()
    made: list[Cluster] = []
    for n, share in enumerate(slot_shares(count)):
        group = n + 1
        cluster = operations.plan(
            root / f"g{group}", nodes, base_port + n * _PORTS_EACH, directives, witness, mode, etcd,
            first_id=n * _IDS_EACH + 1,
        )  # fmt: skip
        cluster.cluster_id = cluster_id
        cluster.shard = Shard(group, share, [])
        made.append(cluster)
    for cluster in made:
        assert cluster.shard is not None
        others = [other for other in made if other is not cluster]
        cluster.shard.seeds = [f"{HOST}:{node.peer_port}" for other in others for node in other.nodes[:_SEEDS_EACH]]
    operations.refuse_taken_ports([member for cluster in made for member in cluster.members()])
    for cluster in made:
        cluster.root.mkdir()
        cluster.save()
    _save(root, made, count + 1)
    return made


# -- groups that come and go ------------------------------------------------------------------------------------------


def add(
    root: Path, nodes: int, base_port: int | None, directives: Sequence[str], witness: str, mode: str = "",
    etcd: Sequence[str] = (),
) -> Cluster:  # fmt: skip
    """A new group without slots, bootstrapped and not started. Raises OperationError, LayoutError.

    ``mode``: raft or lease; empty for that of the first group, whose etcd then serves the new one as well.
    """
    made = require_several(root)
    if nodes + (1 if witness else 0) > _PORTS_EACH:
        raise OperationError(f"a group of {nodes} nodes does not fit its {_PORTS_EACH} ports; choose fewer")
    if witness and witness != "tcp":
        raise OperationError("several groups cannot share the witness's address; write --witness without one")
    group = _next_group(root, made)
    if not mode:
        mode, etcd = operations.mode_of(made[0]), etcd or made[0].etcd
    # An arbiter's port is far behind those of nodes.
    used = [member.port for cluster in made for member in cluster.members() if member is not cluster.arbiter]
    # Past the ports that the last group may still grow into.
    port = base_port or min(used) + ((max(used) - min(used)) // _PORTS_EACH + 1) * _PORTS_EACH
    new = operations.plan(
        root / f"g{group}", nodes, port, directives or made[0].directives, witness, mode, etcd,
        first_id=(group - 1) * _IDS_EACH + 1,
    )  # fmt: skip
    new.cluster_id = made[0].cluster_id
    seeds = [f"{HOST}:{node.peer_port}" for other in made for node in other.nodes[:_SEEDS_EACH]]
    new.shard = Shard(group, None, seeds)
    operations.refuse_taken_ports(new.members())
    if new.root.exists():
        raise OperationError(f"{new.root} is in use by something else; move it away")
    new.root.mkdir()
    new.save()
    # Told of before it is founded: its number is never given away again, whatever becomes of this attempt.
    _save(root, made, group + 1)
    operations.bootstrap(new)
    return new


def joined(root: Path, new: Cluster) -> None:
    """The new group leads itself: from now on it is one of the cluster."""
    made = [*load(root), new]
    _save(root, made, _next_group(root, made))
    for other in made:
        if other.shard is not None and other is not new:
            other.shard.seeds += [f"{HOST}:{node.peer_port}" for node in new.nodes[:_SEEDS_EACH]]
            other.save()


def left(root: Path, gone: Cluster) -> list[Cluster]:
    """The group is no longer one of the cluster; returns those that are."""
    made = require_several(root)
    after = _next_group(root, made)
    staying = [cluster for cluster in made if cluster.root != gone.root]
    _save(root, staying, after)
    places = [f"{HOST}:{node.peer_port}" for node in gone.nodes]
    for other in staying:
        if other.shard is not None:
            other.shard.seeds = [seed for seed in other.shard.seeds if seed not in places]
            other.save()
    return staying


def require_several(root: Path) -> list[Cluster]:
    """The groups. Raises OperationError for a cluster that cannot have but one, LayoutError for none."""
    if not exists(root):
        layout.load(root)
        raise OperationError(
            f"{root} holds a cluster of one group, which owns all slots for good; create one of several with `durakv "
            "cluster up --shards N --dir DIR`, and copy the data there with durakv-cli import"
        )
    return load(root)


def _next_group(root: Path, made: list[Cluster]) -> int:
    document = json.loads((root / SHARDS_FILE).read_text())
    # Absent in a file written before groups could be added.
    known = [cluster.shard.group for cluster in made if cluster.shard is not None]
    return max([int(document.get("next_group", 0)), *(group + 1 for group in known)])


def _save(root: Path, made: list[Cluster], next_group: int) -> None:
    document = {"format": FORMAT, "groups": [cluster.root.name for cluster in made], "next_group": next_group}
    temporary = root / (SHARDS_FILE + ".new")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(root / SHARDS_FILE)
