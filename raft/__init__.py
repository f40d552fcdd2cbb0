"""Raft consensus as a pure state machine: feed it messages and ticks, do what its Ready says.

Rule: the public names and nothing else. The package imports only pure standard library and knows no clock, no socket,
no file and nothing of the application whose entries it orders.
"""

from raft.bootstrap import bootstrap
from raft.config import Config
from raft.core import Raft
from raft.errors import (
    ConfChangeInvalid,
    ConfChangePending,
    NotLeader,
    Overloaded,
    ProposalDropped,
    TransferRefused,
    Transferring,
)
from raft.messages import Message, Snapshot, StorageAppendDone
from raft.ready import Ready, SoftState
from raft.status import PeerStatus, Status
from raft.storage import CompactedError, LogReader, MemoryLog, UnavailableError
from raft.types import ConfChange, DecodeError, Entry, EntryKind, HardState, Membership, Role, SnapshotMeta

__all__ = [
    "CompactedError",
    "ConfChange",
    "ConfChangeInvalid",
    "ConfChangePending",
    "Config",
    "DecodeError",
    "Entry",
    "EntryKind",
    "HardState",
    "LogReader",
    "Membership",
    "MemoryLog",
    "Message",
    "NotLeader",
    "Overloaded",
    "PeerStatus",
    "ProposalDropped",
    "Raft",
    "Ready",
    "Role",
    "Snapshot",
    "SnapshotMeta",
    "SoftState",
    "Status",
    "StorageAppendDone",
    "TransferRefused",
    "Transferring",
    "UnavailableError",
    "bootstrap",
]
