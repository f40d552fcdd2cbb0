"""What a node does for its replicas, without processes: replies, files, limits, silence, and files by SAVE."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from durakv.replicas.saving import Saving
from durakv.replicas.serving import Replicas
from durakv.world.real_disk import RealDisk
from tests.engine.rig import Client, Err, Rig


class _Capture:
    def __init__(self) -> None:
        self.index = 7
        self.listener = None


class _Link:
    """A connection that takes nothing while ``stuck``."""

    def __init__(self) -> None:
        self.stuck = 0

    def waiting_bytes(self) -> tuple[int, int]:
        return 0, self.stuck


class _Child:
    killed = False

    def kill(self) -> None:
        self.killed = True


class _Checkpoints:
    """Workers answer when a test says so."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self.clock = rig.clock
        self.disk = RealDisk(lambda job: job())
        self.directory = str(directory)
        self.capture = _Capture()
        self.paused = False
        self.on_new_capture: Callable[[object], None] | None = None
        self.workers: list[tuple[list[str], Callable[[str], None], Callable[[int], None]]] = []
        self.refused = ""
        (directory / "ckpt").mkdir()

    def flush(self) -> None: ...

    def save(self, then: Callable[[str], None]) -> None:
        then(self.refused)

    def spawn(self, args: list[str], on_line: Callable[[str], None], on_exit: Callable[[int], None]) -> _Child:
        self.workers.append((args, on_line, on_exit))
        return _Child()

    def work(self, content: bytes, index: int) -> None:
        args, on_line, on_exit = self.workers.pop(0)
        Path(args[2]).write_bytes(content)
        on_line(f"R {index} {len(content)} 1")
        on_exit(0)

    def frame(self, data: bytes) -> None:
        self.capture.index += 1
        assert isinstance(self.capture.listener, Replicas)
        for group in self.capture.listener.groups.values():
            self.capture.listener._made(group.feed, self.capture.index, data)


class _Node:
    def __init__(self, directory: Path, **directives: str) -> None:
        self.rig = Rig(**directives)  # type: ignore[arg-type]
        tokens = count(1)
        self.rig.engine.rng.token = lambda nbytes: next(tokens).to_bytes(nbytes, "big")  # type: ignore[method-assign]
        self.checkpoints = _Checkpoints(self.rig, directory)
        self.replicas = Replicas(self.rig.engine, self.checkpoints, f"{directory}/replicas")  # type: ignore[arg-type]
        self.replicas.start()
        self.rig.engine.replicas = self.replicas
        self.saving = Saving(self.rig.engine, self.checkpoints)  # type: ignore[arg-type]
        self.rig.engine.saving = self.saving

    def replica(self, *words: str) -> Replica:
        made = Replica(self.rig)
        made.send("REPLCONF listening-port 7000 ip-address 10.1.1.1 capa psync2")
        assert made.bytes() == b"+OK\r\n"
        made.send(" ".join(words) or "PSYNC ? -1")
        return made

    def info(self, section: str) -> str:
        client = Client(self.rig)
        client.send(f"INFO {section}")
        self.rig.settle()
        [text] = client.got()
        assert isinstance(text, bytes)
        return text.decode()


class Replica(Client):
    """Collects bytes, for they are no replies."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.taken = b""
        self.connection = _Link()
        self.session.link = self.connection

    def flush(self) -> None:
        self.taken += b"".join(self.session.out)
        self.session.out.clear()
        self.session.out_bytes = 0

    def kill(self) -> None:
        self.disconnect()

    def bytes(self) -> bytes:
        self.rig.turn()
        self.flush()
        taken, self.taken = self.taken, b""
        return taken


@pytest.fixture
def node(tmp_path: Path) -> _Node:
    return _Node(tmp_path)


def _online(node: _Node) -> tuple[Replica, str]:
    replica = node.replica()
    node.checkpoints.work(b"a file", node.checkpoints.capture.index)
    head, _, rest = replica.bytes().partition(b"\r\n")
    assert rest == b"$6\r\na file"
    return replica, head.split()[1].decode()


def test_a_file_and_the_stream_behind_it(node: _Node) -> None:
    replica = node.replica()
    assert replica.bytes() == b""
    node.checkpoints.frame(b"one ")
    node.checkpoints.frame(b"two ")
    assert "state=wait_bgsave" in node.info("replication")
    # The checkpoint ended at the first of these frames.
    node.checkpoints.work(b"a file", 8)
    head, _, rest = replica.bytes().partition(b"\r\n")
    word, replid, offset = head.split()
    assert (word, len(replid), offset) == (b"+FULLRESYNC", 40, b"4")
    assert rest == b"$6\r\na filetwo "
    node.checkpoints.frame(b"three")
    assert replica.bytes() == b"three"
    replica.send("REPLCONF ACK 13")
    assert replica.bytes() == b""
    node.rig.pass_ms(3000)
    assert "slave0:ip=10.1.1.1,port=7000,state=online,offset=13,lag=3,type=replica" in node.info("replication")
    assert "connected_slaves:1\r\n" in node.info("replication")
    assert list(Path(node.replicas.directory).iterdir()) == []


def test_a_broken_link_goes_on_and_a_strange_one_begins_again(node: _Node) -> None:
    replica, replid = _online(node)
    node.checkpoints.frame(b"0123456789")
    replica.disconnect()
    node.checkpoints.frame(b"abc")
    again = node.replica(f"PSYNC {replid} 9")
    assert again.bytes() == b"+CONTINUE %b\r\n89abc" % replid.encode()
    for words in (f"PSYNC {replid} 15", f"PSYNC {'0' * 40} 3"):
        other = node.replica(words)
        node.checkpoints.work(b"file", node.checkpoints.capture.index)
        assert other.bytes().startswith(b"+FULLRESYNC")
    assert "sync_full:3" in node.info("stats")
    assert "sync_partial_ok:1" in node.info("stats")
    assert "sync_partial_err:2" in node.info("stats")


def test_two_wait_for_one_file(node: _Node) -> None:
    first, second = node.replica(), node.replica("SYNC")
    assert len(node.checkpoints.workers) == 1
    node.checkpoints.work(b"file", 7)
    assert first.bytes().endswith(b"\r\n$4\r\nfile")
    assert second.bytes() == b"$4\r\nfile"


def test_a_file_that_fails(node: _Node) -> None:
    replica = node.replica()
    _, on_line, on_exit = node.checkpoints.workers.pop()
    on_line("E the volume is full")
    on_exit(74)
    assert replica.closed
    assert any("the volume is full" in str(event) for event in node.rig.events.seen)
    assert node.replicas.replicas == {}


def test_a_replica_that_leaves_ends_its_file(node: _Node) -> None:
    node.replica().disconnect()
    assert node.replicas.transfers == []
    node.replica()
    assert len(node.checkpoints.workers) == 2


def test_state_replaced(node: _Node) -> None:
    replica, replid = _online(node)
    assert node.checkpoints.on_new_capture is not None
    node.checkpoints.capture = _Capture()
    node.checkpoints.on_new_capture(node.checkpoints.capture)
    assert replica.closed
    again = node.replica(f"PSYNC {replid} 1")
    node.checkpoints.work(b"file", 7)
    assert again.bytes().split()[1] != replid.encode()


def test_one_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    node = _Node(tmp_path, client_output_buffer_limit="replica 3mb 2mb 5")
    replica, _ = _online(node)
    replica.connection.stuck = 1 << 20
    node.checkpoints.frame(bytes(1_200_000))
    node.rig.pass_ms(4000)
    replica.send("REPLCONF ACK 0")
    assert not replica.closed
    node.rig.pass_ms(3000)
    assert replica.closed
    replica, _ = _online(node)
    replica.connection.stuck = 1 << 20
    node.checkpoints.frame(bytes(2_500_000))
    node.rig.pass_ms(1100)
    assert replica.closed
    assert "client_output_buffer_limit_disconnections:2" in node.info("stats")


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    node = _Node(tmp_path, client_output_buffer_limit="replica 3mb 0 0")
    replica = node.replica()
    node.checkpoints.frame(bytes(4_000_000))
    node.rig.pass_ms(1100)
    assert replica.closed
    assert node.replicas.transfers == []


def test_silence_pings_and_the_end_of_the_stream(tmp_path: Path) -> None:
    node = _Node(tmp_path, repl_timeout="5", repl_ping_replica_period="2", repl_backlog_ttl="30")
    replica, _ = _online(node)
    waiting = node.replica("PSYNC ? -1")
    node.rig.pass_ms(4500)
    assert replica.bytes() == 2 * b"*1\r\n$4\r\nPING\r\n"
    assert waiting.bytes() == b"\n\n"
    replica.send("REPLCONF ACK 28")
    node.rig.pass_ms(4500)
    assert not replica.closed
    node.rig.pass_ms(2000)
    assert replica.closed
    assert not waiting.closed
    waiting.disconnect()
    assert node.checkpoints.capture.listener is node.replicas
    node.rig.pass_ms(33_000)
    assert node.checkpoints.capture.listener is None


def test_what_is_refused(node: _Node) -> None:
    client = Client(node.rig)
    for words, error in (
        ("REPLCONF listening-port", "ERR syntax error"),
        ("REPLCONF listening-port x", "ERR value is not an integer or out of range"),
        ("REPLCONF what 1", "ERR Unrecognized REPLCONF option: what"),
        ("REPLCONF version 9", "ERR Unrecognized version format: 9"),
        ("PSYNC ? x", "ERR value is not an integer or out of range"),
        (
            "PSYNC ? -1 FAILOVER",
            "ERR PSYNC FAILOVER is for replicas of the same kind; use FAILOVER or CLUSTER FAILOVER here",
        ),
        ("REPLCONF rdb-filter-only keys", "ERR Unsupported rdb-filter-only option: keys"),
    ):
        client.send(words)
        node.rig.settle()
        assert client.got() == [Err(error)]
    assert node.replicas.replicas == {}
    node.checkpoints.paused = True
    client.send("PSYNC ? -1")
    node.rig.settle()
    [answer] = client.got()
    assert str(answer).startswith("NOMASTERLINK")


def test_rdb_only_ends_after_the_file(node: _Node) -> None:
    replica = Replica(node.rig)
    replica.send("REPLCONF rdb-only 1", "REPLCONF rdb-filter-only functions", "SYNC")
    args = node.checkpoints.workers[0][0]
    assert "--without-keys" in args
    assert "--without-functions" not in args
    node.checkpoints.work(b"file", 7)
    node.rig.settle()
    assert replica.bytes() == b"+OK\r\n+OK\r\n$4\r\nfile"
    assert replica.closed


def test_save_waits_and_bgsave_does_not(node: _Node, tmp_path: Path) -> None:
    client, other = Client(node.rig), Client(node.rig)
    client.send("SAVE", "ECHO later")
    node.rig.settle()
    assert client.got() == []
    other.send("SET k v", "SAVE", "BGSAVE", "BGSAVE SCHEDULE", "BGSAVE NOW")
    node.rig.settle()
    assert other.got() == [
        b"OK", Err("ERR Background save already in progress"), Err("ERR Background save already in progress"),
        b"Background saving scheduled", Err("ERR syntax error"),
    ]  # fmt: skip
    assert "rdb_bgsave_in_progress:1" in node.info("persistence")
    node.checkpoints.work(b"an rdb file", 7)
    _until(node, lambda: not node.saving.running_s() >= 0 or node.saving.saves == 1)
    assert client.got() == [b"OK", b"later"]
    assert (tmp_path / "dump.rdb").read_bytes() == b"an rdb file"
    assert "rdb_changes_since_last_save:1" in node.info("persistence")
    # The scheduled one.
    _, on_line, on_exit = node.checkpoints.workers.pop()
    on_line("E no room")
    on_exit(74)
    assert "rdb_last_bgsave_status:err" in node.info("persistence")
    assert (tmp_path / "dump.rdb").read_bytes() == b"an rdb file"
    other.send("BGSAVE CANCEL", "BGSAVE", "BGSAVE CANCEL")
    node.rig.settle()
    assert other.got() == [
        Err("ERR Background saving is currently not in progress or scheduled"), b"Background saving started",
        b"Background saving cancelled",
    ]  # fmt: skip


def _until(node: _Node, condition: Callable[[], bool]) -> None:
    """The disk's thread calls back by itself."""
    import time

    for _ in range(500):
        if condition():
            break
        time.sleep(0.01)
    node.rig.settle()
    assert condition()
