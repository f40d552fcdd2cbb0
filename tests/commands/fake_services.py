"""A node without engine, network or log: enough of Services for node-local commands, and a way to run them."""

from __future__ import annotations

from typing import Any

from durakv.acl.accounts import Accounts
from durakv.cluster.slot_stats import SlotCounters, SlotMemory
from durakv.commands import acl as acl_commands
from durakv.commands import cluster, connection, connection_tracking, introspect, pubsub, server, transactions
from durakv.commands.context import LocalContext, ReadContext, WriteContext
from durakv.commands.services import GroupView, Member
from durakv.commands.session import Session
from durakv.commands.spec import READ, WRITE, Commands
from durakv.commands.table import Row, Table
from durakv.config.settings import Settings
from durakv.engine.apply import Applier
from durakv.engine.outcome import Outcome
from durakv.engine.pubsub import PubSub
from durakv.engine.tracking import Tracking
from durakv.keyspace.keyspace import Keyspace
from durakv.observe.events import Event
from durakv.observe.instruments import Instruments
from durakv.observe.stats import Stats
from durakv.resp.encoder import encode
from durakv.resp.errors import CommandError
from durakv.resp.types import NO_REPLY, OK

SAMPLE = Commands("string")


@SAMPLE.read("GET", arity=2, since="1.0.0", summary="s", flags="fast", keys="RO|ACCESS@i1+r0/1/0")
def get(ctx, argv):
    return ctx.db.read_string(argv[1])


@SAMPLE.write("SET", arity=-3, since="1.0.0", summary="s", flags="denyoom",
              keys="RW|ACCESS|UPDATE|VARIABLE_FLAGS@i1+r0/1/0")  # fmt: skip
def set_(ctx, argv):
    ctx.db.put(argv[1], argv[2])
    return OK


@SAMPLE.write("MSET", arity=-3, since="1.0.1", summary="s", flags="denyoom", keys="OW|UPDATE@i1+r-1/2/0")
def mset(ctx, argv):
    return OK


@SAMPLE.read("LMPOPLIKE", arity=-4, since="7.0.0", summary="s", keys="RO|ACCESS@i1+n0/1/1")
def lmpoplike(ctx, argv):
    return None


@SAMPLE.read("DBSIZE", arity=1, since="1.0.0", summary="s", flags="fast")
def dbsize(ctx, argv):
    return ctx.db.size


class FakeClock:
    def __init__(self):
        self.ms = 1_700_000_000_000

    def raw_ns(self):
        return self.monotonic_ns()

    def wall_ms(self):
        return self.ms

    def monotonic_ns(self):
        return self.ms * 1_000_000

    def call_later(self, delay_ms, fn):
        raise AssertionError("local commands set no timers")

    def call_soon(self, fn):
        raise AssertionError("local commands schedule nothing")


class FakeRng:
    def __init__(self):
        self.n = 0

    def below(self, n):
        self.n += 1
        return self.n % n

    def bits64(self):
        self.n += 1
        return self.n

    def token(self, nbytes):
        self.n += 1
        return bytes((self.n + i) % 256 for i in range(nbytes))


class FakeProcess:
    pid = 4242
    os = "Linux 6.1.0 x86_64"
    arch_bits = 64
    executable = "/usr/bin/durakv"
    monotonic_clock = "POSIX clock_gettime"

    def __init__(self):
        self.stalled_ms = 0

    def rss_bytes(self):
        return 50 << 20

    def total_memory_bytes(self):
        return 8 << 30

    def cpu_seconds(self):
        return 1.5, 2.5, 0.0, 0.0

    def open_files(self):
        return 12

    def stall(self, ms):
        self.stalled_ms += ms


class FakeSink:
    def __init__(self):
        self.closed = self.killed = False

    def flush(self):
        pass

    def close_after_flush(self):
        self.closed = True

    def kill(self):
        self.killed = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class FakeUsage:
    """What slots hold; nothing is counted."""

    def __init__(self, ks: Keyspace):
        self.ks = ks
        self.counters = SlotCounters()
        self.memory = SlotMemory()

    def shown(self) -> bool:
        return False

    def follow_slots(self) -> None: ...

    def owned(self) -> list[int]:
        return list(range(16384))

    def keys(self, slot: int) -> int:
        return sum(len(db.slots[slot] or ()) for db in self.ks.dbs)


class FakeNode:
    """Implements Services; ``calls`` records what was asked of the engine."""

    def __init__(self, table: Table | None = None):
        self.calls: list[tuple] = []
        self.in_transaction = False
        self.replicas = self.saving = None
        self.pause_writes = self.pause_all = False
        self.pause_until_ms = 0
        self.settings = Settings()
        self.table = table or build()
        self.clock: Any = FakeClock()
        self.rng = FakeRng()
        self.ks = Keyspace()
        self.stats = Stats()
        self.stats.started_ms = self.clock.ms - 90_000
        self.stats.run_id = "ab" * 20
        self.woken: list[Session] = []
        self.instruments = Instruments(self.settings, FakeProcess(), self.woken.append)
        self.events: list[Event] = []
        self.observer: Any = self
        self.acl = acl_commands.build_acl(self.settings, self.table, self.rng)
        self.ks.accounts = Accounts(self.acl)
        self.ks.accounts.on_change = self.users_changed
        self.pubsub = PubSub(self.woken.append)
        self.clients: dict[int, Session] = {}
        self.applier = Applier(self.ks, self.table, Outcome())
        self.tracking = Tracking(self)
        self.eviction = self
        self.upkeep = self
        self.usage = FakeUsage(self.ks)
        self.sweeping = True
        self.view = GroupView()
        self.view.cluster_id = "c" * 32
        self.view.node_id = 1
        self.view.role = "leader"
        self.view.term = 7
        self.view.leader_id = 1
        self.view.members = [Member(n, f"10.0.0.{n}", 7000 + n, 17000 + n) for n in (1, 2, 3)]
        for member in self.view.members:
            member.connected = True
        self.view.commit_index = self.view.applied_index = self.view.last_index = self.view.durable_index = 100

    def users_changed(self, users):
        for s in acl_commands.unfit(list(self.clients.values()), users):
            s.sink.close_after_flush()

    def used_bytes(self):
        return self.instruments.process.rss_bytes()

    def wake(self, s):
        self.woken.append(s)

    def event(self, event):
        self.events.append(event)

    def client(self, protocol: int = 2) -> Session:
        s = Session(len(self.clients) + 1, 1)
        s.protocol = protocol
        s.address = f"127.0.0.1:{50000 + s.id}"
        s.local_address = "127.0.0.1:6379"
        s.created_ms = s.last_ms = self.clock.ms
        s.user = self.acl.initial_user()
        s.sink = FakeSink()
        self.clients[s.id] = s
        return s

    # -- Services ----------------------------------------------------------------------------------------------------

    def group(self):
        return self.view

    def state_digest(self):
        return self.view.applied_index, "0123456789abcdef"

    def close_client(self, session):
        session.sink.close_after_flush()

    def shutdown(self, *, transfer, now):
        self.calls.append(("shutdown", transfer, now))

    def transfer_leadership(self, node_id, *, force=False):
        self.calls.append(("transfer by force" if force else "transfer", node_id))

    def change_members(self, session, verb, node_id, address):
        self.calls.append(("change", verb, node_id, address))

    def wait_replicas(self, session, local, replicas, timeout_ms, aof):
        self.calls.append(("wait", local, replicas, timeout_ms, aof))

    def pause_clients(self, until_ms, writes_only):
        self.calls.append(("pause", until_ms, writes_only))

    def unpause_clients(self):
        self.calls.append(("unpause",))

    def exec_transaction(self, s):
        raise AssertionError("not a local command's business here")

    def unwatch(self, s):
        s.watched = {}

    def unblock_client(self, asker, client_id, *, error):
        self.calls.append(("unblock", client_id, error))
        target = self.clients.get(client_id)
        return int(target is not None and target.blocked)


def build() -> Table:
    """A table of the node-local commands and a few samples with keys."""
    modules = (SAMPLE, connection.COMMANDS, connection_tracking.COMMANDS, server.COMMANDS,
               pubsub.COMMANDS, cluster.COMMANDS, introspect.COMMANDS,
               transactions.COMMANDS, acl_commands.COMMANDS)  # fmt: skip
    return Table.freeze([d for module in modules for d in module.declarations])


def words(command: str | bytes | list[bytes]) -> list[bytes]:
    if isinstance(command, list):
        return command
    return command.split() if isinstance(command, bytes) else command.encode().split()


def row_of(node: FakeNode, argv: list[bytes]) -> Row:
    return node.table.find(argv)


def run(node: FakeNode, s: Session, command: str | bytes | list[bytes]) -> object:
    """The handler's reply as it is; errors come back as CommandError objects."""
    argv = words(command)
    services: Any = node
    try:
        row = row_of(node, argv)
        if s.user is not None:
            s.user.check(row, argv)
        row.calls += 1
        if row.kind == READ:
            read = ReadContext(node.ks)
            read.db = node.ks.dbs[s.db]
            return row.fn(read, argv)
        if row.kind == WRITE:
            if row.prepares:
                argv = acl_commands.prepared(services, row, argv)
            write = WriteContext(node.ks)
            write.db = node.ks.dbs[s.db]
            node.ks.writing = True
            try:
                return row.fn(write, argv)
            finally:
                node.ks.writing = False
        return row.fn(LocalContext(s, services), argv)
    except CommandError as e:
        return e


def wire(node: FakeNode, s: Session, command: str | bytes | list[bytes]) -> bytes:
    """All bytes the session would be sent for a command."""
    reply = run(node, s, command)
    out = b"".join(s.out)
    s.out.clear()
    return out if reply is NO_REPLY else out + encode(reply, s.protocol)


def error(node: FakeNode, s: Session, command: str | bytes | list[bytes]) -> str:
    """The error text a command must give."""
    reply = run(node, s, command)
    assert isinstance(reply, CommandError), f"no error but {reply!r}"
    return reply.text
