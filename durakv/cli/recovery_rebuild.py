"""The state of a node at an entry of its log, rebuilt in memory from a checkpoint or from nothing.

Rule: applies only entries the survey found readable, in the one way a node applies them; a log that is damaged behind
the wanted entry is good enough. It begins from the nearest base before the wanted entry (recovery_reach.py).
"""

from __future__ import annotations

import errno
import gc
from typing import TYPE_CHECKING

from durakv.checkpoint.damage import CheckpointDamaged
from durakv.checkpoint.load import load
from durakv.cli.admin_replay import apply_content, found_group, new_applier
from durakv.cli.recovery_checkpoint import CheckpointLook, opened
from durakv.cli.recovery_entries import StoredEntry, entry_at, stored_entries
from durakv.cli.recovery_outcome import NeedsDecision
from durakv.cli.recovery_payload import first_items
from durakv.cli.recovery_reach import Base, base_for, term_at
from durakv.cli.recovery_segments import Progress
from durakv.engine.beside import Beside
from durakv.engine.outcome import UnknownFormat
from durakv.keyspace.keyspace import Keyspace
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.cli.recovery_found import Survey
    from durakv.engine.apply import Applier


class Rebuilt:
    """A keyspace and the engine that fills it. ``index`` is that of the last entry applied."""

    def __init__(self, found: Survey, databases: int, base: Base | None = None) -> None:
        """``base``: begin there; None: where the first advance() finds it best."""
        self.found = found
        self.base = base
        self.keyspace = Keyspace(databases)
        self.applier: Applier = new_applier(found.node_id, self.keyspace)
        self._begun = False

    @property
    def index(self) -> int:
        return self.applier.applied

    @property
    def term(self) -> int:
        """Term of the last entry applied, 0 before the first."""
        return 0 if self.base is None else term_at(self.found, self.base, self.index)

    @property
    def chain(self) -> int:
        """The log's running digest after the last entry applied."""
        base = self.base
        if not self.index or base is None:
            return 0
        if base.look is not None and base.look.applied is not None and base.index == self.index:
            return base.look.applied.chain
        return entry_at(self.found.disk, base.scans, self.index).chain

    def begin(self, last: int) -> None:
        """Choose and load the base from which entry ``last`` is reached; done once. Raises StorageError, OSError."""
        if self._begun:
            return
        self._begun = True
        if self.base is None:
            self.base = base_for(self.found, last)
        if self.base.look is not None:
            _load(self.base.look, self.applier, self.keyspace)

    def advance(self, last: int, progress: Progress) -> None:
        """Apply what follows, up to entry ``last``. Raises StorageError, OSError."""
        # Nothing of the state is cyclic, and collections over millions of keys would take most of the time.
        gc.disable()
        try:
            self.begin(last)
            base = self.base
            assert base is not None
            if not self.index <= last <= base.last:
                # It is asked for again, so that the refusal says what can be reached.
                base_for(self.found, last)
                raise NeedsDecision(
                    f"{self.found.directory}: index {last} cannot be reached from index {self.index}; build it alone"
                )
            for entry in stored_entries(self.found.disk, base.scans, self.index + 1, last, progress):
                self.apply(entry)
        finally:
            gc.enable()

    def apply(self, entry: StoredEntry, items: int | None = None) -> None:
        """Apply the next entry, or only its first ``items`` items."""
        assert entry.index == self.index + 1, f"entry {entry.index} does not follow {self.index}"
        data = entry.data if items is None else first_items(entry.data, items)
        try:
            apply_content(self.applier, entry.index, entry.subterm, entry.kind, data, entry.path)
        except (UnknownFormat, CommandError) as error:
            raise NeedsDecision(
                f"{entry.path}: entry {entry.index} cannot be applied: {error}; use the durakv version that wrote it"
            ) from None


def _load(look: CheckpointLook, applier: Applier, keyspace: Keyspace) -> None:
    """As a node starts from its checkpoint: rows, then what is beside the keys."""
    rows: list[tuple[bytes, bytes]] = []
    beside = Beside(applier, applier.table)
    try:
        with opened(look) as store:
            loaded = load(store, keyspace, lambda name, blob: rows.append((name, blob)))
    except OSError as error:
        if error.errno != errno.EBADMSG:
            raise
        raise CheckpointDamaged(look.path, str(error)) from error
    try:
        beside.take(rows)
        if beside.membership:
            found_group(applier, beside.membership)
    except (ValueError, LookupError) as error:
        raise NeedsDecision(f"{look.path}: {error}; use the durakv version that wrote it") from None
    applier.resume(loaded.applied.index, loaded.applied.ts_ms)
