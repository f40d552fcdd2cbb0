"""The keys of an RDB file into a running server: pipelined, each key by one request that does not depend on others.

Strings go as SET, all else as RESTORE with the file's own bytes; values too large for one request are built up by
commands. Rule: where it stands is always known: everything before ``mark().done`` has been answered, nothing from
``mark().sent`` on has been sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import hiredis

from durakv.cli.admin_outcome import Outcome
from durakv.cli.admin_pipe import Pipe, Refusal, Reply, is_transient, pack, pause
from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.rdb_read import RdbReader
from durakv.rdb import kinds
from durakv.rdb.pieces import Piece, can_split, pieces
from durakv.rdb.reader import Entry, Function, ModuleAux, RdbFile
from durakv.rdb.stream_commands import stream_commands
from durakv.rdb.values import restore_payload, sealed, string

_SEND_BYTES: Final = 64 << 10
# As much as may be under way: enough for a round trip, little against what a server lets wait.
_WINDOW: Final = 2000
_WINDOW_BYTES: Final = 8 << 20
PIECE_BYTES: Final = 1 << 20
# One request has to fit into what a group lets wait for commit (max-uncommitted-bytes, 64 MiB by default).
REQUEST_BYTES_MAX: Final = 48 << 20
_PATIENCE_S: Final = 60.0
_TICK: Final = 1024
_FUNCTION_VERSION: Final = 10

_ONE_GROUP: Final = "; it answers for some slots only: import into a group with cluster-enabled no"
EXISTS: Final = "key exists already (--replace overwrites)"


class Mark:
    """Offsets in the file. Keys between them may or may not have been taken over."""

    def __init__(self, done: int, sent: int) -> None:
        self.done = done
        self.sent = sent


class _Sent:
    __slots__ = ("key", "offset", "packed")

    def __init__(self, offset: int, key: bytes, packed: bytes) -> None:
        self.offset = offset
        self.key = key
        self.packed = packed


class RdbImport:
    """One file's way into one server. ``run`` may be interrupted; then ``mark`` says how far it got."""

    def __init__(
        self, file: RdbFile, pipe: Pipe, outcome: Outcome, now_ms: int, *, replace: bool, resume: Mark,
        request_bytes_max: int = REQUEST_BYTES_MAX,
    ) -> None:  # fmt: skip
        """``now_ms``: keys whose deadline is not after it stay out. ``resume``: where an earlier run ended."""
        self._request_bytes_max = request_bytes_max
        self._file = file
        self._pipe = pipe
        self._outcome = outcome
        self._now_ms = now_ms
        self._replace = replace
        self._resume = resume
        self._db = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._waiting: deque[_Sent] = deque()
        self._waiting_bytes = 0
        self._early: list[_Sent] = []
        self._libraries: list[bytes] = []
        # The record that is being taken over, while it is a large one.
        self._current = -1

    def mark(self) -> Mark:
        """How far it got."""
        unanswered = [sent.offset for sent in self._early]
        if self._waiting:
            unanswered.append(self._waiting[0].offset)
        if self._current >= 0:
            unanswered.append(self._current)
        position = self._file.position()
        return Mark(max(min(unanswered, default=position), self._resume.done), max(position, self._resume.sent))

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Bring everything over. Raises Lost, Refusal, DamagedRdb, OSError, KeyboardInterrupt."""
        file, outcome = self._file, self._outcome
        total = file.source.size()
        turn = 0
        while (record := file.next()) is not None:
            if isinstance(record, Entry):
                if record.offset >= self._resume.done:
                    self._entry(record)
                turn += 1
                if turn % _TICK == 0:
                    progress(file.position(), total)
            elif isinstance(record, Function):
                if record.offset >= self._resume.done:
                    self._libraries.append(record.code)
            elif isinstance(record, ModuleAux):
                outcome.leave_out(f"data of module type {record.name}", b"")
        self._drain()
        if self._libraries:
            self._functions()

    def _entry(self, entry: Entry) -> None:
        if entry.empty:
            self._outcome.leave_out("empty collection", entry.key, harmless=True)
            return
        if entry.kind in kinds.MODULES:
            self._outcome.leave_out("module value", entry.key)
            return
        if 0 <= entry.expire_ms <= self._now_ms:
            self._outcome.leave_out("expired", entry.key, harmless=True)
            return
        # A key that an interrupted run may have brought over is brought over again.
        replace = self._replace or entry.offset < self._resume.sent
        if entry.db != self._db:
            self._select(entry)
        body = entry.body
        if body is None:
            self._large(entry, replace=replace)
            return
        try:
            packed = _set(entry, body, replace) if entry.kind == kinds.STRING else _restore(entry, body, replace)
        except (RdbError, IndexError):
            self._outcome.leave_out("its bytes are not well-formed", entry.key)
            return
        self._add(_Sent(entry.offset, entry.key, packed))

    def _select(self, entry: Entry) -> None:
        """Not pipelined: keys sent after a SELECT that fails would go into another database."""
        self._drain()
        self._current = entry.offset
        self._ask(b"SELECT", b"%d" % entry.db)
        self._current = -1
        self._db = entry.db

    def settle(self) -> None:
        """After an error or an interrupt: hear what became of all that is under way. Raises Lost."""
        self._out = []
        self._out_bytes = 0
        while self._waiting:
            reply = self._pipe.receive()
            sent = self._waiting.popleft()
            if reply is None:
                self._outcome.leave_out(EXISTS, sent.key)
            elif not isinstance(reply, hiredis.ReplyError):
                self._outcome.imported += 1
            elif str(reply).startswith("BUSYKEY"):
                self._outcome.leave_out(EXISTS, sent.key)
            else:
                self._early.append(sent)

    # -- many small requests -----------------------------------------------------------------------------------------

    def _add(self, sent: _Sent) -> None:
        self._waiting.append(sent)
        self._out.append(sent.packed)
        size = len(sent.packed)
        self._out_bytes += size
        self._waiting_bytes += size
        if self._out_bytes >= _SEND_BYTES:
            self._flush()
            while len(self._waiting) > _WINDOW or self._waiting_bytes > _WINDOW_BYTES:
                self._answer()
            if self._early:
                self._drain()

    def _flush(self) -> None:
        data = b"".join(self._out)
        self._out = []
        self._out_bytes = 0
        if data:
            self._pipe.send(data)

    def _answer(self) -> None:
        reply = self._pipe.receive()
        sent = self._waiting.popleft()
        self._waiting_bytes -= len(sent.packed)
        if reply is None:
            self._outcome.leave_out(EXISTS, sent.key)
        elif not isinstance(reply, hiredis.ReplyError):
            self._outcome.imported += 1
        else:
            self._refused(sent, reply)

    def _refused(self, sent: _Sent, error: hiredis.ReplyError) -> None:
        key = sent.key
        text = str(error)
        if text.startswith("BUSYKEY"):
            self._outcome.leave_out(EXISTS, key)
        elif is_transient(error):
            self._early.append(sent)
        elif text.startswith(("ERR Bad data format", "ERR DUMP payload")):
            self._outcome.leave_out(f"refused by the server: {text}", key)
        else:
            self._early.append(sent)
            advice = _ONE_GROUP if text.startswith(("MOVED", "ASK", "CROSSSLOT")) else ""
            raise Refusal(f"{self._pipe.address}: {key!r}: {text}{advice}")

    def _drain(self) -> None:
        """Wait until everything sent has been answered for good."""
        self._flush()
        rounds = 0
        while self._waiting or self._early:
            while self._waiting:
                self._answer()
            if self._early:
                rounds += 1
                if rounds * 0.05 > _PATIENCE_S:
                    raise Refusal(
                        f"{self._pipe.address}: still refuses writes after {_PATIENCE_S:.0f} s; try again later"
                    )
                pause()
                self._repeat()

    def _repeat(self) -> None:
        early, self._early = self._early, []
        self._waiting.extend(early)
        for sent in early:
            self._waiting_bytes += len(sent.packed)
            self._pipe.send(sent.packed)

    # -- one large value ---------------------------------------------------------------------------------------------

    def _large(self, entry: Entry, *, replace: bool) -> None:
        self._drain()
        self._current = entry.offset
        key = entry.key
        if not replace and self._ask(b"EXISTS", key) == 1:
            self._outcome.leave_out(EXISTS, key)
        elif can_split(entry.kind):
            self._ask(b"DEL", key)
            for piece in pieces(self._file, entry, PIECE_BYTES):
                self._put_piece(entry, piece)
            self._expire(entry)
        elif entry.kind == kinds.STRING:
            text = RdbReader(self._file.body(entry)).string()
            self._ask(b"SET", key, text[:PIECE_BYTES])
            for at in range(PIECE_BYTES, len(text), PIECE_BYTES):
                self._ask(b"APPEND", key, text[at : at + PIECE_BYTES])
            self._expire(entry)
        elif entry.end - entry.begin <= self._request_bytes_max:
            self._ask(*_restore_words(entry, self._file.body(entry), replace))
        else:
            self._ask(b"DEL", key)
            self._stream(entry)
            self._expire(entry)
        self._current = -1
        self._outcome.imported += 1

    def _stream(self, entry: Entry) -> None:
        batch: list[bytes] = []
        size = 0
        for words in stream_commands(self._file, entry):
            batch.append(pack(words))
            size += len(batch[-1])
            if size >= PIECE_BYTES or len(batch) >= _WINDOW:
                self._whole(entry, batch)
                batch, size = [], 0
        if batch:
            self._whole(entry, batch)

    def _whole(self, entry: Entry, batch: list[bytes]) -> None:
        """Commands whose order counts, all or none: so they can be sent again when it was too early."""
        packed = b"".join([pack([b"MULTI"]), *batch, pack([b"EXEC"])])
        for _ in range(int(_PATIENCE_S / 0.05)):
            self._pipe.send(packed)
            replies = [self._pipe.receive() for _ in range(len(batch) + 2)]
            result = replies[-1]
            answers = result if isinstance(result, list) else replies
            error = next((reply for reply in answers if isinstance(reply, hiredis.ReplyError)), None)
            if error is None:
                return
            if isinstance(result, list) or not is_transient(error):
                raise Refusal(f"{self._pipe.address}: {entry.key!r}: {error}")
            pause()
        raise Refusal(f"{self._pipe.address}: refuses writes for {_PATIENCE_S:.0f} s now; try again later")

    def _put_piece(self, entry: Entry, piece: Piece) -> None:
        command = {"list": b"RPUSH", "set": b"SADD", "zset": b"ZADD", "hash": b"HSET"}[kinds.TYPE_NAMES[entry.kind]]
        self._ask(command, entry.key, *piece.items)
        by_deadline: dict[int, list[bytes]] = {}
        for field, at_ms in piece.deadlines:
            by_deadline.setdefault(at_ms, []).append(field)
        for at_ms, fields in by_deadline.items():
            self._ask(b"HPEXPIREAT", entry.key, b"%d" % at_ms, b"FIELDS", b"%d" % len(fields), *fields)

    def _expire(self, entry: Entry) -> None:
        if entry.expire_ms >= 0:
            self._ask(b"PEXPIREAT", entry.key, b"%d" % entry.expire_ms)

    def _ask(self, *words: bytes) -> Reply:
        return self._pipe.insist(_PATIENCE_S, *words)

    def _functions(self) -> None:
        data = b"".join(bytes((kinds.OP_FUNCTION,)) + string(code) for code in self._libraries)
        payload = sealed(data, _FUNCTION_VERSION)
        policy = b"REPLACE" if self._replace or self._resume.sent else b"APPEND"
        try:
            self._ask(b"FUNCTION", b"RESTORE", payload, policy)
        except Refusal as error:
            for code in self._libraries:
                self._outcome.leave_out(f"function library: {error}", code.partition(b"\n")[0])
            return
        self._outcome.functions += len(self._libraries)


def _set(entry: Entry, body: bytes, replace: bool) -> bytes:
    """A string as SET. Raises RdbError, IndexError."""
    key = entry.key
    first = body[0]
    # Lengths of one and of two bytes; behind others stand numbers, compressed and long strings.
    text = body[1:] if first < 0x40 else body[2:] if first < 0x80 else RdbReader(body).string()
    if entry.expire_ms < 0:
        if replace:
            return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(text), text)
        return b"*4\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nNX\r\n" % (len(key), key, len(text), text)
    deadline = b"%d" % entry.expire_ms
    tail = b"$4\r\nPXAT\r\n$%d\r\n%b\r\n" % (len(deadline), deadline)
    if replace:
        return b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (len(key), key, len(text), text, tail)
    return b"*6\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b$2\r\nNX\r\n" % (len(key), key, len(text), text, tail)


def _restore(entry: Entry, body: bytes, replace: bool) -> bytes:
    return pack(_restore_words(entry, body, replace))


def _restore_words(entry: Entry, body: bytes, replace: bool) -> list[bytes]:
    """Any value as RESTORE. Raises RdbError."""
    words = [b"RESTORE", entry.key, b"%d" % max(entry.expire_ms, 0), restore_payload(entry.kind, body)]
    if entry.expire_ms > 0:
        words.append(b"ABSTTL")
    if replace:
        words.append(b"REPLACE")
    return words
