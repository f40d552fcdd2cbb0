"""The patterns of docs/examples, each with what it is for: limits hold, locks exclude, nothing is lost with a worker.

The patterns run in threads on a follower of a group of three, the programs on a lone node. Replies get lost, the leader
and whole groups are killed where a pattern says that it copes.
"""

from __future__ import annotations

import runpy
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from docs.examples.python.early_recompute import EarlyCache
from docs.examples.python.fixed_window import FixedWindow
from docs.examples.python.list_queue import ListQueue
from docs.examples.python.lock import Lock
from docs.examples.python.redlock import Redlock
from docs.examples.python.session_hash import Sessions
from docs.examples.python.sliding_window import SlidingWindow
from docs.examples.python.stampede_mutex import Cache
from docs.examples.python.stream_queue import StreamQueue
from docs.examples.python.token_bucket import TokenBucket
from tests.conformance import test_ioredis
from tests.conformance.conftest import eventually
from tests.live.group import Group, free_ports

_EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
_T = TypeVar("_T")
_UNKNOWN = b"-UNKNOWN the leader was lost with the request in flight; outcome unknown\r\n"

ioredis_home = test_ioredis.ioredis

# What every main prints, in Python and (but for the capitals of true) in JavaScript.
PRINTS = {
    "fixed_window": ["allowed 3 of 5"],
    "sliding_window": ["allowed 3 of 5", "asked again: allowed"],
    "token_bucket": ["taken 3 of 5", "the next in about 10 s"],
    "session_hash": ["user ann", "code 1 time", "after log-out 0 fields"],
    "list_queue": [
        "first worker takes job-1 and dies", "given back 1", "second worker ran job-1", "second worker ran job-2",
    ],
    "stream_queue": ["first takes 2 and dies", "second claims 2", "second reads 1"],
    "lock": [
        "first holds fence 1", "second waits: true", "second cannot release: true", "first releases: true",
        "second holds fence 3",
    ],
    "redlock": ["first holds: true", "second waits: true", "released in 3 groups", "second holds: true"],
    "stampede_mutex": ["values true", "computed 1 time"],
    "early_recompute": ["computed first", "cached first", "renewed second"],
}  # fmt: skip


def connect(port: int, **options: Any) -> Any:
    """A client as the examples make theirs: no retries of its own."""
    options = {"decode_responses": True, "protocol": 2, "socket_timeout": 10, **options}
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0), **options)


def together(count: int, act: Callable[[int], _T]) -> list[_T]:
    """What ``act`` gives in ``count`` threads that begin at the same moment; a failure in one fails the test."""
    gate = threading.Barrier(count)
    results: list[_T] = []
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            gate.wait(10)
            results.append(act(number))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    if failures:
        raise failures[0]
    assert len(results) == count, "a thread is stuck"
    return results


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """Not the one other tests share, since its leader gets killed."""
    with Group(tmp_path_factory.mktemp("examples")) as group:
        yield group


@pytest.fixture
def r(group: Group) -> Iterator[Any]:
    """A client of a follower."""
    leader = group.leader()
    with connect(next(node for node in group.nodes if node is not leader).port) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="module")
def sites(alone: Group, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Group]]:
    """Three groups of one node each that know nothing of each other; only the first two may be killed."""
    with ExitStack() as stack:
        yield [*(stack.enter_context(Group(tmp_path_factory.mktemp(f"site{i}"), 1)) for i in range(2)), alone]


class LossyLink:
    """Passes bytes on to a server until told to lose an EXEC: its reply, or the whole transaction before it arrives."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.lose = ""
        self.lost = 0
        (self.port,) = free_ports(1)
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> LossyLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One client; a small transaction arrives in one read."""
        with client, socket.create_connection(("127.0.0.1", self.target), 5) as server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    reply = server.recv(65536)
                    client.sendall(reply)
                    if not reply:
                        return
                if client in ready:
                    request = client.recv(65536)
                    if not request:
                        return
                    if self.lose and b"EXEC" in request.upper():
                        break
                    server.sendall(request)
            if self.lose == "reply":
                server.sendall(request)
                reply = b""
                while b"\r\n*2\r\n" not in reply:
                    reply += server.recv(65536)
            self.lose = ""
            self.lost += 1
            client.sendall(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n" + _UNKNOWN)


# ---- Rate limits ------------------------------------------------------------------------------------------------


def test_fixed_window(r: Any) -> None:
    limiter = FixedWindow(r, limit=25, window_s=30)
    allowed = together(5, lambda _: sum(limiter.allow("ann") for _ in range(10)))
    assert sum(allowed) == 25
    assert 0 < r.ttl("window:ann") <= 30
    assert limiter.allow("bob")
    short = FixedWindow(r, limit=1, window_s=1)
    assert [short.allow("eve") for _ in range(3)] == [True, False, False]
    eventually(lambda: not r.exists("window:eve"), "the window ends, although requests went on")
    assert short.allow("eve")


def test_sliding_window(r: Any) -> None:
    limiter = SlidingWindow(r, limit=25, window_ms=30_000)
    assert sum(together(5, lambda _: sum(limiter.allow("ann") for _ in range(10)))) == 25
    assert r.zcard("sliding:ann") == 25
    again = SlidingWindow(r, limit=2, window_ms=30_000)
    assert [again.allow("bob", request) for request in ("a", "a", "a", "b", "c", "a")] == [True] * 4 + [False, True]
    window_ms = 300
    moving = SlidingWindow(r, limit=2, window_ms=window_ms)
    admitted: list[tuple[float, float]] = []
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        before = time.monotonic()
        if moving.allow("eve"):
            admitted.append((before, time.monotonic()))
        time.sleep(0.01)
    assert 4 <= len(admitted) <= 8
    for (before, _), (_, after) in zip(admitted, admitted[2:], strict=False):
        assert after - before >= window_ms / 1000


def test_token_bucket(r: Any) -> None:
    bucket = TokenBucket(r, capacity=20, rate_per_s=0.01)
    waits_ms = [wait for some in together(4, lambda _: [bucket.take("ann") for _ in range(10)]) for wait in some]
    assert waits_ms.count(0) == 20
    assert all(90_000 < wait <= 100_000 for wait in waits_ms if wait)
    quick = TokenBucket(r, capacity=2, rate_per_s=4)
    assert quick.take("bob", 2) == 0
    wait_ms = quick.take("bob")
    assert 0 < wait_ms <= 250
    time.sleep(wait_ms / 1000)
    assert quick.take("bob") == 0 and quick.take("bob") > 0
    with pytest.raises(ValueError, match="at most 2"):
        quick.take("bob", 3)


# ---- Sessions ---------------------------------------------------------------------------------------------------


def test_session(r: Any) -> None:
    sessions = Sessions(r, idle_s=100)
    sessions.start("s1", "ann", theme="dark")
    assert sessions.read("s1") == {"user": "ann", "theme": "dark"}
    sessions.give_code("s1", "4711", valid_ms=60_000)
    assert together(4, lambda _: sessions.use_code("s1", "4711")).count(True) == 1
    sessions.give_code("s1", "4711", valid_ms=60_000)
    assert not sessions.use_code("s1", "4712") and not sessions.use_code("s1", "4711")
    sessions.give_code("s1", "4711", valid_ms=100)
    assert sessions.read("s1")["code"] == "4711"
    eventually(lambda: "code" not in sessions.read("s1"), "the code expires")
    assert sessions.read("s1") == {"user": "ann", "theme": "dark"} and not sessions.use_code("s1", "4711")
    r.expire("session:s1", 60)
    sessions.read("s1")
    assert r.ttl("session:s1") <= 60
    r.expire("session:s1", 40)
    sessions.read("s1")
    assert r.ttl("session:s1") > 90
    sessions.end("s1")
    assert sessions.read("s1") == {}
    sessions.give_code("s1", "4711", valid_ms=60_000)
    assert sessions.read("s1") == {}
    Sessions(r, idle_s=1).start("s2", "bob")
    eventually(lambda: not r.exists("session:s2"), "an idle session ends")


# ---- Queues -----------------------------------------------------------------------------------------------------


def test_list_queue(r: Any) -> None:
    queue = ListQueue(r, "jobs")
    for number in range(40):
        queue.put(f"job-{number}")
    assert [queue.take("dead") for _ in range(3)] == ["job-0", "job-1", "job-2"]
    queue.done("dead", "job-1")
    assert queue.recover("dead") == 2 and queue.recover("dead") == 0
    assert queue.take("w") == "job-0" and queue.recover("w") == 1

    def work(number: int) -> list[str]:
        jobs = []
        while job := queue.take(f"w{number}"):
            jobs.append(job)
            queue.done(f"w{number}", job)
        return jobs

    ran = [job for jobs in together(4, work) for job in jobs]
    assert sorted(ran) == sorted(f"job-{number}" for number in range(40) if number != 1)
    assert r.keys("*") == []
    queue.put("last")
    assert queue.pop() == "last"


def test_a_wait_that_is_cut_short_loses_no_job(alone: Group) -> None:
    taken: list[str | None] = []
    port = alone.nodes[0].port
    with connect(port) as r, connect(port, client_name="waits") as other:
        queue = ListQueue(r, "short")
        waiter = threading.Thread(target=lambda: taken.append(ListQueue(other, "short").take("w", 8)), daemon=True)
        waiter.start()

        def cut() -> bool:
            ids = [client["id"] for client in r.client_list() if client["name"] == "waits"]
            return bool(ids) and r.client_unblock(int(ids[0]), error=True) == 1

        eventually(cut, "the wait is cut short")
        waiter.join(5)
        assert taken == [None]
        queue.put("job")
        assert queue.take("w") == "job"


def test_stream_queue(r: Any) -> None:
    queue = StreamQueue(r, "orders", "workers")
    StreamQueue(r, "orders", "workers")
    ids = [queue.add(order=str(number)) for number in range(40)]
    held = queue.read("dead", count=25)
    assert [entry_id for entry_id, _ in held] == ids[:25]
    assert queue.claim("w", idle_ms=60_000) == []
    assert queue.done(ids[0])
    claimed = queue.claim("w", idle_ms=0, count=10)
    assert claimed == held[1:11]
    eventually(lambda: r.xpending_range("orders", "workers", "-", "+", 1, "dead", 100) != [], "idle for 100 ms")

    def work(number: int) -> list[str]:
        name, ran = f"w{number}", []
        while jobs := queue.read(name, count=2, block_ms=1) or queue.claim(name, idle_ms=100, count=2):
            ran += [entry_id for entry_id, _ in jobs if queue.done(entry_id)]
        return ran

    time.sleep(0.15)
    ran = [entry_id for some in together(4, work) for entry_id in some]
    assert sorted(ran) == sorted(ids[1:])
    assert not queue.done(ids[5])
    assert r.xlen("orders") == 0 and r.xpending("orders", "workers")["pending"] == 0


# ---- Locks ------------------------------------------------------------------------------------------------------


def test_lock_excludes(r: Any) -> None:
    inside: list[int] = []
    fences: list[int] = []

    def work(number: int) -> int:
        for _ in range(5):
            lock = Lock(r, "report", ttl_ms=20_000)
            while not (fence := lock.acquire()):
                time.sleep(0.005)
            inside.append(number)
            assert inside == [number]
            fences.append(fence)
            time.sleep(0.002)
            assert inside == [number]
            inside.clear()
            assert lock.release()
        return 5

    assert sum(together(4, work)) == len(fences) == 20
    assert fences == sorted(set(fences))
    assert r.get("lock:{report}") is None


def test_lock_that_ran_out(r: Any) -> None:
    first, second = Lock(r, "report", ttl_ms=60), Lock(r, "report", ttl_ms=20_000)
    old = first.acquire()
    new = 0

    def passed_on() -> bool:
        nonlocal new
        new = second.acquire()
        return new > 0

    eventually(passed_on, "the first runs out")
    assert new > old > 0
    assert not first.release()
    assert r.get("lock:{report}") == second.token
    assert second.release() and not second.release()


@pytest.mark.parametrize("lose", ["reply", "request"])
def test_lock_whose_outcome_is_unknown(r: Any, lose: str) -> None:
    with LossyLink(r.get_connection_kwargs()["port"]) as link, connect(link.port) as client:
        link.lose = lose
        lock = Lock(client, "report", ttl_ms=20_000)
        fence = lock.acquire()
        assert link.lost == 1
        assert (fence, r.get("lock:{report}")) == ((1, lock.token) if lose == "reply" else (0, None))
        assert Lock(r, "report", ttl_ms=20_000).acquire() == (0 if lose == "reply" else 1)
        assert lock.release() == (lose == "reply")


def test_lock_over_the_death_of_the_leader(r: Any, group: Group) -> None:
    holder = Lock(r, "report", ttl_ms=60_000)
    assert holder.acquire() == 1
    leader = group.leader()
    leader.kill()
    answers: list[int] = []

    def ask() -> bool:
        try:
            answers.append(Lock(r, "report", ttl_ms=60_000).acquire())
        except redis.RedisError:
            return False
        return True

    try:
        eventually(ask, "the group answers again")
        assert answers == [0]
        assert r.get("lock:{report}") == holder.token and holder.release()
        assert Lock(r, "report", ttl_ms=60_000).acquire() > 1
    finally:
        leader.start()


def test_redlock(sites: list[Group]) -> None:
    groups = [connect(site.nodes[0].port, socket_timeout=2, socket_connect_timeout=1) for site in sites]
    inside: list[int] = []

    def work(number: int) -> int:
        for _ in range(3):
            lock = Redlock(groups, "invoice", ttl_ms=20_000)
            while not (valid_ms := lock.acquire()):
                time.sleep(0.002 + 0.004 * number)
            assert 0 < valid_ms < 20_000
            inside.append(number)
            time.sleep(0.002)
            assert inside == [number]
            inside.clear()
            assert lock.release() >= 2
        return 3

    assert sum(together(3, work)) == 9
    assert [group.exists("redlock:invoice") for group in groups] == [0, 0, 0]
    try:
        sites[0].nodes[0].kill()
        lock, rival = (Redlock(groups, "invoice", ttl_ms=20_000) for _ in range(2))
        assert lock.acquire() > 0 and rival.acquire() == 0
        sites[1].nodes[0].kill()
        assert lock.release() == 1
        assert rival.acquire() == 0
        assert groups[2].exists("redlock:invoice") == 0, "an attempt that failed keeps nothing"
    finally:
        killed = [site for site in sites if site.nodes[0].process is None]
        for site in killed:
            site.nodes[0].start()
        for site in killed:
            site.leader()
    assert groups[1].get("redlock:invoice") == lock.token, "a group that comes back has not forgotten its vote"
    for group in groups:
        group.flushall()
        group.close()


# ---- Caches -----------------------------------------------------------------------------------------------------


def test_stampede_mutex(r: Any) -> None:
    cache = Cache(r, ttl_s=60, mutex_ms=20_000)
    calls: list[int] = []

    def compute() -> str:
        calls.append(1)
        time.sleep(0.1)
        return f"value {len(calls)}"

    assert together(6, lambda _: cache.get("page", compute)) == ["value 1"] * 6
    assert len(calls) == 1 and 0 < r.ttl("page") <= 60
    assert r.exists("mutex:{page}") == 0

    def fail() -> str:
        raise LookupError("the source is down")

    r.delete("page")
    with pytest.raises(LookupError):
        cache.get("page", fail)
    assert cache.get("page", compute) == "value 2"
    r.delete("page")
    r.set("mutex:{page}", "of one that died", px=150)
    assert cache.get("page", compute) == "value 3"


def test_early_recompute(r: Any) -> None:
    now_s, dice = [1000.0], [0.0]
    cache = EarlyCache(r, ttl_s=100, dice=lambda: dice[0], clock=lambda: now_s[0])
    versions: list[int] = []

    def compute() -> str:
        now_s[0] += 2
        versions.append(1)
        return f"v{len(versions)}"

    assert cache.get("top", compute) == "v1"  # cost 2 s, deadline 1102
    dice[0] = 0.99  # 2 s * -ln 0.01 = 9.2 s early
    now_s[0] = 1092.0
    assert cache.get("top", compute) == "v1"
    now_s[0] = 1093.0
    dice[0] = 0.5
    assert cache.get("top", compute) == "v1"
    dice[0] = 0.99
    assert cache.get("top", compute) == "v2"
    assert cache.get("top", compute) == "v2" and len(versions) == 2
    now_s[0] = 1195.0
    dice[0] = 0.0
    assert cache.get("top", compute) == "v3"
    assert 90_000 < r.pttl("top") <= 100_000


# ---- The programs themselves ------------------------------------------------------------------------------------


def ports_for(name: str, request: pytest.FixtureRequest) -> list[str]:
    """The arguments one program takes: a node, for Redlock three."""
    groups = request.getfixturevalue("sites") if name == "redlock" else [request.getfixturevalue("alone")]
    with connect(groups[0].nodes[0].port) as client:
        client.flushall()
    return [part for group in groups for part in ("--port", str(group.nodes[0].port))]


@pytest.mark.parametrize("name", PRINTS)
def test_python_program(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _EXAMPLES / "python" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [path.name, *ports_for(name, request)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.lower().splitlines() == [line.lower() for line in PRINTS[name]]


def test_every_program_is_run() -> None:
    assert {path.stem for path in (_EXAMPLES / "python").glob("*.py")} == PRINTS.keys()
    assert {path.stem for path in (_EXAMPLES / "node").glob("*.mjs")} == PRINTS.keys()
    table = (_EXAMPLES / "README.md").read_text()
    for name in PRINTS:
        assert f"python/{name}.py" in table and f"node/{name}.mjs" in table


@pytest.fixture(scope="module")
def programs(ioredis_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript programs beside the pinned ioredis, as after ``npm install`` in their own directory."""
    directory = tmp_path_factory.mktemp("node")
    shutil.copytree(_EXAMPLES / "node", directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    (directory / "node_modules").symlink_to(ioredis_home / "node_modules")
    return directory


def node_prints(programs: Path, name: str, arguments: list[str]) -> list[str]:
    """The lines a JavaScript program prints; it must end well and complain about nothing."""
    run = subprocess.run(
        ["node", f"{name}.mjs", *arguments], cwd=programs, capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()


@pytest.mark.parametrize("name", PRINTS)
def test_node_program(name: str, request: pytest.FixtureRequest, programs: Path) -> None:
    assert node_prints(programs, name, ports_for(name, request)) == PRINTS[name]


def test_node_lock_whose_outcome_is_unknown(alone: Group, programs: Path) -> None:
    with LossyLink(alone.nodes[0].port) as link:
        link.lose = "reply"
        assert node_prints(programs, "lock", ["--port", str(link.port)]) == PRINTS["lock"]
        assert link.lost == 1
