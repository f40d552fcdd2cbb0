"""SLOWLOG, COMMANDLOG and LATENCY: what took long on this node.

Rule: reads the instruments; recording is the engine's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands.context import LocalContext
from durakv.commands.docs import subcommands
from durakv.commands.local_text import bad_subcommand, help_reply, integer, text
from durakv.commands.spec import Argv, Commands
from durakv.observe.latency import graph
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, Map, Reply, Verbatim

if TYPE_CHECKING:
    from durakv.observe.slowlog import SlowLog

COMMANDS: Final[Commands] = Commands("server")

_COUNT_DEFAULT: Final = 10
_BAD_COUNT: Final = "ERR count should be greater than or equal to -1"


@COMMANDS.local("SLOWLOG|GET", arity=-2, since="2.2.12",
                summary="The slowest requests kept, newest first.", flags="admin loading stale",
                tips="request_policy:all_nodes nondeterministic_output")  # fmt: skip
def slowlog_get(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: [id, Unix seconds, microseconds, arguments, address, client name] each. Source: commandlog.c."""
    if len(argv) > 3:
        raise bad_subcommand(argv)
    return _newest(ctx.node.instruments.slowlog, _count(argv[2]) if len(argv) == 3 else _COUNT_DEFAULT)


def _count(argument: bytes) -> int:
    count = integer(argument, _BAD_COUNT)
    if count < -1:
        raise CommandError(_BAD_COUNT)
    return count


def _newest(log: SlowLog, count: int) -> Reply:
    return [
        [entry.entry_id, entry.at_s, entry.took_us, list(entry.argv), entry.address.encode(), entry.name]
        for entry in log.newest(count)
    ]


@COMMANDS.local("SLOWLOG|LEN", arity=2, since="2.2.12", summary="How many requests the slow log holds.",
                flags="admin loading stale",
                tips="request_policy:all_nodes response_policy:agg_sum nondeterministic_output")  # fmt: skip
def slowlog_len(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer."""
    return len(ctx.node.instruments.slowlog.entries)


@COMMANDS.local("SLOWLOG|RESET", arity=2, since="2.2.12", summary="Empties the slow log.",
                flags="admin loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def slowlog_reset(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK."""
    ctx.node.instruments.slowlog.clear()
    return OK


@COMMANDS.local("SLOWLOG|HELP", arity=2, since="6.2.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def slowlog_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("GET [<count>]", "Newest entries, 10 unless told, -1 for all."),
        ("LEN", "Number of entries."),
        ("RESET", "Remove all entries."),
    ])  # fmt: skip


def _log(ctx: LocalContext, argument: bytes) -> SlowLog:
    """The log of a type. Raises CommandError."""
    instruments = ctx.node.instruments
    logs = {b"slow": instruments.slowlog, b"large-request": instruments.large_requests,
            b"large-reply": instruments.large_replies}  # fmt: skip
    log = logs.get(argument.lower())
    if log is None:
        raise CommandError("ERR type should be one of the following: slow, large-request, large-reply")
    return log


@COMMANDS.local("COMMANDLOG|GET", arity=4, since="8.1.0",
                summary="Entries of one command log: of slow requests, large ones, or large replies.",
                flags="admin loading stale", tips="request_policy:all_nodes nondeterministic_output")  # fmt: skip
def commandlog_get(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: as SLOWLOG GET; the third fact is bytes for large ones. Source: commandlog.c."""
    count = _count(argv[2])
    return _newest(_log(ctx, argv[3]), count)


@COMMANDS.local("COMMANDLOG|LEN", arity=3, since="8.1.0", summary="How many entries a command log holds.",
                flags="admin loading stale",
                tips="request_policy:all_nodes response_policy:agg_sum nondeterministic_output")  # fmt: skip
def commandlog_len(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer."""
    return len(_log(ctx, argv[2]).entries)


@COMMANDS.local("COMMANDLOG|RESET", arity=3, since="8.1.0", summary="Empties a command log.",
                flags="admin loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def commandlog_reset(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK."""
    _log(ctx, argv[2]).clear()
    return OK


@COMMANDS.local("COMMANDLOG|HELP", arity=2, since="8.1.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def commandlog_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("GET <count> <type>", "Newest entries of a type: slow, large-request or large-reply."),
        ("LEN <type>", "Number of entries."),
        ("RESET <type>", "Remove all entries."),
    ])  # fmt: skip


@COMMANDS.local("LATENCY|LATEST", arity=2, since="2.8.13", summary="The latest spike of each event.",
                flags="admin noscript loading stale",
                tips="nondeterministic_output request_policy:all_nodes response_policy:special")  # fmt: skip
def latency_latest(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: [event, Unix seconds, latest ms, worst ms, total ms, count] each."""
    out: list[Reply] = []
    for event, spikes in ctx.node.instruments.latency.events.items():
        at_s, took_ms = spikes.samples[-1]
        out.append([event.encode(), at_s, took_ms, spikes.worst_ms, spikes.total_ms, spikes.count])
    return out


@COMMANDS.local("LATENCY|HISTORY", arity=3, since="2.8.13", summary="The spikes kept of one event.",
                flags="admin noscript loading stale",
                tips="nondeterministic_output request_policy:all_nodes response_policy:special")  # fmt: skip
def latency_history(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: [Unix seconds, ms] each, oldest first."""
    spikes = ctx.node.instruments.latency.events.get(text(argv[2]))
    return [] if spikes is None else [[at_s, took_ms] for at_s, took_ms in spikes.samples]


@COMMANDS.local("LATENCY|RESET", arity=-2, since="2.8.13",
                summary="Forgets spikes, of all events without names.",
                flags="admin noscript loading stale",
                tips="request_policy:all_nodes response_policy:agg_sum")  # fmt: skip
def latency_reset(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: how many events had any."""
    return ctx.node.instruments.latency.reset([text(name) for name in argv[2:]])


@COMMANDS.local("LATENCY|GRAPH", arity=3, since="2.8.13", summary="The spikes of one event as text.",
                flags="admin noscript loading stale",
                tips="nondeterministic_output request_policy:all_nodes response_policy:special")  # fmt: skip
def latency_graph(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text. Source: latency.c latencyCommandGenSparkeline()."""
    spikes = ctx.node.instruments.latency.events.get(text(argv[2]))
    if spikes is None:
        raise CommandError(f"ERR No samples available for event '{text(argv[2])}'")
    return Verbatim(graph(text(argv[2]), spikes, ctx.node.clock.wall_ms() // 1000).encode())


@COMMANDS.local("LATENCY|DOCTOR", arity=2, since="2.8.13", summary="What the spikes suggest.",
                flags="admin noscript loading stale",
                tips="nondeterministic_output request_policy:all_nodes response_policy:special")  # fmt: skip
def latency_doctor(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text."""
    instruments = ctx.node.instruments
    if not instruments.latency.threshold_ms:
        return Verbatim(b"Latency monitoring is off. Switch it on with CONFIG SET latency-monitor-threshold <ms>.\n")
    lines: list[str] = []
    for event, spikes in instruments.latency.events.items():
        mean_ms = spikes.total_ms // spikes.count
        lines.append(f"{event}: {spikes.count} spikes, mean {mean_ms} ms, worst {spikes.worst_ms} ms.")
        if event.startswith("fsync"):
            lines.append("  Writes wait for fsync: check the disk with durakv-cli bench-disk.")
        elif event == "command":
            lines.append("  See SLOWLOG GET for the commands.")
    return Verbatim(("\n".join(lines or ["No spikes since the last LATENCY RESET."]) + "\n").encode())


@COMMANDS.local("LATENCY|HISTOGRAM", arity=-2, since="7.0.0", summary="How the times of commands are spread.",
                flags="admin noscript loading stale",
                tips="nondeterministic_output request_policy:all_nodes response_policy:special")  # fmt: skip
def latency_histogram(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map of command to {calls, histogram_usec}, cumulative. Source: latency.c latencyCommand().

    Commands that are not timed one by one have all their calls at their mean. A container stands for its subcommands.
    """
    table, stats = ctx.node.table, ctx.node.stats
    rows = table.all
    if len(argv) > 2:
        rows = []
        for name in argv[2:]:
            row = table.by_name.get(text(name).lower())
            if row is not None:
                rows += [row] if row.subs is None else subcommands(row)
    flat: list[Reply] = []
    for row in rows:
        if row.calls:
            spread: list[Reply] = []
            for bound_ns, calls in stats.buckets(row.name, row.calls):
                spread += [bound_ns // 1000, calls]
            calls_of: Reply = stats.timed[row.name].calls if row.name in stats.timed else row.calls
            flat += [row.name.encode(), Map([b"calls", calls_of, b"histogram_usec", Map(spread)])]
    return Map(flat)


@COMMANDS.local("LATENCY|HELP", arity=2, since="2.8.13", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def latency_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("DOCTOR", "What the spikes suggest."),
        ("GRAPH <event>", "Spikes of an event as text."),
        ("HISTOGRAM [<command> ...]", "Calls of commands and how their times are spread."),
        ("HISTORY <event>", "Spikes of an event."),
        ("LATEST", "Latest spike of each event."),
        ("RESET [<event> ...]", "Forget spikes."),
    ])  # fmt: skip
