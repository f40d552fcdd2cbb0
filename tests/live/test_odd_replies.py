"""Blocking commands and transactions through any node of a group: every client gets what a stock server gives it."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from random import Random

import hiredis
import pytest

from tests.commands.reference_server import needs_newer, running
from tests.engine.rig import Err
from tests.engine.test_blocking_reference import KEYS, blocking
from tests.live.group import Group

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]
CLIENTS = 6
STEPS = 120


class Client:
    """A connection and all its replies so far. ``waits_from``: how many there were when it began to wait."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]
        self.replies: list[object] = []
        self.waits_from = -1

    def send(self, commands: list[str]) -> None:
        self.sock.setblocking(True)
        self.sock.sendall("".join(command + "\r\n" for command in commands).encode())
        self.sock.setblocking(False)

    def poll(self) -> None:
        self.sock.setblocking(False)
        try:
            while data := self.sock.recv(65536):
                self.reader.feed(data)
        except BlockingIOError:
            pass
        while (reply := self.reader.gets()) is not False:
            self.replies.append(reply)
        if len(self.replies) > self.waits_from:
            self.waits_from = -1


def plain(random: Random) -> str:
    k, j = random.choice(KEYS), random.choice(KEYS)
    return random.choice([
        f"RPUSH {k} {random.randrange(99)}", f"LPUSH {k} 1 2", f"ZADD {k} {random.randrange(9)} m{random.randrange(9)}",
        f"SET {k} x", f"DEL {k}", f"RENAME {k} {j}", f"LMOVE {k} {j} LEFT RIGHT", f"RPOP {k}", f"COPY {k} {j}",
        f"LTRIM {k} 1 -1", f"GET {k}", f"LRANGE {k} 0 -1", f"TYPE {k}", "INCR n", f"EXISTS {k}", f"SORT {k} ALPHA",
    ])  # fmt: skip


def transaction(random: Random) -> list[str]:
    out = ["WATCH a", "MULTI"] if random.random() < 0.2 else ["MULTI"]
    for _ in range(random.randint(1, 4)):
        about_connection = [
            f"SELECT {random.randrange(2)}", "PING", "ECHO hi", "CLIENT SETNAME me", "CLIENT GETNAME", "SUBSCRIBE ch",
            "BLPOP a 0", "BLMOVE a b LEFT RIGHT 0", "NOSUCH", "SET k", "PSUBSCRIBE p*",
        ]  # fmt: skip
        out.append(random.choice(about_connection) if random.random() < 0.35 else plain(random))
    return [*out, random.choice(["EXEC"] * 6 + ["DISCARD"])]


def step(random: Random, waiting: bool) -> list[str]:
    dice = random.random()
    if dice < 0.35 and waiting:
        # Some give up: the timeout of a group goes through its log.
        return [blocking(random).replace(" 0", " 0.3", 1) if random.random() < 0.2 else blocking(random)]
    return transaction(random) if dice < 0.7 else [plain(random)]


@pytest.mark.parametrize("seed", range(2))
def test_nobody_gets_an_odd_reply(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    # The reference knows no change of leaders, which a disk that stalls for a second would bring.
    with running() as connect, Group(tmp_path, 3, ["--election-timeout-ms", "4000"]) as group:
        needs_newer(connect(), "what blocked clients get")
        ports = [random.choice(group.nodes).port for _ in range(CLIENTS)]
        ours = [Client(socket.create_connection(("127.0.0.1", port))) for port in ports]
        theirs = [Client(connect().sock) for _ in range(CLIENTS)]
        story: list[str] = []
        for _ in range(STEPS):
            free = [n for n in range(CLIENTS) if theirs[n].waits_from < 0]
            n = random.choice(free)
            commands = step(random, len(free) > 1)
            story.append(f"{n}: {commands}")
            if commands[0].startswith("B"):
                theirs[n].waits_from = len(theirs[n].replies)
            theirs[n].send(commands)
            time.sleep(0.004)
            ours[n].send(commands)
            settle(ours, theirs)
            for mine, other in zip(ours, theirs, strict=True):
                assert mine.replies == other.replies, "\n".join(
                    [*story[-20:], f"{mine.replies[-6:]} instead of {other.replies[-6:]}"]
                )
            if any(isinstance(reply, Err) and "allowed in this context" in reply for reply in theirs[n].replies[-1:]):
                for side in (ours, theirs):
                    side[n].send(["RESET"])
                settle(ours, theirs)
        for client in [*ours, *theirs]:
            client.sock.close()


def settle(ours: list[Client], theirs: list[Client]) -> None:
    """Until everybody has as many replies as the other, and a moment more."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for client in [*ours, *theirs]:
            client.poll()
        if all(len(a.replies) == len(b.replies) for a, b in zip(ours, theirs, strict=True)):
            return
        time.sleep(0.002)
