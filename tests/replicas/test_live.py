"""Stock servers as replicas of real durakv nodes: files, streams, broken links, changes of leader, files by SAVE."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import redis

from tests.live.group import Group, Node
from tests.migration.live import SERVERS, Server, wait
from tests.replicas.programs import KINDS, program
from tests.replicas.stocks import Contents, assert_equal, in_file, saved

pytestmark = [pytest.mark.live, pytest.mark.skipif(not SERVERS, reason="needs redis-server or valkey-server on PATH")]


def _follow(server: Server, node: Node) -> redis.Redis:
    client = server.client()
    client.replicaof("127.0.0.1", node.port)
    wait(lambda: client.info("replication")["master_link_status"] == "up", "the first synchronisation", 60)
    return client


def _contents(node: Node, path: Path) -> Contents:
    """All a node has, by the file it gives away."""
    # redis-cli leaves the end of a longer file that was there.
    path.unlink(missing_ok=True)
    subprocess.run(
        ["redis-cli", "-p", str(node.port), "--rdb", str(path)], check=True, capture_output=True, timeout=30
    )  # fmt: skip
    return in_file(path.read_bytes())


def _settled(node: Node, server: Server, path: Path) -> None:
    """The replica has all and is equal."""
    mark = f"end {time.monotonic_ns()}".encode()
    writer = node.client()
    writer.set("the-end", mark)
    wait(lambda: server.client().get("the-end") == mark, "the replica has caught up", 60)
    wait(lambda: node.client(protocol=2).get("the-end") == mark, "the node has, too")
    _become_equal(lambda: _contents(node, path), lambda: saved(server.client(), server.directory))


def _become_equal(ours: Callable[[], Contents], theirs: Callable[[], Contents]) -> None:
    """Both are looked at one after the other, and what has a deadline may go in between: once has to be enough."""
    for _ in range(20):
        first, second = ours(), theirs()
        if first == second:
            return
        time.sleep(0.2)
    assert_equal(first, second)


class _Load:
    """Random writes of all types until told to stop. ``sent`` counts."""

    def __init__(self, node: Node, seed: int) -> None:
        self.sent = 0
        self.stopping = False
        self.node = node
        self.thread = threading.Thread(target=self._run, args=(Random(seed),))

    def __enter__(self) -> _Load:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        self.thread.join()

    def _run(self, dice: Random) -> None:
        client = self.node.client()
        while not self.stopping:
            for words in program(dice.choice(KINDS), dice, 20):
                if words[0] in (b"MULTI", b"EXEC", b"SELECT"):
                    continue
                try:
                    client.execute_command(*words)
                except redis.ResponseError:
                    # Many commands are refused for good reasons: a wrong type, a missing group.
                    pass
                except redis.ConnectionError:
                    time.sleep(0.02)
                self.sent += 1


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Group(tmp_path_factory.mktemp("group"), 3) as made:
        yield made


@pytest.mark.parametrize("program_name", SERVERS)
def test_a_replica_follows_any_node(group: Group, tmp_path: Path, program_name: str) -> None:
    leader = group.leader()
    follower = next(node for node in group.nodes if node is not leader)
    writer = leader.client()
    writer.set("deadline", "x", px=1_000_000)
    with Server(program_name, tmp_path / "replica") as server, _Load(leader, 1) as load:
        _follow(server, follower)
        row = follower.client().info("replication")["slave0"]
        assert (row["port"], row["state"], row["type"]) == (server.port, "online", "replica")
        [client] = [row for row in follower.client().client_list() if row["flags"] == "S"]
        # Its link breaks: what it missed is still there.
        before = load.sent
        follower.client().client_kill_filter(_id=client["id"])
        wait(lambda: load.sent > before + 50, "writes go on")
        wait(lambda: follower.client().info("stats")["sync_partial_ok"] >= 1, "the replica is back")
        load.stopping = True
        load.thread.join()
        assert follower.client().info("stats")["sync_full"] >= 1
        _settled(follower, server, tmp_path / "ours.rdb")
        # Who leads does not matter to who follows a follower.
        leader.client().execute_command("FAILOVER")
        wait(lambda: group.leader() is not leader, "another node leads")
        group.leader().client().set("after", "the change")
        wait(lambda: server.client().get("after") == b"the change", "the replica follows on")
        assert server.client().execute_command("ROLE")[3] == b"connected"


def test_large_collections_under_steady_writes(tmp_path: Path) -> None:
    with Group(tmp_path, 1) as single:
        _large_collections(single.leader(), tmp_path)


def _large_collections(leader: Node, tmp_path: Path) -> None:
    client = leader.client()
    for at in range(0, 25_000, 5000):
        some = range(at, at + 5000)
        pipe = client.pipeline(transaction=False)
        pipe.hset("large-hash", mapping={f"f{n}": n for n in some})
        pipe.zadd("large-zset", {f"m{n}": n for n in some})
        pipe.sadd("large-set", *some)
        pipe.rpush("large-list", *some)
        pipe.execute()
    with Server(SERVERS[0], tmp_path / "replica") as server:
        _follow(server, leader)
        begun = int(leader.client().info("replication")["master_repl_offset"])
        for n in range(500):
            pipe = client.pipeline(transaction=False)
            pipe.hset("large-hash", f"f{n * 7}", "new")
            pipe.zincrby("large-zset", 0.5, f"m{n}")
            pipe.srem("large-set", n)
            pipe.rpush("large-list", n)
            pipe.lpop("large-list")
            pipe.execute()
        _settled(leader, server, tmp_path / "ours.rdb")
        # Elements were sent, not collections.
        assert int(leader.client().info("replication")["master_repl_offset"]) - begun < 500 * 600


def test_a_restarted_node_begins_with_a_file(group: Group, tmp_path: Path) -> None:
    node = next(node for node in group.nodes if node is not group.leader())
    with Server(SERVERS[0], tmp_path / "replica") as server:
        client = _follow(server, node)
        known = client.info("replication")["master_replid"]
        node.stop()
        node.start()
        wait(lambda: client.info("replication")["master_replid"] != known, "a stream of another name")
        wait(lambda: client.info("replication")["master_link_status"] == "up", "the replica is back")
        group.leader().client().set("after-restart", 1)
        wait(lambda: client.get("after-restart") == b"1", "it follows")


def test_another_group_follows(group: Group, tmp_path: Path) -> None:
    source = next(node for node in group.nodes if node is not group.leader())
    writer = group.leader().client()
    with Group(tmp_path, 1) as copy, _Load(group.leader(), 3) as load:
        target = copy.leader()
        target.client().execute_command("REPLICAOF", "127.0.0.1", source.port)
        wait(lambda: target.client().info("replication")["master_link_status"] == "up", "the synchronisation", 60)
        before = load.sent
        wait(lambda: load.sent > before + 100, "writes go on")
        load.stopping = True
        load.thread.join()
        writer.set("the-end", "here")
        wait(lambda: target.client().get("the-end") == b"here", "the copy has caught up", 60)
        assert target.client().info("replication")["import_failed_commands"] == 0
        _become_equal(
            lambda: _contents(source, tmp_path / "ours.rdb"), lambda: _contents(target, tmp_path / "theirs.rdb")
        )


def test_rights_of_a_replica(group: Group, tmp_path: Path) -> None:
    leader = group.leader()
    admin = leader.client()
    admin.execute_command("ACL", "SETUSER", "replicator", "on", ">secret", "+psync", "+replconf", "+ping")
    admin.execute_command("ACL", "SETUSER", "stranger", "on", ">secret", "+ping", "+replconf")
    try:
        with Server(SERVERS[0], tmp_path / "replica", "--masteruser", "stranger", "--masterauth", "secret") as server:
            client = server.client()
            client.replicaof("127.0.0.1", leader.port)
            wait(lambda: "NOPERM" in (tmp_path / "replica" / "log").read_text(), "PSYNC is refused")
            client.config_set("masteruser", "replicator")
            wait(lambda: client.info("replication")["master_link_status"] == "up", "the synchronisation")
    finally:
        admin.execute_command("ACL", "DELUSER", "replicator", "stranger")


class _Listener:
    """A replica that says which version it is and shows what it was sent."""

    def __init__(self, port: int, version: str, replid: str = "?", offset: int = -1) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(20)
        self.file = self.socket.makefile("rb")
        self.ask("REPLCONF", "listening-port", "1", "capa", "eof", "capa", "psync2")
        self.ask("REPLCONF", "version", version)
        self.send("PSYNC", replid, str(offset))
        while not (line := self.file.readline()).strip():
            pass
        self.answer, self.replid, *rest = line.decode().split()
        if rest:
            self.offset = int(rest[0])
            self.rdb = self.file.read(int(self.file.readline()[1:]))

    def send(self, *words: str) -> None:
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words))

    def ask(self, *words: str) -> None:
        self.send(*words)
        assert self.file.readline() == b"+OK\r\n"

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def words(self, until: bytes) -> list[bytes]:
        """Arguments of the stream up to one of them."""
        found: list[bytes] = []
        while not found or found[-1] != until:
            line = self.file.readline()
            if line.startswith(b"$"):
                found.append(self.file.read(int(line[1:]) + 2)[:-2])
        return found


def test_deadlines_of_fields_go_to_those_who_know_them(group: Group) -> None:
    leader = group.leader()
    client = leader.client()
    client.delete("timed")
    client.hset("timed", mapping={f"f{n}": n for n in range(3)})
    client.execute_command("HPEXPIREAT", "timed", 4_000_000_000_000, "FIELDS", 1, "f0")
    knows, knows_not = _Listener(leader.port, "9.0.0"), _Listener(leader.port, "8.1.0")
    assert knows.rdb.startswith(b"VALKEY080")
    assert knows_not.rdb.startswith(b"REDIS00")
    assert knows.replid != knows_not.replid
    client.execute_command("HPEXPIREAT", "timed", 4_000_000_000_001, "FIELDS", 1, "f1")
    client.set("end", "of it")
    sent = knows.words(b"of it")
    at = sent.index(b"HPEXPIREAT")
    assert sent[at : at + 6] == [b"HPEXPIREAT", b"timed", b"4000000000001", b"FIELDS", b"1", b"f1"]
    assert b"HPEXPIREAT" not in knows_not.words(b"of it")
    wait(lambda: "replica-lossy" in leader.log_text(), "the operator is told")
    assert knows.answer == knows_not.answer == "+FULLRESYNC"
    # A link that broke at a byte of one's choice; and one to another stream.
    again = _Listener(leader.port, "9.0.0", knows.replid, knows.offset + 1)
    assert (again.answer, again.replid) == ("+CONTINUE", knows.replid)
    assert again.words(b"of it") == sent
    other = _Listener(leader.port, "8.1.0", knows.replid, knows.offset + 1)
    assert other.answer == "+FULLRESYNC"
    for listener in (knows, knows_not, again, other):
        listener.close()


def test_save(group: Group) -> None:
    node = next(node for node in group.nodes if node is not group.leader())
    client = node.client(single_connection_client=True)
    path = node.directory / "dump.rdb"
    path.unlink(missing_ok=True)
    before = client.lastsave()
    # Without deadlines of fields, so that redis-check-rdb knows the file's version.
    group.leader().client().flushall()
    group.leader().client().set("saved", "yes")
    client.execute_command("READONLY")
    wait(lambda: client.get("saved") == b"yes", "the write has come here")
    # LASTSAVE counts seconds.
    time.sleep(1.1)
    assert client.execute_command("SAVE") in (b"OK", True)
    assert in_file(path.read_bytes())[0, b"saved"] == (-1, b"yes")
    if shutil.which("redis-check-rdb"):
        subprocess.run(["redis-check-rdb", str(path)], check=True, capture_output=True, timeout=20)
    assert client.lastsave() > before
    facts = client.info("persistence")
    assert (facts["rdb_bgsave_in_progress"], facts["rdb_last_bgsave_status"], facts["rdb_saves"]) == (0, "ok", 1)
    pipe = client.pipeline(transaction=False)
    for _ in range(2):
        pipe.execute_command("BGSAVE")
    pipe.execute_command("BGSAVE", "SCHEDULE")
    first, second, third = pipe.execute(raise_on_error=False)
    assert first in (b"Background saving started", True)
    assert str(second) == "Background save already in progress"
    assert third in (b"Background saving scheduled", True)
    wait(lambda: client.info("persistence")["rdb_saves"] == 3, "both files")
    client.config_set("dbfilename", "elsewhere.rdb")
    client.execute_command("SAVE")
    assert (node.directory / "elsewhere.rdb").exists()
