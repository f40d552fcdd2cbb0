"""EVAL and SCRIPT. What scripts may do and how they run is durakv/scripting; here are the commands and their replies.

EVAL and EVALSHA are logged and run by every node; those with _RO run as reads on the leader. Cached scripts are
replicated state, so SCRIPT LOAD and SCRIPT FLUSH are logged as well, and NOSCRIPT means the same on every node.
Requests that run a script end in one more argument, the leader's terms (scripting/terms.py).
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext, ReadContext, WriteContext
from durakv.commands.local_text import bad_subcommand, help_reply
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, Reply

COMMANDS: Final = Commands("scripting")

NOSCRIPT: Final = "NOSCRIPT No matching script."
# A script runs within one turn of the loop, in which nobody is listened to: there is never one to kill.
NOT_BUSY: Final = "NOTBUSY No scripts in execution right now."
NO_DEBUGGER: Final = "ERR the Lua debugger is not available: a script runs on every node from the log; only NO is"
_SHA_LEN: Final = 40
_MAY: Final = "noscript skip_monitor may_replicate no_mandatory_keys stale"
_RO: Final = "noscript skip_monitor no_mandatory_keys stale"
_DEPENDS: Final = "Depends on the script that is executed."


@COMMANDS.write("EVAL", arity=-3, since="2.6.0", summary="Runs a Lua script on all nodes.", complexity=_DEPENDS,
                flags=_MAY, keys="RW|ACCESS|UPDATE@i2+n0/1/1", acl="scripting", write_flag=False)  # fmt: skip
def eval_(ctx: WriteContext | ReadContext, argv: Argv) -> Reply:
    """Reply: the script's result. As a read when its shebang says no-writes. Source: eval.c evalCommand()."""
    return ctx.scripting().eval(ctx, argv, by_sha=False, read_only=False)


@COMMANDS.write("EVALSHA", arity=-3, since="2.6.0", summary="Runs a cached Lua script on all nodes.",
                complexity=_DEPENDS, flags=_MAY, keys="RW|ACCESS|UPDATE@i2+n0/1/1", acl="scripting",
                write_flag=False)  # fmt: skip
def evalsha(ctx: WriteContext | ReadContext, argv: Argv) -> Reply:
    """Reply: the script's result, or NOSCRIPT. Source: eval.c evalShaCommand()."""
    return ctx.scripting().eval(ctx, argv, by_sha=True, read_only=False)


@COMMANDS.read("EVAL_RO", arity=-3, since="7.0.0", summary="Runs a Lua script that only reads.", complexity=_DEPENDS,
               flags=_RO, keys="RO|ACCESS@i2+n0/1/1", acl="scripting")  # fmt: skip
def eval_ro(ctx: ReadContext | WriteContext, argv: Argv) -> Reply:
    """Logged when the script is not cached yet, a read from then on. Source: eval.c evalRoCommand()."""
    return ctx.scripting().eval(ctx, argv, by_sha=False, read_only=True)


@COMMANDS.read("EVALSHA_RO", arity=-3, since="7.0.0", summary="Runs a cached Lua script that only reads.",
               complexity=_DEPENDS, flags=_RO, keys="RO|ACCESS@i2+n0/1/1", acl="scripting")  # fmt: skip
def evalsha_ro(ctx: ReadContext | WriteContext, argv: Argv) -> Reply:
    """Source: eval.c evalShaRoCommand()."""
    return ctx.scripting().eval(ctx, argv, by_sha=True, read_only=True)


@COMMANDS.write("SCRIPT|LOAD", arity=3, since="2.6.0", summary="Caches a Lua script.",
                complexity="O(N), N the length of the script", flags="noscript stale", acl="scripting",
                tips="request_policy:all_nodes response_policy:all_succeeded", write_flag=False)  # fmt: skip
def script_load(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the script's SHA-1. Source: eval.c scriptCommand()."""
    return ctx.scripting().load_script(argv[2])


@COMMANDS.read("SCRIPT|EXISTS", arity=-3, since="2.6.0", summary="Tells which scripts are cached.",
               complexity="O(N), N the number of scripts asked for", flags="noscript stale", acl="scripting",
               tips="request_policy:all_shards response_policy:agg_logical_and", readonly_flag=False)  # fmt: skip
def script_exists(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: 1 or 0 for each. Source: eval.c scriptCommand()."""
    return [int(ctx.scripting().script_text(sha) is not None) for sha in argv[2:]]


@COMMANDS.read("SCRIPT|SHOW", arity=3, since="8.0.0", summary="Returns the text of a cached script.",
               flags="noscript stale", acl="scripting", readonly_flag=False)  # fmt: skip
def script_show(ctx: ReadContext, argv: Argv) -> Reply:
    """Source: eval.c scriptCommand()."""
    text = ctx.scripting().script_text(argv[2])
    if text is None:
        raise CommandError(NOSCRIPT)
    return text


@COMMANDS.write("SCRIPT|FLUSH", arity=-2, since="2.6.0", summary="Forgets all cached scripts.",
                complexity="O(N), N the number of scripts", flags="noscript stale", acl="scripting",
                tips="request_policy:all_nodes response_policy:all_succeeded", write_flag=False)  # fmt: skip
def script_flush(ctx: WriteContext, argv: Argv) -> Reply:
    """SYNC and ASYNC are the same. Source: eval.c scriptCommand()."""
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"SYNC", b"ASYNC")):
        raise CommandError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    ctx.scripting().flush_scripts()
    return OK


@COMMANDS.local("SCRIPT|KILL", arity=2, since="2.6.0", summary="Stops the running script; there never is one.",
                flags="noscript allow_busy", acl="scripting",
                tips="request_policy:all_shards response_policy:one_succeeded")  # fmt: skip
def script_kill(ctx: LocalContext, argv: Argv) -> Reply:
    """Scripts end at script-max-instructions. Source: script.c scriptKill()."""
    raise CommandError(NOT_BUSY)


@COMMANDS.local("SCRIPT|DEBUG", arity=-3, since="3.2.0", summary="Refused: there is no Lua debugger.",
                flags="noscript", acl="scripting")  # fmt: skip
def script_debug(ctx: LocalContext, argv: Argv) -> Reply:
    """NO is what holds already. Source: eval.c scriptCommand()."""
    mode = argv[2].upper()
    if mode == b"NO" and len(argv) == 3:
        return OK
    if mode in (b"YES", b"SYNC"):
        raise CommandError(NO_DEBUGGER)
    raise CommandError("ERR Use SCRIPT DEBUG YES/SYNC/NO")


@COMMANDS.local("SCRIPT|HELP", arity=2, since="5.0.0", summary="Lists SCRIPT's subcommands.",
                flags="loading stale", acl="scripting")  # fmt: skip
def script_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: eval.c scriptCommand()."""
    if len(argv) != 2:
        raise bad_subcommand(argv)
    return help_reply(argv, [
        ("DEBUG (YES|SYNC|NO)", "Only NO is accepted; there is no debugger."),
        ("EXISTS <sha1> [<sha1> ...]", "Tell which scripts are cached."),
        ("FLUSH [ASYNC|SYNC]", "Forget all cached scripts, on every node."),
        ("KILL", "Stop the running script; there never is one to stop."),
        ("LOAD <script>", "Cache a script without running it."),
        ("SHOW <sha1>", "Return the text of a cached script."),
    ])  # fmt: skip
