"""The state of a surveyed log after a given entry, rebuilt in memory.

Rule: applies through the engine, as a node does; entries behind damage are out of reach, those before it are not.
"""

from __future__ import annotations

import gc

from durakv.cli.admin_replay import apply_content, new_applier
from durakv.cli.recovery_entries import StoredEntry, stored_entries
from durakv.cli.recovery_outcome import NeedsDecision
from durakv.cli.recovery_payload import first_items
from durakv.cli.recovery_survey import Progress, Survey
from durakv.engine.apply import Applier, UnknownFormat
from durakv.keyspace.keyspace import Keyspace
from durakv.resp.errors import CommandError


class Rebuilt:
    """A keyspace and the engine that fills it. ``index`` is that of the last entry applied."""

    def __init__(self, found: Survey, databases: int) -> None:
        self.found = found
        self.keyspace = Keyspace(databases)
        self.applier: Applier = new_applier(found.node_id, self.keyspace)

    @property
    def index(self) -> int:
        return self.applier.applied

    def advance(self, last: int, progress: Progress) -> None:
        """Apply what follows, up to entry ``last``. Raises StorageError, OSError."""
        if last > self.found.last_good:
            raise NeedsDecision(
                f"{self.found.directory}: the readable log ends at index {self.found.last_good}, before {last}; choose "
                "a smaller index"
            )
        # Nothing of the state is cyclic, and collections over millions of keys would take most of the time.
        gc.disable()
        try:
            for entry in stored_entries(self.found.disk, self.found.scans, self.index + 1, last, progress):
                self.apply(entry)
        finally:
            gc.enable()

    def apply(self, entry: StoredEntry, items: int | None = None) -> None:
        """Apply the next entry, or only its first ``items`` items."""
        data = entry.data if items is None else first_items(entry.data, items)
        try:
            apply_content(self.applier, entry.index, entry.subterm, entry.kind, data, entry.path)
        except (UnknownFormat, CommandError) as error:
            raise NeedsDecision(
                f"{entry.path}: entry {entry.index} cannot be applied: {error}; use the durakv version that wrote it"
            ) from None
