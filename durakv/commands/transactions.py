"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

MULTI and DISCARD only change the session; WATCH is logged (the keys it names are watched on every node); EXEC hands
the queue to the engine, which logs it as one unit.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_WITHOUT_MULTI,
    EXECABORT,
    CommandError,
)
from durakv.resp.types import OK, Reply

COMMANDS: Final = Commands("transactions")


@COMMANDS.local("MULTI", arity=1, since="1.2.0", summary="Starts a transaction.",
                flags="noscript loading stale fast no_multi allow_busy")  # fmt: skip
def multi(ctx: LocalContext, argv: Argv) -> Reply:
    """Never nested: it is no_multi. Source: multi.c multiCommand()."""
    s = ctx.session
    s.multi = []
    s.multi_error = False
    return OK


@COMMANDS.local("EXEC", arity=1, since="1.2.0", summary="Executes all commands queued by MULTI as one unit.",
                complexity="Depends on the commands in the transaction",
                flags="noscript loading stale skip_commandlog")  # fmt: skip
def exec_(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of replies; null when a watched key changed. Source: multi.c execCommand()."""
    s = ctx.session
    if s.multi is None:
        raise CommandError(EXEC_WITHOUT_MULTI)
    if s.multi_error:
        s.multi = None
        s.multi_error = False
        ctx.node.unwatch(s)
        raise CommandError(EXECABORT)
    return ctx.node.exec_transaction(s)


@COMMANDS.local("DISCARD", arity=1, since="2.0.0", summary="Drops all commands queued by MULTI.",
                complexity="O(N), N the number of queued commands",
                flags="noscript loading stale fast allow_busy")  # fmt: skip
def discard(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: multi.c discardCommand()."""
    s = ctx.session
    if s.multi is None:
        raise CommandError(DISCARD_WITHOUT_MULTI)
    s.multi = None
    s.multi_error = False
    ctx.node.unwatch(s)
    return OK


@COMMANDS.local("UNWATCH", arity=1, since="2.2.0", summary="Forgets all watched keys of the connection.",
                flags="noscript loading stale fast allow_busy")  # fmt: skip
def unwatch(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: multi.c unwatchCommand()."""
    ctx.node.unwatch(ctx.session)
    return OK


@COMMANDS.write("WATCH", arity=-2, since="2.2.0", summary="Makes EXEC fail when one of the keys changes before it.",
                complexity="O(1) for every key", flags="noscript loading stale fast no_multi allow_busy",
                keys="RO@i1+r-1/1/0", write_flag=False)  # fmt: skip
def watch(ctx: WriteContext, argv: Argv) -> Reply:
    """The engine's apply registers the session; see engine/apply.py. Source: multi.c watchCommand()."""
    raise AssertionError("WATCH is applied by the engine")
