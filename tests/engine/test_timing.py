"""What ran long is logged with its client, whatever way it took; what cannot run long costs no look at the clock."""

from __future__ import annotations

import pytest

from tests.engine.rig import Client, Rig


class Looks:
    """Each look at the clock takes ``step_us``."""

    def __init__(self, rig: Rig, step_us: int) -> None:
        self.count = 0
        self.step_ns = step_us * 1000
        self.now_ns = 0
        rig.clock.monotonic_ns = self.look  # type: ignore[method-assign]

    def look(self) -> int:
        self.count += 1
        self.now_ns += self.step_ns
        return self.now_ns


def slow_rig(latency_ms: int = 0) -> tuple[Rig, Client, Looks]:
    rig = Rig(slowlog_log_slower_than="10000", latency_monitor_threshold=str(latency_ms))
    client = rig.client()
    rig.ask(client, "RPUSH l a b c", "CLIENT SETNAME me")
    return rig, client, Looks(rig, 20_000)


def logged(rig: Rig) -> list[tuple[bytes, str, bytes]]:
    """(command, address, client name), oldest first, but for MULTI; the log is emptied."""
    log = rig.engine.instruments.slowlog
    found = [(b" ".join(entry.argv), entry.address, entry.name) for entry in reversed(log.entries)]
    found = [what for what in found if what[0] != b"MULTI"]
    assert all(entry.took_us == 20_000 for entry in log.entries)
    log.clear()
    return found


@pytest.mark.parametrize(
    "command", ["LRANGE l 0 -1", "KEYS *", "SORT l ALPHA STORE m", "DEL l m", "LPOP l 2", "HGETALL l"]
)
@pytest.mark.parametrize("around", ["", "SET k 1;", "MULTI;SET k 1;"])
def test_a_slow_command_is_logged_with_its_client(command: str, around: str) -> None:
    rig, client, _ = slow_rig()
    rig.ask(client, *f"{around}{command}{';EXEC' if 'MULTI' in around else ''}".split(";"))
    assert logged(rig) == [(command.encode(), "10.0.0.1:1", b"me")]
    rig.check_follower()


def test_reads_served_at_once_are_logged_too() -> None:
    rig, client, _ = slow_rig()
    rig.engine.serving_changed(reads_now=True, lease_reads=False)
    client.send("LRANGE l 0 -1", "GET nosuch")
    assert logged(rig) == [(b"LRANGE l 0 -1", "10.0.0.1:1", b"me")]


def test_what_other_nodes_clients_run_is_logged_without_a_client() -> None:
    rig, client, _ = slow_rig()
    rig.ask(client, "DEL l")
    rig.engine.instruments.slowlog.clear()
    (entry,) = [e for e in rig.consensus.committed if b"DEL" in e.data]
    rig.engine.applier.apply_payload(entry.index, entry.data)
    rig.engine.committed([])
    assert rig.engine.timing.slow
    rig.engine.timing.blame([])
    assert logged(rig) == [(b"DEL l", "", b"")]


def test_waiting_for_commit_is_not_execution() -> None:
    rig, client, looks = slow_rig()
    looks.step_ns = 0
    client.send("SORT l ALPHA STORE m")
    rig.turn()
    looks.now_ns += 10**10
    rig.settle()
    assert client.got() == [3] and logged(rig) == []


def test_a_hundred_small_writes_cost_two_looks_at_the_clock() -> None:
    rig, client, looks = slow_rig()
    client.send(*["SET k 1", "INCR n", "GET k", "HSET h f v", "LPUSH q x", "ZADD z 1 m", "LPOP q"] * 20)
    rig.turn()
    looks.count = 0
    rig.consensus.commit()
    # Upkeep and timers do not run here: these are the entry's.
    assert looks.count == 2
    assert logged(rig) == []
    rig.ask(client, "HSET h " + " ".join(["f v"] * 40))
    assert len(logged(rig)) == 1, "many arguments make a quick command slow"


def test_a_threshold_that_anything_could_pass_logs_everything() -> None:
    rig, client, looks = slow_rig()
    looks.step_ns = 5000
    rig.ask(
        client, "CONFIG SET slowlog-log-slower-than 0", "SLOWLOG RESET", "SET k 1", "GET k", "MULTI", "INCR n", "EXEC"
    )
    names = [entry.argv[0] for entry in reversed(rig.engine.instruments.slowlog.entries)]
    assert names == [b"SLOWLOG", b"SET", b"GET", b"MULTI", b"INCR"]
    rig.ask(client, "CONFIG SET slowlog-log-slower-than -1", "SLOWLOG RESET", "SET k 1", "LRANGE l 0 -1")
    assert not rig.engine.instruments.slowlog.entries


def test_latency_events() -> None:
    rig, client, _ = slow_rig(latency_ms=15)
    rig.ask(client, "SET k 1")
    assert sorted(rig.engine.instruments.latency.events) == ["entry"]
    rig.ask(client, "DEL l")
    assert sorted(rig.engine.instruments.latency.events) == ["command", "entry"]


def test_commandstats() -> None:
    rig, client, _ = slow_rig()
    rig.ask(client, "CONFIG RESETSTAT")
    rig.ask(client, "SET k 1", "SET k 2", "GET k", "LPUSH k x", "DEL k", "MULTI", "SET k 1", "EXEC", "SET", "DEL k")
    (info,) = rig.ask(client, "INFO commandstats")
    assert isinstance(info, bytes)
    stats = dict(line.split(":", 1) for line in info.decode().split() if line.startswith("cmdstat"))
    assert stats["cmdstat_set"].startswith("calls=3,") and stats["cmdstat_set"].endswith(
        "rejected_calls=1,failed_calls=0"
    )
    assert stats["cmdstat_get"].startswith("calls=1,")
    assert stats["cmdstat_lpush"].endswith("failed_calls=1")
    assert stats["cmdstat_del"].startswith("calls=2,usec=40000,usec_per_call=20000.00")
    # The rest of the entries' time is shared by the commands that were not timed.
    mean = float(stats["cmdstat_set"].partition("usec_per_call=")[2].partition(",")[0])
    assert 0 < mean < 60_000
