"""COMMANDLOG's large replies: which request each of them answers; and the size of each, while slots are charged for it.

Rule: asked only about replies past the threshold, so an ordinary one costs one comparison. A reply of an entry that
held several requests of its client cannot be told apart from theirs and is logged without its words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.batch import Item
    from durakv.engine.engine import Engine
    from durakv.engine.gate import Gate


def seen(gate: Gate, s: Session, argv: list[bytes], size_bytes: int) -> None:
    """A reply was made that is to be looked at."""
    if gate.usage is not None:
        gate.usage.answered(size_bytes)
    if size_bytes >= gate.reply_kept:
        note(gate.engine, s, argv, size_bytes)


def seen_in_entry(gate: Gate, s: Session, size_bytes: int) -> None:
    """A reply of the entry being applied was made that is to be looked at."""
    if gate.usage is not None:
        gate.usage.answered(size_bytes)
    if size_bytes >= gate.reply_kept:
        gate.large.append((s, size_bytes))


def note(engine: Engine, s: Session, argv: list[bytes], size_bytes: int) -> None:
    """Keep one reply's request."""
    engine.instruments.large_replies.note(size_bytes, argv, s.address, s.name, engine.clock.wall_ms())


def blame(engine: Engine, items: list[Item]) -> None:
    """Keep the requests of an entry whose replies were large."""
    large = engine.gate.large
    engine.gate.large = []
    for s, size_bytes in large:
        asked = [item for item in items if item.session is s]
        if len(asked) == 1:
            item = asked[0]
            argv = item.argv
        else:
            argv = [b"(one of %d pipelined requests)" % len(asked) if asked else b"(a request that waited)"]
        note(engine, s, argv, size_bytes)
