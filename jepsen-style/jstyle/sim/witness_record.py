"""What a witness's medium has said so far: every record that was durable, and what it may never take back.

Rule: reads the durable image only. A record that goes back (W2), a vote that changes or is forgotten (W1), a set that
no leader fixed (W2), more bytes than a record needs (W7): each is a Violation the moment it is on the medium. States
that the nemesis destroyed are gone for good and prove nothing any more.
"""

from __future__ import annotations

from typing import Final

from durakv.witness.record import SEALED_BYTES_MAX, Sealed
from durakv.witness.store_file import KEPT
from jstyle.sim.violation import Violation
from jstyle.sim.witness_host import DIRECTORY, WitnessHost
from raft.types import DecodeError
from raft.witness import WitnessState

_SUFFIX: Final = ".st"
# Versions kept, one that is being published, temporaries of two writers and a creator, and the marker.
_FILES_MAX: Final = KEPT + 6

Fixed = dict[tuple[int, int], tuple[int, ...]]


class Record:
    """One witness's history. ``recorded`` maps (term, subterm) to the set, ``votes`` terms to candidates."""

    __slots__ = ("recorded", "state", "version", "versions", "votes")

    def __init__(self) -> None:
        self.version = 0
        self.state: WitnessState | None = None
        self.versions: dict[int, WitnessState] = {}
        self.recorded: dict[tuple[int, int], tuple[int, ...]] = {}
        self.votes: dict[int, int] = {}


class Records:
    """All witnesses of a run. ``fixed``: which set the leader of a (term, subterm) works with."""

    def __init__(self, host: WitnessHost, fixed: Fixed) -> None:
        self.host = host
        self.fixed = fixed
        self.by_id: dict[int, Record] = {}
        self.changes = 0
        self.bytes_max = 0
        self._version = -1
        self._disk = host.disk

    def of(self, witness_id: int) -> Record:
        """The history of one; empty for one that never was."""
        found = self.by_id.get(witness_id)
        if found is None:
            found = self.by_id[witness_id] = Record()
        return found

    def refresh(self) -> None:
        """Read what is newly durable. Raises Violation W1, W2 or W7."""
        disk = self.host.disk
        if disk is self._disk and disk.version == self._version:
            return
        self._disk, self._version = disk, disk.version
        folders: dict[str, list[str]] = {}
        for path in disk.durable_names:
            if path.startswith(DIRECTORY):
                folder, _, name = path.rpartition("/")
                folders.setdefault(folder, []).append(name)
        for folder, names in sorted(folders.items()):
            witness_id = _id_of(folder)
            if witness_id and witness_id not in self.host.lost:
                self._read(folder, witness_id, names)

    def _read(self, folder: str, witness_id: int, names: list[str]) -> None:
        disk = self.host.disk
        total = sum(len(disk.durable_names[f"{folder}/{name}"].durable) for name in names)
        self.bytes_max = max(self.bytes_max, total)
        if len(names) > _FILES_MAX or total > _FILES_MAX * SEALED_BYTES_MAX:
            raise Violation("W7", f"witness {witness_id} keeps {total} bytes in {len(names)} files")
        newest = max((int(n.removesuffix(_SUFFIX)) for n in names if n.endswith(_SUFFIX)), default=0)
        record = self.of(witness_id)
        if newest == record.version:
            return
        if newest < record.version:
            raise Violation("W2", f"witness {witness_id} went back from version {record.version} to {newest}")
        data = bytes(disk.durable_names[f"{folder}/{newest}{_SUFFIX}"].durable)
        try:
            state = Sealed.decode(data).state
        except DecodeError as error:
            raise Violation(
                "W2", f"version {newest} of witness {witness_id} has its name before its bytes: {error}"
            ) from None
        self._accept(witness_id, record, state)
        record.version = newest
        record.state = record.versions[newest] = state
        self.changes += 1

    def _accept(self, witness_id: int, record: Record, state: WitnessState) -> None:
        old = record.state
        pair = (state.last_log_term, state.last_log_subterm)
        if old is not None:
            before = (old.last_log_term, old.last_log_subterm)
            if state.term < old.term or pair < before:
                raise Violation("W2", f"witness {witness_id} went from {old!r} to {state!r}")
            if pair == before and state.replication_set != old.replication_set:
                raise Violation("W2", f"witness {witness_id} changed the set of {pair}: {old!r}, now {state!r}")
        if state.term < state.last_log_term:
            raise Violation("W2", f"witness {witness_id} recorded a term it does not know: {state!r}")
        if record.votes.get(state.term, state.vote) != state.vote:
            raise Violation("W1", f"witness {witness_id} voted for {record.votes[state.term]}, now it has {state!r}")
        if state.vote:
            record.votes[state.term] = state.vote
        if pair == (0, 0) or pair in record.recorded:
            return
        fixed = self.fixed.get(pair)
        if fixed != state.replication_set:
            raise Violation("W2", f"witness {witness_id} recorded {state!r}; the leader of {pair} works with {fixed}")
        record.recorded[pair] = state.replication_set


def _id_of(folder: str) -> int:
    """The witness whose folder it is; 0 for any other."""
    name = folder.rpartition("/")[2].rpartition("-")[2]
    return int(name) if name.isdecimal() else 0
