"""durakv's engine and a stock server side by side: both are asked the same, and must answer the same."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from tests.engine.rig import Client, Err, Rig

Word = bytes | str | int


def packed(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


class Stock:
    """One connection to a stock server. ``exact`` when its error texts are those durakv gives."""

    def __init__(self, port: int, *, exact: bool) -> None:
        self.exact = exact
        self.port = port
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.reader = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]

    def __call__(self, *argv: Word) -> Any:
        words: Any = tuple(packed(word) for word in argv)
        self.sock.sendall(hiredis.pack_command(words))
        while True:
            reply = self.reader.gets()
            if reply is not False:
                return reply
            data = self.sock.recv(1 << 16)
            assert data, f"the stock server closed the connection after {argv!r}"
            self.reader.feed(data)


class Pair:
    """Asks both; ``differing`` collects what was not answered alike."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.rig = Rig(maxmemory_policy="noeviction")
        self.client: Client = self.rig.client()
        self.asked = 0
        self.differing: list[tuple[tuple[Word, ...], object, object]] = []

    def ours(self, *argv: Word) -> Any:
        replies = self.rig.ask(self.client, [packed(word) for word in argv])
        assert len(replies) == 1, (argv, replies)
        return replies[0]

    def __call__(self, *argv: Word) -> Any:
        theirs, ours = self.stock(*argv), self.ours(*argv)
        self.asked += 1
        if comparable(theirs, self.stock.exact) != comparable(ours, self.stock.exact):
            self.differing.append((argv, theirs, ours))
        return ours

    def agreed(self, least: int) -> None:
        """At least ``least`` requests were compared, and all answered alike."""
        assert not self.differing, "\n".join(f"{a!r}\n  stock {t!r}\n  ours  {o!r}" for a, t, o in self.differing[:20])
        assert self.asked >= least


def comparable(reply: Any, exact: bool) -> object:
    """Errors by their text, or only by being one; everything with its type, so that 1 and True differ."""
    if isinstance(reply, Err):
        return ("error", str(reply) if exact else "")
    if isinstance(reply, list):
        return [comparable(item, exact) for item in reply]
    if isinstance(reply, bytes) and not exact and b" command" in reply:
        return "a text that names commands"
    return (type(reply).__name__, reply)


def program() -> str:
    """valkey-server, else redis-server, else the test is skipped."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        pytest.skip("needs valkey-server or redis-server on PATH")
    return found


@contextlib.contextmanager
def stock(directory: str) -> Iterator[Stock]:
    name = program()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [name, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    opened: Stock | None = None
    try:
        for _ in range(400):
            try:
                opened = Stock(port, exact=name.endswith("valkey-server"))
                break
            except OSError:
                time.sleep(0.02)
        assert opened is not None, "the stock server does not listen"
        yield opened
    finally:
        if opened is not None:
            opened.sock.close()
        process.terminate()
        process.wait(10)
