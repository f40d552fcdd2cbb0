"""Stock servers that load and save files in a directory of their own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

PROGRAMS = ["redis-server", "valkey-server"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def stock(program: str, directory: Path, *flags: str) -> Iterator[redis.Redis]:
    """A running server with ``dump.rdb`` and ``appendonlydir`` in ``directory``; skips where it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program} on PATH")
    port = free_port()
    log = directory / "server.log"
    process = subprocess.Popen(
        [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory), "--databases", "32",
         "--enable-debug-command", "yes", "--logfile", str(log), *flags], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    client = redis.Redis(port=port, socket_timeout=30)
    try:
        for _ in range(500):
            try:
                client.ping()
                break
            except (redis.ConnectionError, redis.BusyLoadingError):
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def at(client: redis.Redis, db: int) -> redis.Redis:
    """The same server, another database."""
    return redis.Redis(port=client.connection_pool.connection_kwargs["port"], db=db, socket_timeout=30)


def digest(client: redis.Redis) -> bytes:
    """DEBUG DIGEST: all databases, keys, deadlines and values."""
    answer: bytes = client.execute_command("DEBUG", "DIGEST")
    return answer
