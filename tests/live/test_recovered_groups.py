"""One group of several loses its majority, or is restored: it stays the group it was founded as, with what moved."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.live.test_shards import PATIENT, Shards, ask, everybody_knows, free_range, running, wait

pytestmark = pytest.mark.live

KEYS = [f"k{n}" for n in range(200)]
MOVED = ["SLOTSRANGE", "0", "99", "8000", "8191"]
RUNS = [[0, 99], [100, 7999], [8000, 16383]]


def admin(code: int, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "durakv.cli.admin", *words], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def filled(shards: Shards) -> None:
    """Keys in both groups, and some slots of group 1 moved to group 2 since it was founded."""
    wait(lambda: everybody_knows(shards))
    client = shards.client()
    for key in KEYS:
        client.set(key, f"value of {key}")
    target = ask(shards.port(2), "CLUSTER MYID").decode()
    assert ask(shards.port(1), "CLUSTER", "MIGRATESLOTS", *MOVED, "NODE", target) == b"OK"
    wait(lambda: ask(shards.port(1), "CLUSTER GETSLOTMIGRATIONS")[0][b"state"] == b"success")


def data_of(root: Path, group: int) -> Path:
    return root / f"g{group}" / f"n{1000 * (group - 1) + 1}" / "data"


def whole(ports: list[int]) -> bool:
    for port in ports:
        info = ask(port, "CLUSTER INFO")
        if info["cluster_state"] != "ok" or info["cluster_known_nodes"] != str(len(ports)):
            return False
        if [run[:2] for run in ask(port, "CLUSTER SLOTS")] != RUNS:
            return False
    return True


def test_a_group_without_its_majority_comes_back_among_the_others(tmp_path: Path) -> None:
    with running(tmp_path, 2, 1, PATIENT) as shards:
        shards.run("add-node", "--group", "1")
        wait(lambda: ask(shards.port(2), "CLUSTER INFO")["cluster_known_nodes"] == "3")
        filled_and_stopped(shards)
        data = data_of(shards.root, 1)
        said = admin(70, "recover", "unsafe-new-cluster", str(data), "--this-node", "1")
        assert "given up: nodes 2 (must never start again; fenced by the new cluster id)" in said
        assert "it stays group 1" in said and "--keep-cluster-id keeps it among them" in said
        told = admin(3, "recover", "unsafe-new-cluster", str(data), "--this-node", "1", "--keep-cluster-id",
                     "--others-are-gone", "--yes-lose-data", "--json")  # fmt: skip
        document = json.loads(told)
        known = json.loads((shards.root / "g1" / "cluster.json").read_text())
        assert (document["group"], document["cluster"], document["given_up"]) == (1, known["cluster_id"], [2])
        known["nodes"] = [node for node in known["nodes"] if node["id"] == 1]
        (shards.root / "g1" / "cluster.json").write_text(json.dumps(known))
        shards.again()
        wait(lambda: whole([shards.port(1), shards.port(2)]))
        client = shards.client()
        assert [client.get(key) for key in KEYS] == [f"value of {key}".encode() for key in KEYS]
        # It grows again, and slots move back.
        shards.run("add-node", "--group", "1")
        back = ask(shards.port(1), "CLUSTER MYID").decode()
        assert ask(shards.port(2), "CLUSTER", "MIGRATESLOTS", *MOVED, "NODE", back) == b"OK"
        wait(lambda: ask(shards.port(2), "CLUSTER GETSLOTMIGRATIONS")[0][b"state"] == b"success")
        again = shards.client()
        assert [again.get(key) for key in KEYS] == [f"value of {key}".encode() for key in KEYS]


def filled_and_stopped(shards: Shards) -> None:
    client = shards.client()
    for key in KEYS:
        client.set(key, f"value of {key}")
    target = ask(shards.port(2), "CLUSTER MYID").decode()
    leader = leader_port(shards)
    assert ask(leader, "CLUSTER", "MIGRATESLOTS", *MOVED, "NODE", target) == b"OK"
    wait(lambda: ask(leader, "CLUSTER GETSLOTMIGRATIONS")[0][b"state"] == b"success")
    # Also on the node that will be left.
    wait(lambda: ask(shards.port(1), "CLUSTER GETSLOTMIGRATIONS")[0][b"state"] == b"success")
    shards.run("stop")


def leader_port(shards: Shards) -> int:
    wait(lambda: shards.status()[0]["leader"])
    row = shards.status()[0]
    known = json.loads((shards.root / "g1" / "cluster.json").read_text())["nodes"]
    return int(next(node["port"] for node in known if node["id"] == row["leader"]))


def test_refusals(tmp_path: Path) -> None:
    with running(tmp_path, 2, 1) as shards:
        shards.run("stop")
        data = str(data_of(shards.root, 1))
        words = ("recover", "unsafe-new-cluster", data, "--this-node", "1", "--keep-cluster-id", "--yes-lose-data")
        done = subprocess.run(
            [sys.executable, "-m", "durakv.cli.admin", *words], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 70 and "destroy their directories and add --others-are-gone" in done.stderr
        # Under a new id it is a group of several on its own.
        document = json.loads(admin(3, *words[:5], "--yes-lose-data", "--json"))
        assert document["group"] == 1
        assert document["cluster"] != json.loads((shards.root / "g1" / "cluster.json").read_text())["cluster_id"]


def test_groups_restored_under_one_id_are_one_cluster(tmp_path: Path) -> None:
    with running(tmp_path / "old", 2, 1) as shards:
        filled(shards)
    base = free_range(2)
    cluster_id = "0123456789abcdef" * 2
    servers: list[Any] = []
    try:
        for group in (1, 2):
            out = tmp_path / f"restored{group}"
            said = admin(0, "restore", str(data_of(shards.root, group)), "--out", str(out), "--node-id", str(group),
                         "--address", f"127.0.0.1:{base + group - 1}", "--cluster-id", cluster_id)  # fmt: skip
            assert f"--cluster-enabled yes --group-id {group}" in said and f"--cluster-id {cluster_id}" in said
            servers.append(subprocess.Popen(
                [sys.executable, "-m", "durakv", "server", "--dir", str(out), "--port", str(base + group - 1),
                 "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--group-id", str(group), "--cluster-seeds",
                 f"127.0.0.1:{base + (group % 2) + 10_000}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ))  # fmt: skip
        wait(lambda: answers(base) and answers(base + 1) and whole([base, base + 1]))
        client = Shards.client(Place(base))  # type: ignore[arg-type]
        assert [client.get(key) for key in KEYS] == [f"value of {key}".encode() for key in KEYS]
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
            server.wait(20)


class Place:
    """Where a client begins."""

    def __init__(self, port: int) -> None:
        self._port = port

    def port(self, group: int) -> int:
        return self._port


def answers(port: int) -> bool:
    try:
        return bool(ask(port, "PING"))
    except redis.exceptions.ConnectionError:
        return False
