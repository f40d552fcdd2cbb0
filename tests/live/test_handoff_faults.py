"""Slots move between real groups all the time while their leaders are killed, stopped and cut off; a history judges.

Clients append to lists and read them, alone, in scripts and in transactions; what they saw has to be strictly
serializable. ``DURAKV_FAULT_SECONDS`` sets how long the faults last. Run with ``-s`` for the summary.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from durakv.keyspace.slots import SLOTS, slot_of
from jstyle.checkers import elle_append
from jstyle.checkers.verdict import TRUE
from jstyle.history.op import INFO, INVOKE, OK, Op
from tests.live.islands import Archipelago, Island, can_cut
from tests.live.test_shards import wait

pytestmark = [pytest.mark.live, pytest.mark.slow]

SECONDS = float(os.environ.get("DURAKV_FAULT_SECONDS", "15"))
GROUPS: Final = 3
REGIONS: Final = 9
CLIENTS: Final = 6
STATIC_KEYS: Final = 900
APPENDS_EACH: Final = 40
FAILURES: Final = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)
FINAL: Final = (b"success", b"failed", b"cancelled")
TXN: Final = """local out = {}
for i = 1, #KEYS do
  if ARGV[i] == '' then out[i] = redis.call('LRANGE', KEYS[i], 0, -1) else redis.call('RPUSH', KEYS[i], ARGV[i]) end
  out[i] = out[i] or false
end
return out"""
IOREDIS: Final = Path(__file__).parents[2] / "build" / "ioredis"
LOAD: Final = Path(__file__).with_name("handoff_load.mjs")

Micros = list[list[Any]]


def regions() -> list[tuple[int, int]]:
    """Parts of the slots that move as wholes: first and last slot."""
    return [(SLOTS * n // REGIONS, SLOTS * (n + 1) // REGIONS - 1) for n in range(REGIONS)]


def tags() -> list[str]:
    """A hash tag in each region."""
    found: dict[int, str] = {}
    n = 0
    while len(found) < REGIONS:
        found.setdefault(slot_of(b"%d" % n) * REGIONS // SLOTS, str(n))
        n += 1
    return [found[n] for n in range(REGIONS)]


class Recorder:
    """The history, in the order in which things began and ended."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.errors: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, process: int, kind: str, value: Micros) -> None:
        with self._lock:
            self.ops.append(Op(len(self.ops), time.monotonic_ns(), process, kind, "txn", value))

    def failed(self, error: BaseException) -> None:
        with self._lock:
            self.errors[f"{type(error).__name__}: {str(error).split(' ', 1)[0]}"] += 1


class Clients:
    """Threads that append and read; each thing is sent once, and what fails may have happened.

    ``tries``: how often a transaction is sent again; redis-py follows MOVED in none otherwise.
    """

    def __init__(self, made: Archipelago, *, tries: int = 0) -> None:
        self.made = made
        self.tries = tries
        self.recorder = Recorder()
        self.going = True
        self.tags = tags()
        self._lock = threading.Lock()
        self._appends = 0
        self._process = 0
        self.keys: dict[str, None] = {}
        self.broken: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _new_process(self) -> int:
        with self._lock:
            self._process += 1
            return self._process

    def _plan(self, rng: random.Random) -> Micros:
        tag = rng.choice(self.tags)
        out: Micros = []
        names = rng.sample("abc", rng.choice((1, 1, 2, 3)))
        for name in names:
            with self._lock:
                key = f"{{{tag}}}:{self._appends // (APPENDS_EACH * 3 * REGIONS)}:{name}"
                if rng.random() < 0.5:
                    self._appends += 1
                    self.keys[key] = None
                    out.append(["append", key, self._appends])
                else:
                    out.append(["r", key, None])
        return out

    def _run(self, number: int) -> None:
        try:
            self._work(random.Random(number), 0 if number % 2 else 5)
        except BaseException as error:
            self.broken.append(error)
            raise

    def _work(self, rng: random.Random, slots_again: int) -> None:
        client = self._connected(0, slots_again)
        transactor = client if self.tries == 0 else self._connected(self.tries, slots_again)
        process = self._new_process()
        while self.going:
            asked = self._plan(rng)
            self.recorder.add(process, INVOKE, asked)
            try:
                done = carried_out(client, transactor, asked, rng)
            except FAILURES as error:
                self.recorder.failed(error)
                self.recorder.add(process, INFO, asked)
                process = self._new_process()
                time.sleep(0.02)
            else:
                self.recorder.add(process, OK, done)

    def _connected(self, tries: int, slots_again: int) -> Any:
        while True:
            with suppress(*FAILURES):
                return self.made.client(tries=tries, slots_again=slots_again)
            time.sleep(0.1)

    def finish(self) -> None:
        self.going = False
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.broken, self.broken

    def read_all(self) -> int:
        """The end of the history; how many keys there are."""
        client = self.made.client(tries=20)
        process = self._new_process()
        there = 0
        for key in self.keys:
            self.recorder.add(process, INVOKE, [["r", key, None]])
            found = numbers(client.lrange(key, 0, -1))
            there += bool(found)
            self.recorder.add(process, OK, [["r", key, found]])
        return there


def numbers(found: Any) -> list[int]:
    return [int(item) for item in found]


def carried_out(client: Any, transactor: Any, asked: Micros, rng: random.Random) -> Micros:
    """The same with what was read: by a plain command where one will do, by a script, or by a transaction."""
    if len(asked) == 1 and rng.random() < 0.7:
        ((what, key, value),) = asked
        if what == "append":
            client.rpush(key, value)
            return asked
        return [[what, key, numbers(client.lrange(key, 0, -1))]]
    if rng.random() < 0.25:
        with transactor.pipeline(transaction=True) as queue:
            for what, key, value in asked:
                if what == "append":
                    queue.rpush(key, value)
                else:
                    queue.lrange(key, 0, -1)
            replies = queue.execute()
    else:
        words = ["" if what == "r" else value for what, _, value in asked]
        replies = client.eval(TXN, len(asked), *[key for _, key, _ in asked], *words)
    assert len(replies) == len(asked)
    return [
        [what, key, numbers(reply) if what == "r" else value]
        for (what, key, value), reply in zip(asked, replies, strict=True)
    ]


class Movers:
    """Two threads that order moves, each of regions of its own, and sometimes cancel them."""

    def __init__(self, made: Archipelago, *, pause_s: float = 0.0) -> None:
        self.made = made
        self.pause_s = pause_s
        self.going = True
        # Groups between which a move was ordered last, by thread.
        self.pairs: dict[int, tuple[int, int]] = {}
        self.orders: Counter[str] = Counter()
        self.broken: list[BaseException] = []
        self.names = {group: made.leader(group).ask("CLUSTER MYID").decode() for group in made.groups}
        self.places = {(node.host, node.port): node for node in made.islands()}
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(2)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        rng = random.Random(100 + number)
        try:
            while self.going:
                try:
                    self._move(number, rng)
                except FAILURES as error:
                    self.orders["refused: " + " ".join(str(error).split()[:2])] += 1
                    time.sleep(0.1)
                time.sleep(self.pause_s)
        except BaseException as error:
            self.broken.append(error)
            raise

    def _move(self, number: int, rng: random.Random) -> None:
        first, last = rng.choice(regions()[number::2])
        source = leader_of(self.places, rng.choice(self.made.islands()), first)
        target = rng.choice([group for group in self.made.groups if group != source.group])
        self.pairs[number] = (source.group, target)
        source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", self.names[target])
        self.orders["ordered"] += 1
        if rng.random() < 0.1:
            time.sleep(rng.random() * 0.1)
            source.ask("CLUSTER", "CANCELSLOTMIGRATIONS")
            self.orders["cancelled"] += 1
        until = time.monotonic() + 3
        while self.going and time.monotonic() < until:
            if not any(row[b"slot_ranges"] == b"%d-%d" % (first, last) for row in ongoing(source)):
                return
            time.sleep(0.02)

    def finish(self) -> None:
        self.going = False
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.broken, self.broken


def leader_of(places: dict[tuple[str, int], Island], asked: Island, slot: int) -> Island:
    """The node that leads the slot's owner, as ``asked`` knows it."""
    for run in asked.ask("CLUSTER SLOTS"):
        if run[0] <= slot <= run[1]:
            return places[(run[2][0].decode(), run[2][1])]
    raise redis.RedisError("no owner is known")


def ongoing(node: Island) -> list[dict[bytes, Any]]:
    return [row for row in node.ask("CLUSTER GETSLOTMIGRATIONS") if row[b"state"] not in FINAL]


class Faults:
    """Strikes the leaders of both sides of a move, one or both at once."""

    def __init__(self, made: Archipelago, movers: Movers, kinds: list[str]) -> None:
        self.made = made
        self.movers = movers
        self.kinds = kinds
        self.counts: Counter[str] = Counter()
        self.rng = random.Random(7)

    def strike(self, seconds: float) -> None:
        """Until so long from now; all is mended at the end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pair = self.rng.choice(list(self.movers.pairs.values()) or [(1, 2)])
            hit = self.rng.choice(((0,), (1,), (0, 1)))
            hurt: list[tuple[Island, str]] = []
            try:
                for side in hit:
                    with suppress(AssertionError):
                        victim = self.made.leader(pair[side], 3.0)
                        kind = self.rng.choice(self.kinds)
                        self._hurt(victim, kind)
                        hurt.append((victim, kind))
                        self.counts[f"{kind} of {('source', 'target')[side]}"] += 1
                time.sleep(self.rng.uniform(0.2, 2.5))
            finally:
                for victim, kind in hurt:
                    self.made.mend(victim, kind)
            time.sleep(self.rng.uniform(0.2, 2.0))

    def _hurt(self, victim: Island, kind: str) -> None:
        if kind == "kill":
            victim.kill()
        elif kind == "stop":
            victim.send(signal.SIGSTOP)
        else:
            victim.cut()


# -- what must hold in the end ----------------------------------------------------------------------------------------


def fill(made: Archipelago) -> None:
    client = made.client(tries=20)
    for n in range(STATIC_KEYS):
        assert client.set(f"static:{n}", n)


def ended(made: Archipelago) -> dict[bytes, tuple[bytes, bytes]]:
    """Waits until no migration is under way; by name: how it ended for its source and for its target."""
    deadline = time.monotonic() + 60
    while rows := [row for group in made.groups for row in ongoing(made.leader(group))]:
        logs = "".join(node.log_text()[-1500:] for node in made.islands())
        assert time.monotonic() < deadline, f"these go on: {rows}\n{logs}"
        time.sleep(0.2)
    out: dict[bytes, tuple[bytes, bytes]] = {}
    for group in made.groups:
        for row in made.leader(group).ask("CLUSTER GETSLOTMIGRATIONS"):
            source, target = out.get(row[b"name"], (b"", b""))
            if row[b"operation"] == b"EXPORT":
                out[row[b"name"]] = (row[b"state"], target)
            else:
                out[row[b"name"]] = (source, row[b"state"])
    return out


def table(made: Archipelago, node: Island) -> list[int]:
    """The group that owns each slot, as the node says; 0: nobody, -1: two."""
    groups = {(each.host, each.port): each.group for each in made.islands()}
    out = [0] * SLOTS
    for first, last, leader, *_ in node.ask("CLUSTER SLOTS"):
        for slot in range(first, last + 1):
            out[slot] = -1 if out[slot] else groups[(leader[0].decode(), leader[1])]
    return out


def one_owner_each(made: Archipelago) -> None:
    """Every node names the same owner for each slot, and that one serves while the others send clients to it."""

    def agree() -> bool:
        tables = [table(made, node) for node in made.islands()]
        return min(tables[0]) > 0 and all(each == tables[0] for each in tables)

    wait(agree, 30)
    owners = table(made, made.leader(1))
    for tag in tags():
        serving = []
        for group in made.groups:
            with suppress(redis.exceptions.MovedError):
                made.leader(group).ask("GET", f"{{{tag}}}:nothing")
                serving.append(group)
        assert serving == [owners[slot_of(tag.encode())]]


def nothing_lost(made: Archipelago, lists: int) -> None:
    client = made.client(tries=20)
    for n in range(STATIC_KEYS):
        assert client.get(f"static:{n}") == b"%d" % n
    wait(lambda: sum(made.leader(group).ask("DBSIZE") for group in made.groups) == STATIC_KEYS + lists, 10)


def no_alarm(made: Archipelago) -> None:
    for node in made.islands():
        for line in node.log_text().splitlines():
            assert "slots-alarm" not in line and "Traceback" not in line, node.log_text()[-4000:]


def summary(clients: Clients, movers: Movers, faults: Counter[str], moves: Counter[bytes], valid: str) -> str:
    kinds = Counter(op.type for op in clients.recorder.ops)
    ends = {name.decode(): count for name, count in moves.items()}
    return "\n".join(
        [
            f"operations: {kinds[INVOKE]} began, {kinds[OK]} done, {kinds[INFO]} unknown",
            f"moves: {dict(movers.orders)}; ended as {ends}",
            f"faults: {dict(sorted(faults.items()))}",
            f"errors seen by clients: {dict(clients.recorder.errors.most_common(12))}",
            f"strict serializability: {valid}",
        ]
    )


@pytest.mark.timeout(180 + 3 * SECONDS)
def test_nothing_is_lost_or_doubled_while_leaders_of_both_sides_are_struck(tmp_path: Path) -> None:
    cuts = can_cut()
    kinds = ["kill", "stop", *(["cut"] if cuts else [])]
    with Archipelago(tmp_path, GROUPS, 3, cuts=cuts) as made:
        fill(made)
        clients = Clients(made)
        movers = Movers(made)
        faults = Faults(made, movers, kinds)
        faults.strike(SECONDS)
        movers.finish()
        clients.finish()
        made.settle()
        began = time.monotonic()
        moves = ended(made)
        waited_s = time.monotonic() - began
        lists = clients.read_all()
        verdict = elle_append.check(clients.recorder.ops, {"models": ["strict-serializable"]})
        ends = Counter(source for source, _ in moves.values())
        text = summary(clients, movers, faults.counts, ends, verdict.valid)
        print(
            f"\n{text}\nmoves under way at the end were over after {waited_s:.1f} s"
            + ("" if cuts else "\nnothing was cut off: that takes root, ip and nft")
        )
        assert verdict.valid == TRUE, [anomaly.text for anomaly in verdict.anomalies[:5]]
        one_owner_each(made)
        nothing_lost(made, lists)
        no_alarm(made)
        for mid, (source, target) in moves.items():
            # A target that never heard of a migration has no row of it.
            assert source in FINAL, (mid, source, target)
            assert target in ({b"success"} if source == b"success" else {b"", b"failed", b"cancelled"}), (mid, source)
        assert ends[b"success"] >= SECONDS / 10, text
        assert len(faults.counts) >= 2, text


class Follower:
    """A client program in another process that counts what it did and what failed; ended by closing its input."""

    def __init__(self, made: Archipelago, names: list[str]) -> None:
        nodes = [f"{node.host}:{node.port}" for node in made.islands()]
        self.process = subprocess.Popen(
            ["node", str(LOAD), ",".join(names), *nodes], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "IOREDIS_HOME": str(IOREDIS)},
        )  # fmt: skip

    def finish(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=30)
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.mark.timeout(180)
def test_clients_see_no_error_while_slots_move_and_nothing_fails(tmp_path: Path) -> None:
    with Archipelago(tmp_path, GROUPS, 1, cuts=False) as made:
        fill(made)
        clients = Clients(made, tries=3)
        follower = Follower(made, tags()) if (IOREDIS / "node_modules" / "ioredis").exists() else None
        movers = Movers(made)
        time.sleep(min(SECONDS, 10.0))
        movers.finish()
        clients.finish()
        told = None if follower is None else follower.finish()
        moves = ended(made)
        verdict = elle_append.check(clients.recorder.ops, {"models": ["strict-serializable"]})
        ends = Counter(source for source, _ in moves.values())
        print("\n" + summary(clients, movers, Counter(), ends, verdict.valid) + f"\nioredis: {told}")
        assert not clients.recorder.errors
        assert ends[b"success"] >= 3
        assert verdict.valid == TRUE, [anomaly.text for anomaly in verdict.anomalies[:5]]
        if told is not None:
            assert told["errors"] == []
            assert told["wrong"] == 0
            assert told["operations"] > 50
        one_owner_each(made)
        no_alarm(made)
