"""The replica's side of Redis's replication protocol, as bytes in and bytes out.

PING, AUTH, REPLCONF, PSYNC one after the other; then either a file of a known length or up to a mark, or at once the
stream of commands. Rule: does no input or output and knows no time; whoever feeds it hears through ``Events`` and sends
what ``take_output`` has. Source: valkey replication.c syncWithPrimary(), replicaTryPartialResynchronization().
"""

from __future__ import annotations

from typing import Final, Protocol

# What durakv can read: the source chooses the form of its file by this.
REPLICA_VERSION: Final = b"9.0.0"
_LINE_BYTES_MAX: Final = 64 << 10
_MARK_BYTES: Final = 40
_ID_BYTES: Final = 40

_PING: Final = 0
_AUTH: Final = 1
_PORT: Final = 2
_ADDRESS: Final = 3
_CAPA: Final = 4
_VERSION: Final = 5
_PSYNC: Final = 6
_FILE_HEAD: Final = 7
_FILE: Final = 8
_STREAM: Final = 9
_OVER: Final = 10


class Events(Protocol):
    """What the source says, in order. After ``on_refused`` nothing follows."""

    def on_full(self, replid: bytes, offset: int) -> None:
        """A file follows, and behind it the stream from byte ``offset`` + 1 on."""

    def on_file_size(self, size: int) -> None:
        """Bytes of the file; -1 when only its end will be marked."""

    def on_file(self, data: bytes) -> None: ...

    def on_file_end(self) -> None: ...

    def on_continue(self, replid: bytes) -> None:
        """The stream goes on where it was asked to, under ``replid``."""

    def on_stream(self, data: bytes) -> None: ...

    def on_refused(self, reason: str) -> None:
        """The source will not, or not now; the connection is of no more use."""


class Terms:
    """What to tell the source. ``position``: (id, byte) of the last byte applied, None for a full synchronisation."""

    def __init__(self, *, user: str = "", password: str = "", port: int = 0, address: str = "",
                 position: tuple[bytes, int] | None = None) -> None:  # fmt: skip
        self.user = user
        self.password = password
        self.port = port
        self.address = address
        self.position = position


class Psync:
    """One connection, from its first byte on."""

    def __init__(self, terms: Terms, events: Events) -> None:
        self._terms = terms
        self._events = events
        self._output: list[bytes] = []
        self._state = _PING
        self._line = b""
        self._left = 0
        self._mark = b""
        # The last bytes of a marked file, which may be the mark.
        self._held = b""
        self._ask(b"PING")

    def take_output(self) -> bytes:
        """What is to be sent now."""
        out = b"".join(self._output)
        self._output = []
        return out

    def acknowledge(self, offset: int) -> None:
        """Tell the source how far the group has committed."""
        self._ask(b"REPLCONF", b"ACK", b"%d" % offset)

    def keep_alive(self) -> None:
        """Tell the source that somebody is there, while there is nothing to acknowledge."""
        self._output.append(b"\n")

    def streaming(self) -> bool:
        """Whether commands come in."""
        return self._state == _STREAM

    def shaking_hands(self) -> bool:
        """Whether neither file nor stream has begun."""
        return self._state < _FILE_HEAD

    def feed(self, data: bytes) -> None:
        """Bytes of the source."""
        while data and self._state != _OVER:
            if self._state == _STREAM:
                self._events.on_stream(data)
                return
            data = self._file(data) if self._state == _FILE else self._lines(data)

    # -- lines -------------------------------------------------------------------------------------------------------

    def _lines(self, data: bytes) -> bytes:
        """Read up to one line's end; what is behind it."""
        end = data.find(b"\n")
        if end < 0:
            self._line += data
            if len(self._line) > _LINE_BYTES_MAX:
                self._refuse("what it says is no replication protocol; is it a Redis or Valkey server?")
            return b""
        line = (self._line + data[:end]).removesuffix(b"\r")
        self._line = b""
        if line:
            # An empty one only says that the source is busy with the file.
            self._heard(line)
        return data[end + 1 :]

    def _heard(self, line: bytes) -> None:
        state = self._state
        if state == _PING:
            self._pinged(line)
        elif state == _AUTH:
            if line[:1] == b"-":
                self._refuse(f"it refuses the login: {_shown(line)}; set masteruser and masterauth on every node")
            else:
                self._introduce(_PORT)
        elif state == _FILE_HEAD:
            self._file_head(line)
        elif state == _PSYNC:
            self._answered(line)
        else:
            # Servers too old for one of these say so and go on.
            self._introduce(state + 1)

    def _pinged(self, line: bytes) -> None:
        wants_login = line.startswith((b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted"))
        if line[:1] != b"+" and not wants_login:
            self._refuse(f"it answers PING with: {_shown(line)}")
        elif self._terms.password:
            self._state = _AUTH
            password = self._terms.password.encode("utf-8", "surrogateescape")
            if self._terms.user:
                self._ask(b"AUTH", self._terms.user.encode("utf-8", "surrogateescape"), password)
            else:
                self._ask(b"AUTH", password)
        elif wants_login:
            self._refuse(f"it wants a login: {_shown(line)}; set masterauth (and masteruser) on every node")
        else:
            self._introduce(_PORT)

    def _introduce(self, state: int) -> None:
        """Ask the next question, leaving out those without a subject."""
        terms = self._terms
        if state == _ADDRESS and not terms.address:
            state = _CAPA
        self._state = state
        if state == _PORT:
            self._ask(b"REPLCONF", b"listening-port", b"%d" % terms.port)
        elif state == _ADDRESS:
            self._ask(b"REPLCONF", b"ip-address", terms.address.encode())
        elif state == _CAPA:
            self._ask(b"REPLCONF", b"capa", b"eof", b"capa", b"psync2")
        elif state == _VERSION:
            self._ask(b"REPLCONF", b"version", REPLICA_VERSION)
        elif terms.position is None:
            self._ask(b"PSYNC", b"?", b"-1")
        else:
            replid, offset = terms.position
            self._ask(b"PSYNC", replid, b"%d" % (offset + 1))

    def _answered(self, line: bytes) -> None:
        words = line.split() or [b""]
        position = self._terms.position
        if words[0] == b"+FULLRESYNC" and len(words) == 3 and len(words[1]) == _ID_BYTES and _is_number(words[2]):
            self._state = _FILE_HEAD
            self._events.on_full(words[1], int(words[2]))
        elif words[0] == b"+CONTINUE" and position is not None and len(words) <= 2:
            replid = words[1] if len(words) == 2 else position[0]
            if len(replid) != _ID_BYTES:
                self._refuse(f"it continues under an id that is none: {_shown(line)}")
                return
            self._state = _STREAM
            self._events.on_continue(replid)
        elif line.startswith((b"-NOMASTERLINK", b"-LOADING", b"-MASTERDOWN")):
            self._refuse(f"it is not ready: {_shown(line)}")
        else:
            self._refuse(f"it answers PSYNC with: {_shown(line)}")

    # -- the file ----------------------------------------------------------------------------------------------------

    def _file_head(self, line: bytes) -> None:
        if line.startswith(b"$EOF:") and len(line) == 5 + _MARK_BYTES:
            self._mark = line[5:]
            self._state = _FILE
            self._events.on_file_size(-1)
        elif line[:1] == b"$" and _is_number(line[1:]):
            self._left = int(line[1:])
            self._state = _FILE
            self._events.on_file_size(self._left)
            if not self._left:
                self._refuse("it sends a file of no bytes; look into its log")
        else:
            self._refuse(f"it says in place of its file: {_shown(line)}")

    def _file(self, data: bytes) -> bytes:
        """Hand on bytes of the file; what is behind it."""
        if not self._mark:
            part, rest = data[: self._left], data[self._left :]
            self._left -= len(part)
            self._events.on_file(part)
            if not self._left:
                self._file_over()
            return rest
        # Nothing follows the mark before the source has heard of its arrival.
        data = self._held + data
        if data.endswith(self._mark):
            self._held = b""
            if len(data) > _MARK_BYTES:
                self._events.on_file(data[:-_MARK_BYTES])
            self._file_over()
        else:
            self._held = data[-_MARK_BYTES:]
            if len(data) > _MARK_BYTES:
                self._events.on_file(data[:-_MARK_BYTES])
        return b""

    def _file_over(self) -> None:
        self._state = _STREAM
        self._events.on_file_end()

    # -- sending -----------------------------------------------------------------------------------------------------

    def _ask(self, *words: bytes) -> None:
        self._output.append(b"*%d\r\n" % len(words))
        self._output += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]

    def _refuse(self, reason: str) -> None:
        self._state = _OVER
        self._events.on_refused(reason)


def _shown(line: bytes) -> str:
    return line[:200].decode("utf-8", "backslashreplace").removeprefix("-")


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) < 19
