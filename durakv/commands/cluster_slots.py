"""CLUSTER's commands about keys and slots: KEYSLOT, counting, listing, flushing, statistics.

Rule: reads this node's data as it is; FLUSHSLOT alone changes data and therefore runs in apply.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.slot_stats import SlotStats, parse
from durakv.commands.connection import NO_CLUSTER
from durakv.commands.context import LocalContext, WriteContext
from durakv.commands.local_text import integer
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import OK, Reply

COMMANDS: Final[Commands] = Commands("cluster")

_BAD_SLOT: Final = "ERR Invalid or out of range slot"
# SLOTSRANGE over so many slots weighs them at once; of more it tells what they weighed some seconds ago.
_WEIGHED_NOW: Final = 256


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
    """SLOTSRANGE start end, or ORDERBY metric [LIMIT count] [ASC|DESC]. Source: cluster_slot_stats.c.

    Reply: array of [slot, map], of slots of this node's group.
    """
    node = ctx.node
    if not node.settings.cluster_enabled:
        raise CommandError(NO_CLUSTER)
    usage = node.usage
    shown = usage.shown()
    usage.follow_slots()
    stats = SlotStats(usage.keys, usage.counters if shown else None, usage.memory if shown else None)
    query = parse(argv, counted=shown, weighed=shown)
    if shown and query.metric < 0 and query.last - query.first < _WEIGHED_NOW:
        usage.weigh(query.first, query.last)
    return stats.answer(query, usage.owned())
