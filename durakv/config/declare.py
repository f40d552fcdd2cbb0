"""How a directive is declared: name, kind of value, default, whether it may change at run time, one line of help.

Rule: words only; which directives there are is directives.py's and foreign.py's business.
"""

from __future__ import annotations

from typing import Final

from durakv.config.values import Integer, Kind, Value

INT_MAX: Final = (1 << 31) - 1
LONG_MAX: Final = (1 << 63) - 1


class Directive:
    """One setting. ``aliases`` are other names for it; ``secret`` values are never logged."""

    __slots__ = ("aliases", "attribute", "default", "help", "kind", "mutable", "name", "secret")

    def __init__(
        self, name: str, kind: Kind, default: str, help_text: str, *, mutable: bool, alias: str, secret: bool
    ) -> None:
        self.name = name
        self.attribute = name.replace("-", "_")
        self.kind = kind
        self.default: Value = kind.parse(default)
        self.help = help_text
        self.mutable = mutable
        self.aliases = alias.split()
        self.secret = secret


def fixed(name: str, kind: Kind, default: str, help_text: str, *, alias: str = "", secret: bool = False) -> Directive:
    """Set at start only; ``alias``: other names, separated by blanks."""
    return Directive(name, kind, default, help_text, mutable=False, alias=alias, secret=secret)


def live(name: str, kind: Kind, default: str, help_text: str, *, alias: str = "", secret: bool = False) -> Directive:
    """CONFIG SET may change it."""
    return Directive(name, kind, default, help_text, mutable=True, alias=alias, secret=secret)


def num(low: int, high: int) -> Integer:
    """An integer within inclusive bounds."""
    return Integer(low, high)


def size(low: int, high: int = LONG_MAX) -> Integer:
    """Bytes, with or without a unit."""
    return Integer(low, high, size=True)
