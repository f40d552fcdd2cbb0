"""A node's dealings with its group's witness: opens the link, carries questions out and answers into the core.

Rule: the only place that holds a WitnessLink. The link follows the membership in force, so also one that is rolled back
again. It must not know what questions and answers decide; whether one is needed is the core's business alone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durakv.observe.events import WARNING, Event, Notice
from durakv.replication import addresses
from durakv.witness.address import WitnessAddress
from durakv.witness.link import WitnessLink, create_state, open_link
from durakv.witness.parts import StateKey, WitnessParts

if TYPE_CHECKING:
    from durakv.replication.node import GroupNode
    from raft.messages import Message


@dataclass(frozen=True, slots=True)
class WitnessTrouble(Event):
    """The witness does not do its part; ``detail`` says why and what to do."""

    level = WARNING

    witness_id: int
    detail: str


@dataclass(frozen=True, slots=True)
class WitnessStandsIn(Event):
    """The leader counts the witness in place of an unreachable full node; ``pinned``: nobody else could lead now."""

    level = WARNING

    replication_set: tuple[int, ...]
    subterm: int
    pinned: bool


class WitnessPort:
    """One node's witness, if its group has one: ``node_id`` 0 when not."""

    def __init__(self, node: GroupNode, parts: WitnessParts | None) -> None:
        self.node = node
        # None in a world without the means: a group with a witness is then told so.
        self.parts = parts
        self.node_id = 0
        self.address = ""
        self.trouble = ""
        self.link: WitnessLink | None = None
        # Asked over links that are closed by now.
        self.asked_before = 0
        self.shown: tuple[tuple[int, ...], bool] = ((), False)

    def follow(self) -> None:
        """The membership in force may be another one: talk to its witness, and to no other."""
        membership = self.node.core.membership
        witness_id = membership.witness_id()
        address = ""
        if witness_id:
            named = addresses.decode_witness(membership.context)
            # While a change that removes it is joint, the new address book no longer has it.
            address = named[1] if named is not None and named[0] == witness_id else self.address
        if (witness_id, address) == (self.node_id, self.address):
            return
        self.close()
        self.node_id = witness_id
        self.address = address
        self.trouble = ""
        if witness_id:
            self._open()

    def _open(self) -> None:
        assert self.parts is not None, "this world has no way to a witness"
        node = self.node
        try:
            self.link = open_link(
                WitnessAddress.parse(self.address), self.parts, self._key(self.node_id), node.node_id, self._answered,
                self._troubled,
            )  # fmt: skip
        except ValueError as e:
            self._troubled(f"witness {self.node_id} cannot be asked from here: {e}")

    def _key(self, witness_id: int) -> StateKey:
        node = self.node
        return StateKey(node.transport.cluster_id, node.core.config.group, witness_id)

    def create(self, witness_id: int, address: WitnessAddress, done: Callable[[OSError | None], None]) -> None:
        """Create the state of a witness that is to be added; it must be there before the membership names it."""
        assert self.parts is not None, "this world has no way to a witness"
        try:
            create_state(address, self.parts, self._key(witness_id), done)
        except ValueError as e:
            done(OSError(errno.EINVAL, str(e)))

    def send(self, message: Message) -> None:
        """Ask. A question that gets no answer is asked again by the core."""
        if self.link is not None:
            self.link.send(message)

    def _answered(self, message: Message) -> None:
        node = self.node
        if node.stopped or message.from_ != self.node_id:
            return
        node.core.step(message, node.clock.monotonic_ns())
        # A write must not slip in between a pin and the next tick.
        node.refresh_refusals()
        node.engine.schedule()

    def _troubled(self, text: str) -> None:
        if text == self.trouble:
            return
        self.trouble = text
        observer = self.node.engine.observer
        if text:
            observer.event(WitnessTrouble(self.node_id, text))
        else:
            observer.event(Notice("witness-answers", f"witness {self.node_id} at {self.address} answers again"))

    def show(self) -> None:
        """Call every tick: operators hear when the witness begins or ceases to stand in for a full node."""
        node = self.node
        if not self.node_id or not node.leading:
            self.shown = ((), False)
            return
        now = node.core.witness_state()
        # While it is still being asked nothing has begun; should it not answer, trouble says so.
        in_place = now.engaged
        facts = (now.replication_set if in_place else (), now.pinned)
        if facts == self.shown or now.asking:
            return
        self.shown = facts
        if in_place:
            node.engine.observer.event(WitnessStandsIn(now.replication_set, now.subterm, now.pinned))
        else:
            node.engine.observer.event(Notice("witness-at-rest", "all full nodes hold new writes again"))

    def stands_in(self) -> bool:
        """Whether this leader counts the witness in place of a full node."""
        if not self.node_id or not self.node.leading:
            return False
        return self.node_id in self.node.core.witness_state().replication_set

    def pinned(self) -> bool:
        """Whether nobody but this leader could lead now."""
        return self.node_id != 0 and self.node.leading and self.node.core.witness_state().pinned

    def asked(self) -> int:
        """Questions sent since this node started."""
        return self.asked_before + (self.link.sent if self.link is not None else 0)

    def close(self) -> None:
        """No question and no answer after this."""
        if self.link is not None:
            self.asked_before += self.link.sent
            self.link.close()
            self.link = None
