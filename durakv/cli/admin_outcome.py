"""What became of an import: how much went in, what was left out and why, where to go on.

Rule: every key and command read ends up in exactly one count here.
"""

from __future__ import annotations

from typing import Final

_SAMPLES_MAX: Final = 5


class LeftOut:
    """One reason, how often it came up, and the first few keys."""

    def __init__(self) -> None:
        self.count = 0
        self.samples: list[bytes] = []


class Outcome:
    """``imported`` counts keys of RDB files, ``commands`` those of append-only files."""

    def __init__(self) -> None:
        self.imported = 0
        self.commands = 0
        self.functions = 0
        self.left_out: dict[str, LeftOut] = {}
        # Reasons that are no loss: a deadline that has passed, an empty collection.
        self.harmless: set[str] = set()
        self.notes: list[str] = []

    def leave_out(self, reason: str, key: bytes, *, harmless: bool = False) -> None:
        """Count one key, library or command that did not go in."""
        entry = self.left_out.setdefault(reason, LeftOut())
        entry.count += 1
        if len(entry.samples) < _SAMPLES_MAX:
            entry.samples.append(key)
        if harmless:
            self.harmless.add(reason)

    def complete(self) -> bool:
        """Whether nothing was lost on the way."""
        return all(reason in self.harmless for reason in self.left_out)

    def document(self) -> dict[str, object]:
        """For --json."""
        return {
            "imported_keys": self.imported,
            "commands": self.commands,
            "functions": self.functions,
            "left_out": [
                {
                    "reason": reason, "count": entry.count, "harmless": reason in self.harmless,
                    "samples": [key.decode("utf-8", "backslashreplace") for key in entry.samples],
                }
                for reason, entry in sorted(self.left_out.items())
            ],
            "notes": self.notes,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For a person."""
        out = []
        for reason, entry in sorted(self.left_out.items()):
            samples = ", ".join(repr(key)[1:] for key in entry.samples)
            more = ", ..." if entry.count > len(entry.samples) else ""
            out.append(f"Left out: {entry.count:,} x {reason}: {samples}{more}")
        return out + self.notes
