"""Runs commands straight against a keyspace, and the same against a stock redis-server to compare replies.

``Run`` honours the routes as the engine does (a write is a journalled unit under the entry's time, a read sees the
keyspace with ``writing`` off) but knows no log, sessions or sockets. ``Reference`` is one real server per session.
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
import subprocess
import time
from typing import Any

import hiredis

from durakv.commands.context import LocalContext, ReadContext, WriteContext
from durakv.commands.session import Session
from durakv.commands.spec import READ, WRITE, Declaration
from durakv.commands.table import Table
from durakv.keyspace import journal
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.resp.encoder import encode
from durakv.resp.errors import CommandError

DATA_MODULES = (
    "strings", "strings_edit", "strings_lcs", "generic", "generic_copy", "generic_flush", "generic_object",
    "generic_scan", "expire", "sort", "hashes", "lists", "lists_blocking", "sets", "sets_algebra", "sorted_sets",
    "sorted_sets_range", "sorted_sets_algebra", "sorted_sets_blocking", "bitmaps", "bitfield", "hyperloglog", "geo",
    "geo_search", "hashes_expire", "streams", "streams_read", "streams_groups", "streams_claim", "streams_info",
    "cluster_scan",
)  # fmt: skip
EVERY_EVENT = (1 << 15) - 1


def present(name: str) -> bool:
    return importlib.util.find_spec(f"durakv.commands.{name}") is not None


def declarations(names: tuple[str, ...]) -> list[Declaration]:
    """Declarations of those of the modules that exist."""
    out: list[Declaration] = []
    for name in names:
        if present(name):
            out += importlib.import_module(f"durakv.commands.{name}").COMMANDS.declarations
    return out


class Clock:
    """The present, for what counts from it."""

    def wall_ms(self) -> int:
        return int(time.time() * 1000)


class Node:
    """The services the local commands of the data groups use."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.waits: list[tuple[int, int, int, bool]] = []

    def wait_replicas(self, session: Session, local: int, replicas: int, timeout_ms: int, aof: bool) -> None:
        self.waits.append((local, replicas, timeout_ms, aof))


class Failed:
    """An error reply; equal to its text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return self.text == (other.text if isinstance(other, Failed) else other)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Failed({self.text!r})"


class Run:
    """Call it with a command's words: bytes, str, int or float; returns the handler's reply or Failed.

    ``check_undo`` runs every write, rolls it back, asserts that the digest is unchanged, and runs it again.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.ks = Keyspace()
        self.rctx = ReadContext(self.ks)
        self.wctx = WriteContext(self.ks)
        self.wctx.notify_mask = EVERY_EVENT
        self.node = Node()
        self.session = Session(1, 1)
        self.lctx = LocalContext(self.session, self.node)  # type: ignore[arg-type]
        self.now_ms = 1_700_000_000_000
        self.db = 0
        self.units = 0
        self.check_undo = False
        self.events: list[tuple[int, bytes, bytes]] = []
        self.expired: list[tuple[int, bytes]] = []

    def __call__(self, *words: object) -> Any:
        return self.argv([as_bytes(word) for word in words])

    def wire(self, *words: object, protocol: int = 2) -> bytes:
        """The reply's encoded form."""
        reply = self(*words)
        return encode(CommandError(reply.text) if isinstance(reply, Failed) else reply, protocol)

    def argv(self, argv: list[bytes]) -> Any:
        try:
            row = self.table.find(argv)
        except CommandError as e:
            return Failed(e.text)
        if row.kind == READ:
            return self._read(row.fn, argv)
        if row.kind == WRITE:
            return self._write(row.fn, argv)
        try:
            return row.fn(self.lctx, argv)
        except CommandError as e:
            return Failed(e.text)

    def _read(self, fn: Any, argv: list[bytes]) -> Any:
        ks = self.ks
        ks.writing = False
        ks.now_ms = self.rctx.now_ms = self.now_ms
        self.rctx.db = ks.dbs[self.db]
        self.units += 1
        self.rctx.seed, self.rctx.draws = self.units, 0
        before = len(journal.steps)
        try:
            return fn(self.rctx, argv)
        except CommandError as e:
            return Failed(e.text)
        finally:
            assert len(journal.steps) == before, "a read changed state"

    def _write(self, fn: Any, argv: list[bytes]) -> Any:
        self.units += 1
        if self.check_undo:
            before = digest(self.ks)
            sizes = [(db.size, db.nexp) for db in self.ks.dbs]
            # As inside a script: a command by itself keeps no step for its last act.
            self.ks.undo_whole = True
            self._unit(fn, argv)
            self.ks.undo_whole = False
            journal.roll_back()
            self.ks.expired_now.clear()
            assert digest(self.ks) == before, f"undo of {argv} left other content"
            assert [(db.size, db.nexp) for db in self.ks.dbs] == sizes, f"undo of {argv} left other counts"
        reply = self._unit(fn, argv)
        self.events += self.wctx.events
        self.expired += self.ks.expired_now
        self.ks.expired_now.clear()
        if isinstance(reply, Failed):
            journal.roll_back()
        return reply

    def _unit(self, fn: Any, argv: list[bytes]) -> Any:
        ks, ctx = self.ks, self.wctx
        journal.steps.clear()
        ks.now_ms = ks.log_ms = ctx.now_ms = self.now_ms
        ctx.db = ks.dbs[self.db]
        ctx.index = ctx.seed = self.units
        ctx.draws = 0
        ctx.events = []
        ks.writing = True
        try:
            return fn(ctx, argv)
        except CommandError as e:
            return Failed(e.text)
        finally:
            ks.writing = False


def as_bytes(word: object) -> bytes:
    if isinstance(word, bytes):
        return word
    return str(word).encode()


def parsed(wire: bytes) -> Any:
    """One encoded RESP2 reply as plain values; an error as Failed."""
    reader = hiredis.Reader()
    reader.feed(wire)
    return plain(reader.gets())


def plain(value: Any) -> Any:
    if isinstance(value, hiredis.ReplyError):
        return Failed(str(value))
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


class Reference:
    """A stock server; replies as plain RESP2 values."""

    def __init__(self, binary: str, directory: str) -> None:
        self.name = "redis-server"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [binary, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", directory],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
                break
            except OSError:
                time.sleep(0.02)
        self.reader = hiredis.Reader()

    def __call__(self, *words: object) -> Any:
        argv = [as_bytes(word) for word in words]
        self.socket.sendall(b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv))
        while True:
            reply = self.reader.gets()
            if reply is not False:
                return plain(reply)
            self.reader.feed(self.socket.recv(65536))

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)


class Both:
    """Runs a command here and on the reference and asserts equal replies."""

    def __init__(self, run: Run, reference: Reference) -> None:
        self.run = run
        self.reference = reference
        self.program: list[tuple[object, ...]] = []
        reference("FLUSHALL")
        reference("SELECT", 0)

    def __call__(self, *words: object) -> Any:
        self.program.append(words)
        ours = parsed(self.run.wire(*words))
        theirs = self.reference(*words)
        assert ours == theirs, f"{self.program[-12:]}: ours {ours!r}, theirs {theirs!r}"
        return ours

    def sorted(self, *words: object) -> None:
        """For replies whose order is not defined."""
        ours = parsed(self.run.wire(*words))
        theirs = self.reference(*words)
        assert sorted(ours) == sorted(theirs), f"{words}: ours {ours!r}, theirs {theirs!r}"
