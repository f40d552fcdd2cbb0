"""Groups that join a running cluster and leave it: slots first, then routing, then processes and files.

Rule: every step may be repeated, so that a command that was cut short is simply given again. A group is stopped only
when it owns nothing and no other group waits for it any more.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from durakv.cli import operations, processes, shards
from durakv.cli.client import Client, Refused, Unreachable
from durakv.cli.layout import HOST, Cluster
from durakv.cli.operations import OperationError
from durakv.cli.slot_moves import Mover, Say, ask, confirmed, evenly, owned
from durakv.keyspace.slots import SLOTS

_POLL_S: Final = 0.1


def known_to_all(new: Cluster, others: list[Cluster], password: str, timeout_s: float) -> None:
    """Wait until the leaders of the other groups have heard of the new one. Raises OperationError."""
    name = _shard_name(new, password)
    deadline = time.monotonic() + timeout_s
    for other in others:
        while name not in _shards_known(other, password):
            if time.monotonic() > deadline:
                raise OperationError(
                    f"{other.root} has not heard of the new group within {timeout_s:.0f} s, though it runs; see"
                    f" {other.root}/n*/durakv.log"
                )
            time.sleep(_POLL_S)


def fill(new: Cluster, others: list[Cluster], password: str, timeout_s: float, say: Say) -> int:
    """Give the new group as many slots as each of the others keeps; returns how many moved. Raises OperationError."""
    share = SLOTS // (len(others) + 1)
    moved = 0
    for other in others:
        slots = owned(other, password)
        excess = min(len(slots) - share, share - len(owned(new, password)))
        if excess > 0:
            # From the end, so that what stays is in one piece.
            Mover(other, password, timeout_s, say).move(slots[-excess:], new)
            moved += excess
    return moved


def remove(root: Path, group: int, password: str, timeout_s: float, say: Say) -> Path:
    """Empty a group, have it forgotten and stop it; returns where its files are. Raises OperationError, LayoutError."""
    gone = shards.of_group(root, group)
    staying = [other for other in shards.load(root) if other.root != gone.root]
    if not staying:
        raise OperationError(f"group {group} is the only one; stop it with `durakv cluster stop --dir {root}`")
    name = _shard_name(gone, password)
    _drain(gone, staying, password, timeout_s, say)
    confirmed(staying, name, password, timeout_s)
    for other in staying:
        _forget(other, name, password, timeout_s)
    operations.stop_all(gone)
    shards.left(root, gone)
    return gone.root


def _forget(other: Cluster, name: bytes, password: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            ask(other, password, timeout_s, "CLUSTER", "FORGETSHARD", name.decode())
            return
        except operations.RequestRefused as error:
            if "Unknown shard" in str(error):
                return  # it has heard already
            # Or it has yet to hear where the last slots went.
            if "the shard owns" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def _drain(gone: Cluster, staying: list[Cluster], password: str, timeout_s: float, say: Say) -> None:
    slots = owned(gone, password)
    # The rebalancer, if there is one, must not bring slots back.
    for node in gone.nodes:
        if processes.alive(node):
            _set_draining(node.port, password)
    if not slots:
        return
    shares = evenly(slots, [len(owned(other, password)) for other in staying])
    for other, share in zip(staying, shares, strict=True):
        if share:
            Mover(gone, password, timeout_s, say).move(share, other)
    if owned(gone, password):
        raise OperationError(f"{gone.root} was given slots meanwhile; end what moves slots there, and try again")


def _set_draining(port: int, password: str) -> None:
    try:
        with Client(HOST, port, password=password) as client:
            client.call("CONFIG", "SET", "rebalance-draining", "yes")
    except (Refused, Unreachable) as error:
        raise OperationError(f"{HOST}:{port} cannot be told that its group is being emptied: {error}") from error


def _shard_name(cluster: Cluster, password: str) -> bytes:
    name = ask(cluster, password, 10.0, "CLUSTER", "MYSHARDID")
    if not isinstance(name, bytes):
        raise OperationError(f"{cluster.root}: CLUSTER MYSHARDID was answered with {type(name).__name__}, not text")
    return name


def _shards_known(cluster: Cluster, password: str) -> list[bytes]:
    known: list[bytes] = []
    reply = ask(cluster, password, 10.0, "CLUSTER", "SHARDS")
    for row in reply if isinstance(reply, list) else []:
        if isinstance(row, list) and b"id" in row[::2]:
            name = row[row[::2].index(b"id") * 2 + 1]
            if isinstance(name, bytes):
                known.append(name)
    return known
