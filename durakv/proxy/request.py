"""What waits for an answer: a client's request, the parts of a split one, and what is more than a request. [compiled]

Rule: state only. An entry has a place in its client's order and is done once ``reply`` is set; who sends it, and what
an answer means, is decided elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

if TYPE_CHECKING:
    from durakv.proxy.lane import Lane
    from durakv.proxy.plans import Plan
    from durakv.proxy.topology import Node

CRLF: Final = b"\r\n"
ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"
_CACHED: Final = 256
_BULK: Final[list[bytes]] = [b"$%d\r\n" % n for n in range(_CACHED)]
_ARRAY: Final[list[bytes]] = [b"*%d\r\n" % n for n in range(_CACHED)]


@mypyc_attr(allow_interpreted_subclasses=True)
class Owner:
    """Whoever sent a request to a node hears what became of it."""

    def on_reply(self, request: Request, wire: bytes) -> None:
        """The whole reply, as the node wrote it."""
        raise NotImplementedError

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        """The connection ended without a reply; ``sent`` False: the node never saw the request."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class LaneWatcher:
    """Who wants to know more of an exclusive connection than its replies."""

    def on_push(self, lane: Lane, wire: bytes) -> None:
        """A push message, or on a ``raw`` connection anything that arrived while no request was out."""
        raise NotImplementedError

    def on_end(self, lane: Lane) -> None:
        """The connection has ended."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Entry(Owner):
    """A place in a client's order of replies. ``muted``: its reply is not sent (CLIENT REPLY)."""

    def __init__(self, number: int, muted: bool) -> None:
        self.number = number
        self.muted = muted
        self.reply: bytes | None = None


class Request(Entry):
    """One command for one node.

    ``slot`` is -1 for one without keys. ``need`` counts the replies it gets (an ASKING before it gets its own); the
    last is passed on, the ones before are kept in ``got``. ``refused`` is the reply, or the reason as one, why it was
    certainly not executed and shall be sent again, empty while there is none; ``kind`` its kind.
    """

    def __init__(self, number: int, muted: bool, owner: Owner, argv: list[bytes], plan: Plan, slot: int) -> None:
        super().__init__(number, muted)
        self.owner = owner
        self.argv = argv
        self.plan = plan
        self.slot = slot
        self.need = 1
        self.got: list[bytes] | None = None
        self.parent: Gather | None = None
        self.refused = b""
        self.kind = 0
        self.ask_node: Node | None = None
        self.tries = 0
        self.deadline_ns = 0
        self.lane: Lane | None = None
        self.node: Node | None = None
        # Its wait before being sent again is over.
        self.due = False
        # Where a read was sent although its slot is led elsewhere.
        self.on_replica = False


class Gather(Entry):
    """A command split over slots; done when all ``parts`` are. ``places[i]`` are the keys' positions of part i."""

    def __init__(self, number: int, muted: bool, plan: Plan, keys: int) -> None:
        super().__init__(number, muted)
        self.plan = plan
        self.keys = keys
        self.parts: list[Request] = []
        self.places: list[list[int]] = []
        self.missing = 0


def request_wire(argv: list[bytes]) -> bytes:
    """A request as a node reads it. Always written anew: bytes that two parsers could read differently end here."""
    n = len(argv)
    parts = [_ARRAY[n] if n < _CACHED else b"*%d\r\n" % n]
    for arg in argv:
        size = len(arg)
        parts.append(_BULK[size] if size < _CACHED else b"$%d\r\n" % size)
        parts.append(arg)
        parts.append(CRLF)
    return b"".join(parts)
