"""A group of real durakv processes on free loopback ports, which tests may kill and start again.

Every process started here is stopped by its own pid; nothing is searched for by name.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis

from durakv.cli.witness import create_now
from durakv.founding import GROUP_ID, bootstrap_cluster


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, with port + 10000 free as well; all below the ephemeral range."""
    found: list[int] = []
    held: list[socket.socket] = []
    candidate = 11000 + (os.getpid() * 37) % 9000
    while len(found) < count:
        candidate = candidate + 1 if candidate < 21900 else 11000
        pair = [socket.socket(), socket.socket()]
        try:
            for s, port in zip(pair, (candidate, candidate + 10000), strict=True):
                s.bind(("127.0.0.1", port))
        except OSError:
            for s in pair:
                s.close()
            continue
        held += pair
        found.append(candidate)
    for s in held:
        s.close()
    return found


class Node:
    """One server process and where it listens."""

    def __init__(self, node_id: int, port: int, directory: Path, directives: list[str]) -> None:
        self.node_id = node_id
        self.port = port
        self.directory = directory
        self.directives = directives
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; does not wait for it."""
        log = (self.directory.parent / f"{self.directory.name}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "durakv", "server", "--dir", str(self.directory), "--port", str(self.port),
             "--bind", "127.0.0.1", *self.directives],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        log.close()

    def kill(self) -> None:
        """SIGKILL and reap."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM, wait at most 15 s; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        self.process = None
        return code

    def client(self, **options: object) -> redis.Redis:
        """A client without retries or pools of its own making."""
        return redis.Redis(
            host="127.0.0.1", port=self.port, socket_timeout=10, socket_connect_timeout=2,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0), **options,  # type: ignore[arg-type]
        )  # fmt: skip

    def log_text(self) -> str:
        """What the process printed so far."""
        return (self.directory.parent / f"{self.directory.name}.log").read_text(errors="replace")


class Witness:
    """A witness: a process, or (``port`` 0) a directory that the nodes change themselves."""

    def __init__(self, node_id: int, directory: Path, port: int = 0) -> None:
        self.node_id = node_id
        self.directory = directory
        self.port = port
        self.address = f"tcp://127.0.0.1:{port}" if port else f"file://{directory}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, if it is one, and wait until it listens."""
        if not self.port:
            self.directory.mkdir(exist_ok=True)
            return
        with (self.directory.parent / f"{self.directory.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "durakv", "witness", "--listen", f"127.0.0.1:{self.port}",
                 "--dir", str(self.directory)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, self.log_text()
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the witness does not listen:\n" + self.log_text())

    def kill(self) -> None:
        """SIGKILL and reap."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log_text(self) -> str:
        """What the process printed so far."""
        return (self.directory.parent / f"{self.directory.name}.log").read_text(errors="replace")


class Group:
    """Use as a context manager: starts all nodes, waits for a leader, kills what is left at the end.

    ``witness``: empty for none, ``tcp`` for a process, ``file`` for a directory.
    """

    def __init__(self, base: Path, count: int = 3, directives: list[str] | None = None, witness: str = "") -> None:
        ports = free_ports(count + 1)
        dirs = [base / f"n{i + 1}" for i in range(count)]
        members = [(i + 1, "127.0.0.1", port, port + 10000) for i, port in enumerate(ports[:count])]
        cluster_id = os.urandom(16)
        self.witness: Witness | None = None
        named: tuple[int, str] | None = None
        if witness:
            self.witness = Witness(count + 1, base / f"w{count + 1}", ports[count] if witness == "tcp" else 0)
            named = (self.witness.node_id, self.witness.address)
            try:
                self.witness.start()
                create_now(self.witness.address, cluster_id, GROUP_ID, self.witness.node_id)
            except BaseException:
                self.witness.kill()
                raise
        self.cluster_id = bootstrap_cluster([str(d) for d in dirs], members, cluster_id, named)
        extra = ["--cluster-id", self.cluster_id, "--enable-debug-command", "yes", *(directives or [])]
        self.nodes = [Node(i + 1, ports[i], dirs[i], ["--node-id", str(i + 1), *extra]) for i in range(count)]

    def __enter__(self) -> Group:
        try:
            for node in self.nodes:
                node.start()
            self.leader()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()
        if self.witness is not None:
            self.witness.kill()

    def leader(self, timeout_s: float = 20.0) -> Node:
        """The node that answers as leader and serves a read."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for node in self.nodes:
                if node.process is None:
                    continue
                if node.process.poll() is not None:
                    raise AssertionError(
                        f"node {node.node_id} ended with {node.process.returncode}:\n{node.log_text()}"
                    )
                try:
                    with node.client() as client:
                        role = client.execute_command("ROLE")
                        if role[0] in (b"master", "master"):
                            client.get("probe")
                            return node
                except redis.RedisError:
                    continue
            time.sleep(0.05)
        raise AssertionError("no leader within the time allowed:\n" + "\n".join(n.log_text() for n in self.nodes))

    def agreed(self, timeout_s: float = 20.0) -> None:
        """Return once every node, in cluster mode, shows the same leader: followers hear of a new one later."""
        deadline = time.monotonic() + timeout_s
        shown: list[object] = []
        while time.monotonic() < deadline:
            leader = self.leader()
            shown = []
            for node in self.nodes:
                with node.client() as client:
                    shown += [entry[2][1] for entry in client.execute_command("CLUSTER", "SLOTS")]
            if set(shown) == {leader.port}:
                return
            time.sleep(0.05)
        raise AssertionError(f"nodes never named one leader: {shown}")

    def other(self, node: Node) -> Node:
        """The other full node of a group of two."""
        (found,) = [each for each in self.nodes if each is not node]
        return found

    def digests(self, timeout_s: float = 30.0) -> list[tuple[int, bytes]]:
        """(applied index, digest) of every node, once all are at the same index."""
        deadline = time.monotonic() + timeout_s
        found: list[tuple[int, bytes]] = []
        while time.monotonic() < deadline:
            found = []
            for node in self.nodes:
                with node.client() as client:
                    flat = client.execute_command("DEBUG", "STATE")
                    state = dict(zip(flat[::2], flat[1::2], strict=True)) if isinstance(flat, list) else flat
                    found.append((int(state[b"applied"]), bytes(state[b"digest"])))
            if len({index for index, _ in found}) == 1:
                return found
            time.sleep(0.1)
        raise AssertionError(f"nodes never reached one index: {found}")
