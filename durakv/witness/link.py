"""A node's way to its group's witness: questions out, answers and trouble back, over whatever the address names.

Rule: the only module of this package that others need. A link never makes up an answer, never repeats one, and gives
no promise that a question gets one: whoever asks, asks again. It must not know what the messages decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from durakv.witness import address as schemes
from durakv.witness.address import WitnessAddress
from durakv.witness.call import create_at_process
from durakv.witness.parts import StateKey, WitnessParts
from durakv.witness.store import Register
from durakv.witness.store_file import FileRegister
from durakv.witness.store_link import StoreLink, create_in_store
from durakv.witness.store_object import ObjectRegister
from durakv.witness.tcp import TcpLink
from durakv.world.ports import Disk
from raft.messages import Message

OnAnswer = Callable[[Message], None]
OnTrouble = Callable[[str], None]
Done = Callable[[OSError | None], None]


class WitnessLink(Protocol):
    """One node's link to one witness of one group. All on the loop thread."""

    @property
    def sent(self) -> int:
        """Questions given to the transport."""

    @property
    def answered(self) -> int:
        """Answers handed on."""

    @property
    def bytes(self) -> int:
        """Size of the witness's state when it last answered; 0: not yet."""

    def send(self, message: Message) -> None:
        """Ask: a WitnessAppend or WitnessVote of this node to this witness, else ValueError. Never blocks.

        One question of a kind (append, vote, pre-vote) is on its way at a time; a newer one takes the place of the one
        that waits, and one equal to what is on its way is dropped.
        """

    def close(self) -> None:
        """No callback comes after this."""


def open_link(
    address: WitnessAddress, parts: WitnessParts, key: StateKey, node_id: int, on_answer: OnAnswer,
    on_trouble: OnTrouble,
) -> WitnessLink:  # fmt: skip
    """A link; nothing is dialled or opened before the first question.

    ``on_answer(message)`` hears answers (WitnessAppendResp, WitnessVoteResp), perhaps late, never twice for one
    question. ``on_trouble(text)`` hears each change of what is wrong, "" when nothing is any more; a text that begins
    with WITNESS_STATE_LOST names the repair. Both run on the loop thread; over TCP never within send().
    Raises ValueError when ``parts`` lacks what the address needs.
    """
    where = address.text()
    if address.scheme == schemes.TCP:
        return TcpLink(
            parts.network, parts.clock, address.host, address.port, key, node_id, where, on_answer, on_trouble,
            parts.tls,
        )  # fmt: skip
    register = _register(address, parts, key, f"n{node_id}")
    return StoreLink(parts.clock, parts.rng, _lane(parts), register, key, node_id, where, on_answer, on_trouble)


def create_state(address: WitnessAddress, parts: WitnessParts, key: StateKey, done: Done) -> None:
    """The founding act: once per witness id, before a membership that names it is proposed or bootstrapped.

    ``done(None)`` comes to at most one caller ever; ``done(error)`` with an ExistsError when the id has, or had, a
    state there, with another OSError when it could not be done, or when nobody knows whether it was: take another id
    then. The error's strerror is a line for the operator. Raises ValueError when ``parts`` lacks what is needed.
    """
    if address.scheme == schemes.TCP:
        create_at_process(parts.network, parts.clock, address.host, address.port, parts.tls, key, done)
        return
    create_in_store(parts.rng, _lane(parts), _register(address, parts, key, "create"), done)


def _lane(parts: WitnessParts) -> Disk:
    if parts.disk is None:
        raise ValueError("a witness in a file or an object needs a disk lane of its own: give WitnessParts a disk")
    return parts.disk


def _register(address: WitnessAddress, parts: WitnessParts, key: StateKey, writer: str) -> Callable[[], Register]:
    """What opens the register, in a job."""
    if address.scheme == schemes.FILE:
        disk = _lane(parts)
        return lambda: FileRegister(disk, address.path, key, writer)
    open_objects = parts.open_objects
    if open_objects is None:
        raise ValueError("a witness in an object store needs a client for it: give WitnessParts open_objects")
    return lambda: ObjectRegister(
        open_objects(address.bucket, address.endpoint, address.region), address.prefix, key
    )  # fmt: skip
