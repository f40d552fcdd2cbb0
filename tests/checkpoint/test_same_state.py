"""C9: what a checkpoint holds is what the server has in memory, whatever commands led there.

A leader runs random programs; a follower applies its log, writes down what changes at random moments, and starts again
from its checkpoint now and then.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.checkpoint.follower import Follower, assert_same
from tests.commands.campaign.programs import TYPES, Maker
from tests.engine.rig import TABLE, Client, Rig

_KNOWN = frozenset(name for row in TABLE.all for name in [row.name.split("|")[0].upper().encode()])
_SLEEPERS = (
    b"DEBUG",
    b"SHUTDOWN",
    b"RESET",
    b"QUIT",
    b"CLIENT",
    b"HELLO",
    b"AUTH",
    b"CONFIG",
    b"SUBSCRIBE",
    b"MONITOR",
)


def _run(kind: str, seed: int, length: int) -> int:
    dice = Random(f"checkpoint {kind} {seed}")
    rig = Rig()
    clients: dict[int, Client] = {}
    follower = Follower()
    done = 0

    def catch_up() -> None:
        nonlocal done
        for entry in rig.consensus.committed[follower.applier.applied :]:
            follower.apply(entry)
        done = follower.applier.applied

    for number, words in Maker(kind, _KNOWN).program(seed, length):
        if words[0].upper() in _SLEEPERS:
            continue
        client = clients.get(number)
        if client is None or client.closed:
            client = clients[number] = Client(rig)
        rig.pass_ms(dice.choice((0, 0, 1, 20)))
        client.send([bytes(word) for word in words])
        rig.settle()
        client.got()
        what = dice.random()
        if what < 0.4:
            catch_up()
        if what < 0.2:
            follower.write_down(commit=what < 0.05)
        if what < 0.02:
            follower.restart()
            catch_up()
            assert_same(rig.engine.applier, follower.applier)
    catch_up()
    assert_same(rig.engine.applier, follower.applier)
    follower.write_down(commit=True)
    follower.restart()
    assert follower.applier.applied == done
    assert_same(rig.engine.applier, follower.applier)
    return follower.frames


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "pubsub"])
def test_a_checkpoint_is_the_state(kind: str) -> None:
    frames = sum(_run(kind, seed, 150) for seed in range(4))
    assert frames > 40
