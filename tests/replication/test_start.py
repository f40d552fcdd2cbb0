"""What a node refuses to start on."""

from __future__ import annotations

import pytest

from durakv.storage.errors import StorageError
from tests.replication.sim import SimCluster

PATH = "/data/raft/hardstate"


def test_a_hard_state_older_than_the_log_is_refused() -> None:
    cluster = SimCluster(1)
    old = {m.node_id: bytes(m.disk.names[PATH].data) for m in cluster.machines}
    machine = cluster.wait_leader()
    machine.crash("all")
    machine.disk.names[PATH].data[:] = old[machine.node_id]
    machine.disk.names[PATH].durable[:] = old[machine.node_id]
    with pytest.raises(StorageError, match=r"hardstate: says term 1, but the log has entries of term 2"):
        machine.start()
