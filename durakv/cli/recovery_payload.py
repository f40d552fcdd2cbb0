"""A log entry's payload taken apart for people: which commands it carries, and where in its bytes each item ends.

Rule: reads the bytes that engine/entry.py writes and applies nothing. It is strict: a payload that this accepts is one
the engine accepts, and a shorter payload made by ``first_items`` applies exactly the items it keeps.
"""

from __future__ import annotations

from typing import Final

from durakv.engine.entry import FORMAT, HEADER, HEADER_SIZE, SEMANTICS

COMMAND: Final = "command"
TRANSACTION: Final = "transaction"
# Control record -> what it does, in the words of the dump.
_CONTROL: Final = {
    b"@tick": "tick", b"@sweep": "sweep", b"@evict": "evict", b"@drop": "drop", b"@unpark": "unpark",
}  # fmt: skip


class PayloadError(Exception):
    """The bytes are no payload. ``offset`` counts from the payload's first byte."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(f"byte {offset} of the payload: {detail}")
        self.offset = offset


class Command:
    """One command as logged: database number and arguments, the name first."""

    __slots__ = ("argv", "db")

    def __init__(self, argv: list[bytes], db: int) -> None:
        self.argv = argv
        self.db = db


class Item:
    """What the engine applies as a unit. ``kind`` is "command", "transaction" or a control record's word; the arguments
    of a control record are its only command's. ``end`` is the offset behind it.
    """

    __slots__ = ("commands", "end", "kind")

    def __init__(self, kind: str, commands: list[Command], end: int) -> None:
        self.kind = kind
        self.commands = commands
        self.end = end


class Payload:
    """A decoded payload; ``now_ms`` is unix time."""

    __slots__ = ("items", "now_ms", "seed", "semantics")

    def __init__(self, semantics: int, now_ms: int, seed: int) -> None:
        self.semantics = semantics
        self.now_ms = now_ms
        self.seed = seed
        self.items: list[Item] = []


def decode_payload(data: bytes) -> Payload:
    """Every item of a payload. Raises PayloadError."""
    if len(data) < HEADER_SIZE:
        raise PayloadError(0, f"{len(data)} bytes are shorter than a payload's header of {HEADER_SIZE}")
    fmt, semantics, flags, count, now_ms, seed = HEADER.unpack_from(data)
    if fmt != FORMAT or semantics > SEMANTICS or flags:
        raise PayloadError(
            0, f"format {fmt}, semantics {semantics}, flags {flags}; this durakv knows {FORMAT}, {SEMANTICS}, 0: "
            "use the version that wrote it"
        )  # fmt: skip
    payload = Payload(semantics, now_ms, seed)
    at, db = HEADER_SIZE, 0
    while len(payload.items) < count:
        argv, at = _array(data, at)
        name = argv[0]
        if name == b"@db":
            db = _number(argv, 1, at)
        elif name == b"@as":
            _number(argv, 1, at)
            _number(argv, 2, at)
        elif name == b"@multi":
            commands: list[Command] = []
            wanted = _number(argv, 1, at)
            while len(commands) < wanted:
                part, at = _array(data, at)
                if part[0] == b"@db":
                    db = _number(part, 1, at)
                else:
                    commands.append(Command(part, db))
            payload.items.append(Item(TRANSACTION, commands, at))
        else:
            kind = _CONTROL.get(name, COMMAND)
            if kind == COMMAND and name.startswith(b"@"):
                raise PayloadError(at, f"unknown control record {name!r}; use the version that wrote it")
            payload.items.append(Item(kind, [Command(argv, db)], at))
    if at != len(data):
        raise PayloadError(at, f"{len(data) - at} bytes behind the last item")
    return payload


def first_items(data: bytes, count: int) -> bytes:
    """The payload that applies only the first ``count`` items of ``data`` (1 or more), in the same way."""
    payload = decode_payload(data)
    fmt, semantics, flags, _, now_ms, seed = HEADER.unpack_from(data)
    return HEADER.pack(fmt, semantics, flags, count, now_ms, seed) + data[HEADER_SIZE : payload.items[count - 1].end]


def _array(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The RESP array of bulk strings at ``at``, and where it ends."""
    count, at = _length(data, at, b"*")
    if count == 0:
        raise PayloadError(at, "an empty array")
    argv: list[bytes] = []
    for _ in range(count):
        size, at = _length(data, at, b"$")
        if data[at + size : at + size + 2] != b"\r\n":
            raise PayloadError(at, f"a string of {size} bytes does not end where it should")
        argv.append(data[at : at + size])
        at += size + 2
    return argv, at


def _length(data: bytes, at: int, mark: bytes) -> tuple[int, int]:
    end = data.find(b"\r\n", at, at + 24)
    digits = data[at + 1 : end]
    if end < 0 or data[at : at + 1] != mark or not digits.isdigit():
        raise PayloadError(at, f"no length that begins with {mark.decode()}")
    return int(digits), end + 2


def _number(argv: list[bytes], place: int, at: int) -> int:
    if place >= len(argv) or not argv[place].isdigit():
        raise PayloadError(at, f"the record before, {argv[0]!r}, lacks its number")
    return int(argv[place])
