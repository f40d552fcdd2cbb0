"""A group follows a source while nodes crash, links break and the source restarts: every command arrives once."""

from __future__ import annotations

import pytest

from durakv.engine import source as states
from durakv.keyspace.digest import digest
from tests.migration.sim_source import HOST, PORT, SimSource, contents, engine_of, fingerprint, source_of
from tests.replication.sim import SimCluster
from tests.replication.test_cluster import Nemesis, Probe, settle


def everywhere_at(cluster: SimCluster, source: SimSource) -> bool:
    for machine in cluster.machines:
        if machine.app is None:
            return False
        found = source_of(machine)
        if found.phase != states.STREAMING or found.offset != source.offset or found.replid != source.replid:
            return False
    return True


def check_whole(cluster: SimCluster, source: SimSource) -> None:
    """A node that does not say that its data is a part has exactly what the source had at the node's position."""
    for machine in cluster.machines:
        if machine.app is not None:
            found = source_of(machine)
            if found.phase == states.STREAMING:
                assert fingerprint(found.ks) == source.at(found.replid, found.offset)


def follow(cluster: SimCluster, node: int = 2) -> None:
    assert Probe(cluster, node).ask(f"REPLICAOF {HOST} {PORT}") == [b"OK"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_and_nothing_runs_twice(seed: int) -> None:
    cluster = SimCluster(seed)
    cluster.wait_leader()
    source = SimSource(cluster, seed)
    if seed % 2:
        source.backlog_max = 1 << 20
    for _ in range(200):
        source.run(0, [b"RPUSH", b"before", b"x" * 300])
    source.write_something()
    follow(cluster)
    nemesis = Nemesis(cluster)
    random = cluster.random
    for _ in range(4):
        for _ in range(10):
            cluster.time.run(random.randint(10, 300))
            check_whole(cluster, source)
        nemesis.strike()
        chance = random.random()
        if chance < 0.3:
            source.cut()
        elif chance < 0.4:
            source.restart()
        for _ in range(10):
            cluster.time.run(random.randint(5, 300))
            check_whole(cluster, source)
        nemesis.repair()
    source.stopped = True
    assert cluster.time.run(90_000, lambda: everywhere_at(cluster, source)), nemesis.faults
    settle(cluster)
    for machine in cluster.machines:
        engine = engine_of(machine)
        assert contents(engine.ks) == contents(source.ks), nemesis.faults
        assert source_of(machine).errors == 0, source_of(machine).last_error
    assert len({digest(engine_of(m).ks) for m in cluster.machines}) == 1
    assert source.n > 200
    if seed % 2:
        assert source.continued > 0


def test_a_leader_that_dies_while_it_loads_is_followed_by_one_that_starts_over() -> None:
    cluster = SimCluster(21)
    leader = cluster.wait_leader()
    source = SimSource(cluster, 21)
    for n in range(3000):
        source.run(0, [b"SET", b"s%d" % n, b"v" * 400])
    follow(cluster)

    def loading() -> bool:
        return source_of(leader).phase == states.FILLING and engine_of(leader).ks.dbs[0].size > 100

    assert cluster.time.run(20_000, loading)
    leader.crash("all")
    assert cluster.time.run(
        60_000, lambda: all(m.app is None or source_of(m).phase == states.STREAMING for m in cluster.machines)
    )
    assert source.full_syncs == 2
    leader.start()
    assert cluster.time.run(60_000, lambda: everywhere_at(cluster, source))
    assert all(contents(engine_of(m).ks) == contents(source.ks) for m in cluster.machines)


def test_a_link_that_breaks_while_the_file_is_loaded_costs_no_second_file() -> None:
    cluster = SimCluster(29)
    leader = cluster.wait_leader()
    source = SimSource(cluster, 29)
    source.backlog_max = 1 << 20
    for n in range(3000):
        source.run(0, [b"SET", b"s%d" % n, b"v" * 400])
    follow(cluster)
    assert cluster.time.run(20_000, lambda: source_of(leader).phase == states.FILLING)
    source.write_something()
    cluster.time.run(20)
    source.cut()
    assert cluster.time.run(20_000, lambda: source_of(leader).phase == states.STREAMING)
    cluster.time.run(1000)
    source.stopped = True
    assert cluster.time.run(20_000, lambda: everywhere_at(cluster, source))
    assert (source.full_syncs, source.continued) == (1, 1)
    assert all(contents(engine_of(m).ks) == contents(source.ks) for m in cluster.machines)


def test_who_leads_next_goes_on_where_the_log_ends() -> None:
    cluster = SimCluster(22)
    leader = cluster.wait_leader()
    source = SimSource(cluster, 22)
    source.backlog_max = 1 << 20
    source.write_something()
    follow(cluster)
    assert cluster.time.run(20_000, lambda: source_of(leader).phase == states.STREAMING)
    for _ in range(2):
        cluster.time.run(700)
        check_whole(cluster, source)
        victim = cluster.wait_leader()
        victim.crash("none")
        cluster.time.run(3000)
        victim.start()
        cluster.time.run(500)
    # And the whole group, which remembers whom it follows.
    for machine in cluster.machines:
        machine.crash("none")
    cluster.time.run(200)
    for machine in cluster.machines:
        machine.start()
    cluster.wait_leader()
    cluster.time.run(500)
    source.stopped = True
    assert cluster.time.run(60_000, lambda: everywhere_at(cluster, source))
    assert source.full_syncs == 1 and source.continued >= 3
    assert all(contents(engine_of(m).ks) == contents(source.ks) for m in cluster.machines)


def test_cutting_over_opens_writes_and_keeps_everything_received() -> None:
    cluster = SimCluster(23)
    cluster.wait_leader()
    source = SimSource(cluster, 23)
    source.write_something()
    probe = Probe(cluster, 1)
    assert probe.ask("SET mine 1") == [b"OK"]
    assert str(probe.ask("REPLICAOF n3 7000")[0]).startswith("ERR that is a node of this very group")
    follow(cluster)
    cluster.time.run(4000)
    (refused,) = probe.ask("SET k0 2")
    assert str(refused) == "READONLY You can't write against a read only replica."
    (role,) = probe.ask("ROLE")
    assert isinstance(role, list)
    assert role[:4] == [b"slave", b"src", 6379, b"connected"]
    source.stopped = True
    assert cluster.time.run(10_000, lambda: everywhere_at(cluster, source))
    assert probe.ask("REPLICAOF NO ONE", "SET after 1", "EXISTS mine") == [b"OK", b"OK", 0]
    settle(cluster)
    for machine in cluster.machines:
        ks = engine_of(machine).ks
        assert source_of(machine).phase == states.FREE
        assert not ks.following
        assert ks.dbs[0].delete(b"after")
        assert [c for c in contents(ks) if c[0] == 1] == [c for c in contents(source.ks) if c[0] == 1]
    cluster.time.run(2000)
    assert not source.replicas


def test_acknowledged_is_what_is_committed() -> None:
    cluster = SimCluster(24)
    leader = cluster.wait_leader()
    source = SimSource(cluster, 24)
    follow(cluster)
    assert cluster.time.run(20_000, lambda: source_of(leader).phase == states.STREAMING)
    source.run(0, [b"SET", b"a", b"1"])
    source.replicate(b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n")
    (replica,) = source.replicas
    written = source.offset
    assert cluster.time.run(5000, lambda: replica.acked >= written)
    assert source_of(leader).offset >= written
    # Without a majority nothing is committed, and nothing is acknowledged.
    others = [m for m in cluster.machines if m is not leader]
    for other in others:
        other.crash("all")
    source.run(0, [b"SET", b"a", b"2"])
    cluster.time.run(300)
    source.replicate(b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n")
    cluster.time.run(300)
    assert replica.acked == written or replica not in source.replicas


def test_a_login_that_fails_is_told_and_tried_again() -> None:
    cluster = SimCluster(25)
    leader = cluster.wait_leader()
    source = SimSource(cluster, 25)
    source.password = b"secret"
    source.run(0, [b"SET", b"a", b"1"])
    follow(cluster)
    cluster.time.run(1500)
    info = source_of(leader)
    assert info.link is not None and "it wants a login" in info.link.trouble
    for machine in cluster.machines:
        engine_of(machine).settings.load("masterauth", "wrong")
    cluster.time.run(6000)
    assert "WRONGPASS" in info.link.trouble
    for machine in cluster.machines:
        engine_of(machine).settings.load("primaryauth", "secret")
    assert cluster.time.run(10_000, lambda: everywhere_at(cluster, source))


def test_what_durakv_does_not_know_stops_the_import_before_it() -> None:
    cluster = SimCluster(26)
    leader = cluster.wait_leader()
    source = SimSource(cluster, 26)
    source.run(0, [b"SET", b"a", b"1"])
    follow(cluster)
    assert cluster.time.run(20_000, lambda: everywhere_at(cluster, source))
    source.run(0, [b"SET", b"a", b"2"])
    known = source.offset
    source.replicate(b"*2\r\n$8\r\nJSON.SET\r\n$1\r\na\r\n")
    source.run(0, [b"SET", b"a", b"3"])
    found = source_of(leader)
    assert cluster.time.run(20_000, lambda: found.phase == states.STOPPED)
    settle(cluster)
    assert found.offset == known and engine_of(leader).ks.dbs[0].peek(b"a") == b"2"
    for machine in cluster.machines:
        assert b"JSON.SET" in source_of(machine).reason
    probe = Probe(cluster, 1)
    assert "JSON.SET" in str(probe.ask("INFO replication")[0])
    # It may be ordered anew, and stops at the same place.
    assert probe.ask(f"REPLICAOF {HOST} {PORT}") == [b"OK"]
    assert cluster.time.run(20_000, lambda: found.phase == states.ASKED)
    assert cluster.time.run(20_000, lambda: found.phase == states.STOPPED)
    assert source.full_syncs == 1


def test_more_than_may_be_under_way_at_once_arrives_whole() -> None:
    cluster = SimCluster(27, max_uncommitted_bytes="65536")
    cluster.wait_leader()
    source = SimSource(cluster, 27)
    source.backlog_max = 1 << 22
    for n in range(300):
        source.run(0, [b"SET", b"s%d" % n, b"v" * 1000])
    follow(cluster)
    assert cluster.time.run(20_000, lambda: source.full_syncs == 1)
    # Sent while the file is loaded, and a transaction that is one item however large it is.
    for n in range(200):
        source.run(0, [b"APPEND", b"s%d" % n, b"%d" % n])
    source.run(0, *[[b"RPUSH", b"large", b"x" * 3000] for _ in range(200)])
    source.run(0, [b"INCR", b"last"])
    assert cluster.time.run(60_000, lambda: everywhere_at(cluster, source))
    for machine in cluster.machines:
        assert contents(engine_of(machine).ks) == contents(source.ks)
    assert source.full_syncs == 1
    assert source.continued == 0


def test_a_source_that_falls_silent_is_given_up_and_asked_again() -> None:
    cluster = SimCluster(28, repl_timeout="3")
    leader = cluster.wait_leader()
    source = SimSource(cluster, 28)
    follow(cluster)
    assert cluster.time.run(20_000, lambda: everywhere_at(cluster, source))
    for machine in cluster.machines:
        cluster.fabric.cut(HOST, machine.host)
        cluster.fabric.cut(machine.host, HOST)
    link = source_of(leader).link
    assert link is not None
    assert cluster.time.run(10_000, lambda: "nothing was heard" in link.trouble)
    assert link.state in ("connect", "connecting")
    source.run(0, [b"SET", b"a", b"1"])
    cluster.time.run(8000)
    cluster.fabric.heal()
    assert cluster.time.run(30_000, lambda: everywhere_at(cluster, source))
    assert source.full_syncs == 1
