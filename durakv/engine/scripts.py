"""What a request that runs a script takes along: to the leader its user's rights, into the log the leader's terms.

Rule: the only place that adds those arguments. Users are judged for the command itself where the client is connected;
for the commands a script calls their rules travel, because another node may know other ones. A script that can only
read is run as a read, unless the log has yet to hear of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands.spec import READ, WRITE
from durakv.observe.events import Notice
from durakv.scripting import shebang, terms
from durakv.scripting.host import Scripting

if TYPE_CHECKING:
    from durakv.acl.selector import CommandIndex
    from durakv.acl.users import Denied, User
    from durakv.commands.session import Session
    from durakv.commands.table import Row, Table
    from durakv.engine.apply import Applier
    from durakv.engine.engine import Engine

_LEVELS: Final = ("debug", "verbose", "notice", "warning")


def attach(applier: Applier, table: Table, index: CommandIndex) -> Scripting:
    """Scripting for something that applies a log without being a node."""
    scripting = Scripting(table, applier.ks, index)
    applier.rctx.scripts = scripting
    applier.wctx.scripts = scripting
    return scripting


def install(engine: Engine) -> Scripting:
    """The scripting of a new engine, known to all its contexts."""
    applier = engine.applier
    scripting = attach(applier, engine.table, engine.acl.index)
    engine.gate.rctx.scripts = scripting
    scripting.replaying = lambda: applier.replaying

    def publish(shard: bool, channel: bytes, message: bytes) -> None:
        # Every node of the group runs the script and tells its own listeners.
        if shard:
            engine.pubsub.deliver_shard(channel, message)
        else:
            engine.pubsub.publish_all(channel, message, first=not applier.replaying)

    def log(level: int, line: bytes) -> None:
        wanted = engine.settings.loglevel
        if wanted in _LEVELS and level >= _LEVELS.index(wanted):
            engine.observer.event(Notice("script-" + _LEVELS[level], line.decode("utf-8", "backslashreplace")))

    def denied(user: User, refusal: Denied) -> None:
        now_ms = engine.clock.wall_ms()
        engine.acl.denials.note(refusal.reason, "lua", refusal.refused, user.name, b"", now_ms)

    scripting.publish = publish
    scripting.calls.on_log = log
    scripting.calls.on_denied = denied
    return scripting


def admitted(engine: Engine, s: Session, argv: list[bytes]) -> list[bytes]:
    """The form in which this node runs or logs the request; for the leader, and for stale reads of a follower."""
    if s.origin_node == engine.node_id:
        rules = terms.rules_of(s.user)
    else:
        rules = argv[-1]
        argv = argv[:-1]
    over_memory = bool(engine.eviction.limit) and engine.eviction.refused()
    return [*argv, engine.scripting.terms.encode(engine.settings, rules, over_memory=over_memory)]


def for_leader(s: Session, row: Row, argv: list[bytes]) -> list[bytes]:
    """The form in which a follower sends the request on."""
    return [*argv, terms.rules_of(s.user)] if row.runs_script else argv


def kind_of(scripting: Scripting, row: Row, argv: list[bytes]) -> int:
    """Whether an admitted request is READ or WRITE here."""
    name = row.name
    if name in ("fcall", "fcall_ro"):
        return row.kind
    by_sha = name in ("evalsha", "evalsha_ro")
    script = scripting.programs.scripts.get(argv[1].lower() if by_sha else scripting.name_of(argv[1]))
    if script is None:
        # EVAL_RO brings it into the cache; a name nobody knows changes nothing.
        return READ if row.kind == READ and by_sha else WRITE
    return READ if script.flags & shebang.NO_WRITES else row.kind
