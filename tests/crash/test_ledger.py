"""What acknowledgements promise, also when a later leader replaces what an earlier one wrote."""

from __future__ import annotations

from jstyle.crash.ledger import ACK, ISSUE, VOTE, VOTE_ACK, Ledger, Promises
from jstyle.crash.node import payload
from jstyle.crash.trace import MARK, Event


def mark(label, *value):
    return Event(MARK, label=label, value=value)


def promised(ledger, *events):
    promises = Promises(ledger)
    for event in events:
        promises.feed(event)
    return promises


def test_acknowledged_entries_must_be_there_and_issued_ones_may():
    ledger = Ledger()
    first = ledger.extend([payload(1, 1, 9), payload(2, 1, 9)])
    second = ledger.extend([payload(3, 1, 9)])
    p = promised(ledger, mark(ISSUE, first), mark(ACK, first, 2), mark(ISSUE, second))
    whole = ledger.histories[second]
    assert p.broken_log(whole) is None
    assert p.broken_log(whole[:2]) is None
    assert p.broken_log(whole[:1])[0] == "D1"
    assert p.broken_log((*whole, payload(4, 1, 9)))[0] == "D4"
    assert p.broken_log((whole[0], payload(2, 7, 9)))[0] == "D1"


def test_an_entry_that_was_never_asked_for_is_invented():
    ledger = Ledger()
    p = promised(ledger, mark(ISSUE, ledger.extend([payload(1, 1, 9)])))
    assert p.broken_log((payload(1, 2, 9),))[0] == "D4"
    assert promised(ledger).broken_log((payload(1, 1, 9),))[0] == "D4", "asked for only later"


def test_a_replaced_suffix_is_no_promise_any_more():
    ledger = Ledger()
    old = ledger.extend([payload(1, 1, 9), payload(2, 1, 9), payload(3, 1, 9)])
    new = ledger.extend([payload(2, 2, 9)])
    p = promised(ledger, mark(ISSUE, old), mark(ACK, old, 3), mark(ISSUE, new))
    assert p.broken_log(ledger.histories[old]) is None
    assert p.broken_log(ledger.histories[new]) is None
    assert p.broken_log(ledger.histories[old][:1]) is None
    p.feed(mark(ACK, new, 2))
    assert p.broken_log(ledger.histories[new]) is None
    assert p.broken_log(ledger.histories[old])[0] == "D1"
    late = promised(ledger, mark(ISSUE, old), mark(ISSUE, new), mark(ACK, old, 3))
    assert len(late.acked) == 1, "an answer about entries that were replaced meanwhile"


def test_votes_neither_fall_back_nor_appear():
    ledger = Ledger()
    first, second = ledger.vote((1, 7)), ledger.vote((2, 9))
    p = promised(ledger, mark(VOTE, first), mark(VOTE_ACK, first), mark(VOTE, second))
    assert p.broken_vote((1, 7)) is None
    assert p.broken_vote((2, 9)) is None
    assert p.broken_vote((0, 0))[0] == "R6"
    assert p.broken_vote((2, 8))[0] == "R6"
    p.feed(mark(VOTE_ACK, second))
    assert p.broken_vote((1, 7))[0] == "R6"
