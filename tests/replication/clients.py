"""Clients of a simulated cluster, and what must hold of the history of their answers."""

from __future__ import annotations

from random import Random

import hiredis

from durakv.world.ports import Stream
from tests.engine.rig import Err
from tests.replication.sim import CLIENT_PORT, MS, SimCluster

DEFINITE = (
    "CLUSTERDOWN ", "THROTTLED ", "LOADING ", "UNBLOCKED ", "MISCONF ", "EXECABORT ", "LEASEEXPIRED ", "NOREPLICAS ",
)  # fmt: skip
KEYS = 3


class Asked:
    """One request: what, when it was sent, and what came back when."""

    def __init__(self, kind: str, key: bytes, value: int, sent_ns: int) -> None:
        self.kind = kind
        self.key = key
        self.value = value
        self.sent_ns = sent_ns
        self.reply: object = None
        # ok, fail (definitely no effect) or info (unknown).
        self.outcome = "info"
        self.done_ns = 1 << 62


class SimClient:
    """One connection at a time to any node; pipelines a few requests, then waits for their replies."""

    def __init__(self, cluster: SimCluster, number: int, history: list[Asked]) -> None:
        self.cluster = cluster
        self.random = Random(cluster.random.getrandbits(32))
        self.host = f"c{number}"
        self.history = history
        self.stream: Stream | None = None
        self.waiting: list[Asked] = []
        self.replies = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]
        self.stopped = False
        self.dialling = False
        self.broken_off = 0
        self.connect()

    def connect(self) -> None:
        self.replies = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]
        self.dialling = True
        node = self.random.choice(self.cluster.machines).host
        self.cluster.fabric.connect(self.host, node, CLIENT_PORT, self, 300)

    def on_open(self, stream: Stream) -> None:
        self.dialling = False
        self.stream = stream
        self.ask()

    def on_close(self, error: Exception | None) -> None:
        self.dialling = False
        self.stream = None
        self.broken_off += len(self.waiting)
        self.waiting = []
        if not self.stopped:
            self.cluster.time.at(self.random.randint(1, 100) * MS, self.connect)

    def on_data(self, data: bytes) -> None:
        self.replies.feed(data)
        while (reply := self.replies.gets()) is not False:
            assert self.waiting, f"a reply nobody asked for: {reply!r}"
            asked = self.waiting.pop(0)
            asked.reply = reply
            asked.outcome = outcome(asked, reply)
            if asked.outcome != "info":
                # What is unknown may still happen at any time.
                asked.done_ns = self.cluster.time.now_ns
        if not self.waiting and not self.stopped:
            self.cluster.time.at(self.random.randint(0, 30) * MS, self.ask)

    def ask(self) -> None:
        if self.stream is None or self.waiting or self.stopped:
            return
        for _ in range(self.random.choice((1, 1, 2, 5))):
            self._one(self.stream)

    def _one(self, stream: Stream) -> None:
        kind = self.random.choice(("set", "get", "get", "incr", "ping", "exec"))
        key = b"k%d" % self.random.randrange(KEYS)
        value = len(self.history) + 1
        asked = Asked(kind, key, value, self.cluster.time.now_ns)
        self.history.append(asked)
        if kind == "set":
            commands = [[b"SET", key, b"%d" % value]]
        elif kind == "get":
            commands = [[b"GET", key]]
        elif kind == "incr":
            commands = [[b"INCR", b"n"]]
        elif kind == "ping":
            commands = [[b"ECHO", b"%d" % value]]
        else:
            commands = [[b"MULTI"], [b"INCR", b"n"], [b"INCR", b"m"], [b"EXEC"]]
            for _ in range(3):
                step = Asked("step", b"", 0, self.cluster.time.now_ns)
                self.waiting.append(step)
        self.waiting.append(asked)
        for argv in commands:
            stream.write(b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv))

    def close(self) -> None:
        self.stopped = True


def outcome(asked: Asked, reply: object) -> str:
    """Judge a reply, and check that it can belong to what was asked."""
    if isinstance(reply, Err):
        if reply.startswith("UNKNOWN "):
            return "info"
        assert reply.startswith(DEFINITE), f"{asked.kind}: {reply}"
        return "fail"
    if asked.kind == "step":
        assert reply in {b"OK", b"QUEUED"}, reply
    elif asked.kind == "set":
        assert reply == b"OK", reply
    elif asked.kind == "get":
        assert reply is None or (isinstance(reply, bytes) and reply.isdigit()), reply
    elif asked.kind == "incr":
        assert isinstance(reply, int), reply
    elif asked.kind == "ping":
        assert reply == b"%d" % asked.value, "a reply to another request"
    else:
        assert isinstance(reply, list) and len(reply) == 2, reply
    return "ok"


def check_registers(history: list[Asked], final: dict[bytes, bytes | None], now_ns: int) -> None:
    """Per key: a value read was written, not before its write began, not after a newer write was over.

    A read must not return a value whose overwriting was complete before the read began: w1 done before w2 sent, w2 ok
    and done before the read was sent. The same against values that earlier reads have already shown.
    """
    for n in range(KEYS):
        key = b"k%d" % n
        writes = {w.value: w for w in history if w.kind == "set" and w.key == key}
        reads = [r for r in history if r.kind == "get" and r.key == key and r.outcome == "ok"]
        last = Asked("get", key, 0, now_ns)
        last.reply, last.outcome, last.done_ns = final[key], "ok", now_ns
        # (time by which the value was certainly in place, value)
        in_place = [(w.done_ns, w.value) for w in writes.values() if w.outcome == "ok"]
        for read in sorted([*reads, last], key=lambda r: r.done_ns):
            value = 0 if read.reply is None else int(read.reply)  # type: ignore[call-overload]
            write = writes.get(value)
            assert value == 0 or write is not None, f"{key!r}: {value} was never written"
            if write is not None:
                assert write.sent_ns <= read.done_ns, f"{key!r}: {value} was read before it was written"
                assert write.outcome != "fail", f"{key!r}: {value} was read although its write was refused"
            # Anything that was in place before the read began and began itself after `value` was over is newer.
            over_ns = 0 if write is None else min(write.done_ns, _first_seen_ns(reads, value))
            for placed_ns, newer in in_place:
                if placed_ns < read.sent_ns and newer != value:
                    assert writes[newer].sent_ns <= over_ns, (
                        f"{key!r}: read {value}, {newer} was in place {(read.sent_ns - placed_ns) / MS} ms before"
                    )
            if value:
                in_place.append((read.done_ns, value))


def _first_seen_ns(reads: list[Asked], value: int) -> int:
    return min((r.done_ns for r in reads if r.reply == b"%d" % value), default=1 << 62)


def check_counter(history: list[Asked], n: int, m: int) -> None:
    """Each increment happened exactly once if acknowledged, at most once otherwise, never when refused."""
    for name, kinds, total in (("n", ("incr", "exec"), n), ("m", ("exec",), m)):
        mine = [a for a in history if a.kind in kinds]
        ok = sum(a.outcome == "ok" for a in mine)
        unknown = sum(a.outcome == "info" for a in mine)
        assert ok <= total <= ok + unknown, f"{name} is {total}, {ok} were acknowledged, {unknown} are unknown"
    seen = [a.reply if a.kind == "incr" else a.reply[0] for a in history  # type: ignore[index]
            if a.kind in {"incr", "exec"} and a.outcome == "ok"]  # fmt: skip
    assert len(set(seen)) == len(seen), "two increments got the same number"
