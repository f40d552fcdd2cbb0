"""The manifest of a multi-part append-only file: which files, in which order.

Rule: a name in it is a plain file name in the manifest's own directory, never a path. Source: valkey aof.c
aofLoadManifestFromFile(), aofInfoFormat().
"""

from __future__ import annotations

import re
from typing import Final

BASE: Final = "b"
INCREMENT: Final = "i"
HISTORY: Final = "h"

SUFFIX: Final = ".manifest"
# Redis reads lines of up to so many bytes; what is longer is no manifest.
LINE_BYTES_MAX: Final = 1024
MANIFEST_BYTES_MAX: Final = 16 << 20

_PLAIN_NAME: Final = re.compile(rb'[^\s"\'\\\x00-\x20]+')
_WORD: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPE: Final = re.compile(rb"\\x([0-9a-fA-F]{2})|\\(.)", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class ManifestError(Exception):
    """A manifest that cannot be followed; the text names it, the line and what to do."""


class Part:
    """One file. ``kind``: base or increment; what it holds, RDB or commands, its first bytes tell."""

    __slots__ = ("kind", "name", "seq")

    def __init__(self, name: str, seq: int, kind: str) -> None:
        self.name = name
        self.seq = seq
        self.kind = kind

    def line(self) -> bytes:
        """As it stands in a manifest."""
        name = self.name.encode("utf-8", "surrogateescape")
        assert _PLAIN_NAME.fullmatch(name), f"{self.name!r} would need quotes in a manifest"
        return b"file %b seq %d type %b\n" % (name, self.seq, self.kind.encode())


def parse_manifest(data: bytes, path: str) -> list[Part]:
    """The base, if any, then the increments; history is left out. Raises ManifestError."""
    base: list[Part] = []
    increments: list[Part] = []
    lines = data.split(b"\n")
    if lines.pop():
        raise _refused(path, len(lines) + 1, "the last line has no end; the file is cut off")
    for number, line in enumerate(lines, 1):
        if line.startswith(b"#"):
            continue
        if len(line) > LINE_BYTES_MAX:
            raise _refused(path, number, f"it is longer than {LINE_BYTES_MAX} bytes")
        part = _parse_line(line.rstrip(b"\r"), path, number)
        if part.kind == BASE:
            if base:
                raise _refused(path, number, "it names a second base file")
            base.append(part)
        elif part.kind == INCREMENT:
            if increments and part.seq <= increments[-1].seq:
                raise _refused(path, number, f"sequence number {part.seq} does not rise")
            increments.append(part)
    if not base and not increments:
        raise _refused(path, 1, "no file is named")
    return base + increments


def _parse_line(line: bytes, path: str, number: int) -> Part:
    words = [_unquoted(match) for match in _WORD.finditer(line)]
    pairs = {words[at].lower(): words[at + 1] for at in range(0, len(words) - 1, 2)}
    if len(words) % 2 or not {b"file", b"seq", b"type"} <= pairs.keys():
        raise _refused(path, number, "it is not 'file NAME seq NUMBER type b|i|h'")
    name, seq, kind = pairs[b"file"], pairs[b"seq"], pairs[b"type"]
    if b"/" in name or name in {b"", b".", b".."} or b"\x00" in name:
        raise _refused(path, number, "the name is not that of a file in this directory")
    if not seq.isdigit() or not int(seq):
        raise _refused(path, number, "the sequence number is not a positive number")
    if kind not in {b"b", b"i", b"h"}:
        raise _refused(path, number, f"type {kind.decode('latin-1')!r} is unknown")
    return Part(name.decode("utf-8", "surrogateescape"), int(seq), kind.decode())


def _unquoted(match: re.Match[bytes]) -> bytes:
    if match.group(1) is None:
        return match.group(2)
    return _ESCAPE.sub(_unescaped, match.group(1))


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match.group(1) is not None:
        return bytes.fromhex(match.group(1).decode())
    return _LETTERS.get(match.group(2), match.group(2))


def _refused(path: str, line: int, reason: str) -> ManifestError:
    return ManifestError(f"{path}: line {line}: {reason}; correct the manifest, or copy the whole directory again")


def export_names(prefix: str) -> tuple[Part, Part]:
    """Base and first increment of a new append-only directory, as a server named ``prefix`` looks for them."""
    return Part(f"{prefix}.1.base.rdb", 1, BASE), Part(f"{prefix}.1.incr.aof", 1, INCREMENT)
