"""A server that cannot start says why in one line that names the way out, and exits with an error."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.live.group import Group, free_ports

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]
CLUSTER = "00112233445566778899aabbccddeeff"


SERVER = ["-m", "durakv", "server"]
# Root, who may do anything, becomes somebody else once the program is loaded.
BECOME_NOBODY = (
    "import codecs, os, sys; from durakv.process import run_server; codecs.lookup('ascii'); os.setuid(65534); "
    "sys.exit(run_server(sys.argv[1:]))"
)
AS_NOBODY = ["-c", BECOME_NOBODY]


def refusal(*arguments: str, program: list[str] = SERVER) -> str:
    """The only line the server prints on stderr before it gives up."""
    run = subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, timeout=30,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert run.returncode not in (0, -9, -11), f"exit code {run.returncode}: {run.stderr}"
    lines = run.stderr.strip().splitlines()
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("durakv: "), lines[0]
    return lines[0]


def test_client_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        (peer,) = free_ports(1)
        line = refusal(
            "--dir", str(tmp_path / "d"), "--bind", "127.0.0.1", "--port", str(port), "--peer-port", str(peer)
        )
    assert f"port {port}" in line and "stop it or choose another `port`" in line


def test_peer_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        peer = holder.getsockname()[1]
        (port,) = free_ports(1)
        line = refusal(
            "--dir", str(tmp_path / "d"), "--bind", "127.0.0.1", "--port", str(port), "--peer-port", str(peer)
        )
    assert f"{peer}" in line and "`peer-port`" in line


def test_address_of_another_machine(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    assert "`bind`" in refusal("--dir", str(tmp_path / "d"), "--bind", "192.0.2.1", "--port", str(port))


def test_directories_of_others(tmp_path: Path) -> None:
    with Group(tmp_path, 1) as group:
        node = group.nodes[0]
        (port,) = free_ports(1)
        where = ["--bind", "127.0.0.1", "--port", str(port)]
        line = refusal("--dir", str(node.directory), *where)
        assert str(node.directory) in line and "another" in line, line
        with node.client() as client:
            assert client.ping(), "the server that holds the directory is undisturbed"
        assert node.stop() == 0
        line = refusal("--dir", str(node.directory), "--cluster-id", CLUSTER, "--node-id", "1", *where)
        assert "belongs to cluster" in line and "point --dir at" in line
        line = refusal("--dir", str(node.directory), "--cluster-id", group.cluster_id, "--node-id", "2", *where)
        assert "belongs to node" in line and "point --dir at" in line
        for lost in ("raft", "log"):
            copy = tmp_path / f"without-{lost}"
            shutil.copytree(node.directory, copy)
            shutil.rmtree(copy / lost)
            line = refusal("--dir", str(copy), *where)
            assert "has lost" in line and "add it again under a new node id" in line


def test_a_known_member_without_its_data(tmp_path: Path) -> None:
    line = refusal("--dir", str(tmp_path / "d"), "--cluster-id", CLUSTER, "--node-id", "2", "--port", "0")
    assert "already a member" in line and "add it again under a new node id" in line
    assert not (tmp_path / "d" / "IDENTITY").exists(), "a refused start leaves nothing that a later one would trust"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nosuch", "1"], "nosuch: unknown directive; see `durakv --help-config`"),
        (["--maxmemory", "lots"], "maxmemory: "),
        (["--port", "65536"], "port: "),
        (["--port", "x"], "port: "),
        (["--appendfsync", "sometimes"], "appendfsync: "),
        (["--port"], 'needs a value; write "port <value>"'),
        (["--appendonly", "no"], "leave the directive out"),
        (["--replicaof", "127.0.0.1 6379"], "CLUSTER ADDNODE"),
        (["--maxmemory-policy", "lru"], "must be one of the following: noeviction"),
        (["--cluster-id", "zz", "--node-id", "1"], "must be 32 lower-case hex digits"),
        (["--cluster-id", CLUSTER], "node-id"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_directives(tmp_path: Path, arguments: list[str], expected: str) -> None:
    assert expected in refusal("--dir", str(tmp_path / "d"), *arguments)
    assert not (tmp_path / "d").exists(), "nothing is created before the directives are understood"


def test_configuration_files(tmp_path: Path) -> None:
    path = tmp_path / "durakv.conf"
    assert f"{path}: cannot read it: No such file or directory" in refusal(str(path))
    path.write_text("# a comment\nport 7000\nbogus yes\n")
    assert f"{path}:3: bogus: unknown directive" in refusal(str(path))
    path.write_text('dir "never closed\n')
    assert f"{path}:1: quotes: a quote is not closed" in refusal(str(path))
    path.write_text("include elsewhere.conf\n")
    assert "elsewhere.conf" in refusal(str(path))
    path.unlink()
    path.mkdir()
    assert "cannot read it: Is a directory" in refusal(str(path))


def test_a_configuration_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "durakv.conf"
    path.write_bytes(b"port 7000\n\xff\xfe\x00\n")
    assert str(path) in refusal(str(path))


def test_permissions() -> None:
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    program = AS_NOBODY if os.geteuid() == 0 else SERVER
    path = base / "durakv.conf"
    path.write_text("port 7000\n")
    path.chmod(0)
    assert "cannot read it: Permission denied" in refusal(str(path), program=program)
    (base / "closed").mkdir(mode=0o500)
    for directory in (base / "closed", base / "closed" / "d"):
        line = refusal("--dir", str(directory), "--port", "0", program=program)
        assert str(directory) in line and "this user may not write there" in line and "chown" in line
    shutil.rmtree(base)


@pytest.mark.parametrize("below", ["", "sub", "log", "LOCK", "IDENTITY"])
def test_a_data_directory_that_is_none(tmp_path: Path, below: str) -> None:
    directory = tmp_path / "d"
    wrong = directory / below if below in {"log", "LOCK", "IDENTITY"} else directory
    if below in {"LOCK", "IDENTITY"}:
        wrong.mkdir(parents=True)
    else:
        wrong.parent.mkdir(exist_ok=True)
        wrong.write_text("precious")
    line = refusal("--dir", str(directory / "sub" if below == "sub" else directory), "--port", "0")
    assert f"cannot use {directory}" in line and str(wrong) in line and "--dir" in line and "Errno" not in line
    kept = wrong.is_dir() or wrong.read_text() == "precious"
    assert kept


def test_a_path_nobody_can_make() -> None:
    assert "choose a --dir whose parent can be written" in refusal("--dir", "/proc/nosuch", "--port", "0")
    assert "choose a shorter --dir" in refusal("--dir", "a" * 300, "--port", "0")
