"""Starting and stopping the processes of a local cluster: servers, and a witness.

Rule: the only place of the command line that starts or signals a process. A process is known by pid and start time, so
a pid the system has given to somebody else is never signalled; it is one process group, so it ends with its children.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from durakv.cli.layout import HOST, Arbiter, Cluster, Member, Node

POLL_S: Final = 0.05


class NotListening(Exception):
    """A process that was started does not listen."""


def start_time(pid: int) -> int:
    """Clock ticks since boot at which the process began; 0 when there is no such process, or only its exit status."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name in parentheses may hold anything, so fields are counted from the last parenthesis: state is the first.
    fields = text[text.rindex(")") + 2 :].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def alive(node: Member) -> bool:
    """Whether the very process that was started for the member still runs."""
    return node.pid > 0 and start_time(node.pid) == node.started


def port_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def start(cluster: Cluster, node: Member) -> None:
    """Start the member in its own process group, output appended to its log; fills in pid and start time."""
    command = [sys.executable, "-m", "durakv"]
    if isinstance(node, Node):
        command += ["server", str(cluster.conf_file(node)), *(["--join", "yes"] if node.joining else [])]
    elif isinstance(node, Arbiter):
        command += [
            "arbiter", "--dir", str(cluster.data_dir(node)), "--cluster-id", cluster.cluster_id, "--id",
            str(node.node_id), *cluster.holder,
        ]  # fmt: skip
    else:
        cluster.home(node).mkdir(parents=True, exist_ok=True)
        command += ["witness", "--listen", f"{HOST}:{node.port}", "--dir", str(cluster.data_dir(node))]
    with cluster.log_file(node).open("ab") as output:
        process = subprocess.Popen(
            command, cwd=cluster.home(node), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    node.child = process
    node.pid = process.pid
    node.started = start_time(process.pid)


def wait_listening(member: Member, timeout_s: float) -> None:
    """Wait until the process holds its port. Raises NotListening when it ends or takes too long."""
    deadline = time.monotonic() + timeout_s
    while port_free(member.port):
        if not alive(member):
            raise NotListening(f"{member.name} stopped right after its start")
        if time.monotonic() > deadline:
            raise NotListening(f"{member.name} does not listen on port {member.port} after {timeout_s:.0f} s")
        time.sleep(POLL_S)


def stop(nodes: Sequence[Member], grace_s: float) -> list[Member]:
    """SIGTERM to all, then SIGKILL to those that outlive ``grace_s``; returns the ones that had to be killed."""
    running = [node for node in nodes if alive(node)]
    for node in running:
        _signal(node, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(alive(node) for node in running) and time.monotonic() < deadline:
        _reap(running)
        time.sleep(POLL_S)
    killed = [node for node in running if alive(node)]
    for node in killed:
        _signal(node, signal.SIGKILL)
    while any(alive(node) for node in killed):
        _reap(killed)
        time.sleep(POLL_S)
    _reap(nodes)
    for node in running:
        node.pid = node.started = 0
    return killed


def last_lines(path: Path, count: int = 5) -> str:
    """The end of a log, for an error message."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])


def _signal(node: Member, number: int) -> None:
    # Checked again right before: between the check and the signal the pid cannot be reused by a child we have not
    # reaped, and for a detached node the window is a few microseconds.
    if alive(node):
        try:
            os.killpg(node.pid, number)
        except ProcessLookupError:
            return


def _reap(nodes: Sequence[Member]) -> None:
    """Collect exit statuses of our own children, so that they do not linger as zombies."""
    for node in nodes:
        if node.child is not None:
            node.child.poll()
