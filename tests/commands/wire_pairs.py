"""Two servers over sockets, durakv's and a stock one: the same requests to both, replies as typed trees."""

from __future__ import annotations

import socket
from typing import Any

Tree = Any


class Talker:
    """One connection. Replies are (type byte, value) pairs; ``value`` is bytes or a list of pairs."""

    def __init__(self, port: int, protocol: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.buffer = b""
        if protocol == 3:
            assert self("HELLO", "3")[0] == "%"

    def __call__(self, *words: str | bytes) -> Tree:
        return self.many([list(words)])[0]

    def many(self, requests: list[list[str | bytes]]) -> list[Tree]:
        """All replies; the requests are sent at once."""
        self.socket.sendall(b"".join(packed(words) for words in requests))
        return [self._tree() for _ in requests]

    def close(self) -> None:
        self.socket.close()

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _more(self) -> None:
        got = self.socket.recv(1 << 16)
        assert got, "the server closed the connection"
        self.buffer += got

    def _tree(self) -> Tree:
        line = self._line()
        kind, rest = line[:1], line[1:]
        name = kind.decode()
        if kind in (b"+", b"-", b":", b",", b"(", b"#", b"_"):
            return name, rest
        size = int(rest)
        if size < 0:
            return "_", b""
        if kind in (b"$", b"="):
            while len(self.buffer) < size + 2:
                self._more()
            value, self.buffer = self.buffer[:size], self.buffer[size + 2 :]
            return name, value
        assert kind in (b"*", b"~", b"%", b">"), line
        return name, [self._tree() for _ in range(size * 2 if kind == b"%" else size)]


def packed(words: list[str | bytes]) -> bytes:
    """A request on the wire."""
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw)


def unordered(tree: Tree) -> Tree:
    """Elements of an aggregate in an order of their own, at every depth."""
    kind, value = tree
    if isinstance(value, list):
        items = [unordered(item) for item in value]
        if kind == "%":
            items = [part for pair in sorted(zip(items[::2], items[1::2], strict=True), key=repr) for part in pair]
            return kind, items
        return kind, sorted(items, key=repr)
    return kind, value
