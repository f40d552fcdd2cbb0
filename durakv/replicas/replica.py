"""One replica as this node knows it: what it said of itself, how far it is, what it is sent.

Rule: sans-IO: told what arrives and what time it is, it says what to send; who sends it is serving.py.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.session import Session
from durakv.replicas.feed import Cursor, Feed
from durakv.resp.errors import SYNTAX, CommandError
from durakv.world.ports import File

# Words of INFO.
WAIT: Final = "wait_bgsave"
SEND: Final = "send_bulk"
ONLINE: Final = "online"

_FIELD_DEADLINES_SINCE: Final = 9
# What a build of Valkey between two releases says: it may be older than 9.
_NO_RELEASE: Final = 255
_OFFSET_DIGITS_MAX: Final = 19


class Announced:
    """What REPLCONF said before PSYNC; a connection may say some and never ask."""

    def __init__(self) -> None:
        self.port = 0
        self.address = ""
        self.version = (0, 0, 0)
        self.rdb_only = False
        # RDB files with functions alone, or with nothing at all.
        self.without_keys = False
        self.without_functions = False

    def option(self, name: bytes, value: bytes) -> bool:
        """One pair of REPLCONF; False for a name nobody knows. Raises CommandError."""
        if name == b"listening-port":
            self.port = _whole(value, 65535)
        elif name == b"ip-address":
            if len(value) > 255:
                raise CommandError("ERR REPLCONF ip-address provided by replica instance is too long: 255 bytes max")
            self.address = value.decode("ascii", "replace")
        elif name == b"version":
            self.version = _version(value)
        elif name == b"rdb-only":
            self.rdb_only = _whole(value, 1 << 31) == 1
        elif name == b"rdb-filter-only":
            words = value.lower().split()
            unknown = [word for word in words if word != b"functions"]
            if unknown:
                raise CommandError(f"ERR Unsupported rdb-filter-only option: {unknown[0].decode('ascii', 'replace')}")
            self.without_keys = True
            self.without_functions = not words
        else:
            # What a replica can do beyond PSYNC does not change what it is sent.
            return name == b"capa"
        return True

    def knows_field_deadlines(self) -> bool:
        """Whether it is a Valkey that has them; Redis never says its version."""
        return _FIELD_DEADLINES_SINCE <= self.version[0] < _NO_RELEASE


class Replica:
    """``cursor`` is where it reads ``feed``, None until its file is ready. ``old``: asked by SYNC, never says how far
    it is.
    """

    def __init__(self, session: Session, announced: Announced, feed: Feed, now_ms: int, *, old: bool) -> None:
        self.session = session
        self.announced = announced
        self.feed = feed
        self.old = old
        self.state = WAIT
        self.cursor: Cursor | None = None
        self.file: File | None = None
        self.path = ""
        self.file_at = 0
        self.file_bytes = 0
        self.acked = 0
        self.acked_ms = now_ms
        # When it last took something, and since when it has been behind too far; 0: it is not.
        self.moved_ms = now_ms
        self.over_soft_ms = 0

    def host(self) -> str:
        """Where it can be reached, as it said or as its connection shows."""
        return self.announced.address or self.session.address.rpartition(":")[0].strip("[]")

    def lag_s(self, now_ms: int) -> int:
        """Seconds since it last said so; -1 for one that does not."""
        return -1 if self.old else max(0, now_ms - self.acked_ms) // 1000

    def acknowledge(self, value: bytes, now_ms: int) -> None:
        """REPLCONF ACK."""
        if value.isdigit() and len(value) <= _OFFSET_DIGITS_MAX:
            self.acked = max(self.acked, int(value))
        self.acked_ms = now_ms

    def behind_bytes(self) -> int:
        """Bytes of the stream made and not yet handed to its connection."""
        return 0 if self.cursor is None else self.feed.offset - self.cursor.offset

    def answer_to_full_sync(self, size: int) -> bytes:
        """What comes before the file; the cursor says where the stream goes on."""
        assert self.cursor is not None
        head = b"" if self.old else b"+FULLRESYNC %b %d\r\n" % (self.feed.replid, self.cursor.offset)
        return head + b"$%d\r\n" % size

    def next_of_file(self, bytes_max: int) -> bytes:
        """The next bytes of the file, empty when all were taken. Raises OSError."""
        assert self.file is not None
        data = self.file.pread(min(bytes_max, self.file_bytes - self.file_at), self.file_at)
        if not data and self.file_at < self.file_bytes:
            raise OSError(f"the file ends at byte {self.file_at} of {self.file_bytes}")
        self.file_at += len(data)
        return data

    def over_limit(self, limit: tuple[int, int, int], unsent: int, now_ms: int) -> str:
        """Why it is too far behind for client-output-buffer-limit replica; empty when it is not."""
        hard, soft, soft_s = limit
        held = self.behind_bytes() + unsent
        if hard and held > hard:
            return f"{held} bytes wait for it, more than {hard}"
        if not soft or held <= soft:
            self.over_soft_ms = 0
            return ""
        if not self.over_soft_ms:
            self.over_soft_ms = now_ms
        if now_ms - self.over_soft_ms > soft_s * 1000:
            return f"{held} bytes wait for it, more than {soft} for {soft_s} s"
        return ""


def _whole(value: bytes, most: int) -> int:
    if not value.isdigit() or len(value) > _OFFSET_DIGITS_MAX or int(value) > most:
        raise CommandError("ERR value is not an integer or out of range")
    return int(value)


def _version(value: bytes) -> tuple[int, int, int]:
    parts = value.split(b".")
    if len(parts) != 3 or not all(part.isdigit() and len(part) <= _OFFSET_DIGITS_MAX for part in parts):
        raise CommandError(f"ERR Unrecognized version format: {value.decode('ascii', 'replace')}")
    return int(parts[0]), int(parts[1]), int(parts[2])


def pairs(argv: list[bytes]) -> list[tuple[bytes, bytes]]:
    """REPLCONF's options. Raises CommandError."""
    if len(argv) % 2 == 0:
        raise CommandError(SYNTAX)
    return [(argv[at].lower(), argv[at + 1]) for at in range(1, len(argv), 2)]
