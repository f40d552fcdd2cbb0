"""Replies as plain Python values, and the few marker classes RESP needs beyond them.

Rule: a handler returns one of these and never bytes of the wire; the encoder alone knows RESP2 from RESP3.
None is a null bulk, int an integer, bytes (or bytearray) a bulk string, float a double, bool a boolean, list an array.
"""

from __future__ import annotations

from typing import Final, TypeAlias


class Simple:
    """A simple string such as ``+OK``; ``wire`` is the encoded form, equal under both protocols."""

    __slots__ = ("text", "wire")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.wire = b"+" + text + b"\r\n"


class ErrorReply:
    """An error inside another reply (one command of EXEC) or a final reply; ``text`` without the leading dash."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class NullArray:
    """``*-1`` under RESP2, ``_`` under RESP3. Use the constant NULL_ARRAY."""

    __slots__ = ()


class Map:
    """Flat ``[key, value, key, value, ...]``: a flat array under RESP2, a map under RESP3."""

    __slots__ = ("flat",)

    def __init__(self, flat: list[Reply]) -> None:
        self.flat = flat


class KeyedPairs:
    """Flat ``[key, value, key, value, ...]``: an array of two-element arrays under RESP2, a map under RESP3."""

    __slots__ = ("flat",)

    def __init__(self, flat: list[Reply]) -> None:
        self.flat = flat


class SetReply:
    """An array under RESP2, a set under RESP3."""

    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items


class Pairs:
    """Flat ``[a, b, a, b, ...]``: a flat array under RESP2, an array of two-element arrays under RESP3."""

    __slots__ = ("flat",)

    def __init__(self, flat: list[Reply]) -> None:
        self.flat = flat


class Push:
    """An array under RESP2, an out-of-band push under RESP3."""

    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items


class Pushes:
    """Several pushes in a row, the confirmations of one SUBSCRIBE; inside EXEC they stand where one reply would."""

    __slots__ = ("pushes",)

    def __init__(self, pushes: list[Push]) -> None:
        self.pushes = pushes


class Verbatim:
    """A bulk string under RESP2, ``=`` with a three-letter format under RESP3."""

    __slots__ = ("format", "text")

    def __init__(self, text: bytes, format: bytes = b"txt") -> None:
        self.text = text
        self.format = format


class BigNumber:
    """An integer of any size as digits: a bulk string under RESP2, ``(`` under RESP3. Only scripts return it."""

    __slots__ = ("digits",)

    def __init__(self, digits: bytes) -> None:
        self.digits = digits


class HumanDouble:
    """A double whose digits the command chose: a bulk string under RESP2, ``,`` under RESP3."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class Encoded:
    """Bytes already on the wire form of the receiving session's protocol (a reply forwarded from the leader)."""

    __slots__ = ("wire",)

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


class Parked:
    """Not a reply: the command blocks until one of ``keys`` changes or ``timeout_ms`` of log time pass (0 = never).

    ``on_timeout`` is the reply then. ``kind`` names the value type that may wake it: ``b"list"``, ``b"zset"``,
    ``b"stream"``, or ``b"group"`` for any type and none.
    The engine parks the session in replicated state and calls the same handler again when a key becomes ready, with
    ``argv`` if that is given; a handler must therefore be safe to call again with the same argv.
    """

    __slots__ = ("argv", "keys", "kind", "on_timeout", "timeout_ms")

    def __init__(
        self, keys: list[bytes], timeout_ms: int, kind: bytes, on_timeout: Reply, argv: list[bytes] | None = None
    ) -> None:
        self.argv = argv
        self.keys = keys
        self.timeout_ms = timeout_ms
        self.kind = kind
        self.on_timeout = on_timeout


class NoReply:
    """Nothing is sent now: the handler wrote its own output (SUBSCRIBE) or will answer later (WAIT)."""

    __slots__ = ()


# A union too wide for the type checker to help with; the encoder refuses anything not listed above.
Reply: TypeAlias = object

OK: Final = Simple(b"OK")
QUEUED: Final = Simple(b"QUEUED")
PONG: Final = Simple(b"PONG")
NULL_ARRAY: Final = NullArray()
NO_REPLY: Final = NoReply()
