"""Lease mode with real processes: nothing acknowledged is lost, no read is stale, when primaries die or stand still."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from pathlib import Path

import pytest
import redis

from tests.live.lease_group import GRACE_MS, LeaseGroup, impatient, pause, resume
from tests.live.load import eventually

# redis-py does not close the socket of a connection that was refused.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# How often a primary is stopped in its tracks; 200 for the full test.
_PAUSES = int(os.environ.get("LEASE_PAUSES", "6"))
_KILLS = int(os.environ.get("LEASE_KILLS", "4"))


@pytest.mark.live
@pytest.mark.timeout(120)
def test_a_killed_primary_is_replaced_in_time_and_rejoins(tmp_path: Path) -> None:
    with LeaseGroup(tmp_path) as group:
        primary = group.wait_in_sync(3)
        acked: list[str] = []
        with primary.client() as client:
            for n in range(500):
                assert client.set(f"k{n}", str(n))
                acked.append(f"k{n}")
        survivors = [node for node in group.nodes if node is not primary]
        began = time.monotonic()
        primary.kill()
        written_by = None
        while written_by is None:
            assert time.monotonic() - began < 20, group.nodes[0].log_text()
            for node in survivors:
                try:
                    with node.client() as client:
                        if client.set("after", "1"):
                            written_by = node
                            break
                except redis.RedisError:
                    continue
            time.sleep(0.01)
        took = time.monotonic() - began
        # How long it takes is for `tools.dev bench --only modes`; a machine that stands still must not fail here.
        print(f"first acknowledged write {took:.2f} s after the primary was killed")
        with written_by.client() as client:
            assert client.mget(acked) == [str(n).encode() for n in range(500)]
        primary.start()
        group.wait_up(primary)
        group.wait_in_sync(3)
        assert len({digest for _, digest in group.digests()}) == 1


class _Acked:
    """Keys whose SET was acknowledged, in order; what was not is of no interest, for it may or may not be there."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.lock = threading.Lock()

    def add(self, key: str) -> None:
        with self.lock:
            self.keys.append(key)

    def newest(self, count: int) -> list[str]:
        with self.lock:
            return self.keys[-count:]


class _Writer(threading.Thread):
    """Writes unique keys through any node."""

    def __init__(self, group: LeaseGroup, number: int, acked: _Acked, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.group = group
        self.number = number
        self.acked = acked
        self.stop = stop

    def run(self) -> None:
        chance = random.Random(self.number)
        n = 0
        while not self.stop.is_set():
            try:
                with impatient(chance.choice(self.group.nodes)) as client:
                    for _ in range(100):
                        if self.stop.is_set():
                            return
                        n += 1
                        key = f"w{self.number}:{n}"
                        if client.set(key, key):
                            self.acked.add(key)
            except redis.RedisError:
                time.sleep(0.02)


class _Reader(threading.Thread):
    """Reads newly acknowledged keys from one node: whatever was acknowledged before the question has to be there."""

    def __init__(self, group: LeaseGroup, at: int, acked: _Acked, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.node = group.nodes[at]
        self.chance = random.Random(100 + at)
        self.acked = acked
        self.stop = stop
        self.stale: list[str] = []
        self.reads = 0

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with self.node.client() as client:
                    while not self.stop.is_set():
                        newest = self.acked.newest(5)
                        if not newest:
                            time.sleep(0.01)
                            continue
                        key = self.chance.choice(newest)
                        if client.get(key) is None:
                            self.stale.append(f"{key} at node {self.node.node_id}")
                        self.reads += 1
                        time.sleep(0.002)
            except redis.RedisError:
                time.sleep(0.02)


class _Waiting:
    """Connections to a node that is about to stand still, with questions it will find first when it wakes.

    A loop looks at its sockets in the order in which they became readable, so the first question is sent at once,
    before any other node can say that it has taken over; later ones, on the same sockets, are for what it did since.
    """

    def __init__(self, port: int) -> None:
        self.sockets = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(5)]
        for each in self.sockets:
            self._ask(each, "probe")
            each.recv(100)

    def _ask(self, each: socket.socket, key: str) -> None:
        each.sendall(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key.encode()))

    def ask(self, acked: _Acked, wait_s: float) -> None:
        """Ask for the newest, over and over, all the while."""
        end = time.monotonic() + wait_s
        while True:
            for each in self.sockets:
                for key in acked.newest(3):
                    self._ask(each, key)
            if time.monotonic() >= end:
                return
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))

    def answers(self) -> list[bytes]:
        """What comes within a second of silence, per connection."""
        out = []
        for each in self.sockets:
            each.settimeout(1)
            data = b""
            try:
                while piece := each.recv(1 << 16):
                    data += piece
            except OSError:
                out.append(data)
            else:
                out.append(data)
            each.close()
        return out


@pytest.mark.live
@pytest.mark.timeout(60 + 15 * _PAUSES)
def test_a_primary_that_stands_still_loses_no_write_and_shows_no_old_value(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("LEASE_SEED", "1")))
    with LeaseGroup(tmp_path) as group:
        group.wait_in_sync(3)
        acked, stop = _Acked(), threading.Event()
        readers = [_Reader(group, at, acked, stop) for at in range(3)]
        threads: list[threading.Thread] = [*[_Writer(group, n, acked, stop) for n in range(3)], *readers]
        for thread in threads:
            thread.start()
        old_values: list[bytes] = []
        others = 0
        for _ in range(_PAUSES):
            primary = group.leader()
            time.sleep(chance.uniform(0.0, 0.3))
            before = len(acked.keys)
            waiting = _Waiting(primary.port)
            pause(primary)
            try:
                waiting.ask(acked, GRACE_MS / 1000 * chance.uniform(0.5, 3.0))
                others += len(acked.keys) > before
            finally:
                resume(primary)
            old_values += [said for said in waiting.answers() if b"$-1" in said or b"_\r\n" in said]
            reached = len(acked.keys)
            eventually(lambda: len(acked.keys) > reached + 20, "writes go on after a pause", 30)  # noqa: B023
        stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        stale = [each for reader in readers for each in reader.stale]
        assert not stale, stale[:5]
        assert not old_values, old_values[:2]
        assert sum(reader.reads for reader in readers) > 100
        leader = group.wait_in_sync(3, 40)
        missing = []
        with leader.client() as client:
            for at in range(0, len(acked.keys), 1000):
                part = acked.keys[at : at + 1000]
                missing += [k for k, v in zip(part, client.mget(part), strict=True) if v is None]
        assert not missing, f"{len(missing)} of {len(acked.keys)} acknowledged writes are gone: {missing[:5]}"
        assert len({digest for _, digest in group.digests()}) == 1
        print(f"{len(acked.keys)} writes kept over {_PAUSES} pauses, in {others} of which another node took over")


@pytest.mark.live
@pytest.mark.timeout(150)
def test_two_nodes_and_a_promotion_by_force(tmp_path: Path) -> None:
    with LeaseGroup(tmp_path, 2) as group:
        first = group.wait_in_sync(2)
        other = group.other(first)
        with first.client() as client:
            assert client.set("both", "1")
        # The other one is put out; what comes now is on one disk only, as min-isr 1 allows.
        other.kill()
        with first.client() as client:
            for n in range(50):
                assert client.set(f"alone{n}", "1")
        first.kill()
        other.start()
        group.wait_up(other)
        with other.client() as client:
            eventually(lambda: "would become primary" in _said(client, "CLUSTER", "FORCE-PROMOTE"), "it is told", 20)
            assert f"[{first.node_id}]" in _said(client, "CLUSTER", "FORCE-PROMOTE")
            assert client.execute_command("ROLE")[0] in {b"slave", "slave"}, "only said, not done"
            wrong = ("CLUSTER", "FORCE-PROMOTE", "CONFIRM", "7")
            eventually(lambda: "stop them and name exactly those" in _said(client, *wrong), "others are refused", 20)
            confirm = ("CLUSTER", "FORCE-PROMOTE", "CONFIRM", str(first.node_id))
            # Refused while the holder still honours the lease of the one that is given up.
            eventually(lambda: _said(client, *confirm) == "OK", "the promotion is made", 30)
            eventually(lambda: _said(client, "SET", "after", "1") == "OK", "it serves", 20)
        assert "was promoted by force" in other.log_text()
        first.start()
        leader = group.wait_in_sync(2, 40)
        assert leader is other
        assert len({digest for _, digest in group.digests()}) == 1
        for node in group.nodes:
            with node.client() as client:
                client.execute_command("READONLY")
                assert client.mget("both", "after", "alone49") == [b"1", b"1", None]
        # What was taken back stays so over a restart of the node that held it.
        first.kill()
        first.start()
        group.wait_up(first)
        group.wait_in_sync(2, 40)
        assert len({digest for _, digest in group.digests()}) == 1


@pytest.mark.live
@pytest.mark.timeout(60 + 15 * _KILLS)
def test_no_acknowledged_write_is_lost_when_nodes_are_killed(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("LEASE_SEED", "1")))
    with LeaseGroup(tmp_path) as group:
        group.wait_in_sync(3)
        acked, stop = _Acked(), threading.Event()
        writers = [_Writer(group, n, acked, stop) for n in range(4)]
        for writer in writers:
            writer.start()
        for n in range(_KILLS):
            victim = group.leader() if n % 2 == 0 else chance.choice(group.nodes)
            victim.kill()
            time.sleep(chance.uniform(0.0, 2 * GRACE_MS / 1000))
            victim.start()
            group.wait_up(victim, 60)
            reached = len(acked.keys)
            eventually(lambda: len(acked.keys) > reached + 20, "writes go on after a kill", 30)  # noqa: B023
        stop.set()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        # All at once, so that nothing is left but what is on disks.
        for node in group.nodes:
            node.kill()
        for node in group.nodes:
            node.start()
        leader = group.wait_in_sync(3)
        missing = []
        with leader.client() as client:
            for at in range(0, len(acked.keys), 1000):
                part = acked.keys[at : at + 1000]
                missing += [k for k, v in zip(part, client.mget(part), strict=True) if v is None]
        assert not missing, f"{len(missing)} of {len(acked.keys)} acknowledged writes are gone: {missing[:5]}"
        assert len({digest for _, digest in group.digests()}) == 1
        print(f"{len(acked.keys)} writes kept over {_KILLS} kills")


def _said(client: redis.Redis, *words: str) -> str:
    """The answer as text, errors too."""
    try:
        answer = client.execute_command(*words)
    except redis.ResponseError as e:
        return str(e)
    if answer is True:
        return "OK"
    return answer.decode() if isinstance(answer, bytes) else str(answer)
