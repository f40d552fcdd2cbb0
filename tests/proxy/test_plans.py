"""No command is undecided, and the documentation says what is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from durakv.commands.spec import READ
from durakv.commands.table import build_table
from durakv.proxy.begin import has_task
from durakv.proxy.plans import ANY, BLOCKING, CONTAINER, EVERY, HERE, KEYED, NAMES, REFUSED, SESSION, SPLIT, Plans
from durakv.resp.errors import CommandError

TABLE = build_table()
PLANS = Plans(TABLE)
STATEFUL = (
    "multi", "exec", "discard", "watch", "select", "auth", "hello", "reset", "quit", "monitor", "sync", "psync",
    "readonly", "asking", "client|reply", "client|tracking", "client|caching", "client|no-touch", "client|pause",
    "shutdown", "debug", "script|debug", "replconf", "failover",
)  # fmt: skip
DOCUMENT = Path(__file__).parents[2] / "docs" / "proxy.md"


def test_every_command_has_a_plan():
    assert [plan.row for plan in PLANS.all] == TABLE.all
    for plan in PLANS.all:
        assert (plan.code == REFUSED) == bool(plan.refusal), plan.name
        if plan.code in (SESSION, BLOCKING, EVERY, HERE, REFUSED):
            assert has_task(plan), plan.name
        if plan.code == CONTAINER:
            assert plan.subs, plan.name


def test_only_what_does_no_harm_is_sent_again():
    again = [plan for plan in PLANS.all if plan.again and plan.code in (KEYED, SPLIT, BLOCKING)]
    assert all(plan.row.kind == READ or plan.name == "watch" for plan in again)
    twice = [plan.name for plan in PLANS.all if plan.again and plan.row.kind != READ and plan.code == EVERY]
    assert twice == ["pubsub|channels", "pubsub|shardchannels", "pubsub|numsub", "pubsub|shardnumsub", "pubsub|numpat"]
    for name in ("publish", "spublish", "eval", "blpop", "xreadgroup", "script|load", "flushall", "script|kill"):
        assert not next(plan for plan in PLANS.all if plan.name == name).again, name


def test_what_changes_a_connection_never_takes_a_shared_one():
    """A command that blocks, pushes, changes identity or gets no or several replies would shift others' replies."""
    for plan in PLANS.all:
        risky = plan.row.is_blocking or "subscribe" in plan.name or plan.name in STATEFUL
        if risky and not plan.may_block:
            assert plan.code not in (KEYED, SPLIT, ANY), plan.name


def test_names_in_any_case_and_what_is_wrong():
    assert PLANS.find([b"gEt", b"a"]).name == "get"
    assert PLANS.find([b"CLIENT", b"setName", b"a"]).name == "client|setname"
    assert PLANS.find([b"COMMAND"]).code == ANY
    for argv in ([b"nosuch"], [b"get"], [b"client"], [b"client", b"nosuch"], [b"config"], [b"get", b"a", b"b"]):
        with pytest.raises(CommandError):
            PLANS.find(argv)


def documented() -> str:
    """The table in docs/proxy.md, as it has to be."""
    lines = ["| what is done | commands |", "|---|---|"]
    for code, name in NAMES.items():
        words = sorted(p.name.replace("|", " ").upper() for p in PLANS.all if p.code == code)
        lines.append(f"| {name} | {', '.join(words)} |")
    return "\n".join(lines)


def test_the_documentation_has_the_same_table():
    assert documented() in DOCUMENT.read_text(), "replace the table in docs/proxy.md by the output of this file"


if __name__ == "__main__":
    print(documented())
