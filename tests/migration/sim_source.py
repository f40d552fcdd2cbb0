"""A master of the simulated world: answers PSYNC, keeps a backlog, and runs commands that must never run twice."""

from __future__ import annotations

from bisect import bisect_right
from random import Random

from durakv.engine.apply import Applier
from durakv.engine.engine import Engine
from durakv.engine.outcome import Outcome
from durakv.engine.source import Source
from durakv.keyspace.digest import slot_digest
from durakv.keyspace.keyspace import Keyspace
from durakv.rdb.save import write_keyspace
from durakv.rdb.writer import RdbWriter
from durakv.resp.errors import CommandError
from durakv.resp.parser import Parser
from durakv.world.ports import Stream
from tests.replication.sim import MS, TABLE, Machine, SimCluster

HOST = "src"
PORT = 6379


class Buffer:
    """A sink for RdbWriter."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    def write_start(self, data: bytes) -> None:
        self.data[: len(data)] = data


def rdb_of(ks: Keyspace) -> bytes:
    buffer = Buffer()
    writer = RdbWriter(buffer)
    write_keyspace(writer, ks)
    writer.finish()
    return bytes(buffer.data)


def contents(ks: Keyspace) -> list[tuple[int, int, bytes]]:
    """What the databases hold, comparable between any two keyspaces."""
    out = []
    for db in ks.dbs:
        for slot in range(len(db.slots)):
            if db.slots[slot]:
                out.append((db.number, slot, slot_digest(db, slot)))  # noqa: PERF401 - three levels read better so
    return out


def fingerprint(ks: Keyspace) -> list[object]:
    """What the workload counts, cheap to take after every command."""
    out: list[object] = []
    for db in ks.dbs:
        out += [db.peek(key) for key in (b"sum", b"count")]
        lists = [db.peek(key) for key in (b"log", b"a", b"b", b"before")]
        out += [len(getattr(value, "items", ())) for value in lists]
    return [bytes(each) if isinstance(each, bytearray) else each for each in out]


def wire(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Replica:
    """The source's end of one connection."""

    def __init__(self, source: SimSource) -> None:
        self.source = source
        self.parser = Parser()
        self.stream: Stream | None = None
        self.online = False
        # The stream waits for the first acknowledgement behind a marked file.
        self.wants_ack = False
        self.pending = b""
        self.acked = 0

    def on_open(self, stream: Stream) -> None:
        self.stream = stream
        self.source.replicas[self] = None

    def on_close(self, error: Exception | None) -> None:
        self.stream = None
        self.source.replicas.pop(self, None)

    def on_data(self, data: bytes) -> None:
        for argv in self.parser.feed(data):
            self.source.heard(self, argv)
        assert self.parser.error is None, self.parser.error

    def send(self, data: bytes) -> None:
        if self.stream is not None:
            self.stream.write(data)


class SimSource:
    """See the module's text. ``offset`` counts the bytes of the stream under ``replid``."""

    def __init__(self, cluster: SimCluster, seed: int) -> None:
        self.cluster = cluster
        self.random = Random(seed)
        self.ks = Keyspace(2)
        self.applier = Applier(self.ks, TABLE, Outcome())
        self.ks.writing = True
        self.replicas: dict[Replica, None] = {}
        self.password = b""
        self.replid = b""
        self.offset = 0
        self.backlog = b""
        self.backlog_max = 20_000
        self.db = -1
        self.full_syncs = 0
        self.continued = 0
        self.stopped = False
        self.n = 0
        self.corking = False
        self.corked = b""
        # By id: the offsets behind each command, and what there was then.
        self.history: dict[bytes, tuple[list[int], list[list[object]]]] = {}
        self.restart()
        cluster.fabric.listeners[HOST, PORT] = lambda: Replica(self)

    def restart(self) -> None:
        """Under a new id, as a server that lost its memory of replicas but not its data."""
        self.replid = b"%040x" % self.random.getrandbits(160)
        self.offset = self.random.randint(0, 1000)
        self.backlog = b""
        self.db = -1
        self.history[self.replid] = ([self.offset], [fingerprint(self.ks)])
        self.cut()

    def at(self, replid: bytes, offset: int) -> list[object]:
        """The fingerprint of the data as of a byte of a stream."""
        offsets, prints = self.history[replid]
        return prints[bisect_right(offsets, offset) - 1]

    def cut(self) -> None:
        """Drop all replicas."""
        for replica in list(self.replicas):
            if replica.stream is not None:
                replica.stream.abort()

    # -- commands ----------------------------------------------------------------------------------------------------

    def run(self, db: int, *commands: list[bytes]) -> None:
        """Run commands, as a transaction when there are several, and replicate them."""
        out = [] if db == self.db else [wire(b"SELECT", b"%d" % db)]
        self.db = db
        for argv in commands:
            # Before all deadlines: the workload says itself when a key goes.
            self.ks.now_ms = self.applier.wctx.now_ms = 0
            reply = self.applier.run_write(TABLE.find(argv), argv, db, (0, 0))
            assert not isinstance(reply, CommandError), (argv, reply)
        if len(commands) > 1:
            out.append(wire(b"MULTI"))
        out += [wire(*argv) for argv in commands]
        if len(commands) > 1:
            out.append(wire(b"EXEC"))
        self.replicate(b"".join(out))

    def replicate(self, data: bytes) -> None:
        self.offset += len(data)
        offsets, prints = self.history[self.replid]
        offsets.append(self.offset)
        prints.append(fingerprint(self.ks))
        self.backlog = (self.backlog + data)[-self.backlog_max :]
        self.corked += data
        if not self.corking:
            data, self.corked = self.corked, b""
            self._spread(data)

    def _spread(self, data: bytes) -> None:
        for replica in self.replicas:
            if replica.online:
                replica.send(data)
            elif replica.wants_ack:
                replica.pending += data

    def write_something(self) -> None:
        """One step of the workload, then the next after a while."""
        if self.stopped:
            return
        random = self.random
        self.n += 1
        n = b"%d" % self.n
        key = b"k%d" % random.randrange(5)
        at_ms = b"%d" % (1_700_000_000_000 + self.cluster.time.now_ns // MS + random.randint(-500, 2000))
        choice = random.randrange(9)
        db = random.choice((0, 0, 0, 1))
        if choice == 0:
            self.run(db, [b"RPUSH", b"log", n])
        elif choice == 1:
            self.run(0, [b"RPUSH", b"a", n], [b"INCR", b"count"], [b"RPUSH", b"b", n])
        elif choice == 2:
            self.run(db, [b"INCRBY", b"sum", n])
        elif choice == 3:
            self.run(db, [b"HSET", b"h" + key, b"f%d" % random.randrange(50), n])
        elif choice == 4:
            self.run(db, [b"SET", key, n * random.randint(1, 40), b"PXAT", at_ms])
        elif choice == 5:
            self.run(db, [b"PERSIST", key])
        elif choice == 6:
            self.run(db, [b"DEL", key], [b"XADD", b"x", b"%d-1" % self.n, b"f", n])
        elif choice == 7:
            self.run(db, [b"APPEND", b"text", n + b"."], [b"PEXPIREAT", key, at_ms])
        else:
            self.replicate(wire(b"PING"))
        if random.random() < 0.1:
            # Many commands that arrive together.
            self.corking = True
            for _ in range(random.randint(2, 40)):
                self.run(0, [b"INCRBY", b"sum", n])
            self.corking = False
            self.run(0, [b"RPUSH", b"log", n])
        self.cluster.time.at(random.choice((0, 1, 5, 20)) * MS, self.write_something)

    # -- replicas ----------------------------------------------------------------------------------------------------

    def heard(self, replica: Replica, argv: list[bytes]) -> None:
        name = argv[0].upper()
        if name == b"PING":
            replica.send(b"-NOAUTH Authentication required.\r\n" if self.password else b"+PONG\r\n")
        elif name == b"AUTH":
            good = argv[-1] == self.password
            replica.send(b"+OK\r\n" if good else b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        elif name == b"REPLCONF" and argv[1].upper() == b"ACK":
            replica.acked = max(replica.acked, int(argv[2]))
            if replica.wants_ack:
                replica.wants_ack = False
                replica.online = True
                replica.send(replica.pending)
        elif name == b"REPLCONF":
            replica.send(b"+OK\r\n")
        else:
            assert name == b"PSYNC", argv
            self._psync(replica, argv[1], int(argv[2]))

    def _psync(self, replica: Replica, replid: bytes, begin: int) -> None:
        behind = self.offset - (begin - 1)
        if replid == self.replid and 0 <= behind <= len(self.backlog):
            self.continued += 1
            replica.send(self.random.choice((b"+CONTINUE\r\n", b"+CONTINUE " + self.replid + b"\r\n")))
            replica.send(self.backlog[len(self.backlog) - behind :])
            replica.online = True
            return
        self.full_syncs += 1
        self.db = -1
        replica.send(b"\n+FULLRESYNC %b %d\r\n\n" % (self.replid, self.offset))
        data = rdb_of(self.ks)
        if self.random.random() < 0.5:
            replica.send(b"$%d\r\n" % len(data) + data)
            replica.online = True
        else:
            mark = b"%040x" % self.random.getrandbits(160)
            replica.send(b"$EOF:" + mark + b"\r\n" + data + mark)
            replica.wants_ack = True


def engine_of(machine: Machine) -> Engine:
    """The engine of a machine that runs."""
    assert machine.app is not None, "the machine does not run"
    return machine.app.engine


def source_of(machine: Machine) -> Source:
    """What a running machine's group follows."""
    found = engine_of(machine).ks.source
    assert found is not None
    return found
