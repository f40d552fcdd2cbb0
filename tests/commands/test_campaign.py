"""A slice of the campaign in every run of the tests: programs of each type in RESP2 and RESP3, and its own parts.

The programs follow from the seeds below. ``python -m tests.commands.campaign`` compares as many as one likes; what it
has compared so far is in docs/compatibility.md.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from random import Random

import pytest

from durakv.commands.table import build_table
from tests.commands.campaign import record
from tests.commands.campaign.compare import LISTED, RULES, Judge
from tests.commands.campaign.contest import Campaign
from tests.commands.campaign.grammar import Template
from tests.commands.campaign.mutation import mutated, safe
from tests.commands.campaign.programs import TYPES, Maker
from tests.commands.campaign.runner import Runner
from tests.commands.campaign.servers import Ports, running
from tests.commands.campaign.servers import peer_found as found
from tests.commands.campaign.vocabulary import SHARED
from tests.commands.campaign.wire import Server, packed, reply_end, trees

COMMANDS = int(os.environ.get("CAMPAIGN_COMMANDS", "1000"))
# Programs of other seeds for each type, so that a change that all types share meets many.
FIRST_SEED = {kind: 10_000 + 1_000 * n for n, kind in enumerate(TYPES)}
EVERYTHING = frozenset(row.name.partition("|")[0].upper().encode() for row in build_table().all)


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    binary = found("valkey")
    if binary is None:
        print("no valkey-server on PATH: untested that random programs get its replies")
        pytest.skip("no valkey-server on PATH: untested that random programs get its replies")
    with running(binary) as started:
        yield started


@pytest.mark.live
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", TYPES)
def test_programs_get_a_stock_servers_replies(ports: Ports, kind: str, protocol: int) -> None:
    campaign = Campaign(ports, kind, protocol)
    try:
        campaign.run(FIRST_SEED[kind] + 100 * protocol, COMMANDS)
        assert campaign.told == [], "\n".join(campaign.told)
        assert campaign.commands >= COMMANDS
    finally:
        campaign.close()


@pytest.mark.live
def test_a_difference_is_found_and_made_small(ports: Ports) -> None:
    ours, theirs = Server(ports.ours, "durakv", 3), Server(ports.theirs, ports.peer, 3)
    runner = Runner(ours, theirs, Judge(ports.peer, "strings"))
    # What one server answers by itself stands for a bug: it names itself.
    steps = [(0, [b"SET", b"k%d" % n, b"v"]) for n in range(50)]
    steps.insert(30, (0, [b"LOLWUT", b"VERSION", b"x"]))
    steps.insert(20, (0, [b"HELLO", b"3"]))
    try:
        difference = runner.difference(steps)
        assert difference is not None
        assert (difference.at, difference.words) == (20, [b"HELLO", b"3"])
        assert runner.shrink(steps, difference).steps == [(0, [b"HELLO", b"3"])]
        assert runner.difference(steps[:20]) is None
    finally:
        ours.reset()
        theirs.reset()


@pytest.mark.live
def test_state_is_compared_behind_equal_replies(ports: Ports) -> None:
    ours, theirs = Server(ports.ours, "durakv", 2), Server(ports.theirs, ports.peer, 2)
    runner = Runner(ours, theirs, Judge(ports.peer, "strings"))
    try:
        assert runner.difference([(0, [b"SET", b"k", b"v"])]) is None
        assert theirs.ask(b"PEXPIREAT", b"k", b"4000000000000") == (":", b"1")
        difference = runner._state(1)
        assert difference is not None
        assert difference.words == [b"PEXPIRETIME", b"k"]
    finally:
        ours.reset()
        theirs.reset()


def test_a_program_follows_from_its_seed() -> None:
    for kind in TYPES:
        maker = Maker(kind, EVERYTHING)
        first, again, other = maker.program(7, 80), Maker(kind, EVERYTHING).program(7, 80), maker.program(8, 80)
        assert first == again != other
        assert len(first) >= 80


def test_templates_say_what_they_mean() -> None:
    dice = Random(1)
    made = [Template("ZADD key [NX|XX] (1 m){3} - + ; DEL same", SHARED).make(dice) for _ in range(100)]
    for zadd, delete in made:
        assert zadd[-2:] == [b"-", b"+"]
        assert zadd.count(b"m") == 3
        assert delete == [b"DEL", zadd[1]]
    assert {words[2] for words, _ in made} == {b"NX", b"XX", b"1"}
    assert {len(Template("DEL key+", SHARED).make(dice)[0]) for _ in range(100)} == {2, 3, 4}
    assert Template("7* GET key", SHARED).weight == 7
    with pytest.raises(ValueError, match="unexpected"):
        Template("GET key]", SHARED)


def test_nothing_that_waits_or_lasts_is_sent() -> None:
    for text in ("BLPOP k 0", "XREAD BLOCK 0 STREAMS k $", "EXPIRE k 1", "SET k v EX 5", "SHUTDOWN", "SPOP k", "QUIT",
                 "SETBIT k 2147483648 1", "SRANDMEMBER k -1000000", "XADD k * f v", "DEBUG SLEEP 1"):  # fmt: skip
        assert not safe(text.encode().split()), text
    for text in ("EXPIRE k 0", "SET k v EX 0", "SPOP k 100000", "XREAD STREAMS k 0", "SETBIT k 9 1", "XADD k 1-* f v"):
        assert safe(text.encode().split()), text
    dice = Random(2)
    words = b"ZRANGE k 0 -1 BYSCORE LIMIT 0 1".split()
    found_changes = {tuple(mutated(words, dice)) for _ in range(200)}
    assert len(found_changes) > 100
    assert words == b"ZRANGE k 0 -1 BYSCORE LIMIT 0 1".split()


def test_rules_forgive_what_they_name_and_no_more() -> None:
    judge = Judge("valkey-server", "zsets")

    def alike(request: str, mine: bytes, other: bytes) -> bool:
        return judge.alike(request.encode().split(), [], trees(mine)[0], trees(other)[0])

    assert alike("SMEMBERS k", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n")
    assert not alike("LRANGE k 0 -1", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n")
    assert not alike("HGETALL k", b"*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n", b"*4\r\n:1\r\n:4\r\n:3\r\n:2\r\n")
    assert alike("ZSCORE k m", b",2000000000000000.2\r\n", b",2000000000000000.3\r\n")
    assert not alike("ZSCORE k m", b",2000000000000000.2\r\n", b",2000000000000000.5\r\n")
    assert not alike("ZSCORE k m", b",3\r\n", b"$1\r\n3\r\n")
    assert alike("TTL k", b":2000000\r\n", b":2000001\r\n")
    assert not alike("EXPIRETIME k", b":4000000000\r\n", b":4000000001\r\n")
    assert not alike("GET k", b"-ERR a\r\n", b"-ERR b\r\n")
    queued = [[b"SMEMBERS", b"k"], [b"LRANGE", b"l", b"0", b"-1"]]
    first, second = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n"
    mine, other = trees(b"*2\r\n" + first + first)[0], trees(b"*2\r\n" + second + first)[0]
    assert judge.alike([b"EXEC"], queued, mine, other)
    assert not judge.alike([b"EXEC"], queued, mine, trees(b"*2\r\n" + first + second)[0])


def test_replies_are_read_to_their_end() -> None:
    wire = b"*2\r\n$2\r\nab\r\n%1\r\n+k\r\n*-1\r\n"
    assert reply_end(wire, 0) == len(wire)
    assert all(reply_end(wire[:n], 0) == -1 for n in range(len(wire)))
    assert trees(wire + b":1\r\n") == [("*", [("$", b"ab"), ("%", [("+", b"k"), ("_", b"*")])]), (":", b"1")]
    assert packed([b"GET", b""]) == b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"


def test_the_list_names_rules_and_types_that_exist() -> None:
    with LISTED.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["rule"] for row in rows} <= set(RULES)
    assert all(row["reason"] and set(row["types"].split()) <= set(TYPES) for row in rows)
    assert {row["peer"] for row in rows} <= {"", "valkey-server", "redis-server"}


def test_the_document_shows_the_newest_runs() -> None:
    _, within, _ = record.parts(record.DOCUMENT.read_text())
    assert within == record.rendered(), "run: python -m tests.commands.campaign --write-docs"
