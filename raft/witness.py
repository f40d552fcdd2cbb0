"""What a witness does: its whole state, and the answer to the two messages it understands.

A witness keeps no log. It remembers which (term, subterm) began last and who was in the replication set then; that is
enough to refuse a candidate that may lack what was committed since. Rule: pure functions from a state and a message to
the next state and an answer; a state that differs from the former one must be durable before the answer leaves, and
nothing is remembered but the state. So a witness may be a process, or a file that candidates and leaders change by
compare-and-swap. Must not know who keeps the state, nor time.
"""

import struct
import zlib
from typing import Final

from raft.messages import Message, WitnessAppend, WitnessAppendResp, WitnessVote, WitnessVoteResp
from raft.types import DecodeError

_MAGIC: Final = b"DKWITN1\x00"
# magic; group, witness id, term, vote, last log term, last log subterm; members; then their ids and a crc32 of it all
_HEAD: Final = struct.Struct("<8sQQQQQQH")
_CRC: Final = struct.Struct("<I")


class WitnessState:
    """All a witness of one group knows; never changed once made. `replication_set` is sorted, empty at first."""

    __slots__ = ("group", "last_log_subterm", "last_log_term", "node_id", "replication_set", "term", "vote")

    def __init__(
        self,
        group: int,
        node_id: int,
        term: int = 0,
        vote: int = 0,
        last_log_term: int = 0,
        last_log_subterm: int = 0,
        replication_set: tuple[int, ...] = (),
    ) -> None:
        self.group = group
        self.node_id = node_id
        self.term = term
        self.vote = vote
        self.last_log_term = last_log_term
        self.last_log_subterm = last_log_subterm
        self.replication_set = replication_set

    def _key(self) -> tuple[object, ...]:
        return (
            self.group,
            self.node_id,
            self.term,
            self.vote,
            self.last_log_term,
            self.last_log_subterm,
            self.replication_set,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WitnessState) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return (
            f"WitnessState(group={self.group}, node={self.node_id}, term={self.term}, vote={self.vote}, "
            f"log=({self.last_log_term}, {self.last_log_subterm}), set={list(self.replication_set)})"
        )

    def encode(self) -> bytes:
        """The state as bytes, checksum last; under 512 of them for any group of up to 50 members."""
        ids = self.replication_set
        body = _HEAD.pack(
            _MAGIC, self.group, self.node_id, self.term, self.vote, self.last_log_term, self.last_log_subterm, len(ids)
        ) + struct.pack(f"<{len(ids)}Q", *ids)
        return body + _CRC.pack(zlib.crc32(body))

    @staticmethod
    def decode(data: bytes) -> "WitnessState":
        """The inverse of encode(). Raises DecodeError for anything else: such a witness must answer nothing."""
        if len(data) < _HEAD.size + _CRC.size:
            raise DecodeError(f"witness state of {len(data)} bytes is cut short")
        magic, group, node_id, term, vote, last_term, last_subterm, count = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise DecodeError("not a witness state of this version")
        if len(data) != _HEAD.size + 8 * count + _CRC.size:
            raise DecodeError("witness state length does not match its header")
        if _CRC.unpack_from(data, len(data) - _CRC.size)[0] != zlib.crc32(data[: -_CRC.size]):
            raise DecodeError("witness state checksum mismatch")
        ids: tuple[int, ...] = struct.unpack_from(f"<{count}Q", data, _HEAD.size)
        return WitnessState(group, node_id, term, vote, last_term, last_subterm, ids)


def answer(state: WitnessState, m: Message) -> tuple[WitnessState, Message | None]:
    """The state after `m`, the same object if nothing changed, and the answer, None for a message not for a witness."""
    if m.group != state.group or m.to != state.node_id:
        return state, None
    if isinstance(m, WitnessAppend):
        return _append(state, m)
    if isinstance(m, WitnessVote):
        return _pre_vote(state, m) if m.pre else _vote(state, m)
    return state, None


def _adopt(state: WitnessState, term: int) -> WitnessState:
    if term <= state.term:
        return state
    return WitnessState(
        state.group,
        state.node_id,
        term,
        0,
        state.last_log_term,
        state.last_log_subterm,
        state.replication_set,
    )


def _append(state: WitnessState, m: WitnessAppend) -> tuple[WitnessState, Message]:
    ok = False
    if m.term >= state.term:
        state = _adopt(state, m.term)
        new = (m.last_log_term, m.last_log_subterm)
        stored = (state.last_log_term, state.last_log_subterm)
        if new > stored:
            ok = True
            state = WitnessState(
                state.group, state.node_id, state.term, state.vote, new[0], new[1], m.replication_set
            )  # fmt: skip
        else:
            # The same again is an answer that got lost.
            ok = new == stored and m.replication_set == state.replication_set
    return state, WitnessAppendResp(m.group, m.to, m.from_, state.term, ok, m.last_log_subterm, m.index)


def _may_lead(state: WitnessState, m: WitnessVote) -> bool:
    new = (m.last_log_term, m.last_log_subterm)
    stored = (state.last_log_term, state.last_log_subterm)
    if new != stored:
        return new > stored
    # Same subterm: whoever acknowledged its entries is in the set, and so must be all who vouch for the candidate.
    return all(node in state.replication_set for node in m.votes_granted)


def _pre_vote(state: WitnessState, m: WitnessVote) -> tuple[WitnessState, Message]:
    granted = m.term > state.term and _may_lead(state, m)
    term = m.term if granted else state.term
    return state, WitnessVoteResp(m.group, m.to, m.from_, term, granted, True)


def _vote(state: WitnessState, m: WitnessVote) -> tuple[WitnessState, Message]:
    state = _adopt(state, m.term)
    granted = m.term == state.term and state.vote in (0, m.from_) and _may_lead(state, m)
    if granted and state.vote == 0:
        state = WitnessState(
            state.group,
            state.node_id,
            state.term,
            m.from_,
            state.last_log_term,
            state.last_log_subterm,
            state.replication_set,
        )
    return state, WitnessVoteResp(m.group, m.to, m.from_, state.term, granted, False)
