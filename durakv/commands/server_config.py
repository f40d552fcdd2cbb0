"""CONFIG: read and change the node's directives.

Rule: what a directive is and may be is config's business; this only words the answers as Valkey does.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext
from durakv.commands.local_text import help_reply, text, wire
from durakv.commands.spec import Argv, Commands
from durakv.config.rewrite import rewrite
from durakv.config.settings import ConfigError
from durakv.observe.events import ConfigChanged
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import OK, Map, Reply

COMMANDS: Final[Commands] = Commands("server")


@COMMANDS.local("CONFIG|GET", arity=-3, since="2.0.0",
                summary="Values of the directives whose names match.",
                flags="admin noscript loading stale")  # fmt: skip
def config_get(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map of name to value, each name once. Source: config.c configGetCommand()."""
    found: dict[str, str] = {}
    for pattern in argv[2:]:
        found.update(ctx.node.settings.get(text(pattern)))
    flat: list[Reply] = []
    for name, value in found.items():
        flat.append(wire(name))
        flat.append(wire(value))
    return Map(flat)


@COMMANDS.local("CONFIG|SET", arity=-4, since="2.0.0", summary="Changes directives, all or none.",
                flags="admin noscript loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def config_set(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: config.c configSetCommand()."""
    if len(argv) % 2:
        raise CommandError(SYNTAX)
    pairs = [(text(argv[at]).lower(), text(argv[at + 1])) for at in range(2, len(argv), 2)]
    try:
        ctx.node.settings.set_many(pairs)
    except ConfigError as e:
        if not e.known:
            raise CommandError(f"ERR Unknown option or number of arguments for CONFIG SET - '{e.name}'") from None
        raise CommandError(f"ERR CONFIG SET failed (possibly related to argument '{e.name}') - {e.reason}") from None
    ctx.node.observer.event(ConfigChanged(tuple(name for name, _ in pairs)))
    return OK


@COMMANDS.local("CONFIG|REWRITE", arity=2, since="2.8.0",
                summary="Writes the present values into the configuration file.",
                flags="admin noscript loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def config_rewrite(ctx: LocalContext, argv: Argv) -> Reply:
    """Comments and order stay. Source: config.c configRewriteCommand()."""
    settings = ctx.node.settings
    if not settings.config_file or settings.files is None:
        raise CommandError("ERR The server is running without a config file")
    try:
        rewrite(settings)
    except (OSError, ConfigError) as e:
        raise CommandError(f"ERR Rewriting config file: {e}") from None
    return OK


@COMMANDS.local("CONFIG|RESETSTAT", arity=2, since="2.0.0", summary="Sets the counters of INFO to zero.",
                flags="admin noscript loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def config_resetstat(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: config.c configResetStatCommand()."""
    ctx.node.stats.reset()
    for row in ctx.node.table.all:
        row.calls = row.failed = 0
    ctx.node.usage.counters.forget_all()
    return OK


@COMMANDS.local("CONFIG|HELP", arity=2, since="5.0.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def config_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("GET <pattern> [<pattern> ...]", "Directives whose names match, with their values."),
        ("SET <directive> <value> [<directive> <value> ...]", "Change directives, all or none."),
        ("RESETSTAT", "Set the counters of INFO to zero."),
        ("REWRITE", "Write the present values into the configuration file."),
    ])  # fmt: skip
