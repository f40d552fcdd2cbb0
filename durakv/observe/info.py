"""INFO: named sections, each a callable that returns its ``key:value`` lines when asked.

Rule: knows the order and the selection words; what a section says is its author's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

Pairs: TypeAlias = Iterable[tuple[str, object]]
Section: TypeAlias = Callable[[], Pairs]


class Info:
    """Sections in the order they were added. ``rare`` ones appear only by name or with ``everything``/``all``."""

    def __init__(self) -> None:
        self._sections: dict[str, tuple[str, Section, bool]] = {}

    def add(self, title: str, section: Section, *, rare: bool = False) -> None:
        """Register a section; asked for by its title in any case."""
        self._sections[title.lower()] = (title, section, rare)

    def render(self, names: list[str]) -> str:
        """The text for ``INFO [name ...]``; no names means the default sections. Unknown names give nothing."""
        wanted = {name.lower() for name in names} or {"default"}
        everything = not wanted.isdisjoint(("all", "everything"))
        default = "default" in wanted
        parts: list[str] = []
        for key, (title, section, rare) in self._sections.items():
            if everything or key in wanted or (default and not rare):
                lines = "".join(f"{name}:{value}\r\n" for name, value in section())
                parts.append(f"# {title}\r\n{lines}")
        return "\r\n".join(parts)


def human_bytes(count: int) -> str:
    """``996.62K`` style, as INFO's ``*_human`` lines."""
    if count < 1024:
        return f"{count}B"
    amount = float(count)
    for unit in "KMGTP":
        amount /= 1024
        if amount < 1024 or unit == "P":
            return f"{amount:.2f}{unit}"
    raise AssertionError("unreachable: the last unit always returns")
