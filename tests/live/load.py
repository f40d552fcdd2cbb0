"""Writers that remember what a server acknowledged, refused or left unknown, so that a test can hold it to its word."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import hiredis
import redis

from tests.live.group import Node

# See docs/errors.md: an error that begins so says that nothing was logged.
DEFINITE = ("CLUSTERDOWN", "MOVED", "LOADING", "THROTTLED", "MISCONF", "READONLY", "NOREPLICAS")

_ANSWER_MAX_S = 10.0


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Poll until the condition holds; fails after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


class Load(threading.Thread):
    """Writes unique keys through one node; knows of each whether it was acknowledged, refused or left unknown."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.prefix = name
        self.stopping = threading.Event()
        self.acked: list[str] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []


class Writer(Load):
    """One SET at a time; reconnects while the node is away."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(node, name)
        self.acked_at: list[float] = []
        self.start()

    def run(self) -> None:
        client: redis.Redis | None = None
        number = 0
        while not self.stopping.is_set():
            number += 1
            key = f"{self.prefix}:{number}"
            try:
                client = client or self.node.client()
                client.set(key, key)
            except redis.RedisError as e:
                definite = str(e).startswith(DEFINITE)
                (self.refused if definite else self.unknown).append(key)
                if not definite:
                    client = None
                time.sleep(0.01)
            else:
                self.acked.append(key)
                self.acked_at.append(time.monotonic())

    def finish(self) -> None:
        """Stop and wait for the last request."""
        self.stopping.set()
        self.join(30)
        assert not self.is_alive(), "a write was never answered"


class Pipeliner(Load):
    """Keeps ``depth`` SETs under way on one connection until the connection ends or ``stopping`` is set."""

    def __init__(self, node: Node, name: str, depth: int) -> None:
        super().__init__(node, name)
        self.depth = depth
        self.unanswered = False
        self.start()

    def run(self) -> None:
        try:
            self._run()
        except TimeoutError:
            self.unanswered = True
        except OSError:
            return

    def _run(self) -> None:
        reader = hiredis.Reader()
        waiting: list[str] = []
        number = 0
        try:
            with socket.create_connection(("127.0.0.1", self.node.port), _ANSWER_MAX_S) as s:
                while not (self.stopping.is_set() and not waiting):
                    wire = b""
                    while len(waiting) < self.depth and not self.stopping.is_set():
                        number += 1
                        key = f"{self.prefix}:{number}"
                        waiting.append(key)
                        wire += b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(key), key.encode())
                    # In small pieces, so that they fall into different turns of the server.
                    for at in range(0, len(wire), 200):
                        s.sendall(wire[at : at + 200])
                    data = s.recv(1 << 16)
                    if not data:
                        break
                    reader.feed(data)
                    while (reply := reader.gets()) is not False:
                        self._note(waiting.pop(0), reply)
        finally:
            self.unknown += waiting

    def finish(self) -> None:
        """Wait for the end of the connection; every request must have been answered, or cut off with it."""
        self.join(2 * _ANSWER_MAX_S)
        assert not self.is_alive(), "the server keeps the connection and answers nothing"
        assert not self.unanswered, f"no answer within {_ANSWER_MAX_S} s"

    def _note(self, key: str, reply: object) -> None:
        if reply == b"OK":
            self.acked.append(key)
        elif str(reply).startswith(DEFINITE):
            self.refused.append(key)
        else:
            self.unknown.append(key)


def going_on(loads: Sequence[Load], more: int, what: str) -> None:
    """Wait until every one of ``loads`` has ``more`` writes acknowledged than now."""
    goals = [len(load.acked) + more for load in loads]
    eventually(lambda: all(len(load.acked) >= goal for load, goal in zip(loads, goals, strict=True)), what)


def present(node: Node, keys: list[str]) -> Iterator[tuple[str, bool]]:
    """(key, whether it exists) of every key, read through ``node``."""
    with node.client() as client:
        for at in range(0, len(keys), 1000):
            part = keys[at : at + 1000]
            for key, value in zip(part, client.mget(part), strict=True):
                yield key, value is not None


def missing(node: Node, keys: list[str]) -> list[str]:
    """The keys that do not exist."""
    return [key for key, there in present(node, keys) if not there]


def found(node: Node, keys: list[str]) -> list[str]:
    """The keys that exist."""
    return [key for key, there in present(node, keys) if there]
