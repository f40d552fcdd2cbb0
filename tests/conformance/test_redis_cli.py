"""redis-cli and redis-benchmark, as an operator would use them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.conformance.conftest import Site
from tests.live.group import Group, Node

CLI = shutil.which("redis-cli") or shutil.which("valkey-cli")
BENCHMARK = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
BENCHMARK_TESTS = "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset"

needs_cli = pytest.mark.skipif(CLI is None, reason="no redis-cli here: that it works with durakv is untested")
needs_benchmark = pytest.mark.skipif(
    BENCHMARK is None, reason="no redis-benchmark here: that it works with durakv is untested"
)


def cli(node: Node, *arguments: str, stdin: str | None = None) -> str:
    """Standard output of redis-cli; it must exit with 0."""
    assert CLI is not None
    run = subprocess.run(
        [CLI, "-h", "127.0.0.1", "-p", str(node.port), *arguments], input=stdin or "", capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, f"redis-cli {arguments}: {run.stdout}{run.stderr}"
    return run.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Group(tmp_path_factory.mktemp("cluster"), 3, ["--cluster-enabled", "yes"]) as group:
        group.agreed()
        yield group


@needs_cli
def test_commands_and_their_formats(site: Site) -> None:
    node, version = site.node, f"-{site.protocol}"
    assert cli(node, version, "SET", "k", "v") == "OK\n"
    assert cli(node, version, "GET", "k") == "v\n"
    assert cli(node, version, "GET", "absent") == "\n"
    assert cli(node, version, "RPUSH", "l", "a", "b") == "2\n"
    assert cli(node, version, "--no-raw", "LRANGE", "l", "0", "-1") == '1) "a"\n2) "b"\n'
    assert cli(node, version, "GET", "l").startswith("WRONGTYPE ")
    assert cli(node, version, "--json", "HGETALL", "h") in ("{}\n", "[]\n")
    assert cli(node, version, stdin="MULTI\nSET k 2\nGET k\nEXEC\n") == "OK\nQUEUED\nQUEUED\nOK\n2\n"
    assert cli(node, version, "-n", "2", "GET", "k") == "\n"
    assert "redis_version:" in cli(node, version, "INFO")


@needs_cli
def test_scan_bigkeys_and_memkeys(site: Site) -> None:
    with site.client() as client, client.pipeline(transaction=False) as p:
        for i in range(300):
            p.set(f"k{i}", "x" * i)
        p.rpush("list", *range(50)).hset("hash", mapping={"a": 1}).sadd("set", 1).zadd("zset", {"a": 1}).execute()
    assert sorted(cli(site.node, "--scan", "--pattern", "k*").split()) == sorted(f"k{i}" for i in range(300))
    found = cli(site.node, "--bigkeys")
    assert "304 keys" in found and "Biggest   list found '\"list\"' has 50 items" in found, found
    assert "Biggest string found '\"k299\"' has 299 bytes" in found, found
    assert "Sampled 304 keys" in cli(site.node, "--memkeys")


@needs_cli
def test_pipe_mode_loads_everything(site: Site) -> None:
    lines = "".join(f"SET pipe:{i} {i}\r\n" for i in range(2000))
    assert "errors: 0, replies: 2000" in cli(site.node, "--pipe", stdin=lines)
    assert cli(site.node, "DBSIZE") == "2000\n"


@needs_cli
def test_cluster_check_and_info(cluster: Group) -> None:
    for node in cluster.nodes:
        address = f"127.0.0.1:{node.port}"
        checked = cli(node, "--cluster", "check", address)
        assert "[OK] All nodes agree about slots configuration." in checked, checked
        assert "[OK] All 16384 slots covered." in checked, checked
        assert "[ERR]" not in checked and "[WARNING]" not in checked, checked
        info = cli(node, "--cluster", "info", address)
        assert "16384 slots | 2 slaves." in info and "in 1 masters." in info, info


@needs_cli
def test_cli_follows_redirects(cluster: Group) -> None:
    leader = cluster.leader()
    for node in cluster.nodes:
        value = str(node.node_id)
        assert cli(node, "-c", "SET", "k", value).splitlines()[-1] == "OK"
        assert cli(node, "-c", "GET", "k").splitlines()[-1] == value
        if node is not leader:
            assert cli(node, "GET", "k") == f"MOVED 7629 127.0.0.1:{leader.port}\n\n"


@needs_benchmark
def test_benchmark_runs(site: Site) -> None:
    if site.protocol == 3:
        pytest.skip("once per place is enough: redis-benchmark speaks one protocol")
    assert BENCHMARK is not None
    run = subprocess.run(
        [BENCHMARK, "-h", "127.0.0.1", "-p", str(site.node.port), "-t", BENCHMARK_TESTS, "-n", "2000", "-c", "20",
         "-P", "4", "-q", "--csv"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    named = {line.split('","')[0].strip('"').split()[0] for line in run.stdout.splitlines()[1:]}
    assert {"SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN"} <= named
    assert any(name.startswith("LRANGE") for name in named) and "MSET" in named
    assert "error" not in (run.stdout + run.stderr).lower()
    with site.client() as client:
        assert client.get("key:__rand_int__") is not None
