"""A member that answers CLUSTER LOGENTRIES out of a list of entries, over a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from types import TracebackType

import hiredis

from durakv.storage.entries import frame_body
from durakv.storage.record import crc, next_chain
from raft.types import Entry

from .recovery_directory import CLUSTER


def _encoded(value: object) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_encoded, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    assert isinstance(value, bytes)
    return b"$%d\r\n%b\r\n" % (len(value), value)


class FakePeer:
    """Use as a context manager. ``first`` and ``committed`` bound what it shows; ``error`` is answered instead."""

    def __init__(
        self, entries: Sequence[Entry], *, first: int = 1, committed: int | None = None, cluster: bytes = CLUSTER,
        group: int = 1, error: bytes = b"", piece: int = 7,
    ) -> None:  # fmt: skip
        self.first = first
        self.committed = entries[-1].index if committed is None else committed
        self.cluster = cluster
        self.group = group
        self.error = error
        self.piece = piece
        self.asked: list[list[bytes]] = []
        self.rows: list[list[object]] = []
        chain = 0
        for e in entries:
            chain = next_chain(chain, e.index, e.term, crc(frame_body(e.kind, e.data)))
            self.rows.append([e.index, e.term, e.subterm, int(e.kind), e.data, chain])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self) -> FakePeer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # A listener that is only closed keeps the thread in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        while data := connection.recv(65536):
            reader.feed(data)
            while (request := reader.gets()) is not False:
                self.asked.append(request)
                connection.sendall(self._answer(request))

    def _answer(self, request: list[bytes]) -> bytes:
        if request[0] == b"AUTH":
            return b"+OK\r\n"
        if self.error:
            return b"-%b\r\n" % self.error
        assert request[:2] == [b"CLUSTER", b"LOGENTRIES"]
        first, count = int(request[2]), min(int(request[3]), self.piece)
        rows = [] if first < self.first else self.rows[first - 1 : min(first - 1 + count, self.committed)]
        return _encoded([
            b"cluster", self.cluster.hex().encode(), b"group", self.group, b"first", self.first,
            b"committed", self.committed, b"entries", rows,
        ])  # fmt: skip
