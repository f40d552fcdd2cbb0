"""What a run asked for and what it was promised, and what that means for a disk found later.

Rule: promises are derived from the marks of a trace alone. A log is known by its histories: every append makes the
history that the log would then have. Only the newest may be acknowledged further; what an earlier acknowledgement said
about entries that a later leader replaced no longer counts. It must not know files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jstyle.crash.trace import MARK, Event

# Index, term, subterm, kind, data of one entry.
Key = tuple[int, int, int, int, bytes]
History = tuple[Key, ...]
# Term and vote.
Ballot = tuple[int, int]

ISSUE: Final = "ISSUE"
ACK: Final = "ACK"
VOTE: Final = "VOTE"
VOTE_ACK: Final = "VOTE_ACK"
BOUNDARY: Final = "BOUNDARY"


class Ledger:
    """Histories and ballots of a run, by number, as its marks name them."""

    def __init__(self, held: History = (), ballots: Sequence[Ballot] = ((0, 0),)) -> None:
        """``held`` and the last of ``ballots`` are what the disk recovers to before the run."""
        self.histories: list[History] = [held]
        self.ballots: list[Ballot] = list(ballots)
        self.ballots_before = len(ballots)

    def extend(self, entries: Sequence[Key]) -> int:
        """The number of the history after appending ``entries``, which replace from their first index on."""
        kept = self.histories[-1][: entries[0][0] - 1]
        self.histories.append((*kept, *entries))
        return len(self.histories) - 1

    def vote(self, ballot: Ballot) -> int:
        """The number of a new ballot."""
        self.ballots.append(ballot)
        return len(self.ballots) - 1


class Promises:
    """What holds at a position of the trace: ``issued`` and ``acked`` are about entries, ``voted`` about ballots."""

    __slots__ = ("acked", "histories_issued", "ledger", "vote_acked", "votes_issued")

    def __init__(self, ledger: Ledger, *, acked: int = 0) -> None:
        """``acked`` entries of the ledger's first history were acknowledged before the trace began."""
        self.ledger = ledger
        self.histories_issued = 1
        self.votes_issued = ledger.ballots_before
        self.vote_acked = ledger.ballots_before - 1
        self.acked: History = ledger.histories[0][:acked]

    def feed(self, event: Event) -> None:
        """The next event of the trace."""
        if event.kind != MARK:
            return
        if event.label == ISSUE:
            self.histories_issued = event.value[0] + 1
            self.acked = self.acked[: common(self.acked, self.newest())]
        elif event.label == ACK:
            number, length = event.value
            told = self.ledger.histories[number][:length]
            told = told[: common(told, self.newest())]
            if len(told) > len(self.acked):
                self.acked = told
        elif event.label == VOTE:
            self.votes_issued = event.value[0] + 1
        elif event.label == VOTE_ACK:
            self.vote_acked = max(self.vote_acked, event.value[0])

    def newest(self) -> History:
        """The log as last asked for."""
        return self.ledger.histories[self.histories_issued - 1]

    def frozen(self) -> Promises:
        """A copy that further events do not change."""
        copy = Promises(self.ledger)
        copy.histories_issued = self.histories_issued
        copy.votes_issued = self.votes_issued
        copy.vote_acked = self.vote_acked
        copy.acked = self.acked
        return copy

    def key(self) -> tuple[int, int, int, int]:
        """Equal for promises that ask the same."""
        return (self.histories_issued, len(self.acked), self.votes_issued, self.vote_acked)

    def broken_log(self, held: History) -> tuple[str, str] | None:
        """(check, sentence) when a recovered log breaks a promise. D1: acknowledged entries are lost or differ;
        D4: the log is no prefix of anything that was asked for.
        """
        same = common(held, self.acked)
        if same < len(self.acked):
            found = f"the log ends at {len(held)}" if len(held) == same else f"index {same + 1} holds another entry"
            return "D1", f"{len(self.acked)} entries were acknowledged, but {found}"
        if any(held == issued[: len(held)] for issued in self.ledger.histories[: self.histories_issued]):
            return None
        longest = max(common(held, issued) for issued in self.ledger.histories[: self.histories_issued])
        return "D4", f"entry {longest + 1} of the {len(held)} recovered was never asked for after those before it"

    def broken_vote(self, ballot: Ballot) -> tuple[str, str] | None:
        """(check, sentence) when a recovered term and vote are older than what was externalized, or invented (R6)."""
        if ballot in self.ledger.ballots[self.vote_acked : self.votes_issued]:
            return None
        last = self.ledger.ballots[self.vote_acked]
        return "R6", f"term {last[0]} vote {last[1]} was promised, but term {ballot[0]} vote {ballot[1]} was recovered"


def common(one: History, other: History) -> int:
    """How many entries two histories share from the start."""
    if one is other:
        return len(one)
    count = 0
    for left, right in zip(one, other, strict=False):
        if left is not right and left != right:
            break
        count += 1
    return count
