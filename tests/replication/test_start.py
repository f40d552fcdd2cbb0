"""What a node refuses to start on."""

from __future__ import annotations

import pytest

from durakv.storage.errors import StorageError
from tests.replication.sim import SimCluster
from tests.replication.test_cluster import Probe
from tests.replication.test_sync_policy import Lone

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


def test_what_an_earlier_run_proved_synced_is_not_forgotten_by_the_next_vote() -> None:
    cluster = Lone(12)
    machine = cluster.wait_leader()
    Probe(cluster, 1).ask("SET a 1", "SET b 2")
    cluster.time.run(3000)
    assert machine.app is not None
    proved = machine.app.store.hard.current
    assert proved.synced_hint >= 2
    for _ in range(3):
        machine.crash("none")
        machine.start()
        cluster.wait_leader()
        hard = machine.app.store.hard.current
        assert hard.synced_hint >= proved.synced_hint and hard.commit_hint >= proved.commit_hint
