"""INFO: a node's own, and a section about the proxy in front of it.

Rule: clients that look for a version or a role find the node's; everything the proxy counts is in one place, facts().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv import __version__
from durakv.proxy.task import Call, Task
from durakv.resp.encoder import encode
from durakv.resp.types import Verbatim

if TYPE_CHECKING:
    from durakv.proxy.hub import Hub

_ALL = (b"all", b"everything", b"default")


class Info(Task):
    """INFO [section ...]."""

    _call: Call | None = None

    def start(self) -> None:
        """Ask any node, unless only the proxy is meant."""
        client = self.client
        wanted = [word.lower() for word in self.argv[1:]]
        others = [word for word in wanted if word != b"proxy"]
        if wanted and not others:
            self.finish(encode(Verbatim(section(client.hub)), client.profile.protocol))
            return
        call = Call(
            client.hub, client.profile, self.plan, [self.argv[0], *others], -1, self._answered, number=client.number
        )
        self._call = call
        call.start()

    def abandon(self) -> None:
        """See Task."""
        if self._call is not None:
            self._call.cancel()

    def _answered(self, call: Call, wire: bytes) -> None:
        client = self.client
        wanted = [word.lower() for word in self.argv[1:]]
        if wire[:1] == b"-" or (wanted and b"proxy" not in wanted and not any(word in _ALL for word in wanted)):
            self.finish(wire)
            return
        text = wire[wire.index(b"\r\n") + 2 : -2]
        if wire[:1] == b"=":
            text = text[4:]
        self.finish(encode(Verbatim(text + b"\r\n" + section(client.hub)), client.profile.protocol))


def section(hub: Hub) -> bytes:
    """The section ``# Proxy``."""
    lines = [f"proxy_version:{__version__}", *(f"proxy_{name}:{value}" for name, value, _, _ in facts(hub))]
    return ("# Proxy\r\n" + "".join(line + "\r\n" for line in lines)).encode()


def facts(hub: Hub) -> list[tuple[str, int, str, str]]:
    """Everything counted: name, value, ``counter`` or ``gauge``, and what it is."""
    tally, lanes, table = hub.tally, hub.lanes, hub.table
    every = lanes.every()
    return [
        ("clients", len(hub.clients), "gauge", "Clients connected now."),
        ("clients_accepted_total", tally.accepted, "counter", "Clients ever accepted."),
        ("clients_rejected_total", tally.rejected, "counter", "Clients turned away: too many."),
        ("clients_dropped_slow_total", tally.dropped_slow, "counter", "Clients closed for unread replies."),
        ("clients_dropped_input_total", tally.dropped_input, "counter", "Clients closed for what they sent."),
        ("requests_total", tally.requests, "counter", "Requests received."),
        ("requests_split_total", tally.split, "counter", "Requests split over slots."),
        ("requests_unknown_total", tally.unknown, "counter", "Requests of unknown outcome."),
        ("requests_gave_up_total", tally.gave_up, "counter", "Requests never executed, in the time for trying."),
        ("redirections_moved_total", tally.moved, "counter", "MOVED followed."),
        ("redirections_ask_total", tally.asked, "counter", "ASK followed."),
        ("refusals_total", tally.again, "counter", "Other refusals and broken connections, tried again."),
        ("bytes_in_total", tally.bytes_in, "counter", "Bytes from clients."),
        ("bytes_out_total", tally.bytes_out, "counter", "Bytes to clients."),
        ("upstream_connections", len(every), "gauge", "Connections to nodes now."),
        ("upstream_connections_total", lanes.counts.dialled, "counter", "Connections to nodes ever begun."),
        ("upstream_failed_total", lanes.counts.failed, "counter", "Connections to nodes that failed at once."),
        ("upstream_silent_total", lanes.counts.silent, "counter", "Connections ended as the node was silent."),
        ("upstream_requests_total", lanes.counts.sent, "counter", "Requests sent to nodes."),
        ("upstream_pending", sum(len(lane.pending) for lane in every), "gauge", "Requests that wait for nodes."),
        ("groups", len(table.homes()), "gauge", "Leaders known."),
        ("slots_unserved", table.leaders.count(None), "gauge", "Slots without a known leader."),
        ("table_version", table.version, "gauge", "Grows when slots get other leaders."),
    ]
