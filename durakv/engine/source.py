"""The Redis or Valkey server that the group follows, as replicated state: who it is and how far the group has come.

Position and data move together: an entry that changes the data says up to which byte of the source's stream it goes,
so whoever leads next asks for the byte after it. Every import item carries the generation of the order it belongs to
and its number in it; an item that is not the next one changes nothing, on any node. Nothing is lost or applied twice,
whatever becomes of leaders and proposals.
Rule: changes only in apply. The callbacks and ``link`` belong to this node and are no part of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.keyspace import journal
from durakv.resp.errors import LOADING as LOADING_ERROR
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.commands.table import Row
    from durakv.keyspace.keyspace import Keyspace

# The group follows nobody.
FREE: Final = 0
# Ordered; the data is what it was before.
ASKED: Final = 1
# The source's keys are coming in; what is here is a part of them.
FILLING: Final = 2
# The data is the source's, as of ``offset``.
STREAMING: Final = 3
# Ended by something only a person can settle; ``reason`` says what.
STOPPED: Final = 4
PHASE_NAMES: Final = ("free", "asked", "filling", "streaming", "stopped")

BEGIN: Final = b"begin"
LOAD: Final = b"load"
DONE: Final = b"done"
FEED: Final = b"feed"
STOP: Final = b"stop"

READONLY: Final = "READONLY You can't write against a read only replica."
NO_LINK: Final = "NOMASTERLINK Can't SYNC while not connected with my master"
_STATE: Final = 1
_FORMAT: Final = b"1"
_NUMBERS: Final = 9

State = tuple[int, int, int, bool, bytes, int, bytes, int, int, bytes, int, bytes]


class LinkFacts:
    """What this node's own link to the source is like; only the leader has one.

    ``state`` is a word of ROLE: connect, connecting, sync, connected. ``trouble`` is one line, empty when all is well.
    """

    __slots__ = ("down_since_ms", "heard_ms", "read_offset", "state", "sync_read", "sync_total", "trouble")

    def __init__(self) -> None:
        self.state = "connect"
        self.trouble = ""
        # Unix ms of the last byte heard; 0 before the first.
        self.heard_ms = 0
        self.down_since_ms = 0
        # How far the stream has been read, committed or not.
        self.read_offset = 0
        # Bytes of the file of a full synchronisation; total -1 while it is not known.
        self.sync_read = 0
        self.sync_total = 0


class Source:
    """See the module's text. ``offset`` counts bytes of the source's stream, ``db`` is the database it has selected."""

    def __init__(self, ks: Keyspace) -> None:
        self.ks = ks
        self.phase = FREE
        self.generation = 0
        # Number of the next item of this generation.
        self.seq = 0
        # The databases hold a part of the source's keys.
        self.partial = False
        self.host = b""
        self.port = 0
        # Empty when the data here is no state of any source's.
        self.replid = b""
        self.offset = 0
        self.db = 0
        self.reason = b""
        # Commands of the source that failed here.
        self.errors = 0
        self.last_error = b""
        # Items that were not the next one, on this node.
        self.ignored = 0
        self.link: LinkFacts | None = None
        # Something above has changed.
        self.on_change: Callable[[], None] | None = None
        # On the leader, before NO ONE is logged: let everything received go into the log.
        self.on_cut: Callable[[], None] | None = None
        # On every node, in apply: the data will change under whoever waits for it.
        self.on_follow: Callable[[], None] | None = None

    # -- orders, in apply -------------------------------------------------------------------------------------------

    def follow(self, host: bytes, port: int) -> bool:
        """Follow another source from now on; False when it is the one that is followed already."""
        same = self.host.lower() == host.lower() and self.port == port
        if same and self.phase not in (FREE, STOPPED):
            return False
        self._keep()
        self.generation += 1
        self.seq = 0
        self.phase = ASKED
        self.host, self.port = host, port
        self.reason = b""
        self.errors = 0
        self.last_error = b""
        self._tell()
        if self.on_follow is not None:
            self.on_follow()
        return True

    def leave(self) -> bool:
        """Follow nobody; True when the databases hold a part only, and the caller has to empty them."""
        if self.phase == FREE:
            return False
        self._keep()
        partial = self.partial
        self._restore((FREE, self.generation + 1, 0, False, b"", 0, b"", 0, 0, b"", 0, b""))
        self._tell()
        return partial

    # -- items, in apply --------------------------------------------------------------------------------------------

    def expects(self, head: list[bytes]) -> bool:
        """Whether the item ``[verb, generation, seq, ...]`` is the next one."""
        if int(head[1]) == self.generation and int(head[2]) == self.seq:
            return True
        self.ignored += 1
        self._tell()
        return False

    def advance(self, head: list[bytes]) -> None:
        """The item's commands have been applied."""
        verb = head[0]
        self.seq += 1
        if verb == BEGIN:
            self.phase = FILLING
            self.partial = True
            self.replid, self.offset, self.db = b"", 0, 0
        elif verb in (DONE, FEED):
            self.phase = STREAMING
            self.partial = False
            self.replid, self.offset, self.db = head[3], int(head[4]), int(head[5])
        elif verb == STOP:
            self.phase = STOPPED
            self.reason = head[3]
        else:
            assert verb == LOAD, f"no import item is called {verb!r}"
        self._tell()

    def failed(self, text: str) -> None:
        """A command of the source was refused here: the two differ from now on."""
        self.errors += 1
        self.last_error = text.encode("utf-8", "backslashreplace")

    def phase_name(self) -> str:
        """For people."""
        return PHASE_NAMES[self.phase]

    # -- what clients may do ----------------------------------------------------------------------------------------

    def admit(self, row: Row, *, writes: bool, while_loading: bool) -> None:
        """Judge a client's request while the group follows. Raises CommandError.

        ``writes``: it is a write to Valkey. ``while_loading``: it needs no data.
        """
        if row.name in ("replicaof", "slaveof"):
            return
        if row.name in ("psync", "sync") and self.phase != STREAMING:
            # Nor may it follow itself by a roundabout way.
            raise CommandError(NO_LINK)
        if writes:
            raise CommandError(READONLY)
        if self.partial and not while_loading:
            if self.phase == STOPPED:
                raise CommandError(
                    f"MASTERDOWN the import stopped half-way ({self.reason.decode('utf-8', 'replace')}): REPLICAOF "
                    "the source again, or REPLICAOF NO ONE to start empty"
                )
            raise CommandError(LOADING_ERROR)

    def cut(self) -> None:
        """On the leader, before REPLICAOF NO ONE is logged."""
        if self.on_cut is not None:
            self.on_cut()

    def active(self) -> bool:
        """Whether somebody has to run the link."""
        return self.phase not in (FREE, STOPPED)

    # -- journal, digest, checkpoint --------------------------------------------------------------------------------

    def undo(self, op: int, a: State, b: None) -> None:
        """See journal."""
        assert op == _STATE
        self._restore(a)
        self._tell()

    def canonical(self) -> bytes:
        """Content as bytes for the state digest; empty as long as nobody was ever followed."""
        return self.to_bytes() if self.generation else b""

    def to_bytes(self) -> bytes:
        """The state, for a checkpoint or a snapshot."""
        numbers = (
            self.phase, self.generation, self.seq, int(self.partial), self.port, self.offset, self.db, self.errors,
        )  # fmt: skip
        out = [_FORMAT + b" " + b" ".join(b"%d" % n for n in numbers) + b"\n"]
        out += [b"%d:%b" % (len(text), text) for text in (self.host, self.replid, self.reason, self.last_error)]
        return b"".join(out)

    def from_bytes(self, data: bytes) -> None:
        """Become what to_bytes() wrote. Raises ValueError when it is not that."""
        head, _, rest = data.partition(b"\n")
        words = head.split()
        if len(words) != _NUMBERS or words[0] != _FORMAT:
            raise ValueError("the state of a live import is in a form this version does not know; use a newer durakv")
        texts: list[bytes] = []
        try:
            phase, generation, seq, partial, port, offset, db, errors = (int(word) for word in words[1:])
            while rest:
                size, _, rest = rest.partition(b":")
                texts.append(rest[: int(size)])
                rest = rest[int(size) :]
            host, replid, reason, last_error = texts
        except ValueError:
            raise ValueError("the state of a live import is damaged; take an older checkpoint") from None
        self._restore(
            (phase, generation, seq, bool(partial), host, port, replid, offset, db, reason, errors, last_error)
        )
        self._tell()

    def _keep(self) -> None:
        journal.steps.append((self, _STATE, self._state(), None))

    def _state(self) -> State:
        return (
            self.phase, self.generation, self.seq, self.partial, self.host, self.port, self.replid, self.offset,
            self.db, self.reason, self.errors, self.last_error,
        )  # fmt: skip

    def _restore(self, state: State) -> None:
        (
            self.phase, self.generation, self.seq, self.partial, self.host, self.port, self.replid, self.offset,
            self.db, self.reason, self.errors, self.last_error,
        ) = state  # fmt: skip

    def _tell(self) -> None:
        following = self.phase != FREE
        self.ks.following = following
        self.ks.read_only = following
        if self.on_change is not None:
            self.on_change()
