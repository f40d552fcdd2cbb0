"""The first line of scripts and libraries: ``#!lua flags=...`` and ``#!lua name=...``; the flags of both.

Rule: pure functions of the text. Sources: eval.c evalExtractShebangFlags(), functions.c functionExtractLibMetaData().
"""

from __future__ import annotations

from typing import Final

from durakv.resp.errors import CommandError

NO_WRITES: Final = 1
ALLOW_OOM: Final = 2
ALLOW_STALE: Final = 4
NO_CLUSTER: Final = 8
ALLOW_CROSS_SLOT: Final = 16
# A script without a shebang: what it may do shows only when it does it.
COMPATIBLE: Final = 32
FLAGS: Final[dict[bytes, int]] = {
    b"no-writes": NO_WRITES, b"allow-oom": ALLOW_OOM, b"allow-stale": ALLOW_STALE, b"no-cluster": NO_CLUSTER,
    b"allow-cross-slot-keys": ALLOW_CROSS_SLOT,
}  # fmt: skip
BAD_NAME: Final = (
    "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
)
_NAME_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
_ENGINE: Final = b"lua"
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_HEX: Final = b"0123456789abcdefABCDEF"
_BLANKS: Final = b" \n\r\t\v\f"


def script_flags(text: bytes) -> tuple[int, bytes]:
    """(flags, the Lua text) of a script; the line's end stays: lines keep their numbers. Raises CommandError."""
    if text[:2] != b"#!":
        return COMPATIBLE, text
    end = text.find(b"\n")
    if end < 0:
        raise CommandError("ERR Invalid script shebang")
    parts = split_arguments(text[:end])
    if not parts:
        raise CommandError("ERR Invalid engine in script shebang")
    if parts[0] != b"#!lua":
        raise CommandError("ERR Unexpected engine in script shebang: " + _shown(parts[0]))
    flags = 0
    for part in parts[1:]:
        if not part.startswith(b"flags="):
            raise CommandError("ERR Unknown lua shebang option: " + _shown(part))
        # An empty list has no flags.
        for word in part[6:].split(b",") if part[6:] else ():
            if word not in FLAGS:
                raise CommandError("ERR Unexpected flag in script shebang: " + _shown(word))
            flags |= FLAGS[word]
    return flags, text[end:]


def library_name(text: bytes) -> tuple[bytes, bytes]:
    """(name, the Lua text) of a library. Raises CommandError."""
    if text[:2] != b"#!":
        raise CommandError("ERR Missing library metadata")
    end = text.find(b"\n")
    parts = split_arguments(text[:end]) if end >= 0 else None
    if not parts:
        raise CommandError("ERR Invalid library metadata")
    engine = parts[0][2:]
    name: bytes | None = None
    for part in parts[1:]:
        if part[:5].lower() != b"name=":
            raise CommandError("ERR Invalid metadata value given: " + _shown(part))
        if name is not None:
            raise CommandError("ERR Invalid metadata value, name argument was given multiple times")
        name = part[5:]
    if name is None:
        raise CommandError("ERR Library name was not given")
    if not name or any(letter not in _NAME_LETTERS for letter in name):
        raise CommandError(BAD_NAME)
    if engine.lower() != _ENGINE:
        raise CommandError(f"ERR Engine '{_shown(engine)}' not found")
    return name, text[end:]


def flag_names(flags: int) -> list[bytes]:
    """The words for a set of flags, in Valkey's order."""
    return [name for name, bit in FLAGS.items() if flags & bit]


def _shown(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")


def split_arguments(line: bytes) -> list[bytes] | None:
    """Words, with quotes and escapes as in redis-cli; None when quotes do not match. Source: sds.c sdssplitargs()."""
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _BLANKS:
            at += 1
        if at >= len(line):
            return words
        word = bytearray()
        while at < len(line) and line[at] not in _BLANKS:
            letter = line[at : at + 1]
            if letter in (b'"', b"'"):
                end = _quoted(line, at, word)
                if end is None:
                    return None
                at = end
            else:
                word += letter
                at += 1
        words.append(bytes(word))


def _quoted(line: bytes, at: int, word: bytearray) -> int | None:
    """Take the quoted part that starts at ``at``; returns where the text goes on, None when it never ends well."""
    quote = line[at : at + 1]
    at += 1
    while at < len(line):
        letter = line[at : at + 1]
        if letter == quote:
            # Nothing but a blank may follow.
            return at + 1 if at + 1 == len(line) or line[at + 1] in _BLANKS else None
        if letter == b"\\" and quote == b'"':
            digits = line[at + 2 : at + 4]
            if line[at + 1 : at + 2] == b"x" and len(digits) == 2 and all(digit in _HEX for digit in digits):
                word.append(int(digits, 16))
                at += 4
                continue
            if at + 1 < len(line):
                escape = line[at + 1 : at + 2]
                word += _ESCAPES.get(escape, escape)
                at += 2
                continue
        elif letter == b"\\" and line[at + 1 : at + 2] == b"'":
            word += b"'"
            at += 2
            continue
        word += letter
        at += 1
    return None
