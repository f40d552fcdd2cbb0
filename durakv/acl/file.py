"""The text of an ACL file and of ``user`` lines in a configuration: ``user <name> <rule>...``, one user a line.

Rule: reads all or nothing, naming every bad line at once. Knows no files, only their text. Source: acl.c.
"""

from __future__ import annotations

from typing import Final

from durakv.acl.selector import RuleError
from durakv.acl.users import Acl, User, joined
from durakv.resp.errors import CommandError

Definition = tuple[bytes, list[bytes]]

_UNCHANGED: Final = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"


def parse(acl: Acl, text: str, path: str) -> list[Definition]:
    """(name, rules) of every user, the rules as User.rules() gives them. Raises CommandError listing what is wrong."""
    out: dict[bytes, list[bytes]] = {}
    errors = ""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.strip(" \t\r\n").encode("utf-8", "surrogateescape").split()
        if not words:
            continue
        where = f"{path}:{number}"
        if words[0] != b"user" or len(words) < 2:
            errors += f"{where} should start with user keyword followed by the username. "
            continue
        name = words[1]
        if name in out:
            errors += f"WARNING: Duplicate user '{_shown(name)}' found on line {number}. "
            continue
        user = User(name, acl.index, all_channels=acl.all_channels)
        problem = _apply(user, words[2:], where, all_channels=acl.all_channels)
        errors += problem
        out[name] = user.rules()
    if errors:
        raise CommandError("ERR " + errors + _UNCHANGED)
    return list(out.items())


def _apply(user: User, words: list[bytes], where: str, *, all_channels: bool) -> str:
    """Give ``user`` its rules; what was wrong with them, empty for nothing."""
    try:
        rules = joined(words)
    except CommandError:
        return f"{where}: Unmatched parenthesis in selector definition."
    for rule in rules:
        try:
            user.apply(rule, all_channels=all_channels)
        except RuleError as e:
            return f"{where}: {e.text}. "
    return ""


def text_of(acl: Acl) -> str:
    """All users, as ACL SAVE writes them."""
    lines = [b"user " + name + b" " + acl.users[name].text() + b"\n" for name in sorted(acl.users)]
    return b"".join(lines).decode("utf-8", "surrogateescape")


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
