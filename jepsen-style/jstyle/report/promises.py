"""Promises and checkers in plain words, for readers who do not know their names.

Rule: the only place of the report that explains; a name it does not know is shown as it is.
"""

from __future__ import annotations

from typing import Final

_CHECKERS: Final = {
    "bank": "Transfers neither create nor destroy money, whatever moment is read.",
    "counter": "A counter shows no less than was acknowledged and no more than was asked for.",
    "elle-append": "Transactions on lists behave as if they ran one after another, in real-time order.",
    "elle-wr": "Transactions on registers behave as if they ran one after another, in real-time order.",
    "expiry": "A key is there until its deadline and never after it.",
    "linear": "Each key behaves as if every operation took effect at one instant between its call and its answer.",
    "lock": "A lock has one holder at a time, and its tokens only rise.",
    "order": "Messages are seen in one order, with none lost.",
    "queue": "What was put in comes out once, in order, and nothing is lost.",
    "set-full": "What was added to a set is in every later read.",
    "wgl": "Linearizability once more, by an independent engine.",
    "zones": "Each key of unique writes is linearizable, judged by when each value was alive.",
}

_PROMISES: Final = {
    "R1": "At most one leader in each term.",
    "R2": "A leader never changes or removes entries of its own log.",
    "R3": "Two logs that hold an entry of the same index and term are the same up to it.",
    "R4": "A new leader holds every entry that was ever committed.",
    "R5": "All nodes commit the same entries and get the same results from them.",
    "R6": "On disk a term never falls and a vote never changes within its term.",
    "R7": "What is committed is on the disks of a quorum.",
    "R8": "A leader commits by counting only entries of its own term.",
    "R9": "One change of membership at a time; the quorums of two in a row intersect.",
    "R10": "A snapshot is the state at its index.",
    "D1": "An acknowledged write is on the disks of a quorum and is never lost.",
    "D2": "Nothing is applied that no client asked for.",
    "D3": "A request is applied no more often than it was sent.",
    "D4": "A node recovers to a prefix of its log that covers what it had acknowledged.",
    "K1": "The clients' histories pass their checkers.",
    "K2": "The final reads of all keys give what the committed log gives.",
    "P2": "An acknowledged write is on as many disks as was promised.",
    "P3": "A definite error means that the command has no effect, ever.",
    "P6": "A witness elects only who holds every acknowledged write; else the group stays without a leader.",
    "P9": "Recovery restores every acknowledged write or refuses and says why.",
    "P10": "A healed group elects a leader and finishes all pending work by itself.",
    "W1": "A witness votes once in a term, and its vote and record are on its medium before it answers.",
    "W2": "A witness's record never goes back and is the set its leader works with.",
    "W3": "A leader's subterms only rise, each begins with an entry, and one subterm has one set and one membership.",
    "W4": "A witness is asked to record a subterm only when a subquorum of its set holds an entry of it.",
    "W5": "A leader counts the witness only for what the witness has recorded.",
    "W6": "A witness votes only for who may hold everything, and is asked only when its vote alone is missing.",
    "W7": "A witness keeps a few small records and nothing else.",
    "LeaderS": "A leader belongs to the replication set it works with.",
    "PinExclusive": "While a leader of two full nodes is pinned, nobody leads a later term.",
    "WitnessQuiet": "A witness that stands in for nobody is not asked.",
    "NoAmnesia": "A witness whose state is lost answers nothing.",
}


def of_checker(name: str) -> str:
    """What a checker holds the system to; empty for a checker nobody described."""
    short = name.rsplit("/", maxsplit=1)[-1].replace("_", "-").removesuffix(":check")
    return _CHECKERS.get(short, _CHECKERS.get(short.split(":")[0], ""))


def of_promise(name: str) -> str:
    """What a promise says; empty for an id nobody described."""
    if name.startswith("CRASH:"):
        return "No node ends by an error that nobody foresaw."
    return _PROMISES.get(name, "")
