"""durakv-cli import and export against live servers: everything arrives once, and what does not is told."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest
import redis
from click.testing import CliRunner, Result

from durakv.cli.admin import program
from tests.rdb.formats import lzf, module_value, rdb, string
from tests.rdb.stock import at, digest, free_port, stock
from tests.rdb.test_stock import OLD, SOON_MS, fill

pytestmark = pytest.mark.live


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> dict[str, object]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, object] = json.loads(result.stdout)
    return document


def exported(data: Path, *arguments: str | Path) -> dict[str, object]:
    return done("export", data, "--databases", "32", *arguments)


def address(client: redis.Redis) -> str:
    return f"127.0.0.1:{client.connection_pool.connection_kwargs['port']}"


@contextlib.contextmanager
def durakv(directory: Path) -> Iterator[redis.Redis]:
    """A group of one; what it keeps stays in ``directory``."""
    directory.mkdir(exist_ok=True)
    port = free_port()
    with (directory.parent / "durakv.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "durakv", "server", "--port", str(port), "--dir", str(directory), "--databases",
             "32", "--peer-port", str(free_port()), "--bind", "127.0.0.1", "--appendfsync", "no", "--reserve-size",
             "0"],
            stdout=log, stderr=log,
        )  # fmt: skip
        client = redis.Redis(port=port, socket_timeout=30)
        try:
            for _ in range(1500):
                assert process.poll() is None, (directory.parent / "durakv.log").read_text()
                try:
                    client.set("durakv-test-ready", "1")
                    break
                except (redis.ConnectionError, redis.ResponseError):
                    threading.Event().wait(0.02)
            client.delete("durakv-test-ready")
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A file of a stock server with everything in it, and its digest."""
    directory = tmp_path_factory.mktemp("source")
    with stock("redis-server", directory) as source:
        fill(source, 5, 15)
        source.set("large", os.urandom(3 << 20))
        source.set("large-soon", b"x" * (2 << 20), pxat=SOON_MS)
        source.rpush("long-list", *[b"%d" % n * 30 for n in range(30_000)])
        source.hset("long-hash", mapping={f"field{n}": "v" * 60 for n in range(20_000)})
        source.zadd("long-zset", {f"member{n}" * 4: n / 7 for n in range(30_000)})
        source.sadd("long-set", *[f"member{n}" * 4 for n in range(30_000)])
        for name in ("long-list", "long-hash"):
            source.pexpireat(name, SOON_MS)
        source.save()
        return directory / "dump.rdb", digest(source)


def test_an_rdb_file_arrives_unchanged(saved: tuple[Path, bytes], tmp_path: Path) -> None:
    path, expected = saved
    with stock("redis-server", tmp_path) as target:
        outcome = done("import", path, "--to", address(target))
        assert outcome["left_out"] == []
        assert digest(target) == expected
        again = run("import", path, "--to", address(target), "--json")
        assert again.exit_code == 2
        left_out = json.loads(again.stdout)["left_out"]
        assert [entry["reason"] for entry in left_out] == ["key exists already (--replace overwrites)"]
        assert left_out[0]["count"] == outcome["imported_keys"]
        target.delete("large")
        target.lpush("long-list", "more")
        assert done("import", path, "--to", address(target), "--replace")["imported_keys"] == outcome["imported_keys"]
        assert digest(target) == expected


def test_through_durakv_into_files_that_a_stock_server_loads(saved: tuple[Path, bytes], tmp_path: Path) -> None:
    path, expected = saved
    data = tmp_path / "data"
    with durakv(data) as server:
        assert done("import", path, "--to", address(server))["left_out"] == []
        assert "a durakv server is running on it" in run("export", data, "--rdb", tmp_path / "no.rdb").output
    rdb_dir, aof_dir = tmp_path / "rdb", tmp_path / "aof"
    rdb_dir.mkdir()
    aof_dir.mkdir()
    told = exported(data, "--rdb", rdb_dir / "dump.rdb")
    assert told["known_committed"] == told["index"] == told["last_in_log"]
    assert run("export", data, "--rdb", rdb_dir / "dump.rdb").exit_code == 1
    exported(data, "--aof", aof_dir / "appendonlydir")
    with stock("redis-server", rdb_dir) as target:
        assert digest(target) == expected
    with stock("redis-server", aof_dir, "--appendonly", "yes") as target:
        assert digest(target) == expected
        target.set("more", "1")


def test_an_earlier_state_can_be_exported(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with durakv(data) as server:
        for n in range(5):
            server.set("k", n)
    last = exported(data, "--rdb", tmp_path / "last.rdb")
    index = last["index"]
    assert isinstance(index, int)
    exported(data, "--rdb", tmp_path / "early.rdb", "--at-index", str(index - 2))
    (tmp_path / "t").mkdir()
    (tmp_path / "early.rdb").rename(tmp_path / "t" / "dump.rdb")
    with stock("redis-server", tmp_path / "t") as target:
        # A stop may write an entry of its own after the last SET.
        assert target.get("k") in {b"2", b"3"}
    result = run("export", data, "--rdb", tmp_path / "no.rdb", "--at-index", str(index + 1), "--databases", "32")
    assert (result.exit_code, (tmp_path / "no.rdb").exists()) == (70, False)
    assert "choose a smaller --at-index" in result.output


def write_log(source: redis.Redis) -> None:
    """Commands of all kinds, not one of which may count twice."""
    pipe = source.pipeline(transaction=False)
    for n in range(3000):
        pipe.incr("counter")
        pipe.append("text", f"{n},")
        pipe.rpush(f"list{n % 50}", n)
        if n % 10 == 0:
            pipe.pexpireat(f"list{n % 50}", SOON_MS)
            pipe.lpop("list7")
    pipe.execute()
    with at(source, 4).pipeline(transaction=True) as transaction:
        transaction.set("a", 1)
        transaction.incrby("a", 41)
        transaction.execute_command("SELECT", 5)
        transaction.rpush("b", 1, 2, 3)
        transaction.execute()
    at(source, 6).xadd("stream", {"f": "v"}, id="1-1")
    source.set("soon", "x", pxat=SOON_MS)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An append-only directory with an RDB base, and its digest."""
    directory = tmp_path_factory.mktemp("aof")
    with stock("redis-server", directory, "--appendonly", "yes") as source:
        fill(source, 6, 5)
        source.bgrewriteaof()
        for _ in range(500):
            if not source.info("persistence")["aof_rewrite_in_progress"]:
                break
            threading.Event().wait(0.02)
        write_log(source)
        return directory / "appendonlydir", digest(source)


def test_an_append_only_directory_arrives_unchanged(logged: tuple[Path, bytes], tmp_path: Path) -> None:
    path, expected = logged
    with stock("redis-server", tmp_path) as target:
        outcome = done("import", path, "--to", address(target))
        assert outcome["left_out"] == []
        assert int(str(outcome["commands"])) > 9000
        assert digest(target) == expected
        refused = run("import", path, "--to", address(target))
        assert refused.exit_code == 70
        assert "database 0 holds keys" in refused.output
        assert digest(target) == expected


def test_an_append_only_directory_through_durakv(logged: tuple[Path, bytes], tmp_path: Path) -> None:
    path, expected = logged
    data = tmp_path / "data"
    with durakv(data) as server:
        assert done("import", path, "--to", address(server))["left_out"] == []
    (tmp_path / "t").mkdir()
    exported(data, "--rdb", tmp_path / "t" / "dump.rdb")
    with stock("redis-server", tmp_path / "t") as target:
        assert digest(target) == expected


def test_a_truncated_end_is_dropped_and_told(tmp_path: Path) -> None:
    with stock("redis-server", tmp_path, "--appendonly", "yes", "--aof-use-rdb-preamble", "no") as source:
        source.set("whole", "1")
        source.set("cut", "2")
    parts = sorted((tmp_path / "appendonlydir").glob("*.incr.aof"))
    parts[-1].write_bytes(parts[-1].read_bytes()[:-3])
    (tmp_path / "t").mkdir()
    with stock("redis-server", tmp_path / "t") as target:
        outcome = done("import", tmp_path / "appendonlydir", "--to", address(target))
        assert "the beginning of a write that was never finished" in str(outcome["truncated"])
        assert target.keys() == [b"whole"]


def test_an_old_single_file_and_old_encodings(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(OLD)
    old = tmp_path / "appendonly.aof"
    old.write_bytes(OLD + b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
    data = tmp_path / "data"
    with durakv(data) as server:
        outcome = done("import", old, "--to", address(server))
        assert (outcome["imported_keys"], outcome["commands"], outcome["left_out"]) == (8, 1, [])
        assert at(server, 2).get("k") == b"v"
        assert server.hgetall("zipmap") == {b"f": b"1", b"g": b"x" * 70}


def test_refusals_come_before_the_first_write(tmp_path: Path) -> None:
    files = {
        "module": (rdb(b"\x00\x01k\x01v" + b"\x07\x01m" + module_value(b"")), "--skip-modules"),
        "damaged": (rdb(b"\x00\x01k\x01v")[:-1] + b"\x00", "damaged at byte"),
        "database": (rdb(b"\x00\x01k\x01v\xfe\x3f\x00\x01k\x01v"), "out of range"),
        "unknown": (rdb(b"\x00\x01k\x01v\x1c\x01m\x00", 12), "type 28"),
        "command": (b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$8\r\nNONSENSE\r\n", "does not know nonsense"),
    }
    with stock("redis-server", tmp_path) as target:
        target.set("k", "kept")
        for name, (data, text) in files.items():
            path = tmp_path / f"{name}.file"
            path.write_bytes(data)
            result = run("import", path, "--to", address(target), "--replace", "--into-existing")
            assert result.exit_code == 70, result.output
            assert text in result.output
            assert "Nothing was written" in result.output
            assert (target.dbsize(), target.get("k")) == (1, b"kept")
        outcome = run("import", tmp_path / "module.file", "--to", address(target), "--replace", "--skip-modules")
        assert outcome.exit_code == 2
        assert "Left out: 1 x module value: 'm'" in outcome.output
        assert target.get("k") == b"v"


def test_what_is_left_out_is_told_by_reason(tmp_path: Path) -> None:
    bad_list = b"\x0a" + string(b"bad") + string(b"no ziplist")
    data = rdb(
        b"\xfc" + pack("<q", 5) + b"\x00\x03old\x01v" + b"\x01\x05empty\x00" + bad_list
        + b"\x00\x01z" + lzf(b"y" * 3000) + b"\x00\x01n\xc0\x2a"
    )  # fmt: skip
    path = tmp_path / "x.rdb"
    path.write_bytes(data)
    with stock("redis-server", tmp_path) as target:
        result = run("import", path, "--to", address(target), "--json")
        left_out = json.loads(result.stdout)["left_out"]
        told = {entry["reason"]: (entry["harmless"], entry["samples"]) for entry in left_out}
        assert result.exit_code == 2
        assert told == {
            "expired": (True, ["old"]),
            "empty collection": (True, ["empty"]),
            "refused by the server: ERR Bad data format": (False, ["bad"]),
        }
        assert (target.get("z"), target.get("n"), target.dbsize()) == (b"y" * 3000, b"42", 2)


NEVER = 1 << 60


class Cutter:
    """Passes one connection on to a server, and cuts it once so many bytes have gone there, or have come back."""

    def __init__(self, port: int, bytes_max: int, back_max: int) -> None:
        self.back_max = back_max
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, args=(port, bytes_max))
        self.thread.start()

    def serve(self, port: int, bytes_max: int) -> None:
        client, _ = self.listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=self.back, args=(server, client))
            back.start()
            left = bytes_max
            while left and (data := client.recv(min(left, 65536))):
                server.sendall(data)
                left -= len(data)
            self.cut(client, server)
            back.join()
        self.listener.close()

    @staticmethod
    def cut(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def back(self, server: socket.socket, client: socket.socket) -> None:
        left = self.back_max
        with contextlib.suppress(OSError):
            while left and (data := server.recv(min(left, 65536))):
                client.sendall(data)
                left -= len(data)
        self.cut(client)


def resumed(path: Path, target: redis.Redis, cuts: list[tuple[int, int]]) -> None:
    """Import over connections that break after so many bytes there or back, going on as the last line says."""
    port = target.connection_pool.connection_kwargs["port"]
    extra: list[str] = []
    for there, back in cuts:
        cutter = Cutter(port, there, back)
        result = run("import", path, "--to", cutter.address, *extra)
        cutter.thread.join()
        assert result.exit_code == 74, result.output
        extra = result.output.strip().splitlines()[-1].rpartition("same command with ")[2].split()
        assert extra[0] == "--resume"
    done("import", path, "--to", address(target), *extra)


def test_an_interrupted_rdb_import_goes_on(saved: tuple[Path, bytes], tmp_path: Path) -> None:
    path, expected = saved
    with stock("redis-server", tmp_path) as target:
        cuts = [(30_000, NEVER), (200_000, NEVER), (NEVER, 300), (40_000, NEVER), (50_000, NEVER)]
        resumed(path, target, cuts)
        assert digest(target) == expected


def test_an_interrupted_aof_import_applies_nothing_twice(logged: tuple[Path, bytes], tmp_path: Path) -> None:
    path, expected = logged
    with stock("redis-server", tmp_path) as target:
        # The answer to EXEC is lost half-way: the batch counts although nobody heard so.
        resumed(path, target, [(20_000, NEVER), (NEVER, 14_000), (130_000, NEVER), (NEVER, 26_000), (90_001, NEVER)])
        assert target.get("counter") == b"3000"
        assert digest(target) == expected


CODE = "#!lua name=lib\nredis.register_function('answer', function(keys, args) return 42 end)\n"


def test_functions_and_deadlines_of_fields_through_durakv(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    with stock("redis-server", tmp_path / "a") as source:
        source.execute_command("FUNCTION", "LOAD", CODE)
        source.set("k", "v")
        source.save()
    data = tmp_path / "data"
    timed = rdb(
        b"\x18" + string(b"redis") + pack("<Q", SOON_MS) + b"\x02\x00" + string(b"f") + string(b"1") + b"\x03"
        + string(b"g") + string(b"2"), 12,
    )  # fmt: skip
    (tmp_path / "timed.rdb").write_bytes(timed)
    with durakv(data) as server:
        outcome = done("import", tmp_path / "a" / "dump.rdb", "--to", address(server))
        assert (outcome["imported_keys"], outcome["functions"], outcome["left_out"]) == (1, 1, [])
        assert server.execute_command("FCALL", "answer", "0") == 42
        server.hset("h", mapping={"f": "1", "g": "2"})
        server.execute_command("HPEXPIREAT", "h", SOON_MS, "FIELDS", "1", "f")
        assert done("import", tmp_path / "timed.rdb", "--to", address(server))["left_out"] == []
        assert server.execute_command("HPEXPIRETIME", "redis", "FIELDS", "2", "f", "g") == [-1, SOON_MS + 2]
        server.eval("redis.call('SET', 'script', 'ran')", 0)
    result = run("export", data, "--databases", "32", "--rdb", tmp_path / "no.rdb", "--rdb-version", "11")
    assert (result.exit_code, (tmp_path / "no.rdb").exists()) == (1, False)
    assert "--drop-field-ttl" in result.output
    told = exported(data, "--rdb", tmp_path / "b" / "dump.rdb", "--drop-field-ttl")
    assert (told["keys"], told["hashes_without_field_ttl"]) == (4, 2)
    with stock("redis-server", tmp_path / "b") as target:
        assert target.execute_command("FCALL", "answer", "0") == 42
        assert (target.hgetall("h"), target.get("script")) == ({b"f": b"1", b"g": b"2"}, b"ran")
    exported(data, "--rdb", tmp_path / "c" / "dump.rdb")
    assert (tmp_path / "c" / "dump.rdb").read_bytes().startswith(b"VALKEY080")
    with durakv(tmp_path / "second") as server:
        done("import", tmp_path / "c" / "dump.rdb", "--to", address(server))
        assert server.execute_command("HPEXPIRETIME", "h", "FIELDS", "2", "f", "g") == [SOON_MS, -1]
        assert server.execute_command("FCALL", "answer", "0") == 42
