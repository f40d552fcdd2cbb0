"""Real servers to follow, and what they hold, comparable with what a group holds."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.live.group import Group, Node, free_ports

Holdings = dict[tuple[int, bytes], tuple[object, ...]]

SERVERS = [name for name in ("redis-server", "valkey-server") if shutil.which(name)]


def piped(client: redis.Redis, *, transaction: bool) -> Any:
    """A pipeline whose methods can be chained, which the client's types do not say."""
    return client.pipeline(transaction=transaction)


def plain_client(port: int, **options: object) -> redis.Redis:
    return redis.Redis(
        host="127.0.0.1", port=port, socket_timeout=10, socket_connect_timeout=2,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0), **options,  # type: ignore[arg-type]
    )  # fmt: skip


def wait(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class Server:
    """A redis-server or valkey-server that may be stopped and started again on its directory."""

    def __init__(self, program: str, directory: Path, *directives: str, port: int = 0) -> None:
        self.program = program
        self.directory = directory
        self.directory.mkdir(exist_ok=True)
        self.port = port or free_ports(5)[-1]
        self.directives = directives
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory),
                 "--save", "", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes", *self.directives],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        wait(lambda: bool(self.client().ping()), "the source answers")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self, **options: object) -> redis.Redis:
        return plain_client(self.port, **options)

    def offset(self) -> int:
        return int(self.client().info("replication")["master_repl_offset"])

    def stats(self) -> dict[str, int]:
        return self.client().info("stats")


def fill(client: redis.Redis, scale: int = 1) -> None:
    """Keys of every type and encoding, with and without deadlines, in two databases."""
    with piped(client, transaction=False) as p:
        for n in range(400 * scale):
            p.set(f"s{n}", f"value {n}", px=3_600_000 if n % 3 == 0 else None)
        p.set("int", 12345).set("text", "x" * 5000).set("large", bytes(range(256)) * 1200)
        p.setbit("bits", 1000, 1).pfadd("hll", *range(500)).geoadd("geo", (13.361389, 38.115556, "Palermo"))
        for size in (3, 200, 3000 * scale):
            p.rpush(f"list{size}", *[f"element {n}" for n in range(size)])
            p.sadd(f"ints{size}", *range(size))
            p.sadd(f"set{size}", *[f"member {n}" for n in range(size)])
            p.zadd(f"zset{size}", {f"member {n}": n / 7 for n in range(size)})
            p.hset(f"hash{size}", mapping={f"field {n}": f"value {n}" for n in range(size)})
        p.zadd("infinite", {"a": float("inf"), "b": float("-inf")})
        p.rpush("wide", *["w" * 9000 for _ in range(30)])
        for n in range(1, 300):
            p.xadd("stream", {"field": n, "other": "x" * (n % 50)}, id=f"{n}-{n}")
        p.xdel("stream", "5-5", "299-299")
        p.xgroup_create("stream", "group", "0").xreadgroup("group", "consumer", {"stream": ">"}, count=10)
        p.xack("stream", "group", "2-2").xgroup_create("stream", "idle", "$")
        p.pexpire("hash200", 7_200_000).pexpire("stream", 7_200_000)
        p.execute()
    other = redis.Redis(connection_pool=redis.ConnectionPool(**{**client.connection_pool.connection_kwargs, "db": 3}))
    other.mset({f"other{n}": n for n in range(50)})
    other.connection_pool.disconnect()


def holdings(client: redis.Redis) -> Holdings:
    """(database, key) -> (type, deadline in unix ms, content), read by commands."""
    out: Holdings = {}
    options = client.connection_pool.connection_kwargs
    for db in (0, 3):
        each = redis.Redis(connection_pool=redis.ConnectionPool(**{**options, "db": db}))
        keys = list(each.scan_iter(count=5000))
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            with piped(each, transaction=False) as p:
                for key in some:
                    p.type(key).pexpiretime(key)
                facts = p.execute()
            with piped(each, transaction=False) as p:
                for n in range(len(some)):
                    _read(p, some[n], facts[2 * n])
                contents = p.execute()
            at = 0
            for n in range(len(some)):
                kind = facts[2 * n]
                width = 3 if kind == b"stream" else 1
                out[db, some[n]] = (kind, facts[2 * n + 1], _plain(kind, contents[at : at + width]))
                at += width
        each.connection_pool.disconnect()
    return out


def _read(p: redis.client.Pipeline, key: bytes, kind: bytes) -> None:
    if kind == b"string":
        p.get(key)
    elif kind == b"list":
        p.lrange(key, 0, -1)
    elif kind == b"set":
        p.smembers(key)
    elif kind == b"zset":
        p.zrange(key, 0, -1, withscores=True)
    elif kind == b"hash":
        p.hgetall(key)
    else:
        p.xrange(key)
        p.xinfo_groups(key)
        p.xpending_range(key, "group", "-", "+", 1000)


def _plain(kind: bytes, contents: list[Any]) -> object:
    if kind == b"stream":
        entries, groups, pending = contents
        # How long ago a message was delivered goes on changing.
        waiting = [(row["message_id"], row["consumer"], row["times_delivered"]) for row in pending]
        named = [(g["name"], g["pending"], g["last-delivered-id"], g["entries-read"], g["consumers"]) for g in groups]
        return entries, named, waiting
    return contents[0]


def differences(a: Holdings, b: Holdings) -> list[str]:
    """The first few keys that differ, for a message."""
    keys = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    return [f"{key}: {str(a.get(key))[:200]} / {str(b.get(key))[:200]}" for key in keys[:5]]


def leader_of(group: Group) -> Node:
    """The leader of a group that follows, whatever ROLE says."""
    found: list[Node] = []

    def look() -> bool:
        for node in group.nodes:
            if node.process is not None:
                with node.client() as client:
                    try:
                        if client.info("durakv")["durakv_role"] == "leader":
                            found.append(node)
                            return True
                    except redis.RedisError:
                        continue
        return False

    wait(look, "somebody leads")
    return found[0]


def facts(node: Node) -> dict[str, object]:
    with node.client() as client:
        return dict(client.info("replication"))


def follow(group: Group, server: Server) -> None:
    with group.nodes[1].client() as client:
        assert client.execute_command("REPLICAOF", "127.0.0.1", server.port) in (b"OK", True)


def unfollow(group: Group) -> None:
    with group.nodes[0].client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")


def caught_up(group: Group, server: Server) -> None:
    """Wait until every node has applied all of what the source has sent so far."""
    offset = server.offset()

    def level() -> bool:
        for node in group.nodes:
            if node.process is None:
                continue
            found = facts(node)
            assert not found.get("import_failed_commands"), found
            if found.get("import_phase") != "streaming" or int(str(found["slave_repl_offset"])) < offset:
                return False
        return True

    wait(level, f"all nodes at byte {offset}: {[facts(n) for n in group.nodes if n.process is not None]}")


class Writer:
    """A client that keeps writing to the source and knows what was acknowledged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.count = 0
        self.stopping = False
        self.errors: list[str] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        client = self.server.client()
        while not self.stopping:
            try:
                with piped(client, transaction=True) as p:
                    p.incr("w:count").rpush("w:log", self.count).hset("w:hash", str(self.count % 97), self.count)
                    p.set(f"w:{self.count % 500}", self.count, px=600_000)
                    p.execute()
                self.count += 1
            except redis.RedisError as error:
                self.errors.append(str(error))
                time.sleep(0.05)
            time.sleep(0.001)

    def stop(self) -> int:
        self.stopping = True
        self.thread.join()
        return self.count
