"""Requests as text that may be shown to an operator: secrets replaced.

Rule: everything that shows arguments of other people's commands (MONITOR, SLOWLOG, log lines) goes through here.
"""

from __future__ import annotations

from typing import Final

HIDDEN: Final = b"(redacted)"
_SECRET_DIRECTIVES: Final = (b"requirepass", b"masterauth", b"primaryauth", b"masteruser", b"primaryuser",
                             b"tls-key-file-pass", b"tls-client-key-file-pass")  # fmt: skip


def redacted(argv: list[bytes]) -> list[bytes]:
    """``argv`` itself, or a copy with its secrets hidden."""
    if len(argv) < 2:
        return argv
    name = argv[0].upper()
    if name == b"AUTH":
        return [argv[0]] + [HIDDEN] * (len(argv) - 1)
    if name == b"ACL" and argv[1].upper() in (b"SETUSER", b"DELUSER", b"GETUSER"):
        return argv[:2] + [HIDDEN] * (len(argv) - 2)
    if name == b"HELLO":
        return _after(argv, b"AUTH", 2)
    if name == b"MIGRATE":
        return _after(_after(argv, b"AUTH", 1), b"AUTH2", 2)
    if name == b"CONFIG" and argv[1].upper() == b"SET":
        out = list(argv)
        for at in range(2, len(argv) - 1, 2):
            if argv[at].lower() in _SECRET_DIRECTIVES:
                out[at + 1] = HIDDEN
        return out
    return argv


def _after(argv: list[bytes], word: bytes, count: int) -> list[bytes]:
    """Hide ``count`` arguments after each ``word``."""
    out = list(argv)
    for at in range(1, len(argv)):
        if argv[at].upper() == word:
            for secret in range(at + 1, min(at + 1 + count, len(argv))):
                out[secret] = HIDDEN
    return out


def quoted(argument: bytes) -> bytes:
    """An argument in double quotes, printable, as MONITOR and redis-cli write it."""
    out = bytearray(b'"')
    for byte in argument:
        if byte in b'"\\':
            out += b"\\" + bytes((byte,))
        elif 32 <= byte < 127:
            out.append(byte)
        else:
            out += _ESCAPES.get(byte) or b"\\x%02x" % byte
    return bytes(out + b'"')


_ESCAPES: Final = {10: b"\\n", 13: b"\\r", 9: b"\\t", 7: b"\\a", 8: b"\\b"}
