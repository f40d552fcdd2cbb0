"""Celery, RQ and BullMQ: jobs added and worked off through a follower while the leader is killed.

A job that ran wrote its number to a file of the test. Delivery is at least once, as these frameworks promise: every
number must be there, some may be there twice. A worker that gives up is started again, as a supervisor would.
QUEUE_JOBS says how many jobs; 1000 of RQ's take a minute on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.conformance.conftest import eventually
from tests.live.group import Group, Node

_HERE = Path(__file__).parent / "queues"
_ROOT = Path(__file__).parents[2]
_HOME = _ROOT / "build" / "bullmq"
_OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED", "E403")
JOBS = int(os.environ.get("QUEUE_JOBS", "300"))
BEFORE_KILL = JOBS * 6 // 10
DEADLINE_S = 40.0 + JOBS / 10


def _skip(reason: str, framework: str) -> None:
    print(f"{reason}; untested here: that {framework} works with durakv")
    pytest.skip(f"{reason}; untested here: that {framework} works with durakv")


@pytest.fixture(scope="module")
def bullmq() -> Path:
    """The directory the pinned BullMQ is installed in."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        _skip("node and npm are not installed", "BullMQ")
    assert npm is not None
    pinned = json.loads((_HERE / "package.json").read_text())["dependencies"]["bullmq"]
    installed = _HOME / "node_modules" / "bullmq" / "package.json"
    if installed.exists() and json.loads(installed.read_text())["version"] == pinned:
        return _HOME
    _HOME.mkdir(parents=True, exist_ok=True)
    shutil.copy(_HERE / "package.json", _HOME)
    try:
        run = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline",
             "--fetch-retries", "1", "--fetch-timeout", "20000"],
            cwd=_HOME, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        _skip("npm did not finish within 60 s", "BullMQ")
    if run.returncode != 0 and any(word in run.stderr for word in _OFFLINE):
        _skip("the npm registry cannot be reached", "BullMQ")
    assert run.returncode == 0, run.stdout + run.stderr
    return _HOME


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Group(tmp_path_factory.mktemp("queues")) as group:
        yield group


class Worker:
    """A worker process, started again whenever it ends."""

    def __init__(self, command: list[str], log: Path, **extra: str) -> None:
        self.command = command
        self.env = {**os.environ, "PYTHONPATH": str(_ROOT), **extra}
        self.log = log
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Start it unless it runs."""
        if self.process is None or self.process.poll() is not None:
            self.starts += 1
            assert self.starts < 30, self.log.read_text(errors="replace")[-3000:]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command, env=self.env, cwd=_ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )

    def stop(self) -> None:
        """End it by its pid."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def answers(node: Node) -> bool:
    """Whether a node serves reads."""
    try:
        with node.client() as client:
            client.get("probe")
    except redis.RedisError:
        return False
    return True


class Trial:
    """One framework's jobs. ``endpoint`` is a follower that lives; the leader is killed half way."""

    def __init__(self, group: Group, directory: Path) -> None:
        self.group = group
        # The node an earlier trial killed may still replay its log.
        eventually(lambda: all(map(answers, group.nodes)), "all nodes answer", DEADLINE_S)
        self.leader = group.leader()
        self.endpoint: Node = next(node for node in group.nodes if node is not self.leader)
        self.record = directory / "record"
        self.log = directory / "worker.log"
        self.url = f"redis://127.0.0.1:{self.endpoint.port}/0"

    def done(self) -> set[int]:
        """Numbers of the jobs that ran."""
        return {int(line) for line in self.record.read_text().split()} if self.record.exists() else set()

    def run(self, worker: Worker, add: Callable[[int, int], None], rescue: Callable[[set[int]], None]) -> None:
        """Add, kill, add the rest, and wait until all have run. ``rescue`` is what an operator would do."""
        with self.endpoint.client() as client:
            client.flushall()
        added: list[str] = []

        def produce() -> None:
            add(BEFORE_KILL, JOBS)
            added.append("rest")

        rest = threading.Thread(target=produce, daemon=True)
        try:
            add(0, BEFORE_KILL)
            self._until(worker, lambda: len(self.done()) >= JOBS // 10, "a tenth of the jobs ran", DEADLINE_S)
            assert len(self.done()) < BEFORE_KILL, "the workers were too quick: nothing is left for the kill"
            rest.start()
            self.leader.kill()
            self._until(worker, lambda: not rest.is_alive(), "the rest was added", DEADLINE_S)
            assert added == ["rest"]
            began = time.monotonic()
            while len(self.done()) < JOBS:
                worker.keep()
                assert time.monotonic() - began < DEADLINE_S, self._report(worker)
                time.sleep(0.2)
                if time.monotonic() - began > 4:
                    rescue(self.done())
        finally:
            worker.stop()
            if self.leader.process is None:
                self.leader.start()
        assert self.done() == set(range(JOBS))

    def _until(self, worker: Worker, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            worker.keep()
            assert time.monotonic() < deadline, f"not in time: {what}; {self._report(worker)}"
            time.sleep(0.05)

    def _report(self, worker: Worker) -> str:
        missing = sorted(set(range(JOBS)) - self.done())
        tail = self.log.read_text(errors="replace")[-3000:]
        return f"{len(missing)} jobs have not run: {missing[:20]}; {worker.starts} starts\n{tail}"


def patiently(act: Callable[[], object]) -> None:
    """Again until it is accepted: a job added twice runs twice, which is allowed."""
    for attempt in range(400):
        try:
            act()
        except (redis.RedisError, OSError):
            if attempt == 399:
                raise
            time.sleep(0.05)
        else:
            return


def no_rescue(done: set[int]) -> None:
    """The framework brings back what a lost worker held."""


@pytest.mark.timeout(240)
def test_celery(group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kombu = pytest.importorskip("kombu.exceptions", reason="untested here: that Celery works with durakv")
    trial = Trial(group, tmp_path)
    monkeypatch.setenv("QUEUE_URL", trial.url)
    monkeypatch.setenv("QUEUE_RECORD", str(trial.record))
    from tests.conformance.queues import tasks

    tasks.app.conf.broker_url = trial.url

    def add(first: int, last: int) -> None:
        for number in range(first, last):

            def send(number: int = number) -> None:
                try:
                    tasks.celery_task.apply_async((number,), retry=False)
                except kombu.OperationalError as e:
                    raise redis.ConnectionError(str(e)) from e

            patiently(send)

    lost: set[int] = set()

    def rescue(done: set[int]) -> None:
        # kombu pops a message with BRPOP and notes it as unacknowledged in a second step. A worker that ends between
        # the two loses that message, on any server: at most one each time it was started again.
        with trial.endpoint.client() as client:
            if client.llen("celery") or client.hlen("unacked"):
                return
        missing = set(range(JOBS)) - done - lost
        lost.update(missing)
        assert len(lost) <= worker.starts, f"{sorted(lost)} are gone after {worker.starts} starts"
        for number in missing:
            add(number, number + 1)

    worker = Worker(
        [sys.executable, "-m", "celery", "-A", "tests.conformance.queues.tasks", "worker", "-P", "solo",
         "-l", "WARNING", "--without-gossip", "--without-mingle"],
        trial.log, QUEUE_URL=trial.url, QUEUE_RECORD=str(trial.record),
    )  # fmt: skip
    try:
        trial.run(worker, add, rescue)
    finally:
        tasks.app.close()


@pytest.mark.timeout(240)
def test_rq(group: Group, tmp_path: Path) -> None:
    rq = pytest.importorskip("rq", reason="untested here: that RQ works with durakv")
    trial = Trial(group, tmp_path)
    with trial.endpoint.client() as client:
        queue = rq.Queue("conformance", connection=client)

        def add(first: int, last: int) -> None:
            for number in range(first, last):

                def enqueue(number: int = number) -> None:
                    queue.enqueue("tests.conformance.queues.tasks.record", number, job_id=f"n{number}")

                patiently(enqueue)

        def rescue(done: set[int]) -> None:
            # A job whose worker ended between taking and running it waits here for RQ's hourly maintenance.
            def requeue() -> None:
                for name in queue.intermediate_queue.get_job_ids() + queue.started_job_registry.get_job_ids():
                    if int(name[1:]) not in done:
                        queue.push_job_id(name)
                for name in queue.failed_job_registry.get_job_ids():
                    queue.failed_job_registry.requeue(name)

            patiently(requeue)

        worker = Worker(
            [sys.executable, "-m", "tests.conformance.queues.rq_worker", trial.url], trial.log,
            QUEUE_RECORD=str(trial.record),
        )  # fmt: skip
        trial.run(worker, add, rescue)


@pytest.mark.timeout(240)
def test_bullmq(group: Group, bullmq: Path, tmp_path: Path) -> None:
    trial = Trial(group, tmp_path)
    script, port = str(_HERE / "bullmq.mjs"), str(trial.endpoint.port)

    def add(first: int, last: int) -> None:
        done = subprocess.run(
            ["node", script, "add", port, str(first), str(last)], env={**os.environ, "BULLMQ_HOME": str(bullmq)},
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.startswith("added"), done.stdout + done.stderr

    trial.run(Worker(["node", script, "worker", port, str(trial.record)], trial.log, BULLMQ_HOME=str(bullmq)), add,
              no_rescue)  # fmt: skip
