"""HELLO, AUTH, SELECT, RESET: which identity a client's requests have from now on.

Rule: a node decides every time. The words are sent on a connection of the identity asked for, where they change nothing
if they are right; if they are wrong, the node's refusal is the reply and the client stays who it was.
"""

from __future__ import annotations

from durakv.proxy.profile import Profile
from durakv.proxy.task import Call, Task
from durakv.resp import split
from durakv.resp.encoder import encode, error_line
from durakv.resp.errors import SYNTAX

_DB_MAX = 1 << 20


class _Asking(Task):
    """One call on a connection of the profile asked for."""

    _call: Call | None = None

    def ask(self, profile: Profile, argv: list[bytes]) -> None:
        """Have a node judge the words."""
        client = self.client
        if profile is not client.profile and (client.tracking is not None or client.watch is not None):
            state = "turn off CLIENT TRACKING" if client.tracking is not None else "send UNWATCH"
            self.finish(error_line(f"ERR {state} before changing the user, protocol or database"))
            return
        call = Call(client.hub, profile, self.plan, argv, -1, self._heard, number=client.number)
        self._call = call
        call.start()

    def abandon(self) -> None:
        """See Task."""
        if self._call is not None:
            self._call.cancel()

    def accepted(self, profile: Profile, wire: bytes) -> bytes:
        """The node agreed; the reply."""
        return wire

    def _heard(self, call: Call, wire: bytes) -> None:
        if wire[:1] == b"-":
            self.finish(wire)
            return
        answer = self.accepted(call.profile, wire)
        self.client.set_profile(call.profile)
        self.finish(answer)


class Login(_Asking):
    """HELLO and AUTH."""

    _name: bytes | None = None

    def start(self) -> None:
        """Read the words; what is wrong with them the node says."""
        old = self.client.profile
        profiles = self.client.hub.lanes.profiles
        argv = self.argv
        if self.plan.name == "auth":
            if len(argv) > 3:
                self.finish(error_line(SYNTAX))
                return
            user = argv[1] if len(argv) == 3 else None
            self.ask(profiles.get(user, argv[-1], old.protocol, old.db), argv)
            return
        protocol = old.protocol
        user, password = old.user, old.password
        asked = [argv[0]]
        if len(argv) > 1:
            if argv[1] not in (b"2", b"3"):
                known = argv[1].lstrip(b"-").isdigit()
                self.finish(error_line(
                    "NOPROTO unsupported protocol version" if known
                    else "ERR Protocol version is not an integer or out of range"
                ))  # fmt: skip
                return
            protocol = int(argv[1])
            asked.append(argv[1])
            at = 2
            while at < len(argv):
                word = argv[at].upper()
                if word == b"AUTH" and at + 2 < len(argv):
                    user, password = argv[at + 1], argv[at + 2]
                    asked += argv[at : at + 3]
                    at += 3
                elif word == b"SETNAME" and at + 1 < len(argv):
                    self._name = argv[at + 1]
                    at += 2
                else:
                    shown = argv[at][:128].decode("utf-8", "surrogateescape")
                    self.finish(error_line(f"ERR Syntax error in HELLO option '{shown}'"))
                    return
        if protocol == 2 and self.client.subscriptions is not None:
            self.finish(error_line("ERR unsubscribe before changing the protocol"))
            return
        if self._name is not None and any(not 33 <= letter <= 126 for letter in self._name):
            self.finish(error_line("ERR Client names cannot contain spaces, newlines or special characters."))
            return
        self.ask(profiles.get(user, password, protocol, old.db), asked)

    def accepted(self, profile: Profile, wire: bytes) -> bytes:
        """HELLO's reply tells of a connection to the proxy, not of the proxy's to a node."""
        if self.plan.name == "auth":
            return wire
        if self._name is not None:
            self.client.name = self._name
        return _about_proxy(wire, self.client.number, profile.protocol)


def _about_proxy(wire: bytes, number: int, protocol: int) -> bytes:
    """HELLO's facts with this client's id, and the mode of a server that needs no cluster client."""
    items = split.items(b"*" + _doubled(wire))
    for i in range(0, len(items) - 1, 2):
        name = items[i]
        if name.endswith(b"\r\nid\r\n"):
            items[i + 1] = encode(number, protocol)
        elif name.endswith(b"\r\nmode\r\n"):
            items[i + 1] = encode(b"standalone", protocol)
    return wire[: wire.index(b"\r\n") + 2] + b"".join(items)


def _doubled(wire: bytes) -> bytes:
    """A map's or array's bytes behind its type byte, the length being the number of items in either case."""
    if wire[:1] != b"%":
        return wire[1:]
    line_end = wire.index(b"\r\n")
    return b"%d" % (2 * int(wire[1:line_end])) + wire[line_end:]


class Select(_Asking):
    """SELECT."""

    def start(self) -> None:
        """A database of its own connections."""
        old = self.client.profile
        number = self.argv[1]
        if not number.isdigit() or int(number[:10]) > _DB_MAX:
            self.finish(error_line(
                "ERR DB index is out of range" if number.lstrip(b"-").isdigit()
                else "ERR value is not an integer or out of range"
            ))  # fmt: skip
            return
        self.ask(self.client.hub.lanes.profiles.get(old.user, old.password, old.protocol, int(number)), self.argv)


class Reset(Task):
    """RESET: a new client in an old link."""

    def start(self) -> None:
        """Forget everything."""
        client = self.client
        client.task = None
        client.let_go()
        client.task = self
        client.set_profile(client.hub.lanes.profiles.get(None, None, 2, 0))
        client.readonly = client.hub.settings.read_from_replicas
        client.muted = client.skip = False
        client.caching = b""
        client.name = b""
        client.wrote.clear()
        self.finish(b"+RESET\r\n")
