"""The source's stream of commands, cut into steps that may be applied: single commands and whole transactions.

Each step knows the byte of the stream at which it ends. Rule: nothing that changes data is passed over. What cannot be
run here raises Unfit, and the position stays before it. Deadlines that old servers send as "in so many seconds" become
points in time here, before they are logged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.commands.spec import READ, WRITE
from durakv.engine.batch import Part
from durakv.resp.errors import CommandError
from durakv.resp.parser import Parser
from durakv.scripting import terms

if TYPE_CHECKING:
    from durakv.commands.table import Table
    from durakv.config.settings import Settings

# What a part costs besides its arguments.
_PART_BYTES: Final = 16
_RELATIVE: Final = frozenset((b"EXPIRE", b"PEXPIRE", b"SETEX", b"PSETEX", b"SET", b"RESTORE"))


class Unfit(Exception):
    """The stream holds what durakv cannot run; a person must decide."""


class Garbled(Exception):
    """The bytes are no stream of commands: drop the connection and ask again."""


class Step:
    """``parts`` belong together; ``offset`` and ``db`` are the source's position behind them."""

    __slots__ = ("db", "offset", "parts", "size_bytes")

    def __init__(self, parts: list[Part], size_bytes: int, offset: int, db: int) -> None:
        self.parts = parts
        self.size_bytes = size_bytes
        self.offset = offset
        self.db = db


class Feed:
    """One stream. ``offset`` is the byte up to which commands have been read, ``steps`` wait to be taken."""

    def __init__(
        self, table: Table, settings: Settings, databases: int, offset: int, db: int, wall_ms: Callable[[], int],
        publish: Callable[[bytes, bytes, bool], None],
    ) -> None:  # fmt: skip
        self.steps: deque[Step] = deque()
        self.size_bytes = 0
        self.offset = offset
        self.db = db
        # The source wants to hear at once how far the group is.
        self.ack_wanted = False
        self._table = table
        self._settings = settings
        self._databases = databases
        self._wall_ms = wall_ms
        self._publish = publish
        self._parser = Parser(int(settings.proto_max_bulk_len), 1 << 62)
        self._fed = offset
        self._open: list[Part] | None = None
        self._open_bytes = 0

    def feed(self, data: bytes) -> None:
        """Bytes of the stream. Raises Unfit, Garbled; what came before it is in ``steps``."""
        self._fed += len(data)
        for argv in self._parser.feed(data):
            self.offset += _wire_bytes(argv)
            self._take(argv)
        if self._parser.error is not None:
            raise Garbled(f"its stream cannot be read: {self._parser.error}")
        if self.offset > self._fed or self._parser.dropped:
            raise Garbled("its stream cannot be read: lengths do not add up")
        # Nothing public says whether it stands between two commands.
        if not self._parser._waiting:  # noqa: SLF001
            # Empty lines are bytes of the stream too.
            self.offset = self._fed

    def idle(self) -> bool:
        """Nothing is waiting, and no transaction is half read."""
        return not self.steps and self._open is None

    def take(self, bytes_max: int) -> list[Step]:
        """The next steps, of up to ``bytes_max`` together but at least one if there is any."""
        out: list[Step] = []
        size = 0
        while self.steps and (not out or size + self.steps[0].size_bytes <= bytes_max):
            step = self.steps.popleft()
            size += step.size_bytes
            out.append(step)
        self.size_bytes -= size
        return out

    def _take(self, argv: list[bytes]) -> None:
        name = argv[0].upper()
        if name == b"MULTI":
            self._open, self._open_bytes = [], 0
            return
        if name == b"EXEC":
            parts, self._open = self._open or [], None
            self._add(parts, self._open_bytes)
            return
        part = self._part(name, argv)
        if part is None:
            return
        size = _PART_BYTES + sum(len(arg) + 8 for arg in part.argv)
        if self._open is None:
            self._add([part], size)
        else:
            self._open.append(part)
            self._open_bytes += size

    def _add(self, parts: list[Part], size: int) -> None:
        self.steps.append(Step(parts, size, self.offset, self.db))
        self.size_bytes += size

    def _part(self, name: bytes, argv: list[bytes]) -> Part | None:
        """The command as it is to be logged; None when it changes no data."""
        if name == b"PING":
            return None
        if name == b"SELECT":
            self._select(argv)
            return None
        if name == b"REPLCONF":
            self.ack_wanted = self.ack_wanted or (len(argv) > 1 and argv[1].upper() == b"GETACK")
            return None
        if name in (b"PUBLISH", b"SPUBLISH") and len(argv) == 3:
            self._publish(argv[1], argv[2], name == b"SPUBLISH")
            return None
        try:
            row = self._table.find(argv)
        except CommandError as error:
            raise Unfit(f"it runs a command that durakv does not know: {error.text}") from None
        if row.kind == READ and not row.runs_script:
            # PFCOUNT, which upstream may store what it counted.
            return None
        if row.kind != WRITE and not row.runs_script:
            return None
        if row.prepares and not row.crosses:
            raise Unfit(f"it replicates {row.name}, which only durakv itself may log")
        if row.runs_script:
            return Part(row, [*argv, terms.encode(self._settings, b"", over_memory=False)], self.db)
        if name in _RELATIVE:
            argv = absolute(name, argv, self._wall_ms())
            row = self._table.find(argv)
        return Part(row, argv, self.db)

    def _select(self, argv: list[bytes]) -> None:
        number = int(argv[1]) if len(argv) == 2 and argv[1].isdigit() and len(argv[1]) < 10 else -1
        if not 0 <= number < self._databases:
            shown = b" ".join(argv[1:2]).decode("utf-8", "replace")
            raise Unfit(
                f"it uses database {shown}, and this group has {self._databases}; start its nodes with a higher "
                "databases directive"
            )
        self.db = number


def absolute(name: bytes, argv: list[bytes], now_ms: int) -> list[bytes]:
    """The same command with its deadline as unix time. What is malformed stays: it fails here as there."""
    try:
        if name in (b"EXPIRE", b"PEXPIRE"):
            unit = 1000 if name == b"EXPIRE" else 1
            return [b"PEXPIREAT", argv[1], b"%d" % (now_ms + int(argv[2]) * unit), *argv[3:]]
        if name in (b"SETEX", b"PSETEX") and len(argv) == 4:
            unit = 1000 if name == b"SETEX" else 1
            return [b"SET", argv[1], argv[3], b"PXAT", b"%d" % (now_ms + int(argv[2]) * unit)]
        if name == b"RESTORE" and int(argv[2]) > 0 and not any(word.upper() == b"ABSTTL" for word in argv[4:]):
            return [*argv[:2], b"%d" % (now_ms + int(argv[2])), *argv[3:], b"ABSTTL"]
        if name == b"SET":
            for at in range(3, len(argv) - 1):
                word = argv[at].upper()
                if word in (b"EX", b"PX"):
                    unit = 1000 if word == b"EX" else 1
                    return [*argv[:at], b"PXAT", b"%d" % (now_ms + int(argv[at + 1]) * unit), *argv[at + 2 :]]
    except (ValueError, IndexError):
        return argv
    return argv


def _wire_bytes(argv: list[bytes]) -> int:
    """Bytes of the command as an array of bulk strings, the one form in which servers send it."""
    total = 3 + len(str(len(argv)))
    for arg in argv:
        size = len(arg)
        total += 5 + len(str(size)) + size
    return total
