"""Where a request belongs: here, elsewhere, or nowhere yet; decided from slots alone.

Rule: pure. The texts are the cluster protocol's, first word and shape exactly; clients parse them.
"""

from __future__ import annotations

from typing import Final

from durakv.keyspace.slots import slot_of
from durakv.resp.errors import CROSSSLOT

NOT_SERVED: Final = "CLUSTERDOWN Hash slot not served"
DOWN: Final = "CLUSTERDOWN The cluster is down"
NO_SLOT: Final = -1
MIXED: Final = -2


class Owner:
    """Who serves a slot: where clients reach it, and whether that is this node."""

    __slots__ = ("here", "host", "port")

    def __init__(self, host: str, port: int, *, here: bool) -> None:
        self.host = host
        self.port = port
        self.here = here


def slot_of_keys(keys: list[bytes]) -> int:
    """The one slot of all keys; NO_SLOT without keys, MIXED when they differ."""
    slot = NO_SLOT
    for key in keys:
        other = slot_of(key)
        if slot == NO_SLOT:
            slot = other
        elif slot != other:
            return MIXED
    return slot


def moved(slot: int, host: str, port: int) -> str:
    """``host`` may be empty (the client keeps its host) and IPv6 stays without brackets."""
    return f"MOVED {slot} {host}:{port}"


def decide(slot: int, owner: Owner | None, *, replica_read: bool) -> str | None:
    """The error for a request on ``slot``, or None to serve it here.

    ``owner`` None: nobody is known to lead. ``replica_read``: a read on a READONLY connection of a follower.
    """
    if slot == NO_SLOT:
        return None
    if slot == MIXED:
        return CROSSSLOT
    if replica_read:
        return None
    if owner is None:
        return DOWN
    if owner.here:
        return None
    return moved(slot, owner.host, owner.port)
