"""A witness's state as one object of an object store, replaced by conditional writes.

Rule: every write names the version it replaces (If-Match) or says that there is none (If-None-Match). A store that
ignores conditions would lose votes, so creating a witness proves that they are honoured. Needs a store whose reads are
never older than the last completed write, as Amazon S3's are. Must not know what a state means. Versions of the bucket
do not matter; restoring an older one by hand cannot be noticed and must never be done.

Objects: ``<prefix>/<cluster>-<group>-<witness>.st`` and ``....created``, the marker, which is never deleted.
"""

from __future__ import annotations

import errno

from durakv.witness.errors import StoreUnfitError
from durakv.witness.parts import StateKey
from durakv.witness.store import Loaded, exists, lost, read_mark, read_sealed
from durakv.world.ports import ObjectStore


class ObjectRegister:
    """One state in a bucket under ``prefix`` (which may be empty)."""

    def __init__(self, store: ObjectStore, prefix: str, key: StateKey) -> None:
        self.key = key
        stem = f"{prefix}/{key.name()}" if prefix else key.name()
        self._store = store
        self._state = f"{stem}.st"
        self._marker = f"{stem}.created"
        self._incarnation: bytes | None = None

    def load(self) -> Loaded:
        """See Register."""
        found = self._store.get(self._state)
        if found is None:
            raise lost(f"there is no object {self._state}")
        if self._incarnation is None:
            self._incarnation = read_mark(self.key, self.read_marker()).incarnation
        data, tag = found
        sealed = read_sealed(self.key, data)
        if sealed.incarnation != self._incarnation:
            raise lost(f"{self._state} and {self._marker} are of different creations")
        return Loaded(data, tag, sealed)

    def publish(self, before: Loaded, data: bytes, token: bytes) -> bool:
        """See Register. The token makes the bytes, and with them the tag, unlike those of any other version."""
        return self._store.put_if(self._state, data, before.tag)

    def settle(self) -> bool:
        """See Register. What a store returns is durable."""
        return True

    def prepare(self) -> None:
        """See Register. A bucket is made by its owner."""

    def put_first(self, data: bytes, token: bytes) -> bytes:
        """See Register."""
        self._store.put_new(self._state, data)
        return self._there(self._state)

    def put_marker(self, data: bytes, token: bytes) -> bytes:
        """See Register."""
        self._store.put_new(self._marker, data)
        return self._there(self._marker)

    def read_marker(self) -> bytes | None:
        """See Register."""
        found = self._store.get(self._marker)
        return None if found is None else found[0]

    def probe(self) -> None:
        """See Register. Writes over the marker what it holds already, under conditions that must and must not hold."""
        found = self._store.get(self._marker)
        state = self._store.get(self._state)
        if found is None or state is None:
            raise _unfit("an object just written cannot be read")
        data, tag = found
        if self._store.put_new(self._marker, data):
            raise _unfit("it replaced an object although told to only create one (If-None-Match)")
        if not tag or tag == state[1] or self._store.put_if(self._marker, data, state[1]):
            raise _unfit("it replaced an object although the condition named another version (If-Match)")
        if not self._store.put_if(self._marker, data, tag):
            raise _unfit("it refused a write whose condition held (If-Match)")

    def _there(self, name: str) -> bytes:
        found = self._store.get(name)
        if found is None:
            raise exists(self.key)
        return found[0]


def _unfit(what: str) -> StoreUnfitError:
    return StoreUnfitError(
        errno.ENOTSUP,
        f"this object store does not honour conditional writes: {what}; a witness there would lose votes, use another",
    )
