"""A witness as a process: serves the states of many groups, of any cluster, out of one directory.

Rule: nothing of a state is kept in memory; each question reads it, and its answer leaves after the files it rests on
are synced. So memory is bounded by the number of callers, each of whom may have a few small requests open. A caller who
says anything but the protocol is cut off. One process per directory, by a lock. Must not know what the messages decide.

A copy of the directory, or a second one elsewhere with the same states, cannot be told from the original: never restore
one, never serve one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from durakv.witness import wire
from durakv.witness.caller import Caller
from durakv.witness.errors import ExistsError, StateLostError, SyncError
from durakv.witness.parts import StateKey
from durakv.witness.record import INCARNATION_BYTES, TOKEN_BYTES
from durakv.witness.store import Outcome, ask, create
from durakv.witness.store_file import FileRegister
from durakv.witness.store_link import reason
from durakv.world.ports import Clock, Disk, Listener, Network, Rng
from raft.codec import encode
from raft.messages import Message

LOCK: Final = "LOCK"
CALLERS_MAX: Final = 1024
STATES_MAX: Final = 4096
# States that a status report names; it says how many there are.
REPORTED_MAX: Final = 500
_WRITER: Final = "process"
_CREATOR: Final = "create"
# Lines about refused callers in so much time; the rest is counted.
_REFUSALS_MAX: Final = 20
_REFUSALS_PERIOD_MS: Final = 10_000


class DirectoryLockedError(OSError):
    """Another witness process has the directory."""


class WitnessService:
    """One process's service. ``on_event(text)`` hears what an operator should know, a line each; ``on_fatal(error)``
    of a failed sync, after which the process must end: what it wrote may be gone though it can be read.
    """

    def __init__(
        self, clock: Clock, rng: Rng, disk: Disk, network: Network, directory: str, on_event: Callable[[str], None],
        on_fatal: Callable[[OSError], None], tls: str | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self._rng = rng
        self._disk = disk
        self._network = network
        self._directory = directory.rstrip("/")
        self._on_event = on_event
        self._on_fatal = on_fatal
        self._tls = tls
        self._listener: Listener | None = None
        self._callers: dict[Caller, None] = {}
        self._ended = False
        self._refusals = 0
        self.answered = 0
        # By key, for keys that have a state: at most STATES_MAX.
        self._answered_by: dict[str, int] = {}

    def open(self, host: str, port: int) -> int:
        """Take the directory and listen; the port. Raises DirectoryLockedError, or OSError of the directory or port."""
        disk, directory = self._disk, self._directory
        disk.mkdir(directory)
        if not disk.lock(f"{directory}/{LOCK}"):
            raise DirectoryLockedError(f"{directory} is in use by another witness process")
        listener = self._listener = self._network.listen(host, port, self._accept, self._tls)
        return listener.port()

    def states(self) -> list[StateKey]:
        """Which states the directory holds; blocks, for a job or for boot."""
        keys = [StateKey.named(name) for name in self._disk.listdir(self._directory)]
        return [key for key in keys if key is not None]

    def close(self) -> None:
        """Stop listening and cut all callers off. What is being written will be written."""
        self._ended = True
        if self._listener is not None:
            self._listener.close()
        for caller in list(self._callers):
            caller.drop()
        self._callers.clear()

    # -- callers -----------------------------------------------------------------------------------------------------

    def _accept(self) -> Caller:
        return Caller(self)

    def came(self, caller: Caller) -> bool:
        """A caller is connected; False when it must go."""
        if self._ended or len(self._callers) >= CALLERS_MAX:
            self.refused(caller, f"there are {len(self._callers)} callers already")
            return False
        self._callers[caller] = None
        return True

    def went(self, caller: Caller) -> None:
        """A caller is gone."""
        self._callers.pop(caller, None)

    def refused(self, caller: Caller, why: str) -> None:
        """Log that a caller was cut off, unless that happens all the time."""
        if self._refusals == 0:
            self.clock.call_later(_REFUSALS_PERIOD_MS, self._refusals_over)
        self._refusals += 1
        if self._refusals <= _REFUSALS_MAX:
            self._on_event(f"refused {caller.name()}: {why}")

    def _refusals_over(self) -> None:
        more, self._refusals = self._refusals - _REFUSALS_MAX, 0
        if more > 0:
            self._on_event(f"refused {more} more callers in {_REFUSALS_PERIOD_MS // 1000} s")

    # -- requests ----------------------------------------------------------------------------------------------------

    def question(self, caller: Caller, key: StateKey, number: int, message: Message) -> None:
        """Answer one question of raft's, which check_question() passed."""
        token = self._rng.token(TOKEN_BYTES)
        outcomes: list[Outcome] = []

        def job() -> None:
            outcomes.append(ask(self._register(key, _WRITER), message, token))

        def done(error: OSError | None) -> None:
            if self._fatal(error):
                return
            if error is None:
                out = outcomes[-1]
                self.answered += 1
                self._answered_by[key.name()] = self._answered_by.get(key.name(), 0) + 1
                caller.reply(wire.answer_reply(number, out.trace, encode(out.reply)))
                return
            lost = isinstance(error, StateLostError)
            self.refused(caller, f"{key.name()}: {'state lost: ' if lost else ''}{reason(error)}")
            caller.reply(wire.text_reply(wire.LOST if lost else wire.REFUSED, number, reason(error)))

        self._disk.submit(job, done)

    def creation(self, caller: Caller, key: StateKey, number: int) -> None:
        """Found a state."""
        incarnation = self._rng.token(INCARNATION_BYTES)
        token = self._rng.token(TOKEN_BYTES)

        def job() -> None:
            if len(self._disk.listdir(self._directory)) > STATES_MAX:
                raise OSError(f"this witness keeps {STATES_MAX} states already; use another witness")
            create(self._register(key, _CREATOR), incarnation, token)

        def done(error: OSError | None) -> None:
            if self._fatal(error):
                return
            if error is None:
                self._on_event(f"created the state of {key.name()} for {caller.name()}")
                caller.reply(wire.request(wire.CREATED, number))
                return
            self.refused(caller, f"creation of {key.name()}: {reason(error)}")
            kind = wire.EXISTS if isinstance(error, ExistsError) else wire.REFUSED
            caller.reply(wire.text_reply(kind, number, reason(error)))

        self._disk.submit(job, done)

    def status(self, caller: Caller, number: int) -> None:
        """Report how the process is."""
        reports: list[list[dict[str, object]]] = []
        totals: list[int] = []

        def job() -> None:
            keys = self.states()
            totals.append(len(keys))
            reports.append([self._row(key) for key in keys[:REPORTED_MAX]])

        def done(error: OSError | None) -> None:
            if error is not None:
                caller.reply(wire.text_reply(wire.REFUSED, number, reason(error)))
                return
            for row in reports[-1]:
                row["answered"] = self._answered_by.get(str(row["state"]), 0)
            document = {
                "directory": self._directory,
                "callers": len(self._callers),
                "answered": self.answered,
                "states": totals[-1],
                "bytes": sum(row["bytes"] for row in reports[-1] if isinstance(row["bytes"], int)),
                "groups": reports[-1],
            }
            caller.reply(wire.request(wire.REPORT, number, json.dumps(document).encode()))

        self._disk.submit(job, done)

    def _row(self, key: StateKey) -> dict[str, object]:
        row: dict[str, object] = {
            "state": key.name(), "cluster_id": key.cluster_id.hex(), "group": key.group, "witness_id": key.witness_id,
            "bytes": 0, "trouble": "",
        }  # fmt: skip
        try:
            loaded = self._register(key, _WRITER).load()
        except StateLostError as error:
            row["trouble"] = reason(error)
            return row
        state = loaded.sealed.state
        row["bytes"] = len(loaded.data)
        row["version"] = loaded.sealed.version
        row["term"] = state.term
        row["vote"] = state.vote
        row["last_log"] = [state.last_log_term, state.last_log_subterm]
        row["replication_set"] = list(state.replication_set)
        return row

    def _register(self, key: StateKey, writer: str) -> FileRegister:
        return FileRegister(self._disk, self._directory, key, writer)

    def _fatal(self, error: OSError | None) -> bool:
        """Whether nothing may be answered any more."""
        if self._ended:
            return True
        if isinstance(error, SyncError):
            self.close()
            self._on_fatal(error)
            return True
        return False
