"""cluster-databases: which databases there are in cluster mode, and that the log never depends on it."""

from __future__ import annotations

import pytest

from durakv.engine.databases import NO_SWAP
from tests.engine.rig import Err, Rig

RANGE = Err("ERR DB index is out of range")


def test_one_database_unless_more_are_asked_for() -> None:
    rig = Rig(cluster_enabled="yes")
    client = rig.client()
    assert rig.ask(client, "SELECT 1") == [Err("ERR SELECT is not allowed in cluster mode")]
    assert rig.ask(client, "SET {t}a 1", "MOVE {t}a 1", "COPY {t}a {t}b DB 1") == [b"OK", RANGE, RANGE]
    assert rig.ask(client, "SELECT 0", "MOVE {t}a x") == [
        b"OK", Err("ERR value is not an integer or out of range"),
    ]  # fmt: skip


def test_several_databases_as_outside_cluster_mode() -> None:
    # The rig holds four; clients may use three of them.
    rig = Rig(cluster_enabled="yes", cluster_databases="3")
    client = rig.client()
    assert rig.ask(client, "SELECT 3", "SELECT -1", "SELECT 4") == [RANGE] * 3
    assert rig.ask(client, "SELECT 2", "SET {t}a 1", "MOVE {t}a 1", "GET {t}a") == [b"OK", b"OK", 1, None]
    assert rig.ask(client, "SELECT 1", "COPY {t}a {t}b DB 2", "GET {t}a") == [b"OK", 1, b"1"]
    assert rig.ask(client, "MOVE {t}a 3", "COPY {t}a {t}b REPLACE DB 3", "MOVE {t}a 99999999999") == [RANGE] * 3
    slot = rig.ask(client, "CLUSTER KEYSLOT {t}")[0]
    assert rig.ask(client, f"CLUSTER COUNTKEYSINSLOT {slot}") == [1]
    assert rig.ask(client, f"CLUSTER GETKEYSINSLOT {slot} 9", "DBSIZE") == [[b"{t}a"], 1]
    # Over all databases.
    assert rig.ask(client, f"CLUSTER SLOT-STATS SLOTSRANGE {slot} {slot}") == [[[slot, [b"key-count", 2]]]]
    rig.check_follower()


@pytest.mark.parametrize("count", ["1", "3"])
def test_databases_do_not_swap(count: str) -> None:
    rig = Rig(cluster_enabled="yes", cluster_databases=count)
    client = rig.client()
    assert rig.ask(client, "SWAPDB 0 1", "SWAPDB 0 0") == [Err(NO_SWAP)] * 2
    assert rig.ask(client, "MULTI", "SWAPDB 0 1", "EXEC")[2] == Err(NO_SWAP)


def test_a_transaction_does_not_reach_a_database_that_cannot_be_selected() -> None:
    rig = Rig(cluster_enabled="yes", cluster_databases="2")
    client = rig.client()
    replies = rig.ask(client, "MULTI", "SELECT 3", "SET a 1", "SELECT 1", "SET a 2", "EXEC")
    assert replies[-1] == [RANGE, b"OK", b"OK", b"OK"]
    assert [db.size for db in rig.ks.dbs] == [1, 1, 0, 0]
    rig.check_follower()


def test_outside_cluster_mode_all_of_it_is_as_ever() -> None:
    rig = Rig(cluster_databases="1", databases="4")
    client = rig.client()
    assert rig.ask(client, "SELECT 3", "SET a 1", "MOVE a 2", "SWAPDB 2 1") == [b"OK", b"OK", 1, b"OK"]
    assert rig.ask(client, "SELECT 1", "GET a", "MOVE a 4") == [b"OK", b"1", RANGE]
    assert rig.ask(client, "MULTI", "SELECT 2", "SET b 1", "EXEC")[-1] == [b"OK", b"OK"]
    assert rig.ks.dbs[2].size == 1
