"""Whom a Lua state asks to carry out what its script wants. [compiled]

Rule: states what can be asked and nothing else; machine.py knows no more of commands than this. A class, not a
protocol, because scripts call commands all the time and a compiled class is called without a look at its names.
"""

from __future__ import annotations

from durakv.resp.types import Reply


class Desk:
    """Who carries out what a running script asks for. Methods may raise; the script is then stopped."""

    def call(self, argv: list[bytes]) -> Reply:
        """Run a command. Raises CommandError for an error the script is told of."""
        raise NotImplementedError

    def may(self, argv: list[bytes]) -> bool:
        """Whether the caller has the right to run a command. Raises CommandError when there is none of that name."""
        raise NotImplementedError

    def log(self, level: int, line: bytes) -> None:
        """server.log(); levels as in Valkey, 0 debug to 3 warning."""
        raise NotImplementedError
