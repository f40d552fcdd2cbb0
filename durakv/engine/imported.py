"""What the source sent, applied: one item of the log is one unit, however many commands it holds.

So a transaction of the source is never seen by half, and neither is any other item. Rule: as on a replica of Valkey,
the source alone decides when keys expire: its commands see every key that is stored, and give keys deadlines that have
passed already, for it may take them away again. Deterministic: the entry's content decides, and nothing of the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.commands import acl, replication
from durakv.commands.spec import FLAGS
from durakv.engine import databases
from durakv.engine.ending import end_all
from durakv.engine.source import Source
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.commands.context import WriteContext
    from durakv.commands.table import Row
    from durakv.engine.batch import Part
    from durakv.engine.engine import Engine
    from durakv.keyspace.keyspace import Keyspace

_WRITE: Final = FLAGS["write"]
_LOADING: Final = FLAGS["loading"]
_STREAM_GROUP: Final = "stream"
_UNBLOCKED: Final = b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"


def apply_item(
    ks: Keyspace, ctx: WriteContext, call: Callable[[Row, list[bytes]], object], head: list[bytes], parts: list[Part]
) -> None:
    """Apply one item; ``call`` runs a command, and undoes it alone when it fails."""
    source = ks.source
    assert source is not None
    if not source.expects(head):
        return
    entry_ms = ctx.now_ms
    can_block = ctx.can_block
    ks.read_only = False
    # Before all deadlines: nothing has expired.
    ks.now_ms = 0
    ctx.can_block = False
    for part in parts:
        row = part.row
        ctx.db = ks.dbs[part.db]
        # Streams note when consumers were seen; all else of the source's is absolute.
        ctx.now_ms = entry_ms if row.declaration.group == _STREAM_GROUP else 0
        reply = call(row, part.argv)
        if isinstance(reply, CommandError):
            source.failed(f"{row.name}: {reply.text}")
    ctx.now_ms = entry_ms
    ctx.can_block = can_block
    ks.now_ms = ks.log_ms
    ks.read_only = True
    source.advance(head)


def refused(row: Row) -> bool:
    """Whether a command changes data, so that only the source may send it."""
    return bool(row.flags & _WRITE)


def admit(ks: Keyspace, row: Row) -> None:
    """Judge a client's request while the group follows a source. Raises CommandError."""
    assert ks.source is not None
    ks.source.admit(row, writes=refused(row), while_loading=bool(row.flags & _LOADING))


def prepared(engine: Engine, row: Row, argv: list[bytes]) -> list[bytes]:
    """The form in which the leader logs what is not logged as it came. Raises CommandError."""
    if row.crosses:
        return databases.judged(engine.settings, row, argv)
    if row.name in ("replicaof", "slaveof"):
        return replication.ordered(engine, argv)
    return acl.prepared(engine, row, argv)


def install(engine: Engine) -> None:
    """The source of a new engine: whoever waits for data is sent away when the group begins to follow."""
    source = Source(engine.ks)
    source.on_follow = lambda: end_all(engine.applier, _UNBLOCKED)
    engine.ks.source = source
