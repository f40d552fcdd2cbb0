"""How much time a proxy adds: GET by one client, to the node itself and through the proxy, in turns.

Run ``python -m tests.proxy.latency [requests] [rounds]``; needs redis-server on the PATH.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from durakv.keyspace.slots import slot_of
from tests.proxy.cluster import HOST, RANGES, ProxyProcess, RedisCluster

KEY = b"key"
VALUE = b"v" * 32
REQUEST = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"
REPLY_SIZE = len(b"$32\r\n") + len(VALUE) + 2


def connect(port: int) -> socket.socket:
    s = socket.create_connection((HOST, port), 5)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def times_us(s: socket.socket, requests: int) -> list[float]:
    """Microseconds of each request, ascending."""
    found = []
    for _ in range(requests):
        begin = time.perf_counter_ns()
        s.sendall(REQUEST)
        missing = REPLY_SIZE
        while missing:
            missing -= len(s.recv(missing))
        found.append((time.perf_counter_ns() - begin) / 1000)
    return sorted(found)


def throughput(s: socket.socket, requests: int, depth: int) -> float:
    """Requests per second in batches of ``depth``."""
    begin = time.perf_counter()
    for _ in range(requests // depth):
        s.sendall(REQUEST * depth)
        missing = REPLY_SIZE * depth
        while missing:
            missing -= len(s.recv(1 << 20))
    return requests / (time.perf_counter() - begin)


def main(requests: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as base, contextlib.ExitStack() as stack:
        cluster = stack.enter_context(RedisCluster(Path(base)))
        proxy = stack.enter_context(ProxyProcess([node.port for node in cluster.masters]))
        slot = slot_of(KEY)
        node = next(n for n, (a, b) in zip(cluster.masters, RANGES, strict=True) if a <= slot <= b)
        node.client().set(KEY, VALUE)
        links = {"direct": connect(node.port), "proxy": connect(proxy.port)}
        medians: dict[str, list[float]] = {name: [] for name in links}
        tails: dict[str, list[float]] = {name: [] for name in links}
        for s in links.values():
            times_us(s, 500)
        for _ in range(rounds):
            for name, s in links.items():
                found = times_us(s, requests)
                medians[name].append(found[len(found) // 2])
                tails[name].append(found[len(found) * 99 // 100])
        p50 = {name: statistics.median(values) for name, values in medians.items()}
        p99 = {name: statistics.median(values) for name, values in tails.items()}
        for name, s in links.items():
            rate = throughput(s, 10 * requests, 100)
            print(f"{name:7} p50 {p50[name]:7.1f} us  p99 {p99[name]:7.1f} us  {rate:9.0f}/s in batches of 100")
        print(f"added   p50 {p50['proxy'] - p50['direct']:7.1f} us  p99 {p99['proxy'] - p99['direct']:7.1f} us")
        for s in links.values():
            s.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000, int(sys.argv[2]) if len(sys.argv) > 2 else 5)
