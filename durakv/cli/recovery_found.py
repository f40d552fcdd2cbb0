"""What a look at a data directory found: its files' content, its faults, and what a starting server would make of it.

Rule: holds and concludes, reads nothing. It must not know how findings are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from durakv.cli.admin_files import ReadOnlyFiles
from durakv.replication import addresses
from durakv.storage.hardstate import HardState
from durakv.storage.identity import Identity
from durakv.storage.recovery import Outcome, Verdict
from durakv.storage.scan import SegmentScan
from durakv.storage.segment import Covered
from durakv.world.ports import Disk
from raft.types import Membership

if TYPE_CHECKING:
    from durakv.cli.recovery_checkpoint import CheckpointLook

BACKUP_FILE: Final = "backup.json"

STARTS: Final = "starts"
CUTS_TAIL: Final = "starts after cutting the torn tail"
FINISHES: Final = "starts after finishing the installation of a snapshot"
REFUSES: Final = "refuses to start"
BACKUP: Final = "refuses to start: it is a backup, use durakv-cli restore"


class Finding:
    """``path`` relative to the directory; ``index`` the first log entry concerned, 0 for none; ``stops``: no server
    starts with it.
    """

    def __init__(self, path: str, offset: int, index: int, detail: str, repair: str, *, stops: bool) -> None:
        self.path = path
        self.offset = offset
        self.index = index
        self.detail = detail
        self.repair = repair
        self.stops = stops

    def line(self) -> str:
        index = f" index {self.index:,}" if self.index else ""
        return f"{self.path} offset {self.offset:#x}{index}: {self.detail}"

    def document(self) -> dict[str, object]:
        return {
            "file": self.path, "offset": self.offset, "index": self.index or None, "detail": self.detail,
            "repair": self.repair, "stops_server": self.stops,
        }  # fmt: skip


class Survey:
    """What was found. ``scans`` are the segments of the unbroken log that ends last, oldest first, up to the first
    unusable one; the first ``unneeded`` of them lie before the end of the checkpoint, where no server looks. ``pool``
    has all unbroken stretches of log, those of other directories included. ``superseded``: a snapshot stands in for
    the whole log, which the next start replaces. ``outcome`` is one of the constants above.
    """

    def __init__(self, directory: str, *, live: bool) -> None:
        self.directory = directory
        self.live = live
        self.files = ReadOnlyFiles()
        self.findings: list[Finding] = []
        # What a person should know and is no fault.
        self.notes: list[str] = []
        self.identity: Identity | None = None
        self.hard: HardState | None = None
        self.hard_seq = 0
        self.hard_slot = 0
        self.is_backup = False
        self.backup_committed = 0
        self.checkpoint: CheckpointLook | None = None
        # Checkpoints of other directories that were named as sources.
        self.other_checkpoints: list[CheckpointLook] = []
        self.scans: list[SegmentScan] = []
        self.unneeded = 0
        self.pool: list[list[SegmentScan]] = []
        self.segment_files: list[str] = []
        self.superseded = False
        # What can be read of a segment that is damaged only before the checkpoint's end, if the log needs no more.
        self.hole: SegmentScan | None = None
        self.verdict: Verdict | None = None
        self.configuration_index = 0
        # Of the first and the last entry of ``scans``; times where an entry near has one, Unix ms, else 0.
        self.terms: list[int] = []
        self.first_time_ms = 0
        self.last_time_ms = 0
        self.membership: Membership | None = None

    @property
    def disk(self) -> Disk:
        """Of a Disk, scans use only the methods that read."""
        return cast("Disk", self.files)

    def covered(self) -> Covered | None:
        """Where a usable checkpoint ends; None when there is none, or one of an empty node."""
        look = self.checkpoint
        if look is None or not look.sound or look.applied is None or not look.applied.index:
            return None
        return Covered(look.applied.index, look.applied.term, look.applied.chain)

    @property
    def first(self) -> int:
        """Index of the first entry the log holds, or would hold."""
        if self.scans:
            return self.scans[0].header.base
        return self._checkpoint_index() + 1

    @property
    def last_good(self) -> int:
        """The last index whose state this directory holds by itself."""
        return max(self.scans[-1].last_index if self.scans else 0, self._checkpoint_index())

    @property
    def last_term(self) -> int:
        """Term of entry ``last_good``."""
        covered = self.covered()
        if self.scans and self.scans[-1].last_index >= self._checkpoint_index():
            return self.scans[-1].last_term
        return covered.term if covered is not None else 0

    @property
    def last_chain(self) -> int:
        """The log's running digest after entry ``last_good``; 0 when it is not known."""
        covered = self.covered()
        if self.scans and self.scans[-1].last_index >= self._checkpoint_index():
            return self.scans[-1].last_chain
        return covered.chain if covered is not None else 0

    def _checkpoint_index(self) -> int:
        covered = self.covered()
        return 0 if covered is None else covered.index

    @property
    def known_committed(self) -> int:
        """As the hard state and the checkpoint say; it may be more than the log still holds."""
        hard = self.hard
        hint = self.backup_committed if hard is None else max(hard.commit_hint, hard.synced_hint)
        return max(hint, self._checkpoint_index())

    @property
    def node_id(self) -> int:
        if self.identity is not None:
            return self.identity.node_id
        owner = self.owner()
        return 0 if owner is None else owner[1]

    @property
    def cluster_id(self) -> bytes:
        """Sixteen zeros when nothing readable says it."""
        if self.identity is not None:
            return self.identity.cluster_id
        owner = self.owner()
        return bytes(16) if owner is None else owner[0]

    def owner(self) -> tuple[bytes, int] | None:
        """Cluster and node as log and checkpoint say it."""
        for run in [self.scans, *self.pool]:
            if run:
                return run[0].header.cluster_id, run[0].header.node_id
        look = self.checkpoint
        return (look.cluster_id, look.node_id) if look is not None and look.sound else None

    def whole(self) -> bool:
        """Whether the log can be read to its end, from where the checkpoint ends if not from its beginning."""
        return self.verdict is not None and self.verdict.outcome is not Outcome.CORRUPT

    def alone(self) -> bool:
        """Whether the node is the only one with a vote; behind damage may lie a membership that says otherwise."""
        return self.whole() and self.names_only_itself()

    def names_only_itself(self) -> bool:
        """Whether the newest membership that could be read has one voter, this node."""
        m = self.membership
        return m is not None and tuple(m.voters) == (self.node_id,) and not m.is_joint() and not m.witness_id()

    def is_lease(self) -> bool:
        """Whether the newest membership that could be read is that of a group of lease mode."""
        return self.membership is not None and addresses.decode_min_isr(self.membership.context) > 0

    @property
    def outcome(self) -> str:
        if any(finding.stops for finding in self.findings):
            return REFUSES
        if self.is_backup:
            return BACKUP
        if self.superseded:
            return FINISHES
        torn = self.verdict is not None and self.verdict.outcome is Outcome.TORN_TAIL
        return CUTS_TAIL if torn and not self.live else STARTS

    def remedy(self) -> str:
        """What helps against damage that nothing on this disk can mend."""
        salvage = (
            f"'durakv-cli restore {self.directory} --to-index {self.last_good} --out NEWDIR' saves what precedes it"
            if self.last_good
            else "restore a backup: 'durakv-cli restore BACKUP --archive ARCHIVE-DIR --out NEWDIR'"
        )
        replace = (
            "'durakv cluster remove-node' this member, move its directory away and 'durakv cluster add-node' under a "
            "new node id"
        )
        if self.membership is not None and not self.names_only_itself():
            return f"the other nodes have this data: {replace}; if no other node is left, {salvage}"
        return f"put back an intact copy of the file; if the group has other nodes, {replace}; else {salvage}"

    def fetch(self) -> str:
        """How damaged entries of the log come from another node; empty where there is none."""
        if self.membership is not None and self.names_only_itself():
            return ""
        return (
            f"in a group, 'durakv-cli repair {self.directory} --from-peer HOST:PORT' fetches the damaged entries from "
            "another node; or else "
        )

    def relative(self, path: str) -> str:
        """A path as findings show it."""
        return path.removeprefix(self.directory).lstrip("/") if path.startswith(self.directory + "/") else path

    def add(self, path: str, offset: int, index: int, detail: str, repair: str, *, stops: bool = True) -> None:
        self.findings.append(Finding(self.relative(path), offset, index, detail, repair, stops=stops))
