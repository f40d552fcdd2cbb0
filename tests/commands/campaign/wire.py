"""Two servers at once over sockets: the same steps to both, their replies as raw bytes.

Rule: requests are sent and replies read by one loop for all sockets, so that neither a full socket nor a slow server
stops the other.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import Any

from tests.commands.campaign.grammar import Words
from tests.commands.campaign.programs import Step

Tree = Any
# Nothing that is sent takes a server this long, unless it waits for something.
PATIENCE_S = 120.0


class Stuck(Exception):
    """A server did not answer, or closed the connection; the text says which and what came."""


class Line:
    """One connection: what is still to be sent, what came, and the marker its answer ends with."""

    def __init__(self, port: int, name: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setblocking(False)
        self.name = name
        self.unsent = memoryview(b"")
        self.got = bytearray()
        self.end = b""
        # Where no marker can be, in an open transaction: replies still to come, and where the next begins.
        self.left = 0
        self.at = 0

    @property
    def done(self) -> bool:
        if self.unsent:
            return False
        if self.end:
            return self.got.endswith(self.end)
        while self.left and (end := reply_end(self.got, self.at)) >= 0:
            self.at = end
            self.left -= 1
        return not self.left

    def close(self) -> None:
        self.socket.close()


class Server:
    """Connections to one server, made as steps need them."""

    def __init__(self, port: int, name: str, protocol: int) -> None:
        self.port = port
        self.name = name
        self.protocol = protocol
        self.lines: list[Line] = []

    def line(self, number: int) -> Line:
        while len(self.lines) <= number:
            try:
                line = Line(self.port, self.name)
            except OSError as error:
                raise Stuck(f"{self.name} takes no connection on port {self.port}: it has ended") from error
            self.lines.append(line)
            exchange([(line, packed([b"HELLO", b"%d" % self.protocol]))])
        return self.lines[number]

    def reset(self) -> None:
        """Fresh connections: whatever state programs left is gone."""
        for line in self.lines:
            line.close()
        self.lines = []

    def ask(self, *words: bytes) -> Tree:
        """One reply, for looks around a program."""
        return trees(exchange([(self.line(0), packed(list(words)))])[0])[0]


def packed(words: Words) -> bytes:
    """A request on the wire."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def exchange(parts: list[tuple[Line, bytes]], replies: int = 0) -> list[bytes]:
    """Send to each line and return all that each answered: up to a marker of our own, or so many ``replies``."""
    with selectors.DefaultSelector() as waiting:
        for line, request in parts:
            marker = b"marker-of-the-end-%d" % len(line.got)
            line.unsent = memoryview(request if replies else request + packed([b"PING", marker]))
            line.got = bytearray()
            line.end = b"" if replies else b"$%d\r\n%b\r\n" % (len(marker), marker)
            line.left, line.at = replies, 0
            waiting.register(line.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, line)
        left = len(parts)
        last = time.monotonic()
        while left:
            ready = waiting.select(1.0)
            now = time.monotonic()
            if ready:
                last = now
            elif now - last > PATIENCE_S:
                stuck = [line for line, _ in parts if not line.done]
                raise Stuck("; ".join(f"{line.name} is silent after {bytes(line.got[-300:])!r}" for line in stuck))
            for key, events in ready:
                line = key.data
                if events & selectors.EVENT_WRITE:
                    sent = line.socket.send(line.unsent[: 1 << 18])
                    line.unsent = line.unsent[sent:]
                    if not line.unsent:
                        waiting.modify(line.socket, selectors.EVENT_READ, line)
                if events & selectors.EVENT_READ:
                    chunk = line.socket.recv(1 << 20)
                    if not chunk:
                        raise Stuck(f"{line.name} closed the connection after {bytes(line.got[-300:])!r}")
                    line.got += chunk
                if line.done:
                    waiting.unregister(line.socket)
                    left -= 1
    return [_without_marker(bytes(line.got), line.end) for line, _ in parts]


def reply_end(raw: bytes | bytearray, at: int) -> int:
    """Where the reply that begins at ``at`` ends; -1 when it has not all come."""
    open_items = 1
    while open_items:
        end = raw.find(b"\r\n", at)
        if end < 0:
            return -1
        kind = raw[at]
        if kind in b"$=*~%>":
            size = int(raw[at + 1 : end])
            if kind in b"$=":
                at = end + 2 + (size + 2 if size >= 0 else 0)
            else:
                at = end + 2
                open_items += max(0, size) * (2 if kind == 0x25 else 1)
        else:
            at = end + 2
        open_items -= 1
    return at if at <= len(raw) else -1


def _without_marker(got: bytes, end: bytes) -> bytes:
    if not end:
        return got
    body = got[: -len(end)]
    # In RESP2 a subscriber's PING is answered by an array.
    return body.removesuffix(b"*2\r\n$4\r\npong\r\n")


def runs(steps: list[Step]) -> list[tuple[int, list[Words]]]:
    """Stretches of steps of one connection."""
    found: list[tuple[int, list[Words]]] = []
    for connection, words in steps:
        if not found or found[-1][0] != connection:
            found.append((connection, []))
        found[-1][1].append(words)
    return found


def both(ours: Server, theirs: Server, connection: int, requests: bytes, replies: int = 0) -> tuple[bytes, bytes]:
    """One stretch on both servers; ``replies`` as in exchange()."""
    mine, other = exchange([(ours.line(connection), requests), (theirs.line(connection), requests)], replies)
    return mine, other


def trees(raw: bytes) -> list[Tree]:
    """Replies as (type byte, value) pairs; ``value`` is bytes or a list of pairs."""
    found = []
    at = 0
    while at < len(raw):
        tree, at = _tree(raw, at)
        found.append(tree)
    return found


def _tree(raw: bytes, at: int) -> tuple[Tree, int]:
    end = raw.index(b"\r\n", at)
    kind, rest = raw[at : at + 1].decode(), raw[at + 1 : end]
    at = end + 2
    if kind in "+-:,(#_":
        return (kind, rest), at
    size = int(rest)
    if size < 0:
        return ("_", b"*" if kind == "*" else b"$"), at
    if kind in "$=":
        return (kind, raw[at : at + size]), at + size + 2
    assert kind in "*~%>|", raw[at - 20 : at + 20]
    items = []
    for _ in range(size * 2 if kind == "%" else size):
        item, at = _tree(raw, at)
        items.append(item)
    return (kind, items), at
