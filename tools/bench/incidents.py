"""What is not requests a second: time to fail over, CPU of an idle node, many connections.

Rule: every figure is taken on a durakv cluster started for it alone. A cluster that does not come back within its bound
raises Unavailable; it is never left out of a median in silence.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from durakv.cli.client import Client, Refused, Unreachable
from tools.bench.measure import Load, cpu_s, parse_benchmark_csv, percentile
from tools.bench.rows import generator
from tools.bench.targets import Running, Target, Unavailable, durakv_running, running

FAILOVER_BOUND_S = 30.0
IDLE_CLIENTS = 10_000
ACTIVE_CLIENTS = 1_000


def failovers(target: Target, directory: Path, count: int, *, followers_too: bool = False) -> list[float]:
    """Milliseconds from SIGKILL of the leader to the first write a survivor acknowledges, under load; ascending.

    With ``followers_too`` every second victim is a follower.
    """
    times = []
    with running(target, directory) as started:
        ports = ",".join(str(port) for port in started.ports)
        command = [sys.executable, "-m", "tools.bench.closed_loop", "set", "--ports", ports, "--clients", "20",
                   "--tolerant", "--seconds", str(count * FAILOVER_BOUND_S)]  # fmt: skip
        load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for n in range(count):
                time.sleep(1.0)
                times.append(_kill(started.directory, leader=not followers_too or n % 2 == 0))
                up = [sys.executable, "-m", "durakv", "cluster", "up", "--detach", "--dir", str(started.directory)]
                done = subprocess.run(up, check=False, capture_output=True, text=True, timeout=120)
                if done.returncode != 0:
                    raise Unavailable(f"the killed node did not come back: {done.stderr.strip()[-300:]}")
        finally:
            load.kill()
            load.wait()
    return sorted(times)


def _kill(root: Path, *, leader: bool) -> float:
    now = durakv_running(root)
    if now.port == 0:
        raise Unavailable("the cluster has no leader")
    victim = next(n for n, port in enumerate(now.ports) if (port == now.port) == leader)
    survivors = [port for n, port in enumerate(now.ports) if n != victim]
    os.kill(now.pids[victim], signal.SIGKILL)
    killed_at = time.perf_counter()
    while time.perf_counter() - killed_at < FAILOVER_BOUND_S:
        for port in survivors:
            try:
                with Client("127.0.0.1", port, timeout_s=1.0) as client:
                    if client.call("SET", "failover", "probe") == b"OK":
                        return (time.perf_counter() - killed_at) * 1000
            except (Unreachable, Refused):
                # Refused at the gate or lost with the old leader: ask the next survivor.
                continue
        time.sleep(0.005)
    raise Unavailable(f"no write was acknowledged within {FAILOVER_BOUND_S:.0f} s of a node's death")


def idle_cpu(target: Target, directory: Path, seconds: float) -> list[float]:
    """CPU milliseconds a second each node uses with no client at all."""
    with running(target, directory) as started:
        time.sleep(2.0)
        before = [cpu_s([pid]) for pid in started.pids]
        time.sleep(seconds)
        return [(cpu_s([pid]) - spent) / seconds * 1000 for pid, spent in zip(started.pids, before, strict=True)]


def many_connections(target: Target, directory: Path, seconds: float) -> tuple[int, Load]:
    """(idle connections held open, load of 1,000 active clients beside them)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Inherited by the server started below.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = min(IDLE_CLIENTS, hard - 4096)
    if idle <= 0:
        raise Unavailable(f"the limit of open files is {hard}; raise it (ulimit -n) above {IDLE_CLIENTS + 4096}")
    with running(target, directory) as started:
        open_sockets: list[socket.socket] = []
        try:
            while len(open_sockets) < idle:
                open_sockets.append(socket.create_connection(("127.0.0.1", started.port), timeout=10))
            requests = int(10_000 * seconds)
            command = [generator(), "-p", str(started.port), "-t", "set", "-n", str(requests), "-c",
                       str(ACTIVE_CLIENTS), "-d", "32", "-r", "100000", "--csv"]  # fmt: skip
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
            for one in (open_sockets[0], open_sockets[-1]):
                one.sendall(b"PING\r\n")
                if not one.recv(64).startswith(b"+PONG"):
                    raise Unavailable("an idle connection was lost")
        except OSError as error:
            raise Unavailable(f"only {len(open_sockets)} connections: {error}") from error
        finally:
            for one in open_sockets:
                one.close()
        return idle, parse_benchmark_csv(done.stdout, requests)


def lone_client(target: Target, directory: Path, seconds: float) -> Load:
    """One client writing to the target, one request at a time."""
    with running(target, directory) as started:
        return closed_loop("set", started, 1, seconds)


def closed_loop(mode: str, started: Running, clients: int, seconds: float) -> Load:
    """One run of the own load generator."""
    command = [sys.executable, "-m", "tools.bench.closed_loop", mode, "--ports", str(started.port), "--clients",
               str(clients), "--seconds", str(seconds)]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise Unavailable(done.stderr.strip()[-200:])
    return Load(**json.loads(done.stdout))


def spread(times: list[float]) -> str:
    """``median (least to most)`` of ascending milliseconds."""
    return f"{percentile(times, 50):.0f} ms ({times[0]:.0f} to {times[-1]:.0f})"
