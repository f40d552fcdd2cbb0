"""Why an RDB file cannot be read: it is damaged, or it holds what this version does not know.

Rule: every message names the file, the byte and the way out.
"""

from __future__ import annotations


class RdbFileError(Exception):
    """``offset`` is the byte of ``path`` where reading stopped."""

    def __init__(self, path: str, offset: int, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.offset = offset


class DamagedRdb(RdbFileError):
    """Bytes no writer makes, a file that ends too early, or a wrong checksum."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(
            path,
            offset,
            f"{path}: damaged at byte {offset}: {reason}; copy or save the file again, and check the copy with "
            "redis-check-rdb",
        )
        self.reason = reason


class UnsupportedRdb(RdbFileError):
    """Whole, as far as read, but of a kind this version cannot take over."""

    def __init__(self, path: str, offset: int, reason: str, advice: str) -> None:
        super().__init__(path, offset, f"{path}: byte {offset}: {reason}; {advice}")
        self.reason = reason


class Malformed(Exception):
    """As DamagedRdb, before the path is known; ``at`` counts from the start of the bytes looked at."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at
