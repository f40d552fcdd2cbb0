"""SLOWLOG, COMMANDLOG and LATENCY: what took long on this node.

Rule: reads the instruments; recording is the engine's business.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext
from durakv.commands.local_text import bad_subcommand, help_reply, integer, text
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, Map, Reply, Verbatim

COMMANDS: Final[Commands] = Commands("server")

_COUNT_DEFAULT: Final = 10
_BAD_COUNT: Final = "ERR count should be greater than or equal to -1"
_LOG_TYPES: Final = (b"slow", b"large-request", b"large-reply")


@COMMANDS.local("SLOWLOG|GET", arity=-2, since="2.2.12",
                summary="The slowest requests kept, newest first.", flags="admin loading stale",
                tips="request_policy:all_nodes nondeterministic_output")  # fmt: skip
def slowlog_get(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: [id, Unix seconds, microseconds, arguments, address, client name] each. Source: commandlog.c."""
    if len(argv) > 3:
        raise bad_subcommand(argv)
    return _slowest(ctx, integer(argv[2], _BAD_COUNT) if len(argv) == 3 else _COUNT_DEFAULT)


def _slowest(ctx: LocalContext, count: int) -> Reply:
    if count < -1:
        raise CommandError(_BAD_COUNT)
    return [
        [entry.entry_id, entry.at_s, entry.took_us, list(entry.argv), entry.address.encode(), entry.name]
        for entry in ctx.node.instruments.slowlog.newest(count)
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


def _log_type(argument: bytes) -> bytes:
    kind = argument.lower()
    if kind not in _LOG_TYPES:
        raise CommandError("ERR type should be one of the following: slow, large-request, large-reply")
    return kind


@COMMANDS.local("COMMANDLOG|GET", arity=4, since="8.1.0",
                summary="Entries of one command log; only the slow log is kept.",
                flags="admin loading stale", tips="request_policy:all_nodes nondeterministic_output")  # fmt: skip
def commandlog_get(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: as SLOWLOG GET; empty for the other types."""
    count = integer(argv[2], _BAD_COUNT)
    if count < -1:
        raise CommandError(_BAD_COUNT)
    return _slowest(ctx, count) if _log_type(argv[3]) == b"slow" else []


@COMMANDS.local("COMMANDLOG|LEN", arity=3, since="8.1.0", summary="How many entries a command log holds.",
                flags="admin loading stale",
                tips="request_policy:all_nodes response_policy:agg_sum nondeterministic_output")  # fmt: skip
def commandlog_len(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer."""
    return len(ctx.node.instruments.slowlog.entries) if _log_type(argv[2]) == b"slow" else 0


@COMMANDS.local("COMMANDLOG|RESET", arity=3, since="8.1.0", summary="Empties a command log.",
                flags="admin loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def commandlog_reset(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK."""
    if _log_type(argv[2]) == b"slow":
        ctx.node.instruments.slowlog.clear()
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
    """Reply: verbatim text, one bar per sample."""
    spikes = ctx.node.instruments.latency.events.get(text(argv[2]))
    if spikes is None:
        raise CommandError(f"ERR No samples available for event '{text(argv[2])}'")
    now_s = ctx.node.clock.wall_ms() // 1000
    worst_ms = max(1, spikes.worst_ms)
    lines = [f"{text(argv[2])} - worst {spikes.worst_ms} ms of {spikes.count} spikes"]
    for at_s, took_ms in spikes.samples:
        lines.append(f"{now_s - at_s:>8} s ago {took_ms:>6} ms {'#' * max(1, took_ms * 50 // worst_ms)}")
    return Verbatim(("\n".join(lines) + "\n").encode())


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


@COMMANDS.local("LATENCY|HISTOGRAM", arity=-2, since="7.0.0", summary="Calls and mean time of commands.",
                flags="admin noscript loading stale",
                tips="nondeterministic_output request_policy:all_nodes response_policy:special")  # fmt: skip
def latency_histogram(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map of command to {calls, histogram_usec}; the histogram holds the mean only."""
    wanted = [text(name).lower() for name in argv[2:]]
    stats = ctx.node.stats
    flat: list[Reply] = []
    for row in ctx.node.table.all:
        if row.calls and (not wanted or row.name in wanted):
            mean_us = max(1, int(stats.mean_us(row.name)))
            histogram = Map([1 << (mean_us - 1).bit_length(), row.calls])
            flat += [row.name.encode(), Map([b"calls", row.calls, b"histogram_usec", histogram])]
    return Map(flat)


@COMMANDS.local("LATENCY|HELP", arity=2, since="2.8.13", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def latency_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("DOCTOR", "What the spikes suggest."),
        ("GRAPH <event>", "Spikes of an event as text."),
        ("HISTOGRAM [<command> ...]", "Calls and mean time of commands."),
        ("HISTORY <event>", "Spikes of an event."),
        ("LATEST", "Latest spike of each event."),
        ("RESET [<event> ...]", "Forget spikes."),
    ])  # fmt: skip
