"""Commands a running script calls: what it may call, under whose rights, and how a failed one is taken back.

Rule: the only place that runs a command inside another. A read runs as a read, a write in the unit of the script's own
entry, in the order and with the texts of Valkey's script.c. What depends on the node (INFO, CLIENT, ...) cannot be
called, since every node would get its own answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.acl.users import Denied, User
from durakv.cluster.handoff.guard import check_script
from durakv.commands.context import ReadContext, WriteContext
from durakv.commands.local_text import integer
from durakv.commands.spec import FLAGS, LOCAL, READ, Argv
from durakv.keyspace.journal import steps
from durakv.keyspace.slots import slot_of
from durakv.resp.errors import DB_INDEX, CommandError, wrong_arity
from durakv.resp.types import OK, PONG, Reply
from durakv.scripting.desk import Desk
from durakv.scripting.terms import Terms

if TYPE_CHECKING:
    from durakv.commands.table import Row, Table

UNKNOWN: Final = "ERR Unknown command called from script"
ARITY: Final = "ERR Wrong number of args calling command from script"
NOT_FROM_SCRIPT: Final = "ERR This Redis command is not allowed from script"
READ_ONLY: Final = "ERR Write commands are not allowed from read-only scripts."
FOLLOWING: Final = "READONLY You can't write against a read only replica."
OUT_OF_MEMORY: Final = "OOM command not allowed when used memory > 'maxmemory'."
OTHER_SLOT: Final = "ERR Script attempted to access keys that do not hash to the same slot"

_WRITE: Final = FLAGS["write"]
_CHANGES: Final = FLAGS["write"] | FLAGS["may_replicate"]
_NOSCRIPT: Final = FLAGS["noscript"]


class Call:
    """One running script. ``write`` is the unit it runs in, None when it is a read. ``db`` is what SELECT chose."""

    def __init__(self, read: ReadContext, write: WriteContext | None, terms: Terms) -> None:
        self.read = read
        self.write = write
        self.terms = terms
        context = read if write is None else write
        self.db = context.db.number
        self.now_ms = context.now_ms
        self.read_only = False
        self.allow_oom = False
        self.allow_cross_slot = True
        # Slot of the keys used so far, -1 before any.
        self.slot = -1
        # A write command was called: from now on the script is not refused for want of memory.
        self.dirty = False
        # Messages published, sent when the script has ended: (shard channel?, channel, message).
        self.messages: list[tuple[bool, bytes, bytes]] = []


class Calls(Desk):
    """Runs the commands of the script in ``running``."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.running: Call | None = None
        # Told of (user, refusal) and of (level, line), and of the rows called; node-local, for logs and counters.
        self.on_denied: Callable[[User, Denied], None] | None = None
        self.on_log: Callable[[int, bytes], None] | None = None
        self.count = False

    # -- Desk --------------------------------------------------------------------------------------------------------

    def call(self, argv: Argv) -> Reply:
        """See Desk."""
        call = self.running
        assert call is not None
        row = self._find(argv)
        if row is None:
            raise CommandError(UNKNOWN)
        if not row.argc_min <= len(argv) <= row.argc_max:
            raise CommandError(ARITY)
        if row.flags & _NOSCRIPT:
            raise CommandError(NOT_FROM_SCRIPT)
        self._check_rights(call, row, argv)
        if call.read_only and row.flags & _CHANGES:
            raise CommandError(READ_ONLY)
        if row.flags & _WRITE and call.read.ks.read_only:
            raise CommandError(FOLLOWING)
        if call.terms.over_memory and not call.allow_oom and not call.dirty and row.denyoom:
            raise CommandError(OUT_OF_MEMORY)
        if row.flags & _WRITE:
            call.dirty = True
        if call.terms.cluster:
            _check_slot(call, row, argv)
        if call.read.ks.guarded:
            assert call.read.ks.handoff is not None
            check_script(call.read.ks.handoff.state, row, argv)
        if self.count:
            row.calls += 1
        if row.kind == LOCAL:
            return _local(call, row, argv)
        if row.kind == READ:
            return _run_read(call, row, argv)
        return _run_write(call, row, argv)

    def may(self, argv: Argv) -> bool:
        """See Desk."""
        call = self.running
        assert call is not None
        if not argv:
            raise CommandError("ERR Please specify at least one argument for this call")
        row = self._find(argv)
        if row is None:
            raise CommandError("ERR Invalid command passed to server.acl_check_cmd()")
        user = call.terms.user
        return user is None or user.judge(user.index.facts[row.name], argv) is None

    def log(self, level: int, line: bytes) -> None:
        """See Desk."""
        if self.on_log is not None and self.count:
            self.on_log(level, line)

    # -- judging -----------------------------------------------------------------------------------------------------

    def _find(self, argv: Argv) -> Row | None:
        row = self.table.lookup(argv[0])
        if row is None or row.subs is None or len(argv) == 1:
            return row
        return row.subs.get(argv[1].upper())

    def _check_rights(self, call: Call, row: Row, argv: Argv) -> None:
        user = call.terms.user
        if user is None:
            return
        try:
            user.check(row, argv)
        except Denied as e:
            if self.on_denied is not None and self.count:
                self.on_denied(user, e)
            raise CommandError("ERR ACL failure in script: " + e.text.removeprefix("NOPERM ")) from None


def _check_slot(call: Call, row: Row, argv: Argv) -> None:
    slot = -1
    for key in row.keys(argv):
        other = slot_of(key)
        if slot not in (-1, other):
            raise CommandError(
                f"ERR Command '{row.name}' in script attempted to access keys that don't hash to the same slot"
            )
        slot = other
    if slot < 0 or call.allow_cross_slot:
        return
    if call.slot < 0:
        call.slot = slot
    elif call.slot != slot:
        raise CommandError(OTHER_SLOT)


# -- running ---------------------------------------------------------------------------------------------------------


def _run_read(call: Call, row: Row, argv: Argv) -> Reply:
    ctx = call.read
    ks = ctx.ks
    ctx.db = ks.dbs[call.db]
    write = call.write
    if write is None:
        return row.run(ctx, argv)
    # The entry's time and dice, and expired keys stay in place, as for any read.
    ctx.now_ms = write.now_ms
    ctx.seed = write.seed
    ctx.draws = write.draws
    ks.writing = False
    try:
        return row.run(ctx, argv)
    finally:
        ks.writing = True
        write.draws = ctx.draws


def _run_write(call: Call, row: Row, argv: Argv) -> Reply:
    ctx = call.write
    # Otherwise the script is read-only.
    assert ctx is not None
    ks = ctx.ks
    ctx.db = ks.dbs[call.db]
    # As Mark has it, without an object for each call.
    done, changed, events, expired = len(steps), len(ks.changed), len(ctx.events), len(ks.expired_now)
    try:
        return row.run(ctx, argv)
    except CommandError:
        _take_back(ctx, done, changed, events, expired)
        raise


class Mark:
    """Where a unit stood, to which it can be taken back."""

    __slots__ = ("changed", "ctx", "events", "expired", "steps")

    def __init__(self, ctx: WriteContext) -> None:
        self.ctx = ctx
        self.steps = len(steps)
        self.changed = len(ctx.ks.changed)
        self.events = len(ctx.events)
        self.expired = len(ctx.ks.expired_now)

    def take_back(self) -> None:
        """Undo what happened since, newest first."""
        _take_back(self.ctx, self.steps, self.changed, self.events, self.expired)


def _take_back(ctx: WriteContext, done: int, changed: int, events: int, expired: int) -> None:
    """Undo all but the first ``done`` steps of the unit, newest first, and what was noted of them."""
    taken = steps[done:]
    del steps[done:]
    taken.reverse()
    for target, op, a, b in taken:
        target.undo(op, a, b)
    # Undoing leaves no steps worth keeping.
    del steps[done:]
    ks = ctx.ks
    del ks.changed[changed:]
    del ctx.events[events:]
    ks.expired_keys -= len(ks.expired_now) - expired
    del ks.expired_now[expired:]


def _local(call: Call, row: Row, argv: Argv) -> Reply:
    """Commands without data whose answer is the same everywhere."""
    name = row.name
    if name == "ping":
        if len(argv) > 2:
            raise wrong_arity("ping")
        return argv[1] if len(argv) == 2 else PONG
    if name == "echo":
        return argv[1]
    if name == "time":
        return [b"%d" % (call.now_ms // 1000), b"%d" % (call.now_ms % 1000 * 1000)]
    if name == "select":
        number = integer(argv[1])
        if not 0 <= number < len(call.read.ks.dbs):
            raise CommandError(DB_INDEX)
        if number and call.terms.cluster:
            raise CommandError("ERR SELECT is not allowed in cluster mode")
        call.db = number
        return OK
    if name in ("publish", "spublish"):
        # How many listen differs from node to node.
        call.messages.append((name == "spublish", argv[1], argv[2]))
        return 0
    if name == "wait":
        return 0
    if name == "waitaof":
        return [0, 0]
    if name == "cluster|keyslot":
        return slot_of(argv[2])
    raise CommandError(NOT_FROM_SCRIPT)
