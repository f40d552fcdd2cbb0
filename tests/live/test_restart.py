"""One node alone: what its disk promises, after SIGKILL under load, a clean stop, and with many keys."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.live.group import Group
from tests.live.load import Load, Pipeliner, Writer, eventually, found, going_on, missing

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]
_KEYS = 200_000
_RESTART_MAX_S = 30.0


def test_always_keeps_every_acknowledged_write(tmp_path: Path) -> None:
    with Group(tmp_path, 1, ["--appendfsync", "always"]) as group:
        node = group.nodes[0]
        acked: list[str] = []
        refused: list[str] = []
        for turn in range(4):
            pipeliners = [Pipeliner(node, f"p{turn}.{n}", 16) for n in range(2)]
            writer = Writer(node, f"w{turn}")
            going_on([*pipeliners, writer], 100, "the writers write")
            node.kill()
            writer.finish()
            for pipeliner in pipeliners:
                pipeliner.finish()
            loads: list[Load] = [*pipeliners, writer]
            for load in loads:
                acked += load.acked
                refused += load.refused
            node.start()
            group.leader()
            assert missing(node, acked) == [], "acknowledged writes are gone"
            assert found(node, refused) == [], "refused writes have happened"
        assert len(acked) > 1000
        assert "Traceback" not in node.log_text()


@pytest.mark.parametrize("mode", ["everysec", "no"])
def test_lazy_syncing_starts_again(tmp_path: Path, mode: str) -> None:
    with Group(tmp_path, 1, ["--appendfsync", mode]) as group:
        node = group.nodes[0]
        with node.client() as client:
            for n in range(1000):
                assert client.set(f"k{n}", n) is True
        assert node.stop() == 0
        node.start()
        group.leader()
        assert missing(node, [f"k{n}" for n in range(1000)]) == [], "a clean stop writes everything"
        load = Pipeliner(node, "p", 16)
        eventually(lambda: len(load.acked) > 500, "the writer writes")
        node.kill()
        load.finish()
        node.start()
        group.leader()
        # A killed process may lose its last writes in these modes, but only the last ones.
        gone = [load.acked.index(key) for key in missing(node, load.acked)]
        assert gone == list(range(len(load.acked) - len(gone), len(load.acked)))
        assert missing(node, [f"k{n}" for n in range(1000)]) == []


def test_many_keys_restart(tmp_path: Path) -> None:
    with Group(tmp_path, 1) as group:
        node = group.nodes[0]
        with node.client() as client:
            for at in range(0, _KEYS, 1000):
                assert client.mset({f"key:{n}": f"value-{n}" for n in range(at, at + 1000)}) is True
            assert client.dbsize() == _KEYS
        before = group.digests()
        node.kill()
        began = time.monotonic()
        node.start()
        group.leader(_RESTART_MAX_S)
        with node.client() as client:
            assert client.dbsize() == _KEYS
            assert client.mget("key:0", f"key:{_KEYS - 1}") == [b"value-0", f"value-{_KEYS - 1}".encode()]
        took = time.monotonic() - began
        assert group.digests()[0][1] == before[0][1]
        assert took < _RESTART_MAX_S
        print(f"{_KEYS} keys were back after {took:.1f} s")
