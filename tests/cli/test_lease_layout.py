"""Clusters of lease mode as `durakv cluster` plans, writes, reads and shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from durakv.cli import layout, operations, shards, status
from durakv.cli.layout import LayoutError
from durakv.cli.operations import OperationError

INFO = {
    "durakv_role": "leader", "durakv_term": "7", "durakv_leader_id": "1", "durakv_writes_refused": "no",
    "replication_mode": "lease", "epoch": "7", "isr": "1,2", "min_isr": "1", "lease_left_ms": "812",
    "holder_kind": "embedded", "holder_leader": "3", "holder_trouble": "",
}  # fmt: skip


def test_three_nodes_hold_the_register_themselves(tmp_path: Path) -> None:
    cluster = layout.plan_lease(tmp_path, 3, 7000, ["maxmemory 1gb"])
    assert cluster.holder == ["1=127.0.0.1:27000", "2=127.0.0.1:27001", "3=127.0.0.1:27002"]
    assert cluster.arbiter is None and cluster.next_id == 4
    lines = layout.conf_text(cluster, cluster.nodes[1]).splitlines()
    assert lines[-3:] == ["replication-mode lease", f"holder-members {' '.join(cluster.holder)}", "maxmemory 1gb"]


def test_two_nodes_get_an_arbiter_that_is_kept(tmp_path: Path) -> None:
    cluster = layout.plan_lease(tmp_path, 2, 7000, [])
    assert cluster.arbiter is not None
    assert (cluster.arbiter.name, cluster.arbiter.port) == ("a3", 27002)
    assert cluster.holder[-1] == "3=127.0.0.1:27002"
    cluster.save()
    loaded = layout.load(tmp_path)
    assert loaded.is_lease() and loaded.holder == cluster.holder and loaded.next_id == 4
    assert [member.name for member in loaded.processes()] == ["n1", "n2", "a3"]
    with pytest.raises(OperationError, match="config holder"):
        operations.remove_node(loaded, 2, "", 1)


def test_an_etcd_needs_no_member(tmp_path: Path) -> None:
    cluster = layout.plan_lease(tmp_path, 2, 7000, [], ["10.0.0.1:2379"])
    assert cluster.is_lease() and not cluster.holder and cluster.arbiter is None
    assert "holder-etcd 10.0.0.1:2379" in layout.conf_text(cluster, cluster.nodes[0]).splitlines()
    cluster.save()
    assert layout.load(tmp_path).etcd == ["10.0.0.1:2379"]


@pytest.mark.parametrize(("count", "port", "text"), [(1, 7000, "two data nodes or more"), (3, 45_533, "at most 45532")])
def test_what_cannot_be_is_refused(tmp_path: Path, count: int, port: int, text: str) -> None:
    with pytest.raises(LayoutError, match=text):
        layout.plan_lease(tmp_path, count, port, [])


def test_the_mode_of_a_cluster_never_changes(tmp_path: Path) -> None:
    layout.plan_lease(tmp_path, 3, 7000, []).save()
    with pytest.raises(OperationError, match="lease mode, which never changes"):
        operations.prepare(tmp_path, None, None, [], mode="raft")
    with pytest.raises(OperationError, match="only lease mode asks an etcd"):
        operations.prepare(tmp_path / "new", 3, None, [], etcd=["10.0.0.1:2379"])


def test_status_says_who_is_in_sync_and_how_the_holder_is(tmp_path: Path) -> None:
    cluster = layout.plan_lease(tmp_path, 2, 7000, [])
    row = status.status_of(1, 7000, INFO)
    assert row.as_json()["lease"]["isr"] == "1,2"
    console = Console(width=120, record=True)
    console.print(status.table(cluster, [row]))
    shown = console.export_text()
    assert "epoch 7, in sync n1+n2 (min-isr 1), lease left 812 ms" in shown
    assert "config holder: embedded, member 3 leads, ok" in shown
    # Nobody listens there.
    assert "a3" in shown and "down" in shown


def test_each_of_several_groups_has_its_own_config_holder_and_the_next_may_be_of_the_other_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "bootstrap", lambda cluster: None)
    monkeypatch.setattr(operations, "refuse_taken_ports", lambda members: None)
    made = shards.prepare(tmp_path, 2, 2, 7000, [], "", "lease")
    assert [cluster.holder for cluster in made] == [
        ["1=127.0.0.1:27000", "2=127.0.0.1:27001", "3=127.0.0.1:27002"],
        ["1001=127.0.0.1:27010", "1002=127.0.0.1:27011", "1003=127.0.0.1:27012"],
    ]
    lines = layout.conf_text(made[1], made[1].nodes[0]).splitlines()
    assert "replication-mode lease" in lines and "cluster-enabled yes" in lines and "group-id 2" in lines
    shards.load(tmp_path)
    with pytest.raises(OperationError, match="lease mode, which never changes"):
        shards.prepare(tmp_path, None, None, None, [], "", "raft")
    # An arbiter's port is none that the next group's could follow.
    third = shards.add(tmp_path, 1, None, [], "", "raft")
    assert (third.nodes[0].port, third.is_lease()) == (7020, False)
    shards.joined(tmp_path, third)
    fourth = shards.add(tmp_path, 3, None, [], "")
    assert (fourth.nodes[0].port, fourth.is_lease()) == (7030, True)
    with pytest.raises(LayoutError, match="two data nodes or more"):
        shards.add(tmp_path, 1, None, [], "", "lease")
