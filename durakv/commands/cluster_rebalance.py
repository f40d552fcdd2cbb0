"""CLUSTER REBALANCE: what the rebalancer of this node's group would do, does, and knows; and CLUSTER FORGETSHARD.

Rule: words only. The rebalancer's mode is a directive (CONFIG SET rebalance off|suggest|auto), and its moves are
migrations like those of CLUSTER MIGRATESLOTS.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.connection import NO_CLUSTER
from durakv.commands.context import LocalContext
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import OK, Reply

COMMANDS: Final[Commands] = Commands("cluster")


@COMMANDS.local("CLUSTER|REBALANCE", arity=3, since="9.1.0",
                summary="Plan, state and resumption of the group's rebalancer.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_rebalance(ctx: LocalContext, argv: Argv) -> Reply:
    """PLAN: map of groups, moves and reports, loads in thousandths. STATUS: map. RESUME: +OK. A leader answers PLAN."""
    service = ctx.node.group().rebalance
    if service is None:
        raise CommandError(NO_CLUSTER)
    word = argv[2].upper()
    if word == b"PLAN":
        return service.plan()
    if word == b"STATUS":
        return service.status()
    if word == b"RESUME":
        service.resume()
        return OK
    raise CommandError(SYNTAX)


@COMMANDS.local("CLUSTER|FORGETSHARD", arity=3, since="9.1.0",
                summary="Makes all nodes forget a shard that owns no slots and will not come back.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_forgetshard(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER FORGETSHARD <shard-id>. Reply: +OK; others hear of it within seconds."""
    forget = ctx.node.group().forget_shard
    if forget is None:
        raise CommandError(NO_CLUSTER)
    forget(argv[2])
    return OK
