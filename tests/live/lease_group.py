"""Real processes of lease mode on free loopback ports, each with a member of the config holder in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis

from durakv.founding import bootstrap_cluster
from durakv.holding import found_holder
from durakv.replication.lease_settings import default_min_isr
from durakv.world.real_disk import RealDisk
from tests.live.group import Group, Node, free_ports

LEASE_MS = 1000
GRACE_MS = 1500


class Arbiter:
    """The third member of the config holder, as a process of its own."""

    def __init__(self, directory: Path, cluster_id: str, members: list[str]) -> None:
        self.directory = directory
        self.words = ["--dir", str(directory), "--cluster-id", cluster_id, "--id", "3", *members]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; does not wait for it."""
        with (self.directory.parent / f"{self.directory.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "durakv", "arbiter", *self.words],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL and reap."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class LeaseGroup(Group):
    """Three nodes unless told otherwise; two have an arbiter beside them. Use as a context manager, as Group."""

    def __init__(self, base: Path, count: int = 3, directives: list[str] | None = None, min_isr: int = 0) -> None:
        ports = free_ports(2 * count + 1)
        dirs = [base / f"n{i + 1}" for i in range(count)]
        members = [(i + 1, "127.0.0.1", port, port + 10000) for i, port in enumerate(ports[:count])]
        self.arbiter: Arbiter | None = None
        holders = {i + 1: ports[count + i] for i in range(max(3, count))}
        homes = {i + 1: str(dirs[i]) for i in range(count)}
        cluster_id = os.urandom(16)
        self.witness = None
        self.cluster_id = bootstrap_cluster(
            [str(d) for d in dirs], members, cluster_id, min_isr=min_isr or default_min_isr(count)
        )
        where = [f"{i}=127.0.0.1:{port}" for i, port in holders.items()]
        if count == 2:
            self.arbiter = Arbiter(base / "a3", self.cluster_id, where)
            homes[3] = str(self.arbiter.directory)
        disk = RealDisk(lambda fn: None)
        found_holder(disk, homes, cluster_id, tuple(holders))
        disk.close()
        extra = [
            "--cluster-id", self.cluster_id, "--enable-debug-command", "yes", "--replication-mode", "lease",
            "--lease-duration-ms", str(LEASE_MS), "--lease-grace-ms", str(GRACE_MS), "--holder-members", *where,
            *(directives or []),
        ]  # fmt: skip
        self.nodes = [Node(i + 1, ports[i], dirs[i], ["--node-id", str(i + 1), *extra]) for i in range(count)]

    def __enter__(self) -> LeaseGroup:
        if self.arbiter is not None:
            self.arbiter.start()
        super().__enter__()
        return self

    def leader(self, timeout_s: float = 60.0) -> Node:
        """See Group; a shard of lease mode takes G longer to serve after a start, on a machine that is busy too."""
        return super().leader(timeout_s)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.arbiter is not None:
            self.arbiter.kill()

    def info(self, node: Node) -> dict[str, str]:
        """INFO replication and durakv of a node as text."""
        with node.client() as client:
            raw = client.execute_command("INFO", "everything")
        if isinstance(raw, dict):
            return {str(k): str(v) for k, v in raw.items()}
        lines = raw.decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def wait_up(self, node: Node, timeout_s: float = 20.0) -> None:
        """Until a started node answers."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                with node.client() as client:
                    client.ping()
                    return
            except redis.RedisError:
                time.sleep(0.05)
        raise AssertionError(f"node {node.node_id} does not answer:\n{node.log_text()}")

    def wait_in_sync(self, count: int, timeout_s: float = 60.0) -> Node:
        """The primary, once so many members are in sync."""
        deadline = time.monotonic() + timeout_s
        seen = ""
        while time.monotonic() < deadline:
            leader = self.leader(timeout_s)
            try:
                seen = self.info(leader).get("isr", "")
            except redis.RedisError:
                continue
            if len([n for n in seen.split(",") if n]) == count:
                return leader
            time.sleep(0.1)
        raise AssertionError(f"in sync are {seen!r}, not {count}")


def impatient(node: Node) -> redis.Redis:
    """A client that gives up after a second, for nodes that may stand still."""
    return redis.Redis(
        host="127.0.0.1", port=node.port, socket_timeout=1, socket_connect_timeout=1,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    )  # fmt: skip


def pause(node: Node) -> None:
    """SIGSTOP."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)


def resume(node: Node) -> None:
    """SIGCONT."""
    assert node.process is not None
    node.process.send_signal(signal.SIGCONT)
