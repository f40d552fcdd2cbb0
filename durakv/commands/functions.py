"""FUNCTION and FCALL: libraries of functions, kept with the data.

Libraries are replicated state: FUNCTION LOAD and its kin are logged, every node registers the same functions. FCALL is
logged as EVAL is, FCALL_RO is a read. A library's code runs again for each call, so that nothing it keeps in variables
lasts from one call to the next, on one node and not on another.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext, ReadContext, WriteContext
from durakv.commands.local_text import bad_subcommand, help_reply, text
from durakv.commands.scripting import NOT_BUSY
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, Map, Reply

COMMANDS: Final = Commands("scripting")

_DEPENDS: Final = "Depends on the function that is executed."
_ALL: Final = "request_policy:all_shards response_policy:all_succeeded"
_POLICIES: Final = (b"FLUSH", b"APPEND", b"REPLACE")


@COMMANDS.write("FCALL", arity=-3, since="7.0.0", summary="Calls a function on all nodes.", complexity=_DEPENDS,
                flags="noscript skip_monitor may_replicate no_mandatory_keys stale",
                keys="RW|ACCESS|UPDATE@i2+n0/1/1", acl="scripting", write_flag=False)  # fmt: skip
def fcall(ctx: WriteContext | ReadContext, argv: Argv) -> Reply:
    """Reply: the function's result. Source: functions.c fcallCommand()."""
    return ctx.scripting().fcall(ctx, argv, read_only=False)


@COMMANDS.read("FCALL_RO", arity=-3, since="7.0.0", summary="Calls a function that only reads.", complexity=_DEPENDS,
               flags="noscript skip_monitor no_mandatory_keys stale", keys="RO|ACCESS@i2+n0/1/1",
               acl="scripting")  # fmt: skip
def fcall_ro(ctx: ReadContext | WriteContext, argv: Argv) -> Reply:
    """Only for functions with the flag no-writes. Source: functions.c fcallroCommand()."""
    return ctx.scripting().fcall(ctx, argv, read_only=True)


@COMMANDS.write("FUNCTION|LOAD", arity=-3, since="7.0.0", summary="Creates a library of functions.",
                complexity="O(1) (considering compilation time is redundant)", flags="noscript denyoom",
                acl="scripting", tips=_ALL)  # fmt: skip
def function_load(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: the library's name. Source: functions.c functionLoadCommand()."""
    replace = False
    for word in argv[2:-1]:
        if word.upper() != b"REPLACE":
            raise CommandError("ERR Unknown option given: " + text(word))
        replace = True
    return ctx.scripting().load_library(argv[-1], replace=replace)


@COMMANDS.write("FUNCTION|DELETE", arity=3, since="7.0.0", summary="Deletes a library and its functions.",
                flags="noscript", acl="scripting", tips=_ALL)  # fmt: skip
def function_delete(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: functions.c functionDeleteCommand()."""
    ctx.scripting().delete_library(argv[2])
    return OK


@COMMANDS.write("FUNCTION|FLUSH", arity=-2, since="7.0.0", summary="Deletes all libraries.",
                complexity="O(N), N the number of functions", flags="noscript", acl="scripting",
                tips=_ALL)  # fmt: skip
def function_flush(ctx: WriteContext, argv: Argv) -> Reply:
    """SYNC and ASYNC are the same. Source: functions.c functionFlushCommand()."""
    if len(argv) > 3:
        raise bad_subcommand(argv)
    if len(argv) == 3 and argv[2].upper() not in (b"SYNC", b"ASYNC"):
        raise CommandError("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    ctx.scripting().flush_libraries()
    return OK


@COMMANDS.read("FUNCTION|DUMP", arity=2, since="7.0.0", summary="Returns all libraries as one payload.",
               complexity="O(N), N the number of functions", flags="noscript", acl="scripting",
               readonly_flag=False)  # fmt: skip
def function_dump(ctx: ReadContext, argv: Argv) -> Reply:
    """Source: functions.c functionDumpCommand()."""
    return ctx.scripting().dump_libraries()


@COMMANDS.write("FUNCTION|RESTORE", arity=-3, since="7.0.0", summary="Restores libraries from a payload.",
                complexity="O(N), N the number of functions on the payload", flags="noscript denyoom",
                acl="scripting", tips=_ALL)  # fmt: skip
def function_restore(ctx: WriteContext, argv: Argv) -> Reply:
    """All libraries of the payload or none. Source: functions.c functionRestoreCommand()."""
    if len(argv) > 4:
        raise bad_subcommand(argv)
    policy = argv[3].upper() if len(argv) == 4 else b"APPEND"
    if policy not in _POLICIES:
        raise CommandError("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
    ctx.scripting().restore_libraries(argv[2], policy)
    return OK


@COMMANDS.read("FUNCTION|LIST", arity=-2, since="7.0.0", summary="Lists libraries and their functions.",
               complexity="O(N), N the number of functions", flags="noscript", acl="scripting",
               tips="nondeterministic_output_order", readonly_flag=False)  # fmt: skip
def function_list(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array of maps. Source: functions.c functionListCommand()."""
    with_code = False
    pattern: bytes | None = None
    at = 2
    while at < len(argv):
        word = argv[at].upper()
        if word == b"WITHCODE" and not with_code:
            with_code = True
        elif word == b"LIBRARYNAME" and pattern is None:
            at += 1
            if at == len(argv):
                raise CommandError("ERR library name argument was not given")
            pattern = argv[at]
        else:
            raise CommandError("ERR Unknown argument " + text(argv[at]))
        at += 1
    return ctx.scripting().list_libraries(pattern, with_code=with_code)


@COMMANDS.read("FUNCTION|STATS", arity=2, since="7.0.0", summary="Tells how many libraries and functions there are.",
               flags="noscript allow_busy", acl="scripting",
               tips="nondeterministic_output request_policy:all_shards response_policy:special",
               readonly_flag=False)  # fmt: skip
def function_stats(ctx: ReadContext, argv: Argv) -> Reply:
    """No function runs while a command is answered. Source: functions.c functionStatsCommand()."""
    libraries, functions = ctx.scripting().count_libraries()
    engine = Map([b"libraries_count", libraries, b"functions_count", functions])
    return Map([b"running_script", None, b"engines", Map([b"LUA", engine])])


@COMMANDS.local("FUNCTION|KILL", arity=2, since="7.0.0", summary="Stops the running function; there never is one.",
                flags="noscript allow_busy", acl="scripting",
                tips="request_policy:all_shards response_policy:one_succeeded")  # fmt: skip
def function_kill(ctx: LocalContext, argv: Argv) -> Reply:
    """See SCRIPT KILL. Source: functions.c functionKillCommand()."""
    raise CommandError(NOT_BUSY)


@COMMANDS.local("FUNCTION|HELP", arity=2, since="7.0.0", summary="Lists FUNCTION's subcommands.",
                flags="loading stale", acl="scripting")  # fmt: skip
def function_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: functions.c functionHelpCommand()."""
    return help_reply(argv, [
        ("LOAD [REPLACE] <FUNCTION CODE>", "Create a library; its first line is #!lua name=<name>."),
        ("DELETE <LIBRARY NAME>", "Delete a library and its functions."),
        ("LIST [LIBRARYNAME PATTERN] [WITHCODE]", "List libraries, their functions and, if asked for, their code."),
        ("STATS", "Tell how many libraries and functions there are."),
        ("KILL", "Stop the running function; there never is one to stop."),
        ("FLUSH [ASYNC|SYNC]", "Delete all libraries."),
        ("DUMP", "Return all libraries as one payload."),
        ("RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]", "Restore libraries: instead of all, beside, or over those there."),
    ])  # fmt: skip
