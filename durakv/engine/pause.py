"""CLIENT PAUSE: requests of the paused kind wait, and so do all later ones of their session, until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine


def begin(engine: Engine, until_ms: int, writes_only: bool) -> None:
    """Pause until a wall-clock time. A longer or stricter pause replaces a weaker one."""
    engine.pause_writes = True
    engine.pause_all = engine.pause_all or not writes_only
    if engine.pause_timer is not None:
        engine.pause_timer.cancel()
    engine.pause_until_ms = until_ms
    delay_ms = max(0, until_ms - engine.clock.wall_ms())
    engine.pause_timer = engine.clock.call_later(delay_ms, engine.unpause_clients)


def end(engine: Engine) -> None:
    """Let everybody go on."""
    engine.pause_writes = engine.pause_all = False
    if engine.pause_timer is not None:
        engine.pause_timer.cancel()
        engine.pause_timer = None
    paused = engine.paused
    engine.paused = {}
    for s in paused:
        s.blocked = False
        engine.wake(s)


def hold(engine: Engine, s: Session, argv: list[bytes]) -> None:
    """This request waits."""
    s.held.appendleft(argv)
    s.blocked = True
    engine.paused[s] = None
