"""REPLICAOF: the whole group follows a live Redis or Valkey server; and what ROLE and INFO say meanwhile.

The order is a log entry, so every node knows it and whoever leads runs the link (durakv/migration). Rule: answers in
Valkey's shapes; facts of the link are known on the leader only, the others tell what the log says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands.context import WriteContext
from durakv.commands.local_text import integer
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, Reply, Simple

if TYPE_CHECKING:
    from durakv.commands.services import Services
    from durakv.engine.source import LinkFacts, Source
    from durakv.keyspace.keyspace import Keyspace

COMMANDS: Final[Commands] = Commands("server")

ALREADY: Final = Simple(b"OK Already connected to specified master")
BAD_PORT: Final = "ERR Invalid master port"
BAD_HOST: Final = "ERR Invalid master host: give a name or an address, or NO ONE"
OWN_GROUP: Final = "ERR that is a node of this very group, which follows its leader already"
_PORT_MAX: Final = 65535
_HOST_BYTES_MAX: Final = 253
_LABEL_BYTES_MAX: Final = 63


@COMMANDS.write("REPLICAOF", arity=3, since="5.0.0", write_flag=False,
                summary="Makes the group follow a live server, or ends that.",
                flags="no_async_loading admin noscript stale")  # fmt: skip
def replicaof(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: +OK once the order is committed. Source: replication.c replicaofCommand()."""
    source = _source(ctx.ks)
    if _is_no_one(argv):
        if source.leave():
            # Half a copy is nobody's data: better none.
            for db in ctx.ks.dbs:
                db.flush()
            ctx.scripting().flush_libraries()
        return OK
    return OK if source.follow(argv[1], _port(argv)) else ALREADY


@COMMANDS.write("SLAVEOF", arity=3, since="1.0.0", write_flag=False, summary="The old name of REPLICAOF.",
                flags="no_async_loading admin noscript stale")  # fmt: skip
def slaveof(ctx: WriteContext, argv: Argv) -> Reply:
    """As REPLICAOF."""
    return replicaof(ctx, argv)


def ordered(node: Services, argv: Argv) -> Argv:
    """REPLICAOF on the leader, about to be logged: what was received goes first. Raises CommandError."""
    if _is_no_one(argv):
        _source(node.ks).cut()
        return argv
    _check_host(argv[1])
    port = _port(argv)
    for member in node.group().members:
        if member.client_port == port and member.client_host.encode() == argv[1]:
            raise CommandError(OWN_GROUP)
    return argv


def _is_no_one(argv: Argv) -> bool:
    return argv[1].upper() == b"NO" and argv[2].upper() == b"ONE"


def _check_host(host: bytes) -> None:
    """Refuse what no resolver takes. Raises CommandError."""
    labels = host.removesuffix(b".").split(b".")
    if len(host) > _HOST_BYTES_MAX or not all(0 < len(label) <= _LABEL_BYTES_MAX for label in labels):
        raise CommandError(BAD_HOST)
    if not all(chr(c).isalnum() or c in b".-_:%" for c in host) or not host.isascii():
        raise CommandError(BAD_HOST)


def _port(argv: Argv) -> int:
    port = integer(argv[2], BAD_PORT)
    if not 0 <= port <= _PORT_MAX:
        raise CommandError(BAD_PORT)
    return port


def _source(ks: Keyspace) -> Source:
    assert ks.source is not None, "a node's engine has set it"
    return ks.source


# -- what ROLE and INFO tell -----------------------------------------------------------------------------------------


def following(node: Services) -> Source | None:
    """Whom the group follows; None when it follows nobody."""
    return node.ks.source if node.ks.following else None


def role_while_following(node: Services, source: Source) -> Reply:
    """ROLE of a replica. Source: replication.c roleCommand()."""
    return [b"slave", source.host, source.port, _state(node, source).encode(), source.offset if source.replid else -1]


def info_while_following(node: Services, source: Source) -> list[tuple[str, object]]:
    """The lines of INFO replication that describe a replica's master. Source: server.c genValkeyInfoString()."""
    link = source.link
    now_ms = node.clock.wall_ms()
    up = _state(node, source) == "connected"
    silent_s = (now_ms - link.heard_ms) // 1000 if up and link is not None and link.heard_ms else -1
    out: list[tuple[str, object]] = [
        ("master_host", source.host.decode("ascii", "replace")), ("master_port", source.port),
        ("master_link_status", "up" if up else "down"),
        ("master_last_io_seconds_ago", 0 if up and link is None else silent_s),
        ("master_sync_in_progress", int(_state(node, source) == "sync")),
        ("slave_read_repl_offset", max(source.offset, link.read_offset if link is not None else 0)),
        ("slave_repl_offset", source.offset),
    ]  # fmt: skip
    if link is not None:
        out += _link_lines(link, now_ms, up=up)
    out += [
        ("slave_priority", node.settings.replica_priority), ("slave_read_only", 1), ("replica_announced", 1),
        ("connected_slaves", 0), ("import_phase", source.phase_name()),
        ("import_error", one_line(source.reason) or (link.trouble if link is not None else "")),
        ("import_failed_commands", source.errors), ("import_last_failed_command", one_line(source.last_error)),
    ]  # fmt: skip
    return out


def _link_lines(link: LinkFacts, now_ms: int, *, up: bool) -> list[tuple[str, object]]:
    out: list[tuple[str, object]] = []
    if link.state == "sync":
        total, read = link.sync_total, link.sync_read
        out += [
            ("master_sync_total_bytes", total), ("master_sync_read_bytes", read),
            ("master_sync_left_bytes", max(total - read, 0) if total >= 0 else -1),
            ("master_sync_perc", f"{100 * read / total if total > 0 else 0:.2f}"),
            ("master_sync_last_io_seconds_ago", max(0, now_ms - link.heard_ms) // 1000),
        ]  # fmt: skip
    if not up and link.down_since_ms:
        out.append(("master_link_down_since_seconds", max(0, now_ms - link.down_since_ms) // 1000))
    return out


def _state(node: Services, source: Source) -> str:
    """ROLE's word for the link: this node's own where it runs it, else what the log says."""
    if not source.active():
        return "none"
    if source.link is not None:
        return source.link.state
    phase = source.phase_name()
    return {"asked": "connect", "filling": "sync"}.get(phase, "connected" if node.group().leader_id else "connect")


def one_line(text: bytes) -> str:
    """``text`` for a line of INFO."""
    return " ".join(text.decode("utf-8", "replace").split())
