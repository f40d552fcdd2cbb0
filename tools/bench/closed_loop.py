"""A closed-loop load generator for what redis-benchmark cannot send: SET followed by WAITAOF, and etcd's puts.

``python3 -m tools.bench.closed_loop MODE --ports 7000 --clients 50 --seconds 3`` prints one JSON line. Each client
sends one request, waits for its whole reply, and sends the next. One process, one epoll loop; a wrong reply ends the
run, except with --tolerant, where the client reconnects and the request is not counted.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import select
import socket
import sys
import time
from dataclasses import asdict

from tools.bench.measure import Load, percentile

VALUE = b"v" * 32
KEYS = 100_000


class WrongReply(Exception):
    """The server refused, or answered something else."""


class Mode:
    """How to build a request for a key and how to tell that its reply is complete."""

    def request(self, key: bytes) -> bytes:
        """The bytes of one request."""
        raise NotImplementedError

    def complete(self, reply: bytes) -> bool:
        """Whether the reply is whole and right; False for more bytes, WrongReply for a wrong one."""
        raise NotImplementedError


class SetMode(Mode):
    """Plain SET."""

    def request(self, key: bytes) -> bytes:
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(VALUE), VALUE)

    def complete(self, reply: bytes) -> bool:
        if reply == b"+OK\r\n":
            return True
        if not b"+OK\r\n".startswith(reply):
            raise WrongReply(reply[:120])
        return False


class WaitMode(SetMode):
    """SET, then WAITAOF 1 1 0 in the same packet: local disk and one replica's disk, a majority of three."""

    def request(self, key: bytes) -> bytes:
        return super().request(key) + b"*4\r\n$7\r\nWAITAOF\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n0\r\n"

    def complete(self, reply: bytes) -> bool:
        if len(reply) >= 17:
            if reply[:13] != b"+OK\r\n*2\r\n:1\r\n" or reply[13:] not in (b":1\r\n", b":2\r\n"):
                raise WrongReply(reply[:120])
            return True
        if reply[:1] == b"-":
            raise WrongReply(reply[:120])
        return False


class EtcdMode(Mode):
    """A put through etcd's HTTP/JSON gateway."""

    def request(self, key: bytes) -> bytes:
        body = b'{"key":"%b","value":"%b"}' % (base64.b64encode(key), base64.b64encode(VALUE))
        return b"POST /v3/kv/put HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    def complete(self, reply: bytes) -> bool:
        head, separator, body = reply.partition(b"\r\n\r\n")
        if not separator:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise WrongReply(reply[:120])
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return len(body) >= int(value)
        return body.endswith(b"0\r\n\r\n")


MODES: dict[str, type[Mode]] = {"set": SetMode, "set-waitaof": WaitMode, "etcd-put": EtcdMode}


class Loop:
    """All clients of one run."""

    def __init__(self, mode: Mode, ports: list[int], clients: int, *, tolerant: bool) -> None:
        self._mode = mode
        self._ports = ports
        self._tolerant = tolerant
        self._dice = random.Random(1)
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent_at: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        self._absent = clients
        self.latencies: list[float] = []
        self.errors = 0

    def run(self, seconds: float) -> float:
        """Drive for that long; returns the seconds it really took."""
        self._connect_absent()
        started = time.perf_counter()
        end = started + seconds
        while (now := time.perf_counter()) < end:
            if self._absent:
                self._connect_absent()
            for descriptor, _ in self._epoll.poll(0.05 if self._absent else 1.0):
                self._readable(descriptor)
        for client in self._sockets.values():
            client.close()
        self._epoll.close()
        return now - started

    def _connect_absent(self) -> None:
        for _ in range(self._absent):
            port = self._ports[self._dice.randrange(len(self._ports))]
            try:
                client = socket.create_connection(("127.0.0.1", port), timeout=5)
            except OSError:
                if not self._tolerant:
                    raise
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            self._absent -= 1
            self._sockets[client.fileno()] = client
            self._epoll.register(client.fileno(), select.EPOLLIN)
            self._send(client.fileno())

    def _send(self, descriptor: int) -> None:
        key = b"key:%012d" % self._dice.randrange(KEYS)
        self._partial[descriptor] = b""
        self._sent_at[descriptor] = time.perf_counter()
        try:
            self._sockets[descriptor].send(self._mode.request(key))
        except OSError:
            self._lost(descriptor)

    def _readable(self, descriptor: int) -> None:
        try:
            data = self._sockets[descriptor].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._lost(descriptor)
            return
        reply = self._partial[descriptor] + data
        try:
            done = self._mode.complete(reply)
        except WrongReply:
            if not self._tolerant:
                raise
            self._lost(descriptor)
            return
        if done:
            self.latencies.append(time.perf_counter() - self._sent_at[descriptor])
            self._send(descriptor)
        else:
            self._partial[descriptor] = reply

    def _lost(self, descriptor: int) -> None:
        if not self._tolerant:
            raise WrongReply("the server closed the connection")
        self.errors += 1
        self._epoll.unregister(descriptor)
        self._sockets.pop(descriptor).close()
        self._absent += 1


def main(argv: list[str]) -> int:
    """Run once and print the Load as JSON; exit code 1 with the reason when a reply was wrong."""
    parser = argparse.ArgumentParser(prog="tools.bench.closed_loop")
    parser.add_argument("mode", choices=sorted(MODES))
    parser.add_argument("--ports", required=True, help="comma-separated")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tolerant", action="store_true")
    options = parser.parse_args(argv)
    ports = [int(port) for port in options.ports.split(",")]
    loop = Loop(MODES[options.mode](), ports, options.clients, tolerant=options.tolerant)
    try:
        took = loop.run(options.seconds)
    except (WrongReply, OSError) as error:
        print(f"closed_loop {options.mode}: {error}", file=sys.stderr)
        return 1
    times = sorted(loop.latencies)
    if not times:
        print(f"closed_loop {options.mode}: no request completed in {took:.1f} s", file=sys.stderr)
        return 1
    load = Load(len(times), len(times) / took, percentile(times, 50) * 1e6, percentile(times, 99) * 1e6)
    print(json.dumps(asdict(load)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
