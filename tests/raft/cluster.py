"""A group in one process: every message passes the codec, every disk write waits to be fsynced, and the invariants are
checked after every step. The test decides what happens next; nothing happens by itself."""

import struct
import zlib
from collections import deque

from raft import Config, HardState, Membership, MemoryLog, Message, Raft, Ready, Role, SnapshotMeta, bootstrap, codec
from raft.invariants import Invariants, InvariantViolation
from raft.messages import StorageAppendDone
from raft.types import EntryKind
from raft.witness import WitnessState, answer


class Dice:
    """A small deterministic generator; the same in every process."""

    def __init__(self, seed: int) -> None:
        self.state = (seed * 2862933555777941757 + 3037000493) % 2**64

    def below(self, n: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent


class App:
    """A state machine whose state is a digest of everything applied; its snapshot is padded to need several chunks."""

    def __init__(self) -> None:
        self.index = 0
        self.digest = 0
        self.normal: list[bytes] = []

    def apply(self, index: int, kind: int, data: bytes) -> None:
        if index != self.index + 1:
            raise InvariantViolation(f"apply {index} after {self.index}")
        self.index = index
        self.digest = zlib.crc32(struct.pack("<QB", index, kind) + data, self.digest)
        if kind == EntryKind.NORMAL:
            self.normal.append(data)

    def save(self) -> bytes:
        body = b"".join(struct.pack("<I", len(d)) + d for d in self.normal)
        return struct.pack("<QI", self.index, self.digest) + body

    @staticmethod
    def load(data: bytes) -> "App":
        app = App()
        app.index, app.digest = struct.unpack_from("<QI", data)
        at = 12
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            app.normal.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        return app


class Image:
    """What a disk holds: the log with its snapshot, and the hard state."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.hard_state = HardState()
        self.partial: bytearray = bytearray()

    def write(self, rd: Ready) -> None:
        for chunk in rd.snapshot_chunks:
            if chunk.offset == 0:
                self.partial = bytearray()
            if chunk.offset != len(self.partial):
                raise InvariantViolation(f"chunk at {chunk.offset} after {len(self.partial)} bytes")
            self.partial += chunk.data
        if rd.snapshot is not None:
            self.log.install(rd.snapshot, bytes(self.partial))
        self.log.append(rd.entries)
        if rd.hard_state is not None:
            self.hard_state = rd.hard_state

    def copy(self) -> "Image":
        out = Image()
        out.log = self.log.copy()
        out.hard_state = self.hard_state
        out.partial = bytearray(self.partial)
        return out


class Server:
    """One member: `written` is what storage shows, `durable` what a crash leaves, `pending` the Readys between."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.written = Image()
        self.durable = Image()
        self.pending: deque[Ready] = deque()
        self.core: Raft | None = None
        self.app = App()
        self.boots = 0

    def alive(self) -> Raft:
        assert self.core is not None, f"server {self.node} is down"
        return self.core


class WitnessSite:
    """A witness: its durable state, None if that is lost; it answers nothing then, nor while it is down."""

    def __init__(self, node: int) -> None:
        self.state: WitnessState | None = WitnessState(1, node)
        self.up = True


class Cluster:
    """See the module text. Messages wait in `wire` until deliver() or settle()."""

    def __init__(self, voters=(1, 2, 3), learners=(), seed=1, trim_entries=1, witness=0, **settings) -> None:
        self.settings = {"election_ticks": 10, "heartbeat_ticks": 2, "snapshot_chunk_bytes": 64, **settings}
        self.seed = seed
        self.trim_entries = trim_entries
        self.invariants = Invariants()
        self.servers: dict[int, Server] = {}
        self.witnesses: dict[int, WitnessSite] = {}
        self.wire: list[tuple[int, int, bytes]] = []
        self.cut: set[tuple[int, int]] = set()
        # Servers whose disk hangs: settle() never finishes their writes.
        self.stalled: set[int] = set()
        self.reads: dict[int, list[tuple[object, int]]] = {}
        self.failed: dict[int, list[object]] = {}
        self.digests: dict[int, int] = {}
        self.sent: list[Message] = []
        self.now_ns = 0
        membership = Membership(voters, (), learners, witness=witness)
        if witness:
            self.add_witness(witness)
        for node in membership.members():
            server = self.add(node, start=False)
            hard_state, entry = bootstrap(membership)
            for image in (server.written, server.durable):
                image.log.append([entry])
                image.hard_state = hard_state
            self.start(node)

    # Life

    def add(self, node: int, start: bool = True) -> Server:
        server = self.servers[node] = Server(node)
        self.reads[node] = []
        self.failed[node] = []
        if start:
            self.start(node)
        return server

    def add_witness(self, node: int) -> WitnessSite:
        """The founding of a witness's state, before a membership names it."""
        site = self.witnesses[node] = WitnessSite(node)
        assert site.state is not None
        self.invariants.note_witness(site.state)
        return site

    def start(self, node: int) -> None:
        server = self.servers[node]
        server.boots += 1
        server.written = server.durable.copy()
        meta = server.durable.log.snapshot_meta()
        server.app = App()
        if meta is not None:
            server.app = App.load(server.durable.log.snapshot_chunk(meta.id, 0, 1 << 30))
        config = Config(node, **self.settings)
        dice = Dice(self.seed * 1000003 + node * 101 + server.boots)
        server.core = Raft(config, server.written.log, dice, server.durable.hard_state, applied=server.app.index)
        server.core.log.trim_entries = self.trim_entries
        server.core.applied_to(server.app.index)
        self.invariants.note_started(server.core)
        self.check(node)

    def crash(self, node: int, survive: int = 0) -> None:
        """Power off; `survive` pending writes happened to reach the disk though nobody was told."""
        server = self.servers[node]
        for _ in range(min(survive, len(server.pending))):
            server.durable.write(server.pending.popleft())
        server.pending.clear()
        server.core = None
        self.invariants.note_stopped(node)

    def check(self, node: int) -> None:
        server = self.servers[node]
        if server.core is not None:
            self.invariants.check(server.core, server.durable.log)

    # One step at a time

    def take(self, node: int) -> Ready:
        """Take a Ready: send what may go at once, hand the rest to the disk, apply what is committed."""
        server = self.servers[node]
        core = server.alive()
        rd = core.ready()
        server.written.write(rd)
        server.pending.append(rd)
        for m in rd.messages:
            self.post(server, m)
        if rd.snapshot is not None:
            data = server.written.log.snapshot_chunk(rd.snapshot.id, 0, 1 << 30)
            server.app = App.load(data)
            core.applied_to(rd.snapshot.index)
        for entry in rd.committed_entries:
            server.app.apply(entry.index, entry.kind, entry.data)
            self.note_digest(node, server.app)
        if rd.committed_entries:
            core.applied_to(rd.committed_entries[-1].index)
        for ctx, index in rd.read_states:
            if index > server.app.index:
                raise InvariantViolation(f"read {ctx!r} at {index} released before it was given out to apply")
            if isinstance(ctx, tuple) and index < ctx[1]:
                raise InvariantViolation(f"stale read {ctx!r} at index {index}")
        self.reads[node].extend(rd.read_states)
        self.failed[node].extend(rd.failed_reads)
        self.check(node)
        return rd

    def note_digest(self, node: int, app: App) -> None:
        other = self.digests.setdefault(app.index, app.digest)
        if other != app.digest:
            raise InvariantViolation(f"StateMachineSafety: node {node} differs after {app.index}")

    def fsync(self, node: int) -> None:
        """The oldest pending write becomes durable and what waited for it goes out."""
        server = self.servers[node]
        rd = server.pending.popleft()
        server.durable.write(rd)
        for m in rd.after_persist:
            if m.to == node:
                if not isinstance(m, StorageAppendDone):
                    self.invariants.note_sent(m, server.durable.log, server.durable.hard_state)
                server.alive().step(m, self.clock(node))
            else:
                self.post(server, m)
        self.check(node)

    def post(self, server: Server, m: Message) -> None:
        self.invariants.note_sent(m, server.durable.log, server.durable.hard_state)
        self.sent.append(m)
        if (m.from_, m.to) not in self.cut:
            self.wire.append((m.from_, m.to, codec.encode(m)))

    def deliver(self, at: int = 0) -> None:
        _, to, data = self.wire.pop(at)
        self.receive(to, data)

    def receive(self, to: int, data: bytes) -> None:
        if to in self.witnesses:
            self.receive_witness(self.witnesses[to], codec.decode(data))
            return
        server = self.servers.get(to)
        if server is not None and server.core is not None:
            m = codec.decode(data)
            if (m.from_, to) not in self.cut:
                server.core.step(m, self.clock(to))
                self.check(to)

    def receive_witness(self, site: WitnessSite, m: Message) -> None:
        """The new state is durable before its answer leaves; a crash in between is a lost answer."""
        if not site.up or site.state is None or (m.from_, m.to) in self.cut:
            return
        site.state, reply = answer(site.state, m)
        assert reply is not None
        self.invariants.note_witness(site.state)
        self.invariants.note_sent(reply, MemoryLog(), HardState())
        self.sent.append(reply)
        if (reply.from_, reply.to) not in self.cut:
            self.wire.append((reply.from_, reply.to, codec.encode(reply)))

    def clock(self, node: int) -> int:
        return self.now_ns

    # Many steps

    def settle(self, disk: bool = True) -> None:
        """Deliver everything in order and fsync everything, until nothing is left to do."""
        for _ in range(100000):
            busy = False
            for node, server in self.servers.items():
                while server.core is not None and server.core.has_ready():
                    self.take(node)
                    busy = True
                while disk and server.core is not None and server.pending and node not in self.stalled:
                    self.fsync(node)
                    busy = True
            while self.wire:
                self.deliver()
                busy = True
            if not busy:
                return
        raise AssertionError("the cluster never settles")

    def tick(self, count: int = 1, nodes=None) -> None:
        for _ in range(count):
            self.now_ns += 10_000_000
            for node in nodes or list(self.servers):
                server = self.servers[node]
                if server.core is not None:
                    server.core.tick(self.clock(node))
                    self.check(node)
            self.settle()

    def isolate(self, *nodes: int) -> None:
        """Cut these servers off from all others (not from each other)."""
        everybody = [*self.servers, *self.witnesses]
        for a in everybody:
            for b in everybody:
                if (a in nodes) != (b in nodes):
                    self.cut.add((a, b))

    def heal(self) -> None:
        self.cut.clear()

    def elect(self, node: int) -> Raft:
        core = self.core(node)
        core.campaign()
        self.settle()
        assert core.role == Role.LEADER, core.status().role_name()
        return core

    def core(self, node: int) -> Raft:
        return self.servers[node].alive()

    def leaders(self) -> list[int]:
        return [n for n, s in self.servers.items() if s.core is not None and s.core.role == Role.LEADER]

    def snapshot(self, node: int, compact: bool = True) -> SnapshotMeta:
        """Make a snapshot at the applied index, durable at once, and compact the log under it."""
        server = self.servers[node]
        core = server.alive()
        index = server.app.index
        membership = core.membership_at(index)
        data = server.app.save()
        if server.durable.log.last_index() < index:
            raise AssertionError("a snapshot of what is not durable")
        meta = server.written.log.create_snapshot(index, membership, index, data)
        server.durable.log.create_snapshot(index, membership, index, data)
        if compact:
            server.written.log.compact(index)
            server.durable.log.compact(index)
        self.check(node)
        return meta
