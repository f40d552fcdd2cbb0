"""HTML and SVG as text that cannot be broken by what it shows.

Rule: the only place of the report that writes a tag, and everything that is not ``Html`` already is escaped on its way
in. Characters that would be invisible, reorder the line or be no valid text are spelled out. It must not know reports.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

Attributes = Mapping[str, object]

_VOID: Final = frozenset({"meta", "br", "input", "col"})
# SVG elements that are drawn by their attributes alone.
_EMPTY: Final = frozenset({"rect", "line", "path", "circle", "polyline"})
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_KEPT: Final = frozenset("\n\t")


class Html(str):
    """Markup that may be put into a page as it is."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text with control, direction-changing and unpaired characters as backslash escapes."""
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    for char in text:
        if char in _KEPT or unicodedata.category(char) not in _HIDDEN:
            out.append(char)
        else:
            code = ord(char)
            out.append(f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
    return "".join(out)


def escaped(value: object) -> Html:
    """Any value as text of a page: ``Html`` stays, the rest is escaped."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(visible(value if isinstance(value, str) else str(value)), quote=True))


def join(parts: Iterable[object]) -> Html:
    """Parts one after another, each escaped unless it is markup."""
    return Html("".join([escaped(part) for part in parts]))


def tag(name: str, attributes: Attributes | None = None, *children: object) -> Html:
    """An element. An attribute that is None or False is left out, True stands alone, a float is rounded for drawing.

    Names of elements and attributes are the program's own words, never data.
    """
    head = [name]
    for key, value in (attributes or {}).items():
        if value is None or value is False:
            continue
        if value is True:
            head.append(key)
        else:
            shown = figure(value) if isinstance(value, float) else value
            head.append(f'{key}="{escaped(shown)}"')
    begin = " ".join(head)
    if name in _VOID:
        return Html(f"<{begin}>")
    if name in _EMPTY and not children:
        return Html(f"<{begin}/>")
    return Html(f"<{begin}>{join(children)}</{name}>")


def figure(number: float) -> str:
    """A coordinate with one decimal, none when it is whole."""
    text = f"{number:.1f}"
    return text.removesuffix(".0")


def shortened(text: str, limit: int) -> str:
    """The text in at most ``limit`` characters."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def words(value: object, limit: int = 400) -> str:
    """A value of a history in few characters: lists in brackets, no quotes around plain words, None as nil."""
    return shortened(_spelled(value, 0), limit)


def _spelled(value: object, depth: int) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        plain = value and value.isprintable() and " " not in value
        return value if plain else repr(value)
    if depth > 6:
        return "…"
    if isinstance(value, list | tuple):
        return f"[{' '.join(_spelled(item, depth + 1) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_spelled(k, depth + 1)} {_spelled(v, depth + 1)}" for k, v in value.items()) + "}"
    return str(value)
