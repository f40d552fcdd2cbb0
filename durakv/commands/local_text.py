"""Small readers and replies that the node-local commands share.

Rule: pure functions over arguments; no session, no node.
"""

from __future__ import annotations

from durakv.commands.spec import Argv
from durakv.resp.errors import NOT_INTEGER, SYNTAX, TIMEOUT_NEGATIVE, CommandError
from durakv.resp.types import Reply, Simple

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1


def text(argument: bytes) -> str:
    """An argument as text; bytes that are no UTF-8 survive the way back."""
    return argument.decode("utf-8", "surrogateescape")


def wire(shown: str) -> bytes:
    """The inverse of text()."""
    return shown.encode("utf-8", "surrogateescape")


def integer(argument: bytes, error: str = NOT_INTEGER) -> int:
    """A decimal 64-bit integer as Valkey reads it: no blanks, plus signs or leading zeros. Raises CommandError."""
    digits = argument[1:] if argument[:1] == b"-" else argument
    if digits.isdigit() and len(digits) < 20 and (digits[0] != 48 or argument == b"0"):
        value = int(argument)
        if INT64_MIN <= value <= INT64_MAX:
            return value
    raise CommandError(error)


def timeout_ms(argument: bytes) -> int:
    """A timeout in whole milliseconds, not negative. Raises CommandError."""
    value = integer(argument, "ERR timeout is not an integer or out of range")
    if value < 0:
        raise CommandError(TIMEOUT_NEGATIVE)
    return value


def on_off(argument: bytes) -> bool:
    """ON or OFF. Raises CommandError."""
    word = argument.upper()
    if word not in (b"ON", b"OFF"):
        raise CommandError(SYNTAX)
    return word == b"ON"


def bad_subcommand(argv: Argv) -> CommandError:
    """Valkey's answer when a subcommand has more arguments than any of its forms."""
    return CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{text(argv[1])[:128]}'. "
        f"Try {text(argv[0]).upper()} HELP."
    )


def help_reply(argv: Argv, lines: list[tuple[str, str]]) -> Reply:
    """The answer to ``<container> HELP``: (usage, explanation) pairs, as the array of simple strings clients expect."""
    name = text(argv[0]).upper()
    out: list[Reply] = [Simple(f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:".encode())]
    for usage, explanation in [*lines, ("HELP", "Print this help.")]:
        out.append(Simple(usage.encode()))
        out.append(Simple(b"    " + explanation.encode()))
    return out
