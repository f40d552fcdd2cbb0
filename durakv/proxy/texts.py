"""The proxy's own error replies, each saying whether the request was executed and what to do. [compiled]

Rule: the only place for them. ``UNKNOWN`` alone leaves the outcome open; everything else here means nothing was
executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.proxy.refusal import ASK, LATER, LOST_READ, MOVED, UNSENT
from durakv.resp.encoder import error_line

if TYPE_CHECKING:
    from durakv.proxy.request import Request

NOT_SERVED: Final = b"-CLUSTERDOWN no node is known to serve this slot; nothing was executed, send it again\r\n"
_REASONS: Final = {
    MOVED: "its slot moved", ASK: "its slot is moving", UNSENT: "its node was lost", LOST_READ: "its node was lost",
    LATER: "its node refused it",
}  # fmt: skip


def unknown(node: str, why: str) -> bytes:
    """A write was handed to the network and its connection broke."""
    return error_line(
        f"UNKNOWN the connection to {node} broke with this request out ({why}): it may or may not have been executed, "
        "read before sending it again"
    )


def unsent(node: str, why: str) -> bytes:
    """The node never saw it."""
    return error_line(f"CLUSTERDOWN {node} cannot be reached ({why}); nothing was executed, send it again")


def lost_read(node: str, why: str) -> bytes:
    """A read's connection broke; it changes nothing, so it may be sent again."""
    return error_line(f"CLUSTERDOWN {node} was lost before it answered ({why}); nothing was changed, send it again")


def gave_up(request: Request, retry_ms: int) -> bytes:
    """The time for sending again is over."""
    if request.kind in (MOVED, ASK):
        return error_line(
            f"CLUSTERDOWN slot {request.slot} was redirected for {retry_ms} ms; nothing was executed, send it again"
        )
    return request.refused


def overtaken(request: Request) -> bytes:
    """Sending it again now would reorder the client's own requests."""
    reason = _REASONS.get(request.kind, "its node no longer leads")
    return error_line(
        f"TRYAGAIN {reason} and later requests of this connection were executed before it could be sent again; it was "
        "not executed, send it again"
    )
