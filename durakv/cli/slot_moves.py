"""Moves slots between groups of a running cluster and waits until they are there.

Rule: orders ordinary migrations (CLUSTER MIGRATESLOTS) and looks at what became of them; whoever leads is asked anew
each time, so a failover on either side costs nothing but time. Giving up leaves every slot with one owner.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from durakv.cli import operations, status
from durakv.cli.client import Client, Refused, Unreachable, Value
from durakv.cli.layout import HOST, Cluster
from durakv.cli.operations import OperationError

Say = Callable[[str], None]
# So many slots go in one migration: one that fails is begun again as a whole.
JOB_SLOTS: Final = 512
_POLL_S: Final = 0.1
_FINAL: Final = (b"success", b"failed", b"cancelled")
# What a leader says of a request that it will take a moment later.
_TRY_AGAIN: Final = ("already migrating", "not confirmed", "Unknown node name", "only be used on primary", "LOADING")


def ask(cluster: Cluster, password: str, timeout_s: float, *words: str | int) -> Value:
    """One command to the group's leader. Raises OperationError."""
    leader = status.leader_of(status.survey(cluster, password))
    if leader is None:
        raise OperationError(
            f"no node of {cluster.root} leads now; start stopped nodes with `durakv cluster up`, then try again"
        )
    try:
        with Client(HOST, leader.port, timeout_s=timeout_s, password=password) as client:
            return client.call(*words)
    except Refused as error:
        raise operations.RequestRefused(f"n{leader.node_id} refused {words[0]} {words[1]}: {error}") from error
    except Unreachable as error:
        raise OperationError(f"n{leader.node_id} did not answer ({error}); try again") from error


def owned(cluster: Cluster, password: str) -> list[int]:
    """The slots of the group as its leader's log has them, ascending. Raises OperationError."""
    name = ask(cluster, password, 10.0, "CLUSTER", "MYSHARDID")
    for shard in _rows(ask(cluster, password, 10.0, "CLUSTER", "SHARDS")):
        if shard[b"id"] == name:
            flat = [_number(value) for value in _list(shard[b"slots"])]
            return [slot for at in range(0, len(flat), 2) for slot in range(flat[at], flat[at + 1] + 1)]
    raise OperationError(f"{cluster.root}: its leader does not know its own shard yet; try again")


def leader_name(cluster: Cluster, password: str) -> str:
    """The name of 40 digits that CLUSTER MIGRATESLOTS wants. Raises OperationError."""
    name = ask(cluster, password, 10.0, "CLUSTER", "MYID")
    if not isinstance(name, bytes):
        raise OperationError(f"{cluster.root}: its leader answered CLUSTER MYID with {type(name).__name__}, not text")
    return name.decode()


def ranges_of(slots: list[int]) -> list[tuple[int, int]]:
    """Ascending slots as ranges, both ends included."""
    out: list[tuple[int, int]] = []
    for slot in slots:
        if out and out[-1][1] == slot - 1:
            out[-1] = (out[-1][0], slot)
        else:
            out.append((slot, slot))
    return out


def evenly(slots: list[int], counts: list[int]) -> list[list[int]]:
    """``slots`` dealt out in pieces of neighbours so that owners of ``counts`` slots end up with as equal numbers as
    that allows; a list for each of them.
    """
    held = list(counts)
    quota = [0] * len(counts)
    for _ in slots:
        least = held.index(min(held))
        held[least] += 1
        quota[least] += 1
    out: list[list[int]] = []
    at = 0
    for count in quota:
        out.append(slots[at : at + count])
        at += count
    return out


class Mover:
    """Moves slots away from one group. ``timeout_s`` is how long nothing may move before it gives up."""

    def __init__(self, source: Cluster, password: str, timeout_s: float, say: Say) -> None:
        self.source = source
        self.password = password
        self.timeout_s = timeout_s
        self.say = say
        self.trouble = ""

    def move(self, slots: list[int], target: Cluster) -> None:
        """All of ``slots`` that the source still owns. Raises OperationError."""
        assert target.shard is not None
        wanted = dict.fromkeys(slots)
        left = [slot for slot in owned(self.source, self.password) if slot in wanted]
        deadline = time.monotonic() + self.timeout_s
        total = len(left)
        while left:
            before = len(left)
            # In this order: what is owned once nothing moves stays until it is ordered away.
            busy = self._migrating()
            left = [slot for slot in self._owned(left) if slot in wanted]
            if left and not busy:
                self._order(left[:JOB_SLOTS], target)
            if left:
                time.sleep(_POLL_S)
            if len(left) < before:
                deadline = time.monotonic() + self.timeout_s
                self.say(f"{total - len(left)} of {total} slots have moved to group {target.shard.group}")
            elif time.monotonic() > deadline:
                why = self.trouble or "nothing says why; see CLUSTER GETSLOTMIGRATIONS on the leaders of both groups"
                raise OperationError(
                    f"{len(left)} slots did not move to group {target.shard.group} within {self.timeout_s:.0f} s: "
                    f"{why}; what has moved stays there, and the same command goes on from here"
                )

    def _owned(self, before: list[int]) -> list[int]:
        try:
            return owned(self.source, self.password)
        except OperationError as error:
            self.trouble = str(error)
            return before

    def _migrating(self) -> bool:
        try:
            rows = _rows(ask(self.source, self.password, 10.0, "CLUSTER", "GETSLOTMIGRATIONS"))
        except OperationError as error:
            # It elects a leader, perhaps.
            self.trouble = str(error)
            return True
        exports = [row for row in rows if row[b"operation"] == b"EXPORT"]
        if exports and exports[0][b"state"] not in (b"success", b"cancelled"):
            message = exports[0][b"message"]
            if isinstance(message, bytes) and message:
                self.trouble = message.decode("utf-8", "replace")
        return any(row[b"state"] not in _FINAL for row in exports)

    def _order(self, slots: list[int], target: Cluster) -> None:
        words: list[str | int] = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE"]
        for first, last in ranges_of(slots):
            words += [first, last]
        try:
            words += ["NODE", leader_name(target, self.password)]
            ask(self.source, self.password, 30.0, *words)
        except operations.RequestRefused as error:
            if not any(text in str(error) for text in _TRY_AGAIN):
                raise
            self.trouble = str(error)
        except OperationError as error:
            self.trouble = str(error)


def confirmed(targets: list[Cluster], source_name: bytes, password: str, timeout_s: float) -> None:
    """Wait until no target needs the source any more: what moved is its for good. Raises OperationError."""
    deadline = time.monotonic() + timeout_s
    waiting = list(targets)
    while waiting:
        still: list[Cluster] = []
        for target in waiting:
            facts = _map(ask(target, password, 10.0, "CLUSTER", "REBALANCE", "STATUS"))
            if source_name in _list(facts[b"importing-from"]):
                still.append(target)
        waiting = still
        if waiting and time.monotonic() > deadline:
            raise OperationError(
                f"{waiting[0].root} waits for the group it got slots from to confirm that; try again in a moment"
            )
        if waiting:
            time.sleep(_POLL_S)


# -- replies ----------------------------------------------------------------------------------------------------------


def _list(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise OperationError(f"a node answered with {type(value).__name__} instead of a list; is it another version?")
    return value


def _map(value: Value) -> dict[bytes, Value]:
    flat = _list(value)
    return {key: flat[at + 1] for at in range(0, len(flat) - 1, 2) if isinstance(key := flat[at], bytes)}


def _rows(value: Value) -> list[dict[bytes, Value]]:
    return [_map(row) for row in _list(value)]


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise OperationError(f"a node answered with {type(value).__name__} instead of a slot; is it another version?")
    return value
