"""A blocking RESP client for the command line: one connection, one request at a time, every wait bounded.

Rule: the only place where the command line opens sockets. Errors become ``Unreachable`` or ``Refused`` in words a
person can act on; nothing is retried here.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import TypeAlias

import hiredis

Value: TypeAlias = "bytes | int | float | bool | list[Value] | dict[Value, Value] | None"


class Unreachable(Exception):
    """No answer: refused, timed out or closed. Says nothing about whether a request took effect."""


class Refused(Exception):
    """The node answered with an error; the text is its own."""


class Client:
    """One connection. Use as a context manager."""

    def __init__(self, host: str, port: int, *, timeout_s: float = 2.0, password: str = "") -> None:
        self.address = f"{host}:{port}"
        self._reader = hiredis.Reader()
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise Unreachable(f"{self.address}: {error.strerror or error}") from error
        if password:
            try:
                self.call("AUTH", password)
            except BaseException:
                self._socket.close()
                raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def call(self, *words: str | bytes | int) -> Value:
        """Send one command and return its reply. Raises Refused for an error reply, Unreachable for none."""
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # the stub says a tuple of exactly one word
        try:
            self._socket.sendall(packed)
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(65536)
                if not data:
                    raise Unreachable(f"{self.address}: connection closed before the reply")
                self._reader.feed(data)
        except OSError as error:
            raise Unreachable(f"{self.address}: {error.strerror or error}") from error
        if isinstance(reply, hiredis.ReplyError):
            raise Refused(str(reply))
        value: Value = reply
        return value

    def info(self) -> dict[str, str]:
        """``INFO`` as one flat map from field to text; section titles are dropped."""
        reply = self.call("INFO", "everything")
        if not isinstance(reply, bytes):
            raise Refused(f"{self.address}: INFO answered {type(reply).__name__}, not text")
        return parse_info(reply.decode("utf-8", "replace"))


def answers(host: str, port: int, timeout_s: float) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def parse_info(text: str) -> dict[str, str]:
    """The ``field:value`` lines of an INFO reply."""
    fields = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, separator, value = line.partition(":")
            if separator:
                fields[name] = value
    return fields
