"""The users in the log, and what a change of them does to this node's connections.

Rule: what apply calls here on every node ends connections and changes nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.acl.accounts import Accounts
from durakv.commands.acl import unfit

if TYPE_CHECKING:
    from durakv.acl.users import User
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine

# How long the connection of a deleted user may still wait for replies.
_LAST_REPLIES_MS: Final = 5
_LAST_REPLIES_ROUNDS: Final = 200


def install(engine: Engine) -> Accounts:
    """The users in the log of a new engine, whose changes reach its connections."""
    accounts = Accounts(engine.acl)
    accounts.on_change = lambda users: users_changed(engine, users)
    return accounts


def users_changed(engine: Engine, users: list[User]) -> None:
    """End the connections of those that are deleted, or listen where they no longer may."""
    for s in unfit(list(engine.clients.values()), users):
        _end(engine, s, _LAST_REPLIES_ROUNDS)


def _end(engine: Engine, s: Session, rounds: int) -> None:
    """Close, but let a request that is on its way be answered first: it may be the one that deleted the user."""
    if s.pending and rounds:
        engine.clock.call_later(_LAST_REPLIES_MS, lambda: _end(engine, s, rounds - 1))
    elif s.sink is not None:
        s.sink.close_after_flush()
