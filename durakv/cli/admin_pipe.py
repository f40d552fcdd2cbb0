"""One connection over which many requests are under way at once.

Rule: replies are matched to requests by order alone, so whoever sends without waiting keeps the same order. A lost
connection is told as ``Lost``, never retried here: what was under way may or may not have happened.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Final, TypeAlias

import hiredis

Reply: TypeAlias = "bytes | int | float | bool | list[Reply] | hiredis.ReplyError | None"

_RECEIVE_BYTES: Final = 1 << 16
# Nothing was logged and the same request may succeed a moment later.
_TRANSIENT: Final = ("THROTTLED", "LOADING", "TRYAGAIN", "BUSY ")
_PAUSE_S: Final = 0.05


class Lost(Exception):
    """The connection failed; the fate of requests without a reply is unknown."""


class Refusal(Exception):
    """The server answered a request with an error that ends the import."""


class Pipe:
    """A blocking connection. ``call`` waits for its reply; ``send`` and ``receive`` do not belong together."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.address = f"{host}:{port}"
        self._reader = hiredis.Reader()
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise Lost(f"{self.address}: {error.strerror or error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send packed requests. Their replies must be few and short enough for the socket's buffers."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Lost(f"{self.address}: {error.strerror or error}") from error

    def receive(self) -> Reply:
        """The next reply; an error is returned, not raised."""
        try:
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(_RECEIVE_BYTES)
                if not data:
                    raise Lost(f"{self.address}: connection closed by the server")
                self._reader.feed(data)
        except OSError as error:
            raise Lost(f"{self.address}: {error.strerror or error}") from error
        except hiredis.ProtocolError as error:
            raise Lost(f"{self.address}: no RESP server answers there ({error})") from error
        answer: Reply = reply
        return answer

    def call(self, *words: bytes) -> Reply:
        """One request, its reply; an error is returned, not raised."""
        self.send(pack(words))
        return self.receive()

    def insist(self, patience_s: float, *words: bytes) -> Reply:
        """As ``call``, again and again while the answer is that it is too early. Raises Refusal for other errors."""
        packed = pack(words)
        until = time.monotonic() + patience_s
        while True:
            self.send(packed)
            reply = self.receive()
            if not isinstance(reply, hiredis.ReplyError):
                return reply
            if not is_transient(reply) or time.monotonic() > until:
                raise Refusal(f"{self.address}: {words[0].decode('latin-1')}: {reply}")
            pause()


def pause() -> None:
    """A moment for the server to catch up."""
    time.sleep(_PAUSE_S)


def is_transient(error: hiredis.ReplyError) -> bool:
    """Whether the request had no effect and may be sent again as it is."""
    return str(error).startswith(_TRANSIENT)


def pack(words: Sequence[bytes]) -> bytes:
    """A request in RESP."""
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


def connect(address: str, user: str, password: str, timeout_s: float) -> Pipe:
    """Connect to ``host:port`` and log in. Raises Lost, Refusal."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        raise Refusal(f"{address}: is not HOST:PORT")
    pipe = Pipe(host.strip("[]"), int(port), timeout_s)
    try:
        if password:
            words = [b"AUTH", *([user.encode()] if user else []), password.encode()]
            _expect(pipe, words)
        _expect(pipe, [b"PING"])
    except BaseException:
        pipe.close()
        raise
    return pipe


def _expect(pipe: Pipe, words: list[bytes]) -> None:
    reply = pipe.call(*words)
    if isinstance(reply, hiredis.ReplyError):
        raise Refusal(f"{pipe.address}: {reply}")
