"""Every error text, one constant each, and the exception that carries one to a client.

Rule: a handler raises CommandError with a text from here; texts are Valkey's, to the letter.
Which prefixes promise "no effect" is settled in docs/errors.md and must not be reused after an entry was appended.
"""

from __future__ import annotations

from typing import Final


class CommandError(Exception):
    """The client is wrong; ``text`` becomes a RESP error (without the leading dash)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class ProtocolError(Exception):
    """The peer is wrong; ``text`` is sent as ``-ERR Protocol error: <text>`` and the link closes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


WRONGTYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX: Final = "ERR syntax error"
NOT_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_FLOAT: Final = "ERR value is not a valid float"
INCR_OVERFLOW: Final = "ERR increment or decrement would overflow"
DECR_OVERFLOW: Final = "ERR decrement would overflow"
NAN_OR_INF: Final = "ERR increment would produce NaN or Infinity"
OUT_OF_RANGE: Final = "ERR index out of range"
NO_SUCH_KEY: Final = "ERR no such key"
DB_INDEX: Final = "ERR DB index is out of range"
STRING_TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
TIMEOUT_NOT_FLOAT: Final = "ERR timeout is not a float or out of range"
TIMEOUT_NEGATIVE: Final = "ERR timeout is negative"
INTERNAL: Final = "ERR internal error"
EXECABORT: Final = "EXECABORT Transaction discarded because of previous errors."
NESTED_MULTI: Final = "ERR MULTI calls can not be nested"
EXEC_WITHOUT_MULTI: Final = "ERR EXEC without MULTI"
DISCARD_WITHOUT_MULTI: Final = "ERR DISCARD without MULTI"
WATCH_IN_MULTI: Final = "ERR WATCH inside MULTI is not allowed"
NOAUTH: Final = "NOAUTH Authentication required."
WRONGPASS: Final = "WRONGPASS invalid username-password pair or user is disabled."
CROSSSLOT: Final = "CROSSSLOT Keys in request don't hash to the same slot"
LOADING: Final = "LOADING durakv is loading the dataset in memory"


def wrong_arity(name: str) -> CommandError:
    """``name`` lower case; a subcommand as ``config|get``."""
    return CommandError(f"ERR wrong number of arguments for '{name}' command")
