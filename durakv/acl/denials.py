"""ACL LOG: what was refused to whom, newest first, equal refusals of a minute counted in one entry.

Rule: remembers at most ``length_max`` entries (acllog-max-len). It knows clients only by the line CLIENT INFO gives.
"""

from __future__ import annotations

from typing import Final

_SAME_WITHIN_MS: Final = 60_000


class Denial:
    """One entry of ACL LOG; times in Unix ms."""

    __slots__ = ("client", "context", "count", "created_ms", "entry_id", "reason", "refused", "updated_ms", "username")

    def __init__(self, entry_id: int, reason: str, context: str, refused: bytes, username: bytes, client: bytes,
                 now_ms: int) -> None:  # fmt: skip
        self.entry_id = entry_id
        self.count = 1
        self.reason = reason
        self.context = context
        self.refused = refused
        self.username = username
        self.client = client
        self.created_ms = now_ms
        self.updated_ms = now_ms


class DenialLog:
    """See the module's text."""

    def __init__(self, length_max: int = 128) -> None:
        self.length_max = length_max
        self.next_id = 0
        self.entries: list[Denial] = []

    def note(self, reason: str, context: str, refused: bytes, username: bytes, client: bytes, now_ms: int) -> None:
        """Remember a refusal. ``reason``: command, key, channel or auth; ``context``: toplevel, multi or lua."""
        for entry in self.entries:
            if (
                entry.reason == reason
                and entry.context == context
                and entry.refused == refused
                and entry.username == username
                and now_ms - entry.updated_ms <= _SAME_WITHIN_MS
            ):
                entry.count += 1
                entry.updated_ms = now_ms
                entry.client = client
                self.entries.remove(entry)
                self.entries.insert(0, entry)
                return
        self.entries.insert(0, Denial(self.next_id, reason, context, refused, username, client, now_ms))
        self.next_id += 1
        del self.entries[self.length_max :]

    def clear(self) -> None:
        """ACL LOG RESET."""
        self.entries.clear()
