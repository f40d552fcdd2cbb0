"""The commands of an append-only file, one by one, with their places.

Rule: a command is given out only when all its bytes are there. A file that ends inside a command or inside MULTI is
*truncated*, which a crash explains; anything else that does not parse is *damaged*, which none does. Lines that begin
with ``#`` are annotations. Source: valkey aof.c loadSingleAppendOnlyFile().
"""

from __future__ import annotations

from typing import Final

from durakv.rdb.errors import Malformed
from durakv.rdb.window import STRING_BYTES_MAX, ByteSource, Window

# Valkey's own bound on arguments of one command read from a client.
ARGUMENTS_MAX: Final = 1 << 20
_LINE_BYTES_MAX: Final = 1024
# "*1048576" and "$536870912" fit.
_HEAD_BYTES_MAX: Final = 32
_STAR: Final = 0x2A
_HASH: Final = 0x23


class DamagedAof(Exception):
    """``offset`` is the byte of ``path`` where the bytes stop making sense."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: {reason}; copy the file again, or look at it with redis-check-aof"
        )
        self.path = path
        self.offset = offset
        self.reason = reason


class Command:
    """``offset``: where it begins, ``end``: where the next one does."""

    __slots__ = ("argv", "end", "offset")

    def __init__(self, argv: list[bytes], offset: int, end: int) -> None:
        self.argv = argv
        self.offset = offset
        self.end = end


class AofFile:
    """Reads commands until ``next`` answers None. Then ``truncated_at`` is -1, or the offset from which on the file has
    to be dropped: a cut-off command, or a MULTI whose EXEC is missing.
    """

    def __init__(self, source: ByteSource, path: str, start: int = 0) -> None:
        self.path = path
        self.truncated_at = -1
        self._window = Window(source, start, None, 0)
        # Where the last MULTI without EXEC begins.
        self._open_multi = -1

    def position(self) -> int:
        """Offset of the next byte."""
        return self._window.position()

    def next(self) -> Command | None:
        """The next command. Raises DamagedAof, OSError."""
        window = self._window
        offset = window.position()
        try:
            while window.left():
                offset = window.position()
                argv = self._quick()
                if argv is None:
                    argv = self._slow()
                    if argv is None:
                        continue
                return self._noted(Command(argv, offset, window.position()))
        except _Short:
            self.truncated_at = offset
        except Malformed as error:
            raise DamagedAof(self.path, error.at, error.reason) from None
        # Half a transaction must not happen.
        if self._open_multi >= 0:
            self.truncated_at = self._open_multi
        return None

    def _noted(self, command: Command) -> Command:
        argv = command.argv
        if len(argv) == 1:
            name = argv[0].upper()
            if name == b"MULTI":
                self._open_multi = command.offset
            elif name == b"EXEC":
                self._open_multi = -1
        return command

    def _quick(self) -> list[bytes] | None:
        """A well-formed command that lies in memory, else None with nothing changed."""
        window = self._window
        data = window.data
        at = window.at
        if at >= len(data) or data[at] != _STAR:
            return None
        line_end = data.find(b"\r\n", at, at + _HEAD_BYTES_MAX)
        count_text = data[at + 1 : max(line_end, at)]
        if not count_text.isdigit():
            return None
        argv: list[bytes] = []
        at = line_end + 2
        # A bounded look ahead: a hostile count ends the loop with the first missing argument.
        for _ in range(int(count_text)):
            line_end = data.find(b"\r\n", at, at + _HEAD_BYTES_MAX)
            size_text = data[at + 1 : max(line_end, at)]
            if data[at : at + 1] != b"$" or not size_text.isdigit():
                return None
            begin = line_end + 2
            at = begin + int(size_text)
            argv.append(data[begin:at])
            if data[at : at + 2] != b"\r\n":
                return None
            at += 2
        if not argv or len(argv) > ARGUMENTS_MAX:
            return None
        window.at = at
        return argv

    def _slow(self) -> list[bytes] | None:
        """The next command, or None behind an annotation."""
        window = self._window
        if window.byte() == _HASH:
            self._line(_LINE_BYTES_MAX)
            return None
        window.at -= 1
        count = self._number(b"*")
        if not 0 < count <= ARGUMENTS_MAX:
            raise Malformed(f"a command of {count} arguments", window.position())
        argv = []
        for _ in range(count):
            size = self._number(b"$")
            if size > STRING_BYTES_MAX:
                raise Malformed(f"an argument of {size} bytes", window.position())
            if size + 2 > window.left():
                raise _Short
            argv.append(window.take(size))
            if window.take(2) != b"\r\n":
                raise Malformed("an argument does not end in CRLF", window.position() - 2)
        return argv

    def _number(self, mark: bytes) -> int:
        begin = self._window.position()
        line = self._line(_HEAD_BYTES_MAX)
        if line[:1] != mark or not line[1:].isdigit():
            raise Malformed(f"{line[:20]!r} stands where {mark.decode()} and a number belong", begin)
        return int(line[1:])

    def _line(self, bytes_max: int) -> bytes:
        """Up to LF; a CR before it is dropped."""
        window = self._window
        window.need(min(bytes_max, window.left()))
        end = window.data.find(b"\n", window.at, window.at + bytes_max)
        if end < 0:
            if window.left() < bytes_max:
                raise _Short
            raise Malformed(f"no line ends within {bytes_max} bytes", window.position())
        line = window.data[window.at : end]
        window.at = end + 1
        return line.removesuffix(b"\r")


class _Short(Exception):
    """The file ends inside a command."""
