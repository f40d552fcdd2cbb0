"""The config holder as the harness sees it: its group's committed log, applied once more to a register of its own.

What is in force is what the holder's group has committed, whoever has heard of it. Rule: reads the members' cores only.
It must not know data nodes beyond where their member is.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from durakv.app import App
from durakv.founding import GROUP_ID
from durakv.holder.client import HolderClient
from durakv.holder.member import HolderMember
from durakv.replication.lease_node import LeaseNode
from jstyle.sim.violation import Violation
from raft.primary_backup.register import Register
from raft.primary_backup.types import ShardConfig
from raft.types import EntryKind

_ALL_BYTES: Final = 1 << 40
_STAMP: Final = Struct("<Q")


def lease_node(app: App) -> LeaseNode:
    """The driver of a node of lease mode."""
    driver = app.driver
    assert isinstance(driver, LeaseNode)
    return driver


def member_of(app: App) -> HolderMember:
    """The member of the config holder that lives in a node."""
    port = lease_node(app).holder.port
    assert isinstance(port, HolderClient)
    member = port._member  # noqa: SLF001 - read only
    assert member is not None
    return member


class HolderWatch:
    """``config`` is what is in force, None before the founding; ``on_config(before, now)`` hears of each change."""

    def __init__(self, on_config: Callable[[ShardConfig | None, ShardConfig], None]) -> None:
        self.register = Register()
        self.config: ShardConfig | None = None
        # Of what the group has committed: terms by index.
        self.terms = [0]
        self._on_config = on_config

    @property
    def epoch(self) -> int:
        """The epoch in force, 0 before the founding."""
        return 0 if self.config is None else self.config.epoch

    def look(self, member: HolderMember) -> None:
        """Take over what the member knows to be committed. Raises Violation."""
        log = member.core.log
        if log.commit < len(self.terms) or log.commit < log.first_index():
            return
        start = len(self.terms)
        if start < log.first_index():
            raise Violation("HolderLog", f"member {member.member_id} keeps nothing from {start} on, which nobody gave")
        for entry in log.entries(start, log.commit + 1, _ALL_BYTES):
            self.terms.append(entry.term)
            if entry.kind == EntryKind.NORMAL:
                self._apply(entry.data)

    def agrees(self, member: HolderMember) -> None:
        """A member that moved holds the committed log. Raises Violation."""
        log = member.core.log
        commit = log.commit
        if commit < len(self.terms) and commit >= log.first_index() and log.term(commit) != self.terms[commit]:
            raise Violation(
                "HolderLog", f"member {member.member_id} commits {commit} of term {log.term(commit)}, committed there "
                f"is term {self.terms[commit]}",
            )  # fmt: skip

    def _apply(self, data: bytes) -> None:
        (stamp,) = _STAMP.unpack_from(data)
        self.register.apply(data[_STAMP.size :], stamp)
        now = self.register.shard(GROUP_ID)
        if now is None or now is self.config:
            return
        before, self.config = self.config, now
        self._on_config(before, now)
