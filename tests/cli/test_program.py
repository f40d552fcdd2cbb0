from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from durakv.cli import layout, operations, processes
from durakv.cli.program import program
from tools.bench.targets import free_ports
from tools.cli.main import program as administration


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, list(arguments))


def only_line(result: Result) -> str:
    lines = result.output.strip().splitlines()
    assert len(lines) == 1, result.output
    return lines[0]


@pytest.mark.parametrize("name", ["up", "status", "stop", "add-node", "add-witness", "remove-node", "transfer"])
def test_help(name: str) -> None:
    result = run("cluster", name, "--help")
    assert result.exit_code == 0
    assert "--dir" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["stop"],
        ["add-node"],
        ["add-witness"],
        ["remove-node", "--node", "1"],
        ["transfer", "--to", "1"],
    ],
)
def test_no_cluster_names_the_fix(tmp_path: Path, arguments: list[str]) -> None:
    result = run("cluster", *arguments, "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "durakv cluster up --dir" in only_line(result)


def test_up_refuses_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    result = run("cluster", "up", "--detach", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "choose another --dir" in only_line(result)


def test_up_refuses_a_port_in_use(tmp_path: Path) -> None:
    base = free_ports(1, apart=layout.PEER_PORT_OFFSET)[0]
    with socket.create_server(("127.0.0.1", base)):
        result = run("cluster", "up", "--detach", "--nodes", "1", "--base-port", str(base), "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert f"port {base} is in use" in only_line(result)
    assert not layout.exists(tmp_path)


def test_up_refuses_stray_words(tmp_path: Path) -> None:
    result = run("cluster", "up", "--dir", str(tmp_path), "--", "maxmemory", "1gb")
    assert result.exit_code == 1
    assert "-- --name value" in only_line(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "5"], "holds 3 nodes, not 5"),
        (["--base-port", "9000"], "was created on port 7000"),
        (["--witness"], "use `durakv cluster add-witness`"),
        (["--", "--maxmemory", "1gb"], "other directives"),
    ],
)
def test_up_refuses_another_shape(tmp_path: Path, arguments: list[str], message: str) -> None:
    made = layout.plan(tmp_path, 3, 7000, [])
    made.bootstrapped = True
    made.save()
    result = run("cluster", "up", "--dir", str(tmp_path), *arguments)
    assert result.exit_code == 1
    assert message in only_line(result)


def test_up_on_a_running_cluster(tmp_path: Path) -> None:
    made = layout.plan(tmp_path, 1, 7000, [])
    sleeper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    try:
        made.nodes[0].pid, made.nodes[0].started = sleeper.pid, processes.start_time(sleeper.pid)
        made.bootstrapped = True
        made.save()
        result = run("cluster", "up", "--detach", "--dir", str(tmp_path))
        assert result.exit_code == 1
        assert "already running" in only_line(result)
        assert processes.alive(made.nodes[0])
    finally:
        sleeper.kill()
        sleeper.wait()


def test_unknown_node(tmp_path: Path) -> None:
    made = layout.plan(tmp_path, 3, 7000, [])
    made.save()
    result = run("cluster", "transfer", "--to", "9", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "there is no node 9" in only_line(result)


def test_stop_of_a_stopped_cluster(tmp_path: Path) -> None:
    layout.plan(tmp_path, 3, 7000, []).save()
    result = run("cluster", "stop", "--dir", str(tmp_path))
    assert (result.exit_code, only_line(result)) == (0, "Stopped 0 nodes")


def test_status_without_leader_exits_with_1(tmp_path: Path) -> None:
    base = free_ports(2)[0]
    layout.plan(tmp_path, 2, base, []).save()
    result = run("cluster", "status", "--json", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert '"leader": null' in only_line(result)


def test_a_node_that_dies_at_once_is_explained(tmp_path: Path) -> None:
    made = layout.plan(tmp_path, 1, free_ports(1, apart=layout.PEER_PORT_OFFSET)[0], ["no-such-directive 1"])
    made.bootstrapped = True
    made.write_conf(made.nodes[0])
    operations.start_stopped(made)
    try:
        with pytest.raises(operations.OperationError, match="no-such-directive"):
            operations.wait_for_leader(made, "", 30.0)
    finally:
        processes.stop(made.nodes, 5.0)


def test_administration_program() -> None:
    assert "info" in CliRunner().invoke(administration, ["--help"]).output
    assert CliRunner().invoke(administration, ["--version"]).output.startswith("durakv-cli, version ")
    result = CliRunner().invoke(administration, ["info"])
    assert result.exit_code == 0
    assert "hiredis" in result.output
