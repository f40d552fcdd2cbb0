"""durakv-cli on a directory of lease mode: nothing turns it into another mode, or shortens it, unless that was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from durakv.replication import addresses
from durakv.storage.record import crc
from raft.primary_backup.types import ShardConfig
from raft.types import Entry, Membership

from .recovery_directory import flip, run, standard_entries, told, tree, write_directory

BOOK = {n: addresses.Address("127.0.0.1", 7000 + n, 17000 + n) for n in (1, 2, 3, 4)}


def context(*members: int) -> bytes:
    return addresses.encode({n: BOOK[n] for n in members}, None, None, 2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of node 1, whose group was founded with 2 and 3 and has 4 in the place of 3 since."""
    entries = standard_entries(voters=(1, 2, 3))
    founding = Membership(voters=[1, 2, 3], context=context(1, 2, 3))
    write_directory(tmp_path / "data", [Entry(1, 1, 0, 2, founding.encode()), *entries[1:]])
    body = ShardConfig(1, 5, 1, (1, 2), (4,), 2, 0, None, context(1, 2, 4)).encode()
    (tmp_path / "data/raft/shard").write_bytes(body + crc(body).to_bytes(4, "little"))
    return tmp_path / "data"


def test_a_restored_directory_is_of_raft_mode_only_when_that_was_said(data: Path, tmp_path: Path) -> None:
    refused = run("restore", data, "--out", tmp_path / "new")
    assert refused.exit_code == 70
    assert "Add --mode raft if that is wanted" in refused.output and "--rdb FILE" in refused.output
    assert not (tmp_path / "new").exists()
    assert told(0, "restore", data, "--rdb", tmp_path / "dump.rdb")["keys"] > 0
    told(0, "restore", data, "--out", tmp_path / "new", "--mode", "raft")
    assert told(0, "inspect", tmp_path / "new")["membership"]["voters"] == [1]
    assert told(0, "digest", tmp_path / "new")["digest"] == told(0, "digest", data)["digest"]
    # Nothing has to be said any more.
    told(0, "restore", tmp_path / "new", "--out", tmp_path / "again")


def test_a_new_cluster_of_one_is_of_raft_mode_only_when_that_was_said(data: Path) -> None:
    before = tree(data)
    words = ("recover", "unsafe-new-cluster", data, "--this-node", 1, "--yes-lose-data")
    refused = run(*words)
    assert refused.exit_code == 70 and "Add --mode raft if that is wanted" in refused.output
    assert tree(data) == before
    # Whoever joined since is given up as well.
    wanted = told(0, "digest", data)["digest"]
    assert told(3, *words, "--mode", "raft")["given_up"] == [2, 3, 4]
    assert told(0, "digest", data)["digest"] == wanted
    assert told(3, *words)["given_up"] == []


def test_nothing_that_was_acknowledged_is_cut_or_forgotten(data: Path) -> None:
    before = tree(data)
    for words in (("truncate", data, "--to-index", 30), ("truncate", data, "--to-index", 30, "--others-are-gone")):
        refused = run(*words, "--yes-lose-data")
        assert refused.exit_code == 70 and "whose config holder may count on" in refused.output
    assert tree(data) == before
    for at in (9, 4100):
        flip(data / "raft/hardstate", at)
    refused = run("recover", "hardstate", data, "--others-are-gone", "--yes-lose-data")
    assert refused.exit_code == 70 and "restore" in refused.output and "--mode raft" in refused.output
