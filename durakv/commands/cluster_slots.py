"""CLUSTER's commands about keys and slots: KEYSLOT, counting, listing, flushing, statistics.

Rule: reads this node's data as it is; FLUSHSLOT alone changes data and therefore runs in apply.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext, WriteContext
from durakv.commands.local_text import integer
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import OK, Map, Reply

COMMANDS: Final[Commands] = Commands("cluster")

_BAD_SLOT: Final = "ERR Invalid or out of range slot"
_REPEATED: Final = "ERR Multiple filters of the same type are disallowed."


def _slot(argument: bytes, error: str) -> int:
    slot = integer(argument, error)
    if not 0 <= slot < SLOTS:
        raise CommandError(error)
    return slot


@COMMANDS.local("CLUSTER|KEYSLOT", arity=3, since="3.0.0", summary="The slot of a key.", flags="stale")
def cluster_keyslot(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer."""
    return slot_of(argv[2])


@COMMANDS.local("CLUSTER|COUNTKEYSINSLOT", arity=3, since="3.0.0",
                summary="How many keys a slot of the selected database holds.", flags="stale")  # fmt: skip
def cluster_countkeysinslot(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer. Source: cluster.c clusterCommand()."""
    keys = ctx.node.ks.dbs[ctx.session.db].slots[_slot(argv[2], "ERR Invalid slot")]
    return 0 if keys is None else len(keys)


@COMMANDS.local("CLUSTER|GETKEYSINSLOT", arity=4, since="3.0.0",
                summary="Keys of a slot of the selected database.", flags="stale",
                tips="nondeterministic_output")  # fmt: skip
def cluster_getkeysinslot(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of at most ``count`` keys. Source: cluster.c clusterCommand()."""
    error = "ERR Invalid slot or number of keys"
    slot = _slot(argv[2], error)
    count = integer(argv[3], error)
    if count < 0:
        raise CommandError(error)
    keys = ctx.node.ks.dbs[ctx.session.db].slots[slot]
    return [] if keys is None else list(keys)[:count]


@COMMANDS.write("CLUSTER|FLUSHSLOT", arity=-3, since="9.0.0", summary="Deletes all keys of a slot.",
                complexity="O(N), N the number of keys in the slot",
                flags="no_async_loading admin", acl="keyspace")  # fmt: skip
def cluster_flushslot(ctx: WriteContext, argv: Argv) -> Reply:
    """Of the selected database; ASYNC and SYNC change nothing. Source: cluster.c."""
    slot = _slot(argv[2], _BAD_SLOT)
    if len(argv) > 4 or (len(argv) == 4 and argv[3].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError(SYNTAX)
    keys = ctx.db.slots[slot]
    if keys is not None:
        for key in list(keys):
            ctx.db.delete(key)
    return OK


@COMMANDS.local("CLUSTER|SLOT-STATS", arity=-4, since="8.0.0", summary="How much slots are used.",
                flags="stale loading", tips="nondeterministic_output request_policy:all_shards")  # fmt: skip
def cluster_slot_stats(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of [slot, map]; key-count is the only metric kept. Source: cluster_slot_stats.c."""
    kind = argv[2].upper()
    if kind == b"SLOTSRANGE" and len(argv) == 5:
        first, last = _slot(argv[3], _BAD_SLOT), _slot(argv[4], _BAD_SLOT)
        if first > last:
            raise CommandError(f"ERR Start slot number {first} is greater than end slot number {last}")
        return [_slot_stats(ctx, slot, _count(ctx, slot)) for slot in range(first, last + 1)]
    if kind == b"ORDERBY":
        return _ordered(ctx, argv)
    raise CommandError(SYNTAX)


def _ordered(ctx: LocalContext, argv: Argv) -> Reply:
    if argv[3].lower() != b"key-count":
        raise CommandError("ERR Unrecognized sort metric for ORDERBY.")
    limit = 0
    descending: bool | None = None
    at = 4
    while at < len(argv):
        word = argv[at].upper()
        if word == b"LIMIT" and at + 1 < len(argv):
            if limit:
                raise CommandError(_REPEATED)
            limit = integer(argv[at + 1])
            if not 1 <= limit <= SLOTS:
                raise CommandError("ERR Limit has to lie in between 1 and 16384 (maximum number of slots).")
            at += 2
        elif word in (b"ASC", b"DESC"):
            if descending is not None:
                raise CommandError(_REPEATED)
            descending = word == b"DESC"
            at += 1
        else:
            raise CommandError(SYNTAX)
    sign = 1 if descending is False else -1
    counted = sorted((sign * _count(ctx, slot), slot) for slot in range(SLOTS))
    return [_slot_stats(ctx, slot, sign * count) for count, slot in counted[: limit or SLOTS]]


def _count(ctx: LocalContext, slot: int) -> int:
    total = 0
    for db in ctx.node.ks.dbs:
        keys = db.slots[slot]
        if keys is not None:
            total += len(keys)
    return total


def _slot_stats(ctx: LocalContext, slot: int, count: int) -> Reply:
    return [slot, Map([b"key-count", count])]
