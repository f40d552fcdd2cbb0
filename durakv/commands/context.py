"""What a handler may see: one context class per route. [compiled]

Rule: a handler never reaches past its context. A write sees the entry's time and seed and nothing of the local node;
a read sees data only; a local command sees the session and the node's services, never the keyspace for writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from durakv.keyspace.keyspace import Db, Keyspace

if TYPE_CHECKING:
    from durakv.commands.services import Services
    from durakv.commands.session import Session
    from durakv.commands.table import Row

_MASK64 = (1 << 64) - 1

# Keyspace event classes, as in notify-keyspace-events.
NOTIFY_GENERIC = 1 << 2  # g
NOTIFY_STRING = 1 << 3  # $
NOTIFY_LIST = 1 << 4  # l
NOTIFY_SET = 1 << 5  # s
NOTIFY_HASH = 1 << 6  # h
NOTIFY_ZSET = 1 << 7  # z
NOTIFY_EXPIRED = 1 << 8  # x
NOTIFY_EVICTED = 1 << 9  # e
NOTIFY_STREAM = 1 << 10  # t
NOTIFY_KEY_MISS = 1 << 11  # m
NOTIFY_NEW = 1 << 14  # n


class Stopwatch:
    """Times commands for whoever runs them; no handler looks at it. A class, since it is called for many requests."""

    def now_ns(self) -> int:
        """Nanoseconds of a clock that only goes forward."""
        raise NotImplementedError

    def ran(self, row: Row, argv: list[bytes], took_ns: int) -> None:
        """``row`` has run."""
        raise NotImplementedError


class Scripts(Protocol):
    """Scripts and function libraries, as their commands see them. Everything raises CommandError where it must."""

    def eval(self, ctx: ReadContext | WriteContext, argv: list[bytes], *, by_sha: bool, read_only: bool) -> object:
        """Run a script; the last argument are the terms under which it was admitted."""

    def fcall(self, ctx: ReadContext | WriteContext, argv: list[bytes], *, read_only: bool) -> object:
        """Call a function; the last argument are the terms under which it was admitted."""

    def load_script(self, text: bytes) -> bytes:
        """Cache a script for good; returns its SHA-1 in hex."""

    def script_text(self, sha: bytes) -> bytes | None:
        """The text of a cached script."""

    def flush_scripts(self) -> None: ...

    def load_library(self, code: bytes, *, replace: bool) -> bytes:
        """Install a library; returns its name."""

    def delete_library(self, name: bytes) -> None: ...

    def flush_libraries(self) -> None: ...

    def dump_libraries(self) -> bytes: ...

    def restore_libraries(self, payload: bytes, policy: bytes) -> None:
        """``policy``: APPEND, REPLACE or FLUSH."""

    def list_libraries(self, pattern: bytes | None, *, with_code: bool) -> object: ...

    def count_libraries(self) -> tuple[int, int]:
        """(libraries, functions)."""


class ReadContext:
    """For ``@read``: ``db`` is the selected database; handlers must not change what they are shown.

    ``now_ms`` is max(local clock, log time). ``below(n)`` is local chance (RANDOMKEY, SRANDMEMBER): reads need not
    repeat on another node.
    """

    def __init__(self, ks: Keyspace) -> None:
        self.ks = ks
        self.db: Db = ks.dbs[0]
        self.now_ms = 0
        self.seed = 0
        self.draws = 0
        self.stopwatch: Stopwatch | None = None
        self.scripts: Scripts | None = None

    def scripting(self) -> Scripts:
        """Scripts and functions of the node."""
        assert self.scripts is not None
        return self.scripts

    def below(self, n: int) -> int:
        """Uniform-enough int in [0, n), n >= 1."""
        self.draws += 1
        return mix64(self.seed, self.draws) % n


class WriteContext:
    """For ``@write``: the unit being applied. Same entry, same state => same result on every node.

    ``now_ms`` is the entry's time; ``below(n)`` the entry's counter-based chance; ``can_block`` is False inside MULTI
    and scripts. ``index`` is the entry's log index.
    """

    def __init__(self, ks: Keyspace) -> None:
        self.ks = ks
        self.db: Db = ks.dbs[0]
        self.now_ms = 0
        self.index = 0
        self.seed = 0
        self.draws = 0
        self.can_block = True
        self.stopwatch: Stopwatch | None = None
        self.scripts: Scripts | None = None
        # Event classes somebody on this node listens to; 0 makes notify() a no-op. Never changes applied state.
        self.notify_mask = 0
        self.events: list[tuple[int, bytes, bytes]] = []

    def scripting(self) -> Scripts:
        """Scripts and functions of the group."""
        assert self.scripts is not None
        return self.scripts

    def below(self, n: int) -> int:
        """Int in [0, n), n >= 1, the same on every node."""
        self.draws += 1
        return mix64(self.seed, self.draws) % n

    def notify(self, event_class: int, event: bytes, key: bytes) -> None:
        """Record a keyspace event of ``db``; published after apply on nodes that have listeners."""
        if self.notify_mask & event_class:
            self.events.append((self.db.number, event, key))


class LocalContext:
    """For ``@local``: the session that asked and the node's services."""

    def __init__(self, session: Session, node: Services) -> None:
        self.session = session
        self.node = node


def mix64(seed: int, counter: int) -> int:
    """Counter-based 64-bit mixing (splitmix64 finaliser); about 0.3 us, no state."""
    z = (seed + counter * 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)
