"""Lease-based primary-backup replication as a pure state machine, beside raft: the same seams, another protocol.

Rule: the public names and nothing else. The package imports only pure standard library and raft.
"""

from raft.primary_backup.core import PrimaryBackup
from raft.primary_backup.errors import (
    ChangeRefused,
    HandingOver,
    LeaseExpired,
    NoReplicas,
    NotPrimary,
    Overloaded,
    Refused,
)
from raft.primary_backup.holder import HolderPort
from raft.primary_backup.messages import HolderAnswer, HolderCall, Outcome, PeerMessage, Reason
from raft.primary_backup.ready import Finished, Ready
from raft.primary_backup.register import Register, RegisterClock
from raft.primary_backup.settings import Settings
from raft.primary_backup.status import PeerStatus, Status
from raft.primary_backup.types import ForceLoss, RequestId, ShardConfig

__all__ = [
    "ChangeRefused",
    "Finished",
    "ForceLoss",
    "HandingOver",
    "HolderAnswer",
    "HolderCall",
    "HolderPort",
    "LeaseExpired",
    "NoReplicas",
    "NotPrimary",
    "Outcome",
    "Overloaded",
    "PeerMessage",
    "PeerStatus",
    "PrimaryBackup",
    "Ready",
    "Reason",
    "Refused",
    "Register",
    "RegisterClock",
    "RequestId",
    "Settings",
    "ShardConfig",
    "Status",
]
