"""CLUSTER's commands that move slots to another group, and those that show or end such moves.

Rule: words and who may ask; what they do is cluster/handoff's. A migration that was ordered is in the group's log: it
survives failovers and restarts, and every node of both groups shows it.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.handoff.entries import MID_DIGITS
from durakv.cluster.handoff.jobs import NONE_ONGOING
from durakv.commands.connection import NO_CLUSTER
from durakv.commands.context import LocalContext
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import NO_REPLY, Reply

COMMANDS: Final[Commands] = Commands("cluster")


@COMMANDS.local("CLUSTER|MIGRATESLOTS", arity=-4, since="9.0.0", summary="Moves slots to the groups of other nodes.",
                flags="no_async_loading admin stale all_dbs")  # fmt: skip
def cluster_migrateslots(ctx: LocalContext, argv: Argv) -> Reply:
    """SLOTSRANGE start end [start end ...] NODE name, as often as wanted. Answered when all are in the log.

    Source: cluster_migrateslots.c.
    """
    if not ctx.node.settings.cluster_enabled:
        raise CommandError(NO_CLUSTER)
    ctx.node.moving.migrate(ctx.session, argv)
    return NO_REPLY


@COMMANDS.local("CLUSTER|GETSLOTMIGRATIONS", arity=2, since="9.0.0",
                summary="Running and finished slot migrations of this node's group.",
                flags="no_async_loading admin stale")  # fmt: skip
def cluster_getslotmigrations(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of maps, newest first. Source: cluster_migrateslots.c."""
    rows: list[Reply] = []
    if ctx.node.settings.cluster_enabled:
        rows.extend(ctx.node.moving.rows())
    return rows


@COMMANDS.local("CLUSTER|CANCELSLOTMIGRATIONS", arity=2, since="9.0.0",
                summary="Cancels the exports of this node's group.",
                flags="no_async_loading admin stale all_dbs")  # fmt: skip
def cluster_cancelslotmigrations(ctx: LocalContext, argv: Argv) -> Reply:
    """Answered with what became of them: +OK when all are cancelled. Source: cluster_migrateslots.c."""
    if not ctx.node.settings.cluster_enabled:
        raise CommandError(NONE_ONGOING)
    ctx.node.moving.cancel(ctx.session)
    return NO_REPLY


@COMMANDS.local("CLUSTER|MIGRATIONS", arity=4, since="9.1.0",
                summary="Takes back slots whose target group is lost for good.",
                flags="no_async_loading admin stale all_dbs")  # fmt: skip
def cluster_migrations(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER MIGRATIONS FORCE-ABORT <migration>. Writes that the target acknowledged may be lost."""
    if argv[2].upper() != b"FORCE-ABORT" or len(argv[3]) != MID_DIGITS:
        raise CommandError(SYNTAX)
    if not ctx.node.settings.cluster_enabled:
        raise CommandError(NO_CLUSTER)
    ctx.node.moving.force_abort(ctx.session, argv[3].lower())
    return NO_REPLY
