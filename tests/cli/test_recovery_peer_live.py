"""durakv-cli repair --from-peer against real members: a stopped node with damage all over its log comes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from durakv.storage.segment import segment_number
from tests.live.group import Group, Node

from .recovery_directory import flip, run, segments, told
from .test_recovery_live import wait_ready

pytestmark = pytest.mark.live

OPTIONS = ["--reserve-size", "0", "--min-free", "0", "--segment-size", "1mb", "--log-follower-keep", "0"]
# Checkpoints each second beside other tests are no reason to have another leader.
OPTIONS += ["--election-timeout-ms", "4000"]
# A checkpoint that held all of its log would leave nothing to mend; so the victims make none, and are killed.
RARELY = ["--checkpoint-interval", "3600"]
OFTEN = ["--checkpoint-interval", "1"]


def fill(node: Node, name: str, count: int) -> None:
    with node.client() as client, client.pipeline(transaction=False) as pipe:
        for n in range(count):
            pipe.set(f"{name}:{n}", b"%d|" % n + b"x" * 20_000)
            if n % 10 == 9:
                pipe.execute()
        pipe.hset(f"{name}-hash", mapping={f"f{n}": "v" for n in range(50)})
        pipe.execute()


def damage(data: Path) -> int:
    """A bit here and there: first line, a header, a body, a seal; one segment gone. How many files."""
    files = [segment for segment in segments(data) if segment_number(segment.name)]
    assert len(files) > 6
    flip(files[1], 100)
    flip(files[1], 245)
    flip(files[2], files[2].read_bytes().find(b"#DK1 Q", 300_000) + 40)
    flip(files[3], 500_000, 5)
    flip(files[3], files[3].read_bytes().rfind(b"#DK1 S") + 140)
    files[5].unlink()
    last = files[-1].read_bytes()
    flip(files[-1], last.find(b"#DK1 Q") + 110)
    flip(files[-1], last.find(b"#DK1 Q", 1000) + 200)
    return 5


# The hard state proves what was synced a second before.
PAUSE_S = 1.2


def test_a_damaged_follower_is_mended_by_its_peers(tmp_path: Path) -> None:
    with Group(tmp_path, directives=[*OPTIONS, *RARELY]) as group:
        leader = group.leader()
        fill(leader, "early", 400)
        victim = next(node for node in group.nodes if node is not leader)
        group.digests()
        time.sleep(PAUSE_S)
        victim.kill()
        fill(leader, "late", 20)
        data = victim.directory
        assert told(0, "verify", data)["findings"] == []
        damaged = damage(data)
        named = {finding["file"] for finding in told(2, "verify", data)["findings"]}
        assert {f"log/{segments(data)[1].name}", f"log/{segments(data)[3].name}"} <= named
        others = ",".join(f"127.0.0.1:{node.port}" for node in group.nodes if node is not victim)
        # Whoever may not run admin commands gets nothing.
        with leader.client() as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "+@all", "-@admin", "~*")
            client.execute_command("ACL", "SETUSER", "mender", "on", ">pw", "+cluster|logentries")
        reader = ("--user", "reader", "--password", "pw")
        refused = run("repair", data, "--from-peer", f"127.0.0.1:{leader.port}", *reader)
        assert (refused.exit_code, "NOPERM" in refused.output) == (70, True), refused.output
        mender = ("--user", "mender", "--password", "pw")
        plan = told(70, "repair", data, "--from-peer", f"127.0.0.1:{leader.port}", *mender)["plan"]
        assert len(plan) == damaged
        done = told(3, "repair", data, "--from-peer", others, "--yes")
        assert done["left"] == []
        assert told(0, "verify", data, "--deep")["findings"] == []
        assert run("repair", data, "--from-peer", others, "--yes").exit_code == 0
        victim.start()
        wait_ready(victim)
        assert len({digest for _, digest in group.digests()}) == 1


def test_a_log_that_the_peers_have_dropped_is_not_made_up(tmp_path: Path) -> None:
    group = Group(tmp_path, directives=OPTIONS)
    victim = group.nodes[2]
    for node in group.nodes:
        node.directives += RARELY if node is victim else OFTEN
    with group:
        leader = group.leader()
        if leader is victim:
            with leader.client() as client:
                client.execute_command("CLUSTER", "TRANSFER", 1)
            while leader is victim:
                leader = group.leader()
        group.digests()
        time.sleep(PAUSE_S)
        victim.kill()
        fill(leader, "more", 200)
        first = 1
        deadline = time.monotonic() + 20
        with leader.client() as client:
            while first == 1 and time.monotonic() < deadline:
                reply = client.execute_command("CLUSTER", "LOGENTRIES", 1, 1)
                facts = dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply
                first = int(facts[b"first"])
                time.sleep(0.1)
            assert first > 1
            assert facts[b"entries"] == []
            with pytest.raises(redis.ResponseError, match="count must be between"):
                client.execute_command("CLUSTER", "LOGENTRIES", 1, 1001)
        (segment,) = segments(victim.directory)
        flip(segment, segment.read_bytes().find(b"#DK1 ") + 60)
        refused = run("repair", victim.directory, "--from-peer", f"127.0.0.1:{leader.port}", "--yes")
        assert refused.exit_code == 70
        assert f"its log begins at index {first:,}: its checkpoint" in refused.output
        assert "fetches a snapshot" in refused.output
