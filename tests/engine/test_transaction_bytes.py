"""Transactions with commands about the connection in them: the same bytes as a stock server, and from any node."""

from __future__ import annotations

import socket

import pytest

from tests.commands.reference_server import running
from tests.engine.rig import Client, Rig
from tests.replication.test_forward import Pair

SCRIPTS = [
    ["MULTI", "SUBSCRIBE a b", "EXEC", "PING"],
    ["HELLO 3", "MULTI", "SUBSCRIBE a b", "EXEC", "PING"],
    ["MULTI", "SUBSCRIBE a b", "SET k v", "GET k", "EXEC", "PING"],
    ["SUBSCRIBE b", "UNSUBSCRIBE b", "MULTI", "SUBSCRIBE a", "SET k v", "PSUBSCRIBE p*", "EXEC", "UNSUBSCRIBE a"],
    ["HELLO 3", "MULTI", "PSUBSCRIBE a* b*", "INCR n", "EXEC", "PUNSUBSCRIBE b*", "PING"],
    ["HELLO 3", "SUBSCRIBE a b", "MULTI", "UNSUBSCRIBE a", "SET k v", "UNSUBSCRIBE b", "EXEC", "PING"],
    ["MULTI", "SSUBSCRIBE a", "SET k v", "EXEC", "PING"],
    ["HELLO 3", "MULTI", "SSUBSCRIBE a", "EXEC", "PING"],
    ["CLIENT REPLY OFF", "SUBSCRIBE a b", "PING", "CLIENT REPLY ON"],
    ["HELLO 3", "CLIENT REPLY OFF", "SUBSCRIBE a b", "PING", "CLIENT REPLY ON"],
    ["CLIENT REPLY SKIP", "SUBSCRIBE a b", "PING"],
    ["WATCH k", "MULTI", "SUBSCRIBE a", "EXEC", "PING"],
    ["MULTI", "SELECT 1", "SET k v", "CLIENT SETNAME foo", "EXEC", "CLIENT GETNAME", "GET k", "SELECT 0", "GET k"],
    ["MULTI", "SET k v", "SELECT 99", "GET k", "ECHO x", "EXEC", "GET k"],
    ["MULTI", "SELECT 1", "EXEC", "SET k v", "SELECT 0", "GET k"],
    ["MULTI", "MONITOR", "EXEC", "PING"],
    ["MULTI", "PING", "EXEC"],
    ["MULTI", "EXEC"],
    ["MULTI", "SET k v", "EXEC a", "EXEC", "GET k"],
    ["WATCH k", "MULTI", "EXEC a", "SET k v", "MULTI", "GET k", "EXEC"],
    ["MULTI", "FOO", "SET k v", "EXEC", "GET k"], ["MULTI", "SET k", "EXEC"], ["MULTI", "DISCARD 1", "EXEC"],
    ["MULTI", "MULTI x", "EXEC"], ["MULTI", "WATCH", "EXEC"], ["MULTI", "UNWATCH", "EXEC"],
    ["MULTI", "SHUTDOWN x", "EXEC"], ["EXEC", "DISCARD"], ["MULTI", "DISCARD", "EXEC"], ["EXEC x"],
    ["MULTI", "SET k v", "RESET", "EXEC", "GET k"],
    ["SUBSCRIBE a", "MULTI"], ["MULTI", "AUTH foo", "SET k v", "EXEC"],
]  # fmt: skip

# Not so in redis-server 7.0, the oldest reference: texts of Valkey, and its order of a client's own messages.
NOT_ALLOWED = b"-ERR Command not allowed inside a transaction\r\n"
ABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
MESSAGE = b"3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
VALKEY = [
    (["WATCH k", "MULTI", "WATCH k", "EXEC"], NOT_ALLOWED + ABORT),
    (["MULTI", "MULTI", "SET k v", "EXEC"], NOT_ALLOWED + b"+QUEUED\r\n" + ABORT),
    (["HELLO 3", "SUBSCRIBE a", "PUBLISH a x"], b":1\r\n>" + MESSAGE),
    (["HELLO 3", "SSUBSCRIBE a", "SPUBLISH a x"], b":1\r\n>3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\nx\r\n"),
    (["MULTI", "SUBSCRIBE a", "PUBLISH a x", "SET k v", "EXEC"],
     b"*3\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n:1\r\n+OK\r\n*" + MESSAGE),
]  # fmt: skip


class Raw:
    """The bytes a client of a rig gets."""

    def __init__(self, pair: Pair | None) -> None:
        self.pair = pair
        self.rig = pair.home if pair is not None else Rig()
        self.client = Client(self.rig)
        self.got: list[bytes] = []
        self.client.flush = self._flush  # type: ignore[method-assign]

    def _flush(self) -> None:
        self.got += self.client.session.out
        self.client.session.out.clear()

    def ask(self, command: str) -> bytes:
        self.client.send(command)
        if self.pair is not None:
            for _ in range(4):
                self.pair.to_lead(self.pair.home_turn())
                self.pair.to_home(self.pair.lead_turn())
        self.rig.settle()
        self._flush()
        wire, self.got = b"".join(self.got), []
        return wire


def rigs() -> list[Raw]:
    return [Raw(None), Raw(Pair())]


def quiet(sock: socket.socket, expected: int) -> bytes:
    """What arrives until nothing has for a while; longer when fewer than ``expected`` bytes have."""
    sock.settimeout(2.0)
    out = b""
    try:
        while data := sock.recv(65536):
            out += data
            if len(out) >= expected:
                sock.settimeout(0.05)
    except TimeoutError:
        return out
    return out


@pytest.mark.live
def test_the_bytes_of_a_stock_server() -> None:
    different = []
    with running() as connect:
        for script in SCRIPTS:
            reference = connect()
            reference("FLUSHALL")
            ours = rigs()
            for command in script:
                reference.sock.sendall(command.encode() + b"\r\n")
                actual = [raw.ask(command) for raw in ours]
                expected = quiet(reference.sock, len(actual[0]))
                if not command.startswith("HELLO") and actual != [expected, expected]:
                    different.append((script, command, expected, *actual))
    assert not different, "\n".join(map(repr, different))


@pytest.mark.parametrize(("script", "expected"), VALKEY)
def test_the_bytes_of_valkey(script: list[str], expected: bytes) -> None:
    for raw in rigs():
        shown = b"".join([raw.ask(command) for command in script])
        assert shown.endswith(expected), shown
