"""What a reply, an error or a silence says about a request: the one table by which operations become ok, fail or info.

Rule: ``fail`` only for what the server documents as definite (docs/errors.md); everything unknown is ``info``. A read
that was not answered is ``fail``: it has no effect. It must not know workloads or connections.
"""

from __future__ import annotations

from typing import Final

from jstyle.history.op import FAIL, INFO, OK

# A reply that begins with one of these: nothing was logged and nothing ever will be.
DEFINITE: Final = (
    "ASK",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "DENIED",
    "ERR",
    "EXECABORT",
    "LEASEEXPIRED",
    "LOADING",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "THROTTLED",
    "TRYAGAIN",
    "UNBLOCKED",
    "WRONGTYPE",
)
# Errors that only a defect of a node, or of this harness, can produce here.
FORBIDDEN: Final = ("ERR internal error", "ERR Protocol error", "ERR unknown command", "ERR wrong number", "ERR syntax")

# Why an operation without a reply ended.
TIMEOUT: Final = "timeout"
CLOSED: Final = "connection closed"
NOT_SENT: Final = "not connected"
SILENT: Final = (TIMEOUT, CLOSED, NOT_SENT)


class ErrorText(str):
    """An error reply: its text without the dash."""

    __slots__ = ()


def of_error(text: str) -> str:
    """The outcome of a request that was answered by an error."""
    return FAIL if text.split(" ", 1)[0] in DEFINITE else INFO


def of_silence(*, sent: bool, effect: bool) -> str:
    """The outcome of a request without an answer. ``effect``: it could have changed something."""
    return INFO if sent and effect else FAIL


def is_forbidden(text: str) -> bool:
    """Whether the error is one that a correct node never gives to a correct client."""
    return text.startswith(FORBIDDEN)


__all__ = ["CLOSED", "DEFINITE", "FAIL", "INFO", "NOT_SENT", "OK", "SILENT", "TIMEOUT", "ErrorText", "is_forbidden"]
__all__ += ["of_error", "of_silence"]
