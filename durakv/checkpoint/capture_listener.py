"""Who else hears of changes while they are written down: the stream of commands for Redis and Valkey replicas.

Rule: told frame by frame, of each changed key before its marks are cleared, so that a listener sees both the state and
what of it is new. A listener changes nothing it is shown.
"""

from __future__ import annotations

from typing import Protocol

from durakv.keyspace.values.touched import TouchedChunks


class Listener(Protocol):
    """Calls come in this order: remapped, then database and its keys, then beside, then frame_ends."""

    def remapped(self, before: list[int], after: list[int]) -> None:
        """Databases were swapped or emptied: the physical number of each logical one, then and now."""

    def database(self, number: int) -> None:
        """The keys that follow are in this logical database."""

    def changed(
        self, key: bytes, value: object, expire_ms: int, stored_kid: int, stored_chunks: TouchedChunks | None
    ) -> None:
        """The key holds ``value`` now, None for nothing, until ``expire_ms`` (Unix ms, -1: no deadline).

        ``stored_kid`` (0: none) and ``stored_chunks`` describe what it held after the last frame: where the value's
        tracker has that kid, its marks are all that differs.
        """

    def patched(self, key: bytes, value: bytearray, numbers: dict[int, None], stored_length: int) -> None:
        """Only those chunks of a large string differ; it had ``stored_length`` bytes."""

    def beside(self, name: bytes, blob: bytes | None) -> None:
        """A piece of replicated state beside the keys is another one; None: it is gone."""

    def frame_ends(self, index: int) -> None:
        """All changes up to that log index were told."""
