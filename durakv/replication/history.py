"""The committed part of a group's log, for those who ask a running node for entries of it.

Rule: reads only. What is not committed, or not on this node's disk yet, is not shown: it may still change.
"""

from __future__ import annotations

from durakv.commands.services import CommittedEntry
from durakv.resp.errors import CommandError
from durakv.storage.errors import CorruptionError
from durakv.storage.log import Log
from raft.types import Entry


class History:
    """Implements CommittedHistory for one moment: ``committed`` is what the node knows to be committed."""

    def __init__(self, log: Log[Entry], committed: int, cluster_id: str, group_id: int) -> None:
        self.log = log
        self.committed = committed
        self.cluster_id = cluster_id
        self.group_id = group_id

    def first_index(self) -> int:
        """See CommittedHistory."""
        return self.log.first_index()

    def committed_index(self) -> int:
        """See CommittedHistory."""
        return min(self.committed, self.log.durable_index())

    def entries(self, first: int, count: int, bytes_max: int) -> list[CommittedEntry]:
        """See CommittedHistory."""
        last = min(first + count - 1, self.committed_index())
        if first < self.log.first_index() or first > last:
            return []
        try:
            found = self.log.entries(first, last + 1, bytes_max)
        except CorruptionError as error:
            raise CommandError(
                f"ERR entry {first} cannot be read here: {error.path}: damaged at byte {error.offset}: {error.detail}; "
                "ask another member, and run 'durakv-cli verify' on this node's directory when it is stopped"
            ) from error
        return [
            CommittedEntry(entry.index, entry.term, entry.subterm, int(entry.kind), entry.data,
                           self.log.chain(entry.index))
            for entry in found
        ]  # fmt: skip
