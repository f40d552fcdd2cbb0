"""What operators of lease mode see and may do beyond Raft mode: INFO's lines, and the promotion by force.

Rule: a forced promotion is only said, not made, unless the request names the in-sync members it gives up. durakv's own.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext
from durakv.commands.local_text import text
from durakv.commands.services import GroupView, LeaseFacts
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import NO_REPLY, Reply

COMMANDS: Final[Commands] = Commands("cluster")

RAFT_DECIDES: Final = "ERR this group is in Raft mode, where a majority decides; FORCE-PROMOTE is for lease mode"
RAFT_COUNTS: Final = (
    "ERR this group is in Raft mode, where a majority has every write; MIN-ISR is for lease mode, see min-data-copies"
)
_COUNT_DIGITS: Final = 3


def lease_rows(view: GroupView, facts: LeaseFacts) -> list[tuple[str, object]]:
    """Lines for INFO replication."""
    return [
        ("replication_mode", "lease"), ("epoch", view.term), ("config_epoch", facts.epoch),
        ("isr", ",".join(str(n) for n in facts.isr)), ("min_isr", facts.min_isr),
        ("candidates", ",".join(str(n) for n in facts.learners)), ("joining", facts.joining),
        ("lease_left_ms", view.lease_left_ms), ("writes_refused", view.copies_refusal or "no"),
        ("config_change_open", int(facts.change_open)), ("forced_epoch", facts.forced_epoch),
        ("rebuilding", int(facts.rebuilding)), ("pauses", facts.pauses), ("clock_drops", facts.clock_drops),
        *facts.holder,
    ]  # fmt: skip


@COMMANDS.local("CLUSTER|FORCE-PROMOTE", arity=-2, since="9.1.0",
                summary="Lease mode: makes this node primary whatever it lacks.",
                flags="no_async_loading admin stale noscript")  # fmt: skip
def cluster_force_promote(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER FORCE-PROMOTE: what would be lost, nothing is done. CLUSTER FORCE-PROMOTE CONFIRM <id> ...: do it, giving
    up exactly those in-sync members, which must be stopped. Answered when the config holder has made it so.
    """
    if ctx.node.group().lease is None:
        raise CommandError(RAFT_DECIDES)
    if len(argv) > 2 and argv[2].upper() != b"CONFIRM":
        raise CommandError(SYNTAX)
    for word in argv[3:]:
        if not word.isdigit() or len(word) > 10:
            raise CommandError(f"ERR '{text(word)}' is not a node id; CLUSTER FORCE-PROMOTE lists those to name")
    confirmed = " ".join(text(word) for word in argv[2:])
    ctx.node.change_members(ctx.session, "force-promote", 0, confirmed)
    return NO_REPLY


@COMMANDS.local("CLUSTER|MIN-ISR", arity=3, since="9.1.0",
                summary="Lease mode: changes how many in-sync members a write needs.",
                flags="no_async_loading admin stale noscript")  # fmt: skip
def cluster_min_isr(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER MIN-ISR <count>: sent to the primary; answered when the config holder has made it so."""
    if ctx.node.group().lease is None:
        raise CommandError(RAFT_COUNTS)
    word = argv[2]
    if not word.isdigit() or len(word) > _COUNT_DIGITS or not int(word):
        raise CommandError(f"ERR '{text(word)}' is no number of in-sync members; choose 1 or more")
    ctx.node.change_members(ctx.session, "min-isr", int(word), "")
    return NO_REPLY
