"""The shadow notices what the log must not hold and what clients must not be told."""

from __future__ import annotations

import pytest

from durakv.engine.entry import HEADER
from jstyle.sim.client import wire_of
from jstyle.sim.shadow import Shadow, decoded
from jstyle.sim.violation import Violation
from raft.types import EntryKind

NOW_MS = 1_700_000_000_000
SET_A1 = [b"SET", b"a", b"1"]


def payload(*commands: list[bytes]) -> bytes:
    return HEADER.pack(1, 1, 0, len(commands), NOW_MS, 7) + b"".join(map(wire_of, commands))


def commit(shadow: Shadow, *commands: list[bytes], term: int = 1) -> None:
    """The next entry, after one of the same term or the beginning."""
    index = shadow.commit + 1
    shadow.note("n1", index, term, 0, EntryKind.NORMAL, payload(*commands), shadow.terms[-1])
    shadow.commit_to("n1", index, term, term)


def broken(invariant: str) -> pytest.RaisesExc[Violation]:
    return pytest.raises(Violation, match=f"^{invariant}: ")


def test_an_effect_nobody_asked_for() -> None:
    with broken("D2"):
        commit(Shadow(), SET_A1)


def test_an_effect_twice() -> None:
    shadow = Shadow()
    shadow.asked([SET_A1])
    commit(shadow, SET_A1)
    with broken("D3"):
        commit(shadow, SET_A1)


def test_an_effect_after_a_definite_refusal_and_a_refusal_after_the_effect() -> None:
    shadow = Shadow()
    shadow.asked([SET_A1])
    shadow.refused([SET_A1], "CLUSTERDOWN")
    with broken("P3"):
        commit(shadow, SET_A1)
    shadow = Shadow()
    shadow.asked([SET_A1])
    commit(shadow, SET_A1)
    with broken("P3"):
        shadow.refused([SET_A1], "CLUSTERDOWN")


def test_an_acknowledgement_without_an_entry() -> None:
    shadow = Shadow()
    shadow.asked([SET_A1])
    with broken("D1"):
        shadow.acknowledged([SET_A1], [b"OK"])
    commit(shadow, SET_A1)
    shadow.acknowledged([SET_A1], [b"OK"])


def test_a_reply_the_log_does_not_give() -> None:
    shadow = Shadow()
    push = [b"RPUSH", b"l", b"1"]
    shadow.asked([push])
    commit(shadow, push)
    shadow.acknowledged([push], [1])
    with broken("R5"):
        shadow.acknowledged([push], [2])


def test_other_content_under_the_same_index_and_term() -> None:
    shadow = Shadow()
    shadow.note("n1", 1, 1, 0, EntryKind.NOOP, b"", 0)
    shadow.note("n2", 1, 1, 0, EntryKind.NOOP, b"", 0)
    with broken("R3"):
        shadow.note("n2", 1, 1, 1, EntryKind.NOOP, b"", 0)
    with broken("R3"):
        shadow.note("n2", 5, 1, 0, EntryKind.NOOP, b"", 9)
    with broken("R3"):
        shadow.note_durable("the disk of n2", 1, 1, 0, EntryKind.NOOP, b"", 0, 12345)


def test_a_commit_over_another_history() -> None:
    shadow = Shadow()
    shadow.note("n1", 1, 1, 0, EntryKind.NOOP, b"", 0)
    shadow.note("n2", 1, 2, 0, EntryKind.NOOP, b"", 0)
    shadow.note("n2", 2, 2, 0, EntryKind.NOOP, b"", 2)
    shadow.commit_to("n1", 1, 1, 1)
    with broken("R5"):
        shadow.commit_to("n2", 2, 2, 2)


def test_digest_ignores_slots_touched_later_and_sees_changes() -> None:
    shadow = Shadow()
    other = [b"SET", b"b", b"2"]
    shadow.asked([SET_A1, other])
    commit(shadow, SET_A1)
    before = shadow.digest_of(shadow.ks)
    commit(shadow, other)
    assert shadow.digest_of(shadow.ks) != before
    follower = Shadow()
    follower.asked([SET_A1])
    commit(follower, SET_A1)
    # Computed with the keys of a later index, as for a node that lags.
    assert shadow.digest_of(follower.ks) == before


def test_final_reads_of_the_shadow() -> None:
    shadow = Shadow()
    commands = [SET_A1, [b"RPUSH", b"l", b"x"], [b"SET", b"short", b"1", b"PX", b"50"]]
    shadow.asked(commands)
    commit(shadow, *commands)
    assert shadow.read([b"GET", b"a"]) == b"1"
    assert shadow.lasting_keys() == [(b"a", b"string"), (b"l", b"list")]
    assert decoded(b"-ERR no\r\n") == "ERR no"
