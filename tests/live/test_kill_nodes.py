"""The promise itself: no acknowledged write is lost while nodes, the leader included, are killed and restarted."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
import redis

from tests.live.group import Group

# redis-py does not close the socket of a connection that was refused.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

_KILLING_S = 30.0
_WRITERS = 6


class Writer(threading.Thread):
    """Writes unique keys through any node; remembers which were acknowledged."""

    def __init__(self, group: Group, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.group = group
        self.number = number
        self.stop = stop
        self.acked: dict[str, str] = {}
        self.unknown = 0
        self.refused = 0

    def run(self) -> None:
        chance = random.Random(self.number)
        client: redis.Redis | None = None
        n = 0
        while not self.stop.is_set():
            n += 1
            key, value = f"w{self.number}:{n}", f"{self.number}-{n}"
            try:
                if client is None:
                    client = chance.choice(self.group.nodes).client()
                if client.set(key, value) is True:
                    self.acked[key] = value
            except redis.ConnectionError:
                self.unknown += 1
                client = None
                time.sleep(0.02)
            except redis.RedisError as e:
                # A definite refusal or an UNKNOWN: either way not acknowledged.
                self.refused += 1
                if str(e).startswith("UNKNOWN"):
                    client = None
                time.sleep(0.02)


@pytest.mark.timeout(180)
def test_no_acknowledged_write_is_lost_when_nodes_are_killed(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        stop = threading.Event()
        writers = [Writer(group, n, stop) for n in range(_WRITERS)]
        for writer in writers:
            writer.start()
        chance = random.Random(7)
        began = time.monotonic()
        kills = leader_kills = 0
        while time.monotonic() - began < _KILLING_S:
            time.sleep(chance.uniform(0.3, 1.5))
            if kills % 2 == 0:
                victim = group.leader()
                leader_kills += 1
            else:
                victim = chance.choice(group.nodes)
            victim.kill()
            kills += 1
            time.sleep(chance.uniform(0.0, 2.0))
            victim.start()
        stop.set()
        for node in group.nodes:
            node.kill()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        for node in group.nodes:
            node.start()
        leader = group.leader()
        acked = {key: value for writer in writers for key, value in writer.acked.items()}
        assert len(acked) > 500, "the writers hardly wrote: nothing was tested"
        assert leader_kills >= 3
        missing = []
        with leader.client() as client:
            keys = list(acked)
            for at in range(0, len(keys), 1000):
                part = keys[at : at + 1000]
                for key, value in zip(part, client.mget(part), strict=True):
                    if value is None or value.decode() != acked[key]:
                        missing.append((key, value))
        assert not missing, f"{len(missing)} of {len(acked)} acknowledged writes are gone: {missing[:5]}"
        digests = group.digests()
        assert len({digest for _, digest in digests}) == 1, digests
        print(f"{len(acked)} acknowledged writes kept over {kills} kills ({leader_kills} of the leader)")
