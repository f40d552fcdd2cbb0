"""A node's bytes cut into whole replies, which are passed on as they are. [compiled]

Rule: finds where replies end and never looks at what they say. Every byte is looked at once, however the stream is cut
into chunks; what is incomplete is kept together with how far it was understood.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

_LINES: Final = b"+-:,#_("
_BULK: Final = b"$=!"
_FLAT: Final = b"*~>"
_MAP: Final = 0x25
_ATTRIBUTE: Final = 0x7C
_DOLLAR: Final = 0x24
_CR: Final[i64] = 13
_ZERO: Final[i64] = 48
_LINE_MAX: Final = 1 << 20


class ReplyCutter:
    """One connection's input. After feed() raised ValueError nothing more can be told apart."""

    def __init__(self) -> None:
        # An incomplete reply: its bytes, how many of them are understood, how many elements are missing behind those,
        # and below which size looking again is useless.
        self._tail = bytearray()
        self._at = 0
        self._left = 1
        self._need = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The replies completed by ``data``, in order. Raises ValueError for bytes that are no reply."""
        found: list[bytes] = []
        if self._tail:
            tail = self._tail
            tail += data
            if len(tail) < self._need:
                return found
            self._understand(tail)
            if self._left:
                return found
            end = self._at
            with memoryview(tail) as view:
                found.append(bytes(view[:end]))
            del tail[:end]
            if not tail:
                self._at = 0
                self._left = 1
                self._need = 0
                return found
            data = bytes(tail)
            tail.clear()
        self._at = 0
        self._left = 1
        self._need = 0
        self._cut(data, found)
        return found

    def pending_bytes(self) -> int:
        """How much is kept of an incomplete reply."""
        return len(self._tail)

    def _cut(self, data: bytes, found: list[bytes]) -> None:
        """Replies of one piece first and fast; the last, incomplete one goes to the tail."""
        size = len(data)
        start = 0
        while start < size:
            end = 0
            kind = data[start]
            line_end = data.find(b"\r\n", start)
            if line_end > 0:
                if kind == _DOLLAR:
                    length = _length(data[start + 1 : line_end])
                    end = line_end + 2 if length < 0 else line_end + 4 + length
                elif kind in _LINES:
                    end = line_end + 2
                else:
                    end = self._aggregate(data, start)
            if not 0 < end <= size:
                self._keep(data, start)
                return
            found.append(data if end - start == size else data[start:end])
            start = end

    def _aggregate(self, data: bytes, start: int) -> int:
        """Where the reply of many elements at ``start`` ends, 0 when that is not in ``data``."""
        at = start
        left = 1
        size = len(data)
        while left:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                return 0
            kind = data[at]
            if kind in _BULK:
                length = _length(data[at + 1 : line_end])
                at = line_end + 2 if length < 0 else line_end + 4 + length
                left -= 1
            else:
                left += _elements(kind, data[at + 1 : line_end])
                at = line_end + 2
            if at > size:
                return 0
        return at

    def _keep(self, data: bytes, start: int) -> None:
        self._tail += data[start:] if start else data
        self._understand(self._tail)

    def _understand(self, tail: bytearray) -> None:
        """Go on from what was understood; ``_left`` is 0 once the reply ends at ``_at``."""
        at = self._at
        left = self._left
        size = len(tail)
        need = 0
        while left:
            line_end = tail.find(b"\r\n", at)
            if line_end < 0:
                if size - at > _LINE_MAX:
                    raise ValueError("a line without an end")
                need = size + 1
                break
            kind = tail[at]
            if kind in _BULK:
                length = _length(bytes(tail[at + 1 : line_end]))
                end = line_end + 2 if length < 0 else line_end + 4 + length
                if end > size:
                    need = end
                    break
                at = end
                left -= 1
            else:
                left += _elements(kind, bytes(tail[at + 1 : line_end]))
                at = line_end + 2
        self._at = at
        self._left = left
        self._need = need


def _elements(kind: int, number: bytes) -> int:
    """How many more elements are missing behind a header or line of this kind, itself counted as one found."""
    if kind in _FLAT:
        return max(_length(number), 0) - 1
    if kind == _MAP:
        return 2 * max(_length(number), 0) - 1
    if kind == _ATTRIBUTE:
        # What it describes still follows.
        return 2 * max(_length(number), 0)
    if kind in _LINES:
        return -1
    raise ValueError(f"a reply cannot begin with byte {kind}")


def _length(number: bytes) -> int:
    """The number of a header; raises ValueError for anything but a decimal of at most ten digits or -1."""
    if number == b"-1":
        return -1
    if not number.isdigit() or len(number) > 10:
        raise ValueError(f"a reply's header has the length {number[:20]!r}")
    return int(number)
