"""Sending again what was certainly not executed, without changing the order of a client's own requests. [compiled]

Rule: the only place that sends a client's request a second time. It waits until nothing else of that client is out,
then takes the refused requests in their order, one at a time. One whose keys a later request has touched in the
meantime is not sent again: its client is told. docs/proxy.md has the table of what is sent again when.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from durakv.commands.spec import READ
from durakv.proxy import texts
from durakv.proxy.refusal import ASK, MOVED, redirection
from durakv.proxy.request import Entry, Gather, Request

if TYPE_CHECKING:
    from durakv.proxy.client import Client
    from durakv.proxy.hub import Hub

_HOPS_FREE: Final = 5
_DELAY_FIRST_MS: Final = 5
_DELAY_MAX_MS: Final = 200
_SUSPECT_NS: Final = 1_000_000_000


def follow(hub: Hub, request: Request, kind: int, wire: bytes) -> bool:
    """Learn from a refusal; False when it is none after all (a redirection of another slot, made up by a script)."""
    node = request.node
    tally = hub.tally
    if kind in (MOVED, ASK):
        to = redirection(wire)
        if to is None or to.slot != request.slot or node is None:
            return False
        if kind == ASK:
            tally.asked += 1
        else:
            tally.moved += 1
            hub.refresh()
        host = to.host or node.host
        if request.plan.script:
            # Its author may have written this: it must not lead anybody, with their passwords, to another host.
            if kind == ASK:
                request.ask_node = hub.table.member(host, to.port)
        elif kind == ASK:
            request.ask_node = hub.table.node(host, to.port)
        else:
            hub.table.learn(to.slot, hub.table.node(host, to.port))
    else:
        tally.again += 1
        hub.refresh()
    if request.on_replica and node is not None:
        node.suspect_ns = hub.turn.now_ns + _SUSPECT_NS
    return True


def delay_ms(kind: int, tries: int) -> int:
    """How long to wait before the next attempt after ``tries`` sent again."""
    free = _HOPS_FREE if kind in (MOVED, ASK) else 1
    if tries < free:
        return 0
    return min(_DELAY_FIRST_MS << min(tries - free, 10), _DELAY_MAX_MS)


def resend(client: Client) -> None:
    """Send the oldest refused request again, or arrange for that; nothing of the client is out."""
    hub = client.hub
    while client.refused and not client.inflight and client.retry_timer is None:
        request = _oldest(client.refused)
        now_ns = hub.clock.monotonic_ns()
        if request.deadline_ns == 0:
            request.deadline_ns = now_ns + hub.settings.retry_ms * 1_000_000
        answer = b""
        if now_ns >= request.deadline_ns:
            hub.tally.gave_up += 1
            answer = texts.gave_up(request, hub.settings.retry_ms)
        elif _was_overtaken(client.window, request):
            hub.tally.gave_up += 1
            answer = texts.overtaken(request)
        if answer:
            client.refused.remove(request)
            client.answer_refused(request, answer)
            continue
        if not request.due:
            wait_ms = delay_ms(request.kind, request.tries)
            if wait_ms:
                request.due = True
                client.retry_timer = hub.clock.call_later(wait_ms, client.retry)
                return
        request.due = False
        request.tries += 1
        client.refused.remove(request)
        client.send_again(request)


def _oldest(refused: list[Request]) -> Request:
    oldest = refused[0]
    for request in refused:
        if request.number < oldest.number:
            oldest = request
    return oldest


def _was_overtaken(window: deque[Entry], request: Request) -> bool:
    """Whether a later request on one of the same keys was executed, one of the two being no read."""
    keys = dict.fromkeys(request.plan.keys(request.argv))
    reads = request.plan.row.kind == READ
    for entry in window:
        if entry.number <= request.number:
            continue
        if isinstance(entry, Request):
            if _conflicts(entry, keys, reads):
                return True
        elif isinstance(entry, Gather):
            for part in entry.parts:
                if _conflicts(part, keys, reads):
                    return True
    return False


def _conflicts(later: Request, keys: dict[bytes, None], reads: bool) -> bool:
    if later.reply is None or (reads and later.plan.row.kind == READ):
        return False
    for key in later.plan.keys(later.argv):
        if key in keys:
            return True
    return False
