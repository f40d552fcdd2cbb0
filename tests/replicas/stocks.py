"""Stock servers as replicas: commands in as bytes, and all they hold out, as plain values that can be compared."""

from __future__ import annotations

import socket
from pathlib import Path

import hiredis
import redis

from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet
from durakv.rdb.reader import Entry, RdbFile
from durakv.rdb.values import value_of

Contents = dict[tuple[int, bytes], tuple[int, object]]


class Pipe:
    """A client's connection that sends bytes as they are; no reply may be an error."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(30)
        self.reader = hiredis.Reader()

    def apply(self, data: bytes) -> None:
        """Send commands and read all their replies."""
        self.socket.sendall(data + b"*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n")
        while True:
            reply = self.reader.gets()
            if reply is False:
                self.reader.feed(self.socket.recv(1 << 20))
            elif reply == b"end":
                return
            else:
                for part in reply if isinstance(reply, list) else [reply]:
                    assert not isinstance(part, hiredis.ReplyError), (part, data[:2000])

    def close(self) -> None:
        self.socket.close()


class Bytes:
    """A file for RdbFile."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]

    def size(self) -> int:
        return len(self.data)


class Target:
    """Implements rdb.writer.Sink in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    def write_start(self, data: bytes) -> None:
        self.data[: len(data)] = data


def saved(client: redis.Redis, directory: Path) -> Contents:
    """What the server has, also what it would not show because its time has come."""
    client.execute_command("SAVE")
    return in_file((directory / "dump.rdb").read_bytes())


def in_file(data: bytes) -> Contents:
    file = RdbFile(Bytes(data), "dump.rdb", whole_bytes_max=1 << 30)
    found: Contents = {}
    while (record := file.next()) is not None:
        if isinstance(record, Entry):
            found[record.db, record.key] = (record.expire_ms, plain(value_of(record.kind, file.body(record))))
    return found


def held(ks: Keyspace) -> Contents:
    """What a keyspace of durakv stores."""
    found: Contents = {}
    for db in ks.dbs:
        for slot in db.slots:
            for key, value in (slot or {}).items():
                found[db.number, key] = (db.expiry(key), plain(value))
    return found


def plain(value: object) -> object:
    """A value without what commands cannot bring about: encodings, order in sets, when a consumer was seen."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, Hash):
        return ("hash", dict(value.fields))
    if isinstance(value, ListValue):
        return ("list", list(value.items))
    if isinstance(value, SetValue):
        return ("set", frozenset(value.members))
    if isinstance(value, ZSet):
        return ("zset", dict(value.scores))
    assert isinstance(value, Stream)
    groups = {
        name: (
            group.last_id, group.entries_read, sorted(group.consumers),
            {entry_id: (pending.owner, pending.count) for entry_id, pending in group.pending.items()},
        )
        for name, group in value.groups.items()
    }  # fmt: skip
    head = (value.last_id, value.max_deleted_id, value.entries_added)
    return ("stream", head, value.range(0, (1 << 128) - 1, 0), groups)


def assert_equal(ours: Contents, theirs: Contents) -> None:
    if ours == theirs:
        return
    differing = [place for place in {**ours, **theirs} if ours.get(place) != theirs.get(place)]
    place = differing[0]
    raise AssertionError(f"{len(differing)} keys differ; {place}:\n  {ours.get(place)}\n  {theirs.get(place)}")
