"""The recovery commands beside and after a real server that keeps checkpoints and drops its log behind them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.group import Node, free_ports

from .recovery_directory import run, segments, told
from .test_recovery_live import wait_ready

pytestmark = pytest.mark.live


def node_on(directory: Path, port: int, *more: str) -> Node:
    options = ["--enable-debug-command", "yes", "--reserve-size", "0", "--min-free", "0", "--segment-size", "1mb",
               "--checkpoint-interval", "1", "--log-follower-keep", "0"]  # fmt: skip
    node = Node(1, port, directory, [*options, *more])
    node.start()
    wait_ready(node)
    return node


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not come about")


def fill(node: Node, name: str, megabytes: int) -> None:
    """Values that fill segments, and some of every type."""
    with node.client() as client:
        for n in range(megabytes * 4):
            client.set(f"{name}:{n}", b"x" * 250_000 + b"%d" % n)
        client.hset(f"{name}-hash", mapping={f"f{n}": "v" for n in range(100)})
        client.rpush(f"{name}-list", *range(200))
        client.zadd(f"{name}-scores", {f"m{n}": n for n in range(100)})
        client.xadd(f"{name}-stream", {"k": "v"}, id="5-5")


def test_back_before_the_checkpoint_of_a_server_that_archives(tmp_path: Path) -> None:
    data, archive, new = tmp_path / "data", tmp_path / "archive", tmp_path / "new"
    archive.mkdir()
    port = free_ports(1)[0]
    node = node_on(data, port, "--archive-dir", str(archive))
    try:
        fill(node, "early", 3)
        with node.client() as client:
            wanted = client.execute_command("DEBUG", "DIGEST")
            client.flushall()
        fill(node, "late", 3)
        until(lambda: len(list(archive.glob("*.log"))) >= 5)
        # Beside the server: nothing that is being written is taken for damage.
        for _ in range(3):
            assert told(0, "verify", data)["findings"] == []
        backup = tmp_path / "backup"
        made = told(0, "backup", "create", data, "--out", backup)
        assert made["first"] > 1
        assert told(0, "backup", "verify", backup)["faults"] == []
        assert told(0, "space", data, "--archive", archive)["in_use"] is True
        with node.client() as client:
            later = client.execute_command("DEBUG", "DIGEST")
        assert node.stop() == 0
    finally:
        node.kill()
    document = told(0, "verify", data, "--deep")
    assert document["checkpoint"]["index"] >= document["log"]["first"] - 1 > 0
    assert told(0, "digest", data)["digest"] == told(0, "digest", backup)["digest"]
    refused = run("restore", data, "--before", "FLUSHALL", "--out", new)
    assert (refused.exit_code, "--archive" in refused.output) == (70, True)
    at = ["--address", f"127.0.0.1:{port}@{port + 10000}"]
    told(0, "restore", data, "--archive", archive, "--before", "FLUSHALL", "--out", new, *at)
    check_starts(new, port, wanted)
    # The backup and the archive alone lead there as well, and the backup to its end.
    shutil.rmtree(data)
    told(0, "restore", backup, "--archive", archive, "--before", "FLUSHALL", "--out", tmp_path / "again", *at)
    check_starts(tmp_path / "again", port, wanted)
    told(0, "restore", backup, "--out", tmp_path / "end", *at)
    check_starts(tmp_path / "end", port, later)


def check_starts(directory: Path, port: int, wanted: bytes) -> None:
    """A server takes the directory, has the data, makes checkpoints of it and can be started again."""
    for round_ in range(2):
        node = node_on(directory, port)
        try:
            with node.client() as client:
                assert client.execute_command("DEBUG", "DIGEST") == wanted
                if round_ == 0:
                    client.set("goes", "on")
                    client.delete("goes")
                    client.save()
            assert node.stop() == 0
        finally:
            node.kill()
    assert told(0, "verify", directory, "--deep")["checkpoint"]["index"] > 0


def test_a_new_cluster_of_a_real_node(tmp_path: Path) -> None:
    data = tmp_path / "data"
    port = free_ports(1)[0]
    node = node_on(data, port)
    try:
        fill(node, "some", 3)
        until(lambda: told(0, "inspect", data)["log"]["first"] > 1)
        with node.client() as client:
            wanted = client.execute_command("DEBUG", "DIGEST")
    finally:
        node.kill()
    assert segments(data)
    told(3, "recover", "unsafe-new-cluster", data, "--this-node", 1, "--yes-lose-data")
    check_starts(data, port, wanted)
