"""The servers that are measured: how each is started on a directory, reached, and stopped again.

Rule: the only place of the benchmark that starts servers. Every start is paired with a stop in ``running``; each server
is its own process group and is signalled by the pid that was started here, never by name.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from durakv.cli.client import Client, Refused, Unreachable

START_TIMEOUT_S = 60.0


class Unavailable(Exception):
    """This target cannot be measured here; the text is the reason for the report."""


@dataclass(frozen=True)
class Target:
    """One configuration of one program. ``kind`` chooses the starter, ``options`` are passed on to it."""

    name: str
    kind: str
    program: str
    about: str
    options: tuple[str, ...] = ()
    nodes: int = 1
    witness: bool = False
    # How the group replicates: raft or lease. Two nodes of lease mode have an arbiter beside them.
    mode: str = "raft"
    # The last full node is killed before the load starts.
    degraded: bool = False


@dataclass
class Running:
    """A started target: the port to load, and the pids whose CPU time counts."""

    port: int
    pids: list[int]
    ports: list[int] = field(default_factory=list)
    directory: Path = Path()


def known_targets() -> list[Target]:
    """All targets, whether or not their program is installed."""
    targets = []
    for program in ("redis", "valkey"):
        binary = f"{program}-server"
        targets += [
            Target(f"{program}-memory", "resp", binary, f"{program}, in memory only", ("--appendonly", "no")),
            Target(f"{program}-always", "resp", binary, f"{program}, appendfsync always",
                   ("--appendonly", "yes", "--appendfsync", "always")),
            Target(f"{program}-waitaof", "resp", binary, f"{program} with 2 replicas, all appendfsync always,"
                   " SET + WAITAOF 1 1", ("--appendonly", "yes", "--appendfsync", "always"), 3),
        ]  # fmt: skip
    return [
        *targets,
        Target("etcd-3", "etcd", "etcd", "etcd, 3 members, puts through its HTTP/JSON gateway", (), 3),
        # The stock servers beside it neither save nor append; its log it has all the same.
        Target("durakv-memory", "durakv", "durakv", "durakv, 1 node, appendfsync no, checkpoints no",
               ("--appendfsync", "no", "--checkpoints", "no")),
        Target("durakv-always", "durakv", "durakv", "durakv, 1 node, appendfsync always", ("--appendfsync", "always")),
        Target("durakv-3", "durakv", "durakv", "durakv, 3 nodes, reads readindex", ("--reads", "readindex"), 3),
        Target("durakv-2w", "durakv", "durakv", "durakv, 2 nodes and a witness", (), 2, witness=True),
        Target("durakv-2w-degraded", "durakv", "durakv", "durakv, 2 nodes and a witness, one node dead", (), 2,
               witness=True, degraded=True),
        Target("durakv-3-lease", "durakv", "durakv", "durakv, 3 nodes, reads lease", ("--reads", "lease"), 3),
        Target("durakv-lease-3", "durakv", "durakv", "durakv, lease mode, 3 nodes", (), 3, mode="lease"),
        Target("durakv-lease-2", "durakv", "durakv", "durakv, lease mode, 2 nodes and an arbiter", (), 2, mode="lease"),
    ]  # fmt: skip


def binary_of(target: Target) -> str:
    """The path of the target's program. Raises Unavailable."""
    if target.kind == "durakv":
        return sys.executable
    found = shutil.which(target.program)
    if found is None:
        raise Unavailable(f"{target.program} is not installed")
    return found


def free_ports(count: int, apart: int = 0) -> list[int]:
    """Consecutive free ports on loopback; with ``apart``, port + apart is free too."""
    # Below the ports the system hands to outgoing connections, also with 10,000 added.
    for base in range(11000 + os.getpid() % 1000, 22000, 97):
        wanted = [base + n for n in range(count)]
        if apart:
            wanted += [port + apart for port in wanted]
        sockets = []
        try:
            for port in wanted:
                probe = socket.socket()
                sockets.append(probe)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
        return wanted[:count]
    raise Unavailable("no free ports on loopback")


@contextmanager
def running(target: Target, directory: Path) -> Iterator[Running]:
    """Start the target on an empty directory and stop it afterwards, whatever happens."""
    binary_of(target)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    starter = {"resp": _resp, "etcd": _etcd, "durakv": _durakv}[target.kind]
    try:
        with starter(target, directory) as started:
            yield started
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def processes(commands: Sequence[Sequence[str]], directory: Path) -> Iterator[list[int]]:
    """Run the commands side by side, output to files; SIGTERM, then SIGKILL after five seconds, at the end."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for n, command in enumerate(commands):
            with (directory / f"out-{n}.log").open("wb") as output:
                started.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                     cwd=directory, start_new_session=True)
                )  # fmt: skip
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _resp(target: Target, directory: Path) -> Iterator[Running]:
    ports = free_ports(target.nodes)
    commands = []
    for n, port in enumerate(ports):
        home = directory / f"n{n}"
        home.mkdir()
        command = [binary_of(target), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""]
        if n:
            command += ["--replicaof", "127.0.0.1", str(ports[0])]
        commands.append([*command, *target.options])
    with processes(commands, directory) as pids:
        for port in ports:
            _wait(lambda port=port: _pings(port), f"{target.name} does not answer")
        if target.nodes > 1:
            _wait(lambda: _replicas_durable(ports[0], target), f"the replicas of {target.name} do not catch up")
        yield Running(ports[0], pids, ports, directory)


def _pings(port: int) -> bool:
    with Client("127.0.0.1", port) as client:
        return client.call("PING") == b"PONG"


def _replicas_durable(port: int, target: Target) -> bool:
    with Client("127.0.0.1", port, timeout_s=5) as client:
        client.call("SET", "warm", "up")
        try:
            return client.call("WAITAOF", 1, target.nodes - 1, 500) == [1, target.nodes - 1]
        except Refused as error:
            if "unknown command" in str(error):
                raise Unavailable("this version has no WAITAOF") from error
            raise


@contextmanager
def _etcd(target: Target, directory: Path) -> Iterator[Running]:
    ports = free_ports(target.nodes * 2)
    clients, peers = ports[: target.nodes], ports[target.nodes :]
    members = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
    commands = [
        [binary_of(target), "--name", f"m{n}", "--data-dir", str(directory / f"n{n}"), "--log-level", "error",
         "--listen-client-urls", f"http://127.0.0.1:{clients[n]}",
         "--advertise-client-urls", f"http://127.0.0.1:{clients[n]}",
         "--listen-peer-urls", f"http://127.0.0.1:{peers[n]}",
         "--initial-advertise-peer-urls", f"http://127.0.0.1:{peers[n]}",
         "--initial-cluster", members]
        for n in range(target.nodes)
    ]  # fmt: skip
    with processes(commands, directory) as pids:
        _wait(lambda: _etcd_leader(clients) != 0, "etcd elects no leader")
        yield Running(_etcd_leader(clients), pids, clients, directory)


def _etcd_leader(ports: list[int]) -> int:
    for port in ports:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}")
        with urllib.request.urlopen(request, timeout=2) as reply:
            status = json.loads(reply.read())
        if status.get("leader") and status["leader"] == status["header"]["member_id"]:
            return port
    return 0


@contextmanager
def _durakv(target: Target, directory: Path) -> Iterator[Running]:
    beside = target.witness or (target.mode == "lease" and target.nodes == 2)
    ports = free_ports(target.nodes + beside, apart=10_000)
    root = directory / "cluster"
    up = [sys.executable, "-m", "durakv", "cluster", "up", "--detach", "--dir", str(root), "--nodes",
          str(target.nodes), "--base-port", str(ports[0]), "--mode", target.mode,
          *(["--witness"] if target.witness else []), "--", *target.options]  # fmt: skip
    try:
        done = subprocess.run(up, check=False, capture_output=True, text=True, timeout=START_TIMEOUT_S)
        if done.returncode != 0:
            raise Unavailable(f"durakv did not start: {(done.stderr or done.stdout).strip()[-400:]}")
        yield _degraded(root) if target.degraded else durakv_running(root)
    finally:
        if (root / "cluster.json").exists():
            stop = [sys.executable, "-m", "durakv", "cluster", "stop", "--dir", str(root)]
            subprocess.run(stop, check=True, capture_output=True, timeout=60)


def durakv_running(root: Path) -> Running:
    """What a local durakv cluster looks like now: its leader's port and its members' pids."""
    status = [sys.executable, "-m", "durakv", "cluster", "status", "--json", "--dir", str(root)]
    rows = json.loads(subprocess.run(status, check=False, capture_output=True, text=True, timeout=30).stdout)
    nodes = json.loads((root / "cluster.json").read_text())["nodes"]
    port = next((node["port"] for node in nodes if node["id"] == rows["leader"]), 0)
    return Running(port, [node["pid"] for node in nodes], [node["port"] for node in nodes], root)


def _degraded(root: Path) -> Running:
    """Kill the follower of a two-node cluster and wait until the other acknowledges alone."""
    before = durakv_running(root)
    victim = next(n for n, port in enumerate(before.ports) if port != before.port)
    os.kill(before.pids[victim], signal.SIGKILL)

    def writes() -> bool:
        with Client("127.0.0.1", before.port, timeout_s=5) as client:
            return client.call("SET", "warm", "up") == b"OK"

    _wait(writes, "the surviving node does not write")
    return Running(before.port, [pid for n, pid in enumerate(before.pids) if n != victim], [before.port], root)


def _wait(ready: object, failure: str) -> None:
    assert callable(ready)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except (OSError, Unreachable, Refused):
            pass
        time.sleep(0.1)
    raise Unavailable(failure)
