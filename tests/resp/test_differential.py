"""The same bytes to a stock redis-server: it must run the commands our parser reads and report the same protocol error.

Not valkey-server 9: behind a line of blanks it reads the next request as an inline one whatever it is, a slip we do not
copy. Otherwise the two agree.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from durakv.resp.encoder import protocol_error_line
from durakv.resp.parser import Parser
from tests.resp.test_parser import GOLDEN, command
from tests.resp.test_parser_junk import mutated

pytestmark = pytest.mark.live

SERVER = shutil.which("redis-server")
PASSWORD = b"sesame"
# durakv allows fewer arguments than the 2^31 - 1 of a stock server.
OWN_LIMIT = b"1048577"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if SERVER is None:
        pytest.skip("redis-server is not on PATH")
    directory = tmp_path_factory.mktemp("stock")
    path = str(directory / "s.sock")
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", str(directory)]
    process = subprocess.Popen([SERVER, *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not Path(path).exists():
            assert time.monotonic() < deadline, "the stock server did not start within 10 s"
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait()


def talk(path: str, data: bytes) -> bytes:
    """Everything the server says to these bytes and an end of input."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(path)
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, OSError):
            # It closed on us already; what it said before is what counts.
            pass
        said = b""
        while True:
            try:
                more = link.recv(65536)
            except ConnectionResetError:
                return said
            if not more:
                return said
            said += more


def read(data: bytes, *, authenticated: bool) -> tuple[list[list[bytes]], bytes, bool]:
    """(argvs, the line a protocol error is answered with, whether the link closes without a word)."""
    parser = Parser(authenticated=authenticated)
    argvs = parser.feed(data)
    while not parser.authenticated:
        more = parser.feed(b"")
        if not more:
            break
        argvs += more
    return argvs, protocol_error_line(parser.error) if parser.error is not None else b"", bool(parser.dropped)


def agree(path: str, data: bytes, prelude: bytes = b"", *, authenticated: bool = True) -> None:
    argvs, error, dropped = read(data, authenticated=authenticated)
    expected = talk(path, prelude + b"".join(command(*argv) for argv in argvs)) + error
    said = talk(path, prelude + data)
    # A link that is dropped loses replies not sent yet.
    assert expected.startswith(said) if dropped else said == expected, data


FLUSH = command(b"FLUSHALL")


@pytest.mark.parametrize("data", [data for data, _, _ in GOLDEN], ids=lambda data: repr(data)[:40])
def test_golden(server: str, data: bytes) -> None:
    if OWN_LIMIT in data or len(data) > 65536 or data == command(b"POST", b"x"):
        pytest.skip("durakv's own limits, or an error the stock server gives depending on its reads")
    agree(server, data, FLUSH)


def test_mutants(server: str) -> None:
    rng = random.Random(11)
    for _ in range(1500):
        data = mutated(rng)
        if OWN_LIMIT not in data:
            agree(server, data, FLUSH)


def test_mutants_before_authentication(server: str) -> None:
    talk(server, command(b"CONFIG", b"SET", b"requirepass", PASSWORD))
    try:
        rng = random.Random(12)
        for _ in range(700):
            data = mutated(rng)
            if OWN_LIMIT not in data:
                agree(server, data, authenticated=False)
    finally:
        talk(server, command(b"AUTH", PASSWORD) + command(b"CONFIG", b"SET", b"requirepass", b""))
