"""Client-side caching: which client may hold which key, and telling it when the key changes.

Every node tracks for the clients connected to it, and learns of changes from the entries it applies; nothing of it is
replicated. A read is noted when it is dispatched. It may be answered later, here or by the leader, so what changes
meanwhile must not reach the client before that answer, or the client would cache an old value for ever: rule, a
message is placed behind the replies of all requests that were outstanding when the key changed. It may come once more
than needed, never too seldom. Source: tracking.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from durakv.commands.session import Tracked
from durakv.commands.spec import READ
from durakv.resp.encoder import encode
from durakv.resp.types import Push, Reply

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.commands.table import Row
    from durakv.config.settings import Settings
    from durakv.engine.apply import Applier
    from durakv.engine.blocking import DbKey

_CHANNEL: Final = b"__redis__:invalidate"
_NULL: Final = {2: b"$-1\r\n", 3: b"_\r\n"}
# What these read is known only once they run, so all keys they name count as read.
_SCRIPTS: Final = ("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro")


class Host(Protocol):
    """What is needed of the engine."""

    settings: Settings
    clients: dict[int, Session]
    applier: Applier

    def wake(self, s: Session) -> None:
        """Bytes were queued for ``s``."""


class Tracking:
    """The tracked clients of one node. ``keys`` maps a key to the ids of clients that may hold it."""

    def __init__(self, engine: Host) -> None:
        self.engine = engine
        self.clients: dict[Session, Tracked] = {}
        self.keys: dict[bytes, dict[int, None]] = {}
        self.prefixes: dict[bytes, dict[Session, None]] = {}
        # Prefix -> keys changed since the last broadcast, each with the client that changed it last.
        self.changed_keys: dict[bytes, dict[bytes, Session | None]] = {}

    # -- who is tracked ----------------------------------------------------------------------------------------------

    def enable(self, s: Session, state: Tracked) -> None:
        """Track ``s`` as ``state`` says, adding to the prefixes it has; replaces its former options."""
        if state.bcast and not state.prefixes:
            state.prefixes = {b"": None}
        former = self.clients.get(s)
        if former is not None:
            state.answered = former.answered
            state.waiting = former.waiting
            state.prefixes = {**former.prefixes, **state.prefixes}
        if state.bcast:
            for prefix in state.prefixes:
                self.prefixes.setdefault(prefix, {})[s] = None
        self.clients[s] = state
        s.tracking = state
        self._listen()

    def disable(self, s: Session) -> None:
        """Forget the client, if it is tracked. What it holds stays in ``keys`` until those change."""
        state = self.clients.pop(s, None)
        if state is None:
            return
        s.tracking = None
        for prefix in state.prefixes:
            listeners = self.prefixes[prefix]
            del listeners[s]
            if not listeners:
                del self.prefixes[prefix]
                self.changed_keys.pop(prefix, None)
        self._listen()

    def _listen(self) -> None:
        applier = self.engine.applier
        if not self.clients:
            self.keys.clear()
            self.changed_keys.clear()
            applier.follow_changes(None, None)
        else:
            applier.follow_changes(self.changed, self.flushed)

    def total_items(self) -> int:
        """Pairs of key and client."""
        return sum(len(ids) for ids in self.keys.values())

    # -- what they read ----------------------------------------------------------------------------------------------

    def note(self, s: Session, row: Row, argv: list[bytes]) -> None:
        """``s``, which is tracked, sends a request that is about to run."""
        state = s.tracking
        assert state is not None
        name = row.name
        if not state.bcast and not (state.optin and not state.caching) and not (state.optout and state.caching):
            if row.kind == READ or name in _SCRIPTS:
                self._remember(s, row, argv)
            elif name == "exec" and s.multi is not None:
                for queued, queued_argv in s.multi:
                    if queued.kind == READ or queued.name in _SCRIPTS:
                        self._remember(s, queued, queued_argv)
        if state.caching and not name.startswith("client|"):
            # CLIENT CACHING is about the next command, or the whole transaction that follows.
            if name in ("exec", "discard") or (s.multi is None and name != "multi"):
                state.caching = False

    def _remember(self, s: Session, row: Row, argv: list[bytes]) -> None:
        if row.key_at == 0:
            return
        keys = [argv[row.key_at]] if row.key_at > 0 else row.keys(argv)
        table = self.keys
        for key in keys:
            ids = table.get(key)
            if ids is None:
                table[key] = {s.id: None}
            else:
                ids[s.id] = None
        most = int(self.engine.settings.tracking_table_max_keys)
        while most and len(table) > most:
            oldest = next(iter(table))
            self._invalidate(oldest, table.pop(oldest), None)

    # -- what changes ------------------------------------------------------------------------------------------------

    def changed(self, changed: list[DbKey], asker: Session | None) -> None:
        """Keys were changed by the unit just applied, for ``asker`` if it is a client of this node."""
        table = self.keys
        for _, key in changed:
            if self.prefixes:
                self._note_prefixes(key, asker)
            ids = table.pop(key, None)
            if ids is not None:
                self._invalidate(key, ids, asker)

    def _note_prefixes(self, key: bytes, asker: Session | None) -> None:
        for prefix in self.prefixes:
            if key.startswith(prefix):
                keys = self.changed_keys.get(prefix)
                if keys is None:
                    keys = {}
                    self.changed_keys[prefix] = keys
                keys[key] = asker

    def _invalidate(self, key: bytes, ids: dict[int, None], asker: Session | None) -> None:
        for client_id in ids:
            s = self.engine.clients.get(client_id)
            if s is None:
                continue
            state = s.tracking
            if state is None or state.bcast or (state.noloop and s is asker):
                continue
            self._place(s, state, [key])

    def flushed(self) -> None:
        """A database was emptied: whatever clients hold may be wrong."""
        self.keys.clear()
        for s, state in self.clients.items():
            self._place(s, state, None)

    def broadcast(self) -> None:
        """Send what clients of prefixes missed since the last time; call after entries were applied."""
        changed_keys = self.changed_keys
        self.changed_keys = {}
        for prefix in sorted(changed_keys):
            keys = changed_keys[prefix]
            for s in self.prefixes.get(prefix, ()):
                state = s.tracking
                assert state is not None
                theirs = [key for key, asker in keys.items() if not (state.noloop and asker is s)]
                if theirs:
                    theirs.sort()
                    self._place(s, state, theirs)

    # -- telling them ------------------------------------------------------------------------------------------------

    def _place(self, s: Session, state: Tracked, keys: list[bytes] | None) -> None:
        """Send now, or behind the replies that are still to come. ``keys`` None: all."""
        outstanding = s.pending + len(s.gated) - s.gates
        if outstanding and (s.origin_node, s.uid) in self.engine.applier.sessions.waiters:
            # A parked request reads nothing that could be cached, and may stay for long. It is the last one.
            outstanding -= 1
        if outstanding > 0:
            state.waiting.append((state.answered + outstanding, keys))
        else:
            self._send(s, state, keys)

    def answered(self, s: Session, state: Tracked) -> None:
        """One more reply of ``s`` was queued."""
        state.answered += 1
        waiting = state.waiting
        while waiting and waiting[0][0] <= state.answered:
            self._send(s, state, waiting.popleft()[1])

    def _send(self, s: Session, state: Tracked, keys: list[bytes] | None) -> None:
        target = s
        if state.redirect:
            other = self.engine.clients.get(state.redirect)
            if other is None or other.closing:
                state.broken = True
                if s.protocol == 3:
                    self._write(s, encode(Push([b"tracking-redir-broken", state.redirect]), 3))
                return
            target = other
        if keys is None:
            body = _NULL[s.protocol]
        else:
            items: list[Reply] = [*keys]
            body = encode(items, target.protocol)
        if target.protocol == 3:
            self._write(target, b">2\r\n$10\r\ninvalidate\r\n" + body)
        elif state.redirect and target.in_pubsub():
            self._write(target, b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n%b" % (len(_CHANNEL), _CHANNEL, body))

    def _write(self, target: Session, wire: bytes) -> None:
        target.write(wire)
        self.engine.wake(target)
