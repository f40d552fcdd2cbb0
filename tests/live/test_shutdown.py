"""Stopping on purpose: a leader hands over first, nothing acknowledged is lost, and the next start is clean."""

from __future__ import annotations

import itertools
import time
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.live.group import Group, Node
from tests.live.load import Load, Pipeliner, Writer, eventually, found, going_on, missing

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]
# Without a hand-over the others would notice the leader's absence only after this long.
_ELECTION_MS = 3000
_GAP_MAX_S = 1.5


def ended(node: Node, timeout_s: float = 15.0) -> int:
    """The exit code of a process that is ending by itself."""
    assert node.process is not None
    code = node.process.wait(timeout_s)
    node.process = None
    return code


def test_sigterm_hands_over_first(tmp_path: Path) -> None:
    with Group(tmp_path, 3, ["--election-timeout-ms", str(_ELECTION_MS)]) as group:
        old = group.leader()
        others = [node for node in group.nodes if node is not old]
        pipeliner = Pipeliner(old, "p", 64)
        far = Pipeliner(others[1], "f", 64)
        writer = Writer(others[0], "w")
        eventually(lambda: min(len(writer.acked), len(pipeliner.acked), len(far.acked)) > 100, "all writers write")
        stopped_at = time.monotonic()
        assert old.stop() == 0
        at_stop = len(writer.acked)
        eventually(lambda: len(writer.acked) > at_stop + 100, "the writer goes on")
        writer.finish()
        pipeliner.finish()
        times = [at for at in writer.acked_at if at > stopped_at - 1]
        gap = max(later - earlier for earlier, later in itertools.pairwise(times))
        assert gap < _GAP_MAX_S, f"no write was acknowledged for {gap:.2f} s"
        new = group.leader()
        assert new is not old
        new_log = new.log_text()
        assert "Traceback" not in new_log and "Traceback" not in old.log_text(), old.log_text()
        old.start()
        eventually(lambda: missing(new, list(writer.acked)) == [], "acknowledged writes are there")
        loads: list[Load] = [writer, pipeliner, far]
        for load in loads:
            assert missing(new, list(load.acked)) == [], "acknowledged writes are gone"
        for load in loads[:2]:
            assert found(new, load.refused) == [], "writes that were refused for certain have happened"
        for node in others:
            node.kill()  # ends the pipeline through the follower
        far.finish()
        for node in others:
            node.start()
        leader = group.leader()
        assert missing(leader, far.acked) == [] and found(leader, far.refused) == []
        assert len({digest for _, digest in group.digests()}) == 1


@pytest.mark.parametrize("words", [["SHUTDOWN"], ["SHUTDOWN", "NOSAVE"], ["SHUTDOWN", "NOW"]], ids=" ".join)
def test_shutdown_command(tmp_path: Path, words: list[str]) -> None:
    with Group(tmp_path, 1) as group:
        node = group.nodes[0]
        with node.client() as client:
            for n in range(50):
                assert client.set(f"k{n}", n) is True
            with pytest.raises(redis.ConnectionError):
                client.execute_command(*words)
        assert ended(node) == 0
        node.start()
        group.leader()
        with node.client() as client:
            assert client.dbsize() == 50
            assert client.get("k49") == b"49"


def test_shutdown_command_in_a_group(tmp_path: Path) -> None:
    with Group(tmp_path, 3, ["--election-timeout-ms", str(_ELECTION_MS)]) as group:
        for turn in range(2):
            leader = group.leader()
            with leader.client() as client:
                assert client.set(f"turn{turn}", 1) is True
                with pytest.raises(redis.ResponseError, match="syntax error"):
                    client.execute_command("SHUTDOWN", "SAVE", "NOSAVE")
                began = time.monotonic()
                with pytest.raises(redis.ConnectionError):
                    client.execute_command("SHUTDOWN")
            assert ended(leader) == 0
            new = group.leader()
            assert new is not leader
            assert time.monotonic() - began < _ELECTION_MS / 1000, "leadership was not handed over"
            with new.client() as client:
                assert client.get(f"turn{turn}") == b"1"
            leader.start()
            eventually(partial(_follows, leader), "the stopped node is back")


def _follows(node: Node) -> bool:
    try:
        with node.client() as client:
            return bool(client.execute_command("ROLE")[0] == b"slave" and client.get("turn0") == b"1")
    except redis.RedisError:
        return False


def test_sigterm_under_load_restarts_clean(tmp_path: Path) -> None:
    with Group(tmp_path, 1) as group:
        node = group.nodes[0]
        acked: list[str] = []
        refused: list[str] = []
        for turn in range(3):
            loads = [Pipeliner(node, f"{turn}.{n}", 32) for n in range(3)]
            going_on(loads, 200, "the writers write")
            assert node.stop() == 0
            for load in loads:
                load.finish()
                assert not load.is_alive()
                acked += load.acked
                refused += load.refused
            node.start()
            group.leader()
            assert missing(node, acked) == []
            assert found(node, refused) == []
        assert "Traceback" not in node.log_text()
