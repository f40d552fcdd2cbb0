"""Which error replies say that nothing was executed and that the request belongs elsewhere or later. [compiled]

Rule: the only place that decides whether an answered request may be sent again. Everything not listed here is the
client's to read. Only the error's text counts, so a script that makes such an error up itself is believed where its
redirection names its own slot; see docs/proxy.md.
"""

from __future__ import annotations

from typing import Final

NONE: Final = 0
# Another node serves the slot from now on; for this once; nobody does right now; this node no longer leads.
MOVED: Final = 1
ASK: Final = 2
LATER: Final = 3
DEMOTED: Final = 4
# Not an error reply: the connection broke, before the request was sent or with a read out.
UNSENT: Final = 5
LOST_READ: Final = 6

_LATER: Final = (b"-TRYAGAIN ", b"-CLUSTERDOWN ", b"-LOADING ", b"-MASTERDOWN ", b"-UNBLOCKED ")
# A script's own errors may begin with any word; these are whole texts of the server.
_LATER_SCRIPT: Final = (
    b"-TRYAGAIN Multiple keys request during rehashing of slot", b"-CLUSTERDOWN ", b"-LOADING ", b"-MASTERDOWN ",
)  # fmt: skip


def kind_of(wire: bytes, script: bool) -> int:
    """What an error reply (``wire`` begins with a dash) says about sending the request again."""
    if wire.startswith(b"-MOVED "):
        return MOVED
    if wire.startswith(b"-ASK "):
        return ASK
    if wire.startswith(_LATER_SCRIPT if script else _LATER):
        return LATER
    if wire.startswith(b"-READONLY "):
        return DEMOTED
    return NONE


class Redirection:
    """The target of MOVED or ASK. ``host`` empty: the host that answered."""

    __slots__ = ("host", "port", "slot")

    def __init__(self, slot: int, host: str, port: int) -> None:
        self.slot = slot
        self.host = host
        self.port = port


def redirection(wire: bytes) -> Redirection | None:
    """The slot and address in ``-MOVED slot host:port`` or ``-ASK ...``; None when it cannot be read.

    An IPv6 host has no brackets: the port is behind the last colon.
    """
    words = wire.split()
    if len(words) < 3:
        return None
    host, _, port = words[2].rpartition(b":")
    if not words[1].isdigit() or not port.isdigit():
        return None
    slot = int(words[1])
    number = int(port)
    if slot >= 16384 or not 0 < number < 65536:
        return None
    text = host.decode("utf-8", "replace")
    return Redirection(slot, "" if text == "?" else text, number)
