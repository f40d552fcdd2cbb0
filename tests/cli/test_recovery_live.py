"""The recovery commands beside and after a real server: back to just before a FLUSHALL, and hands off a directory in
use.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.live.group import Node, free_ports

from .recovery_directory import run, told

pytestmark = pytest.mark.live


def wait_ready(node: Node) -> None:
    for _ in range(1500):
        assert node.process is not None
        assert node.process.poll() is None, node.log_text()
        try:
            with node.client() as client:
                client.set("ready", 1)
                client.delete("ready")
        except Exception:  # noqa: BLE001 - whatever a server says that is not up yet
            threading.Event().wait(0.02)
        else:
            return
    raise AssertionError(node.log_text())


def node_on(directory: Path, port: int) -> Node:
    node = Node(
        1,
        port,
        directory,
        ["--enable-debug-command", "yes", "--reserve-size", "0", "--min-free", "0", "--segment-size", "4mb"],
    )
    node.start()
    wait_ready(node)
    return node


def test_back_to_just_before_a_flushall(tmp_path: Path) -> None:
    data, new = tmp_path / "data", tmp_path / "new"
    port = free_ports(1)[0]
    node = node_on(data, port)
    try:
        with node.client() as client:
            client.hset("hash", mapping={"f": "v", "g": "w"})
            client.rpush("list", *range(50))
            client.zadd("scores", {"a": 1.5, "b": 2})
            client.set("soon", "x", ex=1000)
            client.xadd("stream", {"k": "v"}, id="5-5")
            for n in range(100):
                client.incrby("counter", n)
            wanted = client.execute_command("DEBUG", "DIGEST")
            # The accident, in one turn of the server with what came before and after it.
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(b"SET last-words 1\r\nFLUSHALL\r\nSET too-late 1\r\n")
                got = b""
                while got.count(b"+OK\r\n") < 3:
                    got += raw.recv(100)
            assert client.dbsize() == 1
        check_hands_off(data, tmp_path)
    finally:
        node.kill()
    # Killed, not stopped: what follows the last frame is whatever was allocated ahead.
    assert run("verify", data, "--deep").exit_code == 0
    at = ["--address", f"127.0.0.1:{port}@{port + 10000}"]
    document = told(0, "restore", data, "--before-command", "FLUSHALL", "--out", new, *at)
    assert document["left_out_entries"] >= 1
    told(0, "restore", data, "--before-command", "FLUSHALL", "--rdb", tmp_path / "before.rdb")
    assert (tmp_path / "before.rdb").stat().st_size > 200
    again = node_on(new, port)
    try:
        with again.client() as client:
            assert client.get("last-words") == b"1"
            assert client.get("too-late") is None
            client.delete("last-words")
            assert client.execute_command("DEBUG", "DIGEST") == wanted
            assert client.lrange("list", 0, -1) == [b"%d" % n for n in range(50)]
            client.set("goes", "on")
        assert again.stop() == 0
    finally:
        again.kill()
    assert told(0, "verify", new, "--deep")["deep"]["keys"] > 5


def check_hands_off(data: Path, tmp_path: Path) -> None:
    """What writes, or needs a log that stands still, refuses a directory in use."""
    for arguments in (
        ("repair", data, "--yes"), ("truncate", data, "--to-index", 3, "--yes-lose-data"), ("digest", data),
        ("restore", data, "--to-index", 3, "--out", tmp_path / "no"), ("bench-disk", data),
    ):  # fmt: skip
        refused = run(*arguments)
        assert (refused.exit_code, "server is running on it" in refused.output) == (73, True), arguments
    assert told(0, "inspect", data)["in_use"] is True


def test_looking_while_a_server_writes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    port = free_ports(1)[0]
    node = node_on(data, port)
    stop = threading.Event()

    def write() -> None:
        with node.client() as client:
            while not stop.is_set():
                with client.pipeline(transaction=False) as pipe:
                    for n in range(50):
                        pipe.set(f"k{n}", "v" * 300)
                    pipe.execute()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        ends = []
        for _ in range(3):
            document = told(0, "verify", data)
            assert (document["in_use"], document["findings"]) == (True, [])
            ends.append(document["log"]["last"])
        assert ends == sorted(set(ends)), "the log grew meanwhile"
        assert run("log", "dump", data, "--json").exit_code == 0
        assert told(0, "space", data)["in_use"] is True
        told(0, "backup", "create", data, "--out", tmp_path / "kept")
    finally:
        stop.set()
        writer.join()
        node.kill()
    kept = told(0, "inspect", tmp_path / "kept")["log"]
    assert kept["last"] > ends[-1]
    assert told(0, "backup", "verify", tmp_path / "kept")["faults"] == []
    assert run("verify", data).exit_code == 0
