"""A small cluster of real redis-server processes, and real proxies in front of it.

Every process started here is stopped by its own pid; nothing is searched for by name.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

from tests.live.group import free_ports

HOST = "127.0.0.1"
RANGES = ((0, 5460), (5461, 10922), (10923, 16383))


def available() -> bool:
    return shutil.which("redis-server") is not None


def plain(port: int, **options) -> redis.Redis:
    """A client that hides nothing: no retries of its own."""
    return redis.Redis(
        host=HOST, port=port, socket_timeout=20, socket_connect_timeout=2,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0), **options,
    )  # fmt: skip


def eventually(check, timeout_s: float = 15.0):
    """Repeat ``check`` until it returns something true; what it returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found = check()
        except (redis.RedisError, OSError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {check}"
        time.sleep(0.02)


class RedisNode:
    def __init__(self, port: int, directory: Path, *options: str) -> None:
        self.port = port
        self.directory = directory
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["redis-server", "--port", str(self.port), "--bind", HOST, "--dir", str(self.directory), "--save", "",
                 "--appendonly", "no", "--enable-debug-command", "yes", *self.options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        eventually(lambda: self.client().execute_command("PING") or True)

    def client(self, **options) -> redis.Redis:
        return plain(self.port, **options)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class RedisCluster:
    """Three masters and a replica of the first, made with MEET and ADDSLOTSRANGE."""

    def __init__(self, base: Path, *options: str, node_timeout_ms: int = 1500, ports: list[int] | None = None) -> None:
        cluster = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms), "--cluster-config-file",
            "nodes.conf", "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0",
        )  # fmt: skip
        self.nodes = [
            RedisNode(port, base / f"r{i}", *cluster, *options) for i, port in enumerate(ports or free_ports(4))
        ]
        self.masters = self.nodes[:3]
        self.replica = self.nodes[3]

    def __enter__(self) -> RedisCluster:
        try:
            self._found()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _found(self) -> None:
        for node in self.nodes:
            node.start()
        first = self.nodes[0].client()
        for node, (start, end) in zip(self.masters, RANGES, strict=True):
            node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", start, end)
        for i, node in enumerate(self.nodes):
            node.client().execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            if i:
                first.execute_command("CLUSTER", "MEET", HOST, node.port)
        eventually(lambda: all(self.info(node, "cluster_known_nodes") == "4" for node in self.nodes))
        eventually(lambda: all(self.info(node, "cluster_slots_ok") == "16384" for node in self.nodes))
        eventually(lambda: self.replica.client().execute_command("CLUSTER", "REPLICATE", self.name(self.nodes[0])))
        eventually(lambda: self.replica.client().info("replication")["master_link_status"] == "up")
        eventually(lambda: all(self.info(node, "cluster_state") == "ok" for node in self.nodes))

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    def info(self, node: RedisNode, field: str) -> str:
        lines = node.client().execute_command("CLUSTER", "INFO").decode().splitlines()
        found: dict[str, str] = dict(line.split(":", 1) for line in lines if ":" in line)
        return found[field]

    def name(self, node: RedisNode) -> str:
        found = node.client().execute_command("CLUSTER", "MYID")
        return found.decode() if isinstance(found, bytes) else str(found)


class ProxyProcess:
    def __init__(self, seeds: list[int], *options: str, port: int = 0) -> None:
        self.seeds = seeds
        self.options = options
        self.port = port or free_ports(1)[0]
        self.log = Path(tempfile.mkdtemp(prefix="durakv-proxy-")) / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ProxyProcess:
        words = [word for port in self.seeds for word in ("--node", f"{HOST}:{port}")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "durakv", "proxy", "--listen", f"{HOST}:{self.port}", *words, *self.options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        eventually(lambda: "event=table" in self.log_text() or "event=table-trouble" in self.log_text())
        return self

    def log_text(self) -> str:
        return self.log.read_text()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        text = self.log_text()
        shutil.rmtree(self.log.parent)
        assert "event=crash" not in text, text

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(15)
        self.process = None
        return code

    def client(self, **options) -> redis.Redis:
        return plain(self.port, **options)


class Raw:
    """Bytes as they are."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), 5)
        self.socket.settimeout(10)
        self.file = self.socket.makefile("rb")

    def send(self, *lines: str) -> None:
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def hello3(self) -> None:
        self.send("HELLO 3")
        while self.file.readline().strip() != b"*0":
            pass

    def lines(self, count: int) -> list[bytes]:
        return [self.file.readline().rstrip(b"\r\n") for _ in range(count)]
