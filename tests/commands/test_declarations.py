"""Every declared fact against the inventory of Valkey 9.1; tests/data/deviations.csv excuses what differs."""

from __future__ import annotations

import pytest

from durakv.commands.spec import LOCAL
from durakv.commands.table import Row, build_table
from durakv.resp.errors import CommandError
from tests.commands.fake_services import FakeNode, error
from tests.commands.fake_services import run as run_local
from tests.commands.inventory import DOCUMENT, KINDS, all_kinds, deviations, differences, parts, rendered, upstream

UPSTREAM = upstream()
TABLE = build_table()
OWN = {found.command for found in deviations("own")}
DIFFERS = {(found.command, found.fact) for found in deviations("differs")}
REFUSED = {found.command: found for found in deviations("refused")}


def test_the_inventory_is_whole() -> None:
    assert len(UPSTREAM) > 390
    assert all_kinds() <= set(KINDS)
    assert all(found.reason for kind in KINDS for found in deviations(kind))


@pytest.mark.parametrize("row", TABLE.all, ids=lambda row: row.name)
def test_facts_equal_upstream(row: Row) -> None:
    if row.name in OWN:
        assert row.name not in UPSTREAM, f"upstream has {row.name} too; compare it"
        return
    assert row.name in UPSTREAM, f"{row.name} is not a command of Valkey 9.1; list it as own"
    found = differences(row, UPSTREAM[row.name])
    assert {fact: text for fact, text in found.items() if (row.name, fact) not in DIFFERS} == {}


def test_every_deviation_is_needed() -> None:
    for name, fact in DIFFERS:
        assert fact in differences(TABLE.by_name[name], UPSTREAM[name]), f"{name} {fact} equals upstream now"
    assert [name for name in OWN if name not in TABLE.by_name] == []


def test_what_is_absent_is_listed_and_nothing_else() -> None:
    absent = {name for name in UPSTREAM if name not in TABLE.by_name}
    assert absent == {found.command for found in deviations("absent")}


@pytest.mark.parametrize("kind", ["refused", "accepted"])
def test_what_does_nothing_is_listed_and_nothing_else(kind: str) -> None:
    marks = (kind.title() + ":", kind.title() + ";")
    told = {row.name for row in TABLE.all if row.declaration.summary.startswith(marks)}
    assert told == {found.command for found in deviations(kind)}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_refuse(name: str) -> None:
    argv = REFUSED[name].example.encode().split()
    row = TABLE.find(argv)
    assert row.name == name
    if row.kind != LOCAL:
        with pytest.raises(CommandError):
            row.fn(None, argv)
        return
    node = FakeNode()
    node.settings.cluster_enabled = True
    assert len(error(node, node.client(), REFUSED[name].example)) > len("ERR syntax error")


def test_local_commands_that_are_accepted_answer() -> None:
    node = FakeNode()
    node.settings.cluster_enabled = True
    for found in deviations("accepted"):
        run_local(node, node.client(), found.command.replace("|", " "))


def test_the_document_tells_the_table() -> None:
    _, within, _ = parts(DOCUMENT.read_text())
    assert within == rendered(TABLE), "run python -m tests.commands.inventory"
