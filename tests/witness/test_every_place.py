"""One behaviour, whatever keeps the state: a process, a directory, an object in memory, an object at an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest

from durakv.witness.errors import STATE_LOST, ExistsError
from raft.codec import encode
from raft.messages import WitnessAppendResp, WitnessVoteResp
from raft.witness import WitnessState, answer
from tests.witness.places import CLUSTER, PLACES, WITNESS, Asker, Place, append, key, vote

GROUPS = count(1)


@pytest.fixture(scope="module", params=list(PLACES))
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = PLACES[request.param](Path(tmp_path_factory.mktemp("place")))
    yield made
    made.close()


@pytest.fixture
def group(place: Place) -> int:
    """A group of its own for each test, with a witness."""
    number = next(GROUPS)
    assert place.nodes.create(place.address, key(number)) is None
    return number


@pytest.fixture
def asker(place: Place, group: int) -> Iterator[Asker]:
    made = Asker(place.nodes, place.address, key(group), 1)
    yield made
    made.link.close()


def other(place: Place, group: int, node_id: int) -> Asker:
    return Asker(place.nodes, place.address, key(group), node_id)


def test_one_vote_a_term(place: Place, group: int, asker: Asker):
    rival = other(place, group, 2)
    first = asker.ask(vote(1, 2, (1, 0), group=group))
    assert isinstance(first, WitnessVoteResp) and first.granted and first.term == 2
    second = rival.ask(vote(2, 2, (1, 0), group=group))
    assert isinstance(second, WitnessVoteResp) and not second.granted and second.term == 2
    # An answer that got lost is given again, and nothing is written for it.
    before = place.versions(key(group))
    again = asker.ask(vote(1, 2, (1, 0), group=group))
    assert isinstance(again, WitnessVoteResp) and again.granted
    assert place.versions(key(group)) == before
    third = rival.ask(vote(2, 3, (1, 0), group=group))
    assert isinstance(third, WitnessVoteResp) and third.granted and third.term == 3
    rival.link.close()


def test_a_pinned_leader_keeps_the_other_from_leading(place: Place, group: int, asker: Asker):
    pinned = asker.ask(append(1, 2, (2, 1), (1, WITNESS), group))
    assert isinstance(pinned, WitnessAppendResp) and pinned.ok and (pinned.subterm, pinned.index) == (1, 10)
    rival = other(place, group, 2)
    asked = rival.ask(vote(2, 3, (2, 0), group=group, pre=True))
    assert isinstance(asked, WitnessVoteResp) and asked.pre and not asked.granted and asked.term == 2
    for log in ((1, 9), (2, 0), (2, 1)):
        refused = rival.ask(vote(2, 3, log, group=group))
        assert isinstance(refused, WitnessVoteResp) and not refused.granted and refused.term == 3
    mine = asker.ask(vote(1, 4, (2, 1), group=group))
    assert isinstance(mine, WitnessVoteResp) and mine.granted
    rival.link.close()


def test_an_append_again_is_confirmed_without_writing_and_an_old_one_refused(place: Place, group: int, asker: Asker):
    question = append(1, 2, (2, 3), (1, WITNESS), group)
    for _ in range(2):
        ok = asker.ask(question)
        assert isinstance(ok, WitnessAppendResp) and ok.ok
    assert place.versions(key(group)) == 2
    for wrong in (append(1, 2, (2, 2), (1, WITNESS), group), append(1, 2, (2, 3), (1, 2), group)):
        refused = asker.ask(wrong)
        assert isinstance(refused, WitnessAppendResp) and not refused.ok
    asker.ask(vote(1, 5, (2, 3), group=group))
    late = asker.ask(append(1, 4, (4, 1), (1, 2), group))
    assert isinstance(late, WitnessAppendResp) and not late.ok and late.term == 5


def test_a_long_conversation_of_three_nodes_is_answered_as_the_rules_say(place: Place, group: int):
    askers = {node: other(place, group, node) for node in (1, 2, 3)}
    random = Random(group)
    model = WitnessState(group, WITNESS)
    for _ in range(60):
        node = random.choice((1, 2, 3))
        term = model.term + random.choice((-1, 0, 0, 1, 2)) or 1
        log = (max(model.last_log_term + random.choice((-1, 0, 0, 0, 1)), 0), random.randrange(4))
        if random.random() < 0.6:
            granted = tuple(sorted({node, random.choice((1, 2, 3))}))
            message = vote(node, max(term, 1), log, granted, pre=random.random() < 0.3, group=group)
        else:
            message = append(node, max(term, 1), log, random.choice(((1, 2, 9), (1, 9), (2, 3, 9))), group)  # type: ignore[assignment]
        model, expected = answer(model, message)
        assert expected is not None
        assert encode(askers[node].ask(message)) == encode(expected)
    for made in askers.values():
        assert made.troubles == []
        made.link.close()


def test_what_was_answered_survives_a_restart(place: Place, group: int, asker: Asker):
    asker.ask(append(1, 2, (2, 1), (1, WITNESS), group))
    asker.ask(vote(1, 3, (2, 1), group=group))
    asker.link.close()
    place.restart()
    rival = other(place, group, 2)
    refused = rival.ask(vote(2, 3, (2, 5), group=group))
    assert isinstance(refused, WitnessVoteResp) and not refused.granted and refused.term == 3
    rival.link.close()


def test_a_link_survives_a_restart(place: Place, group: int, asker: Asker):
    asker.ask(vote(1, 2, (1, 0), group=group))
    place.restart()
    again = asker.ask(vote(1, 3, (1, 0), group=group))
    assert isinstance(again, WitnessVoteResp) and again.granted


def test_counters_and_the_size_of_the_state(place: Place, group: int, asker: Asker):
    assert (asker.link.sent, asker.link.answered, asker.link.bytes) == (0, 0, 0)
    asker.ask(append(1, 2, (2, 1), tuple(range(1, 49)), group))
    assert (asker.link.sent, asker.link.answered) == (1, 1)
    assert 300 < asker.link.bytes < 512


def test_a_link_refuses_what_is_no_question_of_its_own(asker: Asker, group: int):
    for wrong in (
        vote(2, 2, (1, 0), group=group), vote(1, 2, (1, 0), group=group + 1000),
        append(1, 2, (2, 1), tuple(range(1, 50)), group), WitnessVoteResp(group, 1, WITNESS, 1, True, False),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"question|witness"):
            asker.link.send(wrong)
    assert asker.link.sent == 0


def test_a_closed_link_says_nothing(place: Place, asker: Asker, group: int):
    asker.link.send(vote(1, 2, (1, 0), group=group))
    asker.link.close()
    asker.link.send(vote(1, 3, (1, 0), group=group))
    place.nodes.pass_ms(300)
    assert asker.answers == [] and asker.troubles == []


def test_an_id_is_created_once_ever(place: Place, group: int, asker: Asker):
    error = place.nodes.create(place.address, key(group))
    assert isinstance(error, ExistsError) and "an id serves once, ever" in str(error)
    asker.ask(vote(1, 2, (1, 0), group=group))
    assert isinstance(place.nodes.create(place.address, key(group)), ExistsError)
    place.lose(key(group))
    assert isinstance(place.nodes.create(place.address, key(group)), ExistsError)
    assert place.nodes.create(place.address, key(group, WITNESS + 1)) is None


def test_a_state_never_created_answers_nothing(place: Place):
    unknown = next(GROUPS)
    asker = other(place, unknown, 1)
    text = asker.trouble_of(vote(1, 2, (1, 0), group=unknown))
    assert text.startswith(STATE_LOST) and asker.link.answered == 0
    asker.link.close()


@pytest.mark.parametrize("how", ["lose", "damage"])
def test_a_lost_state_answers_nothing_and_names_the_repair(place: Place, group: int, asker: Asker, how: str):
    asker.ask(append(1, 2, (2, 1), (1, WITNESS), group))
    asker.ask(vote(1, 2, (2, 1), group=group))
    getattr(place, how)(key(group))
    rival = other(place, group, 2)
    text = rival.trouble_of(vote(2, 3, (2, 0), group=group))
    assert text.startswith(STATE_LOST)
    assert f"CLUSTER REMOVENODE {WITNESS}" in text and "CLUSTER ADDWITNESS <id> <address>" in text
    assert place.address.text() in text
    # Said once, however often it is asked; and asking goes on getting nothing.
    for term in (4, 5):
        rival.link.send(vote(2, term, (2, 0), group=group))
        place.nodes.pass_ms(150)
    assert len(rival.troubles) == 1 and rival.answers == []
    assert isinstance(place.nodes.create(place.address, key(group)), ExistsError)
    rival.link.close()


def test_a_copy_put_back_is_noticed_by_a_link_that_saw_later_versions(place: Place, group: int, asker: Asker):
    asker.ask(vote(1, 2, (1, 0), group=group))
    copy = place.copy(key(group))
    asker.ask(append(1, 2, (2, 1), (1, WITNESS), group))
    place.put_back(key(group), copy)  # type: ignore[arg-type]
    assert "went back from version 3 to 2" in asker.trouble_of(append(1, 2, (2, 1), (1, WITNESS), group))
    assert asker.troubles[-1].startswith(STATE_LOST)
    # It may have moved on past what was seen; this link believes it no more.
    for term in range(3, 8):
        asker.link.send(vote(1, term, (2, 1), group=group))
        place.nodes.pass_ms(50)
    assert len(asker.answers) == 2 and len(asker.troubles) == 1


def test_groups_and_clusters_do_not_see_each_other(place: Place, group: int, asker: Asker):
    asker.ask(vote(1, 7, (1, 0), group=group))
    beside = next(GROUPS)
    assert place.nodes.create(place.address, key(beside)) is None
    free = other(place, beside, 2)
    reply = free.ask(vote(2, 2, (1, 0), group=beside))
    assert isinstance(reply, WitnessVoteResp) and reply.granted and reply.term == 2
    free.link.close()
    assert key(group).cluster_id == CLUSTER
