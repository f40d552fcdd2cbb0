"""An encoded array cut into its encoded items, for a node that puts replies of its own between a leader's.

Rule: trusts its input, which another node's encoder made; it never sees bytes of a client.
"""

from __future__ import annotations

from typing import Final

_BULK: Final = b"$=!"
_FLAT: Final = b"*~>"
_MAP: Final = ord("%")


def items(wire: bytes) -> list[bytes]:
    """The items of one encoded array, nested replies included whole. Raises ValueError when it is cut short."""
    if wire[:1] != b"*":
        raise ValueError("not an array")
    at = wire.index(b"\r\n") + 2
    out: list[bytes] = []
    for _ in range(int(wire[1 : at - 2])):
        end = _after(wire, at)
        out.append(wire[at:end])
        at = end
    return out


def _after(wire: bytes, at: int) -> int:
    """Where the reply that begins at ``at`` ends."""
    left = 1
    while left:
        left -= 1
        kind = wire[at]
        line_end = wire.index(b"\r\n", at)
        size = int(wire[at + 1 : line_end]) if kind in _BULK or kind in _FLAT or kind == _MAP else 0
        at = line_end + 2
        if kind in _BULK:
            at += size + 2 if size >= 0 else 0
        elif kind == _MAP:
            left += 2 * size
        elif size > 0:
            left += size
    if at > len(wire):
        raise ValueError("cut short")
    return at
