"""A real event loop for a caller of a config holder, and arbiters as processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from durakv.world.real_clock import RealClock
from durakv.world.real_network import RealNetwork
from raft.primary_backup.messages import CasCall, CreateCall, HolderAnswer, HolderCall, ReadCall
from raft.primary_backup.types import RequestId, ShardConfig
from tests.holder.holder_world import CLUSTER, SHARD

# As ``durakv holder`` and ``durakv arbiter`` do.
HOLDER = "from durakv.cli.arbiter import holder; holder()"
ARBITER = "import sys; from durakv.cli.arbiter import run; a = sys.argv; sys.exit(run(a[1], a[2], int(a[3]), a[4:]))"


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Loop:
    """The loop, its clock and network, and the answers that came."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.bugs: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.bugs.append(context))
        self.clock = RealClock(self.loop)
        self.network = RealNetwork(self.loop)
        self.answers: dict[int, HolderAnswer] = {}
        self.number = 0

    def answered(self, answer: HolderAnswer) -> None:
        assert answer.call_id not in self.answers, "answered twice"
        self.answers[answer.call_id] = answer

    def wait(self, done: Callable[[], bool], timeout_s: float = 10) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, "nothing happened"
            self.loop.run_until_complete(asyncio.sleep(0.002))
            assert not self.bugs, self.bugs

    def pass_s(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        assert not self.bugs, self.bugs

    def ask(self, port, call: HolderCall) -> HolderAnswer:
        port.submit(call)
        self.wait(lambda: call.call_id in self.answers)
        return self.answers[call.call_id]

    def close(self) -> None:
        self.pass_s(0.01)
        self.loop.close()

    # -- calls -------------------------------------------------------------------------------------------------------

    def next(self) -> int:
        self.number += 1
        return self.number

    def create(self, shard: int = SHARD) -> CreateCall:
        request = RequestId(0, 0, 0)
        return CreateCall(self.next(), shard, request, ShardConfig(shard, 1, 1, (1, 2), (4,), 1, 0, request, b""))

    def read(self, shard: int = SHARD) -> ReadCall:
        return ReadCall(self.next(), shard, RequestId(0, 0, 0))

    def cas(self, node: int, seen: ShardConfig) -> CasCall:
        """The primary begins an epoch of its own, or a member takes over."""
        number = self.next()
        request = RequestId(node, 7, number)
        isr, learners = seen.isr, seen.learners
        if node != seen.primary:
            isr = tuple(member for member in isr if member != seen.primary)
            learners = tuple(sorted((*learners, seen.primary)))
        config = ShardConfig(
            seen.shard, seen.epoch + 1, node, isr, learners, seen.min_isr, seen.forced_epoch, request, seen.context
        )  # fmt: skip
        return CasCall(number, seen.shard, request, config)


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", HOLDER, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def refused(*arguments: str) -> tuple[int, str]:
    """What an arbiter says that does not start."""
    done = subprocess.run(
        [sys.executable, "-c", ARBITER, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    text = (done.stdout + done.stderr).strip()
    assert "\n" not in text and text.startswith("durakv arbiter: "), text
    return done.returncode, text


class Arbiter:
    """``durakv arbiter`` on loopback."""

    def __init__(self, directory: Path, member_id: int, members: dict[int, int]) -> None:
        self.directory = directory
        self.member_id = member_id
        self.port = members[member_id]
        self.members = [f"{i}=127.0.0.1:{port}" for i, port in members.items()]
        self.process: subprocess.Popen[str] | None = None

    def create(self, *arguments: str) -> None:
        code, text = run(
            "create", "--dir", str(self.directory), "--cluster-id", CLUSTER.hex(), "--id", str(self.member_id),
            *arguments,
        )  # fmt: skip
        assert code == 0, text

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ARBITER, str(self.directory), CLUSTER.hex(), str(self.member_id), *self.members],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "event=ready" in line, line + self.process.stdout.read()

    def end(self, number: int = signal.SIGKILL) -> tuple[int, str]:
        process, self.process = self.process, None
        assert process is not None and process.stdout is not None
        os.kill(process.pid, number)
        text = process.stdout.read()
        process.stdout.close()
        return process.wait(30), text
