"""Where the members of a config holder are, as an operator writes it: ``1=10.0.0.1:27000``.

Rule: the only reader of that notation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from durakv.witness.address import host_and_port

# More would make every change slower and protect from nothing that five do not.
MEMBERS_MAX: Final = 7

Members = dict[int, tuple[str, int]]
"""Host and port by member id, in order of id."""


def parse_members(texts: Sequence[str]) -> Members:
    """Each ``ID=HOST:PORT``, an IPv6 address in brackets. Raises ValueError that says what to correct."""
    out: Members = {}
    for text in texts:
        number, _, where = text.partition("=")
        if not (number.isascii() and number.isdecimal() and 0 < int(number) < 1 << 64) or not where:
            raise ValueError(f"{text!r} names no member of a config holder; write ID=HOST:PORT, as 1=10.0.0.1:27000")
        member_id = int(number)
        if member_id in out:
            raise ValueError(f"member {member_id} of the config holder is listed twice; list each once")
        out[member_id] = host_and_port(where)
    if not 1 <= len(out) <= MEMBERS_MAX:
        raise ValueError(f"{len(out)} members of a config holder; name 3, or any number from 1 to {MEMBERS_MAX}")
    return dict(sorted(out.items()))


def format_members(members: Members) -> list[str]:
    """The inverse of parse_members()."""
    return [f"{i}={f'[{host}]' if ':' in host else host}:{port}" for i, (host, port) in sorted(members.items())]
