"""CONFIG SET tcp-keepalive reaches the sockets of clients that connect afterwards."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import redis

from tests.live.group import Group

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's table of sockets"),
]


def seconds_to_probe(client: redis.Redis, port: int) -> float | None:
    """Until the server's end of the client's connection sends a keepalive probe; None when it never will."""
    mine = int(str(client.client_info()["addr"]).rpartition(":")[2])
    # Until the last reply is acknowledged another timer of the socket runs.
    time.sleep(0.3)
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        local, remote = (int(words[at].partition(":")[2], 16) for at in (1, 2))
        if (local, remote) == (port, mine):
            kind, _, ticks = words[5].partition(":")
            return int(ticks, 16) / 100 if kind == "02" else None
    raise AssertionError("the connection is not in /proc/net/tcp")


def test_new_connections_follow_the_directive(tmp_path: Path) -> None:
    with Group(tmp_path, 1, ["--tcp-keepalive", "60"]) as group:
        node = group.nodes[0]
        with node.client() as before:
            first = seconds_to_probe(before, node.port)
            assert first is not None and 50 < first <= 61
            before.config_set("tcp-keepalive", 20)
            with node.client() as after:
                second = seconds_to_probe(after, node.port)
                assert second is not None and 10 < second <= 21
            before.config_set("tcp-keepalive", 0)
            with node.client() as silent:
                assert seconds_to_probe(silent, node.port) is None
            kept = seconds_to_probe(before, node.port)
            assert kept is not None and kept > 40, "an open connection keeps its interval"
