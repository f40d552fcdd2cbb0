"""A set: a list of members and the position of each, so that a random member costs the same in any set. [compiled]

Rule: the order of ``members`` is replicated state (SPOP draws positions), so it depends on nothing but the commands
applied; a removed member's place is taken by the last one. Every mutator journals its exact inverse.
``*_max`` are the directives set-max-intset-entries, set-max-listpack-entries, set-max-listpack-value; they decide
only the encoding's name.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from durakv.keyspace.journal import steps
from durakv.keyspace.values.packed import is_integer, netstring
from durakv.keyspace.values.touched import TouchedPlaces

_UNDO_ADD: Final = 1
_UNDO_REMOVE: Final = 2
_UNDO_FORM: Final = 3

INTSET: Final = 0
LISTPACK: Final = 1
HASHTABLE: Final = 2
_NAMES: Final = (b"intset", b"listpack", b"hashtable")


def _smallest_form(members: list[bytes]) -> int:
    count = len(members)
    size_max = 0
    for member in members:
        if not is_integer(member):
            break
    else:
        return INTSET if count <= SetValue.intset_entries_max else HASHTABLE
    for member in members:
        size_max = max(size_max, len(member))
    if count <= SetValue.listpack_entries_max and size_max <= SetValue.listpack_value_max:
        return LISTPACK
    return HASHTABLE


class SetValue:
    """``positions[members[i]] == i`` for every i; ``form`` is INTSET, LISTPACK or HASHTABLE and only ever grows."""

    __slots__ = ("form", "members", "positions", "tracker")

    kind: ClassVar[bytes] = b"set"
    intset_entries_max: Final = 512
    listpack_entries_max: Final = 128
    listpack_value_max: Final = 64

    def __init__(self) -> None:
        self.members: list[bytes] = []
        self.positions: dict[bytes, int] = {}
        self.form = INTSET
        # See touched.
        self.tracker: TouchedPlaces | None = None

    @staticmethod
    def of(members: list[bytes]) -> SetValue:
        """A new set of ``members``, all different, in that order; it takes the list over and journals nothing."""
        made = SetValue()
        made.members = members
        made.positions = {member: i for i, member in enumerate(members)}
        made.form = _smallest_form(members)
        return made

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, member: bytes) -> bool:
        return member in self.positions

    def add(self, member: bytes) -> bool:
        """Add one member; False when it was there."""
        positions = self.positions
        if member in positions:
            return False
        members = self.members
        if self.form != HASHTABLE:
            self._fit(member)
        if self.tracker is not None:
            self.tracker.places[len(members)] = None
        positions[member] = len(members)
        members.append(member)
        steps.append((self, _UNDO_ADD, None, None))
        return True

    def remove(self, member: bytes) -> bool:
        """Remove one member; False when it was not there."""
        position = self.positions.get(member, -1)
        if position < 0:
            return False
        self.pop_at(position)
        return True

    def pop_at(self, position: int) -> bytes:
        """Remove and return the member at ``position``; the last member takes its place."""
        members = self.members
        last = members.pop()
        if self.tracker is not None:
            self.tracker.places[position] = None
        if position == len(members):
            member = last
        else:
            member = members[position]
            members[position] = last
            self.positions[last] = position
        del self.positions[member]
        if self.tracker is not None:
            self.tracker.gone[member] = None
        steps.append((self, _UNDO_REMOVE, position, member))
        return member

    def expect(self, count: int, first: bytes) -> None:
        """Say that one command brings ``count`` members, ``first`` the first of them.

        More than the form holds end it at once, repeated or not. Source: setTypeCreate(), setTypeMaybeConvert().
        """
        form = self.form
        if not self.members:
            if count <= SetValue.intset_entries_max and is_integer(first):
                form = INTSET
            else:
                form = LISTPACK if count <= SetValue.listpack_entries_max else HASHTABLE
        elif (form == LISTPACK and count > SetValue.listpack_entries_max) or (
            form == INTSET and count > SetValue.intset_entries_max
        ):
            form = HASHTABLE
        if form != self.form:
            self._become(form)

    def _fit(self, member: bytes) -> None:
        """Choose the form that can take ``member`` too. Source: t_set.c setTypeAddAux()."""
        count = len(self.members)
        if self.form == INTSET:
            if is_integer(member):
                if count + 1 > SetValue.intset_entries_max:
                    self._become(HASHTABLE)
                return
            if count < SetValue.listpack_entries_max and len(member) <= SetValue.listpack_value_max:
                self._become(LISTPACK)
            else:
                self._become(HASHTABLE)
        elif count >= SetValue.listpack_entries_max or len(member) > SetValue.listpack_value_max:
            self._become(HASHTABLE)

    def _become(self, form: int) -> None:
        steps.append((self, _UNDO_FORM, self.form, None))
        self.form = form

    def encoding(self) -> bytes:
        """The name OBJECT ENCODING shows."""
        return _NAMES[self.form]

    def canonical(self) -> bytes:
        """Content as bytes, equal for equal content whatever the order."""
        return b"".join([netstring(member) for member in sorted(self.members)])

    def copy(self) -> SetValue:
        """An independent set with the same content, order and encoding."""
        twin = SetValue()
        twin.members = self.members.copy()
        twin.positions = self.positions.copy()
        twin.form = self.form
        return twin

    def undo(self, op: int, a: Any, b: Any) -> None:
        """Revert one journal step, order included."""
        members = self.members
        if op == _UNDO_ADD:
            del self.positions[members.pop()]
        elif op == _UNDO_REMOVE:
            if self.tracker is not None:
                self.tracker.places[a] = None
                self.tracker.places[len(members)] = None
            if a == len(members):
                members.append(b)
            else:
                last = members[a]
                self.positions[last] = len(members)
                members.append(last)
                members[a] = b
            self.positions[b] = a
        else:
            assert op == _UNDO_FORM
            self.form = a
