"""What a node must never forget: its term, its vote, and what it once proved to others. Two slots, overwritten in turn.

Rule: the only writer of ``raft/hardstate``. A write goes to the slot that holds the older state, so a torn write
costs the new state, never the one before; no rename is needed. docs/format.md has the bytes. Three rules are asserted
here: H1 the term never falls; H2 within a term the vote changes only from "none"; H3 ``done`` runs after the sync.
It must not know elections.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Final

from durakv.storage.errors import CorruptionError, IdentityError
from durakv.storage.lane import Done, Lane, sync_timed, write_all
from durakv.storage.record import crc
from durakv.world.ports import Disk, File

HARDSTATE_BYTES: Final = 8192
SLOT_BYTES: Final = 512
SLOT_OFFSETS: Final = (0, 4096)
REPLICATION_SET_MAX: Final = 40

_MAGIC: Final = b"DKHARD1\x00"
_FIXED: Final = struct.Struct("<8s9Q16sIIQQH")
_CRC: Final = struct.Struct("<I")


class HardState:
    """One state. Zero means "none" for ``voted_for``; see docs/format.md for each field. Treat as immutable."""

    __slots__ = (
        "ckpt_index",
        "cluster_id",
        "commit_hint",
        "flags",
        "incarnation",
        "lease_epoch",
        "lease_until_ms",
        "replication_set",
        "suspect_until",
        "synced_hint",
        "term",
        "voted_for",
        "witness_subterm",
        "witness_term",
    )

    def __init__(
        self,
        cluster_id: bytes,
        *,
        term: int = 0,
        voted_for: int = 0,
        commit_hint: int = 0,
        synced_hint: int = 0,
        ckpt_index: int = 0,
        lease_epoch: int = 0,
        lease_until_ms: int = 0,
        suspect_until: int = 0,
        flags: int = 0,
        incarnation: int = 0,
        witness_term: int = 0,
        witness_subterm: int = 0,
        replication_set: tuple[int, ...] = (),
    ) -> None:
        self.cluster_id = cluster_id
        self.term = term
        self.voted_for = voted_for
        self.commit_hint = commit_hint
        self.synced_hint = synced_hint
        self.ckpt_index = ckpt_index
        self.lease_epoch = lease_epoch
        self.lease_until_ms = lease_until_ms
        self.suspect_until = suspect_until
        self.flags = flags
        self.incarnation = incarnation
        self.witness_term = witness_term
        self.witness_subterm = witness_subterm
        self.replication_set = replication_set

    def voted(
        self, term: int, voted_for: int, commit_hint: int | None = None, synced_hint: int | None = None
    ) -> HardState:
        """A copy with another term and vote, and newer hints when given."""
        return HardState(
            self.cluster_id,
            term=term,
            voted_for=voted_for,
            commit_hint=self.commit_hint if commit_hint is None else commit_hint,
            synced_hint=self.synced_hint if synced_hint is None else synced_hint,
            ckpt_index=self.ckpt_index,
            lease_epoch=self.lease_epoch,
            lease_until_ms=self.lease_until_ms,
            suspect_until=self.suspect_until,
            flags=self.flags,
            incarnation=self.incarnation,
            witness_term=self.witness_term,
            witness_subterm=self.witness_subterm,
            replication_set=self.replication_set,
        )


def encode_slot(state: HardState, seq: int) -> bytes:
    """The 512 bytes of one slot."""
    count = len(state.replication_set)
    assert count <= REPLICATION_SET_MAX, f"a replication set of {count} members; at most {REPLICATION_SET_MAX} fit"
    assert len(state.cluster_id) == 16, "a cluster id has 16 bytes"
    fixed = _FIXED.pack(
        _MAGIC,
        seq,
        state.term,
        state.voted_for,
        state.commit_hint,
        state.synced_hint,
        state.ckpt_index,
        state.lease_epoch,
        state.lease_until_ms,
        state.suspect_until,
        state.cluster_id,
        state.flags,
        state.incarnation,
        state.witness_term,
        state.witness_subterm,
        count,
    )
    data = (fixed + struct.pack(f"<{count}Q", *state.replication_set)).ljust(SLOT_BYTES - _CRC.size, b"\x00")
    return data + _CRC.pack(crc(data))


def decode_slot(data: bytes) -> tuple[int, HardState] | None:
    """(seq, state) of a slot, or None when it is empty, torn or damaged."""
    body = data[: SLOT_BYTES - _CRC.size]
    if len(data) != SLOT_BYTES or data[: len(_MAGIC)] != _MAGIC or data[len(body) :] != _CRC.pack(crc(body)):
        return None
    fields = _FIXED.unpack_from(body)
    count = fields[15]
    if count > REPLICATION_SET_MAX:
        return None
    state = HardState(
        fields[10],
        term=fields[2],
        voted_for=fields[3],
        commit_hint=fields[4],
        synced_hint=fields[5],
        ckpt_index=fields[6],
        lease_epoch=fields[7],
        lease_until_ms=fields[8],
        suspect_until=fields[9],
        flags=fields[11],
        incarnation=fields[12],
        witness_term=fields[13],
        witness_subterm=fields[14],
        replication_set=struct.unpack_from(f"<{count}Q", body, _FIXED.size),
    )
    return fields[1], state


class HardStateFile:
    """The open file and the newest state asked to be written (``current``), which may not be durable yet."""

    def __init__(self, lane: Lane, path: str, file: File, current: HardState, seq: int, slot: int) -> None:
        self._lane = lane
        self.path = path
        self._file = file
        self.current = current
        self.seq = seq
        self._slot = slot

    @staticmethod
    def create(disk: Disk, path: str, state: HardState) -> None:
        """Make the file with one valid slot, durable except for its name (the caller syncs the directory)."""
        file = disk.open(path, create=True)
        try:
            image = encode_slot(state, 1).ljust(HARDSTATE_BYTES, b"\x00")
            file.truncate(0)
            assert file.pwrite(image, 0) == HARDSTATE_BYTES, "short write while creating the hard state"
            file.fsync()
        finally:
            file.close()

    @staticmethod
    def load(lane: Lane, path: str, cluster_id: bytes) -> HardStateFile:
        """Open and choose the newest valid slot, reading past the page cache.

        Raises CorruptionError when neither slot is valid: a node that has forgotten its vote must not vote again.
        """
        direct = lane.disk.open(path, direct=True)
        try:
            slots = [decode_slot(direct.pread(SLOT_BYTES, offset)) for offset in SLOT_OFFSETS]
        finally:
            direct.close()
        newest = -1
        seq, state = 0, None
        for place, slot in enumerate(slots):
            if slot is not None and slot[0] > seq:
                newest, (seq, state) = place, slot
        if state is None:
            raise CorruptionError(
                path,
                0,
                "both hard state slots are damaged, so this node's vote is unknown: remove the member and add it again "
                "under a new node id, or on a single node run 'durakv-cli restore DIR --out NEWDIR'",
            )
        if state.cluster_id != cluster_id:
            raise IdentityError(
                f"{path}: belongs to cluster {state.cluster_id.hex()}, but IDENTITY says {cluster_id.hex()}; put back "
                "the file that belongs to this directory or restore the node from a backup"
            )
        file = lane.disk.open(path)
        # What was read may be only in the device's cache if the last process died between write and sync.
        file.fdatasync()
        return HardStateFile(lane, path, file, state, seq, newest)

    def write(self, state: HardState, done: Done) -> None:
        """Make ``state`` durable after everything already on the lane, then ``done(error)`` (H3).

        Entries appended before may still wait in the log's memory and go to the disk after this. Write the hard state
        first, then append, and let no message leave before both have called back. A new vote goes to the other slot as
        well, after ``done``: from then on damage to one slot cannot bring an older vote back.
        """
        voted = (state.term, state.voted_for) != (self.current.term, self.current.voted_for)
        self._lane.submit(self._advance(state), done)
        if voted:
            self._lane.submit(self._advance(state), _heard_elsewhere)

    def write_inline(self, state: HardState) -> OSError | None:
        """As ``write``, on the calling thread; the lane must be idle."""
        voted = (state.term, state.voted_for) != (self.current.term, self.current.voted_for)
        error = self._lane.run_inline(self._advance(state))
        return self._lane.run_inline(self._advance(state)) if voted and error is None else error

    def close(self) -> None:
        """Close the file; call when the lane is idle."""
        self._file.close()

    def _advance(self, state: HardState) -> partial[None]:
        old = self.current
        assert state.term >= old.term, f"H1: term falls from {old.term} to {state.term}"
        assert state.term > old.term or state.voted_for == old.voted_for or old.voted_for == 0, (
            f"H2: vote of term {state.term} changes from {old.voted_for} to {state.voted_for}"
        )
        assert state.cluster_id == old.cluster_id, "the cluster id of a hard state cannot change"
        self.current = state
        self.seq += 1
        self._slot = 1 - self._slot
        return partial(self._put, encode_slot(state, self.seq), SLOT_OFFSETS[self._slot])

    def _put(self, image: bytes, offset: int) -> None:
        write_all(self._lane, self.path, self._file.pwrite, image, offset)
        sync_timed(self._lane, self._file.fdatasync, self.path)


def _heard_elsewhere(error: OSError | None) -> None:
    """The lane itself reports a failed job to the owner; nobody waits for the second copy."""
