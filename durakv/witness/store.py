"""A witness's state in a register that changes by compare-and-swap: asking it, and creating it.

Rule: an answer leaves only after the state it rests on is durable in the register; a state that cannot be believed is
never replaced by an older one, and nothing is answered then. Several nodes, or processes, may do this at once on one
register: whoever loses the race computes again from what won. Blocking; runs in disk jobs. It must not know what the
messages decide, nor whether the register is a directory or an object.

What no register can notice: a copy of an old state put back by hand, or two copies used side by side. A link remembers
the newest version it has seen and refuses to go back (exchange.py), but only for as long as its process lives.
"""

from __future__ import annotations

import errno
from typing import Final, Protocol

from durakv.witness.errors import ExistsError, StateLostError
from durakv.witness.parts import StateKey
from durakv.witness.record import MEMBERS_MAX, Marker, Sealed
from raft.messages import Message, WitnessAppend, WitnessVote
from raft.types import DecodeError
from raft.witness import WitnessState, answer

ATTEMPTS: Final = 32


class Loaded:
    """The newest version as read: its bytes, and what names it to the register (a tag; empty where none is needed)."""

    __slots__ = ("data", "sealed", "tag")

    def __init__(self, data: bytes, tag: str, sealed: Sealed) -> None:
        self.data = data
        self.tag = tag
        self.sealed = sealed


class Trace:
    """Which version an answer was computed from (``version``, ``token``) and which it left behind (the same when it
    changed nothing). By these a link notices a state that went back in time.
    """

    __slots__ = ("incarnation", "new_token", "new_version", "state_bytes", "token", "version")

    def __init__(
        self, incarnation: bytes, version: int, token: bytes, new_version: int, new_token: bytes, state_bytes: int
    ) -> None:
        self.incarnation = incarnation
        self.version = version
        self.token = token
        self.new_version = new_version
        self.new_token = new_token
        self.state_bytes = state_bytes


class Outcome:
    """An answer and its trace."""

    __slots__ = ("reply", "trace")

    def __init__(self, reply: Message, before: Loaded, after: Sealed, state_bytes: int) -> None:
        self.reply = reply
        old = before.sealed
        self.trace = Trace(old.incarnation, old.version, old.token, after.version, after.token, state_bytes)


class Register(Protocol):
    """Where one state is kept. Every call blocks and may raise OSError."""

    key: StateKey

    def load(self) -> Loaded:
        """The newest version; raises StateLostError when there is none or it cannot be believed."""

    def publish(self, before: Loaded, data: bytes, token: bytes) -> bool:
        """Make ``data`` the version after ``before``, durably; False when another one is by now."""

    def settle(self) -> bool:
        """Make what load() returned durable, should another writer not have; False: only publishing again can."""

    def prepare(self) -> None:
        """Make the place where a state can be put."""

    def put_first(self, data: bytes, token: bytes) -> bytes:
        """Put version 1 unless there is one; the bytes that are there. Raises ExistsError when it has gone beyond."""

    def put_marker(self, data: bytes, token: bytes) -> bytes:
        """Put the marker unless there is one; the bytes that are there."""

    def read_marker(self) -> bytes | None:
        """The marker's bytes."""

    def probe(self) -> None:
        """Once, after creation: prove that the store does what compare-and-swap needs; raises StoreUnfitError."""


def check_question(key: StateKey, message: Message) -> None:
    """Raises ValueError for a message that is not a question to this witness."""
    members = -1
    if isinstance(message, WitnessAppend):
        members = len(message.replication_set)
    elif isinstance(message, WitnessVote):
        members = len(message.votes_granted)
    if members < 0:
        raise ValueError(f"{type(message).__name__} is no question to a witness")
    if message.group != key.group or message.to != key.witness_id:
        raise ValueError(f"a question to witness {message.to} of group {message.group}, this is {key.name()}")
    if members > MEMBERS_MAX:
        raise ValueError(f"a replication set of {members} members; a witness keeps at most {MEMBERS_MAX}")


def ask(register: Register, message: Message, token: bytes) -> Outcome:
    """Answer a question that check_question() passed. ``token`` is this question's alone.

    Raises StateLostError, or OSError when there is no answer now: then it is unknown whether the state changed, and
    asking the same again is right.
    """
    for _ in range(ATTEMPTS):
        before = register.load()
        sealed = before.sealed
        state, reply = answer(sealed.state, message)
        assert reply is not None, "check_question() lets only questions pass"
        if isinstance(message, WitnessVote) and message.pre:
            # Nothing is promised, so nothing need be durable.
            return Outcome(reply, before, sealed, len(before.data))
        if state == sealed.state and register.settle():
            return Outcome(reply, before, sealed, len(before.data))
        after = Sealed(register.key, sealed.incarnation, sealed.version + 1, token, state)
        data = after.encode()
        if register.publish(before, data, token):
            return Outcome(reply, before, after, len(data))
    raise OSError(errno.EBUSY, f"the witness's state changed {ATTEMPTS} times while one question was answered")


def create(register: Register, incarnation: bytes, token: bytes) -> None:
    """Found the state. Returns to at most one caller ever for one key; raises ExistsError to all others.

    The first version goes before the marker: nobody answers without a marker, so a creation that was cut short has
    promised nothing and may be finished by a later one.
    """
    key = register.key
    register.prepare()
    if register.read_marker() is not None:
        raise exists(key)
    first = Sealed(key, incarnation, 1, token, WitnessState(key.group, key.witness_id))
    try:
        found = read_sealed(key, register.put_first(first.encode(), token))
    except StateLostError as e:
        raise exists(key) from e
    if found.version != 1 or found.state != first.state:
        raise exists(key)
    mark = Marker(key, found.incarnation, token).encode()
    # The store may have taken the marker and lost the confirmation; the token tells whose it is.
    if register.put_marker(mark, token) != mark:
        raise exists(key)
    register.probe()


def exists(key: StateKey) -> ExistsError:
    """For an id that is taken."""
    return ExistsError(
        errno.EEXIST,
        f"a witness {key.witness_id} of group {key.group} was created there before; an id serves once, ever: take "
        "another id, even if the old state is gone",
    )


def lost(reason: str) -> StateLostError:
    """For a state that cannot be believed."""
    return StateLostError(errno.EIO, reason)


def read_sealed(key: StateKey, data: bytes) -> Sealed:
    """A version's bytes decoded; raises StateLostError when they are damaged or another witness's."""
    try:
        sealed = Sealed.decode(data)
    except DecodeError as e:
        raise lost(f"its state is damaged ({e})") from e
    if sealed.key != key:
        raise lost(f"the state there belongs to {sealed.key.name()}")
    return sealed


def read_mark(key: StateKey, data: bytes | None) -> Marker:
    """The marker decoded; raises StateLostError when it is missing, damaged or another witness's."""
    if data is None:
        raise lost("the marker of its creation is missing")
    try:
        marker = Marker.decode(data)
    except DecodeError as e:
        raise lost(f"the marker of its creation is damaged ({e})") from e
    if marker.key != key:
        raise lost(f"the marker there belongs to {marker.key.name()}")
    return marker
