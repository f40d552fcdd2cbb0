"""A stock server on a free loopback port, for asking what the real replies are."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from typing import Any

import hiredis
import pytest


class Reference:
    """One connection to a stock redis-server or valkey-server, raw replies."""

    def __init__(self, port: int):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.reader = hiredis.Reader()
        self.last: object = None

    def __call__(self, *argv: bytes | str | int) -> object:
        self.raw(*argv)
        return self.last

    def raw(self, *argv: bytes | str | int) -> bytes:
        """The reply's bytes, when nothing else is on its way."""
        words: tuple[Any, ...] = tuple(argv)
        self.sock.sendall(hiredis.pack_command(words))
        read = b""
        while True:
            self.last = self.reader.gets()
            # The library says false both for a reply that is and for none.
            if self.last is not False or read == b"#f\r\n":
                return read
            data = self.sock.recv(65536)
            assert data, "the reference server closed the connection"
            read += data
            self.reader.feed(data)


def needs_newer(control: Reference, what: str) -> None:
    """Skip the test where the server is older than 7.2, and say what goes untested: ``what``."""
    found = re.search(rb"redis_version:(\d+)\.(\d+)", control.raw("INFO", "server"))
    assert found is not None, "no version in INFO"
    if (int(found[1]), int(found[2])) < (7, 2):
        pytest.skip(f"{what} is untested: needs valkey-server, or redis-server 7.2 or later, on PATH")


@contextlib.contextmanager
def running(*flags: str):
    """A connection factory for a fresh server; skips the test where none is installed."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("needs valkey-server or redis-server on PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp", *flags],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    opened: list[Reference] = []

    def connect() -> Reference:
        opened.append(Reference(port))
        return opened[-1]

    try:
        for _ in range(200):
            try:
                opened.append(Reference(port))
                break
            except OSError:
                time.sleep(0.02)
        yield connect
    finally:
        for reference in opened:
            reference.sock.close()
        process.terminate()
        process.wait(10)
