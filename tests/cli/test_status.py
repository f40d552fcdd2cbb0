from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from durakv.cli import layout, status
from durakv.cli.client import parse_info
from durakv.cli.status import NodeStatus

LEADER = """# Replication\r
role:master\r
connected_clients:7\r
instantaneous_ops_per_sec:1234\r
# Durakv\r
durakv_role:leader\r
durakv_term:5\r
durakv_leader_id:1\r
durakv_commit_index:2000\r
durakv_applied_index:2000\r
durakv_fsync_p99_usec:1500\r
durakv_writes_refused:no\r
loading:0\r
"""


def row(node_id: int = 1, **changed: str) -> NodeStatus:
    return status.status_of(node_id, 7000, {**parse_info(LEADER), **changed})


def test_parse_info() -> None:
    assert parse_info("# A\r\nx:1\r\nurl:http://a:2\r\n\r\nodd\r\n") == {"x": "1", "url": "http://a:2"}


def test_status_of_a_leader() -> None:
    assert row().as_json() == {
        "address": "127.0.0.1:7000",
        "applied": 2000,
        "clients": 7,
        "commit": 2000,
        "fsync_p99_us": 1500,
        "health": "ok",
        "leader_id": 1,
        "node_id": 1,
        "ops_per_s": 1234,
        "port": 7000,
        "role": "leader",
        "term": 5,
    }


@pytest.mark.parametrize(
    ("field", "value", "health"),
    [
        ("loading", "1", "loading"),
        ("durakv_writes_refused", "MISCONF log volume nearly full", "MISCONF log volume nearly full"),
        ("durakv_leader_id", "0", "no leader"),
        ("durakv_applied_index", "999", "applying late"),
    ],
)
def test_health(field: str, value: str, health: str) -> None:
    fields = {**parse_info(LEADER), field: value}
    assert status.status_of(1, 7000, fields).health == health


def test_a_plain_redis_node_is_readable() -> None:
    plain = status.status_of(1, 7000, {"role": "slave", "connected_clients": "1"})
    assert (plain.role, plain.term, plain.health) == ("follower", None, "ok")


def test_unreadable_numbers_are_absent() -> None:
    assert row(durakv_term="many").term is None


def test_the_leader_of_the_highest_term_leads() -> None:
    rows = [row(1, durakv_term="5"), row(2, durakv_term="6"), row(3, durakv_role="follower", durakv_term="7")]
    leader = status.leader_of(rows)
    assert leader is rows[1]
    assert status.leader_of(rows[2:]) is None


def test_lag() -> None:
    leader, late = row(1), row(2, durakv_role="follower", durakv_applied_index="1990")
    assert status.lag_of(late, leader) == 10
    assert status.lag_of(row(3, durakv_applied_index="2001"), leader) == 0
    assert status.lag_of(late, None) is None
    assert status.lag_of(NodeStatus(3, 7002), leader) is None


def test_table_and_document(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 2, 7000, [])
    cluster.cluster_id = "12345678" * 4
    rows = [row(1), NodeStatus(2, 7001)]
    out = io.StringIO()
    Console(file=out, width=100).print(status.table(cluster, rows))
    lines = {part: line for line in out.getvalue().splitlines() for part in ("n1", "n2") if line.split()[:1] == [part]}
    for word in ("leader", "2000", "1.5ms", "1234", "ok"):
        assert word in lines["n1"]
    for word in ("down", "no answer", "-"):
        assert word in lines["n2"]
    document = json.loads(json.dumps(status.document(cluster, rows)))
    assert document["leader"] == 1
    assert [node["lag"] for node in document["nodes"]] == [0, None]


WITNESS = {
    "witness_id": "3", "witness_address": "file:///w", "witness_messages_sent": "2", "witness_state_bytes": "140",
    "witness_trouble": "",
}  # fmt: skip
STANDING_IN = {
    "replication_set": "1,3", "subterm": "4", "witness_engaged": "1", "pinned": "1", "newest_write_copies": "1",
}  # fmt: skip


def test_the_witness_is_told_of_by_all_and_best_by_the_leader(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 2, 7000, [], "file:///w")
    follower = {**WITNESS, "durakv_role": "follower", "witness_messages_sent": "5", "witness_state_bytes": "0"}
    rows = [row(1, **WITNESS, **STANDING_IN), row(2, **follower)]
    document = json.loads(json.dumps(status.document(cluster, rows)))
    assert document["witness"] == {
        "address": "file:///w", "copies": 1, "engaged": True, "health": "ok", "messages": 7, "node_id": 3,
        "pinned": True, "replication_set": [1, 3], "state_bytes": 140, "subterm": 4,
    }  # fmt: skip
    assert "witness" not in document["nodes"][0]
    out = io.StringIO()
    Console(file=out, width=100).print(status.table(cluster, rows))
    text = out.getvalue()
    assert "n1+w3" in text and "PINNED: only n1" in text
    assert any(line.split()[:3] == ["w3", "-", "witness"] for line in text.splitlines())


def test_trouble_with_the_witness_is_shown_whoever_has_it(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 2, 7000, [], "file:///w")
    troubled = {
        **WITNESS,
        "durakv_role": "candidate",
        "durakv_leader_id": "0",
        "witness_trouble": "WITNESS_STATE_LOST: x",
    }
    rows = [NodeStatus(1, 7000), row(2, **troubled)]
    witness = status.witness_of(cluster, rows)
    assert witness is not None
    assert (witness.health, witness.pinned, witness.replication_set) == ("WITNESS_STATE_LOST: x", None, None)
    out = io.StringIO()
    Console(file=out, width=100).print(status.table(cluster, rows))
    assert "see below" in out.getvalue() and "WITNESS_STATE_LOST: x" in out.getvalue()


def test_no_witness(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 2, 7000, [])
    assert status.document(cluster, [row(1)])["witness"] is None
    # One that was added by hand is shown as well.
    witness = status.witness_of(cluster, [row(1, **WITNESS, **STANDING_IN)])
    assert witness is not None
    assert (witness.node_id, witness.address) == (3, "file:///w")
