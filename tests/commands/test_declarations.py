"""Every declared fact of every declared command against the inventory of Valkey 9.1, and what is still undeclared."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from durakv.commands.spec import CATEGORIES
from durakv.commands.table import Row, Table
from tests.commands.running import DATA_MODULES, declarations

INVENTORY = Path(__file__).parents[1] / "data" / "commands.csv"
LOCAL_MODULES = ("connection", "server", "pubsub", "cluster", "introspect", "transactions", "acl")

# (command, fact) -> why durakv says otherwise.
DEVIATIONS: dict[tuple[str, str], str] = {
    ("pubsub|help", "acl"): "every other PUBSUB subcommand is in @pubsub; the group decides here",
}
# durakv's own commands, which upstream does not have, and why they exist.
OWN: dict[str, str] = {
    "cluster|addnode": "membership changes are made online, by command",
    "cluster|addwitness": "membership changes are made online, by command",
    "cluster|promotenode": "membership changes are made online, by command",
    "cluster|removenode": "membership changes are made online, by command",
    "cluster|transfer": "leadership is handed over on request",
    "cluster|members": "shows voters, learners and witnesses with their progress",
}

# Groups this suite answers for: nothing of them may be missing but what is excused here.
COMPLETE_GROUPS = ("string", "generic", "hash", "list", "set", "sorted_set", "stream", "transactions")
KEYSPACE_SERVER_COMMANDS = ("dbsize", "flushdb", "flushall", "swapdb")
EXCUSED = {
    "migrate": "needs connections from inside apply; slots move with their group instead",
}
FIELD_TTL = frozenset(
    ("hexpire", "hexpireat", "hexpiretime", "hgetex", "hpersist", "hpexpire", "hpexpireat", "hpexpiretime", "hpttl",
     "hsetex", "httl", "hgetdel")
)  # fmt: skip


def inventory() -> dict[str, dict[str, str]]:
    with INVENTORY.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {
        (f"{r['container']}|{r['name']}" if r["container"] else r["name"]).lower(): r
        for r in rows
        if r["in_valkey_9_1_0"] == "1" and r["sentinel_only"] != "1"
    }


UPSTREAM = inventory()
TABLE = Table.freeze(declarations(DATA_MODULES + LOCAL_MODULES))


def words(text: str) -> set[str]:
    return {word for word in text.lower().split("|") if word}


def compare(row: Row) -> list[str]:
    """Differences of one row from upstream, as 'fact: ours, theirs'."""
    d = row.declaration
    theirs = UPSTREAM[row.name]
    categories = {name for name, bit in CATEGORIES.items() if row.categories & bit}
    facts: list[tuple[str, object, object]] = [
        ("arity", d.arity, int(theirs["arity"])),
        ("flags", set(d.flags), words(theirs["command_flags"]) - {"sentinel"}),
        ("movable keys", row.movable_keys, "movablekeys" in theirs["effective_flags"]),
        ("group", d.group, theirs["group"]),
        ("since", d.since, theirs["since"]),
        ("acl", categories, words(theirs["acl_categories"])),
        ("keys", [spec.text for spec in d.keys], theirs["key_specs"].split()),
        ("range", (row.first, row.last, row.step),
         (int(theirs["first_key"]), int(theirs["last_key"]), int(theirs["step"]))),
        ("tips", set(d.tips), words(theirs["command_tips"])),
    ]  # fmt: skip
    return [
        f"{fact}: ours {ours}, upstream {upstream}"
        for fact, ours, upstream in facts
        if ours != upstream and (row.name, fact) not in DEVIATIONS
    ]


@pytest.mark.parametrize("row", TABLE.all, ids=lambda row: row.name)
def test_facts_equal_upstream(row: Row) -> None:
    if row.name in OWN:
        assert row.name not in UPSTREAM, f"upstream has {row.name} too; compare it"
        return
    assert row.name in UPSTREAM, f"{row.name} is not a command of Valkey 9.1; give its reason in OWN"
    assert compare(row) == []


def test_every_deviation_is_needed() -> None:
    for name, fact in DEVIATIONS:
        assert fact in {text.partition(":")[0] for text in compare_all(name)}, f"{name} {fact} equals upstream now"


def compare_all(name: str) -> list[str]:
    saved = dict(DEVIATIONS)
    DEVIATIONS.clear()
    try:
        return compare(TABLE.by_name[name])
    finally:
        DEVIATIONS.update(saved)


@pytest.mark.parametrize("group", COMPLETE_GROUPS)
def test_group_is_complete(group: str) -> None:
    missing = sorted(
        name
        for name, facts in UPSTREAM.items()
        if facts["group"] == group and name not in TABLE.by_name and name not in EXCUSED and name not in FIELD_TTL
    )
    assert missing == []


def test_commands_on_whole_databases_are_declared() -> None:
    assert [name for name in KEYSPACE_SERVER_COMMANDS if name not in TABLE.by_name] == []


def test_excuses_are_needed() -> None:
    assert [name for name in EXCUSED if name in TABLE.by_name] == []
    assert [name for name in OWN if name not in TABLE.by_name] == []


def test_report_of_undeclared_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints, for readers of the log, what other groups still lack; the groups above must lack nothing."""
    missing: dict[str, list[str]] = {}
    for name, facts in UPSTREAM.items():
        if name not in TABLE.by_name:
            missing.setdefault(facts["group"], []).append(name)
    with capsys.disabled():
        for group, names in sorted(missing.items()):
            print(f"\nundeclared in {group}: {' '.join(sorted(names))}", end="")
    assert "string" not in missing
