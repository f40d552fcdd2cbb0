"""Whose directory it is: creation, lock, foreign and amnesiac directories."""

from __future__ import annotations

import pytest

from durakv.storage.errors import DirectoryLocked, IdentityError
from durakv.storage.identity import Identity, parse_identity
from durakv.storage.store import StoreOptions, open_store

from .sim_disk import PowerCut, SimDisk
from .world import CLUSTER, NODE, Entry, Node, SimClock, SimRng, normal


def open_as(disk: SimDisk, options: StoreOptions) -> None:
    disk.locked.clear()
    options.reserve_bytes = 1 << 20
    open_store(disk, SimClock(), SimRng(), "/d", Entry, lambda _: None, lambda _: None, options)


def used() -> SimDisk:
    node = Node(SimDisk())
    node.append(normal(1))
    node.settle()
    return node.disk.after_crash("none")


def test_bytes_and_every_flip() -> None:
    data = Identity(CLUSTER, NODE, 1_700_000_000_123).encode()
    assert data.startswith(b"cluster_id=000102030405060708090a0b0c0d0e0f\nnode_id=0000000000000007\nformat=1\n")
    parsed = parse_identity(data, "p")
    assert (parsed.cluster_id, parsed.node_id, parsed.created_ms) == (CLUSTER, NODE, 1_700_000_000_123)
    for bit in range(len(data) * 8):
        hurt = bytearray(data)
        hurt[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(IdentityError):
            parse_identity(bytes(hurt), "p")


def test_second_server_on_one_directory() -> None:
    disk = SimDisk()
    Node(disk)
    with pytest.raises(DirectoryLocked, match="stop it or start this one with another --dir") as caught:
        Node(disk)
    assert caught.value.exit_code == 73


def test_foreign_cluster_and_node() -> None:
    disk = used()
    with pytest.raises(IdentityError, match="point --dir at this cluster's data"):
        open_as(disk, StoreOptions(bytes(16), NODE))
    with pytest.raises(IdentityError, match="point --dir at this node's own"):
        open_as(disk, StoreOptions(CLUSTER, 8))
    open_as(disk, StoreOptions())


@pytest.mark.parametrize("lost", ["hard state", "log"])
def test_known_member_that_lost_its_memory(lost: str) -> None:
    disk = used()
    for path in list(disk.names):
        if path.startswith("/d/raft" if lost == "hard state" else "/d/log"):
            del disk.names[path]
    with pytest.raises(IdentityError, match=f"has lost its {lost} .*add it again under a new node id"):
        open_as(disk, StoreOptions(CLUSTER, NODE))


def test_member_with_an_empty_directory() -> None:
    with pytest.raises(IdentityError, match="already a member, so it has lost its vote"):
        open_as(SimDisk(), StoreOptions(CLUSTER, NODE, known_member=True))


def test_log_or_votes_without_identity() -> None:
    disk = used()
    del disk.names["/d/IDENTITY"]
    with pytest.raises(IdentityError, match="no IDENTITY"):
        open_as(disk, StoreOptions(CLUSTER, NODE))
    node = Node(SimDisk())
    node.store.hard.write(node.store.hard.current.voted(1, 2), lambda _: None)
    node.settle()
    disk = node.disk.after_crash("none")
    del disk.names["/d/IDENTITY"]
    with pytest.raises(IdentityError, match="raft/hardstate but no IDENTITY"):
        open_as(disk, StoreOptions(CLUSTER, NODE))


def test_interrupted_creation_starts_again() -> None:
    whole = SimDisk()
    Node(whole)
    for call in range(1, whole.calls + 1):
        for mode in ("all", "none", "torn"):
            disk = SimDisk()
            disk.cut_power_at = call
            with pytest.raises(PowerCut):
                Node(disk)
            node = Node(disk.after_crash(mode, call))
            node.append(normal(1))
            node.settle()
            assert Node(node.disk.after_crash("none")).held() == [normal(1).key()]
