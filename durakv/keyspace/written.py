"""What of one database differs from its checkpoint rows, by key. [compiled]

Rule: whoever changes a key marks it here, and a mark too many does no harm: what is written down is the key's state at
that time. A database that is emptied begins anew under another number, so that its old rows go as one; slots that leave
are marked as slots. Rows of keys that are staged, see staging.py, stand among the others: activating them changes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.keyspace.values.touched import TouchedChunks

if TYPE_CHECKING:
    from durakv.keyspace.keyspace import Db

# A large string is written in pieces of this many bytes.
CHUNK_BYTES: Final = 32768


class Written:
    """``phys`` is the number the rows bear. ``dirty`` keys have to be written, ``patches`` only those chunks of a large
    string. With a dirty key goes the string it holds where that was known, otherwise None: then it is looked up.

    ``kids`` names the element rows of keys that have some; ``chunks`` describes those of large strings.

    ``staged``: by slot, the database beside the live one that holds its keys. ``dead``: slots all of whose rows go,
    with the keys they had where clients could see them; what came there later is dirty. ``arrived``: slots whose staged
    keys have become live.
    """

    def __init__(self, phys: int) -> None:
        self.phys = phys
        self.dirty: dict[bytes, object] = {}
        self.patches: dict[bytes, dict[int, None]] = {}
        self.kids: dict[bytes, int] = {}
        self.chunks: dict[bytes, TouchedChunks] = {}
        self.staged: dict[int, Db] = {}
        self.dead: dict[int, dict[bytes, object] | None] = {}
        self.arrived: dict[int, None] = {}

    def slot_died(self, slot: int, seen: dict[bytes, object] | None) -> None:
        """No key of the slot is left. ``seen``: those that clients could see, to be kept as they are until told."""
        if self.dead.get(slot) is None:
            self.dead[slot] = seen
        self.arrived.pop(slot, None)

    def patched(self, key: bytes, start: int, stop: int) -> None:
        """Bytes ``start`` up to, not including, ``stop`` of the string at ``key`` are others, or new."""
        if key not in self.chunks:
            self.dirty[key] = None
            return
        numbers = self.patches.get(key)
        if numbers is None:
            numbers = {}
            self.patches[key] = numbers
        for number in range(start // CHUNK_BYTES, (stop + CHUNK_BYTES - 1) // CHUNK_BYTES):
            numbers[number] = None
