"""Random blocking commands of several clients: everyone gets what a stock server gives them, step by step."""

from __future__ import annotations

import time
from random import Random

import hiredis
import pytest

from tests.commands.reference_server import Reference, needs_newer, running
from tests.engine.rig import Client, Err, Rig

pytestmark = pytest.mark.live
KEYS = ["a", "b", "c"]


def one(random: Random) -> list[str]:
    """A request, or a whole transaction."""
    k, j = random.choice(KEYS), random.choice(KEYS)
    plain = [
        f"RPUSH {k} {random.randrange(99)}", f"LPUSH {k} 1 2", f"ZADD {k} {random.randrange(9)} m{random.randrange(9)}",
        f"SET {k} x", f"DEL {k}", f"RENAME {k} {j}", f"LMOVE {k} {j} LEFT RIGHT", f"RPOP {k}", f"COPY {k} {j}",
        f"SORT {k} ALPHA STORE {j}", f"ZUNIONSTORE {k} 1 {j}", f"MOVE {k} 1", "SWAPDB 0 1", f"LTRIM {k} 1 -1",
    ]  # fmt: skip
    if random.random() < 0.2:
        return ["MULTI", *[random.choice(plain) for _ in range(random.randint(1, 4))], "EXEC"]
    return [random.choice(plain)]


def blocking(random: Random) -> str:
    k, j = random.choice(KEYS), random.choice(KEYS)
    side, other = random.choice(["LEFT", "RIGHT"]), random.choice(["LEFT", "RIGHT"])
    return random.choice([
        f"BLPOP {k} {j} 0", f"BRPOP {k} 0", f"BLMOVE {k} {j} {side} {other} 0", f"BRPOPLPUSH {k} {j} 0",
        f"BLMPOP 0 2 {k} {j} {side} COUNT 2", f"BZPOPMIN {k} {j} 0", f"BZPOPMAX {k} 0", f"BZMPOP 0 1 {k} MAX COUNT 2",
    ])  # fmt: skip


class Theirs:
    def __init__(self, reference: Reference) -> None:
        self.sock = reference.sock
        self.reader = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]

    def send(self, command: str) -> None:
        self.sock.sendall(command.encode() + b"\r\n")

    def got(self, count: int = 0) -> list[object]:
        """What has come; ``count`` replies are waited for, since on a busy machine they may need a while."""
        replies: list[object] = []
        end = time.monotonic() + 10
        while True:
            self.sock.setblocking(False)
            try:
                while data := self.sock.recv(65536):
                    self.reader.feed(data)
            except BlockingIOError:
                pass
            self.sock.setblocking(True)
            while (reply := self.reader.gets()) is not False:
                replies.append(reply)
            if len(replies) >= count or time.monotonic() > end:
                return replies
            time.sleep(0.002)


@pytest.mark.parametrize("seed", range(12))
def test_everyone_gets_what_a_stock_server_gives(seed: int) -> None:
    random = Random(seed)
    rig = Rig()
    with running() as connect:
        control = connect()
        needs_newer(control, "what blocked clients get")
        mine: list[Client] = [rig.client() for _ in range(5)]
        theirs = [Theirs(connect()) for _ in range(5)]
        story: list[str] = []
        for _ in range(120):
            free = [n for n, client in enumerate(mine) if not client.session.blocked]
            n = random.choice(free)
            # Somebody must be left to feed the others.
            commands = [blocking(random)] if len(free) > 1 and random.random() < 0.5 else one(random)
            for command in commands:
                story.append(f"{n}: {command}")
                mine[n].send(command)
                rig.settle()
                theirs[n].send(command)
            time.sleep(0.002)
            control("PING")
            for who in range(5):
                ours = mine[who].got()
                other = theirs[who].got(len(ours))
                assert ours == other, "\n".join([*story[-40:], f"client {who}: {ours} instead of {other}"])
    rig.check_follower()
