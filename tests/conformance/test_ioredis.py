"""ioredis, plain and as a cluster client. Installed on first use below ``build/``; skipped aloud where it cannot be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.group import Group

_HERE = Path(__file__).parent / "ioredis"
_HOME = Path(__file__).parents[2] / "build" / "ioredis"
_UNTESTED = "untested here: that ioredis works with durakv"
# npm says so when the registry cannot be reached; any other failure of npm is a failure of the test.
_OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED", "E403")


def _skip(reason: str) -> None:
    print(f"{reason}; {_UNTESTED}")
    pytest.skip(f"{reason}; {_UNTESTED}")


@pytest.fixture(scope="session")
def ioredis() -> Path:
    """The directory the pinned ioredis is installed in."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        _skip("node and npm are not installed")
    assert npm is not None
    pinned = json.loads((_HERE / "package.json").read_text())["dependencies"]["ioredis"]
    installed = _HOME / "node_modules" / "ioredis" / "package.json"
    if installed.exists() and json.loads(installed.read_text())["version"] == pinned:
        return _HOME
    _HOME.mkdir(parents=True, exist_ok=True)
    shutil.copy(_HERE / "package.json", _HOME)
    try:
        run = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline",
             "--fetch-retries", "1", "--fetch-timeout", "20000"],
            cwd=_HOME, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        _skip("npm did not finish within 60 s")
    if run.returncode != 0 and any(word in run.stderr for word in _OFFLINE):
        _skip("the npm registry cannot be reached")
    assert run.returncode == 0, run.stdout + run.stderr
    return _HOME


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Group(tmp_path_factory.mktemp("cluster"), 3, ["--cluster-enabled", "yes"]) as group:
        yield group


def session(home: Path, mode: str, ports: list[int]) -> list[str]:
    """The parts of the scripted session that passed; all of it must."""
    run = subprocess.run(
        ["node", str(_HERE / "session.mjs"), mode, *map(str, ports)], env={**os.environ, "IOREDIS_HOME": str(home)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    parts = run.stdout.split("\n")
    assert parts[-2:] == ["done", ""], run.stdout + run.stderr
    return parts[:-2]


_PLAIN = ["values", "pipelines", "scans", "blocking", "messages", "watching", "auto pipelining", "databases"]


def test_plain_on_a_lone_node(ioredis: Path, alone: Group) -> None:
    assert session(ioredis, "plain", [alone.nodes[0].port]) == _PLAIN


@pytest.mark.parametrize("place", ["leader", "follower"])
def test_plain_in_a_group(ioredis: Path, three: Group, place: str) -> None:
    leader = three.leader()
    ports = sorted((node.port for node in three.nodes), key=lambda port: (port == leader.port) == (place == "follower"))
    assert session(ioredis, "plain", ports) == _PLAIN


def test_cluster_mode(ioredis: Path, cluster: Group) -> None:
    ports = [node.port for node in cluster.nodes]
    assert session(ioredis, "cluster", ports) == [
        "values", "pipelines", "slots", "blocking", "messages", "topology",
    ]  # fmt: skip
