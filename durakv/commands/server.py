"""Commands about the node as a whole: time, role, stopping, replication, saving, monitoring.

Rule: the log is always durable, so commands that would save data only say so. REPLICAOF is in replication.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands import server_config, server_debug, server_logs, server_memory
from durakv.commands.context import LocalContext
from durakv.commands.local_text import help_reply, integer, text, wire
from durakv.commands.replication import following, role_while_following
from durakv.commands.server_info import member_offset, render_info
from durakv.commands.spec import Argv, Commands
from durakv.commands.version import COMPATIBLE_REDIS, COMPATIBLE_VALKEY, DURAKV
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import NO_REPLY, OK, Reply, Simple, Verbatim

if TYPE_CHECKING:
    from durakv.commands.replica_services import ReplicaService
    from durakv.commands.services import GroupView, Member

COMMANDS: Final[Commands] = Commands("server")
# The commands of the group that live in files of their own.
for _part in (server_config.COMMANDS, server_debug.COMMANDS, server_logs.COMMANDS, server_memory.COMMANDS):
    COMMANDS.declarations.extend(_part.declarations)

ALWAYS_SAVED: Final = b"Nothing to save: every acknowledged write is already in the durable log"
NO_REPLICATION_LINK: Final = (
    "ERR replicas are fed from the checkpoint, and this node keeps none: start it with checkpoints yes, or copy data "
    "out with SCAN and DUMP or durakv-cli export"
)
PINNED: Final = (
    "ERR this node alone holds the newest writes and nobody else can lead until it returns: the witness {} stands in "
    "for node {}. Start that node and wait until replication_set in INFO replication names it, or accept the outage "
    "with SHUTDOWN FORCE"
)
NO_MODULES: Final = "ERR durakv loads no modules"


@COMMANDS.local("INFO", arity=-1, since="1.0.0", summary="Facts about the node, in sections.",
                flags="loading stale", acl="dangerous",
                tips="nondeterministic_output request_policy:all_shards response_policy:special")  # fmt: skip
def info(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text. Source: server.c infoCommand()."""
    return Verbatim(wire(render_info(ctx.node, [text(name) for name in argv[1:]])))


@COMMANDS.local("TIME", arity=1, since="2.6.0", summary="The node's clock.", flags="loading stale fast",
                tips="nondeterministic_output")  # fmt: skip
def time(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: [seconds, microseconds] as bulk strings."""
    now_ms = ctx.node.clock.wall_ms()
    return [b"%d" % (now_ms // 1000), b"%d" % (now_ms % 1000 * 1000)]


@COMMANDS.local("ROLE", arity=1, since="2.8.12", summary="The replication role of the node.",
                flags="noscript loading stale fast", acl="admin dangerous")  # fmt: skip
def role(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply in Valkey's shapes; offsets are log indexes. Source: replication.c roleCommand()."""
    source = following(ctx.node)
    if source is not None:
        return role_while_following(ctx.node, source)
    view = ctx.node.group()
    if view.role == "leader":
        facts = ctx.node.replicas.facts() if ctx.node.replicas is not None else None
        replicas: list[Reply] = [
            [m.client_host.encode(), b"%d" % m.client_port, b"%d" % member_offset(m, view, facts)]
            for m in view.members
            if m.node_id != view.node_id and not m.witness
        ]
        if facts is not None:
            replicas += [[r.host.encode(), b"%d" % r.port, b"%d" % r.offset] for r in facts.rows]
        return [b"master", view.applied_index if facts is None else facts.offset, replicas]
    leader = leader_of(view)
    if leader is None:
        return [b"slave", b"", 0, b"connect", view.applied_index]
    return [b"slave", leader.client_host.encode(), leader.client_port, b"connected", view.applied_index]


def leader_of(view: GroupView) -> Member | None:
    """The leading member, when this node knows one."""
    for member in view.members:
        if member.node_id == view.leader_id:
            return member
    return None


# -- saving ----------------------------------------------------------------------------------------------------------


@COMMANDS.local("LASTSAVE", arity=1, since="1.0.0", summary="When data was last saved.",
                flags="loading stale fast", acl="admin dangerous", tips="nondeterministic_output")  # fmt: skip
def lastsave(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: when SAVE or BGSAVE last wrote a file, in Unix seconds; at first when the node started."""
    saving = ctx.node.saving
    return (saving.last_save_ms if saving is not None else ctx.node.clock.wall_ms()) // 1000


@COMMANDS.local("SAVE", arity=1, since="1.0.0",
                summary="Writes an RDB file and answers when it is there.",
                flags="no_async_loading admin noscript no_multi")  # fmt: skip
def save(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK when the file is complete and synced. Other clients do not wait. Source: rdb.c saveCommand()."""
    return OK if ctx.node.saving is None else ctx.node.saving.save(ctx.session)


@COMMANDS.local("BGSAVE", arity=-1, since="1.0.0",
                summary="Begins to write an RDB file.",
                flags="no_async_loading admin noscript")  # fmt: skip
def bgsave(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: a status. Source: rdb.c bgsaveCommand()."""
    saving = ctx.node.saving
    if len(argv) == 2 and argv[1].upper() == b"CANCEL":
        if saving is None:
            raise CommandError("ERR Background saving is currently not in progress or scheduled")
        return saving.cancel()
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() != b"SCHEDULE"):
        raise CommandError(SYNTAX)
    return Simple(ALWAYS_SAVED) if saving is None else saving.begin(schedule=len(argv) == 2)


@COMMANDS.local("BGREWRITEAOF", arity=1, since="1.0.0",
                summary="Accepted; the log is compacted by itself.",
                flags="no_async_loading admin noscript")  # fmt: skip
def bgrewriteaof(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: a status that says so."""
    return Simple(ALWAYS_SAVED)


@COMMANDS.local("SHUTDOWN", arity=-1, since="1.0.0", summary="Stops the node; a leader hands over first.",
                flags="admin noscript loading stale no_multi allow_busy")  # fmt: skip
def shutdown(ctx: LocalContext, argv: Argv) -> Reply:
    """NOW and FORCE skip the hand-over; SAFE stops only where a majority is left. SAVE and NOSAVE change nothing.

    Source: db.c shutdownCommand().
    Refused on a pinned leader, whose stop is an outage; FORCE stops it all the same.
    """
    words = [word.upper() for word in argv[1:]]
    if any(word not in (b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"SAFE", b"ABORT") for word in words):
        raise CommandError(SYNTAX)
    if (b"ABORT" in words and len(words) > 1) or (b"SAVE" in words and b"NOSAVE" in words):
        raise CommandError(SYNTAX)
    if b"ABORT" in words:
        raise CommandError("ERR No shutdown in progress.")
    view = ctx.node.group()
    if view.witness is not None and view.pinned() and b"FORCE" not in words:
        raise CommandError(PINNED.format(view.witness.node_id, _stood_in_for(view)))
    if b"SAFE" in words and b"FORCE" not in words:
        _check_safe(view)
    now = b"NOW" in words or b"FORCE" in words
    ctx.node.shutdown(transfer=not now, now=now)
    return NO_REPLY


def _check_safe(view: GroupView) -> None:
    """Raise CommandError when the others could not go on alone."""
    voters = [m for m in view.members if not m.learner]
    others = sum(m.connected for m in voters if m.node_id != view.node_id)
    if len(voters) > 1 and others <= len(voters) // 2:
        raise CommandError(
            f"ERR SHUTDOWN SAFE: only {others} of {len(voters)} voters would be left connected, which is no majority. "
            "Start the others first, or leave SAFE out"
        )


def _stood_in_for(view: GroupView) -> str:
    """The voters that no longer count, as the text of an error."""
    counted = view.witness.replication_set if view.witness is not None else ()
    gone = [m.node_id for m in view.members if not m.witness and not m.learner and m.node_id not in counted]
    return " and ".join(str(n) for n in gone)


# -- who leads -------------------------------------------------------------------------------------------------------


@COMMANDS.local("FAILOVER", arity=-1, since="6.2.0", summary="Hands leadership to another voter.",
                flags="admin noscript stale")  # fmt: skip
def failover(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: replication.c failoverCommand(); TIMEOUT and FORCE are accepted, a hand-over is always safe here."""
    host: bytes | None = None
    port = 0
    force = abort = False
    limit_ms = 0
    at = 1
    while at < len(argv):
        word = argv[at].upper()
        if word == b"TO" and at + 2 < len(argv) and host is None:
            host = argv[at + 1]
            port = integer(argv[at + 2])
            at += 3
        elif word == b"TIMEOUT" and at + 1 < len(argv) and limit_ms == 0:
            limit_ms = integer(argv[at + 1])
            if limit_ms <= 0:
                raise CommandError("ERR FAILOVER timeout must be greater than 0")
            at += 2
        elif word == b"FORCE":
            force = True
            at += 1
        elif word == b"ABORT" and len(argv) == 2:
            abort = True
            at += 1
        else:
            raise CommandError(SYNTAX)
    if abort:
        raise CommandError("ERR No failover in progress.")
    view = ctx.node.group()
    if view.role != "leader":
        raise CommandError("ERR FAILOVER is not valid when server is a replica.")
    others = [m for m in view.members if m.node_id != view.node_id and not m.witness and not m.learner]
    if not others:
        raise CommandError("ERR FAILOVER requires connected replicas.")
    if force and (host is None or not limit_ms):
        raise CommandError("ERR FAILOVER with force option requires both a timeout and target HOST and IP.")
    target = 0
    if host is not None:
        named = [m for m in others if m.client_host.encode() == host and m.client_port == port]
        if not named:
            raise CommandError("ERR FAILOVER target HOST and PORT is not a replica.")
        target = named[0].node_id
    ctx.node.transfer_leadership(target)
    return OK


@COMMANDS.local("REPLCONF", arity=-1, since="3.0.0", summary="What a replica says of itself and of its progress.",
                flags="admin noscript loading stale allow_busy")  # fmt: skip
def replconf(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: replication.c replconfCommand()."""
    return _replicas(ctx).configure(ctx.session, argv)


@COMMANDS.local("SYNC", arity=1, since="1.0.0", summary="Makes the client a replica: a file, then a stream.",
                flags="no_async_loading admin no_multi noscript")  # fmt: skip
def sync(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: replication.c syncCommand()."""
    return _replicas(ctx).sync(ctx.session, argv)


@COMMANDS.local("PSYNC", arity=-3, since="2.8.0", summary="As SYNC; a replica that was here goes on where it was.",
                flags="no_async_loading admin no_multi noscript")  # fmt: skip
def psync(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: replication.c syncCommand()."""
    if len(argv) > 3:
        raise CommandError("ERR PSYNC FAILOVER is for replicas of the same kind; use FAILOVER or CLUSTER FAILOVER here")
    return _replicas(ctx).sync(ctx.session, argv)


def _replicas(ctx: LocalContext) -> ReplicaService:
    if ctx.node.replicas is None:
        raise CommandError(NO_REPLICATION_LINK)
    return ctx.node.replicas


# -- watching --------------------------------------------------------------------------------------------------------


@COMMANDS.local("MONITOR", arity=1, since="1.0.0", summary="Shows every command this node takes.",
                flags="admin noscript loading stale")  # fmt: skip
def monitor(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK, then a line per command until the connection closes or RESET."""
    if ctx.node.in_transaction:
        raise CommandError("ERR MONITOR isn't allowed for DENY BLOCKING client")
    ctx.node.instruments.monitors.add(ctx.session)
    return OK


@COMMANDS.local("LOLWUT", arity=-1, since="5.0.0", summary="The version, with a drawing.",
                flags="readonly fast")  # fmt: skip
def lolwut(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text; arguments (VERSION n, sizes) are accepted and ignored."""
    name = "Redis" if ctx.node.settings.extended_redis_compatibility else "Valkey"
    compatible = text(COMPATIBLE_REDIS if name == "Redis" else COMPATIBLE_VALKEY)
    drawing = "   o---o\n  / \\ / \\\n o---O---o     a quorum of three, or of five\n  \\ / \\ /\n   o---o\n"
    return Verbatim(wire(f"{drawing}\ndurakv ver. {text(DURAKV)}, speaks {name} ver. {compatible}\n"))


# -- modules ---------------------------------------------------------------------------------------------------------


@COMMANDS.local("MODULE|LIST", arity=2, since="4.0.0", summary="Loaded modules: none.",
                flags="admin noscript", tips="nondeterministic_output_order")  # fmt: skip
def module_list(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: empty array."""
    return []


@COMMANDS.local("MODULE|LOAD", arity=-3, since="4.0.0", summary="Refused: no modules.",
                flags="no_async_loading admin noscript protected")  # fmt: skip
def module_load(ctx: LocalContext, argv: Argv) -> Reply:
    """Always refused."""
    raise CommandError(NO_MODULES)


@COMMANDS.local("MODULE|LOADEX", arity=-3, since="7.0.0", summary="Refused: no modules.",
                flags="no_async_loading admin noscript protected")  # fmt: skip
def module_loadex(ctx: LocalContext, argv: Argv) -> Reply:
    """Always refused."""
    raise CommandError(NO_MODULES)


@COMMANDS.local("MODULE|UNLOAD", arity=3, since="4.0.0", summary="Refused: no modules.",
                flags="no_async_loading admin noscript protected")  # fmt: skip
def module_unload(ctx: LocalContext, argv: Argv) -> Reply:
    """Always refused."""
    raise CommandError(NO_MODULES)


@COMMANDS.local("MODULE|HELP", arity=2, since="5.0.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def module_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [("LIST", "Loaded modules: none."), ("LOAD <path>", "Refused: durakv loads no modules.")])
