"""A second, slow reading of the request grammar: the whole input at once, one regular expression a line.

Rule: shares nothing with durakv.resp.parser but the limits' values, so that a mistake must be made twice to go unseen.
"""

from __future__ import annotations

import re

LINE_MAX = 65536
INT64 = re.compile(rb"(0|-?[1-9][0-9]{0,18})\Z")


class Stop(Exception):
    """Protocol error text, or None where the input ends before the command does."""

    def __init__(self, text: str | None) -> None:
        super().__init__(text)
        self.text = text


def parse(data: bytes, *, authenticated: bool, arg_max: int = 512 << 20) -> tuple[list[list[bytes]], str | None]:
    """(argvs, protocol error or None) of a connection's whole input; "drop" for a silent close."""
    commands: list[list[bytes]] = []
    at = 0
    try:
        while at < len(data):
            argv, at = (_multibulk if data[at : at + 1] == b"*" else _inline)(data, at, authenticated, arg_max)
            if argv:
                commands.append(argv)
    except Stop as e:
        return commands, e.text
    return commands, None


def _line(data: bytes, at: int, end: bytes, too_big: str) -> int:
    found = data.find(end, at)
    nul = data.find(b"\0", at)
    if found < 0 or found - at > LINE_MAX or 0 <= nul < found:
        raise Stop(too_big if len(data) - at > LINE_MAX else None)
    return found


def _number(text: bytes) -> int | None:
    if not INT64.match(text) or not -(2**63) <= int(text) < 2**63:
        return None
    return int(text)


def _multibulk(data: bytes, at: int, authenticated: bool, arg_max: int) -> tuple[list[bytes], int]:
    end = _line(data, at, b"\r", "too big mbulk count string")
    if end + 2 > len(data):
        raise Stop(None)
    count = _number(data[at + 1 : end])
    if count is None or count > 1 << 20:
        raise Stop("invalid multibulk length")
    if count > 10 and not authenticated:
        raise Stop("unauthenticated multibulk length")
    at = end + 2
    argv = []
    for _ in range(max(count, 0)):
        end = _line(data, at, b"\r", "too big bulk count string")
        if end + 2 > len(data):
            raise Stop(None)
        if data[at : at + 1] != b"$":
            raise Stop(f"expected '$', got '{data[at : at + 1].decode('utf-8', 'surrogateescape')}'")
        size = _number(data[at + 1 : end])
        if size is None or size < 0 or size > arg_max:
            raise Stop("invalid bulk length")
        if size > 16384 and not authenticated:
            raise Stop("unauthenticated bulk length")
        at = end + 2
        if at + size + 2 > len(data):
            raise Stop(None)
        argv.append(data[at : at + size])
        at += size + 2
    return argv, at


def _inline(data: bytes, at: int, authenticated: bool, arg_max: int) -> tuple[list[bytes], int]:
    end = _line(data, at, b"\n", "too big inline request")
    line = data[at : end - 1 if data[at:end].endswith(b"\r") else end]
    argv = _words(line)
    if argv and argv[0].lower() in {b"post", b"host:"}:
        raise Stop("drop")
    return argv, end + 1


def _words(line: bytes) -> list[bytes]:
    text = line.decode("latin-1")
    words = []
    while text := text.lstrip(" \t\n\v\f\r"):
        word, text = _word(text)
        words.append(word.encode("latin-1"))
    return words


def _word(text: str) -> tuple[str, str]:
    plain = re.match(r"""[^ \t\n\r"']*""", text)
    assert plain is not None
    word, text = plain.group(), text[plain.end() :]
    if text[:1] == '"':
        quoted = re.match(r'"((?:\\x[0-9a-fA-F]{2}|\\[\s\S]|[^"\\])*)"(?=[ \t\n\v\f\r]|\Z)', text)
    elif text[:1] == "'":
        quoted = re.match(r"""'((?:\\'|\\(?!')|[^'\\])*)'(?=[ \t\n\v\f\r]|\Z)""", text)
    else:
        return word, text
    if quoted is None:
        raise Stop("unbalanced quotes in request")
    inner = quoted.group(1)
    if text[0] == '"':
        inner = re.sub(r"\\(x[0-9a-fA-F]{2}|[\s\S])", _unescape, inner)
    else:
        inner = inner.replace("\\'", "'")
    return word + inner, text[quoted.end() :]


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) == 3:
        return chr(int(code[1:], 16))
    return {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}.get(code, code)
