"""What can be wrong with a witness's state, in words an operator can act on.

Rule: all of these are OSErrors, so that they come out of a disk lane as any failed job does. Everything else that a
store raises is an ordinary OSError: no answer now, perhaps one later.
"""

from __future__ import annotations

from typing import Final

STATE_LOST: Final = "WITNESS_STATE_LOST"


class StateLostError(OSError):
    """A witness that somebody calls a member has no state that can be believed; it must answer nothing."""


class ExistsError(OSError):
    """A witness of this id was created here before; an id serves once, ever."""


class SyncError(OSError):
    """The medium did not confirm a sync: what was written since the sync before may be gone, though it can be read."""


class StoreUnfitError(OSError):
    """The store cannot do what a witness's safety rests on (hard links, conditional writes)."""


def lost_text(witness_id: int, where: str, reason: str) -> str:
    """The one line every layer shows for a lost state: what happened, and the repair."""
    return (
        f"{STATE_LOST}: witness {witness_id} at {where}: {reason}. It will not answer. Remove it with CLUSTER "
        f"REMOVENODE {witness_id} and add one under an id never used before with CLUSTER ADDWITNESS <id> <address>; "
        "never bring the old state back from a copy"
    )
