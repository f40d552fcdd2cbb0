"""Scripts through redis-py and three real processes: any node, failover, restart, an endless script."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.live.group import Group
from tests.live.load import eventually

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]
LIBRARY = """#!lua name=counter
redis.register_function('add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)
redis.register_function{function_name='show', callback=function(keys) return redis.call('GET', keys[1]) end,
                        flags={'no-writes'}}
"""


def test_scripts_and_functions_hold_everywhere_and_survive(tmp_path: Path) -> None:
    with Group(tmp_path, directives=["--script-max-instructions", "1000000"]) as group:
        leader = group.leader()
        follower = next(node for node in group.nodes if node is not leader)
        with follower.client(decode_responses=True) as client:
            release = client.register_script(
                "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end"
            )
            client.set("lock", "mine")
            assert [release(keys=["lock"], args=["other"]), release(keys=["lock"], args=["mine"])] == [0, 1]
            assert client.function_load(LIBRARY) == "counter"
            assert client.fcall("add", 1, "n", 5) == 5
            with client.pipeline(transaction=True) as pipe:
                pipe.eval("return redis.call('INCR', KEYS[1])", 1, "n")
                pipe.fcall("add", 1, "n", 4)
                assert pipe.execute() == [6, 10]
            with pytest.raises(redis.ResponseError, match="Script stopped after script-max-instructions"):
                client.eval("while true do end", 0)
            client.eval(
                "for i = 1, 50 do redis.call('SADD', 's', math.random(1000)) end return redis.call('SPOP', 's')", 0
            )
        for node in group.nodes:
            with node.client(decode_responses=True) as client:
                assert client.evalsha(release.sha, 1, "lock", "mine") == 0
                assert client.fcall_ro("show", 1, "n") == "10"
        assert len({digest for _, digest in group.digests()}) == 1
        leader.kill()
        with group.leader().client(decode_responses=True) as client:
            assert client.fcall("add", 1, "n", 1) == 11
            assert client.script_exists(release.sha) == [True]
        leader.start()
        for node in group.nodes:
            if node is not leader:
                node.kill()
                node.start()

        def answers() -> bool:
            try:
                with leader.client(decode_responses=True) as client:
                    return bool(client.fcall_ro("show", 1, "n") == "11" and client.script_exists(release.sha) == [True])
            except redis.RedisError:
                return False

        eventually(answers, "functions and scripts survive a restart of every node", 30)
        assert len({digest for _, digest in group.digests()}) == 1
