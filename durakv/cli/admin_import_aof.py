"""The commands of append-only files into a running server: in order, in batches that happen as a whole or not at all.

A batch is one MULTI, and its last command notes how far the import has come under a key of its own; so after a lost
connection the server itself knows whether the last batch counted, and no command is ever applied twice.
Rule: one batch is under way at a time; a transaction of the file is never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import hiredis

from durakv.aof.parts import OpenPart
from durakv.aof.reader import AofFile, Command
from durakv.cli.admin_outcome import Outcome
from durakv.cli.admin_pipe import Pipe, Refusal, is_transient, pack, pause

BATCH_COMMANDS: Final = 1000
_BATCH_BYTES: Final = 1 << 20
_PATIENCE_ROUNDS: Final = 1200
# A note that nobody came back for goes away by itself.
_NOTE_SECONDS: Final = b"604800"
_TICK: Final = 1024


class Place:
    """Before ``offset`` of part ``part`` everything has been applied; ``db`` is selected there."""

    def __init__(self, part: int, offset: int, db: int) -> None:
        self.part = part
        self.offset = offset
        self.db = db

    def text(self) -> str:
        """For the note and for --resume."""
        return f"{self.part}:{self.offset}:{self.db}"

    @staticmethod
    def parse(text: str) -> Place | None:
        """None for anything ``text`` does not make."""
        fields = text.split(":")
        if len(fields) != 3 or not all(field.isdigit() for field in fields):
            return None
        return Place(int(fields[0]), int(fields[1]), int(fields[2]))

    def before(self, other: Place) -> bool:
        """Whether the other is further on."""
        return (self.part, self.offset) < (other.part, other.offset)


class AofImport:
    """``done``: how far it got. ``rdb_part``: whether the first part begins with an RDB file, which is done already."""

    def __init__(self, parts: list[OpenPart], pipe: Pipe, outcome: Outcome, note_key: bytes, done: Place) -> None:
        self.done = done
        self._parts = parts
        self._pipe = pipe
        self._outcome = outcome
        self._note_key = note_key
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._selected = -1
        # Databases that may hold the note.
        self._noted: dict[int, None] = {done.db: None}
        self._under_way: _Batch | None = None

    def find_note(self) -> None:
        """After a lost connection: believe the server's note when it is further on. Raises Lost, Refusal."""
        self._select(self.done.db)
        reply = self._pipe.insist(1.0, b"GET", self._note_key)
        noted = Place.parse(reply.decode("latin-1")) if isinstance(reply, bytes) else None
        if noted is not None and self.done.before(noted):
            self.done = noted
            self._noted[noted.db] = None

    def run(self, starts: list[int], progress: Callable[[int, int], None]) -> None:
        """Apply everything behind ``done``. ``starts``: where the commands of each part begin.

        Raises Lost, Refusal, DamagedAof, OSError, KeyboardInterrupt.
        """
        sizes = [part.source.size() for part in self._parts]
        for number in range(self.done.part, len(self._parts)):
            start = starts[number]
            # The base leaves database 0 selected, and every file starts there.
            db = 0
            if number == self.done.part and self.done.offset > start:
                start, db = self.done.offset, self.done.db
            self._part(number, start, db, partial(_shifted, progress, sum(sizes[:number]), sum(sizes)))
        self._finish_batch()
        self._forget_note()

    def _part(self, number: int, start: int, db: int, progress: Callable[[int], None]) -> None:
        part = self._parts[number]
        file = AofFile(part.source, part.path, start)
        self._change_db(db)
        transaction: list[bytes] | None = None
        turn = 0
        while (command := file.next()) is not None:
            turn += 1
            if turn % _TICK == 0:
                progress(command.end)
            name = command.argv[0].upper()
            if name == b"MULTI":
                transaction = []
            elif name == b"EXEC":
                self._take(transaction or [])
                transaction = None
                self._due(Place(number, command.end, self._selected))
            elif name == b"SELECT":
                db = self._database(file, command)
                if transaction is None:
                    self._due(Place(number, command.offset, self._selected), force=True)
                    self._change_db(db)
                elif db != self._selected:
                    # Inside a transaction the server changes it; the note goes where the transaction ends.
                    transaction.append(pack(command.argv))
                    self._selected = db
                    self._noted[db] = None
            elif transaction is not None:
                transaction.append(pack(command.argv))
            else:
                self._take([pack(command.argv)])
                self._due(Place(number, command.end, self._selected))
        end = file.position() if file.truncated_at < 0 else file.truncated_at
        self._due(Place(number, end, self._selected), force=True)

    def _database(self, file: AofFile, command: Command) -> int:
        if len(command.argv) != 2 or not command.argv[1].isdigit():
            raise Refusal(f"{file.path}: byte {command.offset}: SELECT without a number; the file needs repair")
        return int(command.argv[1])

    def _change_db(self, db: int) -> None:
        if db != self._selected:
            self._finish_batch()
            self._select(db)

    def _select(self, db: int) -> None:
        self._pipe.insist(60.0, b"SELECT", b"%d" % db)
        self._selected = db
        self._noted[db] = None

    # -- batches -----------------------------------------------------------------------------------------------------

    def _take(self, packed: list[bytes]) -> None:
        self._batch += packed
        for one in packed:
            self._batch_bytes += len(one)

    def _due(self, place: Place, *, force: bool = False) -> None:
        """Send the batch when it is large enough; ``place`` is where its commands end."""
        if not self._batch:
            return
        if force or len(self._batch) >= BATCH_COMMANDS or self._batch_bytes >= _BATCH_BYTES:
            # The one before has had its time while this one was read.
            self._finish_batch()
            self._under_way = _Batch(self._batch, place, self._note_key)
            self._batch = []
            self._batch_bytes = 0
            self._pipe.send(self._under_way.packed)

    def _finish_batch(self) -> None:
        """Hear what became of the batch under way."""
        batch = self._under_way
        rounds = 0
        while batch is not None:
            replies = [self._pipe.receive() for _ in range(batch.count + 2)]
            result = replies[-1]
            refused = next((reply for reply in replies if isinstance(reply, hiredis.ReplyError)), None)
            if isinstance(result, list):
                self._judge(batch, result)
                return
            assert refused is not None, "EXEC without WATCH answered neither an array nor an error"
            rounds += 1
            if not is_transient(refused) or rounds > _PATIENCE_ROUNDS:
                self._under_way = None
                raise Refusal(f"{self._pipe.address}: {refused}; nothing of the batch was applied")
            pause()
            self._pipe.send(batch.packed)

    def _judge(self, batch: _Batch, result: Sequence[object]) -> None:
        self._under_way = None
        self.done = batch.place
        for number, reply in enumerate(result[:-1]):
            if isinstance(reply, hiredis.ReplyError):
                self._outcome.leave_out(f"refused by the server: {reply}", batch.commands[number][:60])
            else:
                self._outcome.commands += 1

    def settle(self) -> None:
        """After an error or an interrupt: hear what became of the batch under way. Raises Lost, Refusal."""
        self._batch = []
        self._finish_batch()

    def _forget_note(self) -> None:
        for db in self._noted:
            self._select_if_other(db)
            self._pipe.insist(60.0, b"DEL", self._note_key)

    def _select_if_other(self, db: int) -> None:
        if db != self._selected:
            self._pipe.insist(60.0, b"SELECT", b"%d" % db)
            self._selected = db


def _shifted(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


class _Batch:
    """Commands of one MULTI, packed, and the place they end at."""

    def __init__(self, commands: list[bytes], place: Place, note_key: bytes) -> None:
        self.commands = commands
        self.place = place
        note = pack([b"SET", note_key, place.text().encode(), b"EX", _NOTE_SECONDS])
        self.count = len(commands) + 1
        self.packed = b"".join([pack([b"MULTI"]), *commands, note, pack([b"EXEC"])])
