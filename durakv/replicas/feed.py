"""One stream of commands, kept as far back as somebody may want it: the replication backlog.

Offsets count bytes of the stream since it began; ``offset`` is where the next byte goes. Rule: the only place that
decides what is kept: the last ``backlog_bytes``, and all that a replica, or a full synchronisation under way, still has
to send. It must not know sessions or what the bytes mean.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# Pieces grow up to this size before there is another one.
_PIECE_BYTES: Final = 4096


class Cursor:
    """Where somebody reads: byte ``at`` of piece ``number``, counted since the feed began; byte ``offset`` of all."""

    __slots__ = ("at", "number", "offset")

    def __init__(self, number: int, at: int, offset: int) -> None:
        self.number = number
        self.at = at
        self.offset = offset


class Feed:
    """``replid`` names it; ``start`` is the offset of the first byte that is kept."""

    def __init__(self, replid: bytes, backlog_bytes: int) -> None:
        self.replid = replid
        self.backlog_bytes = backlog_bytes
        self.offset = 0
        self.start = 0
        # Log index -> offset, of frames since a full synchronisation began.
        self.marks: dict[int, int] = {}
        self.cursors: dict[Cursor, None] = {}
        self._pieces: deque[bytes] = deque()
        # Number of the first piece kept.
        self._first = 0

    def append(self, data: bytes) -> None:
        """More of the stream."""
        if not data:
            return
        pieces = self._pieces
        if pieces and len(pieces[-1]) + len(data) <= _PIECE_BYTES:
            pieces[-1] += data
        else:
            pieces.append(data)
        self.offset += len(data)
        self.trim()

    def trim(self) -> None:
        """Forget what nobody may want any more."""
        pieces = self._pieces
        if self.offset - self.start <= self.backlog_bytes:
            return
        needed = min((cursor.offset for cursor in self.cursors), default=self.offset)
        while len(pieces) > 1:
            after = self.start + len(pieces[0])
            if after > needed or self.offset - after < self.backlog_bytes:
                break
            pieces.popleft()
            self.start = after
            self._first += 1

    def holds(self, offset: int) -> bool:
        """Whether somebody can begin to read at ``offset``."""
        return self.start <= offset <= self.offset

    def open(self, offset: int) -> Cursor:
        """Begin to read there; nothing behind it is forgotten before close()."""
        assert self.holds(offset)
        at = self.start
        number = self._first
        for piece in self._pieces:
            if at + len(piece) > offset:
                break
            at += len(piece)
            number += 1
        if number > self._first and at == offset and number == self._first + len(self._pieces):
            # At the end: the last piece may still grow.
            number -= 1
            at -= len(self._pieces[-1])
        cursor = Cursor(number, offset - at, offset)
        self.cursors[cursor] = None
        return cursor

    def close(self, cursor: Cursor) -> None:
        """Nobody reads there any more."""
        self.cursors.pop(cursor, None)
        self.trim()

    def read(self, cursor: Cursor, bytes_max: int) -> bytes:
        """The next bytes, about ``bytes_max`` at most unless one piece has more; empty at the end."""
        parts: list[bytes] = []
        size = 0
        pieces = self._pieces
        if cursor.number < self._first:
            # It had read that piece to its end.
            cursor.number = self._first
            cursor.at = 0
        while size < bytes_max:
            place = cursor.number - self._first
            if place >= len(pieces):
                break
            piece = pieces[place]
            part = piece[cursor.at :] if cursor.at else piece
            if part:
                parts.append(part)
                size += len(part)
                cursor.at = len(piece)
            if place + 1 >= len(pieces):
                break
            cursor.number += 1
            cursor.at = 0
        cursor.offset += size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def held_bytes(self) -> int:
        """Bytes kept."""
        return self.offset - self.start
