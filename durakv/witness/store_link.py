"""A link to a witness that is no process: this node changes the state itself, in jobs of a disk lane of its own.

Rule: one job is one question, and everything it does happens between submit() and done(). The lane may be blocked for
long by a store far away; nothing else may wait for it. It must not know what kind of store it is.
"""

from __future__ import annotations

from collections.abc import Callable

from durakv.witness.errors import StateLostError
from durakv.witness.exchange import Exchange, Question
from durakv.witness.parts import StateKey
from durakv.witness.record import INCARNATION_BYTES, TOKEN_BYTES
from durakv.witness.store import Outcome, Register, ask, create
from durakv.world.ports import Clock, Disk, Rng
from raft.messages import Message

OpenRegister = Callable[[], Register]


class StoreLink:
    """Implements WitnessLink. ``open_register`` runs in the first job, for it may block, and again until it works."""

    def __init__(
        self, clock: Clock, rng: Rng, disk: Disk, open_register: OpenRegister, key: StateKey, node_id: int, where: str,
        on_answer: Callable[[Message], None], on_trouble: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._rng = rng
        self._disk = disk
        self._open_register = open_register
        self._register: Register | None = None
        self._exchange = Exchange(clock, key, node_id, where, self, on_answer, on_trouble)

    @property
    def sent(self) -> int:
        """See WitnessLink."""
        return self._exchange.sent

    @property
    def answered(self) -> int:
        """See WitnessLink."""
        return self._exchange.answered_count

    @property
    def bytes(self) -> int:
        """See WitnessLink."""
        return self._exchange.state_bytes

    def send(self, message: Message) -> None:
        """See WitnessLink."""
        self._exchange.ask(message)

    def close(self) -> None:
        """See WitnessLink."""
        self._exchange.close()

    # -- Carrier -----------------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """See Carrier."""
        return True

    def carry(self, question: Question) -> None:
        """See Carrier."""
        token = self._rng.token(TOKEN_BYTES)
        outcomes: list[Outcome] = []

        def job() -> None:
            if self._register is None:
                self._register = self._open_register()
            outcomes.append(ask(self._register, question.message, token))

        def done(error: OSError | None) -> None:
            exchange = self._exchange
            if error is None:
                out = outcomes[-1]
                exchange.answered(question.number, out.reply, out.trace)
            elif isinstance(error, StateLostError):
                exchange.lost(question.number, reason(error))
            else:
                exchange.failed(question.number, reason(error))

        self._disk.submit(job, done)

    def on_overdue(self) -> None:
        """See Carrier. The job cannot be taken back; its answer still counts when it comes."""


def create_in_store(rng: Rng, disk: Disk, open_register: OpenRegister, done: Callable[[OSError | None], None]) -> None:
    """Found a state; ``done(error)``."""
    incarnation = rng.token(INCARNATION_BYTES)
    token = rng.token(TOKEN_BYTES)
    disk.submit(lambda: create(open_register(), incarnation, token), done)


def reason(error: OSError) -> str:
    """An error's text without its number."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text
