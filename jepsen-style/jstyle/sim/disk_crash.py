"""What a power cut leaves of a disk: one of the many states that its unsynced operations allow.

Rule: everything synced survives; of the rest each policy keeps what some real file system could keep. It must not know
which bytes matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from jstyle.sim.disk import TRUNCATE, WRITE, Inode, Op, SimDisk, apply

SECTOR: Final = 512

ORDERED_PREFIX: Final = "ordered-prefix"
ANY_SUBSET: Final = "any-subset"
SIZE_FIRST: Final = "size-first"
RENAME_BEFORE_DATA: Final = "rename-before-data"
# Only what was synced.
NOTHING: Final = "nothing"
ORDERS: Final = (ORDERED_PREFIX, ANY_SUBSET, SIZE_FIRST, RENAME_BEFORE_DATA, NOTHING)


@dataclass(frozen=True)
class CrashPolicy:
    """``keep`` is the chance of an unsynced operation to survive, ``tear`` of a surviving write to be torn."""

    order: str = ANY_SUBSET
    keep: float = 0.5
    tear: float = 0.5
    # Tear at any byte instead of by sectors, as an append may be.
    bytewise: bool = False
    # Strict: a name is lost unless its directory was synced. Else a file's own sync keeps its name, as on ext4.
    strict_names: bool = True

    @staticmethod
    def draw(random: Random) -> CrashPolicy:
        """Any policy."""
        return CrashPolicy(
            random.choice(ORDERS),
            random.choice((0.1, 0.5, 0.9)),
            random.choice((0.0, 0.5, 1.0)),
            bytewise=random.random() < 0.3,
            strict_names=random.random() < 0.6,
        )


def after_power_cut(disk: SimDisk, policy: CrashPolicy, random: Random) -> None:
    """Turn the disk into what is found on it when the power is back."""
    last_seq = random.randint(_first_pending(disk), disk.seq + 1)
    names = _surviving_names(disk, policy, random, last_seq)
    inodes: dict[int, Inode] = {}
    for inode in names.values():
        inodes.setdefault(id(inode), inode)
    for inode in inodes.values():
        _settle(inode, policy, random, last_seq)
    disk.names = dict(names)
    disk.durable_names = dict(names)
    disk.pending_names = []
    disk.version += 1


def _first_pending(disk: SimDisk) -> int:
    seqs = [op.seq for op in disk.pending_names[:1]]
    seqs += [inode.pending[0][0] for inode in disk.names.values() if inode.pending]
    return min(seqs, default=disk.seq + 1)


def _surviving_names(disk: SimDisk, policy: CrashPolicy, random: Random, last_seq: int) -> dict[str, Inode]:
    """Directory operations survive as a prefix: file systems keep them in a journal."""
    names = dict(disk.durable_names)
    pending = disk.pending_names
    if policy.order == NOTHING:
        keep_seq = 0
    elif policy.order == RENAME_BEFORE_DATA:
        keep_seq = disk.seq
    elif policy.order == ORDERED_PREFIX:
        keep_seq = last_seq - 1
    else:
        keep_seq = pending[random.randrange(len(pending))].seq if pending and random.random() < policy.keep else 0
    if not policy.strict_names:
        keep_seq = max(keep_seq, disk.journalled_seq)
    for op in pending:
        if op.seq <= keep_seq:
            op.apply(names)
    return names


def _settle(inode: Inode, policy: CrashPolicy, random: Random, last_seq: int) -> None:
    """Decide the fate of one file's unsynced operations."""
    pending, inode.pending = inode.pending, []
    order = policy.order
    # Per file either whole operations go missing, or anything may happen to them.
    tear = policy.tear if random.random() < 0.7 else 0.0
    if order == SIZE_FIRST:
        _extend_first(inode, pending, random)
    for place, op in enumerate(pending):
        if order == ORDERED_PREFIX:
            if op[0] >= last_seq:
                break
            torn = place + 1 == len(pending) or pending[place + 1][0] >= last_seq
        else:
            if order == NOTHING or random.random() >= policy.keep:
                continue
            torn = random.random() < tear
        for piece in _torn(op, policy, random) if torn else (op,):
            apply(inode.durable, piece)
    inode.data = bytearray(inode.durable)
    inode.diverged = False
    inode.replaced = None
    inode.version += 1


def _extend_first(inode: Inode, pending: list[Op], random: Random) -> None:
    """The length is on the medium before the bytes: zeros there, or what the blocks held before."""
    length = len(inode.durable)
    for _, kind, offset, arg in pending:
        if kind == TRUNCATE:
            length = min(length, offset) if offset < length else offset
        else:
            length = max(length, offset + (len(arg) if isinstance(arg, bytes) else arg))
    grown = length - len(inode.durable)
    if grown > 0:
        stale = random.random() < 0.5
        fill = min(grown, 4096)
        inode.durable.extend(random.randbytes(fill) if stale else bytes(fill))
        inode.durable.extend(bytes(grown - fill))


def _torn(op: Op, policy: CrashPolicy, random: Random) -> list[Op]:
    """Part of a write: any of its sectors, or its beginning up to some byte."""
    seq, kind, offset, arg = op
    if kind != WRITE or not isinstance(arg, bytes) or not arg:
        return [op]
    if policy.bytewise:
        return [(seq, kind, offset, arg[: random.randrange(len(arg))])]
    pieces: list[Op] = []
    at = 0
    while at < len(arg):
        size = min(SECTOR - (offset + at) % SECTOR, len(arg) - at)
        if random.random() < 0.5:
            pieces.append((seq, kind, offset + at, arg[at : at + size]))
        at += size
    return pieces
