"""A client that asks a server for a sign of life every millisecond: ``python -m tools.bench.pinger PORT``.

Of its own process, so that what another client does costs it nothing. ``begin`` on standard input forgets what was
measured, ``end`` tells it; both are answered with a line of JSON, and the end of the input ends it. Rule: a request
that waited also stands for those that would have been sent meanwhile, so that one long stall is not one sample among
thousands.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time

from tools.bench.measure import percentile

INTERVAL_S = 0.001
PATIENCE_S = 600.0


def with_omitted(latencies_s: list[float]) -> list[float]:
    """The latencies, and those of the requests that could not be sent while one was answered; ascending."""
    found = list(latencies_s)
    for latency_s in latencies_s:
        missed_s = latency_s - INTERVAL_S
        while missed_s > INTERVAL_S:
            found.append(missed_s)
            missed_s -= INTERVAL_S
    return sorted(found)


def summary(latencies_s: list[float]) -> dict[str, float]:
    """``p50_ms``, ``p999_ms`` and ``max_ms`` of what was measured, all zero for nothing."""
    found = with_omitted(latencies_s)
    if not found:
        return {"p50_ms": 0.0, "p999_ms": 0.0, "max_ms": 0.0}
    return {
        "p50_ms": percentile(found, 50) * 1000,
        "p999_ms": percentile(found, 99.9) * 1000,
        "max_ms": found[-1] * 1000,
    }


def main(argv: list[str]) -> int:
    """Ask until the input ends."""
    latencies_s: list[float] = []
    with socket.create_connection(("127.0.0.1", int(argv[0])), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            began_s = time.perf_counter()
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            if not connection.recv(64).startswith(b"+PONG"):
                print("the server answered PING with something else", file=sys.stderr)
                return 1
            spent_s = time.perf_counter() - began_s
            latencies_s.append(spent_s)
            if select.select([0], [], [], 0)[0]:
                # Each line is answered before the next one is sent.
                word = os.read(0, 64).decode().strip()
                if not word:
                    return 0
                print(json.dumps(summary(latencies_s if word == "end" else [])), flush=True)
                latencies_s = []
            time.sleep(max(0.0, INTERVAL_S - (time.perf_counter() - began_s)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
