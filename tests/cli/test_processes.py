from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durakv.cli import layout, processes
from durakv.cli.layout import Node

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
OBEDIENT = "import signal; print('up', flush=True); signal.pause()"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def node_running(code: str, started: list[subprocess.Popen[bytes]]) -> Node:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    node = Node(1, 7000, 17000, pid=process.pid, started=processes.start_time(process.pid))
    node.child = process
    return node


def test_alive_needs_the_same_start_time(started: list[subprocess.Popen[bytes]]) -> None:
    node = node_running(OBEDIENT, started)
    assert processes.alive(node)
    node.started += 1
    assert not processes.alive(node)


def test_a_process_that_took_over_the_pid_is_not_signalled(started: list[subprocess.Popen[bytes]]) -> None:
    node = node_running(OBEDIENT, started)
    node.started += 1
    assert processes.stop([node], 1.0) == []
    assert started[0].poll() is None


def test_stop_terminates(started: list[subprocess.Popen[bytes]]) -> None:
    node = node_running(OBEDIENT, started)
    pid = node.pid
    assert processes.stop([node], 10.0) == []
    assert processes.start_time(pid) == 0
    assert (node.pid, node.started) == (0, 0)


def test_stop_kills_after_the_grace(started: list[subprocess.Popen[bytes]]) -> None:
    node = node_running(STUBBORN, started)
    pid = node.pid
    assert processes.stop([node], 0.2) == [node]
    assert processes.start_time(pid) == 0


def test_a_zombie_is_not_alive(started: list[subprocess.Popen[bytes]]) -> None:
    node = node_running(OBEDIENT, started)
    os.kill(node.pid, signal.SIGKILL)
    os.waitid(os.P_PID, node.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.alive(node)


def test_stopped_nodes_have_no_process() -> None:
    assert not processes.alive(Node(1, 7000, 17000))
    assert processes.start_time(0x7FFFFFF) == 0


def test_port_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not processes.port_free(port)
    assert processes.port_free(port)


def test_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert processes.last_lines(path) == ""
    path.write_text("x" * 10000 + "\n" + "".join(f"line {n}\n" for n in range(9)))
    assert processes.last_lines(path, 2) == "line 7\nline 8"


def test_start_and_stop_a_server_process(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 1, 7000, ["no-such-directive 1"])
    node = cluster.nodes[0]
    cluster.write_conf(node)
    processes.start(cluster, node)
    assert os.getpgid(node.pid) == node.pid
    assert node.child is not None
    assert node.child.wait(30) != 0
    assert not processes.alive(node)
    assert "no-such-directive" in processes.last_lines(cluster.log_file(node))
