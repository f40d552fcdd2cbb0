"""Clients of a cluster that write at a fixed rate to keys of moving slots: ``python -m tools.bench.slot_writers``.

Arguments: writes per second, clients, keys of each tag, tags by comma, then ports of two nodes. ``begin`` on standard
input forgets what was measured, ``end`` tells it; both are answered with a line of JSON, and the end of the input ends
it. Rule: a write counts from the time it was due, so that one that waits also stands for those behind it; what is not
MOVED and not OK is an error that a client would have seen.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import sys
import time

import hiredis

from tools.bench.measure import percentile

VALUE = b"v" * 100
_TURN_S = 0.0005


class Writer:
    """One client: a connection to each node, one write under way at a time."""

    def __init__(self, ports: list[int], tags: list[str], keys: int, interval_s: float, first_s: float) -> None:
        self.sockets: dict[int, socket.socket] = {}
        self.readers: dict[int, hiredis.Reader] = {}
        for port in ports:
            made = socket.create_connection(("127.0.0.1", port), timeout=60)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[port] = made
            self.readers[port] = hiredis.Reader()
        self.tags = tags
        self.keys = keys
        self.interval_s = interval_s
        self.due_s = first_s
        # Where the slot of each tag was last found.
        self.places = dict.fromkeys(tags, ports[0])
        self.tag = ""
        self.request = b""
        self.busy = 0
        self.worst_s = 0.0
        # How long the first write took that was sent to the slots' next owner; -1 when none was.
        self.moved_s = -1.0
        self._met = self._meets = False

    def begin(self) -> None:
        """Forget what was measured."""
        self.worst_s = 0.0
        self.moved_s = -1.0
        self._met = False

    def send(self) -> None:
        """The next write."""
        self.tag = random.choice(self.tags)
        key = f"{{{self.tag}}}:{random.randrange(self.keys):08d}".encode()
        self.request = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(VALUE), VALUE)
        self._to(self.places[self.tag])

    def _to(self, port: int) -> None:
        self.busy = port
        self.sockets[port].sendall(self.request)

    def receive(self, errors: dict[str, int]) -> float:
        """Seconds that a write took which is done now, otherwise -1."""
        port = self.busy
        reader = self.readers[port]
        data = self.sockets[port].recv(65536)
        if not data:
            raise ConnectionError("a server closed the connection")
        reader.feed(data)
        reply = reader.gets()
        if reply is False:
            return -1.0
        if isinstance(reply, hiredis.ReplyError):
            words = str(reply).split()
            if words[0] == "MOVED":
                self.places[self.tag] = int(words[2].rpartition(":")[2])
                self._meets = self._meets or not self._met
                self._met = True
                self._to(self.places[self.tag])
                return -1.0
            errors[str(reply)[:80]] = errors.get(str(reply)[:80], 0) + 1
        took_s = time.perf_counter() - self.due_s
        self.due_s += self.interval_s
        self.worst_s = max(self.worst_s, took_s)
        if self._meets:
            self._meets = False
            self.moved_s = took_s
        self.busy = 0
        return took_s


class Measured:
    """What happened since ``begin``."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.errors: dict[str, int] = {}

    def told(self, writers: list[Writer]) -> dict[str, object]:
        """As JSON; milliseconds."""
        found = sorted(self.latencies_s) or [0.0]
        return {
            "writes": len(self.latencies_s),
            "p50_ms": percentile(found, 50) * 1000,
            "p99_ms": percentile(found, 99) * 1000,
            "max_ms": found[-1] * 1000,
            # The longest wait of each client, and that of its write which met the move.
            "worst_ms": [writer.worst_s * 1000 for writer in writers],
            "moved_ms": [writer.moved_s * 1000 for writer in writers if writer.moved_s >= 0],
            "errors": self.errors,
        }


def main(argv: list[str]) -> int:
    """Write until the input ends."""
    rate, count, keys = int(argv[0]), int(argv[1]), int(argv[2])
    tags = argv[3].split(",")
    ports = [int(word) for word in argv[4:]]
    began_s = time.perf_counter() + 0.1
    interval_s = count / rate
    writers = [Writer(ports, tags, keys, interval_s, began_s + interval_s * n / count) for n in range(count)]
    owner: dict[int, Writer] = {}
    poll = select.poll()
    for writer in writers:
        for made in writer.sockets.values():
            poll.register(made, select.POLLIN)
            owner[made.fileno()] = writer
    poll.register(0, select.POLLIN)
    measured = Measured()
    while True:
        now_s = time.perf_counter()
        for writer in writers:
            if not writer.busy and writer.due_s <= now_s:
                writer.send()
        for fd, _ in poll.poll(_TURN_S * 1000):
            if fd != 0:
                took_s = owner[fd].receive(measured.errors)
                if took_s >= 0:
                    measured.latencies_s.append(took_s)
                continue
            word = os.read(0, 64).decode().strip()
            if not word:
                return 0
            print(json.dumps(measured.told(writers)), flush=True)
            measured = Measured()
            for writer in writers:
                writer.begin()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
