"""The disks a power cut could leave at a position of a trace.

Rule: the only place that says what a crash may do. ``Medium`` follows the trace and knows what is durable and what is
pending; ``variants`` names each state in a short word, so that a failure is repeated from (trace, position, word). It
must not know what the bytes mean or who judges them.

Words, as the crash-consistency section of the design has them: ``a`` everything up to here, ``b`` only what was synced,
``c:N`` all but pending operation N, ``d:N`` only pending operation N, ``e:N@S`` write N cut after S bytes (``E``: and
nothing else pending kept), ``f:N:zero|junk`` write N has its length but not its bytes, ``g`` names without their data,
``h`` data without their names, ``i:K`` random subset K, torn by sector.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import Final

from jstyle.crash.trace import (
    DATA_OPS,
    DATASYNC,
    NAME_OPS,
    SYNC,
    SYNC_DIR,
    SYNC_FAILED,
    WRITE,
    Event,
    Image,
    Trace,
    apply_data,
    apply_name,
    parent,
    starting_names,
)

SECTOR_BYTES: Final = 512
PAGE_BYTES: Final = 4096
RANDOM_SUBSETS: Final = 200


class Medium:
    """What the disk holds for certain, and the operations it may or may not have done, in order."""

    def __init__(self, start: Image) -> None:
        self.names = starting_names(start)
        self.contents = {inode: start.files[path] for path, inode in self.names.items() if inode}
        self.pending: list[Event] = []
        # Pending data that a failed sync has marked clean: no later sync writes it, though it may have been written.
        self._abandoned: list[Event] = []
        # Of contents that are certain, with the content each was made of.
        self._digests: dict[int, tuple[bytes, bytes]] = {}

    def feed(self, event: Event) -> None:
        """The next event of the trace has happened."""
        kind = event.kind
        if kind in DATA_OPS or kind in NAME_OPS:
            self.pending.append(event)
        elif kind in (SYNC, DATASYNC):
            self._settle_file(event.inode)
        elif kind == SYNC_FAILED:
            self._abandoned += [op for op in self.pending if op.kind in DATA_OPS and op.inode == event.inode]
        elif kind == SYNC_DIR:
            self._settle_folder(event.path)

    def _settle_file(self, inode: int) -> None:
        content = bytearray(self.contents.get(inode, b""))
        rest = []
        for op in self.pending:
            if op.kind not in DATA_OPS or op.inode != inode:
                rest.append(op)
            elif not any(op is gone for gone in self._abandoned):
                apply_data(content, op)
        self.contents[inode] = bytes(content)
        self.pending = rest

    def _settle_folder(self, path: str) -> None:
        rest = []
        for op in self.pending:
            if op.kind in NAME_OPS and parent(op.path) == path:
                apply_name(self.names, op)
            else:
                rest.append(op)
        self.pending = rest

    def image(self, kept: Iterable[Event]) -> Image:
        """The disk if exactly these pending operations (or pieces of them) were done, in this order."""
        names = dict(self.names)
        changed: dict[int, bytearray] = {}
        for op in kept:
            if op.kind in NAME_OPS:
                apply_name(names, op)
                continue
            content = changed.get(op.inode)
            if content is None:
                content = changed[op.inode] = bytearray(self.contents.get(op.inode, b""))
            apply_data(content, op)
        files = {}
        folders = []
        digests = {}
        reachable: dict[str, bool] = {"": True}
        for path, inode in names.items():
            if not _reachable(names, parent(path), reachable):
                continue
            if not inode:
                folders.append(path)
            elif inode in changed:
                files[path] = bytes(changed[inode])
            else:
                files[path] = self.contents.get(inode, b"")
                digests[path] = self._digest(inode, files[path])
        image = Image(files, tuple(sorted(folders)))
        image.digests = digests
        return image

    def _digest(self, inode: int, content: bytes) -> bytes:
        known = self._digests.get(inode)
        if known is None or known[0] is not content:
            known = self._digests[inode] = content, _content_digest(content)
        return known[1]


def _reachable(names: dict[str, int], folder: str, known: dict[str, bool]) -> bool:
    """Whether a folder and all above it are there. ``known``: what was found of others in this image."""
    found = known.get(folder)
    if found is None:
        found = known[folder] = names.get(folder) == 0 and _reachable(names, parent(folder), known)
    return found


def medium_at(trace: Trace, position: int) -> Medium:
    """The medium after the first ``position`` events."""
    medium = Medium(trace.start)
    for event in trace.events[:position]:
        medium.feed(event)
    return medium


def variants(medium: Medium, subsets: int) -> Iterator[str]:
    """The words of all states to try, the systematic ones first; ``subsets`` random ones come last."""
    yield "b"
    if not medium.pending:
        return
    yield "a"
    count = len(medium.pending)
    if count > 1:
        for number in range(count):
            yield f"c:{number}"
            yield f"d:{number}"
    writes = [number for number, op in enumerate(medium.pending) if op.kind == WRITE]
    if writes:
        for size in cuts(medium.pending[writes[-1]]):
            yield f"e:{writes[-1]}@{size}"
            yield f"E:{writes[-1]}@{size}"
    for number in writes:
        yield f"f:{number}:zero"
        yield f"f:{number}:junk"
    yield "g"
    yield "h"
    # A single pending operation that cannot be torn has no subsets beyond a and b.
    if count > 1 or writes:
        for number in range(subsets):
            yield f"i:{number}"


def cuts(write: Event) -> list[int]:
    """Where a write is cut: 0, 1, the middle, the last byte, and every sector and page edge of the file."""
    length = len(write.data)
    first = SECTOR_BYTES - write.offset % SECTOR_BYTES
    edges = {0, 1, length // 2, length - 1, *range(first, length, SECTOR_BYTES)}
    return sorted(edge for edge in edges if 0 <= edge < length)


def build(medium: Medium, word: str, seed: str) -> Image:
    """The state a word names. ``seed`` makes the dice of random subsets; any text, the same for the same failure.

    Raises ValueError for a word that names nothing here.
    """
    pending = medium.pending
    kind, _, rest = word.partition(":")
    if kind == "a":
        return medium.image(pending)
    if kind == "b":
        return medium.image([])
    if kind == "g":
        return medium.image(op for op in pending if op.kind in NAME_OPS)
    if kind == "h":
        return medium.image(op for op in pending if op.kind in DATA_OPS)
    if kind == "i":
        return medium.image(_subset(pending, random.Random(f"{seed}/{word}")))
    number, _, extra = rest.replace("@", ":").partition(":")
    if not number.isdigit() or int(number) >= len(pending) or kind not in "cdeEf":
        raise ValueError(f"no crash state {word!r} here: {len(pending)} operations are pending")
    place = int(number)
    others = [*pending[:place]], [*pending[place + 1 :]]
    chosen = pending[place]
    if kind == "c":
        return medium.image([*others[0], *others[1]])
    if kind == "d":
        return medium.image([chosen])
    if kind == "f":
        data = bytes(len(chosen.data)) if extra == "zero" else _junk(len(chosen.data))
        return medium.image([*others[0], _piece(chosen, 0, data), *others[1]])
    torn = _piece(chosen, 0, chosen.data[: int(extra)])
    return medium.image([torn] if kind == "E" else [*others[0], torn, *others[1]])


def _piece(write: Event, skip: int, data: bytes) -> Event:
    return Event(WRITE, write.path, write.inode, offset=write.offset + skip, data=data)


def _junk(size: int) -> bytes:
    return hashlib.shake_128(b"stale bytes of another file").digest(size)


def _subset(pending: list[Event], dice: random.Random) -> list[Event]:
    """Some of the operations, some of them torn; half the time the names that persist are a prefix, as in a journal."""
    changes = sum(op.kind in NAME_OPS for op in pending)
    journal_end = dice.randint(0, changes) if dice.random() < 0.5 else -1
    kept: list[Event] = []
    seen = 0
    for op in pending:
        if op.kind in NAME_OPS:
            keep = seen < journal_end if journal_end >= 0 else dice.random() < 0.5
            seen += 1
            if keep:
                kept.append(op)
        elif dice.random() < 0.7:
            kept += _torn(op, dice) if op.kind == WRITE and dice.random() < 0.6 else [op]
    return kept


def _torn(write: Event, dice: random.Random) -> list[Event]:
    """Any subset of a write's sectors."""
    pieces = []
    at = 0
    while at < len(write.data):
        size = min(SECTOR_BYTES - (write.offset + at) % SECTOR_BYTES, len(write.data) - at)
        if dice.random() < 0.5:
            pieces.append(_piece(write, at, write.data[at : at + size]))
        at += size
    return pieces


def fingerprint(image: Image) -> bytes:
    """16 bytes that differ when any name, folder or byte does."""
    parts = [b"%s/\x00" % folder.encode() for folder in image.folders]
    for path in sorted(image.files):
        digest = image.digests.get(path) or _content_digest(image.files[path])
        parts.append(b"%s\x00%s" % (path.encode(), digest))
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def _content_digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
