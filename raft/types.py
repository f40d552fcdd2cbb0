"""The nouns of the protocol: entries, hard state, memberships and snapshot metadata.

Rule: these are values. Nobody changes one after it was made, so they may be shared between the core, the driver and
messages without copying. This file must not know roles, messages or storage.
"""

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

NodeId: TypeAlias = int
"""A server's number, 1 .. 2**64-1, used once ever; 0 means nobody."""
Term: TypeAlias = int
Index: TypeAlias = int

NO_NODE: Final = 0


class DecodeError(ValueError):
    """The bytes are not what an encoder of this package wrote."""


class EntryKind:
    """What an entry's data means."""

    NORMAL: Final = 0
    NOOP: Final = 1
    CONFIG: Final = 2


class Role:
    """The part a server plays; learners are followers that no quorum counts."""

    FOLLOWER: Final = 0
    PRE_CANDIDATE: Final = 1
    CANDIDATE: Final = 2
    LEADER: Final = 3


ROLE_NAMES: Final = ("follower", "pre-candidate", "candidate", "leader")


class Entry:
    """One log record. `data` is the application's, or an encoded Membership when kind is CONFIG."""

    __slots__ = ("data", "index", "kind", "subterm", "term")

    def __init__(self, index: int, term: int, subterm: int, kind: int, data: bytes) -> None:
        self.index = index
        self.term = term
        self.subterm = subterm
        self.kind = kind
        self.data = data

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Entry)
            and self.index == other.index
            and self.term == other.term
            and self.subterm == other.subterm
            and self.kind == other.kind
            and self.data == other.data
        )

    def __hash__(self) -> int:
        return hash((self.index, self.term))

    def __repr__(self) -> str:
        return f"Entry({self.index}, {self.term}, {self.subterm}, {self.kind}, {self.data!r})"


class HardState:
    """What must survive a crash besides the log. A change of commit alone needs no fsync."""

    __slots__ = ("commit", "term", "vote")

    def __init__(self, term: int = 0, vote: int = 0, commit: int = 0) -> None:
        self.term = term
        self.vote = vote
        self.commit = commit

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HardState)
            and self.term == other.term
            and self.vote == other.vote
            and self.commit == other.commit
        )

    def __hash__(self) -> int:
        return hash((self.term, self.vote, self.commit))

    def __repr__(self) -> str:
        return f"HardState({self.term}, {self.vote}, {self.commit})"


_MEMBERSHIP_HEAD: Final = struct.Struct("<BBHHHHQI")
_MEMBERSHIP_VERSION: Final = 1
# A count is 16 bits on the wire; a group is never near it.
_COUNT_MAX: Final = 0xFFFF


def _sorted_ids(ids: Sequence[int]) -> tuple[int, ...]:
    out = sorted(ids)
    if out and out[0] <= 0:
        raise ValueError(f"node ids are positive, got {out[0]}")
    for i in range(1, len(out)):
        if out[i] == out[i - 1]:
            raise ValueError(f"node id {out[i]} is listed twice; list each member once")
    return tuple(out)


# Bits of the header's flags byte; the header's witness field holds witness_id().
_AUTO_LEAVE: Final = 1
_WITNESS_OUTGOING: Final = 2
_NOT_INCOMING: Final = 4


class Membership:
    """Who votes and who only copies; joint while `voters_outgoing` is not empty (dissertation 4.3).

    `learners_next` are voters of the outgoing half that become learners when the joint phase ends. `witness` and
    `witness_outgoing` are the halves' witnesses, 0 for none; there is only one, so they are equal if both are set. A
    witness has a vote in its half but is in none of the lists, for it is sent no entries. `context` is the
    application's (an address book), carried and never read here. All ids are kept sorted.
    """

    __slots__ = (
        "auto_leave",
        "context",
        "learners",
        "learners_next",
        "voters",
        "voters_outgoing",
        "witness",
        "witness_outgoing",
    )

    def __init__(
        self,
        voters: Sequence[int] = (),
        voters_outgoing: Sequence[int] = (),
        learners: Sequence[int] = (),
        learners_next: Sequence[int] = (),
        witness: int = 0,
        auto_leave: bool = False,
        context: bytes = b"",
        witness_outgoing: int = 0,
    ) -> None:
        self.voters = _sorted_ids(voters)
        self.voters_outgoing = _sorted_ids(voters_outgoing)
        self.learners = _sorted_ids(learners)
        self.learners_next = _sorted_ids(learners_next)
        self.witness = witness
        self.auto_leave = auto_leave
        self.context = context
        self.witness_outgoing = witness_outgoing
        if witness < 0 or witness_outgoing < 0:
            raise ValueError(f"node ids are positive, got witness {min(witness, witness_outgoing)}")
        if witness_outgoing and not self.voters_outgoing:
            raise ValueError("an outgoing witness needs an outgoing half")
        if witness and witness_outgoing and witness != witness_outgoing:
            raise ValueError(f"witnesses {witness} and {witness_outgoing} in one membership; there may be only one")
        if self.witness_id() and self.witness_id() in self.members():
            raise ValueError(f"node {self.witness_id()} is the witness and listed as a member; use another id")

    def is_joint(self) -> bool:
        """True between entering and leaving a change of more than one voter."""
        return len(self.voters_outgoing) > 0

    def is_voter(self, node: int) -> bool:
        """True if the node votes in either half."""
        return node in self.voters or node in self.voters_outgoing

    def witness_id(self) -> int:
        """The witness of either half, 0 if there is none."""
        return self.witness or self.witness_outgoing

    def electorate(self) -> tuple[int, ...]:
        """Who has a vote in the incoming half, its witness last."""
        return (*self.voters, self.witness) if self.witness else self.voters

    def electorate_outgoing(self) -> tuple[int, ...]:
        """Who has a vote in the outgoing half, its witness last."""
        return (*self.voters_outgoing, self.witness_outgoing) if self.witness_outgoing else self.voters_outgoing

    def members(self) -> tuple[int, ...]:
        """Every id that is sent entries, sorted."""
        return tuple(sorted({*self.voters, *self.voters_outgoing, *self.learners, *self.learners_next}))

    def _key(self) -> tuple[object, ...]:
        return (
            self.voters,
            self.voters_outgoing,
            self.learners,
            self.learners_next,
            self.witness,
            self.auto_leave,
            self.context,
            self.witness_outgoing,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Membership) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        text = f"voters={list(self.voters)}"
        if self.voters_outgoing:
            text += f" outgoing={list(self.voters_outgoing)}"
        if self.learners:
            text += f" learners={list(self.learners)}"
        if self.learners_next:
            text += f" learners_next={list(self.learners_next)}"
        if self.witness:
            text += f" witness={self.witness}"
        if self.witness_outgoing:
            text += f" witness_outgoing={self.witness_outgoing}"
        return f"Membership({text})"

    def encode(self) -> bytes:
        """Bytes for a CONFIG entry or a snapshot; the same membership always gives the same bytes."""
        lists = (self.voters, self.voters_outgoing, self.learners, self.learners_next)
        if max(map(len, lists)) > _COUNT_MAX:
            raise ValueError(f"more than {_COUNT_MAX} members in one list")
        flags = _AUTO_LEAVE if self.auto_leave else 0
        if self.witness_outgoing:
            flags |= _WITNESS_OUTGOING if self.witness else _WITNESS_OUTGOING | _NOT_INCOMING
        head = _MEMBERSHIP_HEAD.pack(
            _MEMBERSHIP_VERSION,
            flags,
            len(lists[0]),
            len(lists[1]),
            len(lists[2]),
            len(lists[3]),
            self.witness_id(),
            len(self.context),
        )
        ids = [i for part in lists for i in part]
        return head + struct.pack(f"<{len(ids)}Q", *ids) + self.context

    @staticmethod
    def decode(data: bytes) -> "Membership":
        """The inverse of encode(). Raises DecodeError for anything else, trailing bytes included."""
        if len(data) < _MEMBERSHIP_HEAD.size:
            raise DecodeError(f"membership of {len(data)} bytes is shorter than its header")
        version, flags, n0, n1, n2, n3, witness, context_len = _MEMBERSHIP_HEAD.unpack_from(data)
        halves = flags & ~_AUTO_LEAVE
        if version != _MEMBERSHIP_VERSION or halves not in {0, _WITNESS_OUTGOING, _WITNESS_OUTGOING | _NOT_INCOMING}:
            raise DecodeError(f"membership version {version} flags {flags} unknown; run a newer release")
        if halves and not witness:
            raise DecodeError(f"membership flags {flags} speak of a witness that is not named")
        total = n0 + n1 + n2 + n3
        start = _MEMBERSHIP_HEAD.size
        if len(data) != start + 8 * total + context_len:
            raise DecodeError("membership length does not match its header")
        ids: list[int] = list(struct.unpack_from(f"<{total}Q", data, start))
        parts = [ids[:n0], ids[n0 : n0 + n1], ids[n0 + n1 : n0 + n1 + n2], ids[n0 + n1 + n2 :]]
        context = bytes(data[start + 8 * total :])
        incoming = 0 if halves & _NOT_INCOMING else witness
        outgoing = witness if halves else 0
        try:
            out = Membership(
                parts[0], parts[1], parts[2], parts[3], incoming, flags & _AUTO_LEAVE == 1, context, outgoing
            )
        except ValueError as error:
            raise DecodeError(str(error)) from None
        if ids != [*out.voters, *out.voters_outgoing, *out.learners, *out.learners_next]:
            raise DecodeError("membership ids are not sorted")
        return out


class SnapshotMeta:
    """Names a snapshot: the last entry it covers, the membership there, and the storage's own id for its bytes."""

    __slots__ = ("id", "index", "membership", "subterm", "term")

    def __init__(
        self,
        index: int,
        term: int,
        subterm: int,
        membership: Membership,
        id: int = 0,
    ) -> None:
        self.index = index
        self.term = term
        self.subterm = subterm
        self.membership = membership
        self.id = id

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SnapshotMeta)
            and self.index == other.index
            and self.term == other.term
            and self.subterm == other.subterm
            and self.id == other.id
            and self.membership == other.membership
        )

    def __hash__(self) -> int:
        return hash((self.index, self.term, self.id))

    def __repr__(self) -> str:
        return f"SnapshotMeta({self.index}, {self.term}, {self.subterm}, {self.membership!r}, id={self.id})"


class ConfChange:
    """A request to change the membership; several edits at once go through a joint phase.

    `add_learner` of a voter demotes it. `promote` takes learners only. `context` None keeps the current one.
    `add_witness` is a new id; a witness is replaced by removing it in one change and adding another in the next.
    An empty change with `auto_leave` False ends a joint phase that was entered with auto_leave False.
    """

    __slots__ = (
        "add_learner",
        "add_voter",
        "add_witness",
        "auto_leave",
        "context",
        "promote",
        "remove",
        "remove_witness",
    )

    def __init__(
        self,
        add_voter: Sequence[int] = (),
        add_learner: Sequence[int] = (),
        promote: Sequence[int] = (),
        remove: Sequence[int] = (),
        context: bytes | None = None,
        auto_leave: bool = True,
        add_witness: int = 0,
        remove_witness: bool = False,
    ) -> None:
        self.add_voter = _sorted_ids(add_voter)
        self.add_learner = _sorted_ids(add_learner)
        self.promote = _sorted_ids(promote)
        self.remove = _sorted_ids(remove)
        self.context = context
        self.auto_leave = auto_leave
        self.add_witness = add_witness
        self.remove_witness = remove_witness

    def edits_witness(self) -> bool:
        """True if it asks for the witness to come or go."""
        return self.add_witness != 0 or self.remove_witness

    def is_empty(self) -> bool:
        """True if it edits nothing, which asks to leave a joint phase."""
        edits = self.add_voter or self.add_learner or self.promote or self.remove or self.edits_witness()
        return not (edits or self.context is not None)
