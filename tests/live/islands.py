"""A cluster of groups whose nodes can be killed, stopped and cut off from each other, each on its own.

As root every node lives in a network namespace of its own, on a bridge: a cut drops the traffic between nodes and
leaves clients connected, so that a leader that is cut off is asked and must know. Otherwise nodes share the loopback
and there are no cuts. Everything made here is taken away by its own name or pid.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from durakv.founding import bootstrap_cluster
from durakv.replication.addresses import Founding
from tests.live.group import free_ports

ANSWER_S = 2.0
_IDS_EACH = 1000
_CUT = """
table inet cut {{
 chain in {{ type filter hook input priority 0; tcp dport {port} drop; tcp sport {port} drop; }}
 chain out {{ type filter hook output priority 0; tcp dport {port} drop; tcp sport {port} drop; }}
}}
"""
_PORT, _PEER_PORT = 7000, 17000


def can_cut() -> bool:
    """Whether network namespaces and packet filters can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nft") is None:
        return False
    name = f"dkprobe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    rules = _CUT.format(port=_PEER_PORT).encode()
    tried = subprocess.run(
        ["ip", "netns", "exec", name, "nft", "-f", "-"], input=rules, capture_output=True, check=False
    )
    subprocess.run(["ip", "netns", "del", name], check=True)
    return tried.returncode == 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


class Bridge:
    """Where the namespaces meet; ``prefix`` is the first three numbers of its addresses."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.name = f"dk{pid % 10_000_000}"
        self.prefix = f"10.{100 + pid % 100}.{pid // 100 % 250}"
        self.spaces: list[str] = []
        _ip("link", "add", self.name, "type", "bridge")
        _ip("addr", "add", f"{self.prefix}.1/24", "dev", self.name)
        _ip("link", "set", self.name, "up")

    def space(self) -> tuple[str, str]:
        """A new namespace: its name and address."""
        number = len(self.spaces) + 2
        name = f"{self.name}n{number}"
        link = f"{self.name}v{number}"
        address = f"{self.prefix}.{number}"
        _ip("netns", "add", name)
        self.spaces.append(name)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", link, "master", self.name, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        return name, address

    def close(self) -> None:
        """Take it all away; the nodes must have gone."""
        for name in self.spaces:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.name], check=False, capture_output=True)


class Island:
    """One node. ``space``: its namespace, empty on the loopback."""

    def __init__(self, group: int, node_id: int, home: Path, host: str, port: int, space: str) -> None:
        self.group = group
        self.node_id = node_id
        self.home = home
        self.host = host
        self.port = port
        self.space = space
        self.directives: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def peer_port(self) -> int:
        return self.port + 10_000

    def start(self) -> None:
        """Start the server; does not wait for it."""
        words = [sys.executable, "-m", "durakv", "server", "--dir", str(self.home), *self.directives]
        if self.space:
            # Becomes the server itself, under the same pid.
            words = ["ip", "netns", "exec", self.space, *words]
        with (self.home.parent / f"{self.home.name}.log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL and reap."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def send(self, number: int) -> None:
        """A signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def cut(self) -> None:
        """From now on no other node is heard, or hears this one."""
        rules = _CUT.format(port=_PEER_PORT).encode()
        subprocess.run(["ip", "netns", "exec", self.space, "nft", "-f", "-"], input=rules, check=True, timeout=20)

    def mend(self) -> None:
        """Undo cut()."""
        words = ["ip", "netns", "exec", self.space, "nft", "delete", "table", "inet", "cut"]
        subprocess.run(words, check=True, timeout=20)

    def ask(self, *words: object, answer_s: float = ANSWER_S) -> Any:
        """One command, without retries."""
        with redis.Redis(
            host=self.host, port=self.port, socket_timeout=answer_s, socket_connect_timeout=answer_s,
            retry=Retry(NoBackoff(), 0),
        ) as client:  # fmt: skip
            return client.execute_command(*words)

    def leads(self) -> bool:
        """Whether it says so, soon."""
        try:
            return bool(self.ask("ROLE", answer_s=0.5)[0] == b"master")
        except (redis.RedisError, OSError):
            return False

    def log_text(self) -> str:
        """What the process printed so far."""
        return (self.home.parent / f"{self.home.name}.log").read_text(errors="replace")


class Archipelago:
    """``groups`` groups of ``nodes`` nodes each; use as a context manager."""

    def __init__(self, root: Path, groups: int, nodes: int, *, cuts: bool, directives: list[str] | None = None) -> None:
        self.bridge = Bridge() if cuts else None
        ports = [_PORT] * (groups * nodes) if cuts else free_ports(groups * nodes)
        self.groups: dict[int, list[Island]] = {}
        try:
            for group in range(1, groups + 1):
                self.groups[group] = []
                for n in range(1, nodes + 1):
                    space, host = ("", "127.0.0.1") if self.bridge is None else self.bridge.space()
                    node_id = (group - 1) * _IDS_EACH + n
                    home = root / f"n{node_id}"
                    self.groups[group].append(Island(group, node_id, home, host, ports.pop(0), space))
            self._found(directives or [])
        except BaseException:
            self.close()
            raise

    def _found(self, directives: list[str]) -> None:
        cluster_id = os.urandom(16)
        count = len(self.groups)
        for group, nodes in self.groups.items():
            share = (16384 * (group - 1) // count, 16384 * group // count - 1)
            bootstrap_cluster(
                [str(node.home) for node in nodes],
                [(node.node_id, node.host, node.port, node.peer_port) for node in nodes],
                cluster_id, None, Founding(group, [share]),
            )  # fmt: skip
            seeds = [
                f"{node.host}:{node.peer_port}" for other, found in self.groups.items() if other != group
                for node in found[:2]
            ]  # fmt: skip
            for node in nodes:
                node.directives = [
                    "--node-id", str(node.node_id), "--cluster-id", cluster_id.hex(), "--group-id", str(group),
                    "--cluster-enabled", "yes", "--port", str(node.port), "--bind", node.host, "--protected-mode",
                    "no", "--cluster-seeds", *seeds, *directives,
                ]  # fmt: skip

    def __enter__(self) -> Archipelago:
        try:
            for node in self.islands():
                node.start()
            self.settle()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs, and take the network away."""
        for node in self.islands():
            node.kill()
        if self.bridge is not None:
            self.bridge.close()

    def islands(self) -> list[Island]:
        """All nodes."""
        return [node for nodes in self.groups.values() for node in nodes]

    def leader(self, group: int, timeout_s: float = 30.0) -> Island:
        """The node that says it leads the group."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for node in self.groups[group]:
                if node.process is not None and node.leads():
                    return node
            time.sleep(0.05)
        raise AssertionError(f"group {group} has no leader:\n" + self.groups[group][0].log_text()[-3000:])

    def mend(self, hurt: Island, kind: str) -> None:
        """Undo what was done to a node: ``kill``, ``stop`` or ``cut``."""
        if kind == "kill":
            hurt.start()
        elif kind == "stop":
            hurt.send(signal.SIGCONT)
        else:
            hurt.mend()

    def settle(self, timeout_s: float = 90.0) -> None:
        """Wait until every node runs and knows all others and the owner of every slot."""
        deadline = time.monotonic() + timeout_s
        waiting = self.islands()
        while waiting:
            assert time.monotonic() < deadline, waiting[0].log_text()[-3000:]
            waiting = [node for node in waiting if not self._knows(node)]
            time.sleep(0.05)

    def _knows(self, node: Island) -> bool:
        assert node.process is not None and node.process.poll() is None, node.log_text()[-3000:]
        with suppress(redis.RedisError, OSError):
            info = node.ask("CLUSTER INFO")
            return (
                info["cluster_state"] == "ok" and info["cluster_slots_assigned"] == "16384"
                and int(info["cluster_known_nodes"]) == len(self.islands())
            )  # fmt: skip
        return False

    def client(self, *, tries: int = 0, answer_s: float = ANSWER_S, slots_again: int = 5) -> RedisCluster:
        """A cluster client; ``tries`` 0: what fails is seen at once and sent once. ``slots_again``: after so many MOVED
        it asks for all slots, 0 for never.
        """
        nodes = [ClusterNode(node.host, node.port) for node in self.islands()]
        return RedisCluster(
            startup_nodes=nodes, retry=Retry(NoBackoff(), tries), socket_timeout=answer_s,
            socket_connect_timeout=answer_s, reinitialize_steps=slots_again,
        )  # fmt: skip
