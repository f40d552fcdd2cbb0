"""Witnesses of every kind, real ones: a process on loopback, a directory, an object store in memory, an S3 server.

``PLACES`` names them; each has an address a link can be opened on, and can lose, copy and put back a state.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import obstore
import uvloop
from obstore.store import MemoryStore

from durakv.cli.witness import status
from durakv.witness.address import WitnessAddress
from durakv.witness.link import WitnessLink, create_state, open_link
from durakv.witness.parts import StateKey, WitnessParts
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_network import RealNetwork
from durakv.world.real_object_store import RealObjectStore, open_object_store
from durakv.world.real_rng import RealRng
from raft.messages import Message, WitnessAppend, WitnessVote

CLUSTER = bytes(range(16))
WITNESS = 9


def key(group: int = 1, witness_id: int = WITNESS) -> StateKey:
    return StateKey(CLUSTER, group, witness_id)


def vote(node: int, term: int, log: tuple[int, int], granted: tuple[int, ...] = (), *, pre: bool = False,
         group: int = 1) -> WitnessVote:  # fmt: skip
    return WitnessVote(group, node, WITNESS, term, *log, pre, granted or (node,))


def append(node: int, term: int, log: tuple[int, int], members: tuple[int, ...], group: int = 1) -> WitnessAppend:
    return WitnessAppend(group, node, WITNESS, term, *log, 10, members)


class Asker:
    """A link and everything it said."""

    def __init__(self, nodes: Nodes, address: WitnessAddress, state: StateKey, node_id: int) -> None:
        self.nodes = nodes
        self.answers: list[Message] = []
        self.troubles: list[str] = []
        self.link: WitnessLink = open_link(
            address, nodes.parts, state, node_id, self.answers.append, self.troubles.append
        )

    def ask(self, message: Message, timeout_s: float = 10) -> Message:
        before = len(self.answers)
        self.link.send(message)
        self.nodes.wait(lambda: len(self.answers) > before, timeout_s)
        assert len(self.answers) == before + 1
        return self.answers[-1]

    def trouble_of(self, message: Message) -> str:
        """What a question that gets no answer leads to."""
        before = len(self.answers)
        self.link.send(message)
        self.nodes.wait(lambda: bool(self.troubles) and self.troubles[-1] != "")
        assert len(self.answers) == before
        return self.troubles[-1]


class Nodes:
    """An event loop with the parts that nodes give their links."""

    def __init__(self, open_objects: Callable[[str, str, str], object] = open_object_store) -> None:
        self.loop = uvloop.new_event_loop()
        self.disk = RealDisk(self.loop.call_soon_threadsafe)
        self.bugs: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.bugs.append(context))
        self.parts = WitnessParts(
            RealClock(self.loop), RealRng(), RealNetwork(self.loop), self.disk, open_objects,  # type: ignore[arg-type]
        )  # fmt: skip

    def wait(self, done: Callable[[], bool], timeout_s: float = 10) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, "nothing happened"
            self.loop.run_until_complete(asyncio.sleep(0.002))
            assert not self.bugs, self.bugs

    def pass_ms(self, ms: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(ms / 1000))
        assert not self.bugs, self.bugs

    def create(self, address: WitnessAddress, state: StateKey) -> OSError | None:
        told: list[OSError | None] = []
        create_state(address, self.parts, state, told.append)
        self.wait(lambda: bool(told))
        assert len(told) == 1
        return told[0]

    def close(self) -> None:
        self.disk.close()
        self.pass_ms(1)
        self.loop.close()


class WitnessProcess:
    """``durakv witness`` on a free port of loopback."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory = directory
        self.port = port
        self.process: subprocess.Popen[str] | None = None
        self.ready = ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "durakv", "witness", "--listen", f"127.0.0.1:{self.port}", "--dir",
             str(self.directory)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        assert "event=ready" in self.ready, self.ready + self.process.stdout.read()
        self.port = int(self.ready.split("port ")[1].split(",")[0])

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> tuple[int, str]:
        """SIGTERM; (exit code, what it printed after the ready line)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> tuple[int, str]:
        process, self.process = self.process, None
        assert process is not None and process.stdout is not None
        text = process.stdout.read()
        process.stdout.close()
        return process.wait(timeout=20), text


class FilePlace:
    """A directory, changed by the nodes themselves."""

    def __init__(self, root: Path) -> None:
        self.root = root / "states"
        self.nodes = Nodes()
        self.address = WitnessAddress.parse(f"file://{self.root}")

    def directory(self, state: StateKey) -> Path:
        return self.root / state.name()

    def restart(self) -> None:
        """There is no process."""

    def versions(self, state: StateKey) -> int:
        return max(int(path.stem) for path in self.directory(state).glob("*.st"))

    def lose(self, state: StateKey) -> None:
        for path in self.directory(state).glob("*.st"):
            path.unlink()

    def copy(self, state: StateKey) -> object:
        return {path.name: path.read_bytes() for path in self.directory(state).iterdir()}

    def put_back(self, state: StateKey, copy: object) -> None:
        assert isinstance(copy, dict)
        shutil.rmtree(self.directory(state))
        self.directory(state).mkdir()
        for name, data in copy.items():
            (self.directory(state) / name).write_bytes(data)

    def damage(self, state: StateKey) -> None:
        path = self.directory(state) / f"{self.versions(state)}.st"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)

    def close(self) -> None:
        self.nodes.close()


class ProcessPlace(FilePlace):
    """A witness process, whose directory is made as a file witness's is."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.process = WitnessProcess(self.root)
        self.process.start()
        self.address = WitnessAddress.parse(f"tcp://127.0.0.1:{self.process.port}")

    def restart(self) -> None:
        self.process.kill()
        self.process.start()

    def close(self) -> None:
        assert self.process.stop()[0] == 0
        super().close()


class ObjectPlace:
    """obstore's store in memory: conditional writes are atomic there."""

    def __init__(self, root: Path) -> None:
        self.client: object = MemoryStore()
        self.nodes = Nodes(lambda bucket, endpoint, region: RealObjectStore(self.client, bucket))  # type: ignore[arg-type]
        self.address = WitnessAddress.parse("s3://bucket/some/prefix")

    def _name(self, state: StateKey) -> str:
        return f"some/prefix/{state.name()}.st"

    def restart(self) -> None:
        """There is no process."""

    def versions(self, state: StateKey) -> int:
        return int.from_bytes(self.copy(state)[40:48], "little")

    def lose(self, state: StateKey) -> None:
        obstore.delete(self.client, self._name(state))  # type: ignore[arg-type]

    def copy(self, state: StateKey) -> bytes:
        return bytes(obstore.get(self.client, self._name(state)).bytes())  # type: ignore[arg-type]

    def put_back(self, state: StateKey, copy: bytes) -> None:
        obstore.put(self.client, self._name(state), copy)  # type: ignore[arg-type]

    def damage(self, state: StateKey) -> None:
        data = bytearray(self.copy(state))
        data[len(data) // 2] ^= 4
        self.put_back(state, bytes(data))

    def close(self) -> None:
        self.nodes.close()


class S3Place(ObjectPlace):
    """An S3 server on loopback (moto's, which has conditional writes)."""

    def __init__(self, root: Path) -> None:
        import boto3  # type: ignore[import-untyped]
        from moto.server import ThreadedMotoServer

        self.saved = dict(os.environ)
        os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        with redirect_stdout(io.StringIO()):
            self.server.start()
        host, port = self.server.get_host_and_port()
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="bucket")
        self.store = open_object_store("bucket", url, "us-east-1")
        self.client = self.store._client
        self.nodes = Nodes()
        self.address = WitnessAddress.parse(f"s3://bucket/some/prefix?endpoint={url}&region=us-east-1")

    def close(self) -> None:
        super().close()
        self.server.stop()
        os.environ.clear()
        os.environ.update(self.saved)


Place = FilePlace | ProcessPlace | ObjectPlace | S3Place
PLACES: dict[str, Callable[[Path], Place]] = {
    "tcp": ProcessPlace, "file": FilePlace, "object": ObjectPlace, "s3": S3Place,
}  # fmt: skip


def reported(process: WitnessProcess) -> dict[str, object]:
    return status(f"127.0.0.1:{process.port}")
