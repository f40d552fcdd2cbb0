"""``durakv cluster`` with a witness: created, looked at, broken, mended, changed and stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from durakv.cli import layout, operations, processes
from durakv.cli.program import program
from tests.live.load import eventually
from tests.live.witnessed import QUICK
from tools.bench.targets import free_ports

pytestmark = [
    pytest.mark.live,
    # The command line leaves its children running on purpose.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def run(root: Path, *words: str, expect: int = 0) -> str:
    """One ``durakv cluster`` command; its output."""
    result = CliRunner().invoke(program, ["cluster", words[0], "--dir", str(root), *words[1:]])
    assert result.exit_code == expect, f"{words}: {result.output}"
    return result.output


def status(root: Path) -> dict[str, Any]:
    """The document of ``status --json``."""
    result = CliRunner().invoke(program, ["cluster", "status", "--dir", str(root), "--json"])
    document: dict[str, Any] = json.loads(result.output)
    return document


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A cluster's directory; whatever runs there is stopped at the end."""
    yield tmp_path / "cluster"
    if layout.exists(tmp_path / "cluster"):
        left = layout.load(tmp_path / "cluster")
        processes.stop(left.processes(), 0.1)


def test_a_cluster_with_a_witness_from_creation_to_stop(root: Path) -> None:
    base = free_ports(4, apart=layout.PEER_PORT_OFFSET)[0]
    out = run(root, "up", "--nodes", "2", "--witness", "--base-port", str(base), "--detach", "--", *QUICK)
    assert "2 nodes and a witness" in out and f"w3  127.0.0.1:{base + 2}" in out
    made = layout.load(root)
    assert made.witness is not None
    assert (made.witness.node_id, made.witness.address, made.next_id) == (3, f"tcp://127.0.0.1:{base + 2}", 4)
    assert (root / "w3" / "durakv.log").exists()
    eventually(lambda: status(root)["witness"]["replication_set"] == [1, 2], "both nodes are in step")
    facts = status(root)["witness"]
    assert (facts["health"], facts["pinned"], facts["copies"], facts["node_id"]) == ("ok", False, 2, 3)

    leader = status(root)["leader"]
    dead = 3 - leader
    os.kill(made.node(dead).pid, signal.SIGKILL)
    eventually(lambda: status(root)["witness"]["pinned"] is True, "the witness stands in")
    table = run(root, "status")
    assert "PINNED" in table and f"n{leader}+w3" in table
    assert "stands in for node" in run(root, "remove-node", "--node", "3", expect=1)
    assert "two full nodes" in run(root, "remove-node", "--node", str(dead), expect=1)
    run(root, "up", "--detach")
    eventually(lambda: status(root)["witness"]["replication_set"] == [1, 2], "the node is back in step")

    assert "w3 is the witness already" in run(root, "add-witness", expect=1)
    assert "w3 is no longer a member" in run(root, "remove-node", "--node", "3")
    assert status(root)["witness"] is None
    shared = f"file://{root.parent}/shared"
    assert f"w4 is the witness, at {shared}" in run(root, "add-witness", "--at", shared)
    added = run(root, "add-node")
    assert "n5 is a voter" in added
    eventually(lambda: status(root)["witness"]["replication_set"] == [1, 2, 5], "three nodes are in step")
    assert "n5 is no longer a member" in run(root, "remove-node", "--node", "5")
    assert "leave --witness out" in run(root, "up", "--witness", "--detach", expect=1)
    assert run(root, "stop") == "Stopped 2 nodes\n"
    assert not any(processes.alive(member) for member in layout.load(root).processes())


def test_a_witness_process_that_is_gone_or_empty_is_seen_at_rest(root: Path) -> None:
    base = free_ports(3, apart=layout.PEER_PORT_OFFSET)[0]
    run(root, "up", "--nodes", "2", "--witness", "--base-port", str(base), "--detach", "--", *QUICK)
    made = layout.load(root)
    witness = made.witness
    assert witness is not None
    os.kill(witness.pid, signal.SIGKILL)
    eventually(lambda: not processes.alive(witness), "the witness has ended")
    assert status(root)["witness"]["health"].startswith("down")
    made.data_dir(witness).rename(root / "elsewhere")
    run(root, "up", "--detach")
    assert status(root)["witness"]["health"].startswith("WITNESS_STATE_LOST")
    assert "WITNESS_STATE_LOST" in run(root, "status")
    run(root, "remove-node", "--node", "3")
    run(root, "add-witness")
    assert status(root)["witness"]["health"] == "ok"
    operations.stop_all(layout.load(root))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nodes", "1", "--witness"], "write --nodes 2 --witness"),
        (["--nodes", "2", "--witness", "http://nowhere"], "invalid witness address"),
        (["--nodes", "2", "--witness", "file:///proc/durakv"], "cannot create the cluster"),
    ],
)
def test_a_witness_that_cannot_be_is_refused_in_one_line(root: Path, words: list[str], text: str) -> None:
    base = free_ports(3, apart=layout.PEER_PORT_OFFSET)[0]
    out = run(root, "up", *words, "--base-port", str(base), "--detach", expect=1)
    assert text in out
    assert len(out.strip().splitlines()) == 1, out
