"""Random programs of tracked clients: each gets byte for byte what a stock server sends it, step by step."""

from __future__ import annotations

from random import Random

import hiredis
import pytest

from tests.commands.reference_server import Reference, running
from tests.engine.rig import Rig
from tests.engine.test_tracking import Raw

pytestmark = pytest.mark.live
MODES = [
    "", "", "NOLOOP", "OPTIN", "OPTOUT", "BCAST", "BCAST PREFIX a PREFIX b", "BCAST NOLOOP PREFIX c", "REDIRECT 99999",
    "PREFIX a", "OPTIN OPTOUT", "BCAST OPTIN", "BCAST PREFIX a PREFIX ab", "NONSENSE",
]  # fmt: skip


def one(random: Random) -> list[str]:
    k, j = random.choice("abc"), random.choice("abc")
    reads = [f"GET {k}", f"EXISTS {k} {j}", f"MGET {k} {j}", f"STRLEN {k}", f"TTL {k}", f"TYPE {k}"]
    writes = [
        f"SET {k} {random.randrange(9)}", f"DEL {k} {j}", f"MSET {k} 1 {j} 2", f"APPEND {k} x", f"GETDEL {k}",
        f"PERSIST {k}", f"EXPIRE {k} 1000", f"RENAMENX {k} {j}", f"SETRANGE {k} 0 y", f"INCR {k}",
    ]  # fmt: skip
    rare = [
        "FLUSHALL", "FLUSHDB", f"CLIENT TRACKING ON {random.choice(MODES)}", "CLIENT TRACKING OFF", "CLIENT GETREDIR",
        "CLIENT TRACKINGINFO", "CLIENT TRACKING maybe",
    ]  # fmt: skip
    # Transactions are left out: their reads are noted when EXEC is sent, so a change in them may be told once more.
    dice = random.random()
    if dice < 0.15:
        return [f"CLIENT CACHING {random.choice(['YES', 'NO', 'NO', 'YES', 'x'])}"]
    return [random.choice(rare if dice < 0.25 else reads if dice < 0.65 else writes)]


class Theirs:
    """A connection to the stock server, as raw bytes."""

    def __init__(self, reference: Reference, protocol: int) -> None:
        self.sock = reference.sock
        if protocol == 3:
            self.sock.sendall(b"HELLO 3\r\n")
            reader = hiredis.Reader()
            while reader.gets() is False:
                reader.feed(self.sock.recv(65536))

    def take(self) -> bytes:
        self.sock.setblocking(False)
        wire = b""
        try:
            while data := self.sock.recv(65536):
                wire += data
        except BlockingIOError:
            pass
        self.sock.setblocking(True)
        return wire


def settled(wire: bytes) -> list[bytes]:
    """The bytes with each run of messages sorted: several keys of one command are told of in any order."""
    out: list[bytes] = []
    run: list[bytes] = []
    while wire:
        # A message of ours is a push of "invalidate" with an array of keys, or of a word and a number.
        end = _end(wire, 0)
        if wire.startswith((b">2", b"*3\r\n$7\r\nmessage")):
            run.append(wire[:end])
        else:
            out += [*sorted(run), wire[:end]]
            run = []
        wire = wire[end:]
    return out + sorted(run)


def _end(wire: bytes, at: int) -> int:
    """Where the RESP value at ``at`` ends."""
    line = wire.index(b"\r\n", at) + 2
    kind, size = wire[at : at + 1], wire[at + 1 : line - 2]
    if kind == b"$":
        return line if size == b"-1" else line + int(size) + 2
    if kind in (b"*", b">", b"~", b"%"):
        for _ in range(max(0, int(size)) * (2 if kind == b"%" else 1)):
            line = _end(wire, line)
    return line


@pytest.mark.parametrize("seed", range(12))
def test_as_a_stock_server(seed: int) -> None:
    random = Random(seed)
    rig = Rig()
    rig.engine.serving_changed(True, False)
    with running() as connect:
        control = connect()
        protocols = [3, 3, 3, 2, 2]
        theirs = [Theirs(connect(), protocol) for protocol in protocols]
        ours = [Raw(rig, protocol) for protocol in protocols]

        def step(who: int, command: str) -> None:
            theirs[who].sock.sendall(command.encode() + b"\r\n")
            ours[who].send(command)
            rig.commit()
            for _ in range(2):
                control("PING")
            for n, (a, b) in enumerate(zip(theirs, ours, strict=True)):
                expected, got = settled(a.take()), settled(b.take())
                assert got == expected, f"client {n} after {command!r} of client {who}, seed {seed}"

        # The last client is told of what concerns the one before it.
        control("CLIENT", "ID")
        theirs[4].sock.sendall(b"CLIENT ID\r\n")
        listener = int(theirs[4].sock.recv(100)[1:])
        step(4, "SUBSCRIBE __redis__:invalidate")
        theirs[3].sock.sendall(b"CLIENT TRACKING ON REDIRECT %d\r\n" % listener)
        assert theirs[3].sock.recv(100) == b"+OK\r\n"
        ours[3].send(f"CLIENT TRACKING ON REDIRECT {ours[4].session.id}")
        assert ours[3].take() == b"+OK\r\n"
        for _ in range(400):
            who = random.randrange(4)
            for command in one(random):
                if who == 3 and command.startswith("CLIENT"):
                    continue
                step(who, command)
