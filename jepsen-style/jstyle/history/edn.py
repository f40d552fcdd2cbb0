"""EDN, the notation Jepsen, Elle and Knossos write histories in: text to JSON-like values and back.

Rule: values come out as JSON would have given them (dict, list, str, int, float, bool, None), with thin subclasses
where EDN distinguishes more: ``Keyword`` and ``Symbol`` are strings, ``EdnSet`` is a list. So a checker compares
``:append`` with ``"append"`` and needs to know nothing of EDN. A tagged literal is its value; the tag is dropped.

One regular expression cuts the whole text into tokens and a stack assembles them: no recursion, so hostile nesting ends
in an error and not in a crash. It must not know what an operation is.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import isnan
from typing import Final, cast

NESTING_MAX: Final = 200

_SKIP: Final = r"(?:[\s,]+|;[^\n]*|\#![^\n]*)*"
_TOKEN: Final = re.compile(
    _SKIP
    + r"("
    + r'"(?:[^"\\]|\\.)*"'  # string
    + r"|[()\[\]{}]"
    + r"|\#\{|\#_|\#\#-?\w+"
    + r"|\\(?:[A-Za-z]\w*|[^\s])"  # character
    + r"|\#[A-Za-z][\w.*+!\-?$%&=<>/:]*"  # tag
    + r"|[^\s,()\[\]{}\"\\;\#][^\s,()\[\]{}\"\\;]*"  # keyword, symbol, number
    + r"|."
    + r"|$)",
    re.DOTALL,
)
_INTEGER: Final = re.compile(r"[+-]?\d+N?\Z")
_FLOAT: Final = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\Z")
_DECIMAL: Final = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?M\Z")
_RATIO: Final = re.compile(r"[+-]?\d+/\d+\Z")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
_CHARACTERS: Final = {
    "newline": "\n", "space": " ", "tab": "\t", "return": "\r", "backspace": "\b", "formfeed": "\f",
}  # fmt: skip
_OPENERS: Final = {"(": ")", "[": "]", "{": "}", "#{": "}"}
_CLOSERS: Final = frozenset(")]}")
_PLAIN_KEYWORD: Final = re.compile(r"[A-Za-z*!_?$%&=<>+.\-][\w*!?$%&=<>+./#\-]*\Z")
_LONG_MAX: Final = (1 << 63) - 1
_MISSING: Final = object()


class EdnError(ValueError):
    """Text that is not EDN; ``line`` counts from 1."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


class Keyword(str):
    """``:name``; equal to the string ``name``."""

    __slots__ = ()


class Symbol(str):
    """A bare word; equal to the string of the same letters."""

    __slots__ = ()


class EdnSet(list[object]):
    """``#{...}`` in the order written; a list, because elements need not be hashable."""

    __slots__ = ()


class _Frame:
    """An open bracket, tag or discard. ``closer`` is empty for those that end with their one form."""

    __slots__ = ("at", "closer", "items", "opener")

    def __init__(self, opener: str, closer: str, at: int) -> None:
        self.opener = opener
        self.closer = closer
        self.items: list[object] = []
        self.at = at


def frozen(value: object) -> Hashable:
    """A hashable, equal for equal JSON-like values: lists become tuples, maps sorted pairs, a boolean is no int."""
    if value is None or isinstance(value, str) or type(value) is int:
        return value
    if isinstance(value, bool):
        return ("bool", int(value))
    if isinstance(value, list | tuple):
        return tuple([frozen(item) for item in value])
    if isinstance(value, dict):
        pairs = [(frozen(key), frozen(item)) for key, item in value.items()]
        return ("map", *sorted(pairs, key=repr))
    assert isinstance(value, Hashable)
    return value


def parse(text: str) -> list[object]:
    """All top-level forms of ``text``. Raises EdnError."""
    return [form for form, _ in parse_lines(text, with_lines=False)]


def parse_lines(text: str, *, with_lines: bool = True) -> list[tuple[object, int]]:
    """All top-level forms with the number of their closing token, which ``line_of`` turns into a line."""
    top = _Frame("", "", 0)
    ends: list[int] = []
    stack: list[_Frame] = [top]
    items = top.items
    # Whether the innermost frame is a bracket: one that a form does not complete.
    bracket = False
    known: dict[str, object] = {"nil": None, "true": True, "false": False}
    tokens: list[str] = _TOKEN.findall(text)
    for at, token in enumerate(tokens):
        value = known.get(token, _MISSING)
        if value is _MISSING:
            if token.isdecimal() and len(token) < 19:
                value = int(token)
            elif token in _CLOSERS:
                value = _close(stack, token, text, at)
                items = stack[-1].items
                bracket = stack[-1].closer != ""
            elif not token:
                continue
            elif token in _OPENERS or (token[0] == "#" and token[1:2] not in {"", "#"}):
                stack.append(_Frame(token, _OPENERS.get(token, ""), at))
                if len(stack) > NESTING_MAX:
                    raise EdnError(f"nested deeper than {NESTING_MAX}", line_of(text, at))
                items = stack[-1].items
                bracket = token in _OPENERS
                continue
            else:
                value = _atom(token, text, at)
                if token[0] == ":":
                    known[token] = value
        items.append(value)
        if not bracket:
            items = _finish(stack, at, ends)
            bracket = stack[-1].closer != ""
    if len(stack) > 1:
        opener = stack[-1]
        raise EdnError(f"{opener.opener!r} is never closed", line_of(text, opener.at))
    return list(zip(top.items, ends, strict=True)) if with_lines else [(form, 0) for form in top.items]


def _finish(stack: list[_Frame], at: int, ends: list[int]) -> list[object]:
    """Apply the tags and discards that the newest form completes; returns the list now being filled."""
    while len(stack) > 1 and not stack[-1].closer and stack[-1].items:
        frame = stack.pop()
        if frame.opener != "#_":
            stack[-1].items.append(frame.items[0])
    if len(stack) == 1:
        while len(ends) < len(stack[0].items):
            ends.append(at)
    return stack[-1].items


def line_of(text: str, token: int) -> int:
    """The line of the token with this number."""
    for at, match in enumerate(_TOKEN.finditer(text)):
        if at == token:
            return text.count("\n", 0, match.start(1)) + 1
    return text.count("\n") + 1


def _close(stack: list[_Frame], token: str, text: str, at: int) -> object:
    frame = stack.pop()
    if frame.closer != token:
        if frame.opener:
            tail = f"is closed by {token!r}" if frame.closer else "has no form after it"
            what = f"{frame.opener!r} {tail}"
        else:
            what = f"{token!r} closes nothing"
        raise EdnError(what, line_of(text, at))
    if frame.opener == "{":
        items = frame.items
        if len(items) % 2:
            raise EdnError("a map with a key and no value", line_of(text, at))
        try:
            return dict(zip(items[::2], items[1::2], strict=True))
        except TypeError:
            return dict(zip(map(frozen, items[::2]), items[1::2], strict=True))
    return EdnSet(frame.items) if frame.opener == "#{" else frame.items


def _atom(token: str, text: str, at: int) -> object:
    first = token[0]
    if first == ":" and len(token) > 1:
        return Keyword(token[1:])
    if first == '"' and len(token) > 1:
        return _string(token[1:-1], text, at)
    if first == "\\" and len(token) > 1:
        return _character(token[1:], text, at)
    if token[:2] == "##":
        if token in {"##NaN", "##Inf", "##-Inf"}:
            return float(token[2:])
        raise EdnError(f"unknown symbolic value {token}", line_of(text, at))
    if first.isdigit() or (first in "+-" and token[1:2].isdigit()):
        return _number(token, text, at)
    if first in '"\\#:':
        what = "a string that is never closed" if first == '"' else f"unexpected {first!r}"
        raise EdnError(what, line_of(text, at))
    return Symbol(token)


def _number(token: str, text: str, at: int) -> object:
    try:
        if _INTEGER.match(token):
            return int(token.removesuffix("N"))
        if _FLOAT.match(token):
            return float(token)
        if _DECIMAL.match(token):
            return Decimal(token[:-1])
        if _RATIO.match(token):
            ratio = Fraction(token)
            return ratio.numerator if ratio.denominator == 1 else ratio
    except (ValueError, ZeroDivisionError, InvalidOperation) as error:
        raise EdnError(f"number {token[:40]} cannot be used: {error}", line_of(text, at)) from error
    raise EdnError(f"{token[:40]} is not a number", line_of(text, at))


def _string(body: str, text: str, at: int) -> str:
    if "\\" not in body:
        return body

    def unescape(match: re.Match[str]) -> str:
        code, octal, letter = match.groups()
        if code is not None:
            return chr(int(code, 16))
        if octal is not None:
            return chr(int(octal, 8))
        if letter not in _ESCAPES:
            raise EdnError(f"unknown escape \\{letter} in a string", line_of(text, at))
        return _ESCAPES[letter]

    whole = _ESCAPE.sub(unescape, body)
    # Characters beyond the 16-bit plane arrive as two \u escapes.
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\u" in body else whole


def _character(name: str, text: str, at: int) -> str:
    if len(name) == 1:
        return name
    if name in _CHARACTERS:
        return _CHARACTERS[name]
    if re.fullmatch(r"u[0-9a-fA-F]{4}", name):
        return chr(int(name[1:], 16))
    raise EdnError(f"unknown character \\{name}", line_of(text, at))


def keyword(name: str) -> str:
    """``:name`` when that reads back as it is, else the string in quotes."""
    return f":{name}" if _PLAIN_KEYWORD.match(name) else _quoted(name)


def dump(value: object) -> str:
    """``value`` in EDN, one line. Raises TypeError for what EDN cannot say."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if isinstance(value, Keyword):
            return keyword(value)
        return str(value) if isinstance(value, Symbol) else _quoted(value)
    if isinstance(value, int):
        return f"{value}N" if abs(value) > _LONG_MAX else str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, EdnSet):
        return "#{" + " ".join(map(dump, value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(dump, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join([f"{dump(key)} {dump(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, Decimal):
        return f"{value}M"
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, bytes):
        return _quoted(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, set | frozenset):
        return "#{" + " ".join(sorted(map(dump, cast("set[object]", value)))) + "}"
    raise TypeError(f"{type(value).__name__} has no EDN form")


def _float(value: float) -> str:
    if isnan(value):
        return "##NaN"
    if value in {float("inf"), float("-inf")}:
        return "##Inf" if value > 0 else "##-Inf"
    return repr(value)


def _quoted(text: str) -> str:
    body = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + body.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
