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
TIMEOUT_OUT_OF_RANGE: Final = "ERR timeout is out of range"
VALUE_OUT_OF_RANGE: Final = "ERR value is out of range"
OUT_OF_RANGE_POSITIVE: Final = "ERR value is out of range, must be positive"
COUNT_NOT_POSITIVE: Final = "ERR count should be greater than 0"
NUMKEYS_NOT_POSITIVE: Final = "ERR numkeys should be greater than 0"
NUMKEYS_TOO_MANY: Final = "ERR Number of keys can't be greater than number of args"
NUMFIELDS_MISMATCH: Final = "ERR numfields should be greater than 0 and match the provided number of fields"
LIMIT_NEGATIVE: Final = "ERR LIMIT can't be negative"
HASH_NOT_INTEGER: Final = "ERR hash value is not an integer"
HASH_NOT_FLOAT: Final = "ERR hash value is not a float"
VALUE_NAN_OR_INF: Final = "ERR value is NaN or Infinity"
RANK_ZERO: Final = (
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... "
    "or use negative to start from the end of the list"
)
LPOS_COUNT_NEGATIVE: Final = "ERR COUNT can't be negative"
LPOS_MAXLEN_NEGATIVE: Final = "ERR MAXLEN can't be negative"
ZADD_XX_NX: Final = "ERR XX and NX options at the same time are not compatible"
ZADD_GT_LT_NX: Final = "ERR GT, LT, and/or NX options at the same time are not compatible"
ZADD_INCR_PAIR: Final = "ERR INCR option supports a single increment-element pair"
SCORE_NAN: Final = "ERR resulting score is not a number (NaN)"
BOUND_NOT_FLOAT: Final = "ERR min or max is not a float"
BOUND_NOT_STRING: Final = "ERR min or max not valid string range item"
WEIGHT_NOT_FLOAT: Final = "ERR weight value is not a float"
LIMIT_NEEDS_BY: Final = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
WITHSCORES_BYLEX: Final = "ERR syntax error, WITHSCORES not supported in combination with BYLEX"
INTERNAL: Final = "ERR internal error"
EXECABORT: Final = "EXECABORT Transaction discarded because of previous errors."
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
