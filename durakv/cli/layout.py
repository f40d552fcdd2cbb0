"""A local cluster's directory: ``cluster.json``, and one directory per node with its ``durakv.conf``, log and data.

A witness that is a process of this machine has a directory too; one in a file or an object store is an address only.

Rule: the only reader and writer of ``cluster.json`` and of generated ``durakv.conf`` files. Knows nothing of processes
beyond the two numbers that identify one (pid and start time), and nothing of the network.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

CLUSTER_FILE: Final = "cluster.json"
LOCK_FILE: Final = "cluster.lock"
FORMAT: Final = 1
PEER_PORT_OFFSET: Final = 10_000
HOLDER_PORT_OFFSET: Final = 20_000
HOLDER_MEMBERS: Final = 3
HOST: Final = "127.0.0.1"
NODES_BESIDE_WITNESS_MIN: Final = 2


class LayoutError(Exception):
    """The directory is not what the command needs; the text names the fix."""


class Member:
    """One member of the group, perhaps a process of this machine.

    ``pid`` 0 means it was not started, or was stopped, by this program. ``started`` is the process's start time in
    clock ticks since boot: with the pid it names one process for good. ``child`` is the process when this very program
    started it. ``name`` is its directory and how messages speak of it.
    """

    __slots__ = ("child", "name", "node_id", "pid", "port", "started")

    def __init__(self, node_id: int, port: int, name: str, pid: int, started: int) -> None:
        self.node_id = node_id
        self.port = port
        self.name = name
        self.pid = pid
        self.started = started
        self.child: subprocess.Popen[bytes] | None = None

    def ports(self) -> tuple[int, ...]:
        """The ports it listens on."""
        return (self.port,) if self.port else ()


class Node(Member):
    """A full member. ``joining`` stays true until an added node has become a voter; only until then may it start
    without a history.
    """

    __slots__ = ("joining", "peer_port")

    def __init__(
        self, node_id: int, port: int, peer_port: int, *, pid: int = 0, started: int = 0, joining: bool = False
    ) -> None:
        super().__init__(node_id, port, f"n{node_id}", pid, started)
        self.peer_port = peer_port
        self.joining = joining

    def ports(self) -> tuple[int, ...]:
        """See Member."""
        return (self.port, self.peer_port)

    def as_json(self) -> dict[str, Any]:
        """The node's object in ``cluster.json``."""
        return {
            "id": self.node_id,
            "host": HOST,
            "port": self.port,
            "peer_port": self.peer_port,
            "pid": self.pid,
            "started": self.started,
            "joining": self.joining,
        }


class Witness(Member):
    """The witness. ``port`` is 0 for one that is no process of this cluster; ``address`` is how nodes reach it."""

    __slots__ = ("address",)

    def __init__(self, node_id: int, address: str, port: int, *, pid: int = 0, started: int = 0) -> None:
        super().__init__(node_id, port, f"w{node_id}", pid, started)
        self.address = address

    def as_json(self) -> dict[str, Any]:
        """The witness's object in ``cluster.json``."""
        return {
            "id": self.node_id,
            "address": self.address,
            "port": self.port,
            "pid": self.pid,
            "started": self.started,
        }


class Arbiter(Member):
    """A process that is a member of the config holder and nothing else; ``port`` is where the others reach it."""

    __slots__ = ()

    def __init__(self, node_id: int, port: int, *, pid: int = 0, started: int = 0) -> None:
        super().__init__(node_id, port, f"a{node_id}", pid, started)

    def as_json(self) -> dict[str, Any]:
        """The arbiter's object in ``cluster.json``."""
        return {"id": self.node_id, "port": self.port, "pid": self.pid, "started": self.started}


class Shard:
    """Which group of several a cluster.json is about: its number, the slots it was founded with (first and last), and
    peer addresses of nodes of other groups.
    """

    __slots__ = ("group", "seeds", "slots")

    def __init__(self, group: int, slots: tuple[int, int] | None, seeds: list[str]) -> None:
        self.group = group
        self.slots = slots
        self.seeds = seeds

    def as_json(self) -> dict[str, Any]:
        """The object in ``cluster.json``."""
        return {"group": self.group, "slots": list(self.slots) if self.slots else None, "seeds": self.seeds}


class Cluster:
    """What ``cluster.json`` says. ``bootstrapped`` is False from creation until every node has its first entry."""

    def __init__(
        self, root: Path, nodes: list[Node], directives: Sequence[str], *, cluster_id: str = "", next_id: int = 0,
        bootstrapped: bool = False, witness: Witness | None = None, shard: Shard | None = None,
        holder: Sequence[str] = (), arbiter: Arbiter | None = None, etcd: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.root = root
        self.nodes = nodes
        self.witness = witness
        # Of lease mode: where the config holder's members are, as holder-members has it; empty in Raft mode.
        self.holder = list(holder)
        # Or the etcd that is one, as holder-etcd has it.
        self.etcd = list(etcd)
        self.arbiter = arbiter
        self.directives = list(directives)
        self.cluster_id = cluster_id
        self.next_id = next_id or max((member.node_id for member in self.members()), default=0) + 1
        self.bootstrapped = bootstrapped
        # Set for one of several groups.
        self.shard = shard

    def is_lease(self) -> bool:
        """Whether it was founded in lease mode."""
        return bool(self.holder or self.etcd)

    def members(self) -> list[Member]:
        """The nodes, then the witness or the arbiter."""
        beside = [member for member in (self.witness, self.arbiter) if member is not None]
        return [*self.nodes, *beside]

    def processes(self) -> list[Member]:
        """The members that are processes of this machine, in the order in which they may be stopped."""
        return [member for member in self.members() if member.port]

    def node(self, node_id: int) -> Node:
        """The node of that id. Raises LayoutError naming those that exist."""
        for node in self.nodes:
            if node.node_id == node_id:
                return node
        known = ", ".join(str(node.node_id) for node in self.nodes)
        raise LayoutError(f"there is no node {node_id} in {self.root}; choose one of {known}")

    def home(self, node: Member) -> Path:
        """The member's directory."""
        return self.root / node.name

    def data_dir(self, node: Member) -> Path:
        """Where the member's process keeps its data."""
        return self.home(node) / "data"

    def log_file(self, node: Member) -> Path:
        """Where the member's output goes."""
        return self.home(node) / "durakv.log"

    def conf_file(self, node: Node) -> Path:
        """The node's configuration."""
        return self.home(node) / "durakv.conf"

    def save(self) -> None:
        """Replace ``cluster.json`` in one step."""
        document = {
            "format": FORMAT,
            "cluster_id": self.cluster_id,
            "bootstrapped": self.bootstrapped,
            "next_id": self.next_id,
            "directives": self.directives,
            "nodes": [node.as_json() for node in self.nodes],
            "witness": self.witness.as_json() if self.witness is not None else None,
            "shard": self.shard.as_json() if self.shard is not None else None,
            "holder": self.holder,
            "etcd": self.etcd,
            "arbiter": self.arbiter.as_json() if self.arbiter is not None else None,
        }
        temporary = self.root / (CLUSTER_FILE + ".new")
        temporary.write_text(json.dumps(document, indent=1) + "\n")
        temporary.replace(self.root / CLUSTER_FILE)

    def write_conf(self, node: Node) -> None:
        """Create the node's directory and its configuration."""
        self.home(node).mkdir(parents=True, exist_ok=True)
        self.conf_file(node).write_text(conf_text(self, node))


def conf_text(cluster: Cluster, node: Node) -> str:
    """The text of a node's ``durakv.conf``; directives given to ``cluster up`` come last and so win."""
    lines = [
        "# Written by `durakv cluster`. Edit freely: it is only written when the node is created.",
        f"port {node.port}",
        f"peer-port {node.peer_port}",
        f"bind {HOST}",
        f"dir {quoted(str(cluster.data_dir(node)))}",
    ]
    if cluster.cluster_id:
        # With these a node whose data directory has vanished refuses to start instead of voting without its memory.
        lines += [f"cluster-id {cluster.cluster_id}", f"node-id {node.node_id}"]
    if cluster.holder:
        lines += ["replication-mode lease", f"holder-members {' '.join(cluster.holder)}"]
    elif cluster.etcd:
        lines += ["replication-mode lease", f"holder-etcd {' '.join(cluster.etcd)}"]
    if cluster.shard is not None:
        lines += ["cluster-enabled yes", f"group-id {cluster.shard.group}"]
        if cluster.shard.seeds:
            lines.append(f"cluster-seeds {' '.join(cluster.shard.seeds)}")
    return "\n".join([*lines, *cluster.directives]) + "\n"


def quoted(value: str) -> str:
    """A value as one word of a configuration file."""
    if value and not any(c.isspace() or c in "\"'\\#" for c in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def directive_lines(words: Sequence[str]) -> list[str]:
    """``--name value ...`` flags as configuration lines. Raises LayoutError for words before the first flag."""
    lines: list[list[str]] = []
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, separator, value = word[2:].partition("=")
            lines.append([name, quoted(value)] if separator else [name])
        elif not lines:
            raise LayoutError(f"{word!r} is not a directive; write `-- --name value`, for example `-- --maxmemory 1gb`")
        else:
            lines[-1].append(quoted(word))
    for line in lines:
        if len(line) == 1:
            raise LayoutError(f"directive --{line[0]} has no value; write `-- --{line[0]} VALUE`")
    return [" ".join(line) for line in lines]


def plan(
    root: Path, count: int, base_port: int, directives: Sequence[str], witness: str = "", first_id: int = 1
) -> Cluster:
    """A cluster that does not exist yet: ``count`` nodes on consecutive ports, ids from ``first_id``; then the witness.

    ``witness``: empty for none, ``tcp`` for a process of this machine, else an address.
    """
    if base_port + count - 1 + PEER_PORT_OFFSET > 65535:
        top = 65535 - PEER_PORT_OFFSET - count + 1
        raise LayoutError(f"--base-port {base_port} is too high: peers use the port + 10000; choose at most {top}")
    nodes = [Node(first_id + n, base_port + n, base_port + n + PEER_PORT_OFFSET) for n in range(count)]
    if not witness:
        return Cluster(root, nodes, directives)
    if count < NODES_BESIDE_WITNESS_MIN:
        raise LayoutError(f"a witness needs at least two nodes beside it, not {count}; write --nodes 2 --witness")
    return Cluster(root, nodes, directives, witness=plan_witness(first_id + count, base_port + count, witness))


def plan_lease(
    root: Path, count: int, base_port: int, directives: Sequence[str], etcd: Sequence[str] = (), first_id: int = 1
) -> Cluster:
    """A shard of lease mode that does not exist yet; ids from ``first_id``. Its config holder is its own and has three
    members: in the first three nodes, or in both of two and in an arbiter, a process of its own; unless an ``etcd``
    (host:port each) is to be the holder.
    """
    if count == 1:
        raise LayoutError("lease mode needs two data nodes or more; write --nodes 2, or 3")
    if base_port + count + HOLDER_PORT_OFFSET > 65535:
        top = 65535 - HOLDER_PORT_OFFSET - count
        raise LayoutError(f"--base-port {base_port} is too high: config holders use the port + 20000; at most {top}")
    made = plan(root, count, base_port, directives, first_id=first_id)
    if etcd:
        made.etcd = list(etcd)
        return made
    members = [(node.node_id, node.port + HOLDER_PORT_OFFSET) for node in made.nodes[:HOLDER_MEMBERS]]
    if len(members) < HOLDER_MEMBERS:
        made.arbiter = Arbiter(made.next_id, base_port + count + HOLDER_PORT_OFFSET)
        made.next_id += 1
        members.append((made.arbiter.node_id, made.arbiter.port))
    made.holder = [f"{member_id}={HOST}:{port}" for member_id, port in members]
    return made


def plan_witness(witness_id: int, port: int, kind: str) -> Witness:
    """``kind`` as for plan(); ``port`` is used by a process only. Raises LayoutError for what is no address."""
    from durakv.witness.address import TCP, WitnessAddress  # loads what status and stop do not need

    if kind == TCP:
        return Witness(witness_id, WitnessAddress(TCP, host=HOST, port=port).text(), port)
    try:
        return Witness(witness_id, WitnessAddress.parse(kind).text(), 0)
    except ValueError as error:
        raise LayoutError(str(error)) from None


def exists(root: Path) -> bool:
    """Whether the directory holds a cluster made by this program."""
    return (root / CLUSTER_FILE).exists()


def load(root: Path) -> Cluster:
    """Read ``cluster.json``. Raises LayoutError when it is absent, damaged or of another format."""
    path = root / CLUSTER_FILE
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise LayoutError(f"{path} has format {document['format']}, not {FORMAT}; use the durakv that wrote it")
        nodes = [
            Node(int(n["id"]), int(n["port"]), int(n["peer_port"]), pid=int(n["pid"]), started=int(n["started"]),
                 joining=bool(n["joining"]))
            for n in document["nodes"]
        ]  # fmt: skip
        # Absent in a file written before there were witnesses.
        w = document.get("witness")
        witness = None
        if w is not None:
            witness = Witness(int(w["id"]), str(w["address"]), int(w["port"]), pid=int(w["pid"]),
                              started=int(w["started"]))  # fmt: skip
        return Cluster(
            root,
            nodes,
            [str(line) for line in document["directives"]],
            cluster_id=str(document["cluster_id"]),
            next_id=int(document["next_id"]),
            bootstrapped=bool(document["bootstrapped"]),
            witness=witness,
            shard=_shard(document.get("shard")),
            # Absent in a file written before there was lease mode.
            holder=[str(member) for member in document.get("holder", [])],
            arbiter=_arbiter(document.get("arbiter")),
            etcd=[str(endpoint) for endpoint in document.get("etcd", [])],
        )
    except FileNotFoundError:
        raise LayoutError(f"{root} holds no cluster; create one with `durakv cluster up --dir {root}`") from None
    except (KeyError, TypeError, ValueError) as error:
        raise LayoutError(f"{path} is damaged ({error}); restore it, or move {root} away and start afresh") from error


def _arbiter(document: dict[str, Any] | None) -> Arbiter | None:
    if document is None:
        return None
    a = document
    return Arbiter(int(a["id"]), int(a["port"]), pid=int(a["pid"]), started=int(a["started"]))


def _shard(document: dict[str, Any] | None) -> Shard | None:
    if document is None:
        return None
    slots = document["slots"]
    seeds = [str(seed) for seed in document["seeds"]]
    return Shard(int(document["group"]), (int(slots[0]), int(slots[1])) if slots else None, seeds)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the directory against other ``durakv cluster`` commands that change it."""
    descriptor = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LayoutError(f"another `durakv cluster` command is changing {root}; wait for it to end") from None
        yield
    finally:
        os.close(descriptor)
