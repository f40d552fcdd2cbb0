"""A cluster that exists only in a simulated network: one truth about slots and values, nodes that may lag behind it.

Values are strings that only grow (APPEND), so what ran, how often and in which order can be read off them.
"""

from __future__ import annotations

from random import Random

from durakv.keyspace.slots import slot_of
from durakv.resp.encoder import encode, error_line
from durakv.resp.parser import Parser
from durakv.resp.types import OK, QUEUED

SLOTS = 16384


class Truth:
    """``owner[slot]`` is a host's name; ``moving[slot]`` is (target, keys already there)."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self.dice = Random(f"truth {seed}")
        self.names = names
        self.owner = {slot: names[slot * len(names) // SLOTS] for slot in range(SLOTS)}
        self.moving: dict[int, tuple[str, set[bytes]]] = {}
        self.values: dict[bytes, bytes] = {}
        self.history: list[dict[int, str]] = [dict(self.owner)]
        self.refusals = 0.0
        # What the proxy was never to do: a part of a transaction outside of one.
        self.executed = 0
        # How often each slot changed hands: whoever watched a key of it before has lost it.
        self.moves: dict[int, int] = {}

    def begin_move(self, slot: int, to: str) -> None:
        if self.owner[slot] != to and slot not in self.moving:
            self.moving[slot] = (to, set())

    def move_some(self, slot: int) -> None:
        if slot in self.moving:
            left = [key for key in sorted(self.values) if slot_of(key) == slot and key not in self.moving[slot][1]]
            if left:
                self.moving[slot][1].add(self.dice.choice(left))

    def end_move(self, slot: int) -> None:
        if slot in self.moving:
            self.owner[slot] = self.moving.pop(slot)[0]
            self.moves[slot] = self.moves.get(slot, 0) + 1
            self.history.append(dict(self.owner))

    def flip(self, slot: int, to: str) -> None:
        """A failover or an atomic handoff: all at once."""
        if slot not in self.moving:
            self.owner[slot] = to
            self.moves[slot] = self.moves.get(slot, 0) + 1
            self.history.append(dict(self.owner))

    def refusal(self, name: str, keys: list[bytes], asking: bool) -> str:
        """Why this node does not serve these keys, empty when it does."""
        if self.refusals and self.dice.random() < self.refusals:
            return self.dice.choice(("CLUSTERDOWN The cluster is down", "LOADING loading", "TRYAGAIN Multiple keys"))
        if not keys:
            return ""
        slot = slot_of(keys[0])
        assert all(slot_of(key) == slot for key in keys), "CROSSSLOT must not reach a node"
        owner = self.owner[slot]
        target, there = self.moving.get(slot, ("", set()))
        if name == owner:
            gone = [key for key in keys if target and (key in there or key not in self.values)]
            if not gone:
                return ""
            return f"ASK {slot} {target}:1" if len(gone) == len(keys) else "TRYAGAIN Multiple keys"
        if name == target and asking:
            missing = [key for key in keys if key not in there and key in self.values]
            if missing and len(keys) > 1:
                return "TRYAGAIN Multiple keys"
            return f"MOVED {slot} {owner}:1" if missing else ""
        return f"MOVED {slot} {owner}:1"

    def shards(self, lag: int) -> list[object]:
        """CLUSTER SHARDS, ``lag`` changes ago."""
        owner = self.history[max(0, len(self.history) - 1 - lag)]
        ranges: dict[str, list[object]] = {name: [] for name in self.names}
        start = 0
        for slot in range(1, SLOTS + 1):
            if slot == SLOTS or owner[slot] != owner[start]:
                ranges[owner[start]] += [start, slot - 1]
                start = slot
        return [
            [b"slots", ranges[name], b"nodes", [[b"id", name.encode(), b"port", 1, b"endpoint", name.encode(), b"role",
             b"master", b"health", b"online"]]] for name in self.names
        ]  # fmt: skip


class ModelNode:
    """A StreamHandler: one connection to one node."""

    def __init__(self, truth: Truth, name: str) -> None:
        self.truth = truth
        self.name = name
        self.parser = Parser()
        self.stream = None
        self.asking = False
        self.queued: list[list[bytes]] | None = None
        self.dirty = False
        self.watched: dict[bytes, tuple[bytes | None, int]] = {}

    def on_open(self, stream) -> None:
        self.stream = stream

    def on_close(self, error) -> None:
        self.stream = None

    def on_data(self, data: bytes) -> None:
        for argv in self.parser.feed(data):
            reply = self.run(argv)
            if self.stream is not None:
                self.stream.write(reply)

    def run(self, argv: list[bytes]) -> bytes:
        word = argv[0].upper()
        if word == b"PING":
            return b"+PONG\r\n"
        if word == b"CLUSTER":
            return encode(self.truth.shards(self.truth.dice.randrange(3)), 2)
        if word == b"ASKING":
            self.asking = True
            return OK.wire
        if word == b"MULTI":
            self.queued = []
            self.dirty = False
            return OK.wire
        if word == b"EXEC":
            return self.exec()
        asking = self.asking
        if self.queued is None:
            self.asking = False
        error = self.truth.refusal(self.name, keys_of(argv), asking)
        if error:
            self.dirty = True
            return error_line(error)
        if word == b"WATCH":
            for key in argv[1:]:
                self.watched.setdefault(key, self.seen(key))
            return OK.wire
        if self.queued is not None:
            self.queued.append(argv)
            return QUEUED.wire
        return encode(self.execute(argv), 2)

    def exec(self) -> bytes:
        queued, self.queued = self.queued, None
        asking, self.asking = self.asking, False
        assert queued is not None, "EXEC without MULTI must not reach a node"
        watched, self.watched = self.watched, {}
        if self.dirty:
            return error_line("EXECABORT Transaction discarded because of previous errors.")
        keys = [key for argv in queued for key in keys_of(argv)]
        error = self.truth.refusal(self.name, keys, asking)
        if error:
            return error_line(error)
        if any(self.seen(key) != before for key, before in watched.items()):
            return b"*-1\r\n"
        return b"*%d\r\n" % len(queued) + b"".join(encode(self.execute(argv), 2) for argv in queued)

    def seen(self, key: bytes) -> tuple[bytes | None, int]:
        return self.truth.values.get(key), self.truth.moves.get(slot_of(key), 0)

    def execute(self, argv: list[bytes]) -> object:
        truth = self.truth
        truth.executed += 1
        word = argv[0].upper()
        if word == b"APPEND":
            truth.values[argv[1]] = truth.values.get(argv[1], b"") + argv[2]
            slot = slot_of(argv[1])
            if slot in truth.moving and truth.owner[slot] != self.name:
                truth.moving[slot][1].add(argv[1])
            return len(truth.values[argv[1]])
        if word == b"GET":
            return argv[1] + b"=" + truth.values.get(argv[1], b"")
        assert word == b"MGET", argv
        return [key + b"=" + truth.values.get(key, b"") for key in argv[1:]]


def keys_of(argv: list[bytes]) -> list[bytes]:
    word = argv[0].upper()
    if word in (b"APPEND", b"GET"):
        return argv[1:2]
    return argv[1:] if word in (b"MGET", b"WATCH") else []
