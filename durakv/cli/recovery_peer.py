"""Committed log entries of running members, for a stopped one whose copy of them is damaged.

Rule: takes nothing on trust. An entry counts when it goes on, by term and running digest, from what the caller holds;
a member of another cluster or group, or one that holds other entries, is passed over and the reason kept. It must not
know files.
"""

from __future__ import annotations

from typing import Final

from durakv.cli.client import Client, Refused, Unreachable, Value
from durakv.cli.recovery_outcome import NeedsDecision
from durakv.engine.entry import stamp
from durakv.storage.entries import KIND_CONFIG, KIND_NOOP, KIND_NORMAL, frame_body, frame_type
from durakv.storage.record import crc, next_chain

_ENTRIES_PER_CALL: Final = 500
_PORT_DEFAULT: Final = 6379


class Point:
    """A place in the log: the last entry before it, its term, and the running digest after it."""

    __slots__ = ("chain", "index", "term")

    def __init__(self, index: int, term: int, chain: int) -> None:
        self.index = index
        self.term = term
        self.chain = chain


class FetchedEntry:
    """An entry as a frame wants it. ``kind`` is the frame's type; ``ts_ms`` and ``ncmd`` as the log stamps them."""

    __slots__ = ("body", "index", "kind", "ncmd", "subterm", "term", "ts_ms")

    def __init__(self, index: int, term: int, subterm: int, entry_kind: int, data: bytes) -> None:
        """Raises ValueError for what no log holds."""
        if entry_kind not in (KIND_NORMAL, KIND_NOOP, KIND_CONFIG) or (entry_kind == KIND_NOOP and data):
            raise ValueError(f"entry {index} is of no known kind")
        self.index = index
        self.term = term
        self.subterm = subterm
        self.kind = frame_type(entry_kind)
        self.body = frame_body(entry_kind, data)
        self.ts_ms, self.ncmd = stamp(data) if entry_kind == KIND_NORMAL else (0, 0)


class Fetched:
    """Entries from one member, and the place in the log behind the last of them."""

    def __init__(self, source: str, entries: list[FetchedEntry], end: Point) -> None:
        self.source = source
        self.entries = entries
        self.end = end


class _Unusable(Exception):
    """This member cannot give the entries; the text says why."""


class Peers:
    """Members to ask, in this order. Use as a context manager; connections are made when first needed."""

    def __init__(
        self, addresses: str, user: str, password: str, timeout_s: float, cluster_id: bytes, group: int
    ) -> None:
        self.addresses = [parse_address(address) for address in addresses.split(",")]
        self.user = user
        self.password = password
        self.timeout_s = timeout_s
        self.cluster_id = cluster_id
        self.group = group
        self._open: dict[str, Client] = {}

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._open.values():
            client.__exit__(None, None, None)
        self._open = {}

    def fetch(self, before: Point, last: int, chain: int | None) -> Fetched:
        """Entries ``before.index + 1`` to ``last``, which go on from ``before`` and, unless None, lead to ``chain``.

        Raises NeedsDecision with what each member said.
        """
        said = []
        for host, port in self.addresses:
            try:
                found = self._from_one(host, port, before, last)
                if chain is not None and found.end.chain != chain:
                    raise _Unusable(
                        f"its entries {before.index + 1:,} to {last:,} have digest {found.end.chain:08x}, this node's "
                        f"had {chain:08x}: one of them belongs to another history"
                    )
                return found
            except (_Unusable, Refused, Unreachable) as error:
                said.append(f"{host}:{port}: {str(error).removeprefix(f'{host}:{port}: ')}")
        raise NeedsDecision(
            f"entries {before.index + 1:,} to {last:,} cannot be had from {'; '.join(said)}. Nothing was changed. Name "
            "another member with --from-peer (the leader holds every committed entry that any member still needs); if "
            "none has these entries any more, replace the node, which fetches a snapshot: 'durakv cluster "
            "remove-node', move its directory away, 'durakv cluster add-node' under a new node id"
        )

    def _from_one(self, host: str, port: int, before: Point, last: int) -> Fetched:
        client = self._client(host, port)
        entries: list[FetchedEntry] = []
        at = before
        while at.index < last:
            count = min(last - at.index, _ENTRIES_PER_CALL)
            piece = self._piece(client, at, last, count)
            for entry, chain in piece:
                at = _step(at, entry, chain)
                entries.append(entry)
        return Fetched(f"{host}:{port}", entries, at)

    def _client(self, host: str, port: int) -> Client:
        name = f"{host}:{port}"
        if name not in self._open:
            client = Client(host, port, timeout_s=self.timeout_s, password="" if self.user else self.password)
            self._open[name] = client
            if self.user:
                client.call("AUTH", self.user, self.password)
        return self._open[name]

    def _piece(self, client: Client, at: Point, last: int, count: int) -> list[tuple[FetchedEntry, int]]:
        """The next entries, at least one."""
        facts = _facts(client.call("CLUSTER", "LOGENTRIES", at.index + 1, count))
        if facts.cluster_id != self.cluster_id.hex() or facts.group != self.group:
            raise _Unusable(
                f"it is group {facts.group} of cluster {facts.cluster_id}, this directory belongs to group "
                f"{self.group} of {self.cluster_id.hex()}"
            )
        if facts.entries:
            return facts.entries
        if facts.first > at.index + 1:
            raise _Unusable(
                f"its log begins at index {facts.first:,}: its checkpoint has taken the place of what was before"
            )
        raise _Unusable(f"it knows entries up to {facts.committed:,} to be committed, {last:,} is needed")


class _Facts:
    """An answer to CLUSTER LOGENTRIES; entries with their digests."""

    def __init__(self, cluster_id: str, group: int, first: int, committed: int) -> None:
        self.cluster_id = cluster_id
        self.group = group
        self.first = first
        self.committed = committed
        self.entries: list[tuple[FetchedEntry, int]] = []


def _facts(reply: Value) -> _Facts:
    """Raises _Unusable for an answer of another shape."""
    try:
        assert isinstance(reply, list), "not a list"
        named = {key: value for key, value in zip(reply[::2], reply[1::2], strict=True) if isinstance(key, bytes)}
        cluster = named[b"cluster"]
        rows = named[b"entries"]
        assert isinstance(cluster, bytes), "no cluster id"
        assert isinstance(rows, list), "no entries"
        out = _Facts(cluster.decode("ascii"), *[_integer(named[key]) for key in (b"group", b"first", b"committed")])
        for row in rows:
            assert isinstance(row, list), "an entry is no list"
            index, term, subterm, kind, data, chain = row
            assert isinstance(data, bytes), "an entry without data"
            entry = FetchedEntry(_integer(index), _integer(term), _integer(subterm), _integer(kind), data)
            out.entries.append((entry, _integer(chain)))
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise _Unusable(f"it does not answer CLUSTER LOGENTRIES as this version does ({error})") from error
    return out


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not a number")
    return value


def _step(at: Point, entry: FetchedEntry, chain: int) -> Point:
    """The place behind ``entry``, if it goes on from ``at``."""
    own = next_chain(at.chain, entry.index, entry.term, crc(entry.body))
    if entry.index != at.index + 1 or entry.term < at.term or own != chain:
        raise _Unusable(
            f"its entry {entry.index:,} of term {entry.term} (digest {chain:08x}) does not go on from this node's "
            f"entry {at.index:,} of term {at.term} (digest {at.chain:08x}): one of them belongs to another history"
        )
    return Point(entry.index, entry.term, chain)


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``; without a port that of Redis. Raises NeedsDecision."""
    host, separator, port = text.strip().rpartition(":")
    if not separator:
        host, port = port, str(_PORT_DEFAULT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise NeedsDecision(f"'{text}' is no address of a member: write HOST:PORT, its clients' port")
    return host, int(port)
