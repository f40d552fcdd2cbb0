"""CLIENT TRACKING: a client that caches gets connections of its own, whose invalidations are passed on.

Rule: whenever it is possible that an invalidation was missed (a connection ended, a slot got another leader) the client
is told to forget everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.proxy.lane import OPEN, Lane
from durakv.proxy.profile import Profile
from durakv.proxy.request import LaneWatcher, Owner, Request, request_wire
from durakv.proxy.task import Call, Task
from durakv.resp.encoder import error_line
from durakv.resp.errors import SYNTAX

if TYPE_CHECKING:
    from durakv.proxy.client import Client

_FORGET_ALL: Final = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
_PLAIN: Final = (b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP")


class _Unheard(Owner):
    """Whoever asked only to see whether an answer comes."""

    def on_reply(self, request: Request, wire: bytes) -> None:
        """It did."""

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        """The connection's watcher hears of that."""


class Tracking(LaneWatcher):
    """One client's tracking; ``words`` as it gave them, ``base`` who it was before."""

    def __init__(self, client: Client, base: Profile, words: tuple[bytes, ...]) -> None:
        self._client = client
        self.base = base
        self.words = words
        self.flags = [word for word in words if word in _PLAIN]
        self.prefixes = [words[i + 1] for i in range(len(words) - 1) if words[i] == b"PREFIX"]
        self.profile: Profile | None = None
        self._ended = False

    def on_push(self, lane: Lane, wire: bytes) -> None:
        """An invalidation."""
        if not self._ended:
            self._client.push(wire)

    def on_end(self, lane: Lane) -> None:
        """What this connection would have told is lost."""
        self.leaders_changed()

    def leaders_changed(self) -> None:
        """Forget everything; under BCAST be connected to whoever leads now."""
        client = self._client
        profile = self.profile
        if self._ended or client.closed or profile is None:
            return
        client.push(_FORGET_ALL)
        if b"BCAST" in self.flags:
            hub = client.hub
            for slot in hub.table.homes():
                node = hub.table.leaders[slot]
                if node is not None:
                    hub.lanes.shared(node, profile, client.number)

    def probe(self) -> None:
        """Ask quiet connections for a sign of life: a client that reads from its cache only would not notice."""
        profile = self.profile
        hub = self._client.hub
        if profile is None or self._ended:
            return
        ping = hub.plans.by_name[b"PING"]
        quiet_ns = hub.settings.answer_ms * 1_000_000 // 3
        for lane in hub.lanes.every():
            if lane.profile.private == profile.private and lane.state == OPEN and not lane.pending:
                if hub.turn.now_ns - lane.progress_ns > quiet_ns:
                    lane.send(Request(0, False, _Unheard(), [b"PING"], ping, -1), request_wire([b"PING"]))

    def end(self) -> None:
        """Close its connections."""
        self._ended = True
        client = self._client
        profiles = client.hub.lanes.profiles
        for profile in [p for p in profiles.all() if p.private == client.number]:
            client.hub.lanes.close_private(profile)


class Track(Task):
    """CLIENT TRACKING ON or OFF."""

    def start(self) -> None:
        """Try the words on a node; what is wrong with them it says."""
        client = self.client
        argv = self.argv
        switch = argv[2].upper()
        self._calls: list[Call] = []
        if switch == b"OFF" and len(argv) == 3:
            self._off()
            self.finish(b"+OK\r\n")
            return
        error = ""
        if switch != b"ON":
            error = SYNTAX
        elif client.profile.protocol != 3:
            error = "ERR the proxy sends invalidations to RESP3 clients only: send HELLO 3 first"
        elif any(word.upper() == b"REDIRECT" for word in argv[3:]):
            error = "ERR the proxy cannot redirect invalidations: use RESP3 without REDIRECT"
        elif client.subscriptions is not None or client.watch is not None:
            error = "ERR turn tracking on before SUBSCRIBE and WATCH"
        if error:
            self.finish(error_line(error))
            return
        self._off()
        words = tuple(_upper_options(argv[3:]))
        base = client.profile
        tracking = Tracking(client, base, words)
        hub = client.hub
        profile = hub.lanes.profiles.get(base.user, base.password, 3, base.db, private=client.number, tracking=words)
        profile.watcher = tracking
        tracking.profile = profile
        self._tracking = tracking
        homes = hub.table.homes() if b"BCAST" in words else []
        self._missing = max(len(homes), 1)
        ping = hub.plans.by_name[b"PING"]
        self._calls = [
            Call(hub, profile, ping, [b"PING"], slot, self._heard, number=client.number) for slot in homes or [-1]
        ]
        for call in list(self._calls):
            call.start()

    def abandon(self) -> None:
        """See Task."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            self._tracking.end()

    def _heard(self, call: Call, wire: bytes) -> None:
        if wire[:1] == b"-":
            for other in self._calls:
                other.cancel()
            self._calls = []
            self._tracking.end()
            self.finish(wire)
            return
        self._missing -= 1
        if self._missing == 0:
            self._calls = []
            client = self.client
            client.tracking = self._tracking
            profile = self._tracking.profile
            if profile is not None:
                client.set_profile(profile)
            self.finish(b"+OK\r\n")

    def _off(self) -> None:
        client = self.client
        tracking = client.tracking
        if tracking is not None:
            client.tracking = None
            client.set_profile(tracking.base)
            tracking.end()


def _upper_options(words: list[bytes]) -> list[bytes]:
    """Options in upper case, prefixes as they are."""
    shown: list[bytes] = []
    for i, word in enumerate(words):
        shown.append(word if i and shown[i - 1] == b"PREFIX" else word.upper())
    return shown
