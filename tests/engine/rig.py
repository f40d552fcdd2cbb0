"""One engine over a hand-driven consensus: commits, read proofs, demotion and time move only when a test says so.

Beside the engine a follower applies every committed payload; its digest and replicated sessions must stay equal.
"""

from __future__ import annotations

from collections import deque

import hiredis

from durakv.acl.accounts import Accounts
from durakv.cluster.handoff.entries import Runs
from durakv.commands.acl import build_acl
from durakv.commands.context import LocalContext, ReadContext, WriteContext
from durakv.commands.services import GroupView
from durakv.commands.session import Session
from durakv.commands.spec import Commands, Declaration
from durakv.commands.table import Table, build_table
from durakv.config.settings import Settings
from durakv.engine.apply import Applier
from durakv.engine.batch import Batch, Part
from durakv.engine.consensus import Dropped
from durakv.engine.engine import Engine
from durakv.engine.outcome import Outcome
from durakv.engine.scripts import attach
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.observe.events import Event
from durakv.observe.stats import Stats
from durakv.resp.types import OK
from tests.storage.world import SimClock, SimRng

CRASHERS = Commands("string")


@CRASHERS.write("BREAKHALFWAY", arity=2, since="1.0.0", summary="Fails after a change.", keys="RW|UPDATE@i1+r0/1/0")
def break_halfway(ctx: WriteContext, argv: list[bytes]) -> object:
    ctx.db.put(argv[1], b"half done")
    raise KeyError("a defect")


@CRASHERS.write("BREAKAFTER", arity=2, since="1.0.0", summary="Fails after a look.", keys="RW|UPDATE@i1+r0/1/0")
def break_after(ctx: WriteContext, argv: list[bytes]) -> object:
    ctx.db.get(argv[1])
    raise KeyError("a defect")


@CRASHERS.read("BREAKREAD", arity=2, since="1.0.0", summary="Fails.", keys="RO|ACCESS@i1+r0/1/0")
def break_read(ctx: ReadContext, argv: list[bytes]) -> object:
    raise KeyError("a defect")


@CRASHERS.local("BREAKLOCAL", arity=1, since="1.0.0", summary="Fails.")
def break_local(ctx: LocalContext, argv: list[bytes]) -> object:
    raise KeyError("a defect")


@CRASHERS.write("PUTOK", arity=3, since="1.0.0", summary="Puts.", keys="RW|UPDATE@i1+r0/1/0")
def put_ok(ctx: WriteContext, argv: list[bytes]) -> object:
    ctx.db.put(argv[1], argv[2])
    return OK


TABLE = build_table()


def table_with_crashers() -> Table:
    declarations: list[Declaration] = [row.declaration for row in TABLE.all]
    return Table.freeze(declarations + CRASHERS.declarations)


class Probe:
    pid = 1
    os = "test"
    arch_bits = 64
    executable = "durakv"
    monotonic_clock = "test"

    def rss_bytes(self) -> int:
        return 1

    def total_memory_bytes(self) -> int:
        return 0

    def cpu_seconds(self) -> tuple[float, float, float, float]:
        return (0.0, 0.0, 0.0, 0.0)

    def open_files(self) -> int:
        return 0

    def stall(self, ms: int) -> None:
        raise AssertionError("nothing may block here")


class Events:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    def event(self, event: Event) -> None:
        self.seen.append(event)


class Entry:
    def __init__(self, index: int, term: int, kind: int, data: bytes) -> None:
        self.index = index
        self.term = term
        self.kind = kind
        self.data = data


class FakeConsensus:
    """Commits and proofs in order, when told. A commit proves the reads asked for before the entry was proposed."""

    def __init__(self) -> None:
        self.engine: Engine
        self.term = 1
        self.last = 0
        self.entries: deque[Entry] = deque()
        self.reads: deque[tuple[Batch, int, int]] = deque()
        self.busy = False
        self.dropped = ""
        self.uncommitted = 0
        self.durable = 0
        self.replicas: dict[int, int] = {}
        self.committed: list[Entry] = []
        self.lease = False

    def propose(self, data: bytes) -> tuple[int, int]:
        if self.dropped:
            raise Dropped(self.dropped)
        self.last += 1
        self.entries.append(Entry(self.last, self.term, 0, data))
        return self.last, self.term

    def read_index(self, batch: Batch) -> None:
        self.reads.append((batch, self.last, len(self.committed)))

    def can_take(self, batch: Batch) -> bool:
        return not self.busy

    def lease_valid(self) -> bool:
        return self.lease

    def pump(self) -> None:
        if self.engine.dirty:
            self.engine.flush_output()

    def uncommitted_bytes(self) -> int:
        return self.uncommitted

    def durable_index(self) -> int:
        return self.durable

    def stable_replicas(self, index: int) -> int:
        return sum(1 for at in self.replicas.values() if at >= index)

    def quorum(self) -> int:
        return 2

    def view(self) -> GroupView:
        return GroupView()

    def transfer(self, node_id: int, *, force: bool) -> None: ...

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None: ...

    def stop(self, *, transfer: bool, now: bool) -> None: ...

    def prove(self) -> bool:
        """The oldest round of reads is proven."""
        if not self.reads:
            return False
        batch, _, index = self.reads.popleft()
        self.engine.reads_ready(batch, index)
        self.engine.run_proven()
        self.pump()
        return True

    def commit(self) -> bool:
        """The oldest entry commits."""
        if not self.entries:
            return False
        entry = self.entries.popleft()
        while self.reads and self.reads[0][1] < entry.index:
            self.prove()
        self.committed.append(entry)
        self.engine.committed([entry])
        self.engine.wait_check()
        self.pump()
        return True

    def follow(self, leader_id: int = 2) -> None:
        """Another node leads from now on; uncommitted entries of this one are gone."""
        self.term += 1
        self.entries.clear()
        self.last = len(self.committed)
        reads = [batch for batch, _, _ in self.reads]
        self.reads.clear()
        self.engine.role_changed(leading=False, leader_id=leader_id, term=self.term)
        for batch in reads:
            self.engine.reads_failed(batch)
        self.pump()

    def lead(self) -> None:
        self.term += 1
        self.engine.role_changed(leading=True, leader_id=1, term=self.term)
        self.last += 1
        entry = Entry(self.last, self.term, 1, b"")
        self.committed.append(entry)
        self.engine.committed([entry])


class FakeForwarder:
    """What a follower's engine asks to have sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Session, list[bytes]]] = []
        self.transactions: list[tuple[Session, list[list[bytes]], bool]] = []
        self.drops: list[Session] = []

    def forward(self, session: Session, argv: list[bytes]) -> None:
        self.sent.append((session, argv))

    def forward_exec(self, session: Session, commands: list[list[bytes]], parts: list[Part], *, watching: bool) -> None:
        self.transactions.append((session, commands, watching))

    def drop(self, session: Session) -> None:
        self.drops.append(session)

    def publish(self, channel: bytes, message: bytes, shard: bool) -> None: ...


class Err(str):
    """An error reply, comparable to its text."""

    __slots__ = ()


class Client:
    """A connection: sends requests, collects the replies it was given."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.closed = False
        self.reader = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]
        self.session = rig.engine.open_session("10.0.0.1:1", "10.0.0.2:2")
        self.session.sink = self

    def send(self, *commands: str | list[bytes]) -> Client:
        """Hand over a pipeline in one turn; words are split at blanks."""
        for command in commands:
            argv = command.encode().split() if isinstance(command, str) else command
            if self.closed:
                return self
            argv = [argv[0].upper(), *argv[1:]]
            self.rig.engine.dispatch(self.session, argv)
        self.flush()
        return self

    def flush(self) -> None:
        for wire in self.session.out:
            self.reader.feed(wire)
        self.session.out.clear()

    def close_after_flush(self) -> None:
        self.flush()
        self.closed = True
        self.session.closing = True

    def kill(self) -> None:
        self.close_after_flush()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def disconnect(self) -> None:
        self.closed = True
        self.session.out.clear()
        self.rig.engine.close_session(self.session)

    def got(self) -> list[object]:
        """Replies that arrived since the last call."""
        self.rig.turn()
        self.flush()
        replies = []
        while (reply := self.reader.gets()) is not False:
            replies.append(reply)
        return replies


class Rig:
    """An engine, its consensus, its clock, and a follower that applies the same log."""

    def __init__(
        self, *, leading: bool = True, table: Table | None = None, renames: list[tuple[str, str]] | None = None,
        **directives: str,
    ) -> None:  # fmt: skip
        settings = Settings()
        settings.renames = renames or []
        for name, text in directives.items():
            settings.load(name.replace("_", "-"), text)
        self.table = table if table is not None else TABLE
        self.clock = SimClock()
        self.events = Events()
        rng = SimRng(7)
        self.ks = Keyspace(4)
        acl = build_acl(settings, self.table, rng)
        self.engine = Engine(
            settings, self.table, self.clock, rng, self.ks, Stats(), acl, self.events, Probe(), 1
        )  # fmt: skip
        self.consensus = FakeConsensus()
        self.consensus.engine = self.engine
        self.engine.consensus = self.consensus
        self.forwarder = FakeForwarder()
        self.engine.forwarder = self.forwarder
        # Group and slots, where there are several groups.
        self.founded: tuple[int, Runs] | None = None
        self.engine.start()
        if leading:
            self.consensus.lead()
        else:
            self.consensus.follow()

    def found(self, group: int, *slots: tuple[int, int]) -> None:
        """This is the log of one of several groups, which owns these slots as it begins."""
        self.founded = (group, tuple((first, last, 1) for first, last in slots))
        self.engine.places.found(group, list(slots))

    def client(self) -> Client:
        return Client(self)

    def turn(self) -> None:
        self.clock.run_soon()

    def commit(self) -> None:
        """End the turn, commit everything proposed and let it settle."""
        self.turn()
        while self.consensus.commit():
            self.turn()

    def prove(self) -> None:
        self.turn()
        while self.consensus.prove():
            self.turn()

    def settle(self) -> None:
        """Commit and prove until nothing moves."""
        self.turn()
        while self.consensus.prove() or self.consensus.commit():
            self.turn()

    def ask(self, client: Client, *commands: str | list[bytes]) -> list[object]:
        """Send, settle, return the replies."""
        client.send(*commands)
        self.settle()
        return client.got()

    def pass_ms(self, ms: int) -> None:
        self.turn()
        self.clock.advance(ms)
        self.turn()

    def check_follower(self) -> None:
        """Replaying all payloads elsewhere gives the same data, sessions and units."""
        ks = Keyspace(4)
        # A node with settings of its own, which nothing logged may depend on.
        ks.accounts = Accounts(build_acl(Settings(), self.table, SimRng(8)))
        other = Applier(ks, self.table, Outcome())
        attach(other, self.table, self.engine.acl.index)
        if self.founded is not None:
            other.handoff.begin(*self.founded)
        for entry in self.consensus.committed:
            if entry.kind == 0:
                other.apply_payload(entry.index, entry.data)
            else:
                other.new_leader(entry.index)
        assert digest(other.ks) == digest(self.ks)
        assert sessions_of(other) == sessions_of(self.engine.applier)


def sessions_of(applier: Applier) -> tuple[object, ...]:
    """Replicated sessions as comparable values, order included."""
    s = applier.sessions
    return (
        [(key, list(who)) for key, who in s.watchers.items()],
        [(origin, list(keys)) for origin, keys in s.watched_by.items()],
        dict(s.versions),
        [(w.origin, w.argv, w.db, w.keys, w.deadline_ms) for w in s.waiters.values()],
        [(key, list(who)) for key, who in s.waiting_on.items()],
    )
